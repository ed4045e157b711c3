"""TableEncoder: numbers from the numbers, categories, dates and text of a raw table."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Interval, StrOptions, _check_feature_names_in
from ..estimators._estimator_mixin import EstimatorMixin, with_parameter_validation
from ..estimators._validation import replace_attributes, shallow_copy
from ..utils.arrays import Array, ColumnKinds, Columns, MatrixLike, TableLike
from ._read_table import read_table
from ._table_encoding import FittedEncoding, UnscaledRows


class TableEncoder(TransformerMixin, EstimatorMixin):
    """Encode a raw table for a network: numbers, categories, dates, text and missing values.

    A table is a data frame (pandas, polars, pyarrow and others that narwhals supports), an array of
    numbers, strings, dates or objects, or a sparse matrix of numbers. The outputs are, in this
    order:

    - Numeric columns with more than two values: ``x = (value - median) / (q75 - q25)``, or
      ``x = 2 (value - median) / (max - min)`` if the quartiles are equal, followed by the smooth
      clip ``x / sqrt(1 + (x/3)^2)``, which is close to x near zero and stays within [-3, 3] [1]_.
      Missing values become the median. Booleans are numbers, and durations are numbers of seconds.
      A column of strings is numeric if each string is a number, such as "1,234.50", "40,25 €" or
      "12 %" (0.12), with one decimal mark in the column, or stands for a missing value, such as
      "n/a", "-" or "".
    - Target statistics of columns with many categories (see `max_categories`), scaled like numbers.
    - Dates, with or without times: the year, the month, weekday, day of the year and hour as the
      sine and cosine of their cycles, and the days elapsed since the first date of `fit`. Times of
      day: the hour as a number and as a cycle. All are scaled like numbers. Dates with a time zone
      are encoded by their wall-clock time, and periods by their first moment. A column of strings
      has dates if all strings that do not stand for a missing value have one form, such as
      "2024-12-31 08:15", "12/31/2024", "31.12.2024" or "31 Dec 2024". If days and months may be
      swapped, the month comes first, and a warning says so. In `transform`, dates may be later than
      in `fit`. Strings that do not have the form of their column are missing values, which a
      warning counts, as for numbers.
    - Text: up to 30 components of a truncated singular value decomposition of the tf-idf of hashed
      character n-grams (3 to 4 characters within words) [2]_. Each component minus its median is
      divided by a number, the same for all components, so that their variances sum to one. A column
      of strings is text if it has more than 30 distinct strings, and either more than half of its
      strings are distinct and have two words or more on average, or more than a twentieth are, and
      have five words or more.
    - Numeric columns with two values, as 0 and 1.
    - For each column of numbers, dates or text with missing values, an indicator: 1 if the value is
      missing, else 0.
    - Categorical columns: one 0/1 output for each category. A missing value is a category of its
      own. Infrequent categories share one output. A column of two categories has a single output.
      For an unknown category, all outputs of the column are 0. With ``encoding="ordinal"``, the
      column has a single output, an integer code.

    Constant columns, and constant parts of dates, have no output. Infinite numbers, lists, dicts,
    sets and complex numbers raise errors that name the column and a remedy.

    Parameters
    ----------
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns: a mask, positions or names; all others are numbers, dates or text.
        None for no categorical columns. "from_dtype": columns with a categorical dtype or strings,
        unless the strings are numbers, dates or text.
    column_kinds : dict or None, default=None
        The kinds of some columns, by name or position: "number", "category", "text", "date", "time"
        or "duration". Integers are positions, even if names are integers. For these columns, it
        overrides `categorical_features` and the rules above, and no warning says that they may be
        misread. Strings without a number or date are then missing values. None for no such columns.
        Pass `column_kinds_` of another encoder to get the same kinds for another table.
    encoding : {"one_hot", "ordinal"}, default="one_hot"
        How categories are encoded: one output for each category, or a single code, 1 to k for k
        categories and 0 for unknown ones, as the input of an embedding.
    min_frequency : int, default=3
        Categories that occur less often than this share one category, named "infrequent". At
        least 1.
    max_categories : int or None, default=30
        The maximum number of one-hot categories of a column; at least 2, or None for no limit. If a
        column has more categories, the most frequent ``max_categories - 1`` are kept and the rest
        is "infrequent". If `fit` gets the target, such a column also has a target statistic. For an
        infrequent category, it is the mean of the target, shrunk toward the overall mean; for a
        frequent category, it is the overall mean. With more than two classes, there is a statistic
        for each class: its frequency in the category. `fit_transform` returns out-of-fold
        statistics, by five folds. Ordinal codes are not affected.
    target_type : {"auto", "continuous", "binary", "multiclass"}, default="auto"
        The type of the target. "auto" infers it from the values; whole numbers are classes.
    dtype : {"float32", "float64"} or None, default=None
        The dtype of the outputs. None for float32 if X is a float32 array, else float64.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds of the target statistics, and of the decomposition of text.

    Attributes
    ----------
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the columns, if all names are strings.
    column_kinds_ : dict
        The kind of each column, by name, or by position if columns have no names: "number",
        "category", "text", "date", "time" or "duration".
    is_categorical_ : array of bool, of shape (n_features_in_,)
        Mask of the categorical columns.
    categories_ : list of lists
        For each categorical column, the categories with a code of their own, in the order of the
        codes; None for the missing value.
    infrequent_categories_ : list of lists
        For each categorical column, the infrequent categories.
    output_types_ : array of str, of shape (n_outputs,)
        The type of each output: "number", "target", "date", "text" (all of them scaled),
        "two_valued", "missing", "one_hot" or "ordinal".
    input_columns_ : array of int, of shape (n_outputs,)
        The column that each output is computed from.
    n_numeric_ : int
        The number of scaled outputs, which are the first outputs.
    center_, scale_ : array of shape (n_numeric_,)
        The offset that is subtracted from each scaled output before the smooth clip, and the factor
        that multiplies the difference.
    cardinalities_ : array of int
        With ``encoding="ordinal"``, the number of codes of each "ordinal" output, code 0 included:
        the number of rows that an embedding needs.
    sparse_output_ : bool
        Whether X was sparse in `fit`. If so, numbers are not centered, so that zeros stay zeros,
        and `transform` always returns a CSR array.

    See Also
    --------
    PiecewiseLinearEncoder : Piecewise-linear encoding of the scaled outputs.
    PeriodicFeatures : Cosines of the scaled outputs.

    Notes
    -----
    If `fit` got a data frame, `transform` also accepts a single row as a dict or a pandas Series.

    With target statistics, ``fit_transform(X, y)`` differs from ``fit(X, y).transform(X)``, as in
    scikit-learn's ``TargetEncoder``: the statistics of training rows are out of fold.

    References
    ----------
    .. [1] Holzmueller, Grinsztajn & Steinwart, "Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data", NeurIPS 2024.
    .. [2] Deerwester, Dumais, Furnas, Landauer & Harshman, "Indexing by latent semantic analysis",
       JASIS 41(6), 1990.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbackprop.tabular import TableEncoder
    >>> table = pd.DataFrame(
    ...     {
    ...         "age": [20.0, 30.0, None, 50.0],
    ...         "city": ["Bern", "Oslo", "Rome", "Oslo"],
    ...         "member": [True, False, True, True],
    ...     }
    ... )
    >>> encoder = TableEncoder(min_frequency=1).set_output(transform="pandas").fit(table)
    >>> encoder.transform(table).round(2)
        age  member  age_missing  city_Bern  city_Oslo  city_Rome
    0 -0.65     1.0          0.0        1.0        0.0        0.0
    1  0.00     0.0          0.0        0.0        1.0        0.0
    2  0.00     1.0          1.0        0.0        0.0        1.0
    3  1.22     1.0          0.0        0.0        1.0        0.0
    >>> encoder.output_types_.tolist()
    ['number', 'two_valued', 'missing', 'one_hot', 'one_hot', 'one_hot']
    >>> row = {"city": "Lima", "age": 40, "member": True}
    >>> encoder.transform(row).round(2)
        age  member  age_missing  city_Bern  city_Oslo  city_Rome
    0  0.65     1.0          0.0        0.0        0.0        0.0

    Dates become several outputs; parts that are the same in all rows are left out:

    >>> days = pd.to_datetime(["2024-01-01", "2024-04-01", "2024-07-01"])
    >>> visits = pd.DataFrame({"day": days, "paid": ["1,200", "80", ""]})
    >>> encoder = TableEncoder().fit(visits)
    >>> encoder.column_kinds_
    {'day': 'date', 'paid': 'number'}
    >>> encoder.get_feature_names_out()[encoder.input_columns_ == 1].tolist()
    ['paid', 'paid_missing']
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "column_kinds": [dict, None],
        "encoding": [StrOptions({"one_hot", "ordinal"})],
        "min_frequency": [Interval(Integral, 1, None, closed="left")],
        "max_categories": [Interval(Integral, 2, None, closed="left"), None],
        "target_type": [StrOptions({"auto", "continuous", "binary", "multiclass"})],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        categorical_features: Columns = "from_dtype",
        *,
        column_kinds: ColumnKinds = None,
        encoding: Literal["one_hot", "ordinal"] = "one_hot",
        min_frequency: int = 3,
        max_categories: int | None = 30,
        target_type: Literal["auto", "continuous", "binary", "multiclass"] = "auto",
        dtype: Literal["float32", "float64"] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
        self.encoding = encoding
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.target_type = target_type
        self.dtype = dtype
        self.random_state = random_state

    @with_parameter_validation(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Fit the encoding of each column.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,), default=None
            The target, used for columns with many categories only. A target with several columns
            is ignored.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError, TypeError
            If X is not a table, or a column has values that cannot be encoded. Lists, dicts, sets
            and complex numbers raise a TypeError.
        """
        self._fit(X, y)
        return self

    @with_parameter_validation(prefer_skip_nested_validation=True)
    def fit_transform(self, X: MatrixLike, y: ArrayLike | None = None) -> Array:
        """Fit to a table and encode it, with out-of-fold target statistics.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,), default=None
            The target.

        Returns
        -------
        encoded : array, CSR array or data frame of shape (n_samples, n_outputs)
            The outputs.

        Raises
        ------
        ValueError, TypeError
            As in `fit`.
        """
        rows = self._fit(X, y)
        return self._encoding.encode(rows, self._output_dtype(X))

    @np.errstate(all="ignore")
    def transform(self, X: TableLike) -> Array:
        """Encode a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, and a list of dicts several rows.

        Returns
        -------
        encoded : array, CSR array or data frame of shape (n_samples, n_outputs)
            The outputs.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.
        """
        check_is_fitted(self)
        rows = self._encoding.read_rows(read_table(self, X, reset=False))
        return self._encoding.encode(rows, self._output_dtype(X))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs.

        Each name starts with the name of the column. Names of columns with several outputs end in
        "_missing", "_" and the category, or "_target" (and the class). Duplicate names get a
        number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the columns. None for the names in `fit`, or "x0", "x1" and so on if there
            were none.

        Returns
        -------
        names : array of str, of shape (n_outputs,)
            A name for each output.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If `input_features` are not those of `fit`.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        outputs = self._encoding.outputs()
        return np.array(
            _make_unique([f"{names[output.column]}{output.suffix}" for output in outputs]),
            dtype=object,
        )

    @np.errstate(all="ignore")
    def _fit(self, X: Any, y: Any) -> UnscaledRows:
        """Set the fitted attributes, and return the training rows."""
        fitted = shallow_copy(self)
        y = None if y is None else np.asarray(y)
        if y is not None and y.ndim != 1:
            y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else None
        encoding, rows = FittedEncoding.fit(read_table(fitted, X, reset=True), y, self)
        outputs, levels = encoding.outputs(), encoding.categories.levels
        scaled, _, _ = encoding.numbers.input_columns
        fitted._encoding = encoding
        names = getattr(fitted, "feature_names_in_", None)
        fitted.column_kinds_ = encoding.name_kinds(names)
        fitted.is_categorical_ = np.zeros(fitted.n_features_in_, dtype=bool)
        fitted.is_categorical_[list(encoding.categories.columns)] = True
        fitted.categories_ = [list(item.frequent) for item in levels]
        fitted.infrequent_categories_ = [list(item.infrequent) for item in levels]
        fitted.output_types_ = np.array([output.type for output in outputs], dtype=object)
        fitted.input_columns_ = np.array([output.column for output in outputs], dtype=np.intp)
        fitted.n_numeric_ = len(scaled)
        fitted.center_ = encoding.numbers.center[scaled]
        fitted.scale_ = encoding.numbers.scale[scaled]
        fitted.sparse_output_ = encoding.is_sparse
        n_codes = [item.n_codes + 1 for item in levels if item.n_codes > 1]
        is_ordinal = self.encoding == "ordinal"
        fitted.cardinalities_ = np.array(n_codes if is_ordinal else [], dtype=np.intp)
        replace_attributes(self, fitted)
        return rows

    def _output_dtype(self, X: Any) -> np.dtype[np.floating]:
        """Return the dtype of the outputs for X."""
        is_single = getattr(X, "dtype", None) == np.float32
        return np.dtype(self.dtype or (np.float32 if is_single else np.float64))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        dtypes = [self.dtype] if self.dtype else ["float64", "float32"]
        tags.transformer_tags.preserves_dtype = dtypes
        return tags


def _make_unique(names: list[str]) -> list[str]:
    """Return names with a number appended to duplicates."""
    result: dict[str, None] = {}  # an ordered set
    for name in names:
        candidate, number = name, 1
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result[candidate] = None
    return list(result)
