"""What is learned of a table's columns, and how rows are encoded with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse

from .._sklearn import _check_categorical_features
from ..utils.arrays import Array, as_dense
from ._categorical_encoding import CategoryLevels, OneHot, OrdinalCodes
from ._dataframe import AnyColumns, SparseColumns
from ._numeric_encoding import RobustScaling
from ._target_encoding import TargetEncoding

# Rows that are encoded at a time: what is made on the way stays in the cache, which takes a sixth
# of the time.
_ROWS = 4096


class Settings(NamedTuple):
    """The parameters of a `TableEncoder`, but for the dtype."""

    categorical_features: Any
    encoding: str
    min_frequency: int
    max_categories: float
    target_type: str
    random_state: Any
    groups: Array | None = None  # of rows, none of which the parts of the data may split


class EncodedInputs(NamedTuple):
    """The rows of a table: a float matrix, and a matrix of codes."""

    numbers: Any
    codes: Array


class OutputColumn(NamedTuple):
    """One column of the encoded table: of what kind, from which column, with what in its name."""

    kind: str
    column: int
    ending: str


@dataclass(frozen=True)
class FittedEncoding:
    """What was learned of a table.

    Its rows are taken in as numbers and codes; statistics of the target are more numbers.
    """

    number_columns: Sequence[int]
    category_columns: Sequence[int]
    numbers: RobustScaling
    levels: Sequence[CategoryLevels]
    categories: OneHot | OrdinalCodes
    statistics: TargetEncoding | None
    of_many_levels: Sequence[int]  # which categories the statistics are for
    is_sparse: bool

    @classmethod
    def learn(cls, columns: AnyColumns, y: Any, settings: Settings) -> tuple[Self, EncodedInputs]:
        """Learn the columns; return what was learned, and the training rows, taken in."""
        is_category = _categorical(columns, settings.categorical_features)
        number_columns = np.flatnonzero(~is_category).tolist()
        category_columns = np.flatnonzero(is_category).tolist()
        numbers = columns.numbers(number_columns)
        levels, codes = _levels(columns, category_columns, settings.min_frequency)
        is_one_hot = settings.encoding == "one_hot"
        many = [at for at, each in enumerate(levels) if each.n_codes > settings.max_categories]
        statistics = None
        target = _one_column(y)
        if target is not None and len(target) != columns.n_rows:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {columns.n_rows} and {len(target)}."
            )
        if many and is_one_hot and target is not None:
            statistics, out_of_fold = TargetEncoding.learn(
                codes[:, many], target, settings.target_type, settings.random_state, settings.groups
            )
            numbers = _beside(numbers, out_of_fold)
        encoding = cls(
            number_columns=number_columns,
            category_columns=category_columns,
            numbers=RobustScaling.learn(numbers),
            levels=levels,
            categories=OneHot.learn(levels, settings.max_categories)
            if is_one_hot
            else OrdinalCodes.learn(levels),
            statistics=statistics,
            of_many_levels=many,
            is_sparse=isinstance(columns, SparseColumns),
        )
        return encoding, EncodedInputs(numbers, codes)

    def to_matrices(self, columns: AnyColumns) -> EncodedInputs:
        """Return the rows of a table as numbers and codes."""
        numbers = columns.numbers(self.number_columns)
        codes = np.empty((columns.n_rows, len(self.levels)), dtype=np.intp)
        for at, (column, levels) in enumerate(zip(self.category_columns, self.levels, strict=True)):
            codes[:, at] = levels.encode(columns.values(column), columns.first_row)
        if self.statistics is not None:
            numbers = _beside(numbers, self.statistics.encode(codes[:, self.of_many_levels]))
        return EncodedInputs(numbers, codes)

    def encode(self, rows: EncodedInputs, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for rows: a CSR array if the training rows were sparse."""
        if self.is_sparse:
            blocks = [
                self.numbers.encode_sparse(rows.numbers),
                self.categories.encode_sparse(rows.codes),
            ]
            return sparse.hstack(blocks, format="csr", dtype=dtype)
        numbers = as_dense(rows.numbers)
        n_of_numbers = self.numbers.n_outputs
        out = np.empty((len(numbers), self.n_outputs), dtype=dtype)
        for start in range(0, len(out), _ROWS):  # gen_batches takes as long as a row
            block = slice(start, start + _ROWS)
            self.numbers.encode(numbers[block], out[block, :n_of_numbers])
            self.categories.encode(rows.codes[block], out[block, n_of_numbers:])
        return out

    def made_of(self, column: int) -> tuple[list[int], list[int]]:
        """Return the numbers and the codes of rows taken in that are made of a column."""
        numbers = [at for at, own in enumerate(self.number_columns) if own == column]
        codes = [at for at, own in enumerate(self.category_columns) if own == column]
        if self.statistics is not None:
            first = len(self.number_columns)
            of_statistics = [self.of_many_levels[at] for at in self.statistics.columns]
            numbers += [first + at for at, own in enumerate(of_statistics) if own in codes]
        return numbers, codes

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.numbers.n_outputs + self.categories.n_outputs

    def outputs(self) -> list[OutputColumn]:
        """Return what each output is, in their order."""
        origins = [("number", column, "") for column in self.number_columns]
        if self.statistics is not None:
            for at, class_ in zip(self.statistics.columns, self.statistics.classes, strict=True):
                ending = "_target" if class_ is None else f"_target_{class_}"
                origins.append(("target", self.category_columns[self.of_many_levels[at]], ending))
        scaled, two_valued, with_missing = self.numbers.input_columns()
        found = [OutputColumn(*origins[at]) for at in scaled]
        found += [OutputColumn("two_valued", *origins[at][1:]) for at in two_valued]
        found += [OutputColumn("missing", origins[at][1], "_missing") for at in with_missing]
        kind = self.categories.kind
        for at, ending in self.categories.outputs():
            found.append(OutputColumn(kind, self.category_columns[at], ending))
        return found


def _categorical(columns: AnyColumns, categorical_features: Any) -> Array:
    """Return which columns are categories, and check that the others are numbers."""
    n_columns = columns.n_columns
    by_dtype = isinstance(categorical_features, str)
    chosen = np.zeros(n_columns, dtype=bool)
    if not by_dtype:
        found = _check_categorical_features(columns.as_given, categorical_features)
        chosen = chosen if found is None else found
    for column in np.flatnonzero(~chosen).tolist():
        if columns.kind(column) == "number":
            continue
        if not by_dtype:
            raise ValueError(
                f"{columns.label(column)} holds no numbers, and is not among the "
                f"categorical_features={categorical_features!r}. Add it to them, or make numbers "
                'of it; categorical_features="from_dtype" takes all such columns for categories.'
            )
        chosen[column] = True
    return chosen


def _levels(
    columns: AnyColumns, category_columns: Sequence[int], min_frequency: int
) -> tuple[list[CategoryLevels], Array]:
    """Return the levels of each category, and the codes of all rows."""
    learned, codes = [], np.empty((columns.n_rows, len(category_columns)), dtype=np.intp)
    for at, column in enumerate(category_columns):
        values = columns.values(column)
        levels = CategoryLevels.learn(values, columns.label(column), min_frequency)
        codes[:, at] = levels.encode(values)
        learned.append(levels)
    return learned, codes


def _one_column(y: Any) -> Array | None:
    """Return the target as an array of one axis, or None if there is none, or if it has columns."""
    if y is None:
        return None
    target = np.asarray(y)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    return target if target.ndim == 1 else None


def _beside(numbers: Any, more: Array) -> Any:
    """Return more numbers to the right of those that there are."""
    if isinstance(numbers, np.ndarray):
        return np.hstack([numbers, more])
    return sparse.hstack([numbers, sparse.csc_array(more)], format="csc")
