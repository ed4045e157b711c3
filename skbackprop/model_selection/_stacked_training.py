"""Training of the candidates of a search in stacks of networks."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.parallel import Parallel, delayed

from .._sklearn import _safe_indexing
from ..estimators._checkpoint import compute_checksum
from ..estimators.base import BaseNeuralNetwork, PreparedFit
from ..nn.train_state import TrainState
from ..training.config import Config, is_lbfgs
from ..training.epochs import GetState
from ..training.train import OnEpoch, TrainingInterrupted, train
from ..utils.arrays import Array, count_rows
from ..utils.configurable import group_by_equality, is_equal
from ._stand_in import Candidate, TrainedEstimator, checksum_of_rows

# The candidates of one split share the rows of every batch. From about this many candidates on,
# that is faster than stacks over several splits.
_MIN_CANDIDATES_PER_SPLIT = 8

# If X has more bytes than these, a job holds one split at a time.
_MAX_BYTES_OF_SPLITS = 1 << 26

# The memory that a stack may take, in bytes. It only matters for members that visit their rows in
# different orders: each then has a copy of the next rows.
_MAX_STACK_BYTES = 1 << 28

# Parameters that affect the validation of data.
_VALIDATION_PARAMETERS = ("dtype", "loss", "scale_target", "class_weight", "layers", "input_shape")

# Seconds between two lines on the progress of a stack.
_SECONDS_BETWEEN_LINES = 5.0


@dataclass(eq=False)
class StackMember:
    """A candidate on one split, whose network can train in a stack.

    Parameters
    ----------
    number : int
        The index of the candidate.
    estimator : estimator
        The estimator with the parameters of the candidate, not fitted.
    config : Config
        The validated parameters of its network.
    transformer_params : dict
        The searched parameters of the transformers before the network.
    split : int
        The index of the split.
    train : array
        The training rows of the split.
    source : TrainedEstimator or None
        The result of the last round, from which training resumes.
    stack : int, default=0
        A number that is the same for candidates whose networks may train in one stack.
    """

    number: int
    estimator: Any
    config: Config
    transformer_params: dict[str, Any]
    split: int
    train: Array
    source: TrainedEstimator | None
    stack: int = 0


@dataclass(eq=False)
class TrainingSplitter:
    """Splitter that trains the candidates of a search when scikit-learn asks for the splits.

    Parameters
    ----------
    search : estimator
        The search over stand-ins.
    splitter : splitter
        The splitter of the search.
    candidates : list of Candidate
        The candidates, which get their trained estimators.
    fit_params : dict
        Further arguments of the estimator's `fit`, with the indices of all ``rows``.
    backend : ParallelBackendBase
        The backend of joblib that trains.
    pause_epoch, last_epoch : int or None
        In successive halving, the epoch at which training pauses in this round, and the number of
        epochs of the last round, towards which schedules count their progress. Training resumes
        from the states of the round before. None to train to the end.
    """

    search: Any
    splitter: Any
    candidates: list[Candidate]
    fit_params: dict[str, Any]
    backend: Any
    pause_epoch: int | None
    last_epoch: int | None

    def split(self, X: Any, y: Any = None, **params: Any) -> list[tuple[Array, Array]]:
        """Return the splits, after the candidates have been trained on them."""
        n_jobs, verbose = effective_n_jobs(self.search.n_jobs), self.search.verbose
        splits = [(np.asarray(train), test) for train, test in self.splitter.split(X, y, **params)]
        for candidate in self.candidates:
            candidate.estimators = candidate.estimators or [None] * len(splits)
        members = self._make_members([train for train, _ in splits])
        if verbose:
            print(f"{len(members)} of {len(self.candidates)} candidates train in stacks.")
        is_large = getattr(X, "nbytes", 0) > _MAX_BYTES_OF_SPLITS
        jobs = divide_into_jobs(members, n_jobs, is_large)
        results = Parallel(n_jobs, self.backend)(
            delayed(train_job)(job, X, y, self.fit_params, self.pause_epoch, verbose)
            for job in jobs
        )
        for job, job_results in zip(jobs, results, strict=True):
            for member, result in zip(job, job_results, strict=True):
                self.candidates[member.number].estimators[member.split] = result
        return splits

    def _make_members(self, trains: Sequence[Array]) -> list[list[StackMember]]:
        """Return the candidates that can train in a stack, each on all splits."""
        members, unfitted = [], self.search.estimator.estimator
        for number, candidate in enumerate(self.candidates):
            estimator = clone(unfitted).set_params(**clone(dict(candidate), safe=False))
            network = get_network(estimator)
            if not can_stack(estimator) or (self.last_epoch and is_lbfgs(network.solver)):
                continue
            network.max_iter = self.last_epoch or network.max_iter
            try:
                config = network._validated_config(network._get_init_params(), False, False)
            except Exception:  # scikit-learn reports the error in its own fit
                continue
            prefix = get_prefix(estimator)
            transformer_params = {
                name: value
                for name, value in candidate.items()
                if not f"{name}__".startswith(prefix)
            }
            members.append(
                [
                    StackMember(number, estimator, config, transformer_params, split, train, item)
                    for split, (train, item) in enumerate(
                        zip(trains, candidate.estimators, strict=True)
                    )
                ]
            )
        keys = [
            [type(get_network(item[0].estimator)), *item[0].config.stacking_key] for item in members
        ]
        for stack, group in enumerate(group_by_equality(members, keys)):
            for splits in group:
                for member in splits:
                    member.stack = stack
        return members


def get_network(estimator: Any) -> Any:
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def get_prefix(estimator: Any) -> str:
    """Return the prefix of the names of a network's parameters, empty without a pipeline."""
    return f"{estimator.steps[-1][0]}__" if isinstance(estimator, Pipeline) else ""


def with_network(estimator: Any, network: Any) -> Any:
    """Return a copy of a pipeline with another last step; the network itself without a pipeline."""
    if not isinstance(estimator, Pipeline):
        return network
    pipeline = copy.copy(estimator)
    pipeline.steps = [*estimator.steps[:-1], (estimator.steps[-1][0], network)]
    return pipeline


def has_callbacks(estimator: Any) -> bool:
    """Return whether an estimator, or the last step of a pipeline, has callbacks."""
    return any(hasattr(part, "_skl_callbacks") for part in (estimator, get_network(estimator)))


def can_stack(estimator: Any) -> bool:
    """Return whether an estimator can be trained with others.

    Estimators with callbacks, with a `fit` of a subclass, or with kernel matrices, which are split
    by rows and columns, are fitted by scikit-learn.
    """
    network = get_network(estimator)
    return (
        isinstance(network, BaseNeuralNetwork)
        and type(network).fit.__module__.startswith("skbackprop.")
        and not has_callbacks(estimator)
        and not get_tags(estimator).input_tags.pairwise
    )


def divide_into_jobs(candidates: Any, n_jobs: int, is_large: bool) -> list[list[StackMember]]:
    """Return jobs: lists of members with equal transformers, which are trained at once.

    Candidates of one architecture are neighbors. If there are many of them, or the data is large,
    each split has its own job. The last jobs are divided among workers that would have no job.
    """
    jobs: list[Any] = []
    for group in group_by_equality(candidates, [item[0].transformer_params for item in candidates]):
        group.sort(key=lambda item: item[0].stack)
        n_stacks, all_splits = len({item[0].stack for item in group}), range(len(group[0]))
        is_single = is_large or len(group) >= _MIN_CANDIDATES_PER_SPLIT * n_stacks
        for splits in [[split] for split in all_splits] if is_single else [all_splits]:
            jobs.append([item[split] for split in splits for item in group])
    if n_left := len(jobs) % n_jobs:
        n_parts = n_jobs // n_left
        parts = [
            np.array_split(np.arange(len(job)), min(len(job), n_parts)) for job in jobs[-n_left:]
        ]
        jobs[-n_left:] = [
            [job[i] for i in part]
            for job, job_parts in zip(jobs[-n_left:], parts, strict=True)
            for part in job_parts
        ]
    return jobs


def train_job(
    members: Sequence[StackMember],
    X: Any,
    y: Any,
    fit_params: dict[str, Any],
    pause_epoch: int | None,
    verbose: int,
) -> list[TrainedEstimator | None]:
    """Train candidates with equal transformers; return None for those that could not be trained.

    Parameters
    ----------
    members : sequence of StackMember
        The candidates.
    X, y : array-like
        All data.
    fit_params : dict
        Further arguments of `fit`, with the indices of all ``rows``.
    pause_epoch : int or None
        The epoch after which training pauses; None to train to the end.
    verbose : int
        Whether to print the progress.
    """
    data: dict[int, Any] = {}
    fits: list[StackedFit] = []
    for member in members:
        if member.split not in data:
            data[member.split] = fit_transformers(member, X, y, fit_params)
        if data[member.split] is not None and (fit := prepare_fit(member, data, fits)):
            fits.append(fit)
    stacks: dict[tuple[Any, ...], list[StackedFit]] = {}
    for fit in fits:
        stacks.setdefault(fit.stacking_key, []).append(fit)
    for group in stacks.values():
        train_stack(group, pause_epoch, make_progress_report(len(group)) if verbose else None)
    results: dict[StackMember, TrainedEstimator | None] = dict.fromkeys(members)
    for fit in fits:
        if fit.is_fitted:
            # Scorers read the number of epochs from max_iter.
            fit.network.max_iter = pause_epoch or fit.network.max_iter
            checksum, pipeline, _ = data[fit.member.split]
            estimator = with_network(pipeline, fit.network)
            results[fit.member] = TrainedEstimator(checksum, fit.seconds, estimator, fit.resumable)
    return list(results.values())


@dataclass(eq=False)
class StackedFit:
    """A network of a candidate, which trains in a stack with others.

    Parameters
    ----------
    member : StackMember
        The candidate on a split.
    network : BaseNeuralNetwork
        Its network.
    arguments : dict
        The arguments of the network's `fit`.
    task : PreparedFit
        The validated data, and the state that training starts from.
    seconds : float
        The time of the fit so far.
    is_fitted : bool, default=False
        Whether the network is fitted.
    resumable : tuple of (int, TrainState) or None, default=None
        A checksum of the data, and the state to resume training from after a pause.
    """

    member: StackMember
    network: BaseNeuralNetwork
    arguments: dict[str, Any]
    task: PreparedFit
    seconds: float
    is_fitted: bool = False
    resumable: tuple[int, TrainState] | None = None

    @property
    def stacking_key(self) -> tuple[Any, ...]:
        """The parameters, shapes and kind of data that the networks of a stack have in common."""
        task, state = self.task, self.task.state
        data_key = (
            task.row_shape,
            task.rows.y.shape[1],
            task.rows.is_sparse,
            task.rows.weight is None,
        )
        return (
            self.member.stack,
            type(task.targets),
            *data_key,
            state.parameters.dtype,
            int(state.epoch[0, 0]),
        )

    @property
    def checksum(self) -> int:
        """A checksum of the data, to recognize equal data."""
        parts = self.task.rows.X, self.task.rows.y, self.task.rows.weight
        return compute_checksum([part for part in parts if part is not None])

    def finish(self, state: TrainState, seconds: float, *, pauses: bool) -> None:
        """Set the fitted attributes, and keep the state if training only pauses."""
        start = time.perf_counter()
        try:
            if pauses:
                self.resumable = self.checksum, state.copy().with_own_random_states()
            self.network._set_fitted(self.task, state)
            self.is_fitted = True
        except Exception:  # scikit-learn reports the error in its own fit
            self.resumable = None
        self.seconds += seconds + time.perf_counter() - start


def prepare_fit(
    member: StackMember, data: dict[int, Any], previous_fits: Sequence[StackedFit]
) -> StackedFit | None:
    """Return the fit of a candidate's network; None if its parameters or data are invalid.

    It shares the validated data of `previous_fits` where the data is the same.
    """
    start = time.perf_counter()
    # A shallow copy is enough, because training only changes the random state. A clone would lose
    # attributes that the set_params of a subclass has set beside the parameters.
    network = copy.copy(get_network(member.estimator))
    network.random_state = copy.deepcopy(network.random_state)
    if network.random_state is None:  # candidates must not share NumPy's global stream
        network.random_state = np.random.RandomState(np.random.randint(np.iinfo(np.int32).max))
    arguments = data[member.split][-1]
    tasks = (
        item.task
        for item in previous_fits
        if item.arguments is arguments
        and type(item.network) is type(network)
        and all(
            is_equal(getattr(item.network, name, None), getattr(network, name, None))
            for name in _VALIDATION_PARAMETERS
        )
    )
    try:
        task = network._prepare(
            arguments["X"],
            arguments["y"],
            **arguments["fit_params"],
            like=next(tasks, None),
            config=member.config,
        )
    except Exception:  # scikit-learn reports the error in its own fit
        return None
    if get_network(member.estimator).random_state is None:
        network.random_state = None
    fit = StackedFit(member, network, arguments, task, time.perf_counter() - start)
    if member.source is not None and (snapshot := member.source.load("resumable")) is not None:
        checksum, state = snapshot
        if checksum == fit.checksum:
            task.resume(state)
    return fit


def train_stack(
    fits: Sequence[StackedFit], pause_epoch: int | None, on_epoch: OnEpoch | None
) -> None:
    """Train networks that have the same `stacking_key`, and set their fitted attributes.

    If training fails, no network is fitted, and there is a RuntimeWarning. A user-defined part of a
    network may fail, or may support only single networks.
    """
    task, start = fits[0].task, time.perf_counter()
    sizes = [len(fit.task.state) for fit in fits]
    epochs = [fit.task.state.epoch.sum() for fit in fits]
    try:
        state = train(
            task.training_network,
            task.targets.loss,
            [fit.task.config for fit, n in zip(fits, sizes, strict=True) for _ in range(n)],
            [fit.task.rows for fit, n in zip(fits, sizes, strict=True) for _ in range(n)],
            [part for fit in fits for part in fit.task.validation],
            TrainState.concat([fit.task.state for fit in fits]),
            on_epoch,
            pause_epoch,
            _MAX_STACK_BYTES,
        )
    except TrainingInterrupted as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        warnings.warn(
            f"{len(fits)} estimators are trained one by one, which is slower but gives the same "
            f"results: training them together raised {error!r}. Custom layers, losses and other "
            "objects must accept arrays with the member axis first. If you use none, please report "
            "this.",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    seconds = time.perf_counter() - start
    ends = np.cumsum(sizes).tolist()
    parts = [state.take(slice(end - n, end)) for end, n in zip(ends, sizes, strict=True)]
    n_epochs = [part.epoch.sum() - n for part, n in zip(parts, epochs, strict=True)]
    for fit, part, n in zip(fits, parts, n_epochs, strict=True):
        share = n / sum(n_epochs) if sum(n_epochs) else 1 / len(fits)
        fit.finish(part, float(seconds * share), pauses=pause_epoch is not None)


def fit_transformers(
    member: StackMember, X: Any, y: Any, fit_params: dict[str, Any]
) -> tuple[int, Any, dict[str, Any]] | None:
    """Fit the transformers of a member's pipeline, if it is one, to its training rows.

    Returns
    -------
    checksum : int
        The `checksum_of_rows` of the training rows.
    estimator : estimator
        The pipeline, fitted except for its network.
    arguments : dict
        The arguments of the network's `fit`: X, y and fit_params.

    Notes
    -----
    The function returns None if `fit` fails: a transformer may raise an error, and a subclass of
    Pipeline may need its network. scikit-learn then fits the candidate as a whole.
    """
    n_rows = len(fit_params["rows"])
    params = {
        name: _safe_indexing(value, member.train) if count_rows(value) == n_rows else value
        for name, value in fit_params.items()
    }
    checksum = checksum_of_rows(params.pop("rows"))
    X, y = (data if data is None else _safe_indexing(data, member.train) for data in (X, y))
    recorder = _ArgumentRecorder(get_network(member.estimator))
    estimator = with_network(clone(member.estimator), recorder)
    try:
        estimator.fit(X, y, **params)
    except Exception:
        return None
    return checksum, estimator, recorder.arguments_


class _ArgumentRecorder(BaseEstimator):
    """Last step of a pipeline that stores the arguments of `fit`."""

    def __init__(self, network: Any = None) -> None:
        self.network = network

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> _ArgumentRecorder:
        self.arguments_ = {"X": X, "y": y, "fit_params": fit_params}
        return self

    def get_metadata_routing(self) -> Any:
        return get_routing_for_object(self.network)


def make_progress_report(n_networks: int) -> OnEpoch:
    """Return a function that prints the epochs of a stack and the networks left.

    It prints every few seconds, and when a stack ends.
    """
    last_time = time.perf_counter()

    def report(get_state: GetState) -> bool:
        nonlocal last_time
        current_time = time.perf_counter()
        state = get_state()
        n_left = state.stop_reason.count("")
        if n_left == 0 or current_time - last_time > _SECONDS_BETWEEN_LINES:
            last_time = current_time
            # A worker process does not flush by itself.
            n_epochs = int(state.epoch.max())
            print(f"epoch {n_epochs}, {n_left} of {n_networks} networks left", flush=True)
        return False

    return report
