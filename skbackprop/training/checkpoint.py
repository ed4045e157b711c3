"""The history of a run, and its checkpoint, from which a later run continues exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self, TypeAlias, cast

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED
from ..nn.lbfgs import EvaluationLog
from ..nn.parameters import FlatParameters, ParameterLayout, select_averaged_parameters
from ..nn.train_state import TrainState
from ..schedules import init_plateau_counter
from ..utils.arrays import (
    Array,
    ArrayDict,
    IndexArray,
    flatten_dict,
    index_state,
    join_keys,
    to_python_scalars,
    unflatten_dict,
)

StopReason: TypeAlias = Literal["converged", "unconverged", "time_limit", "stopped", "diverged"]
"""Why training ended; "stopped" is by Ctrl-C, a callback or a pause."""

Split: TypeAlias = tuple[IndexArray, IndexArray]
"""The training rows and the held-out rows."""


class ParameterSnapshot(NamedTuple):
    """The parameters of one network after some epoch.

    Parameters
    ----------
    theta : array of shape (1, p)
        The raw parameters, which training would continue from.
    statistics, average : dict
        The running statistics and the state of the weight average; empty where there are none.
    """

    theta: Array
    statistics: ArrayDict
    average: ArrayDict

    @classmethod
    def from_state(cls, state: TrainState, member: int) -> Self:
        """Return copies of the parameters of a member of a state."""
        rows, parameters = np.array([member]), state.parameters
        return cls(
            parameters.theta[rows],
            index_state(parameters.statistics, rows),
            index_state(state.average, rows),
        )

    @property
    def inference_parameters(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics to predict with: averages, if there are any."""
        return select_averaged_parameters(*self) if self.average else (self.theta, self.statistics)


class BestEpoch(NamedTuple):
    """The epoch with the best validation score so far; `n_iter` is 0 in an earlier call."""

    score: float
    n_iter: int
    snapshot: ParameterSnapshot


class IncompleteEpoch(NamedTuple):
    """The first epoch of a fit if the time limit has ended it.

    Parameters
    ----------
    n_rows : int
        The number of rows that the network has been trained on.
    snapshot : ParameterSnapshot
        The parameters after them.
    """

    n_rows: int
    snapshot: ParameterSnapshot


class EpochResult(NamedTuple):
    """The losses and the score of one epoch; None without validation rows or score."""

    loss: float
    validation_loss: float | None = None
    validation_score: float | None = None


class History(NamedTuple):
    """The losses and scores of the epochs that a run has completed, and the best epoch.

    It is a value: an epoch counts once its history has replaced the last one. The histories of one
    run share the list of epochs, of which the first `n_iter` are their own.

    Parameters
    ----------
    n_iter : int, default=0
        The number of epochs, or of iterations of L-BFGS.
    loss : float, default=np.inf
        The loss of the last epoch; inf before the first.
    best : BestEpoch or None, default=None
        The epoch with the best validation score; None if none was scored.
    epochs : sequence of EpochResult, default=()
        The result of each epoch. Epochs after `n_iter` have not happened.
    incomplete : IncompleteEpoch or None, default=None
        The weights of an incomplete first epoch, which predict. Training that is resumed repeats
        that epoch.
    """

    n_iter: int = 0
    loss: float = math.inf
    best: BestEpoch | None = None
    epochs: Sequence[EpochResult] = ()
    incomplete: IncompleteEpoch | None = None

    def with_epoch(
        self,
        result: EpochResult,
        state: TrainState,
        member: int,
        *,
        last_of_equals: bool,
    ) -> History:
        """Return the history with one more epoch or iteration.

        Parameters
        ----------
        result : EpochResult
            The losses and the score of the epoch.
        state : TrainState
            The state after the epoch, which is copied if the score is the best.
        member : int
            The run's position in the state.
        last_of_equals : bool
            Whether the last of equally good epochs is the best, instead of the first.
        """
        n_iter, best, score = self.n_iter + 1, self.best, result.validation_score
        epochs = self.epochs
        if not isinstance(epochs, list) or len(epochs) > self.n_iter:
            epochs = list(epochs[: self.n_iter])
        epochs.append(result)
        if score is not None:
            limit = -math.inf if best is None else best.score
            if score > limit or (best is not None and last_of_equals and score == limit):
                best = BestEpoch(score, n_iter, ParameterSnapshot.from_state(state, member))
        return History(n_iter, result.loss, best, epochs)

    def copy(self) -> History:
        """Return a history that shares nothing with this one."""
        best, incomplete = copy.deepcopy((self.best, self.incomplete))
        return self._replace(best=best, epochs=self.epochs[: self.n_iter], incomplete=incomplete)

    @property
    def kept_snapshot(self) -> ParameterSnapshot | None:
        """The parameters to keep; None for those of the last complete epoch."""
        kept = self.best or self.incomplete
        return None if kept is None else kept.snapshot

    def _column(self, name: str) -> list[float]:
        values = [getattr(epoch, name) for epoch in self.epochs[: self.n_iter]]
        return [value for value in values if value is not None]

    @property
    def losses(self) -> list[float]:
        """The training loss of each epoch."""
        return self._column("loss")

    @property
    def validation_losses(self) -> list[float]:
        """The validation loss of each epoch; empty without validation rows."""
        return self._column("validation_loss")

    @property
    def validation_scores(self) -> list[float]:
        """The validation score of each epoch; empty without early stopping."""
        return self._column("validation_score")

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept: the best one with early stopping, else the last."""
        return self.n_iter if self.best is None else self.best.n_iter


@dataclass(frozen=True)
class TrainingCheckpoint:
    """The complete state of a run after some epoch, from which another run continues.

    `TrainingRun.resume` continues the fit itself, also in another process. A warm start and
    `partial_fit` begin a new run with it.

    Parameters
    ----------
    state : TrainState
        All that steps change. For a warm start after `fit`, the weights are those of the best
        epoch, and the rest is of the last one.
    history : History
        The epochs so far. For a warm start, it has the best call of `partial_fit` only, whose
        weights predict.
    n_rows : int
        The number of rows of the data, validation rows included.
    split : pair of arrays of int or None, default=None
        The training and the validation rows; None if early stopping has never split.
    stop_reason : StopReason or None, default=None
        Why training has ended; None while it goes on.
    warnings : list of str
        The warnings about that.
    evaluations : EvaluationLog or None, default=None
        The evaluations of L-BFGS, which restore SciPy's own state when they are repeated. None for
        other solvers.
    n_calls : int, default=0
        The number of calls of `partial_fit` since the last `fit`.
    scoring : str, callable or None, default=None
        The `scoring` of the best score.
    temperature : float, default=1.0
        The divisor of raw scores in predictions; training continues without it.
    data_fingerprint : int, default=0
        The fingerprint of the data, in a search.
    shares_rng : bool, default=False
        Whether other runs hold the same stream, so that whoever continues has to copy it.
    """

    state: TrainState
    history: History
    n_rows: int
    split: Split | None = None
    stop_reason: StopReason | None = None
    warnings: list[str] = field(default_factory=list)
    evaluations: EvaluationLog | None = None
    n_calls: int = 0
    scoring: Any = None
    temperature: float = 1.0
    data_fingerprint: int = 0
    shares_rng: bool = field(default=False, compare=False)

    @classmethod
    def from_parameters(
        cls, parameters: FlatParameters, rng: np.random.RandomState, n_samples_seen: int
    ) -> Self:
        """Return a checkpoint with given weights, and nothing else to continue from."""
        state = TrainState(
            parameters,
            *({}, {}, {}),
            progress=init_plateau_counter(1),
            n_samples_seen=np.array([[n_samples_seen]]),
            orders=[None],
            rngs=[rng],
        )
        return cls(state, History(), n_rows=0)

    # ---------------------------------------------------------------------- warm starts

    def copy_rngs(self, shared: Sequence[Any] = ()) -> TrainingCheckpoint:
        """Return this with copies of all random streams but the shared ones."""
        rngs = [
            rng if any(rng is each for each in shared) else copy.deepcopy(rng)
            for rng in self.state.rngs
        ]
        return replace(self, state=replace(self.state, rngs=rngs), shares_rng=False)

    @property
    def inference_parameters(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics to predict with, after calibration."""
        state, best = self.state, self.history.best
        last = state.parameters.theta, state.parameters.statistics, state.average
        snapshot = ParameterSnapshot(*last) if best is None else best.snapshot
        theta, statistics = snapshot.inference_parameters
        if self.temperature != 1.0:
            theta = (
                state.parameters.with_theta(theta, statistics)
                .scale_last_layer(self.temperature)
                .theta
            )
        return theta, statistics

    @property
    def fitted_parameters(self) -> tuple[Array, ArrayDict]:
        """The `inference_parameters` for the fitted attributes.

        Those of the best call of `partial_fit` are copies, so that later calls can tell whether
        the user has changed the attributes.
        """
        own = self.inference_parameters
        return own if self.history.best is None else copy.deepcopy(own)

    def with_fitted_parameters(
        self, parameters: FlatParameters, n_samples_seen: int
    ) -> TrainingCheckpoint:
        """Return the checkpoint to continue from, given the fitted attributes as they are now.

        These may have been computed from this checkpoint: they are those of the best call,
        averages, or divided by a temperature. Then training continues from the raw parameters. If
        the user has changed them, the average and the comparison of calls start anew.

        Parameters
        ----------
        parameters : FlatParameters
            The fitted attributes, in arrays that the new run may train.
        n_samples_seen : int
            The number of rows that the network has been trained on.
        """
        state, history, temperature = self.state, self.history, 1.0
        average, progress, raw = state.average, state.progress, state.parameters
        theta, statistics = self.inference_parameters
        is_derived = history.best is not None or average or self.temperature != 1.0
        if (
            is_derived
            and np.array_equal(parameters.theta, theta)
            and all(
                np.array_equal(parameters.statistics[name], array)
                for name, array in statistics.items()
                if name != NUM_BATCHES_TRACKED  # of which users see nothing
            )
        ):
            parameters.theta[...], temperature = raw.theta, self.temperature
            for name, array in raw.statistics.items():
                parameters.statistics[name][...] = array
        else:
            average = {}
            if history.best is not None:
                history, progress = History(), init_plateau_counter(1)
            if NUM_BATCHES_TRACKED in raw.statistics:
                parameters.statistics[NUM_BATCHES_TRACKED][...] = raw.statistics[
                    NUM_BATCHES_TRACKED
                ]
        state = replace(
            state,
            parameters=parameters,
            average=average,
            progress=progress,
            n_samples_seen=np.array([[n_samples_seen]]),
        )
        changed = replace(self, state=state, history=history, temperature=temperature)
        return changed.copy_rngs() if self.shares_rng else changed

    def copy_initial_state(self) -> TrainingCheckpoint:
        """Return a checkpoint with the weights, split, order and streams of this one alone."""
        parameters = self.state.parameters
        copies = copy.deepcopy((parameters.theta, parameters.statistics))
        state = replace(
            self.state,
            parameters=cast(Any, ParameterSnapshot(*copies, {})),
            n_samples_seen=np.zeros((1, 1), dtype=int),
            optimizer={},
            schedule={},
            average={},
        )
        return TrainingCheckpoint(state, History(), self.n_rows, self.split)

    def for_transfer(self, data_fingerprint: int) -> TrainingCheckpoint:
        """Return this for another process, to resume from if its data has this fingerprint.

        It leaves out the layout of the parameters, which may contain user-defined functions.
        """
        own = self.state.parameters
        parameters = cast(Any, ParameterSnapshot(own.theta, own.statistics, {}))
        state = replace(self.state, parameters=parameters)
        return replace(self, state=state, data_fingerprint=data_fingerprint)

    # ------------------------------------------------------------------------- arrays

    def to_arrays(self) -> dict[str, Array]:
        """Return what `TrainingRun.resume` needs as arrays by name, for files without objects."""
        history, best = self.history, self.history.best
        values: dict[str, Any] = {
            "history": {"n_iter": history.n_iter, "loss": history.loss},
            "losses": np.array(history.losses),
            "validation_losses": np.array(history.validation_losses),
            "scores": np.array(history.validation_scores),
            "n_rows": self.n_rows,
            "stop_reason": self.stop_reason or "",
            "warnings": dict(enumerate(self.warnings)),
            "state": self.state.to_arrays(),
        }
        if best is not None:
            values["best"] = best._asdict() | {"snapshot": best.snapshot._asdict()}
        if self.split is not None:
            values["split"] = dict(zip(("train", "held_out"), self.split, strict=True))
        if self.evaluations is not None:
            values["evaluations"] = self.evaluations.to_arrays()
        arrays: dict[str, Array] = {}
        for name, value in values.items():
            arrays |= dict(flatten_dict(name, value))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: ParameterLayout) -> Self:
        """Return the checkpoint that `to_arrays` has written, of a network with this layout."""
        prefix = join_keys("state", "")
        state = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        found = unflatten_dict({name: array for name, array in arrays.items() if name not in state})
        values = to_python_scalars(
            {name: value for name, value in found.items() if name != "evaluations"}
        )
        best, split, evaluations = values.get("best"), values.get("split"), found.get("evaluations")
        if best is not None:
            snapshot = {"statistics": {}, "average": {}} | best["snapshot"]
            best = BestEpoch(best["score"], best["n_iter"], ParameterSnapshot(**snapshot))
        n_iter, loss = values["history"]["n_iter"], values["history"]["loss"]
        columns = [
            values[name].tolist() or [None] * n_iter
            for name in ("losses", "validation_losses", "scores")
        ]
        epochs = [EpochResult(*epoch) for epoch in zip(*columns, strict=True)]
        return cls(
            TrainState.from_arrays(
                {name.removeprefix(prefix): array for name, array in state.items()}, layout
            ),
            History(n_iter, loss, best, epochs),
            n_rows=values["n_rows"],
            split=None if split is None else (split["train"], split["held_out"]),
            stop_reason=values["stop_reason"] or None,
            warnings=list(values.get("warnings", {}).values()),
            evaluations=None if evaluations is None else EvaluationLog.from_arrays(evaluations),
        )


RngOrCheckpoint: TypeAlias = np.random.RandomState | TrainingCheckpoint
"""What a run starts from: a random stream that draws new weights, or an earlier state."""
