"""Which networks an estimator holds: those of pipelines, searches and others are found."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular

# Where estimators that have trained another one keep it.
_KEPT_IN = ("best_estimator_", "estimator_", "regressor_")


def unwrap_estimator(estimator: Any) -> list[Any]:
    """Return the fitted estimators at the core of one: its own networks, or just itself.

    Parameters
    ----------
    estimator : estimator
        Of pipelines, searches and their like it is what they hold, of a `TabularClassifier` or
        `TabularRegressor` its networks.

    Raises
    ------
    NotFittedError
        If it is not fitted.
    """
    if isinstance(estimator, FrozenEstimator):
        return unwrap_estimator(estimator.estimator)
    if isinstance(estimator, Pipeline):
        return unwrap_estimator(estimator.steps[-1][1])
    if hasattr(estimator, "fit") and not isinstance(estimator, type):
        check_is_fitted(estimator)
    for name in _KEPT_IN:
        if name in getattr(estimator, "__dict__", {}):
            return unwrap_estimator(getattr(estimator, name))
    return list(estimator.networks_) if isinstance(estimator, BaseTabular) else [estimator]


def fitted_networks(owner: str, estimator: Any) -> list[BaseNeuralNetwork]:
    """Return the fitted networks of this package that an estimator holds.

    Parameters
    ----------
    owner : str
        The name of what asks, for the error.
    estimator : estimator
        One of ours, or a pipeline, a search or the like of one.

    Raises
    ------
    TypeError
        If there are none.
    NotFittedError
        If it is not fitted.
    """
    held = unwrap_estimator(estimator)
    if not all(isinstance(network, BaseNeuralNetwork) for network in held):
        raise TypeError(
            f"{owner} takes a fitted BackpropClassifier, BackpropRegressor, BackpropAutoencoder, "
            "TabularClassifier or TabularRegressor, or a pipeline or search of one that has been "
            f"refitted, got {estimator!r}."
        )
    return held
