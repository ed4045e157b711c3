"""What depends on the version of scikit-learn: private names, and what newer versions have.

What is private may change in any release: compare these first if the tests fail with a new one.
Searches also rely on `BaseSearchCV._get_routed_params_for_fit`, see `model_selection/_search.py`.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
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
    _check_feature_names_in,  # the names of the inputs, which those of the outputs are made of
)

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before 1.9
    from ._callback_support import CallbackSupportMixin, with_callbacks


def fit_boosting(
    model: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    X_val: Any = None,
    y_val: Any = None,
    sample_weight_val: Any = None,
) -> None:
    """Fit gradient boosting with rows for early stopping, which `fit` takes from 1.8 on.

    Before 1.8, trees are added without early stopping, and removed after the last one that early
    stopping would have kept.
    """
    if X_val is None or "X_val" in signature(model.fit).parameters:
        validation_data = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        model.fit(X, y, sample_weight, **({} if X_val is None else validation_data))
        return
    names = "early_stopping", "warm_start", "max_iter"
    params = {name: getattr(model, name) for name in names}
    n_trees = len(getattr(model, "_predictors", []))
    model.set_params(early_stopping=False, warm_start=True)
    if hasattr(model, "predict_proba"):
        y_val = np.searchsorted(np.unique(y), y_val)
    y_val = np.asarray(y_val, dtype=np.float64)
    n_kept, scores, step = None, [], 2 * model.n_iter_no_change
    while n_kept is None and n_trees < params["max_iter"]:
        n_trees = min(max(n_trees + step, n_trees * 3 // 2), params["max_iter"])
        model.set_params(max_iter=n_trees).fit(X, y, sample_weight)
        start = np.zeros((len(y_val), 1)) + model._baseline_prediction
        predictions = [start, *model._staged_raw_predict(X_val)]
        scores = [-model._loss(y_val, raw, sample_weight_val) for raw in predictions]
        n_kept = next((n for n in range(n_trees + 1) if model._should_stop(scores[: n + 1])), None)
    if n_kept is not None:
        del model._predictors[n_kept:]
    model.validation_score_ = np.array(scores[: model.n_iter_ + 1])
    model.set_params(**params)


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "_approximate_mode",
    "_check_feature_names_in",
    "_fit_context",
    "_safe_indexing",
    "fit_boosting",
    "with_callbacks",
]
