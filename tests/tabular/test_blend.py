"""Are estimators of `blend` fitted for the folds of the networks, and weighted out of fold?

What comes of it is made by hand of clones, folds and the formulas; what boosting sees of a table is
written down.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_wine
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.losses import Quantile
from skbackprop.tabular import _blended_estimators, _networks, base
from skbackprop.tabular._blended_estimators import use_ordinal_table
from skbackprop.tabular._ensemble_weights import (
    compute_probabilities,
    fit_softmax_temperature,
    mixture_weights_nll,
    stacking_weights_nnls,
)
from support.tables import BOTH, component_inputs, mixed_data, predict

SMALL = {"n_estimators": 2, "max_iter": 2, "random_state": 0}


def data_for(kind):
    load = load_wine if kind is TabularClassifier else load_diabetes
    X, y = load(return_X_y=True)
    return X[::2], y[::2]


# ------------------------------------------------------------------- training and weights


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classifiers_are_cross_fitted_and_weighted_by_likelihood(n_classes):
    X, y = load_wine(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    labels = np.array(["a", "b", "c"])[y]
    member = LogisticRegression(C=0.01)
    model = TabularClassifier(**SMALL, blend=[member]).fit(X, labels)
    (*_, component), folds = model._components, model.oof_member_
    encoded = component_inputs(model, X)[-1].astype(np.float64)
    predictions, of_new = np.empty((len(X), n_classes)), 0
    for fold in range(2):
        own = clone(member).fit(encoded[folds != fold], y[folds != fold])
        predictions[folds == fold] = own.predict_proba(encoded[folds == fold])
        logits = np.log(own.predict_proba(encoded))
        powers = np.exp(logits / model.temperatures_[-1] ** 0.5)
        of_new = of_new + powers / powers.sum(axis=1, keepdims=True) / 2
    logits = np.log(predictions)
    assert model.temperatures_[-1] == pytest.approx(
        fit_softmax_temperature(logits, y, None)[0], rel=1e-3
    )
    powers = predictions ** (1 / model.temperatures_[-1])
    likelihoods = [powers[np.arange(len(y)), y] / powers.sum(axis=1)]
    for networks, temperature in zip(model.networks_, model.temperatures_, strict=False):
        out_of_fold = compute_probabilities(networks._get_out_of_fold().predictions, temperature)
        likelihoods.insert(-1, out_of_fold[np.arange(len(y)), y])
    expected = mixture_weights_nll(np.array(likelihoods), None)
    np.testing.assert_allclose(model.weights_, expected, atol=1e-3)
    logits = component.outputs(encoded)
    shares = compute_probabilities(logits, model.temperatures_[-1] ** 0.5).mean(axis=0)
    np.testing.assert_allclose(shares, of_new, rtol=1e-6)
    inputs = component_inputs(model, X)
    outputs = [each.outputs(x) for each, x in zip(model._components, inputs, strict=True)]
    np.testing.assert_allclose(model.predict_proba(X), model._mix(outputs), rtol=1e-9)
    (clones,) = model.blended_
    assert [type(each) for each in clones] == [LogisticRegression] * 2


@pytest.mark.parametrize("n_targets", [1, 2])
def test_regressors_are_cross_fitted_and_weighted_by_squared_error(n_targets):
    X, y = data_for(TabularRegressor)
    Y = y if n_targets == 1 else np.column_stack([y, X[:, 2]])
    model = TabularRegressor(**SMALL, blend=[Ridge(), KNeighborsRegressor()]).fit(X, Y)
    folds, components, shape = model.oof_member_, model._components, (len(y), n_targets)
    assert len(components) == 3
    inputs = component_inputs(model, X)
    encoded = inputs[1].astype(np.float64)
    for target, y in enumerate(Y.reshape(shape).T):
        held_out = [model.networks_[0].oof_prediction_.reshape(shape)[:, target]]
        mean = [components[0].outputs(inputs[0]).mean(axis=0)[:, target, 0]]
        for member in (Ridge(), KNeighborsRegressor()):
            predictions, of_new = np.empty(len(y)), 0
            for fold in range(2):
                own = clone(member).fit(encoded[folds != fold], y[folds != fold])
                predictions[folds == fold] = own.predict(encoded[folds == fold])
                of_new = of_new + own.predict(encoded) / 2
            held_out.append(predictions)
            mean.append(of_new)
        own_weights = model.weights_.reshape(3, n_targets)[:, target]
        weights = stacking_weights_nnls(np.array(held_out), y, None)
        np.testing.assert_allclose(own_weights, weights, atol=1e-4)
        for found, each in ((model.predict(X), mean), (model.oof_prediction_, held_out)):
            expected = np.clip(own_weights @ each, y.min(), y.max())
            np.testing.assert_allclose(found.reshape(shape)[:, target], expected, rtol=1e-5)
    assert [len(clones) for clones in model.blended_] == [2 * n_targets] * 2


class Knowing(ClassifierMixin, BaseEstimator):
    """Says the label that stands in the last column, always with the same probability."""

    def __init__(self, share=0.9):
        self.share = share

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        is_second = X[:, -1] > 0
        second = np.where(is_second, self.share, 1 - self.share)
        return np.c_[1 - second, second]


def test_useless_models_have_no_weight_and_overconfident_ones_are_calibrated():
    rng = np.random.RandomState(0)
    y = rng.randint(2, size=300)
    X = np.c_[rng.randn(300), np.where(rng.rand(300) < 0.8, y, 1 - y)]
    blend = [DummyClassifier(strategy="uniform"), Knowing(0.999)]
    model = TabularClassifier(**SMALL, blend=blend).fit(X, y)
    assert model.weights_[-2] < 0.05
    share = np.mean(X[:, 1] == y)
    expected = np.log(0.999 / 0.001) / np.log(share / (1 - share))
    assert model.temperatures_[-1] == pytest.approx(expected, rel=1e-2)
    y = y + 0.1 * X[:, 1]
    regressor = TabularRegressor(**SMALL | {"max_iter": 1}, blend=[DummyRegressor(), Ridge()])
    np.testing.assert_allclose(regressor.fit(X, y).weights_[1:], [0, 1], atol=0.1)


@BOTH
def test_blending_does_not_change_the_networks(kind):
    X, y = data_for(kind)
    alone, blended = (kind(**SMALL, blend=each).fit(X, y) for each in (None, "boosting"))
    assert alone.blended_ == []
    assert len(blended.weights_) == len(alone.weights_) + 1
    for one, other in zip(alone.networks_, blended.networks_, strict=True):
        for own, its in zip(one.coefs_, other.coefs_, strict=True):
            np.testing.assert_array_equal(own, its)


# --------------------------------------------------------------------------- what they see


def many_levels(n=1800):
    rng = np.random.RandomState(0)
    level = rng.randint(300, size=n)
    table = pd.DataFrame(
        {
            "number": np.where(rng.rand(n) < 0.2, np.nan, rng.randn(n)),
            "level": [f"l{each}" for each in level],
            "color": rng.choice(["red", "green", None], n),
        }
    )
    return table, (level < 150) + 0.1 * rng.randn(n)


def test_boosting_gets_missing_values_and_category_codes():
    table, y = many_levels()
    model = TabularRegressor(**SMALL, blend=["boosting", Ridge()]).fit(table, y)
    views = [each.view for each in model._components]
    assert views == ["embedded", "table", "encoded"]
    new = pd.DataFrame({"number": [None, 2.0], "level": ["l0", "?"], "color": ["red", "blue"]})
    X = component_inputs(model, pd.concat([table, new]))[1]
    # The number, the mean of the target of each level, and both categories.
    assert X.shape == (1802, 4)
    np.testing.assert_array_equal(X[:1800, 0], table["number"])
    assert model._features.categorical_mask.tolist() == [False, False, True, True]
    assert np.isnan(X[1800, 0])
    assert np.isnan(X[1801, 2:]).all()
    assert np.nanmax(X[:, 2]) == 254  # the most that boosting takes
    of_level = pd.Series(X[:1800, 2]).groupby(table["level"]).nunique()
    assert (of_level == 1).all()
    codes = pd.Series(X[:1800, 2])
    is_common = table["level"].isin(table["level"].value_counts().index[:200])
    assert codes[is_common].nunique() == 200
    assert not set(codes[is_common]) & set(codes[~is_common])
    of_color = pd.Series(X[:1800, 3]).groupby(table["color"], dropna=False).nunique()
    assert of_color.tolist() == [1] * 3
    boosted = model.blended_[0][0]
    np.testing.assert_array_equal(boosted.is_categorical_, model._features.categorical_mask)
    assert boosted.early_stopping is True
    assert np.isfinite(model.predict(new)).all()


@pytest.mark.filterwarnings("ignore:Some columns may be misread")
def test_boosting_of_the_user_gets_the_table():
    table, y = many_levels(200)
    own = HistGradientBoostingRegressor(max_iter=5)
    model = TabularRegressor(**SMALL, blend=[own]).fit(table, y)
    assert model._components[1].view == "table"
    assert [each.n_iter_ for each in model.blended_[0]] == [5, 5]
    assert own.categorical_features == "from_dtype"


# ----------------------------------------------------------------------------- awkward data


def seldom_known(n, known):
    """Return a column that is missing except in some rows, as numbers and as dates."""
    is_known = np.isin(np.arange(n), known)
    numbers = np.where(is_known, np.arange(n) / n, np.nan)
    days = pd.Series(pd.date_range("2024-01-01", periods=n, freq="5h")).where(is_known)
    return pd.DataFrame({"seldom": numbers, "day": days})


@BOTH
@pytest.mark.parametrize("blend", ["auto", None])
@pytest.mark.parametrize("known", [[], [7], range(100, 150)], ids=["none", "a fold", "a group"])
def test_columns_without_values_are_left_out(kind, blend, known):
    """Also those that are empty in the training rows of one fold, or where weights are zero."""
    X, y = mixed_data(kind, 500)
    table, full = (X.join(seldom_known(500, rows)) for rows in (known, range(500)))
    weight = np.where(np.isin(np.arange(500), known[::2]), 0.0, 1.0)
    model = kind(**SMALL, blend=blend).fit(table, y, weight, groups=np.arange(500) // 50)
    assert np.isfinite(model.oof_score_)
    found = predict(model, full)
    assert np.isfinite(found).all()
    if not known:  # values that come later change nothing
        np.testing.assert_array_equal(found, predict(model, table))


def test_folds_without_some_classes():
    X = np.random.RandomState(0).randn(30, 2)
    y = np.r_[np.zeros(20), np.ones(9), 2]
    blend = ["boosting", RandomForestClassifier(5)]
    model = TabularClassifier(**SMALL, blend=blend).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    y = np.r_[np.zeros(29), 1]  # one fold has one class
    model.fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    with pytest.warns(UserWarning, match="y contains only the class 0.0, so it is predicted for"):
        model.fit(X, np.zeros(30))
    assert model.blended_ == []
    assert (model.predict_proba(X) == 1).all()


class WithoutWeights(RegressorMixin, BaseEstimator):
    """Says how many rows it was trained on."""

    def fit(self, X, y):
        self.n_rows_ = len(X)
        return self

    def predict(self, X):
        return np.full(len(X), float(self.n_rows_))


class WithWeights(WithoutWeights):
    """Says the mean of the weights of rows."""

    def fit(self, X, y, sample_weight=None):
        self.n_rows_ = np.mean(sample_weight)
        return self


def test_sample_weights_are_passed_on():
    X, y = data_for(TabularRegressor)
    weight = np.r_[np.zeros(100), np.full(len(y) - 100, 3.0)]
    blend = [WithoutWeights(), WithWeights(), "boosting"]
    model = TabularRegressor(**SMALL, blend=blend).fit(X, y, weight)
    n_rows = [((model.oof_member_ != fold) & (weight > 0)).sum() for fold in range(2)]
    assert [each.n_rows_ for each in model.blended_[0]] == n_rows
    assert [each.n_rows_ for each in model.blended_[1]] == [3.0, 3.0]


def test_raises_on_wrong_estimators():
    X, y = data_for(TabularClassifier)
    for wrong, error, text in (
        (SVC(), ValueError, "SVC.*predict_proba.*CalibratedClassifierCV"),
        (Ridge(), ValueError, "Ridge.*predict_proba"),
        (RandomForestClassifier, TypeError, "must hold estimators"),
        ("trees", TypeError, "trees.*boosting"),
        (None, TypeError, "None"),
    ):
        with pytest.raises(error, match=text):
            TabularClassifier(**SMALL, blend=[wrong]).fit(X, y)
    with pytest.raises(ValueError, match="blend.*boosting"):
        TabularClassifier(**SMALL, blend="forest").fit(X, y)
    with pytest.raises(ValueError, match="RandomForestClassifier.*not a regressor"):
        TabularRegressor(**SMALL, blend=[RandomForestClassifier()]).fit(X, y)


class TwoColumns(Ridge):
    def predict(self, X):
        return np.tile(super().predict(X)[:, None], 2)


class OneColumn(LogisticRegression):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, :1]


class Infinite(WithoutWeights):
    def predict(self, X):
        return np.full(len(X), np.inf)


@pytest.mark.parametrize(
    "kind, other, error",
    [
        (TabularClassifier, OneColumn(), r"in blend returns an array of shape \("),
        (TabularRegressor, TwoColumns(), r"in blend returns an array of shape \("),
        (TabularRegressor, Infinite(), "Infinite.*not finite"),
        (TabularClassifier, CalibratedClassifierCV(DummyClassifier(), cv=500), "500-fold"),
    ],
)
def test_errors_of_blended_estimators_change_nothing(kind, other, error):
    X, y = data_for(kind)
    model = kind(n_estimators=2, max_iter=1).fit(X, y)
    before = predict(model, X)
    with pytest.raises(ValueError, match=error) as raised:
        model.set_params(blend=[other]).fit(X, y)
    if "fold" in error:
        assert "CalibratedClassifierCV" in raised.value.__notes__[0]
    np.testing.assert_array_equal(predict(model, X), before)


# ------------------------------------------------------------------------- conventions


def test_seeds_are_drawn_for_random_states_of_none():
    X, y = data_for(TabularRegressor)
    pipeline = make_pipeline(FunctionTransformer(), RandomForestRegressor(3))
    blend = [RandomForestRegressor(3, random_state=5), pipeline]
    model, again = (TabularRegressor(**SMALL, blend=blend).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(model.predict(X), again.predict(X))
    assert [each.random_state for each in model.blended_[0]] == [5, 5]
    assert len({each[-1].random_state for each in model.blended_[1]} - {None}) == 2
    assert pipeline[-1].random_state is None


@pytest.mark.parametrize("is_boosting", [False, True])
def test_a_time_limit_leaves_out_estimators_and_stops_boosting(is_boosting, monkeypatch):
    """By a clock that goes on by a second at each look of boosting, and stands still elsewhere."""
    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr(_blended_estimators, "time", clock)
    for module in (base, _networks):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.0))
    X, y = data_for(TabularClassifier)
    boosting = HistGradientBoostingClassifier(max_iter=1000, early_stopping=False)
    blend = [boosting if is_boosting else LogisticRegression(C=0.01)]
    model = TabularClassifier(**SMALL, time_limit=60.0 if is_boosting else 3.0, blend=blend)
    if not is_boosting:
        with pytest.warns(ConvergenceWarning, match="LogisticRegression is left out of the blend"):
            model.fit(X, y)
        assert model.blended_ == []
        return
    model.fit(X, y)
    for each in model.blended_[0]:
        assert 10 <= each.n_iter_ < each.max_iter == 1000


@pytest.mark.parametrize("blend", ["boosting", [LogisticRegression()]])
def test_nothing_is_blended_once_the_time_is_over(blend, monkeypatch):
    monkeypatch.delattr(_blended_estimators, "_fit_clone")  # it is not called
    model = TabularClassifier(**SMALL, time_limit=1e-9, blend=blend)
    with pytest.warns(ConvergenceWarning) as warned:
        model.fit(*data_for(TabularClassifier))
    assert "its share of time_limit, 0 seconds" in str(warned[0].message)
    assert model.blended_ == []


def test_boosting_with_a_time_limit_equals_boosting_without():
    X, y = data_for(TabularClassifier)
    whole = TabularClassifier(**SMALL, blend="boosting").fit(X, y)
    parts = TabularClassifier(**SMALL, time_limit=1000.0, blend="boosting").fit(X, y)
    for one, other in zip(whole.blended_[0], parts.blended_[0], strict=True):
        # Trees that are enough at the very end of a part are not known to be.
        assert other.n_iter_ - one.n_iter_ in (0, 1)
        n_trees = one.n_iter_
        scores = [np.array(each.validation_score_)[: n_trees + 1] for each in (one, other)]
        np.testing.assert_allclose(*scores)


# ------------------------------------------------------- rows to watch, losses and intervals


@BOTH
def test_one_clone_with_validation_data(kind):
    X, y = data_for(kind)
    last = LogisticRegression() if kind is TabularClassifier else Ridge()
    model = kind(**SMALL, blend=["boosting", last])
    model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    assert [len(each) for each in model.blended_] == [1, 1]
    encoded = component_inputs(model, X[::2])[-1].astype(np.float64)
    own = clone(last).fit(encoded, y[::2])
    np.testing.assert_allclose(model.blended_[1][0].coef_, own.coef_, rtol=1e-5)
    boosted = model.blended_[0][0]  # stopped by the rows that it was given
    assert len(boosted.validation_score_) == boosted.n_iter_ + 1
    assert np.isfinite(predict(model, X)).all()


@BOTH
def test_boosting_stops_early_by_the_weights_of_validation_rows(kind):
    """Half of the validation rows follow the training rows, the others their opposite."""
    X = np.random.RandomState(0).randn(400, 2)
    y = (X[:, 0] > 0).astype(float)
    X_val, y_val = np.r_[X[:100], X[:100]], np.r_[y[:100], 1 - y[:100]]
    follows = np.arange(200) < 100
    model = kind(**SMALL, blend="boosting")

    def count_trees(weight):
        model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
        return model.blended_[0][0].n_iter_

    n_trees = {share: count_trees(np.where(follows, share, 1 - share)) for share in (0.1, 0.9)}
    assert n_trees[0.1] < n_trees[0.9]


@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "poisson", "gamma", Quantile(0.8)], ids=str
)
def test_boosting_minimizes_the_same_loss(loss):
    X, y = data_for(TabularRegressor)
    model = TabularRegressor(**SMALL, loss=loss, blend="boosting").fit(X, y)
    is_named = isinstance(loss, str)
    expected = {"loss": loss} if is_named else {"loss": "quantile", "quantile": 0.8}
    assert expected.items() <= model.blended_[0][0].get_params().items()
    assert model.weights_.sum() == pytest.approx(1)
    assert model.weights_[1] > 0.1  # networks have learned nearly nothing
    assert np.isfinite(model.predict(X)).all()


@BOTH
def test_boosting_is_blended_by_default_from_500_rows_on(kind):
    X, y = mixed_data(kind, 500)
    for n_rows, blend in ((500, "boosting"), (499, None)):
        own = X[:n_rows], y[:n_rows]
        model, same = kind(**SMALL).fit(*own), kind(**SMALL, blend=blend).fit(*own)
        assert len(model.blended_) == (blend is not None)
        np.testing.assert_array_equal(predict(model, X), predict(same, X))


@pytest.mark.parametrize("loss", ["huber", "tweedie", "gaussian", Quantile([0.1, 0.9])], ids=str)
def test_networks_are_alone_by_default_with_losses_that_boosting_does_not_have(loss):
    X, y = mixed_data(TabularRegressor, 500)
    y -= y.min() - 1
    model = TabularRegressor(**SMALL, loss=loss).fit(X, y)
    alone = TabularRegressor(**SMALL, loss=loss, blend=None).fit(X, y)
    assert model.blended_ == []
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))


@pytest.mark.parametrize("kind", [HistGradientBoostingClassifier, HistGradientBoostingRegressor])
def test_boosting_predicts_the_same_with_a_table_of_ordinals(kind):
    """Codes are missing, some were not seen in training, and one column is numbers in between."""
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.randint(0, 9, 300), rng.randn(300), rng.randint(0, 255, 300)])
    X[rng.rand(*X.shape) < 0.1] = np.nan
    X[:, 0] = np.where(X[:, 0] == 4, 7, X[:, 0])
    y = (np.nan_to_num(X[:, 0]) % 3 + X[:, 2] % 2 + np.nan_to_num(X[:, 1])).round()
    categorical_mask = np.array([True, False, True])
    boosting = kind(max_iter=9, categorical_features=categorical_mask, min_samples_leaf=2)
    boosting.fit(X, np.nan_to_num(y).clip(0, 3))
    rows = np.column_stack([rng.randint(0, 12, 500), rng.randn(500), rng.randint(0, 255, 500)])
    rows[rng.rand(*rows.shape) < 0.1] = np.nan
    predict_rows = (
        boosting.predict if kind is HistGradientBoostingRegressor else (boosting.predict_proba)
    )
    before = predict_rows(rows)
    splits = [tree.nodes["is_categorical"].any() for (tree, *_) in boosting._predictors]
    assert any(splits)
    encoder = boosting._preprocessor
    use_ordinal_table(boosting, np.array([True, False, False]))
    assert boosting._preprocessor is encoder  # the last column is not one of codes
    use_ordinal_table(boosting, categorical_mask)
    np.testing.assert_array_equal(boosting._preprocessor.transform(rows), encoder.transform(rows))
    np.testing.assert_array_equal(predict_rows(rows), before)


def test_raises_on_losses_that_cannot_be_blended():
    X, y = data_for(TabularRegressor)
    for loss in ("huber", "log_cosh", "tweedie"):
        with pytest.raises(ValueError, match=f"no loss like loss='{loss}'.*absolute_error"):
            TabularRegressor(**SMALL, loss=loss, blend="boosting").fit(X, y)
        model = TabularRegressor(**SMALL, loss=loss, blend=[Ridge()]).fit(X, y)
        assert np.isfinite(model.predict(X)).all()
    for loss in ("gaussian", Quantile([0.1, 0.9])):
        with pytest.raises(ValueError, match="several numbers.*blend=None"):
            TabularRegressor(**SMALL, loss=loss, blend=[Ridge()]).fit(X, y)


def test_predictions_outside_the_range_of_the_loss_are_clipped():
    """A linear model predicts numbers below zero, of which a Poisson deviance is none."""
    rng = np.random.RandomState(0)
    X = rng.randn(200, 2)
    y = rng.poisson(np.exp(2 * X[:, 0]))
    model = TabularRegressor(**SMALL, loss="poisson", clip=False, blend=[Ridge()]).fit(X, y)
    assert model.blended_[0][0].predict(component_inputs(model, X)[1]).min() < 0
    assert model.predict(X).min() > 0
    assert np.isfinite(model.oof_score_)
