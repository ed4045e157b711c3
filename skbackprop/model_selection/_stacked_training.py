"""Training of the candidates of a search in stacks of networks."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
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
from ..estimators._validation import shallow_copy
from ..estimators.base import BaseNeuralNetwork
from ..training.config import Config, is_lbfgs
from ..training.epochs import GetState
from ..training.model import Model
from ..training.problem import Problem
from ..training.start import Fresh, start_model
from ..training.train import OnEpoch, TrainingInterrupted, train
from ..utils.arrays import Array, count_rows
from ..utils.configurable import number_by_equality
from ._stand_in import Candidate, RepeatedTransform, TrainedEstimator

# The candidates of one split share the rows of every batch. From about this many candidates on,
# that is faster than stacks over several splits.
_MIN_CANDIDATES_PER_SPLIT = 8

# If X has more bytes than these, a job holds one split at a time.
_MAX_BYTES_OF_SPLITS = 1 << 26

# The parameters that affect the validation of data, and those that affect the first state of
# networks of one stack.
_DATA_SETTINGS = ("dtype", "loss", "scale_target", "class_weight", "layers", "input_shape")
_START_SETTINGS = ("init", "class_weight", "solver", "learning_rate", "average")

# The arguments of `fit` with which candidates can train in stacks.
_FIT_ARGUMENTS = {"X", "y", "sample_weight", "X_val", "y_val", "sample_weight_val", "groups"}

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
        The estimator with the parameters of the candidate, not fitted before the end of training.
    config : Config
        The validated parameters of its network.
    rows : array
        The training rows of the split.
    checksum : int
        Their checksum.
    source : TrainedEstimator or None
        The result of the last round, from which training resumes.
    transformers, stack, data, start : int
        Numbers that are equal for candidates with equal settings of the transformers, of what the
        networks of a stack have in common, of the validation of data, and of the first state of the
        networks of a stack.
    problem, model : Problem and Model, or None, default=None
        The data and the network, from `prepare_fit` to the end of training.
    seconds : float, default=0.0
        The time of `prepare_fit`.
    result : TrainedEstimator or None, default=None
        The estimator after training; None if it could not be trained.
    """

    number: int
    estimator: Any
    config: Config
    rows: Array
    checksum: int
    source: TrainedEstimator | None
    transformers: int
    stack: int
    data: int
    start: int
    problem: Any = None
    model: Any = None
    seconds: float = 0.0
    result: TrainedEstimator | None = None

    @property
    def stacking_key(self) -> tuple[Any, ...]:
        """The parameters, shapes and kind of data that the networks of a stack have in common."""
        rows = self.problem.rows
        state = self.model.state
        return (
            self.stack,
            self.problem.row_shape,
            rows.y.shape[1],
            rows.is_sparse,
            rows.n_weights,
            type(self.problem.targets),
            state.parameters.dtype,
            int(state.epoch[0, 0]),
        )

    def finish(self, model: Model, seconds: float, pause_epoch: int | None) -> None:
        """Set the trained model, and keep its state if training only pauses."""
        start = time.perf_counter()
        network = get_network(self.estimator)
        resumable = None
        try:
            if pause_epoch is not None:
                own_state = model.state.copy().with_own_random_states()
                resumable = (compute_checksum(self.problem.data), own_state)
                network.max_iter = pause_epoch  # scorers read the number of epochs from it
            network._set_trained(self.problem, model)
        except Exception:  # scikit-learn reports the error in its own fit
            return
        seconds += self.seconds + time.perf_counter() - start
        self.problem = None
        self.model = None
        self.result = TrainedEstimator(seconds, self.estimator, resumable)


def train_candidates(
    search: Any,
    candidates: Sequence[Candidate],
    trains: Mapping[int, Array],
    X: Any,
    y: Any,
    fit_params: dict[str, Any],
    backend: Any,
) -> None:
    """Train the candidates of a search in stacks, and give them the trained estimators.

    Parameters
    ----------
    search : estimator
        The search over stand-ins. In successive halving, its `_last_epochs` are the epoch at which
        training pauses in this round, and the number of epochs of the last round, towards which
        schedules count their progress. Training resumes from the states of the round before.
    candidates : sequence of Candidate
        The candidates.
    trains : dict
        The training rows of each split, by their checksum.
    X, y : array-like
        All data.
    fit_params : dict
        Further arguments of the estimator's `fit`.
    backend : ParallelBackendBase
        The backend of joblib that trains.
    """
    n_jobs, verbose = effective_n_jobs(search.n_jobs), search.verbose
    pause_epoch, last_epoch = search._last_epochs
    members = make_members(search.estimator.estimator, candidates, trains, last_epoch)
    if verbose:
        print(f"{len(members)} of {len(candidates)} candidates train in stacks.")
    jobs = divide_into_jobs(members, n_jobs, getattr(X, "nbytes", 0) > _MAX_BYTES_OF_SPLITS)
    results = Parallel(n_jobs, backend)(
        delayed(train_job)(job, X, y, fit_params, pause_epoch, verbose) for job in jobs
    )
    for candidate in candidates:
        candidate.estimators = {}
    for member, result in zip(chain(*jobs), chain(*results), strict=True):
        if result is not None:
            candidates[member.number].estimators[member.checksum] = result


def make_members(
    unfitted: Any,
    candidates: Sequence[Candidate],
    trains: Mapping[int, Array],
    last_epoch: int | None,
) -> list[list[StackMember]]:
    """Return the candidates that can train in a stack, each on all splits."""
    parts: list[tuple[int, Any, Config]] = []
    keys: list[tuple[list[Any], ...]] = []
    prefix = get_prefix(unfitted)
    for number, candidate in enumerate(candidates):
        settings = clone(dict(candidate), safe=False)
        if all(name.startswith(prefix) for name in settings):  # the transformers are cloned later
            network = clone(get_network(unfitted))
            network.set_params(**{name.removeprefix(prefix): settings[name] for name in settings})
            estimator = with_network(unfitted, network)
        else:
            check_step_names(unfitted, settings)
            estimator = clone(unfitted).set_params(**settings)
            network = get_network(estimator)
        if not can_stack(estimator) or (last_epoch and is_lbfgs(network.solver)):
            continue
        network.max_iter = last_epoch or network.max_iter
        if network.random_state is None:  # candidates must not share NumPy's global stream
            network.random_state = np.random.randint(np.iinfo(np.int32).max)
        try:
            config = network._validate_config(network._get_init_params(), Fresh(None))
        except Exception:  # scikit-learn reports the error in its own fit
            continue
        parts.append((number, estimator, config))
        transformer_settings = [
            item for item in candidate.items() if not f"{item[0]}__".startswith(prefix)
        ]
        held_out_key = None if config.early_stopping is None else number  # it draws held-out rows
        keys.append(
            (
                transformer_settings,
                [type(network), *config.stacking_key],
                [type(network), *attrgetter(*_DATA_SETTINGS)(config)],
                [held_out_key, network.random_state, *attrgetter(*_START_SETTINGS)(config)],
            )
        )
    numbers = zip(*map(number_by_equality, zip(*keys, strict=True)), strict=True)
    members: list[list[StackMember]] = []
    for part, part_numbers in zip(parts, numbers, strict=True):
        members.append([])
        for checksum, rows in trains.items():
            source = candidates[part[0]].estimators.get(checksum)
            members[-1].append(StackMember(*part, rows, checksum, source, *part_numbers))
    return members


def check_step_names(pipeline: Pipeline, names: Iterable[str]) -> None:
    """Raise a ValueError if a parameter of a step has another prefix than the step's name."""
    valid = pipeline.get_params()
    for name in names:
        step, _, setting = name.partition("__")
        meant = [full for full in valid if full.endswith(f"__{setting or step}")]
        if step not in valid and meant:
            raise ValueError(
                f"Invalid parameter {name!r} for a pipeline of the steps {[*pipeline.named_steps]}."
                f" Did you mean {meant[0]!r}?"
            )


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


def divide_into_jobs(
    candidates: Sequence[list[StackMember]], n_jobs: int, is_large: bool
) -> list[list[StackMember]]:
    """Return jobs: lists of members with equal transformers, which are trained at once.

    Candidates of one architecture are neighbors. If there are many of them, or the data is large,
    each split has its own job. The last jobs are divided among workers that would have no job.
    """
    groups: dict[int, list[list[StackMember]]] = {}
    for members in sorted(candidates, key=lambda members: members[0].stack):
        groups.setdefault(members[0].transformers, []).append(members)
    jobs: list[list[StackMember]] = []
    for group in groups.values():
        n_stacks = len({members[0].stack for members in group})
        if is_large or len(group) >= _MIN_CANDIDATES_PER_SPLIT * n_stacks:
            jobs += map(list, zip(*group, strict=True))
        else:
            jobs.append([*chain(*zip(*group, strict=True))])
    n_last = len(jobs) % n_jobs
    last_jobs, jobs = jobs[len(jobs) - n_last :], jobs[: len(jobs) - n_last]
    for job in last_jobs:
        n_parts = min(len(job), n_jobs // n_last)
        jobs += [part.tolist() for part in np.array_split(np.array(job), n_parts)]
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
        Further arguments of `fit`.
    pause_epoch : int or None
        The epoch after which training pauses; None to train to the end.
    verbose : int
        Whether to print the progress.
    """
    splits: dict[int, Any] = {}
    starts: dict[tuple[int, ...], tuple[Problem, Model]] = {}
    stacks: dict[tuple[Any, ...], list[StackMember]] = {}
    for member in members:
        if member.checksum not in splits:
            splits[member.checksum] = fit_transformers(member, X, y, fit_params)
        split = splits[member.checksum]
        if split is not None and prepare_fit(member, starts, *split):
            stacks.setdefault(member.stacking_key, []).append(member)
    for stack in stacks.values():
        train_stack(stack, pause_epoch, make_progress_report(len(stack)) if verbose else None)
    return [member.result for member in members]


def prepare_fit(
    member: StackMember,
    starts: dict[tuple[int, ...], tuple[Problem, Model]],
    pipeline: Any,
    arguments: dict[str, Any],
) -> bool:
    """Prepare the fit of a candidate's network; return whether its parameters and data are valid.

    Parameters
    ----------
    member : StackMember
        The candidate on a split.
    starts : dict
        The data and the network of the first candidate on each split with equal settings of the
        data, and with equal settings of the start. Other candidates share them.
    pipeline, arguments
        The results of `fit_transformers` on this split.
    """
    start = time.perf_counter()
    # A shallow copy is enough, because training only changes the random state. A clone would lose
    # attributes that the set_params of a subclass has set beside the parameters.
    network = shallow_copy(get_network(member.estimator))
    data_key = member.checksum, member.data
    start_key = (*data_key, member.stack, member.start)
    try:
        if start_key in starts:
            problem, model = starts[start_key]
            model = replace(model, params=network._get_init_params(), config=member.config)
        else:
            network.random_state = copy.deepcopy(network.random_state)
            problem, model = _start(network, member.config, arguments, starts.get(data_key))
            starts[start_key] = (problem, model)
            starts.setdefault(data_key, (problem, model))
    except Exception:  # scikit-learn reports the error in its own fit
        return False
    if member.source is not None and (snapshot := member.source.load("resumable")) is not None:
        last_checksum, state = snapshot
        if last_checksum == compute_checksum(problem.data):
            model = replace(model, state=state)
    member.estimator = with_network(pipeline, network)
    member.problem = problem
    member.model = model
    member.seconds = time.perf_counter() - start
    return True


def _start(
    network: Any, config: Config, arguments: dict[str, Any], first: tuple[Problem, Model] | None
) -> tuple[Problem, Model]:
    """Return the data and the network of a candidate; `first` has equal settings of the data."""
    if not arguments.keys() <= _FIT_ARGUMENTS:
        raise TypeError("fit has other arguments than those of a training.")
    start = Fresh(network.random_state)
    if first is None:
        problem = network._make_problem(config, arguments, start, config.early_stopping)
    else:
        problem = network._reuse_problem(first[0], config)
    model = start_model(problem, config, network._get_init_params(), start)
    network._check_batch_size(problem, model)
    return problem, model


def train_stack(
    stack: Sequence[StackMember], pause_epoch: int | None, on_epoch: OnEpoch | None
) -> None:
    """Train members with the same `stacking_key`, and set the fitted attributes of their networks.

    If training fails, no network is fitted, and there is a RuntimeWarning. A user-defined part of a
    network may fail, or may support only single networks.
    """
    start = time.perf_counter()
    problems = [member.problem for member in stack]
    models = [member.model for member in stack]
    first_epochs = [int(model.state.epoch.sum()) for model in models]
    try:
        models = train(problems, models, on_epoch, pause_epoch)
    except TrainingInterrupted as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        warnings.warn(
            f"{len(stack)} estimators are trained one by one, which is slower but gives the same "
            f"results: training them together raised {error!r}. Custom layers, losses and other "
            "objects must accept arrays with the member axis first. If you use none, please report "
            "this.",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    pairs = zip(models, first_epochs, strict=True)
    n_epochs = [int(model.state.epoch.sum()) - first_epoch for model, first_epoch in pairs]
    seconds_per_epoch = (time.perf_counter() - start) / max(1, sum(n_epochs))
    for member, model, n in zip(stack, models, n_epochs, strict=True):
        member.finish(model, seconds_per_epoch * n, pause_epoch)


def fit_transformers(member: StackMember, X: Any, y: Any, fit_params: dict[str, Any]) -> Any:
    """Fit the transformers of a member's pipeline, if it is one, to its training rows.

    Returns
    -------
    pipeline : estimator
        The pipeline, fitted except for its network.
    arguments : dict
        The arguments of the network's `fit`.

    Notes
    -----
    The function returns None if `fit` fails: a transformer may raise an error, and a subclass of
    Pipeline may need its network. scikit-learn then fits the candidate as a whole.
    """
    params = dict(fit_params)
    for name, value in fit_params.items():
        if count_rows(value) == count_rows(X):
            params[name] = _safe_indexing(value, member.rows)
    X = _safe_indexing(X, member.rows)
    y = None if y is None else _safe_indexing(y, member.rows)
    if not isinstance(member.estimator, Pipeline):
        return member.estimator, {"X": X, "y": y, **params}
    recorder = _ArgumentRecorder(get_network(member.estimator))
    estimator = clone(with_network(member.estimator, recorder))
    try:
        estimator.fit(X, y, **params)
        for _, step in estimator.steps[:-1]:
            if hasattr(step, "transform"):
                step.transform = RepeatedTransform(step)
    except Exception:
        return None
    return estimator, recorder.arguments_


class _ArgumentRecorder(BaseEstimator):
    """Last step of a pipeline that stores the arguments of `fit`."""

    def __init__(self, network: Any = None) -> None:
        self.network = network

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> _ArgumentRecorder:
        self.arguments_ = {"X": X, "y": y, **fit_params}
        return self

    def __sklearn_clone__(self) -> _ArgumentRecorder:
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
        state = get_state()
        n_epochs, n_left = int(state.epoch.max()), state.stop_reason.count("")
        if n_left == 0 or time.perf_counter() - last_time > _SECONDS_BETWEEN_LINES:
            last_time = time.perf_counter()
            # A worker process does not flush by itself.
            print(f"epoch {n_epochs}, {n_left} of {n_networks} networks left", flush=True)
        return False

    return report
