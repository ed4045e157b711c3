"""What happens with targets and weights that nobody would call nice?

Labels of every kind come back as they went in; classes may be missing from a batch; batches and
splits may be larger than the data; and what cannot be learned is refused with a message that
names it.
"""

import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.neural_network import MLPClassifier

from skbackprop import BackpropClassifier, BackpropRegressor, _validation
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


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_labels_come_back_as_they_went_in(name, n_classes):
    labels = LABELS[name]
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


def test_boolean_labels():
    X, codes = class_data(N, n_classes=2)
    model = quick(BackpropClassifier, max_iter=200, learning_rate_init=0.05).fit(X, codes == 1)
    assert model.classes_.dtype == bool
    assert model.predict(X).dtype == bool
    assert (model.predict(X) == (codes == 1)).mean() > 0.9


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


@pytest.mark.parametrize(
    "container",
    [sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_matrix],
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


def test_targets_that_are_no_classes():
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


def test_targets_that_are_no_numbers():
    X, _ = value_data(N)
    with pytest.raises(ValueError, match="could not convert string to float.*cat"):
        quick(BackpropRegressor).fit(X, np.full(N, "cat"))
    with pytest.raises(ValueError, match=r"[Cc]omplex"):
        quick(BackpropRegressor).fit(X, np.full(N, 1j))
    with pytest.raises(ValueError, match=r"requires y to be passed"):
        quick(BackpropRegressor).fit(X, None)


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_matrix])
def test_sparse_targets_of_a_regressor(container):
    """They are rare but legal, and scikit-learn's network learns from them."""
    X, Y = value_data(N, n_outputs=3)
    from_sparse = quick(BackpropRegressor).fit(X, container(Y))
    assert_same_network(from_sparse, quick(BackpropRegressor).fit(X, Y))
    assert isinstance(from_sparse.predict(X), np.ndarray)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_negative_counts(method):
    X, y = value_data(N)
    with pytest.raises(ValueError, match=r"poisson.*\by\b.*-"):
        getattr(quick(BackpropRegressor, loss="poisson"), method)(X, y)


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_x_and_y_of_different_lengths(estimator_class, method):
    X, y = data_for(estimator_class)
    for targets in (y[:-1], np.append(y, y[0])):
        with pytest.raises(ValueError, match=rf"inconsistent numbers of samples.*{N}"):
            getattr(quick(estimator_class), method)(X, targets)


# ---------------------------------------------------------------- classes of partial_fit


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_class_may_be_missing_from_a_batch(n_classes):
    X, y = class_data(90, n_classes=n_classes)
    model = quick(BackpropClassifier, learning_rate_init=0.05)
    classes = np.arange(n_classes)
    for _ in range(60):
        for absent in classes:
            rows = y != absent
            model.partial_fit(X[rows], y[rows], classes=classes)
            assert model.predict_proba(X).shape == (90, n_classes)
    assert list(model.classes_) == list(classes)
    if n_classes == 3:  # with two, each batch forgets the class that the last one taught
        assert model.score(X, y) > 0.6


def test_a_new_class_in_a_batch():
    X, y = class_data(N)
    model = quick(BackpropClassifier).partial_fit(X, y, classes=[0, 1, 2])
    for new in (7, -1, 1.5):
        with pytest.raises(ValueError, match=rf"classes.*{re.escape(str(new))}|label type"):
            model.partial_fit(X, changed(y, 3, new, dtype=float))
    words = quick(BackpropClassifier).partial_fit(X, np.array(list("abc"))[y], classes=list("abc"))
    with pytest.raises(ValueError, match=r"classes.*zebra"):
        words.partial_fit(X, np.full(N, "zebra"))
    fitted = quick(BackpropClassifier).fit(X, y)
    with pytest.raises(ValueError, match=r"classes.*7"):
        fitted.partial_fit(X, changed(y, 3, 7))
    with pytest.raises(ValueError, match=r"classes.*7"):
        quick(BackpropClassifier).partial_fit(X, changed(y, 3, 7), classes=[0, 1, 2])


def test_classes_are_needed_in_the_first_call_and_stay():
    X, y = class_data(N)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        quick(BackpropClassifier).partial_fit(X, y)
    model = quick(BackpropClassifier).partial_fit(X, y, classes=[2, 1, 0])
    assert list(model.classes_) == [0, 1, 2]
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="classes=.* is not the same as on last call|not the same"):
        model.partial_fit(X, y, classes=[0, 1, 2, 3])


def test_partial_fit_needs_no_classes_after_fit():
    X, y = class_data(N)
    model = quick(BackpropClassifier).fit(X, y)
    before = model.t_
    assert model.partial_fit(X, y).t_ == before + N


def test_multilabel_batches():
    X, Y = label_data(N)
    model = quick(BackpropClassifier).partial_fit(X, Y, classes=[0, 1, 2])
    model.partial_fit(sparse.csr_array(X), sparse.csr_array(Y))
    assert model.predict_proba(X).shape == (N, 3)
    with pytest.raises(ValueError, match=r"\by\b"):
        model.partial_fit(X, Y[:, :2])


def test_partial_fit_of_another_number_of_outputs():
    X, Y = value_data(N, n_outputs=3)
    model = quick(BackpropRegressor).partial_fit(X, Y)
    for targets in (Y[:, 0], Y[:, :2]):
        with pytest.raises(ValueError, match=r"\by\b.*3"):
            model.partial_fit(X, targets)


# ----------------------------------------------------------------------- batches and splits


@BOTH
def test_batch_size_over_the_number_of_rows(estimator_class):
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
def test_batch_size_says_nothing_to_lbfgs(estimator_class):
    X, y = data_for(estimator_class)
    large = quick(estimator_class, batch_size=10 * N, solver="lbfgs").fit(X, y)
    assert_same_network(large, quick(estimator_class, batch_size=1, solver="lbfgs").fit(X, y))


@BOTH
@SOLVERS
def test_early_stopping_with_too_few_rows(estimator_class, solver):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, solver=solver, early_stopping=True)
    for n in (1, 2):
        with pytest.raises(ValueError, match=r"early_stopping.*rows"):
            model.fit(X[:n], y[:n])
    # Three rows are enough: two are held out.
    assert len(model.fit(X[:3], y[:3]).validation_scores_) == model.n_iter_
    with pytest.raises(ValueError, match="validation_fraction"):
        quick(estimator_class, early_stopping=True, validation_fraction=0.99).fit(X[:10], y[:10])


@BOTH
def test_early_stopping_with_a_rare_class(estimator_class):
    X, y = class_data(N)
    y = changed(y % 2, 3, 2)  # one row of class 2
    model = quick(estimator_class, early_stopping=True).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_


# --------------------------------------------------------------------------- sample weights


@BOTH
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
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
def test_wrong_sample_weight(estimator_class, method, weight, named):
    X, y = data_for(estimator_class)
    arguments = classes_for(estimator_class) if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=named):
        getattr(quick(estimator_class), method)(X, y, sample_weight=weight, **arguments)


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
    assert all("sample_weight is above zero" in message for message in messages)


def test_early_stopping_reuses_no_split_that_holds_out_every_row_that_counts():
    X, y = value_data(N)
    estimator = quick(BackpropRegressor, early_stopping=True, warm_start=True).fit(X, y)
    train, held_out = estimator._training[0]["split"]
    with pytest.raises(ValueError, match="sample_weight is above zero"):
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
    n_calls = []
    monkeypatch.setattr(_validation, "validate_data", checks_counted_in(n_calls))
    model.partial_fit(X, y)
    assert len(n_calls) == 0

    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X, changed(y, (3, 1), np.nan, float))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.partial_fit(X, y[1:])
    assert len(n_calls) == 2


def test_a_column_of_targets_is_no_case_of_several():
    X, y = value_data(N, 4)
    model = quick(BackpropRegressor).partial_fit(X, y)
    with pytest.warns(DataConversionWarning):
        model.partial_fit(X, y[:, None])


def checks_counted_in(n_calls):
    """Return scikit-learn's checks, which leave a mark in a list for each call."""
    original = _validation.validate_data

    def validate_data(*arguments, **options):
        n_calls.append(1)
        return original(*arguments, **options)

    return validate_data
