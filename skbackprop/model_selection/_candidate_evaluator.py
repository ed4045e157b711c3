"""Fit and score the candidates of a search, grouped into stacks of networks."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed

from .._sklearn import _insert_error_scores, _warn_or_raise_about_fit_failures, warn
from ..training.checkpoint import TrainingCheckpoint
from ..training.diagnostics import warning_kind
from ..training.parallelism import (
    array_split,
    bytes_per_member,
    max_stack_size,
    threads_for_stacks,
)
from ..utils.arrays import Array
from ..utils.equality import group_by_equality
from ._candidates import Candidate, CandidateSplit, CandidateStates, EvaluationConfig, RoundBudget
from ._fit_jobs import (
    BatchedFitJob,
    SearchCallbackContexts,
    SingleFitJob,
    TransformedSplit,
    fit_transformers,
)

# The candidates of one split share the rows of every batch. From about this many candidates on,
# that is faster than stacks over several splits.
_MIN_CANDIDATES_PER_SPLIT = 8


class CandidateEvaluator:
    """Fit and score candidates for a strategy, and collect their results.

    Parameters
    ----------
    search : BatchedSearchCV
        The search.
    config : EvaluationConfig
        What all candidates share, except for the splits.
    split_params : dict
        Further arguments of the splitter.
    parallel : Parallel
        The workers that run the jobs.

    Attributes
    ----------
    outcomes : list of dict
        The result of each candidate on each split.
    cv_results : dict of arrays
        The same results in the format of `cv_results_`.
    """

    def __init__(
        self,
        search: Any,
        config: EvaluationConfig,
        split_params: dict[str, Any],
        parallel: Parallel,
    ) -> None:
        self.search, self.config = search, config
        self.split_params, self.parallel = split_params, parallel
        self.candidate_params: list[dict[str, Any]] = []
        self.outcomes: list[dict[str, Any]] = []
        self.more_results: defaultdict[str, list[Any]] = defaultdict(list)
        self.cv_results: dict[str, Any] = {}
        self._states = CandidateStates()  # of the candidates of the last call

    def __call__(
        self,
        candidate_params: Iterable[dict[str, Any]],
        cv: Any = None,
        more_results: Mapping[str, Sequence[Any]] | None = None,
        callback_ctx: Any = None,
        budget: RoundBudget | None = None,
        survivors: Sequence[int] = (),
    ) -> dict[str, Any]:
        """Fit and score more candidates; return `cv_results_` of all so far.

        Parameters
        ----------
        candidate_params : iterable of dict
            The parameters of each candidate.
        cv : splitter, default=None
            The splitter, with as many splits as that of the search; None for that of the search.
        more_results : dict of sequence, default=None
            Further columns of `cv_results_`, with a value for each candidate.
        callback_ctx : CallbackContext, default=None
            The task of scikit-learn's callbacks that the fits are subtasks of.
        budget : RoundBudget, default=None
            The epochs of a round of successive halving; None to train each candidate to its end.
        survivors : sequence of int, default=()
            With a budget, the index of each candidate among those of the call before, from whose
            training states they resume.
        """
        search, candidate_params = self.search, list(candidate_params)
        self.config = config = replace(
            self.config, splits=self._make_splits(cv, len(candidate_params)), budget=budget
        )
        candidates = self._make_candidates(candidate_params)
        keys = [
            (candidate.number, split)
            for candidate in candidates
            for split in range(search.n_splits_)
        ]
        contexts = {}
        if callback_ctx is not None and (config.has_callbacks or hasattr(search, "_skl_callbacks")):
            contexts = {
                key: callback_ctx.subcontext(task_name="candidate-split-evaluation", task_id=i)
                for i, key in enumerate(keys)
            }
        states = {
            (new, split): self._states[old, split]
            for new, old in enumerate(survivors)
            for split in range(search.n_splits_)
            if (old, split) in self._states
        }
        results = self._run_jobs(candidates, contexts, states)
        outcomes = [results[key] for key in keys]
        n_restarts = sum(outcome.pop("starts_again", False) for outcome in outcomes)
        if n_restarts:
            warnings.warn(
                f"{n_restarts} fits started again from initial weights in this round, because the "
                "training rows have changed since the last round: a transformer draws random "
                "numbers. Set its random_state to an int.",
                UserWarning,
                stacklevel=2,
            )
        _warn_of_fits([outcome.pop("warnings", []) for outcome in outcomes])
        _warn_or_raise_about_fit_failures(outcomes, search.error_score)
        if callable(search.scoring):
            _insert_error_scores(outcomes, search.error_score)
        self.candidate_params += candidate_params
        self.outcomes += outcomes
        for name, values in (more_results or {}).items():
            self.more_results[name] += values
        self.cv_results = search._format_results(
            self.candidate_params, search.n_splits_, self.outcomes, self.more_results
        )
        return self.cv_results

    def _make_splits(self, cv: Any, n_candidates: int) -> list[tuple[Array, Array]]:
        """Return the training and test rows of each split."""
        search, config = self.search, self.config
        cv, n_splits = cv or search._checked_cv_orig, search.n_splits_
        splits = list(cv.split(config.X, config.y, **self.split_params))
        if len(splits) != n_splits:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. Expected "
                f"{n_splits} splits, got {len(splits)}"
            )
        if search.verbose:
            print(
                f"Fitting {n_splits} folds for each of {n_candidates} candidates, totalling "
                f"{n_candidates * n_splits} fits"
            )
        if not n_candidates * n_splits:
            raise ValueError(
                "No fits were performed. Was the CV iterator empty? Were there no candidates?"
            )
        return [(np.asarray(train), np.asarray(test)) for train, test in splits]

    def _make_candidates(self, candidate_params: Sequence[dict[str, Any]]) -> list[Candidate]:
        """Return the candidates, with the resources of the budget if there is one."""
        config, budget = self.config, self.config.budget
        candidates = [
            Candidate(
                number,
                parameters,
                clone(config.estimator).set_params(**clone(parameters, safe=False)),
                config.has_callbacks,
            )
            for number, parameters in enumerate(candidate_params)
        ]
        if budget is not None:
            for candidate in filter(budget.resumes, candidates):
                candidate.estimator.set_params(**{budget.resource: budget.n_epochs})
        if self.search.verbose:
            reasons = Counter(candidate.unbatchable_reason for candidate in candidates)
            for reason, n in reasons.items():
                if reason is not None:
                    print(f"{n} of {len(candidates)} candidates are trained one by one: {reason}.")
        return candidates

    def _run_jobs(
        self,
        candidates: Sequence[Candidate],
        contexts: Mapping[CandidateSplit, Any],
        states: Mapping[CandidateSplit, list[TrainingCheckpoint]],
    ) -> dict[CandidateSplit, dict[str, Any]]:
        """Return the results of all candidates, and keep their training states."""
        self._states = CandidateStates()
        results: dict[CandidateSplit, dict[str, Any]] = {}
        for jobs in self._iter_jobs(candidates):
            # The most expensive jobs first, so that all workers end at about the same time.
            jobs = sorted(jobs, key=lambda job: -job.cost)
            finished = self.parallel(
                delayed(job.run)(
                    self.config,
                    f"stack {i} of {len(jobs)}",
                    SearchCallbackContexts(
                        self.search, self.config, {key: contexts[key] for key in job.keys}
                    )
                    if contexts
                    else None,
                    CandidateStates({key: states[key] for key in job.keys if key in states}),
                )
                for i, job in enumerate(jobs, 1)
            )
            for job_results, job_states in finished:
                results.update(job_results)
                self._states.update(job_states)
        return results

    def _iter_jobs(
        self, candidates: Sequence[Candidate]
    ) -> Iterator[Sequence[SingleFitJob | BatchedFitJob]]:
        """Yield the jobs of single fits, then those of each setting of transformers.

        Transformed rows are only kept while the jobs that need them run.
        """
        config = self.config
        splits = range(len(config.splits))
        single = [candidate for candidate in candidates if candidate.single_fit_reason]
        yield [SingleFitJob(candidate, split) for candidate in single for split in splits]
        networks = [candidate for candidate in candidates if not candidate.single_fit_reason]
        for group in group_by_equality(networks, [c.transformer_parameters for c in networks]):
            if not group[0].step:
                yield self._make_stacks(group, splits, {})
                continue
            size = max(1, 8 * getattr(config.X, "size", 0))  # in bytes
            n_at_once = max(2, config.max_bytes // size)
            for part in array_split(splits, -(-len(splits) // n_at_once)):
                yield self._make_pipeline_jobs(group, part)

    def _make_pipeline_jobs(
        self, candidates: list[Candidate], splits: Sequence[int]
    ) -> Sequence[SingleFitJob | BatchedFitJob]:
        """Fit the transformers that candidates share; return the jobs of networks."""
        config, pipeline = self.config, candidates[0].estimator
        fitted = self.parallel(
            delayed(fit_transformers)(config, pipeline, split, len(candidates)) for split in splits
        )
        transformed = {
            split: data for split, data in zip(splits, fitted, strict=True) if data is not None
        }
        failed = [split for split in splits if split not in transformed]
        if failed and config.verbose:
            print(
                f"{len(candidates)} candidates are trained one by one on {len(failed)} splits: "
                "their pipeline cannot be fitted without its network."
            )
        jobs = [SingleFitJob(candidate, split) for split in failed for candidate in candidates]
        if not transformed:
            return jobs
        return [*jobs, *self._make_stacks(candidates, list(transformed), transformed)]

    def _make_stacks(
        self,
        candidates: list[Candidate],
        splits: Sequence[int],
        transformed: dict[int, TransformedSplit],
    ) -> list[BatchedFitJob]:
        """Return the jobs that train candidates of equal architecture as stacks."""
        n_jobs = effective_n_jobs(self.parallel.n_jobs)
        n_threads = threads_for_stacks() if n_jobs == 1 else 1
        X = transformed[splits[0]].X if transformed else self.config.X
        jobs = []
        for group in group_by_equality(candidates, [c.stacking_key for c in candidates]):
            for candidate in group[1:]:
                candidate.share_architecture_and_loss(group[0])
            try:
                cost, size = _cost_and_stack_size(self.config, group[0], X)
            except Exception:  # each fit of the group raises the same, and is scored error_score
                cost, size = 0.0, 1
            for tasks in _split_into_stacks(group, splits, size * n_threads, n_jobs):
                data = {split: transformed[split] for _, split in tasks if split in transformed}
                jobs.append(BatchedFitJob(tasks, data, cost * len(tasks)))
        return jobs


def _warn_of_fits(messages: Sequence[Sequence[str]]) -> None:
    """Issue the warnings about the training of each fit, one for those of a kind.

    It quotes the most frequent of them.
    """
    by_kind = defaultdict[str, list[str]](list)
    for own in messages:
        for kind, message in {warning_kind(message): message for message in own}.items():
            by_kind[kind].append(message)
    for alike in by_kind.values():
        (message, _), *others = Counter(alike).most_common()
        similar = " or a similar one" if others else ""
        text = f"{len(alike)} of {len(messages)} fits ended with this warning{similar}: {message}"
        warn(text, ConvergenceWarning)


def _cost_and_stack_size(
    config: EvaluationConfig, candidate: Candidate, X: Any
) -> tuple[float, int]:
    """Return the relative cost of a candidate, and the best size of a stack."""
    if candidate.validated_params is None:
        return 0.0, 1
    plan = candidate.validated_params.config
    n_rows, *row_shape = np.shape(X)
    y = config.y if hasattr(config.y, "shape") else np.asarray(config.y)
    is_column = len(y.shape) < 2
    n_outputs = 1 if is_column else int(y.shape[1])
    if not is_classifier(candidate.network):
        n_outputs *= plan.loss.n_outputs_per_target
    elif is_column:
        n_classes = len(np.unique(y))
        n_outputs = n_classes if n_classes > 2 else 1
    network = plan.architecture.network(tuple(row_shape), n_outputs)
    batch_size = min(plan.batch_size, n_rows)
    dtype = plan.dtype or getattr(X, "dtype", None)
    itemsize = 4 if dtype is not None and np.dtype(dtype) == np.float32 else 8
    each = bytes_per_member(network, batch_size, itemsize, plan.n_moments)
    size = max_stack_size(network, batch_size, itemsize, n_rows, config.max_bytes, plan.n_moments)
    cost = each * plan.n_estimators * n_rows / batch_size
    return cost, 1 if plan.is_lbfgs else max(1, size // plan.n_estimators)


def _split_into_stacks(
    candidates: list[Candidate], splits: Sequence[int], size: int, n_jobs: int
) -> list[Sequence[tuple[Candidate, int]]]:
    """Return the members of each stack, from one split if there are enough.

    There are enough stacks to keep all workers busy, unless that makes them too small.
    """
    n = len(candidates)
    if n >= _MIN_CANDIDATES_PER_SPLIT or size == 1:
        parts = array_split(candidates, -(-n // size))
        stacks: list[Sequence[Any]] = [
            [(c, split) for c in part] for split in splits for part in parts
        ]
        return _balance_stacks(stacks, n_jobs)
    tasks = [(candidate, split) for split in splits for candidate in candidates]
    n_stacks = -(-len(tasks) // size)
    n_stacks = min(len(tasks), -(-n_stacks // n_jobs) * n_jobs)
    return array_split(tasks, n_stacks)


def _balance_stacks(stacks: list[Sequence[Any]], n_jobs: int) -> list[Sequence[Any]]:
    """Split the last stacks, of which some workers would get none."""
    n_left = len(stacks) % n_jobs
    if not n_left:
        return stacks
    n_parts = min(n_jobs // n_left, len(stacks[-1]))
    parts = [part for stack in stacks[-n_left:] for part in array_split(stack, n_parts)]
    return [*stacks[:-n_left], *parts]
