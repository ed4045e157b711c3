"""Base class of the network estimators: validate, train, set the fitted attributes.

It is all or nothing: a fit that fails leaves the estimator as it was.
"""

from __future__ import annotations

import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from numbers import Number
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state

from .._sklearn import warn
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.parameters import FlatParameters
from ..training.checkpoint import RngOrCheckpoint, TrainingCheckpoint
from ..training.class_weight import reject_balanced
from ..training.config import TrainingConfig, is_lbfgs
from ..training.loop import TrainingLoop
from ..training.parallelism import check_batch_memory
from ..training.partial_fit_session import PartialFitSession, make_partial_fit_session
from ..training.random_states import spawn_rngs
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingInterrupted, TrainingRun
from ..training.training_task import Scorer, TrainingTask, ValidationData, assign_folds
from ..utils.arrays import Array, MatrixLike
from ..utils.configurable import Configurable
from ..utils.equality import is_equal
from ._callbacks import CallbackRunner
from ._checkpoint_io import resume, resume_runs
from ._decorators import with_argument_suggestions, with_callbacks
from ._fit_context import (
    DataInfo,
    FitArguments,
    FitContext,
    ValidatedData,
    ValidatedParams,
    check_warm_start,
    multiply_class_weight,
    update_data_info,
    warm_start_signature,
)
from ._fitted_attributes import FittedAttributesMixin
from ._history import HISTORY_ATTRIBUTES
from ._scorers import get_scorer_with_suggestion
from ._validation import (
    check_scalar_score,
    get_row_shape,
    infer_dtype,
    prefix_errors,
    reject_unused_overrides,
    set_attributes,
    shallow_copy,
    validate_features_and_targets,
    validate_groups,
    validate_weight,
)

# The kinds of items in lists that do not change.
_IMMUTABLE = Configurable, str, Number


def check_stochastic(estimator: Any) -> bool:
    """Check that an estimator has a stochastic solver, for `available_if`."""
    if is_lbfgs(estimator.solver):
        raise AttributeError(
            "partial_fit is only available for stochastic solvers, got "
            f"solver={estimator.solver!r}. Choose another solver, or use warm_start=True with fit."
        )
    return True


class BaseNeuralNetwork(CallbackSupportMixin, FittedAttributesMixin, metaclass=ABCMeta):
    """Base of all estimators; not to be used directly."""

    # As for splitters: groups given to a search or a pipeline are passed on to early stopping.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _y_numeric: ClassVar[bool] = True  # whether the targets are numbers

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, four times for every fit of a search.
        return super()._get_param_names()

    @abstractmethod
    def _fit_target_encoder(
        self, config: TrainingConfig, table: Dataset, dtype: Any, incremental: bool, classes: Any
    ) -> Any:
        """Return the `BaseTargetEncoder` for the first y, which is in the table unencoded.

        `classes` are all labels of later calls, if the user has given them.
        """

    @with_argument_suggestions
    @with_callbacks
    def fit(
        self,
        X: MatrixLike,
        y: MatrixLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: MatrixLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        resume_from: str | PathLike[str] | None = None,
        groups: MatrixLike | None = None,
    ) -> Self:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.
        X_val, y_val : array-like, default=None
            Validation data, not trained on. The loss on it is recorded after each epoch in
            `validation_loss_curve_`, and `early_stopping` uses it instead of a share of X. In a
            `Pipeline`, ``transform_input=["X_val"]`` transforms it like X.
        sample_weight_val : array-like, default=None
            The weight of each validation row; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint` from an estimator with the same parameters and the
            same data. Training resumes from it, and ends with exactly the weights of an
            uninterrupted fit. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, such as a patient or a day, as numbers or strings.
            `early_stopping` then holds out whole groups, so that validation scores and
            out-of-fold predictions are honest for new groups. Without effect if no rows are held
            out. With metadata routing, groups given to a search, a pipeline or cross-validation
            are passed on without a request.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            stays as it was.
        KeyboardInterrupt
            On Ctrl-C, which keeps the last complete epoch. Before the end of the first epoch, a
            fitted estimator stays as it was, and a new one gets its initial weights, with
            ``n_iter_`` 0.
        """
        arguments = FitArguments(
            X, y, sample_weight, X_val, y_val, sample_weight_val, resume_from, groups
        )
        return self._train(arguments)

    def _train(
        self, arguments: FitArguments, incremental: bool = False, classes: Any = None
    ) -> Self:
        """Check the input, train, and set the fitted attributes.

        If anything fails, the estimator and its random streams stay as they were. Ctrl-C during
        training keeps the last complete epoch.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        params, info, data = self._validate_fit(arguments, continues, incremental, classes)
        session = self._resume_session(params.config, info, data) if incremental else None
        rngs = [] if session else self._get_used_rngs(continues, incremental)
        positions = [rng.get_state(legacy=False) for rng in rngs]
        try:
            if session is not None:
                runs = [session.run]
            else:
                starts = self._make_starts(params.config, data.table if continues else None)
                runs = self._make_runs(params.config, info, data, starts, incremental)
                if incremental:
                    session = make_partial_fit_session(runs, self.random_state)
            before: Sequence[Mapping[str, Any]] = [{}] * len(runs)
            if arguments.resume_from is not None:
                before = resume(self, runs, Path(arguments.resume_from))
            elif continues:
                before = [
                    {name: self._get_for_member(name, i) for name in HISTORY_ATTRIBUTES}
                    for i in range(len(runs))
                ]
            if arguments.checkpoint is not None:
                resume_runs(runs, *arguments.checkpoint)
            context = FitContext(params, info, data, runs, before)
            loop = TrainingLoop(runs) if session is None else session.loop
            if incremental or not hasattr(self, "_skl_callbacks"):
                interrupt = loop.train()
            else:
                attributes = partial(self._get_attributes_during_fit, context, continues)
                interrupt = CallbackRunner(self, arguments, runs, attributes).train(loop)
            if interrupt is not None and not _is_worth_keeping(runs, hasattr(self, "coefs_")):
                raise interrupt
            if not isinstance(interrupt, TrainingInterrupted):  # after which rows may be lost
                interrupt = fit_temperature_scaling(runs) or interrupt
            self._set_fitted_attributes(context, continues, session)
        except BaseException:
            for rng, position in zip(rngs, positions, strict=True):
                rng.set_state(position)
            if session is not None:
                session.restore_rng()
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _get_used_rngs(self, continues: bool, incremental: bool) -> list[np.random.RandomState]:
        """Return the random streams that a fit draws from: the user's or the estimator's own.

        A failed fit resets them. Training on copies would not do: two threads would draw the same
        numbers from copies of NumPy's global stream, and a copy takes as long as a step on a batch
        of a few rows.
        """
        if continues and incremental and not self.shuffle:
            return []  # nothing is drawn
        past = getattr(self, "_training", []) if continues else []
        rngs = [rng for each in past for rng in each.state.rngs]
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            rngs.append(check_random_state(self.random_state))
        return rngs

    def _resume_session(
        self, config: TrainingConfig, info: DataInfo, data: ValidatedData
    ) -> PartialFitSession | None:
        """Return the session of the last `partial_fit`, prepared for the new rows.

        None if there is none, the rows do not fit, or anything has changed since: by another fit,
        or by the user in parameters or fitted attributes.
        """
        session = self._partial_fit_session
        if session is None or session.checkpoint is None or not session.accepts(data.table):
            return None
        run = session.run
        is_unchanged = (
            config is run.config
            and info.loss is run.objective.loss
            and getattr(self, "_training", [None])[0] is session.checkpoint
            and getattr(self, "t_", None) == run.n_samples_seen
        )
        if not (is_unchanged and self._has_parameters(run.calibrated_parameters, info.network)):
            return None
        session.continue_with(self._make_task(config, info, run.objective, data, incremental=True))
        return session

    # ------------------------------------------------------- validation of parameters and data

    def _validate_fit(
        self,
        arguments: FitArguments,
        continues: bool,
        incremental: bool,
        classes: Any = None,
        params: ValidatedParams | None = None,
    ) -> tuple[ValidatedParams, DataInfo, ValidatedData]:
        """Validate parameters and data; the estimator does not change.

        With `params` the parameters have been validated before.
        """
        last = self._data_info if continues else None
        params = params or self._get_validated_params(last, incremental)
        config = params.config
        reader = self if last else shallow_copy(self)
        X, y = reader._validate_rows(arguments.X, arguments.y, reset=last is None)
        config.architecture.validate_input(X)
        dtype = last.dtype if last else config.dtype or infer_dtype(X)
        weight = validate_weight(arguments.sample_weight, X)
        table = Dataset(X, y, weight)
        targets = None if last is None else self._get_target_encoder(last)
        if targets is None:
            targets = self._fit_target_encoder(config, table, dtype, incremental, classes)
        else:
            targets.check_classes(classes)
        table = Dataset(X, targets.encode(y, needs_all=continues and not incremental), weight)
        if config.class_weight is not None:
            if incremental:
                reject_balanced(config.class_weight)
            table = multiply_class_weight(config, targets, table)
        info = self._make_data_info(params, last, reader, dtype, targets, table.y.shape[1])
        info.network.validate_padding(X)
        validation = None
        if arguments.has_validation_data:
            with prefix_errors("X_val, y_val"):
                X_val, y_val = reader._validate_rows(arguments.X_val, arguments.y_val, reset=False)
                config.architecture.validate_input(X_val)
                info.network.validate_padding(X_val)
                encoded = targets.encode(y_val, needs_all=False)
                rows = Dataset(X_val, encoded, validate_weight(arguments.sample_weight_val, X_val))
                if config.class_weight is not None:
                    rows = multiply_class_weight(config, targets, rows)
                validation = ValidationData(rows, None, y_val)
        groups = None
        if arguments.groups is not None:
            groups = validate_groups(arguments.groups, table.n_rows, 1)
        folds, is_train = arguments.folds, arguments.is_train
        return params, info, ValidatedData(table, y, validation, groups, folds, is_train)

    def _get_validated_params(self, last: DataInfo | None, incremental: bool) -> ValidatedParams:
        """Return the validated parameters; a warm start must not change those of the last fit.

        A `partial_fit` takes the last ones if no parameter has changed: validation would take as
        long as training on a batch of a few rows.
        """
        known = self._validated_params if last is not None and incremental else None
        if known is not None and not all(map(operator.is_, known.values, self._values)):
            known = None
        if known is not None and known.is_current:
            return known
        params = validate_params(self)
        if last is not None:
            check_warm_start(last.fixed, params.fixed)
        return params

    def _validate_rows(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return validated X and y; with `reset` set the attributes of the features."""
        return validate_features_and_targets(self, X, y, self._y_numeric, reset)

    def _make_data_info(
        self,
        params: ValidatedParams,
        last: DataInfo | None,
        reader: Self,
        dtype: np.dtype[np.floating],
        targets: Any,
        n_outputs: int,
    ) -> DataInfo:
        """Return the properties of the data, whose encoded targets have `n_outputs` columns."""
        config = params.config
        if last is None:
            row_shape = get_row_shape(reader)
            return DataInfo(
                params.fixed,
                row_shape,
                getattr(reader, "feature_names_in_", None),
                dtype,
                targets,
                targets.make_loss(config.loss, config.label_smoothing),
                config.architecture.network(row_shape, n_outputs),
                config.n_estimators,
            )
        if n_outputs != last.network.n_units[-1]:
            raise ValueError(
                f"y needs a network with {n_outputs} output(s), but coefs_ has "
                f"{last.network.n_units[-1]}."
            )
        known = self._validated_params
        is_same_config = known is not None and config is known.config
        return update_data_info(last, config, targets, is_same_config)

    # ------------------------------------------------------------------------- runs

    def _make_runs(
        self,
        config: TrainingConfig,
        info: DataInfo,
        data: ValidatedData,
        starts: Sequence[RngOrCheckpoint],
        incremental: bool = False,
    ) -> list[TrainingRun]:
        """Return a run for each network, which begins with its own of `starts`."""
        network = info.network.with_dropout(config.architecture.dropout_rates)
        config.check_network(network)
        objective = Objective(network, info.loss, config.penalty)
        task = self._make_task(config, info, objective, data, incremental)
        if task.folds is None:
            task = replace(task, folds=assign_folds(task, starts))
        runs = [TrainingRun(task, start, member) for member, start in enumerate(starts)]
        n_train = runs[0].n_train
        if task.is_local:
            check_batch_memory(network, runs[0].rows_at_once, info.dtype.itemsize)
        is_by_batch = task.is_local and not (incremental or config.is_lbfgs)
        if is_by_batch and not isinstance(self.batch_size, str) and config.batch_size > n_train:
            warn(
                f"batch_size={config.batch_size} is larger than the {n_train} training rows. It is "
                f"going to be clipped to {n_train}.",
                UserWarning,
            )
        return runs

    def _make_task(
        self,
        config: TrainingConfig,
        info: DataInfo,
        objective: Objective,
        data: ValidatedData,
        incremental: bool,
    ) -> TrainingTask:
        log_losses = None
        if config.stopping is not None and config.stopping.calibrate:
            log_losses = partial(_average_log_losses, info)
        return TrainingTask(
            config,
            objective,
            data.table,
            info.dtype,
            data.y,
            data.validation,
            info.targets.make_evaluator(objective),
            None if incremental and data.validation is None else self._make_scorer(config, info),
            info.targets.strata,
            incremental,
            data.groups,
            data.folds,
            data.is_train,
            log_losses,
        )

    def _make_scorer(self, config: TrainingConfig, info: DataInfo) -> Scorer | None:
        """Return a function that scores one network by the user's `scoring`; None without."""
        scoring = config.stopping.scoring if config.stopping else None
        if scoring is None or scoring == "loss":
            return None
        scorer = get_scorer_with_suggestion(scoring, others=("loss",))
        alone = self._as_single_network(info)
        set_attributes(alone, info.attributes)

        def score(parameters: FlatParameters, rows: ValidationData, predictions: Array) -> float:
            estimator = shallow_copy(alone)
            set_attributes(estimator, self._array_attributes(parameters, info.network))
            weighted = {} if rows.weight is None else {"sample_weight": rows.weight}
            return check_scalar_score(scorer(estimator, rows.inputs, rows.y, **weighted), scoring)

        return score

    def _make_starts(
        self, config: TrainingConfig, table: Dataset | None = None
    ) -> list[RngOrCheckpoint]:
        """Return what each network starts from: a random stream, or its last state.

        With a table, training continues from the present weights, and from the state of optimizer
        and streams if the estimator has one.
        """
        if table is None:
            return list(spawn_rngs(self.random_state, config.n_estimators))
        info = self._data_info
        network, n_estimators = info.network, info.n_estimators
        current, n_samples_seen = self._fitted_parameters(info), getattr(self, "t_", 0)
        each = [
            (network.copy_parameters(current.members(slice(i, i + 1)), info.dtype), n)
            for i, n in enumerate(np.broadcast_to(n_samples_seen, n_estimators).tolist())
        ]
        # Estimators that were pickled, or have assigned weights, may have no checkpoints.
        checkpoints: Sequence[TrainingCheckpoint] | None = getattr(self, "_training", None)
        if checkpoints is not None:
            return [
                checkpoint.with_fitted_parameters(*own)
                for checkpoint, own in zip(checkpoints, each, strict=True)
            ]
        mean_weight = 1.0 if table.weight is None else float(table.weight.mean())
        for parameters, n in each:
            for layer, running in zip(network.layers, parameters.running, strict=True):
                layer.init_running_count(running, n, config.batch_size, mean_weight)
        rngs = spawn_rngs(self.random_state, n_estimators)
        return [
            TrainingCheckpoint.from_parameters(parameters, rng, n)
            for (parameters, n), rng in zip(each, rngs, strict=True)
        ]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = getattr(self, "layers", None) is None
        return tags


def validate_params(estimator: BaseNeuralNetwork) -> ValidatedParams:
    """Validate an estimator's parameters."""
    reject_unused_overrides(estimator)
    values = estimator._values
    parameters = dict(zip(estimator._parameter_table, values, strict=True))
    estimator._validate_params()
    config = estimator._make_config(parameters)
    lists = tuple((value, tuple(value)) for value in values if isinstance(value, list))
    items = [item for _, each in lists for item in each]
    is_mutable = any(isinstance(value, (dict, np.ndarray)) for value in values)
    is_immutable = not is_mutable and all(isinstance(each, _IMMUTABLE) for each in items)
    fixed = warm_start_signature(parameters)
    return ValidatedParams(values, config, fixed, is_immutable, lists)


def make_fit_context(
    estimator: BaseNeuralNetwork, arguments: FitArguments, params: ValidatedParams | None = None
) -> FitContext:
    """Return the context of a fit of an unfitted estimator, by itself or with others."""
    if arguments.resume_from is not None:
        raise ValueError(
            "resume_from is only valid for a single fit, but a search fits many networks. Fit an "
            "estimator with the parameters of the candidate by itself."
        )
    params, info, data = estimator._validate_fit(arguments, False, False, params=params)
    runs = estimator._make_runs(params.config, info, data, estimator._make_starts(params.config))
    return FitContext(params, info, data, runs, [{}] * len(runs))


def make_shared_fit_context(
    estimator: BaseNeuralNetwork,
    params: ValidatedParams,
    other: FitContext,
    starts: Sequence[RngOrCheckpoint] | None,
) -> FitContext:
    """Return the context of a fit to data that another estimator has validated.

    The runs begin with `starts` if given, else with new initial states.
    """
    config, info, data = params.config, other.info, other.data
    network = info.network
    if not is_equal(config.architecture, other.params.config.architecture):
        config.architecture.validate_input(data.table.X)
        if data.validation is not None:
            with prefix_errors("X_val, y_val"):
                config.architecture.validate_input(data.validation.inputs)
        network = config.architecture.network(info.row_shape, data.table.y.shape[1])
        network.validate_padding(data.table.X)
        if data.validation is not None:
            with prefix_errors("X_val, y_val"):
                network.validate_padding(data.validation.inputs)
    info = replace(
        info,
        fixed=params.fixed,
        loss=info.targets.make_loss(config.loss, config.label_smoothing),
        network=network,
        n_estimators=config.n_estimators,
    )
    runs = estimator._make_runs(config, info, data, starts or estimator._make_starts(config))
    return FitContext(params, info, data, runs, [{}] * len(runs))


def finish_fit(estimator: BaseNeuralNetwork, context: FitContext) -> None:
    """Set the fitted attributes of an estimator whose runs have been trained with others."""
    interrupt = fit_temperature_scaling(context.runs)
    if interrupt is not None:
        raise interrupt
    estimator._set_fitted_attributes(context, continues=False)


def _average_log_losses(info: DataInfo, scores: Array, y: Array) -> Array:
    """Return the negative log-likelihood of each row, by the averaged scores of all networks."""
    link = info.loss.link
    targets: Any = info.targets  # those of a classifier: only probabilities are calibrated
    averaged = scores[0] if len(scores) == 1 else link.average_predictions(scores)
    losses: Array = targets.log_losses(averaged, y, link)
    return losses


def _is_worth_keeping(runs: list[TrainingRun], was_fitted: bool) -> bool:
    """Return whether the runs after an interrupt are worth more than the state before the fit."""
    is_trained = [run.n_iter > 0 for run in runs]
    if any(run.error is not None for run in runs) or (any(is_trained) and not all(is_trained)):
        return False
    # An incomplete first epoch, as of partial_fit, has changed nothing.
    return all(is_trained) or not (was_fitted or runs[0].incremental)
