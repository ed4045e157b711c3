"""Helpers of the displays: axes, logarithmic scales, and the networks to plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted

from ..estimators._estimator_mixin import get_pipeline_steps
from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular
from ..utils.arrays import Array
from ..utils.validation import require_extra

# Values that span more than this factor are plotted on a logarithmic scale.
_WIDE_FACTOR = 20

# Attributes in which other meta-estimators than searches keep the estimator that they fitted.
_FITTED_ATTRIBUTES = ("estimator_", "regressor_")


def get_axes(display: Any, ax: Any, **options: Any) -> Any:
    """Return the axes that a user passed, or those of a new figure with these options."""
    with require_extra(type(display).__name__, extra="plot"):
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    if ax is None:
        return pyplot.subplots(layout="constrained", **options)[1]
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes or None, got {ax!r}.")
    return ax


def is_wide(values: Sequence[float] | Array) -> bool:
    """Return whether values are positive and span more than a factor of 20."""
    return len(values) > 0 and bool(0 < _WIDE_FACTOR * min(values) < max(values))


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
    last = get_pipeline_steps(estimator)[-1]
    if hasattr(last, "fit") and not isinstance(last, type):
        check_is_fitted(last)
    for name in _FITTED_ATTRIBUTES:
        if name in getattr(last, "__dict__", {}):
            return unwrap_estimator(getattr(last, name))
    return list(last.networks_) if isinstance(last, BaseTabular) else [last]


def first_network(caller: str, estimator: Any) -> BaseNeuralNetwork:
    """Return the fitted network of this package inside an estimator, the first of several.

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
    network = unwrap_estimator(estimator)[0]
    if not isinstance(network, BaseNeuralNetwork):
        raise TypeError(
            f"{caller} needs a fitted BackpropClassifier or another estimator of skbackprop, or a "
            f"pipeline or refitted search of one, got {estimator!r}."
        )
    return network
