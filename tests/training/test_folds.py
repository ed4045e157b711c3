"""Each row is held out once, and predicted out of fold by the network that has not seen it."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
)
from skbackprop.estimators._fit_context import FitArguments
from skbackprop.training import splitting
from skbackprop.training.splitting import draw_folds, draw_group_folds
from support import (
    BOTH,
    changed,
    class_data,
    data_for,
    few_epochs,
    label_data,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

FOLDS = EarlyStopping("loss", validation_fraction="folds", n_iter_no_change=np.inf)
SETTINGS = {"n_estimators": 4, "early_stopping": FOLDS, "max_iter": 4, "random_state": 3}


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


@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=30),
    n_folds=st.integers(2, 8),
    n_classes=st.integers(0, 4),
    seed=st.integers(0, 2**16),
)
def test_no_group_is_split_and_no_fold_is_empty(sizes, n_folds, n_classes, seed):
    n_folds = min(n_folds, len(sizes))
    rng = np.random.RandomState(seed)
    groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    classes = rng.randint(n_classes, size=len(groups)) if n_classes else None
    folds = draw_group_folds(groups, n_folds, rng, classes)
    assert sorted(set(folds)) == list(range(n_folds))
    assert all(len(set(folds[groups == group])) == 1 for group in range(len(sizes)))


@pytest.mark.long
def test_folds_of_groups_have_like_sizes_and_shares_of_classes(monkeypatch):
    rng = np.random.RandomState(0)
    groups = rng.randint(200, size=2000)
    classes = (rng.rand(2000) < 0.2) * 1
    folds = draw_group_folds(groups, 8, rng, classes)
    assert np.ptp(np.bincount(folds)) < 40
    assert np.ptp(np.bincount(folds[classes == 1])) < 10
    assert (draw_group_folds(groups, 8, rng, classes) != folds).any()
    for of_many in (None, classes):
        monkeypatch.setattr(splitting, "_MOST_STRATIFIED", 100)
        folds = draw_group_folds(groups, 8, rng, of_many)
        assert np.ptp(np.bincount(folds)) <= 2
    assert (draw_group_folds(groups, 8, rng, None) != folds).any()


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
    "numbers": (BackpropRegressor, {}, value_data(n_outputs=2)),
    "lbfgs": (BackpropRegressor, {"solver": "lbfgs"}, value_data()),
    "averages": (BackpropClassifier, {"average": "polyak", "dropout": 0.1}, class_data()),
    "batches": (BackpropClassifier, {"normalization": "batch", "batch_size": 9}, class_data()),
}


@pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("target", TARGETS)
def test_out_of_fold_predictions_are_of_the_member_that_held_out_the_row(target, is_sparse):
    estimator_class, settings, (X, y) = TARGETS[target]
    X = sparse.csr_array(X) if is_sparse else X
    model = estimator_class(**SETTINGS | settings).fit(X, y)
    assert np.bincount(model.oof_member_).tolist() == [15] * 4
    names = {"predict": "oof_prediction_"}
    if estimator_class is BackpropClassifier:
        names |= {"predict_proba": "oof_predict_proba_"}
        names |= {"decision_function": "oof_decision_function_"}
    for method, name in names.items():
        said = getattr(model, name)
        for g, member in enumerate(model.estimators_):
            rows = np.flatnonzero(model.oof_member_ == g)
            expected = getattr(member, method)(X[rows])
            np.testing.assert_allclose(said[rows], expected, rtol=1e-5, atol=1e-12)
    weight = np.arange(60) % 3
    for each in (None, weight):
        model.fit(X, y, sample_weight=each)
        score = accuracy_score if estimator_class is BackpropClassifier else r2_score
        expected = score(y, model.oof_prediction_, sample_weight=each)
        assert model.oof_score_ == pytest.approx(expected)


@BOTH
def test_members_stop_by_the_loss_of_their_fold(estimator_class):
    """The validation loss is that of the fold, and the best epoch's weights are judged."""
    X, y = data_for(estimator_class)
    model = estimator_class(**SETTINGS | {"learning_rate_init": 0.3, "max_iter": 20}).fit(X, y)
    for g in range(4):
        rows = model.oof_member_ == g
        if estimator_class is BackpropClassifier:
            expected = log_loss(y[rows], model.oof_predict_proba_[rows], labels=model.classes_)
        else:
            expected = ((y[rows] - model.oof_prediction_[rows]) ** 2).mean() / 2
        assert min(model.validation_loss_curve_[g]) == pytest.approx(expected)


@BOTH
def test_member_matches_a_network_validated_on_its_fold(estimator_class):
    X, y = data_for(estimator_class)
    settings = {"shuffle": False, "batch_size": 10}
    model = estimator_class(**SETTINGS | settings).fit(X, y)
    held_out = model.oof_member_ == 0
    alone = estimator_class(**SETTINGS | settings | {"n_estimators": 1})
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
def test_a_warm_start_keeps_the_folds(estimator_class):
    X, y = data_for(estimator_class)
    warm = estimator_class(**SETTINGS | {"warm_start": True}).fit(X, y)
    folds, said = warm.oof_member_, warm.oof_prediction_
    for model in (warm, pickle.loads(pickle.dumps(warm))):
        model.fit(X, y)
        np.testing.assert_array_equal(model.oof_member_, folds)
        assert (model.oof_prediction_ != said).any() or estimator_class is BackpropClassifier
    assert len(warm.fit(X[:-9], y[:-9]).oof_member_) == len(y) - 9


@BOTH
def test_switching_between_drawn_splits_and_folds(estimator_class):
    """As many rows as in a fold, drawn by each member for itself, give way to folds and back."""
    X, y = data_for(estimator_class)
    share = EarlyStopping("loss", validation_fraction=len(y) // 4)
    settings = SETTINGS | {"warm_start": True}
    model = estimator_class(**settings | {"early_stopping": share}).fit(X, y)
    assert not hasattr(model, "oof_member_")
    model.set_params(early_stopping=FOLDS).fit(X, y)
    for past, g in zip(model._training, range(4), strict=True):
        train, held_out = past.split
        np.testing.assert_array_equal(held_out, np.flatnonzero(model.oof_member_ == g))
        np.testing.assert_array_equal(np.sort(past.state.orders[0]), train)


@BOTH
def test_out_of_fold_attributes_belong_to_the_last_fit(estimator_class):
    X, y = data_for(estimator_class)
    model = estimator_class(**SETTINGS).fit(X, y)
    assert not hasattr(model.estimators_[0], "oof_member_")
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.oof_prediction_, model.oof_prediction_)
    assert not hasattr(clone(model), "oof_score_")
    assert hasattr(model, "oof_score_")
    model.partial_fit(X, y)
    assert not hasattr(model, "oof_score_")
    model.fit(X, y, X_val=X, y_val=y)
    with pytest.raises(AttributeError, match="several members, each"):
        _ = model.oof_prediction_


@pytest.mark.long
@BOTH
def test_search_candidates_have_the_folds_of_single_fits(estimator_class):
    X, y = data_for(estimator_class)
    network = estimator_class(**SETTINGS)
    grid = {"alpha": [0.0, 1.0], "early_stopping__scoring": ["loss", None]}
    ours, theirs = (
        kind(network, grid, cv=2).fit(X, y) for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    scores = [search.cv_results_["mean_test_score"] for search in (ours, theirs)]
    np.testing.assert_array_equal(*scores)
    best = [search.best_estimator_ for search in (ours, theirs)]
    np.testing.assert_array_equal(*(model.oof_prediction_ for model in best))


def test_raises_on_too_few_networks_or_rows_for_folds():
    X, y = class_data()
    with pytest.raises(ValueError, match=r"got n_estimators=1\. Set n_estimators to the number"):
        BackpropClassifier(**SETTINGS | {"n_estimators": 1}).fit(X, y)
    with pytest.raises(ValueError, match="got n_estimators=1"):
        BackpropAutoencoder(early_stopping=FOLDS).fit(X)
    with pytest.raises(ValueError, match=r"n_samples = 3 and n_estimators=4. Use more rows, or"):
        BackpropClassifier(**SETTINGS).fit(X[:3], y[:3])
    model = BackpropClassifier(**SETTINGS).fit(X[:4], y[:4])
    assert sorted(model.oof_member_) == [0, 1, 2, 3]


@BOTH
def test_folds_without_early_stopping_are_not_evaluated(estimator_class):
    """They lead to the networks of a rule that keeps the last epoch of as many."""
    X, y = data_for(estimator_class)
    folds = np.arange(len(y)) % 4

    arguments = FitArguments(X, y, folds=folds)
    settings = SETTINGS | {"early_stopping": False, "n_iter_no_change": np.inf}
    blind = estimator_class(**settings)._train(arguments)
    seeing = estimator_class(**SETTINGS)._train(arguments)
    assert blind.validation_loss_curve_ is None
    np.testing.assert_array_equal(blind.oof_member_, folds)
    for own, other in zip(blind.loss_curve_, seeing.loss_curve_, strict=True):
        assert own == other[: len(own)]
    for member, own in enumerate(blind.estimators_):
        held_out = folds == member
        np.testing.assert_array_equal(blind.oof_prediction_[held_out], own.predict(X[held_out]))
