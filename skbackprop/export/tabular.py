"""Tables as expressions: encoded columns, blocks of numbers, and what tabular estimators mix.

A row is numbers, so that categories are exported as far as their levels are numbers. Missing values
are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..core.arrays import Array
from ..losses import LOGISTIC, SOFTMAX
from ..tables import (
    PeriodicFeatures,
    PiecewiseLinearEncoder,
    TableEncoder,
    TabularClassifier,
    TabularRegressor,
)
from ..tables.categories import Levels, OneHot
from ..tables.classifier import divisor_of_scores
from ..tables.encoding import Encoding
from ..tables.inputs import N_BINS, N_FREQUENCIES, Blocks, Inputs
from ..tables.numbers import Numbers
from ..tables.values import ROLES, floats_of, refuse_infinite
from . import expressions as ex
from .expressions import Expression
from .formulas import applied, formula
from .models import PROBABILITIES, Label, Output, outputs_of, predictions_of, scores_of

# Of single precision: the largest number, and the smallest that keeps all its digits.
_LARGEST, _TINY = np.finfo(np.float32).max, np.finfo(np.float32).tiny

# ------------------------------------------------------------------------------ encoders


@formula.register
def _(part: TableEncoder, x: Expression) -> Expression:
    encoded = _encoded(part._encoding, x)
    if not encoded.width:
        raise ValueError("The TableEncoder has no outputs to export: all columns were constant.")
    return encoded


def _encoded(encoding: Encoding, x: Expression) -> Expression:
    """Return the encoded columns of a table: numbers, and after them categories."""
    categories = [
        _Category(levels, ex.columns(x, [column]))
        for column, levels in zip(encoding.category_columns, encoding.levels, strict=True)
    ]
    numbers = [ex.columns(x, encoding.number_columns)]
    if encoding.statistics is not None:
        columns = [categories[at] for at in encoding.of_many_levels]
        for table, column in zip(
            encoding.statistics.tables, encoding.statistics.columns, strict=True
        ):
            numbers.append(columns[column].looked_up(table[:, None]))
    of_numbers = _encoded_numbers(encoding.numbers, ex.side_by_side(numbers))
    places = encoding.categories
    tables: list[tuple[_Category, Array]]
    if isinstance(places, OneHot):
        tables = [
            (column, np.eye(len(names) + 1)[list(of_codes)][:, : len(names)])
            for column, of_codes, names in zip(categories, places.places, places.names, strict=True)
        ]
    else:
        each = [categories[at] for at in places.columns]
        tables = [(column, np.arange(column.n_codes)[:, None]) for column in each]
    encoded = [column.looked_up(table) for column, table in tables if table.shape[1]]
    return ex.side_by_side([*of_numbers, *encoded])


class _Category:
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

    def __init__(self, levels: Levels, x: Expression) -> None:
        self.n_codes = levels.n_codes + 1
        codes = [*range(1, len(levels.own) + 1), *[len(levels.own) + 1] * len(levels.rare)]
        by_level = dict(zip((*levels.own, *levels.rare), codes, strict=True))
        self._code_of_missing = by_level.pop(None, 0)
        self._codes = list(by_level.values())
        self._x: Any = x
        self._is_level = np.equal(cast(Any, x), _as_numbers(levels.label, list(by_level)))

    def looked_up(self, table: Array) -> Expression:
        """Return the row of a table, of shape (n_codes, width), that is the code's."""
        differences = table - table[0]
        found = table[0] + np.isnan(self._x) * differences[self._code_of_missing]
        if self._codes:
            found = found + ex.combined(self._is_level, differences[self._codes])
        return cast(Expression, found)


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
        refuse_infinite(label)
    if len(np.unique(single)) < len(numbers):
        raise ValueError(
            f"{label} has levels that single precision does not tell apart, in which models are "
            "exported. Number them from 0 on, and fit again."
        )
    return numbers


def _encoded_numbers(numbers: Numbers, x: Expression) -> list[Expression]:
    """Return the outputs of columns of numbers: scaled, two-valued, and which are missing."""
    scaled, two_valued, with_missing = numbers.sources()

    def centred(places: Array) -> Any:
        return (ex.columns(x, places) - numbers.center[places]) * numbers.scale[places]

    found = []
    if len(scaled):
        z = np.minimum(np.maximum(centred(scaled), -1e9), 1e9)
        clipped = z / np.sqrt(1.0 + np.square(z / 3.0))
        found.append(ex.filled(clipped, numbers.fill[scaled]))
    if len(two_valued):
        z = np.minimum(np.maximum(centred(two_valued), 0.0), 1.0)
        found.append(ex.filled(z, numbers.fill[two_valued]))
    if len(with_missing):
        found.append(np.isnan(ex.columns(x, with_missing)))
    return found


@formula.register
def _(part: PiecewiseLinearEncoder, x: Expression) -> Any:
    feature, *bins = part._bins()
    return _in_bins(ex.columns(x, feature), *bins) - 0.5


@formula.register
def _(part: PeriodicFeatures, x: Expression) -> Any:
    return _waves(x, 2 * np.pi * part.frequencies_, part.phases_)


def _in_bins(x: Expression, lower: Array, width: Array, least: Array, most: Array) -> Any:
    shares = (x - lower) * np.minimum(1 / width, _LARGEST)
    return np.minimum(np.maximum(shares, least), most)


def _waves(x: Expression, frequencies: Array, phases: Array) -> Any:
    """Return the waves of each number, side by side; frequencies are times 2 pi."""
    of_number = np.repeat(np.arange(len(frequencies)), frequencies.shape[1])
    return np.cos(ex.columns(x, of_number) * frequencies.ravel() + phases.ravel())


# ------------------------------------------------------------------------------ networks


def _with_blocks(blocks: Blocks, encoded: Expression) -> Expression:
    """Return encoded columns with the blocks of their numbers before them."""
    n = len(blocks)
    waves = _waves(encoded, blocks.frequencies, blocks.phases)
    of_number = np.repeat(np.arange(n), N_BINS)
    each = (blocks.lower, blocks.width, blocks.least, blocks.most)
    bins = _in_bins(ex.columns(encoded, of_number), *(array.ravel() for array in each))
    kinds = ex.side_by_side([waves, bins - blocks.shift.ravel()])
    by_wave = np.arange(n * N_FREQUENCIES).reshape(n, -1)
    by_bin = n * N_FREQUENCIES + np.arange(n * N_BINS).reshape(n, -1)
    return ex.side_by_side([ex.columns(kinds, np.hstack([by_wave, by_bin]).ravel()), encoded])


def _seen(inputs: Inputs, x: Expression) -> dict[str, Expression]:
    """Return rows in the views that networks have of them."""
    encoded = _encoded(inputs.encoding, x)
    if not encoded.width:
        encoded = np.isnan(ex.columns(x, [0])) * 0.0
    if inputs.blocks is None:
        return {"encoded": encoded, "embedded": encoded}
    return {"encoded": encoded, "embedded": _with_blocks(inputs.blocks, encoded)}


def _networks(estimator: Any, x: Expression) -> list[tuple[Any, Expression]]:
    """Return each ensemble, and the scores of its members."""
    seen = _seen(estimator._inputs, x)
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
def _(estimator: TabularClassifier, x: Expression) -> tuple[Output, ...]:
    settings = zip(estimator.temperatures_, estimator.weights_, strict=True)
    mixed: Any = 0.0
    for (_, scores), (temperature, weight) in zip(_networks(estimator, x), settings, strict=True):
        logits = scores * (1 / divisor_of_scores(temperature, scores.n_members))
        if logits.width == 1:
            by_member = applied(LOGISTIC, ex.side_by_side([-logits, logits]))
        else:
            by_member = applied(SOFTMAX, logits)
        mixed = mixed + weight * ex.mean_of_members(by_member)
    logs = np.log(np.maximum(mixed, _TINY))
    probabilities = ex.softmax(logs * (1 / estimator._last_temperature))
    if len(estimator.classes_) == 1:
        probabilities = ex.columns(probabilities, [0]) * 0.0 + 1.0
    label = Label("label", probabilities, classes=estimator.classes_)
    return label, Output(PROBABILITIES, probabilities)


@outputs_of.register
def _(estimator: TabularRegressor, x: Expression) -> tuple[Output, ...]:
    mixed: Any = 0.0
    for (networks, scores), weight in zip(_networks(estimator, x), estimator.weights_, strict=True):
        mixed = mixed + weight * ex.mean_of_members(predictions_of(networks, scores))
    if estimator._said.range is not None:
        low, high = estimator._said.range
        mixed = np.minimum(np.maximum(mixed, low), high)
    return (Output("variable", mixed),)
