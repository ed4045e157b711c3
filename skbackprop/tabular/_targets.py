"""Targets of the tabular estimators: their encoding and weights, and predictions in their units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import r2_score

from ..conformal import ErrorScale, UncalibratedBand
from ..estimators._targets import NumberTargets, encode_labels, labels_to_array
from ..estimators._validation import check_targets, validate_labels, validate_numbers
from ..losses.base import Loss, can_be_scaled
from ..losses.regression import Gaussian, Poisson, Quantile, SquaredError
from ..training.class_weight import (
    ClassWeight,
    EncodedLabels,
    compute_class_weight,
    compute_sample_weight,
    validate_class_weight,
)
from ..utils.arrays import Array
from ._mixture import stacking_weights_nnls


@dataclass(frozen=True, eq=False)
class ClassifierTargets:
    """Labels of a classifier and the weights of its classes.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The labels, sorted.
    class_weight : array of shape (n_classes,) or None
        The weight of each class; None for equal weights.
    """

    classes: Array
    class_weight: Array | None
    min_prediction: ClassVar[float] = -np.inf

    @classmethod
    def fit(cls, setting: ClassWeight | None, y: Array, weight: Array | None) -> Self:
        """Fit to valid labels, given the parameter `class_weight`; raise if no row has weight."""
        classes = np.unique(labels_to_array(y, "y"))
        if setting is None:
            return cls(classes, None)
        class_weight = validate_class_weight(setting)
        encoded = EncodedLabels(classes, encode_labels(y, classes)[:, None])
        compute_sample_weight(class_weight, encoded, weight)  # raises without weight
        counts = encoded.count_by_class(weight)
        return cls(classes, compute_class_weight(class_weight, classes, counts)[0])

    @property
    def target_type(self) -> str | None:
        """The `target_type` of a `TableEncoder`; None for a single class."""
        return {1: None, 2: "binary"}.get(self.n_classes, "multiclass")

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def encode(self, y: Any) -> Array:
        """Return the class index of each label; raise if there are unknown ones."""
        return encode_labels(validate_labels(y), self.classes)

    def training_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the weights of rows times those of their classes."""
        if self.class_weight is None:
            return weight
        own = self.class_weight[y]
        return own if weight is None else weight * own


# The lower bound of the initial raw prediction of a variance, or of the step between quantiles.
# Below a twentieth of a standard deviation, its gradient would vanish.
_MIN_RAW_PREDICTION = -3.0


@dataclass(frozen=True, eq=False)
class RegressorTargets:
    """Targets and loss of a regressor, and what can be computed from its outputs.

    Outputs have the shape (..., n, n_outputs): a prediction, one for each quantile, or a mean and a
    variance, as the loss determines.

    Parameters
    ----------
    numbers : NumberTargets
        The targets of the networks: the numbers, scaled, and the loss.
    range : tuple of float or None
        The bounds that predictions are clipped to; None for no bounds.
    """

    numbers: NumberTargets
    range: tuple[float, float] | None
    target_type: ClassVar[str] = "continuous"  # as of a `TableEncoder`
    n_classes: ClassVar[None] = None

    @classmethod
    def fit(cls, loss: Loss, y: Array, weight: Array | None, clip: bool) -> Self:
        """Fit to targets of shape (n,); raise if the loss does not suit them."""
        numbers = NumberTargets.fit(loss, y, weight, is_scaled=can_be_scaled(loss))
        return cls.from_numbers(numbers, (float(y.min()), float(y.max())) if clip else None)

    @classmethod
    def from_numbers(cls, numbers: NumberTargets, range: tuple[float, float] | None) -> Self:
        """Return the targets; raise if the loss cannot be computed from predictions."""
        loss = numbers.loss
        try:
            loss.link.link(np.ones((1, loss.n_outputs_per_target)))
        except NotImplementedError:
            raise ValueError(
                f"loss={loss!r} has the link {type(loss.link).__name__}, that does not compute "
                "scores from predictions, but several networks need them. Define its "
                "link(predictions)."
            ) from None
        return cls(numbers, range)

    @property
    def min_prediction(self) -> float:
        """The lower bound of predicted numbers: above zero for losses of positive means."""
        return float(np.finfo(np.float32).tiny) if self.loss.interval_y_true.low == 0 else -np.inf

    def training_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the weights of rows in training, which are those of the user."""
        return weight

    def encode(self, y: Any) -> Array:
        """Return valid numbers; raise if some are outside the range of the loss."""
        numbers = validate_numbers(y)
        check_targets(numbers, self.loss)
        return numbers

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.numbers.loss

    @property
    def has_variance(self) -> bool:
        """Whether the last output is a variance."""
        return type(self.loss).predict_std is not Loss.predict_std

    def initial_intercepts(self, y: Array, weight: Array | None) -> Array:
        """Return the raw predictions of the best constant for targets of shape (n,)."""
        encoded = self.numbers.encode(y, needs_all=False)[:, 0].astype(np.float64)
        scores = self.loss.fit_intercept_only(encoded, weight)
        if isinstance(self.loss, (Quantile, Gaussian)):
            scores[1:] = np.maximum(scores[1:], _MIN_RAW_PREDICTION)
        return scores

    def mix(self, outputs: Sequence[Array], weights: Sequence[float] | None = None) -> Array:
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

    def fit_error_scale(self, outputs: Array, y: Array) -> ErrorScale | None:
        """Fit the error as a function of the prediction, for losses with a single output."""
        if outputs.shape[-1] > 1:
            return None
        predictions = self.predictions(outputs)
        return ErrorScale.fit(predictions, np.abs(y - predictions))

    def prediction_band(self, outputs: Array, error_scale: ErrorScale | None) -> UncalibratedBand:
        """Return the band that conformal intervals start from, of shape (..., n).

        Quantiles are not clipped. At the bounds of the range many would be equal, and so would be
        the conformity scores of targets there, so that intervals would cover too much.
        """
        if outputs.shape[-1] > 1 and not self.has_variance:
            return UncalibratedBand.from_quantiles(outputs)
        mean = self.predictions(outputs)
        std = np.sqrt(outputs[..., -1]) if error_scale is None else error_scale.at(mean)
        return UncalibratedBand.from_mean_and_std(mean, std)

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
        encoded = self.numbers.encode(y, needs_all=False)
        return self.loss.score(self._raw_predictions(outputs), encoded, weight)

    def fit_weights(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Return the non-negative weights of models, with sum one, that minimize the loss."""
        n_models = len(outputs)
        if isinstance(self.loss, SquaredError):
            return stacking_weights_nnls(np.array([own[:, 0] for own in outputs]), y, weight)
        equal = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return equal
        encoded = self.numbers.encode(y, needs_all=False).astype(np.float64)

        def mean_loss(weights: Any) -> float:
            scores = self._raw_predictions(self.mix(outputs, weights))
            losses = self.loss.value(scores[None], encoded[None])[0]
            return float(np.average(losses, weights=weight))

        sum_is_one: Any = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        bounds = [(0, 1)] * n_models
        found = minimize(mean_loss, equal, method="SLSQP", bounds=bounds, constraints=sum_is_one).x
        found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
        return min(equal, found, key=mean_loss)

    def _raw_predictions(self, outputs: Array) -> Array:
        """Return the raw predictions of a network with these outputs."""
        scaled = self.numbers.to_training_units(outputs)
        if self.has_variance:
            std = self.numbers.to_training_units(np.sqrt(outputs[..., -1]), from_zero=True)
            scaled[..., -1] = np.square(std)
        return self.loss.link.link(scaled)
