"""Inputs of networks and of gradient boosting, computed from numbers and codes of a table.

`FeatureBuilder` adds a block of encodings of each number to the encoded table. Inputs of many rows
are computed for each batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from scipy.sparse import csc_array

from ..utils.arrays import Array, LazyMatrix, as_dense
from ._table_encoding import FittedEncoding, UnscaledRows
from .numeric_encoders import PeriodicFeatures, find_bin_edges, make_bins

# Representations of the rows of a table: encoded; with blocks of numeric encodings before that; or
# the table itself, as numbers with NaN for missing values and codes of categories.
FeatureView = Literal["encoded", "embedded", "table"]

# The maximum number of categories of a column in gradient boosting.
_MAX_CATEGORIES_OF_TREES = 255

N_FREQUENCIES, N_BINS = 16, 16
# The number of columns of the block of one number.
WIDTH = N_FREQUENCIES + N_BINS

# Numbers have blocks only if these have at most this many elements, for up to this many rows.
_MAX_BLOCK_ELEMENTS, _BLOCK_ROWS = 1 << 28, 1 << 15

# The number of rows whose blocks are computed at once, so that temporaries stay in the cache.
_ROWS_OF_BLOCKS = 256

# If a view of the training rows has at most this number of elements (64 MB), it is computed once.
# Otherwise it is computed for each batch, in about a twentieth of the time of a step.
_MAX_DENSE_ELEMENTS = 1 << 24


@dataclass(frozen=True, eq=False)
class FeatureBuilder:
    """Builds the inputs of models from the rows of a table.

    Encoded rows are the output of a `TableEncoder` in single precision. The view "embedded" has a
    block of `WIDTH` columns before that for each scaled number: the first are the cosines of
    `PeriodicFeatures`, the others the bins of a `PiecewiseLinearEncoder`, padded with zeros. Both
    are computed as there, without the input checks, which take longer than a row. The view "table"
    has the numbers, target statistics included, and a code for each category; beyond the maximum
    number of categories, the rarest share one code.

    Parameters
    ----------
    encoding : FittedEncoding
        Encodes columns.
    codes : tuple of arrays
        For each categorical column, its codes in the view "table"; NaN for unknown categories.
    waves : array of shape (2, n_blocks, N_FREQUENCIES)
        The frequencies of cosines, multiplied by 2 pi, and their phases, in single precision.
    bins : array of shape (5, n_blocks, N_BINS)
        The bins of `make_bins`, in single precision.
    n_encoded : int
        The number of columns of encoded rows.
    """

    encoding: FittedEncoding
    codes: tuple[Array, ...]
    waves: Array
    bins: Array
    n_encoded: int

    @classmethod
    def from_encoding(
        cls, encoding: FittedEncoding, rows: UnscaledRows, rng: np.random.RandomState, n_rows: int
    ) -> Self:
        """Return the features, given an encoding and the rows that it was fitted to.

        Numbers have blocks if those of `n_rows` rows fit into memory.
        """
        codes = tuple(_codes_by_frequency(levels.counts) for levels in encoding.categories.levels)
        n_numbers, n_rows = encoding.n_embedded, min(_BLOCK_ROWS, n_rows)
        if n_numbers * WIDTH * n_rows > _MAX_BLOCK_ELEMENTS:
            n_numbers = 0
        numbers = csc_array(rows.numbers) if encoding.is_sparse else rows.numbers
        columns = [encoding.numbers.scaled_output(numbers, i) for i in range(n_numbers)]
        bins = make_bins([find_bin_edges(column, N_BINS) for column in columns], N_BINS)
        waves = np.empty((2, n_numbers, N_FREQUENCIES), np.float32)
        if n_numbers:
            features = PeriodicFeatures(N_FREQUENCIES, random_state=draw_seed(rng))
            features.fit(np.zeros((1, n_numbers)))
            waves[:] = 2 * np.pi * features.frequencies_, features.phases_
        return cls(encoding, codes, waves, bins.astype(np.float32), max(1, encoding.n_outputs))

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return self.bins.shape[1]

    @property
    def categorical_mask(self) -> Array:
        """Mask of the columns of the view "table" that hold codes of categories."""
        n_numbers = len(self.encoding.numbers.center)
        return np.arange(n_numbers + len(self.codes)) >= n_numbers

    @property
    def encoded_constraints(self) -> tuple[int, ...]:
        """The constraint of each encoded column, 0 for indicators of missing values; () if none."""
        signs, outputs = self.encoding.constraints, self.encoding.outputs()
        return tuple(signs[o.column] * (o.type != "missing") for o in outputs) if any(signs) else ()

    @property
    def table_constraints(self) -> list[int]:
        """The constraint of each column of the view "table"."""
        signs = [self.encoding.constraints[column] for column in self.encoding.numeric_columns]
        return signs + [0] * (len(self.categorical_mask) - len(signs))

    def make_training_input(self, rows: UnscaledRows, view: FeatureView) -> Array | LazyMatrix:
        """Return a view of rows: an array if it is small or the table, else a lazy matrix."""
        if view == "table":
            return self._table_view(rows)
        lazy = LazyFeatureMatrix(self, rows, view)
        return lazy[:] if math.prod(lazy.shape) <= _MAX_DENSE_ELEMENTS else lazy

    def make_inputs(self, rows: UnscaledRows, with_table: bool) -> dict[FeatureView, Array]:
        """Return rows in the views of networks, and with `with_table` in the view "table"."""
        n_embedded = self.n_blocks * WIDTH
        embedded = np.empty((len(rows.codes), n_embedded + self.n_encoded), np.float32)
        self.write_view(rows, "embedded", embedded)
        inputs: dict[FeatureView, Array] = {
            "embedded": embedded,
            "encoded": embedded[:, n_embedded:],
        }
        if with_table:
            inputs["table"] = self._table_view(rows)
        return inputs

    def _table_view(self, rows: UnscaledRows) -> Array:
        codes = map(np.take, self.codes, rows.codes.T)
        return np.column_stack([as_dense(rows.numbers), *codes])

    def write_view(self, rows: UnscaledRows, view: FeatureView, out: Array) -> None:
        """Write a view of rows, other than "table", to an array."""
        n_embedded = self.n_blocks * WIDTH if view == "embedded" else 0
        self.encoding.write(rows, out[:, n_embedded:])  # a column without outputs becomes zero
        if n_embedded:
            self._write_blocks(out)

    def _write_blocks(self, out: Array) -> None:
        """Write the blocks of numbers that are in the columns after them."""
        n_blocks = self.n_blocks
        first_number = n_blocks * WIDTH
        frequencies, phases = self.waves.reshape(2, -1)
        lower, width, least, most, shift = self.bins.reshape(5, -1)
        for start in range(0, len(out), _ROWS_OF_BLOCKS):
            rows = out[start : start + _ROWS_OF_BLOCKS]
            blocks = rows[:, :first_number].reshape(len(rows), n_blocks, WIDTH)
            # Matrices of all blocks side by side take a third of the time of arrays of blocks.
            x = np.repeat(rows[:, first_number : first_number + n_blocks], N_BINS, axis=1)
            values = x * frequencies
            values += phases
            np.cos(values, out=values)
            blocks[:, :, :N_FREQUENCIES] = values.reshape(len(rows), n_blocks, N_FREQUENCIES)
            x -= lower
            with np.errstate(over="ignore"):  # values may be far outside of narrow bins
                x /= width
            np.maximum(x, least, out=x)
            np.minimum(x, most, out=x)
            x -= shift
            blocks[:, :, N_FREQUENCIES:] = x.reshape(len(rows), n_blocks, N_BINS)


class LazyFeatureMatrix(LazyMatrix):
    """View of the rows of a table, computed for the rows that are read.

    Parameters
    ----------
    features : FeatureBuilder
        The fitted features.
    rows : UnscaledRows
        The rows.
    view : FeatureView
        The view, other than "table".
    """

    def __init__(self, features: FeatureBuilder, rows: UnscaledRows, view: FeatureView) -> None:
        width = features.n_encoded + (features.n_blocks * WIDTH if view == "embedded" else 0)
        super().__init__((len(rows.codes), width), np.dtype(np.float32))
        self._features, self._rows, self._view = features, rows, view

    def write_rows(self, rows: slice | Array, out: Array) -> None:
        """Write rows to an array."""
        self._features.write_view(self._rows.take(rows), self._view, out)


def _codes_by_frequency(counts: Sequence[int]) -> Array:
    """Return the frequency rank of each code, and NaN for code 0."""
    ranks = np.argsort(np.argsort(-np.array(counts, dtype=float), kind="stable"))
    return np.append(np.nan, np.minimum(ranks, _MAX_CATEGORIES_OF_TREES - 1))


def draw_seed(rng: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(rng.randint(np.iinfo(np.int32).max))
