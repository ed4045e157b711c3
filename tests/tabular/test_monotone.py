"""Are predictions monotone in columns with constraints, to the last bit, and still accurate?"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.losses import Quantile
from skbackprop.persistence import load, save
from skbackprop.tabular._monotone import MonotoneDense, MonotoneInputs
from skbackprop.testing import check_layer
from support.tables import BOTH, growing_levels, predict

SMALL = {"n_estimators": 2, "max_iter": 6, "random_state": 0}
SIGNS = {"size": 1, "age": -1, "lift": 1}
BOOSTING = {
    TabularClassifier: HistGradientBoostingClassifier,
    TabularRegressor: HistGradientBoostingRegressor,
}


def houses(kind, n=600, seed=0):
    """Return houses, whose price does not always rise with the size nor fall with the age."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame(
        {
            "city": rng.choice([f"c{i}" for i in range(40)], n),
            "size": np.where(rng.rand(n) < 0.1, np.nan, np.exp(rng.randn(n))),
            "noise": rng.randn(n),
            "age": [f"{age:,}" for age in rng.randint(0, 3000, n)],
            "lift": rng.rand(n) < 0.3,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.randint(500, size=n), "D"),
        }
    )
    age = X["age"].str.replace(",", "").astype(float) / 1000
    slope = X["city"].str[1:].astype(int) / 20 - 0.5
    y = np.sin(3 * X["size"].fillna(1)) + slope * X["size"].fillna(1) + age * np.cos(2 * age)
    y += X["noise"] * (1 - X["lift"]) + 0.3 * rng.randn(n)
    return X, (np.where(y > 0, "yes", "no") if kind is TabularClassifier else 1e5 * y)


def sweep(X, column, n_rows, n_values):
    """Return each of a few rows with increasing values of a column, also beyond those of X."""
    numbers = pd.to_numeric(X[column].astype(str).str.replace(",", ""), errors="coerce")
    numbers = numbers if column != "lift" else X[column].astype(float)
    middle = np.linspace(numbers.min(), numbers.max(), n_values - 40)
    far = np.logspace(0, 8, 20)
    values = np.concatenate([numbers.min() - far[::-1], middle, numbers.max() + far])
    rows = X.sample(n_rows, random_state=0).loc[lambda frame: frame.index.repeat(n_values)]
    return rows.assign(**{column: np.tile(values, n_rows)})


def prediction(model, X):
    y = predict(model, X)
    return y[:, 1] if y.ndim == 2 else y


@pytest.mark.slow
@BOTH
def test_no_step_is_against_a_constraint(kind):
    X, y = houses(kind)
    weight = np.random.RandomState(1).rand(len(y))
    model = kind(**SMALL, monotonic_cst=SIGNS).fit(X, y, weight)
    assert (model.weights_ > 0).sum() > 1 and len(model.blended_) == 1
    for column, sign in SIGNS.items():
        # Above 4,096 rows, other estimators predict in single precision.
        for n_rows, n_values in [(20, 2000), (2, 1500)]:
            rows = sweep(X, column, n_rows, n_values)
            steps = sign * np.diff(prediction(model, rows).reshape(n_rows, n_values))
            assert steps.min() == 0 and steps.max() > 0
        rows = sweep(X, column, 1, 61).iloc[15:46].to_dict("records")
        assert min(sign * np.diff([prediction(model, [row])[0] for row in rows])) >= 0
    free = kind(**SMALL).fit(X, y, weight)
    assert np.diff(prediction(free, sweep(X, "size", 1, 2000))).min() < 0


@BOTH
@pytest.mark.parametrize("blend", [None, "boosting", "own"])
def test_each_component_has_the_constraints(kind, blend):
    X, y = houses(kind, 120)
    blend = [BOOSTING[kind](max_iter=20)] if blend == "own" else blend
    model = kind(**SMALL, monotonic_cst={"size": -1}, blend=blend).fit(X, y)
    assert np.diff(prediction(model, sweep(X, "size", 3, 200)).reshape(3, -1)).max() <= 0


@pytest.mark.parametrize("loss", ["poisson", "huber", "absolute_error", Quantile([0.3])], ids=str)
def test_losses_of_one_prediction(loss):
    X, y = houses(TabularRegressor, 500)
    model = TabularRegressor(**SMALL, monotonic_cst=SIGNS, loss=loss, clip=False)
    model.fit(X, np.exp(y / 1e5))
    for column, sign in SIGNS.items():
        steps = sign * np.diff(model.predict(sweep(X, column, 5, 400)).reshape(5, -1))
        assert steps.min() == 0 < steps.max()


def test_columns_with_constraints_do_not_interact_with_categories():
    X, y = growing_levels(400)
    free = TabularRegressor(**SMALL, blend=None).fit(X, y)
    assert free._features.encoding.interactions.numbers == (0,)
    model = TabularRegressor(**SMALL, blend=None, monotonic_cst={"time": 1}).fit(X, y)
    assert model._features.encoding.interactions is None


@BOTH
def test_forms_of_the_parameter_copies_and_files(kind, tmp_path):
    X, y = houses(kind, 120)
    model = kind(**SMALL, blend="boosting", monotonic_cst=SIGNS)
    expected = predict(model.fit(X, y), X)
    array = np.array([SIGNS.get(name, 0) for name in X])
    same = [clone(model).set_params(monotonic_cst=form).fit(X, y) for form in (array, list(array))]
    save(model, tmp_path / "model.skops")
    same += [pickle.loads(pickle.dumps(model)), load(tmp_path / "model.skops")]
    for other in same:
        np.testing.assert_array_equal(predict(other, X), expected)
    free = [kind(**SMALL, monotonic_cst=form).fit(X, y) for form in (None, 0 * array, {})]
    for other in free[1:]:
        np.testing.assert_array_equal(predict(other, X), predict(free[0], X))
    explained = model.explain(X[:3]).predictions
    np.testing.assert_allclose(explained, predict(model, X[:3]), rtol=1e-9)


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (TabularRegressor, {"monotonic_cst": [1, 0]}, r"each of the 6 columns .* \(2,\)"),
        (TabularRegressor, {"monotonic_cst": [0, 2, 0, 0, 0, 0]}, "or 1 .* got 2 .* 'size'"),
        (TabularRegressor, {"monotonic_cst": {"sise": 1}}, "got 1 for the column 'sise'"),
        (TabularRegressor, {"monotonic_cst": {"city": 1}}, "column 'city' of the kind 'category'"),
        (TabularRegressor, {"monotonic_cst": {"day": -1}}, "got -1 .* 'date'.* dates to days"),
        (TabularRegressor, {"monotonic_cst": {"size": 1}, "loss": "gaussian"}, "loss='gaussian'"),
        (TabularRegressor, {"monotonic_cst": SIGNS, "blend": [Ridge()]}, "no Ridge with"),
        (
            TabularRegressor,
            {"monotonic_cst": SIGNS, "loss": "quantile", "blend": "boosting"},
            "no HistGradientBoostingRegressor with .* without absolute errors or quantiles",
        ),
        (
            TabularClassifier,
            {"monotonic_cst": SIGNS, "blend": ["boosting", LogisticRegression()]},
            "no LogisticRegression with",
        ),
        (TabularClassifier, {"monotonic_cst": SIGNS, "three": True}, "got 3: .* rest"),
    ],
)
def test_raises_on_wrong_constraints(kind, settings, message):
    X, y = houses(kind, 100)
    if settings.pop("three", False):
        y[:20] = "maybe"
    with pytest.raises(ValueError, match=message):
        kind(**SMALL, **settings).fit(X, y)


@pytest.mark.parametrize(
    "layer, n_inputs",
    [
        (MonotoneInputs((1, 0, -1, 0), 3), 100),
        (MonotoneDense(7, n_inputs=3, n_outputs=4), 8),
        (MonotoneDense(2, n_inputs=8, n_outputs=2, is_first=True), 8),
    ],
    ids=str,
)
def test_gradients_of_layers(layer, n_inputs):
    assert check_layer(layer, (n_inputs,)) < 1e-7


def test_constraints_lower_the_error_for_noisy_monotone_curves():
    def curve(X):
        return np.tanh(3 * X[:, 0]) - np.exp(X[:, 1] / 2)

    errors = np.zeros(2)
    for seed in range(4):
        rng = np.random.RandomState(seed)
        X, X_test = rng.uniform(-2, 2, (80, 2)), rng.uniform(-2, 2, (500, 2))
        y = curve(X) + rng.randn(80)
        for index, signs in enumerate([[1, -1], None]):
            model = TabularRegressor(4, monotonic_cst=signs, random_state=0).fit(X, y)
            errors[index] += np.square(model.predict(X_test) - curve(X_test)).sum()
    assert errors[0] < 0.9 * errors[1]
