"""What a fit does before it trains: from parameters to a plan, from data to runs."""

from __future__ import annotations

import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np

from ..core.arrays import Array
from ..core.equality import is_equal
from ..engine.batches import Table
from ..engine.objective import Objective
from ..engine.parameters import FlatParameters
from ..fitting.architecture import Architecture
from ..fitting.course import Past
from ..fitting.effects import messages_of_no_effect
from ..fitting.folds import Start, folds_of
from ..fitting.plan import Plan, build_average, can_go_on, check_solver, plan_of
from ..fitting.problem import Problem
from ..fitting.run import Run
from ..fitting.streams import member_streams
from ..fitting.warnings import warn
from ..fitting.watch import Judge, Scorer, Watched
from ..losses.base import Loss
from ..losses.with_link import LossWithLink, with_link
from .fitted import Fitted
from .learned import Data, Given, Learned, Planned, Prepared, Targets, fixed_of
from .overrides import check_overrides
from .suggesting import scorer_of
from .validation import (
    check_range,
    errors_of,
    float_for,
    number_of,
    stand_in,
    validated_data,
    validated_groups,
    validated_weight,
)


class Preparing(Fitted, metaclass=ABCMeta):
    """An estimator as far as to runs that are ready to train."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _losses: ClassVar[Mapping[str, Loss]]  # those with a name
    _kind_of_network: ClassVar[type[Architecture]] = Architecture
    _y_numeric: ClassVar[bool] = True  # whether the targets are numbers

    # ------------------------------------------------------ what a subclass defines

    @abstractmethod
    def _learn(self, plan: Plan, table: Table, dtype: Any, incremental: bool, classes: Any) -> Any:
        """Return the `Targets` that a first y is of, which stands in the table as it is.

        `classes` are all labels there will ever be, where the user has named them.
        """

    @abstractmethod
    def _recall(self, plan: Plan, n_outputs: int) -> Any:
        """Return the `Targets` of a network that was put together, from attributes."""

    def _known_targets(self, known: Learned) -> Any:
        """Return the `Targets` that were learned, as the attributes have them now."""
        return known.targets

    def _check_known(self, targets: Targets, classes: Any) -> None:
        """Check that what the user says of the targets is what is known of them."""

    def _loss_of(self, plan: Plan, targets: Any) -> Loss:
        """Return the loss of a plan, for the targets at hand."""
        return plan.loss

    def _weighted(self, plan: Plan, targets: Any, table: Table, incremental: bool) -> Table:
        """Return a table of encoded targets in which rows weigh what they do in training."""
        return table

    @abstractmethod
    def _judge_of(self, objective: Objective, targets: Any) -> Judge:
        """Return what makes of a network, and of rows that are watched, a loss and a score."""

    def _log_losses_of(
        self, plan: Plan, learned: Learned
    ) -> Callable[[Array, Array], Array] | None:
        """Return what `Problem.log_losses` is to be; None where nothing is calibrated."""
        return None

    # ------------------------------------------------------------------- parameters

    def _plan_to_go_on(self, known: Learned | None, incremental: bool) -> Planned:
        """Return the plan that the parameters make, checked, also against what is known."""
        planned = self._checked_plan(is_known=known is not None and incremental)
        if known is not None and not self._is_the_last(planned.plan):
            self._check_fixed(known.fixed)
        return planned

    def _checked_plan(self, is_known: bool) -> Planned:
        """Return the plan that the parameters make, checked.

        With `is_known` it is the last one, if they are the same: for a batch of a few rows a check
        would take as long as to train on it.
        """
        last = self._planned if is_known else None
        if last is not None and not all(map(operator.is_, last.values, self._values)):
            last = None
        if last is not None and last.is_fixed:
            return last
        planned = self._plan_anew()
        if last is None:
            planned.warn()
        return planned

    def _plan_anew(self) -> Planned:
        """Return the plan that the parameters make, checked, with what is to be warned of."""
        check_overrides(self)
        values, parameters = self._values, self._settings
        build_average(parameters)  # says what to write in the place of a flag or a number
        self._validate_params()
        plan = self._plan_of(parameters)
        check_solver(plan, parameters)
        defaults = {name: row.default for name, row in self._rows.items()}
        return Planned.of(values, plan, tuple(messages_of_no_effect(parameters, defaults)))

    def _is_the_last(self, plan: Plan) -> bool:
        """Return whether a plan is the one last trained by."""
        return self._planned is not None and plan is self._planned.plan

    def _plan_of(self, parameters: Mapping[str, Any]) -> Plan:
        return plan_of(parameters, self._losses, self._kind_of_network)

    def _check_fixed(self, fixed: dict[str, Any]) -> None:
        now = fixed_of(self._settings)
        for name, value in fixed.items():
            if not can_go_on(name, value, now[name]):
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    # ------------------------------------------------------------------------- data

    def _checked(
        self,
        given: Given,
        continues: bool,
        incremental: bool,
        classes: Any,
        planned: Planned | None = None,
    ) -> tuple[Planned, Learned, Data]:
        """Check parameters and data, and return what they make; the estimator stays as it is.

        With `planned` the parameters have been checked before.
        """
        known: Learned | None = self._learned if continues else None
        planned = planned or self._plan_to_go_on(known, incremental)
        plan = planned.plan
        reader = self if known else stand_in(self)
        X, y = reader._validated(given.X, given.y, reset=known is None)
        plan.architecture.check_takes(X)
        dtype = known.dtype if known else plan.dtype or float_for(X)
        check_range(X, dtype)
        may_be_classes = incremental and classes is None and not self._y_numeric
        weight = validated_weight(given.sample_weight, X, may_be_classes=may_be_classes)
        table = Table(X, y, weight)
        if known is not None and self._knows_targets:
            targets = self._known_targets(known)
            self._check_known(targets, classes)
        else:
            targets = self._learn(plan, table, dtype, incremental, classes)
        needs_all = continues and not incremental
        table = Table(X, targets.encode(y, needs_all), table.weight)
        table = self._weighted(plan, targets, table, incremental)
        learned = self._learned_of(plan, known, reader, dtype, targets, table.y.shape[1])
        watched = reader._watched(given, plan, learned)
        groups = None if given.groups is None else validated_groups(given.groups, table.n_rows, 1)
        return planned, learned, Data(table, y, watched, groups)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return checked X and targets; with `reset` take note of the features."""
        return validated_data(self, X, y, self._y_numeric, reset)

    def _watched(self, given: Given, plan: Plan, learned: Learned) -> Watched | None:
        """Return the rows that the user wants to be watched, checked as those to train on are."""
        if not given.has_rows_to_watch:
            return None
        with errors_of("X_val, y_val"):
            X, y = self._validated(given.X_val, given.y_val, reset=False)
            plan.architecture.check_takes(X)
            check_range(X, learned.dtype)
            encoded = learned.targets.encode(y, needs_all=False)
            table = Table(X, encoded, validated_weight(given.sample_weight_val, X))
            return Watched(self._weighted(plan, learned.targets, table, False), None, y)

    @property
    def _knows_targets(self) -> bool:
        """Whether a network that was put together says what its targets are."""
        return True

    def _learned_of(
        self,
        plan: Plan,
        known: Learned | None,
        reader: Self,
        dtype: np.dtype[np.floating],
        targets: Any,
        n_outputs: int,
    ) -> Learned:
        """Return what is known now, of targets that are encoded in so many columns."""
        if known is None:
            n_features = int(reader.n_features_in_)
            return Learned(
                fixed_of(self._settings),
                n_features,
                vars(reader).get("feature_names_in_"),
                dtype,
                targets,
                self._loss_of(plan, targets),
                plan.architecture.network(n_features, n_outputs),
                plan.n_members,
            )
        n_known = known.network.widths[-1]
        if n_outputs != n_known:
            raise ValueError(
                f"{targets} take {n_outputs} output(s), but coefs_ makes a network of {n_known}."
            )
        _check_trains(known.loss, plan)
        if self._is_the_last(plan) and targets is known.targets:
            return known
        loss = self._loss_of(plan, targets)
        if isinstance(known.loss, LossWithLink):
            loss = with_link(loss, known.loss.link.name)
        return replace(known, targets=targets, loss=loss)

    # ------------------------------------------------------------------------- runs

    def _prepare_first(self, given: Given, planned: Planned | None = None) -> Prepared:
        """Return the runs of a `fit` with nothing to go on from."""
        if given.resume_from is not None:
            raise ValueError(
                "resume_from is for a single fit, but a search fits many. Train the candidate "
                "alone, by its own fit."
            )
        planned, learned, data = self._checked(given, False, False, None, planned)
        runs = self._runs(planned.plan, learned, data, self._new_starts(planned.plan), False)
        return Prepared(planned, learned, data, runs)

    def _prepare_like(
        self,
        other: Prepared,
        planned: Planned | None = None,
        starts: Sequence[Start] | None = None,
    ) -> Prepared:
        """Return the runs of a first fit to data that another estimator has checked already.

        They begin with `starts`, or else anew.
        """
        planned, known = planned or self._checked_plan(is_known=False), other.learned
        plan, network = planned.plan, known.network
        if not is_equal(plan.architecture, other.planned.plan.architecture):
            watched = other.data.watched
            plan.architecture.check_takes(other.data.table.X)
            if watched is not None:
                with errors_of("X_val, y_val"):
                    plan.architecture.check_takes(watched.inputs)
            network = plan.architecture.network(known.n_features, other.data.table.y.shape[1])
        loss, fixed = self._loss_of(plan, known.targets), fixed_of(self._settings)
        learned = replace(known, fixed=fixed, loss=loss, network=network, n_members=plan.n_members)
        runs = self._runs(plan, learned, other.data, starts or self._new_starts(plan), False)
        return Prepared(planned, learned, other.data, runs)

    def _runs(
        self,
        plan: Plan,
        learned: Learned,
        data: Data,
        starts: Sequence[Start],
        incremental: bool,
    ) -> list[Run]:
        """Return a run for each member, which begins with its own of `starts`."""
        network = learned.network.with_dropout(plan.architecture.rates)
        objective = Objective(network, learned.loss, plan.penalty)
        problem = self._problem(plan, learned, objective, data, incremental)
        problem = replace(problem, folds=self._folds_for(problem, starts))
        runs = [Run(problem, *start, member) for member, start in enumerate(starts)]
        if problem.is_here and not (
            incremental or plan.is_lbfgs or isinstance(self.batch_size, str)
        ):
            _warn_of_batch_size(plan.batch_size, runs[0].n_train)
        return runs

    def _folds_for(self, problem: Problem, starts: Sequence[Start]) -> Array | None:
        """Return which network holds out each row; None where each draws rows of its own."""
        return folds_of(problem, starts)

    def _problem(
        self, plan: Plan, learned: Learned, objective: Objective, data: Data, incremental: bool
    ) -> Problem:
        return Problem(
            plan,
            objective,
            data.table,
            learned.dtype,
            data.y,
            data.watched,
            self._judge_of(objective, learned.targets),
            None if incremental and data.watched is None else self._scorer_of(plan, learned),
            learned.targets.strata,
            incremental,
            data.groups,
            log_losses=self._log_losses_of(plan, learned),
        )

    def _scorer_of(self, plan: Plan, learned: Learned) -> Scorer | None:
        """Return what scores one network as a scorer of scikit-learn or of the user's does."""
        scoring = plan.stopping.scoring if plan.stopping else None
        if scoring is None or scoring == "loss":
            return None
        scorer = scorer_of(scoring, getattr(learned.targets, "classes", None), others=("loss",))
        alone = self._with_one_network(learned)

        def score(parameters: FlatParameters, watched: Watched, outcomes: Array) -> float:
            estimator = stand_in(alone)
            estimator._set(estimator._arrays_of(parameters, learned.network))
            estimator = estimator._to_be_scored(watched, outcomes)
            weight = watched.weight
            weighted = {} if weight is None else {"sample_weight": weight}
            return number_of(scorer(estimator, watched.inputs, watched.y, **weighted), scoring)

        return score

    def _to_be_scored(self, watched: Watched, outcomes: Array) -> Any:
        """Return what a scorer is given in the place of this one, of whose outcomes these are."""
        return self

    def _new_starts(self, plan: Plan) -> list[Start]:
        """Return what each member begins with where there is nothing to go on from."""
        streams = member_streams(self.random_state, plan.n_members)
        return [Start(stream, None, None, 0) for stream in streams]

    def _known_starts(self) -> list[Start]:
        """Return what each member goes on from: its weights, and its past if that is known."""
        learned = self._learned
        parameters, n_members = self._parameters(learned), learned.n_members
        # The past is left behind when the estimator is pickled.
        kept: Sequence[Past | None] = getattr(self, "_training", [None] * n_members)
        past = [each and each.own for each in kept]
        if past[0] is None:
            streams = member_streams(self.random_state, n_members)
        else:
            streams = [stream for each in past if each for stream in each.state.streams if stream]
        weights = [parameters.members(slice(i, i + 1)) for i in range(n_members)]
        n_seen = np.broadcast_to(getattr(self, "t_", 0), n_members).tolist()
        return [Start(*each) for each in zip(streams, weights, past, n_seen, strict=True)]


def _check_trains(loss: Loss, plan: Plan) -> None:
    """Check that training can go on with the output activation that a user has set."""
    if not isinstance(loss, LossWithLink):
        return
    unable = ""
    if plan.is_lbfgs:
        unable = "solver='lbfgs' cannot minimize"
    elif plan.stopping is not None and plan.stopping.calibrate:
        unable = "calibrate=True has no temperature for"
    if unable:
        own = loss.inner.link.name
        raise ValueError(
            f"out_activation_ was set to {loss.link.name!r}, and {unable} the loss with it. Set it "
            f"back to {own!r} before training goes on, or train with solver='sgd' or 'adam' and "
            "without calibration."
        )


def _warn_of_batch_size(batch_size: int, n_train: int) -> None:
    """Warn if a batch is asked for that is larger than the data."""
    if batch_size > n_train:
        warn(
            f"batch_size={batch_size} is larger than the {n_train} training rows. It is "
            f"going to be clipped to {n_train}.",
            UserWarning,
        )
