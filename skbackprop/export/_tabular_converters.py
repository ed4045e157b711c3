"""Tables as expressions: encoded columns, blocks of numbers, and what tabular estimators mix.

A row is numbers, so that categories are exported as far as their levels are numbers. Missing values
are NaN.
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
from ..tabular._dataframe import ROLES, floats_of, raise_infinite
from ..tabular._encoding import FittedEncoding
from ..tabular._features import N_BINS, N_FREQUENCIES, FeatureBlocks, FeatureBuilder
from ..tabular._numeric_encoding import RobustScaling
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
    predictions_of,
    scores_of,
)

# Of single precision: the largest number, and the smallest that keeps all its digits.
_LARGEST, _TINY = np.finfo(np.float32).max, np.finfo(np.float32).tiny

# ------------------------------------------------------------------------------ encoders


@to_expression.register
def _(part: TableEncoder, x: Expr) -> Expr:
    encoded = _encoded(part._encoding, x)
    if not encoded.width:
        raise ValueError("The TableEncoder has no outputs to export: all columns were constant.")
    return encoded


def _encoded(encoding: FittedEncoding, x: Expr) -> Expr:
    """Return the encoded columns of a table: numbers, and after them categories."""
    categories = [
        _CategoryLookup(levels, ex.take_columns(x, [column]))
        for column, levels in zip(encoding.category_columns, encoding.levels, strict=True)
    ]
    numbers = [ex.take_columns(x, encoding.numeric_columns)]
    if encoding.statistics is not None:
        columns = [categories[at] for at in encoding.target_encoded]
        for table, column in zip(
            encoding.statistics.tables, encoding.statistics.columns, strict=True
        ):
            numbers.append(columns[column].looked_up(table[:, None]))
    of_numbers = _encoded_numbers(encoding.numbers, ex.concat(numbers))
    places = encoding.categories
    tables: list[tuple[_CategoryLookup, Array]]
    if isinstance(places, OneHot):
        tables = [
            (column, np.eye(len(names) + 1)[list(of_codes)][:, : len(names)])
            for column, of_codes, names in zip(
                categories, places.positions, places.names, strict=True
            )
        ]
    else:
        each = [categories[at] for at in places.columns]
        tables = [(column, np.arange(column.n_codes)[:, None]) for column in each]
    encoded = [column.looked_up(table) for column, table in tables if table.shape[1]]
    return ex.concat([*of_numbers, *encoded])


class _CategoryLookup:
    """A column of categories whose levels are numbers.

    Parameters
    ----------
    levels : Levels
        Its levels.
    x : Expression
        Its values.

    Attributes
    ----------
    n_codes : int
        The number of codes, with that of levels that were never seen.
    """

    def __init__(self, levels: CategoryLevels, x: Expr) -> None:
        self.n_codes = levels.n_codes + 1
        codes = [*range(1, len(levels.own) + 1), *[len(levels.own) + 1] * len(levels.rare)]
        by_level = dict(zip((*levels.own, *levels.rare), codes, strict=True))
        self._code_of_missing = by_level.pop(None, 0)
        self._codes = list(by_level.values())
        self._x: Any = x
        self._is_level = np.equal(cast(Any, x), _as_numbers(levels.label, list(by_level)))

    def looked_up(self, table: Array) -> Expr:
        """Return the row of a table, of shape (n_codes, width), that is the code's."""
        differences = table - table[0]
        found = table[0] + np.isnan(self._x) * differences[self._code_of_missing]
        if self._codes:
            found = found + ex.integer_linear(self._is_level, differences[self._codes])
        return cast(Expr, found)


def _as_numbers(label: str, levels: Sequence[Any]) -> Array:
    """Return levels as numbers that differ in single precision too.

    Raises
    ------
    TypeError
        If a level is no number.
    ValueError
        If single precision does not hold the levels, or does not tell them apart.
    """
    others = [level for level in levels if ROLES[type(level)] != "number"]
    if others:
        raise TypeError(
            f"{label} has levels such as {others[0]!r}, and what is exported takes rows of "
            "numbers. Number its levels, as scikit-learn's OrdinalEncoder does, name the column "
            "in categorical_features, and fit again."
        )
    numbers = floats_of(levels, label)
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32)
    if not np.isfinite(single).all():
        raise_infinite(label)
    if len(np.unique(single)) < len(numbers):
        raise ValueError(
            f"{label} has levels that single precision does not tell apart, in which models are "
            "exported. Number them from 0 on, and fit again."
        )
    return numbers


def _encoded_numbers(numbers: RobustScaling, x: Expr) -> list[Expr]:
    """Return the outputs of columns of numbers: scaled, two-valued, and which are missing."""
    scaled, two_valued, with_missing = numbers.input_columns()

    def centred(places: Array) -> Any:
        return (ex.take_columns(x, places) - numbers.center[places]) * numbers.scale[places]

    found = []
    if len(scaled):
        z = np.minimum(np.maximum(centred(scaled), -1e9), 1e9)
        clipped = z / np.sqrt(1.0 + np.square(z / 3.0))
        found.append(ex.fill_nan(clipped, numbers.fill[scaled]))
    if len(two_valued):
        z = np.minimum(np.maximum(centred(two_valued), 0.0), 1.0)
        found.append(ex.fill_nan(z, numbers.fill[two_valued]))
    if len(with_missing):
        found.append(np.isnan(ex.take_columns(x, with_missing)))
    return found


@to_expression.register
def _(part: PiecewiseLinearEncoder, x: Expr) -> Any:
    feature, *bins = part._bins()
    return _in_bins(ex.take_columns(x, feature), *bins) - 0.5


@to_expression.register
def _(part: PeriodicFeatures, x: Expr) -> Any:
    return _waves(x, 2 * np.pi * part.frequencies_, part.phases_)


def _in_bins(x: Expr, lower: Array, width: Array, least: Array, most: Array) -> Any:
    shares = (x - lower) * np.minimum(1 / width, _LARGEST)
    return np.minimum(np.maximum(shares, least), most)


def _waves(x: Expr, frequencies: Array, phases: Array) -> Any:
    """Return the waves of each number, side by side; frequencies are times 2 pi."""
    of_number = np.repeat(np.arange(len(frequencies)), frequencies.shape[1])
    return np.cos(ex.take_columns(x, of_number) * frequencies.ravel() + phases.ravel())


# ------------------------------------------------------------------------------ networks


def _with_blocks(blocks: FeatureBlocks, encoded: Expr) -> Expr:
    """Return encoded columns with the blocks of their numbers before them."""
    n = len(blocks)
    waves = _waves(encoded, blocks.frequencies, blocks.phases)
    of_number = np.repeat(np.arange(n), N_BINS)
    each = (blocks.lower, blocks.width, blocks.least, blocks.most)
    bins = _in_bins(ex.take_columns(encoded, of_number), *(array.ravel() for array in each))
    kinds = ex.concat([waves, bins - blocks.shift.ravel()])
    by_wave = np.arange(n * N_FREQUENCIES).reshape(n, -1)
    by_bin = n * N_FREQUENCIES + np.arange(n * N_BINS).reshape(n, -1)
    return ex.concat([ex.take_columns(kinds, np.hstack([by_wave, by_bin]).ravel()), encoded])


def _seen(inputs: FeatureBuilder, x: Expr) -> dict[str, Expr]:
    """Return rows in the views that networks have of them."""
    encoded = _encoded(inputs.encoding, x)
    if not encoded.width:
        encoded = np.isnan(ex.take_columns(x, [0])) * 0.0
    if inputs.blocks is None:
        return {"encoded": encoded, "embedded": encoded}
    return {"encoded": encoded, "embedded": _with_blocks(inputs.blocks, encoded)}


def _networks(estimator: Any, x: Expr) -> list[tuple[Any, Expr]]:
    """Return each ensemble, and the scores of its members."""
    seen = _seen(estimator._features, x)
    found = []
    for component in estimator._components:
        if not hasattr(component, "networks"):
            raise TypeError(
                f"The {type(estimator).__name__} blends other estimators with its networks, and "
                "these alone are exported. Fit it with blend=None."
            )
        found.append((component.networks, scores_of(component.networks, seen[component.view])))
    return found


@outputs_of.register
def _(estimator: TabularClassifier, x: Expr) -> tuple[ModelOutput, ...]:
    settings = zip(estimator.temperatures_, estimator.weights_, strict=True)
    mixed: Any = 0.0
    for (_, scores), (temperature, weight) in zip(_networks(estimator, x), settings, strict=True):
        logits = scores * (1 / ensemble_temperature(temperature, scores.n_estimators))
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
    for (networks, scores), weight in zip(_networks(estimator, x), estimator.weights_, strict=True):
        mixed = mixed + weight * ex.mean_over_members(predictions_of(networks, scores))
    if estimator._targets.range is not None:
        low, high = estimator._targets.range
        mixed = np.minimum(np.maximum(mixed, low), high)
    return (ModelOutput("variable", mixed),)
