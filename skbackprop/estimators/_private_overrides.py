"""Private methods of scikit-learn's networks that programs override, and what replaces each here.

Subclasses of `MLPClassifier` and `MLPRegressor` change training this way. The networks of this
package have none of these methods, so that an override would never be called.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ACTIVATION = (
    "pass activation= an Activation of your own, or change the layers by input_layers=, dropout= "
    "and normalization=; hidden_features(X, layer=...) returns the output of a hidden layer"
)
_LOSS = (
    "pass loss= a Loss of your own, with value and gradient; alpha=, l1_ratio= and clip_norm= "
    "are for penalties and large gradients"
)
_OPTIMIZER = (
    "pass solver= an Optimizer and learning_rate= a Schedule of your own, and follow or stop "
    "training after each epoch by a callback (set_callbacks)"
)
_STOPPING = (
    "pass early_stopping=EarlyStopping(scoring=...) with a scorer of your own, or stop training by "
    "a callback (set_callbacks)"
)
_WEIGHTS = "pass init= an Initializer of your own, or the weights themselves: (coefs, intercepts)"
_DATA = (
    "override fit or partial_fit, and change X and y before you call super(). For labels with "
    "probabilities, repeat each row for each class with the probability as its sample_weight"
)
_FIT = "override fit and partial_fit, and call super()"
_PREDICT = "override predict, which calls super().predict(X)"

REPLACEMENTS: Mapping[str, str] = {
    "_backprop": _LOSS,
    "_check_solver": "override partial_fit, and call super()",
    "_compute_loss_grad": _LOSS,
    "_fit": _FIT,
    "_fit_lbfgs": "pass solver=LBFGS(...) with settings of your own",
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
"""The name of each method, and what to do in place of overriding it."""

# The packages whose own methods of these names are no overrides.
_PACKAGES = frozenset({"sklearn", __name__.partition(".")[0]})


def check_overrides(estimator: Any) -> None:
    """Check that an estimator overrides no method that would never be called.

    Raises
    ------
    TypeError
        If it does, in its class or as an attribute of its own. The error says what to do instead.
    """
    kind, own = type(estimator), vars(estimator)
    for name, replacement in REPLACEMENTS.items():
        method = own.get(name, getattr(kind, name, None))
        if not (callable(method) or isinstance(method, property)):
            continue
        if (getattr(method, "__module__", None) or "").partition(".")[0] not in _PACKAGES:
            raise TypeError(
                f"{kind.__name__} overrides {name}, a private method of scikit-learn's networks "
                f"that is never called here. Remove or rename it. In its place, {replacement}."
            )
