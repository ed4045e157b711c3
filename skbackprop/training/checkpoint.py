"""A run at one moment of its training, as arrays: a later process goes on from it, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..nn.lbfgs import EvaluationCache
from ..nn.parameters import ParameterLayout
from ..nn.train_state import TrainState
from ..utils.arrays import Array, IndexArray
from ..utils.flatten import flatten_dict, join_path, to_python_scalars, unflatten_dict
from .history import BestEpoch, EpochRecord, ParameterSnapshot, StopReason


@dataclass(frozen=True)
class TrainingCheckpoint:
    """What a run is at one moment.

    Parameters
    ----------
    state : TrainingState
        All that steps change.
    record : Course
        How far it has come.
    losses, validation_losses, scores : list of float
        One of each for every epoch, as far as there are any.
    split : pair of Rows or None
        The rows that it trains on and those held out; None if none are held out.
    largest_initial_weight : float
        The largest parameter at the beginning.
    ending : Ending or None
        What has ended it; None while it goes on.
    warnings : list of str
        What the user should hear of that.
    evaluations : Evaluations or None
        Those of L-BFGS, whose memory is SciPy's own: it comes about again by going through them
        once more. None for other solvers.
    """

    state: TrainState
    record: EpochRecord
    losses: list[float]
    validation_losses: list[float]
    scores: list[float]
    split: tuple[IndexArray, IndexArray] | None
    largest_initial_weight: float
    ending: StopReason | None
    warnings: list[str]
    evaluations: EvaluationCache | None

    def to_arrays(self) -> dict[str, Array]:
        """Return it as arrays by name, for files: nothing in them is a Python object."""
        record, best = self.record, self.record.best
        values: dict[str, Any] = {
            "course": {"n_iter": record.n_iter, "loss": record.loss},
            "losses": np.array(self.losses),
            "validation_losses": np.array(self.validation_losses),
            "scores": np.array(self.scores),
            "largest_initial_weight": self.largest_initial_weight,
            "ending": self.ending or "",
            "warnings": dict(enumerate(self.warnings)),
        }
        if best is not None:
            values["best"] = best._asdict() | {"kept": best.kept._asdict()}
        if self.split is not None:
            values["split"] = dict(zip(("train", "held_out"), self.split, strict=True))
        if self.evaluations is not None:
            values["evaluations"] = self.evaluations.to_arrays()
        arrays = {join_path("state", name): array for name, array in self.state.to_arrays().items()}
        for name, value in values.items():
            arrays |= dict(flatten_dict(name, value))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: ParameterLayout) -> Self:
        """Return what `to_arrays` has written, of a network whose parameters lie so."""
        within = join_path("state", "")
        state = {name: array for name, array in arrays.items() if name.startswith(within)}
        found = unflatten_dict({name: array for name, array in arrays.items() if name not in state})
        values = to_python_scalars(
            {name: value for name, value in found.items() if name != "evaluations"}
        )
        best, split = values.get("best"), values.get("split")
        if best is not None:
            kept = {"statistics": {}, "average": {}} | best["kept"]
            best = BestEpoch(best["score"], best["n_iter"], ParameterSnapshot(**kept))
        return cls(
            TrainState.from_arrays(
                {name.removeprefix(within): array for name, array in state.items()}, layout
            ),
            EpochRecord(values["course"]["n_iter"], values["course"]["loss"], best),
            losses=values["losses"].tolist(),
            validation_losses=values["validation_losses"].tolist(),
            scores=values["scores"].tolist(),
            split=None if split is None else (split["train"], split["held_out"]),
            largest_initial_weight=values["largest_initial_weight"],
            ending=values["ending"] or None,
            warnings=list(values.get("warnings", {}).values()),
            evaluations=(
                EvaluationCache.from_arrays(found["evaluations"])
                if "evaluations" in found
                else None
            ),
        )
