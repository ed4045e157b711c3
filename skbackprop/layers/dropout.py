"""Dropout layers, which set random units to zero in training.

Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting",
JMLR 15, section 4, as inverted dropout: with the rate p, each unit is multiplied by a mask m that
is 0 with probability p and 1 / (1 - p) otherwise. The mean of m is one, so prediction skips the
layer.

Each member has its own random generator, and draws the same masks in any stack. A unit is dropped
by 16 random bits, so the rate is rounded to a multiple of 1 / 65,536.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .base import BuiltLayer, Layer, LayerContext

# The number of 16-bit values, and how many of them a random 64-bit word holds.
_N_VALUES = 1 << 16
_VALUES_PER_WORD = 4

# Words drawn at once, so that memory does not grow with the network.
_WORDS_AT_ONCE = 1 << 13


def dropout_rng(rng: np.random.RandomState) -> np.random.Generator:
    """Return a random generator for masks, seeded by a copy of `rng`, which does not advance."""
    seed = copy.deepcopy(rng).randint(np.iinfo(np.int32).max, size=4)
    return np.random.default_rng(seed.tolist())


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout layer: out = x * m, with a new random mask m for each training batch.

    Parameters
    ----------
    rate : float
        The probability of dropping a unit, in [0, 1). Sparse input drops stored entries.
    """

    rate: float

    stochastic: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    takes_sparse: ClassVar[bool] = True
    keeps_sparse: ClassVar[bool] = True

    def build(self, context: LayerContext) -> BuiltLayer:
        if context.is_sparse:
            return BuiltSparseDropout(self.rate, context.rngs)
        shape, name = (context.n_rows, context.n_inputs), f"mask {context.index}"
        return BuiltDropout(self.rate, context.rngs, shape, context.pool, name)


class BuiltDropout:
    """out = x * m, with a new random mask m for each batch.

    Parameters
    ----------
    rate : float
        The probability of dropping a unit, in [0, 1).
    rngs : sequence of Generator
        The random generator of each member.
    shape : (n_rows, n_units)
        The shape of a member's batch.
    pool : BufferPool
        The memory for buffers.
    name : str
        The name of the mask's buffer; dropout layers share the other buffers.
    """

    def __init__(
        self,
        rate: float,
        rngs: Sequence[np.random.Generator],
        shape: tuple[int, int],
        pool: BufferPool,
        name: str,
    ) -> None:
        n_estimators, size = len(rngs), shape[0] * shape[1]
        n_words = -(-size // _VALUES_PER_WORD)
        self._rngs = rngs
        self._words = pool.get("random bits", (n_estimators, n_words), np.uint64)
        self._values = self._words.view(np.uint16)[:, :size]
        self._is_kept = pool.get("is kept", (n_estimators, size), np.bool_)
        self._flat_mask = pool.get(name, (n_estimators, size))
        self.mask = squeeze_member_axis(self._flat_mask.reshape(n_estimators, *shape))
        self._threshold, factor = _threshold_and_factor(rate)
        self._factor = pool.dtype.type(factor)

    def forward(self, x: Any, out: Array) -> None:
        for rng, words in zip(self._rngs, self._words, strict=True):
            _draw(rng, words)
        np.greater_equal(self._values, self._threshold, out=self._is_kept)
        np.multiply(self._is_kept, self._factor, out=self._flat_mask)
        np.multiply(x, self.mask, out=out)

    def backward(self, delta: Array) -> Array:
        np.multiply(delta, self.mask, out=delta)
        return delta


class BuiltSparseDropout:
    """Dropout of the stored entries of sparse input, a list of CSR matrices.

    Parameters
    ----------
    rate : float
        The probability of dropping an entry, in [0, 1).
    rngs : sequence of Generator
        The random generator of each member.
    """

    def __init__(self, rate: float, rngs: Sequence[np.random.Generator]) -> None:
        self._rngs = rngs
        self._threshold, self._factor = _threshold_and_factor(rate)

    def forward(self, x: Any, out: Any) -> None:
        for member, rng in enumerate(self._rngs):
            rows = x[member % len(x)]
            size = len(rows.data)
            words = np.empty(-(-size // _VALUES_PER_WORD), np.uint64)
            _draw(rng, words)
            is_kept = words.view(np.uint16)[:size] >= self._threshold
            data = rows.data * is_kept
            data *= self._factor
            out[member] = csr_array((data, rows.indices, rows.indptr), shape=rows.shape)

    def backward(self, delta: Array) -> Array:
        return delta


def _threshold_and_factor(rate: float) -> tuple[np.uint16, float]:
    """Return the smallest 16-bit value that keeps a unit, and the factor of kept units."""
    n_dropped = min(round(rate * _N_VALUES), _N_VALUES - 1)
    return np.uint16(n_dropped), _N_VALUES / (_N_VALUES - n_dropped)


def _draw(rng: np.random.Generator, words: Array) -> None:
    """Fill `words` with the next random bits of a generator."""
    for start in range(0, len(words), _WORDS_AT_ONCE):
        part = words[start : start + _WORDS_AT_ONCE]
        part[...] = rng.bit_generator.random_raw(len(part))
