"""Data frames, arrays and sparse matrices, read column by column with inferred types."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
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


class _TypeRoles(dict[type, Role]):
    """The role of the values of each type, found when it is first asked for."""

    def __missing__(self, type_: type) -> Role:
        self[type_] = role = _find_role(type_)
        return role


ROLES = _TypeRoles()


def _find_role(type_: type) -> Role:
    """Return the role of a type's values; those that nothing can be made of are "other"."""
    if type_ is type(None) or type_.__name__ in ("NAType", "NaTType"):  # pandas's
        return "missing"
    # Dates come first, for NumPy's timedelta64 is one of its integers.
    if issubclass(type_, _DATES) or type_.__name__ == "Period":  # pandas's
        return "date"
    if issubclass(type_, _NUMBERS):
        return "number"
    if issubclass(type_, (complex, np.complexfloating)) or type_.__hash__ is None:
        return "other"
    return "level"


def types_in(values: Sequence[Any]) -> dict[Role, type]:
    """Return the roles that occur among values, each with a type that has it."""
    return {ROLES[type_]: type_ for type_ in set(map(type, values))}


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas's NA or NaT."""
    is_nan = isinstance(value, (float, np.floating, Decimal)) and value != value
    return is_nan or ROLES[type(value)] == "missing"


def infer_column_kind(values: Sequence[Any], label: str) -> Kind:
    """Return whether the values of a column are numbers or levels; none at all are numbers.

    Raises
    ------
    TypeError
        If one is neither a number nor a level.
    ValueError
        If they are dates, or numbers and levels mixed.
    """
    types = types_in(values)
    if "other" in types:
        raise_unsupported(values, label)
    if "date" in types:
        raise_datetime(label, types["date"].__name__)
    if "number" in types and "level" in types:  # the numbers may be NaN, which is missing
        types = types_in([value for value in values if not is_missing(value)])
    if "number" in types and "level" in types:
        row, level = _first(values, "level")
        raise ValueError(
            f"{label} holds numbers ({types['number'].__name__}) beside other values "
            f"({types['level'].__name__}), such as {short_repr(level)} in row {row}. Make numbers "
            "of all of it, as "
            'pandas.to_numeric(..., errors="coerce") does, or strings, as astype(str) does.'
        )
    return "category" if "level" in types else "number"


def floats_of(values: Sequence[Any], label: str, first_row: int = 0) -> Array:
    """Return the values of a column of numbers as float64, with NaN for what is missing.

    Parameters
    ----------
    values : sequence
        The values.
    label : str
        What an error calls the column.
    first_row : int, default=0
        The number of the first row in the table, for errors.

    Raises
    ------
    TypeError
        If one is neither a number nor a level.
    ValueError
        If some are dates or levels.
    """
    types = types_in(values)
    if "other" in types:
        raise_unsupported(values, label, first_row)
    if "date" in types:
        raise_datetime(label, types["date"].__name__)
    if "level" in types:
        row, level = _first(values, "level")
        raise ValueError(
            f"{label} held numbers in fit, and holds {short_repr(level)} ({type(level).__name__}) "
            f"now, in row {first_row + row}. Make numbers of its values, with NaN for what is "
            "none, or fit anew."
        )
    if "missing" in types:  # NumPy takes None for NaN, but not pandas's NA
        values = [np.nan if ROLES[type(value)] == "missing" else value for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        raise_infinite(label)


def _first(values: Iterable[Any], role: Role) -> tuple[int, Any]:
    """Return the place of the first value of a role, and the value."""
    return next(each for each in enumerate(values) if ROLES[type(each[1])] == role)


def raise_datetime(label: str, type_: object) -> NoReturn:
    """Raise the error about a column of dates."""
    raise ValueError(
        f"{label} holds dates, times or durations ({type_}), which are no numbers to train on. "
        "Make numbers of it, each a column of its own: days since a first date, as "
        "(dates - dates.min()).dt.days, the month (dates.dt.month), the day of the week "
        "(dates.dt.dayofweek) or the hour (dates.dt.hour); of a duration its "
        "dt.total_seconds(). (These are pandas's names.)"
    )


def raise_unsupported(values: Sequence[Any], label: str, first_row: int = 0) -> NoReturn:
    """Raise the error about a column that holds lists, dicts, complex numbers and the like.

    The error names the first such value; or the first value that is not missing, if only the
    dtype of the column is at fault.
    """
    rows = [row for row, value in enumerate(values) if _is_other(value)]
    row = rows[0] if rows else next(i for i, value in enumerate(values) if not is_missing(value))
    value = values[row]
    raise TypeError(
        f"{label} holds {short_repr(value)} in row {first_row + row}: argument must be a string "
        f"or a number, not {type(value).__name__!r}. Make columns of the parts of such values, "
        "one for each, or leave the column out."
    )


def _is_other(value: Any) -> bool:
    """Return whether a value is neither a number nor a level, as a tuple of lists is not."""
    if ROLES[type(value)] == "other":
        return True
    try:
        hash(value)
    except TypeError:
        return True
    return False


def raise_infinite(label: str) -> NoReturn:
    """Raise the error about a column that has infinite values."""
    raise ValueError(
        f"{label} has infinite values (infinity, or a value too large for float64). Replace them "
        "by NaN, if they stand for missing values, or by the largest value that makes sense."
    )


# A frame takes up to a tenth of a millisecond for each column that it is asked for. One of so few
# rows is read as an array of objects.
FEW_ROWS = 64

# The kinds of NumPy's dtypes that may hold numbers or categories.
_KINDS = "fiubOU"


class Columns:
    """What the columns of all tables have.

    The names, if there are any, are for errors, and so is the number that the first row has in a
    table of which these are a part.
    """

    def __init__(self, as_given: Any, names: Sequence[Any] | None, first_row: int = 0) -> None:
        self.as_given = as_given
        self.n_rows, self.n_columns = as_given.shape
        self.names = names
        self.first_row = first_row

    def label(self, column: int) -> str:
        """Return what an error calls a column."""
        return f"Column {column}" if self.names is None else f"Column {self.names[column]!r}"


class ArrayColumns(Columns):
    """The columns of an array of numbers, strings or objects."""

    def __init__(self, X: Array, names: Sequence[Any] | None, first_row: int = 0) -> None:
        super().__init__(X, names, first_row)
        self.X = X

    def kind(self, column: int) -> Kind:
        """Return what a column holds, or raise if it is neither numbers nor categories."""
        if self.X.dtype.kind == "O":
            return infer_column_kind(self.values(column), self.label(column))
        return "category" if self.X.dtype.kind == "U" else "number"

    def numbers(self, columns: Sequence[int]) -> Array:
        """Return columns of numbers as a float64 matrix, with NaN for what is missing."""
        if self.X.dtype.kind in "fiub":
            with np.errstate(over="ignore"):  # of which is told below
                numbers = self.X[:, columns].astype(np.float64)
            return _checked(self, numbers, columns)
        if self.X.dtype.kind == "O" and self.n_rows <= FEW_ROWS:
            # All at once, for a single row takes a quarter of the time of column by column.
            chosen = self.X[:, columns]
            if types_in(chosen.ravel().tolist()).keys() <= {"number"}:
                with suppress(OverflowError):  # which is told of the column
                    return _checked(self, chosen.astype(np.float64), columns)
        return _side_by_side(self, columns, self._floats)

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        values: list[Any] = self.X[:, column].tolist()
        return values

    def part(self, rows: slice) -> ArrayColumns:
        """Return some of the rows."""
        return ArrayColumns(self.X[rows], self.names, rows.start)

    def _floats(self, column: int) -> Array:
        return floats_of(self.values(column), self.label(column), self.first_row)


class FrameColumns(Columns):
    """The columns of a data frame."""

    def __init__(self, frame: nw.DataFrame[Any], first_row: int = 0) -> None:
        super().__init__(frame.to_native(), frame.columns, first_row)
        self.frame = frame
        self.dtypes = frame.schema.dtypes()

    def kind(self, column: int) -> Kind:
        """Return what a column holds, or raise if it is neither numbers nor categories."""
        dtype = self.dtypes[column]
        if is_of_numbers(dtype):
            return "number"
        if dtype in (nw.String, nw.Categorical, nw.Enum):
            return "category"
        if dtype.is_temporal():
            raise_datetime(self.label(column), dtype)
        values, label = self.values(column), self.label(column)
        if dtype == nw.Binary and any(value is not None for value in values):
            raise_unsupported(values, label)
        return infer_column_kind(values, label)

    def numbers(self, columns: Sequence[int]) -> Array:
        """Return columns of numbers as a float64 matrix, with NaN for what is missing."""
        return _side_by_side(self, columns, self._floats)

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        series = self.frame[:, column]
        if self.frame.implementation.is_pyarrow():
            return _values_of_arrow(series)
        return series.to_list()

    def part(self, rows: slice) -> FrameColumns:
        """Return some of the rows."""
        return FrameColumns(self.frame[rows], rows.start)

    def _floats(self, column: int) -> Array:
        if not is_of_numbers(self.dtypes[column]):
            return floats_of(self.values(column), self.label(column), self.first_row)
        series = self.frame[:, column]
        # Casts of pyarrow refuse integers beyond 2**53; NumPy rounds them, as Python does.
        is_long = self.dtypes[column] in (nw.Int64, nw.UInt64)
        floats: Array = (series if is_long else series.cast(nw.Float64)).to_numpy()
        return floats


class SparseColumns(Columns):
    """The columns of a sparse matrix of numbers."""

    def __init__(self, X: Any) -> None:
        super().__init__(X, None)
        self.X = csc_array(X)

    def kind(self, column: int) -> Kind:
        """Return that a column holds numbers."""
        return "number"

    def numbers(self, columns: Sequence[int]) -> Any:
        """Return columns as a sparse matrix of float64."""
        X = self.X[:, columns].astype(np.float64)
        if np.isinf(X.data).any():
            _checked(self, X.toarray(), columns)
        return X

    def values(self, column: int) -> list[Any]:
        """Return the values of a column, with its zeros."""
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
    """Return the columns of X; with `reset` the estimator takes note of their number and names.

    Raises
    ------
    TypeError, ValueError
        If X is no table, has no rows or columns, or others than in `fit`.
    """
    if not reset and _is_plain(estimator, X):
        return ArrayColumns(X, None)
    if nw.dependencies.is_into_dataframe(X):
        return _columns_of_frame(estimator, X, reset)
    if hasattr(X, "keys") and not issparse(X):  # of which one kind is a dict
        return _columns_of_rows(estimator, [X], reset)
    if isinstance(X, (list, tuple)) and X and all(isinstance(row, Mapping) for row in X):
        return _columns_of_rows(estimator, X, reset)
    if hasattr(X, "collect_schema"):
        raise TypeError(f"X is a lazy frame ({type(X).__name__}): pass what its collect() returns.")
    X = _as_array(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if issparse(X):
        return SparseColumns(X)
    return ArrayColumns(X, getattr(estimator, "feature_names_in_", None))


def copy_features(source: Any, target: Any) -> None:
    """Copy the number and names of features that `read_table` has set on another estimator."""
    target.n_features_in_ = source.n_features_in_
    names = vars(source).get("feature_names_in_")
    if names is not None:
        target.feature_names_in_ = names
    elif "feature_names_in_" in vars(target):
        del target.feature_names_in_


def _is_plain(estimator: Any, X: Any) -> bool:
    """Return whether X is an array that passes all checks, which take longer than one row."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.shape[1] == estimator.n_features_in_
        and len(X) > 0
        and X.dtype.kind in _KINDS
        and not hasattr(estimator, "feature_names_in_")
    )


def _columns_of_frame(estimator: Any, X: Any, reset: bool) -> AnyColumns:
    try:
        frame = nw.from_native(X, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            "X has several columns of one name, so that nobody could tell which of them is meant. "
            f"Give each a name of its own. ({error})"
        ) from error
    if reset or frame.columns != list(getattr(estimator, "feature_names_in_", [])):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if not all(frame.shape):
        raise ValueError(
            f"X has {frame.shape[0]} sample(s) (rows) and {frame.shape[1]} feature(s) (columns), "
            "and must have at least one of each."
        )
    if reset or len(frame) > FEW_ROWS:  # what columns hold is said by their dtypes
        return FrameColumns(frame)
    return ArrayColumns(_as_objects(frame), frame.columns)


def _as_objects(frame: nw.DataFrame[Any]) -> Array:
    """Return a frame as an array of Python objects."""
    native = nw.to_native(frame)
    if nw.dependencies.is_pandas_dataframe(native):
        objects: Array = native.to_numpy(dtype=object)
        return objects
    values = chain.from_iterable(frame.rows())
    return np.fromiter(values, dtype=object, count=frame.shape[0] * frame.shape[1]).reshape(
        frame.shape
    )


def _values_of_arrow(series: nw.Series[Any]) -> list[Any]:
    """Return the values of a column of pyarrow, whose own lists take 2 us for each."""
    if series.dtype == nw.Categorical and series.cat.get_categories().dtype == nw.String:
        series = series.cast(nw.String)
    if series.dtype != nw.String:
        return series.to_list()
    values: list[Any] = series.to_numpy().tolist()
    return values


def _columns_of_rows(estimator: Any, rows: Sequence[Any], reset: bool) -> ArrayColumns:
    """Return the columns of rows, each of which is a dict, a pandas Series, or the like."""
    names = getattr(estimator, "feature_names_in_", None)
    if reset or names is None:
        raise TypeError(
            "A dict, or what is like one, is one row, and goes with an estimator that was fitted "
            "to a data frame, whose names it has. Pass a frame (pandas.DataFrame makes one of a "
            "list of dicts, and to_frame() of a Series), or an array of shape (n_samples, "
            "n_features)."
        )
    known = set(names)
    values = np.empty((len(rows), len(names)), dtype=object)
    for i, row in enumerate(rows):
        label = "A row" if len(rows) == 1 else f"Row {i}"
        if set(row.keys()) != known:
            lacking = [name for name in names if name not in row.keys()]  # noqa: SIM118
            unknown = [name for name in row.keys() if name not in known]  # noqa: SIM118
            raise ValueError(
                f"{label} must have the names of the table that fit was given, with None for what "
                f"is missing. Names that it lacks: {lacking or 'none'}; others: "
                f"{unknown or 'none'}."
            )
        found = [row[name] for name in names]
        if any(map(_holds_several, set(map(type, found)))):
            name = next(name for name in names if _holds_several(type(row[name])))
            raise ValueError(
                f"A dict, or what is like one, is one row, but the value of {name!r} is a "
                f"{type(row[name]).__name__}. For several rows pass a list of dicts, or a data "
                "frame, as pandas.DataFrame makes of a dict of lists."
            )
        values[i] = found
    return ArrayColumns(values, names)


def _holds_several(type_: type) -> bool:
    """Return whether values of a type are lists, arrays, or the like."""
    is_sized = hasattr(type_, "__len__") and hasattr(type_, "__getitem__")
    return is_sized and not issubclass(type_, (str, bytes, tuple, dict))


def _as_array(X: Any) -> Any:
    """Return X as an array of two axes, or a sparse matrix, of any dtype that it may have."""
    if np.ma.is_masked(X):  # what is masked is missing
        is_masked, X = np.ma.getmaskarray(X), np.array(X, dtype=object)
        X[is_masked] = None
    reject_masked_or_structured(X, "X")
    if isinstance(X, (list, tuple)):
        try:
            array = np.asarray(X)
        except ValueError:  # of lists within rows, of which is told below
            array = np.asarray(X, dtype=object)
        X = np.asarray(X, dtype=object) if array.dtype.kind == "U" else array
    X = check_array(
        X, dtype=None, accept_sparse=("csc", "csr"), ensure_all_finite=False, input_name="X"
    )
    if X.dtype.kind in "mM":
        raise_datetime("X", X.dtype)
    if X.dtype.kind not in _KINDS:
        raise ValueError(
            f"X has dtype {X.dtype}, and must hold numbers, strings or objects. Bytes become "
            'strings by numpy.char.decode(X, "utf-8").'
        )
    return X


def _side_by_side(table: Columns, columns: Sequence[int], floats: Any) -> Array:
    matrix = np.empty((table.n_rows, len(columns)))
    for place, column in enumerate(columns):
        matrix[:, place] = floats(column)
    return _checked(table, matrix, columns)


def _checked(table: Columns, matrix: Array, columns: Sequence[int]) -> Array:
    """Return a matrix of numbers, checked for infinite ones."""
    is_infinite = np.isinf(matrix)
    if is_infinite.any():
        raise_infinite(table.label(columns[int(is_infinite.any(axis=0).argmax())]))
    return matrix


def is_of_numbers(dtype: Any) -> bool:
    """Return whether a dtype of narwhals is of numbers, or of booleans."""
    return dtype.is_numeric() or dtype == nw.Boolean
