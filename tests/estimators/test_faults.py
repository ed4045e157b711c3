"""Where the networks behave better than scikit-learn's MLP: a section for each fault there."""

import copy
import pickle
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import scale

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators import _fitted_attributes
from skbackprop.losses import Quantile
from skbackprop.nn import prediction
from skbackprop.nn import stack_trainer as training
from skbackprop.optimizers import OPTIMIZERS
from support import (
    BOTH,
    assert_same_network,
    class_data,
    classes_for,
    data_for,
    few_epochs,
    interrupt,
    label_data,
    peak_of,
    same_bits,
    some_parameters,
    value_data,
)

pytestmark = few_epochs

N_ROWS, N_FEATURES, BATCH_SIZE = 60, 4, 25  # two full batches and a short one an epoch
SMALL = {"hidden_layer_sizes": (6,), "batch_size": BATCH_SIZE, "random_state": 3}


def copies(arrays):
    return [array.copy() for array in arrays]


# ------------------------------------------------- 1. the squared error of many outputs


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


# ------------------------------------------------------------------ 5. divergence

HUGE_TARGETS = value_data(N_ROWS)[0], 1e200 * value_data(N_ROWS)[1]
DIVERGING = {
    "a huge rate": (value_data(N_ROWS), {"learning_rate_init": 1e60}),
    "huge targets": (HUGE_TARGETS, {}),
    "huge targets, no epoch scored": (HUGE_TARGETS, {"early_stopping": True}),
    "huge input": ((1e30 * value_data(N_ROWS)[0], value_data(N_ROWS)[1]), {}),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_divergence_ends_training_with_an_error_that_names_rate_and_scale(case, capsys):
    data, changes = DIVERGING[case]
    settings = SMALL | {"solver": "sgd", "activation": "identity", "max_iter": 50} | changes
    with pytest.raises(ValueError, match=r"learning_rate_init[\s\S]* X"):
        BackpropRegressor(verbose=True, **settings).fit(*data)
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


# ------------------------------------------------------- 6. the early-stopping split


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


# ------------------------------------------ 7. logarithms of probabilities, and the loss

LABELLED = {
    "binary": class_data(N_ROWS, n_classes=2),
    "multiclass": class_data(N_ROWS),
    "multilabel": label_data(N_ROWS),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_probabilities_and_their_logarithms_follow_from_the_scores(kind):
    X, y = LABELLED[kind]
    classifier = BackpropClassifier(max_iter=5, **SMALL).fit(X, y)
    for factor in (1, 1e5):
        scores = classifier.decision_function(factor * X)
        assert scores.shape == ((N_ROWS,) if kind == "binary" else (N_ROWS, 3))
        if kind == "binary":
            expected = -np.logaddexp(0, np.column_stack([scores, -scores]))
        elif kind == "multiclass":
            expected = scores - logsumexp(scores, axis=1, keepdims=True)
        else:
            expected = -np.logaddexp(0, -scores)
        logarithms = classifier.predict_log_proba(factor * X)
        np.testing.assert_allclose(logarithms, expected, rtol=1e-12)
        probabilities = classifier.predict_proba(factor * X)
        np.testing.assert_allclose(probabilities, np.exp(expected), rtol=1e-9, atol=1e-15)
        decided = scores.argmax(axis=1) if kind == "multiclass" else scores > 0
        np.testing.assert_array_equal(classifier.predict(factor * X), decided)
    assert logarithms.min() < -1000


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


# ------------------------------------------------ 11. parameters set before a warm fit

STRUCTURE = {
    "a width": {"hidden_layer_sizes": (7,)},
    "a depth": {"hidden_layer_sizes": (6, 6)},
    "activation": {"activation": "tanh"},
    "solver": {"solver": "sgd"},
    "loss": {"loss": "poisson"},
    "dtype": {"dtype": "float32"},
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", STRUCTURE)
def test_change_of_structure_before_a_warm_fit_is_an_error(case, method):
    X, y = value_data(N_ROWS, N_FEATURES)
    y = np.abs(y)  # so that loss="poisson" has no other reason to complain
    regressor = BackpropRegressor(warm_start=True, max_iter=3, **SMALL).fit(X, y)
    before = copy.deepcopy(regressor)
    (name,) = STRUCTURE[case]
    regressor.set_params(**STRUCTURE[case])
    with pytest.raises(ValueError, match=name):
        getattr(regressor, method)(X, y)
    assert same_bits(regressor, before)


OTHERS = {
    **{"alpha": 1.0, "batch_size": 10, "learning_rate_init": 0.1, "momentum": 0.1},
    **{"nesterovs_momentum": False, "shuffle": False, "learning_rate": "invscaling"},
    **{"early_stopping": True, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.1},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_parameters_apply_in_a_warm_fit(name):
    X, y = value_data(N_ROWS, N_FEATURES)
    solver = "adam" if name in ("beta_1", "beta_2", "epsilon") else "sgd"
    settings = SMALL | {"solver": solver, "warm_start": True, "max_iter": 3}
    same, changed = (BackpropRegressor(**settings).fit(X, y) for _ in range(2))
    same.fit(X, y)
    changed.set_params(**{name: OTHERS[name]}).fit(X, y)
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


@pytest.mark.long
def test_early_stopping_of_lbfgs_costs_no_accuracy():
    """One of the sets of scikit-learn's example of alpha; it stopped at .73 against .93."""
    X, y = make_classification(
        n_features=2, n_redundant=0, n_informative=2, random_state=0, n_clusters_per_class=1
    )
    X = scale(X + 2 * np.random.RandomState(2).uniform(size=X.shape))
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, random_state=42)
    settings = {"hidden_layer_sizes": (10, 10), "solver": "lbfgs", "early_stopping": True}
    settings |= {"max_iter": 2000, "random_state": 1}

    def mean_score(kind):
        models = [kind(alpha=alpha, **settings).fit(X, y) for alpha in (0.1, 0.3, 1.0, 3.0)]
        return np.mean([model.score(X_test, y_test) for model in models])

    assert mean_score(BackpropClassifier) > mean_score(MLPClassifier) - 0.1


@BOTH
def test_lbfgs_keeps_float32_outside_and_float64_inside(estimator_class):
    """From the same start, the weights are those of float64 and rounded only at the end."""
    start = some_parameters(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    start = tuple([array.astype(np.float32) for array in arrays] for arrays in start)
    settings = {"hidden_layer_sizes": (6,), "solver": "lbfgs", "max_iter": 20, "init": start}
    X, y = data_for(estimator_class, N_ROWS)
    X, y = X.astype(np.float32), y if y.dtype.kind == "i" else y.astype(np.float32)
    single = estimator_class(**settings).fit(X, y)
    double = estimator_class(**settings).fit(X.astype(np.float64), y)
    assert double.coefs_[0].dtype == np.float64
    for array, exact in zip(
        single.coefs_ + single.intercepts_, double.coefs_ + double.intercepts_, strict=True
    ):
        np.testing.assert_array_equal(array, exact.astype(np.float32), strict=True)


@pytest.mark.long
def test_lbfgs_memory_does_not_grow_with_the_rows():
    """One layer's activations take 96 MB here."""
    X, y = value_data(60_000, 3)
    settings = {"hidden_layer_sizes": (200,), "solver": "lbfgs", "max_iter": 1}
    assert peak_of(BackpropRegressor(**settings).fit, X, y) < 48e6


# ------------------------------------------------------------- 16. memory of prediction


MANY = np.arange(300) % 50
PREDICTING = {
    "classes": (BackpropClassifier, {"n_estimators": 3}, MANY),
    "indicators": (BackpropClassifier, {}, (MANY[:, None] == np.arange(50)).astype(int)),
    "outputs": (BackpropRegressor, {"scale_target": True}, np.outer(MANY, np.ones(50))),
    "quantiles": (BackpropRegressor, {"loss": Quantile([0.1, 0.9])}, np.outer(MANY, np.ones(25))),
}


@pytest.mark.long
@pytest.mark.parametrize("name", PREDICTING)
def test_memory_of_predictions_is_that_of_the_result_and_of_a_block(name, monkeypatch):
    """The raw scores of all rows, of which everything else is made, take 8 MB a member here."""
    monkeypatch.setattr(prediction, "_BLOCK_NUMBERS", 1 << 16)
    monkeypatch.setattr(_fitted_attributes, "_BLOCK_SIZE", 1 << 14)
    estimator_class, settings, y = PREDICTING[name]
    X = np.random.RandomState(0).randn(20_000, 3)
    model = estimator_class((100,), max_iter=1, random_state=0, **settings).fit(X[:300], y)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        if hasattr(model, method):
            predict = getattr(model, method)
            size = predict(X).nbytes
            assert peak_of(predict, X) < size + 3e6


# ------------------------------------------------------------------ 17. size of a pickle


KEPT_IN_PICKLES = {
    "sgd": ({"solver": "sgd"}, 1),
    "adam": ({}, 1),
    "lbfgs": ({"solver": "lbfgs"}, 1),
    # Where training is meant to go on: both moments, and the weights that they are of.
    "warm start": ({"warm_start": True}, 4),
    "partial_fit": ({}, 4),
}


@pytest.mark.parametrize("way", KEPT_IN_PICKLES)
@BOTH
def test_pickle_holds_one_copy_of_the_weights_and_moments_where_training_goes_on(
    estimator_class, way
):
    """That it goes on to the bit is shown in test_resume.py."""
    settings, n_copies = KEPT_IN_PICKLES[way]
    X, y = data_for(estimator_class, N_ROWS, 100)
    estimator = estimator_class((300,), max_iter=2, random_state=0, **settings).fit(X, y)
    if way == "partial_fit":
        estimator.partial_fit(X, y)
    weights = sum(array.nbytes for array in estimator.coefs_ + estimator.intercepts_)
    assert n_copies - 0.1 < len(pickle.dumps(estimator)) / weights < n_copies + 0.1


@BOTH
def test_partial_fit_after_a_small_pickle_starts_with_fresh_moments(estimator_class):
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | {"shuffle": False, "max_iter": 5}
    estimator = estimator_class(**settings).fit(X, y)
    start = copies(estimator.coefs_), copies(estimator.intercepts_)
    fresh = estimator_class(init=start, **settings)
    fresh.partial_fit(X, y, **classes_for(estimator_class))

    returned = pickle.loads(pickle.dumps(estimator)).partial_fit(X, y)
    assert_same_network(returned, fresh, rtol=0, atol=0)
    assert returned.t_ == 6 * N_ROWS
    assert len(returned.loss_curve_) == 6


# ----------------------------------------------------------------------- 18. Ctrl-C


def interrupt_step(monkeypatch, solver, n_steps):
    interrupt(monkeypatch, OPTIMIZERS[solver], "step", n_steps)


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@BOTH
def test_interrupt_goes_back_to_the_last_complete_epoch(
    estimator_class, solver, early_stopping, monkeypatch
):
    """An epoch has three steps, so the second step of the third epoch is interrupted."""
    settings = SMALL | {"solver": solver, "early_stopping": early_stopping}
    X, y = data_for(estimator_class, N_ROWS)
    reference = estimator_class(max_iter=2, **settings).fit(X, y)
    interrupted = estimator_class(max_iter=10, **settings)
    interrupt_step(monkeypatch, solver, 7)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    assert same_bits(interrupted, reference)
    for name in ("n_iter_", "best_iter_", "t_", "loss_", "best_loss_", "validation_scores_"):
        assert getattr(interrupted, name) == getattr(reference, name), name
    np.testing.assert_array_equal(interrupted.predict(X), reference.predict(X))


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0},
        {"solver": "adam"},
    ],
    ids=["adaptive", "adam"],
)
@BOTH
def test_training_goes_on_after_an_interrupt(estimator_class, settings, monkeypatch):
    """As if nothing had happened: moments, order, stream and schedule went back as well."""
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | settings
    whole = estimator_class(max_iter=6, **settings).fit(X, y)
    interrupted = estimator_class(max_iter=10, warm_start=True, **settings)
    interrupt_step(monkeypatch, settings["solver"], 7)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    assert same_bits(interrupted.set_params(max_iter=4).fit(X, y), whole)


@BOTH
def test_interrupt_in_the_first_epoch_leaves_the_initial_weights(estimator_class, monkeypatch):
    X, y = data_for(estimator_class, N_ROWS)
    start = some_parameters(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    estimator = estimator_class(init=start, **SMALL)
    interrupt_step(monkeypatch, "adam", 1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    for array, initial in zip(estimator.coefs_, start[0], strict=True):
        np.testing.assert_array_equal(array, initial)
    assert estimator.n_iter_ == estimator.t_ == 0
    assert estimator.loss_curve_ == []
    assert len(estimator.predict(X)) == N_ROWS

    whole = estimator_class(max_iter=2, init=start, **SMALL).fit(X, y)
    assert same_bits(estimator.partial_fit(X, y).partial_fit(X, y), whole)


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


# ---------------------------------------------------------- 23. weights that users assign


def assign(estimator, coefs, intercepts, way):
    """Assign weights in one of the ways that users do."""
    if way == "whole":
        estimator.coefs_, estimator.intercepts_ = copies(coefs), copies(intercepts)
        return
    for arrays, given in ((estimator.coefs_, coefs), (estimator.intercepts_, intercepts)):
        for i, array in enumerate(given):
            if way == "by item":
                arrays[i] = array.copy()
            else:
                arrays[i][...] = array


@pytest.mark.parametrize("way", ["whole", "by item", "in place"])
@BOTH
def test_assigned_weights_are_honored(estimator_class, way):
    """By prediction, by `partial_fit` and by a warm fit: federated averaging lives on it."""
    n_outputs = 3 if estimator_class is BackpropClassifier else 1
    coefs, intercepts = some_parameters(N_FEATURES, 6, n_outputs, seed=9)
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | {"solver": "sgd", "momentum": 0.0, "shuffle": False, "max_iter": 2}
    scores = np.maximum(X @ coefs[0] + intercepts[0], 0) @ coefs[1] + intercepts[1]
    expected = scores.argmax(axis=1) if n_outputs == 3 else scores[:, 0]
    started = estimator_class(init=(coefs, intercepts), **settings).fit(X, y)
    for train, n_calls in (("partial_fit", 2), ("fit", 1)):
        estimator = estimator_class(warm_start=True, **settings).fit(X, y)
        assign(estimator, coefs, intercepts, way)
        np.testing.assert_allclose(estimator.predict(X), expected)
        for _ in range(n_calls):
            getattr(estimator, train)(X, y)
        assert_same_network(estimator, started, rtol=1e-12)


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
def test_assigned_weights_of_another_network_are_an_error(coefs):
    X, y = value_data(N_ROWS, N_FEATURES)
    network = BackpropRegressor(warm_start=True, max_iter=2, **SMALL).fit(X, y)
    network.coefs_ = coefs
    for use in (network.score, network.partial_fit, network.fit):
        with pytest.raises(ValueError, match=r"coefs_.* create a new .*init=\(coefs, inter"):
            use(X, y)


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
def test_warm_fit_on_other_rows_or_with_another_share_draws_a_new_split(estimator_class):
    estimator = estimator_class(early_stopping=True, warm_start=True, max_iter=3, **SMALL)
    n_before = 0
    splits = (60, 0.25, 45), (40, 0.25, 30), (60, 0.25, 45), (60, 0.5, 30)
    for n_rows, fraction, n_train in splits:
        estimator.set_params(validation_fraction=fraction).fit(*data_for(estimator_class, n_rows))
        assert estimator.t_ - n_before == n_train * estimator.n_iter_
        n_before = estimator.t_


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
