"""Reading of data frames, arrays and sparse matrices by columns, with inferred types."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import cache, cached_property
from itertools import chain
from reprlib import repr as short_repr
from typing import Any, Literal, NoReturn, TypeAlias

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import csc_array, csr_array, issparse
from sklearn.utils.validation import check_array, validate_data

from ..estimators._validation import reject_masked_or_structured
from ..utils.arrays import Array

Kind = Literal["number", "category"]
Role = Literal["number", "level", "missing", "date", "other"]

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating, Decimal, Fraction)
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def _role_of_type(type_: type) -> Role:
    """Return the role of the values of a type; "other" for unsupported types."""
    if type_ is type(None) or type_.__name__ in ("NAType", "NaTType"):  # of pandas
        return "missing"
    # Dates come first, since timedelta64 is an integer type of NumPy.
    if issubclass(type_, _DATES) or type_.__name__ == "Period":  # of pandas
        return "date"
    if issubclass(type_, _NUMBERS):
        return "number"
    if issubclass(type_, (complex, np.complexfloating)) or type_.__hash__ is None:
        return "other"
    return "level"


find_role: Callable[[type], Role] = cache(_role_of_type)


def types_in(values: Sequence[Any]) -> dict[Role, type]:
    """Return the roles of values, each with one of their types."""
    return {find_role(type_): type_ for type_ in set(map(type, values))}


def check_types(values: Sequence[Any], label: str, first_row: int = 0) -> dict[Role, type]:
    """Return the roles of values; raise if some are dates or not supported."""
    types = types_in(values)
    if "other" in types:
        raise_unsupported(values, label, first_row)
    if "date" in types:
        raise_datetime(label, types["date"].__name__)
    return types


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas's NA or NaT."""
    is_nan = isinstance(value, (float, np.floating, Decimal)) and value != value
    return is_nan or find_role(type(value)) == "missing"


def infer_column_kind(values: Sequence[Any], label: str) -> Kind:
    """Return whether a column is numeric or categorical; an empty one is numeric.

    Raises
    ------
    TypeError
        If a value is not supported.
    ValueError
        If values are dates, or numbers mixed with other values.
    """
    types = check_types(values, label)
    if "number" in types and "level" in types:  # NaN is a missing value, not a number
        types = types_in([value for value in values if not is_missing(value)])
    if "number" in types and "level" in types:
        row, level = _find_first(values, "level")
        raise ValueError(
            f"{label} holds numbers ({types['number'].__name__}) and other values "
            f"({types['level'].__name__}), such as {short_repr(level)} in row {row}. Convert all "
            'to numbers, by pandas.to_numeric(..., errors="coerce"), or to strings, by '
            "astype(str)."
        )
    return "category" if "level" in types else "number"


def to_floats(values: Sequence[Any], label: str, first_row: int = 0) -> Array:
    """Return the values of a numeric column as float64, with NaN for missing values.

    Parameters
    ----------
    values : sequence
        The values.
    label : str
        The name of the column in errors.
    first_row : int, default=0
        The number of the first row in the table, for errors.

    Raises
    ------
    TypeError
        If a value is not supported.
    ValueError
        If values are dates or categories.
    """
    types = check_types(values, label, first_row)
    if "level" in types:
        row, level = _find_first(values, "level")
        raise ValueError(
            f"{label} held numbers in fit, and holds {short_repr(level)} ({type(level).__name__}) "
            f"now, in row {first_row + row}. Convert its values to numbers, with NaN for missing "
            "ones, or fit again."
        )
    if "missing" in types:  # NumPy converts None to NaN, but not the NA of pandas
        values = [np.nan if find_role(type(value)) == "missing" else value for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        raise_infinite(label)


def _find_first(values: Iterable[Any], role: Role) -> tuple[int, Any]:
    """Return the position of the first value of a role, and the value."""
    return next(each for each in enumerate(values) if find_role(type(each[1])) == role)


def raise_datetime(label: str, type_: object) -> NoReturn:
    """Raise an error about a column of dates."""
    raise ValueError(
        f"{label} holds dates, times or durations ({type_}), which are not numeric. Convert it to "
        "one or more numeric columns, with pandas: days since a first date, "
        "(dates - dates.min()).dt.days; the month, dates.dt.month; the day of the week, "
        "dates.dt.dayofweek; the hour, dates.dt.hour; or dt.total_seconds() of a duration."
    )


def raise_unsupported(values: Sequence[Any], label: str, first_row: int = 0) -> NoReturn:
    """Raise an error about a column with lists, dicts, complex numbers and the like.

    The error names the first such value, or the first one that is not missing if only the dtype of
    the column is unsupported.
    """

    def is_unsupported(value: Any) -> bool:
        try:
            hash(value)
        except TypeError:  # such as a tuple of lists
            return True
        return find_role(type(value)) == "other"

    rows = [row for row, value in enumerate(values) if is_unsupported(value)]
    row = rows[0] if rows else next(i for i, value in enumerate(values) if not is_missing(value))
    value = values[row]
    raise TypeError(
        f"{label} holds {short_repr(value)} in row {first_row + row}: argument must be a string "
        f"or a number, not {type(value).__name__!r}. Make one column of each part of such "
        "values, or leave the column out."
    )


def raise_infinite(label: str) -> NoReturn:
    """Raise an error about a column with infinite values."""
    raise ValueError(
        f"{label} has infinite values (infinity, or a value too large for float64). Replace them "
        "by NaN if they stand for missing values, or by the largest plausible value."
    )


# Access to a column of a frame takes up to a tenth of a millisecond. A frame with so few rows is
# read as an array of objects.
FEW_ROWS = 64

# The kinds of NumPy dtypes that may hold numbers or categories.
_KINDS = "fiubOU"


class TableColumns:
    """Columns of a table, or of a part of it.

    Parameters
    ----------
    as_given : data frame, array or sparse matrix
        The table.
    names : sequence or None
        The names of the columns.
    first_row : int, default=0
        The number of the first row in the whole table, for errors.
    """

    def __init__(self, as_given: Any, names: Sequence[Any] | None, first_row: int = 0) -> None:
        self.as_given = as_given
        self.n_rows, self.n_columns = as_given.shape
        self.names, self.first_row = names, first_row

    def label(self, column: int) -> str:
        """Return the name of a column in errors."""
        return f"Column {column}" if self.names is None else f"Column {self.names[column]!r}"

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        raise NotImplementedError

    def numbers(self, columns: Sequence[int]) -> Any:
        """Return numeric columns as a float64 matrix, with NaN for missing values."""
        matrix = np.empty((self.n_rows, len(columns)))
        for position, column in enumerate(columns):
            matrix[:, position] = self._floats(column)
        return self._check_finite(matrix, columns)

    def _floats(self, column: int) -> Array:
        return to_floats(self.values(column), self.label(column), self.first_row)

    def _check_finite(self, matrix: Array, columns: Sequence[int]) -> Array:
        """Return a matrix of columns; raise if it has infinite values."""
        is_infinite = np.isinf(matrix)
        if is_infinite.any():
            raise_infinite(self.label(columns[int(is_infinite.any(axis=0).argmax())]))
        return matrix


class ArrayColumns(TableColumns):
    """Columns of an array of numbers, strings or objects."""

    def kind(self, column: int) -> Kind:
        """Return the kind of a column; raise if it is neither numeric nor categorical."""
        if self.as_given.dtype.kind == "O":
            return infer_column_kind(self.values(column), self.label(column))
        return "category" if self.as_given.dtype.kind == "U" else "number"

    def numbers(self, columns: Sequence[int]) -> Array:
        """Return numeric columns as a float64 matrix, with NaN for missing values."""
        X = self.as_given
        if X.dtype.kind in "fiub":
            with np.errstate(over="ignore"):  # infinite values are checked next
                numbers = X[:, columns].astype(np.float64)
            return self._check_finite(numbers, columns)
        if X.dtype.kind == "O" and self.n_rows <= FEW_ROWS:
            # Convert all columns at once, which is four times as fast for a single row.
            chosen = X[:, columns]
            if types_in(chosen.ravel().tolist()).keys() <= {"number"}:
                with suppress(OverflowError):  # raised again below, with the name of the column
                    return self._check_finite(chosen.astype(np.float64), columns)
        matrix: Array = super().numbers(columns)
        return matrix

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        values: list[Any] = self.as_given[:, column].tolist()
        return values

    def part(self, rows: slice) -> ArrayColumns:
        """Return some of the rows."""
        return ArrayColumns(self.as_given[rows], self.names, rows.start)


class FrameColumns(TableColumns):
    """Columns of a data frame."""

    def __init__(self, frame: nw.DataFrame[Any], first_row: int = 0) -> None:
        super().__init__(frame.to_native(), frame.columns, first_row)
        self.frame = frame
        self.dtypes = frame.schema.dtypes()

    def kind(self, column: int) -> Kind:
        """Return the kind of a column; raise if it is neither numeric nor categorical."""
        dtype = self.dtypes[column]
        if is_numeric(dtype):
            return "number"
        if dtype in (nw.String, nw.Categorical, nw.Enum):
            return "category"
        if dtype.is_temporal():
            raise_datetime(self.label(column), dtype)
        values, label = self.values(column), self.label(column)
        if dtype == nw.Binary and any(value is not None for value in values):
            raise_unsupported(values, label)
        return infer_column_kind(values, label)

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        series = self.frame[:, column]
        if not self.frame.implementation.is_pyarrow():
            return series.to_list()
        # Lists of pyarrow take 2 us for each value.
        if series.dtype == nw.Categorical and series.cat.get_categories().dtype == nw.String:
            series = series.cast(nw.String)
        if series.dtype != nw.String:
            return series.to_list()
        values: list[Any] = series.to_numpy().tolist()
        return values

    def part(self, rows: slice) -> FrameColumns:
        """Return some of the rows."""
        return FrameColumns(self.frame[rows], rows.start)

    def _floats(self, column: int) -> Array:
        if not is_numeric(self.dtypes[column]):
            return super()._floats(column)
        series = self.frame[:, column]
        # Casts of pyarrow raise for integers beyond 2**53, which NumPy rounds, as Python does.
        is_long = self.dtypes[column] in (nw.Int64, nw.UInt64)
        floats: Array = (series if is_long else series.cast(nw.Float64)).to_numpy()
        return floats


class SparseColumns(TableColumns):
    """Columns of a sparse matrix of numbers."""

    def __init__(self, X: Any) -> None:
        super().__init__(X, None)
        self.X = csc_array(X)

    def kind(self, column: int) -> Kind:
        """Return that a column is numeric."""
        return "number"

    def numbers(self, columns: Sequence[int]) -> Any:
        """Return columns as a sparse matrix of float64."""
        X = self.X[:, columns].astype(np.float64)
        if np.isinf(X.data).any():
            self._check_finite(X.toarray(), columns)
        return X

    def values(self, column: int) -> list[Any]:
        """Return the values of a column, zeros included."""
        values: list[Any] = self.X[:, [column]].toarray().ravel().tolist()
        return values

    def part(self, rows: slice) -> SparseColumns:
        """Return some of the rows."""
        return SparseColumns(self._by_row[rows])

    @cached_property
    def _by_row(self) -> csr_array:
        return csr_array(self.X)


AnyColumns: TypeAlias = ArrayColumns | FrameColumns | SparseColumns


def read_table(estimator: Any, X: Any, reset: bool) -> AnyColumns:
    """Return the columns of X; with `reset`, set their number and names on the estimator.

    Raises
    ------
    TypeError, ValueError
        If X is not a table, is empty, or has other columns than in `fit`.
    """
    if (
        not reset
        and type(X) is np.ndarray
        and X.ndim == 2
        and X.shape[1] == estimator.n_features_in_
        and len(X) > 0
        and X.dtype.kind in _KINDS
        and not hasattr(estimator, "feature_names_in_")
    ):  # X passes all checks, which take longer than a row
        return ArrayColumns(X, None)
    if nw.dependencies.is_into_dataframe(X):
        return _read_frame(estimator, X, reset)
    if hasattr(X, "keys") and not issparse(X):  # dok_matrix has keys
        return _read_rows(estimator, [X], reset)
    if isinstance(X, (list, tuple)) and X and all(isinstance(row, Mapping) for row in X):
        return _read_rows(estimator, X, reset)
    if hasattr(X, "collect_schema"):
        raise TypeError(f"X is a lazy frame ({type(X).__name__}). Pass X.collect().")
    X = _as_array(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if issparse(X):
        return SparseColumns(X)
    return ArrayColumns(X, getattr(estimator, "feature_names_in_", None))


def _read_frame(estimator: Any, X: Any, reset: bool) -> AnyColumns:
    try:
        frame = nw.from_native(X, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            f"X has several columns with the same name. Give each a name of its own. ({error})"
        ) from error
    if reset or frame.columns != list(getattr(estimator, "feature_names_in_", [])):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if not all(frame.shape):
        raise ValueError(
            f"X has {frame.shape[0]} sample(s) (rows) and {frame.shape[1]} feature(s) (columns), "
            "but must have at least one of each."
        )
    if reset or len(frame) > FEW_ROWS:  # in fit, dtypes determine the kinds of columns
        return FrameColumns(frame)
    native = nw.to_native(frame)
    if nw.dependencies.is_pandas_dataframe(native):
        return ArrayColumns(native.to_numpy(dtype=object), frame.columns)
    return ArrayColumns(_to_objects(chain.from_iterable(frame.rows()), frame.shape), frame.columns)


def _read_rows(estimator: Any, rows: Sequence[Any], reset: bool) -> ArrayColumns:
    """Return the columns of rows that are dicts, pandas Series, or the like."""
    names = getattr(estimator, "feature_names_in_", None)
    if reset or names is None:
        raise TypeError(
            "A dict, or the like, is one row, and needs an estimator that was fitted to a data "
            "frame, with its names. Pass a frame (by pandas.DataFrame from a list of dicts, or "
            "to_frame() of a Series), or an array of shape (n_samples, n_features)."
        )
    known = set(names)
    for i, row in enumerate(rows):
        if set(row.keys()) != known:
            lacking = [name for name in names if name not in row.keys()]  # noqa: SIM118
            unknown = [name for name in row.keys() if name not in known]  # noqa: SIM118
            raise ValueError(
                f"{'A row' if len(rows) == 1 else f'Row {i}'} must have the names of the table "
                f"that fit was given, with None for missing values. Missing names: "
                f"{lacking or 'none'}; unknown names: {unknown or 'none'}."
            )
    values = (row[name] for row in rows for name in names)
    return ArrayColumns(_to_objects(values, (len(rows), len(names))), names)


def _to_objects(values: Iterable[Any], shape: tuple[int, int]) -> Array:
    """Return values as an array of objects, which may be sequences."""
    objects: Array = np.fromiter(values, dtype=object, count=shape[0] * shape[1])
    return objects.reshape(shape)


def _as_array(X: Any) -> Any:
    """Return X as a 2d array or a sparse matrix, of any supported dtype."""
    if np.ma.is_masked(X):  # masked values are missing
        is_masked, X = np.ma.getmaskarray(X), np.array(X, dtype=object)
        X[is_masked] = None
    reject_masked_or_structured(X, "X")
    if isinstance(X, (list, tuple)):
        try:
            array = np.asarray(X)
        except ValueError:  # for lists within rows; a better error follows
            array = np.asarray(X, dtype=object)
        X = np.asarray(X, dtype=object) if array.dtype.kind == "U" else array
    X = check_array(
        X, dtype=None, accept_sparse=("csc", "csr"), ensure_all_finite=False, input_name="X"
    )
    if X.dtype.kind in "mM":
        raise_datetime("X", X.dtype)
    if X.dtype.kind not in _KINDS:
        raise ValueError(
            f"X has dtype {X.dtype}, but must hold numbers, strings or objects. Convert bytes to "
            'strings by numpy.char.decode(X, "utf-8").'
        )
    return X


def is_numeric(dtype: Any) -> bool:
    """Return whether a narwhals dtype is numeric or boolean."""
    return dtype.is_numeric() or dtype == nw.Boolean
