"""Targets of the tabular estimators, and mixtures of outputs: temperatures and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import minimize, nnls
from scipy.special import expit, softmax
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
from ..training.validation import fit_temperature, subsample_index, take_weights
from ..utils.arrays import Array

_TINY = np.finfo(np.float64).tiny

# The exponent of temperatures above one when probabilities of several networks are averaged. The
# average is less confident and more accurate than single networks, whose full temperature would
# make it too soft. Temperatures below one, as after few epochs, are kept.
_ENSEMBLE_EXPONENT = 0.5

# A lower temperature means more confident predictions, which few rows cannot justify.
_MIN_TEMPERATURE = 0.5

# The number of steps of expectation maximization.
_N_STEPS = 200


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
        labels = EncodedLabels(classes, encode_labels(y, classes)[:, None])
        compute_sample_weight(class_weight, labels, weight)  # raises if no row has weight
        counts = labels.count_by_class(weight)
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
        """Return the class index of each label; labels must be known."""
        return encode_labels(validate_labels(y), self.classes)

    def training_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the weights of rows times the weights of their classes."""
        if self.class_weight is None:
            return weight
        class_weights = self.class_weight[y]
        return class_weights if weight is None else weight * class_weights


# The lower bound of the initial raw prediction of a variance, or of the step between quantiles.
# Below a twentieth of a standard deviation, its gradient would vanish.
_MIN_RAW_PREDICTION = -3.0


@dataclass(frozen=True, eq=False)
class RegressorTargets:
    """Targets and loss of a regressor, with the computations on its outputs.

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
        try:
            loss.link.link(np.ones((1, loss.n_outputs_per_target)))
        except NotImplementedError:
            raise ValueError(
                f"loss={loss!r} has the link {type(loss.link).__name__}, that does not compute "
                "scores from predictions, but several networks need them. Define its "
                "link(predictions)."
            ) from None
        return cls(numbers, (float(y.min()), float(y.max())) if clip else None)

    @property
    def min_prediction(self) -> float:
        """The lower bound of predicted numbers: above zero for losses of positive means."""
        return float(np.finfo(np.float32).tiny) if self.loss.interval_y_true.low == 0 else -np.inf

    def training_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the training weights, which are the sample weights."""
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
        encoded_y = self.numbers.encode(y, needs_all=False)[:, 0].astype(np.float64)
        intercepts = self.loss.fit_intercept_only(encoded_y, weight)
        if isinstance(self.loss, (Quantile, Gaussian)):
            intercepts[1:] = np.maximum(intercepts[1:], _MIN_RAW_PREDICTION)
        return intercepts

    def mix(self, outputs: Sequence[Array], weights: Sequence[float] | None = None) -> Array:
        """Return the outputs of a mixture of models, by default with equal weights.

        Predictions are weighted means. The variance is the mean of the variances plus the variance
        of the means (Lakshminarayanan et al. 2017, section 2.4).
        """
        if weights is None:
            weights = [1 / len(outputs)] * len(outputs)
        pairs = [(w, item.astype(np.float64)) for w, item in zip(weights, outputs, strict=True)]
        mixture = np.asarray(sum(weight * item for weight, item in pairs))
        if self.has_variance:
            mean = mixture[..., 0].copy()
            mixture[..., -1] += sum(w * np.square(item[..., 0] - mean) for w, item in pairs)
        return mixture

    def predictions(self, outputs: Array) -> Array:
        """Return predictions within the range: (..., n), or (..., n, n_quantiles)."""
        predictions = self._clip(outputs)
        predictions = predictions[..., :-1] if self.has_variance else predictions
        return predictions if predictions.shape[-1] > 1 else predictions[..., 0]

    def fit_error_scale(self, outputs: Array, y: Array) -> ErrorScale | None:
        """Fit the error as a function of the prediction, for losses with a single output."""
        if outputs.shape[-1] > 1:
            return None
        predictions = self.predictions(outputs)
        return ErrorScale.fit(predictions, np.abs(y - predictions))

    def prediction_band(self, outputs: Array, error_scale: ErrorScale | None) -> UncalibratedBand:
        """Return the band that conformal intervals start from, of shape (..., n).

        Quantiles are not clipped. Many clipped quantiles would be equal, as would be the conformity
        scores of targets at the bounds, and intervals would cover too much.
        """
        if outputs.shape[-1] > 1 and not self.has_variance:
            return UncalibratedBand.from_quantiles(outputs)
        mean = self.predictions(outputs)
        std = np.sqrt(outputs[..., -1]) if error_scale is None else error_scale.at(mean)
        return UncalibratedBand(mean, 0.0, std)

    def _clip(self, outputs: Array) -> Array:
        """Return a copy whose predictions, but not variances, are within the range."""
        copy = outputs.copy()
        if self.range is not None:
            predictions = copy[..., :-1] if self.has_variance else copy
            np.clip(predictions, *self.range, out=predictions)
        return copy

    def score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        """Return R2, or D2 of the loss, for outputs (n, n_outputs) and targets (n,)."""
        outputs = self._clip(outputs)
        if isinstance(self.loss, (SquaredError, Poisson)):
            return float(r2_score(y, outputs[:, 0], sample_weight=weight))
        encoded_y = self.numbers.encode(y, needs_all=False)
        return self.loss.score(self._raw_predictions(outputs), encoded_y, weight)

    def fit_weights(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Return the non-negative weights of models, with sum one, that minimize the loss."""
        n_models = len(outputs)
        if isinstance(self.loss, SquaredError):
            return stacking_weights_nnls(np.array([item[:, 0] for item in outputs]), y, weight)
        start = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return start
        encoded_y = self.numbers.encode(y, needs_all=False).astype(np.float64)

        def mean_loss(weights: Any) -> float:
            raw_predictions = self._raw_predictions(self.mix(outputs, weights))
            losses = self.loss.value(raw_predictions[None], encoded_y[None])[0]
            return float(np.average(losses, weights=weight))

        sum_is_one: Any = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        bounds = [(0, 1)] * n_models
        shares = minimize(mean_loss, start, method="SLSQP", bounds=bounds, constraints=sum_is_one).x
        shares = np.clip(shares, 0, None) / np.clip(shares, 0, None).sum()
        return min(start, shares, key=mean_loss)

    def _raw_predictions(self, outputs: Array) -> Array:
        """Return the raw predictions of a network with these outputs."""
        values = self.numbers.to_training_units(outputs)
        if self.has_variance:
            std = self.numbers.to_training_units(np.sqrt(outputs[..., -1]), from_zero=True)
            values[..., -1] = np.square(std)
        return self.loss.link.link(values)


# ------------------------------------------------------------------------ mixtures


def average_probabilities(logits: Array, temperature: float) -> Array:
    """Return the average probabilities of networks, given logits (n_networks, n, n_outputs).

    The temperature is the one of single networks.
    """
    divisor = ensemble_temperature(temperature, len(logits))
    return np.asarray(compute_probabilities(logits, divisor).mean(axis=0))


def ensemble_temperature(temperature: float, n_networks: int) -> float:
    """Return the temperature for averaged networks from the temperature of single networks."""
    return temperature if n_networks == 1 else min(temperature, temperature**_ENSEMBLE_EXPONENT)


def safe_log(shares: Array) -> Array:
    """Return logarithms that are finite for zeros too."""
    return np.asarray(np.log(np.maximum(shares, _TINY)))


def compute_probabilities(raw_predictions: Array, temperature: float = 1.0) -> Array:
    """Return the probability of each class, given logits and a temperature.

    Parameters
    ----------
    raw_predictions : array of shape (..., n_outputs)
        Logits; a single one for two classes.
    temperature : float, default=1.0
        The divisor of the logits; probabilities are less confident above one.

    Returns
    -------
    probabilities : array of shape (..., n_classes), in double precision
    """
    logits = raw_predictions.astype(np.float64) / temperature
    if logits.shape[-1] > 1:
        return np.asarray(softmax(logits, axis=-1))
    return np.concatenate([expit(-logits), expit(logits)], axis=-1)


def fit_softmax_temperature(
    raw_predictions: Array, codes: Array, weight: Array | None
) -> tuple[float, float]:
    """Return the temperature of maximum likelihood, and the mean log loss with it.

    See Guo et al. 2017, section 4.2.

    Parameters
    ----------
    raw_predictions : array of shape (n, n_outputs) or (n_models, n, n_outputs)
        Logits, of one or several models; a single one for two classes.
    codes : array of int of shape (n,)
        The class of each row.
    weight : array of shape (n,) or None
        The weight of each row.
    """
    rows = subsample_index(len(codes))
    codes, weight = codes[rows], take_weights(weight, rows)
    logits = raw_predictions[..., rows, :].astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    true_logits = logits[..., np.arange(len(codes)), codes]

    def losses_at(temperature: float) -> Array:
        values = logits / temperature
        losses = np.log(np.exp(values, out=values).sum(axis=-1)) - true_logits / temperature
        return np.asarray(losses.reshape(-1, len(codes)).mean(axis=0))

    return fit_temperature(losses_at, weight, _MIN_TEMPERATURE)


def mixture_weights_nll(likelihoods: Array, weight: Array | None) -> Array:
    """Return the mixture weights of maximum likelihood.

    Expectation maximization finds them: the weight of a model is the mean of its shares in the
    likelihood of each row.

    Parameters
    ----------
    likelihoods : array of shape (n_models, n)
        The probability of the true class of each row by each model.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    rows = subsample_index(likelihoods.shape[1])
    likelihoods = np.maximum(likelihoods[:, rows], _TINY)
    weight = take_weights(weight, rows)
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(_N_STEPS if len(likelihoods) > 1 else 0):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(axis=0)
        weights = np.average(shares, axis=1, weights=weight)
    return weights


def stacking_weights_nnls(predictions: Array, y: Array, weight: Array | None) -> Array:
    """Return the weights of models whose weighted mean has the least squared error.

    With the errors E of the models they minimize ||E w||^2 over all w >= 0 with sum one. The
    minimum of ||E w||^2 + (sum(w) - 1)^2 over all w >= 0 is a multiple of them: along each
    direction its minimum is q / (1 + q), which increases with q = ||E w||^2 / sum(w)^2.

    Parameters
    ----------
    predictions : array of shape (n_models, n)
        The predictions of each model.
    y : array of shape (n,)
        The targets.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    n_models = len(predictions)
    errors = (predictions - y).T * (1.0 if weight is None else np.sqrt(weight)[:, None])
    size = np.linalg.norm(errors)
    if n_models == 1 or size == 0:
        return np.full(n_models, 1 / n_models)
    equations = np.vstack([errors / size, np.ones(n_models)])
    weights, _ = nnls(equations, np.append(np.zeros(len(y)), 1.0))
    return np.asarray(weights / weights.sum())
