"""Training in legs: candidates go on in each round from where the last one has left them."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..estimators._resume import ResumeState
from ._callback_contexts import CandidateSplit
from ._candidates import Candidate


class CandidateStates(dict[CandidateSplit, ResumeState]):
    """How far fits have come, each by its place.

    Between processes it is one piece of bytes, which takes a fraction of the time of twenty arrays
    a fit; and those that share an order or a stream still do at the other end.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (pickle.dumps(dict(self), protocol=pickle.HIGHEST_PROTOCOL),)


def _unpacked(packed: bytes) -> CandidateStates:
    return CandidateStates(pickle.loads(packed))


@dataclass(frozen=True)
class RoundBudget:
    """How far the candidates of a round have come, and how far they are to go.

    Parameters
    ----------
    resource : str
        The parameter with the number of epochs, as a candidate has it.
    until : int
        The epoch after which this round ends.
    n_epochs : int
        Those of the last round: all that there will be, towards which schedules count.
    is_last : bool
        Whether this is the last round.
    reached : AllReached
        What to go on from, in each split; who has none begins.
    """

    resource: str
    until: int
    n_epochs: int
    is_last: bool
    reached: CandidateStates

    def at(self, places: Iterable[CandidateSplit]) -> RoundBudget:
        """Return those of a job, which is to be sent no others."""
        reached = {place: self.reached[place] for place in places if place in self.reached}
        return replace(self, reached=CandidateStates(reached))

    def applies_to(self, candidate: Candidate) -> bool:
        """Return whether a candidate is trained in legs; all others begin anew in each round."""
        return candidate.unbatchable_reason is None and candidate.name_of_epochs == self.resource

    def prepare(self, candidate: Candidate) -> None:
        """Let a candidate that is trained in legs plan for all epochs."""
        if self.applies_to(candidate):
            candidate.estimator.set_params(**{self.resource: self.n_epochs})
