"""Formulas of tabular encoders and estimators, as expressions.

The input is numeric, so that the levels of categories must be numbers. Missing values are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..losses import LOGIT_LINK, SOFTMAX_LINK
from ..tabular import (
    PeriodicFeatures,
    PiecewiseLinearEncoder,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from ..tabular._categorical_encoding import CategoryLevels, OneHot
from ..tabular._dataframe import find_role, raise_infinite, to_floats
from ..tabular._encoding import FittedEncoding
from ..tabular._network_inputs import N_BINS, N_FREQUENCIES, FeatureBuilder, NumericBlockEncoder
from ..tabular._numeric_scaling import RobustScaling
from ..tabular.classifier import ensemble_temperature
from ..utils.arrays import Array
from . import _expressions as ex
from ._converters import convert, to_expression
from ._expressions import Expr
from ._model_graph import (
    PROBABILITIES,
    ArgmaxOutput,
    ModelOutput,
    outputs_of,
    predict_raw,
    predictions_of,
)

# The largest number and the smallest normal number in single precision.
_LARGEST, _TINY = np.finfo(np.float32).max, np.finfo(np.float32).tiny

# ------------------------------------------------------------------------------ encoders


@to_expression.register
def _(part: TableEncoder, x: Expr) -> Expr:
    encoded = _encode(part._encoding, x)
    if not encoded.width:
        raise ValueError(
            "The TableEncoder can't be exported: all columns were constant, so it has no outputs."
        )
    return encoded


def _encode(encoding: FittedEncoding, x: Expr) -> Expr:
    """Return the encoded columns of a table: numeric columns first, then categories."""
    categories = [
        _CategoryLookup(levels, ex.take_columns(x, [column]))
        for column, levels in zip(encoding.category_columns, encoding.levels, strict=True)
    ]
    numbers = [ex.take_columns(x, encoding.numeric_columns)]
    if encoding.statistics is not None:
        columns = [categories[i] for i in encoding.target_encoded]
        for table, column in zip(
            encoding.statistics.tables, encoding.statistics.columns, strict=True
        ):
            numbers.append(columns[column].gather(table[:, None]))
    encoded = _encode_numbers(encoding.numbers, ex.concat(numbers))
    codes = encoding.categories
    tables: list[tuple[_CategoryLookup, Array]]
    if isinstance(codes, OneHot):
        tables = [
            (column, np.eye(len(names) + 1)[list(outputs)][:, : len(names)])
            for column, outputs, names in zip(categories, codes.positions, codes.names, strict=True)
        ]
    else:
        each = [categories[i] for i in codes.columns]
        tables = [(column, np.arange(column.n_codes)[:, None]) for column in each]
    encoded += [column.gather(table) for column, table in tables if table.shape[1]]
    return ex.concat(encoded)


class _CategoryLookup:
    """Lookup of table rows by the code of a category whose levels are numbers.

    Parameters
    ----------
    levels : CategoryLevels
        The levels of the column.
    x : Expr
        The values of the column.

    Attributes
    ----------
    n_codes : int
        The number of codes, including the one of unknown levels.
    """

    def __init__(self, levels: CategoryLevels, x: Expr) -> None:
        self.n_codes = levels.n_codes + 1
        codes = [*range(1, len(levels.own) + 1), *[len(levels.own) + 1] * len(levels.rare)]
        by_level = dict(zip((*levels.own, *levels.rare), codes, strict=True))
        self._missing_code = by_level.pop(None, 0)
        self._codes = list(by_level.values())
        self._x: Any = x
        self._is_level = np.equal(cast(Any, x), _levels_to_numbers(levels.label, list(by_level)))

    def gather(self, table: Array) -> Expr:
        """Return the row of the code in a table of shape (n_codes, width)."""
        differences = table - table[0]
        values = table[0] + np.isnan(self._x) * differences[self._missing_code]
        if self._codes:
            values = values + ex.integer_linear(self._is_level, differences[self._codes])
        return cast(Expr, values)


def _levels_to_numbers(label: str, levels: Sequence[Any]) -> Array:
    """Return levels as numbers, checked to differ in single precision.

    Raises
    ------
    TypeError
        If a level is not a number.
    ValueError
        If levels overflow in single precision, or are equal in it.
    """
    others = [level for level in levels if find_role(type(level)) != "number"]
    if others:
        raise TypeError(
            f"{label} has levels such as {others[0]!r}, but an exported model takes only numbers. "
            "Number the levels, as scikit-learn's OrdinalEncoder does, name the column in "
            "categorical_features, and fit again."
        )
    numbers = to_floats(levels, label)
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    if not np.isfinite(single).all():
        raise_infinite(label)
    if len(np.unique(single)) < len(numbers):
        raise ValueError(
            f"{label} has levels that are equal in single precision, in which models are exported. "
            "Number them from 0 on, and fit again."
        )
    return numbers


def _encode_numbers(numbers: RobustScaling, x: Expr) -> list[Expr]:
    """Return scaled columns, two-valued columns, and indicators of missing values."""
    scaled, two_valued, with_missing = numbers.input_columns()

    def scale(columns: Array) -> Any:
        return (ex.take_columns(x, columns) - numbers.center[columns]) * numbers.scale[columns]

    outputs = []
    if len(scaled):
        z = np.minimum(np.maximum(scale(scaled), -1e9), 1e9)
        clipped = z / np.sqrt(1.0 + np.square(z / 3.0))
        outputs.append(ex.fill_nan(clipped, numbers.fill[scaled]))
    if len(two_valued):
        z = np.minimum(np.maximum(scale(two_valued), 0.0), 1.0)
        outputs.append(ex.fill_nan(z, numbers.fill[two_valued]))
    if len(with_missing):
        outputs.append(np.isnan(ex.take_columns(x, with_missing)))
    return outputs


@to_expression.register
def _(part: PiecewiseLinearEncoder, x: Expr) -> Any:
    feature, *bins = part._bins()
    return _encode_bins(ex.take_columns(x, feature), *bins) - 0.5


@to_expression.register
def _(part: PeriodicFeatures, x: Expr) -> Any:
    return _encode_waves(x, 2 * np.pi * part.frequencies_, part.phases_)


def _encode_bins(x: Expr, lower: Array, width: Array, least: Array, most: Array) -> Any:
    fractions = (x - lower) * np.minimum(1 / width, _LARGEST)
    return np.minimum(np.maximum(fractions, least), most)


def _encode_waves(x: Expr, frequencies: Array, phases: Array) -> Any:
    """Return the cosine waves of each column; frequencies are angular."""
    columns = np.repeat(np.arange(len(frequencies)), frequencies.shape[1])
    return np.cos(ex.take_columns(x, columns) * frequencies.ravel() + phases.ravel())


# ------------------------------------------------------------------------------ networks


def _add_blocks(blocks: NumericBlockEncoder, encoded: Expr) -> Expr:
    """Return encoded columns, preceded by a block of waves and bins for each numeric column."""
    n = len(blocks)
    waves = _encode_waves(encoded, blocks.frequencies, blocks.phases)
    columns = np.repeat(np.arange(n), N_BINS)
    each = (blocks.lower, blocks.width, blocks.least, blocks.most)
    bins = _encode_bins(ex.take_columns(encoded, columns), *(array.ravel() for array in each))
    kinds = ex.concat([waves, bins - blocks.shift.ravel()])
    by_wave = np.arange(n * N_FREQUENCIES).reshape(n, -1)
    by_bin = n * N_FREQUENCIES + np.arange(n * N_BINS).reshape(n, -1)
    return ex.concat([ex.take_columns(kinds, np.hstack([by_wave, by_bin]).ravel()), encoded])


def _build_views(inputs: FeatureBuilder, x: Expr) -> dict[str, Expr]:
    """Return the inputs of networks, by the name of the view."""
    encoded = _encode(inputs.encoding, x)
    if not encoded.width:
        encoded = np.isnan(ex.take_columns(x, [0])) * 0.0
    if inputs.blocks is None:
        return {"encoded": encoded, "embedded": encoded}
    return {"encoded": encoded, "embedded": _add_blocks(inputs.blocks, encoded)}


def _predict_networks(estimator: Any, x: Expr) -> list[tuple[Any, Expr]]:
    """Return each network ensemble with the raw predictions of its members."""
    views = _build_views(estimator._features, x)
    predictions = []
    for component in estimator._components:
        if not hasattr(component, "networks"):
            raise TypeError(
                f"{type(estimator).__name__} can't be exported, because it blends its networks "
                "with other estimators. Fit it with blend=None."
            )
        raw = predict_raw(component.networks, views[component.view])
        predictions.append((component.networks, raw))
    return predictions


@outputs_of.register
def _(estimator: TabularClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    settings = zip(estimator.temperatures_, estimator.weights_, strict=True)
    mixed: Any = 0.0
    for (_, raw), (temperature, weight) in zip(
        _predict_networks(estimator, x), settings, strict=True
    ):
        logits = raw * (1 / ensemble_temperature(temperature, raw.n_estimators))
        if logits.width == 1:
            by_member = convert(LOGIT_LINK, ex.concat([-logits, logits]))
        else:
            by_member = convert(SOFTMAX_LINK, logits)
        mixed = mixed + weight * ex.mean_over_members(by_member)
    logs = np.log(np.maximum(mixed, _TINY))
    probabilities = ex.softmax(logs * (1 / estimator._last_temperature))
    if len(estimator.classes_) == 1:
        probabilities = ex.take_columns(probabilities, [0]) * 0.0 + 1.0
    label = ArgmaxOutput("label", probabilities, classes=estimator.classes_)
    return label, ModelOutput(PROBABILITIES, probabilities)


@outputs_of.register
def _(estimator: TabularRegressor, x: Expr) -> tuple[ModelOutput, ...]:
    mixed: Any = 0.0
    for (networks, raw), weight in zip(
        _predict_networks(estimator, x), estimator.weights_, strict=True
    ):
        mixed = mixed + weight * ex.mean_over_members(predictions_of(networks, raw))
    if estimator._targets.range is not None:
        low, high = estimator._targets.range
        mixed = np.minimum(np.maximum(mixed, low), high)
    return (ModelOutput("variable", mixed),)
