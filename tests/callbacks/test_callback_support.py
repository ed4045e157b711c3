"""The callback protocol for versions before scikit-learn 1.9 does what scikit-learn's does.

A process that cannot import `sklearn.callback` is as one with an older version.
"""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from sklearn.base import clone

from skbackprop import BackpropClassifier, TabularClassifier
from skbackprop._callback_support import CallbackSupportMixin
from support import class_data, few_epochs

WITHOUT_CALLBACKS = """
import json, sys
import sklearn.ensemble, sklearn.model_selection, sklearn.pipeline
package = sys.modules["sklearn.callback"]
sys.modules["sklearn.callback"] = None
import skbackprop
sys.modules["sklearn.callback"] = package
import test_callback_support as tests
assert skbackprop.BackpropClassifier.set_callbacks is tests.CallbackSupportMixin.set_callbacks
print(json.dumps([tests.calls_of(*case) for case in tests.CASES]))
"""


class Recorder:
    """Callback that records its calls, and stops at the end of a task."""

    def __init__(self, stop_after):
        self.calls, self.stop_after = [], stop_after

    def record(self, call, context):
        path = []
        while context is not None:
            path.append([context.task_name, context.task_id, context.max_subtasks])
            context = context.parent
        self.calls.append([call, path])
        return path[0][:2] == self.stop_after

    def setup(self, estimator, context):
        self.record("setup", context)

    def teardown(self, estimator, context):
        self.record("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, X, metadata):
        self.record(["begin", X is None, metadata], context)

    def on_fit_task_end(self, estimator, context, *, y, fitted_estimator):
        has_network = fitted_estimator is not None and hasattr(fitted_estimator, "coefs_")
        return self.record(["end", y is None, has_network], context)


class PropagatedRecorder(Recorder):
    max_propagation_depth = None


class ShallowRecorder(Recorder):
    max_propagation_depth = 0


ESTIMATORS = BackpropClassifier, TabularClassifier
RECORDERS = Recorder, PropagatedRecorder, ShallowRecorder
STOPS = ["", 0], ["epoch", 1], ["cycle", 0], ["fit", 0]
CASES = list(product(ESTIMATORS, RECORDERS, STOPS))


def calls_of(kind, recorder, stop_after):
    """Return the calls in a fit of a clone, and in one without callbacks after it."""
    model = kind(n_estimators=2, max_iter=3, random_state=0).set_callbacks(recorder(stop_after))
    model = clone(model).fit(*class_data())
    (callback,) = model._skl_callbacks
    model.set_callbacks().fit(*class_data())
    return callback.calls


@few_epochs
def test_calls_are_those_of_scikit_learn():
    options = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    folders = f"import sys; sys.path[:0] = {sys.path!r}\n"
    command = [sys.executable, "-W", "ignore", "-c", folders + WITHOUT_CALLBACKS]
    result = subprocess.run(command, check=False, **options)
    assert result.returncode == 0, result.stderr
    for case, calls in zip(CASES, json.loads(result.stdout), strict=True):
        assert calls == calls_of(*case), case


@pytest.fixture
def network():
    class EarlierNetwork(CallbackSupportMixin, BackpropClassifier):
        pass

    return EarlierNetwork()


@pytest.mark.parametrize("wrong", [Recorder, object(), "progress"])
def test_raises_on_what_is_no_callback(network, wrong):
    with pytest.raises(TypeError, match="must be instances with the methods setup, teardown"):
        network.set_callbacks(Recorder(STOPS[0]), wrong)


@few_epochs
def test_errors_in_hooks_leave_no_traces(network):
    class Failing(Recorder):
        def on_fit_task_end(self, estimator, context):
            raise RuntimeError("no end")

        def teardown(self, estimator, context):
            raise OSError("no teardown")

    network.set_callbacks(Failing(STOPS[0]))
    with pytest.raises(OSError, match="no teardown") as error:
        network.fit(*class_data())
    assert isinstance(error.value.__context__, RuntimeError)
    assert set(vars(network)) - set(network.get_params()) == {"_skl_callbacks"}
