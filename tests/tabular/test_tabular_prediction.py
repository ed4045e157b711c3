"""Are predictions the same for one row, some and very many, from any thread?"""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular import _prediction
from support.tables import BOTH, mixed_data, predict

SMALL = {"n_estimators": 2, "max_iter": 3, "blend": None, "random_state": 0}


def fitted(kind, **settings):
    return kind(**SMALL | settings).fit(*mixed_data(kind))


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(_prediction, "n_blas_threads", lambda: 2)


@BOTH
@pytest.mark.parametrize("blend", [None, "boosting", "linear"])
def test_predictions_do_not_depend_on_other_rows(kind, blend, two_threads):
    linear = LogisticRegression() if kind is TabularClassifier else Ridge()
    model = fitted(kind, blend=[linear] if blend == "linear" else blend)
    X, _ = mixed_data(TabularRegressor, _prediction.MANY_ROWS + 1, seed=1)
    many = predict(model, X)
    parts = [predict(model, X[start : start + 1000]) for start in range(0, len(X), 1000)]
    np.testing.assert_allclose(many, np.concatenate(parts), rtol=1e-4, atol=1e-5)
    some = predict(model, X[:-1])  # in parts, but in double precision
    np.testing.assert_allclose(some, np.concatenate(parts)[:-1], rtol=1e-9)
    single = [predict(model, X[row : row + 1])[0] for row in range(5)]
    np.testing.assert_allclose(single, some[:5], rtol=1e-9)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_blocks_of_arrays_and_sparse_matrices(make, two_threads, monkeypatch):
    X = np.random.RandomState(0).randn(90, 3) * (np.arange(3) > 0)
    model = TabularRegressor(**SMALL).fit(make(X), X[:, 1])
    whole = model.predict(make(X))
    monkeypatch.setattr(_prediction, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(model.predict(make(X)), whole, rtol=1e-9)


@BOTH
def test_prediction_is_thread_safe(kind):
    model = fitted(kind, blend="boosting")
    X, _ = mixed_data(TabularRegressor, 400, seed=2)
    expected = predict(model, X)
    with ThreadPoolExecutor(4) as pool:
        parts = [X[start : start + 1 + start % 50] for start in range(0, 350, 5)]
        answers = list(pool.map(lambda part: predict(model, part), parts))
        for part, found in zip(parts, answers, strict=True):
            np.testing.assert_allclose(found, expected[part.index], rtol=1e-9)


@BOTH
def test_pickles_do_not_grow_by_prediction(kind):
    model = fitted(kind)
    size = len(pickle.dumps(model))
    X, _ = mixed_data(TabularRegressor, _prediction.MANY_ROWS + 1)
    expected = predict(model, X)
    assert len(pickle.dumps(model)) == size
    np.testing.assert_array_equal(predict(pickle.loads(pickle.dumps(model)), X), expected)
