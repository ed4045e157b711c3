"""Normalization layers, and input layers such as embeddings."""

from .input_layers import INPUT_LAYERS, CategoricalEmbedding, FeatureLayer, PeriodicEmbedding, Scale
from .normalization import NORMALIZATIONS, BatchNormalization, LayerNormalization, Normalization

__all__ = [
    "INPUT_LAYERS",
    "NORMALIZATIONS",
    "BatchNormalization",
    "CategoricalEmbedding",
    "FeatureLayer",
    "LayerNormalization",
    "Normalization",
    "PeriodicEmbedding",
    "Scale",
]


def __dir__() -> list[str]:
    return __all__
