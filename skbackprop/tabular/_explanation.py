"""Explanations of tabular estimators: predictions for rows with columns of other rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._sklearn import _safe_indexing
from ..estimators.explanation import N_BACKGROUND, Explanation, draw_background, make_explanation
from ..utils.arrays import Array, IndexArray, as_dense
from ..utils.shapley import HybridRows
from ._model_inputs import WIDTH, FeatureBuilder, FeatureView
from ._prediction import TabularModel
from ._read_table import SparseColumns, TableColumns, read_table
from ._table_encoding import FittedEncoding, UnscaledRows

# The background that a fitted estimator keeps has fewer rows if it would have more numbers.
_BACKGROUND_NUMBERS, _MIN_BACKGROUND = 100_000, 10


def keep_background(
    estimator: Any,
    columns: TableColumns,
    features: FeatureBuilder,
    weight: Array | None,
    rng: np.random.RandomState,
) -> UnscaledRows:
    """Return a few training rows with weight, encoded as in training, to explain others by.

    Their target statistics are out of fold.

    Parameters
    ----------
    estimator : BaseTabular
        The estimator, whose features are fitted.
    columns : TableColumns
        The training table.
    features : FeatureBuilder
        Its features.
    weight : array of shape (n,) or None
        The weight of each row.
    rng : RandomState
        Draws the rows.
    """
    candidates = np.arange(columns.n_rows) if weight is None else np.flatnonzero(weight)
    width = len(features.encoding.numbers.center) + len(features.codes)
    n_rows = max(_MIN_BACKGROUND, min(N_BACKGROUND, _BACKGROUND_NUMBERS // width))
    if len(candidates) > n_rows:
        candidates = np.sort(rng.choice(candidates, n_rows, replace=False))
    part = read_table(estimator, _safe_indexing(columns.table, candidates), reset=False)
    folds = features.encoding.folds
    own_folds = None if folds is None else folds[candidates]
    numbers, codes = features.encoding.read_training_rows(part, own_folds)
    return UnscaledRows(as_dense(numbers), codes)


def read_background(
    columns: TableColumns, features: FeatureBuilder, random_state: Any
) -> UnscaledRows:
    """Return the rows of a background table as matrices, or a sample if there are many."""
    numbers, codes = features.encoding.read_rows(columns)
    index = draw_background(columns.n_rows, random_state)
    return UnscaledRows(as_dense(numbers[index]), codes[index])


def explain_table(
    model: TabularModel,
    columns: TableColumns,
    background: UnscaledRows,
    output_names: list[str] | None,
    n_permutations: int | None,
    random_state: Any,
) -> Explanation:
    """Return the contribution of each column of a raw table to each prediction.

    All encoded values of a column are switched together. Predictions for coalitions are computed in
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
    features, encoding = model.features, model.features.encoding
    own_rows = encoding.read_rows(columns)
    own_rows = own_rows._replace(numbers=as_dense(own_rows.numbers))
    background = encoding.update_interactions(background)
    own, others = (features.make_inputs(each, model.views) for each in (own_rows, background))
    numbers_of_columns, codes_of_columns = _sources_of_matrices(encoding, columns.n_columns)
    sources = {view: _sources_of_view(features, view, columns.n_columns) for view in model.views}
    n_at_once = model.rows_at_once

    def predict(hybrids: HybridRows) -> Array:
        predictions = []
        for start in range(0, len(hybrids.is_own), n_at_once):
            part = slice(start, start + n_at_once)
            is_own, rows = hybrids.is_own[part], hybrids.background[part]
            if encoding.interactions is not None:  # which depend on two columns each
                in_numbers, in_codes = is_own[:, numbers_of_columns], is_own[:, codes_of_columns]
                mixed = UnscaledRows(
                    np.where(in_numbers, own_rows.numbers[hybrids.row], background.numbers[rows]),
                    np.where(in_codes, own_rows.codes[hybrids.row], background.codes[rows]),
                )
                inputs = features.make_inputs(encoding.update_interactions(mixed), model.views)
            else:
                inputs = {
                    view: np.where(is_own[:, source], own[view][hybrids.row], others[view][rows])
                    for view, source in sources.items()
                }
            predictions.append(model.predict_inputs(inputs, single_precision=True))
        return np.concatenate(predictions)

    def differs(row: int) -> NDArray[np.bool_]:
        found = np.zeros((len(background.codes), columns.n_columns), dtype=bool)
        for view, source in sources.items():
            values = own[view][row]
            is_different = (values != others[view]) & ~(np.isnan(values) & np.isnan(others[view]))
            at, column = np.nonzero(is_different)
            found[at, source[column]] = True
        return found

    return make_explanation(
        predict,
        differs,
        model.predict(columns),
        model.predict_inputs(others),
        _table_values(columns),
        columns.names,
        output_names,
        n_permutations,
        random_state,
        lambda function, rows: model.map_in_threads(function, list(rows)),
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


def _sources_of_matrices(encoding: FittedEncoding, n_columns: int) -> tuple[IndexArray, IndexArray]:
    """Return the column of the raw table that each number, and each code, comes from.

    Interactions count as those of the first column.
    """
    numbers = np.zeros(len(encoding.numbers.center), dtype=np.intp)
    codes = np.zeros(len(encoding.categories.levels), dtype=np.intp)
    for column in range(n_columns):
        in_numbers, in_codes = encoding.matrix_columns(column)
        numbers[in_numbers], codes[in_codes] = column, column
    return numbers, codes


def _sources_of_view(features: FeatureBuilder, view: FeatureView, n_columns: int) -> IndexArray:
    """Return the column of the raw table that each column of a view comes from."""
    if view == "table":
        return np.concatenate(_sources_of_matrices(features.encoding, n_columns))
    columns = np.zeros(features.n_encoded, dtype=np.intp)
    outputs = features.encoding.outputs()
    columns[: len(outputs)] = [output.column for output in outputs]
    if view == "encoded":
        return columns
    return np.concatenate([np.repeat(columns[: features.n_blocks], WIDTH), columns])
