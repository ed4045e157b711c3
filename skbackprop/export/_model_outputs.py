"""Outputs of a fitted estimator, each an expression with a name.

`to_outputs` has a function for each class of estimators. It combines the formulas of the layers
and averages the predictions of ensemble members.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, TypeAlias, cast

import numpy as np
from sklearn.dummy import DummyClassifier

from ..estimators._estimator_mixin import get_pipeline_steps
from ..estimators._supervised import n_layers_up_to
from ..estimators._variational_losses import n_encoder_layers
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..inspection import BackpropFeatures
from ..layers import Activation, BatchNormalization, Dense, Dropout, LayerNormalization
from ..layers.base import Layer
from ..layers.columns import BlockDiagonalDense, Scale
from ..layers.residual import ResidualEnd, ResidualStart
from ..tabular import TableEncoder, TabularClassifier, TabularRegressor
from ..tabular._blended_estimators import MIN_PROBABILITY, CrossFittedEstimators, OrdinalTable
from ..tabular._ensemble_weights import ensemble_temperature
from ..tabular._model_inputs import FeatureBuilder
from ..tabular.base import BaseTabular
from ..training.targets import MultilabelTargets
from ..utils.arrays import Array
from . import _expressions as ex
from ._converters import (
    SCALERS,
    Arrays,
    bin_fractions,
    convert,
    convert_columns,
    encode_table,
    find_converter,
    get_levels,
    get_predicted_std,
    look_up,
    to_expression,
)
from ._expressions import AT_MOST, EQUALS, LEAF, Expr

_ALL = slice(None)
_LIMITS = np.finfo(np.float32)
# The raw prediction of a class that a clone of boosting has not seen, whose probability is zero.
_UNSEEN = -1e4

Outputs: TypeAlias = dict[str, Expr]
"""The outputs of a model by name, in their order."""


def build_outputs(estimator: Any, x: Any, return_std: bool = False) -> Outputs:
    """Return the outputs of a fitted estimator for an input."""
    *transformers, last = get_pipeline_steps(estimator)
    with np.errstate(all="ignore"):
        for step in transformers:
            x = convert(step, x)
        options = {"return_std": True} if return_std else {}
        return cast(Outputs, find_converter(to_outputs, type(last))(last, x, **options))


def build_inputs(estimator: Any) -> tuple[dict[str, Expr], Expr | list[Expr]]:
    """Return the inputs of a model by name, and all columns or a row of the shape in training.

    A table with words has an input for each column.
    """
    first, *others = get_pipeline_steps(estimator)
    # Scalers before a table keep the digits that its levels and trees need.
    table = next((step for step in (first, *others) if not isinstance(step, SCALERS)), first)
    features = table._features.encoding if isinstance(table, BaseTabular) else None
    encoding = table._encoding if isinstance(table, TableEncoder) else features
    words, dtype = list[int](), np.float32 if encoding is None else np.float64
    if encoding is not None:
        columns = zip(encoding.categories.columns, encoding.categories.levels, strict=True)
        words = [i for i, item in columns if any(isinstance(x, str) for x in get_levels(item))]
    if not words:
        shape = (first.n_features_in_,)
        if "_model" in vars(first):
            shape = first._model.row_shape
        row = Expr("", shape=shape, dtype=dtype)
        return {"X": row}, row
    names = getattr(first, "feature_names_in_", range(first.n_features_in_))
    inputs = {
        str(name): Expr("", shape=(1,), dtype=object if i in words else dtype)
        for i, name in enumerate(names)
    }
    return inputs, [*inputs.values()]


def has_formulas(estimator: Any) -> bool:
    """Return whether each step of an estimator has a formula."""

    def is_registered(step: Any, *converters: Any) -> bool:
        return any(find_converter(x, type(step)) is not x.dispatch(object) for x in converters)

    *transformers, last = get_pipeline_steps(estimator)
    is_last_registered = is_registered(last, to_outputs, to_expression)
    return is_last_registered and all(is_registered(x, to_expression) for x in transformers)


@singledispatch
def to_outputs(estimator: Any, x: Expr) -> Outputs:
    """Return the outputs of a fitted estimator for an input: those of a transformer by default."""
    return {"variable": convert(estimator, x)}


# ------------------------------------------------------------------------------ networks


# The formulas of these layers also compute vectors of all members at once, with stacked arrays.
_STACKED_LAYERS = (
    *(Activation, BatchNormalization, BlockDiagonalDense, Dense, Dropout, LayerNormalization),
    *(ResidualEnd, ResidualStart, Scale),
)


def predict_raw(estimator: Any, x: Expr, layers: slice = _ALL) -> Expr:
    """Return the raw predictions of each member, or the outputs of some layers, as vectors."""
    network = estimator._model.network.part(layers)
    parameters = estimator._model.parameters.part(layers)
    x, n_members = ex.reshape(x, network.input_shape), len(parameters)
    stacked_arrays = [
        # Layers compute with arrays that have an axis for the rows.
        {
            spec.name: (trained | buffers)[spec.name].reshape(n_members, *spec.shape)
            for spec in layer.parameter_specs(shape)
        }
        for layer, shape, trained, buffers in zip(
            network.layers, network.row_shapes[:-1], *parameters.views, strict=True
        )
    ]
    are_vectors = all(len(shape) == 1 for shape in network.row_shapes)
    are_stacked = all(type(layer) in _STACKED_LAYERS for layer in network.layers)
    if n_members > 1 and are_vectors and are_stacked and any(stacked_arrays):
        return _apply_layers(network.layers, stacked_arrays, x)
    members = []
    for member in range(n_members):
        arrays = [{name: a[member] for name, a in views.items()} for views in stacked_arrays]
        members.append(_apply_layers(network.layers, arrays, x))
    return ex.stack_members([ex.reshape(member, (member.width,)) for member in members])


def _apply_layers(layers: Sequence[Layer], arrays: Sequence[Arrays], x: Expr) -> Expr:
    open_residuals = list[Expr]()
    for layer, arrays_of_layer in zip(layers, arrays, strict=True):
        if isinstance(layer, ResidualStart):
            open_residuals.append(x)
        elif isinstance(layer, ResidualEnd):
            x = open_residuals.pop() + x
        else:
            x = convert(layer, x, arrays_of_layer)
    return x


@to_outputs.register
def _(estimator: BackpropClassifier, x: Expr) -> Outputs:
    raw = predict_raw(estimator, x)
    targets: Any = estimator._model.targets
    has_probabilities = hasattr(estimator, "predict_proba")
    name = "probabilities" if has_probabilities else "scores"
    # Rounded probabilities may be equal where raw predictions are not.
    is_raw_decisive = len(raw.shape) == 1 or not has_probabilities
    is_multilabel = isinstance(targets, MultilabelTargets)
    by_class = raw if raw.shape[-1] > 1 or is_multilabel else ex.concat([-raw, raw])
    values = ex.mean_over_members(
        convert(targets.loss.link, by_class) if has_probabilities else raw
    )
    decisive = ex.mean_over_members(by_class) if is_raw_decisive else values
    if is_multilabel:
        return {"label": ex.is_above(decisive, 0.0 if is_raw_decisive else 0.5), name: values}
    if len(targets.classes) == 1:
        values = decisive = ex.mean_over_members(raw) * 0.0 + 1.0
    return {"label": ex.take_class(decisive, targets.classes), name: values}


@to_outputs.register
def _(estimator: BackpropRegressor, x: Expr, return_std: bool = False) -> Outputs:
    raw = predict_raw(estimator, x)
    targets: Any = estimator._model.targets
    members = _member_predictions(estimator, raw)
    outputs = {"variable": ex.mean_over_members(members)}
    if return_std:
        outputs["std"] = ex.std_over_members(members)
        predicted_std = get_predicted_std(targets.loss, raw)
        if predicted_std is not None:
            scale = 1.0 if targets.scale is None else targets.scale
            predicted_std = ex.root_mean_square(predicted_std * scale)
            outputs["std"] = ex.root_of_squares(outputs["std"], predicted_std)
    return {name: _split_targets(value, targets.n_targets) for name, value in outputs.items()}


def _split_targets(x: Expr, n_targets: int) -> Expr:
    """Return predictions with an axis for several targets, and one for several quantiles."""
    shape = n_targets, x.width // n_targets
    return ex.reshape(x, shape) if min(shape) > 1 else x


def _member_predictions(estimator: BackpropRegressor, raw: Expr) -> Expr:
    """Return the predictions of each member, in the units of y."""
    targets: Any = estimator._model.targets
    predictions = convert(targets.loss, raw)
    if targets.mean is None or targets.scale is None:
        return cast(Expr, predictions)
    n_each = predictions.shape[-1] // targets.n_targets
    mean, scale = np.repeat(targets.mean, n_each), np.repeat(targets.scale, n_each)
    lowest = _LIMITS.tiny if targets.loss.interval_y_true.low == 0 else _LIMITS.min
    return cast(Expr, ex.clip(predictions * scale + mean, lowest, _LIMITS.max))


@to_outputs.register
def _(estimator: BackpropAutoencoder, x: Expr) -> Outputs:
    codes = convert(estimator, x)
    raw = predict_raw(estimator, codes, slice(n_encoder_layers(estimator._model.network), None))
    return {"codes": codes, "reconstruction": convert(estimator._model.targets.loss.link, raw)}


@to_expression.register
def _(part: BackpropAutoencoder, x: Expr) -> Expr:
    return predict_raw(part, x, slice(n_encoder_layers(part._model.network)))


@to_expression.register
def _(part: BackpropFeatures, x: Expr) -> Expr:
    (network,) = get_pipeline_steps(part.estimator_)
    n_layers = n_layers_up_to(network._model.network, part.layer)
    members = predict_raw(network, x, slice(n_layers))
    return ex.reshape(members, (members.width,))


# -------------------------------------------------------------------- tabular estimators


def _component_outputs(estimator: Any, x: Expr) -> list[Expr]:
    """Return the outputs of the members of each component: logits or predictions."""
    inputs, outputs = estimator._features, []
    numbers, codes = convert_columns(inputs.encoding, x)
    encoded = encode_table(inputs.encoding, numbers, codes)
    views = {
        "encoded": encoded,
        "embedded": _add_blocks(inputs, encoded),
        "table": ex.concat([numbers, look_up(codes, inputs.codes)]),
    }
    for component in estimator._components:
        view = views[component.view]
        if isinstance(component, CrossFittedEstimators):
            outputs.append(_convert_boosting(component, view))
        elif isinstance(component, BackpropClassifier):
            outputs.append(predict_raw(component, view))
        else:
            outputs.append(_member_predictions(component, predict_raw(component, view)))
    return outputs


def _add_blocks(blocks: FeatureBuilder, encoded: Expr) -> Expr:
    """Return encoded columns, preceded by a block of waves and bins for each numeric column."""
    numbers: Any = ex.take_columns(encoded, range(blocks.n_blocks))
    numbers = ex.reshape(numbers, (blocks.n_blocks, 1))
    (frequencies, phases), (*bins, shift) = blocks.waves, blocks.bins
    waves = np.cos(numbers * frequencies + phases)
    columns = ex.concat([waves, bin_fractions(numbers, *bins) - shift])
    return ex.concat([ex.reshape(columns, (columns.width,)), encoded])


@to_outputs.register
def _(estimator: TabularClassifier, x: Expr) -> Outputs:
    mixed: Any = 0.0
    outputs = _component_outputs(estimator, x)
    n_members = [math.prod(raw.shape[:-1]) for raw in outputs]
    temperatures = map(ensemble_temperature, estimator.temperatures_, n_members)
    for raw, temperature, weight in zip(outputs, temperatures, estimator.weights_, strict=True):
        logits: Any = raw * (1 / temperature)
        if logits.shape[-1] == 1:
            logits = ex.concat([logits * -0.5, logits * 0.5])
        mixed = mixed + weight * ex.mean_over_members(ex.softmax(logits))
    logs = np.log(np.maximum(mixed, _LIMITS.tiny))
    shifts = estimator._class_shifts[int(max(n_members) > 1)]
    probabilities = ex.softmax(logs * (1 / estimator._last_temperature) + shifts)
    if len(estimator.classes_) == 1:
        probabilities = ex.take_columns(probabilities, [0]) * 0.0 + 1.0
    label = ex.take_class(probabilities, estimator.classes_)
    return {"label": label, "probabilities": probabilities}


@to_outputs.register
def _(estimator: TabularRegressor, x: Expr) -> Outputs:
    mixed: Any = 0.0
    outputs = [ex.mean_over_members(item) for item in _component_outputs(estimator, x)]
    n_targets = estimator._targets.n_targets
    for output, weight in zip(outputs, estimator.weights_, strict=True):
        mixed = mixed + np.repeat(weight, output.width // weight.size) * output
    if estimator._range is not None:
        n_each = mixed.width // n_targets
        mixed = ex.clip(mixed, *np.repeat(estimator._range[..., 0], n_each, axis=1))
    return {"variable": _split_targets(mixed, n_targets)}


# --------------------------------------------------------------------- gradient boosting


def _convert_boosting(component: CrossFittedEstimators, x: Expr) -> Expr:
    """Return the outputs of boosting for each fold: logs of probabilities, or a prediction.

    Parameters
    ----------
    component : CrossFittedEstimators
        The clones of gradient boosting.
    x : Expr
        The view "table" of the rows.

    Raises
    ------
    TypeError
        If other estimators are blended, or boosting encodes categories by itself.
    """
    n_classes, members = component.n_classes, component.estimators
    kinds = (OrdinalTable, DummyClassifier, type(None)) if component.view == "table" else ()
    others = [x for x in members if not isinstance(getattr(x, "_preprocessor", x), kinds)]
    if others:
        raise TypeError(
            f"A blend with {type(others[0]).__name__} cannot be exported. Of other estimators only "
            "gradient boosting can, with its default of categorical_features: fit with "
            'blend="auto", or with blend=None.'
        )
    intercepts = np.full((len(members), n_classes or 1), _UNSEEN)
    trees, targets = list[dict[str, Array]](), list[Array]()
    for member, clone in enumerate(members):
        classes = np.zeros(1, dtype=np.intp) if n_classes is None else clone.classes_
        intercepts[member, classes] = 0.0
        outputs = classes[1:] if len(classes) == 2 else classes
        if isinstance(clone, DummyClassifier):
            continue
        intercepts[member, outputs] = clone._baseline_prediction.ravel()
        for iteration in clone._predictors:
            for tree, output in zip(iteration, outputs.tolist(), strict=True):
                nodes = _make_tree_nodes(tree, clone._preprocessor)
                n_nodes = len(nodes["modes"])
                trees.append(nodes | {"treeids": np.full(n_nodes, len(trees))})
                targets.append(np.full(n_nodes, member * len(intercepts.T) + output))
    sums: Any = ex.zeros(x)
    if trees:
        sums = ex.forest(x, _join(trees), np.concatenate(targets), intercepts.size)
        sums = ex.reshape(sums, intercepts.shape)
    # Some runtimes add base_values only to outputs with trees, so intercepts are added here.
    raw = sums + intercepts
    if n_classes is not None:
        shares: Any = ex.softmax(raw)
        return cast(Expr, np.log(np.maximum(shares, MIN_PROBABILITY)))
    if members[0].loss in ("poisson", "gamma"):
        raw = np.exp(raw)
    raw = np.maximum(raw, max(component.minimum, float(np.finfo(np.float32).min)))
    return ex.reshape(raw, (len(members) // component.n_targets, component.n_targets))


def _make_tree_nodes(tree: Any, table: OrdinalTable | None) -> dict[str, Array]:
    """Return the nodes of a tree, as `forest` takes them.

    A split of categories becomes a chain of nodes, each of which compares with one of the codes
    that boosting has seen in the column.
    """
    nodes = tree.nodes
    is_leaf, column = nodes["is_leaf"].astype(bool), nodes["feature_idx"]
    split_nodes = {
        "modes": np.where(is_leaf, LEAF, AT_MOST),
        "featureids": column if table is None else table.columns[column],
        "values": np.where(is_leaf, nodes["value"], nodes["num_threshold"]),
        "truenodeids": nodes["left"].astype(np.int64),
        "falsenodeids": nodes["right"].astype(np.int64),
        "missing_value_tracks_true": nodes["missing_go_to_left"].astype(np.int64),
    }
    parts, n_nodes = [split_nodes], len(nodes)
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf):
        assert table is not None
        ordinals = table.ordinals[column[node]]
        codes = np.flatnonzero(~np.isnan(ordinals))
        bits = tree.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        goes_left = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(bool)
        # Missing and unknown categories equal none, and reach the end of the chain.
        ends = split_nodes["truenodeids"][node], split_nodes["falsenodeids"][node]
        missing_goes_left = bool(split_nodes["missing_value_tracks_true"][node])
        yes, no = ends[::-1] if missing_goes_left else ends
        compared = codes[goes_left[ordinals[codes].astype(np.intp)] != missing_goes_left]
        ids = np.array([node, *range(n_nodes, n_nodes + len(compared) - 1)])
        chain = {
            "modes": np.full(len(ids), EQUALS),
            "featureids": np.full(len(ids), split_nodes["featureids"][node]),
            "values": compared if len(compared) else np.array([-1.0]),
            "truenodeids": np.full(len(ids), yes),
            "falsenodeids": np.append(ids[1:], no),
            "missing_value_tracks_true": np.zeros(len(ids), dtype=np.int64),
        }
        for name, values in chain.items():
            split_nodes[name][node] = values[0]
        parts.append({name: values[1:] for name, values in chain.items()})
        n_nodes += len(ids) - 1
    return _join(parts) | {"nodeids": np.arange(n_nodes)}


def _join(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
