"""Ordinal encoding of categories for fitted gradient boosting, by a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.arrays import Array, IndexArray

# Codes of categories are from 0 to 255, as gradient boosting allows.
_N_CODES = 256


@dataclass(frozen=True, eq=False)
class OrdinalTable:
    """Ordinal encoding of columns of codes, in place of scikit-learn's in gradient boosting.

    It gives the same values. Scikit-learn's encoder takes longer than the trees for a few rows.

    Parameters
    ----------
    columns : array of int of shape (n_columns,)
        The order in which the trees number the columns: those of codes first.
    ordinals : array of shape (n_coded, 257)
        The ordinal of each code, NaN for codes that were not seen in training. The last place is
        for missing values.
    """

    columns: IndexArray
    ordinals: Array

    def transform(self, X: Array) -> Array:
        """Return rows with ordinals in place of codes, and the columns in their order."""
        X = np.asarray(X, dtype=np.float64)[:, self.columns]
        coded = slice(len(self.ordinals))
        codes = np.nan_to_num(X[:, coded], nan=_N_CODES).astype(np.intp)
        X[:, coded] = self.ordinals[np.arange(len(self.ordinals)), codes]
        return X


def replace_ordinal_encoding(boosting: Any, is_nominal: Array) -> None:
    """Replace the encoding of categories of fitted gradient boosting by a table, in place.

    Predictions stay the same.

    Parameters
    ----------
    boosting : estimator
        The fitted estimator.
    is_nominal : array of bool of shape (n_columns,)
        The columns that hold codes from 0 to 255, or NaN. If others are categorical, the encoding
        stays as it is.
    """
    is_categorical = boosting.is_categorical_
    if is_categorical is None or (is_categorical & ~is_nominal).any():
        return
    categories = boosting._preprocessor.named_transformers_["encoder"].categories_
    ordinals = np.full((len(categories), _N_CODES + 1), np.nan)
    for row, seen in zip(ordinals, categories, strict=True):
        codes = seen[~np.isnan(seen)].astype(np.intp)
        row[codes] = np.arange(len(codes))
    columns = np.argsort(~is_categorical, kind="stable")
    boosting._preprocessor = OrdinalTable(columns, ordinals)
