"""The layers that a network is made of, and what normalises them."""

from .normalization import NORMALIZATIONS, BatchNormalization, LayerNormalization, Normalization

__all__ = ["NORMALIZATIONS", "BatchNormalization", "LayerNormalization", "Normalization"]
