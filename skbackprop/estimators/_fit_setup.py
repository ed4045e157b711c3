"""Preparation of a fit: validate parameters and data, and make the runs."""

from __future__ import annotations

import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from .._sklearn import warn
from ..losses._composite import LossWithLink, override_link
from ..losses.base import Loss
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.parameters import FlatParameters
from ..training.architecture import MLPSpec
from ..training.checkpoint import Start, TrainingCheckpoint
from ..training.config import (
    TrainingConfig,
    build_average,
    check_solver,
    is_warm_start_compatible,
    make_training_config,
    unused_parameter_warnings,
)
from ..training.training_run import TrainingRun
from ..training.training_task import (
    Evaluator,
    Scorer,
    TrainingTask,
    ValidationData,
    assign_folds,
)
from ..training.validation_split import spawn_rngs
from ..utils.arrays import Array
from ..utils.equality import is_equal
from ._fit_context import (
    BaseTargetEncoder,
    DataInfo,
    FitArguments,
    FitContext,
    ValidatedData,
    ValidatedParams,
    warm_start_signature,
)
from ._fitted_network import FittedAttributesMixin
from ._mixins import get_scorer_with_suggestion
from ._sklearn_overrides import check_overrides
from ._validation import (
    check_fits_dtype,
    check_scalar_score,
    infer_dtype,
    prefix_errors,
    shallow_copy_of,
    validated_data,
    validated_groups,
    validated_weight,
)


class FitSetupMixin(FittedAttributesMixin, metaclass=ABCMeta):
    """Mixin that validates parameters and data, and makes the runs of a fit."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _losses: ClassVar[Mapping[str, Loss]]  # by name
    _kind_of_network: ClassVar[type[MLPSpec]] = MLPSpec
    _y_numeric: ClassVar[bool] = True  # whether the targets are numbers

    # ------------------------------------------------------ what a subclass defines

    @abstractmethod
    def _learn(
        self, config: TrainingConfig, table: Dataset, dtype: Any, incremental: bool, classes: Any
    ) -> Any:
        """Return the `BaseTargetEncoder` for the first y, which is in the table unencoded.

        `classes` are all labels of later calls, if the user has given them.
        """

    @abstractmethod
    def _recall(self, config: TrainingConfig, n_outputs: int) -> Any:
        """Return the `BaseTargetEncoder` of a network made from weights, by its attributes."""

    def _known_targets(self, known: DataInfo) -> Any:
        """Return the `BaseTargetEncoder` of the last fit, with the present fitted attributes."""
        return known.targets

    def _check_known(self, targets: BaseTargetEncoder, classes: Any) -> None:
        """Check that the user's `classes` are those of the first call."""

    def _loss_of(self, config: TrainingConfig, targets: Any) -> Loss:
        """Return the loss of the configuration, for these targets."""
        return config.loss

    def _weighted(
        self, config: TrainingConfig, targets: Any, table: Dataset, incremental: bool
    ) -> Dataset:
        """Return the table with the sample weights of training."""
        return table

    @abstractmethod
    def _judge_of(self, objective: Objective, targets: Any) -> Evaluator:
        """Return the evaluator of validation rows."""

    def _log_losses_of(
        self, config: TrainingConfig, learned: DataInfo
    ) -> Callable[[Array, Array], Array] | None:
        """Return `TrainingTask.log_losses`; None without calibration."""
        return None

    # ------------------------------------------------------------------- parameters

    def _plan_to_go_on(self, known: DataInfo | None, incremental: bool) -> ValidatedParams:
        """Return the validated parameters, checked against those of the last fit."""
        planned = self._checked_plan(is_known=known is not None and incremental)
        if known is not None and not self._is_the_last(planned.config):
            self._check_fixed(known.fixed)
        return planned

    def _checked_plan(self, is_known: bool) -> ValidatedParams:
        """Return the validated parameters.

        With `is_known` they are the last ones if no parameter has changed: validation would take as
        long as training on a batch of a few rows.
        """
        last = self._validated_params if is_known else None
        if last is not None and not all(map(operator.is_, last.values, self._values)):
            last = None
        if last is not None and last.is_fixed:
            return last
        planned = self._plan_anew()
        if last is None:
            planned.warn()
        return planned

    def _plan_anew(self) -> ValidatedParams:
        """Validate the parameters and return them with the warnings about unused ones."""
        check_overrides(self)
        values, parameters = self._values, self._settings
        build_average(parameters)  # whose error has better advice
        self._validate_params()
        config = self._plan_of(parameters)
        check_solver(config, parameters)
        defaults = {name: row.default for name, row in self._rows.items()}
        return ValidatedParams.of(
            values, config, tuple(unused_parameter_warnings(parameters, defaults))
        )

    def _is_the_last(self, config: TrainingConfig) -> bool:
        """Return whether a configuration is the one of the last fit."""
        return self._validated_params is not None and config is self._validated_params.config

    def _plan_of(self, parameters: Mapping[str, Any]) -> TrainingConfig:
        return make_training_config(parameters, self._losses, self._kind_of_network)

    def _check_fixed(self, fixed: dict[str, Any]) -> None:
        now = warm_start_signature(self._settings)
        for name, value in fixed.items():
            if not is_warm_start_compatible(name, value, now[name]):
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    # ------------------------------------------------------------------------- data

    def _checked(
        self,
        given: FitArguments,
        continues: bool,
        incremental: bool,
        classes: Any,
        planned: ValidatedParams | None = None,
    ) -> tuple[ValidatedParams, DataInfo, ValidatedData]:
        """Validate parameters and data; the estimator does not change.

        With `planned` the parameters have been validated before.
        """
        known: DataInfo | None = self._learned if continues else None
        planned = planned or self._plan_to_go_on(known, incremental)
        config = planned.config
        reader = self if known else shallow_copy_of(self)
        X, y = reader._validated(given.X, given.y, reset=known is None)
        config.architecture.validate_input(X)
        dtype = known.dtype if known else config.dtype or infer_dtype(X)
        check_fits_dtype(X, dtype)
        may_be_classes = incremental and classes is None and not self._y_numeric
        weight = validated_weight(given.sample_weight, X, may_be_classes=may_be_classes)
        table = Dataset(X, y, weight)
        if known is not None and self._knows_targets:
            targets = self._known_targets(known)
            self._check_known(targets, classes)
        else:
            targets = self._learn(config, table, dtype, incremental, classes)
        needs_all = continues and not incremental
        table = Dataset(X, targets.encode(y, needs_all), table.weight)
        table = self._weighted(config, targets, table, incremental)
        learned = self._learned_of(config, known, reader, dtype, targets, table.y.shape[1])
        watched = reader._watched(given, config, learned)
        groups = None if given.groups is None else validated_groups(given.groups, table.n_rows, 1)
        return planned, learned, ValidatedData(table, y, watched, groups, given.folds)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return validated X and y; with `reset` set the attributes of the features."""
        return validated_data(self, X, y, self._y_numeric, reset)

    def _watched(
        self, given: FitArguments, config: TrainingConfig, learned: DataInfo
    ) -> ValidationData | None:
        """Return the user's validation data, validated like the training data."""
        if not given.has_rows_to_watch:
            return None
        with prefix_errors("X_val, y_val"):
            X, y = self._validated(given.X_val, given.y_val, reset=False)
            config.architecture.validate_input(X)
            check_fits_dtype(X, learned.dtype)
            encoded = learned.targets.encode(y, needs_all=False)
            table = Dataset(X, encoded, validated_weight(given.sample_weight_val, X))
            return ValidationData(self._weighted(config, learned.targets, table, False), None, y)

    @property
    def _knows_targets(self) -> bool:
        """Whether the targets of a network made from weights are known."""
        return True

    def _learned_of(
        self,
        config: TrainingConfig,
        known: DataInfo | None,
        reader: Self,
        dtype: np.dtype[np.floating],
        targets: Any,
        n_outputs: int,
    ) -> DataInfo:
        """Return the properties of the data, whose encoded targets have `n_outputs` columns."""
        if known is None:
            n_features = int(reader.n_features_in_)
            return DataInfo(
                warm_start_signature(self._settings),
                n_features,
                vars(reader).get("feature_names_in_"),
                dtype,
                targets,
                self._loss_of(config, targets),
                config.architecture.network(n_features, n_outputs),
                config.n_estimators,
            )
        n_known = known.network.widths[-1]
        if n_outputs != n_known:
            raise ValueError(
                f"{targets} take {n_outputs} output(s), but coefs_ makes a network of {n_known}."
            )
        _check_trains(known.loss, config)
        if self._is_the_last(config) and targets is known.targets:
            return known
        loss = self._loss_of(config, targets)
        if isinstance(known.loss, LossWithLink):
            loss = override_link(loss, known.loss.link.name)
        return replace(known, targets=targets, loss=loss)

    # ------------------------------------------------------------------------- runs

    def _prepare_first(
        self, given: FitArguments, planned: ValidatedParams | None = None
    ) -> FitContext:
        """Return the prepared fit of an unfitted estimator."""
        if given.resume_from is not None:
            raise ValueError(
                "resume_from is for a single fit, but a search fits many. Train the candidate "
                "alone, by its own fit."
            )
        planned, learned, data = self._checked(given, False, False, None, planned)
        runs = self._runs(planned.config, learned, data, self._starts(planned.config), False)
        return FitContext(planned, learned, data, runs)

    def _prepare_shared_data(
        self,
        other: FitContext,
        planned: ValidatedParams | None = None,
        starts: Sequence[Start] | None = None,
    ) -> FitContext:
        """Return the prepared fit to data that another estimator has validated.

        The runs begin with `starts` if given, else with new initial states.
        """
        planned, known = planned or self._checked_plan(is_known=False), other.learned
        config, network = planned.config, known.network
        if not is_equal(config.architecture, other.planned.config.architecture):
            watched = other.data.watched
            config.architecture.validate_input(other.data.table.X)
            if watched is not None:
                with prefix_errors("X_val, y_val"):
                    config.architecture.validate_input(watched.inputs)
            network = config.architecture.network(known.n_features, other.data.table.y.shape[1])
        loss, fixed = self._loss_of(config, known.targets), warm_start_signature(self._settings)
        learned = replace(
            known, fixed=fixed, loss=loss, network=network, n_estimators=config.n_estimators
        )
        runs = self._runs(config, learned, other.data, starts or self._starts(config), False)
        return FitContext(planned, learned, other.data, runs)

    def _runs(
        self,
        config: TrainingConfig,
        learned: DataInfo,
        data: ValidatedData,
        starts: Sequence[Start],
        incremental: bool,
    ) -> list[TrainingRun]:
        """Return a run for each network, which begins with its own of `starts`."""
        network = learned.network.with_dropout(config.architecture.rates)
        objective = Objective(network, learned.loss, config.penalty)
        problem = self._problem(config, learned, objective, data, incremental)
        folds = assign_folds(problem, starts) if data.folds is None else data.folds
        problem = replace(problem, folds=folds)
        runs = [TrainingRun(problem, start, member) for member, start in enumerate(starts)]
        if problem.is_local and not (
            incremental or config.is_lbfgs or isinstance(self.batch_size, str)
        ):
            _warn_of_batch_size(config.batch_size, runs[0].n_train)
        return runs

    def _problem(
        self,
        config: TrainingConfig,
        learned: DataInfo,
        objective: Objective,
        data: ValidatedData,
        incremental: bool,
    ) -> TrainingTask:
        return TrainingTask(
            config,
            objective,
            data.table,
            learned.dtype,
            data.y,
            data.watched,
            self._judge_of(objective, learned.targets),
            None if incremental and data.watched is None else self._scorer_of(config, learned),
            learned.targets.strata,
            incremental,
            data.groups,
            log_losses=self._log_losses_of(config, learned),
        )

    def _scorer_of(self, config: TrainingConfig, learned: DataInfo) -> Scorer | None:
        """Return a function that scores one network by the user's `scoring`; None without."""
        scoring = config.stopping.scoring if config.stopping else None
        if scoring is None or scoring == "loss":
            return None
        scorer = get_scorer_with_suggestion(
            scoring, getattr(learned.targets, "classes", None), others=("loss",)
        )
        alone = self._with_one_network(learned)

        def score(parameters: FlatParameters, watched: ValidationData, outcomes: Array) -> float:
            estimator = shallow_copy_of(alone)
            estimator._set(estimator._arrays_of(parameters, learned.network))
            estimator = estimator._to_be_scored(watched, outcomes)
            weight = watched.weight
            weighted = {} if weight is None else {"sample_weight": weight}
            return check_scalar_score(
                scorer(estimator, watched.inputs, watched.y, **weighted), scoring
            )

        return score

    def _to_be_scored(self, watched: ValidationData, outcomes: Array) -> Any:
        """Return the estimator that a scorer gets, for which `outcomes` are known."""
        return self

    def _starts(self, config: TrainingConfig, table: Dataset | None = None) -> list[Start]:
        """Return what each network starts from: a random stream, or its last state.

        With a table, training continues with the present weights, and what is known of the past.
        """
        if table is None:
            return list(spawn_rngs(self.random_state, config.n_estimators))
        learned = self._learned
        network, n_estimators = learned.network, learned.n_estimators
        given, n_samples_seen = self._parameters(learned), getattr(self, "t_", 0)
        each = [
            (network.copy_parameters(given.members(slice(i, i + 1)), learned.dtype), n)
            for i, n in enumerate(np.broadcast_to(n_samples_seen, n_estimators).tolist())
        ]
        # Pickled estimators usually have no past.
        pasts: Sequence[TrainingCheckpoint] | None = getattr(self, "_training", None)
        if pasts is not None:
            return [past.continue_from(*own) for past, own in zip(pasts, each, strict=True)]
        mean_weight = 1.0 if table.weight is None else float(table.weight.mean())
        for parameters, n in each:
            for layer, running in zip(network.layers, parameters.running, strict=True):
                layer.init_running_count(running, n, config.batch_size, mean_weight)
        rngs = spawn_rngs(self.random_state, n_estimators)
        return [
            TrainingCheckpoint.start(parameters, rng, n)
            for (parameters, n), rng in zip(each, rngs, strict=True)
        ]


def _check_trains(loss: Loss, config: TrainingConfig) -> None:
    """Check that training can continue with an output activation set by the user."""
    if not isinstance(loss, LossWithLink):
        return
    unable = ""
    if config.is_lbfgs:
        unable = "solver='lbfgs' cannot minimize"
    elif config.stopping is not None and config.stopping.calibrate:
        unable = "calibrate=True has no temperature for"
    if unable:
        own = loss.base_loss.link.name
        raise ValueError(
            f"out_activation_ was set to {loss.link.name!r}, and {unable} the loss with it. Set it "
            f"back to {own!r} before training goes on, or train with solver='sgd' or 'adam' and "
            "without calibration."
        )


def _warn_of_batch_size(batch_size: int, n_train: int) -> None:
    """Warn if `batch_size` is larger than the data."""
    if batch_size > n_train:
        warn(
            f"batch_size={batch_size} is larger than the {n_train} training rows. It is "
            f"going to be clipped to {n_train}.",
            UserWarning,
        )
