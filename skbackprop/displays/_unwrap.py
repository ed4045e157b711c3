"""Find the fitted networks inside pipelines, searches and other meta-estimators."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular

# Attributes in which meta-estimators keep the estimator that they fitted.
_FITTED_ATTRIBUTES = ("best_estimator_", "estimator_", "regressor_")


def unwrap_estimator(estimator: Any) -> list[Any]:
    """Return the fitted estimators inside an estimator, or the estimator itself.

    Parameters
    ----------
    estimator : estimator
        A pipeline, search or other meta-estimator, a tabular estimator, which has several
        networks, or any other estimator.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    """
    if isinstance(estimator, FrozenEstimator):
        return unwrap_estimator(estimator.estimator)
    if isinstance(estimator, Pipeline):
        return unwrap_estimator(estimator.steps[-1][1])
    if hasattr(estimator, "fit") and not isinstance(estimator, type):
        check_is_fitted(estimator)
    for name in _FITTED_ATTRIBUTES:
        if name in getattr(estimator, "__dict__", {}):
            return unwrap_estimator(getattr(estimator, name))
    return list(estimator.networks_) if isinstance(estimator, BaseTabular) else [estimator]


def fitted_networks(caller: str, estimator: Any) -> list[BaseNeuralNetwork]:
    """Return the fitted networks of this package inside an estimator.

    Parameters
    ----------
    caller : str
        The name of the display, for the error message.
    estimator : estimator
        A network, or a pipeline, search or other meta-estimator around one.

    Raises
    ------
    TypeError
        If it contains none.
    NotFittedError
        If it is not fitted.
    """
    networks = unwrap_estimator(estimator)
    if not all(isinstance(network, BaseNeuralNetwork) for network in networks):
        raise TypeError(
            f"{caller} takes a fitted BackpropClassifier, BackpropRegressor, BackpropAutoencoder, "
            "TabularClassifier or TabularRegressor, or a pipeline or refitted search of one, got "
            f"{estimator!r}."
        )
    return networks
