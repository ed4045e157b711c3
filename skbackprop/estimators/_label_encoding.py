"""Label encoding of the classifier: labels to 0/1 targets, and raw predictions to labels.

There is one class for each kind of target: one column of labels, a multilabel 0/1 matrix, and
several columns of labels. `make_target_encoder` chooses by the first `y`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
from scipy.sparse import csr_matrix, find, issparse
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import assert_all_finite

from ..losses._composite import (
    LabelSmoothing,
    LossWithLink,
    MultiOutputLink,
    MultiOutputLoss,
    split_outputs,
)
from ..losses.base import Loss
from ..losses.classification import ClassifierLoss
from ..losses.links import Link
from ..nn.objective import Objective
from ..training.class_weight import EncodedLabels
from ..training.training_task import RawPredictionEvaluator
from ..utils.arrays import Array, as_dense
from ._target_encoding import BaseTargetEncoder
from ._validation import CLASSES_BY_NAME, check_no_missing, is_plain_target, unify_label_dtype

# The classes of a column of a 0/1 matrix.
_BINARY = np.arange(2)


def make_target_encoder(y: Any, classes: Any = None) -> BaseLabelEncoder:
    """Return the encoder for labels `y`, of `classes` if these are known in advance."""
    is_indicator = False
    if y.ndim == 2 and y.dtype != object and _target_type(y) == "multilabel-indicator":
        values = y if isinstance(y, np.ndarray) else y.data
        is_indicator = bool(((values == 0) | (values == 1)).all())
    if _is_list_of_classes(classes) or (y.ndim == 2 and not is_indicator):
        return MultioutputLabelEncoder.from_labels(y, classes)
    if classes is not None:
        classes = _sort_classes(classes)
    if is_indicator:
        return MultilabelEncoder(np.arange(y.shape[1]) if classes is None else classes, issparse(y))
    labels = _labels_to_array(y, "y")
    return SingleLabelEncoder(np.unique(labels) if classes is None else classes)


def check_classes_passed(classes: Any, is_weighted: bool) -> None:
    """Check that `classes` are passed to the first call of partial_fit.

    With sample weights, the error says that the third argument is not `classes`.
    """
    if classes is None:
        hint = f" {CLASSES_BY_NAME}" if is_weighted else ""
        raise ValueError(f"classes must be passed on the first call to partial_fit.{hint}")


def rebuild_target_encoder(classes: Any, n_outputs: int, is_multilabel: bool) -> BaseLabelEncoder:
    """Return the encoder for the classes of assigned weights."""
    encoder: BaseLabelEncoder
    if _is_list_of_classes(classes):
        encoder = MultioutputLabelEncoder(
            [SingleLabelEncoder(np.asarray(each), i) for i, each in enumerate(classes)]
        )
    elif is_multilabel:
        encoder = MultilabelEncoder(np.asarray(classes), is_sparse=False)
    else:
        encoder = SingleLabelEncoder(np.asarray(classes))
    if encoder.n_outputs != n_outputs:
        raise ValueError(
            f"classes_ needs a network with {encoder.n_outputs} output(s), but coefs_ has "
            f"{n_outputs}. Two classes need one output, more classes need one each."
        )
    return encoder


def _is_list_of_classes(classes: Any) -> bool:
    """Return whether `classes` is a list with the labels of each column."""
    return isinstance(classes, (list, tuple)) and bool(classes) and np.ndim(classes[0]) == 1


class BaseLabelEncoder(BaseTargetEncoder):
    """Encoder of labels to 0/1 targets, and decoder of raw predictions ("scores") to labels.

    Attributes
    ----------
    classes : array of shape (n_classes,), or list of such arrays
        The sorted labels; for several columns, a list with those of each.
    n_outputs : int
        The number of outputs of the network.
    has_several_columns : bool
        Whether y is a matrix.
    """

    classes: Any
    n_outputs: int
    has_several_columns: ClassVar[bool] = True

    @abstractmethod
    def _codes(self, values: Array, threshold: float) -> Array:
        """Return the class indices of each column, of shape (n, n_columns).

        `values` are raw predictions, with a `threshold` of 0, or encoded targets, with 0.5.
        """

    @property
    @abstractmethod
    def _named_classes(self) -> Sequence[tuple[str, Array]]:
        """The name of each column for errors, and its classes."""

    @abstractmethod
    def decode(self, scores: Array) -> Any:
        """Return the predicted labels for raw predictions of shape (n, k)."""

    @abstractmethod
    def decision_function(self, scores: Array) -> Any:
        """Return raw predictions in the shape of scikit-learn's decision functions."""

    @abstractmethod
    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> Any:
        """Return the probability of each class, or its logarithm; `scores` may be overwritten."""

    def expand_predictions(self, predictions: Array) -> Array:
        """Return the outputs of a replaced output activation, one for each class."""
        return predictions

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.classes!r})"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    @property
    def single_class_mask(self) -> Array:
        """Whether each output has a single class, whose probability is always one."""
        return np.zeros(self.n_outputs, dtype=bool)

    def class_indices(self, y: Array) -> list[EncodedLabels]:
        """Return the class indices of encoded targets, column by column."""
        columns = zip(self._named_classes, self._codes(y, 0.5).T, strict=True)
        return [EncodedLabels(name, classes, codes) for (name, classes), codes in columns]

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        """Return the negative log-likelihood of each row's encoded targets."""
        found = self.probabilities(scores, link, log=True)
        columns = zip(
            found if isinstance(found, list) else [found], self._codes(y, 0.5).T, strict=True
        )
        rows = np.arange(len(y))
        return -np.sum([each[rows, codes] for each, codes in columns], axis=0)

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
        if classes is not None and not _are_same_classes(classes, self.classes):
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
    column : int or None, default=None
        The index of the column, if y has several.
    """

    has_several_columns = False

    def __init__(self, classes: Array, column: int | None = None) -> None:
        self.classes, self.n_outputs = classes, 1 if len(classes) <= 2 else len(classes)
        self._y = "`y`" if column is None else f"column {column} of `y`"
        if not len(classes):
            raise ValueError(f"classes must contain the labels of {self._y}, got an empty array.")
        self._classes_name = "`self.classes_`" + ("" if column is None else f"[{column}]")

    @property
    def single_class_mask(self) -> Array:
        return np.full(self.n_outputs, len(self.classes) == 1)

    def encode(self, y: Any, needs_all: bool) -> Array:
        codes = self._encode_labels(y, needs_all)
        if needs_all and len(np.unique(codes)) < len(self.classes):
            raise ValueError(
                f"warm_start can only be used where {self._y} has the same classes as in the "
                f"previous call to fit. Previously got {self.classes}, {self._y} has "
                f"{np.unique(y)}. Use partial_fit for data that lacks some classes."
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
        y = unify_label_dtype(y, self._y)
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
                f"{self._y} has classes not in {self._classes_name}: "
                f"{_format_values(np.unique(y[unknown]))}. {self._classes_name} has "
                f"{self.classes}.{advice if is_warm_fit else ''}"
            )
        return codes

    def _codes(self, values: Array, threshold: float) -> Array:
        if len(self.classes) == 1:
            return np.zeros((len(values), 1), dtype=int)
        if values.shape[1] > 1:
            return values.argmax(axis=1)[:, None]
        return (values > threshold).astype(int)

    @property
    def _named_classes(self) -> Sequence[tuple[str, Array]]:
        return [(self._y, self.classes)]

    def strata(self, y: Array) -> Array | None:
        return self._codes(y, 0.5)[:, 0]

    def decode(self, scores: Array) -> Any:
        return self.classes[self._codes(scores, 0)[:, 0]]

    def make_loss(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        return _make_smoothed_loss(loss, self.n_outputs > 1, smoothing)

    def decision_function(self, scores: Array) -> Array:
        return scores if scores.shape[1] > 1 else scores[:, 0]

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
            y = unify_label_dtype(np.asarray(y), self._y)
        return super().accuracy(y, predicted, weight)

    def to_comparable_labels(self, y: Array) -> Array:
        """Return labels that can be compared with the classes: both strings, or both numbers."""
        labels = unify_label_dtype(y, self._y)
        if (labels.dtype.kind == "U") != (self.classes.dtype.kind == "U"):
            raise ValueError(
                f"{self._y} has labels such as {labels.tolist()[0]!r}, which cannot be compared "
                f"with {self._classes_name}, such as {self.classes.tolist()[0]!r}. Use labels of "
                "the same type."
            )
        return labels


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

    @property
    def _named_classes(self) -> Sequence[tuple[str, Array]]:
        return [(f"column {i} of `y`", _BINARY) for i in range(self.n_outputs)]

    def decode(self, scores: Array) -> Any:
        indicator = self._codes(scores, 0)
        return csr_matrix(indicator) if self.is_sparse else indicator

    def make_loss(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        return _make_smoothed_loss(loss, False, smoothing)

    def decision_function(self, scores: Array) -> Array:
        return scores

    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> Array:
        return _compute_probabilities(scores, link, log)

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        return -link.log_inverse(np.where(y != 0, scores, -scores)).sum(axis=1)

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        is_sparse = issparse(y)
        y = y if is_sparse else np.asarray(check_no_missing(y))
        _check_indicators(find(y)[2] if is_sparse else y)
        return super().accuracy(y.astype(np.int8), predicted, weight)


class MultioutputLabelEncoder(BaseLabelEncoder):
    """Encoder of several columns of labels: each column has outputs of its own.

    Parameters
    ----------
    columns : list of SingleLabelEncoder
        The encoder of each column.
    """

    def __init__(self, columns: list[SingleLabelEncoder]) -> None:
        self.columns = columns
        self.classes = [column.classes for column in columns]
        self.widths = tuple(column.n_outputs for column in columns)
        self.n_outputs = sum(self.widths)

    @classmethod
    def from_labels(cls, y: Any, classes: Any) -> MultioutputLabelEncoder:
        """Return the encoder for the columns of y, of `classes` if these are known."""
        y = as_dense(y)
        if classes is None:
            labels = list(y.T)
        elif y.ndim == 2 and _is_list_of_classes(classes) and len(classes) == y.shape[1]:
            labels = classes
        else:
            raise ValueError(
                "classes must be a list with the labels of each column of y, which has the shape "
                f"{y.shape}, got {classes!r}."
            )
        valid = (_labels_to_array(own, f"Column {i} of y") for i, own in enumerate(labels))
        return cls([SingleLabelEncoder(np.unique(own), i) for i, own in enumerate(valid)])

    @property
    def single_class_mask(self) -> Array:
        return np.concatenate([column.single_class_mask for column in self.columns])

    def encode(self, y: Any, needs_all: bool) -> Array:
        y = as_dense(y)
        if y.ndim != 2 or y.shape[1] != len(self.columns):
            raise ValueError(
                f"y must have {len(self.columns)} columns of labels, as in training, got an array "
                f"of shape {y.shape}."
            )
        encoded = [
            column.encode(_labels_to_array(labels, f"Column {i} of y"), needs_all)
            for i, (column, labels) in enumerate(zip(self.columns, y.T, strict=True))
        ]
        return np.hstack(encoded)

    def _split(self, values: Array) -> Iterator[tuple[SingleLabelEncoder, Array]]:
        """Return each column with its raw predictions or encoded targets."""
        return zip(self.columns, split_outputs(values, self.widths), strict=True)

    def _codes(self, values: Array, threshold: float) -> Array:
        return np.hstack([column._codes(part, threshold) for column, part in self._split(values)])

    @property
    def _named_classes(self) -> Sequence[tuple[str, Array]]:
        return [named for column in self.columns for named in column._named_classes]

    def decode(self, scores: Array) -> Any:
        labels = [column.decode(part) for column, part in self._split(scores)]
        if len({each.dtype.kind == "U" for each in labels}) > 1:
            # Keep strings and numbers as they are.
            labels = [each.astype(object) for each in labels]
        return np.column_stack(labels)

    def make_loss(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        losses = tuple(column.make_loss(loss, smoothing) for column in self.columns)
        return MultiOutputLoss(losses, self.widths)

    def decision_function(self, scores: Array) -> list[Array]:
        return [column.decision_function(part) for column, part in self._split(scores)]

    def probabilities(self, scores: Array, link: Link, *, log: bool = False) -> list[Array]:
        each = zip(self._split(scores), cast(MultiOutputLink, link).links, strict=True)
        return [column.probabilities(part, own, log=log) for (column, part), own in each]

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        y = np.asarray(as_dense(check_no_missing(y)))
        if y.shape != predicted.shape:
            raise ValueError(
                f"y must have the shape of the predictions, {predicted.shape}, got {y.shape}."
            )
        correct = [
            column.to_comparable_labels(labels) == own
            for column, labels, own in zip(self.columns, y.T, predicted.T, strict=True)
        ]
        return float(np.average(np.all(correct, axis=0), weights=weight))


def _are_same_classes(classes: Any, others: Any) -> bool:
    """Return whether `classes` of the user equal those of an encoder."""
    if _is_list_of_classes(classes) != isinstance(others, list):
        return False
    if not isinstance(others, list):
        return np.array_equal(_sort_classes(classes), others)
    return len(classes) == len(others) and all(map(_are_same_classes, classes, others))


def _sort_classes(classes: Any) -> Array:
    """Return the `classes` of one column sorted, after validation."""
    return np.unique(_labels_to_array(check_no_missing(classes, name="classes"), "classes"))


def _labels_to_array(labels: Any, name: str) -> Array:
    """Return the labels of one column as an array of numbers or of strings."""
    labels = unify_label_dtype(np.asarray(labels), name)
    assert_all_finite(labels, input_name=name)
    target_type = _target_type(labels)
    if target_type not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {target_type}. {name} must contain class labels, such as strings "
            "or integers."
        )
    return labels


def _target_type(y: Any) -> str:
    """Return scikit-learn's type of the target."""
    with np.errstate(invalid="ignore"):  # of floats that no integer can hold
        return str(type_of_target(y))


def _check_indicators(y: Array) -> None:
    """Check that y has only zeros and ones."""
    invalid = ~((y == 0) | (y == 1))
    if invalid.any():
        raise ValueError(
            "y must contain only zeros and ones, because the classifier was trained on an "
            f"indicator matrix, got {', '.join(_format_values(y[invalid]))}. Use 1 for each label "
            "of a row, and 0 for all others."
        )


def _format_values(values: Array, n_max: int = 5) -> list[str]:
    """Return the first distinct values as strings, for an error."""
    found = list(dict.fromkeys(map(str, values.tolist())))
    return found if len(found) <= n_max else [*found[:n_max], "..."]


def _make_smoothed_loss(loss: Any, multiclass: bool, smoothing: float) -> Loss:
    """Return the loss for multiclass or for binary outputs, with label smoothing."""
    own = cast(ClassifierLoss, replace(loss, multiclass=multiclass))
    return LabelSmoothing(own, smoothing) if smoothing else own


def _compute_probabilities(scores: Array, link: Link, log: bool) -> Array:
    """Return probabilities, in place of the raw predictions, or their logarithms."""
    if log:
        return link.log_inverse(scores)
    link.inverse(scores, scores)
    # Probabilities are never 0, as their logarithms are finite, nor 1 for two classes.
    limits = np.finfo(scores.dtype)
    largest = 1 - limits.epsneg if link.name == "logistic" else 1
    return np.clip(scores, limits.smallest_subnormal, largest, out=scores)
