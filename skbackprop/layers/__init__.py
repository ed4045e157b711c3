"""The layers that a network is made of, what normalises them, and what comes before them."""

from .categories import CategoryEmbedding
from .embeddings import INPUT_LAYERS, PeriodicEmbedding
from .inputs import InputLayer, Scale
from .normalization import NORMALIZATIONS, BatchNormalization, LayerNormalization, Normalization

__all__ = [
    "INPUT_LAYERS",
    "NORMALIZATIONS",
    "BatchNormalization",
    "CategoryEmbedding",
    "InputLayer",
    "LayerNormalization",
    "Normalization",
    "PeriodicEmbedding",
    "Scale",
]


def __dir__() -> list[str]:
    return __all__
