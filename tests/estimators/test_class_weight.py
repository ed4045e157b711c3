"""A weight of a class is a weight of its rows, as by scikit-learn's `compute_sample_weight`.

Fits with `class_weight` are compared, to the bit, with fits to rows that are weighted by hand: over
all kinds of labels and all solvers, and in pieces.
"""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from skbackprop import BackpropClassifier
from skbackprop.optimizers import SOLVERS
from support import (
    answers,
    class_data,
    few_epochs,
    label_data,
    pairs,
    quick,
    same_bits,
    same_values,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N = 60
X, FOUR = class_data(N, n_classes=4)
TWO = (FOUR > 0).astype(int)
LABELS = label_data(N)[1]
WORDS = np.array(["ant", "bee", "cat", "dog"])[FOUR]
ROWS = np.random.RandomState(0).uniform(0.1, 3, N) * (np.arange(N) % 5 > 0)

OF_NUMBERS = ["balanced", {0: 5, 1: 0.5, 2: 1, 3: np.float32(2)}, {0: 0.1}, {np.int64(1): 0}, {}]
OF_WORDS = ["balanced", {"ant": 5.0, "dog": 0.5}]
OF_TWO = ["balanced", {0: 0.2, 1: 3.0}, {1: 10}]
# Of each kind of labels: y, and weights of its classes.
KINDS = {
    "four classes": (FOUR, OF_NUMBERS),
    "two classes": (TWO, OF_TWO),
    "signs": (2 * TWO - 1, ["balanced", {-1: 0.3}]),
    "booleans": (TWO == 1, ["balanced", {False: 0.3, True: 2}]),
    "whole floats": (FOUR.astype(float), OF_NUMBERS),
    "one class": (np.full(N, 7), ["balanced", {7: 3.0}]),
    "words": (WORDS, OF_WORDS),
    "objects": (WORDS.astype(object), OF_WORDS),
    "a series": (pd.Series(FOUR, index=np.arange(N) + 5), OF_NUMBERS),
    "a series of strings": (pd.Series(WORDS, dtype="string"), OF_WORDS),
    "categories": (pd.Series(pd.Categorical(WORDS, ["dog", "bee", "ant", "cat"])), OF_WORDS),
    "a list": (WORDS.tolist(), OF_WORDS),
    "labels": (LABELS, ["balanced"]),
    "sparse labels": (sparse.csr_array(LABELS), ["balanced"]),
    "a label that is nowhere": (np.c_[LABELS, np.zeros(N, int)], ["balanced"]),
}
CASES = [
    pytest.param(y, class_weight, id=f"{kind}-{class_weight}")
    for kind, (y, weights) in KINDS.items()
    for class_weight in weights
]


def as_array(y):
    """Return labels as scikit-learn's functions take them."""
    return y.toarray() if sparse.issparse(y) else np.asarray(y)


def by_hand(class_weight, y, weight=None):
    """Return what rows weigh, by scikit-learn's functions.

    Where rows have weights, those of balanced classes are LogisticRegression's.
    """
    y = as_array(y)
    if weight is None:
        return compute_sample_weight(class_weight, y)
    columns = np.atleast_2d(y.T)
    found = []
    for labels in columns:
        classes, codes = np.unique(labels, return_inverse=True)
        of_classes = compute_class_weight(
            class_weight, classes=classes, y=labels, sample_weight=weight
        )
        found.append(of_classes[codes])
    return weight * np.prod(found, axis=0)


def assert_same(model, expected):
    """Assert that two fitted networks have the same weights and losses, and say the same."""
    assert same_bits(model, expected)
    (labels, *others), (expected_labels, *expected_others) = answers(model, X), answers(expected, X)
    assert as_array(labels).tolist() == as_array(expected_labels).tolist()
    assert same_values(others, expected_others)
    assert same_values(model.validation_scores_, expected.validation_scores_)


# ------------------------------------------------------------------------- equal to weighted rows


@pytest.mark.parametrize("weight", [None, ROWS], ids=["", "weighted"])
@pytest.mark.parametrize("y, class_weight", CASES)
def test_class_weights_equal_those_of_scikit_learn(y, class_weight, weight):
    model = quick(BackpropClassifier, class_weight=class_weight)
    expected = by_hand(class_weight, y, weight)
    assert_same(model.fit(X, y, weight), quick(BackpropClassifier).fit(X, y, expected))


SETTINGS = {
    **{name: {"solver": name} for name in SOLVERS},
    "small batches": {"batch_size": 7},
    "members": {"n_estimators": 3},
    "dropout": {"dropout": 0.3},
    "batch normalization": {"normalization": "batch"},
    "float32": {"dtype": "float32"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "hinge": {"loss": "hinge"},
    "label smoothing": {"label_smoothing": 0.2},
    "averages": {"average": "ema"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "early stopping by lbfgs": {"early_stopping": True, "solver": "lbfgs"},
}


@pytest.mark.parametrize(
    "name, is_sparse, kind",
    pairs([*SETTINGS], [False, True], ["four classes", "two classes", "labels"]),
)
def test_weights_of_classes_are_weights_of_rows_in_all_training(name, is_sparse, kind):
    settings = SETTINGS[name]
    y, (*_, class_weight) = KINDS[kind]
    x = sparse.csr_array(X * (X > 0)) if is_sparse else X
    model = quick(BackpropClassifier, class_weight=class_weight, **settings).fit(x, y, ROWS)
    by_rows = quick(BackpropClassifier, **settings).fit(x, y, by_hand(class_weight, y, ROWS))
    assert_same(model, by_rows)


def test_classes_whose_rows_weigh_nothing_are_not_balanced():
    are_there = FOUR < 3
    model = quick(BackpropClassifier, class_weight="balanced").fit(X, FOUR, are_there)
    weight = np.zeros(N)
    weight[are_there] = by_hand("balanced", FOUR[are_there])
    assert_same(model, quick(BackpropClassifier).fit(X, FOUR, weight))


@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.5}])
@pytest.mark.parametrize("y", [TWO, FOUR], ids=["two classes", "four classes"])
def test_without_hidden_layers_it_is_scikit_learns_logistic_regression(y, class_weight):
    settings = {"alpha": 2.0, "solver": "lbfgs", "max_iter": 10_000, "tol": 1e-9}
    ours = BackpropClassifier((), class_weight=class_weight, random_state=0, **settings)
    theirs = LogisticRegression(C=1 / 2.0, class_weight=class_weight, tol=1e-9, max_iter=10_000)
    expected = theirs.fit(X, y, ROWS).predict_proba(X)
    np.testing.assert_allclose(ours.fit(X, y, ROWS).predict_proba(X), expected, atol=1e-4)


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize("wrong", ["balance", 3, [{0: 1.0}], np.ones(4), True], ids=repr)
def test_invalid_class_weight_is_an_error(wrong):
    model = quick(BackpropClassifier, class_weight=wrong)
    with pytest.raises(ValueError, match="'class_weight' parameter of BackpropClassifier must be"):
        model.fit(X, FOUR)


WRONG = {
    "a negative weight": (FOUR, {1: -0.5}, ["class_weight must", "non-negative", "-0.5", "1"]),
    "no number": (FOUR, {1: np.nan}, ["finite", "nan for the class 1"]),
    "more than a float holds": (FOUR, {1: 10**400}, ["finite", "for the class 1"]),
    "a word": (WORDS, {"ant": "much"}, ["finite", "'much' for the class 'ant'"]),
    "a flag": (FOUR, {1: True}, ["finite", "True for the class 1"]),
    "nothing": (FOUR, {1: None}, ["finite", "None for the class 1"]),
    "no class": (
        FOUR,
        {0: 1, 9: 2.0},
        ["must contain only classes of `y`, got [9]", "[0 1 2 3]", "`y`"],
    ),
    "a number of words": (WORDS, {0: 1.0}, ["got [0]", "'ant' 'bee' 'cat' 'dog'"]),
    "a word of numbers": (FOUR, {"1": 1.0}, ["got ['1']", "[0 1 2 3]"]),
    "a dict for labels": (LABELS, {0: 1, 1: 5}, ["got {0: 1.0, 1: 5.0}", "compute_sample_weight"]),
    "all zero": (TWO, {0: 0, 1: 0.0}, ["at least one row a positive", "class_weight="]),
    "too large": (TWO, {0: 1e308, 1: 1e308}, ["class_weight=", "too large for a float", "Scale"]),
}


@pytest.mark.parametrize("is_partial", [False, True], ids=["fit", "partial_fit"])
@pytest.mark.parametrize("y, class_weight, says", WRONG.values(), ids=WRONG)
def test_errors_name_the_problem_and_change_nothing(y, class_weight, says, is_partial):
    model = quick(BackpropClassifier).fit(X, y)
    before = copy.deepcopy(model)
    model.set_params(class_weight=class_weight)
    with pytest.raises(ValueError, match="class_weight") as error:
        model.partial_fit(X, y) if is_partial else model.fit(X, y)
    assert all(part in str(error.value) for part in says), error.value
    assert_same(model.set_params(class_weight=None), before)


# ---------------------------------------------------------------------- in pieces, and once more


def test_class_weight_may_change_in_a_warm_start():
    settings = {"warm_start": True}
    model, by_rows = (quick(BackpropClassifier, **settings) for _ in range(2))
    for class_weight in (None, "balanced", {0: 3.0}, {0: 1.0, 2: 5}, None):
        model.set_params(class_weight=class_weight).fit(X, FOUR)
        by_rows.fit(X, FOUR, None if class_weight is None else by_hand(class_weight, FOUR))
        assert_same(model, by_rows)
    model.set_params(class_weight={1: 4.0}).partial_fit(X, FOUR)
    by_rows.partial_fit(X, FOUR, by_hand({1: 4.0}, FOUR))
    assert_same(model, by_rows)
