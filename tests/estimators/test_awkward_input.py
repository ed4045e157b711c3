"""What happens with an X that nobody would call nice?

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
    label_data,
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
    "estimator_class", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
)
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("value", OF_TABLES)
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


def test_a_column_of_dates_is_one_of_a_table():
    X, y = data_for(BackpropClassifier)
    frame = pd.DataFrame(X).assign(day=DAYS)
    with pytest.raises(TypeError, match="use TabularClassifier or"):
        quick(BackpropClassifier).fit(frame.rename(columns=str), y)


def test_errors_about_infinite_input_are_those_of_scikit_learn():
    X, y = data_for(BackpropClassifier)
    with pytest.raises(ValueError, match="Input X contains infinity") as error:
        quick(BackpropClassifier).fit(changed(X, (3, 1), np.inf), y)
    assert "Tabular" not in str(error.value)


@BAD_NUMBERS
def test_non_finite_y_is_an_error_that_names_no_estimators_of_tables(value, named):
    X, y = value_data(N)
    for targets in (changed(y, 3, value), changed(np.c_[y, y], (3, 1), value)):
        for train in (
            quick(BackpropRegressor).fit,
            quick(BackpropRegressor, solver="lbfgs").fit,
            quick(BackpropRegressor).partial_fit,
        ):
            with pytest.raises(ValueError, match=rf"Input y contains {named}") as caught:
                train(X, targets)
            assert "Tabular" not in str(caught.value)


def test_missing_labels_are_an_error():
    X, y = class_data(N)
    with pytest.raises(ValueError, match="Input y contains NaN"):
        quick(BackpropClassifier).fit(X, changed(y, 3, np.nan, dtype=float))
    for missing in (None, np.nan, pd.NA):
        labels = np.array(["a", "b", "c"], dtype=object)[y]
        labels[3] = missing
        with pytest.raises((ValueError, TypeError), match=r"\by\b|label"):
            quick(BackpropClassifier).fit(X, labels)


@BOTH
@BAD_NUMBERS
def test_non_finite_sample_weight_is_an_error(estimator_class, value, named):
    X, y = data_for(estimator_class)
    weight = changed(np.ones(N), 3, value)
    for method, given in (("fit", {}), ("partial_fit", classes_for(estimator_class))):
        with pytest.raises(ValueError, match=rf"sample_weight contains {named}"):
            getattr(quick(estimator_class), method)(X, y, sample_weight=weight, **given)


@BOTH
def test_sample_weight_with_an_infinite_sum_is_an_error(estimator_class):
    X, y = data_for(estimator_class)
    with pytest.raises(ValueError, match=r"largest value is 1e\+308\. Scale the weights"):
        quick(estimator_class).fit(X, y, sample_weight=np.full(N, 1e308))


@BOTH
def test_largest_numbers_of_both_signs(estimator_class):
    """Their sum, by which scikit-learn looks for a NaN, is infinity less infinity."""
    X, y = data_for(estimator_class)
    X = np.sign(X) * np.finfo(float).max
    model = quick(estimator_class, activation="tanh", max_iter=1)
    assert_finite_or_refused(model, X, y)


@pytest.mark.parametrize("y", [DAYS, DAYS - DAYS[0], pd.Series(DAYS), pl.Series(DAYS)])
def test_dates_are_no_targets(y):
    X, _ = data_for(BackpropRegressor)
    with pytest.raises(ValueError, match="y must contain numbers, got dates or durations"):
        quick(BackpropRegressor).fit(X, y)


def test_dates_may_be_labels():
    X, y = data_for(BackpropClassifier)
    model = quick(BackpropClassifier).fit(X, DAYS[y])
    np.testing.assert_array_equal(model.classes_, DAYS[:3])


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
@pytest.mark.parametrize("loss", ["log_loss", "brier"])
@pytest.mark.parametrize("label", ["spam", 7, True])
def test_one_class_is_predicted_with_certainty(solver, loss, label):
    X, _ = class_data(N)
    model = quick(BackpropClassifier, solver=solver, loss=loss).fit(X, np.full(N, label))
    assert list(model.classes_) == [label]
    assert np.array_equal(model.predict(X), np.full(N, label))
    assert np.array_equal(model.predict_proba(X), np.ones((N, 1)))
    assert np.array_equal(model.predict_log_proba(X), np.zeros((N, 1)))
    assert model.score(X, np.full(N, label)) == 1
    assert np.isfinite(model.loss_)


@pytest.mark.parametrize("kind", ["one label", "all set", "none set"])
def test_constant_indicator_columns_are_learned(kind):
    X, Y = label_data(N)
    Y = {"one label": Y[:, :2] * [1, 0], "all set": np.ones_like(Y), "none set": 0 * Y}[kind]
    model = quick(BackpropClassifier, max_iter=400, learning_rate_init=0.05).fit(X, Y)
    probabilities = model.predict_proba(X)
    assert probabilities.shape == Y.shape
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (model.predict(X) == Y).mean() > 0.95


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


@BOTH
@SOLVERS
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("dtype, scale", LARGE)
def test_huge_x_gives_finite_results_or_an_error(estimator_class, solver, activation, dtype, scale):
    X, y = data_for(estimator_class)
    X = (X / np.abs(X).max() * scale).astype(dtype)
    model = quick(estimator_class, solver=solver, activation=activation, max_iter=20)
    assert_finite_or_refused(model, X, y)


@SOLVERS
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("dtype, scale", LARGE)
def test_huge_y_gives_finite_results_or_an_error(solver, loss, dtype, scale):
    X, y = value_data(N)
    y = np.abs(y) / np.abs(y).max() * scale
    model = quick(BackpropRegressor, solver=solver, loss=loss, max_iter=20)
    assert_finite_or_refused(model, X.astype(dtype), y)


@BOTH
@SOLVERS
def test_tiny_x_trains_like_zeros(estimator_class, solver):
    """Numbers near zero say as little as zeros do, and nothing is divided by them."""
    X, y = data_for(estimator_class)
    for dtype, scale in (("float32", 1e-40), ("float64", 1e-310)):
        tiny = (scale * X).astype(dtype)
        model = quick(estimator_class, solver=solver).fit(tiny, y)
        zeros = quick(estimator_class, solver=solver).fit(np.zeros_like(tiny), y)
        assert_same_network(model, zeros, rtol=1e-5, atol=1e-6)


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
@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
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


# --------------------------------------------------------- the same numbers in other clothes


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize(
    "hold",
    [
        np.ndarray.tolist,
        lambda Y: (pd.DataFrame if Y.ndim == 2 else pd.Series)(Y),
        lambda Y: Y.astype(object),
        read_only,
        np.asfortranarray,
        lambda Y: np.repeat(Y, 2, axis=0)[::2],
        lambda Y: Y.astype(Y.dtype.newbyteorder()),
    ],
    ids=["list", "pandas", "objects", "read-only", "Fortran", "strided", "byte-swapped"],
)
@pytest.mark.parametrize(
    "estimator_class, data",
    [
        (BackpropRegressor, value_data(N)),
        (BackpropRegressor, value_data(N, n_outputs=3)),
        (BackpropClassifier, class_data(N)),
        (BackpropClassifier, label_data(N)),
    ],
    ids=["value", "values", "class", "labels"],
)
def test_container_of_y_does_not_matter(estimator_class, data, hold):
    (X, y), held = data, hold(data[1])
    if y.ndim == 2 and isinstance(held, list) and estimator_class is BackpropClassifier:
        return  # scikit-learn takes no lists for many labels
    expected, actual = (quick(estimator_class).fit(X, Y) for Y in (y, held))
    assert_same_network(actual, expected)
    np.testing.assert_array_equal(actual.predict(X), expected.predict(X))
    assert actual.predict(X).shape == y.shape


@BOTH
@pytest.mark.parametrize(
    "hold",
    [
        *(np.ndarray.tolist, pd.Series, read_only, lambda w: np.repeat(w, 2)[::2], np.float32),
        lambda w: float(w[2]),
    ],
    ids=["list", "pandas", "read-only", "strided", "float32", "one number"],
)
def test_container_of_sample_weight_does_not_matter(estimator_class, hold):
    X, y = data_for(estimator_class)
    weight = np.arange(N) % 4
    held = hold(weight)
    expected = np.full(N, held) if isinstance(held, float) else weight.astype(float)
    actual, reference = (quick(estimator_class).fit(X, y, w) for w in (held, expected))
    assert_same_network(actual, reference)
