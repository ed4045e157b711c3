"""How columns of many levels are encoded: by what the target is, on average, where each occurs.

scikit-learn's `TargetEncoder` learns it, out of fold for the training rows. What it learns is
kept as a table for each output, so that a row is encoded by looking its codes up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.model_selection import KFold, PredefinedSplit
from sklearn.preprocessing import TargetEncoder
from sklearn.utils import check_random_state

from ..estimators._validation import validated_labels, validated_numbers
from ..training.validation_split import group_k_fold_indices
from ..utils.arrays import Array

N_FOLDS = 5


@dataclass(frozen=True)
class TargetEncoding:
    """A statistic of the target for each code of each of several columns.

    There is one output for each column, or of several classes one for each of them.
    """

    tables: tuple[Array, ...]  # of each output, from code to statistic
    columns: tuple[int, ...]  # of each output, the column that it is made of
    classes: tuple[Any, ...]  # of each output, the class that it is about; None for numbers

    @classmethod
    def learn(
        cls,
        codes: Array,
        y: Any,
        target_type: str,
        random_state: Any,
        groups: Array | None = None,
    ) -> tuple[Self, Array]:
        """Learn from codes (n, k) and targets; groups are those of rows that belong together.

        Returns
        -------
        statistics : TargetStatistics
            For rows to come.
        out_of_fold : array of shape (n, n_outputs)
            The outputs for the training rows, each learned from other rows, of other groups.
        """
        y = validated_numbers(y) if target_type == "continuous" else validated_labels(y)
        n_folds = min(N_FOLDS, len(codes))
        folds: Any = KFold(n_folds, shuffle=True, random_state=random_state)
        if groups is not None:
            rng = check_random_state(random_state)
            fold_of = group_k_fold_indices(groups, min(N_FOLDS, int(groups.max()) + 1), rng, None)
            folds = PredefinedSplit(fold_of)
        encoder = TargetEncoder(target_type=target_type, cv=folds)
        out_of_fold = encoder.fit_transform(codes, y)
        several = encoder.target_type_ == "multiclass"
        classes = list(encoder.classes_) if several else [None]
        n_columns = codes.shape[1]
        means = np.tile(np.atleast_1d(encoder.target_mean_), n_columns)
        tables = [
            np.concatenate([[mean], table])
            for mean, table in zip(means, encoder.encodings_, strict=True)
        ]
        columns = np.repeat(np.arange(n_columns), len(classes))
        learned = cls(tuple(tables), tuple(columns.tolist()), tuple(classes * n_columns))
        return learned, out_of_fold

    def encode(self, codes: Array) -> Array:
        """Return the outputs for codes (n, k): the target's mean for those that are unknown."""
        statistics = np.empty((len(codes), len(self.tables)))
        for output, (table, column) in enumerate(zip(self.tables, self.columns, strict=True)):
            statistics[:, output] = table[codes[:, column]]
        return statistics
