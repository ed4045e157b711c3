"""Inputs of networks: encoded columns, preceded by blocks that encode each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from ..utils.arrays import Array, as_dense
from ._dataframe import AnyColumns
from ._encoding import EncoderSettings, FittedEncoding, TableRows
from .numeric_encoders import PeriodicFeatures, PiecewiseLinearEncoder

# Representations of the rows of a table: encoded; with blocks of numeric encodings before that; or
# the table itself, as numbers with NaN for missing values and codes of categories.
FeatureView = Literal["encoded", "embedded", "table"]

# The maximum number of categories of a column in gradient boosting.
_MAX_CATEGORIES = 255

N_FREQUENCIES, N_BINS = 16, 16
# The number of columns of the block of one number.
WIDTH = N_FREQUENCIES + N_BINS

# The maximum number of elements of the blocks of all training rows: one gigabyte.
_MAX_BLOCK_ELEMENTS = 1 << 28

# The number of rows whose blocks are computed at once, so that temporaries stay in the cache.
_ROWS = 256


@dataclass(frozen=True, eq=False)
class NumericBlockEncoder:
    """Encodes each of several scaled numbers as a block of `WIDTH` columns.

    The first columns of a block are the cosines of `PeriodicFeatures`, the others the bins of a
    `PiecewiseLinearEncoder`, padded with zeros. Both are computed as there, without the input
    checks, which take longer than a row.

    Parameters
    ----------
    frequencies, phases : array of shape (n_numbers, N_FREQUENCIES)
        The cosines, in single precision; frequencies are multiplied by 2 pi.
    lower, width, least, most, shift : array of shape (n_numbers, N_BINS)
        Each bin encodes x as ``clip((x - lower) / width, least, most) - shift``.
    """

    frequencies: Array
    phases: Array
    lower: Array
    width: Array
    least: Array
    most: Array
    shift: Array

    @classmethod
    def fit(cls, numbers: Array, rng: np.random.RandomState) -> Self:
        """Fit the blocks to scaled numbers of shape (n, n_numbers)."""
        waves = PeriodicFeatures(N_FREQUENCIES, random_state=draw_seed(rng)).fit(numbers)
        bins = PiecewiseLinearEncoder(N_BINS).fit(numbers)
        shape = numbers.shape[1], N_BINS
        lower, width, least, most, shift = (np.zeros(shape, np.float32) for _ in range(5))
        width[...] = np.inf
        for column, edges in enumerate(bins.bin_edges_):
            n_bins = len(edges) - 1
            if not n_bins:
                continue
            lower[column, :n_bins], width[column, :n_bins] = edges[:-1], np.diff(edges)
            most[column, :n_bins], shift[column, :n_bins] = 1.0, 0.5
            least[column, 0], most[column, n_bins - 1] = -1.0, 2.0
        frequencies = (2 * np.pi * waves.frequencies_).astype(np.float32)
        return cls(frequencies, waves.phases_.astype(np.float32), lower, width, least, most, shift)

    def __len__(self) -> int:
        return len(self.lower)

    def write(self, numbers: Array, out: Array) -> None:
        """Write the blocks of numbers (n, n_numbers) to `out` (n, n_numbers, WIDTH)."""
        x, waves, bins = numbers[:, :, None], out[:, :, :N_FREQUENCIES], out[:, :, N_FREQUENCIES:]
        np.multiply(x, self.frequencies, out=waves)
        waves += self.phases
        np.cos(waves, out=waves)
        np.subtract(x, self.lower, out=bins)
        with np.errstate(over="ignore"):  # for values far outside of narrow bins
            bins /= self.width
        np.clip(bins, self.least, self.most, out=bins)
        bins -= self.shift


@dataclass(frozen=True, eq=False)
class FeatureBuilder:
    """Builds the inputs of models from the rows of a table.

    Encoded rows are the output of a `TableEncoder` in single precision. The view "embedded" has a
    block of columns before that for each scaled number. The view "table" has the numbers, target
    statistics included, and a code for each category; beyond the maximum number of categories, the
    rarest share one code.

    Parameters
    ----------
    encoding : FittedEncoding
        Encodes columns.
    blocks : FeatureBlocks or None
        Encodes scaled numbers as blocks; None if no number is embedded.
    codes : tuple of arrays
        For each categorical column, its codes in the view "table"; NaN for unknown categories.
    """

    encoding: FittedEncoding
    blocks: NumericBlockEncoder | None
    codes: tuple[Array, ...]

    @classmethod
    def fit(
        cls,
        columns: AnyColumns,
        y: Array | None,
        target_type: str,
        categorical_features: Any,
        rng: np.random.RandomState,
        groups: Array | None = None,
    ) -> tuple[Self, TableRows]:
        """Fit the features to a table.

        Parameters
        ----------
        columns : AnyColumns
            The table.
        y : array of shape (n,) or None
            The target, which encodes columns with many categories.
        target_type, categorical_features : object
            As of a `TableEncoder`.
        rng : RandomState
            Draws frequencies, and the folds of target statistics.
        groups : array of int of shape (n,) or None, default=None
            The group of each row. Its target statistics come from rows of other groups.

        Returns
        -------
        features : FeatureBuilder
            The fitted features.
        rows : TableRows
            The training rows, with out-of-fold target statistics.
        """
        settings = EncoderSettings(categorical_features, "one_hot", 3, 30, target_type, rng, groups)
        encoding, rows = FittedEncoding.fit(columns, y, settings)
        codes = tuple(_codes_by_frequency(levels.counts) for levels in encoding.levels)
        features = cls(encoding, None, codes)
        rows = features.encode(rows)
        n_numbers = len(encoding.numbers.input_columns()[0])
        if n_numbers and n_numbers * WIDTH * len(rows.encoded) <= _MAX_BLOCK_ELEMENTS:
            blocks = NumericBlockEncoder.fit(rows.encoded[:, :n_numbers], rng)
            features = cls(encoding, blocks, codes)
        return features, rows

    @property
    def n_blocks(self) -> int:
        """The number of blocks."""
        return 0 if self.blocks is None else len(self.blocks)

    @property
    def n_encoded(self) -> int:
        """The number of columns of encoded rows."""
        return max(1, self.encoding.n_outputs)

    @property
    def is_nominal(self) -> Array:
        """Mask of the columns of the view "table" that hold codes of categories."""
        n_numbers = len(self.encoding.numbers.center)
        return np.arange(n_numbers + len(self.codes)) >= n_numbers

    def rows(self, columns: AnyColumns) -> TableRows:
        """Return the rows of a table, encoded."""
        return self.encode(self.encoding.to_matrices(columns))

    def encode(self, rows: TableRows) -> TableRows:
        """Return rows with their encoding as a dense array; a column of zeros if it is empty."""
        encoded = as_dense(self.encoding.encode(rows, np.dtype(np.float32)))
        if not encoded.shape[1]:
            encoded = np.zeros((len(encoded), 1), np.float32)
        return rows._replace(encoded=encoded)

    def transform(self, rows: TableRows, view: FeatureView) -> Array:
        """Return encoded rows in a view."""
        if view == "table":
            pairs = zip(self.codes, rows.codes.T, strict=True)
            codes = [table_codes[column] for table_codes, column in pairs]
            return np.column_stack([as_dense(rows.numbers), *codes])
        return self.with_blocks(rows.encoded) if view == "embedded" else rows.encoded

    def with_blocks(self, encoded: Array) -> Array:
        """Return encoded rows, preceded by the blocks of their numbers."""
        if self.blocks is None:
            return encoded
        n_rows, n_blocks = len(encoded), len(self.blocks)
        width = n_blocks * WIDTH
        out = np.empty((n_rows, width + encoded.shape[1]), np.float32)
        out[:, width:] = encoded
        for start in range(0, n_rows, _ROWS):
            part = slice(start, min(start + _ROWS, n_rows))
            shape = part.stop - start, n_blocks, WIDTH
            self.blocks.write(encoded[part, :n_blocks], out[part, :width].reshape(shape))
        return out


def _codes_by_frequency(counts: Sequence[int]) -> Array:
    """Return the frequency rank of each code, and NaN for code 0."""
    ranks = np.argsort(np.argsort(-np.array(counts, dtype=float), kind="stable"))
    return np.append(np.nan, np.minimum(ranks, _MAX_CATEGORIES - 1))


def draw_seed(rng: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(rng.randint(np.iinfo(np.int32).max))
