"""What is said of numbers: predictions, of several quantiles or with a standard deviation.

Models say one thing or another of a row by the loss that they have learned by: a prediction, or
one for each of several levels, or a mean and a variance. How what several models say becomes one,
how good it is by the loss, and the band that an interval is made of, is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import r2_score

from .._conformal_scores import PredictionBand
from ..estimators._target_scaling import RegressionTargets
from ..losses.base import Loss, can_be_scaled
from ..losses.regression import Gaussian, Poisson, Quantile, SquaredError
from ..utils.arrays import Array
from ._calibration import stacking_weights_nnls

# The least score that a quantile's step up, or a variance, begins with: from less than a twentieth
# of a standard deviation, its gradient would be next to nothing.
_LEAST_SCORE = -3.0


@dataclass(frozen=True, eq=False)
class DistributionTargets:
    """The targets and the loss that models have learned, and what they say of rows by it.

    What is said of rows has the shape (..., n, n_values).

    Parameters
    ----------
    targets : Numbers
        The targets, of one column, and the loss.
    range : tuple of float or None
        The least and the most that a prediction may be; None for no limits.
    """

    targets: RegressionTargets
    range: tuple[float, float] | None

    @classmethod
    def learn(
        cls, loss: Loss, setting: Any, y: Array, weight: Array | None, is_within_range: bool
    ) -> Self:
        """Learn of targets of shape (n,); raise an error if the loss does not suit them."""
        is_scaled = can_be_scaled(loss)
        targets = RegressionTargets.learn(loss, setting, y, weight, np.float32, is_scaled=is_scaled)
        own = cls(targets, (float(y.min()), float(y.max())) if is_within_range else None)
        own._check_link(setting)
        return own

    def _check_link(self, setting: Any) -> None:
        scores = np.zeros((1, self.loss.n_outputs_per_target))
        said = self.loss.predict(scores).reshape(1, -1)
        if self.has_variance:
            said = np.hstack([said, np.ones((1, 1))])
        try:
            is_known = self.loss.link.link(said).shape == scores.shape
        except NotImplementedError:
            is_known = False
        if not is_known:
            raise ValueError(
                f"loss={setting!r} has a link, {type(self.loss.link).__name__}, that does not tell "
                "scores from predictions, by which several networks are weighed and scored: define "
                "its link(predictions)."
            )

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.targets.loss

    @property
    def has_variance(self) -> bool:
        """Whether a variance is learned, which is what is said last."""
        return type(self.loss).predict_std is not Loss.predict_std

    def start(self, y: Array, weight: Array | None) -> Array:
        """Return the scores of the constant that is best for targets (n,), to begin with."""
        encoded = self.targets.encode(y, needs_all=False)[:, 0].astype(np.float64)
        scores = self.loss.fit_intercept_only(encoded, weight)
        if isinstance(self.loss, (Quantile, Gaussian)):
            scores[1:] = np.maximum(scores[1:], _LEAST_SCORE)
        return scores

    def mixture(self, said: Sequence[Array], weights: Sequence[float]) -> Array:
        """Return what a mixture of models says, given what each does, of shape (..., n, n_values).

        Predictions are their weighted mean. The variance is the mean of the variances, and the
        variance of the means (Lakshminarayanan et al. 2017, section 2.4).
        """
        each = [own.astype(np.float64) for own in said]
        pairs = list(zip(weights, each, strict=True))
        mixed = np.asarray(sum(weight * own for weight, own in pairs))
        if self.has_variance:
            mean = mixed[..., 0].copy()
            mixed[..., -1] += sum(w * np.square(own[..., 0] - mean) for w, own in pairs)
        return mixed

    def predictions(self, said: Array) -> Array:
        """Return the predictions alone, within the range: (..., n), or (..., n, n_levels)."""
        alone = self._within_range(said)
        alone = alone[..., :-1] if self.has_variance else alone
        return alone if alone.shape[-1] > 1 else alone[..., 0]

    def prediction_band(self, said: Array) -> PredictionBand:
        """Return the band that intervals are made of, of shape (..., n).

        Quantiles are as they are. At the ends of the range many of them would be the same, and so
        would be the scores of targets there: more than were asked for would lie inside.
        """
        if said.shape[-1] > 1 and not self.has_variance:
            return PredictionBand.from_quantiles(said)
        mean = self.predictions(said)
        if not self.has_variance:
            return PredictionBand.from_point_prediction(mean)
        return PredictionBand.from_mean_and_std(mean, np.sqrt(said[..., -1]))

    def _within_range(self, said: Array) -> Array:
        """Return a copy in which predictions, but not variances, are within the range."""
        inside = said.copy()
        if self.range is not None:
            predictions = inside[..., :-1] if self.has_variance else inside
            np.clip(predictions, *self.range, out=predictions)
        return inside

    # ------------------------------------------------------------------- how good it is

    def score(self, said: Array, y: Array, weight: Array | None) -> float:
        """Return R2, or D2 of the loss, of what is said (n, n_values) of targets (n,)."""
        said = self._within_range(said)
        if isinstance(self.loss, (SquaredError, Poisson)):
            return float(r2_score(y, said[:, 0], sample_weight=weight))
        encoded = self.targets.encode(y, needs_all=False)
        return self.loss.score(self._scores_of(said), encoded, weight)

    def weights(self, said: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Return the weights of models by which the loss of their mixture is least.

        They are not negative, and add up to one.
        """
        n_models = len(said)
        if isinstance(self.loss, SquaredError):
            return stacking_weights_nnls(np.array([own[:, 0] for own in said]), y, weight)
        equal = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return equal
        encoded = self.targets.encode(y, needs_all=False).astype(np.float64)

        def mean_loss(shares: Any) -> float:
            scores = self._scores_of(self.mixture(said, shares))
            losses = self.loss.value(scores[None], encoded[None])[0]
            return float(np.average(losses, weights=weight))

        add_up: Any = {"type": "eq", "fun": lambda shares: shares.sum() - 1}
        bounds = [(0, 1)] * n_models
        found = minimize(mean_loss, equal, method="SLSQP", bounds=bounds, constraints=add_up).x
        found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
        return min(equal, found, key=mean_loss)

    def _scores_of(self, said: Array) -> Array:
        """Return the scores of a network that would say so."""
        scaled = self.targets.to_training_units(said)
        if self.has_variance:
            std = self.targets.to_training_units(np.sqrt(said[..., -1]), from_zero=True)
            scaled[..., -1] = np.square(std)
        return self.loss.link.link(scaled)
