"""Encoding of a table: from columns to numbers and category codes, and to the encoded table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from ..utils.arrays import Array, DropCachedPropertiesMixin, as_dense
from ._categorical_encoding import CategoricalEncoding, CategoryLevels, count_categories
from ._category_interactions import CategoryInteractions
from ._column_kinds import NUMERIC_KINDS, find_kinds
from ._dates import DateEncoding, TimeEncoding
from ._read_table import Kind, SparseColumns, TableColumns
from ._robust_scaling import RobustScaling, columns_at_once
from ._target_encoding import TargetEncoding, draw_target_folds
from ._text import TextEncoding

# The number of rows encoded at once. Temporaries stay in the cache, which is six times as fast.
_ROWS = 4096

# The defaults of a `TableEncoder`.
MIN_FREQUENCY, MAX_CATEGORIES = 3, 30

# Encoding of one column as several numbers.
ColumnEncoding: TypeAlias = DateEncoding | TimeEncoding | TextEncoding


class UnscaledRows(NamedTuple):
    """Rows of a table as two matrices: numbers in double precision, and category codes.

    Parameters
    ----------
    numbers : array or sparse matrix of shape (n, n_numbers)
        The numbers, with NaN for missing values.
    codes : array of int of shape (n, n_categorical)
        The codes of categories.
    """

    numbers: Any
    codes: Array


class ScaledRows(NamedTuple):
    """Rows of a table in few bytes: scaled numbers, category codes, and where they come from.

    Parameters
    ----------
    columns : TableColumns or None
        The table that they were read from, for the view "table"; None without that view.
    numbers : array of shape (n, n_numbers)
        The scaled numbers, with NaN for missing values. `FittedEncoding` leaves those of a sparse
        table sparse, and does not scale them.
    codes : array of int of shape (n, n_categorical)
        The codes of categories.
    folds : array of int of shape (n,) or None
        The fold of each row in what is learned from the target; None for nothing, or new rows.
    """

    columns: TableColumns | None
    numbers: Any
    codes: Array
    folds: Array | None


class OutputColumn(NamedTuple):
    """One column of the encoded table: its type, its input column, and the suffix of its name."""

    type: str
    column: int
    suffix: str


@dataclass(frozen=True)
class FittedEncoding(DropCachedPropertiesMixin):
    """Encoding fitted to a table.

    Parameters
    ----------
    numeric_columns : sequence of int
        The numeric columns. Durations are numbers of seconds.
    numbers : RobustScaling
        Encodes numbers, after them target statistics and `interactions`, and then the outputs of
        `column_encodings`.
    categories : CategoricalEncoding
        Encodes categories.
    is_sparse : bool
        Whether the table was sparse.
    kinds : sequence of str, default=()
        The kind of each column.
    encoded_columns : sequence of int, default=()
        The columns that are encoded as several numbers: dates, times of day and text.
    column_encodings : sequence of ColumnEncoding, default=()
        Their encodings. Text comes last.
    interactions : CategoryInteractions or None, default=None
        Interactions of a categorical and a numeric column.
    """

    numeric_columns: Sequence[int]
    numbers: RobustScaling
    categories: CategoricalEncoding
    is_sparse: bool
    kinds: Sequence[Kind] = ()
    encoded_columns: Sequence[int] = ()
    column_encodings: Sequence[ColumnEncoding] = ()
    interactions: CategoryInteractions | None = None

    @classmethod
    def fit(
        cls,
        columns: TableColumns,
        y: Any,
        categorical_features: Any,
        *,
        column_kinds: Mapping[Any, Kind] | None = None,
        encoding: str = "one_hot",
        min_frequency: int = MIN_FREQUENCY,
        max_categories: float = MAX_CATEGORIES,
        target_type: str = "auto",
        random_state: Any = None,
        groups: Array | None = None,
        dtype: Any = np.float64,
        with_interactions: bool = False,
    ) -> tuple[Self, ScaledRows]:
        """Return the encoding of a table, and its rows with scaled numbers in a dtype.

        The parameters are those of a `TableEncoder`. Target statistics of a row come from rows of
        other groups, if there are any. Only a few columns are in double precision at once.
        `with_interactions` fits `CategoryInteractions` to continuous targets of tables that are not
        sparse.
        """
        kinds = find_kinds(columns, categorical_features, column_kinds or {})
        target = None if y is None else np.asarray(y)
        if target is not None and target.ndim == 2 and target.shape[1] == 1:
            target = target[:, 0]
        if target is not None and target.ndim != 1:
            target = None
        category_columns = [at for at, kind in enumerate(kinds) if kind == "category"]
        levels, codes = _fit_levels(columns, category_columns, min_frequency)
        if target is not None and len(target) != columns.n_rows:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {columns.n_rows} and {len(target)}."
            )
        categories = CategoricalEncoding.from_levels(
            category_columns, levels, max_categories, encoding
        )
        if target is not None and len(categories.target_encoded):
            own = codes[:, categories.target_encoded].astype(np.intp)
            categories = categories.with_statistics(
                TargetEncoding.fit(own, target, target_type, random_state, groups)
            )
        has_interactions = with_interactions and target_type == "continuous"
        return cls.from_categories(
            columns,
            kinds,
            categories,
            codes,
            random_state,
            dtype,
            np.asarray(target, float) if has_interactions and target is not None else None,
            partial(draw_target_folds, columns.n_rows, random_state, groups),
        )

    @classmethod
    def from_categories(
        cls,
        columns: TableColumns,
        kinds: Sequence[Kind],
        categories: CategoricalEncoding,
        codes: Array,
        random_state: Any,
        dtype: Any,
        y: Array | None,
        draw_folds: Callable[[], Array],
    ) -> tuple[Self, ScaledRows]:
        """Fit the encoding of numbers, dates and text, given that of categories.

        Only a few columns are in double precision at once.

        Parameters
        ----------
        columns : TableColumns
            The table, or a sample of its rows.
        kinds, categories : object
            As for the class. The folds of target statistics are those of these rows.
        codes : array of int of shape (n, n_categorical)
            The codes of categories.
        random_state : int, RandomState instance or None
            Draws the start of a truncated SVD.
        dtype : dtype
            The dtype of the scaled numbers.
        y : array of shape (n,) or None
            The target of interactions; None for no interactions, as in sparse tables.
        draw_folds : callable
            Draws the fold of each row for interactions, if there are no target statistics.

        Returns
        -------
        encoding : FittedEncoding
            The encoding.
        rows : ScaledRows
            The rows of `columns`, with out-of-fold target statistics.
        """
        numeric_columns = [at for at, kind in enumerate(kinds) if kind in NUMERIC_KINDS]
        encoded_columns = [at for at, kind in enumerate(kinds) if kind in ("date", "time")]
        encoded_columns += [at for at, kind in enumerate(kinds) if kind == "text"]
        is_sparse, out_of_fold, folds = isinstance(columns, SparseColumns), None, None
        if categories.statistics is not None:
            folds = categories.statistics.folds
            out_of_fold = categories.encode_target(codes, folds)
            draw_folds = partial(np.asarray, folds)
        encodings, interactions = list[ColumnEncoding](), None
        if is_sparse:
            numbers = columns.numbers(numeric_columns)
            if out_of_fold is not None:
                numbers = _append_columns(numbers, out_of_fold)
            scaling = RobustScaling.fit(numbers)
        else:
            scaled = _ScaledColumns(columns.n_rows, len(numeric_columns), dtype)
            conversions, n_at_once = _conversions(kinds), columns_at_once(columns.n_rows)
            for start in range(0, len(numeric_columns), n_at_once):
                chosen = numeric_columns[start : start + n_at_once]
                scaled.append_numeric(_read_numbers(columns, chosen, conversions))
            if y is not None and numeric_columns and len(categories.columns):
                interactions = CategoryInteractions.fit(
                    codes,
                    scaled.take,
                    scaled.scaling.scaled,
                    y,
                    draw_folds,
                    categories.n_codes,
                )
            if out_of_fold is not None:
                scaled.append(out_of_fold)
            if interactions is not None:
                folds = interactions.folds
                z = scaled.take(slice(None), interactions.numbers)
                scaled.append(interactions.encode(codes, z, folds))
            for column in encoded_columns:
                encoding, encoded = _fit_column_encoding(
                    columns, column, kinds[column], random_state
                )
                encodings.append(encoding)
                scaled.append_encoded(encoded, encoding.kind == "text")
            scaling, numbers = scaled.scaling, scaled.matrix
        fitted = cls(
            numeric_columns,
            scaling,
            categories,
            is_sparse,
            kinds,
            encoded_columns,
            encodings,
            interactions,
        )
        return fitted, ScaledRows(columns, numbers, codes, folds)

    def read_rows(self, columns: TableColumns, folds: Array | None = None) -> UnscaledRows:
        """Return the rows of a table as numbers and codes.

        With folds, what was learned from the target is out of fold.
        """
        codes = self.categories.read_codes(columns)
        return UnscaledRows(self.read_numbers(columns, codes, folds), codes)

    def read_numbers(self, columns: TableColumns, codes: Array, folds: Array | None) -> Any:
        """Return the numbers of a table, given the codes of its categories."""
        numbers = _read_numbers(columns, self.numeric_columns, self._conversions)
        if self.categories.statistics is not None:
            numbers = _append_columns(numbers, self.categories.encode_target(codes, folds))
        if self.interactions is not None:
            numbers = _append_columns(numbers, self._encode_interactions(numbers, codes, folds))
        for column, own in zip(self.encoded_columns, self.column_encodings, strict=True):
            values = _read_values(columns, column, own.kind)
            numbers = _append_columns(numbers, own.encode(values))
        return numbers

    def _encode_interactions(self, numbers: Array, codes: Array, folds: Array | None) -> Array:
        assert self.interactions is not None
        z = numbers[:, self.interactions.numbers]
        scaling = self.numbers.take(list(self.interactions.numbers))
        return self.interactions.encode(codes, scaling.scale_values(z), folds)

    def update_interactions(self, rows: UnscaledRows, folds: Array | None = None) -> UnscaledRows:
        """Return rows of which some columns were replaced, with the interactions for them.

        With folds, they are out of fold.
        """
        if self.interactions is None:
            return rows
        numbers, columns = rows.numbers.copy(), self._interaction_columns
        numbers[:, columns] = self._encode_interactions(numbers, rows.codes, folds)
        return rows._replace(numbers=numbers)

    @property
    def _interaction_columns(self) -> slice:
        """The positions of interactions among the numbers."""
        first = len(self.numeric_columns) + self.categories.n_statistics
        n_pairs = 0 if self.interactions is None else len(self.interactions.coefficients)
        return slice(first, first + n_pairs)

    @property
    def folds(self) -> Array | None:
        """The fold of each training row in what was learned from the target, if anything was."""
        for learned in (self.interactions, self.categories.statistics):
            if learned is not None:
                return learned.folds
        return None

    def scale(self, rows: UnscaledRows) -> Array:
        """Return the scaled numbers of rows, in single precision."""
        numbers = sparse.csr_array(rows.numbers) if self.is_sparse else rows.numbers
        scaled = np.empty(numbers.shape, np.float32)
        for start in range(0, len(scaled), _ROWS):
            block = slice(start, start + _ROWS)
            scaled[block] = self.numbers.scale_values(as_dense(numbers[block]))
        return scaled

    def read_training_rows(self, columns: TableColumns, folds: Array | None = None) -> UnscaledRows:
        """Return training rows, with out-of-fold target statistics and interactions as in `fit`.

        Without folds, these are all rows that `fit` was given, in the same order.
        """
        folds = self.folds if folds is None else folds
        is_known = folds is not None and len(folds) == columns.n_rows
        return self.read_rows(columns, folds if is_known else None)

    @cached_property
    def _conversions(self) -> dict[int, Kind]:
        return _conversions(self.kinds)

    def encode(self, rows: UnscaledRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            blocks = [
                self.numbers.encode_sparse(rows.numbers),
                self.categories.encoder.encode_sparse(rows.codes),
            ]
            return sparse.hstack(blocks, format="csr", dtype=dtype)
        numbers = as_dense(rows.numbers)
        out = np.empty((len(numbers), self.n_outputs), dtype=dtype)
        for start in range(0, len(out), _ROWS):  # gen_batches takes as long as a row
            block = slice(start, start + _ROWS)
            scaled = self.numbers.scale_values(numbers[block])
            self.write_outputs(scaled, rows.codes[block], out[block])
        return out

    def write_outputs(self, scaled: Array, codes: Array, out: Array) -> None:
        """Write the outputs for scaled numbers and codes to `out` (n, n_outputs)."""
        n_numeric = self.numbers.n_outputs
        self.numbers.write_outputs(scaled, out[:, :n_numeric])
        self.categories.encoder.encode(codes, out[:, n_numeric:])

    def encode_scaled(self, rows: ScaledRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for training rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            return self.encode(UnscaledRows(rows.numbers, rows.codes), dtype)
        out = np.empty((len(rows.codes), self.n_outputs), dtype=dtype)
        for start in range(0, len(out), _ROWS):
            block = slice(start, start + _ROWS)
            self.write_outputs(rows.numbers[block], rows.codes[block], out[block])
        return out

    def matrix_columns(self, column: int) -> tuple[list[int], list[int]]:
        """Return the columns of the matrices of numbers and codes that come from a column."""
        numbers = [at for at, own in enumerate(self.numeric_columns) if own == column]
        categories = self.categories
        codes = [at for at, own in enumerate(categories.columns) if own == column]
        if categories.statistics is not None:
            first = len(self.numeric_columns)
            positions = [categories.target_encoded[at] for at in categories.statistics.columns]
            numbers += [first + at for at, own in enumerate(positions) if own in codes]
        n_encoded = sum(len(own.suffixes) for own in self.column_encodings)
        first = len(self.numbers.center) - n_encoded
        for source, own in zip(self.encoded_columns, self.column_encodings, strict=True):
            if source == column:
                numbers += range(first, first + len(own.suffixes))
            first += len(own.suffixes)
        return numbers, codes

    def name_kinds(self, names: Any) -> dict[Any, str]:
        """Return the kind of each column, as users see it, by its name or its position."""
        keys = range(len(self.kinds)) if names is None else names
        public = ["number" if kind == "numeric_string" else kind for kind in self.kinds]
        return dict(zip(keys, public, strict=True))

    @property
    def n_embedded(self) -> int:
        """The number of scaled outputs, which come first, without those of text."""
        n_text = sum(len(own.suffixes) for own in self.column_encodings if own.kind == "text")
        scaled, _, _ = self.numbers.input_columns
        return int(np.sum(scaled < len(self.numbers.center) - n_text))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.numbers.n_outputs + self.categories.encoder.n_outputs

    def outputs(self) -> list[OutputColumn]:
        """Describe each output, in their order."""
        inputs = [OutputColumn("number", column, "") for column in self.numeric_columns]
        categories, statistics = self.categories, self.categories.statistics
        if statistics is not None:
            for at, class_ in zip(statistics.columns, statistics.classes, strict=True):
                suffix = "_target" if class_ is None else f"_target_{class_}"
                column = categories.columns[categories.target_encoded[at]]
                inputs.append(OutputColumn("target", column, suffix))
        if self.interactions is not None:
            pairs = zip(self.interactions.categories, self.interactions.numbers, strict=True)
            for category, number in pairs:
                suffix = f"_interaction_{self.numeric_columns[number]}"
                inputs.append(OutputColumn("target", categories.columns[category], suffix))
        for column, own in zip(self.encoded_columns, self.column_encodings, strict=True):
            inputs += [OutputColumn(own.output_type, column, suffix) for suffix in own.suffixes]
        scaled, two_valued, with_missing = self.numbers.input_columns
        outputs = [inputs[at] for at in scaled]
        outputs += [inputs[at]._replace(type="two_valued") for at in two_valued]
        outputs += [OutputColumn("missing", inputs[at].column, "_missing") for at in with_missing]
        for at, suffix in categories.encoder.outputs():
            column = categories.columns[at]
            outputs.append(OutputColumn(categories.encoder.output_type, column, suffix))
        return outputs


class _ScaledColumns:
    """Columns of a table that are scaled a few at a time.

    Parameters
    ----------
    n_rows, n_numeric : int
        The number of rows, and of numeric columns, which come first.
    dtype : dtype
        The dtype of the scaled columns.
    """

    def __init__(self, n_rows: int, n_numeric: int, dtype: Any) -> None:
        self._numbers = np.empty((n_rows, n_numeric), dtype)
        self._n_scaled = 0
        self._others: list[Array] = []
        self._scalings: list[RobustScaling] = [RobustScaling.fit(np.empty((n_rows, 0)))]

    def append_numeric(self, values: Array) -> None:
        """Fit the scaling of some numeric columns, and scale them."""
        first = self._n_scaled
        self._n_scaled += values.shape[1]
        self._scale(values, RobustScaling.fit(values), self._numbers[:, first : self._n_scaled])

    def append(self, values: Array) -> None:
        """Fit the scaling of other columns, and scale them."""
        self._append(values, RobustScaling.fit(values))

    def append_encoded(self, values: Array, is_text: bool) -> None:
        """Fit the scaling of the encoding of one column, and scale it."""
        scaling = RobustScaling.fit(values)
        # All numbers of a value are missing together, so that one indicator is enough.
        is_first = np.arange(values.shape[1]) == 0
        scaling = replace(scaling, with_missing=scaling.with_missing & is_first)
        if is_text:
            # Each text counts like one number, and later components for less than the first ones.
            scaling = scaling.scale_together(slice(None), values)
        self._append(values, scaling)

    def _append(self, values: Array, scaling: RobustScaling) -> None:
        self._others.append(np.empty(values.shape, self._numbers.dtype))
        self._scale(values, scaling, self._others[-1])

    def _scale(self, values: Array, scaling: RobustScaling, out: Array) -> None:
        for start in range(0, len(values), _ROWS):
            block = slice(start, start + _ROWS)
            out[block] = scaling.scale_values(values[block])
        self._scalings.append(scaling)

    @property
    def scaling(self) -> RobustScaling:
        """The scaling of all columns."""
        return RobustScaling.concatenate(self._scalings)

    def take(self, rows: slice, columns: Sequence[int]) -> Array:
        """Return some rows of numeric columns as a matrix."""
        return np.asarray(self._numbers[rows][:, list(columns)])

    @property
    def matrix(self) -> Array:
        """All columns."""
        return np.hstack([self._numbers, *self._others]) if self._others else self._numbers


def _fit_levels(
    columns: TableColumns, category_columns: Sequence[int], min_frequency: int
) -> tuple[list[CategoryLevels], Array]:
    """Return the categories of each column, and a matrix of the codes in few bytes."""
    levels, codes = [], []
    for column in category_columns:
        values = columns.values(column)
        label = columns.label(column)
        own = CategoryLevels.fit(count_categories(values, label), label, min_frequency)
        codes.append(own.encode(values).astype(np.min_scalar_type(own.n_codes)))
        levels.append(own)
    if not codes:
        return levels, np.empty((columns.n_rows, 0), np.uint8)
    return levels, np.column_stack(codes)


def _conversions(kinds: Sequence[Kind]) -> dict[int, Kind]:
    """Return the numeric columns that are read as something else than numbers."""
    return {
        column: kind
        for column, kind in enumerate(kinds)
        if kind in NUMERIC_KINDS and kind != "number"
    }


def _read_numbers(
    columns: TableColumns, numeric_columns: Sequence[int], conversions: Mapping[int, Kind]
) -> Any:
    """Return numeric columns as a matrix, some of them converted."""
    if not conversions:
        return columns.numbers(numeric_columns)
    matrix = np.empty((columns.n_rows, len(numeric_columns)))
    is_converted = np.array([column in conversions for column in numeric_columns])
    plain = [column for column in numeric_columns if column not in conversions]
    matrix[:, ~is_converted] = columns.numbers(plain)
    for position in np.flatnonzero(is_converted).tolist():
        column = numeric_columns[position]
        matrix[:, position] = columns.parse_floats(column, conversions[column])
    return matrix


def _read_values(columns: TableColumns, column: int, kind: str) -> Any:
    """Return the values of a column as its encoding takes them."""
    if kind == "date":
        return columns.dates(column)
    return columns.parse_floats(column, "time") if kind == "time" else columns.texts(column)


def _fit_column_encoding(
    columns: TableColumns, column: int, kind: Kind, random_state: Any
) -> tuple[ColumnEncoding, Array]:
    """Return the encoding of a column as several numbers, and these numbers."""
    values, label = _read_values(columns, column, kind), columns.label(column)
    encoding: ColumnEncoding
    if kind == "date":
        encoding = DateEncoding.fit(values, label)
    elif kind == "time":
        encoding = TimeEncoding(label)
    else:
        encoding = TextEncoding.fit(values, label, check_random_state(random_state))
    return encoding, encoding.encode(values)


def _append_columns(numbers: Any, more: Array) -> Any:
    """Return a dense or sparse matrix with more columns."""
    if isinstance(numbers, np.ndarray):
        return np.hstack([numbers, more])
    return sparse.hstack([numbers, sparse.csc_array(more)], format="csc")
