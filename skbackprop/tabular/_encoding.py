"""Fitted encoding of a table: its parts, and the outputs that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse

from .._sklearn import _check_categorical_features
from ..utils.arrays import Array, as_dense
from ._categorical_encoding import CategoryLevels, OneHot, OrdinalCodes, TargetEncoding
from ._dataframe import AnyColumns, SparseColumns
from ._numeric_scaling import RobustScaling

# The number of rows encoded at once. Temporaries stay in the cache, which is six times as fast.
_ROWS = 4096


class EncoderSettings(NamedTuple):
    """Parameters of a `TableEncoder` except the dtype, and the groups of rows."""

    categorical_features: Any
    encoding: str
    min_frequency: int
    max_categories: float
    target_type: str
    random_state: Any
    groups: Array | None = None


class TableRows(NamedTuple):
    """Rows of a table: a float matrix, a matrix of category codes, and the encoded rows if made."""

    numbers: Any
    codes: Array
    encoded: Any = None


class OutputColumn(NamedTuple):
    """One column of the encoded table: its type, its input column, and the suffix of its name."""

    type: str
    column: int
    suffix: str


@dataclass(frozen=True)
class FittedEncoding:
    """Encoding fitted to a table.

    Parameters
    ----------
    numeric_columns, category_columns : sequence of int
        The columns of each kind.
    numbers : RobustScaling
        Encodes numbers, and target statistics after them.
    levels : sequence of CategoryLevels
        The categories of each categorical column.
    categories : OneHot or OrdinalCodes
        Encodes categories.
    statistics : TargetEncoding or None
        Target statistics of columns with many categories.
    target_encoded : sequence of int
        The positions of these columns among the categorical ones.
    is_sparse : bool
        Whether the table was sparse.
    """

    numeric_columns: Sequence[int]
    category_columns: Sequence[int]
    numbers: RobustScaling
    levels: Sequence[CategoryLevels]
    categories: OneHot | OrdinalCodes
    statistics: TargetEncoding | None
    target_encoded: Sequence[int]
    is_sparse: bool

    @classmethod
    def fit(cls, columns: AnyColumns, y: Any, settings: EncoderSettings) -> tuple[Self, TableRows]:
        """Return the encoding of a table, and its rows with out-of-fold target statistics."""
        is_category = _find_categories(columns, settings.categorical_features)
        numeric_columns = np.flatnonzero(~is_category).tolist()
        category_columns = np.flatnonzero(is_category).tolist()
        numbers = columns.numbers(numeric_columns)
        levels = []
        codes = np.empty((columns.n_rows, len(category_columns)), dtype=np.intp)
        for position, column in enumerate(category_columns):
            values = columns.values(column)
            own = CategoryLevels.fit(values, columns.label(column), settings.min_frequency)
            codes[:, position] = own.encode(values)
            levels.append(own)
        is_one_hot, limit = settings.encoding == "one_hot", settings.max_categories
        many = [position for position, own in enumerate(levels) if own.n_codes > limit]
        statistics, target = None, _one_column(y)
        if target is not None and len(target) != columns.n_rows:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {columns.n_rows} and {len(target)}."
            )
        if many and is_one_hot and target is not None:
            statistics, out_of_fold = TargetEncoding.fit(
                codes[:, many], target, settings.target_type, settings.random_state, settings.groups
            )
            numbers = _append_columns(numbers, out_of_fold)
        encoding = cls(
            numeric_columns,
            category_columns,
            RobustScaling.fit(numbers),
            levels,
            OneHot.fit(levels, limit) if is_one_hot else OrdinalCodes.fit(levels),
            statistics,
            many,
            isinstance(columns, SparseColumns),
        )
        return encoding, TableRows(numbers, codes)

    def to_matrices(self, columns: AnyColumns) -> TableRows:
        """Return the rows of a table as numbers and codes."""
        numbers = columns.numbers(self.numeric_columns)
        codes = np.empty((columns.n_rows, len(self.levels)), dtype=np.intp)
        pairs = zip(self.category_columns, self.levels, strict=True)
        for position, (column, levels) in enumerate(pairs):
            codes[:, position] = levels.encode(columns.values(column), columns.first_row)
        if self.statistics is not None:
            encoded = self.statistics.encode(codes[:, self.target_encoded])
            numbers = _append_columns(numbers, encoded)
        return TableRows(numbers, codes)

    def encode(self, rows: TableRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            blocks = [
                self.numbers.encode_sparse(rows.numbers),
                self.categories.encode_sparse(rows.codes),
            ]
            return sparse.hstack(blocks, format="csr", dtype=dtype)
        numbers = as_dense(rows.numbers)
        n_numeric = self.numbers.n_outputs
        out = np.empty((len(numbers), self.n_outputs), dtype=dtype)
        for start in range(0, len(out), _ROWS):  # gen_batches takes as long as a row
            block = slice(start, start + _ROWS)
            self.numbers.encode(numbers[block], out[block, :n_numeric])
            self.categories.encode(rows.codes[block], out[block, n_numeric:])
        return out

    def matrix_columns(self, column: int) -> tuple[list[int], list[int]]:
        """Return the columns of the matrices of numbers and codes that come from a column."""
        numbers = [at for at, own in enumerate(self.numeric_columns) if own == column]
        codes = [at for at, own in enumerate(self.category_columns) if own == column]
        if self.statistics is not None:
            first = len(self.numeric_columns)
            positions = [self.target_encoded[at] for at in self.statistics.columns]
            numbers += [first + at for at, own in enumerate(positions) if own in codes]
        return numbers, codes

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.numbers.n_outputs + self.categories.n_outputs

    def outputs(self) -> list[OutputColumn]:
        """Describe each output, in their order."""
        inputs = [OutputColumn("number", column, "") for column in self.numeric_columns]
        if self.statistics is not None:
            for at, class_ in zip(self.statistics.columns, self.statistics.classes, strict=True):
                suffix = "_target" if class_ is None else f"_target_{class_}"
                column = self.category_columns[self.target_encoded[at]]
                inputs.append(OutputColumn("target", column, suffix))
        scaled, two_valued, with_missing = self.numbers.input_columns()
        outputs = [inputs[at] for at in scaled]
        outputs += [inputs[at]._replace(type="two_valued") for at in two_valued]
        outputs += [OutputColumn("missing", inputs[at].column, "_missing") for at in with_missing]
        for at, suffix in self.categories.outputs():
            column = self.category_columns[at]
            outputs.append(OutputColumn(self.categories.output_type, column, suffix))
        return outputs


def _find_categories(columns: AnyColumns, categorical_features: Any) -> Array:
    """Return the mask of categorical columns; raise if another is not numeric."""
    by_dtype = isinstance(categorical_features, str)
    is_category = np.zeros(columns.n_columns, dtype=bool)
    if not by_dtype:
        given = _check_categorical_features(columns.as_given, categorical_features)
        is_category = is_category if given is None else given
    for column in np.flatnonzero(~is_category).tolist():
        if columns.kind(column) == "number":
            continue
        if not by_dtype:
            raise ValueError(
                f"{columns.label(column)} is not numeric, but is not among the "
                f"categorical_features={categorical_features!r}. Add it to them, or convert it to "
                'numbers. categorical_features="from_dtype" treats all such columns as categories.'
            )
        is_category[column] = True
    return is_category


def _one_column(y: Any) -> Array | None:
    """Return the target as a 1d array; None if there is none or it has several columns."""
    if y is None:
        return None
    target = np.asarray(y)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    return target if target.ndim == 1 else None


def _append_columns(numbers: Any, more: Array) -> Any:
    """Return a dense or sparse matrix with more columns."""
    if isinstance(numbers, np.ndarray):
        return np.hstack([numbers, more])
    return sparse.hstack([numbers, sparse.csc_array(more)], format="csc")
