"""Do tabular estimators use a validation table of the user, and keep groups together?

What is learned of the table is put together from the networks within; which rows each of them has
held out is asked of these.
"""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.estimators.conformity_scores import conformal_quantile_rank
from skbackprop.tabular._ensemble_weights import compute_probabilities, fit_softmax_temperature
from support import sets_by_definition
from support.tables import BOTH, component_inputs, mixed_data

SMALL = {"n_estimators": 3, "max_iter": 4, "blend": None, "random_state": 0}


# --------------------------------------------------------------- a table of the user's own


@BOTH
def test_all_networks_train_on_all_rows(kind):
    X, y = mixed_data(kind)
    model = kind(**SMALL).fit(X[:80], y[:80])
    model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:])
    assert not [name for name in vars(model) if name.startswith("oof_")]
    for networks in model.networks_:
        assert len(networks.estimators_) == 3
        with pytest.raises(AttributeError, match="Out-of-fold attributes"):
            networks.oof_score_  # noqa: B018
        # A batch is a part of all 80 rows.
        assert np.unique(networks.t_ / networks.n_iter_).tolist() == [80]
    # Other rows to stop by may change nothing but the epoch that is kept, and the calibration.
    repeated = X.loc[[*range(80, 120), *range(80, 120)]], np.r_[y[80:], y[80:]]
    again = kind(**SMALL).fit(X[:80], y[:80], X_val=repeated[0], y_val=repeated[1])
    for ours, theirs in zip(model.networks_, again.networks_, strict=True):
        np.testing.assert_array_equal(ours.loss_curve_[0], theirs.loss_curve_[0])


def test_temperatures_are_fitted_to_the_validation_table():
    X, y = mixed_data(TabularClassifier)
    weight = np.random.RandomState(1).uniform(0.5, 2, 40)
    class_weight = {"no": 1.0, "yes": 3.0}
    model = TabularClassifier(**SMALL | {"max_iter": 24}, class_weight=class_weight)
    model.fit(X[:80], y[:80], X_val=X[80:], y_val=y[80:], sample_weight_val=weight)
    assert (model.n_iter_[0] == 24).all()  # the second cycle is kept
    codes = (y[80:] == "yes").astype(int)
    weight = weight * np.where(codes, 3, 1)
    mixed = 0
    for seen, networks, temperature, share in zip(
        component_inputs(model, X[80:]),
        model.networks_,
        model.temperatures_,
        model.weights_,
        strict=True,
    ):
        scores = [member.decision_function(seen)[:, None] for member in networks.estimators_]
        expected, _ = fit_softmax_temperature(
            np.vstack(scores), np.tile(codes, 3), np.tile(weight, 3)
        )
        assert temperature == pytest.approx(expected, rel=1e-3)
        divisor = min(temperature, temperature**0.5)
        mixed = mixed + share * np.mean([compute_probabilities(s, divisor) for s in scores], axis=0)
    expected, _ = fit_softmax_temperature(np.log(mixed), codes, weight)
    assert model._last_temperature == pytest.approx(expected, rel=1e-3)


def test_intervals_are_split_conformal():
    X, y = mixed_data(TabularRegressor, 150)
    weight = np.r_[0.0, np.ones(39)]
    model = TabularRegressor(**SMALL)
    model.fit(X[:80], y[:80], X_val=X[80:120], y_val=y[80:120], sample_weight_val=weight)
    errors = np.sort(np.abs(y[81:120] - model.predict(X[81:120])))
    reach = errors[conformal_quantile_rank(39, 0.8) - 1]
    predictions = model.predict(X[120:])
    np.testing.assert_allclose(
        model.predict_interval(X[120:], 0.8),
        np.stack([predictions - reach, predictions + reach], axis=1),
        rtol=1e-4,
    )
    with pytest.raises(
        ValueError, match=r"coverage=0.98 needs at least 49 held-out rows.* n_samples=39"
    ):
        model.predict_interval(X, 0.98)


def test_sets_of_labels_are_split_conformal():
    X, y = mixed_data(TabularClassifier, 150)
    weight = np.r_[0.0, np.ones(39)]
    model = TabularClassifier(**SMALL)
    model.fit(X[:80], y[:80], X_val=X[80:120], y_val=y[80:120], sample_weight_val=weight)
    codes, held_out = np.searchsorted(model.classes_, y[81:120]), model.predict_proba(X[81:120])
    new, folds = model.predict_proba(X[120:])[None], np.zeros(39, dtype=int)
    for kind in ("lac", "aps"):
        for by_class in (False, True):
            expected = sets_by_definition(kind, new, held_out, codes, folds, 0.8, by_class)
            sets = model.predict_set(X[120:], 0.8, kind, by_class)
            np.testing.assert_array_equal(sets, expected)


@BOTH
def test_raises_on_wrong_validation_tables(kind):
    X, y = mixed_data(kind)
    model = kind(**SMALL).fit(X[:80], y[:80])
    before = model.predict(X)
    for X_val, y_val, weight, match in (
        (X[80:], None, None, "y_val is None"),
        (None, y[80:], None, "X_val is None"),
        (X[80:], y[81:], None, "X_val, y_val: .*inconsistent numbers"),
        (X[["some"]][80:], y[80:], None, "X_val, y_val: .*feature names"),
        (X[80:].assign(some=np.inf), y[80:], None, "X_val.*infinite"),
        (X[80:], y[80:], np.zeros(40), "X_val, y_val: .*zero"),
    ):
        with pytest.raises(ValueError, match=match):
            model.fit(X[:80], y[:80], X_val=X_val, y_val=y_val, sample_weight_val=weight)
    if kind is TabularClassifier:
        with pytest.raises(ValueError, match=r"X_val, y_val: .y. has classes not in .*maybe"):
            model.fit(X[:80], y[:80], X_val=X[80:], y_val=np.where(y[80:] == "yes", "maybe", "no"))
    else:
        with pytest.raises(ValueError, match=r"X_val, y_val: loss=Poisson\(\) needs targets"):
            kind(**SMALL, loss="poisson").fit(X, abs(y), X_val=X, y_val=y)
    np.testing.assert_array_equal(model.predict(X), before)


@BOTH
@pytest.mark.filterwarnings("ignore:y contains only the class")
def test_few_training_rows_with_a_validation_table(kind):
    X, y = mixed_data(kind)
    for n_rows in (1, 2, 5):
        model = kind(**SMALL).fit(X[:n_rows], y[:n_rows], X_val=X[:1], y_val=y[:1])
        assert len(model.predict(X)) == len(X)


# --------------------------------------------------------------------------------- groups


@BOTH
def test_no_fold_splits_a_group(kind):
    X, y = mixed_data(kind)
    names = ["ann", "bob", "cid", "dan", "eve", "fay"]
    groups = np.random.RandomState(0).choice(names, len(y))
    for given in (groups, pd.Series(groups, dtype="category"), groups.tolist()):
        model = kind(**SMALL).fit(X, y, groups=given)
        assert len(set(model.oof_member_)) == 3
        assert all(len(set(model.oof_member_[groups == name])) == 1 for name in names)
        for networks in model.networks_:
            np.testing.assert_array_equal(networks.oof_member_, model.oof_member_)
        assert np.isfinite(model.oof_score_)
    model = kind(max_iter=2, random_state=0).fit(X, y, groups=groups)
    assert model.n_iter_.shape[1] == 6  # of eight members, one for each group


def test_folds_of_groups_are_stratified():
    X, y = load_iris(return_X_y=True)
    groups = np.random.RandomState(0).randint(40, size=len(y))
    model = TabularClassifier(**SMALL).fit(X, y, groups=groups)
    counts = [np.bincount(model.oof_member_[y == label], minlength=3) for label in range(3)]
    assert np.ptp(counts, axis=1).max() <= 8
    # A class that is in one group alone is unknown to the network that holds it out.
    model.fit(X, y, groups=y)
    assert np.isfinite(model.oof_predict_proba_).all()
    assert model.oof_score_ < 0.5


def test_out_of_fold_scores_with_groups_hold_for_new_groups():
    """Of targets that are the group's and nothing else, nothing is known of new groups."""
    rng = np.random.RandomState(0)
    of_group = rng.randn(30, 3)
    groups = np.repeat(np.arange(30), 8)
    X, y = of_group[groups] + 0.01 * rng.randn(240, 3), rng.randn(30)[groups]
    settings = {"n_estimators": 4, "max_iter": 40, "blend": None, "random_state": 0}
    assert TabularRegressor(**settings).fit(X, y).oof_score_ > 0.4
    assert TabularRegressor(**settings).fit(X, y, groups=groups).oof_score_ < 0.2
    # Of a name with more levels than are one-hot, the statistics do not betray it either.
    groups = np.repeat(np.arange(60), 4)
    names = pd.DataFrame({"name": [f"n{group}" for group in groups]})
    y = rng.randn(60)[groups]
    assert TabularRegressor(**settings).fit(names, y).oof_score_ > 0.4
    assert TabularRegressor(**settings).fit(names, y, groups=groups).oof_score_ < 0.2


@BOTH
def test_raises_on_wrong_groups(kind):
    X, y = mixed_data(kind)
    for groups, match in (
        (np.zeros(len(y)), "got only 0.0."),
        (np.arange(3), "one value for each of the 120 rows"),
        (np.r_[np.nan, np.arange(119.0)], "groups contains missing"),
        (["a", 1] * 60, "groups must contain only strings"),
        (np.zeros((len(y), 2)), "groups must have one value for each"),
    ):
        with pytest.raises(ValueError, match=match):
            kind(**SMALL).fit(X, y, groups=groups)


@BOTH
@pytest.mark.parametrize("blend", [None, "boosting"])
def test_every_fold_has_groups_with_weight(kind, blend):
    X, y = mixed_data(kind)
    groups = np.arange(len(y)) % 12
    for seed in range(5):
        weight = np.isin(groups, [seed, 7]).astype(float)
        model = kind(n_estimators=3, max_iter=1, blend=blend, random_state=seed)
        model.fit(X, y, weight, groups=groups)
        assert model.oof_member_.max() == 1
        of_groups = model.oof_member_[np.searchsorted(groups[:12], [seed, 7])]
        assert sorted(of_groups) == [0, 1]
        for group in range(12):
            assert len(np.unique(model.oof_member_[groups == group])) == 1
    with pytest.raises(ValueError, match="At least 2 groups with a positive weight .* got 1"):
        model.fit(X, y, (groups == 3).astype(float), groups=groups)


@BOTH
def test_groups_are_routed(kind):
    X, y = mixed_data(kind)
    groups = np.arange(len(y)) // 20

    def splits_groups(model):
        return any(len(set(model.oof_member_[groups == group])) > 1 for group in range(6))

    def search(model):
        found = GridSearchCV(model, {"max_iter": [1, 2]}, cv=GroupKFold(2))
        return found.fit(X, y, groups=groups).best_estimator_

    model = kind(**SMALL)
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(FunctionTransformer(), model).fit(X, y, groups=groups)
        assert not splits_groups(pipeline[-1])
        assert not splits_groups(search(model))
        assert splits_groups(search(kind(**SMALL).set_fit_request(groups=False)))
        found = cross_validate(
            model, X, y, cv=GroupKFold(2), params={"groups": groups}, return_estimator=True
        )
        # Of the three groups that each is trained on, each member holds out one.
        assert [set(np.bincount(m.oof_member_)) for m in found["estimator"]] == [{20}, {20}]
