"""Encoding of a table: from columns to numbers and category codes, and to the encoded table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, check_random_state, gen_batches

from ..training.diagnostics import warn
from ..utils.arrays import Array, as_dense
from ._categorical_encoding import (
    CategoricalEncoding,
    CategoryLevels,
    TargetEncoding,
    count_categories,
    draw_target_folds,
)
from ._column_values import InferredKind, is_missing
from ._date_and_text_encodings import DateEncoding, TextEncoding, TimeEncoding
from ._random_slopes import RandomSlopes
from ._read_table import (
    NUMERIC_KINDS,
    SparseColumns,
    TableColumns,
    find_constraints,
    find_kinds,
)
from .numeric_encoders import RobustScaling

# The number of rows encoded at once. Temporaries stay in the cache, which is six times as fast.
_ROWS = 4096

# Encoding of one column as several numbers.
ColumnEncoding: TypeAlias = DateEncoding | TimeEncoding | TextEncoding


class UnscaledRows(NamedTuple):
    """Rows of a table as two matrices: numbers in double precision, and category codes.

    Parameters
    ----------
    numbers : array or CSR array of shape (n, n_numbers)
        The numbers, with NaN for missing values.
    codes : array of int of shape (n, n_categorical)
        The codes of categories.
    """

    numbers: Any
    codes: Array

    def take(self, rows: slice | Array) -> UnscaledRows:
        """Return some rows."""
        return UnscaledRows(self.numbers[rows], self.codes[rows])


class OutputColumn(NamedTuple):
    """One column of the encoded table: its type, its input column, and the suffix of its name."""

    type: str
    column: int
    suffix: str


CategoryFitter: TypeAlias = Callable[..., tuple[CategoricalEncoding, Array, Callable[[], Array]]]
"""A function like `fit_categories`."""


def fit_categories(
    columns: TableColumns,
    kinds: Sequence[InferredKind],
    y: Array | None,
    settings: Any,
    groups: Array | None,
) -> tuple[CategoricalEncoding, Array, Callable[[], Array]]:
    """Fit the encoding of categories, with target statistics if there are targets.

    Returns
    -------
    categories : CategoricalEncoding
        The encoding.
    codes : array of int of shape (n, n_categorical)
        The codes of categories, in few bytes.
    draw_folds : callable
        Draws the folds of target statistics and interactions, the same in each call.
    """
    indices = [i for i, item in enumerate(kinds) if item.kind == "category"]
    levels, codes = list[CategoryLevels](), [np.empty((columns.n_rows, 0), np.uint8)]
    for column in indices:
        values, label = columns.values(column), columns.label(column)
        counts = count_categories(values, label)
        levels.append(CategoryLevels.fit(counts, label, settings.min_frequency))
        dtype = np.min_scalar_type(levels[-1].n_codes)
        codes.append(levels[-1].encode(values).astype(dtype)[:, np.newaxis])
    matrix = np.hstack(codes)
    categories = CategoricalEncoding.from_levels(indices, levels, settings)
    draw_folds = cache(lambda: draw_target_folds(columns.n_rows, settings.random_state, groups))
    encoded = categories.target_encoded
    if y is None or not len(encoded):
        return categories, matrix, draw_folds
    statistics = TargetEncoding.fit(matrix, encoded, y, settings.target_type, draw_folds())
    return categories.with_statistics(statistics), matrix, draw_folds


@dataclass(frozen=True)
class FittedEncoding:
    """Encoding fitted to a table.

    Parameters
    ----------
    numeric_columns : sequence of int
        The numeric columns. Durations are numbers of seconds.
    numbers : RobustScaling
        Encodes numbers, after them target statistics and `interactions`, and then the outputs of
        `column_encodings`.
    categories : CategoricalEncoding
        Encodes categories.
    is_sparse : bool
        Whether the table was sparse.
    kinds : sequence of InferredKind
        The kind of each column, with the format of dates, and of numbers in strings.
    column_encodings : dict
        The encoding of each column of dates, times of day and text as several numbers. Text comes
        last.
    interactions : RandomSlopes or None
        Interactions of a categorical and a numeric column.
    constraints : sequence of int
        For each column, 1 if predictions must not decrease in it, -1 if they must not increase, and
        0 for no constraint.
    folds : array of int of shape (n_rows,) or None
        The fold of each training row in target statistics and interactions, if there are any.
    """

    numeric_columns: Sequence[int]
    numbers: RobustScaling
    categories: CategoricalEncoding
    is_sparse: bool
    kinds: Sequence[InferredKind]
    column_encodings: Mapping[int, ColumnEncoding]
    interactions: RandomSlopes | None
    constraints: Sequence[int]
    folds: Array | None

    @classmethod
    def fit(
        cls,
        columns: TableColumns,
        y: Array | None,
        settings: Any,
        groups: Array | None = None,
        with_interactions: bool = False,
        monotonic_cst: Any = None,
        category_fitter: CategoryFitter = fit_categories,
    ) -> tuple[Self, UnscaledRows]:
        """Return the encoding of a table, and its rows with out-of-fold target statistics.

        Parameters
        ----------
        columns : TableColumns
            The table, or a sample of its rows.
        y : array of shape (n,) or (n, n_targets), or None
            The target of statistics and interactions; None for neither.
        settings : TableEncoder
            The parameters.
        groups : array of int of shape (n,) or None, default=None
            The group of each row. Statistics of a row come from rows of other groups.
        with_interactions : bool, default=False
            Whether to fit `RandomSlopes` to continuous targets of tables that are not sparse.
        monotonic_cst : array-like, dict or None, default=None
            The parameter of a tabular estimator.
        category_fitter : callable
            Fits the categories; by default `fit_categories`.

        Returns
        -------
        encoding : FittedEncoding
            The encoding.
        rows : UnscaledRows
            The rows of `columns`.
        """
        kinds = find_kinds(columns, settings.categorical_features, settings.column_kinds or {})
        constraints = find_constraints(monotonic_cst, columns, kinds)
        check_consistent_length(columns.table, y)
        categories, codes, draw_folds = category_fitter(columns, kinds, y, settings, groups)
        numeric_columns = [i for i, item in enumerate(kinds) if item.kind in NUMERIC_KINDS]
        encoded_columns = [i for i, item in enumerate(kinds) if item.kind in ("date", "time")]
        encoded_columns += [i for i, item in enumerate(kinds) if item.kind == "text"]
        is_sparse, statistics = isinstance(columns, SparseColumns), categories.statistics
        numbers = columns.numbers(numeric_columns, kinds)
        blocks, scalings = [numbers], [RobustScaling.fit(numbers)]
        interactions = None
        has_slopes = with_interactions and settings.target_type == "continuous" and not is_sparse
        if has_slopes and y is not None and numeric_columns and len(categories.columns):
            # Temporaries of few rows stay in the cache.
            z = np.concatenate(
                [
                    scalings[0].scale_values(numbers[rows]).astype(np.float32)
                    for rows in gen_batches(len(numbers), _ROWS)
                ]
            )
            interactions = RandomSlopes.fit(
                codes,
                z,
                scalings[0].scaled & (np.take(constraints, numeric_columns) == 0),
                np.asarray(y, float),
                draw_folds,
                [item.n_codes for item in categories.levels],
            )
        if statistics is not None:
            blocks.append(statistics.encode(codes, draw_folds()))
            scalings.append(RobustScaling.fit(blocks[-1], centered=not is_sparse))
        if interactions is not None:
            pair_z = z[:, interactions.numbers]
            blocks.append(interactions.encode(codes, pair_z, draw_folds()))
            scalings.append(RobustScaling.fit(blocks[-1]))
        encodings: dict[int, ColumnEncoding] = {}
        for column in encoded_columns:
            encodings[column], numbers_of_column, scaling = _fit_column_encoding(
                columns, column, kinds[column], settings.random_state
            )
            blocks.append(numbers_of_column)
            scalings.append(scaling)
        fitted = cls(
            numeric_columns,
            RobustScaling.concatenate(scalings),
            categories,
            is_sparse,
            kinds,
            encodings,
            interactions,
            constraints,
            None if statistics is None and interactions is None else draw_folds(),
        )
        return fitted, UnscaledRows(_join_columns(blocks), codes)

    def read_rows(self, columns: TableColumns, folds: Array | None = None) -> UnscaledRows:
        """Return the rows of a table as numbers and codes.

        With folds, target statistics and interactions are out of fold. A warning counts the strings
        that do not have the format of their column.
        """
        codes = self.categories.read_codes(columns)
        numbers = columns.numbers(self.numeric_columns, self.kinds)
        blocks = [numbers]
        if self.categories.statistics is not None:
            blocks.append(self.categories.statistics.encode(codes, folds))
        if self.interactions is not None:
            blocks.append(self._encode_interactions(numbers, codes, folds))
        for column, encoding in self.column_encodings.items():
            blocks.append(encoding.encode(columns.read(column, self.kinds[column])))
        if columns.misfits:
            warn(f"{'; '.join(columns.misfits)}; they are treated as missing.", UserWarning)
        return UnscaledRows(_join_columns(blocks), codes)

    def _encode_interactions(self, numbers: Array, codes: Array, folds: Array | None) -> Array:
        assert self.interactions is not None
        columns = list(self.interactions.numbers)
        z = self.numbers.scale_values(numbers[:, columns], columns)
        return self.interactions.encode(codes, z, folds)

    def encode(self, rows: UnscaledRows, dtype: np.dtype[np.floating]) -> Any:
        """Return the outputs for rows; a CSR array if the training table was sparse."""
        if self.is_sparse:
            categories = np.empty((len(rows.codes), self.categories.encoder.n_outputs), dtype)
            self.categories.encoder.encode(rows.codes, categories)
            blocks = [self.numbers.encode_sparse(rows.numbers), sparse.csc_array(categories)]
            return sparse.hstack(blocks, format="csr", dtype=dtype)
        out = np.empty((len(rows.codes), self.n_outputs), dtype=dtype)
        self.write(rows._replace(numbers=as_dense(rows.numbers)), out)
        return out

    def write(self, rows: UnscaledRows, out: Array) -> None:
        """Write the outputs for rows to `out` (n, n_outputs)."""
        n_numeric = self.numbers.n_outputs
        for start in range(0, len(out), _ROWS):  # gen_batches takes as long as a row
            block = slice(start, start + _ROWS)
            scaled = self.numbers.scale_values(as_dense(rows.numbers[block]))
            self.numbers.write_outputs(scaled, out[block, :n_numeric])
            self.categories.encoder.encode(rows.codes[block], out[block, n_numeric:])

    def to_matrix(self, rows: UnscaledRows) -> Array:
        """Return rows as one matrix: numbers, and then codes."""
        return np.hstack([as_dense(rows.numbers), rows.codes])

    def from_matrix(self, matrix: Array, folds: Array | None = None) -> UnscaledRows:
        """Return the rows of a matrix in which columns were replaced, with their interactions.

        With folds, interactions are out of fold.
        """
        n_numbers = len(self.numbers.center)
        numbers, codes = matrix[:, :n_numbers], matrix[:, n_numbers:].astype(np.intp)
        if self.interactions is not None:
            statistics = self.categories.statistics
            n_statistics = 0 if statistics is None else len(statistics.columns)
            start = len(self.numeric_columns) + n_statistics
            n_pairs = len(self.interactions.coefficients)
            numbers = numbers.copy()
            numbers[:, start : start + n_pairs] = self._encode_interactions(numbers, codes, folds)
        return UnscaledRows(numbers, codes)

    @property
    def matrix_sources(self) -> Array:
        """The column of the table that each column of a matrix comes from.

        The source of an interaction is the categorical column.
        """
        return np.array([item.column for item in self._inputs()] + list(self.categories.columns))

    def name_kinds(self, names: Any) -> dict[Any, str]:
        """Return the public kind of each column, by its name or its position."""
        keys = range(len(self.kinds)) if names is None else names
        return {key: item.kind for key, item in zip(keys, self.kinds, strict=True)}

    def describe_columns(self, columns: TableColumns, rows: UnscaledRows) -> list[str]:
        """Return a line for each column of `fit`: kind, reason, missing values and levels."""
        sources, lines = self.matrix_sources.tolist(), []
        levels = dict(zip(self.categories.columns, self.categories.levels, strict=True))
        for column, item in enumerate(self.kinds):
            suffix, label = "", columns.label(column).removeprefix("Column")
            if column in levels:
                all_levels = {*levels[column].frequent, *levels[column].infrequent} - {None}
                suffix = f", {len(all_levels)} levels"
            if column in sources and column not in levels:
                is_nan = np.isnan(as_dense(rows.numbers[:, [sources.index(column)]]))
            else:
                is_nan = np.array([is_missing(value) for value in columns.values(column)])
            missing = f"{100 * is_nan.mean():.3g} % missing"
            lines.append(f"column{label}: {item.kind} ({item.reason}), {missing}{suffix}")
        return lines

    @property
    def n_embedded(self) -> int:
        """The number of scaled outputs, which come first, without the outputs of text."""
        inputs = self._inputs()
        return sum(inputs[i].type != "text" for i in self.numbers.input_columns[0])

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return self.numbers.n_outputs + self.categories.encoder.n_outputs

    def _inputs(self) -> list[OutputColumn]:
        """Return a description of each number that is scaled."""
        inputs = [OutputColumn("number", column, "") for column in self.numeric_columns]
        categories, statistics = self.categories, self.categories.statistics
        if statistics is not None:
            for i, class_ in zip(statistics.columns, statistics.classes, strict=True):
                suffix = "_target" if class_ is None else f"_target_{class_}"
                inputs.append(OutputColumn("target", categories.columns[i], suffix))
        if self.interactions is not None:
            pairs = zip(self.interactions.categories, self.interactions.numbers, strict=True)
            for category, number in pairs:
                suffix = f"_interaction_{self.numeric_columns[number]}"
                inputs.append(OutputColumn("target", categories.columns[category], suffix))
        for column, item in self.column_encodings.items():
            output_type = "text" if self.kinds[column].kind == "text" else "date"
            inputs += [OutputColumn(output_type, column, suffix) for suffix in item.suffixes]
        return inputs

    def outputs(self) -> list[OutputColumn]:
        """Return a description of each output, in order."""
        inputs, encoder = self._inputs(), self.categories.encoder
        scaled, two_valued, with_missing = self.numbers.input_columns
        outputs = [inputs[i] for i in scaled]
        outputs += [inputs[i]._replace(type="two_valued") for i in two_valued]
        outputs += [OutputColumn("missing", inputs[i].column, "_missing") for i in with_missing]
        for i, suffix in encoder.outputs():
            column = self.categories.columns[i]
            outputs.append(OutputColumn(encoder.output_type, column, suffix))
        return outputs


def _fit_column_encoding(
    columns: TableColumns, column: int, inferred: InferredKind, random_state: Any
) -> tuple[ColumnEncoding, Array, RobustScaling]:
    """Return the encoding of a column as several numbers, these numbers, and their scaling."""
    kind, label = inferred.kind, columns.label(column)
    values = columns.read(column, inferred)
    encoding: ColumnEncoding
    if kind == "date":
        encoding = DateEncoding.fit(values, label)
    elif kind == "time":
        encoding = TimeEncoding(label)
    else:
        encoding = TextEncoding.fit(values, label, check_random_state(random_state))
    matrix = encoding.encode(values)
    scaling = RobustScaling.fit(matrix)
    # One indicator is enough, because all numbers of a value are missing together.
    is_first = np.arange(matrix.shape[1]) == 0
    scaling = replace(scaling, with_missing=scaling.with_missing & is_first)
    # With one factor, a text counts like one number, and later components count less.
    return encoding, matrix, scaling.scale_together(matrix) if kind == "text" else scaling


def _join_columns(blocks: Sequence[Any]) -> Any:
    """Join matrices by columns; return a CSR array if the first one is sparse."""
    if not isinstance(blocks[0], np.ndarray):
        return sparse.hstack([blocks[0], *map(sparse.csr_array, blocks[1:])], format="csr")
    return np.hstack(blocks) if len(blocks) > 1 else blocks[0]
