"""Gradient boosting in safe files: its trees as a few arrays that are checked when they are loaded.

Scikit-learn follows the indices in a tree without checks, so a manipulated tree could read memory
beyond its arrays. Thousands of trees would also be slow to load one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from .._sklearn import PREDICTOR_RECORD_DTYPE, TreePredictor, _BinMapper
from ..utils.arrays import Array


@dataclass(frozen=True, eq=False)
class PackedTrees:
    """Trees of gradient boosting, and the categories that it encodes, as arrays.

    Parameters
    ----------
    nodes : structured array of shape (n_nodes,)
        The nodes of all trees.
    raw_bitsets, binned_bitsets : array of uint32 of shape (n_categorical_splits, 8)
        The sets of categories of all splits.
    n_nodes, n_bitsets : array of int of shape (n_trees,)
        Their numbers in each tree.
    n_per_iteration : int
        The number of trees of an iteration.
    categories : tuple of arrays or None
        The categories of each categorical column; None if there are none.
    """

    nodes: Array
    raw_bitsets: Array
    binned_bitsets: Array
    n_nodes: Array
    n_bitsets: Array
    n_per_iteration: int
    categories: tuple[Array, ...] | None

    @classmethod
    def pack(cls, boosting: Any) -> Self:
        """Pack the trees of gradient boosting."""
        trees = [tree for iteration in boosting._predictors for tree in iteration]
        categories = None
        if boosting._preprocessor is not None:
            encoder = boosting._preprocessor.named_transformers_["encoder"]
            categories = tuple(encoder.categories_)
        return cls(
            np.concatenate([tree.nodes for tree in trees]),
            np.concatenate([tree.raw_left_cat_bitsets for tree in trees]),
            np.concatenate([tree.binned_left_cat_bitsets for tree in trees]),
            np.array([len(tree.nodes) for tree in trees]),
            np.array([len(tree.raw_left_cat_bitsets) for tree in trees]),
            len(boosting._predictors[0]),
            categories,
        )

    def unpack(self, is_categorical: Array) -> list[list[Any]]:
        """Return the trees of each iteration.

        Parameters
        ----------
        is_categorical : array of bool of shape (n_columns,)
            The columns of which splits may have sets of categories.

        Raises
        ------
        ValueError
            If a node leads outside of its tree or back, or to a column or set that does not exist.
        """
        nodes = self.nodes.astype(PREDICTOR_RECORD_DTYPE, casting="same_kind")
        bitsets = [
            np.ascontiguousarray(each.astype(np.uint32, casting="same_kind"))
            for each in (self.raw_bitsets, self.binned_bitsets)
        ]
        sizes, n_sets = np.asarray(self.n_nodes), np.asarray(self.n_bitsets)
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        own = np.arange(len(nodes)) - starts
        size, n_own_sets = np.repeat(sizes, sizes), np.repeat(n_sets, sizes)
        is_split = nodes["is_leaf"] == 0
        leads_on = np.ones(len(nodes), dtype=bool)
        for child in (nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)):
            leads_on &= (child > own) & (child < size)
        column = nodes["feature_idx"]
        has_column = (column >= 0) & (column < len(is_categorical))
        is_set = nodes["is_categorical"] != 0
        has_set = (nodes["bitset_idx"] < n_own_sets) & is_categorical[
            np.where(has_column, column, 0)
        ]
        is_valid = leads_on & has_column & (has_set | ~is_set)
        if not (
            (sizes > 0).all()
            and (n_sets >= 0).all()
            and sizes.sum() == len(nodes)
            and all(each.shape == (n_sets.sum(), 8) for each in bitsets)
            and is_valid[is_split].all()
        ):
            raise ValueError("the trees of gradient boosting are not valid")
        ends, set_ends = np.cumsum(sizes)[:-1], np.cumsum(n_sets)[:-1]
        raw, binned = (np.split(each, set_ends) for each in bitsets)
        trees = [
            TreePredictor(*parts) for parts in zip(np.split(nodes, ends), binned, raw, strict=True)
        ]
        n_each = self.n_per_iteration
        return [trees[start : start + n_each] for start in range(0, len(trees), n_each)]


def pack_boosting(boosting: Any) -> None:
    """Replace the trees of fitted gradient boosting by arrays, in place, if it can be restored."""
    if not getattr(boosting, "_predictors", None):
        return
    preprocessor = boosting._preprocessor
    if preprocessor is not None:
        encoder = preprocessor.named_transformers_["encoder"]
        has_numbers = all(each.dtype.kind == "f" for each in encoder.categories_)
        if hasattr(preprocessor, "feature_names_in_") or not has_numbers:
            return
    boosting._predictors = PackedTrees.pack(boosting)
    boosting._preprocessor = None


def unpack_boosting(boosting: Any) -> None:
    """Restore the trees of gradient boosting, in place.

    Raises
    ------
    ValueError
        If they could read memory beyond their arrays.
    """
    packed = getattr(boosting, "_predictors", None)
    if not isinstance(packed, PackedTrees):
        return
    mapper, n_columns = boosting._bin_mapper, boosting.n_features_in_
    is_categorical = np.asarray(mapper.is_categorical_, dtype=bool)
    for each in (boosting, mapper):  # attributes must not take the place of methods
        if any(callable(getattr(type(each), name, None)) for name in vars(each)):
            raise ValueError("gradient boosting has attributes with names of methods")
    n_categories = 0 if packed.categories is None else len(packed.categories)
    is_first = np.arange(n_columns) < n_categories
    if type(mapper) is not _BinMapper or not np.array_equal(is_categorical, is_first):
        raise ValueError("the columns of gradient boosting are not valid")
    boosting._predictors = packed.unpack(is_categorical)
    boosting._preprocessor = None
    if packed.categories is not None:
        boosting._preprocessor = _make_preprocessor(packed.categories, boosting.is_categorical_)


def _make_preprocessor(categories: tuple[Array, ...], is_categorical: Array) -> ColumnTransformer:
    """Return the transformer that gradient boosting fits for these categories.

    Raises
    ------
    ValueError
        If the mask has not as many columns.
    """
    is_categorical = np.asarray(is_categorical, dtype=bool)
    table = np.zeros((max(map(len, categories)), len(is_categorical)))
    if is_categorical.sum() != len(categories) or not all(map(len, categories)):
        raise ValueError("the categories of gradient boosting are not valid")
    columns = [np.resize(each, len(table)) for each in categories]
    table[:, is_categorical] = np.column_stack(columns)
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        dtype=np.float64,
    )
    parts = [
        ("encoder", encoder, is_categorical),
        ("numerical", FunctionTransformer(), ~is_categorical),
    ]
    return ColumnTransformer(parts).set_output(transform="default").fit(table)
