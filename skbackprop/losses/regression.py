"""The losses of the regressor: one class and one line in `REGRESSOR_LOSSES` make one.

They come in families: those of the residual alone, those of positive means, which are deviances
in terms of the mean's logarithm, and those that learn more of a target than one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from ..utils.arrays import Array
from ..utils.validation import validate_interval
from .base import CanonicalLinkLoss, Loss, root_of_gradient, weighted_quantiles
from .links import (
    IDENTITY_LINK,
    LOG_LINK,
    GaussianLink,
    Link,
    NonCrossingQuantileLink,
    max_exp_argument,
    unflatten_last_axis,
)

# --------------------------------------------------------------------- of the residual


@dataclass(frozen=True)
class SquaredError(CanonicalLinkLoss):
    """Half the squared error: loss = 1/2 sum_k (s_k - y_k)^2, with the gradient s - y.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import SquaredError
    >>> scores, y = np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]])
    >>> SquaredError().value(scores, y)
    array([2.5])
    """

    @property
    def link(self) -> Link:
        return IDENTITY_LINK

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(0.5 * np.square(scores - y).sum(axis=-1))

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return np.array([np.average(y, weights=weight)])


class ResidualLoss(Loss):
    """A convex loss of the residual r = s - y alone, summed over the outputs."""

    @property
    def link(self) -> Link:
        return IDENTITY_LINK

    def rho(self, r: Array) -> Array:
        """Return the loss of each residual."""
        raise NotImplementedError(f"{type(self).__name__} has to define rho(r)")

    def slope(self, r: Array, out: Array) -> None:
        """Write the derivative at each residual to `out`, which may be `r`."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope(r, out)")

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(self.rho(scores - y).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        np.subtract(scores, y, out=out)
        self.slope(out, out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        def slope(r: Array) -> Array:
            self.slope(r, r)
            return r

        return np.array([root_of_gradient(slope, y, weight)])


@dataclass(frozen=True)
class AbsoluteError(ResidualLoss):
    """The absolute error: loss = sum_k |s_k - y_k|, least at the median.

    The gradient is the sign of s - y, and zero where that is zero: a subgradient.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import AbsoluteError
    >>> scores, y = np.array([[1.0, 5.0]]), np.array([[2.0, 3.0]])
    >>> AbsoluteError().value(scores, y)
    array([3.])
    """

    def rho(self, r: Array) -> Array:
        return np.abs(r)

    def slope(self, r: Array, out: Array) -> None:
        np.sign(r, out=out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return weighted_quantiles(y, [0.5], weight)


@dataclass(frozen=True)
class Huber(ResidualLoss):
    """Squared near the target, absolute far from it (Huber 1964, section 4).

    With the residual r = s - y, the loss of an output = r^2 / 2 where |r| <= delta, else
    delta (|r| - delta / 2); the gradient is r, clipped to [-delta, delta].

    Parameters
    ----------
    delta : float, default=1.0
        The residual from which on the loss grows linearly, positive, in the units of y (under
        ``scale_target`` in standard deviations of y).

    Raises
    ------
    ValueError
        If `delta` is not a positive number.

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

    delta: float = 1.0

    def __post_init__(self) -> None:
        validate_interval(self, "delta", low=0, closed="neither")

    def rho(self, r: Array) -> Array:
        clipped = np.clip(r, -self.delta, self.delta)
        return np.asarray(clipped * (r - clipped / 2))

    def slope(self, r: Array, out: Array) -> None:
        np.clip(r, -self.delta, self.delta, out=out)


@dataclass(frozen=True)
class LogCosh(ResidualLoss):
    """Squared near the target, absolute far from it, and smooth: loss = sum_k log cosh(s_k - y_k).

    The gradient is tanh(r) with the residual r = s - y (Saleh & Saleh 2022, section 2). The value
    is computed as log(1 + 2 sinh(r / 2)^2), which keeps its digits however small r is.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import LogCosh
    >>> scores, y = np.array([[0.0]]), np.array([[1.0]])
    >>> LogCosh().value(scores, y)
    array([0.43378083])
    """

    def rho(self, r: Array) -> Array:
        size = np.abs(r)
        near = np.minimum(size, 20)  # beyond, the slope is 1 to the last digit
        return np.asarray(np.log1p(2 * np.square(np.sinh(near / 2))) + (size - near))

    def slope(self, r: Array, out: Array) -> None:
        np.tanh(r, out=out)


# ------------------------------------------------------------------- of positive means


class DevianceLoss(Loss):
    """Half a deviance of means m = exp(s), summed over the outputs.

    Where the link clips the scores, the loss goes on along its tangent, so that its gradient
    neither vanishes nor overflows; a slope that would lead on below the least mean is zero there.
    """

    target_minimum: ClassVar[float] = 0.0

    @property
    def link(self) -> Link:
        return LOG_LINK

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        """Return the loss of each output, given log m."""
        raise NotImplementedError(f"{type(self).__name__} has to define half_deviance(log_mean, y)")

    def slope(self, log_mean: Array, y: Array, out: Array) -> None:
        """Write the derivative by log m to `out`, which may be `log_mean`."""
        raise NotImplementedError(f"{type(self).__name__} has to define slope(log_mean, y, out)")

    def value(self, scores: Array, y: Array) -> Array:
        log_mean, slope = np.empty_like(scores), np.empty_like(scores)
        LOG_LINK.clip(scores, log_mean)
        self.slope(log_mean, y, slope)
        tangent = slope * (scores - log_mean)
        return np.asarray((self.half_deviance(log_mean, y) + tangent).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        LOG_LINK.clip(scores, out)
        self.slope(out, y, out)

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return self.link.scores_of(np.array([np.average(y, weights=weight)]))


@dataclass(frozen=True)
class Poisson(DevianceLoss):
    """Half the Poisson deviance, for y >= 0.

    loss = sum_k exp(s_k) - y_k s_k + y_k log y_k - y_k, with the gradient exp(s) - y. That sum is
    reported too, as in scikit-learn; all other losses report the mean over the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import Poisson
    >>> scores, y = np.array([[0.0]]), np.array([[2.0]])
    >>> Poisson().value(scores, y)
    array([0.38629436])
    """

    average_over_outputs: ClassVar[bool] = False

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        # The logarithm of a quotient near one keeps digits that a difference of two loses.
        mean = np.exp(log_mean)
        quotient = np.maximum(y / mean, np.finfo(mean.dtype).tiny)
        return np.asarray(y * np.log(quotient) - y + mean)

    def slope(self, log_mean: Array, y: Array, out: Array) -> None:
        np.exp(log_mean, out=out)
        np.subtract(out, y, out=out)

    def score(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return R2 of the means, the score that scikit-learn has for its Poisson network."""
        return SquaredError().score(self.predict(scores), y, weight)


@dataclass(frozen=True)
class Gamma(DevianceLoss):
    """Half the gamma deviance, for y > 0.

    loss = sum_k s_k - log y_k + y_k exp(-s_k) - 1, with the gradient 1 - y exp(-s) (McCullagh &
    Nelder 1989, section 8.3).

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import Gamma
    >>> scores, y = np.array([[0.0]]), np.array([[2.0]])
    >>> Gamma().value(scores, y)
    array([0.30685282])
    """

    includes_minimum: ClassVar[bool] = False

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        return np.asarray(log_mean - np.log(y) + y * np.exp(-log_mean) - 1)

    def slope(self, log_mean: Array, y: Array, out: Array) -> None:
        is_least = _is_least(log_mean)
        np.negative(log_mean, out=out)
        np.exp(out, out=out)
        np.multiply(out, y, out=out)
        np.subtract(1, out, out=out)
        _end_descent(out, is_least)


@dataclass(frozen=True)
class Tweedie(DevianceLoss):
    """Half the Tweedie deviance of a power 1 < p < 2, for y >= 0: many zeros, the rest positive.

    With the mean m = exp(s), the loss of an output =
    y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p), with the gradient
    m^(1-p) (m - y) (Jørgensen 1987, section 4). The variance of y grows as m^p. The ends have
    classes of their own: the Poisson deviance for p = 1, the gamma deviance for p = 2.

    Parameters
    ----------
    power : float, default=1.5
        The power p, in (1, 2).

    Raises
    ------
    ValueError
        If `power` is not between 1 and 2.

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

    power: float = 1.5

    def __post_init__(self) -> None:
        validate_interval(self, "power", low=1, high=2, closed="neither")

    def half_deviance(self, log_mean: Array, y: Array) -> Array:
        a, b = 1 - self.power, 2 - self.power
        at_target = np.power(y, b) / (a * b)
        return np.asarray(at_target - y * np.exp(a * log_mean) / a + np.exp(b * log_mean) / b)

    def slope(self, log_mean: Array, y: Array, out: Array) -> None:
        is_least = _is_least(log_mean)
        error = np.exp(log_mean)
        np.subtract(error, y, out=error)
        np.multiply(log_mean, 1 - self.power, out=out)
        np.exp(out, out=out)
        np.multiply(out, error, out=out)
        _end_descent(out, is_least)


def _is_least(log_mean: Array) -> Array:
    return log_mean <= -max_exp_argument(log_mean.dtype)


def _end_descent(slope: Array, is_least: Array) -> None:
    """Set slopes to zero in place by which the least mean would fall, and the loss for ever."""
    np.copyto(slope, 0, where=is_least & (slope > 0))


# ------------------------------------------------------- of more than one number a target


@dataclass(frozen=True)
class Quantile(Loss):
    """Quantiles of the target, one or several, which never cross (Koenker & Bassett 1978).

    The loss of an output = sum_j max(t_j (y - q_j), (t_j - 1) (y - q_j)) over the levels t_j.
    The lowest quantile q_1 is the first score, and each next one is
    q_j = q_{j-1} + log(1 + exp(s_j)), so that they are in order for any input. The gradient by
    q_j is 1 - t_j above the target, -t_j below it, and 1/2 - t_j on it: a subgradient.

    Parameters
    ----------
    quantiles : float or sequence of float, default=0.5
        The level, in (0, 1), or several that rise. Of several, `predict` returns a column for
        each.

    Raises
    ------
    ValueError
        If there is no level, one is not between 0 and 1, or they do not rise.

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
        try:
            levels = list(self.quantiles)
        except TypeError:
            levels = [self.quantiles]
        inside = [isinstance(t, Real) and 0 < float(t) < 1 for t in levels]
        rising = all(inside) and (np.diff([float(t) for t in levels]) > 0).all()
        if not (levels and rising):
            raise ValueError(
                "quantiles of Quantile must be a level in (0, 1), or several in ascending order, "
                f"got {self.quantiles!r}."
            )
        object.__setattr__(self, "quantiles", tuple(float(t) for t in levels))

    @property
    def n_outputs_per_target(self) -> int:
        return len(self.quantiles)

    @property
    def link(self) -> Link:
        return (
            IDENTITY_LINK
            if len(self.quantiles) == 1
            else NonCrossingQuantileLink(len(self.quantiles))
        )

    def value(self, scores: Array, y: Array) -> Array:
        q = np.empty_like(scores)
        self.link.inverse(scores, q)
        error = unflatten_last_axis(y - q, len(self.quantiles))
        levels = np.array(self.quantiles, scores.dtype)
        return np.asarray(np.maximum(levels * error, (levels - 1) * error).sum(axis=(-2, -1)))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.link.inverse(scores, out)
        q = out.copy()
        np.subtract(out, y, out=out)
        np.sign(out, out=out)
        np.multiply(out, 0.5, out=out)
        by_level = unflatten_last_axis(out, len(self.quantiles))
        by_level += np.array([0.5 - t for t in self.quantiles], out.dtype)
        self.link.backward(q, out)

    def predict(self, scores: Array) -> Array:
        quantiles = super().predict(scores)
        return (
            quantiles
            if len(self.quantiles) == 1
            else unflatten_last_axis(quantiles, len(self.quantiles))
        )

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        return self.link.scores_of(weighted_quantiles(y, self.quantiles, weight))


@dataclass(frozen=True)
class Gaussian(Loss):
    """Mean and variance of a normal distribution, by its likelihood (Nix & Weigend 1994).

    The loss of an output = 1/2 (log(2 pi v) + (y - m)^2 / v), with the mean m = s_1 and the
    variance v = min_variance + exp(s_2). The gradient is (m - y) / v by the first score and
    1/2 (1 - min_variance / v) (1 - (y - m)^2 / v) by the second.

    Parameters
    ----------
    min_variance : float, default=1e-6
        The least variance, positive, in the squared units of y (under ``scale_target`` as a
        share of the variance of y). Without one, the likelihood of a target that is met exactly
        would grow without bound.

    Raises
    ------
    ValueError
        If `min_variance` is not a positive number.

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

    min_variance: float = 1e-6
    predicted: ClassVar[slice] = slice(None, None, 2)  # the means; variances are beside them

    def __post_init__(self) -> None:
        validate_interval(self, "min_variance", low=0, closed="neither")

    @property
    def n_outputs_per_target(self) -> int:
        return 2

    @property
    def link(self) -> GaussianLink:
        return GaussianLink(self.min_variance)

    def value(self, scores: Array, y: Array) -> Array:
        error, log_variance = self._error_and_log_variance(scores, y)
        squares = np.square(error) * np.exp(-log_variance)
        return np.asarray(0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        error, log_variance = self._error_and_log_variance(scores, y)
        share = expit(unflatten_last_axis(scores, 2)[..., 1] - math.log(self.min_variance))
        precision = np.exp(-log_variance)
        slopes = unflatten_last_axis(out, 2)
        np.multiply(error, precision, out=slopes[..., 0])
        slopes[..., 1] = 0.5 * share * (1 - error * slopes[..., 0])

    def _error_and_log_variance(self, scores: Array, y: Array) -> tuple[Array, Array]:
        s = unflatten_last_axis(scores, 2)
        return s[..., 0] - unflatten_last_axis(y, 2)[..., 0], self.link.log_variance(s[..., 1])

    def predict(self, scores: Array) -> Array:
        return unflatten_last_axis(super().predict(scores), 2)[..., 0]

    def deviation(self, scores: Array) -> Array:
        return np.asarray(np.sqrt(unflatten_last_axis(super().predict(scores), 2)[..., 1]))

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        mean = np.average(y, weights=weight)
        variance = np.average(np.square(y - mean), weights=weight)
        return self.link.scores_of(np.array([mean, variance]))

    def d2_score(self, loss: float, baseline: float) -> float:
        """Return R2 = 1 - exp(2 (loss - baseline)) (Cox & Snell 1989, pages 208-209).

        A likelihood has no zero to measure a loss from. With one variance for all rows this
        is the R2 of the squared error.
        """
        return -math.expm1(min(2 * (loss - baseline), _LARGEST_EXPONENT))


_LARGEST_EXPONENT = 700.0


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
