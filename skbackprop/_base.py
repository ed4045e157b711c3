"""What the classifier and the regressor share: from scikit-learn's conventions to the core.

An estimator is a stack of one network. This room validates, lets the core train, and keeps
what came of it: all or nothing.
"""

from __future__ import annotations

import math
import warnings
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from ._settings import (
    ARCHITECTURE,
    PARAMETER_CONSTRAINTS,
    build,
    build_network,
    build_schedule,
    checked_layers,
    hidden_widths,
    initial_layers,
)
from ._threads import blas_threads_for
from .core.arrays import Array, Rows
from .core.batches import Table
from .core.losses import Loss
from .core.network import Network, scores_of
from .core.objective import Objective
from .core.optimizers import OPTIMIZERS
from .core.parameters import FlatParameters, Parameters
from .core.penalties import L2
from .core.training import Diverged, Patience, Stack, descend, minimise

# Rows of a block in L-BFGS: enough for full speed of the matrix products.
_LBFGS_NUMBERS = 1 << 22

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


@dataclass
class _Run:
    """One training from the validated data to the last epoch, before it is kept."""

    network: Network
    objective: Objective
    parameters: FlatParameters
    table: Table
    stream: np.random.RandomState
    train: Rows | None
    validation: Rows | None
    state: dict[str, Any]
    loss_curve: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_score: float = -math.inf
    best_iter: int = 0
    best_theta: Array | None = None
    loss: float = math.inf
    n_iter: int = 0
    n_seen: int = 0

    def record(self, loss: float, score: float | None) -> None:
        """Take note of a complete epoch or iteration."""
        self.n_iter += 1
        self.loss = loss
        self.loss_curve.append(loss)
        if score is None:
            self.best_iter = self.n_iter
            return
        self.scores.append(score)
        if score > self.best_score:
            self.best_score, self.best_iter = score, self.n_iter
            self.best_theta = self.parameters.theta.copy()


class BaseBackprop(BaseEstimator, metaclass=ABCMeta):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PARAMETER_CONSTRAINTS
    _y_numeric: bool  # whether the targets are numbers

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _encode(self, y: Any, reset: bool, incremental: bool, classes: Any) -> Array:
        """Return targets of shape (n, k); with `reset` learn what they are.

        `classes` are all labels there will ever be, where the user has named them.
        """

    @abstractmethod
    def _loss(self) -> Loss:
        """Return the loss for the targets last encoded."""

    @abstractmethod
    def _score_targets(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return the score of predictions from `scores` for encoded targets."""

    # -------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if training diverges. The estimator
            is then left as it was.
        """
        return self._all_or_nothing(X, y, sample_weight, incremental=False)

    def _check_stochastic(self) -> bool:
        if isinstance(self.solver, str) and self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got solver='lbfgs'. "
                "Choose another solver, or use warm_start=True with fit."
            )
        return True

    def _all_or_nothing(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None
    ) -> Any:
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        before = dict(self.__dict__)
        state = before.get("_training", {}) if self._continues(incremental) else {}
        stream_before = state["stream"].get_state() if "stream" in state else None
        try:
            interrupt = self._train(X, y, sample_weight, incremental, classes)
        except BaseException:
            self.__dict__ = before
            if stream_before is not None:
                state["stream"].set_state(stream_before)
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _train(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any
    ) -> KeyboardInterrupt | None:
        continues = self._continues(incremental)
        if not (incremental and continues):
            self._validate_params()
        if continues:
            self._check_architecture()
        table = self._validated(X, y, sample_weight, not continues, incremental, classes)
        run = self._start(table, incremental, continues)
        largest = run.network.largest_product(self._batch_size(run, incremental))
        with blas_threads_for(largest):
            if isinstance(self.solver, str) and self.solver == "lbfgs":
                interrupt = self._minimise(run)
            else:
                interrupt = self._descend(run, incremental)
        self._keep(run, incremental)
        return interrupt

    def _continues(self, incremental: bool) -> bool:
        """Return whether training goes on from what the estimator has learned."""
        return bool(incremental or self.warm_start) and hasattr(self, "coefs_")

    def _architecture_now(self) -> dict[str, Any]:
        architecture = {name: getattr(self, name) for name in ARCHITECTURE}
        architecture["hidden_layer_sizes"] = hidden_widths(self.hidden_layer_sizes)
        return architecture

    def _check_architecture(self) -> None:
        now = self._architecture_now()
        for name, value in self._architecture.items():
            if now[name] != value:
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    # ------------------------------------------------------------------- the data

    def _validated(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        incremental: bool,
        classes: Any,
    ) -> Table:
        """Return checked data; with `reset` learn the features and the targets."""
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            y_numeric=self._y_numeric,
            dtype=(np.float64, np.float32),
            reset=reset,
        )
        if reset:
            self._model_dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        self._check_range(X)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=self._model_dtype, ensure_non_negative=True
            )
        return Table(X, self._encode(y, reset, incremental, classes), sample_weight)

    def _check_range(self, X: Any) -> None:
        """Check that X can be held in the model's dtype."""
        if X.dtype.itemsize > self._model_dtype.itemsize:
            values = X.data if hasattr(X, "indptr") else X
            largest = max(-values.min(initial=0), values.max(initial=0))
            if largest > np.finfo(self._model_dtype).max:
                raise ValueError(
                    f"X contains {largest:.3g}, a value too large for the model's dtype "
                    f"{self._model_dtype.name}. Scale X, or use dtype='float64'."
                )

    def _batch_size(self, run: _Run, incremental: bool) -> int:
        n_rows = run.table.n_rows if run.train is None else len(run.train)
        if isinstance(self.batch_size, str):
            return min(200, n_rows)
        if self.batch_size > n_rows and not incremental:
            warnings.warn(
                f"batch_size={self.batch_size} is larger than the {n_rows} training rows. "
                f"It is going to be clipped to {n_rows}.",
                UserWarning,
                stacklevel=5,
            )
        return int(min(self.batch_size, n_rows))

    def _split(self, table: Table, stream: np.random.RandomState) -> tuple[Rows, Rows]:
        """Return the rows to train on and those held out for early stopping.

        Classes are stratified where every class has two rows and both sides can hold one of
        each.
        """
        n = table.n_rows
        n_validation = max(2, math.ceil(self.validation_fraction * n))
        if n - n_validation < 1:
            raise ValueError(
                f"early_stopping=True holds out {n_validation} rows, which leaves none to train on "
                f"with n_samples = {n}. Use more rows, a smaller validation_fraction "
                f"(now {self.validation_fraction}), or early_stopping=False."
            )
        strata = self._strata(table.y)
        if strata is not None:
            counts = np.bincount(strata)
            counts = counts[counts > 0]
            fewest = min(n_validation, n - n_validation)
            if counts.min() < 2 or fewest < len(counts):
                strata = None
        train, validation = train_test_split(
            np.arange(n), test_size=n_validation, random_state=stream, stratify=strata
        )
        return train, validation

    def _strata(self, y: Array) -> Array | None:
        """Return the class of each row where a split is to be stratified."""
        return None

    # ---------------------------------------------------------------- begin and go on

    def _start(self, table: Table, incremental: bool, continues: bool) -> _Run:
        """Return a run from new weights, or from the estimator's own."""
        params = self.get_params(deep=False)
        network = build_network(params, table.X.shape[1], table.y.shape[1])
        old: dict[str, Any] = getattr(self, "_training", {}) if continues else {}
        stream = old.get("stream")
        if stream is None:
            stream = _new_stream(self.random_state)
        if continues:
            layers = checked_layers(self.coefs_, self.intercepts_, network, "coefs_, intercepts_")
        else:
            layers = initial_layers(params, network, stream)
        state: dict[str, Any] = {"stream": stream, "n_rows": table.n_rows}
        train = validation = None
        if self.early_stopping and not incremental:
            split = old.get("split")
            if split is None or old["n_rows"] != table.n_rows:
                split = self._split(table, stream)
            state["split"] = split
            train, validation = split
        elif "split" in old and old["n_rows"] == table.n_rows:
            state["split"] = old["split"]
        run = _Run(
            network,
            Objective(network, self._loss(), L2(float(self.alpha))),
            FlatParameters.of([layers], self._model_dtype),
            table,
            stream,
            train,
            validation,
            state,
        )
        if continues:
            run.loss_curve = list(self.loss_curve_)
            run.scores = list(self.validation_scores_ or [])
            run.n_seen = self.t_
        state["order"] = self._order(run, old)
        for name in ("optimizer", "schedule"):
            if name in old:
                state[name] = {key: value.copy() for key, value in old[name].items()}
        return run

    def _order(self, run: _Run, old: dict[str, Any]) -> Rows | None:
        """Return the rows in the order of the last epoch, if they are the same rows."""
        if not self.shuffle:
            return run.train
        last = old.get("order")
        n_rows = run.table.n_rows if run.train is None else len(run.train)
        if last is not None and old["n_rows"] == run.table.n_rows and len(last) == n_rows:
            return np.array(last)
        return np.arange(n_rows) if run.train is None else run.train.copy()

    # ------------------------------------------------------------ stochastic training

    def _stack(self, run: _Run, batch_size: int) -> Stack:
        params = self.get_params(deep=False)
        optimizer = build(OPTIMIZERS, self.solver, params)
        schedule = build_schedule(params)
        optimizer_state, schedule_state = optimizer.init(run.parameters.theta), schedule.init(1)
        for state, fresh in (("optimizer", optimizer_state), ("schedule", schedule_state)):
            kept = run.state.get(state, {})
            if kept.keys() == fresh.keys():
                fresh.update(kept)
        run.state["optimizer"], run.state["schedule"] = optimizer_state, schedule_state
        return Stack(
            run.objective,
            run.parameters,
            [run.table],
            [run.state["order"]],
            [run.stream if self.shuffle else None],
            [batch_size],
            optimizer,
            schedule,
            np.array([[float(self.learning_rate_init)]]),
            optimizer_state,
            schedule_state,
            np.array([[run.n_seen]]),
        )

    def _descend(self, run: _Run, incremental: bool) -> KeyboardInterrupt | None:
        """Train by stochastic steps; return the interrupt that ended it, if one did."""
        stack = self._stack(run, self._batch_size(run, incremental))
        patience = Patience(1, float(self.tol), float(self.n_iter_no_change))
        n_epochs = 1 if incremental else self.max_iter
        is_recorded = True
        try:
            for losses in descend(stack, n_epochs):
                is_recorded = False
                loss, score = losses.item(), self._validation_score(run)
                monitored = np.array([[loss if score is None else _to_fall(score)]])
                stack.schedule.end_epoch(stack.schedule_state, stack.rate, monitored, stack.n_seen)
                may_stop = stack.schedule.may_stop(stack.schedule_state, 1)
                stalled, stopped = patience.end_epoch(monitored, may_stop)
                run.record(loss, score)
                is_recorded = True
                self._print_progress(run)
                if stalled.item():
                    self._print_stall(run, stack, stopped.item())
                if stopped.item():
                    break
            else:
                if not incremental and self.n_iter_no_change != np.inf:
                    self._warn(
                        f"Stochastic Optimizer: Maximum iterations ({n_epochs}) reached and the "
                        "optimization hasn't converged yet. Raise max_iter, or set "
                        "n_iter_no_change=np.inf if this many epochs are what you want."
                    )
        except KeyboardInterrupt as interrupt:
            if not is_recorded:
                stack.restore()
            return interrupt
        except Diverged:
            self._handle_divergence(run)
        finally:
            run.n_seen = int(stack.n_seen.item())
        return None

    def _validation_score(self, run: _Run) -> float | None:
        """Return the score on the rows held out; None where none are."""
        if run.validation is None:
            return None
        table, rows = run.table, run.validation
        with np.errstate(all="ignore"):
            scores = scores_of(run.network, run.parameters, table.X, rows)[0]
            if not np.isfinite(scores).all():
                return math.nan
            weight = None if table.weight is None else table.weight[rows]
            if weight is not None and not weight.any():
                weight = None
            return float(self._score_targets(scores, table.y[rows], weight))

    def _handle_divergence(self, run: _Run) -> None:
        """Raise, or with a scored epoch to go back to, warn."""
        X = run.table.X
        values = X.data if hasattr(X, "indptr") else X
        largest = max(-values.min(initial=0), values.max(initial=0))
        message = (
            f"Training diverged in epoch {run.n_iter + 1}: the loss or a parameter is no longer "
            f"finite. Lower learning_rate_init (now {self.learning_rate_init}), or scale X, whose "
            f"largest absolute value is {largest:.3g}"
            + self._target_hint(run.table.y)
            + ", for example with sklearn.preprocessing.StandardScaler."
        )
        if run.best_theta is None:
            raise ValueError(message)
        self._warn(
            f"{message} The weights of epoch {run.best_iter}, which had the best validation "
            "score, are kept."
        )

    def _target_hint(self, y: Array) -> str:
        """Return what an error about divergence should say of the targets."""
        return ""

    # --------------------------------------------------------------------- L-BFGS

    def _minimise(self, run: _Run) -> KeyboardInterrupt | None:
        """Train by L-BFGS; return the interrupt that ended it, if one did."""
        run.parameters = run.parameters.like(run.parameters.theta.astype(np.float64))
        patience = Patience(1, float(self.tol), float(self.n_iter_no_change))
        may_stop = np.ones((1, 1), dtype=bool)

        def on_iteration(loss: float) -> bool:
            score = self._validation_score(run)
            run.record(loss, score)
            self._print_progress(run)
            if score is None:
                return False
            _, stopped = patience.end_epoch(np.array([[_to_fall(score)]]), may_stop)
            if stopped.item():
                self._print_stall(run, None, True)
            return bool(stopped.item())

        try:
            result = minimise(
                run.objective,
                run.parameters,
                run.table,
                run.train,
                max_iter=self.max_iter,
                max_fun=self.max_fun,
                tol=self.tol,
                row_block=max(1, _LBFGS_NUMBERS // sum(run.network.widths)),
                on_iteration=on_iteration,
            )
            run.loss = float(result.fun)
            if result.status not in (0, _STOPPED_BY_CALLBACK):
                self._warn(
                    f"lbfgs failed to converge after {run.n_iter} iteration(s) "
                    f"({result.message.strip()}). Increase max_iter (now {self.max_iter}) or "
                    f"max_fun (now {self.max_fun}), or scale X, for example with "
                    "sklearn.preprocessing.StandardScaler."
                )
        except KeyboardInterrupt as interrupt:
            return interrupt
        except Diverged:
            self._handle_divergence(run)
        return None

    # --------------------------------------------------------------- what is printed

    def _print_progress(self, run: _Run) -> None:
        if self.verbose and run.n_iter % int(self.verbose) == 0:
            print(f"Iteration {run.n_iter}, loss = {run.loss:.8f}")
            if run.validation is not None:
                print(f"Validation score: {run.scores[-1]:f}")

    def _print_stall(self, run: _Run, stack: Stack | None, stops: bool) -> None:
        if not self.verbose:
            return
        what = "Training loss" if run.validation is None else "Validation score"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        if stops:
            print(f"{message} Stopping.")
        elif stack is not None:
            rate = stack.schedule.rate(stack.schedule_state, stack.rate, 0.0)
            print(f"{message} Setting learning rate to {rate.item():f}")

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, ConvergenceWarning, stacklevel=6)

    # ---------------------------------------------------------------- what is kept

    def _keep(self, run: _Run, incremental: bool) -> None:
        """Set the attributes that scikit-learn's networks have, and the state to go on from."""
        theta = run.parameters.theta if run.best_theta is None else run.best_theta
        parameters = run.parameters.like(theta.astype(self._model_dtype, copy=False))
        self.coefs_ = [weights[0] for weights in parameters.weights]
        self.intercepts_ = [biases[0, 0] for biases in parameters.biases]
        self.n_layers_ = len(run.network.widths)
        self.n_outputs_ = run.network.widths[-1]
        self.out_activation_ = run.objective.loss.link.name
        self.n_iter_, self.best_iter_, self.t_ = run.n_iter, run.best_iter, run.n_seen
        self.loss_, self.loss_curve_ = run.loss, run.loss_curve
        self.validation_scores_: list[float] | None
        self.best_validation_score_: float | None
        new_losses = run.loss_curve[len(run.loss_curve) - run.n_iter :]
        if self.early_stopping:
            self.best_loss_ = None
            self.validation_scores_ = run.scores
            if not incremental:
                self.best_validation_score_ = run.best_score
            elif not hasattr(self, "best_validation_score_"):
                self.best_validation_score_ = -np.inf
        else:
            known = getattr(self, "best_loss_", None) if incremental else None
            self.best_loss_ = min([*new_losses, np.inf if known is None else known])
            self.validation_scores_, self.best_validation_score_ = None, None
        self._architecture = self._architecture_now()
        self._training = run.state
        self._went_on = incremental

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training state behind unless training is meant to go on."""
        state = dict(super().__getstate__())
        if "_training" in state and not (self.warm_start or self._went_on):
            del state["_training"]
        return state

    # ------------------------------------------------------------------ prediction

    def _scores(self, X: Any) -> Array:
        """Return the raw scores of X, of shape (n, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        self._check_range(X)
        network, parameters = self._fitted_network()
        with np.errstate(all="ignore"):
            scores = scores_of(network, parameters, X)[0]
        if not (np.isfinite(scores.sum()) or np.isfinite(scores).all()):
            raise ValueError(
                "The network's output on X is not finite. Look at the scale of X: it should be "
                "that of the training data."
            )
        return scores

    def _fitted_network(self) -> tuple[Network, Parameters]:
        """Return the network with the weights that `coefs_` and `intercepts_` hold now."""
        hidden = self._architecture["hidden_layer_sizes"]
        params = {"hidden_layer_sizes": hidden, "activation": self._architecture["activation"]}
        network = build_network(params, self.n_features_in_, self.n_outputs_)
        layers = checked_layers(self.coefs_, self.intercepts_, network, "coefs_, intercepts_")
        dtype = self._model_dtype
        parameters = Parameters(
            [weights.astype(dtype, copy=False)[None] for weights, _ in layers],
            [biases.astype(dtype, copy=False)[None, None] for _, biases in layers],
        )
        return network, parameters

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _new_stream(random_state: Any) -> np.random.RandomState:
    """Return the stream of a seed; without one, a stream seeded from NumPy's global one."""
    if random_state is None:
        random_state = int(check_random_state(None).randint(np.iinfo(np.int32).max))
    return check_random_state(random_state)


def _to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
