"""Which learning rate? The range test tries one after the other, in a single short training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from ..estimators._data_info import FitArguments
from ..estimators.base import BaseNeuralNetwork
from ..nn.objective import DivergenceError
from ..schedules import ConstantRate
from ..training.blas_threads import with_blas_limit
from ..training.config import is_lbfgs
from ..training.model_stacks import make_ensemble_trainer
from ..training.training_run import TrainingRun
from ..utils.arrays import Array, IndexArray, MatrixLike

# Fewer steps than this are too few to be smoothed.
_FEWEST_STEPS = 20

# What a loss has to fall by, as a share of itself, to have fallen at all.
_SMALLEST_FALL = 1e-3

# The largest rate that trains well is about this share of the one at which the loss turns.
_SAFETY = 0.1


@dataclass(frozen=True, eq=False)
class LearningRateFinderResult:
    """What `find_learning_rate` has found.

    Parameters
    ----------
    rates : array of shape (n_steps,)
        The rates, each larger than the last by the same factor, up to where the loss diverged.
    losses : array of shape (n_steps,)
        The loss of the batch of each step, penalty included, before the step is made; of
        several targets their mean, as in ``loss_curve_``.
    smoothed_losses : array of shape (n_steps,)
        The mean of the losses of each step and its neighbours.
    suggestion : float
        A tenth of the rate at which the smoothed loss is lowest.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, find_learning_rate
    >>> X, y = load_iris(return_X_y=True)
    >>> found = find_learning_rate(BackpropClassifier(random_state=0), X, y)
    >>> len(found.rates) == len(found.losses)
    True
    >>> 1e-3 < found.suggestion < 1e-1
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
    """Try learning rates on an estimator, from small to large (Smith 2017, section 3.3).

    A copy of the estimator is trained from its initial weights, batch after batch, each at a rate
    that is larger by the same factor. Too small a rate changes nothing, a good one lets the loss
    fall, too large a one makes it rise: there the test ends, once the mean of the last losses is
    above that of the first ones by more than the latter, and by more than had been gained. The
    suggestion is a tenth of the rate at which the smoothed loss is lowest.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor, BackpropAutoencoder or Pipeline
        The estimator, which stays as it is, with a stochastic solver; or a pipeline that ends in
        one, the transformers of which are fitted to the data first. Its `learning_rate`,
        `learning_rate_init` and `early_stopping` are not used; of several members the first is.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The training input.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
        The targets; None for an estimator that is fitted without any.
    sample_weight : array-like of shape (n_samples,), default=None
        The weight of each row; None for equal weights.
    smallest, largest : float, default=1e-6, 10.0
        The first and the last rate, positive.
    n_steps : int, default=100
        The number of rates, at least 20, and so of batches: as many epochs as that takes.

    Returns
    -------
    found : LearningRateFinderResult
        The rates, the losses and a suggestion for `learning_rate_init`;
        `displays.LearningRateDisplay` draws them.

    Raises
    ------
    TypeError
        If the estimator is none of ours.
    ValueError
        If a parameter or the data is not valid, if training diverges at the smallest rates, or if
        no rate lets the loss fall.

    Warns
    -----
    UserWarning
        If the loss was still falling at the largest rate.

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
    _check_rates(smallest, largest, n_steps)
    network, X = _network_and_input(estimator, X, y)
    rates = np.geomspace(smallest, largest, n_steps)
    width = n_steps // 20
    run = network._prepare_first(FitArguments(X, y, sample_weight)).runs[0]
    losses = np.array(
        with_blas_limit(
            lambda: _losses(run, rates.tolist(), width),
            run.network.max_matmul_size(run.batch_size),
        )
    )
    if len(losses) < 4 * width:
        raise ValueError(
            f"training diverged after {len(losses)} steps, at a rate of {rates[len(losses)]:.3g}. "
            f"Lower smallest (now {smallest}), or scale the data, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    rates = rates[: len(losses)]
    smoothed = _smoothed(losses, width)
    lowest = int(np.argmin(smoothed))
    if smoothed[0] - smoothed[lowest] <= _SMALLEST_FALL * abs(smoothed[0]):
        raise ValueError(
            f"the loss fell at no rate between {smallest} and {rates[-1]:.3g}. Try another range, "
            "or look at the scale of the data."
        )
    if lowest == n_steps - 1:
        warnings.warn(
            f"The loss was still falling at the largest rate, {largest}. Raise largest.",
            UserWarning,
            stacklevel=2,
        )
    return LearningRateFinderResult(rates, losses, smoothed, float(_SAFETY * rates[lowest]))


def _check_rates(smallest: Any, largest: Any, n_steps: Any) -> None:
    are_rates = all(isinstance(rate, Real) for rate in (smallest, largest))
    if not (are_rates and 0 < smallest < largest < math.inf):
        raise ValueError(
            "smallest and largest must be finite numbers with 0 < smallest < largest, got "
            f"{smallest!r} and {largest!r}."
        )
    if not isinstance(n_steps, Integral) or int(n_steps) < _FEWEST_STEPS:
        raise ValueError(f"n_steps must be an int of at least {_FEWEST_STEPS}, got {n_steps!r}.")


def _network_and_input(estimator: Any, X: Any, y: Any) -> tuple[BaseNeuralNetwork, Any]:
    """Return a copy of the network, and X as it comes out of the transformers before it."""
    estimator = clone(estimator)
    network = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(network, BaseNeuralNetwork):
        raise TypeError(
            "find_learning_rate takes a BackpropClassifier, a BackpropRegressor, a "
            f"BackpropAutoencoder or a Pipeline that ends in one, got {estimator!r}."
        )
    if is_lbfgs(network.solver):
        raise ValueError(
            f"solver={network.solver!r} has no learning rate. find_learning_rate takes a "
            "stochastic solver."
        )
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = estimator[:-1].fit_transform(X, y)
    return network.set_params(early_stopping=False), X


def _losses(run: TrainingRun, rates: list[float], width: int) -> list[float]:
    """Train a step at each rate, and return the losses before them, until training diverges."""
    whole, batches = make_ensemble_trainer([run]), _batches(run)
    losses: list[float] = []
    for rate, rows in zip(rates, batches, strict=False):
        # A stack that has one batch: an epoch of it is a step.
        stack = replace(
            whole,
            state=replace(whole.state, orders=[rows], rngs=[None], schedule={}),
            batch_sizes=[len(rows)],
            schedule=ConstantRate(),
            rate=np.array([[rate]]),
        )
        try:
            losses += stack.train_epoch(0, 1).tolist()
        except DivergenceError:
            break
        if _has_risen(losses, width):
            break
    return losses


def _batches(run: TrainingRun) -> Iterator[IndexArray]:
    """Return the rows of batches of equal size, epoch after epoch, in the run's own order."""
    (order,), (rng,), weight = run.state.orders, run.state.rngs, run.table.weight
    order = np.arange(run.n_train) if order is None else order
    if weight is not None:
        order = order[weight[order] > 0]  # a batch without any weight has no loss
    size = min(run.batch_size, len(order))
    while True:
        if run.config.shuffle and rng is not None:
            rng.shuffle(order)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size].copy()


def _has_risen(losses: list[float], width: int) -> bool:
    """Return whether the last losses are far above the first ones."""
    first, last = np.mean(losses[:width]), np.mean(losses[-width:])
    gain = first - _smoothed(np.array(losses), width).min()
    return bool(last > first + max(abs(first), gain))


def _smoothed(losses: Array, width: int) -> Array:
    """Return means over each value and `width` of its neighbours to either side."""
    window = np.ones(min(2 * width + 1, len(losses)))
    sums = np.convolve(losses, window, mode="same")
    return np.asarray(sums / np.convolve(np.ones(len(losses)), window, mode="same"))
