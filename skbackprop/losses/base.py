"""Base classes of losses."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy import optimize

from ..utils.arrays import Array
from ..utils.configurable import Configurable, check_in_place
from .links import Link


class TargetInterval(NamedTuple):
    """Interval of the targets for which a loss is defined.

    Parameters
    ----------
    low, high : float, default=-np.inf, np.inf
        The ends of the interval.
    low_inclusive : bool, default=True
        Whether the lower end belongs to the interval; the upper end always does.

    Examples
    --------
    >>> from skbackprop.losses import Gamma
    >>> Gamma().interval_y_true
    TargetInterval(low=0.0, high=inf, low_inclusive=False)
    """

    low: float = -np.inf
    high: float = np.inf
    low_inclusive: bool = True


class Loss(Configurable):
    """Loss of each row as a function of the raw prediction and the target.

    The raw prediction is the output of the last layer, before the output activation. Raw
    predictions and targets have the same shape: if a loss has several outputs per target, each
    target is repeated for each of its outputs.

    A custom loss must define `link`, `value` and `gradient`. The regressor also uses the other
    methods; their defaults are right for any smooth loss with one output per target.

    Attributes
    ----------
    link : Link
        The link; its inverse turns raw predictions into predictions.
    interval_y_true : TargetInterval, default=TargetInterval()
        The targets for which the loss is defined.
    n_outputs_per_target : int, default=1
        The number of outputs for each target. They are adjacent columns.
    average_over_outputs : bool, default=True
        Whether the reported loss, which is also compared with ``tol``, is the mean over the targets
        instead of their sum. Training minimizes the sum in both cases.
    prediction_columns : slice, default=slice(None)
        The columns of the output of the inverse link that `predict` returns.
    """

    interval_y_true: ClassVar[TargetInterval] = TargetInterval()
    average_over_outputs: ClassVar[bool] = True
    prediction_columns: ClassVar[slice] = slice(None)

    @property
    def link(self) -> Link:
        raise NotImplementedError(f"{type(self).__name__} must define its link")

    def value(self, raw_prediction: Array, y: Array) -> Array:
        """Return the loss of each row, summed over its outputs: shape (n_estimators, n)."""
        raise NotImplementedError(f"{type(self).__name__} must define value(raw_prediction, y)")

    def value_per_target(self, raw_prediction: Array, y: Array) -> Array:
        """Return the loss of each target of each row: shape (n_estimators, n, n_targets).

        Weights of two dimensions multiply it. The default is right if the loss of a row is the sum
        of one function of each target and its outputs.
        """
        n_outputs, arrays = self.n_outputs_per_target, (raw_prediction, y)
        rows = [array.reshape(*array.shape[:-2], -1, n_outputs) for array in arrays]
        return self.value(*rows).reshape(*raw_prediction.shape[:-1], -1)

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        """Write the gradient with respect to `raw_prediction` to `out`, perhaps the same array.

        While a single network trains, all three arrays have shape (n, k).
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define gradient(raw_prediction, y, out)"
        )

    @property
    def n_outputs_per_target(self) -> int:
        return 1

    def predict(self, raw_prediction: Array) -> Array:
        """Return the predictions of k targets: shape (n, k), or (n, k, c) for c columns each."""
        predictions = np.empty_like(raw_prediction)
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = self.link.inverse(raw_prediction, predictions)  # type: ignore[func-returns-value]
        check_in_place(self.link, "inverse(raw_prediction, out)", "out", result, predictions)
        return predictions

    def predict_std(self, raw_prediction: Array) -> Array | None:
        """Return the standard deviation of each target: shape (n, k); None if not learned."""
        return None

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        """Return the constant raw prediction that minimizes the mean loss of one target.

        The default is a numerical minimization, which needs a smooth loss.

        Parameters
        ----------
        y : float64 array of shape (n,)
            The target.
        weight : array of shape (n,) or None
            The weight of each row; None for equal weights.

        Returns
        -------
        raw_prediction : array of shape (n_outputs_per_target,)
        """
        n_outputs = self.n_outputs_per_target
        targets = np.repeat(y[:, None], n_outputs, axis=1)[None]

        def value_and_gradient(constant: Array) -> tuple[float, Array]:
            raw_prediction = np.tile(constant, (1, len(y), 1))
            value = np.average(self.value(raw_prediction, targets)[0], weights=weight)
            self.gradient(raw_prediction, targets, raw_prediction)
            return value, np.average(raw_prediction[0], axis=0, weights=weight)

        # Targets have any unit, so no tolerance of the gradient is small enough. The minimum may
        # be far from zero; each step of a line search is four times the last.
        result = optimize.minimize(
            value_and_gradient,
            np.zeros(n_outputs),
            method="L-BFGS-B",
            jac=True,
            options={"ftol": 0, "gtol": 0, "maxls": 50, "maxfun": 1000},
        )
        return np.asarray(result.x)

    def score(self, raw_prediction: Array, y: Array, weight: Array | None) -> float:
        """Return D2, the share of the loss of the best constant that the model removes.

        D2 = 1 - loss / loss of the best constant (Hastie, Tibshirani & Wainwright 2015, equation
        3.11), averaged over the targets. A perfect model scores 1, the best constant 0. For a
        constant target, an exact prediction scores 1, any other 0. D2 of the squared error is R2.
        Targets without weight do not count.

        Parameters
        ----------
        raw_prediction, y : arrays of shape (n, k)
            Raw predictions and targets.
        weight : array of shape (n,) or (n, n_targets), or None
            The weight of each row, or of each of its targets; None for equal weights.
        """
        n_targets = y.shape[1] // self.n_outputs_per_target
        weights: Any = [weight] * n_targets if weight is None or weight.ndim == 1 else weight.T
        columns = (np.split(array, n_targets, axis=1) for array in (raw_prediction, y))
        targets = [each for each in zip(*columns, weights, strict=True) if np.any(each[2] != 0)]
        return float(np.mean([self._score_target(*target) for target in targets]))

    def _score_target(self, raw_prediction: Array, y: Array, weight: Array | None) -> float:
        if weight is not None:  # rows with zero weight may have any value, even an infinite loss
            counts = weight > 0
            raw_prediction, y, weight = raw_prediction[counts], y[counts], weight[counts]
        y = y.astype(np.float64)
        constant = np.broadcast_to(self.fit_intercept_only(y[:, 0], weight), y.shape)
        loss, baseline = (
            float(np.average(self.value(raw[None], y[None])[0], weights=weight))
            for raw in (raw_prediction.astype(np.float64), constant)
        )
        if (y[:, 0] == y[0, 0]).all():
            return float(loss <= baseline)
        return self.d2_score(loss, baseline)

    def log_likelihood(self, raw_prediction: Array, y: Array, dispersion: float = 1.0) -> Array:
        """Return the log density of each row, summed over its outputs: shape (n_estimators, n).

        Defined only by losses that are negative log-likelihoods, up to a term that depends on y
        alone.

        Parameters
        ----------
        raw_prediction, y : float64 arrays of shape (n_estimators, n, k)
            Raw predictions and targets.
        dispersion : float, default=1.0
            The variance of a normal distribution; ignored by other distributions.
        """
        raise NotImplementedError(f"{type(self).__name__} is not a negative log-likelihood")

    @property
    def has_likelihood(self) -> bool:
        """Whether `log_likelihood` is defined."""
        return type(self).log_likelihood is not Loss.log_likelihood

    def d2_score(self, loss: float, baseline: float) -> float:
        """Return D2 of a mean loss, given the mean loss of the best constant."""
        return (baseline - loss) / (abs(baseline) or 1.0)


class CanonicalLinkLoss(Loss):
    """Negative log-likelihood with the canonical link: the gradient is prediction - target.

    The loss A(s) - y s of an exponential family with log-partition A has the gradient A'(s) - y,
    where s is the raw prediction (McCullagh & Nelder 1989, section 2.2).
    """

    def value(self, raw_prediction: Array, y: Array) -> Array:
        log_partition = self.link.log_partition(raw_prediction).sum(axis=-1)
        # On short rows, einsum is several times as fast as a sum over the last axis.
        return np.asarray(log_partition - np.einsum("...k,...k->...", y, raw_prediction))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        self.link.inverse(raw_prediction, out)
        np.subtract(out, y, out=out)


def separate_losses(loss: Loss, raw_prediction: Array, y: Array) -> Array:
    """Return `value_per_target` in double precision, after a check that its sum is `value`."""
    arrays = [raw_prediction.astype(np.float64), y.astype(np.float64)]
    arrays = [array.reshape(-1, *array.shape[-2:]) for array in arrays]
    values = loss.value_per_target(*arrays)
    if not np.allclose(values.sum(axis=-1), loss.value(*arrays), equal_nan=True):
        raise ValueError(
            f"loss={loss!r} cannot weigh or skip single targets, because its value is not the sum "
            "of value_per_target. Pass one weight for each row, and y without NaN."
        )
    return values


def can_be_scaled(loss: Loss) -> bool:
    """Return whether a loss accepts scaled targets: it is defined for all y, or for y >= 0."""
    return loss.interval_y_true.low in (0, -np.inf) and loss.interval_y_true.high == np.inf
