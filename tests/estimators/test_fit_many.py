"""Does each of several estimators fitted at once end as its own fit would leave it?

All that a fit leaves behind is compared, to the bit: the attributes, the training state that
`partial_fit` goes on from, and the error where it fails.
"""

import _thread
import itertools
import pickle
import signal
import threading
import time
import warnings

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators._fit_many import FitJob, fit_many
from skbackprop.nn.stack_trainer import StackTrainer
from skbackprop.optimizers import OPTIMIZERS, SGD, AdamW
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

pytestmark = few_epochs

N = 41
WEIGHT = np.random.RandomState(0).uniform(0.1, 3, N) * (np.arange(N) % 5 > 0)
STOPPING = {"early_stopping": True, "validation_fraction": 0.3}
STOPPING |= {"n_iter_no_change": 1, "max_iter": 9}

# Members of one stack, of several, of none, and some that fail: in a check, and while they train.
MIXTURE = [
    {},
    {"alpha": 1.0},
    {"alpha": 0.0},
    {"alpha": 0.0, "learning_rate_init": 1e300},
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
    {"batch_size": 1000},
    {"hidden_layer_sizes": (0,)},
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (4, 3), "activation": "tanh"},
    {"max_iter": 2},
    {"init": "he_normal"},
    STOPPING,
    STOPPING | {"random_state": 1},
    STOPPING | {"tol": 10.0, "n_iter_no_change": 3},
    STOPPING | {"learning_rate_init": 1e300},
    {"early_stopping": True, "validation_fraction": 0.99},
    {"solver": "lbfgs"},
    {"solver": "lbfgs", "early_stopping": True},
    {"solver": "lbfgs", "alpha": -1},
    *(
        {"solver": "sgd", "learning_rate": name, "tol": tol, "n_iter_no_change": 1, "max_iter": 8}
        for name in ("constant", "adaptive", "invscaling")
        for tol in (0.01, 10.0)
    ),
    {"solver": "sgd", "momentum": 0.1},
    {"solver": "sgd", "alpha": 0.0},
    {"solver": "sgd", "alpha": 0.0, "learning_rate_init": 0.01, "max_iter": 8},
    {"solver": "sgd", "nesterovs_momentum": False},
    {"solver": SGD(momentum=0.5)},
    {"solver": SGD()},
    *({"solver": name} for name in OPTIMIZERS),
    *({"solver": AdamW(weight_decay=decay)} for decay in (0.1, 1.0)),
    *({"l1_ratio": share, "alpha": 0.1} for share in (0.3, 0.7, 0)),
    *({"clip_norm": bound} for bound in (0.01, 0.1, 1e300)),
    {"verbose": "much"},
]
every_size = pytest.mark.parametrize("max_bytes", [1, 50_000, 2**28])


def fits_of(estimators, X, y, fit_params):
    return [FitJob(clone(estimator), X, y, fit_params) for estimator in estimators]


def error_of(model, fit):
    """Do a fit alone; return its error, if it failed."""
    try:
        model.fit(fit.X, fit.y, **fit.fit_params)
    except Exception as error:
        return error
    return None


def assert_as_if_alone(fits, max_bytes=2**28, report=None):
    """Fit together, and hold each fit to what its estimator's own does; return those estimators."""
    models = [clone(fit.estimator) for fit in fits]
    fit_many(fits, max_bytes, report)
    for fit, model in zip(fits, models, strict=True):
        error = error_of(model, fit)
        assert type(fit.error) is type(error), model
        if error is not None:
            # Of an argument that it does not know, each function says its own name.
            assert isinstance(error, TypeError) or str(fit.error) == str(error), model
            assert type(error).__name__ in fit.traceback, model
        assert same_values(vars(fit.estimator), vars(model)), model
    return models


def mixture(estimator_class):
    return [quick(estimator_class, **changes) for changes in MIXTURE]


@pytest.mark.long
@pytest.mark.parametrize("max_bytes", [1, 2**28])
@BOTH
@pytest.mark.usefixtures("one_blas_thread")
def test_fit_in_two_parts_equals_one_fit(estimator_class, max_bytes):
    """What the first has reached comes from another process, say: it is pickled in between."""
    data = (*data_for(estimator_class, N), {})
    firsts, seconds, wholes = (fits_of(mixture(estimator_class), *data) for _ in range(3))
    fit_many(firsts, max_bytes, pause_epoch=2)
    for first, second in zip(firsts, seconds, strict=True):
        assert (first.checkpoints is None) == (first.error is not None)
        second.start = pickle.loads(pickle.dumps(first.checkpoints))
    fit_many(seconds, max_bytes)
    fit_many(wholes, max_bytes)
    for second, whole in zip(seconds, wholes, strict=True):
        assert str(second.error) == str(whole.error)
        assert same_values(vars(second.estimator), vars(whole.estimator)), whole.estimator


@BOTH
def test_second_part_on_other_data_starts_again(estimator_class):
    X, y = data_for(estimator_class, N)
    first, second, whole = (
        fits_of([quick(estimator_class)], data, y, {})[0] for data in (X + 1, X, X)
    )
    fit_many([first], 2**28, pause_epoch=2)
    second.start = first.checkpoints
    fit_many([second], 2**28)
    fit_many([whole], 2**28)
    assert same_values(vars(second.estimator), vars(whole.estimator))


@pytest.fixture
def n_threads(request, monkeypatch):
    """Train stacks in so many threads, and cut them small enough that all have to do."""
    monkeypatch.setattr(loop, "threads_for_stacks", lambda: request.param)
    if request.param > 1:
        monkeypatch.setattr(sizes_module, "_WORTH_A_THREAD", 1)
    return request.param


several_threads = pytest.mark.parametrize("n_threads", [1, 3], indirect=True)


@pytest.fixture(autouse=True)
def _quiet_about_batches():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "batch_size=1000 is larger")
        yield


@pytest.mark.long
@every_size
@several_threads
@BOTH
def test_estimators_fitted_together_equal_those_fitted_alone(estimator_class, n_threads, max_bytes):
    fits = fits_of(mixture(estimator_class), *data_for(estimator_class, N), {})
    assert_as_if_alone(fits, max_bytes)
    assert {fit.error is None for fit in fits} == {True, False}


@pytest.mark.long
@pytest.mark.parametrize(
    "estimator_class, data",
    [
        (BackpropClassifier, class_data(N, n_classes=2)),
        (BackpropClassifier, label_data(N)),
        (BackpropRegressor, value_data(N, n_outputs=3)),
        (BackpropRegressor, (value_data(N)[0].astype(np.float32), value_data(N)[1])),
        (BackpropClassifier, (sparse.csr_array(np.maximum(class_data(N)[0], 0)), class_data(N)[1])),
    ],
    ids=["binary", "multilabel", "several values", "float32", "sparse"],
)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_fitted_together_equals_alone_for_any_data(estimator_class, data, weight):
    fit_params = {} if weight is None else {"sample_weight": weight}
    assert_as_if_alone(fits_of(mixture(estimator_class), *data, fit_params))


@pytest.mark.long
def test_fitted_together_on_different_data_equals_alone():
    """Some of it equal, some the same object, of several lengths, of other labels, or wrong."""
    X, y = class_data(N)
    few = {"sample_weight": WEIGHT[:30]}
    of_each = [
        *((X, y, {}), (X, y, {}), (X.copy(), y.copy(), {})),
        *((X, y, {"sample_weight": weight}) for weight in (WEIGHT, WEIGHT[::-1])),
        *((X[:30], y[:30], {}), (X[:30], y[:30], few), (X[:30], y[:30], few)),
        *((X[:35], y[:35] % 2, {}), (X[:, :2], y, {}), (X, y[::-1], {})),
    ]
    wrong = [{"sample_weight": -WEIGHT}, {"color": "red"}, {"classes": [0, 1, 2]}]
    of_each += [(X, y[:30], {}), *((X, y, own) for own in [*wrong, {"incremental": True}])]
    for estimator in (quick(BackpropClassifier), quick(BackpropClassifier, **STOPPING)):
        fits = [FitJob(clone(estimator), *data) for data in of_each]
        assert_as_if_alone(fits)
        assert [fit.error is None for fit in fits] == 11 * [True] + 5 * [False]


def test_classifiers_and_regressors_share_data():
    X, y = class_data(N)
    estimators = [
        quick(BackpropRegressor),
        quick(BackpropClassifier),
        quick(BackpropRegressor, loss="poisson"),
        quick(BackpropClassifier, loss="brier"),
        quick(BackpropRegressor, loss="poisson", alpha=1),
    ]
    assert_as_if_alone(fits_of(estimators, X, y, {}))


def test_streams_are_no_longer_shared_when_training_is_over():
    X, y = class_data(N)
    fits = fits_of([quick(BackpropClassifier, alpha=alpha) for alpha in range(5)], X, y, {})
    models = assert_as_if_alone(fits)
    for fit, model in zip(fits, models, strict=True):
        for estimator in (fit.estimator, model):
            estimator.partial_fit(X, y)
            del estimator._partial_fit_session  # memory alone
        assert same_values(vars(fit.estimator), vars(model))
        assert not any(
            np.shares_memory(fit.estimator.coefs_[0], other.estimator.coefs_[0])
            for other in fits
            if other is not fit
        )


@pytest.mark.parametrize(
    "changes, is_shared",
    [
        ([{"alpha": alpha} for alpha in range(5)], True),
        ([{"random_state": seed} for seed in range(5)], False),
        ([{"shuffle": False, "random_state": seed} for seed in range(5)], True),
        ([{"early_stopping": True, "alpha": alpha} for alpha in range(5)], True),
    ],
    ids=["one seed", "many seeds", "in order", "one split"],
)
def test_rows_are_gathered_once_for_all_that_visit_the_same(changes, is_shared, monkeypatch):
    stacks = []

    class Noting(loop.StochasticTraining):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            stacks.append(self.stack)

    monkeypatch.setattr(loop, "StochasticTraining", Noting)
    fits = fits_of([quick(BackpropClassifier, **own) for own in changes], *class_data(N), {})
    assert_as_if_alone(fits)
    stack = stacks[0]  # the others are of the fits alone
    assert stack.batches.is_shared == is_shared


def test_report_tells_the_epochs_and_the_members_left():
    changes = [{}, {}, {"tol": 10.0, "n_iter_no_change": 1}, {"learning_rate_init": 1e300}]
    estimators = [quick(BackpropClassifier, batch_size=10, **own) for own in changes]
    fits, told = fits_of(estimators, *class_data(N), {}), []
    assert_as_if_alone(fits, report=lambda *numbers: told.append(numbers))
    # The last is gone before an epoch is over, and the third after three.
    assert told == [(0, 3, 4), (1, 3, 4), (2, 3, 4), (3, 2, 4), (4, 2, 4), (5, 0, 4)]


@pytest.mark.long
def test_seconds_are_parts_of_the_whole():
    fits = fits_of(mixture(BackpropClassifier), *class_data(N), {})
    start = time.perf_counter()
    fit_many(fits, 2**28)
    whole = time.perf_counter() - start
    assert all(fit.seconds > 0 for fit in fits)
    assert sum(fit.seconds for fit in fits) <= whole


def raise_interrupt():
    raise KeyboardInterrupt


@pytest.fixture
def ctrl_c():
    """Let an interrupt raise, which it does not in what a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("interrupt", [raise_interrupt, _thread.interrupt_main])
@pytest.mark.parametrize("number", [1, 20])
@several_threads
def test_interrupt_of_fit_many_is_raised(number, interrupt, n_threads, monkeypatch):
    """It is raised where it comes, or comes to the main thread, as from the keyboard."""
    run_epoch, epochs = StackTrainer.run_epoch, itertools.count(1)

    def interrupted(stack, rate):
        if next(epochs) == number:
            interrupt()
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", interrupted)
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fit_many(fits_of(mixture(BackpropClassifier), *class_data(N), {}), 2**28)
    # An interrupt in the very call that starts a thread leaves it to end its epoch by itself.
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_without_a_seed_each_has_a_stream_of_its_own():
    """They start from the same weights, so all that differs is the order of their rows."""
    start, data = some_parameters(4, 5, 1), value_data(N)
    settings = {"random_state": None, "batch_size": 10, "init": start}
    fits = [FitJob(quick(BackpropRegressor, **settings), *data, {}) for _ in range(6)]
    fit_many(fits, 2**28)
    assert len({fit.estimator.loss_ for fit in fits}) == 6
    before = np.random.get_state(legacy=False)
    for fit in fits:
        fit.estimator.partial_fit(*data)
    np.testing.assert_equal(np.random.get_state(legacy=False), before)


def test_fit_many_of_nothing():
    fit_many([], 2**28)
