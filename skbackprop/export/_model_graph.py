"""From fitted estimators to what is exported of them: named outputs, each an expression.

`model_of` has a function for each class of estimators. Networks go layer by layer through their
formulas; the members' predictions are averaged, as the estimators do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, cast

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._sklearn import BaseSearchCV
from ..estimators._label_encoding import MultilabelTargets, MultioutputTargets
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..losses import Link
from ..losses._link_override import LossWithLink
from ..losses.multioutput import MultiOutputLink
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..utils.arrays import Array
from . import _expressions as ex
from ._converters import convert, find_converter, get_predicted_std, split_links, to_expression
from ._expressions import Expr

_ALL = slice(None)
_LIMITS = np.finfo(np.float32)
PROBABILITIES, SCORES = "probabilities", "scores"


@dataclass(frozen=True)
class ModelOutput:
    """Numbers that are exported as they are.

    Parameters
    ----------
    name : str
        The name of the output.
    expression : Expression
        The numbers of a row.
    shape : tuple of int or None, default=None
        The shape of a row's numbers; None for (width,).
    """

    name: str
    expression: Expr
    shape: tuple[int, ...] | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of what is exported of a row."""
        return (self.expression.width,) if self.shape is None else self.shape


@dataclass(frozen=True)
class ArgmaxOutput(ModelOutput):
    """The class whose number is the largest."""

    classes: Any = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """There is one label for each row."""
        return ()


@dataclass(frozen=True)
class ThresholdOutput(ModelOutput):
    """Whether each number is above a threshold: 1 or 0."""

    threshold: float = 0.0


@dataclass(frozen=True)
class ModelGraph:
    """All that is exported of an estimator.

    Parameters
    ----------
    estimator : str
        The name of its class.
    row : Expression
        The input.
    outputs : tuple of Output
        What is made of it.
    feature_names : sequence of str or None
        The names of the numbers of a row.
    """

    estimator: str
    row: Expr
    outputs: tuple[ModelOutput, ...]
    feature_names: Sequence[str] | None = None

    @property
    def expressions(self) -> list[Expr]:
        """What the outputs are made of."""
        return [output.expression for output in self.outputs]


def build_graph(estimator: Any, return_std: bool = False) -> ModelGraph:
    """Return all that is exported of a fitted estimator."""
    check_is_fitted(estimator)
    *transformers, last = steps_of(estimator)
    row = x = ex.row(n_features_of(estimator))
    with np.errstate(all="ignore"):
        for step in transformers:
            x = convert(step, _input_of(step, x))
        x = _input_of(last, x)
        outputs = find_converter(outputs_of, type(last))(last, x)
        if return_std:
            outputs = (*outputs, _std_of(last, x))
    return ModelGraph(
        type(estimator).__name__, row, outputs, getattr(estimator, "feature_names_in_", None)
    )


def n_features_of(estimator: Any) -> int:
    """Return the number of features that an estimator takes."""
    n_features: int | None = getattr(estimator, "n_features_in_", None)
    if n_features is None:
        raise TypeError(f"The {type(estimator).__name__} does not tell how many features it takes.")
    return n_features


def steps_of(estimator: Any) -> list[Any]:
    """Return the transformers of an estimator, in their order, and the last estimator.

    Pipelines are replaced by their steps, searches by what they have refitted.
    """
    if isinstance(estimator, Pipeline):
        each = (step for _, step in estimator.steps if step not in (None, "passthrough"))
        return [part for step in each for part in steps_of(step)]
    if isinstance(estimator, BaseSearchCV):
        if not hasattr(estimator, "best_estimator_"):
            raise TypeError(
                f"The {type(estimator).__name__} can't be exported: it has refitted no candidate. "
                "Fit it with refit=True."
            )
        return steps_of(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return steps_of(estimator.estimator)
    return [estimator]


def has_formulas(estimator: Any) -> bool:
    """Return whether there is a formula for each step of an estimator."""
    *transformers, last = steps_of(estimator)
    if find_converter(outputs_of, type(last)) is outputs_of.dispatch(object):
        transformers.append(last)
    no_formula = to_expression.dispatch(object)
    return all(find_converter(to_expression, type(step)) is not no_formula for step in transformers)


@singledispatch
def outputs_of(estimator: Any, x: Expr) -> tuple[ModelOutput, ...]:
    """Return the outputs of a fitted estimator for its input."""
    if not hasattr(estimator, "predict") and hasattr(estimator, "transform"):
        return (ModelOutput("variable", convert(estimator, x)),)
    raise TypeError(
        f"{type(estimator).__name__} can't be exported. What can: the networks and tabular "
        "estimators of skbackprop, searches that have refitted one, and pipelines that end in one "
        "after scikit-learn's scalers, or other transformers that have a formula (see "
        "skbackprop.export.formula). As ONNX, also all that skl2onnx converts."
    )


def _input_of(step: Any, x: Expr) -> Expr:
    """Return the input of a step of a pipeline, checked."""
    n_features = getattr(step, "n_features_in_", x.width)
    if n_features != x.width:
        raise ValueError(
            f"The {type(step).__name__} takes {n_features} features, but is given {x.width} by the "
            "step before it. Has one of them been fitted anew?"
        )
    return x


# ------------------------------------------------------------------------------ networks


def apply_layers(network: Network, parameters: Parameters, x: Expr) -> Expr:
    """Return what layers make of an expression: at the end of a network the members' scores."""
    each = zip(network.layers, network.n_units[:-1], strict=True)
    for (layer, n_inputs), *kinds in zip(each, parameters.layers, parameters.running, strict=True):
        named = {name: array for kind in kinds for name, array in kind.items()}
        blocks = (*layer.parameter_specs(n_inputs), *layer.buffer_specs(n_inputs))
        shapes = {block.name: block.shape for block in blocks}
        # Where layers compute, a row of numbers has an axis more.
        arrays = {name: array.reshape(len(array), *shapes[name]) for name, array in named.items()}
        x = convert(layer, x, arrays)
    return x


def scores_of(estimator: Any, x: Expr, layers: slice = _ALL) -> Expr:
    """Return the scores of each member, or the outputs of some layers."""
    learned = estimator._learned
    network, parameters = learned.network.part(layers), estimator._parameters(learned).part(layers)
    return apply_layers(network, parameters, x)


@outputs_of.register
def _(estimator: BackpropClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    labels, loss, scores = estimator._labels, estimator._learned.loss, scores_of(estimator, x)
    supports_predict_proba = hasattr(estimator, "predict_proba")
    if isinstance(labels, MultioutputTargets):
        blocks = zip(
            labels.columns, split_links(cast(MultiOutputLink, loss.link), scores), strict=True
        )
        each = (
            _of_labels(column.classes, *block, supports_predict_proba, f"_{i}")
            for i, (column, block) in enumerate(blocks)
        )
        return tuple(output for pair in each for output in pair)
    if isinstance(loss, LossWithLink):
        return _of_set_activation(labels, ex.mean_over_members(convert(loss.link, scores)))
    if isinstance(labels, MultilabelTargets):
        return _of_indicators(loss.link, scores, supports_predict_proba)
    return _of_labels(labels.classes, loss.link, scores, supports_predict_proba)


def _of_labels(
    classes: Array, link: Link, scores: Expr, supports_predict_proba: bool, end: str = ""
) -> tuple[ModelOutput, ...]:
    """Return a label and the probability of each class, or the scores where there are none."""
    of_classes = scores if scores.width > 1 else ex.concat([-scores, scores])
    if len(classes) == 1:
        values = decisive = ex.mean_over_members(scores) * 0.0 + 1.0
    elif supports_predict_proba:
        values = ex.mean_over_members(convert(link, of_classes))
        # What has been rounded to a probability may be equal where the scores are not.
        decisive = of_classes if scores.n_estimators == 1 else values
    else:
        values, decisive = ex.mean_over_members(scores), ex.mean_over_members(of_classes)
    name = PROBABILITIES if supports_predict_proba else SCORES
    return ArgmaxOutput(f"label{end}", decisive, classes=classes), ModelOutput(
        f"{name}{end}", values
    )


def _of_indicators(
    link: Link, scores: Expr, supports_predict_proba: bool
) -> tuple[ModelOutput, ...]:
    """Return 0/1 indicators, and the probability of each label, or the scores."""
    if not supports_predict_proba:
        values = ex.mean_over_members(scores)
        return ThresholdOutput("label", values), ModelOutput(SCORES, values)
    values = ex.mean_over_members(convert(link, scores))
    is_one = scores.n_estimators == 1
    flags = (
        ThresholdOutput("label", scores)
        if is_one
        else ThresholdOutput("label", values, threshold=0.5)
    )
    return flags, ModelOutput(PROBABILITIES, values)


def _of_set_activation(labels: Any, values: Expr) -> tuple[ModelOutput, ...]:
    """Return labels and what stands for probabilities, where a user has set `out_activation_`."""
    if isinstance(labels, MultilabelTargets):
        return ThresholdOutput("label", values, threshold=0.5), ModelOutput(PROBABILITIES, values)
    if len(labels.classes) == 1:
        values = values * 0.0 + 1.0
    elif values.width == 1:
        values = ex.concat([values * -1.0 + 1.0, values])
    return ArgmaxOutput("label", values, classes=labels.classes), ModelOutput(PROBABILITIES, values)


@outputs_of.register
def _(estimator: BackpropRegressor, x: Expr) -> tuple[ModelOutput, ...]:
    each = predictions_of(estimator, scores_of(estimator, x))
    n_targets = estimator._known_targets(estimator._learned).n_targets
    n_each = each.width // n_targets
    shape = (n_targets, n_each) if n_targets > 1 and n_each > 1 else None
    return (ModelOutput("variable", ex.mean_over_members(each), shape),)


def predictions_of(estimator: BackpropRegressor, scores: Expr) -> Expr:
    """Return the predictions of each member, in the units of y."""
    learned = estimator._learned
    targets = estimator._known_targets(learned)
    predictions = convert(learned.loss, scores)
    if targets.mean is None or targets.scale is None:
        return cast(Expr, predictions)
    mean, scale = (
        np.repeat(values, predictions.width // targets.n_targets)
        for values in (targets.mean, targets.scale)
    )
    lowest = _LIMITS.tiny if learned.loss.interval_y_true.low == 0 else _LIMITS.min
    scaled = np.maximum(predictions * scale + mean, lowest)
    return cast(Expr, np.minimum(scaled, _LIMITS.max))


def _std_of(estimator: Any, x: Expr) -> ModelOutput:
    """Return the standard deviation that a regressor's `predict` returns."""
    if not isinstance(estimator, BackpropRegressor):
        raise ValueError(
            "return_std=True is for a BackpropRegressor, whose predict has return_std, got a "
            f"{type(estimator).__name__}."
        )
    scores, targets = scores_of(estimator, x), estimator._known_targets(estimator._learned)
    (predicted,) = outputs_of(estimator, x)
    std = ex.std_over_members(predictions_of(estimator, scores))
    of_each = get_predicted_std(estimator._learned.loss, scores)
    if of_each is not None:
        scale = 1.0 if targets.scale is None else targets.scale
        std = ex.root_of_squares(std, ex.root_mean_square(of_each * scale))
    return replace(predicted, name="std", expression=std)


# -------------------------------------------------------------------------- transformers


@outputs_of.register
def _(estimator: BackpropAutoencoder, x: Expr) -> tuple[ModelOutput, ...]:
    codes = convert(estimator, x)
    rows = scores_of(estimator, codes, slice(estimator._n_encoding, None))
    reconstruction = convert(estimator._learned.loss.link, rows)
    return ModelOutput("codes", codes), ModelOutput("reconstruction", reconstruction)


@to_expression.register
def _(part: BackpropAutoencoder, x: Expr) -> Expr:
    return scores_of(part, x, slice(part._n_encoding))


@to_expression.register
def _(part: BackpropFeatures, x: Expr) -> Expr:
    network = part.estimator_
    while isinstance(network, FrozenEstimator):
        network = network.estimator
    units = scores_of(network, x, slice(network._n_layers_up_to(part.layer)))
    return ex.flatten_members(units)
