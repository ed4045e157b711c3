"""Is a weight of a class a weight of its rows? scikit-learn's `compute_sample_weight` says so.

Fits with `class_weight` are compared, to the bit, with fits to rows that are weighted by hand: over
all kinds of labels and all solvers, in pieces, in stacks and in searches.
"""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import scale
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.estimator_checks import check_class_weight_balanced_classifiers

from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.estimators._fit_context import FitArguments
from skbackprop.estimators._fit_many import FitJob, fit_many
from skbackprop.estimators.base import make_fit_context
from skbackprop.inspection import find_learning_rate
from skbackprop.optimizers import SOLVERS
from skbackprop.training import loop
from support import (
    answers,
    assert_same_search,
    class_data,
    few_epochs,
    label_data,
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


def weights_in(model, y, weight=None):
    """Return what the rows weigh when training begins."""
    return make_fit_context(model, FitArguments(X, y, weight)).runs[0].table.weight


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
    assert weights_in(model, y, weight).tolist() == expected.tolist()
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


@pytest.mark.parametrize("kind", ["four classes", "two classes", "labels"])
@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_weights_of_classes_are_weights_of_rows_in_all_training(settings, is_sparse, kind):
    y, (*_, class_weight) = KINDS[kind]
    x = sparse.csr_array(X * (X > 0)) if is_sparse else X
    model = quick(BackpropClassifier, class_weight=class_weight, **settings).fit(x, y, ROWS)
    by_rows = quick(BackpropClassifier, **settings).fit(x, y, by_hand(class_weight, y, ROWS))
    assert_same(model, by_rows)


def test_without_weights_of_classes_rows_have_no_weights():
    model = quick(BackpropClassifier)
    assert weights_in(model, FOUR) is None
    assert weights_in(model, FOUR, ROWS).tolist() == ROWS.tolist()


def test_rows_of_weight_zero_do_not_count():
    are_there = FOUR < 3
    model = quick(BackpropClassifier, class_weight="balanced")
    found = weights_in(model, FOUR, are_there.astype(float))
    assert found[are_there].tolist() == by_hand("balanced", FOUR[are_there]).tolist()
    assert not found[~are_there].any()


@pytest.mark.parametrize("class_weight", ["balanced", {0: 5.0, 1: 0.5}])
@pytest.mark.parametrize("y", [TWO, FOUR], ids=["two classes", "four classes"])
def test_without_hidden_layers_it_is_scikit_learns_logistic_regression(y, class_weight):
    settings = {"alpha": 2.0, "solver": "lbfgs", "max_iter": 10_000, "tol": 1e-9}
    ours = BackpropClassifier((), class_weight=class_weight, random_state=0, **settings)
    theirs = LogisticRegression(C=1 / 2.0, class_weight=class_weight, tol=1e-9, max_iter=10_000)
    expected = theirs.fit(X, y, ROWS).predict_proba(X)
    np.testing.assert_allclose(ours.fit(X, y, ROWS).predict_proba(X), expected, atol=1e-4)


def test_the_score_of_early_stopping_counts_classes_by_their_weight():
    settings = {"early_stopping": True, "validation_fraction": 0.4, "class_weight": "balanced"}
    model = quick(BackpropClassifier, **settings, n_iter_no_change=np.inf).fit(X, TWO)
    (past,) = model._training
    held_out = past.split[1]
    predicted, weight = model.predict(X[held_out]), by_hand("balanced", TWO)[held_out]
    score = accuracy_score(TWO[held_out], predicted, sample_weight=weight)
    assert model.best_validation_score_ == pytest.approx(score)


@pytest.mark.long
@pytest.mark.parametrize("weights", [[0.8, 0.2], [0.8, 0.1, 0.1]], ids=str)
def test_it_passes_scikit_learns_check_of_balanced_classes(weights):
    """The check is not among those of `check_estimator`: it needs data of its own."""
    n_classes = len(weights)
    data, y = make_classification(
        200, 10, n_informative=n_classes, n_classes=n_classes, weights=weights, random_state=0
    )
    parts = [part for at in (slice(100), slice(100, None)) for part in (scale(data)[at], y[at])]
    model = BackpropClassifier((5,), alpha=10.0)
    check_class_weight_balanced_classifiers("BackpropClassifier", model, *parts, weights)


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
    before = copy.deepcopy(vars(model))
    model.set_params(class_weight=class_weight)
    with pytest.raises(ValueError, match="class_weight") as error:
        model.partial_fit(X, y) if is_partial else model.fit(X, y)
    assert all(part in str(error.value) for part in says), error.value
    assert same_values(vars(model.set_params(class_weight=None)), before)


def test_no_row_left_beside_weights_of_rows_names_both():
    model = quick(BackpropClassifier, class_weight={0: 0})
    with pytest.raises(
        ValueError, match="class_weight=.* and sample_weight must give at least one row"
    ):
        model.fit(X, TWO, (TWO == 0).astype(float))
    with pytest.raises(ValueError, match="class_weight=.* and sample_weight make .* for a float"):
        model.set_params(class_weight={0: 1e300}).fit(X, TWO, np.full(N, 1e300))


def test_no_row_left_by_early_stopping_names_the_weight_of_classes():
    """The one row of the class that has a weight is held out with some seeds."""
    y, messages = np.r_[1, np.zeros(N - 1, int)], set()
    settings = {"early_stopping": True, "validation_fraction": 0.6, "class_weight": {0: 0}}
    for seed in range(20):
        try:
            quick(BackpropClassifier, random_state=seed, **settings).fit(X, y)
        except ValueError as error:
            messages.add(str(error))
    (message,) = messages
    assert "leave a training row with a positive weight (with class_weight)" in message


# ---------------------------------------------------------------------- in pieces, and once more


@pytest.mark.parametrize("kind", ["four classes", "words"])
def test_partial_fit_weighs_rows_by_a_dict(kind):
    y, (_, class_weight, *_) = KINDS[kind]
    classes = {"classes": quick(BackpropClassifier).fit(X, y).classes_}
    model = quick(BackpropClassifier, class_weight=class_weight)
    by_rows = quick(BackpropClassifier)
    for rows in (slice(0, N, 2), slice(1, N, 2), slice(9, 12)):
        # What compute_sample_weight says of all rows holds for some, which may lack a class.
        weight = by_hand(class_weight, y)[rows]
        model.partial_fit(X[rows], y[rows], **classes)
        by_rows.partial_fit(X[rows], y[rows], weight, **classes)
        classes = {}
    assert_same(model, by_rows)


def test_a_batch_may_lack_classes_that_have_weights():
    model = quick(BackpropClassifier, class_weight={0: 2.0, 3: 5.0})
    model.partial_fit(X[FOUR == 1], FOUR[FOUR == 1], classes=range(4))
    with pytest.raises(ValueError, match=r"only classes of `y`, got \[7\]"):
        model.set_params(class_weight={7: 1.0}).partial_fit(X, FOUR)


def test_partial_fit_refuses_balanced_weights():
    model = quick(BackpropClassifier, class_weight="balanced")
    for first in (model, clone(model).fit(X, FOUR)):
        with pytest.raises(ValueError, match="='balanced' .* partial_fit gets only a part of the"):
            first.partial_fit(X, FOUR, classes=np.arange(4))
    assert not hasattr(model, "coefs_")


def test_advice_for_partial_fit_works():
    with pytest.raises(ValueError, match="compute_class_weight"):
        BackpropClassifier(class_weight="balanced").partial_fit(X, FOUR, classes=range(4))
    weights = compute_class_weight("balanced", classes=np.arange(4), y=FOUR)
    advised = dict(zip(np.arange(4), weights, strict=True))
    session = quick(BackpropClassifier, class_weight=advised, n_iter_no_change=np.inf)
    for _ in range(session.max_iter):
        session.partial_fit(X, FOUR, classes=range(4))
    assert_same(session, clone(session).set_params(class_weight="balanced").fit(X, FOUR))


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


def test_changed_dict_acts_in_the_next_call():
    class_weight = {0: 1.0}
    model = quick(BackpropClassifier, class_weight=class_weight)
    by_rows = quick(BackpropClassifier)
    for weight in (1.0, 7.0):
        class_weight[0] = weight
        model.partial_fit(X, FOUR, classes=range(4))
        by_rows.partial_fit(X, FOUR, by_hand({0: weight}, FOUR), classes=range(4))
    assert_same(model, by_rows)


@pytest.mark.long
def test_the_range_test_weighs_rows_by_their_classes():
    model = quick(BackpropClassifier, class_weight={0: 9.0})
    found = find_learning_rate(model, X, FOUR)
    expected = find_learning_rate(
        quick(BackpropClassifier), X, FOUR, sample_weight=by_hand({0: 9.0}, FOUR)
    )
    assert found.losses.tolist() == expected.losses.tolist()


# -------------------------------------------------------------------------- in stacks and searches

MIXTURE = [None, "balanced", {0: 3.0}, {0: 3}, {0: 5.0, 2: 0.1}, {9: 1.0}, {0: -1.0}, None, {}]
KINDS_OF_SEARCH = BackpropGridSearchCV, GridSearchCV


def noted_stacks(monkeypatch):
    """Return a list in which each stack that is trained together is put."""
    stacks = []

    class Noting(loop.StochasticTraining):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            stacks.append(self.stack)

    monkeypatch.setattr(loop, "StochasticTraining", Noting)
    return stacks


@pytest.mark.long
@pytest.mark.parametrize("weight", [None, ROWS], ids=["", "weighted"])
@pytest.mark.parametrize("changes", [{}, {"early_stopping": True}, {"n_estimators": 2}], ids=str)
def test_members_of_a_stack_may_differ_in_class_weight(changes, weight, monkeypatch):
    stacks = noted_stacks(monkeypatch)
    models = [
        quick(BackpropClassifier, class_weight=class_weight, alpha=alpha, **changes)
        for class_weight in MIXTURE
        for alpha in (0.1, 1.0)
    ]
    fits = [FitJob(clone(model), X, FOUR, {"sample_weight": weight}) for model in models]
    fit_many(fits, 2**28)
    sizes = [len(stack.tables) for stack in stacks]
    for fit, model in zip(fits, models, strict=True):
        if fit.error is None:
            assert_same(fit.estimator, model.fit(X, FOUR, weight))
            assert same_values(vars(fit.estimator), vars(model))
        else:
            with pytest.raises(ValueError, match="class_weight") as error:
                model.fit(X, FOUR, weight)
            assert str(error.value) == str(fit.error)
    assert [fit.error is None for fit in fits] == 10 * [True] + 4 * [False] + 4 * [True]
    n_estimators = changes.get("n_estimators", 1)
    assert sorted(sizes) == [4 * n_estimators, 10 * n_estimators]


def test_tables_are_shared_by_those_of_the_same_weights(monkeypatch):
    stacks = noted_stacks(monkeypatch)
    several = [{0: 3.0}, {0: 3.0}, {0: 4.0}, "balanced", "balanced"]
    models = [quick(BackpropClassifier, class_weight=each) for each in several]
    fit_params = {"sample_weight": ROWS}
    fit_many([FitJob(model, X, FOUR, fit_params) for model in models], 2**28)
    (stack,) = stacks
    are_shared = [[one is other for other in stack.tables] for one in stack.tables]
    assert are_shared == [[one == other for other in several] for one in several]


GRIDS = {
    "weights": {"class_weight": [None, "balanced", {0: 2.0}, {0: 9.0, 1: 0.5}]},
    "weights and penalties": {
        "class_weight": ["balanced", {0: 2.0}, {0: 9.0, 1: 0.5}],
        "alpha": [0.01, 0.1, 1.0],
    },
    "some are wrong": {"class_weight": ["balanced", {0: 2.0}, {8: 1.0}, {0: np.nan}]},
}


@pytest.mark.long
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the test scores are non-finite")
def test_searches_find_the_same(solver, grid):
    network = quick(BackpropClassifier, solver=solver, early_stopping=True)
    ours, theirs = (
        search(network, grid, cv=3, scoring="balanced_accuracy").fit(X, FOUR)
        for search in KINDS_OF_SEARCH
    )
    assert_same_search(ours, theirs)
