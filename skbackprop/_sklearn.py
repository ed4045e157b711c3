"""All private names of scikit-learn that the package uses.

What is private may change in any release, so pyproject.toml admits only those that have passed the
tests. Before a newer one is admitted, compare these first. Searches also rely on
`BaseSearchCV._get_routed_params_for_fit` and `_checked_cv_orig`, see `model_selection/_search.py`.
"""

from __future__ import annotations

from sklearn.base import _fit_context  # the validation of parameters, and the end of callbacks
from sklearn.utils import _safe_indexing  # rows of a table of any kind
from sklearn.utils._param_validation import (  # what the parameters of an estimator may be
    HasMethods,
    Interval,
    Options,
    StrOptions,
)
from sklearn.utils.extmath import _approximate_mode  # the rows of each class in a split
from sklearn.utils.validation import (
    _check_categorical_features,  # what `categorical_features` may be, as in gradient boosting
    _check_feature_names_in,  # the names of the inputs, which those of the outputs are made of
    _check_sample_weight,  # what weights may be; scikit-learn's checks look for its errors
)

__all__ = [
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "_approximate_mode",
    "_check_categorical_features",
    "_check_feature_names_in",
    "_check_sample_weight",
    "_fit_context",
    "_safe_indexing",
]
