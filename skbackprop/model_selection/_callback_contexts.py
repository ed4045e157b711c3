"""Contexts of scikit-learn callbacks for the fits and epochs of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..estimators._fit_many import FitJob
from ..training.observers import EpochObserver, RunSnapshots
from ._candidates import CandidateSplit, EvaluationConfig

# Candidates in at most this many ranges of numbers are named; otherwise they are counted.
_MAX_RANGES = 3


@dataclass
class SearchCallbackContexts:
    """Callback context of each candidate on each split, as in scikit-learn.

    The context of the first fit of a stack stands for the stack: it has a subtask for each epoch,
    and it is named after the stack's candidates and splits, as in "candidates 0-5, split 2, task".
    Progress bars append the number of the task. The contexts of the other fits begin and end with
    the stack.

    Parameters
    ----------
    search : estimator
        The search that has the callbacks.
    config : EvaluationConfig
        What all candidates share.
    contexts : dict
        scikit-learn's context of each candidate on each split.
    """

    search: Any
    config: EvaluationConfig
    contexts: dict[CandidateSplit, Any]
    _begun: set[CandidateSplit] = field(default_factory=set, init=False)

    @classmethod
    def from_parent(
        cls, search: Any, config: EvaluationConfig, n_candidates: int, parent: Any
    ) -> SearchCallbackContexts:
        """Return the subtasks of a task, numbered as scikit-learn numbers them."""
        n_splits = len(config.splits)
        contexts = {
            (candidate, split): parent.subcontext(
                task_name="candidate-split-evaluation", task_id=candidate * n_splits + split
            )
            for candidate in range(n_candidates)
            for split in range(n_splits)
        }
        return cls(search, config, contexts)

    def subset(self, keys: Iterable[CandidateSplit]) -> SearchCallbackContexts:
        """Return the contexts of a job."""
        return SearchCallbackContexts(
            self.search, self.config, {key: self.contexts[key] for key in keys}
        )

    def observe_stack(
        self, fits: Sequence[tuple[CandidateSplit, FitJob]], until: int | None
    ) -> EpochObserver:
        """Begin the tasks of a stack of fits, and return an observer of its epochs."""
        keys = [key for key, _ in fits]
        run, stack = fits[0][1].runs[0], self.contexts[keys[0]]
        stack.task_name = _stack_name(keys)
        n_epochs = until or run.config.max_iter
        stack.max_subtasks = None if run.config.is_lbfgs else n_epochs - run.n_done
        for key in keys:
            self._begin(key)
        return _StackObserver(self.search, stack)

    def end(self, key: CandidateSplit) -> None:
        """Call the hooks for the end of a fit, after it has been scored."""
        if key not in self._begun:  # the fit failed before training
            self._begin(key)
        self.contexts[key].call_on_fit_task_end(estimator=self.search, **self._data(key))

    def _begin(self, key: CandidateSplit) -> None:
        self._begun.add(key)
        self.contexts[key].call_on_fit_task_begin(estimator=self.search, **self._data(key))

    def _data(self, key: CandidateSplit) -> dict[str, Any]:
        """Return functions that make the data that hooks may ask for."""
        _, split = key

        def training_data(i: int) -> Any:
            return self.config.training_data(self.config.estimator, split)[i]

        def metadata() -> dict[str, Any] | None:
            weight = training_data(2).get("sample_weight")
            return None if weight is None else {"sample_weight": weight}

        return {"X": lambda: training_data(0), "y": lambda: training_data(1), "metadata": metadata}


def _stack_name(keys: Sequence[CandidateSplit]) -> str:
    """Return the name of a stack's task: its candidates and splits."""
    candidates, splits = (sorted(set(numbers)) for numbers in zip(*keys, strict=True))
    return f"{_format_numbers('candidate', candidates)}, {_format_numbers('split', splits)}, task"


def _format_numbers(noun: str, numbers: Sequence[int]) -> str:
    """Return numbers as ranges: "split 2", "candidates 0-2, 5"; or their count."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    if len(ranges) > _MAX_RANGES:
        return f"{len(numbers)} {noun}s"
    texts = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in ranges]
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(texts)}"


class _StackObserver(EpochObserver):
    """Call the hooks of a search's callbacks for the epochs of a stack."""

    def __init__(self, search: Any, stack: Any) -> None:
        self._search, self._stack = search, stack

    def on_epoch_begin(self, snapshots: RunSnapshots) -> None:
        """Call the hooks for the beginning of an epoch."""
        self._epoch = self._stack.subcontext(task_name="epoch")
        self._call(self._epoch.call_on_fit_task_begin)

    def on_epoch_end(self, snapshots: RunSnapshots) -> bool:
        """Call the hooks for the end of an epoch; return whether one stops the stack."""
        return bool(self._call(self._epoch.call_on_fit_task_end))

    def _call(self, hook: Callable[..., Any]) -> Any:
        try:
            return hook(estimator=self._search)
        except Exception as error:
            self.error = error
            raise
