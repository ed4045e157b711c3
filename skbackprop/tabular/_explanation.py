"""Explanations of tabular estimators: predictions for rows with columns of other rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..estimators.explanation import N_BACKGROUND, Explanation, draw_background, make_explanation
from ..utils.arrays import Array, as_dense
from ._model_inputs import FeatureBuilder
from ._prediction import TabularModel
from ._read_table import SparseColumns, TableColumns
from ._table_encoding import UnscaledRows

# The background that a fitted estimator keeps has fewer rows if it would have more numbers.
_BACKGROUND_NUMBERS, _MIN_BACKGROUND = 100_000, 10


def keep_background(
    rows: UnscaledRows, weight: Array | None, rng: np.random.RandomState
) -> UnscaledRows:
    """Return a few training rows with weight, to explain others by."""
    n_rows, n_codes = rows.codes.shape
    candidates = np.arange(n_rows) if weight is None else np.flatnonzero(weight)
    width = rows.numbers.shape[1] + n_codes
    n_kept = max(_MIN_BACKGROUND, min(N_BACKGROUND, _BACKGROUND_NUMBERS // width))
    if len(candidates) > n_kept:
        candidates = np.sort(rng.choice(candidates, n_kept, replace=False))
    return UnscaledRows(as_dense(rows.numbers[candidates]), rows.codes[candidates])


def read_background(
    columns: TableColumns, features: FeatureBuilder, random_state: Any
) -> UnscaledRows:
    """Return the rows of a background table, or a sample if there are many."""
    rows = features.encoding.read_rows(columns)
    return rows.take(draw_background(columns.n_rows, random_state))


def explain_table(
    model: TabularModel,
    columns: TableColumns,
    background: UnscaledRows,
    output_names: list[str] | None,
    n_permutations: int | None,
    random_state: Any,
) -> Explanation:
    """Return the contribution of each column of a raw table to each prediction.

    Numbers and codes of a column are switched together. Predictions for coalitions are computed in
    single precision. Those for whole rows, to which the contributions sum, are those of `predict`.

    Parameters
    ----------
    model : TabularModel
        The model.
    columns : TableColumns
        The rows to explain.
    background : UnscaledRows
        The background rows.
    output_names, n_permutations, random_state : object
        As of `make_explanation`.
    """
    encoding, views = model.features.encoding, model.views

    def predict(matrix: Array, single_precision: bool = True) -> Array:
        rows = encoding.from_matrix(matrix)
        return model.predict_inputs(model.features.make_inputs(rows, views), single_precision)

    rows = encoding.read_rows(columns)
    others = encoding.to_matrix(background)
    return make_explanation(
        predict,
        encoding.to_matrix(rows),
        others,
        encoding.matrix_sources,
        model.predict(rows),
        predict(others, single_precision=False),
        _table_values(columns),
        columns.names,
        output_names,
        n_permutations,
        random_state,
        rows_at_once=model.rows_at_once,
        map_rows=lambda function, rows: model.map_in_threads(function, list(rows)),
    )


def _table_values(columns: TableColumns) -> Array:
    """Return the values of a table as an array, of objects if it is not one of numbers."""
    given = columns.table
    if isinstance(given, np.ndarray):
        return given
    if isinstance(columns, SparseColumns):
        return np.asarray(as_dense(given))
    values = np.empty((columns.n_rows, columns.n_columns), dtype=object)
    for column in range(columns.n_columns):
        values[:, column] = columns.values(column)
    return values
