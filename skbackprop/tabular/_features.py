"""What networks see of a table: its encoded columns, and before them encodings of each number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from ..utils.arrays import Array, as_dense
from ._dataframe import AnyColumns
from ._encoding import EncodedInputs, FittedEncoding, Settings
from .numeric_encoders import PeriodicFeatures, PiecewiseLinearEncoder

# How models see the rows of a table: encoded, with blocks for numbers before that, or as they are:
# numbers of which some may be missing, and codes of categories.
FeatureView = Literal["encoded", "embedded", "table"]

# The most codes of a column of categories that boosting takes.
_MOST_CODES = 255

N_FREQUENCIES, N_BINS = 16, 16
# The columns of the block that stands for one number.
WIDTH = N_FREQUENCIES + N_BINS

# The most numbers in the blocks of all training rows, which are held in memory: one gigabyte.
_MOST_IN_BLOCKS = 1 << 28


@dataclass(frozen=True, eq=False)
class FeatureBlocks:
    """What makes a block of `WIDTH` columns of each of several scaled numbers.

    The first columns of a block are those that `PeriodicFeatures` makes of a number, the others
    those of a `PiecewiseLinearEncoder`, with zeros for the bins that it lacks. They are computed
    as there, without the checks, which take longer than a row.

    Parameters
    ----------
    frequencies, phases : array of shape (n_numbers, N_FREQUENCIES)
        Those of the waves, in single precision; the frequencies are times 2 pi.
    lower, width, least, most, shift : array of shape (n_numbers, N_BINS)
        A number is ``clip((x - lower) / width, least, most) - shift`` of each bin.
    """

    frequencies: Array
    phases: Array
    lower: Array
    width: Array
    least: Array
    most: Array
    shift: Array

    @classmethod
    def learn(cls, numbers: Array, rng: np.random.RandomState) -> Self:
        """Learn from scaled numbers, of shape (n, n_numbers)."""
        waves = PeriodicFeatures(N_FREQUENCIES, random_state=draw_seed(rng)).fit(numbers)
        bins = PiecewiseLinearEncoder(N_BINS).fit(numbers)
        shape = numbers.shape[1], N_BINS
        lower, width, least, most, shift = (np.zeros(shape, np.float32) for _ in range(5))
        width[...] = np.inf
        for at, edges in enumerate(bins.bin_edges_):
            n_bins = len(edges) - 1
            if not n_bins:
                continue
            lower[at, :n_bins], width[at, :n_bins] = edges[:-1], np.diff(edges)
            most[at, :n_bins], shift[at, :n_bins] = 1.0, 0.5
            least[at, 0], most[at, n_bins - 1] = -1.0, 2.0
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
        with np.errstate(over="ignore"):  # of values that are far outside of narrow bins
            bins /= self.width
        np.clip(bins, self.least, self.most, out=bins)
        bins -= self.shift


# Rows whose blocks are made at a time, so that what is on its way stays in the cache.
_ROWS = 256


class EncodedRows(NamedTuple):
    """Rows of a table, of which all views are made.

    Parameters
    ----------
    taken_in : TakenIn
        Their numbers and codes.
    encoded : array of shape (n, n_encoded)
        The encoded rows.
    """

    taken_in: EncodedInputs
    encoded: Array


@dataclass(frozen=True, eq=False)
class FeatureBuilder:
    """What was learned of a table, to make the input of networks of it.

    An encoded row is what a `TableEncoder` makes of it, in single precision. For networks that
    embed numbers there is a block of columns before it for each scaled number. Models that take
    tables as they are get the numbers, the statistics of the target among them, and then a code for
    each category; of more than they take, the least frequent have one in common.

    Parameters
    ----------
    encoding : Encoding
        From columns to encoded rows.
    blocks : Blocks or None
        From scaled numbers to blocks; None where no number is embedded.
    codes : tuple of arrays
        For each category, from its codes to those of the table as it is; NaN for unknown levels.
    """

    encoding: FittedEncoding
    blocks: FeatureBlocks | None
    codes: tuple[Array, ...]

    @classmethod
    def learn(
        cls,
        columns: AnyColumns,
        y: Array | None,
        kind_of_target: str,
        categorical_features: Any,
        rng: np.random.RandomState,
        groups: Array | None = None,
    ) -> tuple[Self, EncodedRows]:
        """Learn the columns of a table.

        Parameters
        ----------
        columns : Columns
            The table.
        y : array of shape (n,) or None
            The target, by which columns of many levels are encoded; None for none.
        kind_of_target, categorical_features : object
            As `target_type` and the other of a `TableEncoder`.
        rng : RandomState
            What draws frequencies, and the rows that statistics of the target are learned from.
        groups : array of int of shape (n,) or None, default=None
            The group of each row: its statistics are learned from rows of other groups.

        Returns
        -------
        inputs : Inputs
            What was learned.
        rows : Rows
            Those of the table.
        """
        settings = Settings(categorical_features, "one_hot", 3, 30, kind_of_target, rng, groups)
        encoding, taken_in = FittedEncoding.learn(columns, y, settings)
        encoded = _single(encoding.encode(taken_in, np.dtype(np.float32)))
        n_numbers = len(encoding.numbers.input_columns()[0])
        blocks = None
        if n_numbers and n_numbers * WIDTH * len(encoded) <= _MOST_IN_BLOCKS:
            blocks = FeatureBlocks.learn(encoded[:, :n_numbers], rng)
        codes = tuple(_codes_by_frequency(levels.counts) for levels in encoding.levels)
        return cls(encoding, blocks, codes), EncodedRows(taken_in, encoded)

    @property
    def n_blocks(self) -> int:
        """The number of blocks: of numbers that are embedded."""
        return 0 if self.blocks is None else len(self.blocks)

    @property
    def n_encoded(self) -> int:
        """The columns of encoded rows."""
        return max(1, self.encoding.n_outputs)

    @property
    def is_nominal(self) -> Array:
        """Which columns of a table as it is hold codes of categories."""
        n_numbers = len(self.encoding.numbers.center)
        return np.arange(n_numbers + len(self.codes)) >= n_numbers

    def rows(self, columns: AnyColumns) -> EncodedRows:
        """Return the rows of a table."""
        return self.encoded(self.encoding.to_matrices(columns))

    def encoded(self, taken_in: EncodedInputs) -> EncodedRows:
        """Return rows that were taken in, encoded."""
        return EncodedRows(taken_in, _single(self.encoding.encode(taken_in, np.dtype(np.float32))))

    def transform(self, rows: EncodedRows, view: FeatureView) -> Array:
        """Return rows in a view of them."""
        if view == "table":
            return self._as_table(rows.taken_in)
        return self.with_blocks(rows.encoded) if view == "embedded" else rows.encoded

    def _as_table(self, taken_in: EncodedInputs) -> Array:
        """Return the numbers, and codes of the categories after them."""
        numbers = as_dense(taken_in.numbers)
        codes = [own[each] for own, each in zip(self.codes, taken_in.codes.T, strict=True)]
        return np.column_stack([numbers, *codes])

    def with_blocks(self, encoded: Array) -> Array:
        """Return encoded rows with the blocks of their numbers before them."""
        if self.blocks is None:
            return encoded
        n_rows, n_blocks = len(encoded), len(self.blocks)
        n_before = n_blocks * WIDTH
        out = np.empty((n_rows, n_before + encoded.shape[1]), np.float32)
        out[:, n_before:] = encoded
        for start in range(0, n_rows, _ROWS):
            part = slice(start, min(start + _ROWS, n_rows))
            shape = part.stop - start, n_blocks, WIDTH
            self.blocks.write(encoded[part, :n_blocks], out[part, :n_before].reshape(shape))
        return out


def _codes_by_frequency(counts: Sequence[int]) -> Array:
    """Return a number for each code, by the rank of its frequency; that of code 0 is NaN."""
    ranks = np.argsort(np.argsort(-np.array(counts, dtype=float), kind="stable"))
    return np.append(np.nan, np.minimum(ranks, _MOST_CODES - 1))


def draw_seed(rng: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(rng.randint(np.iinfo(np.int32).max))


def _single(encoded: Any) -> Array:
    """Return encoded rows as a dense array, with a column of zeros if there is none."""
    dense = as_dense(encoded)
    return dense if dense.shape[1] else np.zeros((len(dense), 1), np.float32)
