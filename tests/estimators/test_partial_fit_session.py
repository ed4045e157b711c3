"""Is a run that stays bound between calls of partial_fit what a new run in each call would be?

A pickle takes nothing along that is bound, so each call of a model that has just been unpickled
begins a run. That is the oracle, to the bit.
"""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from support import BOTH, class_data, classes_for, data_for, few_epochs, quick, same_values

pytestmark = few_epochs

N = 40
SETTINGS = {
    "adam": {},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive"},
    "rmsprop, cosine": {"solver": "rmsprop", "learning_rate": "cosine", "max_iter": 3},
    "batches": {"batch_size": 7},
    "in order": {"shuffle": False},
    "average": {"average": "polyak"},
    "normalization": {"normalization": "batch", "dropout": 0.3},
    "layers": {"normalization": "layer", "average": "ema", "clip_norm": 0.1},
    "float32": {"dtype": "float32", "l1_ratio": 0.5},
    "early stopping": {"early_stopping": EarlyStopping("loss")},
    "best of averages": {"early_stopping": True, "average": "ema"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "global stream": {"random_state": None},
    "user's stream": {"random_state": np.random.RandomState(0)},
}
LEFT = ("coefs_", "intercepts_", "gains_", "running_means_", "running_variances_")
LEFT += ("loss_curve_", "validation_loss_curve_", "validation_scores_", "best_loss_", "t_")
LEFT += ("best_validation_score_", "best_iter_", "converged_", "n_iter_", "loss_", "_training")


def assert_same(model, expected):
    for name in LEFT:
        assert same_values(getattr(model, name), getattr(expected, name)), name


def unpickled(model):
    return pickle.loads(pickle.dumps(model))


def first_call(estimator_class, **settings):
    np.random.seed(0)
    data = data_for(estimator_class, N)
    model = quick(estimator_class, **settings)
    return model.partial_fit(*data, **classes_for(estimator_class)), data


@BOTH
@pytest.mark.parametrize("case", SETTINGS)
def test_calls_equal_those_of_new_runs(estimator_class, case):
    model, (X, y) = first_call(estimator_class, **SETTINGS[case])
    twin = unpickled(model)
    rng = np.random.RandomState(0)
    for i in range(8):
        rows = rng.permutation(N)[: 30 if i < 6 else 20]
        weight = rng.uniform(0.5, 2, len(rows)) if i in (2, 3) else None
        own = {"X_val": X, "y_val": y} if i % 2 else {}
        model.partial_fit(X[rows], y[rows], weight, **own)
        twin = unpickled(twin).partial_fit(X[rows], y[rows], weight, **own)
        assert_same(model, twin)
    assert model._partial_fit_session is not None


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_calls_of_autoencoders_and_many_classes_equal_new_runs(n_outputs):
    X, y = class_data(N)
    for model, arguments in [
        (quick(BackpropAutoencoder), (X,)),
        (quick(BackpropClassifier), (X, y % n_outputs)),
    ]:
        classes = {"classes": np.arange(n_outputs)} if len(arguments) == 2 else {}
        twin = unpickled(model)
        for _ in range(4):
            model.partial_fit(*arguments, **classes)
            twin = unpickled(twin).partial_fit(*arguments, **classes)
        for name in ("coefs_", "intercepts_", "loss_curve_", "t_"):
            assert same_values(getattr(model, name), getattr(twin, name))


def assigned(name, change):
    """Return an event that assigns an attribute, given its value before."""
    return lambda model, X, y: setattr(model, name, change(getattr(model, name)))


def changed_in_place(model, X, y):
    model.coefs_[-1][0] += 1


def changed_item(model, X, y):
    model.intercepts_[0] = model.intercepts_[0] + 1


def forgotten(model, X, y):
    del model._training


def diverged(model, X, y):
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(np.full_like(X, 1e300), y)


def refused(model, X, y):
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(X * np.nan, y)


EVENTS = {
    "changed weights": assigned("coefs_", lambda arrays: [2 * array for array in arrays]),
    "changed item": changed_item,
    "changed in place": changed_in_place,
    "other kinds of arrays": assigned("coefs_", lambda arrays: [a.tolist() for a in arrays]),
    "warm fit": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "another rate": assigned("learning_rate_init", lambda rate: 0.1),
    "another count": assigned("t_", lambda count: 7),
    "forgotten state": forgotten,
    "diverged call": diverged,
    "refused call": refused,
    "sparse rows": lambda model, X, y: model.partial_fit(sparse.csr_array(X), y),
    "trained copy": lambda model, X, y: copy.copy(model).partial_fit(X, y).partial_fit(X, y),
}


@BOTH
@pytest.mark.parametrize(
    "case", ["adam", "average", "early stopping", "normalization", "user's stream"]
)
@pytest.mark.parametrize("event", EVENTS)
def test_changes_between_two_calls_take_effect(estimator_class, case, event):
    model, (X, y) = first_call(estimator_class, **SETTINGS[case])
    own = {"X_val": X, "y_val": y}
    model.partial_fit(X, y, **own).partial_fit(X, y, **own)
    twin = unpickled(model)
    for each in (model, twin):
        EVENTS[event](each, X, y)
    for _ in range(3):
        model.partial_fit(X, y, **own)
        twin = unpickled(twin).partial_fit(X, y, **own)
        assert_same(model, twin)


@BOTH
@pytest.mark.parametrize("case", ["adam", "average", "early stopping", "normalization"])
def test_results_of_a_call_are_not_shared_with_later_calls(estimator_class, case):
    model, data = first_call(estimator_class, **SETTINGS[case])
    for _ in range(3):
        left = {name: getattr(model, name) for name in LEFT[:5]}
        before, shallow = copy.deepcopy(left), copy.copy(model)
        model.partial_fit(*data)
        assert same_values(left, before)
        assert_same(shallow.partial_fit(*data), model)


def test_two_models_trained_in_turn_do_not_interfere():
    models, alone = [], []
    for seed in (0, 1):
        models.append(first_call(BackpropRegressor, random_state=seed)[0])
        alone.append(unpickled(models[-1]))
    X, y = data_for(BackpropRegressor, N)
    for _ in range(3):
        for model in models:
            model.partial_fit(X, y)
    for model, expected in zip(models, alone, strict=True):
        for _ in range(3):
            expected.partial_fit(X, y)
        assert_same(model, expected)


def test_no_buffers_are_kept_where_they_gain_nothing():
    X, y = data_for(BackpropRegressor, N)
    large = quick(BackpropRegressor, hidden_layer_sizes=(1000, 300))
    assert large.partial_fit(X, y)._partial_fit_session is None
    assert quick(BackpropRegressor, n_estimators=2).partial_fit(X, y)._partial_fit_session is None
    assert quick(BackpropRegressor).partial_fit(sparse.csr_array(X), y)._partial_fit_session is None
    model = quick(BackpropRegressor).partial_fit(X, y)
    assert "_partial_fit_session" in vars(model)
    for other in (unpickled(model), copy.copy(model), copy.deepcopy(model), model.fit(X, y)):
        assert vars(other).get("_partial_fit_session") is None
