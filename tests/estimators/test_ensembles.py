"""An ensemble is the networks that it is made of, each as if it had been trained alone.

With `n_estimators` an estimator trains several networks as one stack. Each is compared, to the bit,
with a single network that has its seed; predictions are compared with the mean of theirs.
"""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.losses import SquaredError
from support import (
    BOTH,
    answers,
    class_data,
    data_for,
    few_epochs,
    interrupt,
    label_data,
    networks_of,
    pairs,
    same_values,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_ROWS, N_FEATURES, M = 60, 4, 3
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 25, "max_iter": 6, "random_state": 3}

# What has a value of its own for each member, beside weights and intercepts.
OF_MEMBERS = [
    *("n_iter_", "best_iter_", "t_", "loss_", "best_loss_", "loss_curve_"),
    *("validation_scores_", "best_validation_score_"),
]
WAYS = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "lbfgs": {"solver": "lbfgs"},
    "in order": {"shuffle": False},
    "early stopping": {"early_stopping": True, "max_iter": 15, "n_iter_no_change": 3},
    "early stopping lbfgs": {"early_stopping": True, "solver": "lbfgs", "n_iter_no_change": 2},
    "float32": {"dtype": "float32"},
    "whole batches": {"batch_size": "auto"},
    "tiny batches": {"batch_size": 1},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "deep": {"hidden_layer_sizes": (5, 1, 4), "activation": "tanh"},
    "he_normal": {"init": "he_normal", "alpha": 1.0},
}

POSITIVE = value_data(N_ROWS)[0], np.exp(0.3 * value_data(N_ROWS, n_outputs=2)[1])
BINARY, MULTICLASS = class_data(N_ROWS, n_classes=2), class_data(N_ROWS)
TARGETS = {
    "binary": (BackpropClassifier, {}, BINARY),
    "multiclass": (BackpropClassifier, {}, MULTICLASS),
    "multilabel": (BackpropClassifier, {}, label_data(N_ROWS)),
    "one class": (BackpropClassifier, {}, (MULTICLASS[0], np.full(N_ROWS, 7))),
    "squared error binary": (BackpropClassifier, {"loss": "brier"}, BINARY),
    "squared error multiclass": (BackpropClassifier, {"loss": "brier"}, MULTICLASS),
    "one output": (BackpropRegressor, {}, value_data(N_ROWS)),
    "three outputs": (BackpropRegressor, {}, value_data(N_ROWS, n_outputs=3)),
    "poisson": (BackpropRegressor, {"loss": "poisson"}, (POSITIVE[0], POSITIVE[1][:, 0])),
    "poisson two outputs": (BackpropRegressor, {"loss": "poisson"}, POSITIVE),
}
CLASSIFIERS = [name for name, (kind, *_) in TARGETS.items() if kind is BackpropClassifier]
REGRESSORS = [name for name, (kind, *_) in TARGETS.items() if kind is BackpropRegressor]


def assert_same_bits(actual, expected, what=""):
    assert same_values(np.asarray(actual), np.asarray(expected)), what


def ensemble_of(estimator_class, n_estimators=M, **changes):
    """Return an unfitted ensemble, small enough to be fitted in milliseconds."""
    return estimator_class(**SMALL | {"n_estimators": n_estimators} | changes)


def alone(ensemble):
    """Return an unfitted single network for each member, with that member's own seed.

    The first has the ensemble's; the others draw theirs from a stream that begins as its own.
    """
    first = ensemble.random_state
    seeds = check_random_state(copy.deepcopy(first)).randint(
        np.iinfo(np.int32).max, size=ensemble.n_estimators - 1
    )
    return [
        clone(ensemble).set_params(n_estimators=1, random_state=copy.deepcopy(seed))
        for seed in (first, *seeds)
    ]


def fitted_for(target, dtype="float64", **changes):
    """Return an ensemble fitted to a target, and X."""
    estimator_class, settings, (X, y) = TARGETS[target]
    return ensemble_of(estimator_class, **settings | changes).fit(X.astype(dtype), y), X


def assert_member(ensemble, member, network):
    """Assert that a member of an ensemble is a single network, to the bit."""
    for name in ("coefs_", "intercepts_"):
        for array, expected in zip(getattr(ensemble, name), getattr(network, name), strict=True):
            assert_same_bits(array[member], expected, f"{name} of member {member}")
    for name in OF_MEMBERS:
        values = getattr(ensemble, name)
        own = None if values is None else values[member]
        assert same_values(own, getattr(network, name)), f"{name} of member {member}"


def assert_members(ensemble, networks):
    """Assert that the members of an ensemble are these single networks, to the bit."""
    for member, network in enumerate(networks):
        assert_member(ensemble, member, network)


def assert_same_ensemble(actual, expected):
    """Assert that two ensembles are equal to the bit in all that training leaves."""
    for name in ("coefs_", "intercepts_"):
        for array, reference in zip(getattr(actual, name), getattr(expected, name), strict=True):
            assert_same_bits(array, reference, name)
    for name in OF_MEMBERS:
        assert same_values(getattr(actual, name), getattr(expected, name)), name


def assert_goes_on_alike(actual, expected, *data):
    """Assert that two ensembles are equal, and would be after another epoch."""
    assert_same_ensemble(actual, expected)
    actual.partial_fit(*data), expected.partial_fit(*data)
    assert_same_ensemble(actual, expected)


# -------------------------------------------------------------- each member as if it were alone


@BOTH
@pytest.mark.parametrize("way", WAYS)
def test_each_member_is_the_network_of_its_own_seed(way, estimator_class):
    data, ensemble = data_for(estimator_class, N_ROWS), ensemble_of(estimator_class, **WAYS[way])
    networks = [network.fit(*data) for network in alone(ensemble)]
    assert_members(ensemble.fit(*data), networks)
    for one, network in zip(ensemble.estimators_, networks, strict=True):
        for name in OF_MEMBERS:
            assert type(getattr(one, name)) is type(getattr(network, name)), name
        assert same_values(answers(one, data[0]), answers(network, data[0]))
    assert len({weights.tobytes() for weights in ensemble.coefs_[0]}) == M


# -------------------------------------------------------------------------------- attributes


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_single_network_has_no_member_axis_and_several_have(target, early_stopping):
    (single, _), (ensemble, _) = (
        fitted_for(target, n_estimators=n, early_stopping=early_stopping) for n in (1, M)
    )
    for name in ("coefs_", "intercepts_"):
        shapes = [array.shape for array in getattr(single, name)]
        assert [array.shape for array in getattr(ensemble, name)] == [(M, *s) for s in shapes]
    for name in ("n_iter_", "best_iter_", "t_", "loss_"):
        assert isinstance(getattr(single, name), (int, float)), name
        assert getattr(ensemble, name).shape == (M,), name
    assert ensemble.n_iter_.dtype.kind == ensemble.t_.dtype.kind == "i"
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ensemble, name) == getattr(single, name), name
    assert [type(curve) for curve in ensemble.loss_curve_] == [list] * M
    if early_stopping:
        assert ensemble.best_loss_ is None
        assert [len(scores) for scores in ensemble.validation_scores_] == list(ensemble.n_iter_)
        best = list(map(max, ensemble.validation_scores_))
        np.testing.assert_array_equal(ensemble.best_validation_score_, best)
    else:
        assert ensemble.validation_scores_ is ensemble.best_validation_score_ is None
        np.testing.assert_array_equal(ensemble.best_loss_, np.min(ensemble.loss_curve_, axis=1))


@pytest.mark.parametrize("at_minimum", [[True], [True, False], [False, True], [True, True]])
def test_best_scores_are_floats_where_lbfgs_makes_no_iteration(at_minimum):
    """A member that starts at the minimum has nothing to do, and so nothing that is scored."""
    X, _ = value_data(N_ROWS, N_FEATURES)
    exact, n = np.arange(N_FEATURES, dtype=float)[:, None], len(at_minimum)
    weights, biases = np.array([exact + 1 - is_exact for is_exact in at_minimum]), np.zeros((n, 1))
    init = ([weights], [biases]) if n > 1 else ([weights[0]], [biases[0]])
    settings = {"solver": "lbfgs", "early_stopping": True, "alpha": 0.0, "random_state": 0}
    ensemble = BackpropRegressor((), init=init, n_estimators=n, **settings)
    ensemble.fit(X, X @ exact[:, 0])

    scores = np.atleast_1d(ensemble.best_validation_score_)
    np.testing.assert_array_equal(np.isnan(scores), at_minimum)
    np.testing.assert_array_equal(np.atleast_1d(ensemble.n_iter_) == 0, at_minimum)
    of_members = [one.best_validation_score_ for one in networks_of(ensemble)]
    assert [type(score) for score in of_members] == [float] * n
    np.testing.assert_array_equal(of_members, scores, strict=True)


# ------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize(
    "target, as_sparse, dtype", pairs(CLASSIFIERS, [False, True], ["float64", "float32"])
)
def test_probabilities_are_the_mean_of_the_members(target, as_sparse, dtype):
    classifier, X = fitted_for(target, dtype)
    X = sparse.csr_array(X.astype(dtype)) if as_sparse else X.astype(dtype)
    eps = np.finfo(dtype).eps
    p = classifier.predict_proba(X)
    assert p.dtype == dtype
    expected = np.mean([one.predict_proba(X) for one in classifier.estimators_], axis=0)
    np.testing.assert_allclose(p, expected, rtol=50 * eps)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), p, rtol=50 * eps)


@pytest.mark.parametrize("target", CLASSIFIERS)
def test_labels_and_scores_are_those_of_the_mean_probabilities(target):
    classifier, X = fitted_for(target, max_iter=1)  # members are still of many minds
    labels, p, scores = (
        getattr(classifier, name)(X) for name in ("predict", "predict_proba", "decision_function")
    )
    if target == "one class":
        assert (labels == 7).all()
        return
    assert any((one.predict(X) != labels).any() for one in classifier.estimators_)
    if target == "multilabel":
        np.testing.assert_array_equal(labels, p > 0.5)
        np.testing.assert_allclose(scores, np.log(p) - np.log1p(-p), rtol=1e-9, atol=1e-12)
        return
    np.testing.assert_array_equal(labels, classifier.classes_[p.argmax(axis=1)])
    if "binary" in target:
        np.testing.assert_allclose(scores, np.log(p[:, 1]) - np.log(p[:, 0]), rtol=1e-9, atol=1e-12)
    else:
        np.testing.assert_allclose(np.exp(scores), p, rtol=1e-12)


@pytest.mark.parametrize(
    "target, dtype, n_estimators", pairs(REGRESSORS, ["float64", "float32"], [1, M])
)
def test_predictions_are_the_mean_and_the_spread_of_the_members(target, dtype, n_estimators):
    regressor, X = fitted_for(target, dtype, n_estimators=n_estimators)
    eps = np.finfo(dtype).eps
    each = np.array([one.predict(X) for one in networks_of(regressor)])
    mean, std = regressor.predict(X, return_std=True)
    assert_same_bits(mean, regressor.predict(X))
    assert mean.shape == std.shape == each.shape[1:]
    assert mean.dtype == std.dtype == dtype
    np.testing.assert_allclose(mean, each.mean(axis=0), rtol=50 * eps, atol=10 * eps)
    np.testing.assert_allclose(std, each.std(axis=0), rtol=50 * eps, atol=10 * eps)
    assert ((std > 0) == (n_estimators > 1)).all()


@pytest.mark.parametrize(
    "dtype, loss, scale_target",
    pairs(["float32", "float64"], ["poisson", "gamma", "tweedie", "gaussian"], [False, True]),
)
def test_members_at_the_end_of_the_range_count_as_all_others(dtype, loss, scale_target):
    """What exp cannot hold is clipped, in each member: the mean is that of what they predict."""
    X, y = POSITIVE
    settings = {"loss": loss, "dtype": dtype, "scale_target": scale_target}
    regressor = ensemble_of(BackpropRegressor, 3, **settings).fit(X, 100 * y)
    for weights in regressor.coefs_:
        weights *= 0
    regressor.intercepts_[-1][...] = np.array([-1, 2, 1000])[:, None]
    mean, std = regressor.predict(X, return_std=True)
    each = [one.predict(X, return_std=True) for one in regressor.estimators_]
    means, own = (np.array(part, dtype=np.longdouble) for part in zip(*each, strict=True))
    rounding = 10 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(mean, means.mean(axis=0), rtol=rounding)
    variance = np.square(own).mean(axis=0) + means.var(axis=0)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=rounding)
    assert np.array_equal(regressor.predict(X), mean)
    assert mean.dtype == std.dtype == ("float64" if scale_target else dtype)


@pytest.mark.parametrize("target", ["multiclass", "one output"])
def test_what_one_member_cannot_predict_the_ensemble_does_not(target):
    ensemble, _ = fitted_for(target, hidden_layer_sizes=())
    ensemble.coefs_[0][1] = 1e10
    far = np.full((1, N_FEATURES), 1e299)
    ensemble.estimators_[0].predict(far)
    for model in (ensemble.estimators_[1], ensemble):
        with pytest.raises(ValueError, match="output on X is not finite"):
            model.predict(far)


# ------------------------------------------------------------------------------- the members


@pytest.mark.parametrize("target", TARGETS)
def test_members_are_estimators_that_share_the_weights(target):
    ensemble, X = fitted_for(target)
    y = TARGETS[target][2][1]
    assert len(ensemble.estimators_) == M
    for member, one in enumerate(ensemble.estimators_):
        assert type(one) is type(ensemble)
        assert one.n_estimators == 1
        assert_member(ensemble, member, one)
        assert all(map(np.shares_memory, one.coefs_, ensemble.coefs_))
        assert 0 <= one.score(X, y) <= 1 or not is_classifier(one)
        assert not hasattr(one, "estimators_")


@pytest.mark.parametrize("use", ["partial_fit", "fit", "pickle", "clone"])
@BOTH
def test_what_is_done_with_a_member_does_not_disturb_the_ensemble(estimator_class, use):
    data = data_for(estimator_class, N_ROWS)
    used, spared = (
        ensemble_of(estimator_class, random_state=np.random.RandomState(3), warm_start=True).fit(
            *data
        )
        for _ in range(2)
    )
    for one in used.estimators_:
        if use == "pickle":
            pickle.loads(pickle.dumps(one)).partial_fit(*data)
        elif use == "clone":
            clone(one).fit(*data)
        else:
            getattr(one, use)(*data)
            assert not any(map(np.shares_memory, one.coefs_, used.coefs_))
    assert_goes_on_alike(used, spared, *data)


def test_a_pickled_member_takes_its_own_weights_along_and_no_more():
    X, y = value_data(N_ROWS, 100)
    ensemble = ensemble_of(BackpropRegressor, 10, hidden_layer_sizes=(300,), max_iter=1).fit(X, y)
    one = ensemble.estimators_[4]
    weights = sum(array.nbytes for array in one.coefs_ + one.intercepts_)
    assert len(pickle.dumps(one)) < 1.05 * weights
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).predict(X), one.predict(X))


# --------------------------------------------------------------------------- initial weights


def initial(estimator_class, has_axis, n_estimators=M):
    """Return a pair of weights and intercepts, for all members or for each."""
    k, rng = 3 if estimator_class is BackpropClassifier else 1, np.random.RandomState(8)
    axis = (n_estimators,) if has_axis else ()
    coefs = [rng.randn(*axis, *shape) for shape in [(N_FEATURES, 6), (6, k)]]
    return coefs, [rng.randn(*axis, width) for width in (6, k)]


@pytest.mark.parametrize(
    "estimator_class, way, has_axis",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        ["adam", "lbfgs", "early stopping", "float32"],
        [False, True],
    ),
)
def test_given_weights_serve_all_members_or_each_its_own(estimator_class, way, has_axis):
    data, init = data_for(estimator_class, N_ROWS), initial(estimator_class, has_axis)
    ensemble = ensemble_of(estimator_class, init=init, **WAYS[way])
    networks = alone(ensemble)
    for member, network in enumerate(networks):
        chosen = [[array[member] if has_axis else array for array in part] for part in init]
        network.set_params(init=tuple(chosen)).fit(*data)
    assert_members(ensemble.fit(*data), networks)
    np.testing.assert_array_equal(ensemble.estimators_[1].init[0][0], networks[1].init[0][0])
    ensemble.set_params(init=initial(estimator_class, True, 2))
    with pytest.raises(ValueError, match=r"init.* of shape \(3, 4, 6\)"):
        ensemble.fit(*data)


# -------------------------------------------------------------------------- runs that go wrong


def with_a_diverging_member(estimator_class, member=1):
    """Return initial weights, of one member beyond all bounds."""
    coefs, intercepts = initial(estimator_class, True)
    coefs[0][member] = 1e300
    return coefs, intercepts


@pytest.mark.parametrize(
    "estimator_class, method, solver",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        ["partial_fit", "warm fit", "cold fit"],
        ["sgd", "adam"],
    ),
)
def test_a_member_that_diverges_leaves_the_ensemble_as_it_was(estimator_class, method, solver):
    """The others have done their epochs when it fails, and none of them counts."""
    data = data_for(estimator_class, N_ROWS)
    settings = {"solver": solver, "warm_start": method == "warm fit", "shuffle": False}
    failing, spared = (ensemble_of(estimator_class, **settings).fit(*data) for _ in range(2))
    kept = failing.coefs_[0][1].copy()
    if method == "cold fit":
        failing.set_params(init=with_a_diverging_member(estimator_class))
    else:
        failing.coefs_[0][1] = 1e300
    with pytest.raises(ValueError, match="diverged in epoch 1"):
        failing.partial_fit(*data) if method == "partial_fit" else failing.fit(*data)
    failing.set_params(init="auto")
    failing.coefs_[0][1] = kept
    assert_goes_on_alike(failing, spared, *data)


def test_a_member_that_diverges_under_early_stopping_keeps_its_best_epoch(capsys):
    """And says so, while the others go on as if alone."""
    data = class_data(N_ROWS)
    coefs, intercepts = initial(BackpropClassifier, True)
    for weights in coefs:
        weights[1] *= 1e151  # a few epochs from the largest numbers that there are
    settings = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1.0}
    settings |= {"early_stopping": True, "max_iter": 20, "init": (coefs, intercepts)}
    ensemble = ensemble_of(BackpropClassifier, **settings, verbose=True)
    networks = alone(ensemble)
    with pytest.warns(ConvergenceWarning) as caught:
        ensemble.fit(*data)
    diverged = [str(w.message) for w in caught if "no longer finite" in str(w.message)]
    assert len(diverged) == 1
    assert f"The weights of epoch {ensemble.best_iter_[1]}" in diverged[0]
    assert ensemble.n_iter_[1] < min(ensemble.n_iter_[0], ensemble.n_iter_[2])
    lines = [line for line in capsys.readouterr().out.splitlines() if "Iteration" in line]
    for epoch, line in enumerate(lines):
        losses = [curve[epoch] for curve in ensemble.loss_curve_ if len(curve) > epoch]
        assert line == f"Iteration {epoch + 1}, loss = {np.mean(losses):.8f}"
    for member, network in enumerate(networks):
        network.set_params(init=([c[member] for c in coefs], [b[member] for b in intercepts]))
        assert_member(ensemble, member, network.fit(*data))


@pytest.mark.parametrize(
    "solver, n_estimators, message",
    [
        *(("adam", n, "Maximum iterations (6) reached") for n in (1, 2, 5)),
        ("lbfgs", 3, "lbfgs failed to converge"),
    ],
)
@BOTH
def test_a_lack_of_convergence_is_mentioned_once(estimator_class, solver, n_estimators, message):
    with pytest.warns(ConvergenceWarning) as caught:
        ensemble_of(estimator_class, n_estimators, solver=solver).fit(
            *data_for(estimator_class, N_ROWS)
        )
    assert [message in str(w.message) for w in caught] == [True]
    assert caught[0].filename == __file__


# ------------------------------------------------------------------------------------- Ctrl-C


def test_an_interrupt_of_lbfgs_leaves_each_member_at_an_iteration_of_its_own(monkeypatch):
    """They train one after the other, so the first is done while the second is on its way."""
    data = value_data(N_ROWS)
    ensemble = ensemble_of(BackpropRegressor, 2, solver="lbfgs")
    first, second = (network.fit(*data) for network in alone(ensemble))
    evaluations = interrupt(monkeypatch, SquaredError, "gradient", np.inf)
    alone(ensemble)[0].fit(*data)
    interrupt(monkeypatch, SquaredError, "gradient", len(evaluations) + 4)
    with pytest.raises(KeyboardInterrupt):
        ensemble.fit(*data)
    assert_member(ensemble, 0, first)
    n_iter = ensemble.n_iter_[1]
    assert 1 <= n_iter < second.n_iter_
    assert ensemble.loss_curve_[1] == second.loss_curve_[:n_iter]


# ------------------------------------------------------------------------------- the parameter


@pytest.mark.parametrize("before, after", [(1, 2), (3, 1), (3, 4)])
def test_the_number_of_members_cannot_change_while_training_goes_on(before, after):
    data = value_data(N_ROWS)
    ensemble = ensemble_of(BackpropRegressor, before, warm_start=True).fit(*data)
    ensemble.set_params(n_estimators=after)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=f"n_estimators of .* is {before}, .* to {after}"):
            getattr(ensemble, method)(*data)
    ensemble.set_params(n_estimators=before).fit(*data)
    ensemble.set_params(n_estimators=after, warm_start=False).fit(*data)
    assert len(networks_of(ensemble)) == after
