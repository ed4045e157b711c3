"""What all estimators share: from scikit-learn's conventions to runs, and back.

An estimator is a stack of one network. `fit` and `partial_fit` validate, let a run train it, and
keep what came of it: all or nothing.
"""

from __future__ import annotations

import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state

from ..core.arrays import Array, MatrixLike
from ..core.equality import is_equal
from ..engine.batches import Table
from ..engine.objective import Objective
from ..engine.parameters import FlatParameters
from ..fitting.architecture import Architecture
from ..fitting.course import Past
from ..fitting.effects import messages_of_no_effect
from ..fitting.folds import Start, folds_of
from ..fitting.interrupts import Interrupt
from ..fitting.pieces import Pieces, pieces_of
from ..fitting.plan import Plan, build_average, can_go_on, check_solver, is_lbfgs, plan_of
from ..fitting.problem import Problem
from ..fitting.run import Run
from ..fitting.streams import member_streams
from ..fitting.training import train
from ..fitting.warnings import warn
from ..fitting.watch import Judge, Scorer, Watched
from ..losses.base import Loss
from .decorators import with_callbacks
from .fitted import Fitted
from .hooks import Hooks
from .learned import Data, Given, Learned, Planned, Prepared, Targets, fixed_of
from .resumable import resume
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


class BaseBackprop(CallbackSupportMixin, Fitted, metaclass=ABCMeta):
    """Base of all estimators; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _losses: ClassVar[Mapping[str, Loss]]  # those with a name
    _kind_of_network: ClassVar[type[Architecture]] = Architecture
    _y_numeric: ClassVar[bool]  # whether the targets are numbers

    # As a splitter's: what a search or a pipeline is given for groups is for early stopping too.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    # ------------------------------------------------------- what a subclass defines

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

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, which a search does for every fit four times.
        return super()._get_param_names()

    # -------------------------------------------------------------------- training

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
            The weight of each row, not negative and not all zero; None for equal weights.
        X_val, y_val : array-like, default=None
            Rows like X and y that are not trained on: their loss is recorded after each epoch in
            `validation_loss_curve_`, and `early_stopping` goes by them in place of a share of X.
            In a `Pipeline` with ``transform_input=["X_val"]`` they come transformed as X does.
        sample_weight_val : array-like, default=None
            The weight of each of them; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint`, of an estimator with the same parameters that was
            fitted to the same data: training goes on from there, and ends with the very same
            weights as if it had never been interrupted. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, a number or a word: rows of one patient, say, or of one day. What
            `early_stopping` holds out is whole groups, so that the score that training ends by, and
            what is found out of fold, are true of new groups. Without effect where nothing is held
            out. With metadata routing, groups that are given to a search, a pipeline or to
            cross-validation come here without a request.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if training diverges. The estimator
            is then left as it was.
        KeyboardInterrupt
            On Ctrl-C, which keeps the last complete epoch. Before the first one is complete, an
            estimator that was fitted is left as it was; one that was not has its initial
            weights, with an ``n_iter_`` of 0.
        """
        given = Given(X, y, sample_weight, X_val, y_val, sample_weight_val, resume_from, groups)
        return self._fit_followed(given)

    def _check_stochastic(self) -> bool:
        if is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got "
                f"solver={self.solver!r}. Choose another solver, or use warm_start=True with fit."
            )
        return True

    @with_callbacks
    def _fit_followed(self, given: Given) -> Self:
        """Train as a whole fit; whatever happens, callbacks are torn down."""
        return self._fit(given, incremental=False)

    def _fit(self, given: Given, incremental: bool, classes: Any = None) -> Self:
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        planned, learned, data = self._checked(given, continues, incremental, classes)
        pieces = self._further_pieces(planned.plan, learned, data) if incremental else None
        go_back = pieces.undo if pieces else self._way_back(continues, incremental)
        try:
            if pieces is None:
                starts = self._known_starts() if continues else self._new_starts(planned.plan)
                runs = self._runs(planned.plan, learned, data, starts, incremental)
                pieces = pieces_of(runs, self.random_state) if incremental else None
            else:
                runs = [pieces.run]
            if given.resume_from is not None:
                resume(self, runs, Path(given.resume_from))
            prepared = Prepared(planned, learned, data, runs)
            if pieces is not None:
                interrupt = pieces.train()
            elif incremental or not hasattr(self, "_skl_callbacks"):
                interrupt = train(runs)
            else:
                interrupt = self._train_with_callbacks(given, prepared, continues)
            if interrupt is not None and not _can_be_kept(runs, hasattr(self, "coefs_")):
                raise interrupt
            self._keep(prepared, continues, pieces)
        except BaseException:
            go_back()
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _train_with_callbacks(
        self, given: Given, prepared: Prepared, continues: bool
    ) -> Interrupt | None:
        """Train, and call the hooks of the user's callbacks; return the interrupt, if any."""
        hooks = Hooks(self, given, prepared.runs, partial(self._fitted_by, prepared, continues))
        hooks.begin()
        interrupt = train(prepared.runs, hooks)
        if interrupt is None:
            try:
                hooks.end(prepared.runs)
            except KeyboardInterrupt as late:  # training is over, and kept
                return late
        return interrupt

    def _way_back(self, continues: bool, incremental: bool) -> Callable[[], None]:
        """Return what sets the random streams back to where they are now."""
        streams = self._streams(continues, incremental)
        positions = [stream.get_state(legacy=False) for stream in streams]

        def go_back() -> None:
            for stream, position in zip(streams, positions, strict=True):
                stream.set_state(position)

        return go_back

    def _streams(self, continues: bool, incremental: bool) -> list[np.random.RandomState]:
        """Return the random streams that a fit draws from, which a failure leaves where they are.

        They are the user's, NumPy's global one, or the estimator's own. Copies would not do: two
        threads would draw the same from those of the global one, and a copy takes as long as a
        step on a batch of a few rows.
        """
        if continues and incremental and not self.shuffle:
            return []  # nothing is drawn
        past = getattr(self, "_training", []) if continues else []
        streams = [stream for each in past for stream in each.state.streams]
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            streams.append(check_random_state(self.random_state))
        return streams

    def _further_pieces(self, plan: Plan, learned: Learned, data: Data) -> Pieces | None:
        """Return the run of the last `partial_fit`, made to go on, if nothing else has come since.

        That is another fit, or what the user has changed: parameters, weights or their like.
        """
        pieces = self._pieces
        if pieces is None or pieces.past is None or not pieces.takes(data.table):
            return None
        run, known = pieces.run, vars(self)
        is_the_last = (
            plan is run.plan
            and learned.loss is run.objective.loss
            and known.get("_training", [None])[0] is pieces.past
            and known.get("t_") == run.n_seen
        )
        if not (is_the_last and self._holds(run.shown, learned.network)):
            return None
        pieces.go_on(self._problem(plan, learned, run.objective, data, incremental=True))
        return pieces

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
        planned = planned or self._checked_plan(is_known=continues and incremental)
        plan = planned.plan
        if known is not None and not self._is_the_last(plan):
            self._check_fixed(known.fixed)
        reader = self if known else stand_in(self)
        X, y = reader._validated(given.X, given.y, reset=known is None)
        plan.architecture.check_takes(X)
        dtype = known.dtype if known else plan.dtype or float_for(X)
        check_range(X, dtype)
        table = Table(X, y, validated_weight(given.sample_weight, X))
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
        if self._is_the_last(plan) and targets is known.targets:
            return known
        return replace(known, targets=targets, loss=self._loss_of(plan, targets))

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
            plan.architecture.check_takes(other.data.table.X)
            network = plan.architecture.network(known.n_features, other.data.table.y.shape[1])
        loss, fixed = self._loss_of(plan, known.targets), fixed_of(self._settings)
        learned = replace(known, fixed=fixed, loss=loss, network=network, n_members=plan.n_members)
        runs = self._runs(plan, learned, other.data, starts or self._new_starts(plan), False)
        return Prepared(planned, learned, other.data, runs)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return checked X and targets; with `reset` take note of the features."""
        return validated_data(self, X, y, self._y_numeric, reset)

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
        scorer = scorer_of(scoring)
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

    def _check_fixed(self, fixed: dict[str, Any]) -> None:
        now = fixed_of(self._settings)
        for name, value in fixed.items():
            if not can_go_on(name, value, now[name]):
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _warn_of_batch_size(batch_size: int, n_train: int) -> None:
    """Warn if a batch is asked for that is larger than the data."""
    if batch_size > n_train:
        warn(
            f"batch_size={batch_size} is larger than the {n_train} training rows. It is "
            f"going to be clipped to {n_train}.",
            UserWarning,
        )


def _can_be_kept(runs: list[Run], was_fitted: bool) -> bool:
    """Return whether what an interrupt has left of the runs is worth more than what was before."""
    is_trained = [run.n_iter > 0 for run in runs]
    if any(run.error is not None for run in runs) or (any(is_trained) and not all(is_trained)):
        return False
    # One epoch that was not completed, as by partial_fit, has left nothing.
    return all(is_trained) or not (was_fitted or runs[0].incremental)
