"""Conversion of a fitted network to scikit-learn's own class."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from ..activations import ACTIVATIONS
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..layers import Activation, Dense
from ..losses import LogLoss, Loss, Poisson, SquaredError
from ..nn.network import Network
from ..training.targets import MultilabelTargets

_LOSSES = {LogLoss: "log_loss", SquaredError: "squared_error", Poisson: "poisson"}
_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
# The values that scikit-learn knows, of parameters of training that have more of them here.
_VALUES = {
    "solver": ("lbfgs", "sgd", "adam"),
    "learning_rate": ("constant", "invscaling", "adaptive"),
    "early_stopping": (False, True),
}
# The fitted attributes that both have, if they are set.
_ATTRIBUTES = (
    *("feature_names_in_", "loss_", "loss_curve_", "n_features_in_", "n_iter_", "n_layers_"),
    *("n_outputs_", "t_"),
)


def to_sklearn(estimator: Any) -> Any:
    """Return a fitted network as scikit-learn's own `MLPClassifier` or `MLPRegressor`.

    It has the same weights and predicts the same, up to rounding, so that programs that ask for
    scikit-learn's class accept it. Standardized targets of ``scale_target=True`` are part of its
    last layer. Further training starts from the weights, with a new optimizer. Parameters of
    training that scikit-learn does not have, such as another solver, have its defaults.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        A fitted network.

    Returns
    -------
    network : MLPClassifier or MLPRegressor
        The network, fitted.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not a `BackpropClassifier` or `BackpropRegressor`.
    ValueError
        If scikit-learn does not have its loss, activation or layers, it has several networks, or
        it knows only one class.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.export import to_sklearn
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> network = to_sklearn(model)
    >>> network
    MLPClassifier(hidden_layer_sizes=(8,), max_iter=1000, random_state=0,
                  solver='lbfgs')
    >>> np.allclose(network.predict_proba(X), model.predict_proba(X))
    True
    """
    if not isinstance(estimator, (BackpropClassifier, BackpropRegressor)):
        raise TypeError(
            "to_sklearn converts a BackpropClassifier or BackpropRegressor, got a "
            f"{type(estimator).__name__}. Of a pipeline, pass the last step, pipeline[-1]."
        )
    check_is_fitted(estimator)
    n_networks = len(estimator._model.state)
    if n_networks > 1:
        raise ValueError(
            f"The estimator has {n_networks} networks, but scikit-learn's have one. "
            "Set n_estimators=1, and fit again."
        )
    coefs = [np.array(weights) for weights in estimator.coefs_]
    intercepts = [np.array(biases) for biases in estimator.intercepts_]
    network = MLPClassifier() if isinstance(estimator, BackpropClassifier) else MLPRegressor()
    settings = estimator.get_params(deep=False) | {
        "hidden_layer_sizes": tuple(weights.shape[1] for weights in coefs[:-1]),
        "activation": _find_activation(estimator._model.network),
        "loss": _find_loss(estimator._model.targets.loss),
    }
    for name in network.get_params().keys() & settings.keys():
        if name not in _VALUES or settings[name] in _VALUES[name]:
            setattr(network, name, settings[name])
    if isinstance(network, MLPClassifier):
        _set_classes(network, estimator._model.targets)
    else:
        network.out_activation_ = "exp" if network.loss == "poisson" else "identity"
        _unscale_targets(network.loss, estimator._model.targets, coefs, intercepts)
    network.coefs_, network.intercepts_ = coefs, intercepts
    for name in _ATTRIBUTES:
        if hasattr(estimator, name):
            setattr(network, name, getattr(estimator, name))
    _set_training_state(network, estimator.validation_scores_ or [])
    return network


def _find_loss(loss: Loss) -> str:
    """Return the name of a loss in scikit-learn."""
    kind = type(getattr(loss, "base_loss", loss))  # without label smoothing
    if kind not in _LOSSES:
        raise ValueError(
            f"The network's loss is {loss!r}, which scikit-learn's networks do not have. Set loss "
            f"to one of {', '.join(_LOSSES.values())}, and fit again."
        )
    return _LOSSES[kind]


def _find_activation(network: Network) -> str:
    """Return the name of the activation of all hidden layers, which must be fully connected."""
    names, functions = {type(ACTIVATIONS[name]): name for name in _ACTIVATIONS}, list[Any]()
    for layer in network.layers:
        if isinstance(layer, Activation):
            functions.append(layer.function)
        elif not (layer.stochastic or (isinstance(layer, Dense) and not layer.scope)):
            raise ValueError(
                f"The network has the layer {layer!r}, but scikit-learn's networks have only those "
                "of hidden_layer_sizes. Fit without other layers, or export it with to_onnx."
            )
    activations = {names.get(type(function)) for function in functions} or {"relu"}
    name = activations.pop()
    if name is None or activations:
        raise ValueError(
            f"The activations of the network are {functions}, but all hidden layers of "
            f"scikit-learn's networks have the same one of {', '.join(_ACTIVATIONS)}. Set "
            "activation to one of these, and fit again."
        )
    return name


def _set_classes(network: Any, labels: Any) -> None:
    """Set the classes of a classifier, or its labels for multilabel targets."""
    is_multilabel = isinstance(labels, MultilabelTargets)
    if len(labels.classes) == 1 and not is_multilabel:
        raise ValueError(
            "The network knows only one class, and scikit-learn's networks give two probabilities "
            "then. Fit with two classes or more."
        )
    y = labels.classes
    if is_multilabel:
        y = np.eye(len(labels.classes), dtype=int)
        y = csr_array(y) if labels.is_sparse else y
    network._label_binarizer = LabelBinarizer().fit(y)
    network.classes_ = network._label_binarizer.classes_
    is_multiclass = network._label_binarizer.y_type_ == "multiclass"
    network.out_activation_ = "softmax" if is_multiclass else "logistic"


def _unscale_targets(loss: str, targets: Any, coefs: list[Any], intercepts: list[Any]) -> None:
    """Make the scale and the mean of the targets part of the last layer, in place."""
    if targets.scale is None:
        return
    if loss == "poisson":  # exp(z) scale = exp(z + log(scale)); the mean is zero
        intercepts[-1] += np.log(targets.scale)
    else:
        coefs[-1] *= targets.scale
        intercepts[-1] *= targets.scale
        intercepts[-1] += targets.mean


def _set_training_state(network: Any, scores: list[float]) -> None:
    """Set what `partial_fit` and a warm start of scikit-learn's networks need."""
    network._no_improvement_count = 0
    network._best_coefs = [weights.copy() for weights in network.coefs_]
    network._best_intercepts = [biases.copy() for biases in network.intercepts_]
    network.best_loss_ = min(network.loss_curve_, default=np.inf)
    network.validation_scores_ = network.best_validation_score_ = None
    if network.early_stopping:
        network.validation_scores_ = scores
        network.best_loss_, network.best_validation_score_ = None, max(scores, default=-np.inf)
