"""Are predictions the same for one row, some and very many, from any thread?"""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular import _fold_models
from support.tables import BOTH, predict

SMALL = {"n_estimators": 2, "max_iter": 3, "random_state": 0}


def table(n, seed=0):
    rng = np.random.RandomState(seed)
    X = pd.DataFrame(
        {
            "a": np.where(rng.rand(n) < 0.1, np.nan, rng.randn(n)),
            "b": rng.rand(n),
            "c": rng.choice(["x", "y", "z"], n),
        }
    )
    return X, X["b"] + (X["c"] == "x") + 0.1 * rng.randn(n)


def fitted(kind, **settings):
    X, y = table(150)
    y = np.digitize(y, [0.5, 1]) if kind is TabularClassifier else y
    return kind(**SMALL, **settings).fit(X, y)


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(_fold_models, "threads_for_stacks", lambda: 2)


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("blend", [None, "boosting", "linear"])
def test_many_rows_are_predicted_as_few_are(kind, blend, two_threads):
    linear = LogisticRegression() if kind is TabularClassifier else Ridge()
    model = fitted(kind, blend=[linear] if blend == "linear" else blend)
    X, _ = table(_fold_models.MANY_ROWS + 1, seed=1)
    many = predict(model, X)
    parts = [predict(model, X[start : start + 1000]) for start in range(0, len(X), 1000)]
    np.testing.assert_allclose(many, np.concatenate(parts), rtol=1e-4, atol=1e-5)
    some = predict(model, X[:-1])  # in parts, but in double precision
    np.testing.assert_allclose(some, np.concatenate(parts)[:-1], rtol=1e-9)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_array])
def test_parts_of_all_kinds_of_tables(make, two_threads, monkeypatch):
    X = np.random.RandomState(0).randn(90, 3) * (np.arange(3) > 0)
    model = TabularRegressor(**SMALL).fit(make(X), X[:, 1])
    whole = model.predict(make(X))
    monkeypatch.setattr(_fold_models, "_ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(model.predict(make(X)), whole, rtol=1e-9)


def test_an_error_in_a_part_is_raised(two_threads, monkeypatch):
    model = fitted(TabularClassifier)
    X, _ = table(200)
    X.loc[150, "b"] = np.inf
    monkeypatch.setattr(_fold_models, "_ROWS_AT_ONCE", 16)
    with pytest.raises(ValueError, match="'b' has infinite values"):
        model.predict_proba(X)


@pytest.mark.long
@BOTH
def test_several_threads_may_predict_at_once(kind):
    model = fitted(kind, blend="boosting")
    X, _ = table(400, seed=2)
    expected = predict(model, X)
    with ThreadPoolExecutor(4) as pool:
        parts = [X[start : start + 1 + start % 50] for start in range(0, 350, 5)]
        answers = list(pool.map(lambda part: predict(model, part), parts))
        for part, found in zip(parts, answers, strict=True):
            np.testing.assert_allclose(found, expected[part.index], rtol=1e-9)


@BOTH
def test_what_is_kept_for_prediction_stays_behind(kind):
    model = fitted(kind)
    size = len(pickle.dumps(model))
    X, _ = table(_fold_models.MANY_ROWS + 1)
    expected = predict(model, X)
    assert len(pickle.dumps(model)) == size
    np.testing.assert_array_equal(predict(pickle.loads(pickle.dumps(model)), X), expected)


@pytest.mark.long
@BOTH
def test_errors_name_the_row_of_the_whole_table(kind, two_threads):
    model = fitted(kind)
    for row in (0, 2047, 2048, 3000):
        for column, value, error in [
            ("a", [1.0], TypeError),
            ("a", "word", ValueError),
            ("c", {"x": 1}, TypeError),
        ]:
            X, _ = table(3001)
            X[column] = X[column].astype(object)
            X.at[row, column] = value
            with pytest.raises(error, match=rf"Column '{column}' .* row {row}\b"):
                model.predict(X)
