"""How columns of categories are encoded: as integer codes, and these one-hot.

Code 0 is for levels that were never seen; 1 to k are for those that were, the last of them for the
rare ones together. None stands for a missing value, which is a level like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csc_array

from ..utils.arrays import Array, DropsCachedProperties
from ._dataframe import is_missing, refuse_others, types_in

# What the output, or the code, of all rare levels of a column is called.
INFREQUENT = "infrequent"


@dataclass(frozen=True)
class CategoryLevels(DropsCachedProperties):
    """The levels of one column.

    `own` have a code each, in this order; `rare` share the one after them.
    """

    own: tuple[Any, ...]
    rare: tuple[Any, ...]
    counts: tuple[int, ...]  # how often each code occurred, from 1 on
    label: str

    @classmethod
    def learn(cls, values: Sequence[Any], label: str, min_frequency: int) -> Self:
        """Learn the levels of a column; those that occur fewer times than this are rare."""
        if "other" in types_in(values):
            refuse_others(values, label)
        try:
            of_objects = Counter(values)
        except TypeError:  # a tuple of lists can't be hashed
            refuse_others(values, label)
        counts: Counter[Any] = Counter()
        for value, count in of_objects.items():
            counts[None if is_missing(value) else value] += count
        levels = _in_order(counts)
        own = tuple(level for level in levels if counts[level] >= min_frequency)
        rare = tuple(level for level in levels if counts[level] < min_frequency)
        of_codes = [counts[level] for level in own]
        if rare:
            of_codes.append(sum(counts[level] for level in rare))
        return cls(own, rare, tuple(of_codes), label)

    @property
    def n_codes(self) -> int:
        """The number of codes, without that of unknown levels."""
        return len(self.counts)

    def names(self) -> list[str]:
        """Return a name for each code from 1 on."""
        names = ["missing" if level is None else str(level) for level in self.own]
        return [*names, INFREQUENT] if self.rare else names

    @cached_property
    def _codes(self) -> dict[Any, int]:
        own = {level: code for code, level in enumerate(self.own, start=1)}
        return own | dict.fromkeys(self.rare, len(self.own) + 1)

    def encode(self, values: Sequence[Any], first_row: int = 0) -> Array:
        """Return the code of each value; errors count rows from `first_row` on."""
        if "other" in types_in(values):
            refuse_others(values, self.label, first_row)
        found = map(self._codes.get, values, repeat(0))
        try:
            codes = np.fromiter(found, dtype=np.intp, count=len(values))
        except TypeError:  # a tuple of lists can't be hashed
            refuse_others(values, self.label, first_row)
        of_missing = self._codes.get(None, 0)
        if of_missing:
            for row in np.flatnonzero(codes == 0).tolist():
                if is_missing(values[row]):
                    codes[row] = of_missing
        return codes


@dataclass(frozen=True)
class OneHot(DropsCachedProperties):
    """Which output each code of each column switches on.

    Codes of unknown levels have none. Of two levels the second has one.
    """

    places: tuple[tuple[int, ...], ...]  # of each column, the place of code 0, 1, ... or -1
    names: tuple[tuple[str, ...], ...]  # of each column, those of its outputs
    kind: ClassVar[str] = "one_hot"

    @classmethod
    def learn(cls, columns: Sequence[CategoryLevels], max_categories: float) -> Self:
        """Give outputs to codes; of more than `max_categories` the least frequent share one."""
        outputs = [_outputs_of(levels, max_categories) for levels in columns]
        return cls(tuple(places for places, _ in outputs), tuple(names for _, names in outputs))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(map(len, self.names))

    def outputs(self) -> list[tuple[int, str]]:
        """Return (column, end of its name) of each output."""
        return [(column, f"_{name}") for column, names in enumerate(self.names) for name in names]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = 0
        out[self._active_outputs(codes)] = 1

    def encode_sparse(self, codes: Array) -> csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        rows, outputs = self._active_outputs(codes)
        shape = (len(codes), self.n_outputs)
        return csc_array((np.ones(len(rows)), (rows, outputs)), shape=shape)

    def _active_outputs(self, codes: Array) -> tuple[Array, Array]:
        """Return the rows and the outputs that are one."""
        starts, output_of = self._table
        outputs = output_of[starts + codes]
        rows, columns = np.nonzero(outputs >= 0)
        return rows, outputs[rows, columns]

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """The outputs of all codes of all columns in a row, and where each column begins there."""
        n_codes = [len(places) for places in self.places]
        before = np.cumsum([0, *map(len, self.names)])
        of_columns = [
            np.where(np.array(places) < 0, -1, np.array(places) + first)
            for places, first in zip(self.places, before, strict=False)
        ]
        starts = np.cumsum([0, *n_codes])[: len(n_codes)]
        return starts, np.concatenate([np.empty(0, dtype=np.intp), *of_columns])


@dataclass(frozen=True)
class OrdinalCodes:
    """The codes of columns as they are, but for constant columns, which have no output."""

    columns: tuple[int, ...]  # those that are not constant
    kind: ClassVar[str] = "ordinal"

    @classmethod
    def learn(cls, columns: Sequence[CategoryLevels]) -> Self:
        """Find the columns that are not constant."""
        return cls(tuple(at for at, levels in enumerate(columns) if levels.n_codes > 1))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return len(self.columns)

    def outputs(self) -> list[tuple[int, str]]:
        """Return (column, end of its name) of each output."""
        return [(column, "") for column in self.columns]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = codes[:, self.columns]

    def encode_sparse(self, codes: Array) -> csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        return csc_array(codes[:, self.columns].astype(np.float64))


def _outputs_of(
    levels: CategoryLevels, max_categories: float
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the place of each code among a column's outputs, from 0 on, and their names."""
    k, names = levels.n_codes, levels.names()
    if k < 2:
        return (-1,) * (k + 1), ()
    if k == 2:
        return (-1, -1, 0), (names[1],)
    if k <= max_categories:
        return tuple(range(-1, k)), tuple(names)
    by_count = sorted(range(len(levels.own)), key=lambda at: -levels.counts[at])
    chosen = sorted(by_count[: int(max_categories) - 1])
    places = np.full(k + 1, len(chosen))
    places[0] = -1
    places[np.array(chosen) + 1] = range(len(chosen))
    return tuple(places.tolist()), (*(names[at] for at in chosen), INFREQUENT)


def _in_order(levels: Counter[Any]) -> list[Any]:
    """Return levels sorted, with what is missing at the end."""
    present = [level for level in levels if level is not None]
    try:
        present.sort()
    except TypeError:  # of several types
        present.sort(key=lambda level: (type(level).__name__, str(level)))
    return [*present, None] if None in levels else present
