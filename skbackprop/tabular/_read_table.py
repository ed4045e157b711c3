"""Reading of data frames, arrays and sparse matrices by columns, with inferred types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from numbers import Integral
from reprlib import repr as short_repr
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from scipy.sparse import csc_array, issparse
from sklearn.utils.validation import check_array, validate_data

from ..training.diagnostics import warn
from ..utils.arrays import Array, as_dense
from ._column_values import (
    Doubt,
    InferredKind,
    Kind,
    as_microsecond_dates,
    as_seconds,
    convert_values,
    find_roles,
    infer_column_kind,
    infer_kind_of_strings,
    is_missing,
    raise_infinite,
    raise_unsupported,
)
from ._string_formats import DateFormat, NumberFormat, find_format, parse_strings

# The kinds of columns that `column_kinds` may name.
VALID_KINDS: tuple[Kind, ...] = ("number", "category", "text", "date", "time", "duration")

# The kinds of columns that are read as one number.
NUMERIC_KINDS = ("number", "duration")

# A frame with at most this number of rows is read as an array of objects, because access to each
# column of a frame takes up to a tenth of a millisecond.
FEW_ROWS = 64

# The reason for the kind of a column that the user has named.
_CHOSEN = "chosen"

# The kinds of NumPy dtypes that a column may have.
_KINDS = "fiubOUmM"


class TableColumns:
    """Columns of a table: here of an array of numbers, strings, dates or objects.

    Parameters
    ----------
    table : data frame, array or sparse matrix
        The table.
    names : sequence or None
        The names of the columns.

    Attributes
    ----------
    misfits : list of str
        For each column with strings that do not have its format, how many there are.
    """

    def __init__(self, table: Any, names: Sequence[Any] | None) -> None:
        self.table = table
        self.n_rows, self.n_columns = table.shape
        self.names = names
        self.misfits: list[str] = []

    def label(self, column: int) -> str:
        """Return the name of a column in errors."""
        return f"Column {column}" if self.names is None else f"Column {self.names[column]!r}"

    @property
    def keys(self) -> Sequence[Any]:
        """The names by which parameters select columns, or positions if there are no names.

        Integers are positions, as in scikit-learn, so columns with integer names have none.
        """
        if self.names is None or any(isinstance(name, Integral) for name in self.names):
            return range(self.n_columns)
        return list(self.names)

    def infer(self, column: int) -> InferredKind:
        """Return the kind of a column; raise if its values are mixed or not supported."""
        array = self.array(column)
        if array.dtype.kind in "OU":
            return infer_column_kind(array.tolist(), self.label(column))
        reason = f"dtype {array.dtype}"
        if array.dtype.kind == "M":
            return InferredKind("date", reason, DateFormat())
        return InferredKind("duration" if array.dtype.kind == "m" else "number", reason)

    def array(self, column: int) -> Array:
        """Return a column as an array, of objects if they are not numbers, dates or durations."""
        array: Array = self.table[:, column]
        return array

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        array = self.array(column)
        values: list[Any] = list(array) if array.dtype.kind in "mM" else array.tolist()
        return values

    def to_array(self) -> Array:
        """Return the table as an array, of objects if it is not numeric."""
        return np.asarray(as_dense(self.table))

    def numbers(self, columns: Sequence[int], kinds: Sequence[InferredKind]) -> Any:
        """Return columns with one number per value as a float64 matrix."""
        X = self.table
        # Convert all columns at once, which is four times as fast for a single row.
        if isinstance(X, np.ndarray) and all(kinds[column].kind == "number" for column in columns):
            is_numeric_array = X.dtype.kind in "fiub"
            if is_numeric_array or self.n_rows <= FEW_ROWS:
                part = X[:, columns]
                if is_numeric_array or find_roles(part.ravel().tolist()).keys() <= {"number"}:
                    with suppress(OverflowError), np.errstate(over="ignore"):
                        numbers: Array = part.astype(np.float64)
                        if not np.isinf(numbers).any():
                            return numbers
        matrix = np.empty((self.n_rows, len(columns)))
        for position, column in enumerate(columns):
            matrix[:, position] = self.read(column, kinds[column])
        return matrix

    def read(self, column: int, inferred: InferredKind) -> Any:
        """Return a column of any kind but "category" as it is encoded.

        Text is a list, dates are datetime64[us], and other kinds are float64. Missing values, and
        strings that do not have the format, are NaN or NaT.
        """
        kind, form, array = inferred.kind, inferred.format, self.array(column)
        dtype = array.dtype.kind
        if kind == "number" and dtype in "fiub":
            with np.errstate(over="ignore"):
                numbers = array.astype(np.float64, copy=False)
            if np.isinf(numbers).any():
                raise_infinite(self.label(column))
            return numbers
        if kind == "date" and dtype == "M":
            return as_microsecond_dates(array)
        if kind == "duration" and dtype == "m":
            return as_seconds(array)
        values = self.values(column)
        if form is not None:
            values, misfits = parse_strings(values, form)
            if misfits:
                self.misfits.append(
                    f"{self.label(column)}: {sum(misfits.values())} of {len(values)} values are "
                    f"not {form}, such as {short_repr(next(iter(misfits)))}"
                )
        return convert_values(values, kind, self.label(column))


class FrameColumns(TableColumns):
    """Columns of a data frame."""

    def __init__(self, frame: nw.DataFrame[Any]) -> None:
        super().__init__(frame.to_native(), frame.columns)
        self.frame = frame
        self.dtypes = frame.schema.dtypes()

    def infer(self, column: int) -> InferredKind:
        """Return the kind of a column; raise if its values are mixed or not supported."""
        dtype = self.dtypes[column]
        if is_numeric(dtype):
            return InferredKind("number", f"dtype {dtype}")
        if dtype in (nw.Categorical, nw.Enum):
            return InferredKind("category", f"dtype {dtype}")
        if dtype == nw.Time:
            return InferredKind("time", f"dtype {dtype}")
        if dtype == nw.String:
            return infer_kind_of_strings(self.values(column))
        if dtype == nw.Binary and (values := self.values(column)).count(None) < len(values):
            raise_unsupported(values, self.label(column))
        return super().infer(column)

    def array(self, column: int) -> Array:
        """Return a column as an array, of objects if they are not numbers, dates or durations."""
        dtype, series = self.dtypes[column], self.frame[:, column]
        if is_numeric(dtype):
            # Casts of pyarrow raise for integers beyond 2**53, which NumPy rounds, as Python does.
            return (
                series if dtype in (nw.Int64, nw.UInt64) else series.cast(nw.Float64)
            ).to_numpy()
        if dtype not in (nw.Date, nw.Datetime, nw.Duration):
            return _to_objects(self.values(column), (self.n_rows,))
        if getattr(dtype, "time_zone", None) is not None:
            series = series.dt.replace_time_zone(None)
        return series.to_numpy()

    def values(self, column: int) -> list[Any]:
        """Return the values of a column as Python objects."""
        return self.frame[:, column].to_list()

    def to_array(self) -> Array:
        """Return the table as an array of objects."""
        columns = [_to_objects(self.values(i), (self.n_rows,)) for i in range(self.n_columns)]
        return np.column_stack(columns)


class SparseColumns(TableColumns):
    """Columns of a sparse matrix of numbers, a CSC array."""

    def infer(self, column: int) -> InferredKind:
        """Return that a column is numeric."""
        return InferredKind("number", f"dtype {self.table.dtype}")

    def array(self, column: int) -> Array:
        """Return a column as an array, zeros included."""
        array: Array = self.table[:, [column]].toarray()
        return array.ravel()

    def numbers(self, columns: Sequence[int], kinds: Sequence[InferredKind]) -> Any:
        """Return columns as a sparse matrix of float64."""
        X = self.table[:, columns].astype(np.float64)
        is_infinite = np.isinf(X.data)
        if is_infinite.any():
            position = np.searchsorted(X.indptr, is_infinite.argmax(), side="right") - 1
            raise_infinite(self.label(columns[int(position)]))
        return X


def read_table(estimator: Any, X: Any, reset: bool) -> TableColumns:
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
        return TableColumns(X, None)
    if nw.dependencies.is_into_dataframe(X):
        return _read_frame(estimator, X, reset)
    if hasattr(X, "keys") and not issparse(X):  # dok_matrix has keys
        return _read_row_mappings(estimator, [X], reset)
    if isinstance(X, (list, tuple)) and X and all(isinstance(row, Mapping) for row in X):
        return _read_row_mappings(estimator, X, reset)
    if hasattr(X, "collect_schema"):
        raise TypeError(f"X is a lazy frame ({type(X).__name__}). Pass X.collect().")
    X = _as_array(X)
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    if isinstance(X, np.ndarray):
        return TableColumns(X, getattr(estimator, "feature_names_in_", None))
    return SparseColumns(csc_array(X), None)


def _read_frame(estimator: Any, X: Any, reset: bool) -> TableColumns:
    try:
        frame = nw.from_native(X, eager_only=True)
    except nw.exceptions.DuplicateError as error:
        raise ValueError(
            f"X has several columns with the same name. Rename them so that each name is "
            f"unique. ({error})"
        ) from error
    names = list(getattr(estimator, "feature_names_in_", []))
    if reset or frame.columns != names:
        try:
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        except ValueError as error:
            if reset or set(names) <= set(frame.columns):
                raise
            advice = "A column of NaN or None may take the place of a missing one."
            raise ValueError(f"{error}{advice}") from None
    if not all(frame.shape):
        raise ValueError(
            f"X has {frame.shape[0]} sample(s) (rows) and {frame.shape[1]} feature(s) (columns), "
            "but must have at least one of each."
        )
    if reset or len(frame) > FEW_ROWS:  # in fit, dtypes determine the kinds of columns
        return FrameColumns(frame)
    native = nw.to_native(frame)
    if nw.dependencies.is_pandas_dataframe(native):
        return TableColumns(native.to_numpy(dtype=object), frame.columns)
    return TableColumns(_to_objects(chain.from_iterable(frame.rows()), frame.shape), frame.columns)


def _read_row_mappings(estimator: Any, rows: Sequence[Any], reset: bool) -> TableColumns:
    """Return the columns of rows that are dicts, pandas Series, or the like."""
    names = getattr(estimator, "feature_names_in_", None)
    if reset or names is None:
        raise TypeError(
            f"Rows of type {type(rows[0]).__name__!r} need an estimator that was fitted to a data "
            "frame with column names. Pass a data frame, such as pandas.DataFrame(rows), or an "
            "array of shape (n_samples, n_features)."
        )
    names_in_fit = set(names)
    for i, row in enumerate(rows):
        row_names = list(row.keys())
        if set(row_names) != names_in_fit:
            missing_names = [name for name in names if name not in row_names]
            unknown_names = [name for name in row_names if name not in names_in_fit]
            raise ValueError(
                f"{'A row' if len(rows) == 1 else f'Row {i}'} must have the column names of the "
                f"table given to fit. Missing names: {missing_names or 'none'}; unknown names: "
                f"{unknown_names or 'none'}. Use None for missing values."
            )
    values = (row[name] for row in rows for name in names)
    return TableColumns(_to_objects(values, (len(rows), len(names))), names)


def _to_objects(values: Iterable[Any], shape: tuple[int, ...]) -> Array:
    """Return values as an array of objects, which may be sequences."""
    objects: Array = np.fromiter(values, dtype=object, count=math.prod(shape))
    return objects.reshape(shape)


def _as_array(X: Any) -> Any:
    """Return X as a 2d array or a sparse matrix, of any supported dtype."""
    if np.ma.is_masked(X):  # masked values are missing
        is_masked, X = np.ma.getmaskarray(X), np.array(X, dtype=object)
        X[is_masked] = None
    if isinstance(X, (list, tuple)):
        try:
            array = np.asarray(X)
        except ValueError:  # rows contain lists; a better error follows
            array = np.asarray(X, dtype=object)
        X = np.asarray(X, dtype=object) if array.dtype.kind == "U" else array
    X = check_array(
        X, dtype=None, accept_sparse=("csc", "csr"), ensure_all_finite=False, input_name="X"
    )
    if X.dtype.kind not in _KINDS:
        raise ValueError(
            f"X must hold numbers, strings, dates or objects, got dtype {X.dtype}. Convert "
            'bytes to strings with numpy.char.decode(X, "utf-8").'
        )
    return X


def is_numeric(dtype: Any) -> bool:
    """Return whether a narwhals dtype is numeric or boolean."""
    return dtype.is_numeric() or dtype == nw.Boolean


# ------------------------------------------------------------------ kinds of columns


def find_kinds(
    columns: TableColumns, categorical_features: Any, column_kinds: Mapping[Any, Kind]
) -> list[InferredKind]:
    """Return the kind of each column.

    `column_kinds` comes first, then `categorical_features`, and then the values. A warning names
    the columns that may be misread.

    Raises
    ------
    ValueError
        If a column can't be of the user's kind, or is categorical without being named.
    """
    choices: dict[int, Kind] = dict.fromkeys(
        _find_categorical_columns(categorical_features, columns), "category"
    )
    requirement = f"column_kinds must map columns of X to one of {list(VALID_KINDS)}"
    choices |= _by_position(column_kinds, VALID_KINDS, columns, requirement)
    kinds: list[InferredKind] = []
    for column in range(columns.n_columns):
        if column in choices:
            kinds.append(_check_choice(columns, column, choices[column]))
            continue
        inferred = columns.infer(column)
        if inferred.kind == "category" and not isinstance(categorical_features, str):
            raise ValueError(
                f"{columns.label(column)} is not numeric, but is not among the "
                f"categorical_features={categorical_features!r}. Add it, convert it to numbers, or "
                'set categorical_features="from_dtype" to treat all such columns as categories.'
            )
        kinds.append(inferred)
    if doubts := [
        _describe_doubt(columns, i, item.doubt) for i, item in enumerate(kinds) if item.doubt
    ]:
        message = " ".join(["Some columns may be misread.", *doubts])
        warn(f"{message} Columns in column_kinds cause no warning.", UserWarning)
    return [item._replace(doubt=None) for item in kinds]


def _describe_doubt(columns: TableColumns, column: int, doubt: Doubt) -> str:
    """Return a sentence about a column that may be misread."""
    choice = f"column_kinds={{{columns.keys[column]!r}: {doubt.kind!r}}}"
    return f"{columns.label(column)} {doubt.problem}; {choice} {doubt.effect}."


def _by_position(
    values: Mapping[Any, Any], valid_values: Sequence[Any], columns: TableColumns, requirement: str
) -> dict[int, Any]:
    """Return the values of a parameter, given by the names or positions of columns, by position."""
    keys = columns.keys
    positions = {key: i for part in (range(len(keys)), keys) for i, key in enumerate(part)}
    for key, value in values.items():
        if key not in positions or isinstance(key, bool) or value not in valid_values:
            got = repr(key) if value is None else f"{value!r} for the column {key!r}"
            valid_keys = f"0 to {len(keys) - 1}" if isinstance(keys, range) else keys
            raise ValueError(f"{requirement}, got {got}. The columns are {valid_keys}.")
    return {positions[key]: value for key, value in values.items()}


def _find_categorical_columns(categorical_features: Any, columns: TableColumns) -> Iterable[int]:
    """Return the positions of the columns that `categorical_features` names; none by dtype."""
    if categorical_features is None or isinstance(categorical_features, str):
        return []
    mask = np.asarray(categorical_features)
    if mask.dtype == bool and mask.shape == (columns.n_columns,):
        return np.flatnonzero(mask).tolist()
    names = dict.fromkeys(np.asarray(categorical_features, dtype=object).ravel().tolist())
    requirement = (
        "categorical_features must hold names or positions of columns, or True or False for each "
        "column"
    )
    return _by_position(names, [None], columns, requirement)


def find_constraints(
    monotonic_cst: Any, columns: TableColumns, kinds: Sequence[InferredKind]
) -> Sequence[int]:
    """Return the constraint of each column, -1, 0 or 1, that `monotonic_cst` gives.

    Raises
    ------
    ValueError
        If it does not fit the columns, or constrains a column that is not a number.
    """
    keys = columns.keys
    if not isinstance(monotonic_cst, Mapping):
        values = np.asarray([0] * len(keys) if monotonic_cst is None else monotonic_cst)
        if values.shape != (len(keys),):
            raise ValueError(
                f"monotonic_cst must have one value for each of the {len(keys)} columns of X, got "
                f"an array of shape {values.shape}. For a few columns, pass a dict such as "
                f"{{{keys[0]!r}: 1}}."
            )
        monotonic_cst = dict(zip(keys, values.tolist(), strict=True))
    requirement = (
        "monotonic_cst must map columns of X to -1 (decreasing), 0 (no constraint) or 1 "
        "(increasing)"
    )
    signs = _by_position(monotonic_cst, (-1, 0, 1), columns, requirement)
    for column, sign in signs.items():
        kind = kinds[column].kind
        if sign and kind not in NUMERIC_KINDS:
            raise ValueError(
                f"monotonic_cst must be 0 for columns that are not numbers, got {sign!r} for "
                f"column {keys[column]!r} of the kind {kind!r}. Set it to 0, or convert the "
                "column, such as categories to their ranks and dates to days."
            )
    return [int(signs.get(column, 0)) for column in range(len(keys))]


def _check_choice(columns: TableColumns, column: int, choice: Kind) -> InferredKind:
    """Return the kind of a column that the user names, after a check of the values."""
    if choice == "category" or (choice == "text" and not isinstance(columns, SparseColumns)):
        return InferredKind(choice, _CHOSEN)
    try:
        inferred = columns.infer(column)
    except ValueError:
        inferred = InferredKind("category", "values are mixed")
    kind = inferred.kind
    if choice == kind or (choice == "number" and kind in NUMERIC_KINDS):
        return inferred._replace(reason=_CHOSEN, doubt=None)
    values = [value for value in columns.values(column) if not is_missing(value, with_words=True)]
    if choice in ("number", "date"):
        strings = [value for value in dict.fromkeys(values) if isinstance(value, str)]
        format_class = NumberFormat if choice == "number" else DateFormat
        fit = find_format(strings, (format_class,), 0)
        if fit is not None or not values or choice in find_roles(values):
            form = format_class() if fit is None else fit.format
            return InferredKind(choice, f"{_CHOSEN}, {form}", form)
    elif not values:
        return InferredKind(choice, _CHOSEN)
    raise ValueError(
        f"{columns.label(column)} can't be of the kind {choice!r} that column_kinds gives: its "
        f"values are of the kind {kind!r}. Numbers and dates may be strings, such as '1,234', "
        "'12 %' and '2024-12-31'. Convert the column, or remove it "
        "from column_kinds."
    )
