"""Each of several estimators fitted together ends as its own fit would leave it.

All that a fit leaves behind is compared, to the bit: the attributes, the training state that
`partial_fit` continues from, and the error where it fails.
"""

import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators._fit_many import FitJob, fit_many
from skbackprop.nn.stack_trainer import StackTrainer
from skbackprop.optimizers import SGD, AdamW
from skbackprop.training import loop
from skbackprop.training import parallelism as sizes_module
from support import (
    BOTH,
    class_data,
    data_for,
    few_epochs,
    label_data,
    quick,
    same_values,
    some_parameters,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N = 41
WEIGHT = np.random.RandomState(0).uniform(0.1, 3, N) * (np.arange(N) % 5 > 0)
STOPPING = {"early_stopping": True, "validation_fraction": 0.3}
STOPPING |= {"n_iter_no_change": 1, "max_iter": 9}

# Members of one stack, of several, of none, and some that fail: in a check, and while they train.
MIXTURE = [
    {},
    {"alpha": 1.0},
    {"random_state": 1},
    {"random_state": np.random.RandomState(2)},
    {"learning_rate_init": 0.1, "beta_1": 0.5, "epsilon": 0.1},
    {"tol": 10.0, "n_iter_no_change": 1},
    {"shuffle": False},
    {"learning_rate_init": 1e300},
    {"alpha": -1},
    {"dtype": "float32"},
    {"dtype": "float32", "learning_rate_init": 0.1},
    {"n_estimators": 3},
    {"n_estimators": 2, "alpha": 0.3, "warm_start": True},
    {"n_estimators": 2, "learning_rate_init": 1e300},
    {"batch_size": 7},
    {"hidden_layer_sizes": (4, 3), "activation": "tanh"},
    STOPPING,
    STOPPING | {"random_state": 1},
    STOPPING | {"tol": 10.0, "n_iter_no_change": 3},
    {"solver": "lbfgs"},
    {"solver": "lbfgs", "early_stopping": True},
    *({"solver": "sgd", "learning_rate": "adaptive", "tol": tol} for tol in (0.01, 10.0)),
    {"solver": SGD(momentum=0.5)},
    *({"solver": AdamW(weight_decay=decay)} for decay in (0.1, 1.0)),
    *({"l1_ratio": share, "alpha": 0.1} for share in (0.3, 0.7)),
    *({"clip_norm": bound} for bound in (0.01, 0.1)),
]


def fits_of(estimators, X, y, fit_params):
    return [FitJob(clone(estimator), X, y, fit_params) for estimator in estimators]


def mixture(estimator_class):
    return [quick(estimator_class, **changes) for changes in MIXTURE]


def assert_as_if_alone(fits, max_bytes=2**28):
    """Fit together, and compare each fit with that of its estimator alone."""
    models = [clone(fit.estimator) for fit in fits]
    fit_many(fits, max_bytes)
    for fit, model in zip(fits, models, strict=True):
        if fit.error is None:
            model.fit(fit.X, fit.y, **fit.fit_params)
            assert same_values(vars(fit.estimator), vars(model)), model
        else:
            # Of an argument that it does not know, each function says its own name.
            says = None if isinstance(fit.error, TypeError) else re.escape(str(fit.error))
            with pytest.raises(type(fit.error), match=says):
                model.fit(fit.X, fit.y, **fit.fit_params)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("max_bytes", [1, 50_000, 2**28])
@BOTH
def test_fitted_together_equals_alone(estimator_class, max_bytes, n_threads, monkeypatch):
    monkeypatch.setattr(loop, "threads_for_stacks", lambda: n_threads)
    monkeypatch.setattr(sizes_module, "_WORTH_A_THREAD", 1)
    fits = fits_of(mixture(estimator_class), *data_for(estimator_class, N), {})
    assert_as_if_alone(fits, max_bytes)
    assert {fit.error is None for fit in fits} == {True, False}


@pytest.mark.parametrize(
    "estimator_class, data",
    [
        (BackpropClassifier, class_data(N, n_classes=2)),
        (BackpropClassifier, label_data(N)),
        (BackpropRegressor, value_data(N, n_outputs=3)),
    ],
    ids=["binary", "multilabel", "several values"],
)
def test_fitted_together_equals_alone_for_any_data(estimator_class, data):
    assert_as_if_alone(fits_of(mixture(estimator_class), *data, {"sample_weight": WEIGHT}))


def test_fitted_together_on_different_data_equals_alone():
    """Some of it equal, some the same object, of several lengths, of other labels, or wrong."""
    X, y = class_data(N)
    few = {"sample_weight": WEIGHT[:30]}
    of_each = [
        *((X, y, {}), (X, y, {}), (X.copy(), y.copy(), {})),
        *((X, y, {"sample_weight": weight}) for weight in (WEIGHT, WEIGHT[::-1])),
        *((X[:30], y[:30], few), (X[:30], y[:30], few)),
        *((X[:35], y[:35] % 2, {}), (X[:, :2], y, {}), (X, y[::-1], {})),
        *((X, y[:30], {}), (X, y, {"sample_weight": -WEIGHT}), (X, y, {"color": "red"})),
    ]
    for estimator in (quick(BackpropClassifier), quick(BackpropClassifier, **STOPPING)):
        fits = [FitJob(clone(estimator), *data) for data in of_each]
        assert_as_if_alone(fits)
        assert [fit.error is None for fit in fits] == 10 * [True] + 3 * [False]


@BOTH
def test_fit_in_two_parts_equals_one_fit(estimator_class):
    """The states after the first part are pickled, as by a search in several processes."""
    data = (*data_for(estimator_class, N), {})
    firsts, seconds, wholes = (fits_of(mixture(estimator_class), *data) for _ in range(3))
    fit_many(firsts, pause_epoch=2)
    for first, second in zip(firsts, seconds, strict=True):
        assert (first.checkpoints is None) == (first.error is not None)
        second.start = pickle.loads(pickle.dumps(first.checkpoints))
    fit_many(seconds)
    fit_many(wholes)
    for second, whole in zip(seconds, wholes, strict=True):
        assert str(second.error) == str(whole.error)
        if whole.error is None:
            assert same_values(vars(second.estimator), vars(whole.estimator)), whole.estimator


def test_second_part_on_other_data_starts_again():
    X, y = data_for(BackpropRegressor, N)
    first, second, whole = (
        fits_of([quick(BackpropRegressor)], data, y, {})[0] for data in (X + 1, X, X)
    )
    fit_many([first], pause_epoch=2)
    second.start = first.checkpoints
    fit_many([second])
    fit_many([whole])
    assert same_values(vars(second.estimator), vars(whole.estimator))


@pytest.mark.parametrize(
    "changes, is_shared",
    [
        ([{"alpha": alpha} for alpha in range(5)], True),
        ([{"random_state": seed} for seed in range(5)], False),
        ([{"early_stopping": True, "alpha": alpha} for alpha in range(5)], True),
    ],
    ids=["one seed", "many seeds", "one split"],
)
def test_rows_are_gathered_once_for_all_that_visit_the_same(changes, is_shared, monkeypatch):
    run_epoch, found = StackTrainer.run_epoch, []

    def record_and_run(stack, rate):
        found.append(stack.batches.is_shared)
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", record_and_run)
    fit_many(fits_of([quick(BackpropClassifier, **own) for own in changes], *class_data(N), {}))
    assert set(found) == {is_shared}


def test_without_a_seed_each_has_a_stream_of_its_own():
    """They start from the same weights, so all that differs is the order of their rows."""
    start, data = some_parameters(4, 5, 1), value_data(N)
    settings = {"random_state": None, "batch_size": 10, "init": start}
    fits = [FitJob(quick(BackpropRegressor, **settings), *data, {}) for _ in range(6)]
    fit_many(fits)
    assert len({fit.estimator.loss_ for fit in fits}) == 6


def test_interrupt_is_raised(monkeypatch):
    def interrupt(stack, rate):
        raise KeyboardInterrupt

    monkeypatch.setattr(StackTrainer, "run_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_many(fits_of([quick(BackpropClassifier)], *class_data(N), {}))
