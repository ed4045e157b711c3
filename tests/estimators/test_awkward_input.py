"""X that nobody would call nice.

Each case ends in the right result, or in an error whose message names what is wrong (so these
tests ask for words in messages): values that are no numbers, hardly any rows, names that do not
match, huge numbers, and the same numbers in all kinds of containers.
"""

import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from support import (
    BOTH,
    NAMES,
    SOLVERS,
    D,
    N,
    assert_same_network,
    changed,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    pairs,
    quick,
    value_data,
)

pytestmark = few_epochs

# ------------------------------------------------------------- values that are no numbers

BAD_NUMBERS = pytest.mark.parametrize(
    "value, named",
    [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")],
    ids=["nan", "inf", "-inf"],
)


DAYS = np.arange("2020-01-01", "2020-02-10", dtype="datetime64[D]").astype("datetime64[ns]")
OF_TABLES = {"nan": np.nan, "none": None, "NA": pd.NA, "word": "a"}
CONTAINERS = {
    "list": np.ndarray.tolist,
    "objects": lambda X: X,
    "pandas": pd.DataFrame,
    "pandas's own dtypes": lambda X: pd.DataFrame(X).convert_dtypes(),
    "polars": lambda X: pl.DataFrame({f"{i}": X[:, i].tolist() for i in range(D)}, strict=False),
    "pyarrow": lambda X: pa.Table.from_pandas(pd.DataFrame(X, columns=NAMES)),
}


@pytest.mark.parametrize(
    "estimator_class, container, value",
    pairs(
        [BackpropClassifier, BackpropRegressor, BackpropAutoencoder], [*CONTAINERS], [*OF_TABLES]
    ),
)
@pytest.mark.filterwarnings("ignore:X .* feature names:UserWarning")
def test_errors_about_tables_name_the_estimators_that_take_them(estimator_class, container, value):
    X, y = data_for(BackpropClassifier)
    bad = X.astype(object)
    bad[:, 1] = OF_TABLES[value]
    bad = CONTAINERS[container](bad)
    new, fitted = quick(estimator_class), quick(estimator_class).fit(X, y)
    for call in (
        lambda: new.fit(bad, y),
        lambda: new.partial_fit(bad, y, **classes_for(estimator_class)),
        lambda: make_pipeline(new).fit(bad, y),
        lambda: fitted.score(bad, y),
    ):
        with pytest.raises((ValueError, TypeError), match="use TabularClassifier or") as error:
            call()
        assert f"{estimator_class.__name__} accepts only finite numbers" in str(error.value)
        assert "HistGradientBoosting" not in str(error.value)


@BAD_NUMBERS
def test_non_finite_y_is_an_error_that_names_no_estimators_of_tables(value, named):
    X, y = value_data(N)
    for targets in (changed(y, 3, value), changed(np.c_[y, y], 3, value)):
        for train in (
            quick(BackpropRegressor).fit,
            quick(BackpropRegressor, solver="lbfgs").fit,
            quick(BackpropRegressor).partial_fit,
        ):
            with pytest.raises(ValueError, match=rf"Input y contains {named}") as caught:
                train(X, targets)
            assert "Tabular" not in str(caught.value)


@pytest.mark.parametrize("y", [DAYS, DAYS - DAYS[0], pd.Series(DAYS), pl.Series(DAYS)])
def test_dates_are_no_targets(y):
    X, _ = data_for(BackpropRegressor)
    with pytest.raises(ValueError, match="y must contain numbers, got dates or durations"):
        quick(BackpropRegressor).fit(X, y)


# ------------------------------------------------------------------ hardly any rows, columns


@SOLVERS
@pytest.mark.parametrize("n_features", [1, D])
def test_one_row_is_learned(solver, n_features):
    X, y = value_data(1, n_features)
    model = quick(BackpropRegressor, solver=solver, max_iter=2000, learning_rate_init=0.05)
    assert model.fit(X, y).predict(X) == pytest.approx(y, abs=0.5)

    model = quick(BackpropClassifier, solver=solver).fit(X, ["only"])
    assert list(model.predict(X)) == ["only"]
    assert np.array_equal(model.predict_proba(X), [[1.0]])


@SOLVERS
@pytest.mark.parametrize("loss, label", [("log_loss", "spam"), ("brier", 7), ("log_loss", True)])
def test_one_class_is_predicted_with_certainty(solver, loss, label):
    X, _ = class_data(N)
    model = quick(BackpropClassifier, solver=solver, loss=loss).fit(X, np.full(N, label))
    assert list(model.classes_) == [label]
    assert np.array_equal(model.predict(X), np.full(N, label))
    assert np.array_equal(model.predict_proba(X), np.ones((N, 1)))
    assert np.array_equal(model.predict_log_proba(X), np.zeros((N, 1)))
    assert model.score(X, np.full(N, label)) == 1
    assert np.isfinite(model.loss_)


@BOTH
@SOLVERS
def test_constant_features_are_harmless(estimator_class, solver):
    X, y = data_for(estimator_class)
    long = {"solver": solver, "max_iter": 200, "learning_rate_init": 0.02}
    X_constant = np.c_[X, np.zeros(N), np.full(N, 3.0)]
    assert quick(estimator_class, **long).fit(X_constant, y).score(X_constant, y) > 0.8
    all_constant = np.full((N, D), 2.0)
    prediction = quick(estimator_class, **long).fit(all_constant, y).predict(all_constant)
    assert len(np.unique(prediction)) == 1


# -------------------------------------------------------------------------- huge numbers

SCALES = {"float32": [1e10, 1e30, 1e36], "float64": [1e10, 1e30, 1e200, 1e306]}
LARGE = [(dtype, scale) for dtype, scales in SCALES.items() for scale in scales]


def assert_finite_or_refused(model, X, y):
    """Fit and predict; either all of it is finite or an error names the scale."""
    try:
        model.fit(X, y)
        predictions = model.predict(X)
    except ValueError as error:
        if not re.search(r"scale|large", str(error)):
            raise
        return
    for array in [*model.coefs_, *model.intercepts_, model.loss_curve_, model.loss_]:
        assert np.isfinite(array).all()
    assert np.isfinite(predictions).all()
    if hasattr(model, "predict_proba"):
        assert np.isfinite(model.predict_log_proba(X)).all()
        np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "estimator_class, solver, activation, dtype_and_scale",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        *(["sgd", "adam", "lbfgs"], ["relu", "tanh"], LARGE),
    ),
)
def test_huge_x_gives_finite_results_or_an_error(
    estimator_class, solver, activation, dtype_and_scale
):
    X, y = data_for(estimator_class)
    dtype, scale = dtype_and_scale
    X = (X / np.abs(X).max() * scale).astype(dtype)
    model = quick(estimator_class, solver=solver, activation=activation, max_iter=20)
    assert_finite_or_refused(model, X, y)


@pytest.mark.parametrize(
    "solver, loss, dtype_and_scale",
    pairs(["sgd", "adam", "lbfgs"], ["squared_error", "poisson"], LARGE),
)
def test_huge_y_gives_finite_results_or_an_error(solver, loss, dtype_and_scale):
    X, y = value_data(N)
    dtype, scale = dtype_and_scale
    y = np.abs(y) / np.abs(y).max() * scale
    model = quick(BackpropRegressor, solver=solver, loss=loss, max_iter=20)
    assert_finite_or_refused(model, X.astype(dtype), y)


@BOTH
def test_x_beyond_float32_is_an_error(estimator_class):
    """1e39 is a float64 and no float32: the cast would turn it into infinity."""
    X, y = data_for(estimator_class)
    huge = changed(X, (3, 1), 1e39)
    for container in (np.asarray, sparse.csr_array):
        with pytest.raises(ValueError, match=r"the largest absolute value in X is 1e\+39"):
            quick(estimator_class, dtype="float32").fit(container(huge), y)
        model = quick(estimator_class).fit(container(X.astype("float32")), y)
        with pytest.raises(ValueError, match=r"the largest absolute value in X is 1e\+39"):
            model.predict(container(huge))


def test_y_beyond_float32_is_an_error():
    X, y = value_data(N)
    with pytest.raises(ValueError, match=r"(\by\b|targets).*1e\+39"):
        quick(BackpropRegressor, dtype="float32").fit(X, changed(y, 3, 1e39))


@BOTH
@SOLVERS
@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_scale_of_sample_weight_does_not_matter(estimator_class, solver, scale):
    """Only the ratio of weights counts without a penalty, even near the ends of the range."""
    X, y = data_for(estimator_class)
    plain = quick(estimator_class, solver=solver, alpha=0).fit(X, y)
    scaled = quick(estimator_class, solver=solver, alpha=0)
    scaled.fit(X, y, sample_weight=np.full(N, scale))
    assert_same_network(scaled, plain, rtol=1e-2, atol=1e-2)


@BOTH
def test_penalty_divided_by_tiny_sample_weights_is_an_error(estimator_class):
    X, y = data_for(estimator_class)
    with pytest.raises(ValueError, match="Training diverged in epoch"):
        quick(estimator_class).fit(X, y, sample_weight=np.full(N, 1e-320))
