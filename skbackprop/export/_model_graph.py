"""Computation graph of a fitted estimator: named outputs, each an expression.

`outputs_of` has a function for each class of estimators. It combines the formulas of the layers and
averages the predictions of ensemble members.
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
from ..estimators._label_encoding import MultilabelEncoder, MultioutputLabelEncoder
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..losses import Link
from ..losses._composite import LossWithLink, MultiOutputLink
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
    """Output of a model: the values of an expression.

    Parameters
    ----------
    name : str
        The name of the output.
    expression : Expr
        The expression.
    shape : tuple of int or None, default=None
        The shape of the values of a row; None for (width,).
    """

    name: str
    expression: Expr
    shape: tuple[int, ...] | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the output for a row."""
        return (self.expression.width,) if self.shape is None else self.shape


@dataclass(frozen=True)
class ArgmaxOutput(ModelOutput):
    """Output of a class label: the class with the largest value."""

    classes: Any = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the output for a row: a single label."""
        return ()


@dataclass(frozen=True)
class ThresholdOutput(ModelOutput):
    """Output of indicators: 1 where a value is above the threshold, else 0."""

    threshold: float = 0.0


@dataclass(frozen=True)
class ModelGraph:
    """Computation graph of an estimator.

    Parameters
    ----------
    estimator : str
        The name of the estimator's class.
    row : Expr
        The input.
    outputs : tuple of ModelOutput
        The outputs.
    feature_names : sequence of str or None
        The names of the features.
    """

    estimator: str
    row: Expr
    outputs: tuple[ModelOutput, ...]
    feature_names: Sequence[str] | None = None

    @property
    def expressions(self) -> list[Expr]:
        """The expressions of the outputs."""
        return [output.expression for output in self.outputs]


def build_graph(estimator: Any, return_std: bool = False) -> ModelGraph:
    """Return the computation graph of a fitted estimator."""
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
        raise TypeError(
            f"{type(estimator).__name__} has no n_features_in_, so its input is not known."
        )
    return n_features


def steps_of(estimator: Any) -> list[Any]:
    """Return the steps of a pipeline, of a search's best pipeline, or the estimator itself."""
    if isinstance(estimator, Pipeline):
        each = (step for _, step in estimator.steps if step not in (None, "passthrough"))
        return [part for step in each for part in steps_of(step)]
    if isinstance(estimator, BaseSearchCV):
        if not hasattr(estimator, "best_estimator_"):
            raise TypeError(
                f"{type(estimator).__name__} can't be exported, because it has not refitted its "
                "best candidate. Fit it with refit=True."
            )
        return steps_of(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return steps_of(estimator.estimator)
    return [estimator]


def has_formulas(estimator: Any) -> bool:
    """Return whether each step of an estimator has a formula."""

    def is_registered(converters: Any, step: Any) -> bool:
        return find_converter(converters, type(step)) is not converters.dispatch(object)

    *transformers, last = steps_of(estimator)
    if not is_registered(outputs_of, last):
        transformers.append(last)
    return all(is_registered(to_expression, step) for step in transformers)


@singledispatch
def outputs_of(estimator: Any, x: Expr) -> tuple[ModelOutput, ...]:
    """Return the outputs of a fitted estimator for an input."""
    if not hasattr(estimator, "predict") and hasattr(estimator, "transform"):
        return (ModelOutput("variable", convert(estimator, x)),)
    raise TypeError(
        f"{type(estimator).__name__} can't be exported. Networks and tabular estimators of "
        "skbackprop can, refitted searches of one, and pipelines that end in one after "
        "scikit-learn's scalers or other transformers with a formula (see "
        "skbackprop.export.to_expression). to_onnx also exports what skl2onnx converts."
    )


def _input_of(step: Any, x: Expr) -> Expr:
    """Return the input of a step of a pipeline, after checking its width."""
    n_features = getattr(step, "n_features_in_", x.width)
    if n_features != x.width:
        raise ValueError(
            f"{type(step).__name__} takes {n_features} features, but the step before it returns "
            f"{x.width}. Fit the pipeline again."
        )
    return x


# ------------------------------------------------------------------------------ networks


def apply_layers(network: Network, parameters: Parameters, x: Expr) -> Expr:
    """Return the output of layers: at the end of a network, the raw predictions of members."""
    each = zip(network.layers, network.n_units[:-1], strict=True)
    for (layer, n_inputs), *kinds in zip(each, parameters.layers, parameters.running, strict=True):
        named = {name: array for kind in kinds for name, array in kind.items()}
        blocks = (*layer.parameter_specs(n_inputs), *layer.buffer_specs(n_inputs))
        shapes = {block.name: block.shape for block in blocks}
        # Layers compute with arrays that have an axis for the rows.
        arrays = {name: array.reshape(len(array), *shapes[name]) for name, array in named.items()}
        x = convert(layer, x, arrays)
    return x


def predict_raw(estimator: Any, x: Expr, layers: slice = _ALL) -> Expr:
    """Return the raw predictions of each member, or the outputs of some layers."""
    learned = estimator._learned
    network, parameters = learned.network.part(layers), estimator._parameters(learned).part(layers)
    return apply_layers(network, parameters, x)


@outputs_of.register
def _(estimator: BackpropClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    labels, loss, raw = estimator._labels, estimator._learned.loss, predict_raw(estimator, x)
    supports_predict_proba = hasattr(estimator, "predict_proba")
    if isinstance(labels, MultioutputLabelEncoder):
        split = split_links(cast(MultiOutputLink, loss.link), raw)
        outputs: list[ModelOutput] = []
        for i, (column, (link, own)) in enumerate(zip(labels.columns, split, strict=True)):
            outputs += _label_outputs(column.classes, link, own, supports_predict_proba, f"_{i}")
        return tuple(outputs)
    if isinstance(loss, LossWithLink):
        return _override_outputs(labels, ex.mean_over_members(convert(loss.link, raw)))
    if not isinstance(labels, MultilabelEncoder):
        return _label_outputs(labels.classes, loss.link, raw, supports_predict_proba)
    if not supports_predict_proba:
        values = ex.mean_over_members(raw)
        return ThresholdOutput("label", values), ModelOutput(SCORES, values)
    values = ex.mean_over_members(convert(loss.link, raw))
    indicators = ThresholdOutput("label", values, threshold=0.5)
    if raw.n_estimators == 1:
        indicators = ThresholdOutput("label", raw)
    return indicators, ModelOutput(PROBABILITIES, values)


def _label_outputs(
    classes: Array, link: Link, raw: Expr, supports_predict_proba: bool, suffix: str = ""
) -> tuple[ModelOutput, ...]:
    """Return the outputs of a label: the label, and probabilities or decision values."""
    by_class = raw if raw.width > 1 else ex.concat([-raw, raw])
    if len(classes) == 1:
        values = decisive = ex.mean_over_members(raw) * 0.0 + 1.0
    elif supports_predict_proba:
        values = ex.mean_over_members(convert(link, by_class))
        # Rounded probabilities may be equal where raw predictions are not.
        decisive = by_class if raw.n_estimators == 1 else values
    else:
        values, decisive = ex.mean_over_members(raw), ex.mean_over_members(by_class)
    name = PROBABILITIES if supports_predict_proba else SCORES
    label = ArgmaxOutput(f"label{suffix}", decisive, classes=classes)
    return label, ModelOutput(f"{name}{suffix}", values)


def _override_outputs(labels: Any, values: Expr) -> tuple[ModelOutput, ...]:
    """Return the outputs of a classifier whose `out_activation_` the user has set."""
    if isinstance(labels, MultilabelEncoder):
        return ThresholdOutput("label", values, threshold=0.5), ModelOutput(PROBABILITIES, values)
    if len(labels.classes) == 1:
        values = values * 0.0 + 1.0
    elif values.width == 1:
        values = ex.concat([values * -1.0 + 1.0, values])
    return ArgmaxOutput("label", values, classes=labels.classes), ModelOutput(PROBABILITIES, values)


@outputs_of.register
def _(estimator: BackpropRegressor, x: Expr) -> tuple[ModelOutput, ...]:
    each = predictions_of(estimator, predict_raw(estimator, x))
    n_targets = estimator._known_targets(estimator._learned).n_targets
    n_each = each.width // n_targets
    shape = (n_targets, n_each) if n_targets > 1 and n_each > 1 else None
    return (ModelOutput("variable", ex.mean_over_members(each), shape),)


def predictions_of(estimator: BackpropRegressor, raw: Expr) -> Expr:
    """Return the predictions of each member, in the units of y."""
    learned = estimator._learned
    targets = estimator._known_targets(learned)
    predictions = convert(learned.loss, raw)
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
            f"{type(estimator).__name__}. Set return_std=False."
        )
    raw, targets = predict_raw(estimator, x), estimator._known_targets(estimator._learned)
    (prediction,) = outputs_of(estimator, x)
    std = ex.std_over_members(predictions_of(estimator, raw))
    predicted_std = get_predicted_std(estimator._learned.loss, raw)
    if predicted_std is not None:
        scale = 1.0 if targets.scale is None else targets.scale
        std = ex.root_of_squares(std, ex.root_mean_square(predicted_std * scale))
    return replace(prediction, name="std", expression=std)


# -------------------------------------------------------------------------- transformers


@outputs_of.register
def _(estimator: BackpropAutoencoder, x: Expr) -> tuple[ModelOutput, ...]:
    codes = convert(estimator, x)
    raw = predict_raw(estimator, codes, slice(estimator._n_encoding, None))
    reconstruction = convert(estimator._learned.loss.link, raw)
    return ModelOutput("codes", codes), ModelOutput("reconstruction", reconstruction)


@to_expression.register
def _(part: BackpropAutoencoder, x: Expr) -> Expr:
    return predict_raw(part, x, slice(part._n_encoding))


@to_expression.register
def _(part: BackpropFeatures, x: Expr) -> Expr:
    network = part.estimator_
    while isinstance(network, FrozenEstimator):
        network = network.estimator
    units = predict_raw(network, x, slice(network._n_layers_up_to(part.layer)))
    return ex.flatten_members(units)
