"""A fit that fails changes nothing, and Ctrl-C leaves the last complete epoch.

An estimator keeps what it has learned before, an unfitted one stays unfitted, and training goes on
afterwards. Arrays of the user never change.
"""

import copy

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.losses import LogLoss, SquaredError
from skbackprop.nn.stack import Stack
from skbackprop.nn.train_state import TrainState
from skbackprop.optimizers import Adam
from skbackprop.schedules import ReduceOnPlateau
from support import (
    BOTH,
    NAMES,
    SOLVERS,
    D,
    N,
    answers,
    changed,
    classes_for,
    data_for,
    few_epochs,
    interrupt,
    quick,
    same_bits,
    same_values,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]


def failures(estimator_class):
    """Return what makes a fit fail: changed parameters, X, y and weight, by name.

    X has another number of features and other names, and y other classes, wherever that is not
    the reason itself: what is learned before the fault shows must be undone as well.
    """
    rng = np.random.RandomState(1)
    X = pd.DataFrame(rng.randn(30, 6), columns=list("uvwxyz"))
    y = rng.randint(5, size=30)
    diverging = {"learning_rate_init": 1e200, "activation": "identity", "solver": "sgd"}
    cases = {
        "NaN in y": ({}, X, changed(y, 3, np.nan, dtype=float), None),
        "y too short": ({}, X, y[:-1], None),
        "y of three dimensions": ({}, X, np.zeros((30, 2, 2)), None),
        "no y": ({}, X, None, None),
        "NaN in weight": ({}, X, y, np.full(30, np.nan)),
        "negative weight": ({}, X, y, changed(np.ones(30), 3, -1)),
        "zero weights": ({}, X, y, np.zeros(30)),
        "weight too short": ({}, X, y, np.ones(29)),
        "2-D weight": ({}, X, y, np.ones((30, 2))),
        "wrong widths": ({"hidden_layer_sizes": (3, 0)}, X, y, None),
        "wrong init": ({"init": ([], [])}, X, y, None),
        "too few rows to hold out": ({"early_stopping": True}, X[:2], y[:2], None),
        "divergence": (diverging, X, y, None),
        "X out of range": ({"dtype": "float32"}, 1e39 * X, y, None),
    }
    if estimator_class is BackpropClassifier:
        return cases | {
            "continuous y": ({}, X, rng.randn(30), None),
            "a column of y that is continuous": ({}, X, np.c_[y, rng.randn(30)], None),
        }
    return cases | {
        "words for y": ({}, X, np.full(30, "cat"), None),
        "negative counts": ({"loss": "poisson"}, X, y - 3, None),
    }


@pytest.mark.parametrize(
    "estimator_class, case",
    [
        pytest.param(estimator_class, case, id=f"{estimator_class.__name__}, {case}")
        for estimator_class in (BackpropClassifier, BackpropRegressor)
        for case in failures(estimator_class)
    ],
)
def test_a_failing_fit_changes_nothing(estimator_class, case):
    X, y = data_for(estimator_class)
    frame = pd.DataFrame(X, columns=NAMES)
    parameters, bad_X, bad_y, bad_weight = failures(estimator_class)[case]
    model = quick(estimator_class).set_params(**parameters)
    with pytest.raises((ValueError, TypeError)):
        model.fit(bad_X, bad_y, bad_weight)
    assert vars(model).keys() == model.get_params().keys()
    with pytest.raises(NotFittedError):
        model.predict(np.zeros((1, D)))

    model = quick(estimator_class).fit(frame, y)
    kept, before = dict(vars(model)), copy.deepcopy(model)
    model.set_params(**parameters)
    with pytest.raises((ValueError, TypeError)):
        model.fit(bad_X, bad_y, bad_weight)
    model.set_params(**before.get_params())
    assert vars(model).keys() == kept.keys()
    assert all(vars(model)[name] is kept[name] for name in kept.keys() - model.get_params().keys())
    assert same_bits(model, before)
    assert same_values(answers(model, frame), answers(before, frame))
    model.partial_fit(frame, y)  # training may go on


# --------------------------------------------------------------------------------- Ctrl-C


def scorer(estimator, X, y):
    return estimator.score(X, y)


# Where it is pressed, within an epoch and at its end.
PLACES = {
    "step": (Adam, "step"),
    "loss of classes": (LogLoss, "value"),
    "loss of numbers": (SquaredError, "value"),
    "epoch": (Stack, "train_epoch"),
    "copy before an epoch": (Stack, "save"),
    "schedule": (ReduceOnPlateau, "on_epoch_end"),
    "best epoch": (TrainState, "keep_best"),
    "score of classes": (BackpropClassifier, "score"),
    "score of numbers": (BackpropRegressor, "score"),
}
# Those of the other estimator, and those that need held-out rows.
NOT_REACHED = {BackpropClassifier: "of numbers", BackpropRegressor: "of classes"}
SCORED = {"best epoch", "score of classes", "score of numbers"}
RESULTS = ("validation_scores_", "validation_loss_curve_", "best_iter_", "n_iter_", "t_", "loss_")


def assert_same_results(model, expected):
    assert same_bits(model, expected)
    for name in RESULTS:
        assert same_values(getattr(model, name), getattr(expected, name)), name


def places(without=frozenset()):
    return [
        (estimator_class, place)
        for estimator_class, other in NOT_REACHED.items()
        for place in PLACES
        if place not in without and not place.endswith(other)
    ]


@pytest.mark.parametrize("estimator_class, place", places())
@pytest.mark.parametrize("n_calls", [0, 1, 3, 6])
def test_ctrl_c_keeps_complete_epochs(estimator_class, place, n_calls, monkeypatch):
    X, y = data_for(estimator_class)
    settings = {"batch_size": 20, "max_iter": 8, "dropout": 0.2, "average": "ema"}
    settings["early_stopping"] = EarlyStopping(scorer, n_iter_no_change=np.inf)
    settings["learning_rate"] = ReduceOnPlateau(0.5, patience=0, tol=10)  # falls in each epoch
    model = quick(estimator_class, **settings)
    with monkeypatch.context() as context:
        interrupt(context, *PLACES[place], n_calls)
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, y)
    if model.n_iter_:
        expected = quick(estimator_class, **settings | {"max_iter": model.n_iter_}).fit(X, y)
        assert_same_results(model, expected)
        for each in (model, expected):
            each.set_params(warm_start=True, max_iter=2).fit(X, y)
        assert_same_results(model, expected)
    else:
        assert (model.loss_curve_, model.t_) == ([], 0)
        assert len(model.predict(X)) == len(X)


@pytest.mark.parametrize("estimator_class, place", places(SCORED))
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_partial_fit_changes_nothing(estimator_class, place, error, monkeypatch):
    X, y = data_for(estimator_class)
    settings = {"dropout": 0.2, "average": "ema", "learning_rate": "plateau"}
    model = quick(estimator_class, batch_size=20, **settings)
    for _ in range(2):
        model.partial_fit(X, y, **classes_for(estimator_class))
    before, (owner, name) = copy.deepcopy(model), PLACES[place]
    function = getattr(owner, name)

    def failing(*arguments, **options):
        function(*arguments, **options)
        raise error

    with monkeypatch.context() as context:
        context.setattr(owner, name, failing)
        with pytest.raises(error):
            model.partial_fit(X, y)
    assert_same_results(model, before)
    model.partial_fit(X, y)
    assert len(model.loss_curve_) == 3


# ----------------------------------------------------------------------- arrays of the user


@BOTH
@SOLVERS
@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
def test_arrays_of_the_user_never_change(estimator_class, solver, as_sparse):
    X, y = data_for(estimator_class)
    X = sparse.csr_array(X) if as_sparse else X
    weight = (np.arange(N) % 3).astype(float)
    k = 3 if estimator_class is BackpropClassifier else 1
    rng = np.random.RandomState(0)
    coefs, intercepts = [rng.randn(D, 5), rng.randn(5, k)], [rng.randn(5), rng.randn(k)]
    passed = [X.data, X.indices, X.indptr] if as_sparse else [X]
    passed += [y, weight, *coefs, *intercepts]
    copies = [array.copy() for array in passed]
    for early_stopping in (False, True):
        model = quick(
            estimator_class, solver=solver, init=(coefs, intercepts), early_stopping=early_stopping
        )
        model.fit(X, y, sample_weight=weight)
        model.predict(X)
        model.score(X, y, sample_weight=weight)
        if solver != "lbfgs":
            model.partial_fit(X, y, weight)
        assert same_values(passed, copies)
        for learned in [*model.coefs_, *model.intercepts_]:
            assert not any(np.shares_memory(learned, array) for array in passed)


@BOTH
def test_predictions_are_not_shared_between_calls(estimator_class):
    """Overwriting a result changes neither the model nor the next result."""
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=()).fit(X, y)
    for first, second in zip(answers(model, X), answers(model, X), strict=True):
        expected = second.copy()
        first[...] = 0
        assert np.array_equal(second, expected)
    assert np.array_equal(answers(model, X)[0], answers(model, X.copy())[0])
