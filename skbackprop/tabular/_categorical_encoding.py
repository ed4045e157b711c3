"""Encoding of categories: codes of levels, one-hot outputs or ordinal codes, and target statistics.

Category code 0 stands for unknown categories. Codes 1 to k stand for those of the training table,
the last of them for all infrequent ones. None is the missing value, a category like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, DropCachedPropertiesMixin
from ._object_values import find_roles, is_missing, raise_unsupported
from ._read_table import TableColumns
from ._target_encoding import TargetEncoding

# The name of the output, or code, of infrequent categories.
INFREQUENT = "infrequent"


def count_categories(values: Sequence[Any], label: str) -> Counter[Any]:
    """Return how often each category occurs; those of several blocks of rows can be added."""
    if "other" in find_roles(values):
        raise_unsupported(values, label)
    try:
        by_value = Counter(values)
    except TypeError:  # a tuple of lists is not hashable
        raise_unsupported(values, label)
    counts: Counter[Any] = Counter()
    for value, count in by_value.items():
        counts[None if is_missing(value) else value] += count
    return counts


@dataclass(frozen=True)
class CategoryLevels(DropCachedPropertiesMixin):
    """The categories of one column.

    Parameters
    ----------
    frequent : tuple
        The categories with a code of their own, in the order of the codes.
    infrequent : tuple
        The infrequent ones, which share the code after that.
    counts : tuple of int
        The number of occurrences of each code from 1 on.
    label : str
        The name of the column in errors.
    """

    frequent: tuple[Any, ...]
    infrequent: tuple[Any, ...]
    counts: tuple[int, ...]
    label: str

    @classmethod
    def fit(cls, counts: Mapping[Any, int], label: str, min_frequency: int) -> Self:
        """Fit to the counts of categories; those below the minimum frequency are infrequent."""
        levels = [level for level in counts if level is not None]
        try:
            levels.sort()
        except TypeError:  # of several types
            levels.sort(key=lambda level: (type(level).__name__, str(level)))
        if None in counts:
            levels.append(None)
        frequent = tuple(level for level in levels if counts[level] >= min_frequency)
        infrequent = tuple(level for level in levels if counts[level] < min_frequency)
        code_counts = [counts[level] for level in frequent]
        if infrequent:
            code_counts.append(sum(counts[level] for level in infrequent))
        return cls(frequent, infrequent, tuple(code_counts), label)

    @property
    def n_codes(self) -> int:
        """The number of codes, without code 0."""
        return len(self.counts)

    def names(self) -> list[str]:
        """Return a name for each code from 1 on."""
        names = ["missing" if level is None else str(level) for level in self.frequent]
        return [*names, INFREQUENT] if self.infrequent else names

    @cached_property
    def _codes(self) -> dict[Any, int]:
        codes = {level: code for code, level in enumerate(self.frequent, start=1)}
        return codes | dict.fromkeys(self.infrequent, len(self.frequent) + 1)

    def encode(self, values: Sequence[Any]) -> Array:
        """Return the code of each value."""
        if "other" in find_roles(values):
            raise_unsupported(values, self.label)
        found = map(self._codes.get, values, repeat(0))
        try:
            codes = np.fromiter(found, dtype=np.intp, count=len(values))
        except TypeError:  # a tuple of lists is not hashable
            raise_unsupported(values, self.label)
        missing_code = self._codes.get(None, 0)
        if missing_code:
            for row in np.flatnonzero(codes == 0).tolist():
                if is_missing(values[row]):
                    codes[row] = missing_code
        return codes


@dataclass(frozen=True)
class OneHot(DropCachedPropertiesMixin):
    """One-hot encoding of codes; of two categories, only the second has an output.

    Parameters
    ----------
    positions : tuple of tuples of int
        For each column, the output of code 0, 1, ... among those of the column; -1 for none.
    names : tuple of tuples of str
        For each column, the suffixes of the names of its outputs.
    """

    positions: tuple[tuple[int, ...], ...]
    names: tuple[tuple[str, ...], ...]
    output_type: ClassVar[str] = "one_hot"

    @classmethod
    def fit(cls, columns: Sequence[CategoryLevels], max_categories: float) -> Self:
        """Assign outputs to codes; beyond `max_categories` the least frequent share one."""
        outputs = [_assign_outputs(levels, max_categories) for levels in columns]
        return cls(tuple(each for each, _ in outputs), tuple(names for _, names in outputs))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(map(len, self.names))

    def codes_with_output(self, column: int) -> Array:
        """Return the codes of a column that do not share their output with others."""
        positions = np.array(self.positions[column])
        counts = np.bincount(positions[positions >= 0], minlength=len(positions))
        return np.flatnonzero((positions >= 0) & (counts[positions] == 1))

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(column, f"_{name}") for column, names in enumerate(self.names) for name in names]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = 0
        out[self._active_outputs(codes)] = 1

    def encode_sparse(self, codes: Array) -> sparse.csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        rows, outputs = self._active_outputs(codes)
        shape = (len(codes), self.n_outputs)
        return sparse.csc_array((np.ones(len(rows)), (rows, outputs)), shape=shape)

    def _active_outputs(self, codes: Array) -> tuple[Array, Array]:
        """Return the rows and the outputs that are one."""
        starts, output_of_code = self._table
        outputs = output_of_code[starts + codes]
        rows, columns = np.nonzero(outputs >= 0)
        return rows, outputs[rows, columns]

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """Where each column starts in a flat array of the outputs of all codes, and that array."""
        lengths = [len(positions) for positions in self.positions]
        first_outputs = np.cumsum([0, *map(len, self.names)])
        by_column = [
            np.where(np.array(positions) < 0, -1, np.array(positions) + first)
            for positions, first in zip(self.positions, first_outputs, strict=False)
        ]
        starts = np.cumsum([0, *lengths])[: len(lengths)]
        return starts, np.concatenate([np.empty(0, dtype=np.intp), *by_column])


@dataclass(frozen=True)
class OrdinalCodes:
    """Ordinal encoding: the codes of all columns that are not constant.

    Parameters
    ----------
    columns : tuple of int
        These columns.
    """

    columns: tuple[int, ...]
    output_type: ClassVar[str] = "ordinal"

    @classmethod
    def fit(cls, columns: Sequence[CategoryLevels]) -> Self:
        """Find the columns that are not constant."""
        return cls(tuple(at for at, levels in enumerate(columns) if levels.n_codes > 1))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return len(self.columns)

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(column, "") for column in self.columns]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = codes[:, self.columns]

    def encode_sparse(self, codes: Array) -> sparse.csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        return sparse.csc_array(codes[:, self.columns].astype(np.float64))


@dataclass(frozen=True)
class CategoricalEncoding:
    """Encoding of the categorical columns of a table.

    Parameters
    ----------
    columns : sequence of int
        The categorical columns.
    levels : sequence of CategoryLevels
        The categories of each.
    encoder : OneHot or OrdinalCodes
        Encodes codes as outputs.
    target_encoded : sequence of int
        The positions, among the categorical columns, of those with more categories than have
        one-hot outputs, which may have target statistics.
    statistics : TargetEncoding or None, default=None
        Their target statistics.
    """

    columns: Sequence[int]
    levels: Sequence[CategoryLevels]
    encoder: OneHot | OrdinalCodes
    target_encoded: Sequence[int]
    statistics: TargetEncoding | None = None

    @classmethod
    def from_levels(
        cls,
        columns: Sequence[int],
        levels: Sequence[CategoryLevels],
        max_categories: float,
        encoding: str = "one_hot",
    ) -> Self:
        """Return an encoding, "one_hot" or "ordinal", without target statistics."""
        if encoding == "ordinal":
            return cls(columns, levels, OrdinalCodes.fit(levels), [])
        many = [at for at, own in enumerate(levels) if own.n_codes > max_categories]
        return cls(columns, levels, OneHot.fit(levels, max_categories), many)

    def with_statistics(self, statistics: TargetEncoding) -> Self:
        """Return the encoding with target statistics, of codes without an output of their own."""
        assert isinstance(self.encoder, OneHot)
        codes = [self.encoder.codes_with_output(at) for at in self.target_encoded]
        return replace(self, statistics=statistics.without_codes(codes))

    @property
    def n_codes(self) -> list[int]:
        """The number of codes of each column."""
        return [own.n_codes for own in self.levels]

    @property
    def n_statistics(self) -> int:
        """The number of outputs of target statistics."""
        return 0 if self.statistics is None else len(self.statistics.columns)

    def read_codes(self, table: TableColumns) -> Array:
        """Return the codes of the categorical columns of a table."""
        codes = np.empty((table.n_rows, len(self.levels)), dtype=np.intp)
        for position, (column, levels) in enumerate(zip(self.columns, self.levels, strict=True)):
            codes[:, position] = levels.encode(table.values(column))
        return codes

    def encode_target(self, codes: Array, folds: Array | None) -> Array:
        """Return target statistics (n, n_statistics); with folds, those out of fold."""
        assert self.statistics is not None
        own = codes[:, self.target_encoded]
        if folds is None:
            return self.statistics.encode(own)
        return self.statistics.encode_training_rows(own, folds)


def _assign_outputs(
    levels: CategoryLevels, max_categories: float
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the output of each code of a column, -1 for none, and the names of the outputs."""
    k, names = levels.n_codes, levels.names()
    if k < 2:
        return (-1,) * (k + 1), ()
    if k == 2:
        return (-1, -1, 0), (names[1],)
    if k <= max_categories:
        return tuple(range(-1, k)), tuple(names)
    by_count = sorted(range(len(levels.frequent)), key=lambda at: -levels.counts[at])
    chosen = sorted(by_count[: int(max_categories) - 1])
    positions = np.full(k + 1, len(chosen))
    positions[0] = -1
    positions[np.array(chosen) + 1] = range(len(chosen))
    return tuple(positions.tolist()), (*(names[at] for at in chosen), INFREQUENT)
