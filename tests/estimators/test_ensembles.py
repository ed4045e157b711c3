"""Is an ensemble the networks that it is made of, each as if it had been trained alone?

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

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.nn.objective import LossAndGradient
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.training import loop
from skbackprop.training.validation_split import spawn_rngs
from support import (
    BOTH,
    class_data,
    classes_for,
    data_for,
    deep_copied,
    few_epochs,
    label_data,
    memory_mapped,
    networks_of,
    pickled,
    safely_saved,
    same_values,
    value_data,
)
from support.stacks import assert_same_bits

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
every_way = pytest.mark.parametrize("way", WAYS)
# Rows are held out by `fit` alone, and partial_fit is for stochastic solvers.

POSITIVE = value_data(N_ROWS)[0], np.exp(0.3 * value_data(N_ROWS, n_outputs=2)[1])
TARGETS = {
    "binary": (BackpropClassifier, {}, class_data(N_ROWS, n_classes=2)),
    "multiclass": (BackpropClassifier, {}, class_data(N_ROWS)),
    "multilabel": (BackpropClassifier, {}, label_data(N_ROWS)),
    "one class": (BackpropClassifier, {}, (class_data(N_ROWS)[0], np.full(N_ROWS, 7))),
    "squared error binary": (
        BackpropClassifier,
        {"loss": "brier"},
        class_data(N_ROWS, n_classes=2),
    ),
    "squared error multiclass": (
        BackpropClassifier,
        {"loss": "brier"},
        class_data(N_ROWS),
    ),
    "one output": (BackpropRegressor, {}, value_data(N_ROWS)),
    "three outputs": (BackpropRegressor, {}, value_data(N_ROWS, n_outputs=3)),
    "poisson": (BackpropRegressor, {"loss": "poisson"}, (POSITIVE[0], POSITIVE[1][:, 0])),
    "poisson two outputs": (BackpropRegressor, {"loss": "poisson"}, POSITIVE),
}
CLASSIFIERS = [name for name, (kind, *_) in TARGETS.items() if kind is BackpropClassifier]
REGRESSORS = [name for name, (kind, *_) in TARGETS.items() if kind is BackpropRegressor]
every_target = pytest.mark.parametrize("target", TARGETS)
every_classifier = pytest.mark.parametrize("target", CLASSIFIERS)
every_regressor = pytest.mark.parametrize("target", REGRESSORS)


def ensemble_of(estimator_class, n_estimators=M, **changes):
    """Return an unfitted ensemble, small enough to be fitted in milliseconds."""
    return estimator_class(**SMALL | {"n_estimators": n_estimators} | changes)


def alone(ensemble):
    """Return an unfitted single network for each member, with that member's own stream."""
    rngs = spawn_rngs(copy.deepcopy(ensemble.random_state), ensemble.n_estimators)
    return [clone(ensemble).set_params(n_estimators=1, random_state=rng) for rng in rngs]


def fitted_for(target, dtype="float64", **changes):
    """Return an ensemble fitted to a target, and X."""
    estimator_class, settings, (X, y) = TARGETS[target]
    return ensemble_of(estimator_class, **settings | changes).fit(X.astype(dtype), y), X


def own(value, member):
    return None if value is None else value[member]


def assert_member(ensemble, member, network):
    """Assert that a member of an ensemble is a single network, to the bit."""
    for name in ("coefs_", "intercepts_"):
        for array, expected in zip(getattr(ensemble, name), getattr(network, name), strict=True):
            assert_same_bits(array[member], expected, f"{name} of member {member}")
    for name in OF_MEMBERS:
        got, expected = own(getattr(ensemble, name), member), getattr(network, name)
        assert same_values(got, expected), f"{name} of member {member}"


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
@every_way
def test_each_member_is_the_network_of_its_own_seed(way, estimator_class):
    data, ensemble = data_for(estimator_class, N_ROWS), ensemble_of(estimator_class, **WAYS[way])
    networks = [network.fit(*data) for network in alone(ensemble)]
    ensemble.fit(*data)
    for member, network in enumerate(networks):
        assert_member(ensemble, member, network)
    assert_member(ensemble, 0, clone(ensemble).set_params(n_estimators=1).fit(*data))
    is_different = [not np.array_equal(ensemble.coefs_[0][0], w) for w in ensemble.coefs_[0][1:]]
    assert all(is_different)


@pytest.mark.long
@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("way", ["adam", "lbfgs", "early stopping"])
@every_target
def test_members_with_weights_of_rows(target, way, as_sparse):
    estimator_class, settings, (X, y) = TARGETS[target]
    weight = np.random.RandomState(1).uniform(0.1, 3, N_ROWS) * (np.arange(N_ROWS) % 4 > 0)
    X = sparse.csr_array(X * (X > 0)) if as_sparse else X
    ensemble = ensemble_of(estimator_class, **settings | WAYS[way])
    networks = [network.fit(X, y, sample_weight=weight) for network in alone(ensemble)]
    ensemble.fit(X, y, sample_weight=weight)
    for member, network in enumerate(networks):
        assert_member(ensemble, member, network)


@BOTH
@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64])
def test_a_stream_of_the_users_ends_where_the_first_network_leaves_it(estimator_class, kind):
    data = data_for(estimator_class, N_ROWS)
    rngs = [np.random.RandomState(kind(5)) for _ in range(2)]
    ensemble, network = (
        ensemble_of(estimator_class, n_estimators, random_state=rng)
        for n_estimators, rng in zip((M, 1), rngs, strict=True)
    )
    for _ in range(2):  # the second fit has other weights to begin with
        assert_member(ensemble.fit(*data), 0, network.fit(*data))
        np.testing.assert_equal(*(rng.get_state(legacy=False) for rng in rngs))


def test_seeds_of_members_are_drawn_from_a_copy_of_the_users_stream():
    rng = np.random.RandomState(5)
    first, *others = spawn_rngs(rng, 4)
    assert first is rng
    assert rng.rand() == np.random.RandomState(5).rand()
    seeds = np.random.RandomState(5).randint(np.iinfo(np.int32).max, size=3)
    assert [other.rand() for other in others] == [np.random.RandomState(s).rand() for s in seeds]
    assert [s.rand() for s in spawn_rngs(5, 3)][1:] == [
        np.random.RandomState(s).rand() for s in seeds[:2]
    ]


@BOTH
def test_more_members_leave_those_before_as_they_are(estimator_class):
    data = data_for(estimator_class, N_ROWS)
    few, many = (ensemble_of(estimator_class, n).fit(*data) for n in (2, 5))
    for few_of_layer, many_of_layer in zip(few.coefs_, many.coefs_, strict=True):
        assert_same_bits(many_of_layer[:2], few_of_layer)


@pytest.fixture
def _seeded_globally():
    state = np.random.get_state()
    yield
    np.random.set_state(state)


@pytest.mark.usefixtures("_seeded_globally")
def test_without_a_seed_one_is_drawn_from_the_global_stream():
    data, fits = value_data(N_ROWS), []
    for n_estimators in (M, M, 1):
        np.random.seed(11)
        fits.append(ensemble_of(BackpropRegressor, n_estimators, random_state=None).fit(*data))
    assert_same_ensemble(fits[0], fits[1])
    assert_member(fits[0], 0, fits[2])
    assert len(np.unique(fits[0].loss_)) == M


@every_way
@pytest.mark.parametrize("size", [1, 2, 4])
def test_it_does_not_matter_how_many_stacks_there_are(size, way, monkeypatch):
    data, ensemble = value_data(N_ROWS), ensemble_of(BackpropRegressor, 5, **WAYS[way])
    together = clone(ensemble).fit(*data)
    monkeypatch.setattr(loop, "max_stack_size", lambda *arguments: size)
    assert_same_ensemble(ensemble.fit(*data), together)


@pytest.mark.long
def test_members_stop_at_epochs_of_their_own():
    data = value_data(N_ROWS)
    ensemble = ensemble_of(
        BackpropRegressor, 5, early_stopping=True, max_iter=100, n_iter_no_change=2, tol=0.01
    ).fit(*data)
    assert len(set(ensemble.n_iter_)) > 1
    for member in range(5):
        scores = ensemble.validation_scores_[member]
        assert len(scores) == len(ensemble.loss_curve_[member]) == ensemble.n_iter_[member]
        assert ensemble.best_validation_score_[member] == max(scores)
        assert scores[ensemble.best_iter_[member] - 1] == max(scores)


# -------------------------------------------------------------------------------- attributes


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@every_target
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
    for name in ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ensemble, name) == getattr(single, name), name
    assert [type(curve) for curve in ensemble.loss_curve_] == [list] * M
    if early_stopping:
        assert ensemble.best_loss_ is None
        assert ensemble.best_validation_score_.shape == (M,)
        assert [len(scores) for scores in ensemble.validation_scores_] == list(ensemble.n_iter_)
    else:
        assert ensemble.validation_scores_ is ensemble.best_validation_score_ is None
        np.testing.assert_array_equal(ensemble.best_loss_, np.min(ensemble.loss_curve_, axis=1))
    assert ensemble.n_iter_.dtype.kind == ensemble.t_.dtype.kind == "i"


@pytest.mark.parametrize("at_minimum", [[True], [True, False], [False, True], [True, True]])
def test_best_scores_are_floats_where_lbfgs_makes_no_iteration(at_minimum):
    """A member that starts at the minimum has nothing to do, and so nothing that is scored."""
    X, _ = value_data(N_ROWS, N_FEATURES)
    exact = np.arange(N_FEATURES, dtype=float)[:, None]
    weights = np.array([exact if is_exact else exact + 1 for is_exact in at_minimum])
    init = [weights], [np.zeros((len(weights), 1))]
    settings = {"solver": "lbfgs", "early_stopping": True, "alpha": 0.0, "random_state": 0}
    if len(weights) == 1:
        init = [weights[0]], [np.zeros(1)]
    ensemble = BackpropRegressor((), init=init, n_estimators=len(weights), **settings)
    ensemble.fit(X, X @ exact[:, 0])

    scores = np.atleast_1d(ensemble.best_validation_score_)
    assert scores.dtype == float
    np.testing.assert_array_equal(np.isnan(scores), at_minimum)
    np.testing.assert_array_equal(np.atleast_1d(ensemble.n_iter_) == 0, at_minimum)
    members = [ensemble] if len(weights) == 1 else ensemble.estimators_
    alone = [one.best_validation_score_ for one in members]
    assert [type(score) for score in alone] == [float] * len(weights)
    np.testing.assert_array_equal(alone, scores)


# ------------------------------------------------------------------------------- predictions


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
@every_classifier
def test_probabilities_are_the_mean_of_the_members(target, as_sparse, dtype):
    classifier, X = fitted_for(target, dtype)
    X = sparse.csr_array(X.astype(dtype)) if as_sparse else X.astype(dtype)
    eps = np.finfo(dtype).eps
    p = classifier.predict_proba(X)
    assert p.dtype == dtype
    expected = np.mean([one.predict_proba(X) for one in classifier.estimators_], axis=0)
    np.testing.assert_allclose(p, expected, rtol=50 * eps)
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(X)), p, rtol=50 * eps)


@every_classifier
def test_the_label_is_that_of_the_largest_mean_probability(target):
    classifier, X = fitted_for(target, max_iter=1)  # members are still of many minds
    labels, p = classifier.predict(X), classifier.predict_proba(X)
    if target == "multilabel":
        np.testing.assert_array_equal(labels, p > 0.5)
    else:
        np.testing.assert_array_equal(labels, classifier.classes_[p.argmax(axis=1)])
    if target != "one class":
        assert any((one.predict(X) != labels).any() for one in classifier.estimators_)


@every_classifier
def test_decision_function_is_the_score_of_the_mean(target):
    classifier, X = fitted_for(target)
    scores, p = classifier.decision_function(X), classifier.predict_proba(X)
    if target == "multilabel":
        np.testing.assert_allclose(scores, np.log(p) - np.log1p(-p), rtol=1e-9, atol=1e-12)
    elif scores.ndim == 1 and target != "one class":
        np.testing.assert_allclose(scores, np.log(p[:, 1]) - np.log(p[:, 0]), rtol=1e-9, atol=1e-12)
    elif scores.ndim == 2:
        np.testing.assert_allclose(np.exp(scores), p, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@every_regressor
def test_predictions_are_the_mean_and_the_spread_of_the_members(target, dtype):
    regressor, X = fitted_for(target, dtype)
    eps = np.finfo(dtype).eps
    each = np.array([one.predict(X) for one in regressor.estimators_])
    mean, std = regressor.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, regressor.predict(X))
    assert mean.shape == std.shape == each.shape[1:]
    assert mean.dtype == std.dtype == dtype
    np.testing.assert_allclose(mean, each.mean(axis=0), rtol=50 * eps, atol=10 * eps)
    np.testing.assert_allclose(std, each.std(axis=0), rtol=50 * eps, atol=10 * eps)
    assert (std > 0).all()


@every_regressor
def test_one_network_agrees_with_itself(target):
    regressor, X = fitted_for(target, n_estimators=1)
    mean, std = regressor.predict(X, return_std=True)
    assert_same_bits(mean, regressor.predict(X))
    assert_same_bits(std, np.zeros_like(mean))


@every_regressor
def test_the_spread_is_finite_where_predictions_are(target):
    """Squares of these are beyond what the dtype holds."""
    regressor, X = fitted_for(target, "float32")
    for weights in regressor.coefs_:
        weights *= 0
    largest = 80 if "poisson" in target else 1e30
    regressor.intercepts_[-1][...] = (np.array([0.5, 0.75, 1]) * largest)[:, None]
    mean, std = regressor.predict(X, return_std=True)
    assert (np.isfinite(mean) & np.isfinite(std)).all()
    expected = np.std([one.predict(X).astype(float) for one in regressor.estimators_], axis=0)
    np.testing.assert_allclose(std, expected, rtol=1e-5)


@pytest.mark.parametrize("scale_target", [False, True])
@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie", "gaussian"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
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
    assert mean.dtype == std.dtype == dtype


@every_target
def test_score_is_that_of_the_predictions(target):
    ensemble, X = fitted_for(target)
    y = TARGETS[target][2][1]
    prediction = ensemble.predict(X)
    if is_classifier(ensemble):
        expected = (prediction == y).reshape(N_ROWS, -1).all(axis=1).mean()
    else:
        expected = np.mean(1 - ((y - prediction) ** 2).mean(axis=0) / y.var(axis=0))
    assert ensemble.score(X, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
@every_target
def test_what_one_member_cannot_predict_the_ensemble_does_not(target, sign):
    ensemble, _ = fitted_for(target, hidden_layer_sizes=())
    ensemble.coefs_[0][1] = sign * 1e10
    far = np.full((1, N_FEATURES), 1e299)
    ensemble.estimators_[0].predict(far)
    for model in (ensemble.estimators_[1], ensemble):
        with pytest.raises(ValueError, match="output on X is not finite"):
            model.predict(far)


# ------------------------------------------------------------------------------- the members


@every_target
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


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@BOTH
def test_a_member_has_the_attributes_of_a_single_network(estimator_class, early_stopping):
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, early_stopping=early_stopping)
    networks = [network.fit(*data) for network in alone(ensemble)]
    for one, network in zip(ensemble.fit(*data).estimators_, networks, strict=True):
        for name in OF_MEMBERS:
            assert type(getattr(one, name)) is type(getattr(network, name)), name
        for answer in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
            if hasattr(network, answer):
                got, expected = (getattr(model, answer)(data[0]) for model in (one, network))
                np.testing.assert_array_equal(got, expected)


@BOTH
def test_a_single_network_has_no_members(estimator_class):
    """Tools that go from an ensemble to its members, and to theirs, come to an end."""
    network = ensemble_of(estimator_class, 1).fit(*data_for(estimator_class, N_ROWS))
    assert not hasattr(network, "estimators_")
    with pytest.raises(AttributeError, match="n_estimators"):
        _ = network.estimators_


def seeded(way):
    """Return a way of seeding and training on, as settings of an estimator."""
    kind, _, goes_on = way.partition(", ")
    rng = {"int": 3, "stream": np.random.RandomState(3)}[kind]
    return {"random_state": rng, "warm_start": goes_on == "warm start"}


@pytest.mark.parametrize("way", ["int", "stream", "int, warm start", "stream, warm start"])
@pytest.mark.parametrize("use", ["partial_fit", "fit", "pickle", "clone"])
@BOTH
def test_what_is_done_with_a_member_does_not_disturb_the_ensemble(estimator_class, use, way):
    data = data_for(estimator_class, N_ROWS)
    used, spared = (ensemble_of(estimator_class, **seeded(way)).fit(*data) for _ in range(2))
    for one in used.estimators_:
        if use == "pickle":
            pickle.loads(pickle.dumps(one)).partial_fit(*data)
        elif use == "clone":
            clone(one).fit(*data)
        else:
            getattr(one, use)(*data)
            assert not any(map(np.shares_memory, one.coefs_, used.coefs_))
    assert_goes_on_alike(used, spared, *data)


def test_a_list_of_a_member_is_its_own():
    """Only the arrays in it are the ensemble's."""
    ensemble = ensemble_of(BackpropRegressor).fit(*value_data(N_ROWS))
    kept = list(ensemble.coefs_)
    ensemble.estimators_[0].coefs_[0] = np.zeros((N_FEATURES, 6))
    assert all(map(np.array_equal, ensemble.coefs_, kept))


@BOTH
def test_a_member_that_goes_on_is_the_network_that_would(estimator_class):
    data = data_for(estimator_class, N_ROWS)
    settings = {"shuffle": False, "solver": "sgd", "momentum": 0.0}
    ensemble = ensemble_of(estimator_class, **settings)
    networks = [network.fit(*data).partial_fit(*data) for network in alone(ensemble)]
    for one, network in zip(ensemble.fit(*data).estimators_, networks, strict=True):
        one.partial_fit(*data)
        for array, expected in zip(one.coefs_, network.coefs_, strict=True):
            assert_same_bits(array, expected)
        assert (one.loss_curve_, one.t_) == (network.loss_curve_, network.t_)


def test_a_pickled_member_takes_its_own_weights_along_and_no_more():
    X, y = value_data(N_ROWS, 100)
    ensemble = ensemble_of(BackpropRegressor, 10, hidden_layer_sizes=(300,), max_iter=1).fit(X, y)
    one = ensemble.estimators_[4]
    weights = sum(array.nbytes for array in one.coefs_ + one.intercepts_)
    assert len(pickle.dumps(one)) < 1.05 * weights
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).predict(X), one.predict(X))


@pytest.mark.parametrize("has_axis", [False, True], ids=["one for all", "one for each"])
@BOTH
def test_the_clone_of_a_member_is_a_network_that_can_be_fitted(estimator_class, has_axis):
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, init=initial(estimator_class, has_axis)).fit(*data)
    for one in ensemble.estimators_:
        assert clone(one).fit(*data).coefs_[0].shape == (N_FEATURES, 6)


# --------------------------------------------------------------------------- initial weights


def initial(estimator_class, has_axis, n_estimators=M):
    """Return a pair of weights and intercepts, for all members or for each."""
    k, rng = 3 if estimator_class is BackpropClassifier else 1, np.random.RandomState(8)
    axis = (n_estimators,) if has_axis else ()
    coefs = [rng.randn(*axis, *shape) for shape in [(N_FEATURES, 6), (6, k)]]
    return coefs, [rng.randn(*axis, width) for width in (6, k)]


@pytest.mark.parametrize("has_axis", [False, True], ids=["one for all", "one for each"])
@pytest.mark.parametrize("way", ["adam", "lbfgs", "early stopping", "float32"])
@BOTH
def test_given_weights_serve_all_members_or_each_its_own(estimator_class, way, has_axis):
    data, init = data_for(estimator_class, N_ROWS), initial(estimator_class, has_axis)
    ensemble = ensemble_of(estimator_class, init=init, **WAYS[way])
    networks = alone(ensemble)
    ensemble.fit(*data)
    for member, network in enumerate(networks):
        chosen = [[array[member] if has_axis else array for array in part] for part in init]
        network.set_params(init=tuple(chosen))
        assert_member(ensemble, member, network.fit(*data))


@BOTH
def test_given_weights_of_another_number_of_members_are_an_error(estimator_class):
    data = data_for(estimator_class, N_ROWS)
    for n_given in (1, 2, 4):
        init = initial(estimator_class, True, n_given)
        with pytest.raises(ValueError, match=r"init has weights of shape .* needs \(3, 4, 6\)"):
            ensemble_of(estimator_class, init=init).fit(*data)
    coefs, _ = initial(estimator_class, True)
    with pytest.raises(ValueError, match="init has .* intercepts of shape"):
        ensemble_of(estimator_class, init=(coefs, initial(estimator_class, False)[1])).fit(*data)


# ----------------------------------------------------------------------------- assigned weights


@pytest.mark.parametrize("way", ["whole", "by item", "in place", "by member"])
@pytest.mark.parametrize("train", ["partial_fit", "fit"])
@BOTH
def test_assigned_weights_count(estimator_class, train, way):
    data, start = data_for(estimator_class, N_ROWS), initial(estimator_class, True)
    settings = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "max_iter": 1}
    expected = ensemble_of(estimator_class, init=start, **settings)
    ensemble = ensemble_of(estimator_class, warm_start=True, **settings).fit(*data)
    ensemble.loss_curve_ = [[] for _ in range(M)]
    parts = ensemble.coefs_, ensemble.intercepts_
    if way == "whole":
        ensemble.coefs_, ensemble.intercepts_ = copy.deepcopy(start)
    for arrays, given in zip(parts, start, strict=True):
        for i, array in enumerate(given):
            if way == "by item":
                arrays[i] = array.copy()
            elif way == "in place":
                arrays[i][...] = array
            elif way == "by member":
                for member in range(M):
                    arrays[i][member] = array[member]
    hidden = np.maximum(data[0] @ start[0][0] + start[1][0][:, None], 0)
    scores = hidden @ start[0][1] + start[1][1][:, None]
    each = [model.predict(data[0]) for model in ensemble.estimators_]
    labels = scores.argmax(axis=2) if is_classifier(ensemble) else scores[:, :, 0]
    np.testing.assert_allclose(each, labels, rtol=1e-12)
    if train == "partial_fit":
        expected.partial_fit(*data, **classes_for(estimator_class))
    else:
        expected.fit(*data)
    getattr(ensemble, train)(*data)
    for array, reference in zip(ensemble.coefs_, expected.coefs_, strict=True):
        assert_same_bits(array, reference)


@pytest.mark.parametrize("use", ["predict", "partial_fit", "fit"])
@BOTH
def test_assigned_weights_without_the_member_axis_are_an_error(estimator_class, use):
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, warm_start=True).fit(*data)
    ensemble.coefs_, ensemble.intercepts_ = initial(estimator_class, False)
    with pytest.raises(ValueError, match="coefs_, intercepts_ has weights of shape"):
        ensemble.predict(data[0]) if use == "predict" else getattr(ensemble, use)(*data)


# --------------------------------------------------------------------------- training in pieces


@pytest.mark.long
@pytest.mark.parametrize("way", ["early stopping", "lbfgs", "early stopping lbfgs", "adaptive"])
@BOTH
def test_warm_fits_of_an_ensemble_are_those_of_its_networks(estimator_class, way):
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, warm_start=True, **WAYS[way])
    networks = alone(ensemble)
    for _ in range(3):
        ensemble.fit(*data)
        for member, network in enumerate(networks):
            assert_member(ensemble, member, network.fit(*data))


@BOTH
def test_partial_fit_of_an_ensemble_on_other_rows_each_time(estimator_class):
    X, y = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class)
    networks = alone(ensemble)
    for rows in (slice(0, 60), slice(10, 31), slice(0, 60), slice(5, 6)):
        for model in (ensemble, *networks):
            model.partial_fit(X[rows], y[rows], **classes_for(estimator_class))
    for member, network in enumerate(networks):
        assert_member(ensemble, member, network)


# -------------------------------------------------------------------------- a trip in the middle


TRIPS = [pickled, deep_copied, memory_mapped, safely_saved]
every_trip = pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.__name__)


@every_trip
@pytest.mark.parametrize("way", ["adam", "adaptive", "in order", "float32"])
@BOTH
def test_training_goes_on_after_a_trip(estimator_class, way, trip, tmp_path):
    data = data_for(estimator_class, N_ROWS)
    home, other = (
        ensemble_of(estimator_class, warm_start=True, **WAYS[way]).fit(*data) for _ in range(2)
    )
    traveller = trip(home, tmp_path)
    np.testing.assert_array_equal(traveller.predict(data[0]), home.predict(data[0]))
    assert_goes_on_alike(traveller, other, *data)
    assert_same_ensemble(traveller.fit(*data), other.fit(*data))
    for member, one in enumerate(traveller.estimators_):
        assert_member(traveller, member, one)


# -------------------------------------------------------------------------- runs that go wrong


def with_a_diverging_member(estimator_class, member=1):
    """Return initial weights, of one member beyond all bounds."""
    coefs, intercepts = initial(estimator_class, True)
    coefs[0][member] = 1e300
    return coefs, intercepts


@pytest.mark.parametrize("solver", [*OPTIMIZERS, "lbfgs"])
@pytest.mark.parametrize("member", range(M))
@BOTH
def test_a_member_that_diverges_makes_the_first_fit_fail(estimator_class, member, solver):
    data = data_for(estimator_class, N_ROWS)
    init = with_a_diverging_member(estimator_class, member)
    ensemble = ensemble_of(estimator_class, solver=solver, init=init)
    with pytest.raises(ValueError, match="diverged in epoch 1"):
        ensemble.fit(*data)
    assert vars(ensemble).keys() == ensemble.get_params().keys()
    if solver != "lbfgs":
        with pytest.raises(ValueError, match="diverged in epoch 1"):
            ensemble.partial_fit(*data, **classes_for(estimator_class))
        assert vars(ensemble).keys() == ensemble.get_params().keys()


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("method", ["partial_fit", "warm fit", "cold fit"])
@BOTH
def test_a_member_that_diverges_leaves_the_ensemble_as_it_was(
    estimator_class, method, solver, size, monkeypatch
):
    """The others have done their epochs when it fails, and none of them counts."""
    monkeypatch.setattr(loop, "max_stack_size", lambda *arguments: size)
    data = data_for(estimator_class, N_ROWS)
    settings = {"solver": solver, "warm_start": method == "warm fit"}
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


def test_a_member_that_diverges_under_early_stopping_keeps_its_best_epoch():
    """And says so, while the others go on as if alone."""
    data = class_data(N_ROWS)
    coefs, intercepts = initial(BackpropClassifier, True)
    for weights in coefs:
        weights[1] *= 1e151  # a few epochs from the largest numbers that there are
    settings = {"activation": "identity", "solver": "sgd", "learning_rate_init": 1.0}
    settings |= {"early_stopping": True, "max_iter": 20, "init": (coefs, intercepts)}
    ensemble = ensemble_of(BackpropClassifier, **settings)
    networks = alone(ensemble)
    with pytest.warns(ConvergenceWarning) as caught:
        ensemble.fit(*data)
    diverged = [str(w.message) for w in caught if "no longer finite" in str(w.message)]
    assert len(diverged) == 1
    assert f"The weights of epoch {ensemble.best_iter_[1]}" in diverged[0]
    assert ensemble.n_iter_[1] < min(ensemble.n_iter_[0], ensemble.n_iter_[2])
    for member, network in enumerate(networks):
        network.set_params(init=([c[member] for c in coefs], [b[member] for b in intercepts]))
        assert_member(ensemble, member, network.fit(*data))


@pytest.mark.parametrize("n_estimators", [1, 2, 5])
@BOTH
def test_a_lack_of_convergence_is_mentioned_once(estimator_class, n_estimators):
    with pytest.warns(ConvergenceWarning) as caught:
        ensemble_of(estimator_class, n_estimators).fit(*data_for(estimator_class, N_ROWS))
    assert ["Maximum iterations (6) reached" in str(w.message) for w in caught] == [True]
    assert caught[0].filename == __file__


@BOTH
def test_a_lack_of_convergence_of_lbfgs_is_mentioned_once(estimator_class):
    with pytest.warns(ConvergenceWarning) as caught:
        ensemble_of(estimator_class, solver="lbfgs").fit(*data_for(estimator_class, N_ROWS))
    assert ["lbfgs failed to converge" in str(w.message) for w in caught] == [True]


# ------------------------------------------------------------------------------------- Ctrl-C


def interrupt(monkeypatch, owner, name, n_calls):
    """Let Ctrl-C be pressed after so many calls of a function, while the next one runs.

    Returns what grows with every call.
    """
    method, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        calls.append(1)
        result = method(*arguments, **options)
        if len(calls) == n_calls + 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    return calls


def interrupted(model, *data, monkeypatch, solver, n_steps, method="fit"):
    """Train a model until Ctrl-C is pressed while a step is made; an epoch has three."""
    with monkeypatch.context() as context:
        interrupt(context, OPTIMIZERS[solver], "step", n_steps)
        with pytest.raises(KeyboardInterrupt):
            getattr(model, method)(*data)
    return model


@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("solver", OPTIMIZERS)
@BOTH
def test_an_interrupt_keeps_the_complete_epochs_of_all_members(
    estimator_class, solver, early_stopping, monkeypatch
):
    data = data_for(estimator_class, N_ROWS)
    settings = {"solver": solver, "early_stopping": early_stopping}
    reference = ensemble_of(estimator_class, max_iter=2, **settings).fit(*data)
    ensemble = ensemble_of(estimator_class, **settings)
    interrupted(ensemble, *data, monkeypatch=monkeypatch, solver=solver, n_steps=7)
    assert_goes_on_alike(ensemble, reference, *data)


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_an_interrupt_of_several_stacks_leaves_each_member_with_whole_epochs(
    solver, size, monkeypatch
):
    monkeypatch.setattr(loop, "max_stack_size", lambda *arguments: size)
    data, ensemble = value_data(N_ROWS), ensemble_of(BackpropRegressor, 4, solver=solver)
    interrupted(ensemble, *data, monkeypatch=monkeypatch, solver=solver, n_steps=16)
    assert 1 <= ensemble.n_iter_.min() <= ensemble.n_iter_.max() <= ensemble.n_iter_.min() + 1
    networks = alone(ensemble)
    for member, network in enumerate(networks):
        network.set_params(max_iter=int(ensemble.n_iter_[member]))
        assert_member(ensemble, member, network.fit(*data))


@pytest.mark.parametrize("size, n_steps", [(6, 1), (3, 1), (3, 4), (2, 7), (1, 16)])
@pytest.mark.parametrize("solver", OPTIMIZERS)
@BOTH
def test_an_interrupted_partial_fit_is_no_epoch_of_any_member(
    estimator_class, solver, size, n_steps, monkeypatch
):
    """Also where some of its stacks have had theirs; each makes three steps."""
    monkeypatch.setattr(loop, "max_stack_size", lambda *arguments: size)
    data, classes = data_for(estimator_class, N_ROWS), classes_for(estimator_class)
    ensemble, spared = (
        ensemble_of(estimator_class, 6, solver=solver).partial_fit(*data, **classes)
        for _ in range(2)
    )
    options = {"solver": solver, "n_steps": n_steps, "method": "partial_fit"}
    interrupted(ensemble, *data, monkeypatch=monkeypatch, **options)
    assert_goes_on_alike(ensemble, spared, *data)


@BOTH
def test_an_interrupted_warm_fit_goes_on_to_the_same_bits(estimator_class, monkeypatch):
    data = data_for(estimator_class, N_ROWS)
    ensemble, spared = (
        ensemble_of(estimator_class, warm_start=True, max_iter=3).fit(*data) for _ in range(2)
    )
    interrupted(ensemble, *data, monkeypatch=monkeypatch, solver="adam", n_steps=4)
    np.testing.assert_array_equal(ensemble.n_iter_, [1] * M)
    ensemble.set_params(max_iter=2).fit(*data)
    for array, expected in zip(ensemble.coefs_, spared.fit(*data).coefs_, strict=True):
        assert_same_bits(array, expected)
    assert ensemble.loss_curve_ == spared.loss_curve_


@pytest.mark.parametrize("n_steps", [4, 10])
@BOTH
def test_an_interrupt_is_one_also_where_a_member_has_diverged(
    estimator_class, n_steps, monkeypatch
):
    """An error in its place would let a search go on."""
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, init=with_a_diverging_member(estimator_class))
    with monkeypatch.context() as context:
        steps = interrupt(context, OPTIMIZERS["adam"], "step", n_steps)
        with pytest.raises((KeyboardInterrupt, ValueError)) as end:
            ensemble.fit(*data)
    was_pressed = len(steps) > n_steps
    assert end.type is KeyboardInterrupt if was_pressed else issubclass(end.type, ValueError)
    assert vars(ensemble).keys() == ensemble.get_params().keys()


def test_an_interrupt_of_lbfgs_leaves_each_member_at_an_iteration_of_its_own(monkeypatch):
    """They train one after the other, so the first is done while the second is on its way."""
    data = value_data(N_ROWS)
    ensemble = ensemble_of(BackpropRegressor, 2, solver="lbfgs")
    first, second = (network.fit(*data) for network in alone(ensemble))
    with monkeypatch.context() as context:
        evaluations = interrupt(context, LossAndGradient, "backward_loss", np.inf)
        alone(ensemble)[0].fit(*data)
    with monkeypatch.context() as context:
        interrupt(context, LossAndGradient, "backward_loss", len(evaluations) + 4)
        with pytest.raises(KeyboardInterrupt):
            ensemble.fit(*data)
    assert_member(ensemble, 0, first)
    n_iter = ensemble.n_iter_[1]
    assert 1 <= n_iter < second.n_iter_
    assert ensemble.loss_curve_[1] == second.loss_curve_[:n_iter]


# ------------------------------------------------------------------------------- the parameter


@pytest.mark.parametrize("before, after", [(1, 2), (3, 1), (3, 4)])
@BOTH
def test_the_number_of_members_cannot_change_while_training_goes_on(estimator_class, before, after):
    data = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, before, warm_start=True).fit(*data)
    ensemble.set_params(n_estimators=after)
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=f"n_estimators was {before} .* is {after} now"):
            getattr(ensemble, method)(*data)
    ensemble.set_params(n_estimators=before).fit(*data)
    ensemble.set_params(n_estimators=after, warm_start=False).fit(*data)
    assert len(networks_of(ensemble)) == after


@pytest.mark.parametrize("before, after", [(1, 2), (3, 1), (3, 4), (3, 0)])
@BOTH
def test_the_number_of_members_acts_in_the_next_fit(estimator_class, before, after):
    """Until then predictions are those of the members that were trained."""
    X, y = data_for(estimator_class, N_ROWS)
    ensemble = ensemble_of(estimator_class, before).fit(X, y)
    expected = ensemble.predict(X)
    ensemble.set_params(n_estimators=after)
    np.testing.assert_array_equal(ensemble.predict(X), expected)
    assert len(networks_of(ensemble)) == before


def test_an_ensemble_is_no_worse_than_its_members_on_average():
    """By Jensen's inequality, for a loss that is convex in the prediction."""
    X, y = value_data(2 * N_ROWS)
    ensemble = ensemble_of(BackpropRegressor, 10).fit(X[:N_ROWS], y[:N_ROWS])
    each = [one.score(X[N_ROWS:], y[N_ROWS:]) for one in ensemble.estimators_]
    assert ensemble.score(X[N_ROWS:], y[N_ROWS:]) > np.mean(each)
    spread = ensemble.predict(X[N_ROWS:], return_std=True)[1]
    gain = ensemble.score(X[N_ROWS:], y[N_ROWS:]) - np.mean(each)
    assert gain == pytest.approx((spread**2).mean() / y[N_ROWS:].var(), rel=1e-9)


def test_verbose_prints_a_line_for_each_member_and_epoch(capsys):
    ensemble = ensemble_of(BackpropRegressor, verbose=True).fit(*value_data(N_ROWS))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == M * 6
    for member in range(M):
        for epoch, loss in enumerate(ensemble.loss_curve_[member], start=1):
            assert f"Member {member}: Iteration {epoch}, loss = {loss:.8f}" in lines
