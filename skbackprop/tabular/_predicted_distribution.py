"""Predicted distributions of numbers: a mean, quantiles, or a mean and a variance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import r2_score

from .._conformal_intervals import PredictionBand
from ..estimators._target_scaling import RegressionTargetEncoder
from ..losses.base import Loss, can_be_scaled
from ..losses.regression import Gaussian, Poisson, Quantile, SquaredError
from ..utils.arrays import Array
from ._calibration_and_weights import stacking_weights_nnls

# The lower bound of the initial raw prediction of a variance, or of the step between quantiles.
# Below a twentieth of a standard deviation, its gradient would vanish.
_MIN_RAW_PREDICTION = -3.0


@dataclass(frozen=True, eq=False)
class DistributionTargets:
    """Targets and loss of a regressor, and what can be computed from its outputs.

    Outputs have the shape (..., n, n_outputs): a prediction, one for each quantile, or a mean and a
    variance, as the loss determines.

    Parameters
    ----------
    scaling : RegressionTargets
        The scaled targets of one column, and the loss.
    range : tuple of float or None
        The bounds that predictions are clipped to; None for no bounds.
    """

    scaling: RegressionTargetEncoder
    range: tuple[float, float] | None

    @classmethod
    def fit(cls, loss: Loss, setting: Any, y: Array, weight: Array | None, clip: bool) -> Self:
        """Fit to targets of shape (n,); raise if the loss does not suit them."""
        is_scaled = can_be_scaled(loss)
        scaling = RegressionTargetEncoder.learn(
            loss, setting, y, weight, np.float32, is_scaled=is_scaled
        )
        targets = cls(scaling, (float(y.min()), float(y.max())) if clip else None)
        targets._check_link(setting)
        return targets

    def _check_link(self, setting: Any) -> None:
        """Raise if the link of the loss has no inverse."""
        scores = np.zeros((1, self.loss.n_outputs_per_target))
        outputs = self.loss.predict(scores).reshape(1, -1)
        if self.has_variance:
            outputs = np.hstack([outputs, np.ones((1, 1))])
        try:
            is_known = self.loss.link.link(outputs).shape == scores.shape
        except NotImplementedError:
            is_known = False
        if not is_known:
            raise ValueError(
                f"loss={setting!r} has a link, {type(self.loss.link).__name__}, that does not "
                "compute scores from predictions, which weights and scores of several networks "
                "need. Define its link(predictions)."
            )

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.scaling.loss

    @property
    def has_variance(self) -> bool:
        """Whether the last output is a variance."""
        return type(self.loss).predict_std is not Loss.predict_std

    def initial_intercepts(self, y: Array, weight: Array | None) -> Array:
        """Return the raw predictions of the best constant for targets of shape (n,)."""
        encoded = self.scaling.encode(y, needs_all=False)[:, 0].astype(np.float64)
        scores = self.loss.fit_intercept_only(encoded, weight)
        if isinstance(self.loss, (Quantile, Gaussian)):
            scores[1:] = np.maximum(scores[1:], _MIN_RAW_PREDICTION)
        return scores

    def mixture(self, outputs: Sequence[Array], weights: Sequence[float] | None = None) -> Array:
        """Return the outputs of a mixture of models, by default with equal weights.

        Predictions are weighted means. The variance is the mean of the variances plus the variance
        of the means (Lakshminarayanan et al. 2017, section 2.4).
        """
        if weights is None:
            weights = [1 / len(outputs)] * len(outputs)
        pairs = [(w, own.astype(np.float64)) for w, own in zip(weights, outputs, strict=True)]
        mixed = np.asarray(sum(weight * own for weight, own in pairs))
        if self.has_variance:
            mean = mixed[..., 0].copy()
            mixed[..., -1] += sum(w * np.square(own[..., 0] - mean) for w, own in pairs)
        return mixed

    def predictions(self, outputs: Array) -> Array:
        """Return predictions within the range: (..., n), or (..., n, n_quantiles)."""
        alone = self._clip(outputs)
        alone = alone[..., :-1] if self.has_variance else alone
        return alone if alone.shape[-1] > 1 else alone[..., 0]

    def prediction_band(self, outputs: Array) -> PredictionBand:
        """Return the band that conformal intervals start from, of shape (..., n).

        Quantiles are not clipped. At the bounds of the range many would be equal, and so would be
        the conformity scores of targets there, so that intervals would cover too much.
        """
        if outputs.shape[-1] > 1 and not self.has_variance:
            return PredictionBand.from_quantiles(outputs)
        mean = self.predictions(outputs)
        if not self.has_variance:
            return PredictionBand.from_point_prediction(mean)
        return PredictionBand.from_mean_and_std(mean, np.sqrt(outputs[..., -1]))

    def _clip(self, outputs: Array) -> Array:
        """Return a copy whose predictions, but not variances, are within the range."""
        clipped = outputs.copy()
        if self.range is not None:
            predictions = clipped[..., :-1] if self.has_variance else clipped
            np.clip(predictions, *self.range, out=predictions)
        return clipped

    def score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        """Return R2, or D2 of the loss, for outputs (n, n_outputs) and targets (n,)."""
        outputs = self._clip(outputs)
        if isinstance(self.loss, (SquaredError, Poisson)):
            return float(r2_score(y, outputs[:, 0], sample_weight=weight))
        encoded = self.scaling.encode(y, needs_all=False)
        return self.loss.score(self._raw_predictions(outputs), encoded, weight)

    def weights(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Return the non-negative weights of models, with sum one, that minimize the loss."""
        n_models = len(outputs)
        if isinstance(self.loss, SquaredError):
            return stacking_weights_nnls(np.array([own[:, 0] for own in outputs]), y, weight)
        equal = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return equal
        encoded = self.scaling.encode(y, needs_all=False).astype(np.float64)

        def mean_loss(weights: Any) -> float:
            scores = self._raw_predictions(self.mixture(outputs, weights))
            losses = self.loss.value(scores[None], encoded[None])[0]
            return float(np.average(losses, weights=weight))

        sum_is_one: Any = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        bounds = [(0, 1)] * n_models
        found = minimize(mean_loss, equal, method="SLSQP", bounds=bounds, constraints=sum_is_one).x
        found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
        return min(equal, found, key=mean_loss)

    def _raw_predictions(self, outputs: Array) -> Array:
        """Return the raw predictions of a network with these outputs."""
        scaled = self.scaling.to_training_units(outputs)
        if self.has_variance:
            std = self.scaling.to_training_units(np.sqrt(outputs[..., -1]), from_zero=True)
            scaled[..., -1] = np.square(std)
        return self.loss.link.link(scaled)
