"""Labels of a classifier: to 0/1 targets for its network, and from scores back to labels.

There is one class for each kind of labels, which knows all that depends on the kind; the classifier
asks no more than what `learn` has made of its first `y`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np
from scipy.sparse import csr_matrix, find, issparse
from sklearn.metrics import accuracy_score
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import assert_all_finite

from ..losses.base import Loss
from ..losses.classification import ClassifierLoss, LabelSmoothing
from ..losses.links import Link
from ..losses.multioutput import MultiOutputLink, MultiOutputLoss, split_outputs
from ..training.class_weight import EncodedLabels
from ..utils.arrays import Array, as_dense
from ._data_info import TargetEncoder
from ._validation import CLASSES_BY_NAME, check_no_missing, is_plain_target, unify_label_dtype

# The classes of a column of a 0/1 matrix.
_BINARY = np.arange(2)


def make_target_encoder(y: Any, classes: Any = None) -> ClassificationTargets:
    """Return what stands for labels like `y`; `classes` are all there will ever be, if known."""
    if _are_by_column(classes) or _has_labels_by_column(y):
        return MultioutputTargets.learn(y, classes)
    known = None if classes is None else _known(classes)
    if _kind_of(y) == "multilabel-indicator":
        return MultilabelTargets(np.arange(y.shape[1]) if known is None else known, issparse(y))
    labels = _plain(y, "y")
    return SingleLabelTargets(np.unique(labels) if known is None else known)


def check_are_named(classes: Any, is_weighted: bool) -> None:
    """Check that a first call of partial_fit is given the classes; weights may be what was."""
    if classes is None:
        said = f" {CLASSES_BY_NAME}" if is_weighted else ""
        raise ValueError(f"classes must be passed on the first call to partial_fit.{said}")


def rebuild_target_encoder(
    classes: Any, n_outputs: int, is_multilabel: bool
) -> ClassificationTargets:
    """Return what stands for the labels of a network that is known by them and its outputs."""
    labels: ClassificationTargets
    if _are_by_column(classes):
        labels = MultioutputTargets(
            [SingleLabelTargets(np.asarray(each), i) for i, each in enumerate(classes)]
        )
    elif is_multilabel:
        labels = MultilabelTargets(np.asarray(classes), is_sparse=False)
    else:
        labels = SingleLabelTargets(np.asarray(classes))
    if labels.n_outputs != n_outputs:
        raise ValueError(
            f"classes_ holds labels for {labels.n_outputs} output(s), but coefs_ makes a network "
            f"of {n_outputs}. Two classes have one output, more have one each."
        )
    return labels


def _has_labels_by_column(y: Any) -> bool:
    """Return whether y has several columns that are more than 0/1 indicators."""
    if y.ndim != 2:
        return False
    if y.dtype == object or _kind_of(y) != "multilabel-indicator":
        return True
    values = y if isinstance(y, np.ndarray) else y.data
    return not ((values == 0) | (values == 1)).all()


def _are_by_column(classes: Any) -> bool:
    """Return whether `classes` is a list of the labels of each column."""
    return isinstance(classes, (list, tuple)) and bool(classes) and np.ndim(classes[0]) == 1


class ClassificationTargets(TargetEncoder):
    """Labels that a classifier tells apart, as targets and scores of its network.

    Attributes
    ----------
    classes : array of shape (n_classes,), or list of such arrays
        The labels, sorted; of several columns, those of each.
    has_several_columns : bool
        Whether y is a matrix.
    """

    classes: Any
    has_several_columns: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """The number of outputs of the network."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.classes!r})"

    @property
    def attributes(self) -> dict[str, Any]:
        return {"classes_": self.classes}

    @property
    def saturated_mask(self) -> Array:
        """Which outputs have an only class, whose probability is one whatever the score."""
        return np.zeros(self.n_outputs, dtype=bool)

    @abstractmethod
    def class_indices(self, y: Array) -> list[EncodedLabels]:
        """Return the labels of each column of encoded targets, by number."""

    @abstractmethod
    def decode(self, scores: Array) -> Any:
        """Return the labels that scores of shape (n, k) speak for."""

    @abstractmethod
    def loss_of(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        """Return a loss for these targets; `smoothing` is the share of them that is spread."""

    @abstractmethod
    def decision_function(self, scores: Array) -> Any:
        """Return the scores in the shape that scikit-learn gives decision values."""

    @abstractmethod
    def probabilities(self, scores: Array, link: Link) -> Any:
        """Return the probability of each class."""

    @abstractmethod
    def log_probabilities(self, scores: Array, link: Link) -> Any:
        """Return the logarithm of the probability of each class."""

    def of_each_class(self, predictions: Array) -> Array:
        """Return predictions of an output activation that was set in place of probabilities."""
        return predictions

    @abstractmethod
    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        """Return minus the logarithm of the probability of each row's encoded targets."""

    @abstractmethod
    def correct_mask(self, scores: Array, y: Array) -> Array:
        """Return for each row whether its scores speak for its encoded targets."""

    def score(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return the share of rows that are right."""
        return float(np.average(self.correct_mask(scores, y), weights=weight))

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        """Return the share of rows whose labels were predicted, all of them."""
        with np.errstate(invalid="ignore"):
            return float(accuracy_score(y, predicted, sample_weight=weight))

    def same_classes(self, classes: Any) -> bool:
        """Return whether `classes` are those that were learned."""
        if _are_by_column(classes):
            return False
        return np.array_equal(_known(classes), self.classes)


class SingleLabelTargets(ClassificationTargets):
    """One label for each row: one output for up to two classes, else one for each class.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        The labels, sorted.
    column : int or None, default=None
        Which column of y they are, if it has several.
    """

    has_several_columns = False

    def __init__(self, classes: Array, column: int | None = None) -> None:
        self.classes = classes
        self._y = "`y`" if column is None else f"column {column} of `y`"
        if not len(classes):
            raise ValueError(f"classes must hold the labels of {self._y}, got none.")
        self._classes_name = "`self.classes_`" + ("" if column is None else f"[{column}]")

    @property
    def n_outputs(self) -> int:
        """The number of outputs that tell the classes apart."""
        return 1 if len(self.classes) <= 2 else len(self.classes)

    @property
    def saturated_mask(self) -> Array:
        return np.full(self.n_outputs, len(self.classes) == 1)

    def encode(self, y: Any, needs_all: bool) -> Array:
        codes = self._codes(y, needs_all)
        if needs_all and len(np.unique(codes)) < len(self.classes):
            raise ValueError(
                f"warm_start can only be used where {self._y} has the same classes as in the "
                f"previous call to fit. Previously got {self.classes}, {self._y} has "
                f"{np.unique(y)}. Use partial_fit for data that lacks some classes."
            )
        if self.n_outputs == 1:
            # With one class there is nothing to tell apart, and all targets are 0.
            return codes[:, None].astype(np.int8)
        targets = np.zeros((len(codes), self.n_outputs), dtype=np.int8)
        targets[np.arange(len(codes)), codes] = 1
        return targets

    def _codes(self, y: Any, is_warm_fit: bool) -> Array:
        """Return the position of each label in `classes`."""
        if issparse(y) or y.ndim != 1:
            raise ValueError(
                f"y has the shape {y.shape}, but the classifier was trained on one column of "
                f"labels: {self.classes}."
            )
        y = unify_label_dtype(y, self._y)
        try:
            codes = np.searchsorted(self.classes, y)
            codes[codes == len(self.classes)] = 0
            unknown = self.classes[codes] != y
        except TypeError:  # words and numbers, say, have no order
            unknown = np.ones(len(y), dtype=bool)
        if unknown.any():
            what_to_do = (
                " With warm_start=True fit goes on with the classes of the previous call: set "
                "warm_start=False to train anew."
            )
            raise ValueError(
                f"{self._y} has classes not in {self._classes_name}: "
                f"{_some(np.unique(y[unknown]))}. {self._classes_name} has "
                f"{self.classes}.{what_to_do if is_warm_fit else ''}"
            )
        return codes

    def class_indices(self, y: Array) -> list[EncodedLabels]:
        return [EncodedLabels(self._y, self.classes, self._codes_of(y))]

    def decode(self, scores: Array) -> Any:
        if len(self.classes) == 1:
            return np.repeat(self.classes, len(scores))
        codes = scores.argmax(axis=1) if scores.shape[1] > 1 else (scores[:, 0] > 0).astype(int)
        return self.classes[codes]

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        is_plain = is_plain_target(y, len(predicted), numeric=False) and y.ndim == 1
        if weight is None and is_plain and y.dtype.kind == predicted.dtype.kind:
            # scikit-learn's checks take longer than the prediction of some hundred rows.
            return float(np.mean(y == predicted))
        y = check_no_missing(as_dense(y))
        if getattr(y, "ndim", 1) == 1:
            y = unify_label_dtype(np.asarray(y), self._y)
        return super().accuracy(y, predicted, weight)

    def comparable(self, y: Array) -> Array:
        """Return labels that are words where these are words, and numbers where they are not."""
        labels = unify_label_dtype(y, self._y)
        if (labels.dtype.kind == "U") != (self.classes.dtype.kind == "U"):
            raise ValueError(
                f"{self._y} has labels such as {labels.tolist()[0]!r}, which cannot be compared "
                f"with {self._classes_name}, such as {self.classes.tolist()[0]!r}."
            )
        return labels

    def loss_of(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        return _prepared(loss, self.n_outputs > 1, smoothing)

    def decision_function(self, scores: Array) -> Array:
        return scores if scores.shape[1] > 1 else scores[:, 0]

    def probabilities(self, scores: Array, link: Link) -> Array:
        if len(self.classes) == 1:
            return np.ones_like(scores)
        return _probabilities(_score_of_each_class(scores), link)

    def of_each_class(self, predictions: Array) -> Array:
        if len(self.classes) == 1:
            return np.ones_like(predictions)
        is_binary = predictions.shape[1] == 1
        return np.hstack([1 - predictions, predictions]) if is_binary else predictions

    def log_probabilities(self, scores: Array, link: Link) -> Array:
        if len(self.classes) == 1:
            return np.zeros_like(scores)
        return link.log_inverse(_score_of_each_class(scores))

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        each, codes = self.log_probabilities(scores, link), self._codes_of(y)
        return -each[np.arange(len(codes)), codes]

    def correct_mask(self, scores: Array, y: Array) -> Array:
        if len(self.classes) == 1:
            return np.ones(len(scores), dtype=bool)
        if scores.shape[1] > 1:
            return np.asarray(scores.argmax(axis=1) == y.argmax(axis=1))
        return np.asarray((scores > 0) == y)[:, 0]

    def strata(self, y: Array) -> Array | None:
        return self._codes_of(y)

    def _codes_of(self, y: Array) -> Array:
        """Return the position in `classes` of the label of each row of encoded targets."""
        return y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)


class MultilabelTargets(ClassificationTargets):
    """Any number of labels for each row: a 0/1 matrix with a column for each label."""

    def __init__(self, classes: Array, is_sparse: bool) -> None:
        self.classes, self.is_sparse = classes, is_sparse

    @property
    def n_outputs(self) -> int:
        """The number of labels."""
        return len(self.classes)

    def encode(self, y: Any, needs_all: bool) -> Array:
        y = as_dense(y)
        if y.ndim != 2 or y.shape[1] != len(self.classes):
            raise ValueError(
                f"y has the shape {y.shape}, but the classifier was trained on an indicator "
                f"matrix of {len(self.classes)} columns."
            )
        _check_indicators(y)
        return np.asarray(y != 0, dtype=np.int8)

    def class_indices(self, y: Array) -> list[EncodedLabels]:
        return [EncodedLabels(f"column {i} of `y`", _BINARY, own) for i, own in enumerate(y.T)]

    def decode(self, scores: Array) -> Any:
        indicator = (scores > 0).astype(int)
        return csr_matrix(indicator) if self.is_sparse else indicator

    def loss_of(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        return _prepared(loss, False, smoothing)

    def decision_function(self, scores: Array) -> Array:
        return scores

    def probabilities(self, scores: Array, link: Link) -> Array:
        return _probabilities(scores, link)

    def log_probabilities(self, scores: Array, link: Link) -> Array:
        return link.log_inverse(scores)

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        return -link.log_inverse(np.where(y != 0, scores, -scores)).sum(axis=1)

    def correct_mask(self, scores: Array, y: Array) -> Array:
        return np.asarray(((scores > 0) == y).all(axis=1))

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        is_sparse = issparse(y)
        y = y if is_sparse else np.asarray(check_no_missing(y))
        _check_indicators(find(y)[2] if is_sparse else y)
        return super().accuracy(y.astype(np.int8), predicted, weight)


class MultioutputTargets(ClassificationTargets):
    """A label in each of several columns: each has outputs of its own, as if it were alone.

    Parameters
    ----------
    columns : list of Labels
        One for each column.
    """

    def __init__(self, columns: list[SingleLabelTargets]) -> None:
        self.columns = columns
        self.classes = [column.classes for column in columns]
        self.widths = tuple(column.n_outputs for column in columns)

    @property
    def n_outputs(self) -> int:
        """The outputs of all columns."""
        return sum(self.widths)

    @property
    def saturated_mask(self) -> Array:
        return np.concatenate([column.saturated_mask for column in self.columns])

    @classmethod
    def learn(cls, y: Any, classes: Any) -> MultioutputTargets:
        """Return the columns of y; `classes` are the labels of each, where they are known."""
        y = as_dense(y)
        if classes is None:
            labels = list(y.T)
        elif y.ndim == 2 and _are_by_column(classes) and len(classes) == y.shape[1]:
            labels = classes
        else:
            raise ValueError(
                "classes must be a list with the labels of each column of y, which has the shape "
                f"{y.shape}, got {classes!r}."
            )
        each = enumerate(labels)
        return cls([SingleLabelTargets(np.unique(_plain(own, _column(i))), i) for i, own in each])

    def encode(self, y: Any, needs_all: bool) -> Array:
        y = as_dense(y)
        if y.ndim != 2 or y.shape[1] != len(self.columns):
            raise ValueError(
                f"y has the shape {y.shape}, but the classifier was trained on "
                f"{len(self.columns)} columns of labels."
            )
        encoded = [
            column.encode(_plain(labels, _column(i)), needs_all)
            for i, (column, labels) in enumerate(zip(self.columns, y.T, strict=True))
        ]
        return np.hstack(encoded)

    def class_indices(self, y: Array) -> list[EncodedLabels]:
        return [coded for column, own in self._each(y) for coded in column.class_indices(own)]

    def decode(self, scores: Array) -> Any:
        labels = [column.decode(part) for column, part in self._each(scores)]
        if len({each.dtype.kind == "U" for each in labels}) > 1:
            # Words and numbers stay what they are.
            labels = [each.astype(object) for each in labels]
        return np.column_stack(labels)

    def loss_of(self, loss: ClassifierLoss, smoothing: float) -> Loss:
        losses = tuple(column.loss_of(loss, smoothing) for column in self.columns)
        return MultiOutputLoss(losses, self.widths)

    def decision_function(self, scores: Array) -> list[Array]:
        return [column.decision_function(part) for column, part in self._each(scores)]

    def probabilities(self, scores: Array, link: Link) -> list[Array]:
        each = zip(self._each(scores), cast(MultiOutputLink, link).links, strict=True)
        return [column.probabilities(part, own) for (column, part), own in each]

    def log_probabilities(self, scores: Array, link: Link) -> list[Array]:
        each = zip(self._each(scores), cast(MultiOutputLink, link).links, strict=True)
        return [column.log_probabilities(part, own) for (column, part), own in each]

    def log_losses(self, scores: Array, y: Array, link: Link) -> Array:
        of_columns = (
            self._each(scores),
            split_outputs(y, self.widths),
            cast(MultiOutputLink, link).links,
        )
        losses = [
            column.log_losses(part, targets, own)
            for (column, part), targets, own in zip(*of_columns, strict=True)
        ]
        return np.sum(losses, axis=0)

    def correct_mask(self, scores: Array, y: Array) -> Array:
        each = zip(self._each(scores), split_outputs(y, self.widths), strict=True)
        return np.all([column.correct_mask(part, own) for (column, part), own in each], axis=0)

    def accuracy(self, y: Any, predicted: Any, weight: Any) -> float:
        y = np.asarray(as_dense(check_no_missing(y)))
        if y.shape != predicted.shape:
            raise ValueError(
                f"y has the shape {y.shape}, but the predictions have {predicted.shape}."
            )
        are_right = [
            column.comparable(labels) == own
            for column, labels, own in zip(self.columns, y.T, predicted.T, strict=True)
        ]
        return float(np.average(np.all(are_right, axis=0), weights=weight))

    def same_classes(self, classes: Any) -> bool:
        return (
            _are_by_column(classes)
            and len(classes) == len(self.columns)
            and all(
                column.same_classes(each)
                for column, each in zip(self.columns, classes, strict=True)
            )
        )

    def _each(self, scores: Array) -> Iterator[tuple[SingleLabelTargets, Array]]:
        """Return each column with its scores, or with its encoded targets."""
        return zip(self.columns, split_outputs(scores, self.widths), strict=True)


def _column(i: int) -> str:
    return f"Column {i} of y"


def _known(classes: Any) -> Array:
    """Return the classes of one column that the user has named, sorted."""
    return np.unique(_plain(check_no_missing(classes, name="classes"), "classes"))


def _plain(labels: Any, name: str) -> Array:
    """Return labels of one column as an array of numbers or of words, checked."""
    labels = unify_label_dtype(np.asarray(labels), name)
    assert_all_finite(labels, input_name=name)
    kind = _kind_of(labels)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. {name} must hold labels of classes, such as words or "
            "whole numbers."
        )
    return labels


def _kind_of(y: Any) -> str:
    """Return scikit-learn's word for the kind of targets that y holds."""
    with np.errstate(invalid="ignore"):  # numbers that no integer holds are no labels
        return str(type_of_target(y))


def _check_indicators(y: Array) -> None:
    """Check that y holds nothing but zeros and ones."""
    are_wrong = ~((y == 0) | (y == 1))
    if are_wrong.any():
        raise ValueError(
            "The classifier was trained on an indicator matrix of zeros and ones, but y contains "
            f"{', '.join(_some(y[are_wrong]))}. Give 1 to each label that a row has, and 0 to all "
            "others."
        )


def _some(values: Array, most: int = 5) -> list[str]:
    """Return the first few of different values, for an error."""
    found = list(dict.fromkeys(map(str, values.tolist())))
    return found if len(found) <= most else [*found[:most], "..."]


def _prepared(loss: Any, multiclass: bool, smoothing: float) -> Loss:
    prepared = cast(ClassifierLoss, replace(loss, multiclass=multiclass))
    return LabelSmoothing(prepared, smoothing) if smoothing else prepared


def _score_of_each_class(scores: Array) -> Array:
    """Return a column for each class: for two classes -s and s."""
    return scores if scores.shape[1] > 1 else np.hstack([-scores, scores])


def _probabilities(scores: Array, link: Link) -> Array:
    """Turn scores into probabilities, in place."""
    link.inverse(scores, scores)
    # No probability is 0, as its logarithm is finite; nor is one of two of them 1.
    limits = np.finfo(scores.dtype)
    largest = 1 - limits.epsneg if link.name == "logistic" else 1
    return np.clip(scores, limits.smallest_subnormal, largest, out=scores)
