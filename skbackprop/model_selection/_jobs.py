"""The jobs of a search, which workers run: a stack of candidates, or one candidate alone."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from .._sklearn import _fit_and_score
from ..estimators._fit_many import FitJob, MakeObserver, fit_many
from ._callback_contexts import CandidateSplit, SearchCallbackContexts
from ._candidates import Candidate, EvaluationConfig
from ._pipeline_cache import TransformedSplit
from ._round_budget import CandidateStates, RoundBudget
from ._scoring import SplitScorer

Result = dict[str, Any]
"""What scikit-learn's `_fit_and_score` returns of one candidate on one split."""

Results = dict[CandidateSplit, Result]
"""The result of each candidate on each split."""


class JobResult(NamedTuple):
    """What came of jobs: the results, and how far those have come that are to go on."""

    results: Results
    reached: CandidateStates


# Seconds between two lines on the progress of a stack.
_SECONDS_BETWEEN_LINES = 5.0


@dataclass
class SingleFitJob:
    """scikit-learn fits and scores one candidate on one split.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    split : int
        The number of the split.
    cost : float, default=np.inf
        About what it takes, compared to other jobs: unknown, so it goes first.
    error : str or None, default=None
        What keeps it from a stack, if that is an error: its own, or else one of ours.
    """

    candidate: Candidate
    split: int
    cost: float = np.inf
    error: str | None = None

    @property
    def places(self) -> Sequence[CandidateSplit]:
        """The numbers of the candidate and of the split."""
        return [(self.candidate.number, self.split)]

    def run(
        self,
        evaluation: EvaluationConfig,
        name: str,
        followed: SearchCallbackContexts | None,
        legs: RoundBudget | None = None,
    ) -> JobResult:
        """Do the job and return what came of it."""
        train, test = evaluation.splits[self.split]
        (place,) = self.places
        hooks = {}
        if followed is not None:
            hooks = {"caller": followed.search, "callback_ctx": followed.contexts[place]}
        result = _fit_and_score(
            clone(evaluation.estimator),
            evaluation.X,
            evaluation.y,
            scorer=evaluation.scorer,
            train=train,
            test=test,
            verbose=evaluation.verbose,
            parameters=self.candidate.parameters,
            fit_params=evaluation.fit_params,
            score_params=evaluation.score_params,
            return_train_score=evaluation.return_train_score,
            return_times=True,
            error_score=evaluation.error_score,
            **hooks,
        )
        return JobResult({place: result}, CandidateStates())


@dataclass
class BatchedFitJob:
    """Candidates are trained as one stack, each on its split, and scored one after the other.

    Parameters
    ----------
    tasks : sequence of (Candidate, int)
        Each candidate with the number of its split.
    fronts : dict of int to Front
        What the candidates are trained on in each split; where there is none, the data itself.
    cost : float
        About what it takes, compared to other jobs.
    error : str or None, default=None
        What keeps the stack from being larger, if that is an error: that of its only candidate, or
        else one of ours.
    """

    tasks: Sequence[tuple[Candidate, int]]
    fronts: dict[int, TransformedSplit]
    cost: float
    error: str | None = None

    @property
    def places(self) -> Sequence[CandidateSplit]:
        """The numbers of each candidate and of its split."""
        return [(candidate.number, split) for candidate, split in self.tasks]

    def run(
        self,
        evaluation: EvaluationConfig,
        name: str,
        followed: SearchCallbackContexts | None,
        legs: RoundBudget | None = None,
    ) -> JobResult:
        """Do the job and return what came of it."""
        fronts = dict(self.fronts)
        for candidate, split in self.tasks:
            if split not in fronts:
                fronts[split] = TransformedSplit(*evaluation.train(candidate.estimator, split))
        if legs is not None and not legs.applies_to(self.tasks[0][0]):
            legs = None
        fits = self._fits(fronts, legs)
        until = None if legs is None else legs.until
        progress = _Progress(name, evaluation.verbose) if evaluation.verbose else None
        follow = {} if followed is None else {"follow": self._follow(followed, fits, until)}
        fit_many(fits, evaluation.max_bytes, progress, until=until, **follow)
        scorings = {
            split: SplitScorer(evaluation, candidate.estimator, split, fronts[split])
            for candidate, split in self.tasks
        }
        done = JobResult({}, CandidateStates())
        for (candidate, split), place, fit in zip(self.tasks, self.places, fits, strict=True):
            if until is not None:
                fit.estimator.max_iter = until  # as the candidate is known to scorers and users
            done.results[place] = _result(candidate, scorings[split], fit)
            done.results[place]["begins_anew"] = fit.begins_anew
            if fit.reached is not None and not (legs is None or legs.is_last):
                done.reached[place] = fit.reached
            if followed is not None:
                followed.end(place)
        return done

    def _fits(self, fronts: dict[int, TransformedSplit], legs: RoundBudget | None) -> list[FitJob]:
        """Return what is to be fitted, or to go on."""
        fits = []
        for (candidate, split), place in zip(self.tasks, self.places, strict=True):
            front = fronts[split]
            # A clone would lose what set_params has done beside the parameters. Of these only a
            # stream changes.
            network = copy.copy(candidate.network)
            network.random_state = copy.deepcopy(network.random_state)
            fit = FitJob(network, front.X, front.y, front.fit_params, candidate.planned)
            if legs is not None:
                fit.resume_from_state(legs.reached.get(place))
            fits.append(fit)
        return fits

    def _follow(
        self, followed: SearchCallbackContexts, fits: Sequence[FitJob], until: int | None
    ) -> MakeObserver:
        """Return what makes those of the fits that train side by side followed."""
        places = {id(fit): place for fit, place in zip(fits, self.places, strict=True)}
        return lambda stacked: followed.follow([(places[id(fit)], fit) for fit in stacked], until)


def _result(candidate: Candidate, scoring: SplitScorer, fit: FitJob) -> Result:
    """Score a candidate that has been fitted on a split, or failed to be."""
    evaluation = scoring.evaluation
    if fit.error is not None and evaluation.error_score == "raise":
        raise fit.error
    result: Result = {
        "fit_error": fit.traceback,
        "fit_time": scoring.front.seconds + fit.seconds,
    }
    for name in ("test_scores", "train_scores")[: 1 + bool(evaluation.return_train_score)]:
        start = time.perf_counter()
        if fit.error is not None:
            result[name] = evaluation.failed_score()
        else:
            result[name] = scoring.score(fit.estimator, on_train=name == "train_scores")
        if name == "test_scores":
            result["score_time"] = time.perf_counter() - start
    if evaluation.verbose > 1:
        _print_end(candidate, scoring.split, len(evaluation.splits), result)
    return result


class _Progress:
    """Prints the epochs of a stack and the networks left, now and then."""

    def __init__(self, name: str, verbose: int) -> None:
        self.name, self.verbose, self.last = name, verbose, time.perf_counter()

    def __call__(self, n_epochs: int, n_left: int, n_estimators: int) -> None:
        now = time.perf_counter()
        is_due = self.verbose > 2 or now - self.last > _SECONDS_BETWEEN_LINES
        if is_due or n_left == 0:
            self.last = now
            print(f"[{self.name}] epoch {n_epochs}, {n_left} of {n_estimators} networks left")
            sys.stdout.flush()  # it may be a worker's, which nobody else empties


def _print_end(candidate: Candidate, split: int, n_splits: int, result: Result) -> None:
    """Print a line like scikit-learn's on a candidate that is done."""
    parameters = sorted(candidate.parameters.items(), key=lambda item: item[0])
    settings = ", ".join(f"{name}={value}" for name, value in parameters)
    scores = result["test_scores"]
    named = scores if isinstance(scores, dict) else {"score": scores}
    said = ", ".join(f"{name}={named[name]:.3f}" for name in sorted(named))
    seconds = result["fit_time"] + result["score_time"]
    print(f"[CV {split + 1}/{n_splits}] END {settings}; {said} total time={seconds:.1f}s")
