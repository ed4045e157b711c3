"""Fitted gradient boosting: its thresholds, encoding of categories, and arrays of safe files.

Safe files have its trees as a few arrays, which are checked when they are loaded. Scikit-learn
follows the indices in a tree without checks, so a manipulated tree could read memory beyond its
arrays. Thousands of trees would also be slow to load one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .._sklearn import PREDICTOR_RECORD_DTYPE, TreePredictor, _BinMapper
from ..utils.arrays import Array

# The number of codes that a set of categories has a bit for.
_N_CODES = 256


def remove_ordinal_encoding(boosting: Any, is_nominal: Array) -> None:
    """Let fitted gradient boosting split codes of categories without encoding them, in place.

    It encodes categories as ordinals, and moves their columns to the front, also of every new row,
    which takes as long as the prediction. Columns of codes from 0 to 255 need neither: its trees
    can hold the codes. Predictions stay the same.

    Parameters
    ----------
    boosting : estimator
        The fitted estimator.
    is_nominal : array of bool of shape (n_columns,)
        The columns that hold such codes, or NaN. Other categories are left as they are.
    """
    is_categorical = boosting.is_categorical_
    if boosting._preprocessor is None or (is_categorical & ~is_nominal).any():
        return
    encoder, mapper = boosting._preprocessor.named_transformers_["encoder"], boosting._bin_mapper
    codes = [each[~np.isnan(each)].astype(np.uint8) for each in encoder.categories_]
    columns = np.argsort(~is_categorical, kind="stable")
    for tree in (tree for trees in boosting._predictors for tree in trees):
        nodes = tree.nodes
        for node in nodes[(nodes["is_categorical"] != 0) & (nodes["is_leaf"] == 0)]:
            bits = tree.raw_left_cat_bitsets[node["bitset_idx"]]
            own = codes[node["feature_idx"]]
            is_left = np.zeros(_N_CODES, dtype=bool)
            is_left[own[unpack_bitset(bits)[: len(own)]]] = True
            bits[:] = np.packbits(is_left, bitorder="little").view(bits.dtype)
        nodes["feature_idx"] = columns[nodes["feature_idx"]]
    thresholds = [np.empty(0)] * len(columns)
    for at, column in enumerate(columns):
        in_order = mapper.bin_thresholds_[at]
        thresholds[column] = codes[at].astype(np.float64) if at < len(codes) else in_order
    mapper.bin_thresholds_ = thresholds
    mapper.is_categorical_ = is_categorical.astype(np.uint8)
    boosting._preprocessor = None


def round_thresholds(boosters: Sequence[Any], X: Array) -> None:
    """Round the thresholds of trees to single precision, so that exported trees agree, in place.

    Scikit-learn's thresholds are values of the training data, or midpoints between two, in double
    precision. Once both are rounded, as in ONNX, a value on a threshold may be above it. A rounded
    threshold has the same rows on each side, rounded or not. Where there is none, because values
    on both sides are equal in single precision, the threshold stays as it is.

    Parameters
    ----------
    boosters : sequence of estimators
        Fitted gradient boosting. Those with an encoding of categories of their own, which have
        columns in another order and cannot be exported, are left as they are.
    X : array of float64 of shape (n_samples, n_columns)
        The rows that stay on their sides.
    """
    boosters = [each for each in boosters if each._preprocessor is None]
    nodes = [tree.nodes for own in boosters for trees in own._predictors for tree in trees]
    if not nodes:
        return
    joined = np.concatenate(nodes)
    thresholds, columns = joined["num_threshold"], joined["feature_idx"]
    # Splits between missing and other values have an infinite threshold.
    is_number = (joined["is_leaf"] == 0) & (joined["is_categorical"] == 0) & np.isfinite(thresholds)
    for column in np.unique(columns[is_number]):
        at = np.flatnonzero(is_number & (columns == column))
        own, inverse = np.unique(thresholds[at], return_inverse=True)
        thresholds[at] = _rounded_between(own, X[:, column])[inverse]
    starts = np.cumsum([len(each) for each in nodes])[:-1]
    for each, changed in zip(nodes, np.split(thresholds, starts), strict=True):
        each["num_threshold"] = changed


def _rounded_between(thresholds: Array, values: Array) -> Array:
    """Return thresholds in single precision that split values, rounded or not, in the same way."""
    above = round_up(thresholds)
    if (above == thresholds).all():
        return thresholds
    in_order = np.concatenate([[-np.inf], np.sort(values[~np.isnan(values)]), [np.inf]])
    n_left = np.searchsorted(in_order, thresholds, side="right")
    left, right = in_order[n_left - 1], in_order[n_left]
    with np.errstate(over="ignore"):
        limit = np.minimum(right, right.astype(np.float32))
    below = np.maximum(round_down(thresholds), round_up(left))
    rounded = np.where(above < limit, above, np.where(below < limit, below, round_up(left)))
    return np.where(np.isfinite(rounded) & (rounded < limit), rounded, thresholds)


def round_down(numbers: Array) -> Array:
    """Return the largest numbers in single precision that are not above the given ones.

    A number in single precision is at most either of both, or of neither.
    """
    with np.errstate(over="ignore"):
        rounded = numbers.astype(np.float32)
    return np.where(rounded > numbers, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def round_up(numbers: Array) -> Array:
    """Return the smallest numbers in single precision that are not below the given ones."""
    return -round_down(-numbers)


def unpack_bitset(bits: Array) -> Array:
    """Return the bits of a set of categories as an array of bool of shape (256,)."""
    by_bit: Array = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(bool)
    return by_bit


@dataclass(frozen=True, eq=False)
class PackedTrees:
    """Trees of gradient boosting as arrays.

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
    """

    nodes: Array
    raw_bitsets: Array
    binned_bitsets: Array
    n_nodes: Array
    n_bitsets: Array
    n_per_iteration: int

    @classmethod
    def pack(cls, boosting: Any) -> Self:
        """Pack the trees of gradient boosting."""
        trees = [tree for iteration in boosting._predictors for tree in iteration]
        return cls(
            np.concatenate([tree.nodes for tree in trees]),
            np.concatenate([tree.raw_left_cat_bitsets for tree in trees]),
            np.concatenate([tree.binned_left_cat_bitsets for tree in trees]),
            np.array([len(tree.nodes) for tree in trees]),
            np.array([len(tree.raw_left_cat_bitsets) for tree in trees]),
            len(boosting._predictors[0]),
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
    """Replace the trees of fitted gradient boosting by arrays, in place.

    Gradient boosting with an encoding of categories of its own stays as it is.
    """
    if getattr(boosting, "_predictors", None) and boosting._preprocessor is None:
        boosting._predictors = PackedTrees.pack(boosting)


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
    mapper = boosting._bin_mapper
    for each in (boosting, mapper):  # attributes must not take the place of methods
        if any(callable(getattr(type(each), name, None)) for name in vars(each)):
            raise ValueError("gradient boosting has attributes with names of methods")
    is_categorical = np.asarray(mapper.is_categorical_, dtype=bool)
    has_columns = is_categorical.shape == (boosting.n_features_in_,)
    if type(mapper) is not _BinMapper or boosting._preprocessor is not None or not has_columns:
        raise ValueError("the columns of gradient boosting are not valid")
    boosting._predictors = packed.unpack(is_categorical)
