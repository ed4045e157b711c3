"""Training in legs: candidates go on in each round from where the last one has left them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..estimators.together import Reached
from .candidates import Candidate
from .followed import Place


@dataclass(frozen=True)
class Legs:
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
    reached : dict of Place to Reached
        What to go on from, in each split; who has none begins.
    """

    resource: str
    until: int
    n_epochs: int
    is_last: bool
    reached: dict[Place, Reached]

    def at(self, places: Iterable[Place]) -> Legs:
        """Return those of a job, which is to be sent no others."""
        return replace(self, reached={p: self.reached[p] for p in places if p in self.reached})

    def are_of(self, candidate: Candidate) -> bool:
        """Return whether a candidate is trained in legs; all others begin anew in each round."""
        return candidate.why_alone is None and candidate.name_of_epochs == self.resource

    def prepare(self, candidate: Candidate) -> None:
        """Let a candidate that is trained in legs plan for all epochs."""
        if self.are_of(candidate):
            candidate.estimator.set_params(**{self.resource: self.n_epochs})
