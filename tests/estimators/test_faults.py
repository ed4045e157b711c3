"""Where the networks behave better than scikit-learn's MLP: a section for each fault there."""

import copy
import pickle
import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network import _stochastic_optimizers as scikit_learn_optimizers
from sklearn.preprocessing import scale
from sklearn.utils.validation import check_is_fitted

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, optimizers
from skbackprop.estimators import _fitted_network
from skbackprop.losses import Quantile, SquaredError
from skbackprop.nn import ensemble_trainer as training
from skbackprop.nn import prediction
from support import (
    BOTH,
    assert_same_network,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    label_data,
    peak_of,
    same_bits,
    some_parameters,
    started_from,
    value_data,
)

pytestmark = few_epochs

N_ROWS, N_FEATURES, BATCH_SIZE = 60, 4, 25  # two full batches and a short one an epoch
SMALL = {"hidden_layer_sizes": (6,), "batch_size": BATCH_SIZE, "random_state": 3}


def copies(arrays):
    return [array.copy() for array in arrays]


# ------------------------------------------------- 1. the squared error of many outputs


@pytest.mark.parametrize("estimator_class", [BackpropRegressor, MLPRegressor])
def test_a_step_descends_the_sum_over_outputs_and_reports_the_mean(estimator_class):
    """Both do; scikit-learn hands such a pair to L-BFGS, too, and we do not: see the next test."""
    X, Y = value_data(N_ROWS, N_FEATURES, n_outputs=3)
    start = some_parameters(N_FEATURES, 6, 3)
    settings = {"hidden_layer_sizes": (6,), "activation": "tanh", "batch_size": N_ROWS}
    settings |= {"solver": "sgd", "momentum": 0.0, "max_iter": 1, "learning_rate_init": 1e-3}
    settings |= {"alpha": 0.0}

    def fitted_from(coefs):
        parameters = coefs, start[1]
        return started_from(parameters, estimator_class, **settings).fit(X, Y)

    stepped = fitted_from(start[0]).coefs_
    gradient = [(a - b) / 1e-3 for a, b in zip(start[0], stepped, strict=True)]
    ahead, behind = (
        fitted_from([w + h * g for w, g in zip(start[0], gradient, strict=True)]).loss_
        for h in (1e-5, -1e-5)
    )
    slope = sum(np.vdot(g, g) for g in gradient)
    np.testing.assert_allclose(3 * (ahead - behind) / 2e-5, slope, rtol=1e-6)


def test_lbfgs_finds_the_minimum_for_many_outputs():
    """Without a hidden layer it is a ridge regression, which has a closed form."""
    X, Y = value_data(100, 5, n_outputs=10)
    ridge = Ridge(alpha=10).fit(X, Y)
    regressor = BackpropRegressor(
        hidden_layer_sizes=(), solver="lbfgs", alpha=10, tol=1e-6, random_state=0
    ).fit(X, Y)
    np.testing.assert_allclose(regressor.coefs_[0], ridge.coef_.T, atol=1e-4)


# -------------------------------------------------- 2. the stop counter of a warm start


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@BOTH
def test_stop_counter_starts_afresh_in_a_warm_fit(estimator_class, early_stopping):
    """No epoch improves by tol=10, so each fit takes the first epoch and four more."""
    settings = {"warm_start": True, "tol": 10.0, "n_iter_no_change": 3, **SMALL}
    estimator = estimator_class(early_stopping=early_stopping, **settings)
    estimator.fit(*data_for(estimator_class, 60))
    assert estimator.n_iter_ == 5
    estimator.fit(*data_for(estimator_class, 90))
    assert estimator.n_iter_ == 5
    assert len(estimator.loss_curve_) == 10


# ------------------------------------------- 3. the best weights after early stopping


def test_best_weights_of_a_warm_fit_are_those_that_scored_best():
    """Here a warm fit at a far too high rate does harm in every epoch."""
    X, y = value_data(N_ROWS, N_FEATURES)
    start = some_parameters(N_FEATURES, 6, 1)
    settings = SMALL | {"early_stopping": True, "warm_start": True, "validation_fraction": 0.25}
    settings |= {"solver": "sgd", "learning_rate_init": 0.02, "max_iter": 20}
    _, held_out = train_test_split(np.arange(N_ROWS), test_size=0.25, random_state=3)
    regressor = started_from(start, BackpropRegressor, **settings).fit(X, y)
    score = regressor.score(X[held_out], y[held_out])
    assert np.isclose(score, regressor.best_validation_score_)
    regressor.set_params(learning_rate_init=1.0, max_iter=3).fit(X, y)
    score = regressor.score(X[held_out], y[held_out])
    assert np.isclose(score, regressor.best_validation_score_)


@BOTH
def test_weights_handed_out_are_not_overwritten_by_a_warm_fit(estimator_class):
    settings = SMALL | {"early_stopping": True, "warm_start": True, "max_iter": 5}
    data = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(**settings).fit(*data)
    handed_out, kept = estimator.coefs_, copies(estimator.coefs_)
    estimator.fit(*data)
    for array, copied in zip(handed_out, kept, strict=True):
        np.testing.assert_array_equal(array, copied)


# ------------------------------------------------------------------ 5. divergence

DIVERGING = {
    "a huge rate": (value_data(N_ROWS, N_FEATURES), {"learning_rate_init": 1e60}),
    "huge targets": ((value_data(N_ROWS)[0], 1e200 * value_data(N_ROWS)[1]), {}),
    "huge input": ((1e30 * value_data(N_ROWS)[0], value_data(N_ROWS)[1]), {}),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_divergence_is_an_error_that_names_rate_and_scale(case):
    data, changes = DIVERGING[case]
    settings = SMALL | {"solver": "sgd", "activation": "identity", "max_iter": 50} | changes
    regressor = BackpropRegressor(**settings)
    with pytest.raises(ValueError) as error:  # noqa: PT011 the message is looked at below
        regressor.fit(*data)
    assert "learning_rate_init" in str(error.value)
    assert " X" in str(error.value)
    with pytest.raises(NotFittedError):
        check_is_fitted(regressor)


def test_divergence_ends_training_in_its_epoch(capsys):
    data, changes = DIVERGING["a huge rate"]
    settings = SMALL | {"solver": "sgd", "activation": "identity"} | changes
    capsys.readouterr()
    with pytest.raises(ValueError, match=r".*"):
        BackpropRegressor(verbose=True, max_iter=50, **settings).fit(*data)
    assert capsys.readouterr().out.count("Iteration") < 10


def test_divergence_after_a_scored_epoch_keeps_the_best_weights_and_warns():
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"solver": "sgd", "activation": "identity", "learning_rate_init": 0.8}
    settings |= {"early_stopping": True, "max_iter": 100, "n_iter_no_change": 100}
    regressor = BackpropRegressor(**settings)
    with pytest.warns(ConvergenceWarning, match=r"learning_rate_init[\s\S]* X"):
        regressor.fit(X, y)
    assert regressor.n_iter_ == len(regressor.validation_scores_) < 100
    assert regressor.best_validation_score_ == max(regressor.validation_scores_)
    best = BackpropRegressor(**settings | {"max_iter": regressor.best_iter_}).fit(X, y)
    assert_same_network(regressor, best, rtol=0, atol=0)
    assert np.isfinite(regressor.predict(X)).all()


def test_divergence_without_a_scored_epoch_is_an_error():
    data, changes = DIVERGING["huge targets"]

    settings = SMALL | {"early_stopping": True, "max_iter": 20} | changes
    with pytest.raises(ValueError, match="learning_rate_init"):
        BackpropRegressor(**settings).fit(*data)


# ------------------------------------------------------- 6. the early-stopping split


def test_split_is_stratified_for_many_classes():
    """One epoch equals one of a fit without early stopping on the rows that should be left."""
    X, _ = class_data(N_ROWS, N_FEATURES)
    y = np.repeat([0, 1, 2], [40, 15, 5])
    start = some_parameters(N_FEATURES, 6, 3)
    train, _ = train_test_split(np.arange(N_ROWS), test_size=0.2, stratify=y, random_state=3)
    settings = {"hidden_layer_sizes": (6,), "random_state": 3, "max_iter": 1}
    stopping = settings | {"early_stopping": True, "validation_fraction": 0.2}
    stopped = started_from(start, BackpropClassifier, **stopping).fit(X, y)
    reference = started_from(start, BackpropClassifier, **settings).fit(X[train], y[train])
    assert_same_network(stopped, reference, rtol=1e-9)


SMALL_CLASSES = {
    "a class of one row": np.repeat([0, 1], [29, 1]),
    "two classes of one row": np.repeat([0, 1, 2], [28, 1, 1]),
    "more classes than rows held out": np.arange(30) % 12,
}


@pytest.mark.parametrize("case", SMALL_CLASSES)
def test_split_is_plain_where_it_cannot_be_stratified(case):
    y = SMALL_CLASSES[case]
    X, _ = class_data(30, N_FEATURES)
    classifier = BackpropClassifier(early_stopping=True, max_iter=3, **SMALL).fit(X, y)
    assert classifier.t_ == 27 * classifier.n_iter_
    assert len(classifier.classes_) == len(np.unique(y))


@BOTH
def test_split_holds_out_at_least_two_rows(estimator_class):
    X, y = data_for(estimator_class, 9)
    estimator = estimator_class(early_stopping=True, max_iter=3, random_state=0).fit(X, y)
    assert estimator.t_ == 7 * estimator.n_iter_


@BOTH
def test_partial_fit_under_early_stopping_takes_its_epoch_on_all_rows(estimator_class):
    classes = classes_for(estimator_class)
    X, y = data_for(estimator_class, N_ROWS)
    stopping, plain = (
        estimator_class(early_stopping=flag, **SMALL).partial_fit(X, y, **classes)
        for flag in (True, False)
    )
    assert stopping.t_ == N_ROWS
    assert same_bits(stopping, plain)
    assert (stopping.validation_scores_, stopping.best_validation_score_) == ([], None)


# ------------------------------------------ 7. logarithms of probabilities, and the loss

LABELLED = {
    "binary": class_data(N_ROWS, n_classes=2),
    "multiclass": class_data(N_ROWS),
    "multilabel": label_data(N_ROWS),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_log_probabilities_are_finite(kind):
    X, y = LABELLED[kind]
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    log_probabilities = classifier.predict_log_proba(1e5 * X)
    assert np.isfinite(log_probabilities).all()
    assert log_probabilities.min() < -1000
    np.testing.assert_allclose(  # where both are exact, they agree
        np.exp(classifier.predict_log_proba(X)), classifier.predict_proba(X), rtol=1e-9
    )

    scores = classifier.decision_function(1e5 * X)
    if kind == "binary":
        expected = -np.logaddexp(0, np.column_stack([scores, -scores]))
    elif kind == "multiclass":
        expected = scores - logsumexp(scores, axis=1, keepdims=True)
    else:
        expected = -np.logaddexp(0, -scores)
    np.testing.assert_allclose(log_probabilities, expected, rtol=1e-12)


def test_loss_is_exact_for_probabilities_that_round_to_zero():
    X, y = LABELLED["binary"]
    scores = 1e4 * X[:, 0]
    weights = np.zeros((N_FEATURES, 1))
    weights[0] = 1e4
    start = [weights], [np.zeros(1)]
    settings = {"hidden_layer_sizes": (), "alpha": 0.0, "max_iter": 1}
    classifier = started_from(start, BackpropClassifier, **settings).fit(X, y)
    expected = np.mean(np.logaddexp(0, scores) - y * scores)
    assert classifier.loss_curve_[0] == pytest.approx(expected, rel=1e-12)


# ------------------------------------------------------------- 8. decision_function


@pytest.mark.parametrize("kind", LABELLED)
def test_decision_function(kind):
    X, y = LABELLED[kind]
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    scores = classifier.decision_function(X)
    probabilities = classifier.predict_proba(X)
    if kind == "binary":
        assert scores.shape == (N_ROWS,)
        np.testing.assert_allclose(expit(scores), probabilities[:, 1])
        np.testing.assert_array_equal(classifier.predict(X), scores > 0)
    elif kind == "multiclass":
        assert scores.shape == (N_ROWS, 3)
        exponentials = np.exp(scores)
        sums = exponentials.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(exponentials / sums, probabilities)
    else:
        assert scores.shape == (N_ROWS, 3)
        np.testing.assert_allclose(expit(scores), probabilities)
        np.testing.assert_array_equal(classifier.predict(X), scores > 0)


# ------------------------------------------------------------------ 9. sample weights


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@BOTH
def test_batch_that_weighs_nothing_takes_no_step(estimator_class, solver):
    settings = {"hidden_layer_sizes": (6,), "batch_size": 20, "shuffle": False, "solver": solver}
    settings |= {"max_iter": 4, "random_state": 3}
    weight = np.random.RandomState(0).uniform(0.1, 3, N_ROWS)
    weight[20:40] = 0
    others = weight > 0
    X, y = data_for(estimator_class, N_ROWS)
    weighted = estimator_class(**settings).fit(X, y, sample_weight=weight)
    rest = estimator_class(**settings).fit(X[others], y[others], sample_weight=weight[others])
    assert_same_network(weighted, rest, rtol=1e-12)
    np.testing.assert_allclose(weighted.loss_curve_, rest.loss_curve_, rtol=1e-12)


def test_epochs_loss_is_weighted_by_weight():
    """At this rate the network stands still, so the loss is that of the start on all rows."""
    X, y = value_data(N_ROWS, N_FEATURES)
    weight = np.where(np.arange(N_ROWS) < BATCH_SIZE, 0.1, 3.0)
    start = some_parameters(N_FEATURES, 1)
    residuals = X @ start[0][0][:, 0] + start[1][0] - y
    settings = {"hidden_layer_sizes": (), "batch_size": BATCH_SIZE, "shuffle": False}
    settings |= {"solver": "sgd", "learning_rate_init": 1e-15, "alpha": 0.0, "max_iter": 1}
    regressor = started_from(start, BackpropRegressor, **settings)
    regressor.fit(X, y, sample_weight=weight)
    expected = np.average(0.5 * residuals**2, weights=weight)
    assert regressor.loss_ == pytest.approx(expected, rel=1e-9)


# ------------------------------------------------ 11. parameters set before a warm fit

STRUCTURE = {
    "a width": ({"hidden_layer_sizes": (7,)}, "hidden_layer_sizes"),
    "a depth": ({"hidden_layer_sizes": (6, 6)}, "hidden_layer_sizes"),
    "activation": ({"activation": "tanh"}, "activation"),
    "solver": ({"solver": "sgd"}, "solver"),
    "loss": ({"loss": "poisson"}, "loss"),
    "dtype": ({"dtype": "float32"}, "dtype"),
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", STRUCTURE)
def test_change_of_structure_before_a_warm_fit_is_an_error(case, method):
    X, y = value_data(N_ROWS, N_FEATURES)
    y = np.abs(y)  # so that loss="poisson" has no other reason to complain
    changes, name = STRUCTURE[case]
    regressor = BackpropRegressor(warm_start=True, max_iter=3, **SMALL).fit(X, y)
    before = copy.deepcopy(regressor)
    regressor.set_params(**changes)
    with pytest.raises(ValueError, match=name):
        getattr(regressor, method)(X, y)
    np.testing.assert_array_equal(regressor.coefs_[0], before.coefs_[0])
    assert regressor.loss_curve_ == before.loss_curve_


def test_change_from_lbfgs_before_a_warm_fit_is_an_error():
    X, y = value_data(N_ROWS, N_FEATURES)
    regressor = BackpropRegressor(solver="lbfgs", warm_start=True, max_iter=3).fit(X, y)
    with pytest.raises(ValueError, match="solver"):
        regressor.set_params(solver="adam").fit(X, y)


@BOTH
@pytest.mark.parametrize("same", [6, [6], np.array([6])], ids=["int", "list", "array"])
def test_same_sizes_in_other_words_are_no_change(estimator_class, same):
    data = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(warm_start=True, max_iter=3, **SMALL).fit(*data)
    estimator.set_params(hidden_layer_sizes=same).fit(*data)
    assert len(estimator.loss_curve_) == 6


OTHERS = [
    {"alpha": 1.0},
    {"batch_size": 10},
    {"learning_rate_init": 0.1},
    {"momentum": 0.1},
    {"nesterovs_momentum": False},
    {"shuffle": False},
    {"learning_rate": "invscaling"},
    {"early_stopping": True},
    {"beta_1": 0.5},
    {"beta_2": 0.5},
    {"epsilon": 0.1},
]


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: next(iter(changes)))
def test_other_parameters_apply_in_a_warm_fit(changes):
    X, y = value_data(N_ROWS, N_FEATURES)
    solver = "adam" if changes.keys() & {"beta_1", "beta_2", "epsilon"} else "sgd"
    settings = SMALL | {"solver": solver, "warm_start": True, "max_iter": 3}
    same, changed = (BackpropRegressor(**settings).fit(X, y) for _ in range(2))
    same.fit(X, y)
    changed.set_params(**changes).fit(X, y)
    assert len(changed.loss_curve_) == 6
    assert not np.array_equal(same.coefs_[0], changed.coefs_[0])


# ----------------------------------------------------------------------- 12. L-BFGS


@BOTH
def test_lbfgs_keeps_a_loss_an_iteration(estimator_class):
    data = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(solver="lbfgs", max_iter=15, random_state=0).fit(*data)
    assert len(estimator.loss_curve_) == estimator.n_iter_ == 15
    assert all(after < before for before, after in pairwise(estimator.loss_curve_))
    assert estimator.loss_curve_[-1] == estimator.loss_
    for k in (1, 7):  # each is the loss of the weights after that iteration
        shorter = estimator_class(solver="lbfgs", max_iter=k, random_state=0).fit(*data)
        assert shorter.loss_ == pytest.approx(estimator.loss_curve_[k - 1], rel=1e-9)


@pytest.mark.long
@BOTH
def test_lbfgs_stops_early(estimator_class):
    """Pure noise, of which the rows held out can't but notice."""
    rng = np.random.RandomState(1)
    X, y = rng.randn(300, 10), rng.randint(3, size=300)
    settings = {"solver": "lbfgs", "early_stopping": True, "validation_fraction": 0.25}
    settings |= {"hidden_layer_sizes": (10,), "max_iter": 300, "n_iter_no_change": 2}
    settings |= {"random_state": 0, "alpha": 0.0}
    estimator = estimator_class(**settings).fit(X, y)
    scores = estimator.validation_scores_
    assert estimator.n_iter_ == len(scores) == len(estimator.loss_curve_) < 300
    assert estimator.best_validation_score_ == max(scores)
    last_of_the_best = len(scores) - int(np.argmax(scores[::-1]))
    assert estimator.best_iter_ == last_of_the_best < estimator.n_iter_
    # Patient in its own units: ten iterations for an epoch, since the score last rose by tol.
    rises = [k for k in range(len(scores)) if scores[k] >= max(scores[:k], default=-1) + 1e-4]
    assert estimator.n_iter_ - (rises[-1] + 1) == 10 * 2 + 1
    assert estimator.best_loss_ is None

    best = estimator_class(**settings | {"max_iter": estimator.best_iter_}).fit(X, y)
    assert_same_network(estimator, best, rtol=0, atol=0)


def test_lbfgs_keeps_the_last_of_equally_good_iterations():
    """On few rows early iterations score what late ones do, by luck; sgd keeps the first epoch."""
    X, y = class_data(N_ROWS, N_FEATURES, n_classes=2)
    X[:, 0] += 10 * y
    settings = {"early_stopping": True, "max_iter": 30, "random_state": 0}
    for solver, latest in (("lbfgs", True), ("sgd", False)):
        model = BackpropClassifier((6,), solver=solver, **settings).fit(X, y)
        scores = np.array(model.validation_scores_)
        equal = 1 + np.flatnonzero(scores == scores.max())
        assert len(equal) > 1
        assert model.best_iter_ == equal[-1 if latest else 0]


@pytest.mark.long
def test_early_stopping_of_lbfgs_costs_no_accuracy():
    """One of the sets of scikit-learn's example of alpha; it stopped at .73 against .93."""
    X, y = make_classification(
        n_features=2, n_redundant=0, n_informative=2, random_state=0, n_clusters_per_class=1
    )
    X = scale(X + 2 * np.random.RandomState(2).uniform(size=X.shape))
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, random_state=42)
    settings = {"solver": "lbfgs", "early_stopping": True, "max_iter": 2000, "random_state": 1}
    ours, theirs = (
        np.mean(
            [
                cls(hidden_layer_sizes=(10, 10), alpha=alpha, **settings)
                .fit(X, y)
                .score(X_test, y_test)
                for alpha in (0.1, 0.3, 1.0, 3.0)
            ]
        )
        for cls in (BackpropClassifier, MLPClassifier)
    )
    assert ours > theirs - 0.1


def test_lbfgs_that_stopped_early_has_converged():
    """It does what it was asked to do, so there is nothing to warn of."""
    rng = np.random.RandomState(1)
    X, y = rng.randn(80, 10), rng.randn(80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor = BackpropRegressor(
            solver="lbfgs", early_stopping=True, n_iter_no_change=3, max_iter=300, random_state=0
        ).fit(X, y)
    assert regressor.n_iter_ < 300


@BOTH
def test_lbfgs_keeps_float32_outside_and_float64_inside(estimator_class):
    """From the same start, the weights are those of float64 and rounded only at the end."""
    start = some_parameters(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    start = tuple([array.astype(np.float32) for array in arrays] for arrays in start)
    settings = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 20}
    X, y = data_for(estimator_class, N_ROWS)
    X = X.astype(np.float32)
    if y.dtype == np.float64:
        y = y.astype(np.float32)
    single = started_from(start, estimator_class, **settings).fit(X, y)
    arrays = single.coefs_ + single.intercepts_
    assert {array.dtype for array in arrays} == {np.dtype("float32")}

    wide = X.astype(np.float64), y if y.dtype.kind == "i" else y.astype(np.float64)
    double = started_from(start, estimator_class, **settings).fit(*wide)
    for array, exact in zip(arrays, double.coefs_ + double.intercepts_, strict=True):
        np.testing.assert_array_equal(array, exact.astype(np.float32))


@pytest.mark.long
def test_lbfgs_memory_does_not_grow_with_the_rows():
    """One layer's activations take 96 MB here."""
    X, y = value_data(60_000, 3)
    settings = {"hidden_layer_sizes": (200,), "solver": "lbfgs", "max_iter": 1}
    assert peak_of(BackpropRegressor(**settings).fit, X, y) < 48e6


# ---------------------------------------------------------------------- 13. Poisson


def test_zero_counts_are_fine_for_poisson():
    X, y = value_data(N_ROWS, N_FEATURES)
    counts = np.floor(np.abs(y))
    assert (counts == 0).any()
    regressor = BackpropRegressor(loss="poisson", max_iter=5, **SMALL).fit(X, counts)
    assert np.isfinite(regressor.loss_curve_).all()


# -------------------------------------------- 15. which epoch early stopping went back to


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@BOTH
def test_best_iter_says_which_epoch_the_weights_are_of(estimator_class, solver):
    settings = SMALL | {"early_stopping": True, "solver": solver, "validation_fraction": 0.3}
    settings |= {"learning_rate_init": 0.1, "n_iter_no_change": 3}
    data = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(max_iter=100, **settings).fit(*data)
    best_iter = estimator.best_iter_
    assert best_iter == 1 + int(np.argmax(estimator.validation_scores_))
    assert best_iter < estimator.n_iter_ == len(estimator.loss_curve_) < 100
    assert estimator.loss_ == estimator.loss_curve_[-1]

    shorter = estimator_class(max_iter=best_iter, **settings).fit(*data)
    assert_same_network(estimator, shorter, rtol=0, atol=0)


@BOTH
def test_best_iter_is_the_last_without_early_stopping(estimator_class):
    estimator = estimator_class(max_iter=4, **SMALL).fit(*data_for(estimator_class))
    assert estimator.best_iter_ == estimator.n_iter_ == 4


# ------------------------------------------------------------- 16. memory of prediction


MANY = np.arange(300) % 50
OF_CLASSIFIER = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
OF_REGRESSOR = ["predict", "predict with std"]
PREDICTING = {
    "classes": (BackpropClassifier, {}, MANY),
    "members": (BackpropClassifier, {"n_estimators": 3}, MANY),
    "indicators": (BackpropClassifier, {}, (MANY[:, None] == np.arange(50)).astype(int)),
    "columns": (BackpropClassifier, {}, np.column_stack([MANY % 10] * 5)),
    "outputs": (BackpropRegressor, {"scale_target": True}, np.outer(MANY, np.ones(50))),
    "counts": (BackpropRegressor, {"loss": "poisson"}, np.outer(MANY, np.ones(50))),
    "quantiles": (BackpropRegressor, {"loss": Quantile([0.1, 0.9])}, np.outer(MANY, np.ones(25))),
    "mean and variance": (
        BackpropRegressor,
        {"loss": "gaussian", "n_estimators": 3},
        np.outer(MANY, np.ones(25)),
    ),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "name, method",
    [
        (name, method)
        for name, (estimator_class, *_) in PREDICTING.items()
        for method in (OF_CLASSIFIER if estimator_class is BackpropClassifier else OF_REGRESSOR)
    ],
)
def test_memory_of_predictions_is_that_of_the_result_and_of_a_block(name, method, monkeypatch):
    """The raw scores of all rows, of which everything else is made, take 8 MB a member here."""
    monkeypatch.setattr(prediction, "_BLOCK_NUMBERS", 1 << 16)
    monkeypatch.setattr(_fitted_network, "_BLOCK_SIZE", 1 << 14)
    estimator_class, settings, y = PREDICTING[name]
    X = np.random.RandomState(0).randn(20_000, 3)
    model = estimator_class((100,), max_iter=1, random_state=0, **settings).fit(X[:300], y)
    predict = getattr(model, method.partition(" ")[0])
    options = {"return_std": True} if method == "predict with std" else {}
    result = predict(X, **options)
    size = sum(part.nbytes for part in (result if isinstance(result, (list, tuple)) else [result]))
    assert peak_of(lambda: predict(X, **options)) < size + 3e6


# ------------------------------------------------------------------ 17. size of a pickle


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@BOTH
def test_pickle_holds_one_copy_of_the_weights(estimator_class, solver):
    settings = {"hidden_layer_sizes": (300,), "solver": solver, "max_iter": 2, "random_state": 0}
    estimator = estimator_class(**settings).fit(*data_for(estimator_class, N_ROWS, 100))
    weights = sum(array.nbytes for array in estimator.coefs_ + estimator.intercepts_)
    assert len(pickle.dumps(estimator)) < 1.05 * weights


@pytest.mark.parametrize("way", ["warm start", "partial_fit"])
@BOTH
def test_training_state_travels_where_training_is_meant_to_go_on(estimator_class, way):
    """That it goes on to the bit is shown in test_resume.py."""
    X, y = data_for(estimator_class, N_ROWS, 100)
    settings = {"hidden_layer_sizes": (300,), "max_iter": 2, "random_state": 0}
    estimator = estimator_class(warm_start=way == "warm start", **settings).fit(X, y)
    if way == "partial_fit":
        estimator.partial_fit(X, y)
    weights = sum(array.nbytes for array in estimator.coefs_ + estimator.intercepts_)
    # With both moments, and the weights that they are of.
    assert 3.9 * weights < len(pickle.dumps(estimator)) < 4.1 * weights


@BOTH
def test_partial_fit_after_a_small_pickle_starts_with_fresh_moments(estimator_class):
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | {"shuffle": False, "max_iter": 5}
    estimator = estimator_class(**settings).fit(X, y)
    fresh = estimator_class(
        init=(copies(estimator.coefs_), copies(estimator.intercepts_)), **settings
    )
    fresh.partial_fit(X, y, **classes_for(estimator_class))

    returned = pickle.loads(pickle.dumps(estimator)).partial_fit(X, y)
    assert_same_network(returned, fresh, rtol=0, atol=0)
    assert returned.t_ == 6 * N_ROWS
    assert len(returned.loss_curve_) == 6


# ----------------------------------------------------------------------- 18. Ctrl-C

OPTIMIZERS = {
    ("sgd", True): (optimizers.SGD, "step"),
    ("adam", True): (optimizers.Adam, "step"),
    ("sgd", False): (scikit_learn_optimizers.SGDOptimizer, "update_params"),
    ("adam", False): (scikit_learn_optimizers.AdamOptimizer, "update_params"),
}


def interrupt(monkeypatch, owner, name, n_calls):
    """Let Ctrl-C be pressed after so many calls of a function, while the next one runs."""
    function, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        result = function(*arguments, **options)
        if len(calls) == n_calls + 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)


def interrupt_step(monkeypatch, estimator_class, solver, n_steps):
    is_ours = estimator_class in (BackpropClassifier, BackpropRegressor)
    interrupt(monkeypatch, *OPTIMIZERS[solver, is_ours], n_steps)


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@BOTH
def test_interrupt_goes_back_to_the_last_complete_epoch(estimator_class, solver, early_stopping):
    """An epoch has three steps, so the second step of the third epoch is interrupted."""
    settings = SMALL | {"solver": solver, "early_stopping": early_stopping, "max_iter": 10}
    X, y = data_for(estimator_class, N_ROWS)
    interrupted = estimator_class(**settings)
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt_step(monkeypatch, estimator_class, solver, 7)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(X, y)

    reference = estimator_class(**settings | {"max_iter": 2}).fit(X, y)
    assert same_bits(interrupted, reference)
    for name in ("n_iter_", "best_iter_", "t_", "loss_", "best_loss_"):
        assert getattr(interrupted, name) == getattr(reference, name), name
    assert interrupted.validation_scores_ == reference.validation_scores_
    np.testing.assert_array_equal(interrupted.predict(X), reference.predict(X))


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd"},
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0},
        {"solver": "adam"},
    ],
    ids=["sgd", "invscaling", "adaptive", "adam"],
)
@BOTH
def test_training_goes_on_after_an_interrupt(estimator_class, settings, shuffle, monkeypatch):
    """As if nothing had happened: moments, order, stream and schedule went back as well."""
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | settings | {"shuffle": shuffle}
    whole = estimator_class(max_iter=6, **settings).fit(X, y)

    interrupted = estimator_class(max_iter=10, **settings)
    interrupt_step(monkeypatch, estimator_class, settings["solver"], 7)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    by_epochs, warm = copy.deepcopy(interrupted.set_params(warm_start=True)), interrupted
    for _ in range(4):
        by_epochs.partial_fit(X, y)
    assert same_bits(by_epochs, whole)
    assert by_epochs.t_ == whole.t_

    assert same_bits(warm.set_params(max_iter=4).fit(X, y), whole)


@BOTH
def test_interrupt_in_the_first_epoch_leaves_the_initial_weights(estimator_class, monkeypatch):
    X, y = data_for(estimator_class, N_ROWS)
    start = some_parameters(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    estimator = estimator_class(init=start, **SMALL)
    interrupt_step(monkeypatch, estimator_class, "adam", 1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    for array, initial in zip(estimator.coefs_, start[0], strict=True):
        np.testing.assert_array_equal(array, initial)
    assert estimator.n_iter_ == estimator.t_ == 0
    assert estimator.loss_curve_ == []
    assert len(estimator.predict(X)) == N_ROWS

    whole = estimator_class(max_iter=2, init=start, **SMALL).fit(X, y)
    assert same_bits(estimator.partial_fit(X, y).partial_fit(X, y), whole)


def test_interrupt_while_an_epoch_is_scored_goes_back_behind_it(monkeypatch):
    """An epoch is complete when its score is known."""
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"early_stopping": True, "solver": "sgd", "learning_rate": "invscaling"}
    reference = BackpropRegressor(max_iter=2, **settings).fit(X, y)
    interrupted = BackpropRegressor(max_iter=10, **settings)
    with monkeypatch.context() as context:
        interrupt(context, SquaredError, "score", 2)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(X, y)

    assert same_bits(interrupted, reference)
    assert interrupted.t_ == reference.t_
    assert interrupted.validation_scores_ == reference.validation_scores_
    assert same_bits(interrupted.partial_fit(X, y), reference.partial_fit(X, y))


def test_interrupt_while_a_line_is_printed_leaves_a_whole_number_of_epochs(monkeypatch):
    X, y = value_data(N_ROWS, N_FEATURES)
    interrupted = BackpropRegressor(verbose=True, max_iter=10, **SMALL)
    lines = []

    def interrupted_print(line):
        lines.append(line)
        if len(lines) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupted_print)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    monkeypatch.undo()

    assert interrupted.n_iter_ in (2, 3)
    reference = BackpropRegressor(max_iter=interrupted.n_iter_, **SMALL).fit(X, y)
    assert same_bits(interrupted, reference)
    assert interrupted.t_ == reference.t_
    assert same_bits(interrupted.partial_fit(X, y), reference.partial_fit(X, y))


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
def test_interrupted_lbfgs_goes_back_to_the_last_complete_iteration(early_stopping, monkeypatch):
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = {"solver": "lbfgs", "random_state": 0, "early_stopping": early_stopping}
    interrupted = BackpropRegressor(max_iter=50, **settings)
    with monkeypatch.context() as context:
        interrupt(context, training.LossAndGradient, "backward_loss", 9)
        with pytest.raises(KeyboardInterrupt):
            interrupted.fit(X, y)
    assert 1 < interrupted.n_iter_ < 10

    reference = BackpropRegressor(max_iter=interrupted.n_iter_, **settings).fit(X, y)
    assert same_bits(interrupted, reference)
    assert interrupted.loss_ == reference.loss_
    assert interrupted.best_iter_ == reference.best_iter_


def test_interrupt_ends_a_search():
    X, y = data_for(BackpropClassifier, N_ROWS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        interrupt_step(monkeypatch, BackpropClassifier, "adam", 4)
        with pytest.raises(KeyboardInterrupt):
            cross_val_score(BackpropClassifier(max_iter=3, **SMALL), X, y, cv=3)


# ---------------------------------------------------------- 23. weights that users assign


@pytest.mark.parametrize("way", ["whole", "by item", "in place"])
@BOTH
def test_assigned_weights_are_honored(estimator_class, way):
    """By prediction, by `partial_fit` and by a warm fit: federated averaging lives on it."""
    n_outputs = 3 if estimator_class is BackpropClassifier else 1
    coefs, intercepts = some_parameters(N_FEATURES, 6, n_outputs, seed=9)

    def assign(estimator):
        if way == "whole":
            estimator.coefs_, estimator.intercepts_ = copies(coefs), copies(intercepts)
            return
        for i in range(2):
            if way == "by item":
                estimator.coefs_[i] = coefs[i].copy()
                estimator.intercepts_[i] = intercepts[i].copy()
            else:
                estimator.coefs_[i][...] = coefs[i]
                estimator.intercepts_[i][...] = intercepts[i]

    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | {"solver": "sgd", "momentum": 0.0, "shuffle": False}
    hidden = np.maximum(X @ coefs[0] + intercepts[0], 0)
    scores = hidden @ coefs[1] + intercepts[1]
    expected = scores.argmax(axis=1) if n_outputs == 3 else scores[:, 0]
    started = started_from((coefs, intercepts), estimator_class, max_iter=2, **settings)
    started.fit(X, y)

    for train in ("partial_fit", "fit"):
        estimator = estimator_class(warm_start=True, max_iter=2, **settings).fit(X, y)
        assign(estimator)
        np.testing.assert_allclose(estimator.predict(X), expected)
        for _ in range(2 if train == "partial_fit" else 1):
            getattr(estimator, train)(X, y)
        assert_same_network(estimator, started, rtol=1e-12)


@pytest.mark.parametrize("use", ["predict", "partial_fit", "fit"])
@BOTH
def test_assigned_weights_of_a_wrong_shape_are_an_error(estimator_class, use):
    """scikit-learn lets NumPy stretch intercepts of one number over all units."""
    X, y = data_for(estimator_class, N_ROWS)
    estimator = estimator_class(warm_start=True, max_iter=2, **SMALL).fit(X, y)
    estimator.intercepts_[0] = np.zeros(1)
    arguments = (X,) if use == "predict" else (X, y)
    with pytest.raises(ValueError, match="intercepts"):
        getattr(estimator, use)(*arguments)


@pytest.mark.parametrize("use", ["predict", "partial_fit", "fit"])
@pytest.mark.parametrize(
    "coefs",
    [
        some_parameters(N_FEATURES, 7, 1)[0],
        some_parameters(N_FEATURES, 6, 6, 1)[0],
        some_parameters(N_FEATURES, 6)[0],
        [array.T for array in some_parameters(N_FEATURES, 6, 1)[0]],
    ],
    ids=["another width", "another depth", "a layer less", "transposed"],
)
@pytest.mark.parametrize(
    "estimator_class, inside",
    [(BackpropRegressor, "use hidden_features"), (BackpropAutoencoder, "use transform")],
)
def test_assigned_weights_of_another_network_are_an_error(estimator_class, inside, coefs, use):
    """It says how to get what programs truncate or grow the weights for."""
    X, y = value_data(N_ROWS, N_FEATURES)
    network = estimator_class(warm_start=True, max_iter=2, **SMALL).fit(X, y)
    network.coefs_ = coefs
    with pytest.raises(ValueError, match=r"coefs_.* make a new .*init=\(coefs, inter") as error:
        network.score(X, y) if use == "predict" else getattr(network, use)(X, y)
    assert inside in str(error.value)


def test_a_layer_less_or_more_as_the_error_says():
    """The oracle is scikit-learn, where such networks predict."""
    X, y = value_data(N_ROWS, N_FEATURES)
    network = BackpropRegressor(max_iter=2, **SMALL).fit(X, y)
    truncated = MLPRegressor(max_iter=2, **SMALL).fit(X, y)
    truncated.coefs_, truncated.intercepts_ = network.coefs_[:1], network.intercepts_[:1]
    truncated.n_layers_, truncated.n_outputs_, truncated.out_activation_ = 2, 6, "relu"
    np.testing.assert_allclose(network.hidden_features(X), truncated.predict(X), rtol=1e-12)
    coefs, intercepts = some_parameters(N_FEATURES, 6, 5, 1)
    grown = clone(network).set_params(hidden_layer_sizes=(6, 5), init=(coefs, intercepts))
    grown.set_params(learning_rate_init=1e-300).fit(X, y)
    expected = MLPRegressor(max_iter=2, **SMALL).fit(X, y)
    expected.coefs_, expected.intercepts_, expected.n_layers_ = coefs, intercepts, 4
    np.testing.assert_allclose(grown.predict(X), expected.predict(X), rtol=1e-12)


@pytest.mark.parametrize("use", ["predict", "partial_fit", "fit", "init"])
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_intercepts_may_be_rows(n_estimators, use):
    """Biases of shape (1, n) are those of shape (n,), as in scikit-learn's sums."""
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"max_iter": 2, "n_estimators": n_estimators, "warm_start": True}
    coefs, intercepts = some_parameters(N_FEATURES, 6, 1)
    if n_estimators > 1:
        coefs, intercepts = ([np.stack([a, -a]) for a in arrays] for arrays in (coefs, intercepts))

    def check(intercepts):
        model = BackpropRegressor(**settings)
        if use == "init":
            return model.set_params(init=(coefs, intercepts)).fit(X, y)
        model.fit(X, y)
        model.coefs_, model.intercepts_ = coefs, intercepts
        return model if use == "predict" else getattr(model, use)(X, y)

    found, expected = check([b[..., None, :] for b in intercepts]), check(intercepts)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


def as_objects(arrays):
    """Return a list of arrays as one array of objects, as NumPy's files hold it."""
    found = np.empty(len(arrays), dtype=object)
    found[:] = arrays
    return found


@pytest.mark.parametrize("widths", [(N_FEATURES, 6, 1), (4, 4, 4)], ids=["vector", "cube"])
@pytest.mark.parametrize("use", ["predict", "partial_fit", "init"])
def test_weights_may_come_in_an_array_of_objects(use, widths):
    """Layers of one shape become a cube of objects, those of several a vector of arrays."""
    X, y = value_data(N_ROWS, N_FEATURES, widths[-1])
    coefs, intercepts = some_parameters(*widths)
    as_array = as_objects if len(set(widths)) > 1 else lambda arrays: np.array(arrays, dtype=object)
    settings = SMALL | {"hidden_layer_sizes": widths[1], "max_iter": 2}

    def check(estimator_class, coefs, intercepts):
        model = estimator_class(**settings)
        if use == "init":
            return model.set_params(init=(coefs, intercepts)).fit(X, y).predict(X)
        model.fit(X, y)
        model.coefs_, model.intercepts_ = coefs, intercepts
        if use == "partial_fit":
            model.partial_fit(X, y)
        return model.predict(X)

    found = check(BackpropRegressor, as_array(coefs), as_array(intercepts))
    np.testing.assert_array_equal(found, check(BackpropRegressor, coefs, intercepts))
    if use == "predict":
        expected = check(MLPRegressor, as_array(coefs), as_array(intercepts))
        np.testing.assert_allclose(found, expected.astype(float))


@pytest.mark.parametrize(
    "assigned, said",
    [
        (lambda coefs: dict(enumerate(coefs)), "a value of type dict"),
        (lambda coefs: None, "None"),
        (lambda coefs: np.array(1.0), "a value of type ndarray"),
        (lambda coefs: [coefs[0].astype(str), coefs[1]], "real numbers"),
        (lambda coefs: [coefs[0], np.full((6, 1), "a", dtype=object)], "real numbers"),
    ],
    ids=["dict", "None", "number", "words", "objects"],
)
def test_no_message_holds_the_weights(assigned, said):
    X, y = value_data(N_ROWS, N_FEATURES)
    coefs, intercepts = some_parameters(N_FEATURES, 6, 1)
    regressor = BackpropRegressor(max_iter=2, **SMALL).fit(X, y)
    regressor.coefs_, regressor.intercepts_ = assigned(coefs), intercepts
    wrong_start = clone(regressor).set_params(init=(regressor.coefs_, intercepts))
    for use in (lambda: regressor.predict(X), lambda: wrong_start.fit(X, y)):
        with pytest.raises(ValueError, match=said) as error:
            use()
        assert str(coefs[0][0, 0])[:6] not in str(error.value)


# ------------------------------------------------------- 24. the split of a warm fit


def test_warm_fit_holds_out_the_rows_of_the_first_fit():
    """The score of the weights that are kept is reached on the first fit's held-out rows."""
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"early_stopping": True, "warm_start": True, "validation_fraction": 0.25}
    settings |= {"solver": "sgd", "learning_rate_init": 0.02, "max_iter": 5}
    rng = np.random.RandomState(3)
    rng.uniform(size=N_FEATURES * 6 + 6 + 6 + 1)  # the draws of the initial weights
    _, held_out = train_test_split(np.arange(N_ROWS), test_size=0.25, random_state=rng)
    regressor = BackpropRegressor(**settings)
    for _ in range(3):
        regressor.fit(X, y)
        score = r2_score(y[held_out], regressor.predict(X[held_out]))
        assert np.isclose(score, regressor.best_validation_score_, rtol=1e-9)


@BOTH
def test_warm_fit_on_other_numbers_of_rows_draws_a_split_of_its_own(estimator_class):
    estimator = estimator_class(
        early_stopping=True, warm_start=True, max_iter=3, validation_fraction=0.25, **SMALL
    )
    for n_rows, n_train in ((60, 45), (40, 30), (60, 45)):
        before = getattr(estimator, "t_", 0)
        estimator.fit(*data_for(estimator_class, n_rows))
        assert estimator.t_ - before == n_train * estimator.n_iter_


@BOTH
def test_warm_fit_with_another_share_of_rows_held_out_draws_a_new_split(estimator_class):
    estimator = estimator_class(early_stopping=True, warm_start=True, max_iter=3, **SMALL)
    X, y = data_for(estimator_class, 60)
    for fraction, n_train in ((0.25, 45), (0.25, 45), (0.5, 30)):
        before = getattr(estimator, "t_", 0)
        estimator.set_params(validation_fraction=fraction).fit(X, y)
        assert estimator.t_ - before == n_train * estimator.n_iter_


# ------------------------------------------------------ 25. probabilities of a saturated sigmoid


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_sigmoids_probabilities_stay_inside_the_open_interval(kind, dtype):
    X, y = LABELLED[kind]
    X = X.astype(dtype)
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    probabilities = classifier.predict_proba(1000 * X)
    assert probabilities.dtype == dtype
    one_ulp_below_one = np.nextafter(dtype(1), dtype(0))
    assert probabilities.max() == one_ulp_below_one
    assert 0 < probabilities.min() < 1e-6
    if kind == "binary":
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=np.finfo(dtype).eps)


# ---------------------------------------------------- 26. exactly so many epochs, please


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@BOTH
def test_exactly_max_iter_epochs_come_without_a_warning(estimator_class, early_stopping):
    settings = {"n_iter_no_change": np.inf, "tol": 10.0, "max_iter": 30, **SMALL}
    estimator = estimator_class(early_stopping=early_stopping, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(*data_for(estimator_class, N_ROWS))
    assert estimator.n_iter_ == 30
