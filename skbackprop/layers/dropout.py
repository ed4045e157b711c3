"""Dropout: layers of training alone that leave units out at random.

Srivastava et al. (2014), "Dropout: a simple way to prevent neural networks from overfitting",
JMLR 15, section 4, in its inverted form: with the rate p, each unit is multiplied by a mask m that
is 0 with probability p and 1 / (1 - p) else. The mean of m is one, so that a prediction takes
the network as it is: its passes have no such layers.

Each member draws from a stream of its own, the same numbers whoever shares its stack. A unit's
chance is 16 random bits, so the rate is rounded to a multiple of 1 / 65,536.
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

# Chances of a unit, and how many of them are made of one 64-bit word.
_N_CHANCES = 1 << 16
_CHANCES_OF_A_WORD = 4

# Words that are drawn at once, so that memory does not grow with the network.
_WORDS_AT_ONCE = 1 << 13


def dropout_rng(rng: np.random.RandomState) -> np.random.Generator:
    """Return a stream for masks, seeded by a copy of `rng`, which stays where it is."""
    seed = copy.deepcopy(rng).randint(np.iinfo(np.int32).max, size=4)
    return np.random.default_rng(seed.tolist())


@dataclass(frozen=True)
class Dropout(Layer):
    """out = x * m, with a mask m that is drawn anew for each batch; in training alone.

    Parameters
    ----------
    rate : float
        The chance of a unit to be left out, in [0, 1). Of sparse input, stored entries are.
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
    """out = x * m, with a mask m that is drawn anew for each batch.

    Parameters
    ----------
    rate : float
        The chance of a unit to be left out, in [0, 1).
    rngs : sequence of Generator
        What draws the mask of each member.
    shape : (n_rows, n_units)
        The shape of a member's batch.
    pool : Workspace
        Where the buffers come from.
    name : str
        The name of the mask's buffer; the others are overwritten by each layer.
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
        n_words = -(-size // _CHANCES_OF_A_WORD)
        self._streams = rngs
        self._words = pool.get("chances", (n_estimators, n_words), np.uint64)
        self._chances = self._words.view(np.uint16)[:, :size]
        self._is_kept = pool.get("is kept", (n_estimators, size), np.bool_)
        self._flat_mask = pool.get(name, (n_estimators, size))
        self.mask = squeeze_member_axis(self._flat_mask.reshape(n_estimators, *shape))
        self._threshold, factor = _threshold_and_factor(rate)
        self._factor = pool.dtype.type(factor)

    def forward(self, x: Any, out: Array) -> None:
        for rng, words in zip(self._streams, self._words, strict=True):
            _draw(rng, words)
        np.greater_equal(self._chances, self._threshold, out=self._is_kept)
        np.multiply(self._is_kept, self._factor, out=self._flat_mask)
        np.multiply(x, self.mask, out=out)

    def backward(self, delta: Array) -> Array:
        np.multiply(delta, self.mask, out=delta)
        return delta


class BuiltSparseDropout:
    """Dropout of the stored entries of sparse input: a list of CSR matrices.

    Parameters
    ----------
    rate : float
        The chance of an entry to be left out, in [0, 1).
    rngs : sequence of Generator
        What draws the mask of each member.
    """

    def __init__(self, rate: float, rngs: Sequence[np.random.Generator]) -> None:
        self._streams = rngs
        self._threshold, self._factor = _threshold_and_factor(rate)

    def forward(self, x: Any, out: Any) -> None:
        for member, rng in enumerate(self._streams):
            rows = x[member % len(x)]  # one matrix may serve all members
            size = len(rows.data)
            words = np.empty(-(-size // _CHANCES_OF_A_WORD), np.uint64)
            _draw(rng, words)
            is_kept = words.view(np.uint16)[:size] >= self._threshold
            data = rows.data * is_kept
            data *= self._factor
            out[member] = csr_array((data, rows.indices, rows.indptr), shape=rows.shape)

    def backward(self, delta: Array) -> Array:
        return delta


def _threshold_and_factor(rate: float) -> tuple[np.uint16, float]:
    """Return from which chance on a unit is kept, and what it is multiplied by then."""
    n_left_out = min(round(rate * _N_CHANCES), _N_CHANCES - 1)
    return np.uint16(n_left_out), _N_CHANCES / (_N_CHANCES - n_left_out)


def _draw(rng: np.random.Generator, words: Array) -> None:
    """Fill `words` with random bits: the next ones of the stream, however many at once."""
    for start in range(0, len(words), _WORDS_AT_ONCE):
        part = words[start : start + _WORDS_AT_ONCE]
        part[...] = rng.bit_generator.random_raw(len(part))
