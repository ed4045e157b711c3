"""Do labels of every kind become targets of a network, and its scores labels again?

Most of this is about several columns of labels: each is told apart by outputs of its own, in the
shapes that scikit-learn's forests give.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.multioutput import MultiOutputClassifier

from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.estimators._label_encoding import make_target_encoder
from skbackprop.losses import CLASSIFIER_LOSSES, ClassifierLoss, Focal
from support import (
    assert_same_network,
    assert_same_search,
    class_data,
    few_epochs,
    label_data,
    quick,
    same_bits,
)

pytestmark = few_epochs

N = 60
X, THREE = class_data(N, n_classes=3)
TWO = class_data(N, n_classes=2, seed=0)[1]
FOUR = class_data(N, n_classes=4, seed=0)[1]
WORDS = np.array(["ant", "bee", "cat"])
ONES = np.full(N, 7)

# Targets whose columns need no frame to hold them.
MATRICES = {
    "integers": np.c_[THREE, TWO, FOUR],
    "whole floats": np.c_[THREE, TWO].astype(float),
    "small integers": np.c_[THREE, FOUR].astype(np.int8),
    "words": WORDS[np.c_[THREE, TWO]],
    "objects": WORDS.astype(object)[np.c_[THREE, TWO]],
    "one and two": np.c_[TWO + 1, 2 - TWO],
    "signs": np.c_[2 * TWO - 1, 1 - 2 * TWO],
    "yes and no": np.array(["no", "yes"])[np.c_[TWO, 1 - TWO]],
    "a constant column": np.c_[THREE, ONES],
}
FRAMES = {
    "kinds of numbers": pd.DataFrame({"a": THREE, "b": TWO.astype(float)}),
    "numbers and words": pd.DataFrame({"a": THREE, "b": WORDS[THREE], "c": TWO == 1}),
    "words and numbers": pd.DataFrame({"b": WORDS[THREE], "a": FOUR}),
    "categories": pd.DataFrame(
        {"a": pd.Categorical(FOUR), "b": pd.Categorical(WORDS[THREE], ["cat", "bee", "ant"])}
    ),
    "strings": pd.DataFrame({"a": pd.Series(WORDS[THREE], dtype="string"), "b": WORDS[TWO]}),
}
every_matrix = pytest.mark.parametrize("y", MATRICES.values(), ids=MATRICES)
every_target = pytest.mark.parametrize(
    "y", [*MATRICES.values(), *FRAMES.values()], ids=[*MATRICES, *FRAMES]
)
DIGITS = MATRICES["integers"]


def well(**settings):
    """Return a classifier that learns these data by heart."""
    return BackpropClassifier((), solver="lbfgs", max_iter=1000, random_state=0, **settings)


# -------------------------------------------------------------------------- kinds of labels


@every_matrix
def test_scores_that_are_encoded_labels_are_decoded_into_them(y):
    targets = make_target_encoder(y)
    encoded = targets.encode(y, needs_all=True)
    scores = np.where(encoded == 1, 5.0, -5.0)
    np.testing.assert_array_equal(targets.decode(scores), y)
    assert targets.score(scores, encoded, None) == 1
    # Every row is wrong somewhere; of a column with one class there is no wrong.
    assert targets.score(-scores, encoded, None) == 0


# --------------------------------------------------------------------- what comes out of it


@every_target
def test_shapes_and_kinds_are_those_of_a_forest(y):
    network, values = well().fit(X, y), np.asarray(y)
    predicted = network.predict(X)
    assert predicted.shape == values.shape
    assert predicted.dtype.kind == values.dtype.kind or values.dtype == object
    assert [classes.tolist() for classes in network.classes_] == [
        sorted(set(column)) for column in values.T
    ]
    probabilities, logarithms = network.predict_proba(X), network.predict_log_proba(X)
    decisions = network.decision_function(X)
    assert isinstance(probabilities, list)
    assert isinstance(logarithms, list)
    for column, classes in enumerate(network.classes_):
        p = probabilities[column]
        assert p.shape == (N, len(classes))
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(np.exp(logarithms[column]), p, rtol=1e-9, atol=1e-15)
        np.testing.assert_array_equal(classes[p.argmax(axis=1)], predicted[:, column])
        assert decisions[column].shape == ((N, len(classes)) if len(classes) > 2 else (N,))
    if values.dtype != object:
        forest = RandomForestClassifier(3, random_state=0).fit(X, y)
        assert forest.predict(X).shape == predicted.shape
        assert [p.shape for p in forest.predict_proba(X)] == [p.shape for p in probabilities]
        assert [type(c) for c in forest.classes_] == [type(c) for c in network.classes_]
    assert (predicted == values).mean() > 0.9
    assert network.score(X, y) == (predicted == values).all(axis=1).mean()


def test_dtypes_of_columns_are_kept():
    y = FRAMES["numbers and words"]
    row = well().fit(X, y).predict(X)[0]
    assert [type(label) for label in row] == [int, str, bool]
    assert well().fit(X, MATRICES["small integers"]).predict(X).dtype == np.int8
    assert well().fit(X, MATRICES["words"]).predict(X).dtype == WORDS.dtype


def test_the_function_of_each_column():
    model = quick(BackpropClassifier).fit(X, DIGITS)
    assert model.out_activation_ == ["softmax", "logistic", "softmax"]
    model.set_params(loss="hinge").fit(X, DIGITS)
    assert model.out_activation_ == ["identity"] * 3


@pytest.mark.parametrize("loss", CLASSIFIER_LOSSES)
def test_without_hidden_layer_it_is_a_network_for_each_column(loss):
    """The columns share nothing then but the rows, so each is what it is alone."""
    if loss in ("hinge", "brier"):  # not convex, or with kinks: L-BFGS ends where it ends
        settings = {"solver": "sgd", "learning_rate_init": 0.1, "batch_size": N, "shuffle": False}
        settings |= {"max_iter": 50, "n_iter_no_change": np.inf, "momentum": 0.5}
    else:
        settings = {"solver": "lbfgs", "tol": 1e-9, "max_iter": 2000}
    settings |= {"loss": loss, "alpha": 1.0, "random_state": 0}
    widths = (3, 1, 4)
    start = [np.zeros((X.shape[1], sum(widths)))], [np.zeros(sum(widths))]
    together = BackpropClassifier((), init=start, **settings).fit(X, DIGITS)
    ends = np.cumsum(widths)
    loss_of_all = 0.0
    for column, (width, end) in enumerate(zip(widths, ends, strict=True)):
        own = [np.zeros((X.shape[1], width))], [np.zeros(width)]
        alone = BackpropClassifier((), init=own, **settings).fit(X, DIGITS[:, column])
        part = slice(end - width, end)
        np.testing.assert_allclose(
            together.coefs_[0][:, part], alone.coefs_[0], rtol=1e-3, atol=1e-3
        )
        np.testing.assert_allclose(
            together.decision_function(X)[column], alone.decision_function(X), atol=5e-3
        )
        np.testing.assert_array_equal(together.predict(X)[:, column], alone.predict(X))
        loss_of_all += alone.loss_
    assert np.isclose(together.loss_, loss_of_all, rtol=1e-5)


@dataclass(frozen=True)
class Exponential(ClassifierLoss):
    """loss = sum_k exp(-t_k s_k / 2), as a user would write one."""

    multiclass: bool = False

    def value(self, scores, y):
        return np.exp((0.5 - y) * scores).sum(axis=-1)

    def gradient(self, scores, y, out):
        np.multiply(0.5 - y, np.exp((0.5 - y) * scores), out=out)


@pytest.mark.long
@pytest.mark.parametrize("y", [THREE, TWO, label_data(N)[1], DIGITS])
def test_user_defined_loss_works_with_all_kinds_of_labels(y):
    settings = {"loss": Exponential(), "learning_rate_init": 0.05, "max_iter": 100}
    settings |= {"n_iter_no_change": 100, "early_stopping": True, "label_smoothing": 0.1}
    network = quick(BackpropClassifier, n_estimators=2, **settings).fit(X, y)
    assert network.score(X, y) > 0.5
    probabilities = network.predict_proba(X)
    assert isinstance(probabilities, list) == (y is DIGITS)
    assert same_bits(network.estimators_[0], quick(BackpropClassifier, **settings).fit(X, y))


@pytest.mark.parametrize("new", [9, "a"], ids=str)
def test_a_new_class_in_a_warm_fit_is_an_error_that_names_warm_start(new):
    X, y = class_data()
    other = np.array([new, *y[1:]], dtype=type(new))  # all words, or all numbers
    network = quick(BackpropClassifier, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=f"classes not in .*{new}.*Set warm_start=False"):
        network.fit(X, other)
    with pytest.raises(ValueError, match=rf"classes not in .*{new}.* has \[0 1 2\]\.$"):
        network.partial_fit(X, other)  # which has nothing to do with it


def test_a_new_class_of_a_column_is_one_too():
    network = quick(BackpropClassifier, warm_start=True).fit(X, DIGITS)
    with pytest.raises(ValueError, match=r"column 2 of .*\['9'\].*Set warm_start=False"):
        network.fit(X, np.where(DIGITS == 3, 9, DIGITS))


def test_the_score_is_that_of_a_classifier_for_each_column():
    each = MultiOutputClassifier(well()).fit(X, DIGITS)
    network = well().fit(X, DIGITS)
    weight = np.arange(N)
    right = (network.predict(X) == DIGITS).all(axis=1)
    assert network.score(X, DIGITS) == right.mean()
    assert network.score(X, DIGITS, sample_weight=weight) == np.average(right, weights=weight)
    assert abs(network.score(X, DIGITS) - each.score(X, DIGITS)) <= 0.1
    # A label that was never seen is wrong, and no error.
    assert network.score(X, np.where(DIGITS == 3, 99, DIGITS)) <= network.score(X, DIGITS)
    for wrong in (DIGITS[:, :2], DIGITS[:, 0]):
        with pytest.raises(
            ValueError, match=r"y must have the shape of the predictions, \(60, 3\), got \(60"
        ):
            network.score(X, wrong)


@pytest.mark.parametrize(
    "y",
    [
        THREE,
        THREE.astype(np.uint8),
        THREE.astype(float),
        TWO == 1,
        WORDS[THREE],
        WORDS[THREE].astype(object),
        THREE.tolist(),
        pd.Series(THREE, index=range(N, 0, -1)),
        label_data(N)[1],
    ],
    ids=["ints", "small ints", "floats", "flags", "words", "objects", "list", "series", "labels"],
)
def test_the_score_is_the_accuracy_whatever_holds_the_labels(y):
    network = quick(BackpropClassifier).fit(X, y)
    score = network.score(X, y)
    assert type(score) is float
    assert score == accuracy_score(y, network.predict(X))
    weight = np.arange(N)
    expected = accuracy_score(y, network.predict(X), sample_weight=weight)
    assert network.score(X, y, sample_weight=weight) == expected
    shuffled = np.random.RandomState(0).permutation(np.asarray(y))
    assert network.score(X, shuffled) == accuracy_score(shuffled, network.predict(X))


@pytest.mark.parametrize(
    "y, message",
    [
        (THREE[:-1], "inconsistent numbers of samples"),
        (WORDS[THREE], "Mix of label input types"),
        (THREE + 0.5, "a mix of continuous and"),
        (np.c_[THREE, TWO], "a mix of multiclass-multioutput and"),
    ],
    ids=["too few", "words", "fractions", "columns"],
)
def test_labels_that_cannot_be_compared_have_no_score(y, message):
    network = quick(BackpropClassifier).fit(X, THREE)
    for score in (network.score, lambda X, y: accuracy_score(y, network.predict(X))):
        with pytest.raises(ValueError, match=message):
            score(X, y)


def test_a_0_1_matrix_stays_one_of_indicators():
    Y = label_data(N)[1]
    network = quick(BackpropClassifier).fit(X, Y)
    assert network.predict_proba(X).shape == Y.shape
    np.testing.assert_array_equal(network.classes_, np.arange(3))


def test_indicators_as_columns_of_labels():
    """Where the classes of each column are named, a 0/1 matrix is one of labels."""
    Y = label_data(N)[1]
    network = quick(BackpropClassifier, learning_rate_init=0.05)
    indicators = clone(network)
    for _ in range(20):
        network.partial_fit(X, Y, classes=[[0, 1]] * 3)
        indicators.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_array_equal(network.predict(X), indicators.predict(X))
    p = network.predict_proba(X)
    for column in range(3):
        np.testing.assert_allclose(p[column][:, 1], indicators.predict_proba(X)[:, column])


# ------------------------------------------------------------------------------- training


def test_sparse_input_and_targets():
    dense = quick(BackpropClassifier).fit(X, DIGITS)
    assert_same_network(quick(BackpropClassifier).fit(sparse.csr_array(X), DIGITS), dense)
    of_sparse = quick(BackpropClassifier).fit(X, sparse.csr_array(DIGITS))
    assert same_bits(of_sparse, dense)
    assert of_sparse.score(X, sparse.csr_array(DIGITS)) == dense.score(X, DIGITS)


@pytest.mark.long
def test_classes_may_be_missing_from_a_batch():
    network = quick(BackpropClassifier, learning_rate_init=0.05)
    for _ in range(30):
        for absent in range(3):
            rows = absent != THREE
            classes = [[0, 1, 2], [0, 1], [0, 1, 2, 3]]
            network.partial_fit(X[rows], DIGITS[rows], classes=classes)
    assert [p.shape[1] for p in network.predict_proba(X)] == [3, 2, 4]
    with pytest.raises(ValueError, match="warm_start can only be used where column 2 of `y` has"):
        network.set_params(warm_start=True).fit(X[FOUR < 3], DIGITS[FOUR < 3])


@pytest.mark.parametrize(
    "y, message",
    [
        (np.c_[DIGITS[:, :2], np.where(FOUR == 3, 9, FOUR)], r"column 2 of `y` has .*\['9'\]"),
        (DIGITS[:, :2], r"y must have 3 columns of labels, .* shape \(60, 2\)"),
        (THREE, r"y must have 3 columns of labels, .* shape \(60,\)"),
        (WORDS[np.c_[THREE, TWO, THREE]], r"column 0 of `y` has classes not in"),
    ],
    ids=["a new label", "a column less", "one column", "words for numbers"],
)
def test_later_batches_of_another_kind_are_errors(y, message):
    network = quick(BackpropClassifier).fit(X, DIGITS)
    before = network.coefs_[0].copy()
    with pytest.raises(ValueError, match=message):
        network.partial_fit(X, y)
    np.testing.assert_array_equal(network.coefs_[0], before)


@pytest.mark.parametrize(
    "classes, message",
    [
        ([0, 1, 2, 3], "classes must be a list with the labels of each column of y"),
        ([[0, 1, 2], [0, 1]], "classes must be a list with the labels of each column of y"),
        ([[0, 1, 2], [0, 1], [0, 1, 2]], r"column 2 of `y` has classes not in .*\['3'\]"),
        ([[0, 1, 2], [0, 1], [0.5, 1]], "Unknown label type: continuous. Column 2 of y"),
        (
            [[0, 1, 2], [0, 1], []],
            "classes must contain the labels of column 2 of `y`, got an empty",
        ),
    ],
    ids=["flat", "too few", "one short", "no labels", "none"],
)
def test_wrong_classes_are_an_error(classes, message):
    with pytest.raises(ValueError, match=message):
        quick(BackpropClassifier).partial_fit(X, DIGITS, classes=classes)
    with pytest.raises(ValueError, match="classes must contain the labels of `y`, got an empty"):
        quick(BackpropClassifier).partial_fit(X, THREE, classes=[])


def test_classes_cannot_change_in_partial_fit():
    network = quick(BackpropClassifier).partial_fit(
        X, DIGITS, classes=[[2, 1, 0], [0, 1], range(4)]
    )
    network.partial_fit(X, DIGITS).partial_fit(X, DIGITS, classes=network.classes_)
    for other in ([0, 1, 2, 3], [[0, 1, 2], [0, 1]], [[0, 1, 2], [0, 1], [0, 1, 2]]):
        with pytest.raises(ValueError, match="not the same as on the last call"):
            network.partial_fit(X, DIGITS, classes=other)
    with pytest.raises(ValueError, match="not the same as on the last call"):
        quick(BackpropClassifier).fit(X, THREE).partial_fit(X, THREE, classes=[[0, 1, 2], [0, 1]])
    with pytest.raises(ValueError, match="classes must be a list with the labels of each column"):
        quick(BackpropClassifier).partial_fit(X, THREE, classes=[[0, 1, 2], [0, 1]])


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_early_stopping_counts_rows_that_are_right_in_all_columns(solver):
    settings = {"solver": solver, "early_stopping": True, "max_iter": 60, "n_iter_no_change": 60}
    network = quick(BackpropClassifier, learning_rate_init=0.05, **settings).fit(X, DIGITS)
    held_out = network._training[0].split[1]
    assert network.best_validation_score_ == network.score(X[held_out], DIGITS[held_out])
    assert network.best_validation_score_ > network.validation_scores_[0]


@pytest.mark.parametrize(
    "y, message",
    [
        (np.c_[THREE, np.linspace(0, 1, N)], "Unknown label type: continuous. Column 1 of y"),
        (np.array([["a", 1], [2, 2]] * 30, object), "Column 0 of y must contain only strings"),
        (pd.DataFrame({"a": THREE, "b": [None, *WORDS[THREE][1:]]}), "missing .* in column 1"),
        (pd.DataFrame({"a": WORDS[THREE], "b": [np.nan, *THREE[1:]]}), "missing .* in column 1"),
    ],
    ids=["numbers", "mixed", "None", "NaN"],
)
def test_an_error_names_the_column(y, message):
    with pytest.raises(ValueError, match=message):
        quick(BackpropClassifier).fit(X, y)


# --------------------------------------------------------------------- ensembles, searches


def test_an_ensemble_averages_the_probabilities_of_each_column():
    ensemble = quick(BackpropClassifier, n_estimators=3).fit(X, DIGITS)
    members = ensemble.estimators_
    for column, p in enumerate(ensemble.predict_proba(X)):
        expected = np.mean([one.predict_proba(X)[column] for one in members], axis=0)
        np.testing.assert_allclose(p, expected, rtol=1e-12)
    assert members[0].out_activation_ == ensemble.out_activation_
    assert same_bits(members[0], quick(BackpropClassifier).fit(X, DIGITS))
    assert ensemble.predict(X).shape == DIGITS.shape


@pytest.mark.long
@pytest.mark.parametrize("name", ["integers", "words", "one and two"])
def test_a_search_finds_what_scikit_learn_finds(name):
    grid = {"alpha": [0.1, 1.0], "loss": ["log_loss", "hinge", Focal(1.0)]}
    searches = [
        kind(quick(BackpropClassifier), grid, cv=3, n_jobs=1).fit(X, MATRICES[name])
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    assert_same_search(*searches)


def test_a_search_over_frames_of_words_and_numbers():
    """scikit-learn can't tell the type of such targets, so it has to be given the splits."""
    y = FRAMES["numbers and words"]
    search = BackpropGridSearchCV(quick(BackpropClassifier), {"alpha": [0.1, 1.0]}, cv=KFold(3))
    assert search.fit(X, y).predict(X).shape == y.shape
    assert len(cross_val_score(quick(BackpropClassifier), X, y, cv=KFold(3))) == 3
