"""A run at one moment of its training, as arrays: a later process goes on from it, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..core.arrays import Array, Rows
from ..core.naming import flat, name_of, nested, plain
from ..engine.lbfgs import Evaluations
from ..engine.parameters import Layout
from ..engine.state import TrainingState
from .course import Best, Course, Ending, Kept


@dataclass(frozen=True)
class Moment:
    """What a run is at one moment.

    Parameters
    ----------
    state : TrainingState
        All that steps change.
    course : Course
        How far it has come.
    losses, watched_losses, scores : list of float
        One of each for every epoch, as far as there are any.
    split : pair of Rows or None
        The rows that it trains on and those held out; None if none are held out.
    largest_at_first : float
        The largest parameter at the beginning.
    ending : Ending or None
        What has ended it; None while it goes on.
    warnings : list of str
        What the user should hear of that.
    evaluations : Evaluations or None
        Those of L-BFGS, whose memory is SciPy's own: it comes about again by going through them
        once more. None for other solvers.
    """

    state: TrainingState
    course: Course
    losses: list[float]
    watched_losses: list[float]
    scores: list[float]
    split: tuple[Rows, Rows] | None
    largest_at_first: float
    ending: Ending | None
    warnings: list[str]
    evaluations: Evaluations | None

    def to_arrays(self) -> dict[str, Array]:
        """Return it as arrays by name, for files: nothing in them is a Python object."""
        course, best = self.course, self.course.best
        values: dict[str, Any] = {
            "course": {"n_iter": course.n_iter, "loss": course.loss},
            "losses": np.array(self.losses),
            "watched_losses": np.array(self.watched_losses),
            "scores": np.array(self.scores),
            "largest_at_first": self.largest_at_first,
            "ending": self.ending or "",
            "warnings": dict(enumerate(self.warnings)),
        }
        if best is not None:
            values["best"] = best._asdict() | {"kept": best.kept._asdict()}
        if self.split is not None:
            values["split"] = dict(zip(("train", "held_out"), self.split, strict=True))
        if self.evaluations is not None:
            values["evaluations"] = self.evaluations.to_arrays()
        arrays = {name_of("state", name): array for name, array in self.state.to_arrays().items()}
        for name, value in values.items():
            arrays |= dict(flat(name, value))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: Layout) -> Self:
        """Return what `to_arrays` has written, of a network whose parameters lie so."""
        within = name_of("state", "")
        state = {name: array for name, array in arrays.items() if name.startswith(within)}
        found = nested({name: array for name, array in arrays.items() if name not in state})
        values = plain({name: value for name, value in found.items() if name != "evaluations"})
        best, split = values.get("best"), values.get("split")
        if best is not None:
            kept = {"statistics": {}, "average": {}} | best["kept"]
            best = Best(best["score"], best["n_iter"], Kept(**kept))
        return cls(
            TrainingState.from_arrays(
                {name.removeprefix(within): array for name, array in state.items()}, layout
            ),
            Course(values["course"]["n_iter"], values["course"]["loss"], best),
            losses=values["losses"].tolist(),
            watched_losses=values["watched_losses"].tolist(),
            scores=values["scores"].tolist(),
            split=None if split is None else (split["train"], split["held_out"]),
            largest_at_first=values["largest_at_first"],
            ending=values["ending"] or None,
            warnings=list(values.get("warnings", {}).values()),
            evaluations=(
                Evaluations.from_arrays(found["evaluations"]) if "evaluations" in found else None
            ),
        )
