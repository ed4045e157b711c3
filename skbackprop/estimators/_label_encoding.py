"""Label encoding of the classifier: labels to 0/1 targets, and raw predictions to labels.

There is one class for each kind of target: one column of labels, and a multilabel 0/1 matrix.
`make_target_encoder` chooses by the first `y`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
from scipy.sparse import csr_matrix, find, issparse
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import assert_all_finite

from ..losses._composite import LabelSmoothing, LossWithLink
from ..losses.base import Loss
from ..losses.classification import ClassifierLoss
from ..losses.links import Link
from ..nn.objective import Objective
from ..training.class_weight import EncodedLabels
from ..training.training_task import RawPredictionEvaluator
from ..utils.arrays import Array, as_dense
from ._target_encoding import BaseTargetEncoder
from ._validation import check_no_missing, is_plain_target, unify_label_dtype

# The classes of a column of a 0/1 matrix.
_BINARY = np.arange(2)


def make_target_encoder(y: Any, classes: Any = None) -> BaseLabelEncoder:
    """Return the encoder for labels `y`, of `classes` if these are known in advance."""
    if classes is not None:
        classes = _sort_classes(classes)
    if y.ndim == 2:
        _check_indicators(y)
        return MultilabelEncoder(np.arange(y.shape[1]) if classes is None else classes, issparse(y))
    labels = _labels_to_array(y, "y")
    return SingleLabelEncoder(np.unique(labels) if classes is None else classes)


def check_classes_passed(classes: Any) -> None:
    """Check that `classes` are passed to the first call of partial_fit."""
    if classes is None:
        raise ValueError(
            "classes must be passed on the first call to partial_fit, and by name: "
            "partial_fit(X, y, classes=...)."
        )


def rebuild_target_encoder(classes: Any, n_outputs: int, is_multilabel: bool) -> BaseLabelEncoder:
    """Return the encoder for the classes of assigned weights."""
    classes = np.asarray(classes)
    encoder: BaseLabelEncoder = SingleLabelEncoder(classes)
    if is_multilabel:
        encoder = MultilabelEncoder(classes, is_sparse=False)
    if encoder.n_outputs != n_outputs:
        raise ValueError(
            f"classes_ needs a network with {encoder.n_outputs} output(s), but coefs_ has "
            f"{n_outputs}. Two classes need one output, more classes need one each."
        )
    return encoder


class BaseLabelEncoder(BaseTargetEncoder):
    """Encoder of labels to 0/1 targets, and decoder of raw predictions ("scores") to labels.

    Attributes
    ----------
    classes : array of shape (n_classes,)
        The sorted labels.
    n_outputs : int
        The number of outputs of the network.
    """

    classes: Array
    n_outputs: int

    @abstractmethod
    def _codes(self, values: Array, threshold: float) -> Array:
        """Return class indices of shape (n, 1), or 0/1 indicators of shape (n, n_classes).

        `values` are raw predictions, with a `threshold` of 0, or encoded targets, with 0.5.
        """

    @abstractmethod
    def class_indices(self, y: Array) -> EncodedLabels:
        """Return the class indices of encoded targets."""

    @abstractmethod
    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        """Return the negative log-likelihood of each row's encoded targets."""

    @abstractmethod
    def decode(self, scores: Array) -> Any:
        """Return the predicted labels for raw predictions of shape (n, k)."""

    @abstractmethod
    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> Array:
        """Return the probability of each class, or its logarithm; `scores` may be overwritten."""

    def decision_function(self, scores: Array) -> Array:
        """Return raw predictions in the shape of scikit-learn's decision functions."""
        return scores if scores.shape[1] > 1 else scores[:, 0]

    def expand_predictions(self, predictions: Array) -> Array:
        """Return the outputs of a replaced output activation, one for each class."""
        return predictions

    @property
    def is_multiclass(self) -> bool:
        """Whether there are several outputs, of mutually exclusive classes."""
        return False

    def make_loss(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        own: ClassifierLoss = replace(cast(Any, loss), multiclass=self.is_multiclass)
        return LabelSmoothing(own, smoothing) if smoothing else own

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.classes!r})"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    def score(
        self, scores: Array, y: Array, weight: Array | None, loss: LossWithLink | None = None
    ) -> float:
        """Return the accuracy of raw predictions for encoded targets.

        If the user has set the output activation, `loss` is the loss with its link.
        """
        scores = scores if loss is None else loss.decision_values(scores)
        is_correct = (self._codes(scores, 0) == self._codes(y, 0.5)).all(axis=1)
        return float(np.average(is_correct, weights=weight))

    def make_evaluator(self, objective: Objective) -> RawPredictionEvaluator:
        loss = objective.loss
        own = partial(self.score, loss=loss) if isinstance(loss, LossWithLink) else self.score
        return RawPredictionEvaluator(objective, own)

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        """Return the accuracy of predicted labels."""
        with np.errstate(invalid="ignore"):
            return float(accuracy_score(y, predicted, sample_weight=weight))

    def check_classes(self, classes: Any) -> None:
        if classes is not None and not np.array_equal(_sort_classes(classes), self.classes):
            raise ValueError(
                f"classes={classes!r} is not the same as on the last call to partial_fit, was: "
                f"{self.classes!r}."
            )


class SingleLabelEncoder(BaseLabelEncoder):
    """Encoder of one column of labels: one output for up to two classes, else one for each class.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The sorted labels.
    """

    def __init__(self, classes: Array) -> None:
        if not len(classes):
            raise ValueError("classes must contain the labels of `y`, got an empty array.")
        self.classes, self.n_outputs = classes, 1 if len(classes) <= 2 else len(classes)

    @property
    def is_multiclass(self) -> bool:
        return self.n_outputs > 1

    def encode(self, y: Any, needs_all: bool) -> Array:
        codes = self._encode_labels(y, needs_all)
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

    def _encode_labels(self, y: Any, is_warm_fit: bool) -> Array:
        """Return the index of each label in `classes`."""
        if issparse(y) or y.ndim != 1:
            raise ValueError(
                f"y must be one column of labels, as in training, got an array of shape {y.shape}. "
                f"The classes are {self.classes}."
            )
        y = unify_label_dtype(y, "`y`")
        try:
            codes = np.searchsorted(self.classes, y)
            codes[codes == len(self.classes)] = 0
            unknown = self.classes[codes] != y
        except TypeError:  # strings and numbers cannot be compared
            unknown = np.ones(len(y), dtype=bool)
        if unknown.any():
            advice = (
                " With warm_start=True, fit keeps the classes of the previous call. Set "
                "warm_start=False to train from scratch."
            )
            raise ValueError(
                f"`y` has classes not in `self.classes_`: {_format_values(np.unique(y[unknown]))}. "
                f"`self.classes_` has {self.classes}.{advice if is_warm_fit else ''}"
            )
        return codes

    def _codes(self, values: Array, threshold: float) -> Array:
        if len(self.classes) == 1:
            return np.zeros((len(values), 1), dtype=int)
        if values.shape[1] > 1:
            return values.argmax(axis=1)[:, None]
        return (values > threshold).astype(int)

    def class_indices(self, y: Array) -> EncodedLabels:
        return EncodedLabels(self.classes, self._codes(y, 0.5))

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        log_probabilities = self.probabilities(scores, link, log=True)
        return -np.take_along_axis(log_probabilities, self._codes(y, 0.5), axis=1)[:, 0]

    def strata(self, y: Array) -> Array | None:
        return self._codes(y, 0.5)[:, 0]

    def decode(self, scores: Array) -> Any:
        return self.classes[self._codes(scores, 0)[:, 0]]

    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> Array:
        if len(self.classes) == 1:
            return np.full_like(scores, 0 if log else 1)
        by_class = scores if scores.shape[1] > 1 else np.hstack([-scores, scores])
        return _compute_probabilities(by_class, link, log)

    def expand_predictions(self, predictions: Array) -> Array:
        if len(self.classes) == 1:
            return np.ones_like(predictions)
        is_binary = predictions.shape[1] == 1
        return np.hstack([1 - predictions, predictions]) if is_binary else predictions

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        is_plain = is_plain_target(y, len(predicted), numeric=False) and y.ndim == 1
        if weight is None and is_plain and y.dtype.kind == predicted.dtype.kind:
            # scikit-learn's checks take longer than the prediction of some hundred rows.
            return float(np.mean(y == predicted))
        y = check_no_missing(as_dense(y))
        if getattr(y, "ndim", 1) == 1:
            y = unify_label_dtype(np.asarray(y), "`y`")
        return super().accuracy(y, predicted, weight)


class MultilabelEncoder(BaseLabelEncoder):
    """Encoder of any number of labels for each row: a 0/1 matrix with a column for each label."""

    def __init__(self, classes: Array, is_sparse: bool) -> None:
        self.classes, self.n_outputs, self.is_sparse = classes, len(classes), is_sparse

    def encode(self, y: Any, needs_all: bool) -> Array:
        y = as_dense(y)
        if y.ndim != 2 or y.shape[1] != len(self.classes):
            raise ValueError(
                f"y must be an indicator matrix of {len(self.classes)} columns, as in training, "
                f"got an array of shape {y.shape}."
            )
        _check_indicators(y)
        return np.asarray(y != 0, dtype=np.int8)

    def _codes(self, values: Array, threshold: float) -> Array:
        return (values > threshold).astype(int)

    def class_indices(self, y: Array) -> EncodedLabels:
        return EncodedLabels(_BINARY, self._codes(y, 0.5))

    def decode(self, scores: Array) -> Any:
        indicator = self._codes(scores, 0)
        return csr_matrix(indicator) if self.is_sparse else indicator

    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> Array:
        return _compute_probabilities(scores, link, log)

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        return -link.log_inverse(np.where(y != 0, scores, -scores)).sum(axis=1)

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        is_sparse = issparse(y)
        y = y if is_sparse else np.asarray(check_no_missing(y))
        _check_indicators(y)
        return super().accuracy(y.astype(np.int8), predicted, weight)


def _sort_classes(classes: Any) -> Array:
    """Return the `classes` of one column sorted, after validation."""
    return np.unique(_labels_to_array(check_no_missing(classes, name="classes"), "classes"))


def _labels_to_array(labels: Any, name: str) -> Array:
    """Return the labels of one column as an array of numbers or of strings."""
    labels = unify_label_dtype(np.asarray(labels), name)
    assert_all_finite(labels, input_name=name)
    with np.errstate(invalid="ignore"):  # of floats that no integer can hold
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
    invalid = ~((values == 0) | (values == 1))
    if invalid.any():
        raise ValueError(
            "y of several columns must contain only zeros and ones, 1 for each label of a row, got "
            f"{', '.join(_format_values(values[invalid]))}. For several columns of other labels, "
            "use sklearn.multioutput.MultiOutputClassifier, which fits a network for each column."
        )


def _format_values(values: Array, n_max: int = 5) -> list[str]:
    """Return the first distinct values as strings, for an error."""
    found = list(dict.fromkeys(map(str, values.tolist())))
    return found if len(found) <= n_max else [*found[:n_max], "..."]


def _compute_probabilities(scores: Array, link: Link, log: bool) -> Array:
    """Return probabilities, in place of the raw predictions, or their logarithms."""
    if log:
        return link.log_inverse(scores)
    link.inverse(scores, scores)
    # Probabilities are never 0, as their logarithms are finite, nor 1 for two classes.
    limits = np.finfo(scores.dtype)
    largest = 1 - limits.epsneg if link.name == "logistic" else 1
    return np.clip(scores, limits.smallest_subnormal, largest, out=scores)
