"""Losses of regressors.

There are losses of the residual, deviances of positive means, and losses with several outputs per
target, for quantiles or a variance. To add a loss, write a class and add it to `REGRESSOR_LOSSES`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy import optimize
from scipy.special import expit, gammaln, xlogy

from ..utils.arrays import Array
from ..utils.validation import between
from .base import CanonicalLinkLoss, Loss, TargetInterval
from .links import (
    IDENTITY_LINK,
    LOG_LINK,
    GaussianLink,
    Link,
    NonCrossingQuantileLink,
    max_exp_argument,
    unflatten_last_axis,
)

# ------------------------------------------------------------- losses of the residual


@dataclass(frozen=True)
class SquaredError(CanonicalLinkLoss):
    """Half the squared error: loss = 1/2 sum_k (s_k - y_k)^2, with the gradient s - y.

    See Also
    --------
    Huber : Less sensitive to outliers.
    Gaussian : Predicts the variance too.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import SquaredError
    >>> raw_prediction, y = np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]])
    >>> SquaredError().value(raw_prediction, y)
    array([2.5])
    """

    link = IDENTITY_LINK

    def value(self, raw_prediction: Array, y: Array) -> Array:
        return np.asarray(0.5 * np.square(raw_prediction - y).sum(axis=-1))

    def log_likelihood(self, raw_prediction: Array, y: Array, dispersion: float = 1.0) -> Array:
        normalizer = 0.5 * y.shape[-1] * math.log(2 * math.pi * dispersion)
        return np.asarray(-self.value(raw_prediction, y) / dispersion - normalizer)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return np.array([np.average(y, weights=weight)])


class ResidualLoss(Loss):
    """Convex loss of the residual r = s - y, summed over the outputs."""

    link = IDENTITY_LINK

    def rho(self, r: Array) -> Array:
        """Return the loss of each residual."""
        raise NotImplementedError(f"{type(self).__name__} must define rho(r)")

    def psi(self, r: Array, out: Array) -> None:
        """Write the derivative of rho at each residual to `out`, which may be `r`."""
        raise NotImplementedError(f"{type(self).__name__} must define psi(r, out)")

    def value(self, raw_prediction: Array, y: Array) -> Array:
        return np.asarray(self.rho(raw_prediction - y).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        np.subtract(raw_prediction, y, out=out)
        self.psi(out, out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        low, high = float(y.min()), float(y.max())
        if low == high:
            return np.array([low])

        def mean_psi(constant: float) -> float:
            r = constant - y
            self.psi(r, r)
            return float(np.average(r, weights=weight))

        # Targets have any unit and may be far apart, so only the relative tolerance is used, and
        # bisection is allowed as many steps as there are between any two numbers.
        xtol = np.finfo(float).tiny
        return np.array([optimize.brentq(mean_psi, low, high, xtol=xtol, maxiter=10_000)])


@dataclass(frozen=True)
class AbsoluteError(ResidualLoss):
    """Absolute error: loss = sum_k |s_k - y_k|, minimized by the median.

    The gradient is the sign of s - y; for s = y it is the subgradient 0.

    See Also
    --------
    Quantile : Several quantiles; the absolute error predicts the median.
    Huber : Squared error for small residuals.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import AbsoluteError
    >>> raw_prediction, y = np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]])
    >>> AbsoluteError().value(raw_prediction, y)
    array([3.])
    """

    def rho(self, r: Array) -> Array:
        return np.abs(r)

    def psi(self, r: Array, out: Array) -> None:
        np.sign(r, out=out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return _weighted_quantiles(y, [0.5], weight)


@dataclass(frozen=True)
class Huber(ResidualLoss):
    """Huber loss, squared for small residuals, linear for large ones (Huber 1964, section 4).

    With the residual r = s - y, the loss of an output = r^2 / 2 if |r| <= delta, else
    delta (|r| - delta / 2); the gradient is r, clipped to [-delta, delta].

    Parameters
    ----------
    delta : float, default=1.0
        The residual beyond which the loss is linear, positive. It is in the units of y, or with
        ``scale_target`` in standard deviations of y.

    Raises
    ------
    ValueError
        If `delta` is not a positive number.

    See Also
    --------
    LogCosh : Similar, and smooth.
    AbsoluteError : Predicts the median.

    References
    ----------
    Huber, P. J. (1964). Robust estimation of a location parameter. Annals of Mathematical
    Statistics 35(1), 73-101.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.losses import Huber
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = X / X.std(axis=0)
    >>> network = BackpropRegressor(
    ...     (8,), loss=Huber(0.5), scale_target=True, solver="lbfgs", alpha=10.0, random_state=0
    ... )
    >>> network.fit(X, y).score(X, y) > 0.3
    True
    """

    delta: Annotated[float, between(0, closed="neither")] = 1.0

    def rho(self, r: Array) -> Array:
        clipped = np.clip(r, -self.delta, self.delta)
        return np.asarray(clipped * (r - clipped / 2))

    def psi(self, r: Array, out: Array) -> None:
        np.clip(r, -self.delta, self.delta, out=out)


@dataclass(frozen=True)
class LogCosh(ResidualLoss):
    """Log-cosh loss, a smooth Huber loss: loss = sum_k log cosh(s_k - y_k).

    The gradient is tanh(r) with the residual r = s - y (Saleh & Saleh 2022, section 2). The value
    is computed as log(1 + 2 sinh(r / 2)^2), which is accurate for small r too.

    See Also
    --------
    Huber : Similar, with a threshold.

    References
    ----------
    Saleh, R. A. & Saleh, A. K. (2022). Statistical properties of the log-cosh loss function used in
    machine learning. arXiv:2208.04564.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import LogCosh
    >>> raw_prediction, y = np.array([[0.0]]), np.array([[1.0]])
    >>> LogCosh().value(raw_prediction, y)
    array([0.43378083])
    """

    def rho(self, r: Array) -> Array:
        size = np.abs(r)
        near = np.minimum(size, 20)  # beyond 20 the derivative is 1 to the last digit
        return np.asarray(np.log1p(2 * np.square(np.sinh(near / 2))) + (size - near))

    def psi(self, r: Array, out: Array) -> None:
        np.tanh(r, out=out)


# --------------------------------------------------------- deviances of positive means


class DevianceLoss(Loss):
    """Half the deviance of means m = exp(s), summed over the outputs.

    Where the link clips raw predictions, the loss continues along its tangent, so that the gradient
    neither vanishes nor overflows.
    """

    interval_y_true: ClassVar[TargetInterval] = TargetInterval(0.0)

    link = LOG_LINK

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        """Return the loss of each output, given log m."""
        raise NotImplementedError(f"{type(self).__name__} must define half_deviance(log_mean, y)")

    def log_mean_gradient(self, log_mean: Array, y: Array, out: Array) -> None:
        """Write the gradient with respect to log m to `out`, which may be `log_mean`."""
        raise NotImplementedError(
            f"{type(self).__name__} must define log_mean_gradient(log_mean, y, out)"
        )

    def value(self, raw_prediction: Array, y: Array) -> Array:
        log_mean, gradient = LOG_LINK.clip(raw_prediction), np.empty_like(raw_prediction)
        self.log_mean_gradient(log_mean, y, gradient)
        tangent = gradient * (raw_prediction - log_mean)
        return np.asarray((self.half_deviance(log_mean, y) + tangent).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        LOG_LINK.clip(raw_prediction, out)
        self.log_mean_gradient(out, y, out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return self.link.link(np.array([np.average(y, weights=weight)]))


@dataclass(frozen=True)
class Poisson(DevianceLoss):
    """Half the Poisson deviance, for y >= 0.

    loss = sum_k exp(s_k) - y_k s_k + y_k log y_k - y_k, with the gradient exp(s) - y. The reported
    loss is this sum, as in scikit-learn; the other losses report the mean over the targets.

    See Also
    --------
    Tweedie : For totals with many zeros.
    Gamma : For positive numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import Poisson
    >>> raw_prediction, y = np.array([[0.0]]), np.array([[2.0]])
    >>> Poisson().value(raw_prediction, y)
    array([0.38629436])
    """

    average_over_outputs: ClassVar[bool] = False

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        # The logarithm of a quotient near 1 is more accurate than a difference of logarithms.
        mean = np.exp(log_mean)
        quotient = np.maximum(y / mean, np.finfo(mean.dtype).tiny)
        return np.asarray(y * np.log(quotient) - y + mean)

    def log_mean_gradient(self, log_mean: Array, y: Array, out: Array) -> None:
        np.exp(log_mean, out=out)
        np.subtract(out, y, out=out)

    def log_likelihood(self, raw_prediction: Array, y: Array, dispersion: float = 1.0) -> Array:
        constant = (xlogy(y, y) - y - gammaln(y + 1)).sum(axis=-1)
        return np.asarray(constant - self.value(raw_prediction, y))

    def score(self, raw_prediction: Array, y: Array, weight: Array | None) -> float:
        """Return R2 of the means, as scikit-learn's network does for this loss."""
        return SquaredError().score(self.predict(raw_prediction), y, weight)


@dataclass(frozen=True)
class Gamma(DevianceLoss):
    """Half the gamma deviance, for y > 0.

    loss = sum_k s_k - log y_k + y_k exp(-s_k) - 1, with the gradient 1 - y exp(-s) (McCullagh &
    Nelder 1989, section 8.3).

    See Also
    --------
    Poisson : For counts.
    Tweedie : For totals with many zeros.

    References
    ----------
    McCullagh, P. & Nelder, J. A. (1989). Generalized Linear Models, 2nd ed. Chapman & Hall.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import Gamma
    >>> raw_prediction, y = np.array([[0.0]]), np.array([[2.0]])
    >>> Gamma().value(raw_prediction, y)
    array([0.30685282])
    """

    interval_y_true: ClassVar[TargetInterval] = TargetInterval(0.0, low_inclusive=False)

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        return np.asarray(log_mean - np.log(y) + y * np.exp(-log_mean) - 1)

    def log_mean_gradient(self, log_mean: Array, y: Array, out: Array) -> None:
        is_lowest = _is_lowest(log_mean)
        np.negative(log_mean, out=out)
        np.exp(out, out=out)
        np.multiply(out, y, out=out)
        np.subtract(1, out, out=out)
        _stop_descent(out, is_lowest)


@dataclass(frozen=True)
class Tweedie(DevianceLoss):
    """Half the Tweedie deviance with power 1 < p < 2, for y >= 0 with many zeros.

    With the mean m = exp(s), the loss of an output =
    y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p), with the gradient
    m^(1-p) (m - y) (Jørgensen 1987, section 4). The variance of y is proportional to m^p. The
    limit p = 1 is the loss `Poisson`, the limit p = 2 the loss `Gamma`.

    Parameters
    ----------
    power : float, default=1.5
        The power p, in (1, 2).

    Raises
    ------
    ValueError
        If `power` is not between 1 and 2.

    See Also
    --------
    Poisson : For counts.
    Gamma : For positive numbers.

    References
    ----------
    Jørgensen, B. (1987). Exponential dispersion models. Journal of the Royal Statistical
    Society B 49(2), 127-162.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.losses import Tweedie
    >>> X = np.random.RandomState(0).randn(200, 2)
    >>> rain = np.maximum(0, X[:, 0]) * np.exp(X[:, 1])
    >>> network = BackpropRegressor(loss=Tweedie(1.5), learning_rate_init=0.05, random_state=0)
    >>> network.fit(X, rain).score(X, rain) > 0.5
    True
    """

    power: Annotated[float, between(1, 2, "neither")] = 1.5

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        a, b = 1 - self.power, 2 - self.power
        at_target = np.power(y, b) / (a * b)
        return np.asarray(at_target - y * np.exp(a * log_mean) / a + np.exp(b * log_mean) / b)

    def log_mean_gradient(self, log_mean: Array, y: Array, out: Array) -> None:
        is_lowest = _is_lowest(log_mean)
        error = np.exp(log_mean)
        np.subtract(error, y, out=error)
        np.multiply(log_mean, 1 - self.power, out=out)
        np.exp(out, out=out)
        np.multiply(out, error, out=out)
        _stop_descent(out, is_lowest)


def _is_lowest(log_mean: Array) -> Array:
    """Return whether the mean is the lowest one that the link returns."""
    return log_mean <= -max_exp_argument(log_mean.dtype)


def _stop_descent(gradient: Array, is_lowest: Array) -> None:
    """Set the gradient to zero, in place, where a step would decrease the lowest mean further.

    Otherwise the tangent of the loss would decrease without end.
    """
    np.copyto(gradient, 0, where=is_lowest & (gradient > 0))


# ------------------------------------------------- losses with several outputs per target


@dataclass(frozen=True)
class Quantile(Loss):
    """Pinball loss of one or several quantiles, which never cross (Koenker & Bassett 1978).

    The loss of a target = sum_j max(t_j (y - q_j), (t_j - 1) (y - q_j)) over the levels t_j. The
    lowest quantile q_1 is the first raw prediction, and the others are
    q_j = q_{j-1} + log(1 + exp(s_j)), so that they are in ascending order for any input. The
    gradient with respect to q_j is 1 - t_j for q_j > y, -t_j for q_j < y, and the subgradient
    1/2 - t_j for q_j = y.

    Parameters
    ----------
    quantiles : float or sequence of float, default=0.5
        One level in (0, 1), or several in ascending order. With several levels, `predict` returns
        one column for each.

    Raises
    ------
    ValueError
        If there is no level, a level is not in (0, 1), or they are not in ascending order.

    See Also
    --------
    AbsoluteError : Predicts the median.
    Gaussian : Predicts the mean and the variance.
    ConformalRegressor : Prediction intervals with a guaranteed coverage.

    References
    ----------
    Koenker, R. & Bassett, G. (1978). Regression quantiles. Econometrica 46(1), 33-50.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.losses import Quantile
    >>> X, y = load_diabetes(return_X_y=True)
    >>> network = BackpropRegressor(
    ...     (16,),
    ...     loss=Quantile([0.1, 0.5, 0.9]),
    ...     scale_target=True,
    ...     max_iter=50,
    ...     tol=0,
    ...     n_iter_no_change=float("inf"),
    ...     random_state=0,
    ... )
    >>> low, median, high = network.fit(X, y).predict(X).T
    >>> bool(((low <= median) & (median <= high)).all())
    True
    """

    quantiles: Any = 0.5

    def __post_init__(self) -> None:
        levels = np.atleast_1d(self.quantiles)
        is_valid = levels.dtype.kind == "f" and levels.ndim == 1 and levels.size > 0
        if not (is_valid and (np.diff([0.0, *levels, 1.0]) > 0).all()):
            raise ValueError(
                "quantiles of Quantile must be a number in (0, 1), or several in ascending order, "
                f"got {self.quantiles!r}."
            )
        object.__setattr__(self, "quantiles", tuple(levels.tolist()))

    @property
    def n_outputs_per_target(self) -> int:
        return len(self.quantiles)

    @property
    def link(self) -> Link:
        n = len(self.quantiles)
        return IDENTITY_LINK if n == 1 else NonCrossingQuantileLink(n)

    def value(self, raw_prediction: Array, y: Array) -> Array:
        q = np.empty_like(raw_prediction)
        self.link.inverse(raw_prediction, q)
        error = unflatten_last_axis(y - q, len(self.quantiles))
        levels = np.array(self.quantiles, raw_prediction.dtype)
        return np.asarray(np.maximum(levels * error, (levels - 1) * error).sum(axis=(-2, -1)))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        self.link.inverse(raw_prediction, out)
        q = out.copy()
        np.subtract(out, y, out=out)
        np.sign(out, out=out)
        np.multiply(out, 0.5, out=out)
        gradients = unflatten_last_axis(out, len(self.quantiles))
        gradients += np.array([0.5 - t for t in self.quantiles], out.dtype)
        self.link.inverse_backward(q, out)

    def predict(self, raw_prediction: Array) -> Array:
        n, quantiles = len(self.quantiles), super().predict(raw_prediction)
        return quantiles if n == 1 else unflatten_last_axis(quantiles, n)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return self.link.link(_weighted_quantiles(y, self.quantiles, weight))


@dataclass(frozen=True)
class Gaussian(Loss):
    """Gaussian negative log-likelihood of a learned mean and variance (Nix & Weigend 1994).

    The loss of a target = 1/2 (log(2 pi v) + (y - m)^2 / v), with the mean m = s_1 and the
    variance v = min_variance + exp(s_2). The gradient with respect to s_1 is (m - y) / v, and with
    respect to s_2 it is 1/2 (1 - min_variance / v) (1 - (y - m)^2 / v).

    Parameters
    ----------
    min_variance : float, default=1e-6
        The smallest variance, positive. It is in the squared units of y, or with ``scale_target``
        a share of the variance of y. Without it, the likelihood of a target that is predicted
        exactly would be unbounded.

    Raises
    ------
    ValueError
        If `min_variance` is not a positive number.

    See Also
    --------
    Quantile : Predicts quantiles without an assumed distribution.
    ConformalRegressor : Prediction intervals with a guaranteed coverage.

    References
    ----------
    Nix, D. A. & Weigend, A. S. (1994). Estimating the mean and variance of the target
    probability distribution. IEEE International Conference on Neural Networks 1, 55-60.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.losses import Gaussian
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = X / X.std(axis=0)
    >>> network = BackpropRegressor(
    ...     (8,),
    ...     loss=Gaussian(1e-4),
    ...     scale_target=True,
    ...     solver="lbfgs",
    ...     alpha=10.0,
    ...     max_iter=1000,
    ...     random_state=0,
    ... )
    >>> mean, std = network.fit(X, y).predict(X, return_std=True)
    >>> is_inside = abs(y - mean) < 1.645 * std  # 90 % of a normal distribution
    >>> print(f"{is_inside.mean():.1f}")
    0.9
    """

    min_variance: Annotated[float, between(0, closed="neither")] = 1e-6
    prediction_columns: ClassVar[slice] = slice(None, None, 2)  # means; variances are in between

    n_outputs_per_target = 2

    @property
    def link(self) -> GaussianLink:
        return GaussianLink(self.min_variance)

    def value(self, raw_prediction: Array, y: Array) -> Array:
        error, log_variance = self._error_and_log_variance(raw_prediction, y)
        squares = np.square(error) * np.exp(-log_variance)
        return np.asarray(0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        error, log_variance = self._error_and_log_variance(raw_prediction, y)
        share = expit(unflatten_last_axis(raw_prediction, 2)[..., 1] - math.log(self.min_variance))
        precision = np.exp(-log_variance)
        slopes = unflatten_last_axis(out, 2)
        np.multiply(error, precision, out=slopes[..., 0])
        slopes[..., 1] = 0.5 * share * (1 - error * slopes[..., 0])

    def _error_and_log_variance(self, raw_prediction: Array, y: Array) -> tuple[Array, Array]:
        s = unflatten_last_axis(raw_prediction, 2)
        return s[..., 0] - unflatten_last_axis(y, 2)[..., 0], self.link.log_variance(s[..., 1])

    def predict(self, raw_prediction: Array) -> Array:
        return unflatten_last_axis(super().predict(raw_prediction), 2)[..., 0]

    def predict_std(self, raw_prediction: Array) -> Array:
        return np.asarray(np.sqrt(unflatten_last_axis(super().predict(raw_prediction), 2)[..., 1]))

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        mean = np.average(y, weights=weight)
        variance = np.average(np.square(y - mean), weights=weight)
        return self.link.link(np.array([mean, variance]))

    def d2_score(self, loss: float, baseline: float) -> float:
        """Return R2 = 1 - exp(2 (loss - baseline)) (Cox & Snell 1989, pages 208-209).

        D2 is not defined, because a log-likelihood has no natural zero. If all rows have the same
        variance, this is the R2 of the squared error.
        """
        return -math.expm1(min(2 * (loss - baseline), 700.0))  # beyond 700, exp overflows


def _weighted_quantiles(y: Array, levels: Sequence[float], weight: Array | None) -> Array:
    """Return the weighted quantile of y for each level in (0, 1)."""
    order = np.argsort(y, kind="stable")
    cumulative = np.cumsum(np.ones(len(y)) if weight is None else weight[order])
    positions = np.searchsorted(cumulative, np.asarray(levels) * cumulative[-1])
    return np.asarray(y[order][positions])


REGRESSOR_LOSSES: dict[str, Loss] = {
    "squared_error": SquaredError(),
    "absolute_error": AbsoluteError(),
    "huber": Huber(),
    "log_cosh": LogCosh(),
    "quantile": Quantile(),
    "poisson": Poisson(),
    "gamma": Gamma(),
    "tweedie": Tweedie(),
    "gaussian": Gaussian(),
}
