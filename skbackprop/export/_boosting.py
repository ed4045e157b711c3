"""Gradient boosting of a tabular estimator as an expression: its trees as arrays of nodes."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from sklearn.dummy import DummyClassifier

from ..tabular._blend import MIN_PROBABILITY, CrossFittedEstimators, OrdinalTable
from ..utils.arrays import Array
from . import _expressions as ex
from ._expressions import AT_MOST, EQUALS, LEAF, Expr

# The raw prediction of a class that a clone has not seen, whose probability is then zero.
_UNSEEN = -1e4


def convert_boosting(component: CrossFittedEstimators, x: Expr) -> Expr:
    """Return the outputs of boosting for each fold: logs of probabilities, or a prediction.

    Parameters
    ----------
    component : CrossFittedEstimators
        The clones of gradient boosting.
    x : Expr
        The view "table" of the rows.

    Raises
    ------
    TypeError
        If other estimators are blended, or boosting encodes categories by itself.
    """
    n_classes, members = component.n_classes, component.estimators
    others = [
        each
        for each in members
        if not isinstance(each, DummyClassifier)
        and not isinstance(getattr(each, "_preprocessor", each), OrdinalTable | None)
    ]
    if others:
        raise TypeError(
            f"A blend with {type(others[0]).__name__} cannot be exported. Of other estimators only "
            "gradient boosting can, with its default of categorical_features: fit with "
            'blend="auto", or with blend=None.'
        )
    intercepts = np.zeros((len(members), n_classes or 1))
    trees, targets = list[dict[str, Array]](), list[Array]()
    for member, clone in enumerate(members):
        outputs = np.zeros(1, dtype=np.intp)
        if n_classes is not None:
            classes = clone.classes_
            intercepts[member] = _UNSEEN
            intercepts[member, classes] = 0.0
            outputs = classes[1:] if len(classes) == 2 else classes
        if isinstance(clone, DummyClassifier):
            continue
        intercepts[member, outputs] = clone._baseline_prediction.ravel()
        for iteration in clone._predictors:
            for tree, output in zip(iteration, outputs.tolist(), strict=True):
                nodes = _make_tree_nodes(tree, clone._preprocessor)
                n_nodes = len(nodes["modes"])
                trees.append(nodes | {"treeids": np.full(n_nodes, len(trees))})
                targets.append(np.full(n_nodes, member * len(intercepts.T) + output))
    sums: Any = np.isnan(ex.take_columns(x, [0])) * 0.0
    if trees:
        sums = ex.forest(x, _join(trees), np.concatenate(targets), intercepts.size)
        sums = ex.reshape(sums, intercepts.shape)
    # Not as base_values, which some runtimes add to outputs with trees only.
    raw = sums + intercepts
    if n_classes is not None:
        shares: Any = ex.softmax(raw)
        return cast(Expr, np.log(np.maximum(shares, MIN_PROBABILITY)))
    if members[0].loss in ("poisson", "gamma"):
        raw = np.exp(raw)
    return cast(Expr, np.maximum(raw, max(component.minimum, float(np.finfo(np.float32).min))))


def _make_tree_nodes(tree: Any, table: OrdinalTable | None) -> dict[str, Array]:
    """Return the nodes of a tree, as `forest` takes them.

    A split of categories becomes a chain of nodes, each of which compares with one of the codes
    that boosting has seen in the column.
    """
    nodes = tree.nodes
    is_leaf, column = nodes["is_leaf"].astype(bool), nodes["feature_idx"]
    own = {
        "modes": np.where(is_leaf, LEAF, AT_MOST),
        "featureids": column if table is None else table.columns[column],
        "values": np.where(is_leaf, nodes["value"], _round_thresholds(nodes["num_threshold"])),
        "truenodeids": nodes["left"].astype(np.int64),
        "falsenodeids": nodes["right"].astype(np.int64),
        "missing_value_tracks_true": nodes["missing_go_to_left"].astype(np.int64),
    }
    parts, n_nodes = [own], len(nodes)
    for node in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~is_leaf):
        assert table is not None
        ordinals = table.ordinals[column[node]]
        codes = np.flatnonzero(~np.isnan(ordinals))
        bits = tree.raw_left_cat_bitsets[nodes["bitset_idx"][node]]
        goes_left = np.unpackbits(bits.view(np.uint8), bitorder="little").astype(bool)
        # Missing and unknown categories equal none, and reach the end of the chain.
        ends = own["truenodeids"][node], own["falsenodeids"][node]
        missing_goes_left = bool(own["missing_value_tracks_true"][node])
        yes, no = ends[::-1] if missing_goes_left else ends
        compared = codes[goes_left[ordinals[codes].astype(np.intp)] != missing_goes_left]
        ids = np.array([node, *range(n_nodes, n_nodes + len(compared) - 1)])
        chain = {
            "modes": np.full(len(ids), EQUALS),
            "featureids": np.full(len(ids), own["featureids"][node]),
            "values": compared if len(compared) else np.array([-1.0]),
            "truenodeids": np.full(len(ids), yes),
            "falsenodeids": np.append(ids[1:], no),
            "missing_value_tracks_true": np.zeros(len(ids), dtype=np.int64),
        }
        for name, values in chain.items():
            own[name][node] = values[0]
        parts.append({name: values[1:] for name, values in chain.items()})
        n_nodes += len(ids) - 1
    return _join(parts) | {"nodeids": np.arange(n_nodes)}


def _join(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _round_thresholds(thresholds: Array) -> Array:
    """Return thresholds in single precision: the nearest numbers, of two equally near the lower.

    Scikit-learn's thresholds are values of training rows, or midpoints between two of them. Rounded
    rows then go the same way as the rows themselves, unless values on both sides are equal in
    single precision.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = thresholds.astype(np.float32)
        below = np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)
        above = np.nextafter(below, np.float32(np.inf))
        return np.where(above - thresholds < thresholds - below, above, below)
