"""All private names of scikit-learn that the package uses, and warnings in its name.

What is private may change in any release, so pyproject.toml admits only those that have passed the
tests. Before a newer one is admitted, compare these first, and `model_selection/_search.py` with
`BaseSearchCV.fit`.
"""

from __future__ import annotations

import sys
import warnings

from sklearn.base import _fit_context  # the validation of parameters, and the end of callbacks

# The search evaluates its candidates as scikit-learn's own searches do.
from sklearn.metrics._scorer import (
    _MultimetricScorer,  # a list of metrics becomes one
    _PassthroughScorer,  # the estimator's own score
    _Scorer,  # a metric of predictions
)
from sklearn.model_selection._search import BaseSearchCV  # what a search derives from
from sklearn.model_selection._search_successive_halving import (
    # They are experimental there, and elsewhere only to be had once that has been acknowledged.
    BaseSuccessiveHalving,  # what the parameters of a halving search may be
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    _SubsampleMetaSplitter,  # the rows of a round
)
from sklearn.model_selection._validation import (
    _fit_and_score,  # a candidate alone, on one split
    _insert_error_scores,  # what stands for the scores of a failed fit, once their names are known
    _score,  # the errors of scorers, and what scores may be
    _warn_or_raise_about_fit_failures,  # the text that sums failures up, and where all failed
)
from sklearn.utils import _safe_indexing  # rows of a table of any kind
from sklearn.utils._metadata_requests import _routing_enabled  # what a pipeline's steps are given
from sklearn.utils._param_validation import (  # what the parameters of an estimator may be
    HasMethods,
    Interval,
    Options,
    StrOptions,
)
from sklearn.utils.extmath import _approximate_mode  # the very draws of a stratified split
from sklearn.utils.metaestimators import _safe_split  # rows, and columns of precomputed kernels
from sklearn.utils.validation import (
    _check_categorical_features,  # what `categorical_features` may be, as in gradient boosting
    _check_feature_names_in,  # the names of the inputs, which those of the outputs are made of
    _check_method_params,  # which arguments of fit are split along with X
    _check_sample_weight,  # what weights may be; scikit-learn's checks look for its errors
    _num_samples,  # of data of any kind, which a halving search may give to candidates in part
)

__all__ = [
    "BaseSearchCV",
    "BaseSuccessiveHalving",
    "HalvingGridSearchCV",
    "HalvingRandomSearchCV",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "_MultimetricScorer",
    "_PassthroughScorer",
    "_Scorer",
    "_SubsampleMetaSplitter",
    "_approximate_mode",
    "_check_categorical_features",
    "_check_feature_names_in",
    "_check_method_params",
    "_check_sample_weight",
    "_fit_and_score",
    "_fit_context",
    "_insert_error_scores",
    "_num_samples",
    "_routing_enabled",
    "_safe_indexing",
    "_safe_split",
    "_score",
    "_warn_or_raise_about_fit_failures",
]

# The module of scikit-learn's warnings, for `filterwarnings("ignore", module="sklearn")`.
_MODULE = "sklearn.neural_network._multilayer_perceptron"
# The packages between the user's line and this module.
_SKIPPED_PACKAGES = {"joblib", "sklearn", "skbackprop"}


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning in the name of scikit-learn's module, at the user's line.

    The line is that of the first frame outside of this package, scikit-learn and joblib.
    """
    frame, package = sys._getframe(), __name__
    while frame.f_back is not None and package.partition(".")[0] in _SKIPPED_PACKAGES:
        frame = frame.f_back
        package = str(frame.f_globals.get("__name__", ""))
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=_MODULE,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
