"""Fit and score candidates on splits, grouped into stacks of networks."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from ..training.blas_threads import threads_for_stacks
from ..training.model_stacks import array_split, bytes_per_member, max_stack_size
from ..utils.equality import group_by_equality
from ._callback_contexts import SearchCallbackContexts
from ._candidates import Candidate, CandidateStates, EvaluationConfig
from ._jobs import BatchedFitJob, Results, SingleFitJob, TransformedSplit, fit_transformers

# The candidates of one split share the rows of every batch. From about this many candidates on,
# that is faster than stacks over several splits.
_MIN_CANDIDATES_PER_SPLIT = 8

# The fixed cost of a stack's step, in members: a step of 30-32-1 in batches of 32 takes 24 us and
# 4 us for each member. For larger networks the fixed cost is relatively smaller.
_FIXED_COST = 6


def evaluate_candidates(
    config: EvaluationConfig,
    candidate_params: Iterable[dict[str, Any]],
    parallel: Parallel,
    contexts: SearchCallbackContexts | None,
    states: CandidateStates,
) -> tuple[Results, CandidateStates]:
    """Fit and score every candidate on every split.

    Parameters
    ----------
    config : EvaluationConfig
        What all candidates share.
    candidate_params : iterable of dict
        The parameters of each candidate.
    parallel : Parallel
        The workers that run the jobs.
    contexts : SearchCallbackContexts or None
        The tasks that callbacks follow; None without callbacks.
    states : CandidateStates
        The states to resume training from; the others start from initial weights.

    Returns
    -------
    results : dict
        The results, ordered by candidate, then by split.
    reached : CandidateStates
        The states from which the next round of successive halving resumes.
    """
    candidates = [
        Candidate(
            number,
            parameters,
            clone(config.estimator).set_params(**clone(parameters, safe=False)),
            config.has_callbacks,
        )
        for number, parameters in enumerate(candidate_params)
    ]
    if (budget := config.budget) is not None:
        for candidate in filter(budget.applies_to, candidates):
            candidate.estimator.set_params(**{budget.resource: budget.n_epochs})
    if config.verbose:
        reasons = Counter(candidate.unbatchable_reason for candidate in candidates)
        for reason, n in reasons.items():
            if reason is not None:
                total = len(candidates)
                print(f"{n} of {total} candidates are trained one by one: {reason}.")
    results: Results = {}
    reached = CandidateStates()
    for jobs in _iter_jobs(config, candidates, parallel):
        # The most expensive jobs first, so that all workers end at about the same time.
        jobs = sorted(jobs, key=lambda job: -job.cost)
        outcomes = parallel(
            delayed(job.run)(
                config,
                f"stack {i} of {len(jobs)}",
                contexts and contexts.subset(job.keys),
                CandidateStates({key: states[key] for key in job.keys if key in states}),
            )
            for i, job in enumerate(jobs, 1)
        )
        for job_results, job_states in outcomes:
            results.update(job_results)
            reached.update(job_states)
        _warn_of_internal_errors(jobs, results)
    keys = product(range(len(candidates)), range(len(config.splits)))
    return {key: results[key] for key in keys}, reached


def _warn_of_internal_errors(
    jobs: Sequence[SingleFitJob | BatchedFitJob], results: Results
) -> None:
    """Warn of errors in planning stacks that the fits themselves do not raise."""
    errors = Counter(
        job.error
        for job in jobs
        for key in job.keys
        if job.error and results[key]["fit_error"] is None
    )
    for error, n_fits in errors.items():
        warnings.warn(
            f"{n_fits} fits were trained one by one or in smaller stacks, which is slower and does "
            f"not change results, because planning a larger stack raised {error}. Please report "
            "this.",
            RuntimeWarning,
            stacklevel=2,
        )


# ------------------------------------------------------------------------------ the stacks


def _iter_jobs(
    config: EvaluationConfig, candidates: Sequence[Candidate], parallel: Parallel
) -> Iterator[Sequence[SingleFitJob | BatchedFitJob]]:
    """Yield the jobs of single fits, then those of each setting of transformers.

    Transformed rows are only kept while the jobs that need them run.
    """
    splits = range(len(config.splits))
    single = [candidate for candidate in candidates if candidate.single_fit_reason]
    yield [SingleFitJob(candidate, split) for candidate in single for split in splits]
    networks = [candidate for candidate in candidates if not candidate.single_fit_reason]
    for group in group_by_equality(networks, [c.transformer_parameters for c in networks]):
        if not isinstance(group[0].estimator, Pipeline):
            yield _make_stacks(config, group, splits, {}, parallel)
            continue
        size = max(1, 8 * getattr(config.X, "size", 0))  # in bytes
        n_at_once = max(2, config.max_bytes // size)
        for part in array_split(splits, -(-len(splits) // n_at_once)):
            yield _make_pipeline_jobs(config, group, part, parallel)


def _make_pipeline_jobs(
    config: EvaluationConfig,
    candidates: list[Candidate],
    splits: Sequence[int],
    parallel: Parallel,
) -> Sequence[SingleFitJob | BatchedFitJob]:
    """Fit the transformers that candidates share; return the jobs of networks."""
    pipeline = candidates[0].estimator
    outcomes = parallel(
        delayed(fit_transformers)(config, pipeline, split, len(candidates)) for split in splits
    )
    transformed, errors = {}, {}
    for split, outcome in zip(splits, outcomes, strict=True):
        if isinstance(outcome, TransformedSplit):
            transformed[split] = outcome
        else:
            errors[split] = outcome
    if errors and config.verbose:
        print(
            f"{len(candidates)} candidates are trained one by one on {len(errors)} splits: their "
            "pipeline can't be fitted without its network."
        )
    # The fit of a subclass of Pipeline may need the network: then the error is expected.
    is_unexpected = type(pipeline).fit is Pipeline.fit
    single = [
        SingleFitJob(candidate, split, error if is_unexpected else None)
        for split, error in errors.items()
        for candidate in candidates
    ]
    if not transformed:
        return single
    return [*single, *_make_stacks(config, candidates, list(transformed), transformed, parallel)]


def _make_stacks(
    config: EvaluationConfig,
    candidates: list[Candidate],
    splits: Sequence[int],
    transformed: dict[int, TransformedSplit],
    parallel: Parallel,
) -> list[BatchedFitJob]:
    """Return the jobs that train candidates of equal architecture as stacks."""
    n_jobs = effective_n_jobs(parallel.n_jobs)
    n_threads = threads_for_stacks() if n_jobs == 1 else 1
    X = transformed[splits[0]].X if transformed else config.X
    jobs = []
    for group in group_by_equality(candidates, [c.stacking_key for c in candidates]):
        for candidate in group[1:]:
            candidate.share_equal_parts(group[0])
        error = None
        try:
            cost, size = _cost_and_stack_size(config, group[0], X)
        except Exception as problem:
            # Either fit raises an error about the data as well, or planning has a bug.
            cost, size, error = 0.0, 1, repr(problem)
        for tasks in _split_into_stacks(group, splits, size * n_threads, n_jobs):
            data = {split: transformed[split] for _, split in tasks if split in transformed}
            jobs.append(BatchedFitJob(tasks, data, cost * len(tasks), error))
    return jobs


def _cost_and_stack_size(
    config: EvaluationConfig, candidate: Candidate, X: Any
) -> tuple[float, int]:
    """Return the relative cost of a candidate, and the best size of a stack."""
    if candidate.validated_params is None:
        return 0.0, 1
    plan = candidate.validated_params.config
    n_rows, n_features = np.shape(X)
    y = config.y if hasattr(config.y, "shape") else np.asarray(config.y)
    is_column = len(y.shape) < 2
    n_outputs = 1 if is_column else int(y.shape[1])
    if not is_classifier(candidate.network):
        n_outputs *= plan.loss.n_outputs_per_target
    elif is_column:
        n_classes = len(np.unique(y))
        n_outputs = n_classes if n_classes > 2 else 1
    network = plan.architecture.network(n_features, n_outputs)
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
    size = len(stacks[-1])
    durations = [
        -(-n_left * n_parts // n_jobs) * (_FIXED_COST + size / n_parts)
        for n_parts in range(1, size + 1)
    ]
    n_parts = 1 + int(np.argmin(durations))
    parts = [part for stack in stacks[-n_left:] for part in array_split(stack, n_parts)]
    return [*stacks[:-n_left], *parts]
