"""What happens with targets and weights that nobody would call nice?

Labels of every kind come back as they went in; classes may be missing from a batch; batches and
splits may be larger than the data; and what cannot be learned is refused with a message that
names it.
"""

import warnings
from itertools import product
from unittest.mock import Mock

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import DataConversionWarning
from sklearn.neural_network import MLPClassifier

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.estimators import _validation
from skbackprop.losses import BrierScore, Focal, Hinge, LogLoss, SquaredHinge
from support import (
    BOTH,
    PAIRS,
    SOLVERS,
    N,
    assert_same_network,
    changed,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    label_data,
    quick,
    same_bits,
    value_data,
)

pytestmark = few_epochs

# --------------------------------------------------------------------------------- labels

LABELS = {
    "words": np.array(["ant", "bee", "cat"]),
    "objects": np.array(["ant", "bee", "cat"], dtype=object),
    "numbers with gaps": np.array([-5, 7, 1000]),
    "unsigned": np.array([0, 200, 255], dtype=np.uint8),
    "whole floats": np.array([-1.0, 0.0, 2.0]),
    "numbers beyond float64": np.array([2**53, 2**53 + 1, 2**53 + 2]),
}


@pytest.mark.long
@pytest.mark.parametrize("n_classes, name", [(2, "flags"), *product([2, 3], LABELS)])
def test_labels_keep_their_values_and_dtype(name, n_classes):
    labels = LABELS.get(name, np.array([False, True]))
    X, codes = class_data(N, n_classes=n_classes)
    y = labels[codes]
    model = quick(BackpropClassifier, max_iter=200, learning_rate_init=0.05).fit(X, y)
    assert np.array_equal(model.classes_, labels[:n_classes])
    predicted = model.predict(X)
    if name != "objects":  # scikit-learn makes strings of fixed length of them, and so do we
        assert model.classes_.dtype == predicted.dtype == labels.dtype
    assert set(predicted) <= set(labels)
    assert (predicted == y).mean() > 0.9
    assert model.score(X, y) == (predicted == y).mean()
    # The names of the classes have no say in what is learned.
    plain = quick(BackpropClassifier, max_iter=200, learning_rate_init=0.05).fit(X, codes)
    assert same_bits(model, plain)


@pytest.mark.parametrize(
    "dress",
    [
        lambda words: pd.Series(words, dtype="category"),
        lambda words: pd.Series(words, dtype="string"),
        lambda words: pd.Categorical(words),
        lambda words: pl.Series(words),
        list,
        tuple,
    ],
    ids=["categorical series", "string series", "categorical", "polars", "list", "tuple"],
)
def test_containers_of_words_are_labels(dress):
    X, codes = class_data(N)
    words = np.array(["cat", "ant", "bee"])[codes]
    model = quick(BackpropClassifier).fit(X, dress(words))
    assert list(model.classes_) == ["ant", "bee", "cat"]
    expected = quick(BackpropClassifier).fit(X, words)
    assert_same_network(model, expected)
    assert list(model.predict(X)) == list(expected.predict(X))


@PAIRS
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_column_vector_for_y_warns_as_in_scikit_learn(ours, theirs, method):
    X, y = data_for(ours)
    arguments = (None, [0, 1, 2]) if method == "partial_fit" and ours is BackpropClassifier else ()
    models = []
    for estimator_class in (theirs, ours):
        model = quick(estimator_class)
        with pytest.warns(DataConversionWarning, match="column-vector y") as caught:
            getattr(model, method)(X, y[:, None], *arguments)
        assert len([w for w in caught if w.category is DataConversionWarning]) == 1
        models.append(model)
    assert models[1].predict(X).shape == (N,)
    assert_same_network(models[1], models[0], rtol=1e-7, atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(
    "container", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_matrix]
)
def test_sparse_multilabel_y_is_predicted_as_scikit_learn_does(container):
    X, Y = label_data(N)
    model = quick(BackpropClassifier, max_iter=200, learning_rate_init=0.02)
    ours = model.fit(X, container(Y)).predict(X)
    theirs = quick(MLPClassifier, max_iter=200, learning_rate_init=0.02)
    theirs = theirs.fit(X, container(Y)).predict(X)
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert np.array_equal(ours.toarray(), theirs.toarray())
    assert (ours.toarray() == Y).mean() > 0.9
    dense = quick(BackpropClassifier, max_iter=200, learning_rate_init=0.02).fit(X, Y).predict(X)
    assert np.array_equal(dense, ours.toarray())
    assert isinstance(dense, np.ndarray)


@pytest.mark.parametrize("value", [-1, 2, 0.5])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, pd.DataFrame, pl.DataFrame])
def test_a_network_of_indicators_takes_zeros_and_ones_alone(container, value):
    """Every other number would count as a one: -1 and 1 would train on all ones."""
    X, Y = label_data(N)
    model = quick(BackpropClassifier, warm_start=True).fit(X, Y)
    before = model.coefs_[0].copy()
    wrong = container(np.where(Y == 0, value, 1) if value == -1 else np.where(Y == 1, value, 0))
    for method in (model.fit, model.partial_fit, model.score):
        with pytest.raises(ValueError, match=rf"zeros and ones, .* got {value}\."):
            method(X, wrong)
    assert np.array_equal(model.coefs_[0], before)


def test_an_error_of_indicators_shows_a_few_values():
    X, Y = label_data(N)
    model = quick(BackpropClassifier).fit(X, Y)
    with pytest.raises(ValueError, match=r"got 2, 3, 4, 5, 6, \.\.\.\. Use 1"):
        model.partial_fit(X, np.arange(3 * N).reshape(N, 3))


CONTAINERS_OF_INDICATORS = {
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


@pytest.mark.parametrize(
    "container", CONTAINERS_OF_INDICATORS.values(), ids=CONTAINERS_OF_INDICATORS
)
def test_indicators_in_any_container(container):
    X, Y = label_data(N)
    plain = quick(BackpropClassifier).fit(X, Y).partial_fit(X, Y)
    model = quick(BackpropClassifier).fit(X, Y).partial_fit(X, container(Y))
    assert same_bits(model, plain)
    assert model.score(X, container(Y)) == plain.score(X, Y) > 0


MIXED = {
    "a list": [1, "a"] * (N // 2),
    "an array of objects": np.array([1, "a"] * (N // 2), dtype=object),
    "a series": pd.Series([1, "a"] * (N // 2)),
    "None": [None, "a"] * (N // 2),
    "None and numbers": [None, 1] * (N // 2),
    "NaN": [np.nan, "a"] * (N // 2),
    "NaN in an array": np.array([np.nan, "a"] * (N // 2), dtype=object),
}


@pytest.mark.parametrize("name", MIXED)
def test_words_mixed_with_other_labels_are_an_error(name):
    """NumPy makes words of all of them, in a list: the label 1 would come back as "1"."""
    X, _ = class_data(N)
    y, words = MIXED[name], np.array(["1", "a"] * (N // 2))
    is_missing = name.startswith(("None", "NaN"))
    mixed = r"must contain only strings or only numbers in each column, got 'a' and 1\."
    message = "missing labels" if is_missing else mixed
    known = quick(BackpropClassifier).fit(X, words)
    for call in (
        lambda: quick(BackpropClassifier).fit(X, y),
        lambda: quick(BackpropClassifier).partial_fit(X, y, classes=["1", "a"]),
        lambda: known.partial_fit(X, y),
        lambda: known.score(X, y),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    "classes, message",
    [
        ([1, "a"], "classes must contain only strings or only numbers"),
        (np.array([1, "a"], dtype=object), "classes must contain only strings or only numbers"),
        ([0, 1, None], "missing labels"),
        ([0, 1, np.nan], "classes contains NaN"),
        ([0, 1, 1.5], "Unknown label type: continuous. classes must contain class labels"),
        ([[0, 1], [0, "a"]], "only strings|shape"),
    ],
)
def test_classes_must_be_labels(classes, message):
    X, y = class_data(N, n_classes=2)
    with pytest.raises(ValueError, match=message):
        quick(BackpropClassifier).partial_fit(X, y, classes=classes)


def test_objects_that_are_numbers_are_numbers():
    X, y = class_data(N)
    model, expected = quick(BackpropClassifier), quick(BackpropClassifier)
    for train in ("fit", "partial_fit"):
        getattr(expected, train)(X, y)
        assert same_bits(getattr(model, train)(X, y.astype(object)), expected)
    assert model.classes_.dtype == model.predict(X).dtype == int
    assert model.score(X, y.astype(object)) == model.score(X, y)


def test_columns_of_lists_keep_words_and_numbers():
    X, y = class_data(N)
    rows = [["ab"[code > 0], code] for code in y.tolist()]
    model = quick(BackpropClassifier).fit(X, rows)
    assert [labels.tolist() for labels in model.classes_] == [["a", "b"], [0, 1, 2]]
    assert model.score(X, rows) == model.score(X, np.array(rows, dtype=object)) > 0
    with pytest.raises(ValueError, match=r"column 1 of `y` has labels such as '.', which cannot"):
        model.score(X, np.array(rows))


def test_continuous_targets_of_a_classifier_are_an_error():
    X, values = value_data(N)
    with pytest.raises(ValueError, match=r"Unknown label type: continuous"):
        quick(BackpropClassifier).fit(X, values)
    columns = np.c_[np.arange(N) % 3, values]
    with pytest.raises(ValueError, match=r"Unknown label type: continuous. Column 1 of y"):
        quick(BackpropClassifier).fit(X, columns)
    with pytest.raises(ValueError, match=r"dim 3"):
        quick(BackpropClassifier).fit(X, np.zeros((N, 2, 2)))
    with pytest.raises(ValueError, match=r"requires y to be passed"):
        quick(BackpropClassifier).fit(X, None)


def test_targets_of_a_regressor_must_be_numbers():
    X, _ = value_data(N)
    with pytest.raises(ValueError, match="could not convert string to float.*cat"):
        quick(BackpropRegressor).fit(X, np.full(N, "cat"))
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        quick(BackpropRegressor).fit(X, np.full(N, 1j))
    with pytest.raises(ValueError, match=r"requires y to be passed"):
        quick(BackpropRegressor).fit(X, None)
    for value, named in ((1j, "complex"), (10**400, "too large"), ([1], "sequence")):
        objects = np.ones(N, dtype=object)
        objects[3] = value
        with pytest.raises(ValueError, match=f"y must contain numbers: .*{named}"):
            quick(BackpropRegressor).fit(X, objects)


@pytest.mark.parametrize("container", [list, np.asarray, pd.Series], ids=lambda c: c.__name__)
@pytest.mark.parametrize("value, message", [(None, "missing"), (np.nan, "missing|NaN")])
def test_missing_targets_are_an_error(container, value, message):
    X, y = value_data(N)
    model = quick(BackpropRegressor).fit(X, y)
    wrong = changed(y, 3, value, dtype=object)
    for call in (quick(BackpropRegressor).fit, quick(BackpropRegressor).partial_fit, model.score):
        for targets in (container(wrong), wrong[:, None]):
            with pytest.raises(ValueError, match=rf"Input y contains ({message})"):
                call(X, targets)


def test_targets_beyond_float64_are_an_error():
    X, y = value_data(N)
    largest = np.finfo(np.longdouble).max
    if largest > np.finfo(float).max:
        with pytest.raises(ValueError, match="Input y contains infinity"):
            quick(BackpropRegressor).fit(X, changed(y, 3, largest, dtype=np.longdouble))


def test_large_numbers_as_labels_are_an_error():
    X, y = class_data(N)
    for labels in (1e200 * y, np.c_[y, 1e200 * y]):
        with pytest.raises(ValueError, match="Unknown label type: continuous"):
            quick(BackpropClassifier).fit(X, labels)
    with pytest.raises(ValueError, match="a mix of continuous and"):
        quick(BackpropClassifier).fit(X, y).score(X, 1e200 * y)


@PAIRS
def test_sparse_column_y_warns_and_trains_like_dense_y(ours, theirs):
    X, y = data_for(ours)
    expected = quick(ours).fit(X, y)
    for column in (sparse.csr_array(y[:, None]), sparse.csc_matrix(y[:, None])):
        with pytest.warns(DataConversionWarning, match="column-vector y"):
            assert same_bits(quick(ours).fit(X, column), expected)
        assert expected.score(X, column) == pytest.approx(expected.score(X, y))
    assert same_bits(quick(ours).fit(X, sparse.coo_array(y)), expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_objects_that_are_not_finite(value):
    X, y = value_data(N)
    for dtype in (object, str):
        with pytest.raises(ValueError, match="Input y contains infinity"):
            quick(BackpropRegressor).fit(X, changed(y, 3, value, dtype=dtype))


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_matrix])
def test_regressor_takes_sparse_targets(container):
    """They are rare but legal, and scikit-learn's network learns from them."""
    X, Y = value_data(N, n_outputs=3)
    from_sparse = quick(BackpropRegressor).fit(X, container(Y))
    assert_same_network(from_sparse, quick(BackpropRegressor).fit(X, Y))
    assert isinstance(from_sparse.predict(X), np.ndarray)
    assert from_sparse.score(X, container(Y)) == pytest.approx(from_sparse.score(X, Y))


@pytest.mark.parametrize("loss", [LogLoss(), BrierScore(), Focal(1.0)])
def test_losses_of_labels_are_for_shares_between_0_and_1(loss):
    X, values = value_data(N)
    shares = expit(values)
    network = quick(BackpropRegressor, loss=loss, max_iter=100, learning_rate_init=0.05)
    network.fit(X, shares)
    assert network.score(X, shares) > 0.3
    assert ((network.predict(X) > 0) & (network.predict(X) < 1)).all()
    for wrong, named in ((values, r">= 0, but y contains -"), (2 * shares, "<= 1, but y contains")):
        for method in (quick(BackpropRegressor, loss=loss).fit, network.partial_fit):
            with pytest.raises(ValueError, match=f"needs targets y {named}"):
                method(X, wrong)
    with pytest.raises(
        ValueError, match=r"scale_target=True needs a loss that accepts all targets"
    ):
        quick(BackpropRegressor, loss=loss, scale_target=True).fit(X, shares)
    autoencoder = quick(BackpropAutoencoder, loss=loss).fit(expit(X))
    rows = autoencoder.inverse_transform(autoencoder.transform(expit(X)))
    assert ((rows > 0) & (rows < 1)).all()
    with pytest.raises(ValueError, match="needs X <= 1, but X contains"):
        quick(BackpropAutoencoder, loss=loss).fit(np.abs(X))


@pytest.mark.parametrize("loss", [Hinge(), SquaredHinge()])
def test_a_loss_of_decision_values_predicts_no_numbers(loss):
    X, values = value_data(N)
    for fit in (
        lambda: quick(BackpropRegressor, loss=loss).fit(X, expit(values)),
        lambda: quick(BackpropAutoencoder, loss=loss).fit(expit(X)),
    ):
        with pytest.raises(ValueError, match=r"inge\(.*\) is a loss of classifiers.*BackpropC"):
            fit()


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_negative_counts_are_an_error(method):
    X, y = value_data(N)
    with pytest.raises(ValueError, match=r"poisson.*\by\b.*-"):
        getattr(quick(BackpropRegressor, loss="poisson"), method)(X, y)


# ---------------------------------------------------------------- classes of partial_fit


def test_classes_are_needed_in_the_first_call_and_stay():
    X, y = class_data(N)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        quick(BackpropClassifier).partial_fit(X, y)
    model = quick(BackpropClassifier).partial_fit(X, y, classes=[2, 1, 0])
    assert list(model.classes_) == [0, 1, 2]
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="classes=.* is not the same as on last call|not the same"):
        model.partial_fit(X, y, classes=[0, 1, 2, 3])


@pytest.mark.parametrize("call", ["first", "later"])
@pytest.mark.parametrize(
    "classes",
    [np.arange(3), ["a", "b", "c"], np.arange(3)[:, None], [[0, 1, 2], ["a", "b"]]],
    ids=["numbers", "words", "column", "of columns"],
)
def test_classes_by_position_are_an_error_that_names_them(classes, call):
    """There they are sample_weight, in scikit-learn since its 1.7 too."""
    X, y = class_data(N)
    model = quick(BackpropClassifier)
    if call == "later":
        model.partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"by name, as in partial_fit\(X, y, classes=\.\.\.\)"):
        model.partial_fit(X, y, classes)
    model.partial_fit(X, y, classes=[0, 1, 2])


def test_as_many_classes_as_rows_by_position():
    X, y = class_data(3)
    with pytest.raises(
        ValueError, match=r"first call .* by name, as in partial_fit\(X, y, classes="
    ):
        quick(BackpropClassifier).partial_fit(X, y, [0, 1, 2])
    with pytest.raises(ValueError, match="sample_weight") as error:
        quick(BackpropClassifier).partial_fit(X, y, [1, 1], classes=[0, 1, 2])
    assert "by name" not in str(error.value)  # who has named them needs no advice


def test_another_number_of_outputs_in_partial_fit_is_an_error():
    for kind, data in ((BackpropRegressor, value_data), (BackpropClassifier, label_data)):
        X, Y = data(N, 4, 3)
        model = quick(kind).fit(X, Y)
        for targets in (Y[:, 0], Y[:, :2]):
            with pytest.raises(ValueError, match=r"\by\b.*3"):
                model.partial_fit(X, targets)


# ----------------------------------------------------------------------- batches and splits


@BOTH
def test_batch_size_over_the_number_of_rows_is_clipped(estimator_class):
    X, y = data_for(estimator_class)
    with pytest.warns(UserWarning, match="batch_size") as caught:
        clipped = quick(estimator_class, batch_size=N + 1).fit(X, y)
    about_it = [str(w.message) for w in caught if "batch_size" in str(w.message)]
    assert len(about_it) == 1
    assert str(N) in about_it[0]
    assert_same_network(clipped, quick(estimator_class, batch_size=N).fit(X, y))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = quick(estimator_class, batch_size=N + 1)
        for _ in range(3):
            batch.partial_fit(X, y, **classes_for(estimator_class))
    assert batch.t_ == 3 * N


@BOTH
def test_batch_size_does_not_matter_to_lbfgs(estimator_class):
    X, y = data_for(estimator_class)
    large = quick(estimator_class, batch_size=10 * N, solver="lbfgs").fit(X, y)
    assert_same_network(large, quick(estimator_class, batch_size=1, solver="lbfgs").fit(X, y))


@BOTH
@SOLVERS
def test_early_stopping_with_too_few_rows_is_an_error(estimator_class, solver):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, solver=solver, early_stopping=True)
    for n in (1, 2):
        with pytest.raises(ValueError, match=r"early_stopping.*rows"):
            model.fit(X[:n], y[:n])
    # Three rows are enough: two are held out.
    assert len(model.fit(X[:3], y[:3]).validation_scores_) == model.n_iter_
    with pytest.raises(ValueError, match="validation_fraction"):
        quick(estimator_class, early_stopping=True, validation_fraction=0.99).fit(X[:10], y[:10])


# --------------------------------------------------------------------------- sample weights


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
@pytest.mark.parametrize(
    "weight, named",
    [
        (changed(np.ones(N), 3, -1), r"[Nn]egative values.*sample_weight"),
        (np.zeros(N), r"sample_weight.*zero|[Ss]ample weights.*zero|zero.*sample_weight"),
        (np.ones(N - 1), r"sample_weight\.shape"),
        (np.ones(N + 1), r"sample_weight\.shape"),
        (np.ones((N, 1)), r"[Ss]ample weights? must be 1D"),
        (np.ones((N, 2)), r"[Ss]ample weights? must be 1D"),
        (np.full(N, "heavy"), r"could not convert string to float.*heavy"),
        (np.full(N, 1j), r"[Cc]omplex"),
        (-1.0, r"[Nn]egative values.*sample_weight"),
    ],
    ids=["negative", "zero", "short", "long", "column", "2-D", "words", "complex", "number"],
)
def test_wrong_sample_weight_is_an_error(estimator_class, method, weight, named):
    X, y = data_for(estimator_class)
    arguments = classes_for(estimator_class) if method == "partial_fit" else {}
    model = quick(estimator_class)
    model = model.fit(X, y) if method == "score" else model
    with pytest.raises(ValueError, match=named):
        getattr(model, method)(X, y, sample_weight=weight, **arguments)


@pytest.mark.long
@BOTH
def test_early_stopping_that_holds_out_every_row_that_counts(estimator_class):
    X, y = data_for(estimator_class, N)
    estimator = quick(estimator_class, early_stopping=True)
    messages = []
    for row in range(N):  # the only row of weight above zero; for some it is held out
        try:
            estimator.fit(X, y, sample_weight=np.eye(N)[row])
        except ValueError as error:
            messages.append(str(error))
    assert 0 < len(messages) < N
    assert all("a positive sample_weight" in message for message in messages)


def test_early_stopping_reuses_no_split_that_holds_out_every_row_that_counts():
    X, y = value_data(N)
    estimator = quick(BackpropRegressor, early_stopping=True, warm_start=True).fit(X, y)
    train, held_out = estimator._training[0].split
    with pytest.raises(ValueError, match="a positive sample_weight"):
        estimator.fit(X, y, sample_weight=np.isin(np.arange(N), held_out).astype(float))
    estimator.fit(X, y, sample_weight=np.isin(np.arange(N), train[:1]).astype(float))


@pytest.mark.parametrize("dtype", [str, object])
def test_labels_of_another_kind_in_a_later_batch(dtype):
    X, y = class_data(N)
    estimator = quick(BackpropClassifier).fit(X, y)
    with pytest.raises(ValueError, match=r"classes not in `self.classes_`: \['a', 'b', 'c'\]"):
        estimator.partial_fit(X, np.array(["a", "b", "c"], dtype=dtype)[y])


# ------------------------------------------------------------- the short cut of validation


@pytest.mark.parametrize("n_columns", [2, 5])
@BOTH
def test_later_batches_of_several_targets_skip_scikit_learns_checks(
    estimator_class, n_columns, monkeypatch
):
    """They take longer than a step; what they would find is found all the same."""
    if estimator_class is BackpropClassifier:
        (X, y), classes = label_data(N, 4, n_columns), {"classes": range(n_columns)}
    else:
        (X, y), classes = value_data(N, 4, n_columns), {}
    model = quick(estimator_class).partial_fit(X, y, **classes)
    checks = Mock(wraps=_validation.validate_data)
    monkeypatch.setattr(_validation, "validate_data", checks)
    model.partial_fit(X, y)
    assert checks.call_count == 0

    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X, changed(y, (3, 1), np.nan, float))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.partial_fit(X, y[1:])
    assert checks.call_count == 2


def test_a_column_of_targets_is_no_case_of_several():
    X, y = value_data(N, 4)
    model = quick(BackpropRegressor).partial_fit(X, y)
    with pytest.warns(DataConversionWarning):
        model.partial_fit(X, y[:, None])
