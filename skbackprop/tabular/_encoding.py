"""From the columns of a table to the inputs of networks and other models.

`FittedEncoding` turns columns into numbers and category codes, and these into the outputs of a
`TableEncoder`. `FeatureBuilder` adds a block of encodings of each number for networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from numbers import Integral
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from .._sklearn import _check_categorical_features
from ..utils.arrays import Array, DropCachedPropertiesMixin, LazyMatrix, as_dense
from ._category_lines import CategoryLines
from ._column_encoding import (
    CategoryLevels,
    OneHot,
    OrdinalCodes,
    RobustScaling,
    TargetEncoding,
    columns_at_once,
    count_categories,
    draw_target_folds,
)
from ._dataframe import AnyColumns, Kind, SparseColumns
from ._dates import DateEncoding, TimeEncoding, parse_iso_date
from ._text import TextEncoding, parse_number
from ._value_types import find_role, is_missing
from .numeric_encoders import PeriodicFeatures, find_bin_edges

# The number of rows read at once.
_ROWS_READ = 1 << 16

# The number of rows encoded at once. Temporaries stay in the cache, which is six times as fast.
_ROWS = 4096

# The defaults of a `TableEncoder`.
MIN_FREQUENCY, MAX_CATEGORIES = 3, 30

# Encoding of one column as several numbers.
ColumnEncoding: TypeAlias = DateEncoding | TimeEncoding | TextEncoding

# The kinds of columns that `column_kinds` may name.
GIVEN_KINDS: tuple[Kind, ...] = ("number", "category", "text", "date", "time", "duration")

# Representations of the rows of a table: encoded; with blocks of numeric encodings before that; or
# the table itself, as numbers with NaN for missing values and codes of categories.
FeatureView = Literal["encoded", "embedded", "table"]

# The maximum number of categories of a column in gradient boosting.
_MAX_CATEGORIES_OF_TREES = 255

N_FREQUENCIES, N_BINS = 16, 16
# The number of columns of the block of one number.
WIDTH = N_FREQUENCIES + N_BINS

# Numbers have blocks if those of all rows, or of so many, have at most so many elements.
_MAX_BLOCK_ELEMENTS, _BLOCK_ROWS = 1 << 28, 1 << 15

# The number of rows whose blocks are computed at once, so that temporaries stay in the cache.
_ROWS_OF_BLOCKS = 256

# Training rows of at most so many elements in a view are computed once: 64 MB. More of them are
# computed for each batch, which takes about a twentieth of the time of a step.
_MAX_DENSE_ELEMENTS = 1 << 24


class TableRows(NamedTuple):
    """Rows of a table: a float matrix, a matrix of category codes, and the encoded rows if made."""

    numbers: Any
    codes: Array
    encoded: Any = None


class ScaledRows(NamedTuple):
    """Rows of a table in few bytes: scaled numbers, and category codes.

    Parameters
    ----------
    columns : AnyColumns or None
        The table as it was given, for the view "table"; None without that view.
    numbers : array of shape (n, n_numbers)
        The scaled numbers, with NaN for missing values. `FittedEncoding` leaves those of a sparse
        table sparse, and does not scale them.
    codes : array of int of shape (n, n_categorical)
        The codes of categories.
    folds : array of int of shape (n,) or None
        The fold of each row in what is learned from the target; None for nothing, or new rows.
    """

    columns: AnyColumns | None
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
    numeric_columns, category_columns : sequence of int
        The columns of each kind. Durations are numbers of seconds.
    numbers : RobustScaling
        Encodes numbers, after them target statistics and the heights of `lines`, and then the
        outputs of `parts`.
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
    kinds : sequence of str, default=()
        The kind of each column.
    part_columns : sequence of int, default=()
        The columns that are encoded as several numbers: dates, times of day and text.
    parts : sequence of ColumnEncoding, default=()
        Their encodings. Text comes last.
    lines : CategoryLines or None, default=None
        Lines of categories.
    """

    numeric_columns: Sequence[int]
    category_columns: Sequence[int]
    numbers: RobustScaling
    levels: Sequence[CategoryLevels]
    categories: OneHot | OrdinalCodes
    statistics: TargetEncoding | None
    target_encoded: Sequence[int]
    is_sparse: bool
    kinds: Sequence[Kind] = ()
    part_columns: Sequence[int] = ()
    parts: Sequence[ColumnEncoding] = ()
    lines: CategoryLines | None = None

    @classmethod
    def fit(
        cls,
        columns: AnyColumns,
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
        with_lines: bool = False,
    ) -> tuple[Self, ScaledRows]:
        """Return the encoding of a table, and its rows with scaled numbers in a dtype.

        The parameters are those of a `TableEncoder`. Target statistics of a row come from rows of
        other groups, if there are any. Only a few columns are in double precision at once. With
        lines, `CategoryLines` are fitted to continuous targets of tables that are not sparse.
        """
        kinds = find_kinds(columns, categorical_features, column_kinds or {})
        category_columns = [at for at, kind in enumerate(kinds) if kind == "category"]
        levels, codes = _fit_levels(columns, category_columns, min_frequency)
        statistics, target = None, None if y is None else np.asarray(y)
        if target is not None and target.ndim == 2 and target.shape[1] == 1:
            target = target[:, 0]
        if target is not None and target.ndim != 1:
            target = None
        if target is not None and len(target) != columns.n_rows:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {columns.n_rows} and {len(target)}."
            )
        is_one_hot = encoding == "one_hot"
        categories = OneHot.fit(levels, max_categories) if is_one_hot else OrdinalCodes.fit(levels)
        many = with_many_categories(levels, max_categories)
        if many and is_one_hot and target is not None:
            statistics = TargetEncoding.fit(
                codes[:, many].astype(np.intp), target, target_type, random_state, groups
            )
        fit_lines = None
        if with_lines and target is not None and target_type == "continuous":
            fit_lines = partial(_fit_lines, codes, levels, target, statistics, random_state, groups)
        return cls.from_categories(
            columns,
            kinds,
            levels,
            codes,
            categories,
            statistics,
            many,
            random_state,
            dtype,
            fit_lines,
        )

    @classmethod
    def from_categories(
        cls,
        columns: AnyColumns,
        kinds: Sequence[Kind],
        levels: Sequence[CategoryLevels],
        codes: Array,
        categories: OneHot | OrdinalCodes,
        statistics: TargetEncoding | None,
        target_encoded: Sequence[int],
        random_state: Any,
        dtype: Any = np.float64,
        fit_lines: Callable[..., CategoryLines | None] | None = None,
    ) -> tuple[Self, ScaledRows]:
        """Fit the encoding of numbers, dates and text, given that of categories.

        Only a few columns are in double precision at once.

        Parameters
        ----------
        columns : AnyColumns
            The table, or a sample of its rows.
        kinds, levels : object
            As for the class.
        codes : array of int of shape (n, n_categorical)
            The codes of categories.
        categories, statistics, target_encoded : object
            As for the class. The folds of `statistics` are those of these rows.
        random_state : int, RandomState instance or None
            Draws the start of a truncated SVD.
        dtype : dtype, default=np.float64
            The dtype of the scaled numbers.
        fit_lines : callable or None, default=None
            Returns the lines of categories, given a function from rows and positions to the scaled
            numeric columns of a table that is not sparse, and a mask of those that may have lines.

        Returns
        -------
        encoding : FittedEncoding
            The encoding.
        rows : ScaledRows
            The rows of `columns`, with out-of-fold target statistics.
        """
        numeric_columns = [at for at, kind in enumerate(kinds) if kind in _NUMERIC_KINDS]
        category_columns = [at for at, kind in enumerate(kinds) if kind == "category"]
        part_columns = [at for at, kind in enumerate(kinds) if kind in ("date", "time")]
        part_columns += [at for at, kind in enumerate(kinds) if kind == "text"]
        is_sparse, out_of_fold, folds = isinstance(columns, SparseColumns), None, None
        if statistics is not None and isinstance(categories, OneHot):
            statistics = statistics.without_codes(
                [categories.codes_with_output(at) for at in target_encoded]
            )
            folds = statistics.folds
            out_of_fold = statistics.encode_training_rows(codes[:, target_encoded])
        parts, lines = list[ColumnEncoding](), None
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
            if fit_lines is not None and numeric_columns and category_columns:
                lines = fit_lines(scaled.take, scaled.scaling.scaled)
            if out_of_fold is not None:
                scaled.append(out_of_fold)
            if lines is not None:
                folds = lines.folds
                z = scaled.take(slice(None), lines.numbers)
                scaled.append(lines.encode(codes, z, folds))
            for column in part_columns:
                part, encoded = _fit_part(columns, column, kinds[column], random_state)
                parts.append(part)
                scaled.append_part(encoded, part.kind == "text")
            scaling, numbers = scaled.scaling, scaled.matrix
        fitted = cls(
            numeric_columns,
            category_columns,
            scaling,
            levels,
            categories,
            statistics,
            target_encoded,
            is_sparse,
            kinds,
            part_columns,
            parts,
            lines,
        )
        return fitted, ScaledRows(columns, numbers, codes, folds)

    def to_matrices(self, columns: AnyColumns, folds: Array | None = None) -> TableRows:
        """Return the rows of a table as numbers and codes.

        With folds, what was learned from the target is out of fold.
        """
        codes = np.empty((columns.n_rows, len(self.levels)), dtype=np.intp)
        pairs = zip(self.category_columns, self.levels, strict=True)
        for position, (column, levels) in enumerate(pairs):
            codes[:, position] = levels.encode(columns.values(column), columns.first_row)
        return TableRows(self.read_numbers(columns, codes, folds), codes)

    def read_numbers(self, columns: AnyColumns, codes: Array, folds: Array | None) -> Any:
        """Return the numbers of a table, given the codes of its categories."""
        numbers = _read_numbers(columns, self.numeric_columns, self._conversions)
        statistics = self.statistics
        if statistics is not None:
            own = codes[:, self.target_encoded]
            encoded = statistics.encode(own)
            if folds is not None:
                encoded = statistics.encode_training_rows(own, folds)
            numbers = _append_columns(numbers, encoded)
        if self.lines is not None:
            numbers = _append_columns(numbers, self._heights_of_lines(numbers, codes, folds))
        for column, part in zip(self.part_columns, self.parts, strict=True):
            values = _read_part(columns, column, part.kind)
            numbers = _append_columns(numbers, part.encode(values))
        return numbers

    def _heights_of_lines(self, numbers: Array, codes: Array, folds: Array | None) -> Array:
        assert self.lines is not None
        z = numbers[:, self.lines.numbers]
        scaling = self.numbers.take(list(self.lines.numbers))
        return self.lines.encode(codes, scaling.scale_values(z), folds)

    def update_lines(self, rows: TableRows, folds: Array | None = None) -> TableRows:
        """Return rows of which some columns were replaced, with the heights of lines for them.

        With folds, they are out of fold.
        """
        if self.lines is None:
            return rows
        numbers, columns = rows.numbers.copy(), self._columns_of_lines
        numbers[:, columns] = self._heights_of_lines(numbers, rows.codes, folds)
        return rows._replace(numbers=numbers)

    @property
    def _columns_of_lines(self) -> slice:
        """The heights of lines among the numbers."""
        first = len(self.numeric_columns)
        first += 0 if self.statistics is None else len(self.statistics.columns)
        return slice(first, first + (0 if self.lines is None else len(self.lines.lines)))

    @property
    def folds(self) -> Array | None:
        """The fold of each training row in what was learned from the target, if anything was."""
        for learned in (self.lines, self.statistics):
            if learned is not None:
                return learned.folds
        return None

    def scale(self, rows: TableRows) -> Array:
        """Return the scaled numbers of rows, in single precision."""
        numbers = sparse.csr_array(rows.numbers) if self.is_sparse else rows.numbers
        scaled = np.empty(numbers.shape, np.float32)
        for start in range(0, len(scaled), _ROWS):
            block = slice(start, start + _ROWS)
            scaled[block] = self.numbers.scale_values(as_dense(numbers[block]))
        return scaled

    def to_training_matrices(self, columns: AnyColumns, folds: Array | None = None) -> TableRows:
        """Return training rows, with out-of-fold target statistics and lines as in `fit`.

        Without folds, these are all rows that `fit` was given, in the same order.
        """
        folds = self.folds if folds is None else folds
        is_known = folds is not None and len(folds) == columns.n_rows
        return self.to_matrices(columns, folds if is_known else None)

    @cached_property
    def _conversions(self) -> dict[int, Kind]:
        return _conversions(self.kinds)

    def encode(self, rows: TableRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            blocks = [
                self.numbers.encode_sparse(rows.numbers),
                self.categories.encode_sparse(rows.codes),
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
        self.categories.encode(codes, out[:, n_numeric:])

    def encode_scaled(self, rows: ScaledRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for training rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            return self.encode(TableRows(rows.numbers, rows.codes), dtype)
        out = np.empty((len(rows.codes), self.n_outputs), dtype=dtype)
        for start in range(0, len(out), _ROWS):
            block = slice(start, start + _ROWS)
            self.write_outputs(rows.numbers[block], rows.codes[block], out[block])
        return out

    def matrix_columns(self, column: int) -> tuple[list[int], list[int]]:
        """Return the columns of the matrices of numbers and codes that come from a column."""
        numbers = [at for at, own in enumerate(self.numeric_columns) if own == column]
        codes = [at for at, own in enumerate(self.category_columns) if own == column]
        if self.statistics is not None:
            first = len(self.numeric_columns)
            positions = [self.target_encoded[at] for at in self.statistics.columns]
            numbers += [first + at for at, own in enumerate(positions) if own in codes]
        n_parts = sum(len(part.suffixes) for part in self.parts)
        first = len(self.numbers.center) - n_parts
        for own, part in zip(self.part_columns, self.parts, strict=True):
            if own == column:
                numbers += range(first, first + len(part.suffixes))
            first += len(part.suffixes)
        return numbers, codes

    def name_kinds(self, names: Any) -> dict[Any, str]:
        """Return the kind of each column, as users see it, by its name or its position."""
        keys = range(len(self.kinds)) if names is None else names
        public = ["number" if kind == "numeric_string" else kind for kind in self.kinds]
        return dict(zip(keys, public, strict=True))

    @property
    def n_embedded(self) -> int:
        """The number of scaled outputs, which come first, without those of text."""
        n_text = sum(len(part.suffixes) for part in self.parts if part.kind == "text")
        scaled, _, _ = self.numbers.input_columns
        return int(np.sum(scaled < len(self.numbers.center) - n_text))

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
        if self.lines is not None:
            for category, number in zip(self.lines.categories, self.lines.numbers, strict=True):
                suffix = f"_line_{self.numeric_columns[number]}"
                inputs.append(OutputColumn("target", self.category_columns[category], suffix))
        for column, part in zip(self.part_columns, self.parts, strict=True):
            inputs += [OutputColumn(part.output_type, column, suffix) for suffix in part.suffixes]
        scaled, two_valued, with_missing = self.numbers.input_columns
        outputs = [inputs[at] for at in scaled]
        outputs += [inputs[at]._replace(type="two_valued") for at in two_valued]
        outputs += [OutputColumn("missing", inputs[at].column, "_missing") for at in with_missing]
        for at, suffix in self.categories.outputs():
            column = self.category_columns[at]
            outputs.append(OutputColumn(self.categories.output_type, column, suffix))
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

    def append_part(self, values: Array, is_text: bool) -> None:
        """Fit the scaling of the parts of one column, and scale them."""
        scaling = RobustScaling.fit(values)
        # All parts of a value are missing together, so that one indicator is enough.
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


def _fit_lines(
    codes: Array,
    levels: Sequence[CategoryLevels],
    y: Array,
    statistics: TargetEncoding | None,
    random_state: Any,
    groups: Array | None,
    take: Callable[[slice, Sequence[int]], Array],
    may_have_lines: Array,
) -> CategoryLines | None:
    """Return the lines of categories, by the folds of target statistics if there are any."""
    draw_folds = partial(draw_target_folds, len(y), random_state, groups)
    n_codes = [own.n_codes for own in levels]
    if statistics is not None:
        draw_folds = partial(np.asarray, statistics.folds)
    return CategoryLines.fit(codes, take, may_have_lines, np.asarray(y, float), draw_folds, n_codes)


def _fit_levels(
    columns: AnyColumns, category_columns: Sequence[int], min_frequency: int
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


# The kinds of columns that are read as one number.
_NUMERIC_KINDS = ("number", "numeric_string", "duration")


def _conversions(kinds: Sequence[Kind]) -> dict[int, Kind]:
    """Return the numeric columns that are read as something else than numbers."""
    return {
        column: kind
        for column, kind in enumerate(kinds)
        if kind in _NUMERIC_KINDS and kind != "number"
    }


def _read_numbers(
    columns: AnyColumns, numeric_columns: Sequence[int], conversions: Mapping[int, Kind]
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
        matrix[:, position] = columns.converted(column, conversions[column])
    return matrix


def _read_part(columns: AnyColumns, column: int, kind: str) -> Any:
    """Return the values of a column as its encoding takes them."""
    if kind == "date":
        return columns.dates(column)
    return columns.converted(column, "time") if kind == "time" else columns.texts(column)


def _fit_part(
    columns: AnyColumns, column: int, kind: Kind, random_state: Any
) -> tuple[ColumnEncoding, Array]:
    """Return the encoding of a column as several numbers, and these numbers."""
    values, label = _read_part(columns, column, kind), columns.label(column)
    part: ColumnEncoding
    if kind == "date":
        part = DateEncoding.fit(values, label)
    elif kind == "time":
        part = TimeEncoding(label)
    else:
        part = TextEncoding.fit(values, label, check_random_state(random_state))
    return part, part.encode(values)


def with_many_categories(levels: Sequence[CategoryLevels], max_categories: float) -> list[int]:
    """Return the positions of categorical columns with more categories than are encoded one-hot."""
    return [position for position, own in enumerate(levels) if own.n_codes > max_categories]


def find_kinds(
    columns: AnyColumns, categorical_features: Any, column_kinds: Mapping[Any, Kind]
) -> list[Kind]:
    """Return the kind of each column.

    `column_kinds` comes first, then `categorical_features`, and then the values.

    Raises
    ------
    ValueError
        If a column can't be of the given kind, or is categorical without being named.
    """
    by_dtype = isinstance(categorical_features, str)
    is_category = np.zeros(columns.n_columns, dtype=bool)
    if not by_dtype:
        given = _check_categorical_features(columns.as_given, categorical_features)
        is_category = is_category if given is None else given
    given_kinds = _positions_of(column_kinds, columns)
    kinds: list[Kind] = []
    for column in range(columns.n_columns):
        given_kind = given_kinds.get(column, "category" if is_category[column] else None)
        if given_kind == "category":
            kinds.append("category")
            continue
        kind = columns.kind(column)
        if given_kind is not None:
            kind = _override_kind(columns, column, kind, given_kind)
        elif kind == "category" and not by_dtype:
            raise ValueError(
                f"{columns.label(column)} is not numeric, but is not among the "
                f"categorical_features={categorical_features!r}. Add it, convert it to numbers, or "
                'set categorical_features="from_dtype" to treat all such columns as categories.'
            )
        kinds.append(kind)
    return kinds


def _positions_of(column_kinds: Mapping[Any, Kind], columns: AnyColumns) -> dict[int, Kind]:
    """Return `column_kinds` by the positions of columns."""
    names = None if columns.names is None else list(columns.names)
    by_position: dict[int, Kind] = {}
    for key, kind in column_kinds.items():
        if kind not in GIVEN_KINDS:
            raise ValueError(
                f"column_kinds must map each column to one of {list(GIVEN_KINDS)}, got {kind!r} "
                f"for the column {key!r}."
            )
        if names is not None and key in names:
            by_position[names.index(key)] = kind
        elif isinstance(key, Integral) and 0 <= int(key) < columns.n_columns:
            by_position[int(key)] = kind
        else:
            known = f"0 to {columns.n_columns - 1}" if names is None else f"{names}"
            raise ValueError(
                f"column_kinds must name columns of X, got {key!r}. The columns are {known}."
            )
    return by_position


def _override_kind(columns: AnyColumns, column: int, kind: Kind, given: Kind) -> Kind:
    """Return the given kind of a column whose values are of another; raise if it can't be."""
    if given == kind or (given == "number" and kind in _NUMERIC_KINDS):
        return kind
    label = columns.label(column)
    is_string = kind in ("category", "text", "date", "numeric_string")
    if given == "text" and not isinstance(columns, SparseColumns):
        return "text"
    if given in ("number", "date") and is_string:
        known = [value for value in columns.values(column) if not is_missing(value)]
        strings = [value for value in known if isinstance(value, str)]
        if given == "number":
            if not all(math.isnan(parse_number(value)) for value in strings):
                return "numeric_string"
        elif all(
            find_role(type(value)) == "date"
            or (isinstance(value, str) and (value.isspace() or not value or parse_iso_date(value)))
            for value in known
        ):
            return "date"
    raise ValueError(
        f"{label} can't be of the kind {given!r} that column_kinds gives: its values are of the "
        f"kind {kind!r}. Numbers may be strings such as '1,234' or '12 %', and dates strings in "
        "ISO 8601 format such as '2024-12-31'. Convert the column, or remove it from column_kinds."
    )


def _append_columns(numbers: Any, more: Array) -> Any:
    """Return a dense or sparse matrix with more columns."""
    if isinstance(numbers, np.ndarray):
        return np.hstack([numbers, more])
    return sparse.hstack([numbers, sparse.csc_array(more)], format="csc")


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
    def fit(cls, columns: Iterable[Array], rng: np.random.RandomState) -> Self:
        """Fit the blocks to columns of scaled numbers."""
        bin_edges = [find_bin_edges(column, N_BINS) for column in columns]
        shape, seed = (len(bin_edges), N_BINS), draw_seed(rng)
        waves = PeriodicFeatures(N_FREQUENCIES, random_state=seed).fit(np.zeros((1, shape[0])))
        lower, width, least, most, shift = (np.zeros(shape, np.float32) for _ in range(5))
        width[...] = np.inf
        for column, edges in enumerate(bin_edges):
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
        # On matrices of all blocks side by side, in a third of the time of arrays of blocks.
        n_rows, n_blocks, _ = out.shape
        x = np.repeat(numbers, N_BINS, axis=1)
        values = x * self.frequencies.reshape(-1)
        values += self.phases.reshape(-1)
        np.cos(values, out=values)
        out[:, :, :N_FREQUENCIES] = values.reshape(n_rows, n_blocks, N_FREQUENCIES)
        x -= self.lower.reshape(-1)
        with np.errstate(over="ignore"):  # for values far outside of narrow bins
            x /= self.width.reshape(-1)
        np.maximum(x, self.least.reshape(-1), out=x)
        np.minimum(x, self.most.reshape(-1), out=x)
        x -= self.shift.reshape(-1)
        out[:, :, N_FREQUENCIES:] = x.reshape(n_rows, n_blocks, N_BINS)


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
    blocks : NumericBlockEncoder or None
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
        column_kinds: Mapping[Any, Kind] | None = None,
    ) -> tuple[Self, EncodedTable]:
        """Fit the features to a table.

        Parameters
        ----------
        columns : AnyColumns
            The table.
        y : array of shape (n,) or None
            The target, which encodes columns with many categories.
        target_type, categorical_features : object
            As in `TableEncoder`.
        rng : RandomState
            Draws frequencies, the folds of target statistics, and the start of a truncated SVD.
        groups : array of int of shape (n,) or None, default=None
            The group of each row. Its target statistics come from rows of other groups.
        column_kinds : dict or None, default=None
            As in `TableEncoder`.

        Returns
        -------
        features : FeatureBuilder
            The fitted features.
        table : EncodedTable
            The training rows, with out-of-fold target statistics.
        """
        encoding, rows = FittedEncoding.fit(
            columns,
            y,
            categorical_features,
            column_kinds=column_kinds,
            target_type=target_type,
            random_state=rng,
            groups=groups,
            dtype=np.float32,
            with_lines=True,
        )
        return cls.from_encoding(encoding, rows, rng, columns.n_rows)

    @classmethod
    def from_encoding(
        cls, encoding: FittedEncoding, rows: ScaledRows, rng: np.random.RandomState, n_rows: int
    ) -> tuple[Self, EncodedTable]:
        """Return the features, given an encoding and the rows that it was fitted to.

        Numbers have blocks if those of `n_rows` rows fit into memory.
        """
        codes = tuple(_codes_by_frequency(levels.counts) for levels in encoding.levels)
        features, numbers = cls(encoding, None, codes), rows.numbers
        if encoding.is_sparse:
            numbers = encoding.scale(TableRows(numbers, rows.codes))
        n_numbers = encoding.n_embedded
        n_rows = min(_BLOCK_ROWS, n_rows)
        if n_numbers and n_numbers * WIDTH * n_rows <= _MAX_BLOCK_ELEMENTS:
            filled = (encoding.numbers.filled_column(numbers, at) for at in range(n_numbers))
            features = replace(features, blocks=NumericBlockEncoder.fit(filled, rng))
        return features, EncodedTable(features, rows._replace(numbers=numbers))

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

    def encode_table(self, columns: AnyColumns, folds: Array | None = None) -> EncodedTable:
        """Return a table encoded in few bytes; with folds, target statistics are out of fold."""
        dtype = np.min_scalar_type(max((own.n_codes for own in self.encoding.levels), default=0))
        numbers = np.empty((columns.n_rows, len(self.encoding.numbers.center)), np.float32)
        codes = np.empty((columns.n_rows, len(self.codes)), dtype)
        for start in range(0, columns.n_rows, _ROWS_READ):
            block = slice(start, start + _ROWS_READ)
            own_folds = None if folds is None else folds[block]
            rows = self.encoding.to_matrices(columns.part(block), own_folds)
            numbers[block], codes[block] = self.encoding.scale(rows), rows.codes
        return EncodedTable(self, ScaledRows(columns, numbers, codes, folds))

    def encode(self, rows: TableRows) -> TableRows:
        """Return rows with their encoding as a dense array; a column of zeros if it is empty."""
        encoded = as_dense(self.encoding.encode(rows, np.dtype(np.float32)))
        if not encoded.shape[1]:
            encoded = np.zeros((len(encoded), 1), np.float32)
        return rows._replace(encoded=encoded)

    def transform(self, rows: TableRows | EncodedTable, view: FeatureView) -> Any:
        """Return encoded rows in a view, those of an `EncodedTable` as by its own method."""
        if isinstance(rows, EncodedTable):
            return rows.view(view)
        if view == "table":
            pairs = zip(self.codes, rows.codes.T, strict=True)
            codes = [table_codes[column] for table_codes, column in pairs]
            return np.column_stack([as_dense(rows.numbers), *codes])
        encoded: Array = rows.encoded
        if view == "encoded" or self.blocks is None:
            return encoded
        n_rows, n_blocks = len(encoded), len(self.blocks)
        width = n_blocks * WIDTH
        out = np.empty((n_rows, width + encoded.shape[1]), np.float32)
        out[:, width:] = encoded
        for start in range(0, n_rows, _ROWS_OF_BLOCKS):
            self._write_blocks(out[start : start + _ROWS_OF_BLOCKS])
        return out

    def write_view(self, scaled: Array, codes: Array, view: FeatureView, out: Array) -> None:
        """Write a view, other than "table", of scaled numbers and codes to an array."""
        first = self.n_blocks * WIDTH if view == "embedded" else 0
        if not self.encoding.n_outputs:
            out[:, first:] = 0
        for start in range(0, len(out), _ROWS_OF_BLOCKS):
            rows = slice(start, start + _ROWS_OF_BLOCKS)
            encoded = out[rows, first : first + self.encoding.n_outputs]
            self.encoding.write_outputs(scaled[rows], codes[rows], encoded)
            if first:
                self._write_blocks(out[rows])

    def _write_blocks(self, out: Array) -> None:
        """Write the blocks of numbers that are in the columns after them."""
        assert self.blocks is not None
        n_blocks = len(self.blocks)
        width = n_blocks * WIDTH
        blocks = out[:, :width].reshape(len(out), n_blocks, WIDTH)
        self.blocks.write(out[:, width : width + n_blocks], blocks)


@dataclass(frozen=True, eq=False)
class EncodedTable:
    """Rows of a table in few bytes, and the inputs of models that are computed from them.

    Parameters
    ----------
    features : FeatureBuilder
        The fitted features.
    rows : ScaledRows
        The rows, in single precision.
    """

    features: FeatureBuilder
    rows: ScaledRows

    def view(self, view: FeatureView) -> Array | LazyMatrix:
        """Return the rows in a view: an array if it is small or the table, else a lazy matrix."""
        if view == "table":
            return self._table()
        lazy = self.lazy_view(view)
        return lazy[:] if math.prod(lazy.shape) <= _MAX_DENSE_ELEMENTS else lazy

    def lazy_view(self, view: FeatureView) -> LazyMatrix:
        """Return the rows in a view other than "table", computed when they are read."""
        return LazyView(self, view)

    def _table(self) -> Array:
        """Return the view "table", read once more in blocks of rows."""
        features, (columns, _, codes, folds) = self.features, self.rows
        assert columns is not None
        out = np.empty((columns.n_rows, len(features.is_nominal)))
        for start in range(0, len(out), _ROWS_READ):
            block = slice(start, start + _ROWS_READ)
            own_folds = None if folds is None else folds[block]
            numbers = features.encoding.read_numbers(columns.part(block), codes[block], own_folds)
            out[block] = features.transform(TableRows(numbers, codes[block]), "table")
        return out


class LazyView(LazyMatrix):
    """View of an encoded table, computed for the rows that are read.

    Parameters
    ----------
    table : EncodedTable
        The table.
    view : FeatureView
        The view, other than "table".
    """

    def __init__(self, table: EncodedTable, view: FeatureView) -> None:
        features = table.features
        width = features.n_encoded + (features.n_blocks * WIDTH if view == "embedded" else 0)
        super().__init__((len(table.rows.codes), width), np.dtype(np.float32))
        self._features, self._rows, self._view = features, table.rows, view

    def write_rows(self, rows: slice | Array, out: Array) -> None:
        """Write rows to an array."""
        _, numbers, codes, _ = self._rows
        self._features.write_view(numbers[rows], codes[rows], self._view, out)


def _codes_by_frequency(counts: Sequence[int]) -> Array:
    """Return the frequency rank of each code, and NaN for code 0."""
    ranks = np.argsort(np.argsort(-np.array(counts, dtype=float), kind="stable"))
    return np.append(np.nan, np.minimum(ranks, _MAX_CATEGORIES_OF_TREES - 1))


def draw_seed(rng: np.random.RandomState) -> int:
    """Draw a seed."""
    return int(rng.randint(np.iinfo(np.int32).max))
