"""Labels of every kind become targets of a network, and its scores become these labels again."""

from itertools import product

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.metrics import accuracy_score
from sklearn.neural_network import MLPClassifier

from skbackprop import BackpropClassifier
from support import (
    assert_same_network,
    class_data,
    few_epochs,
    label_data,
    quick,
    same_bits,
    value_data,
)

pytestmark = few_epochs

N = 60
X, THREE = class_data(N, n_classes=3)
TWO = class_data(N, n_classes=2, seed=0)[1]
LABELS = label_data(N)[1]
WORDS = np.array(["ant", "bee", "cat"])


# --------------------------------------------------------------------------- one label per row

KINDS = {
    "words": WORDS,
    "objects": WORDS.astype(object),
    "numbers with gaps": np.array([-5, 7, 1000]),
    "unsigned": np.array([0, 200, 255], dtype=np.uint8),
    "whole floats": np.array([-1.0, 0.0, 2.0]),
    "numbers beyond float64": np.array([2**53, 2**53 + 1, 2**53 + 2]),
}


@pytest.mark.parametrize("n_classes, name", [(2, "flags"), *product([2, 3], KINDS)])
def test_labels_keep_their_values_and_dtype(name, n_classes):
    labels = KINDS.get(name, np.array([False, True]))
    X, codes = class_data(N, n_classes=n_classes)
    settings = {"max_iter": 200, "learning_rate_init": 0.05}
    model = quick(BackpropClassifier, **settings).fit(X, labels[codes])
    predicted = model.predict(X)
    assert np.array_equal(model.classes_, labels[:n_classes])
    if name != "objects":  # which become strings of fixed length, as in scikit-learn
        assert model.classes_.dtype == predicted.dtype == labels.dtype
    assert model.score(X, labels[codes]) == (predicted == labels[codes]).mean() > 0.9
    assert same_bits(model, quick(BackpropClassifier, **settings).fit(X, codes))


@pytest.mark.parametrize(
    "container",
    [
        lambda words: pd.Series(words, dtype="category"),
        lambda words: pd.Series(words, dtype="string"),
        pd.Categorical,
        pl.Series,
        list,
        tuple,
    ],
    ids=["categorical series", "string series", "categorical", "polars", "list", "tuple"],
)
def test_containers_of_words_are_labels(container):
    words = WORDS[THREE]
    model, expected = quick(BackpropClassifier), quick(BackpropClassifier).fit(X, words)
    assert_same_network(model.fit(X, container(words)), expected)
    assert list(model.classes_) == ["ant", "bee", "cat"]


MIXED = {
    "a list": [1, "a"] * (N // 2),
    "a series": pd.Series([1, "a"] * (N // 2)),
    "None": [None, "a"] * (N // 2),
    "NaN": np.array([np.nan, "a"] * (N // 2), dtype=object),
}


LABEL_LISTS = [["ant"], ["ant", "bee"]] * (N // 2)


@pytest.mark.parametrize(
    "y",
    [LABEL_LISTS, [*map(set, LABEL_LISTS)], pd.Series(LABEL_LISTS), ["ant", *LABEL_LISTS[1:]]],
    ids=["lists", "sets", "a series", "mixed"],
)
def test_lists_of_labels_are_an_error_that_names_the_binarizer(y):
    known = quick(BackpropClassifier).fit(X, TWO)
    for call in (quick(BackpropClassifier).fit, known.partial_fit, known.score):
        with pytest.raises(ValueError, match=r"Input y contains [\[{].*MultiLabelBinarizer\(\)"):
            call(X, y)


@pytest.mark.parametrize("name", MIXED)
def test_words_mixed_with_other_labels_are_an_error(name):
    """NumPy would turn the label 1 of a list into "1"."""
    message = r"must contain only strings or only numbers in each column, got 'a' and 1\."
    message = "missing labels" if name in ("None", "NaN") else message
    known = quick(BackpropClassifier).fit(X, ["1", "a"] * (N // 2))
    for call in (quick(BackpropClassifier).fit, known.partial_fit, known.score):
        with pytest.raises(ValueError, match=message):
            call(X, MIXED[name])


@pytest.mark.parametrize(
    "y, message",
    [
        (value_data(N)[1], "Unknown label type: continuous. y must contain class labels"),
        (1e200 * THREE, "Unknown label type: continuous"),
        (np.zeros((N, 2, 2)), r"dim 3\b.* BackpropClassifier"),
        (None, "requires y to be passed"),
    ],
    ids=["continuous", "large", "three axes", "None"],
)
def test_y_that_is_no_label_is_an_error(y, message):
    with pytest.raises(ValueError, match=message):
        quick(BackpropClassifier).fit(X, y)


# --------------------------------------------------------------------------------- 0/1 matrices

CONTAINERS = {
    "flags": lambda Y: Y.astype(bool),
    "floats": lambda Y: Y.astype(np.float32),
    "objects": lambda Y: Y.astype(object),
    "lists": lambda Y: Y.tolist(),
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "csr": lambda Y: sparse.csr_array(Y.astype(float)),
    "lil": sparse.lil_matrix,
    "dok": sparse.dok_array,
    "coo of flags": lambda Y: sparse.coo_array(Y.astype(bool)),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_indicators_in_any_container(container):
    plain = quick(BackpropClassifier).fit(X, LABELS).partial_fit(X, LABELS)
    Y = container(LABELS)
    model = quick(BackpropClassifier).fit(X, Y).partial_fit(X, Y)
    assert same_bits(model, plain)
    assert model.score(X, Y) == plain.score(X, LABELS) > 0
    assert model.predict_proba(X).shape == LABELS.shape
    assert list(model.classes_) == [0, 1, 2]


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_indicators_are_predicted_as_by_scikit_learn(container):
    settings = {"max_iter": 200, "learning_rate_init": 0.02}
    X, Y = label_data(40)
    ours, theirs = (
        quick(kind, **settings).fit(X, container(Y)).predict(X)
        for kind in (BackpropClassifier, MLPClassifier)
    )
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours.toarray(), theirs.toarray())


COLUMNS = {
    "numbers": np.c_[THREE, TWO],
    "one and two": np.c_[TWO + 1, 2 - TWO],
    "words": WORDS[np.c_[THREE, TWO]],
    "objects": WORDS.astype(object)[np.c_[THREE, TWO]],
    "continuous": np.c_[THREE, np.linspace(0, 1, N)],
    "frame": pd.DataFrame({"a": THREE, "b": WORDS[THREE]}),
    "sparse": sparse.csr_array(np.c_[THREE, TWO]),
}


@pytest.mark.parametrize("y", COLUMNS.values(), ids=COLUMNS)
def test_several_columns_of_other_labels_are_an_error(y):
    """As in scikit-learn's network, but for two values that are not 0 and 1."""
    known = quick(BackpropClassifier).fit(X, LABELS[:, :2])
    for call in (quick(BackpropClassifier).fit, known.partial_fit, known.score):
        with pytest.raises(ValueError, match=r"only zeros and ones.*, got .*MultiOutputClassifier"):
            call(X, y)
    if y is not COLUMNS["one and two"]:
        with pytest.raises((ValueError, TypeError)):
            quick(MLPClassifier).fit(X, y)


# ----------------------------------------------------------------------------------- the score


@pytest.mark.parametrize(
    "y",
    [
        THREE.astype(np.uint8),
        TWO == 1,
        WORDS[THREE].astype(object),
        THREE.tolist(),
        pd.Series(THREE, index=range(N, 0, -1)),
        LABELS,
    ],
    ids=["small ints", "flags", "objects", "list", "series", "labels"],
)
def test_the_score_is_the_accuracy_whatever_holds_the_labels(y):
    network = quick(BackpropClassifier).fit(X, y)
    score, weight = network.score(X, y), np.arange(N)
    assert type(score) is float
    assert score == accuracy_score(y, network.predict(X))
    expected = accuracy_score(y, network.predict(X), sample_weight=weight)
    assert network.score(X, y, sample_weight=weight) == expected


# ------------------------------------------------------------------------------ further training


@pytest.mark.parametrize("new", [9, "a"], ids=str)
def test_a_new_class_in_a_warm_fit_is_an_error_that_names_warm_start(new):
    other = np.array([new, *THREE[1:]], dtype=type(new))  # all words, or all numbers
    network = quick(BackpropClassifier, warm_start=True).fit(X, THREE)
    with pytest.raises(ValueError, match=f"classes not in .*{new}.*Set warm_start=False"):
        network.fit(X, other)
    with pytest.raises(ValueError, match=rf"classes not in .*{new}.* has \[0 1 2\]\.$"):
        network.partial_fit(X, other)  # which has nothing to do with it
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        network.fit(X[THREE < 2], THREE[THREE < 2])


@pytest.mark.parametrize(
    "y, classes, message",
    [
        (THREE, [1, "a"], "classes must contain only strings or only numbers"),
        (THREE, [0, 1, None], "missing labels"),
        (THREE, [0, 1, np.nan], "classes contains NaN"),
        (THREE, [0, 1, 1.5], "Unknown label type: continuous. classes must contain class labels"),
        (THREE, [[0, 1], [0, 2]], "Unknown label type.*. classes must contain class labels"),
        (THREE, [], "classes must contain the labels of `y`, got an empty"),
        (THREE, [0, 1], r"classes not in .*\['2'\]"),
        (LABELS, [0, 1], "y must be an indicator matrix of 2 columns"),
        (THREE, None, "classes must be passed on the first call to partial_fit"),
    ],
)
def test_wrong_classes_are_an_error(y, classes, message):
    with pytest.raises(ValueError, match=message):
        quick(BackpropClassifier).partial_fit(X, y, classes=classes)


def test_classes_cannot_change_in_partial_fit():
    model = quick(BackpropClassifier).partial_fit(X, THREE, classes=[2, 1, 0])
    assert list(model.classes_) == [0, 1, 2]
    model.partial_fit(X, THREE).partial_fit(X, THREE, classes=model.classes_)
    with pytest.raises(ValueError, match="not the same as on the last call"):
        model.partial_fit(X, THREE, classes=[0, 1, 2, 3])
