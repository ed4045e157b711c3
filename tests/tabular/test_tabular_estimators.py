"""Do tabular estimators accept any table, with honest out-of-fold results?

What they say out of fold and of new rows is put together by hand from the networks within, and
what they learn there from the formulas; tables are those of the encoder's tests.
"""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skbackprop import (
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from skbackprop.tabular._ensemble_weights import compute_probabilities
from skbackprop.tabular._model_inputs import (
    N_BINS,
    N_FREQUENCIES,
    WIDTH,
    FeatureBuilder,
    draw_seed,
)
from skbackprop.tabular._table_encoding import FittedEncoding
from support.tables import BOTH, columns_of, component_inputs, mixed_data, predict

SMALL = {"n_estimators": 2, "max_iter": 3, "blend": None, "random_state": 0}


# ------------------------------------------------------------------------------- tables


@BOTH
def test_missing_values_and_unknown_categories_in_new_rows(kind):
    X, y = mixed_data(kind)
    model = kind(**SMALL).fit(X, y)
    later = pd.DataFrame({"none": [np.nan, -1e30, 1e300], "some": 0.0, "city": ["z", None, "b"]})
    assert np.isfinite(predict(model, later)).all()
    assert len(predict(model, {"city": "b", "none": None, "some": 2e4})) == 1
    with pytest.raises(ValueError, match="infinit"):
        predict(model, later.assign(none=np.inf))
    says = r"(?s)feature names should match.*missing:\n- none\nA column of NaN or None may take"
    with pytest.raises(ValueError, match=says):
        predict(model, X.drop(columns="none"))
    with pytest.raises(ValueError, match=r"seen at fit time:\n- more\n$"):
        predict(model, X.assign(more=1))


@BOTH
@pytest.mark.filterwarnings("ignore:y contains only the class")
def test_raises_on_wrong_columns_and_targets(kind):
    frame, y = mixed_data(kind)
    with pytest.raises((ValueError, TypeError), match="since"):
        kind(**SMALL).fit(frame.assign(since=[[1, 2]] * len(frame)), y)
    with pytest.raises(ValueError, match="At least 2 rows .* n_samples=1"):
        kind(**SMALL).fit(frame.head(1), y[:1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        kind(**SMALL).fit(frame, y[:-1])
    if kind is TabularClassifier:
        with pytest.raises(ValueError, match="y must be one column.*MultiOutputClassifier"):
            kind(**SMALL).fit(frame, np.c_[y, y])


ODD = {
    "constant": np.ones((12, 2)),
    "two values": np.arange(12)[:, None] % 2,
    "all missing": np.full((12, 1), np.nan),
    "categories": np.array(["a", "b", "c"] * 4, dtype=object)[:, None],
    "huge": np.linspace(-1e300, 1e300, 12)[:, None],
    "subnormal": np.linspace(-1e-310, 1e-310, 12)[:, None],
    "sparse": sparse.csr_array(np.eye(12)),
    "wide": np.random.RandomState(0).randn(12, 50),
}


@pytest.mark.parametrize("X", ODD.values(), ids=ODD)
@BOTH
@np.errstate(all="raise")
def test_odd_tables(kind, X):
    y = np.arange(12) % 3
    model = kind(**SMALL).fit(X, y)
    assert np.isfinite(predict(model, X)).all()
    assert np.isfinite(model.oof_score_)


@pytest.mark.parametrize("n_rows", [2, 3, 5, 9])
@pytest.mark.parametrize("is_blended", [False, True])
@BOTH
def test_a_handful_of_rows(kind, is_blended, n_rows):
    X, y = np.arange(2.0 * n_rows).reshape(-1, 2), np.arange(n_rows) % 2
    other = DummyClassifier() if kind is TabularClassifier else DummyRegressor()
    blend = ["boosting", other] if is_blended else None
    model = kind(max_iter=2, random_state=0, blend=blend).fit(X, y)
    assert model.n_iter_.shape[1] == min(8, n_rows)
    assert [len(each) for each in model.blended_] == [min(8, n_rows)] * 2 * is_blended
    assert np.isfinite(predict(model, X)).all()


@pytest.mark.filterwarnings("ignore:y contains only the class")
def test_labels_of_any_kind():
    X, _ = load_wine(return_X_y=True)
    X = X[:30]
    for y in (
        np.arange(30) % 3 - 1,
        np.arange(30) % 2 == 0,
        np.array(["b", "a"] * 15, dtype=object),
        pd.Series(["x", "y", "z"] * 10, dtype="category"),
        pl.Series(["x", "y"] * 15),
        ["one"] * 30,
        [0] * 29 + [1],
    ):
        model = TabularClassifier(**SMALL).fit(X, y)
        np.testing.assert_array_equal(model.classes_, np.unique(np.asarray(y)))
        predictions = model.predict_proba(X)
        assert predictions.shape == (30, len(model.classes_))
        np.testing.assert_allclose(predictions.sum(axis=1), 1)
        assert set(model.predict(X)) <= set(model.classes_)
    for y in (np.linspace(0, 1, 30), [None, "a"] * 15, [np.nan, 1.0] * 15):
        with pytest.raises(ValueError, match="label|NaN"):
            TabularClassifier(**SMALL).fit(X, y)


# ----------------------------------------------------------------- what is put together


def test_numeric_blocks_match_the_transformers():
    rng = np.random.RandomState(0)
    numbers = np.c_[rng.randn(600), np.arange(600) % 4, rng.rand(600) ** 9]
    encoding, rows = FittedEncoding.fit(columns_of(numbers), None, TableEncoder(None))
    features = FeatureBuilder.from_encoding(encoding, rows, np.random.RandomState(3), 600)
    both = np.vstack([numbers, 5 * rng.randn(300, 3)])
    inputs = features.make_inputs(encoding.read_rows(columns_of(both)), with_table=False)
    new, out = inputs["encoded"], inputs["embedded"][:, : 3 * WIDTH].reshape(900, 3, WIDTH)
    seed = draw_seed(np.random.RandomState(3))
    waves = PeriodicFeatures(N_FREQUENCIES, random_state=seed).fit(new).transform(new)
    np.testing.assert_allclose(
        out[:, :, :N_FREQUENCIES].reshape(900, -1), waves, rtol=1e-3, atol=1e-4
    )
    bins = PiecewiseLinearEncoder(N_BINS).fit(new[:600])
    assert bins.n_bins_[0] == 16
    assert 0 < bins.n_bins_[1] < 16
    expected, start = bins.transform(new), 0
    for at, n_bins in enumerate(bins.n_bins_):
        own = out[:, at, N_FREQUENCIES:]
        np.testing.assert_allclose(
            own[:, :n_bins], expected[:, start : start + n_bins], rtol=1e-3, atol=1e-3
        )
        assert (own[:, n_bins:] == 0).all()
        start += n_bins


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_are_weighted_means_of_calibrated_ones(n_classes):
    X, y = load_wine(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    model = TabularClassifier(3, max_iter=10, blend=None, random_state=0).fit(X, y)
    assert len(model.networks_) == 2
    mixed = 0
    out_of_fold = 0
    for seen, networks, temperature, weight in zip(
        component_inputs(model, X),
        model.networks_,
        model.temperatures_,
        model.weights_,
        strict=True,
    ):
        members = [member.decision_function(seen) for member in networks.estimators_]
        scores = np.array(members).reshape(3, len(X), -1)
        divisor = min(temperature, temperature**0.5)
        mixed = mixed + weight * compute_probabilities(scores, divisor).mean(axis=0)
        alone = compute_probabilities(scores[model.oof_member_, np.arange(len(X))], temperature)
        out_of_fold = out_of_fold + weight * alone
        np.testing.assert_array_equal(networks.oof_member_, model.oof_member_)
    for predictions, shares, shifts in (
        (model.predict_proba(X), mixed, model._class_shifts[1]),
        (model.oof_predict_proba_, out_of_fold, model._class_shifts[0]),
    ):
        powers = shares ** (1 / model._last_temperature) * np.exp(shifts)
        expected = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(predictions, expected, rtol=1e-3, atol=1e-6)
    assert model.weights_.sum() == pytest.approx(1)
    assert model.oof_score_ == accuracy_score(y, model.oof_prediction_)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


def test_predictions_are_clipped_means_of_the_networks():
    X, y = load_diabetes(return_X_y=True)
    model = TabularRegressor(3, max_iter=5, blend=None, random_state=0).fit(X, y)
    (seen,), (networks,) = component_inputs(model, 30 * X), model.networks_
    mean = np.mean([member.predict(seen) for member in networks.estimators_], axis=0)
    assert (mean > y.max()).any() or (mean < y.min()).any()
    np.testing.assert_allclose(model.predict(30 * X), np.clip(mean, y.min(), y.max()))
    np.testing.assert_array_equal(networks.oof_member_, model.oof_member_)
    counts = np.bincount(model.oof_member_)
    assert counts.sum() == len(y) and counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(model.weights_, [1.0])
    assert model.oof_score_ == pytest.approx(r2_score(y, model.oof_prediction_))
    assert model.oof_prediction_.min() >= y.min()


def test_initial_predictions_are_near_the_class_shares():
    """After a single step, the networks still say of all rows how frequent labels are."""
    X, y = load_wine(return_X_y=True)
    y = np.where(y == 2, 1, 0)
    model = TabularClassifier(**SMALL | {"time_limit": 1e-9})
    with pytest.warns(ConvergenceWarning, match="0 epochs, or 1 to 1 batches, are kept") as warned:
        model.fit(X, y)
    # One for each ensemble, with the limit that the user has set.
    assert len(warned) == len(model.networks_)
    assert all(f"time_limit={model.time_limit:g} seconds" in str(each.message) for each in warned)
    scores = model._components[0].outputs(component_inputs(model, X)[0])
    assert np.abs(compute_probabilities(scores)[..., 1] - y.mean()).max() < 0.1


# ------------------------------------------------------------------------------ training


@BOTH
def test_a_random_state_moves_on(kind):
    X, y = mixed_data(kind)
    rng = np.random.RandomState(0)
    first, second = (predict(kind(**SMALL | {"random_state": rng}).fit(X, y), X) for _ in range(2))
    np.testing.assert_array_equal(first, predict(kind(**SMALL).fit(X, y), X))
    assert (first != second).any()


@BOTH
def test_pickled_and_cloned_estimators_with_a_blend_predict_the_same(kind):
    X, y = mixed_data(kind)
    model = kind(**SMALL | {"blend": "boosting"}).fit(X, y)
    pipeline = make_pipeline(FunctionTransformer(), clone(model))
    for other in (pickle.loads(pickle.dumps(model)), clone(model).fit(X, y), pipeline.fit(X, y)):
        np.testing.assert_array_equal(predict(other, X), predict(model, X))


HALVING = {"resource": "n_samples", "random_state": 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, search_class, settings",
    [
        (TabularRegressor, GridSearchCV, {}),
        (TabularClassifier, BackpropGridSearchCV, {}),
        (TabularRegressor, BackpropHalvingGridSearchCV, HALVING),
    ],
)
def test_searches(kind, search_class, settings):
    X, y = mixed_data(kind)
    grid = {"n_estimators": [2, 3], "categorical_features": ["from_dtype", ["city"]]}
    found = search_class(kind(**SMALL | {"blend": "boosting"}), grid, cv=2, **settings).fit(X, y)
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()
    assert len(predict(found, X)) == len(y)
    assert found.best_estimator_.n_estimators == found.best_params_["n_estimators"]


@pytest.mark.parametrize("class_weight", ["balanced", {"yes": 3.0, "no": 0.5}])
def test_class_weights_are_factors_of_row_weights(class_weight):
    X, y = mixed_data(TabularClassifier)
    weight = np.random.RandomState(0).uniform(0.5, 2, len(y))
    model = TabularClassifier(**SMALL, class_weight=class_weight).fit(X, y, weight)
    shares = {label: weight[y == label].sum() / weight.sum() for label in np.unique(y)}
    of_classes = class_weight
    if class_weight == "balanced":  # by what the rows of each class weigh
        of_classes = {label: 1 / (len(shares) * share) for label, share in shares.items()}
    by_rows = weight * [of_classes[label] for label in y]
    expected = TabularClassifier(**SMALL).fit(X, y, by_rows)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(X), atol=1e-3)
    assert model.oof_score_ == accuracy_score(y, model.oof_prediction_, sample_weight=weight)


@pytest.mark.parametrize(
    "class_weight, error",
    [
        ({"yes": -1}, "class_weight must contain a finite, non-negative number"),
        ({"maybe": 1}, r"class_weight must contain only classes of .* got \['maybe'\]"),
        ({"yes": 0, "no": 0}, "class_weight=.* at least one row a positive weight"),
    ],
)
def test_raises_on_wrong_class_weights(class_weight, error):
    X, y = np.arange(20.0)[:, None], ["yes", "no"] * 10
    model = TabularClassifier(**SMALL, class_weight=class_weight)
    with pytest.raises(ValueError, match=error):
        model.fit(X, y)
    with pytest.raises(ValueError, match=error):
        model.fit(X, y, X_val=X, y_val=y)


@pytest.mark.parametrize(
    "y, error",
    [
        (pd.date_range("2020", periods=20), "y must contain numbers, got dates"),
        (["a", "b"] * 10, "y must contain numbers"),
        ([np.inf, -np.inf] * 10, "y contains infinity"),
        ([1.0, np.nan] * 10, "y contains NaN"),
    ],
)
def test_raises_on_targets_that_are_not_numbers(y, error):
    X = np.arange(20.0)[:, None]
    with pytest.raises(ValueError, match=error):
        TabularRegressor(**SMALL).fit(X, y, np.ones(20))


@BOTH
def test_rows_with_zero_weight(kind):
    X, y = mixed_data(kind)
    weight = np.r_[np.zeros(60), np.ones(60)]
    model = kind(**SMALL).fit(X, y, weight)
    assert np.isfinite(predict(model, X)).all()
    for seed in range(5):  # of two rows that count, each is trained on by half of the members
        weight = np.zeros(120)
        weight[[seed, 40]] = 1
        model = kind(**SMALL | {"random_state": seed}).fit(X, y, weight)
        assert model.oof_member_[seed] != model.oof_member_[40]
    with pytest.raises(ValueError, match="At least 2 rows with a positive weight .* got 1"):
        model.fit(X, y, np.r_[1.0, np.zeros(119)])
    if kind is TabularClassifier:  # a class of which every row weighs nothing
        model.fit(X, y, (y != "yes").astype(float))
        assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.slow
def test_new_rows_are_predicted_better_than_by_boosting():
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    ours, boosted = (
        log_loss(y[1::2], model.fit(X[::2], y[::2]).predict_proba(X[1::2]))
        for model in (TabularClassifier(random_state=0), HistGradientBoostingClassifier())
    )
    assert ours < boosted
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    ours, boosted = (
        model.fit(X[::2], y[::2]).score(X[1::2], y[1::2])
        for model in (TabularRegressor(random_state=0), HistGradientBoostingRegressor())
    )
    assert ours > boosted
