"""Layers of networks: for columns, images and sequences, augmentation, and normalizations."""

from collections.abc import Sequence
from typing import TypeAlias

from ..utils._name_types import LayerName
from .attention import MultiHeadAttention, PositionalEncoding, TransformerBlock
from .augmentation import GaussianNoise, RandomFlip, RandomTranslation2D
from .base import Layer
from .columns import Scale
from .convolution import Conv1D, Conv2D, Conv2DTranspose, DepthwiseConv2D, UpSampling2D
from .dense import Activation, Dense, Dropout
from .embeddings import LAYERS, CategoricalEmbedding, Embedding, PeriodicEmbedding
from .normalization import NORMALIZATIONS, BatchNormalization, LayerNormalization, Normalization
from .pooling import (
    AveragePool1D,
    AveragePool2D,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    MaxPool1D,
    MaxPool2D,
)
from .recurrent import GRU, LSTM, Bidirectional, SimpleRNN
from .reshaping import Flatten, Permute, Reshape
from .residual import Residual

LayersLike: TypeAlias = LayerName | Layer | Sequence[LayerName | Layer]
"""The layers before the hidden ones: one, or several in a row."""

__all__ = [
    "GRU",
    "LAYERS",
    "LSTM",
    "NORMALIZATIONS",
    "Activation",
    "AveragePool1D",
    "AveragePool2D",
    "BatchNormalization",
    "Bidirectional",
    "CategoricalEmbedding",
    "Conv1D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePool1D",
    "GlobalAveragePool2D",
    "GlobalMaxPool1D",
    "GlobalMaxPool2D",
    "Layer",
    "LayerNormalization",
    "MaxPool1D",
    "MaxPool2D",
    "MultiHeadAttention",
    "Normalization",
    "PeriodicEmbedding",
    "Permute",
    "PositionalEncoding",
    "RandomFlip",
    "RandomTranslation2D",
    "Reshape",
    "Residual",
    "Scale",
    "SimpleRNN",
    "TransformerBlock",
    "UpSampling2D",
]
