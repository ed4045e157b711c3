"""Splits into training and held-out rows, and folds, also of whole groups."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import BaseCrossValidator, GroupKFold, StratifiedGroupKFold

from .._sklearn import _approximate_mode
from ..utils.arrays import Array, IndexArray

# With more groups than this, folds have about the right shares of classes by chance, and
# scikit-learn's search for stratified folds takes a millisecond for each group.
_MAX_STRATIFIED = 1000


def train_validation_split(
    n_rows: int, n_held_out: int, rng: np.random.RandomState, classes: Array | None
) -> tuple[IndexArray, IndexArray]:
    """Return the rows to train on and the rows held out, both in random order.

    They equal those of scikit-learn's `train_test_split`, which makes lists of all row numbers: for
    a million rows they take more memory than a fit may.

    Parameters
    ----------
    n_rows, n_held_out : int
        The number of rows, and how many of them to hold out: at least 2, and not all.
    rng : RandomState
        Draws the split.
    classes : array of int of shape (n_rows,) or None
        The class of each row, to stratify by. They are ignored if a class has fewer than two rows,
        or if one side has fewer rows than there are classes.
    """
    if classes is not None:
        counts = np.bincount(classes)
        counts = counts[counts > 0]
        if counts.min() >= 2 and min(n_held_out, n_rows - n_held_out) >= len(counts):
            return _stratified_split(n_held_out, rng, classes, counts)
    order = rng.permutation(n_rows)
    return order[n_held_out:], order[:n_held_out]


def _stratified_split(
    n_held_out: int, rng: np.random.RandomState, classes: Array, counts: Array
) -> tuple[IndexArray, IndexArray]:
    n_train = len(classes) - n_held_out
    train, held_out = np.empty(n_train, dtype=np.intp), np.empty(n_held_out, dtype=np.intp)
    train_counts = _approximate_mode(counts, n_train, rng)
    held_out_counts = _approximate_mode(counts - train_counts, n_held_out, rng)
    i = j = 0
    for label, n, m in zip(np.unique(classes), train_counts, held_out_counts, strict=True):
        rows = np.flatnonzero(classes == label)
        rows = rows[rng.permutation(len(rows))]
        train[i : i + n], held_out[j : j + m] = rows[:n], rows[n : n + m]
        i, j = i + n, j + m
    # A shuffle in place draws what a permutation draws.
    rng.shuffle(train)
    rng.shuffle(held_out)
    return train, held_out


def draw_folds(
    n_rows: int, n_folds: int, rng: np.random.RandomState, classes: Array | None
) -> Array:
    """Return the fold of each row, drawn at random.

    The sizes of folds, and the numbers of rows of any class in them, differ by one at most.

    Parameters
    ----------
    n_rows, n_folds : int
        The number of rows, and of folds, no more than rows.
    rng : RandomState
        Draws the split.
    classes : array of int of shape (n_rows,) or None
        The class of each row.
    """
    order = rng.permutation(n_rows)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    folds = np.empty(n_rows, dtype=np.intp)
    # The sorted rows go to the folds in turn, so class counts differ by one row at most.
    folds[order] = np.arange(n_rows) % n_folds
    return folds


def draw_group_folds(
    groups: Array,
    n_folds: int,
    rng: np.random.RandomState,
    classes: Array | None,
    has_weight: Array | None = None,
) -> Array:
    """Return the fold of each row, drawn at random without splitting a group.

    Folds have about equal sizes and, with up to a thousand groups, about equal shares of classes,
    as far as the groups allow.

    Parameters
    ----------
    groups : array of int of shape (n_rows,)
        The group of each row, from 0 on.
    n_folds : int
        The number of folds, at most the number of groups with weight.
    rng : RandomState
        Draws the split.
    classes : array of int of shape (n_rows,) or None
        The class of each row.
    has_weight : array of bool of shape (n_rows,) or None, default=None
        Which rows have a weight above zero; None for all. Each fold has such rows; groups without
        weight are assigned separately.
    """
    n_groups = int(groups.max()) + 1
    if has_weight is not None:
        is_weighted = (np.bincount(groups, has_weight) > 0)[groups]
        if not is_weighted.all():
            folds: Array = rng.randint(n_folds, size=n_groups)[groups]
            _, weighted_groups = np.unique(groups[is_weighted], return_inverse=True)
            weighted_classes = None if classes is None else classes[is_weighted]
            folds[is_weighted] = draw_group_folds(weighted_groups, n_folds, rng, weighted_classes)
            return folds
    # Splitters take groups of one size in the order of their numbers, which are shuffled.
    shuffled_groups = rng.permutation(n_groups)[groups]
    seed = rng.randint(np.iinfo(np.int32).max)
    if (
        classes is not None
        and n_groups <= _MAX_STRATIFIED
        and n_folds <= np.bincount(classes).max()
    ):
        with warnings.catch_warnings():  # classes may have fewer rows than folds
            warnings.simplefilter("ignore", UserWarning)
            splits = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
            folds = folds_of_splitter(splits, classes, shuffled_groups)
        if np.bincount(folds, minlength=n_folds).all():
            return folds
    return folds_of_splitter(GroupKFold(n_folds), shuffled_groups, shuffled_groups)


# Groups are divided into this number of parts, some of which are held out.
_N_PARTS = 20


def group_train_validation_split(
    groups: Array,
    share: float,
    rng: np.random.RandomState,
    classes: Array | None,
    weight: Array | None,
) -> tuple[IndexArray, IndexArray]:
    """Return the training rows and the held-out rows, without splitting a group.

    Both sides have rows with weight, and are stratified as by `draw_group_folds`.

    Parameters
    ----------
    groups : array of int of shape (n_rows,)
        The group of each row, from 0 on.
    share : float
        The approximate share of the rows to hold out, in steps of a twentieth.
    rng : RandomState
        Draws the split.
    classes : array of int of shape (n_rows,) or None
        The class of each row.
    weight : array of shape (n_rows,) or None
        The weight of each row.

    Raises
    ------
    ValueError
        If there are fewer than two groups with weight.
    """
    n_parts = min(_N_PARTS, n_weighted_groups(groups, weight))
    if n_parts < 2:
        raise ValueError(
            "groups must contain at least 2 groups with positive weight for early_stopping, one "
            "to train on and one to hold out, got 1. Use rows of more groups, fit without groups, "
            "or set early_stopping=False."
        )
    has_weight = None if weight is None else weight > 0
    parts = draw_group_folds(groups, n_parts, rng, classes, has_weight)
    is_held_out = parts < min(max(1, round(share * n_parts)), n_parts - 1)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def n_weighted_groups(groups: Array, weight: Array | None) -> int:
    """Return the number of groups that have rows with weight."""
    return len(np.unique(groups if weight is None else groups[weight > 0]))


def are_groups_whole(groups: Array, parts: Sequence[IndexArray]) -> bool:
    """Return whether no group has rows in several parts."""
    n_in_parts = sum(len(np.unique(groups[rows])) for rows in parts)
    return n_in_parts == len(np.unique(groups))


def folds_of_splitter(splits: BaseCrossValidator, classes: Array, groups: Array | None) -> Array:
    """Return the number of the split that holds out each row."""
    folds = np.empty(len(classes), dtype=np.intp)
    for fold, (_, held_out) in enumerate(splits.split(classes, classes, groups)):
        folds[held_out] = fold
    return folds
