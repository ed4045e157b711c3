"""Random sequences of calls: whatever comes, an estimator stays what it says it is.

The model is simple. An estimator that is fitted stays fitted, and predicts the same until the next
call that trains. A call that fails changes nothing. Copies answer as the original does, and go
their own ways. Attributes agree with each other.
"""

import copy
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.callbacks import Checkpoint
from skbackprop.early_stopping import EarlyStopping
from support import answers, data_for, same_values

N_ROWS, N_EPOCHS = 24, 3
ESTIMATORS = [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]

# What `set_params` is given in between, in any order: what a warm start takes, and what it refuses.
CHANGES = {
    "solver": ["adam", "sgd", "lbfgs"],
    "learning_rate_init": [0.01, 0.1],
    "hidden_layer_sizes": [(3,), (4, 3), (4, 3, 4)],
    "batch_size": ["auto", 5],
    "early_stopping": [False, True, EarlyStopping("loss", validation_fraction=0.3)],
    "warm_start": [False, True],
    "shuffle": [True, False],
    "average": [None, "ema"],
    "dropout": [0.0, 0.3],
    "random_state": [0, 1],
    "time_limit": [None, 60.0],
    "alpha": [0.0, 0.1, -1.0],  # the last is an error
    "max_iter": [N_EPOCHS, 1],
}


class Interfering:
    """A callback that stops, fails or is interrupted at an epoch; or only looks."""

    def __init__(self, action, epoch):
        self.action, self.epoch = action, epoch

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        if context.task_name == "fit" or context.task_id != self.epoch:
            return None
        if self.action == "look":
            assert all(np.isfinite(a).all() for a in answers(fitted_estimator, X))
        if self.action == "fail":
            raise ZeroDivisionError
        if self.action == "interrupt":
            raise KeyboardInterrupt
        return self.action == "stop"


class Calls(RuleBasedStateMachine):
    """Calls an estimator's methods in any order."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "network.npz"

    def teardown(self):
        self.folder.cleanup()

    @initialize(
        kind=st.sampled_from(ESTIMATORS), n_estimators=st.integers(1, 2), seed=st.integers(0, 9)
    )
    def begin(self, kind, n_estimators, seed):
        members = {} if kind is BackpropAutoencoder else {"n_estimators": n_estimators}
        self.model = kind((3,), max_iter=N_EPOCHS, random_state=seed, **members)
        self.X, self.y = data_for(kind, N_ROWS)
        self.known = None  # what a fitted model answers

    # ------------------------------------------------------------------- calls that train

    def train(self, action, *expected):
        """Train, and take note of the answers; an error that is expected leaves all as it was."""
        before, state = self.known, self.state()
        try:
            action()
        except expected as error:
            if not isinstance(error, KeyboardInterrupt):
                assert same_values(self.state(), state)
                assert self.is_fitted == (before is not None)
                return
        if self.is_fitted:
            self.known = answers(self.model, self.X)

    def state(self):
        """Return what a failed call has to leave as it is."""
        names = [name for name in vars(self.model) if name.endswith("_")]
        return copy.deepcopy({name: getattr(self.model, name) for name in sorted(names)})

    @property
    def is_fitted(self):
        return hasattr(self.model, "coefs_")

    @rule(weighted=st.booleans(), watched=st.booleans())
    def fit(self, weighted, watched):
        weight = np.arange(N_ROWS) + 1.0 if weighted else None
        own = {"X_val": self.X[:7], "y_val": self.y[:7]} if watched else {}
        self.train(lambda: self.model.fit(self.X, self.y, weight, **own), ValueError)

    @rule(first=st.integers(0, N_ROWS - 6), size=st.integers(1, 6), watched=st.booleans())
    def partial_fit(self, first, size, watched):
        rows = slice(first, first + size)
        more = {"X_val": self.X[:7], "y_val": self.y[:7]} if watched else {}
        if isinstance(self.model, BackpropClassifier):
            more["classes"] = [0, 1, 2]
        self.train(
            lambda: self.model.partial_fit(self.X[rows], self.y[rows], **more),
            ValueError,
            AttributeError,  # by L-BFGS there is none
        )

    @rule(
        action=st.sampled_from(["look", "stop", "fail", "interrupt"]),
        epoch=st.integers(0, N_EPOCHS - 1),
        checkpointed=st.booleans(),
    )
    def fit_with_callbacks(self, action, epoch, checkpointed):
        callbacks = [Interfering(action, epoch)]
        if checkpointed and not (self.model.solver == "lbfgs" and self.n_estimators > 1):
            callbacks.insert(0, Checkpoint(self.path))
        self.model.set_callbacks(*callbacks)
        self.train(
            lambda: self.model.fit(self.X, self.y), ValueError, ZeroDivisionError, KeyboardInterrupt
        )
        self.model.set_callbacks()

    @precondition(lambda self: self.path.exists())
    @rule()
    def resume(self):
        """A checkpoint of other parameters is refused; from one of the same, training goes on."""
        self.train(lambda: self.model.fit(self.X, self.y, resume_from=self.path), ValueError)

    @rule(fault=st.sampled_from(["nan", "rows", "columns", "empty"]))
    def train_on_what_is_wrong(self, fault):
        X, y = self.X.copy(), self.y
        if fault == "nan":
            X[3, 1] = np.nan
        if fault == "columns":
            X = X[:, :0]
        if fault in ("rows", "empty"):
            X, y = X[: 5 * (fault == "rows")], y[:6]
        weight = np.ones(N_ROWS) if fault == "rows" else None
        self.train(lambda: self.model.fit(X, y, weight), ValueError)
        with pytest.raises(ValueError):  # noqa: PT011 - of either training
            self.model.fit(X, y, weight)

    # ------------------------------------------------------------ calls that do not train

    @rule(name=st.sampled_from(sorted(CHANGES)), data=st.data())
    def set_params(self, name, data):
        if name == "hidden_layer_sizes" and isinstance(self.model, BackpropAutoencoder):
            return
        self.model.set_params(**{name: data.draw(st.sampled_from(CHANGES[name]))})

    @rule()
    def pickle(self):
        self.model = pickle.loads(pickle.dumps(self.model))

    @rule()
    def deep_copy(self):
        self.model = copy.deepcopy(self.model)

    @rule()
    def copy_trains_for_itself(self):
        state = self.state()
        with suppress(ValueError):  # a parameter is not valid, or can't change
            copy.copy(self.model).fit(self.X, self.y)
        assert same_values(self.state(), state)

    @rule()
    def clone_is_not_fitted(self):
        assert not hasattr(clone(self.model), "coefs_")

    @precondition(lambda self: self.known is not None)
    @rule()
    def predict_on_other_columns(self):
        with pytest.raises(ValueError, match="features"):
            answers(self.model, self.X[:, :2])

    # -------------------------------------------------------------------- what must hold

    @property
    def n_estimators(self):
        return getattr(self.model, "n_estimators", 1)

    @invariant()
    def answers_are_those_of_the_last_training(self):
        assert self.is_fitted == (self.known is not None)
        if self.known is None:
            with pytest.raises(NotFittedError):
                answers(self.model, self.X)
            return
        assert same_values(answers(self.model, self.X), self.known)

    @invariant()
    def attributes_agree(self):
        model = self.model
        if self.known is None:
            return
        widths = [array.shape[-2] for array in model.coefs_] + [model.coefs_[-1].shape[-1]]
        assert widths[0] == model.n_features_in_ == self.X.shape[1]
        assert widths[-1] == model.n_outputs_
        assert len(widths) == model.n_layers_
        for weights, biases, fan_out in zip(
            model.coefs_, model.intercepts_, widths[1:], strict=True
        ):
            assert weights.shape[:-2] == biases.shape[:-1] in ((), (self.n_estimators,))
            assert biases.shape[-1] == fan_out
            assert weights.dtype == biases.dtype == np.float64
            assert np.isfinite(weights).all() and np.isfinite(biases).all()
        losses = model.loss_curve_ if self.n_estimators > 1 else [model.loss_curve_]
        n_iters = np.atleast_1d(model.n_iter_)
        assert all(len(own) >= n for own, n in zip(losses, n_iters, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_any_sequence_of_calls_keeps_the_invariants():
    settings = hypothesis.settings(
        max_examples=50, stateful_step_count=12, suppress_health_check=list(hypothesis.HealthCheck)
    )
    run_state_machine_as_test(Calls, settings=settings)
