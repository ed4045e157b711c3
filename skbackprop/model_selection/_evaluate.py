"""The evaluation of a search's candidates on its splits: which jobs there are, and their results.

Candidates that differ in what the members of a stack may differ in are trained together.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import clone, is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed

from ..training.blas_threads import threads_for_stacks
from ..training.config import TrainingConfig
from ..training.model_stacks import array_split, bytes_per_member, max_stack_size
from ..utils.equality import group_by_equality, is_equal
from ._callback_contexts import SearchCallbackContexts
from ._candidates import Candidate, EvaluationConfig
from ._jobs import BatchedFitJob, JobResult, Results, SingleFitJob
from ._pipeline_cache import TransformedSplit, fit_transformers
from ._round_budget import CandidateStates, RoundBudget

# The candidates of one split share the rows of every batch, which pays from about so many on.
_WORTH_A_SPLIT = 8

_PARTS_OF_PLANS = ("architecture", "initial", "loss", "solver", "schedule", "average", "stopping")

# What a stack's step costs beside its members, counted in members: that of 30-32-1 in batches
# of 32 takes 24 us and 4 us for each, and those of larger networks less of the former.
_OVERHEAD = 6


def evaluate(
    evaluation: EvaluationConfig,
    candidate_params: Iterable[dict[str, Any]],
    parallel: Parallel,
    followed: SearchCallbackContexts | None = None,
    legs: RoundBudget | None = None,
) -> JobResult:
    """Fit and score every candidate on every split.

    Parameters
    ----------
    evaluation : Evaluation
        What all candidates have in common.
    candidate_params : iterable of dict
        The parameters of each.
    parallel : Parallel
        What runs the jobs.
    followed : Followed or None, default=None
        What callbacks are told; None if there are none.
    legs : Legs or None, default=None
        What candidates go on from, and how far; None to train each as a whole.

    Returns
    -------
    done : Done
        The results, all splits of one candidate after the other; and how far who is to go on has
        come.
    """
    candidates = [
        Candidate(number, parameters, _with_parameters(evaluation.estimator, parameters))
        for number, parameters in enumerate(candidate_params)
    ]
    if legs is not None:
        for candidate in candidates:
            legs.prepare(candidate)
    if evaluation.verbose:
        _say_who_is_alone(candidates)
    splits = range(len(evaluation.splits))
    done = _done(
        evaluation,
        [SingleFitJob(c, split) for c in candidates if not c.is_network for split in splits],
        parallel,
        followed,
        legs,
    )
    networks = [candidate for candidate in candidates if candidate.is_network]
    for group in group_by_equality(networks, [c.settings_of_transformers for c in networks]):
        for part in _splits_at_once(evaluation, group[0].estimator):
            jobs = _jobs(evaluation, group, part, parallel)
            more = _done(evaluation, jobs, parallel, followed, legs)
            done.results.update(more.results)
            done.reached.update(more.reached)
    places = product(range(len(candidates)), splits)
    return done._replace(results={place: done.results[place] for place in places})


def _with_parameters(estimator: Any, parameters: dict[str, Any]) -> Any:
    return clone(estimator).set_params(**clone(parameters, safe=False))


def _say_who_is_alone(candidates: list[Candidate]) -> None:
    reasons = [candidate.unbatchable_reason for candidate in candidates]
    for reason in dict.fromkeys(filter(None, reasons)):
        n_alone = reasons.count(reason)
        print(f"{n_alone} of {len(candidates)} candidates are trained one by one: {reason}.")


def _done(
    evaluation: EvaluationConfig,
    jobs: Sequence[SingleFitJob | BatchedFitJob],
    parallel: Parallel,
    followed: SearchCallbackContexts | None,
    legs: RoundBudget | None,
) -> JobResult:
    """Run jobs, the costliest first, so that the workers end at about the same time."""
    jobs = sorted(jobs, key=lambda job: -job.cost)
    outcomes = parallel(
        delayed(_run)(
            job,
            evaluation,
            f"stack {i} of {len(jobs)}",
            followed and followed.at(job.places),
            legs and legs.at(job.places),
        )
        for i, job in enumerate(jobs, 1)
    )
    done = JobResult({}, CandidateStates())
    for outcome in outcomes:
        done.results.update(outcome.results)
        done.reached.update(outcome.reached)
    _warn_of_ours(jobs, done.results)
    return done


def _warn_of_ours(jobs: Sequence[SingleFitJob | BatchedFitJob], results: Results) -> None:
    """Say so where an error has kept candidates from a stack and their own fits have none."""
    errors = [
        job.error
        for job in jobs
        for place in job.places
        if job.error and results[place]["fit_error"] is None
    ]
    for error, n_fits in Counter(errors).items():
        warnings.warn(
            f"{n_fits} fits took place one by one or in smaller stacks, which is slower and does "
            f"not change results: to plan for more raises {error}. Please report this.",
            RuntimeWarning,
            stacklevel=2,
        )


def _run(
    job: SingleFitJob | BatchedFitJob,
    evaluation: EvaluationConfig,
    name: str,
    followed: SearchCallbackContexts | None,
    legs: RoundBudget | None,
) -> JobResult:
    return job.run(evaluation, name, followed, legs)


# ------------------------------------------------------------------------------ the stacks


def _splits_at_once(evaluation: EvaluationConfig, estimator: Any) -> Iterator[Sequence[int]]:
    """Yield the splits that are worked on at once: all, unless their transformed rows are many."""
    splits = range(len(evaluation.splits))
    n_at_once = len(splits)
    if isinstance(estimator, Pipeline):
        n_at_once = max(2, evaluation.max_bytes // max(1, 8 * getattr(evaluation.X, "size", 0)))
    yield from array_split(splits, -(-len(splits) // n_at_once))


def _jobs(
    evaluation: EvaluationConfig,
    candidates: list[Candidate],
    splits: Sequence[int],
    parallel: Parallel,
) -> Sequence[SingleFitJob | BatchedFitJob]:
    """Return the jobs of candidates with the same transformers, which are fitted here."""
    estimator, n_jobs = candidates[0].estimator, effective_n_jobs(parallel.n_jobs)
    if not isinstance(estimator, Pipeline):
        return _stacks(evaluation, candidates, splits, {}, n_jobs)
    found = parallel(
        delayed(fit_transformers)(evaluation, estimator, split, len(candidates)) for split in splits
    )
    by_split = dict(zip(splits, found, strict=True))
    fronts = {
        split: front for split, front in by_split.items() if isinstance(front, TransformedSplit)
    }
    alone = {split: error for split, error in by_split.items() if isinstance(error, str)}
    # A fit of the user's own may ask for the network that is not there.
    is_ours = type(estimator).fit is Pipeline.fit
    if alone and evaluation.verbose:
        print(
            f"{len(candidates)} candidates are trained one by one on {len(alone)} splits: their "
            "pipeline can't be fitted without its network."
        )
    stacks = _stacks(evaluation, candidates, list(fronts), fronts, n_jobs) if fronts else []
    each_alone = [
        SingleFitJob(candidate, split, error=error if is_ours else None)
        for split, error in alone.items()
        for candidate in candidates
    ]
    return [*each_alone, *stacks]


def _stacks(
    evaluation: EvaluationConfig,
    candidates: list[Candidate],
    splits: Sequence[int],
    fronts: dict[int, TransformedSplit],
    n_jobs: int,
) -> list[BatchedFitJob]:
    """Return the stacks of candidates, which are trained on what comes out of the fronts."""
    jobs = []
    X = fronts[splits[0]].X if fronts else evaluation.X
    n_threads = threads_for_stacks() if n_jobs == 1 else 1
    for group in group_by_equality(candidates, [c.shape for c in candidates]):
        _share_parts(group)
        each, size, error = _cost_and_size(evaluation, group[0].network, X)
        for tasks in _cut(group, splits, size * n_threads, n_jobs):
            own = {split: fronts[split] for _, split in tasks if split in fronts}
            jobs.append(BatchedFitJob(tasks, own, each * len(tasks), error))
    return jobs


def _share_parts(candidates: Sequence[Candidate]) -> None:
    """Let plans share the parts that are equal, so that later comparisons find the same object."""
    first = candidates[0].planned
    for candidate in candidates[1:]:
        own = candidate.planned
        if first is not None and own is not None:
            parts = {name: getattr(first.config, name) for name in _PARTS_OF_PLANS}
            same = {k: part for k, part in parts.items() if is_equal(part, getattr(own.config, k))}
            candidate.planned = own._replace(config=replace(own.config, **same))


def _cost_and_size(
    evaluation: EvaluationConfig, network: Any, X: Any
) -> tuple[float, int, str | None]:
    """Return about what a network costs, how many of it are to train at once, and any error."""
    try:
        return *_estimated_cost_and_size(evaluation, network, X), None
    except Exception as error:
        # Parameters or data are not valid, and fit will say what is wrong; if not, it is ours.
        return 0.0, 1, repr(error)


def _estimated_cost_and_size(
    evaluation: EvaluationConfig, network: Any, X: Any
) -> tuple[float, int]:
    n_rows, n_features = np.shape(X)
    config = network._plan_of(network._settings)
    layers = config.architecture.network(n_features, _n_outputs(network, config, evaluation.y))
    batch_size = min(config.batch_size, n_rows)
    dtype = config.dtype or getattr(X, "dtype", None)
    itemsize = 4 if dtype is not None and np.dtype(dtype) == np.float32 else 8
    of_network = layers, batch_size, itemsize
    each = bytes_per_member(*of_network, config.n_moments)
    size = max_stack_size(*of_network, n_rows, evaluation.max_bytes, config.n_moments)
    cost = each * config.n_estimators * n_rows / batch_size
    return cost, 1 if config.is_lbfgs else max(1, size // config.n_estimators)


def _n_outputs(network: Any, config: TrainingConfig, y: Any) -> int:
    y = y if hasattr(y, "shape") else np.asarray(y)
    n_columns = int(y.shape[1]) if len(y.shape) > 1 else 1
    if not is_classifier(network):
        return n_columns * config.loss.n_outputs_per_target
    n_classes = len(np.unique(y)) if len(y.shape) == 1 else n_columns
    return n_classes if n_classes > 2 or len(y.shape) > 1 else 1


def _cut(
    candidates: list[Candidate], splits: Sequence[int], size: int, n_jobs: int
) -> list[Sequence[tuple[Candidate, int]]]:
    """Return the members of each stack: of one split where that is worth it, else of several.

    There are as many stacks as keep all workers busy, where that does not make them too small.
    """
    n = len(candidates)
    if n >= _WORTH_A_SPLIT or size == 1:
        parts = array_split(candidates, -(-n // size))
        return _shared([[(c, split) for c in part] for split in splits for part in parts], n_jobs)
    tasks = [(candidate, split) for split in splits for candidate in candidates]
    n_stacks = -(-len(tasks) // size)
    n_stacks = min(len(tasks), -(-n_stacks // n_jobs) * n_jobs)
    return array_split(tasks, n_stacks)


def _shared(stacks: list[Sequence[Any]], n_jobs: int) -> list[Sequence[Any]]:
    """Return stacks of equal size, of which no worker gets more than the others.

    Those left over once each has as many are cut into parts, as many as end the soonest.
    """
    n_left = len(stacks) % n_jobs
    if not n_left:
        return stacks
    size = len(stacks[-1])
    duration = [
        -(-n_left * n_parts // n_jobs) * (_OVERHEAD + size / n_parts)
        for n_parts in range(1, size + 1)
    ]
    n_parts = 1 + int(np.argmin(duration))
    parts = [part for stack in stacks[-n_left:] for part in array_split(stack, n_parts)]
    return [*stacks[:-n_left], *parts]
