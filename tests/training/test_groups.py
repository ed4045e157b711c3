"""Does early stopping hold out whole groups, where the rows of a group belong together?

How groups are cut into folds is in test_folds.py.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
)
from skbackprop.callbacks import Checkpoint
from skbackprop.training.splitting import are_groups_whole, group_train_validation_split
from support import BOTH, assert_same_network, data_for, few_epochs, quick, same_bits, value_data
from support.lanes import examples

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

GROUPS = np.random.RandomState(0).permutation(np.arange(40) % 10)
WORDS = np.array([f"day {group}" for group in GROUPS])
BY_SHARE = EarlyStopping("loss", 0.2)
BY_FOLDS = EarlyStopping("loss", "folds")
every_rule = pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True},
        {"early_stopping": BY_SHARE, "n_estimators": 3},
        {"early_stopping": BY_FOLDS, "n_estimators": 4},
        {"early_stopping": BY_FOLDS, "n_estimators": 10},
    ],
    ids=["one network", "a share each", "folds", "a group each"],
)


def splits_of(model):
    return [past.split for past in model._training]


@examples(0.5)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    n_classes=st.sampled_from([None, 2, 3]),
    seed=st.integers(0, 99),
)
def test_holds_out_whole_groups(sizes, share, n_classes, seed):
    rng = np.random.RandomState(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    classes = None if n_classes is None else rng.randint(n_classes, size=len(groups))
    train, held_out = split = group_train_validation_split(groups, share, rng, classes, None)
    assert sorted([*train, *held_out]) == list(range(len(groups)))
    assert len(train)
    assert len(held_out)
    assert are_groups_whole(groups, split)


@pytest.mark.long
@pytest.mark.parametrize("share", [0.1, 0.25, 0.8])
def test_many_groups_give_the_share_of_rows_and_classes(share):
    rng = np.random.RandomState(0)
    groups, classes = rng.randint(200, size=2000), (rng.rand(2000) < 0.1).astype(int)
    _, held_out = group_train_validation_split(groups, share, rng, classes, None)
    assert len(held_out) == pytest.approx(2000 * share, rel=0.1)
    assert classes[held_out].mean() == pytest.approx(classes.mean(), rel=0.2)


@BOTH
@every_rule
def test_no_group_is_on_both_sides(estimator_class, settings):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **settings).fit(X, y, groups=WORDS)
    splits = splits_of(model)
    assert all(are_groups_whole(GROUPS, split) for split in splits)
    if settings["early_stopping"] is BY_FOLDS:
        assert sorted(np.concatenate([held_out for _, held_out in splits])) == list(range(40))
        for member, (_, held_out) in enumerate(splits):
            assert (model.oof_member_[held_out] == member).all()
    again = quick(estimator_class, **settings).fit(X, y, groups=GROUPS.tolist())
    assert same_bits(again, model)  # whatever groups are called


@BOTH
@pytest.mark.parametrize("has_own_rows", [False, True], ids=["", "validation data"])
def test_groups_have_no_effect_where_nothing_is_held_out(estimator_class, has_own_rows):
    X, y = data_for(estimator_class)
    own_rows = {"X_val": X[:9], "y_val": y[:9]} if has_own_rows else {}
    expected, *others = (
        quick(estimator_class, early_stopping=has_own_rows).fit(X, y, groups=groups, **own_rows)
        for groups in (None, GROUPS, np.zeros(40))
    )
    assert all(same_bits(other, expected) for other in others)


@pytest.mark.parametrize(
    "model", [BackpropAutoencoder(max_iter=2), BackpropRegressor(solver="lbfgs")], ids=str
)
def test_autoencoder_and_lbfgs_hold_out_groups(model):
    model.set_params(early_stopping=True, random_state=0).fit(*value_data(40), groups=GROUPS)
    assert are_groups_whole(GROUPS, splits_of(model)[0])


@BOTH
@every_rule
def test_both_sides_have_weight(estimator_class, settings):
    X, y = data_for(estimator_class)
    n_folds = settings.get("n_estimators", 1)
    known = np.arange(max(2, n_folds))  # the groups whose rows weigh something
    weight = np.isin(GROUPS, known).astype(float)
    model = quick(estimator_class, **settings)
    model.fit(X, y, weight, groups=GROUPS)
    for split in splits_of(model):
        assert are_groups_whole(GROUPS, split)
        assert all(weight[rows].any() for rows in split)


@BOTH
@every_rule
def test_a_warm_start_keeps_the_split_of_groups(estimator_class, settings):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **settings, warm_start=True).fit(X, y, groups=GROUPS)
    before = splits_of(model)
    after = splits_of(model.fit(X, y, groups=GROUPS))
    for (_, one), (_, other) in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
    others = np.arange(40) % 12
    assert all(
        are_groups_whole(others, split) for split in splits_of(model.fit(X, y, groups=others))
    )


@pytest.mark.long
@BOTH
@every_rule
def test_a_checkpoint_keeps_the_split_of_groups(estimator_class, settings, tmp_path):
    X, y = data_for(estimator_class)
    path = tmp_path / "checkpoint.npz"
    whole = quick(estimator_class, **settings).fit(X, y, groups=GROUPS)
    model = quick(estimator_class, **settings | {"max_iter": 2})
    model.set_callbacks(Checkpoint(path)).fit(X, y, groups=GROUPS)
    resumed = quick(estimator_class, **settings | {"random_state": 9})
    resumed.fit(X, y, groups=GROUPS, resume_from=path)
    assert same_bits(resumed, whole)
    if settings["early_stopping"] is BY_FOLDS:
        np.testing.assert_array_equal(resumed.oof_prediction_, whole.oof_prediction_)


WRONG = {
    "one": (
        np.zeros(40),
        {"early_stopping": True},
        "must contain at least 2 groups with positive weight for early_stopping",
    ),
    "few": (
        GROUPS % 3,
        {"early_stopping": BY_FOLDS, "n_estimators": 4},
        "got 3 groups and n_estimators=4. Use rows of more groups, set n_estimators to at most 3",
    ),
    "length": (np.arange(39), {}, "must have one value for each of the 40 rows"),
    "missing": ([*"ab" * 19, None, "a"], {}, "groups contains missing"),
    "axes": (np.zeros((40, 2)), {}, "must have one value for each of the 40 rows"),
}


@BOTH
@pytest.mark.parametrize("groups, settings, says", WRONG.values(), ids=WRONG)
def test_raises_on_invalid_groups(estimator_class, groups, settings, says):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **settings)
    with pytest.raises(ValueError, match=says):
        model.fit(X, y, groups=groups)
    assert not hasattr(model, "coefs_")


@pytest.mark.long
def test_oof_score_is_honest_for_new_groups():
    """Of targets that are the group's and nothing else, nothing is known of new groups."""
    rng = np.random.RandomState(0)
    of_group, groups = rng.randn(30, 3), np.repeat(np.arange(30), 8)
    X, y = of_group[groups] + 0.01 * rng.randn(240, 3), rng.randn(30)[groups]
    model = BackpropRegressor(
        (64,),
        n_estimators=5,
        early_stopping=EarlyStopping("loss", "folds", n_iter_no_change=np.inf),
        learning_rate_init=0.02,
        max_iter=150,
        random_state=0,
    )
    assert model.fit(X, y).oof_score_ > 0.7
    assert model.fit(X, y, groups=groups).oof_score_ < 0.2


@pytest.mark.long
@pytest.mark.usefixtures("routing")
@BOTH
def test_groups_are_routed(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, early_stopping=BY_FOLDS, n_estimators=2)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y, groups=WORDS)
    assert all(are_groups_whole(GROUPS, split) for split in splits_of(pipeline[-1]))
    kwargs = {"cv": GroupKFold(2), "params": {"groups": WORDS}, "return_estimator": True}
    for fitted in cross_validate(model, X, y, **kwargs)["estimator"]:
        assert fitted.oof_member_.shape == (20,)
    ours, theirs = (
        kind(model, {"alpha": [0.0, 1.0]}, cv=GroupKFold(2)).fit(X, y, groups=WORDS)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert all(are_groups_whole(GROUPS, split) for split in splits_of(ours.best_estimator_))
    assert_same_network(ours.best_estimator_, theirs.best_estimator_, rtol=0, atol=0)
    scores = [search.cv_results_["mean_test_score"] for search in (ours, theirs)]
    np.testing.assert_array_equal(*scores)


def test_a_pipeline_takes_groups_by_the_name_of_its_step():
    X, y = data_for(BackpropClassifier)
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier, early_stopping=True))
    pipeline.fit(X, y, backpropclassifier__groups=GROUPS)
    assert are_groups_whole(GROUPS, splits_of(pipeline[-1])[0])
