"""Helpers of the displays: axes, logarithmic scales, and the networks to plot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..estimators._estimator_mixin import get_pipeline_steps
from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular
from ..utils.validation import require_extra

# Values that span more than this factor are plotted on a logarithmic scale.
_WIDE_FACTOR = 20

# Attributes in which other meta-estimators than searches keep the estimator that they fitted.
_FITTED_ATTRIBUTES = ("estimator_", "regressor_")


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError with the installation command if matplotlib is not installed.

    Parameters
    ----------
    caller : str
        The name of the class that needs matplotlib.
    """
    with require_extra(caller, extra="plot"):
        import matplotlib.figure  # noqa: F401 - only to check that it is installed


def get_axes(caller: str, ax: Any, **figure_kwargs: Any) -> Any:
    """Return the axes that a user passed, or those of a new figure with these keywords."""
    check_matplotlib(caller)
    from matplotlib import pyplot
    from matplotlib.axes import Axes

    if ax is None:
        return pyplot.figure(layout="constrained", **figure_kwargs).subplots()
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be a matplotlib Axes or None, got {ax!r}.")
    return ax


def prefers_log_scale(values: Iterable[float]) -> bool:
    """Return whether values are positive and span more than a factor of 20."""
    finite = np.asarray([*values], dtype=float)
    finite = finite[np.isfinite(finite)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > _WIDE_FACTOR * finite.min())


def set_log_scale_if_wide(ax: Any, lines: Iterable[Any]) -> None:
    """Make the y axis logarithmic if the lines span a wide range."""
    if prefers_log_scale(y for line in lines for y in line.get_ydata()):
        ax.set_yscale("log")


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
            f"{caller} needs a fitted BackpropClassifier, BackpropRegressor, BackpropAutoencoder, "
            "TabularClassifier or TabularRegressor, or a pipeline or refitted search of one, got "
            f"{estimator!r}."
        )
    return network
