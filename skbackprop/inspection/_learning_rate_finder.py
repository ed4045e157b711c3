"""Learning rate finder: a range test over growing learning rates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ..estimators.base import BaseNeuralNetwork
from ..nn.rows import Rows
from ..nn.stack import Stack
from ..training.config import is_lbfgs
from ..training.model import Model
from ..training.problem import Problem
from ..training.resources import limit_blas
from ..utils.arrays import Array, IndexArray, MatrixLike

# With fewer steps, the losses cannot be smoothed.
_MIN_STEPS = 20

# The minimum relative decrease of the loss that counts as progress.
_MIN_DECREASE = 1e-3

# The suggested rate, relative to the rate with the lowest loss.
_SUGGESTED_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class LearningRateFinderResult:
    """Result of `find_learning_rate`: rates, losses and a suggested learning rate.

    Parameters
    ----------
    rates : array of shape (n_steps,)
        The learning rates, in geometric progression, up to the one at which training diverged.
    losses : array of shape (n_steps,)
        The loss of each step's batch before the step, penalty included. It is averaged over
        targets, as in ``loss_curve_``.
    smoothed_losses : array of shape (n_steps,)
        The moving average of the losses.
    suggestion : float
        A tenth of the rate at which the smoothed loss is lowest, for `learning_rate_init`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, find_learning_rate
    >>> X, y = load_iris(return_X_y=True)
    >>> result = find_learning_rate(BackpropClassifier(random_state=0), X, y)
    >>> len(result.rates) == len(result.losses)
    True
    >>> 1e-3 < result.suggestion < 1e-1
    True
    """

    rates: Array
    losses: Array
    smoothed_losses: Array
    suggestion: float


def find_learning_rate(
    estimator: Any,
    X: MatrixLike,
    y: MatrixLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
    smallest: float = 1e-6,
    largest: float = 10.0,
    n_steps: int = 100,
) -> LearningRateFinderResult:
    """Find a learning rate by a range test, from small to large rates.

    A copy of the estimator is trained from its initial weights. The learning rate grows by the same
    factor with each batch (Smith 2017, section 3.3). A rate that is too small does not change the
    loss, a good one lowers it, and one that is too large raises it. The test ends when the mean of
    the last losses exceeds the mean m of the first losses by more than abs(m), and by more than the
    loss fell below m before. The suggestion is a tenth of the rate at which the smoothed loss is
    lowest.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor, BackpropAutoencoder or Pipeline
        An estimator with a stochastic solver, or a pipeline that ends in one, whose transformers
        are fitted to the data first. It is not changed. Its `learning_rate`, `learning_rate_init`
        and `early_stopping` are ignored. Of an ensemble, the first network is trained.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The training input.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        The targets; None for an estimator that needs none.
    sample_weight : array-like of shape (n_samples,), default=None
        The weight of each row; None for equal weights.
    smallest, largest : float, default=1e-6, 10.0
        The first and the last rate, positive.
    n_steps : int, default=100
        The number of rates, at least 20. Each rate is used for one batch.

    Returns
    -------
    result : LearningRateFinderResult
        The rates, the losses and a suggestion for `learning_rate_init`;
        `displays.LearningRateDisplay` draws them.

    Raises
    ------
    TypeError
        If the estimator is not a network of skbackprop.
    ValueError
        If a parameter or the data is invalid, if training diverges at the smallest rates, or if no
        rate lowers the loss.

    Warns
    -----
    UserWarning
        If the loss is still decreasing at the largest rate.

    References
    ----------
    Smith, L. N. (2017). Cyclical learning rates for training neural networks. WACV.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, find_learning_rate
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(max_iter=500, random_state=0)
    >>> rate = find_learning_rate(model, X, y).suggestion
    >>> model.set_params(learning_rate_init=rate).fit(X, y).score(X, y) > 0.95
    True
    """
    if not 0 < smallest < largest < math.inf:
        raise ValueError(
            "smallest and largest must be finite numbers with 0 < smallest < largest, got "
            f"{smallest!r} and {largest!r}."
        )
    if not isinstance(n_steps, Integral) or int(n_steps) < _MIN_STEPS:
        raise ValueError(f"n_steps must be an int of at least {_MIN_STEPS}, got {n_steps!r}.")
    network, X = _split_pipeline(estimator, X, y)
    rates = np.geomspace(smallest, largest, n_steps)
    width = n_steps // 20
    problem, model = network._start_training({"X": X, "y": y, "sample_weight": sample_weight})
    losses = np.array(_train_at_rates(problem, model, rates, width))
    if len(losses) < 4 * width:
        raise ValueError(
            f"Training diverged after {len(losses)} steps, at a rate of {rates[len(losses)]:.3g}. "
            f"Lower smallest (now {smallest}), or scale the data, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    rates = rates[: len(losses)]
    smoothed = _moving_average(losses, width)
    lowest = int(np.argmin(smoothed))
    if smoothed[0] - smoothed[lowest] <= _MIN_DECREASE * abs(smoothed[0]):
        raise ValueError(
            f"The loss did not fall at any rate between {smallest} and {rates[-1]:.3g}. Try "
            "another range, or scale the data."
        )
    if lowest == n_steps - 1:
        warnings.warn(
            f"The loss was still falling at the largest rate, {largest}. Increase largest.",
            UserWarning,
            stacklevel=2,
        )
    return LearningRateFinderResult(
        rates, losses, smoothed, float(_SUGGESTED_SHARE * rates[lowest])
    )


def _split_pipeline(estimator: Any, X: Any, y: Any) -> tuple[BaseNeuralNetwork, Any]:
    """Return a copy of the network, and X transformed by the steps before it."""
    estimator = clone(estimator)
    network = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(network, BaseNeuralNetwork):
        raise TypeError(
            "estimator must be a BackpropClassifier, a BackpropRegressor, a BackpropAutoencoder "
            f"or a Pipeline that ends in one, got {estimator!r}."
        )
    if is_lbfgs(network.solver):
        raise ValueError(
            f"solver must be stochastic to have a learning rate, got {network.solver!r}. Choose a "
            "stochastic solver such as 'adam' or 'sgd'."
        )
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = estimator[:-1].fit_transform(X, y)
    return network.set_params(early_stopping=False), X


def _train_at_rates(problem: Problem, model: Model, rates: Array, width: int) -> list[float]:
    """Train one step at each rate until the loss rises, and return the loss before each step."""
    batches = _iter_batches(problem.rows, model)
    network = model.training_network
    state = model.state.take(slice(1))
    # With a single batch, an epoch is a step.
    batch = next(batches).copy()
    state.orders = [batch]
    config = replace(model.config, shuffle=False)
    stack = Stack(network, problem.targets.loss, config, [problem.rows], state)
    losses: list[float] = []
    with limit_blas(len(batch) * network.max_matmul_size, divides_rows=network.divides_rows):
        for rate in rates:
            loss = stack.train_epoch(np.array([[rate]])).item()
            if not (math.isfinite(loss) and state.is_finite().all()):
                break
            losses.append(loss)
            first, last = np.mean(losses[:width]), np.mean(losses[-width:])
            gain = first - _moving_average(np.array(losses), width).min()
            if last > first + max(abs(first), gain):
                break
            batch[...] = next(batches)
            stack.set_rows([problem.rows])
    return losses


def _iter_batches(rows: Rows, model: Model) -> Iterator[IndexArray]:
    """Yield the rows of batches of equal size, in the order of training."""
    config = model.config
    order = model.state.orders[0]
    rng = model.state.rngs[0]
    weight = rows.row_weight
    order = np.arange(rows.n_rows) if order is None else order
    if weight is not None:
        order = order[weight[order] > 0]  # the loss of a batch without weights is undefined
    size = min(config.batch_size, len(order))
    while True:
        if config.shuffle and rng is not None:
            rng.shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def _moving_average(losses: Array, width: int) -> Array:
    """Return the moving average over `width` neighbors on either side."""
    window = np.ones(min(2 * width + 1, len(losses)))
    sums = np.convolve(losses, window, mode="same")
    return np.asarray(sums / np.convolve(np.ones(len(losses)), window, mode="same"))
