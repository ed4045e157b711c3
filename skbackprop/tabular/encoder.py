"""From a raw table to what a network trains on: scaled numbers, codes, indicators."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Interval, StrOptions, _check_feature_names_in
from ..estimators._decorators import checks_parameters
from ..estimators._mixins import HTMLReprMixin
from ..utils.arrays import Array, Columns, MatrixLike, TableLike
from ._dataframe import read_table
from ._encoding import EncodedInputs, FittedEncoding, Settings


class TableEncoder(TransformerMixin, HTMLReprMixin):
    """Turn a raw table into numbers for a network: scaled, one-hot, with missing indicators.

    A table is a data frame (pandas, polars, pyarrow and what else narwhals knows), an array of
    numbers, strings or objects, or a sparse matrix of numbers. Its columns are numbers (booleans
    among them) or categories. The outputs are, in this order:

    - A number that has more than two values: x = (value - median) / (q75 - q25), or
      x = 2 (value - median) / (max - min) where the quartiles are equal, and then the smooth clip
      x / sqrt(1 + (x/3)^2), which is x near zero and never leaves [-3, 3] [1]_. What is missing
      becomes the median.
    - The statistics of the target, for categories of many levels: see `max_categories`. They are
      scaled likewise.
    - A number that has two values: 0 and 1.
    - For each number that had missing values: 1 where it is missing, else 0.
    - Categories: 0/1 for each level, where a missing value is a level of its own and those that
      are rare are one together; one output if there are two levels. A level that was never seen
      is 0 everywhere. Or integer codes: see `encoding`.

    Constant columns have no output. Infinite numbers, dates, lists, dicts, sets and complex numbers
    are errors that name the column and say what to do.

    Parameters
    ----------
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        Which columns are categories: a mask, positions, or names, all others being numbers; None
        for none. "from_dtype": those of a data frame that hold categories or strings, and those
        of an array of objects that hold strings.
    encoding : {"one_hot", "ordinal"}, default="one_hot"
        What categories become: 0/1 for each level, or one number, 1 to k for k levels and 0 for
        those never seen, as an embedding wants it.
    min_frequency : int, default=3
        Levels that occur fewer times than this are one together, which is called "infrequent". At
        least 1.
    max_categories : int or None, default=30
        The most levels of a column that are one-hot: if it has more, the most frequent
        ``max_categories - 1``, and the others are "infrequent". If `fit` is given the target, there
        is a statistic of it besides: what it is on average where the level occurs, drawn to its
        overall mean, or for several classes the share of each. For the rows of `fit_transform` it
        is out of fold: learned from four fifths of the rows for the other fifth. At least 2; None
        for no limit. Without effect on codes.
    target_type : {"auto", "continuous", "binary", "multiclass"}, default="auto"
        What the target is; "auto" tells by its values, which takes whole numbers for classes.
    dtype : {"float32", "float64"} or None, default=None
        Of the outputs; None for float32 if X is an array of it, else float64.
    random_state : int, RandomState instance or None, default=None
        Draws the fifths that the statistics of the target are learned from.

    Attributes
    ----------
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.
    is_categorical_ : array of bool, of shape (n_features_in_,)
        Which columns are categories.
    categories_ : list of lists
        For each category, the levels with a code of their own, in the order of the codes; None
        for what is missing.
    infrequent_categories_ : list of lists
        For each category, the levels that are "infrequent".
    output_types_ : array of str, of shape (n_outputs,)
        What each output is: "number", "target" (both scaled), "two_valued", "missing", "one_hot"
        or "ordinal".
    input_columns_ : array of int, of shape (n_outputs,)
        The column that each output is made of.
    n_numeric_ : int
        The number of scaled outputs, "number" and "target": they come first.
    center_, scale_ : array of shape (n_numeric_,)
        What is subtracted from those before the smooth clip, and what they are multiplied by.
    cardinalities_ : array of int
        With ``encoding="ordinal"``, the number of codes of each "ordinal" output, the code 0 of
        unknown categories included: the number of rows that an embedding needs.
    sparse_output_ : bool
        Whether X was sparse in `fit`. Then its numbers are not centred, so that zeros stay zeros,
        and the output of `transform` is a CSR array, whatever it is given.

    See Also
    --------
    PiecewiseLinearEncoder : Numbers as shares of bins, for the scaled outputs.
    PeriodicFeatures : Numbers as cosines, for the scaled outputs.

    Notes
    -----
    `transform` takes a row as a dict or a pandas Series too, if `fit` was given a data frame.

    ``fit_transform(X, y)`` is not ``fit(X, y).transform(X)`` where there are statistics of the
    target: as of scikit-learn's ``TargetEncoder``, those of the training rows are out of fold.

    References
    ----------
    .. [1] Holzmueller, Grinsztajn & Steinwart, "Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data", NeurIPS 2024.

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
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
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
        encoding: Literal["one_hot", "ordinal"] = "one_hot",
        min_frequency: int = 3,
        max_categories: int | None = 30,
        target_type: Literal["auto", "continuous", "binary", "multiclass"] = "auto",
        dtype: Literal["float32", "float64"] | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.categorical_features = categorical_features
        self.encoding = encoding
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.target_type = target_type
        self.dtype = dtype
        self.random_state = random_state

    @checks_parameters(prefer_skip_nested_validation=True)
    def fit(self, X: MatrixLike, y: ArrayLike | None = None) -> Self:
        """Learn the columns of a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,), default=None
            The target, which serves for columns of many levels alone. One of several columns does
            not.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError, TypeError
            If X is no table, or a column holds what cannot be encoded, which is named: TypeError
            for lists, dicts, sets and complex numbers.
        """
        self._learn(X, y)
        return self

    @checks_parameters(prefer_skip_nested_validation=True)
    def fit_transform(self, X: MatrixLike, y: ArrayLike | None = None) -> Array:
        """Learn the columns of a table, and encode it, with statistics of the target out of fold.

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
        taken_in = self._learn(X, y)
        return self._encoding.encode(taken_in, self._dtype_for(X))

    def transform(self, X: TableLike) -> Array:
        """Encode a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table; a dict or a Series is one row, a list of dicts several.

        Returns
        -------
        encoded : array, CSR array or data frame of shape (n_samples, n_outputs)
            The outputs.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.
        """
        check_is_fitted(self)
        taken_in = self._encoding.to_matrices(read_table(self, X, reset=False))
        return self._encoding.encode(taken_in, self._dtype_for(X))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs.

        They are those of the columns, with "_missing", "_" and the level, or "_target" (and the
        class) behind them where one column has several outputs, or may have. One that is there
        already gets a number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the columns; None for those of `fit`, or "x0", "x1" and so on.

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
        ends = [output.ending for output in self._encoding.outputs()]
        found = [
            f"{names[column]}{end}" for column, end in zip(self.input_columns_, ends, strict=True)
        ]
        return np.array(_made_unique(found), dtype=object)

    def _learn(self, X: Any, y: Any) -> EncodedInputs:
        """Learn all there is, keep it in one assignment, and return the training rows."""
        settings = Settings(
            self.categorical_features,
            self.encoding,
            self.min_frequency,
            np.inf if self.max_categories is None else self.max_categories,
            self.target_type,
            self.random_state,
        )
        fitted = object.__new__(type(self))  # takes the notes of scikit-learn's checks
        fitted.__dict__ = dict(vars(self))
        encoding, taken_in = FittedEncoding.learn(read_table(fitted, X, reset=True), y, settings)
        fitted._take_note_of(encoding)
        self.__dict__ = fitted.__dict__
        return taken_in

    def _take_note_of(self, encoding: FittedEncoding) -> None:
        """Set the attributes that say what was learned."""
        outputs = encoding.outputs()
        self._encoding = encoding
        self.is_categorical_ = np.zeros(self.n_features_in_, dtype=bool)
        self.is_categorical_[list(encoding.category_columns)] = True
        self.categories_ = [list(levels.own) for levels in encoding.levels]
        self.infrequent_categories_ = [list(levels.rare) for levels in encoding.levels]
        self.output_types_ = np.array([output.kind for output in outputs], dtype=object)
        self.input_columns_ = np.array([output.column for output in outputs], dtype=np.intp)
        scaled, _, _ = encoding.numbers.input_columns()
        self.n_numeric_ = len(scaled)
        self.center_, self.scale_ = encoding.numbers.center[scaled], encoding.numbers.scale[scaled]
        self.sparse_output_ = encoding.is_sparse
        n_codes = [levels.n_codes + 1 for levels in encoding.levels if levels.n_codes > 1]
        self.cardinalities_ = np.array(n_codes if self.encoding == "ordinal" else [], dtype=np.intp)

    def _dtype_for(self, X: Any) -> np.dtype[np.floating]:
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


def _made_unique(names: list[str]) -> list[str]:
    """Return names with a number behind those that were there before."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        unique.append(candidate)
    return unique
