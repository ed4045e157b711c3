"""The tasks of a search that callbacks follow: its fits, the stacks they are in, and the epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..estimators._fit_many import FitJob
from ..training.callbacks import EpochObserver, RunSnapshots
from ._candidates import EvaluationConfig

CandidateSplit: TypeAlias = tuple[int, int]
"""The number of a candidate, and that of a split."""


@dataclass
class SearchCallbackContexts:
    """A task for each candidate on each split, as scikit-learn's searches have it.

    A stack stands in the place of the first of its fits, has a subtask for each epoch, and is
    called by its candidates and splits, as "candidates 0-5, split 2, task"; progress bars add the
    number of the task. The other fits begin and end with it.

    Parameters
    ----------
    search : estimator
        The search, whose callbacks are called.
    evaluation : Evaluation
        What all candidates have in common.
    contexts : dict
        scikit-learn's context of each task.
    """

    search: Any
    evaluation: EvaluationConfig
    contexts: dict[CandidateSplit, Any]
    _begun: set[CandidateSplit] = field(default_factory=set, init=False)

    @classmethod
    def of(
        cls, search: Any, evaluation: EvaluationConfig, n_candidates: int, above: Any
    ) -> SearchCallbackContexts:
        """Return the subtasks of a task, numbered as scikit-learn numbers them."""
        n_splits = len(evaluation.splits)
        contexts = {
            (candidate, split): above.subcontext(
                task_name="candidate-split-evaluation", task_id=candidate * n_splits + split
            )
            for candidate in range(n_candidates)
            for split in range(n_splits)
        }
        return cls(search, evaluation, contexts)

    def at(self, places: Iterable[CandidateSplit]) -> SearchCallbackContexts:
        """Return some of them: those that a job is given."""
        contexts = {place: self.contexts[place] for place in places}
        return SearchCallbackContexts(self.search, self.evaluation, contexts)

    def follow(
        self, stacked: Sequence[tuple[CandidateSplit, FitJob]], until: int | None
    ) -> EpochObserver:
        """Return who follows fits that are trained side by side, until some epoch or to the end."""
        first, fit = stacked[0]
        run, stack = fit.runs[0], self.contexts[first]
        stack.task_name = _name_of([place for place, _ in stacked])
        n_epochs = until or run.config.max_iter
        stack.max_subtasks = None if run.config.is_lbfgs else n_epochs - run.n_done
        for place, _ in stacked:
            self._begin(place)
        return _StackObserver(self.search, stack)

    def end(self, place: CandidateSplit) -> None:
        """Call the hooks for the end of a fit, which has been scored."""
        if place not in self._begun:  # it failed before there was anything to train
            self._begin(place)
        self.contexts[place].call_on_fit_task_end(estimator=self.search, **self._data(place))

    def _begin(self, place: CandidateSplit) -> None:
        self._begun.add(place)
        self.contexts[place].call_on_fit_task_begin(estimator=self.search, **self._data(place))

    def _data(self, place: CandidateSplit) -> dict[str, Any]:
        """Return what hooks may ask for, made when one does."""
        _, split = place

        def part(i: int) -> Any:
            return self.evaluation.train(self.evaluation.estimator, split)[i]

        def metadata() -> dict[str, Any] | None:
            weight = part(2).get("sample_weight")
            return None if weight is None else {"sample_weight": weight}

        return {"X": lambda: part(0), "y": lambda: part(1), "metadata": metadata}


def _name_of(places: Sequence[CandidateSplit]) -> str:
    """Return what a stack's task is called, by its candidates and splits."""
    candidates, splits = (sorted(set(numbers)) for numbers in zip(*places, strict=True))
    return f"{_numbered('candidate', candidates)}, {_numbered('split', splits)}, task"


def _numbered(what: str, numbers: Sequence[int]) -> str:
    """Return numbers in short: "split 2", "splits 0-3", "candidates 0-2, 5"; if many, how many."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) > _MOST_RUNS:
        return f"{len(numbers)} {what}s"
    said = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return f"{what}{'s' * (len(numbers) > 1)} {', '.join(said)}"


# Candidates that are no more than so many sequences are named, else counted.
_MOST_RUNS = 3


class _StackObserver(EpochObserver):
    """Calls the hooks of a search's callbacks for the epochs of a stack."""

    def __init__(self, search: Any, stack: Any) -> None:
        self._search, self._stack = search, stack

    def on_epoch_begin(self, snapshots: RunSnapshots) -> None:
        """Call the hooks for the beginning of an epoch."""
        self._epoch = self._stack.subcontext(task_name="epoch")
        self._call(self._epoch.call_on_fit_task_begin)

    def on_epoch_end(self, snapshots: RunSnapshots) -> bool:
        """Call the hooks for its end; return whether one of them wants the stack to end."""
        return bool(self._call(self._epoch.call_on_fit_task_end))

    def _call(self, hook: Callable[..., Any]) -> Any:
        try:
            return hook(estimator=self._search)
        except Exception as error:
            self.error = error
            raise
