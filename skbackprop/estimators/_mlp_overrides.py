"""Error for subclasses that override private methods of scikit-learn's networks.

Subclasses of `MLPClassifier` and `MLPRegressor` customize training by overriding private methods
of theirs, which are never called here. The error names the public alternative.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PACKAGE = __name__.partition(".")[0]

_ACTIVATION = (
    "pass a custom ActivationFunction as activation=, or change the layers by layers=, "
    "dropout= and normalization=; hidden_features(X, layer=...) returns hidden outputs"
)
_LOSS = (
    "pass a custom Loss with value and gradient as loss=; alpha=, l1_ratio= and clip_norm= control "
    "penalties and large gradients"
)
_OPTIMIZER = (
    "pass a custom Optimizer as solver= and a custom LearningRateSchedule as learning_rate=, and "
    "follow or stop training after each epoch by a callback (set_callbacks)"
)
_STOPPING = (
    "pass early_stopping=EarlyStopping(scoring=...) with a custom scorer, or stop training by a "
    "callback (set_callbacks)"
)
_WEIGHTS = "pass a custom Initializer as init=, or the weights themselves: (coefs, intercepts)"
_DATA = (
    "override fit or partial_fit, and change X and y before calling super(). For probabilistic "
    "labels, repeat each row for each class with the probability as its sample_weight"
)
_FIT = "override fit and partial_fit, and call super()"
_PREDICT = "override predict, and call super().predict(X)"

REPLACEMENTS: Mapping[str, str] = {
    "_backprop": _LOSS,
    "_check_solver": "override partial_fit, and call super()",
    "_compute_loss_grad": _LOSS,
    "_fit": _FIT,
    "_fit_lbfgs": "pass solver=LBFGS(...) with custom settings",
    "_fit_stochastic": _OPTIMIZER,
    "_forward_pass": _ACTIVATION,
    "_forward_pass_fast": _ACTIVATION,
    "_init_coef": _WEIGHTS,
    "_initialize": _WEIGHTS,
    "_loss_grad_lbfgs": _LOSS,
    "_predict": _PREDICT,
    "_score": _STOPPING,
    "_score_with_function": _STOPPING,
    "_unpack": _WEIGHTS,
    "_update_no_improvement_count": _STOPPING,
    "_validate_input": _DATA,
}
"""The alternative to overriding each method, by its name."""


def reject_unused_overrides(estimator: Any) -> None:
    """Check that an estimator overrides no method that would never be called.

    Raises
    ------
    TypeError
        If its class or the instance overrides one. The error names the alternative.
    """
    kind, own = type(estimator), vars(estimator)
    for name, replacement in REPLACEMENTS.items():
        method = own.get(name, getattr(kind, name, None))
        if not (callable(method) or isinstance(method, property)):
            continue
        if (getattr(method, "__module__", None) or "").partition(".")[0] not in (
            "sklearn",
            _PACKAGE,
        ):
            raise TypeError(
                f"{kind.__name__} overrides {name}, a private method of scikit-learn's networks "
                f"that skbackprop never calls. Remove or rename it. Instead, {replacement}."
            )
