"""Do large tables need little memory, and are the inputs of networks what they are for small ones?

The oracle of the inputs is the encoding of all rows at once, as in prediction.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skbackprop import TabularRegressor
from skbackprop.tabular import TableEncoder, _model_inputs, base, numeric_encoders
from skbackprop.tabular._model_inputs import WIDTH, FeatureBuilder, LazyFeatureMatrix
from skbackprop.tabular._table_encoding import FittedEncoding
from skbackprop.utils.arrays import max_abs
from support import grows_by_less, peak_of
from support.tables import BOTH, columns_of, mixed_data, predict

SMALL = {"n_estimators": 2, "max_iter": 2, "random_state": 0}
N = 300


def table_of_all_kinds(n=N):
    rng = np.random.RandomState(0)
    frame = pd.DataFrame(
        {
            "number": np.where(rng.rand(n) < 0.2, np.nan, rng.randn(n)),
            "far": rng.standard_cauchy(n) * 1e6,
            "two": rng.randint(0, 2, n),
            "one": np.ones(n),
            "few": rng.choice(["a", "b", None], n),
            "many": [f"l{at}" for at in rng.randint(0, 60, n)],
            "day": np.datetime64("2024-01-01") + rng.randint(0, 9000, n).astype("m8[h]"),
            "text": [f"word {at} and {at % 7}" for at in rng.permutation(n)],
        }
    )
    frame.loc[3, "day"] = pd.NaT
    return frame


TABLES = {
    "all kinds": table_of_all_kinds,
    "numbers": lambda: np.random.RandomState(1).randn(N, 5).astype(np.float32),
    "sparse": lambda: sparse.random(N, 30, 0.2, format="csr", random_state=0),
    "constant": lambda: np.ones((N, 2)),
}


def fitted(X, y=None, target_type="continuous"):
    y = np.random.RandomState(2).randn(X.shape[0]) if y is None else y
    rng = np.random.RandomState(3)
    encoding, rows = FittedEncoding.fit(
        columns_of(X),
        y,
        TableEncoder(target_type=target_type, random_state=rng),
        with_interactions=True,
    )
    return FeatureBuilder.from_encoding(encoding, rows, rng, len(rows.codes)), rows


@pytest.mark.parametrize("view", ["encoded", "embedded", "table"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("values_at_once", [1, 1 << 20])
def test_views_are_those_of_all_rows_at_once(name, view, values_at_once, monkeypatch):
    monkeypatch.setattr(numeric_encoders, "_VALUES_AT_ONCE", values_at_once)
    X = TABLES[name]()
    features, rows = fitted(X)
    matrices = features.encoding.read_rows(columns_of(X), features.encoding.folds)
    expected = features.make_inputs(matrices, with_table=True)[view]
    np.testing.assert_array_equal(features.make_training_input(rows, view), expected)
    if view != "table":
        lazy, some = LazyFeatureMatrix(features, rows, view), np.array([5, 250, 5, 0])
        assert lazy.shape == expected.shape
        np.testing.assert_array_equal(lazy[some], expected[some])
        np.testing.assert_array_equal(lazy[7:290], expected[7:290])
        assert max_abs(lazy) == np.abs(expected).max()


@BOTH
@pytest.mark.parametrize("is_validated", [False, True])
def test_networks_are_the_same_on_inputs_that_are_computed_for_each_batch(
    kind, is_validated, monkeypatch
):
    X, y = mixed_data(kind)
    validation = {"X_val": X[:30], "y_val": y[:30]} if is_validated else {}
    model = kind(**SMALL, blend="boosting").fit(X, y, **validation)
    monkeypatch.setattr(_model_inputs, "_MAX_DENSE_ELEMENTS", 0)
    lazy = kind(**SMALL, blend="boosting").fit(X, y, **validation)
    for own, expected in zip(lazy.networks_, model.networks_, strict=True):
        for found, weights in zip(own.coefs_, expected.coefs_, strict=True):
            np.testing.assert_array_equal(found, weights)
    np.testing.assert_array_equal(predict(lazy, X), predict(model, X))


def test_numbers_of_large_tables_are_embedded(monkeypatch):
    monkeypatch.setattr(_model_inputs, "_MAX_BLOCK_ELEMENTS", 2 * WIDTH * 100)
    monkeypatch.setattr(_model_inputs, "_BLOCK_ROWS", 100)
    narrow, wide = (np.random.RandomState(0).randn(N, width) for width in (2, 3))
    assert fitted(narrow)[0].n_blocks == 2
    assert fitted(wide)[0].n_blocks == 0


def wide_table(n_rows):
    """Return sixteen numbers, most with missing values, and four categories."""
    rng = np.random.RandomState(0)
    numbers = rng.randn(n_rows, 16)
    numbers[:, ::2][rng.rand(n_rows, 8) < 0.1] = np.nan
    frame = pd.DataFrame(numbers).add_prefix("x")
    for at, n_levels in enumerate((3, 20, 25, 300)):
        frame[f"c{at}"] = pd.Categorical.from_codes(
            rng.randint(0, n_levels, n_rows), [f"level {level}" for level in range(n_levels)]
        )
    return frame


@pytest.mark.parametrize("min_gain, is_kept", [(-np.inf, True), (np.inf, False)])
@pytest.mark.parametrize("settings", [{}, {"n_estimators": 3}, {"blend": "boosting"}], ids=str)
@BOTH
def test_what_is_trained_on_very_many_rows(kind, settings, min_gain, is_kept, monkeypatch):
    """One ensemble of fewer networks; boosting where it pays, or where it was asked for."""
    X, y = mixed_data(kind, 520)
    monkeypatch.setattr(base, "VERY_MANY_ROWS", 519)
    monkeypatch.setattr(base, "MAX_ROWS_OF_FULL_ENSEMBLE", 519)
    monkeypatch.setattr(base, "MIN_GAIN_OF_BOOSTING", min_gain)
    model = kind(max_iter=1, random_state=0, **settings).fit(X, y)
    assert model.n_iter_.shape == (1, settings.get("n_estimators", 4))
    assert len(model.blended_) == (is_kept or "blend" in settings)
    assert model.weights_.shape == (1 + len(model.blended_),)
    assert len(predict(model, X)) == 520


@BOTH
def test_what_is_trained_on_fewer_rows(kind, monkeypatch):
    X, y = mixed_data(kind, 520)
    monkeypatch.setattr(base, "VERY_MANY_ROWS", 520)
    monkeypatch.setattr(base, "MAX_ROWS_OF_FULL_ENSEMBLE", 520)
    model = kind(max_iter=1, random_state=0).fit(X, y)
    assert model.n_iter_.shape == (len(kind._configurations), 8)
    assert len(model.blended_) == 1


@pytest.mark.slow
@BOTH
def test_a_fit_never_holds_the_inputs_of_all_rows(kind, monkeypatch):
    """Bytes for each row, from two sizes: what does not grow with the rows is no matter."""
    monkeypatch.setattr(_model_inputs, "_MAX_DENSE_ELEMENTS", 0)
    monkeypatch.setattr(numeric_encoders, "_VALUES_AT_ONCE", 1)
    model = kind(n_estimators=2, max_iter=1, random_state=0)

    def peak(n_rows):
        X = wide_table(n_rows)
        return peak_of(model.fit, X, X["x1"] if kind is TabularRegressor else X["x1"] > 0)

    peak(100)  # of what is set up at its first use
    width = model.networks_[0].n_features_in_
    assert width > 16 * (1 + WIDTH)
    # A quarter of the widest input, in single precision.
    assert grows_by_less(peak, 8_000, 16_000, 8_000 * 4 * width / 4)
