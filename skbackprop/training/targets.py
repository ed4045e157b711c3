"""Targets of the networks: encoding, decoding, loss and scores.

There is one class for each kind of target: numbers, one column of labels, and a multilabel 0/1
matrix. The targets of the autoencoder are its input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import csr_matrix, find, issparse
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import assert_all_finite

from ..losses.base import Loss, can_be_scaled, separate_losses
from ..losses.classification import CLASSIFIER_LOSSES, ClassifierLoss, LabelSmoothing
from ..losses.regression import REGRESSOR_LOSSES
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import predict_raw
from ..nn.rows import Rows
from ..nn.stack import loss_normalizer
from ..utils.arrays import Array, as_dense, max_abs
from .checks import check_no_missing, check_targets, is_plain_target, unify_label_dtype
from .class_weight import compute_sample_weight
from .config import Config

# The classes of a column of a 0/1 matrix.
_BINARY = np.arange(2)


class Targets(ABC):
    """Targets of an estimator.

    Attributes
    ----------
    loss : Loss
        The loss for these targets.
    """

    loss: Loss

    # What a saved model needs to make its configuration from the parameters of the estimator.
    config_class: ClassVar[type[Config]] = Config
    named_losses: ClassVar[Mapping[str, Loss]]

    _kinds: ClassVar[dict[str, type[Targets]]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        Targets._kinds[cls.__name__] = cls

    @staticmethod
    def find_kind(name: str) -> type[Targets]:
        """Return the class of targets with a name."""
        return Targets._kinds[name]

    @classmethod
    def from_dict(cls, config: Config, values: Mapping[str, Any]) -> Self:
        """Return the targets from the result of `to_dict`."""
        raise NotImplementedError

    def with_config(self, config: Config) -> Self:
        """Return the same targets for another configuration, which has the same loss."""
        return self

    @abstractmethod
    def encode(self, y: Any, needs_all: bool = False) -> Array:
        """Return validated y as the network's targets: an array of shape (n, k).

        With `needs_all`, y must contain every class of the first y.
        """

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of the targets."""
        return {}

    def strata(self, y: Array) -> Array | None:
        """Return the class of each row of encoded targets; None if rows have no single class."""
        return None

    def apply_class_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the weights of rows of encoded targets, multiplied by the class weights."""
        return weight

    def encode_rows(self, X: Any, y: Any, weight: Array | None, needs_all: bool = False) -> Rows:
        """Return validated rows with the targets from `encode`, and their training weights."""
        encoded_y = self.encode(y, needs_all)
        return Rows(X, encoded_y, self.apply_class_weight(encoded_y, weight), y)

    def to_dict(self) -> dict[str, Any]:
        """Return the values that restore the targets, without the loss."""
        return {}

    # ------------------------------------------------------------------- validation

    def validation_predictions(self, network: Network, parameters: Parameters, rows: Rows) -> Array:
        """Return the raw predictions of every member for validation rows."""
        return predict_raw(network, parameters, rows.X, rows.index)

    def validation_loss(self, network: Network, predictions: Array, rows: Rows) -> float:
        """Return the mean loss of one member's predictions."""
        raw_predictions = predictions[None].astype(np.float64)
        y = rows.selected_y[None].astype(np.float64)
        if rows.n_weights < 2:
            values = self.loss.value(raw_predictions, y)
        else:
            values = separate_losses(self.loss, raw_predictions, y)
        losses = weighted_mean(values[0], rows.selected_weight) * max(rows.n_weights, 1)
        return losses / loss_normalizer(network, self.loss)

    @abstractmethod
    def validation_score(self, predictions: Array, rows: Rows) -> float:
        """Return the estimator's own score of one member's predictions."""


def weighted_mean(values: Array, weight: Array | None) -> float:
    """Return the weighted mean of losses, which may be anything where the weight is zero."""
    if weight is None:
        return float(values.mean())
    return float(np.average(values[weight > 0], weights=weight[weight > 0]))


@dataclass(frozen=True, eq=False)
class NumberTargets(Targets):
    """Targets of a regressor: numbers, scaled if requested.

    Parameters
    ----------
    loss : Loss
        The loss, which may have several outputs for each target and restrict their range.
    n_targets : int
        The number of targets.
    mean, scale : array of shape (n_targets,) or None
        The values that scaling subtracts and divides by; None without scaling.
    """

    loss: Loss
    n_targets: int
    mean: Array | None = None
    scale: Array | None = None

    named_losses: ClassVar[Mapping[str, Loss]] = REGRESSOR_LOSSES

    @classmethod
    def from_dict(cls, config: Config, values: Mapping[str, Any]) -> Self:
        return cls(config.loss, **values)

    @classmethod
    def fit(cls, loss: Loss, y: Array, weight: Array | None, *, is_scaled: bool) -> NumberTargets:
        """Return the targets for y, with the weighted mean and scale if `is_scaled`."""
        y = y[:, None] if y.ndim == 1 else y
        check_targets(y, loss)
        check_measured(weight)
        if not is_scaled:
            return cls(loss, y.shape[1])
        if not can_be_scaled(loss):
            minimum, maximum, _ = loss.interval_y_true
            raise ValueError(
                "scale_target=True needs a loss that accepts all targets or all y >= 0, but "
                f"{loss=!r} needs y >= {minimum:g} and y <= {maximum:g}. Set scale_target=False."
            )
        mean, scale = _mean_and_scale(y.astype(np.float64), weight, loss.interval_y_true.low == 0)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise ValueError(
                f"y is too large to be scaled: its largest absolute value is {max_abs(y):.3g}. "
                "Scale y down."
            )
        return cls(loss, y.shape[1], mean, scale)

    def to_dict(self) -> dict[str, Any]:
        return {"n_targets": self.n_targets, "mean": self.mean, "scale": self.scale}

    @property
    def have_std(self) -> bool:
        """Whether the loss learns the standard deviation of the targets."""
        return type(self.loss).predict_std is not Loss.predict_std

    def select(self, target: int) -> NumberTargets:
        """Return one of the targets."""
        if self.mean is None or self.scale is None:
            return NumberTargets(self.loss, 1)
        return NumberTargets(self.loss, 1, self.mean[[target]], self.scale[[target]])

    @property
    def attributes(self) -> dict[str, Any]:
        return {"target_mean_": self.mean, "target_scale_": self.scale}

    def encode(self, y: Any, needs_all: bool = False) -> Array:
        y = y[:, None] if y.ndim == 1 else y
        if y.shape[1] != self.n_targets:
            raise ValueError(
                f"y must have {self.n_targets} column(s), one for each target of the fitted "
                f"network, got {y.shape[1]}."
            )
        check_targets(y, self.loss)
        if self.mean is not None and self.scale is not None:
            y = (y.astype(np.float64) - self.mean) / self.scale
        n_outputs = self.loss.n_outputs_per_target
        return y if n_outputs == 1 else np.repeat(y, n_outputs, axis=1)

    def inverse_transform(self, values: Array, *, from_zero: bool = False) -> Array:
        """Return predictions of shape (n, k, ...) in the units of y, in float64 if y is scaled.

        Single precision would round away a spread that is small compared with the mean. With
        `from_zero` the values are deviations, to which the mean is not added. A single target has
        no axis in the result.
        """
        if self.mean is not None and self.scale is not None:
            axes = (-1, *[1] * (values.ndim - 2))
            limits = np.finfo(np.float64)
            minimum = limits.tiny if self.loss.interval_y_true.low == 0 else limits.min
            with np.errstate(over="ignore"):
                values = values.astype(np.float64) * self.scale.reshape(axes)
                if not from_zero:
                    values += self.mean.reshape(axes)
            values = np.clip(values, minimum, limits.max)
        return values if values.shape[1] > 1 else values[:, 0]

    def to_training_units(self, values: Array, *, from_zero: bool = False) -> Array:
        """Return predictions of one target, or deviations `from_zero`, in the network's units.

        They are in double precision.
        """
        values = values.astype(np.float64)
        if self.mean is not None and self.scale is not None:
            values = (values - (0.0 if from_zero else self.mean[0])) / self.scale[0]
        return values

    def gradients_in_units_of_y(self, gradients: Array) -> Array:
        """Return gradients of predictions, of shape (n, d, k * c), in the units of y.

        The features become the last axis. Axes of a single target, or of a single prediction for
        each target, are dropped.
        """
        target_gradients = gradients.reshape(*gradients.shape[:2], self.n_targets, -1)
        if self.scale is not None:
            target_gradients = target_gradients * self.scale[:, None].astype(gradients.dtype)
        result = np.moveaxis(target_gradients, 1, -1)
        axes = tuple(axis for axis in (1, 2) if result.shape[axis] == 1)
        return np.ascontiguousarray(result.squeeze(axis=axes))

    def validation_score(self, predictions: Array, rows: Rows) -> float:
        return self.loss.score(predictions, rows.selected_y, rows.selected_weight)


def check_measured(weight: Array | None) -> None:
    """Check that each target has a weight above zero in some row."""
    if weight is not None and not weight.any(axis=0).all():
        raise ValueError(
            f"Column {weight.any(axis=0).argmin()} of y has no value with a positive weight. "
            "Remove it, or pass rows in which it was measured."
        )


def _mean_and_scale(y: Array, weight: Array | None, is_positive: bool) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of targets of shape (n, k).

    For targets that must stay positive, return zero and the mean.
    """
    has_weight = True if weight is None else weight.reshape(len(y), -1) > 0
    minimum = y.min(axis=0, where=has_weight, initial=np.inf)
    maximum = y.max(axis=0, where=has_weight, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(y, axis=0, weights=weight)
        # The mean of a constant column is exactly its value.
        mean = np.where(minimum == maximum, minimum, mean)
        if is_positive:
            scale = mean
            mean = np.zeros_like(mean)
        else:
            # Deviations are divided by a power of two, which causes no rounding, so that the
            # largest is between 1/2 and 1, and squares neither overflow nor underflow.
            exponent = np.frexp(np.maximum(maximum - mean, mean - minimum))[1]
            squares = np.square(np.ldexp(y - mean, -exponent))
            scale = np.ldexp(np.sqrt(np.average(squares, axis=0, weights=weight)), exponent)
    return mean, np.where(scale == 0, 1.0, scale)  # constant targets are not scaled


class LabelTargets(Targets):
    """Targets of a classifier: encodes labels as 0/1 targets, and decodes raw predictions.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The sorted labels.
    config : Config
        The loss that the user has chosen, and the label smoothing.

    Attributes
    ----------
    n_outputs : int
        The number of outputs of the network.
    """

    named_losses: ClassVar[Mapping[str, Loss]] = CLASSIFIER_LOSSES
    is_exclusive: ClassVar[bool]  # whether each row has exactly one label

    def __init__(self, classes: Array, config: Config) -> None:
        self.classes = classes
        self._config = config
        multiclass = self.is_exclusive and len(classes) > 2
        self.n_outputs = len(classes) if multiclass or not self.is_exclusive else 1
        base_loss: Any = config.loss
        loss: ClassifierLoss = replace(base_loss, multiclass=multiclass)
        smoothing = config.label_smoothing
        self.loss = LabelSmoothing(loss, smoothing) if smoothing else loss

    def with_config(self, config: Config) -> Self:
        return self if config is self._config else self.from_dict(config, self.to_dict())

    @classmethod
    def from_dict(cls, config: Config, values: Mapping[str, Any]) -> Self:
        return cls(config=config, **values)

    def to_dict(self) -> dict[str, Any]:
        return {"classes": self.classes}

    @abstractmethod
    def _codes(self, values: Array, threshold: float) -> Array:
        """Return class indices of shape (n, 1), or 0/1 indicators of shape (n, n_classes).

        `values` are raw predictions, with a `threshold` of 0, or encoded targets, with 0.5.
        """

    @abstractmethod
    def log_losses(self, outputs: Array, y: Array) -> Array:
        """Return the negative log-likelihood of each row's encoded targets."""

    @abstractmethod
    def decode(self, outputs: Array) -> Any:
        """Return the predicted labels for raw predictions of shape (n, k)."""

    def probabilities(self, outputs: Array, *, log: bool = False) -> Array:
        """Return the probability of each class, or its logarithm; `outputs` may be overwritten."""
        link = self.loss.link
        if log:
            return link.log_inverse(outputs)
        link.inverse(outputs, outputs)
        # No probability is 0, since logarithms are finite, or 1 if there are two classes.
        limits = np.finfo(outputs.dtype)
        maximum = 1 - limits.epsneg if link.name == "logistic" else 1
        return np.clip(outputs, limits.smallest_subnormal, maximum, out=outputs)

    def decision_function(self, outputs: Array) -> Array:
        """Return raw predictions in the shape of scikit-learn's decision functions."""
        return outputs if outputs.shape[1] > 1 else outputs[:, 0]

    @property
    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    def check_classes(self, classes: Any) -> None:
        """Check that `classes` are the same as in the first call of `partial_fit`."""
        if not np.array_equal(_validate_classes(classes), self.classes):
            raise ValueError(
                f"classes={classes!r} is not the same as on the last call to partial_fit, was: "
                f"{self.classes!r}."
            )

    def apply_class_weight(self, y: Array, weight: Array | None) -> Array | None:
        if self._config.class_weight is None:
            return weight
        classes = self.classes if self.is_exclusive else _BINARY
        codes = self._codes(y, 0.5)
        return compute_sample_weight(self._config.class_weight, classes, codes, weight)

    def validation_score(self, predictions: Array, rows: Rows) -> float:
        is_correct = self._codes(predictions, 0) == self._codes(rows.selected_y, 0.5)
        return float(np.average(is_correct.all(axis=1), weights=rows.selected_weight))

    def mean_log_losses(self, outputs: Array, y: Array) -> Array:
        """Return the log loss of each row, by the mean prediction of several networks."""
        is_single = len(outputs) == 1
        mean_outputs = outputs[0] if is_single else self.loss.link.average_predictions(outputs)
        return self.log_losses(mean_outputs, y)

    def accuracy(self, y: Any, y_pred: Any, weight: Any) -> float:
        """Return the accuracy of predicted labels."""
        with np.errstate(invalid="ignore"):
            return float(accuracy_score(y, y_pred, sample_weight=weight))


class ClassTargets(LabelTargets):
    """Targets for one column of labels: one output for up to two classes, else one per class.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The sorted labels.
    config : Config
        The loss that the user has chosen, and the label smoothing.
    """

    is_exclusive = True

    def encode(self, y: Any, needs_all: bool = False) -> Array:
        codes = encode_labels(y, self.classes, is_warm_fit=needs_all)
        if needs_all and len(np.unique(codes)) < len(self.classes):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes}, `y` has {np.unique(y)}. Use "
                "partial_fit for data that lacks some classes."
            )
        if self.n_outputs == 1:  # with a single class, all targets are 0
            return codes[:, None].astype(np.int8)
        targets = np.zeros((len(codes), self.n_outputs), dtype=np.int8)
        targets[np.arange(len(codes)), codes] = 1
        return targets

    def _codes(self, values: Array, threshold: float) -> Array:
        if len(self.classes) == 1:
            return np.zeros((len(values), 1), dtype=int)
        if values.shape[1] > 1:
            return values.argmax(axis=1)[:, None]
        return (values > threshold).astype(int)

    def log_losses(self, outputs: Array, y: Array) -> Array:
        log_probabilities = self.probabilities(outputs, log=True)
        return -np.take_along_axis(log_probabilities, self._codes(y, 0.5), axis=1)[:, 0]

    def strata(self, y: Array) -> Array | None:
        return self._codes(y, 0.5)[:, 0]

    def decode(self, outputs: Array) -> Any:
        return self.classes[self._codes(outputs, 0)[:, 0]]

    def probabilities(self, outputs: Array, *, log: bool = False) -> Array:
        if len(self.classes) == 1:
            return np.full_like(outputs, 0 if log else 1)
        by_class = outputs if outputs.shape[1] > 1 else np.hstack([-outputs, outputs])
        return super().probabilities(by_class, log=log)

    def accuracy(self, y: Any, y_pred: Any, weight: Any) -> float:
        is_plain = is_plain_target(y, len(y_pred), numeric=False) and y.ndim == 1
        if weight is None and is_plain and y.dtype.kind == y_pred.dtype.kind:
            # scikit-learn's checks would take longer than predicting some hundred rows.
            return float(np.mean(y == y_pred))
        y = check_no_missing(as_dense(y))
        if getattr(y, "ndim", 1) == 1:
            y = unify_label_dtype(np.asarray(y), "`y`")
        return super().accuracy(y, y_pred, weight)


def encode_labels(y: Any, classes: Array, *, is_warm_fit: bool = False) -> Array:
    """Return the index of each label of one column in sorted classes; labels must be known."""
    if issparse(y) or y.ndim != 1:
        raise ValueError(
            f"y must be one column of labels, got an array of shape {y.shape}. "
            f"The classes are {classes}."
        )
    y = unify_label_dtype(y, "`y`")
    try:
        codes = np.searchsorted(classes, y)
        codes[codes == len(classes)] = 0
        is_unknown = classes[codes] != y
    except TypeError:  # strings and numbers cannot be compared
        is_unknown = np.ones(len(y), dtype=bool)
    if is_unknown.any():
        advice = (
            " With warm_start=True, fit keeps the classes of the previous call. Set "
            "warm_start=False to train from scratch."
        )
        raise ValueError(
            f"`y` has classes not in `self.classes_`: {_format_values(np.unique(y[is_unknown]))}. "
            f"`self.classes_` has {classes}.{advice if is_warm_fit else ''}"
        )
    return codes


class MultilabelTargets(LabelTargets):
    """Targets for any number of labels per row: a 0/1 matrix with a column for each label.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The labels.
    config : Config
        The loss that the user has chosen, and the label smoothing.
    is_sparse : bool, default=False
        Whether predictions are sparse matrices.
    """

    is_exclusive = False

    def __init__(self, classes: Array, config: Config, is_sparse: bool = False) -> None:
        super().__init__(classes, config)
        self.is_sparse = is_sparse

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"is_sparse": self.is_sparse}

    def encode(self, y: Any, needs_all: bool = False) -> Array:
        y = as_dense(y)
        if y.ndim != 2 or y.shape[1] != len(self.classes):
            raise ValueError(
                f"y must be an indicator matrix of {len(self.classes)} columns, one for each "
                f"label, got an array of shape {y.shape}."
            )
        _check_indicators(y)
        return np.asarray(y != 0, dtype=np.int8)

    def _codes(self, values: Array, threshold: float) -> Array:
        return (values > threshold).astype(int)

    def decode(self, outputs: Array) -> Any:
        indicator = self._codes(outputs, 0)
        return csr_matrix(indicator) if self.is_sparse else indicator

    def log_losses(self, outputs: Array, y: Array) -> Array:
        return -self.loss.link.log_inverse(np.where(y != 0, outputs, -outputs)).sum(axis=1)

    def accuracy(self, y: Any, y_pred: Any, weight: Any) -> float:
        is_sparse = issparse(y)
        y = y if is_sparse else np.asarray(check_no_missing(y))
        _check_indicators(y)
        return super().accuracy(y.astype(np.int8), y_pred, weight)


def make_label_targets(config: Config, y: Any, classes: Any = None) -> LabelTargets:
    """Return the targets for labels `y`, or for all `classes` in any order."""
    if classes is not None:
        classes = _validate_classes(classes)
    if y.ndim == 2:
        _check_indicators(y)
        label_names = np.arange(y.shape[1]) if classes is None else classes
        return MultilabelTargets(label_names, config, bool(issparse(y)))
    labels = labels_to_array(y, "y")
    return ClassTargets(np.unique(labels) if classes is None else classes, config)


def _validate_classes(classes: Any) -> Array:
    """Return the `classes` of one column sorted, after validation."""
    labels = labels_to_array(check_no_missing(classes, name="classes"), "classes")
    if not len(labels):
        raise ValueError("classes must contain the labels of `y`, got an empty array.")
    return np.unique(labels)


def labels_to_array(labels: Any, name: str) -> Array:
    """Return the labels of one column as an array of numbers or of strings."""
    labels = unify_label_dtype(np.asarray(labels), name)
    assert_all_finite(labels, input_name=name)
    with np.errstate(invalid="ignore"):  # floats may be too large for an integer
        target_type = type_of_target(labels)
    if target_type not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {target_type}. {name} must contain class labels, such as strings "
            "or integers."
        )
    return labels


def _check_indicators(y: Any) -> None:
    """Check that y, dense or sparse, has only zeros and ones."""
    values = y if isinstance(y, np.ndarray) else find(y)[2]
    mask = ~((values == 0) | (values == 1))
    if mask.any():
        raise ValueError(
            "y of several columns must contain only zeros and ones, 1 for each label of a row, got "
            f"{', '.join(_format_values(values[mask]))}. For lists of labels, use "
            "sklearn.preprocessing.MultiLabelBinarizer; for several columns of other labels, "
            "sklearn.multioutput.MultiOutputClassifier, which fits a network for each column."
        )


def _format_values(values: Array, n_max: int = 5) -> list[str]:
    """Return the first distinct values as strings, for an error."""
    strings = list(dict.fromkeys(map(str, values.tolist())))
    return strings if len(strings) <= n_max else [*strings[:n_max], "..."]
