"""Ctrl-C leaves all of an epoch or nothing, at whichever line of the recording it is pressed.

A trace function presses it at each line in turn, so that every run has the same cases.
"""

import copy
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

import skbackprop
from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators.base import BaseNeuralNetwork
from skbackprop.nn.train_state import TrainState
from skbackprop.training.checkpoint import TrainingCheckpoint
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import classes_for, data_for, few_epochs

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

PACKAGE = Path(skbackprop.__file__).parent
# All that runs between the end of an epoch and the next, or the end of training.
RECORDING = {
    "estimators/base.py": {"_train", "_resume_session", "_get_used_rngs"},
    "estimators/_fitted_attributes.py": {
        *("_set_fitted_attributes", "_make_fitted_attributes", "_array_attributes"),
    },
    "estimators/_history.py": {"make_history_attributes", "_continue_history"},
    "estimators/_fit_context.py": {"attributes"},
    "training/checkpoint.py": {"after", "inference_parameters", "fitted_parameters"},
    "training/training_run.py": {"end", "continue_with", "past"},
    "training/partial_fit_session.py": {"continue_with"},
    "training/diagnostics.py": {"record_outcome"},
    "training/loop.py": {
        *("train", "_train_by_lbfgs", "train_epoch", "_end_epoch", "_record_epoch"),
        "_check_stopping",
        *("finish_all", "finish_members", "_detach_run", "without", "continue_with_new_data"),
        "bind_parameter_views",
    },
    "training/lbfgs_training.py": {"train", "_minimize", "_end_iteration", "_restore"},
    "nn/train_state.py": {"shallow_copy"},
    "nn/stack_trainer.py": {"train_epoch", "save", "drop_members", "set_data"},
    "nn/lbfgs.py": {"minimize", "callback"},
}
WATCHED = {str(PACKAGE / file): names for file, names in RECORDING.items()}

N_ROWS = 16
SETTINGS = {
    "hidden_layer_sizes": (2,),
    "batch_size": 8,
    "max_iter": 2,
    "n_iter_no_change": np.inf,
    "validation_fraction": 0.25,
}
CASES = {
    "adam": {},
    "in order": {"shuffle": False},
    "early stopping": {"early_stopping": True},
    "schedule": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0},
    "average": {"average": ExponentialMovingAverage(0.5), "early_stopping": True},
    "dropout and batch norm": {"dropout": 0.2, "normalization": "batch"},
    "members": {"n_estimators": 2},
    "members that stop": {
        **{"n_estimators": 2, "early_stopping": True, "n_iter_no_change": 1, "max_iter": 4}
    },
}
LBFGS = {
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs, early stopping": {"solver": "lbfgs", "early_stopping": True},
}


def in_turn(cases):
    """Run over cases with a classifier and a regressor in turn."""
    classes = cycle([BackpropClassifier, BackpropRegressor])
    each = list(zip(classes, cases.values(), strict=False))
    return pytest.mark.parametrize("estimator_class, settings", each, ids=cases)


@pytest.fixture(autouse=True)
def _without_traces_of_checks(monkeypatch):
    """Trace no checks of data, where nothing is recorded: a trace doubles the time they take."""

    def untraced(model, *arguments):
        tracing = sys.gettrace()
        sys.settrace(None)
        try:
            return checked(model, *arguments)
        finally:
            sys.settrace(tracing)

    checked = BaseNeuralNetwork._validate_fit
    monkeypatch.setattr(BaseNeuralNetwork, "_validate_fit", untraced)


def press_ctrl_c(place, action):
    """Call `action` with Ctrl-C at one of its places; return whether it has so many."""
    n_left, tracing = place, sys.gettrace()

    def press(frame, event, argument):
        nonlocal n_left
        if event == "line":
            n_left -= 1
            if n_left == -1:
                raise KeyboardInterrupt
        return press

    def trace(frame, event, argument):
        code = frame.f_code
        return press if code.co_name in WATCHED.get(code.co_filename, ()) else None

    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(tracing)
    return n_left < 0


def every_place(action_of):
    """Call an action with Ctrl-C at each of its places, of a new model each time; yield these."""
    place = 0
    while True:
        model, action = action_of()
        if not press_ctrl_c(place, action):
            return
        yield model
        place += 1


def learned(model):
    """Return all that a model has learned and would go on from, as values that compare by ==.

    But for what has ended its training: that was Ctrl-C.
    """
    names = sorted(name for name in vars(model) if name.endswith("_") or name == "_training")
    names.remove("converged_")
    return [(name, plain(getattr(model, name))) for name in names]


def plain(value):
    if isinstance(value, TrainState):
        return plain(value.to_arrays())
    if isinstance(value, TrainingCheckpoint):
        return plain(vars(value))
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, np.random.RandomState):
        return plain(value.get_state(legacy=False))
    if isinstance(value, np.random.Generator):
        return plain(value.bit_generator.state)
    if isinstance(value, np.ndarray):
        # Bytes, not numbers: NaN is not equal to itself.
        return value.dtype.str, value.shape, value.tobytes()
    return repr(value) if isinstance(value, float) else value


def new_model(estimator_class, settings, **changes):
    return estimator_class(random_state=np.random.RandomState(3), **SETTINGS | settings | changes)


@pytest.mark.long
@in_turn(CASES | LBFGS)
def test_interrupted_fit_keeps_complete_epochs(estimator_class, settings):
    data = data_for(estimator_class, N_ROWS)
    after = {}
    for n_iter in range(1, (SETTINGS | settings)["max_iter"] + 1):
        model = new_model(estimator_class, settings, max_iter=n_iter).fit(*data)
        after[n_iter] = learned(model)
    if "n_iter_no_change" in settings:
        assert model.n_iter_.tolist() == [3, 4]
    n_found, n_cases = set(), n_iter + 1

    def action_of():
        model = new_model(estimator_class, settings)
        return model, lambda: model.fit(*data)

    for model in every_place(action_of):
        if hasattr(model, "coefs_"):
            n_iter = np.max(model.n_iter_).item()
            assert learned(model) == after.setdefault(n_iter, learned(model))
            n_found.add(n_iter)
        else:
            assert plain(model.random_state) == plain(np.random.RandomState(3))
    assert n_found == set(range(n_cases))


@pytest.mark.long
@in_turn(CASES)
@pytest.mark.parametrize("is_bound", [False, True], ids=["", "bound"])
def test_interrupted_partial_fit_is_all_or_nothing(estimator_class, settings, is_bound):
    data = data_for(estimator_class, N_ROWS)
    start = new_model(estimator_class, settings)
    if is_bound:
        start.set_params(random_state=3)  # a stream of its own
    start.partial_fit(*data, **classes_for(estimator_class))
    one, two = (copy.deepcopy(start).partial_fit(*data) for _ in range(2))
    states = [learned(each) for each in (start, one, two.partial_fit(*data))][is_bound:]

    def action_of():
        model = copy.deepcopy(start)
        if is_bound:
            model.partial_fit(*data)  # whose run the next call goes on with
        return model, lambda: model.partial_fit(*data)

    found = []
    for model in every_place(action_of):
        found.append(learned(model))
        if found[-1] == states[0]:
            assert learned(model.partial_fit(*data)) == states[1]
    assert all(state in states[:2] for state in found)
    assert states[0] in found
    assert states[1] in found
