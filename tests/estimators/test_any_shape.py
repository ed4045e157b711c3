"""Networks and data of arbitrary shapes, drawn by Hypothesis: results have the right shapes."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from support import few_epochs
from support.lanes import examples

pytestmark = few_epochs

COMMON = {
    "n": st.integers(1, 14),
    "n_features": st.integers(1, 5),
    "hidden": st.lists(st.integers(1, 6), max_size=3),
    "batch_size": st.one_of(st.just("auto"), st.integers(1, 16)),
    "solver": st.sampled_from(["sgd", "adam", "lbfgs"]),
    "activations": st.lists(st.sampled_from([*ACTIVATIONS]), min_size=3, max_size=3),
    "as_sparse": st.booleans(),
    "weighted": st.booleans(),
    "dtype": st.sampled_from([None, "float32"]),
    "seed": st.integers(0, 2**31 - 1),
}


def draw_case(estimator_class, case, **settings):
    """Return an estimator, X, weight and the stream that is left for y."""
    rng = np.random.RandomState(case["seed"])
    X = rng.randn(case["n"], case["n_features"])
    X = sparse.csr_array(X * (X > 0)) if case["as_sparse"] else X
    weight = rng.uniform(0.1, 3, case["n"]) if case["weighted"] else None
    names = ("batch_size", "solver", "dtype")
    model = estimator_class(
        case["hidden"],
        case["activations"][: len(case["hidden"])],
        max_iter=3,
        random_state=case["seed"],
        **{name: case[name] for name in names},
        **settings,
    )
    return model, X, weight, rng


def fit_quietly(model, X, y, weight):
    """Fit; a batch size over the number of rows is no news here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*batch_size")
        return model.fit(X, y, sample_weight=weight)


def assert_shapes(model, X, case, n_outputs):
    widths = [case["n_features"], *case["hidden"], n_outputs]
    assert [weights.shape for weights in model.coefs_] == list(pairwise(widths))
    assert [biases.shape for biases in model.intercepts_] == [(width,) for width in widths[1:]]
    assert model.n_outputs_ == n_outputs
    assert model.n_layers_ == len(widths)
    assert len(model.loss_curve_) == model.n_iter_ <= 3
    assert all(np.isfinite(array).all() for array in model.coefs_ + model.intercepts_)
    if case["solver"] != "lbfgs":
        assert model.t_ == model.n_iter_ * case["n"]


@pytest.mark.long
@examples(0.6)
@given(
    case=st.fixed_dictionaries(COMMON),
    n_outputs=st.integers(1, 3),
    loss=st.sampled_from(["squared_error", "poisson"]),
)
def test_regressor_of_any_shape(case, n_outputs, loss):
    model, X, weight, rng = draw_case(BackpropRegressor, case, loss=loss)
    Y = rng.uniform(0, 3, (case["n"], n_outputs))
    Y = Y[:, 0] if n_outputs == 1 else Y
    fit_quietly(model, X, Y, weight)
    assert_shapes(model, X, case, n_outputs)
    predictions = model.predict(X)
    assert predictions.shape == Y.shape
    assert predictions.dtype == (case["dtype"] or "float64")
    one_by_one = np.concatenate([model.predict(X[[i]]) for i in range(case["n"])])
    np.testing.assert_allclose(one_by_one, predictions, rtol=1e-4, atol=1e-5)


@examples(0.6)
@given(
    case=st.fixed_dictionaries(COMMON),
    n_classes=st.integers(1, 5),
    multilabel=st.booleans(),
    loss=st.sampled_from(["log_loss", "brier"]),
)
def test_classifier_of_any_shape(case, n_classes, multilabel, loss):
    model, X, weight, rng = draw_case(BackpropClassifier, case, loss=loss)
    n = case["n"]
    if multilabel:
        n_labels = max(2, n_classes)  # one column would be a column-vector y
        y = rng.randint(2, size=(n, n_labels))
        n_outputs = n_columns = n_labels
    else:
        y = np.array(list("abcde"))[rng.randint(n_classes, size=n)]
        n_columns = len(np.unique(y))
        n_outputs = 1 if n_columns <= 2 else n_columns
    fit_quietly(model, X, y, weight)
    assert_shapes(model, X, case, n_outputs)
    labels, probabilities = model.predict(X), model.predict_proba(X)
    assert labels.shape == y.shape
    assert set(labels.ravel()) <= set(y.ravel()) | ({0, 1} if multilabel else set())
    assert probabilities.shape == (n, n_columns)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    np.testing.assert_allclose(np.log(probabilities), model.predict_log_proba(X), atol=1e-4)
    if not multilabel:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
        scores = model.decision_function(X)
        assert scores.shape == ((n, n_columns) if n_columns > 2 else (n,))
        most_probable = model.classes_[probabilities.argmax(axis=1)]
        is_clear = np.sort(probabilities, axis=1)[:, -1] > 1 / n_columns + 1e-4
        assert (labels == most_probable)[is_clear].all()


@examples(0.6)
@given(
    case=st.fixed_dictionaries(COMMON), batches=st.lists(st.integers(1, 9), min_size=1, max_size=4)
)
def test_partial_fit_of_batches_of_any_size(case, batches):
    case = case | {"solver": "sgd" if case["solver"] == "lbfgs" else case["solver"]}
    model, _, _, rng = draw_case(BackpropClassifier, case)
    for n in batches:
        X = rng.randn(n, case["n_features"])
        weight = rng.uniform(0.1, 3, n) if case["weighted"] else None
        y = rng.randint(3, size=n)
        model.partial_fit(sparse.csr_array(X) if case["as_sparse"] else X, y, weight, [0, 1, 2])
    assert model.t_ == sum(batches)
    assert len(model.loss_curve_) == len(batches)
    assert model.predict_proba(rng.randn(2, case["n_features"])).shape == (2, 3)
