"""The state of a run after an epoch, as arrays: another process resumes it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..nn.lbfgs import EvaluationLog
from ..nn.parameters import ParameterLayout
from ..nn.train_state import TrainState
from ..utils.arrays import (
    Array,
    IndexArray,
    flatten_dict,
    join_keys,
    to_python_scalars,
    unflatten_dict,
)
from .run_states import BestEpoch, EpochResult, ParameterSnapshot, StopReason, TrainingHistory


@dataclass(frozen=True)
class TrainingCheckpoint:
    """The complete state of a run after some epoch.

    Parameters
    ----------
    state : TrainState
        All that steps change.
    history : TrainingHistory
        The epochs so far.
    split : pair of arrays of int or None
        The training and the validation rows; None without validation rows of the table.
    largest_initial_weight : float
        The largest absolute parameter before training.
    stop_reason : StopReason or None
        Why training has ended; None while it goes on.
    warnings : list of str
        The warnings about that.
    evaluations : EvaluationCache or None
        The evaluations of L-BFGS, which restore SciPy's own state when they are repeated. None for
        other solvers.
    """

    state: TrainState
    history: TrainingHistory
    split: tuple[IndexArray, IndexArray] | None
    largest_initial_weight: float
    stop_reason: StopReason | None
    warnings: list[str]
    evaluations: EvaluationLog | None

    def to_arrays(self) -> dict[str, Array]:
        """Return the checkpoint as arrays by name, for files without Python objects."""
        history, best = self.history, self.history.best
        values: dict[str, Any] = {
            "history": {"n_iter": history.n_iter, "loss": history.loss},
            "losses": np.array(history.losses),
            "validation_losses": np.array(history.validation_losses),
            "scores": np.array(history.scores),
            "largest_initial_weight": self.largest_initial_weight,
            "stop_reason": self.stop_reason or "",
            "warnings": dict(enumerate(self.warnings)),
        }
        if best is not None:
            values["best"] = best._asdict() | {"snapshot": best.snapshot._asdict()}
        if self.split is not None:
            values["split"] = dict(zip(("train", "held_out"), self.split, strict=True))
        if self.evaluations is not None:
            values["evaluations"] = self.evaluations.to_arrays()
        arrays = {join_keys("state", name): array for name, array in self.state.to_arrays().items()}
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
        each = [
            values[name].tolist() or [None] * n_iter
            for name in ("losses", "validation_losses", "scores")
        ]
        epochs = [EpochResult(*of_epoch) for of_epoch in zip(*each, strict=True)]
        return cls(
            TrainState.from_arrays(
                {name.removeprefix(prefix): array for name, array in state.items()}, layout
            ),
            TrainingHistory(n_iter, loss, best, epochs),
            split=None if split is None else (split["train"], split["held_out"]),
            largest_initial_weight=values["largest_initial_weight"],
            stop_reason=values["stop_reason"] or None,
            warnings=list(values.get("warnings", {}).values()),
            evaluations=None if evaluations is None else EvaluationLog.from_arrays(evaluations),
        )
