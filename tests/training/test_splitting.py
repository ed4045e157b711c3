"""Early stopping holds out rows, folds or whole groups, and predicts rows out of fold."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GroupKFold, cross_validate, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.training import splits
from skbackprop.training.splits import (
    are_groups_whole,
    draw_folds,
    draw_group_folds,
    group_train_validation_split,
    train_validation_split,
)
from support import (
    BOTH,
    changed,
    class_data,
    data_for,
    few_epochs,
    grows_by_less,
    label_data,
    peak_of,
    quick,
    same_bits,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

# ------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("n_held_out", [2, 9, 25, 27])
@pytest.mark.parametrize("counts", [None, [30], [20, 10], [17, 3, 2, 8], [29, 1]], ids=str)
def test_a_split_is_that_of_train_test_split(counts, n_held_out):
    """Stratified where scikit-learn can: each class has two rows, and there are rows enough."""
    classes = None if counts is None else np.repeat(np.arange(len(counts)), counts)
    strata = classes
    if classes is not None and (min(counts) < 2 or min(n_held_out, 30 - n_held_out) < len(counts)):
        strata = None
    rng, theirs = np.random.RandomState(0), np.random.RandomState(0)
    for _ in range(2):  # the second split shows that as much was drawn
        train, held_out = train_validation_split(30, n_held_out, rng, classes)
        expected = train_test_split(
            np.arange(30), test_size=n_held_out, random_state=theirs, stratify=strata
        )
        np.testing.assert_array_equal(train, expected[0])
        np.testing.assert_array_equal(held_out, expected[1])


def test_a_stratified_split_makes_no_lists_of_rows():
    def peak(n):
        return peak_of(
            train_validation_split, n, n // 10, np.random.RandomState(), np.arange(n) % 3
        )

    assert grows_by_less(peak, 10_000, 40_000, 30_000 * 40)


@pytest.mark.parametrize("n_folds", [2, 5, 8])
@pytest.mark.parametrize("counts", [[30], [20, 9], [17, 3, 1], [5, 0, 6]], ids=str)
def test_folds_and_the_classes_in_them_differ_by_one_row(counts, n_folds):
    classes = np.repeat(np.arange(len(counts)), counts)
    for seed in range(3):
        rng = np.random.RandomState(seed)
        folds = draw_folds(len(classes), n_folds, rng, rng.permutation(classes))
        sizes = np.bincount(folds, minlength=n_folds)
        assert sizes.sum() == len(classes)
        assert np.ptp(sizes) <= 1
        folds = draw_folds(len(classes), n_folds, rng, classes)
        for label in range(len(counts)):
            assert np.ptp(np.bincount(folds[classes == label], minlength=n_folds)) <= 1
    assert np.ptp(np.bincount(draw_folds(30, n_folds, rng, None))) <= 1


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=30),
    n_folds=st.integers(2, 8),
    share=st.floats(0.01, 0.99),
    n_classes=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_no_group_is_split_and_no_fold_is_empty(sizes, n_folds, share, n_classes, seed):
    n_folds, rng = min(n_folds, len(sizes)), np.random.RandomState(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    classes = rng.randint(n_classes, size=len(groups)) if n_classes else None
    folds = draw_group_folds(groups, n_folds, rng, classes)
    assert sorted(set(folds)) == list(range(n_folds))
    assert all(len(set(folds[groups == group])) == 1 for group in range(len(sizes)))
    split = group_train_validation_split(groups, share, rng, classes, None)
    assert sorted(np.concatenate(split)) == list(range(len(groups)))
    assert all(map(len, split))
    assert are_groups_whole(groups, split)


def test_many_groups_give_like_sizes_and_shares_of_classes(monkeypatch):
    rng = np.random.RandomState(0)
    groups, classes = rng.randint(100, size=1000), (rng.rand(1000) < 0.2).astype(int)
    folds = draw_group_folds(groups, 5, rng, classes)
    assert np.ptp(np.bincount(folds)) < 40
    assert np.ptp(np.bincount(folds[classes == 1])) < 10
    assert (draw_group_folds(groups, 5, rng, classes) != folds).any()
    _, held_out = group_train_validation_split(groups, 0.25, rng, classes, None)
    assert len(held_out) == pytest.approx(250, rel=0.1)
    assert classes[held_out].mean() == pytest.approx(classes.mean(), rel=0.2)
    for share, n_parts in ((0.09, 2), (0.11, 2), (0.01, 1)):  # of twenty, rounded
        _, held_out = group_train_validation_split(np.arange(200), share, rng, None, None)
        assert len(held_out) == 10 * n_parts
    monkeypatch.setattr(splits, "_MAX_STRATIFIED", 50)
    assert np.ptp(np.bincount(draw_group_folds(groups, 5, rng, classes))) <= 2


# ------------------------------------------------------------------ out-of-fold predictions

FOLDS = EarlyStopping("loss", validation_fraction="folds", n_iter_no_change=np.inf)
SETTINGS = {"n_estimators": 4, "early_stopping": FOLDS, "max_iter": 4, "random_state": 3}
TARGETS = {
    "two classes": (BackpropClassifier, {}, class_data(n_classes=2)),
    "classes": (BackpropClassifier, {"dtype": "float32"}, class_data()),
    "a class of one row": (
        BackpropClassifier,
        {},
        (class_data()[0], changed(class_data(n_classes=2)[1], 5, 2)),
    ),
    "labels": (BackpropClassifier, {}, label_data()),
    "one class": (BackpropClassifier, {}, (class_data()[0], np.full(60, 7))),
    "number": (BackpropRegressor, {"scale_target": True}, value_data()),
    "sparse": (BackpropRegressor, {}, (sparse.csr_array(value_data()[0]), value_data()[1])),
    "numbers": (BackpropRegressor, {}, value_data(n_outputs=2)),
    "lbfgs": (BackpropRegressor, {"solver": "lbfgs"}, value_data()),
    "averages": (BackpropClassifier, {"average": "polyak", "dropout": 0.1}, class_data()),
    "batches": (BackpropClassifier, {"normalization": "batch", "batch_size": 9}, class_data()),
}


@pytest.mark.parametrize("target", TARGETS)
def test_out_of_fold_predictions_are_of_the_member_that_held_out_the_row(target):
    estimator_class, changes, (X, y) = TARGETS[target]
    model = estimator_class(**SETTINGS | changes).fit(X, y)
    assert np.bincount(model.oof_member_).tolist() == [15] * 4
    names, score = {"predict": "oof_prediction_"}, r2_score
    if estimator_class is BackpropClassifier:
        names |= {"predict_proba": "oof_predict_proba_"}
        names |= {"decision_function": "oof_decision_function_"}
        score = accuracy_score
    for method, name in names.items():
        for i, member in enumerate(model.estimators_):
            rows = np.flatnonzero(model.oof_member_ == i)
            expected = getattr(member, method)(X[rows])
            np.testing.assert_allclose(getattr(model, name)[rows], expected, rtol=1e-5, atol=1e-12)
    for weight in (None, np.arange(60) % 3):
        model.fit(X, y, sample_weight=weight)
        expected = score(y, model.oof_prediction_, sample_weight=weight)
        assert model.oof_score_ == pytest.approx(expected)


@BOTH
def test_members_stop_by_the_loss_of_their_fold(estimator_class):
    """The validation loss is that of the fold, and the best epoch's weights are judged."""
    X, y = data_for(estimator_class)
    model = estimator_class(**SETTINGS | {"learning_rate_init": 0.3, "max_iter": 20}).fit(X, y)
    for i in range(4):
        rows = model.oof_member_ == i
        if estimator_class is BackpropClassifier:
            expected = log_loss(y[rows], model.oof_predict_proba_[rows], labels=model.classes_)
        else:
            expected = ((y[rows] - model.oof_prediction_[rows]) ** 2).mean() / 2
        assert min(model.validation_loss_curve_[i]) == pytest.approx(expected)


@BOTH
def test_a_member_is_a_network_validated_on_its_fold(estimator_class):
    X, y = data_for(estimator_class)
    changes = {"shuffle": False, "batch_size": 10}
    model = estimator_class(**SETTINGS | changes).fit(X, y)
    held_out = model.oof_member_ == 0
    alone = estimator_class(**SETTINGS | changes | {"n_estimators": 1})
    alone.fit(X[~held_out], y[~held_out], X_val=X[held_out], y_val=y[held_out])
    for array, expected in zip(model.coefs_, alone.coefs_, strict=True):
        np.testing.assert_array_equal(array[0], expected)
    assert model.validation_scores_[0] == alone.validation_scores_


@BOTH
def test_folds_are_drawn_from_the_seed_and_change_no_other_draw(estimator_class):
    X, y = data_for(estimator_class)
    first, second = (estimator_class(**SETTINGS).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(first.oof_member_, second.oof_member_)
    other = estimator_class(**SETTINGS | {"random_state": 4}).fit(X, y)
    assert (first.oof_member_ != other.oof_member_).any()
    no_steps = {"learning_rate_init": 1e-300, "alpha": 0.0, "max_iter": 1}
    folded, plain = (
        estimator_class(**SETTINGS | no_steps | {"early_stopping": early_stopping}).fit(X, y)
        for early_stopping in (FOLDS, False)
    )
    np.testing.assert_allclose(folded.coefs_[0], plain.coefs_[0], rtol=0, atol=1e-200)


@BOTH
def test_a_warm_start_keeps_the_folds_unless_the_split_changes(estimator_class):
    X, y = data_for(estimator_class)
    share = EarlyStopping("loss", validation_fraction=len(y) // 4)
    model = estimator_class(**SETTINGS | {"warm_start": True, "early_stopping": share}).fit(X, y)
    assert not hasattr(model, "oof_member_")
    model.set_params(early_stopping=FOLDS).fit(X, y)
    folds = model.oof_member_
    assert np.ptp(np.bincount(folds)) == 0
    for each in (model, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(each.fit(X, y).oof_member_, folds)
    members = copy.deepcopy(model).fit(X, y, groups=np.arange(len(y)) // 2).oof_member_
    np.testing.assert_array_equal(members[::2], members[1::2])
    assert len(model.fit(X[:-9], y[:-9]).oof_member_) == len(y) - 9


@pytest.mark.parametrize("fraction", [0.25, "folds"])
def test_warm_fits_continue_the_order_of_the_rows(fraction):
    """Each epoch is the best, so that no earlier weights return."""
    scores = itertools.count()
    rule = EarlyStopping(lambda *_: next(scores), fraction, n_iter_no_change=np.inf)
    whole, parts = (
        BackpropClassifier(**SETTINGS | {"early_stopping": rule, "batch_size": 10, **changes})
        for changes in ({"max_iter": 4}, {"max_iter": 2, "warm_start": True})
    )
    assert same_bits(parts.fit(*class_data()).fit(*class_data()), whole.fit(*class_data()))


@BOTH
def test_out_of_fold_attributes_belong_to_the_last_fit(estimator_class):
    X, y = data_for(estimator_class)
    model = estimator_class(**SETTINGS).fit(X, y)
    assert not hasattr(model.estimators_[0], "oof_member_")
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.oof_prediction_, model.oof_prediction_)
    assert not hasattr(clone(model), "oof_score_")
    model.partial_fit(X, y)
    assert not hasattr(model, "oof_score_")
    model.fit(X, y, X_val=X, y_val=y)
    with pytest.raises(AttributeError, match="several members, each"):
        _ = model.oof_prediction_


def test_too_few_networks_or_rows_for_folds_are_an_error():
    X, y = class_data()
    with pytest.raises(ValueError, match=r"got n_estimators=1\. Set n_estimators to the number"):
        BackpropClassifier(**SETTINGS | {"n_estimators": 1}).fit(X, y)
    with pytest.raises(ValueError, match="got n_estimators=1"):
        BackpropAutoencoder(early_stopping=FOLDS).fit(X)
    with pytest.raises(ValueError, match=r"n_samples = 3 and n_estimators=4. Use more rows, or"):
        BackpropClassifier(**SETTINGS).fit(X[:3], y[:3])
    model = BackpropClassifier(**SETTINGS).fit(X[:4], y[:4])
    assert sorted(model.oof_member_) == [0, 1, 2, 3]


# --------------------------------------------------------------------------------- groups

GROUPS = np.random.RandomState(0).permutation(np.arange(40) % 10)
WORDS = np.array([f"day {group}" for group in GROUPS])
BY_SHARE, BY_FOLDS = EarlyStopping("loss", 0.2), EarlyStopping("loss", "folds")
every_rule = pytest.mark.parametrize(
    "rule",
    [
        {"early_stopping": True},
        {"early_stopping": BY_SHARE, "n_estimators": 3},
        {"early_stopping": BY_FOLDS, "n_estimators": 4},
        {"early_stopping": BY_FOLDS, "n_estimators": 10},
    ],
    ids=["one network", "a share each", "folds", "a group each"],
)


def splits_of(model):
    """Return the training rows and the held-out rows of each network."""
    return list(zip(model._model.state.orders, model._model.state.held_out, strict=True))


@BOTH
@every_rule
def test_no_group_is_on_both_sides(estimator_class, rule):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **rule, warm_start=True).fit(X, y, groups=WORDS)
    assert all(are_groups_whole(GROUPS, split) for split in splits_of(model))
    if rule["early_stopping"] is BY_FOLDS:
        for member, (_, held_out) in enumerate(splits_of(model)):
            np.testing.assert_array_equal(np.flatnonzero(model.oof_member_ == member), held_out)
    again = quick(estimator_class, **rule).fit(X, y, groups=GROUPS.tolist())
    assert same_bits(again, model)  # whatever groups are called
    before = [np.sort(held_out) for _, held_out in splits_of(model)]
    for one, (_, other) in zip(before, splits_of(model.fit(X, y, groups=GROUPS)), strict=True):
        np.testing.assert_array_equal(one, np.sort(other))
    others = np.arange(40) % 12
    model.fit(X, y, groups=others)
    assert all(are_groups_whole(others, split) for split in splits_of(model))


@pytest.mark.parametrize(
    "model", [BackpropAutoencoder(max_iter=2), BackpropRegressor(solver="lbfgs")], ids=str
)
def test_autoencoder_and_lbfgs_hold_out_groups(model):
    model.set_params(early_stopping=True, random_state=0).fit(*value_data(40), groups=GROUPS)
    assert are_groups_whole(GROUPS, splits_of(model)[0])


@BOTH
@every_rule
def test_both_sides_have_weight(estimator_class, rule):
    X, y = data_for(estimator_class)
    known = np.arange(max(2, rule.get("n_estimators", 1)))  # the groups whose rows weigh something
    weight = np.isin(GROUPS, known).astype(float)
    model = quick(estimator_class, **rule).fit(X, y, weight, groups=GROUPS)
    for split in splits_of(model):
        assert are_groups_whole(GROUPS, split)
        assert all(weight[rows].any() for rows in split)


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


@pytest.mark.parametrize("groups, rule, says", WRONG.values(), ids=WRONG)
def test_invalid_groups_are_an_error(groups, rule, says):
    model = quick(BackpropRegressor, **rule)
    with pytest.raises(ValueError, match=says):
        model.fit(*data_for(BackpropRegressor), groups=groups)
    assert not hasattr(model, "coefs_")


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
