"""Outputs of a fitted estimator, each an expression with a name.

`to_outputs` has a function for each class of estimators. It combines the formulas of the layers
and averages the predictions of ensemble members.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..estimators._estimator_mixin import get_pipeline_steps
from ..estimators._supervised import n_layers_up_to
from ..estimators._targets import MultilabelTargets
from ..estimators._variational import n_encoder_layers
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..layers.dense import Dropout
from ..layers.residual import ResidualEnd, ResidualStart
from ..losses import LOGIT_LINK, SOFTMAX_LINK
from ..tabular import TabularClassifier, TabularRegressor
from ..tabular._blend import CrossFittedEstimators
from ..tabular._model_inputs import N_BINS, N_FREQUENCIES, FeatureBuilder
from ..tabular._targets import ensemble_temperature
from ..utils.arrays import Array
from . import _expressions as ex
from ._boosting import convert_boosting
from ._converters import (
    bin_fractions,
    convert,
    cosine_waves,
    encode_table,
    find_converter,
    get_predicted_std,
    table_view,
    to_expression,
)
from ._expressions import Expr

_ALL = slice(None)
_LIMITS = np.finfo(np.float32)


@dataclass(frozen=True)
class ModelOutput:
    """Output of a model: the values of an expression, or a label or indicators from them.

    Parameters
    ----------
    name : str
        The name of the output.
    expression : Expr
        The expression.
    classes : array or None, default=None
        The classes of a label, which is the class with the largest value.
    threshold : float or None, default=None
        The threshold of indicators, which are 1 where a value is above it, else 0.
    """

    name: str
    expression: Expr
    classes: Array | None = None
    threshold: float | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of the output for a row."""
        return self.expression.shape if self.classes is None else ()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the output."""
        if self.classes is not None:
            return self.classes.dtype
        return np.dtype(np.float32 if self.threshold is None else np.int64)

    @property
    def tensor(self) -> Expr:
        """The output as an expression that has no other use."""
        if self.classes is not None:
            code = Expr("ArgMax", (self.expression,), attributes={"axis": -1, "keepdims": 0})
            return Expr("Gather", (self.classes, code), attributes={"axis": 0})
        if self.threshold is not None:
            is_above = Expr("Greater", (self.expression, np.array(self.threshold, np.float32)))
            return Expr("Cast", (is_above,), attributes={"to": ex.INT64})
        return Expr("Identity", (self.expression,))


def build_outputs(estimator: Any, return_std: bool = False) -> tuple[Expr, tuple[ModelOutput, ...]]:
    """Return the input of a fitted estimator as an expression, and its outputs."""
    check_is_fitted(estimator)
    *transformers, last = get_pipeline_steps(estimator)
    row = x = ex.model_input(estimator.n_features_in_)
    with np.errstate(all="ignore"):
        for step in transformers:
            x = convert(step, x)
        outputs = find_converter(to_outputs, type(last))(last, x)
        if return_std:
            outputs = (*outputs, _std_output(last, x))
    return row, outputs


def has_formulas(estimator: Any) -> bool:
    """Return whether each step of an estimator has a formula."""

    def is_registered(converters: Any, step: Any) -> bool:
        return find_converter(converters, type(step)) is not converters.dispatch(object)

    *transformers, last = get_pipeline_steps(estimator)
    return all(is_registered(to_expression, step) for step in transformers) and (
        is_registered(to_outputs, last) or is_registered(to_expression, last)
    )


@singledispatch
def to_outputs(estimator: Any, x: Expr) -> tuple[ModelOutput, ...]:
    """Return the outputs of a fitted estimator for an input: those of a transformer by default."""
    return (ModelOutput("variable", convert(estimator, x)),)


# ------------------------------------------------------------------------------ networks


def predict_raw(estimator: Any, x: Expr, layers: slice = _ALL) -> Expr:
    """Return the raw predictions of each member, or the outputs of some layers, as vectors."""
    network = estimator._network.part(layers)
    parameters = estimator._predictor.parameters.part(layers)
    x = ex.reshape(x, network.input_shape)
    open_residuals: list[Expr] = []
    n_estimators = len(parameters)
    named = [a | b for a, b in zip(parameters.layers, parameters.buffers_of_layers, strict=True)]
    for layer, shape, own in zip(network.layers, network.row_shapes[:-1], named, strict=True):
        if isinstance(layer, ResidualStart):
            open_residuals.append(x)
            continue
        if isinstance(layer, ResidualEnd):
            x = open_residuals.pop() + x
            continue
        if isinstance(layer, Dropout):
            continue
        specs = layer.parameter_specs(shape)
        # Layers compute with arrays that have an axis for the rows.
        arrays = {spec.name: own[spec.name].reshape(n_estimators, *spec.shape) for spec in specs}
        x = convert(layer, x, arrays)
    return ex.reshape(x, (x.width,))


@to_outputs.register
def _(estimator: BackpropClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    raw, targets = predict_raw(estimator, x), estimator._targets
    link, classes = targets.loss.link, targets.classes
    has_probabilities = hasattr(estimator, "predict_proba")
    name = "probabilities" if has_probabilities else "scores"
    # Rounded probabilities may be equal where raw predictions are not.
    is_raw_decisive = raw.n_estimators == 1 or not has_probabilities
    is_multilabel = isinstance(targets, MultilabelTargets)
    by_class = raw if raw.width > 1 or is_multilabel else ex.concat([-raw, raw])
    values = ex.mean_over_members(convert(link, by_class) if has_probabilities else raw)
    decisive = ex.mean_over_members(by_class) if is_raw_decisive else values
    if is_multilabel:
        label = ModelOutput("label", decisive, threshold=0.0 if is_raw_decisive else 0.5)
        return label, ModelOutput(name, values)
    if len(classes) == 1:
        values = decisive = ex.mean_over_members(raw) * 0.0 + 1.0
    return make_label_output("label", decisive, classes), ModelOutput(name, values)


def make_label_output(name: str, values: Expr, classes: Array) -> ModelOutput:
    """Return the output of a label, with classes of a type that ONNX has.

    Raises
    ------
    ValueError
        If there is no such type.
    """
    kind = classes.dtype.kind
    if kind in "UO" and all(isinstance(label, str) for label in classes.tolist()):
        classes = classes.astype(object)
    elif kind in "iu" and classes.max() <= np.iinfo(np.int64).max:
        classes = classes.astype(np.int64)
    elif kind != "b" and classes.dtype not in (np.float32, np.float64):
        raise ValueError(
            "Labels must be strings, booleans, float32 or float64 numbers, or integers up to "
            f"2**63 - 1 to be exported, got the dtype {classes.dtype}: {classes[:5]}. Number the "
            "classes from 0, and fit again."
        )
    return ModelOutput(name, values, classes=classes)


@to_outputs.register
def _(estimator: BackpropRegressor, x: Expr) -> tuple[ModelOutput, ...]:
    each = _member_predictions(estimator, predict_raw(estimator, x))
    n_targets = estimator._targets.n_targets
    n_each = each.width // n_targets
    shape = (n_targets, n_each) if n_targets > 1 and n_each > 1 else each.shape
    return (ModelOutput("variable", ex.reshape(ex.mean_over_members(each), shape)),)


def _member_predictions(estimator: BackpropRegressor, raw: Expr) -> Expr:
    """Return the predictions of each member, in the units of y."""
    targets = estimator._targets
    predictions = convert(targets.loss, raw)
    if targets.mean is None or targets.scale is None:
        return cast(Expr, predictions)
    mean, scale = (
        np.repeat(values, predictions.width // targets.n_targets)
        for values in (targets.mean, targets.scale)
    )
    lowest = _LIMITS.tiny if targets.loss.interval_y_true.low == 0 else _LIMITS.min
    scaled = np.maximum(predictions * scale + mean, lowest)
    return cast(Expr, np.minimum(scaled, _LIMITS.max))


def _std_output(estimator: Any, x: Expr) -> ModelOutput:
    """Return the standard deviation that a regressor's `predict` returns."""
    if not isinstance(estimator, BackpropRegressor):
        raise ValueError(
            "return_std=True needs a BackpropRegressor, whose predict has return_std, got a "
            f"{type(estimator).__name__}. Set return_std=False."
        )
    raw, targets = predict_raw(estimator, x), estimator._targets
    (prediction,) = to_outputs(estimator, x)
    std = ex.std_over_members(_member_predictions(estimator, raw))
    predicted_std = get_predicted_std(targets.loss, raw)
    if predicted_std is not None:
        scale = 1.0 if targets.scale is None else targets.scale
        std = ex.root_of_squares(std, ex.root_mean_square(predicted_std * scale))
    return ModelOutput("std", ex.reshape(std, prediction.expression.shape))


@to_outputs.register
def _(estimator: BackpropAutoencoder, x: Expr) -> tuple[ModelOutput, ...]:
    codes = convert(estimator, x)
    raw = predict_raw(estimator, codes, slice(n_encoder_layers(estimator._network), None))
    reconstruction = convert(estimator._targets.loss.link, raw)
    return ModelOutput("codes", codes), ModelOutput("reconstruction", reconstruction)


@to_expression.register
def _(part: BackpropAutoencoder, x: Expr) -> Expr:
    return predict_raw(part, x, slice(n_encoder_layers(part._network)))


@to_expression.register
def _(part: BackpropFeatures, x: Expr) -> Expr:
    (network,) = get_pipeline_steps(part.estimator_)
    n_layers = n_layers_up_to(network._network, part.layer)
    return ex.flatten_members(predict_raw(network, x, slice(n_layers)))


# -------------------------------------------------------------------- tabular estimators


def _component_outputs(estimator: Any, x: Expr) -> list[Expr]:
    """Return the outputs of the members of each component: logits or predictions."""
    inputs = estimator._features
    encoded = encode_table(inputs.encoding, x)
    if not encoded.width:
        encoded = np.isnan(ex.take_columns(x, [0])) * 0.0
    embedded = _add_blocks(inputs, encoded) if inputs.n_blocks else encoded
    views = {"encoded": encoded, "embedded": embedded}
    outputs = []
    for component in estimator._components:
        if isinstance(component, CrossFittedEstimators):
            outputs.append(convert_boosting(component, table_view(inputs, x)))
            continue
        raw = predict_raw(component, views[component.view])
        is_logit = isinstance(component, BackpropClassifier)
        outputs.append(raw if is_logit else _member_predictions(component, raw))
    return outputs


def _add_blocks(blocks: FeatureBuilder, encoded: Expr) -> Expr:
    """Return encoded columns, preceded by a block of waves and bins for each numeric column."""
    n = blocks.n_blocks
    waves = cosine_waves(encoded, blocks.frequencies, blocks.phases)
    columns = np.repeat(np.arange(n), N_BINS)
    each = (blocks.lower, blocks.width, blocks.least, blocks.most)
    bins = bin_fractions(ex.take_columns(encoded, columns), *(array.ravel() for array in each))
    kinds = ex.concat([waves, bins - blocks.shift.ravel()])
    by_wave = np.arange(n * N_FREQUENCIES).reshape(n, -1)
    by_bin = n * N_FREQUENCIES + np.arange(n * N_BINS).reshape(n, -1)
    return ex.concat([ex.take_columns(kinds, np.hstack([by_wave, by_bin]).ravel()), encoded])


@to_outputs.register
def _(estimator: TabularClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    mixed: Any = 0.0
    for raw, temperature, weight in zip(
        _component_outputs(estimator, x),
        estimator.temperatures_,
        estimator.weights_,
        strict=True,
    ):
        logits = raw * (1 / ensemble_temperature(temperature, raw.n_estimators))
        if logits.width == 1:
            by_member = convert(LOGIT_LINK, ex.concat([-logits, logits]))
        else:
            by_member = convert(SOFTMAX_LINK, logits)
        mixed = mixed + weight * ex.mean_over_members(by_member)
    logs = np.log(np.maximum(mixed, _LIMITS.tiny))
    probabilities = ex.softmax(logs * (1 / estimator._last_temperature))
    if len(estimator.classes_) == 1:
        probabilities = ex.take_columns(probabilities, [0]) * 0.0 + 1.0
    label = make_label_output("label", probabilities, estimator.classes_)
    return label, ModelOutput("probabilities", probabilities)


@to_outputs.register
def _(estimator: TabularRegressor, x: Expr) -> tuple[ModelOutput, ...]:
    mixed: Any = 0.0
    for outputs, weight in zip(_component_outputs(estimator, x), estimator.weights_, strict=True):
        mixed = mixed + weight * ex.mean_over_members(outputs)
    if estimator._targets.range is not None:
        mixed = ex.clip(mixed, *estimator._targets.range)
    return (ModelOutput("variable", mixed),)
