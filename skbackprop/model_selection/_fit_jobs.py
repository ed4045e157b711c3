"""Jobs that workers of a search run: fit and score candidates, and call callbacks."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from .._sklearn import (
    _fit_and_score,
    _MultimetricScorer,
    _PassthroughScorer,
    _routing_enabled,
    _score,
    _Scorer,
)
from ..estimators._fit_many import FitJob, fit_many
from ..training.training_run import EpochObserver, RunSnapshots
from ._candidates import Candidate, CandidateSplit, CandidateStates, EvaluationConfig

Results: TypeAlias = dict[CandidateSplit, dict[str, Any]]
"""What scikit-learn's `_fit_and_score` returns, for each candidate on each split."""

# Seconds between two lines on the progress of a stack.
_SECONDS_BETWEEN_LINES = 5.0


@dataclass
class SingleFitJob:
    """Fit and score one candidate on one split by scikit-learn's `_fit_and_score`.

    Parameters
    ----------
    candidate : Candidate
        The candidate.
    split : int
        The number of the split.
    """

    candidate: Candidate
    split: int
    cost = np.inf  # unknown, so the job is run first

    @property
    def keys(self) -> Sequence[CandidateSplit]:
        """The numbers of the candidate and the split."""
        return [(self.candidate.number, self.split)]

    def run(
        self,
        config: EvaluationConfig,
        name: str,
        contexts: SearchCallbackContexts | None,
        states: CandidateStates,
    ) -> tuple[Results, CandidateStates]:
        """Fit and score the candidate; return the result and no training state."""
        train, test = config.splits[self.split]
        (key,) = self.keys
        callbacks = {}
        if contexts is not None:
            callbacks = {"caller": contexts.search, "callback_ctx": contexts.contexts[key]}
        result = _fit_and_score(
            clone(config.estimator),
            config.X,
            config.y,
            scorer=config.scorer,
            train=train,
            test=test,
            verbose=config.verbose,
            parameters=self.candidate.parameters,
            fit_params=config.fit_params,
            score_params=config.score_params,
            return_train_score=config.return_train_score,
            return_times=True,
            error_score=config.error_score,
            **callbacks,
        )
        return {key: result}, CandidateStates()


@dataclass
class BatchedFitJob:
    """Train candidates on splits as one stack, and score them one after the other.

    Parameters
    ----------
    tasks : sequence of (Candidate, int)
        Each candidate with the number of its split.
    transformed : dict of int to TransformedSplit
        The transformed training data of each split; empty for networks without transformers.
    cost : float
        The estimated cost, relative to other jobs.
    """

    tasks: Sequence[tuple[Candidate, int]]
    transformed: dict[int, TransformedSplit]
    cost: float

    @property
    def keys(self) -> Sequence[CandidateSplit]:
        """The numbers of each candidate and its split."""
        return [(candidate.number, split) for candidate, split in self.tasks]

    def run(
        self,
        config: EvaluationConfig,
        name: str,
        contexts: SearchCallbackContexts | None,
        states: CandidateStates,
    ) -> tuple[Results, CandidateStates]:
        """Fit and score the candidates; return results and states to resume from."""
        first, budget = self.tasks[0][0], config.budget
        pause_epoch = budget.pause_epoch if budget is not None and budget.resumes(first) else None
        data = dict(self.transformed)
        fits: dict[CandidateSplit, FitJob] = {}
        for (candidate, split), key in zip(self.tasks, self.keys, strict=True):
            if split not in data:
                data[split] = TransformedSplit(*config.training_data(candidate.estimator, split))
            # Training changes nothing but the random state. A clone would lose attributes that
            # set_params of a subclass has set beside the parameters.
            network = copy.copy(candidate.network)
            network.random_state = copy.deepcopy(network.random_state)
            X, y, fit_params = data[split].X, data[split].y, data[split].fit_params
            fits[key] = FitJob(network, X, y, fit_params, candidate.validated_params)
            if pause_epoch is not None:
                fits[key].start = states.get(key)
        progress = _StackProgress(name, config.verbose) if config.verbose else None
        make_observer = None
        if contexts is not None:

            def make_observer(stack: Sequence[FitJob]) -> EpochObserver:
                return contexts.observe_stack(
                    [(key, fit) for key, fit in fits.items() if fit in stack], pause_epoch
                )

        fit_many(list(fits.values()), config.max_bytes, progress, make_observer, pause_epoch)
        scorers = {
            split: SplitScorer(config, candidate.estimator, split, data[split])
            for candidate, split in self.tasks
        }
        results: Results = {}
        reached = CandidateStates()
        for (candidate, split), (key, fit) in zip(self.tasks, fits.items(), strict=True):
            if pause_epoch is not None:
                # As in the candidate's parameters, for scorers.
                fit.estimator.max_iter = pause_epoch
            results[key] = _fit_result(candidate, scorers[split], fit)
            if fit.checkpoints is not None:
                reached[key] = fit.checkpoints
            if contexts is not None:
                contexts.end(key)
        return results, reached


def _fit_result(candidate: Candidate, scorer: SplitScorer, fit: FitJob) -> dict[str, Any]:
    """Return times and scores of a candidate on a split, or the error of its fit."""
    config = scorer.config
    if fit.error is not None and config.error_score == "raise":
        raise fit.error
    result: dict[str, Any] = {
        "fit_error": fit.traceback,
        "fit_time": scorer.data.seconds + fit.seconds,
        "starts_again": fit.restarted,
        "warnings": [] if fit.error is not None else fit.warnings,
    }
    for name in ("test_scores", "train_scores")[: 1 + bool(config.return_train_score)]:
        start = time.perf_counter()
        if fit.error is None:
            result[name] = scorer.score(fit.estimator, on_train=name == "train_scores")
        elif isinstance(config.scorer, _MultimetricScorer):
            result[name] = dict.fromkeys(config.scorer._scorers, config.error_score)
        else:
            result[name] = config.error_score
        if name == "test_scores":
            result["score_time"] = time.perf_counter() - start
    if config.verbose > 1:
        _print_result(candidate, scorer.split, len(config.splits), result)
    return result


def _print_result(candidate: Candidate, split: int, n_splits: int, result: dict[str, Any]) -> None:
    """Print a line like scikit-learn's on a candidate that is fitted and scored."""
    parameters = sorted(candidate.parameters.items(), key=lambda item: item[0])
    settings = ", ".join(f"{name}={value}" for name, value in parameters)
    scores = result["test_scores"]
    by_name = scores if isinstance(scores, dict) else {"score": scores}
    formatted = ", ".join(f"{name}={by_name[name]:.3f}" for name in sorted(by_name))
    seconds = result["fit_time"] + result["score_time"]
    print(f"[CV {split + 1}/{n_splits}] END {settings}; {formatted} total time={seconds:.1f}s")


class _StackProgress:
    """Print the epochs of a stack and the networks left, every few seconds."""

    def __init__(self, name: str, verbose: int) -> None:
        self.name, self.verbose, self.last = name, verbose, time.perf_counter()

    def __call__(self, n_epochs: int, n_left: int, n_estimators: int) -> None:
        now = time.perf_counter()
        is_due = self.verbose > 2 or now - self.last > _SECONDS_BETWEEN_LINES
        if is_due or n_left == 0:
            self.last = now
            print(f"[{self.name}] epoch {n_epochs}, {n_left} of {n_estimators} networks left")
            sys.stdout.flush()  # a worker process does not flush by itself


# ------------------------------------------------------------- transformers of pipelines


@dataclass
class TransformedSplit:
    """Transformed training data of a split, and the pipeline that transformed it.

    Parameters
    ----------
    X, y : array-like
        The training rows, transformed.
    fit_params : dict
        Further arguments of the network's `fit`.
    pipeline : Pipeline or None, default=None
        The pipeline, fitted except for its last step; None for networks without a pipeline.
    seconds : float, default=0.0
        The time of the transformers, divided by the number of candidates that use them.
    """

    X: Any
    y: Any
    fit_params: dict[str, Any]
    pipeline: Any = None
    seconds: float = 0.0


class _CaptureFitArgs(BaseEstimator):
    """Last step of a pipeline that stores the arguments of `fit`."""

    def __init__(self, network: Any = None) -> None:
        self.network = network

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> _CaptureFitArgs:
        self.captured_ = X, y, fit_params
        return self

    def get_metadata_routing(self) -> Any:
        return get_routing_for_object(self.network)


def fit_transformers(
    config: EvaluationConfig, estimator: Pipeline, split: int, n_candidates: int
) -> TransformedSplit | None:
    """Fit the transformers of a pipeline to the training rows of a split.

    Parameters
    ----------
    config : EvaluationConfig
        The data and its splits.
    estimator : Pipeline
        The pipeline, which is not changed.
    split : int
        The number of the split.
    n_candidates : int
        The number of candidates that share the transformers.

    Returns
    -------
    transformed : TransformedSplit or None
        The transformed rows; None if the fit fails. A transformer may fail, and so may a subclass
        of Pipeline whose `fit` needs the network.
    """
    start = time.perf_counter()
    pipeline = clone(estimator)
    name, network = pipeline.steps[-1]
    capture = _CaptureFitArgs(network)
    pipeline.steps = [*pipeline.steps[:-1], (name, capture)]
    X, y, fit_params = config.training_data(estimator, split)
    try:
        pipeline.fit(X, y, **fit_params)
    except Exception:
        return None
    seconds = (time.perf_counter() - start) / n_candidates
    return TransformedSplit(*capture.captured_, pipeline, seconds)


class SplitScorer:
    """Scorer of the candidates of one split, which transforms the rows only once.

    scikit-learn's own scorers only ask an estimator for predictions, so they get the network and
    the transformed rows. Any other scorer gets the whole pipeline.

    Parameters
    ----------
    config : EvaluationConfig
        The data, its splits and the scorer.
    estimator : estimator
        One of the candidates.
    split : int
        The number of the split.
    data : TransformedSplit
        The training data of the networks.
    """

    def __init__(
        self, config: EvaluationConfig, estimator: Any, split: int, data: TransformedSplit
    ) -> None:
        self.config, self.estimator, self.split, self.data = config, estimator, split, data
        scorer = config.scorer
        scorers = scorer._scorers.values() if type(scorer) is _MultimetricScorer else [scorer]
        self._can_score_network = (
            type(data.pipeline) is Pipeline
            and not _routing_enabled()
            and all(type(each) in (_PassthroughScorer, _Scorer) for each in scorers)
        )
        self._rows: dict[bool, tuple[Any, Any, dict[str, Any], bool]] = {}

    def score(self, network: Any, *, on_train: bool) -> Any:
        """Return the score of a network on the test rows, or on the training rows."""
        config, pipeline = self.config, self.data.pipeline
        if on_train not in self._rows:
            X, y, params = config.scoring_data(self.estimator, self.split, on_train=on_train)
            is_transformed = pipeline is None
            if self._can_score_network and not params:
                with suppress(Exception):  # the score of each candidate raises the error
                    X, is_transformed = pipeline[:-1].transform(X), True
            self._rows[on_train] = X, y, params, is_transformed
        X, y, params, is_transformed = self._rows[on_train]
        estimator = network
        if not is_transformed:
            estimator = copy.copy(pipeline)
            estimator.steps = [*pipeline.steps[:-1], (pipeline.steps[-1][0], network)]
        return _score(estimator, X, y, config.scorer, params, config.error_score)


# ------------------------------------------------------------------------------- callbacks


@dataclass
class SearchCallbackContexts:
    """Callback context of each candidate on each split, as in scikit-learn.

    The context of the first fit of a stack stands for the stack: it has a subtask for each epoch,
    and its name has the number of fits, as in "stack of 6, task". Progress bars append the number
    of the task. The contexts of the other fits begin and end with the stack.

    Parameters
    ----------
    search : estimator
        The search that has the callbacks.
    config : EvaluationConfig
        What all candidates share.
    contexts : dict
        scikit-learn's context of each candidate on each split of a job.
    """

    search: Any
    config: EvaluationConfig
    contexts: dict[CandidateSplit, Any]
    _begun: set[CandidateSplit] = field(default_factory=set, init=False)

    def observe_stack(
        self, fits: Sequence[tuple[CandidateSplit, FitJob]], pause_epoch: int | None
    ) -> EpochObserver:
        """Begin the tasks of a stack of fits, and return an observer of its epochs."""
        keys = [key for key, _ in fits]
        run, stack = fits[0][1].runs[0], self.contexts[keys[0]]
        stack.task_name = f"stack of {len(keys)}, task"
        n_epochs = pause_epoch or run.config.max_iter
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
