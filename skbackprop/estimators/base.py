"""What the classifier and the regressor share: from scikit-learn's conventions to a run and back.

An estimator is a stack of one network. `fit` and `partial_fit` validate, let a run train it, and
keep what came of it: all or nothing.
"""

from __future__ import annotations

import copy
import math
import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..core.arrays import Array, largest_magnitude
from ..core.members import join_states
from ..engine.batches import Table
from ..engine.network import Network
from ..engine.parameters import FlatParameters, Parameters
from ..engine.prediction import outcomes_of, scores_of
from ..fitting.architecture import Architecture
from ..fitting.course import Past
from ..fitting.effects import warn_of_no_effect
from ..fitting.initial import member_init
from ..fitting.plan import Plan, build_average, can_go_on, check_solver, is_lbfgs, plan_of
from ..fitting.run import Outcomes, Problem, Run, Score
from ..fitting.streams import member_streams
from ..fitting.training import train
from ..fitting.warnings import warn
from ..fitting.weights import checked_arrays, checked_layers
from ..losses.base import Loss
from .curves import Curve, CurveAttribute, going_on
from .learned import Learned, Prepared, Targets, fixed_of
from .nested import NestedParameters
from .rebuilt import Rebuilt
from .validation import (
    check_range,
    stand_in,
    validated_data,
    validated_input,
    validated_weight,
)

# Values whose contents may change under one's hands.
_CHANGING = (list, dict, np.ndarray)


class BaseBackprop(Rebuilt, NestedParameters, metaclass=ABCMeta):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _losses: ClassVar[Mapping[str, Loss]]  # those with a name
    _kind_of_network: ClassVar[type[Architecture]] = Architecture
    _y_numeric: ClassVar[bool]  # whether the targets are numbers

    _planned: tuple[Sequence[Any], Plan] | None = None  # the parameters last trained by
    loss_curve_ = CurveAttribute()
    best_loss_: float | None
    validation_scores_ = CurveAttribute()
    best_validation_score_: float | None

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _learn(self, plan: Plan, table: Table, dtype: Any, incremental: bool, classes: Any) -> Any:
        """Return the `Targets` that a first y is of, which stands in the table as it is.

        `classes` are all labels there will ever be, where the user has named them.
        """

    @abstractmethod
    def _recall(self, plan: Plan, n_outputs: int) -> Any:
        """Return the `Targets` of a network that was put together, from attributes."""

    def _check_known(self, targets: Targets, classes: Any) -> None:
        """Check that what the user says of the targets is what is known of them."""

    def _loss_of(self, plan: Plan, targets: Any) -> Loss:
        """Return the loss of a plan, for the targets at hand."""
        return plan.loss

    @abstractmethod
    def _score_of(self, loss: Loss, targets: Any) -> Score:
        """Return what scores outcomes by encoded targets, for early stopping."""

    def _outcomes_of(self, loss: Loss) -> Outcomes:
        """Return what makes of a network and rows the outcomes that are scored: raw scores."""
        return scores_of

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, which a search does for every fit four times.
        return super()._get_param_names()

    # -------------------------------------------------------------------- training

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.

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
        return self._fit(X, y, sample_weight, incremental=False)

    def _check_stochastic(self) -> bool:
        if is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got "
                f"solver={self.solver!r}. Choose another solver, or use warm_start=True with fit."
            )
        return True

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, classes: Any = None
    ) -> Self:
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        streams = self._streams(continues, incremental)
        positions = [stream.get_state(legacy=False) for stream in streams]
        try:
            prepared = self._prepare(X, y, sample_weight, continues, incremental, classes)
            interrupt = train(prepared.runs)
            if interrupt is not None and not _can_be_kept(prepared.runs, hasattr(self, "coefs_")):
                raise interrupt
            self._keep(prepared, continues)
        except BaseException:
            for stream, position in zip(streams, positions, strict=True):
                stream.set_state(position)
            raise
        if interrupt is not None:
            raise interrupt
        return self

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

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        continues: bool,
        incremental: bool,
        classes: Any = None,
    ) -> Prepared:
        """Check parameters and data, and return what they make; the estimator stays as it is."""
        known: Learned | None = self._learned if continues else None
        plan = self._checked_plan(is_known=continues and incremental)
        if known is not None:
            self._check_fixed(known.fixed)
        reader = self if known else stand_in(self)
        X, y = reader._validated(X, y, reset=known is None)
        dtype = known.dtype if known else plan.dtype or X.dtype
        check_range(X, dtype)
        table = Table(X, y, validated_weight(sample_weight, X))
        if known is not None and self._knows_targets:
            targets = known.targets
            self._check_known(targets, classes)
        else:
            targets = self._learn(plan, table, dtype, incremental, classes)
        needs_all = continues and not incremental
        table = replace(table, y=targets.encode(y, needs_all))
        learned = self._learned_of(plan, known, reader, dtype, targets, table.y.shape[1])
        return Prepared(learned, self._runs(plan, learned, table, continues, incremental))

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
                fixed_of(self.get_params(deep=False)),
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
        is_as_before = self._planned is not None and plan is self._planned[1]
        if is_as_before and targets is known.targets:
            return known
        return replace(known, targets=targets, loss=self._loss_of(plan, targets))

    def _checked_plan(self, is_known: bool) -> Plan:
        """Return the plan that the parameters make, checked.

        With `is_known` it is the last one, if they are the same: for a batch of a few rows a check
        would take as long as to train on it.
        """
        is_same = False
        if is_known and self._planned is not None:
            (before, plan), values = self._planned, self._parameter_values()
            is_same = len(before) == len(values) and all(map(operator.is_, before, values))
            # What is within a list may have changed.
            if is_same and not any(isinstance(value, _CHANGING) for value in values):
                return plan
        parameters = self.get_params(deep=False)
        build_average(parameters)  # says what to write in the place of a flag or a number
        self._validate_params()
        plan = self._plan_of(parameters)
        check_solver(plan, parameters)
        if not is_same:
            warn_of_no_effect(parameters, {name: row.default for name, row in self._rows.items()})
        return plan

    def _parameter_values(self) -> list[Any]:
        return [getattr(self, name) for name in self._get_param_names()]

    def _plan_of(self, parameters: Mapping[str, Any]) -> Plan:
        return plan_of(parameters, self._losses, self._kind_of_network)

    def _prepare_first(self, X: Any, y: Any, sample_weight: Any = None) -> Prepared:
        """Return the runs of a `fit` with nothing to go on from; the arguments are those of fit."""
        return self._prepare(X, y, sample_weight, continues=False, incremental=False)

    def _prepare_like(self, other: Prepared) -> Prepared:
        """Return the runs of a first fit to data that another estimator has checked already."""
        plan, known = self._checked_plan(is_known=False), other.learned
        table = other.runs[0].table
        network = plan.architecture.network(known.n_features, table.y.shape[1])
        loss, fixed = self._loss_of(plan, known.targets), fixed_of(self.get_params(deep=False))
        learned = replace(known, fixed=fixed, loss=loss, network=network, n_members=plan.n_members)
        runs = self._runs(plan, learned, table, continues=False, incremental=False)
        return Prepared(learned, runs)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return checked X and targets; with `reset` take note of the features."""
        return validated_data(self, X, y, self._y_numeric, reset)

    def _runs(
        self, plan: Plan, learned: Learned, table: Table, continues: bool, incremental: bool
    ) -> list[Run]:
        """Return a run for each member: from the estimator's weights, or from new ones."""
        targets = learned.targets
        problem = Problem(
            plan,
            learned.network.with_dropout(plan.architecture.rates),
            learned.loss,
            table,
            learned.dtype,
            self._score_of(learned.loss, targets),
            targets.strata,
            self._outcomes_of(learned.loss),
            incremental,
        )
        if continues:
            runs = self._further_runs(problem)
        else:
            streams = member_streams(self.random_state, plan.n_members)
            runs = [Run(problem, stream, None, None, 0, i) for i, stream in enumerate(streams)]
        if not (incremental or plan.is_lbfgs or isinstance(self.batch_size, str)):
            _warn_of_batch_size(plan.batch_size, runs[0].n_train)
        return runs

    def _further_runs(self, problem: Problem) -> list[Run]:
        """Return a run for each member that goes on from its weights, and its past if known."""
        parameters, n_members = self._parameters(), self._n_trained
        # The past is left behind when the estimator is pickled.
        past: Sequence[Past | None] = getattr(self, "_training", [None] * n_members)
        if past[0] is None:
            streams = member_streams(self.random_state, n_members)
        else:
            streams = [stream for each in past if each for stream in each.state.streams if stream]
        starts = [parameters.members(slice(i, i + 1)) for i in range(n_members)]
        n_seen = np.broadcast_to(getattr(self, "t_", 0), n_members).tolist()
        return [
            Run(problem, *of_member, member)
            for member, of_member in enumerate(zip(streams, starts, past, n_seen, strict=True))
        ]

    # ---------------------------------------------------------------- what is kept

    def _keep(self, prepared: Prepared, continues: bool) -> None:
        """Set the attributes that scikit-learn's networks have, and the past to go on from.

        What a single network has one of, several have an array or a list of. It is one assignment:
        before it nothing has changed.

        Raises
        ------
        ValueError
            If a run failed.
        """
        learned, runs = prepared
        for run in runs:
            if run.error is not None:
                raise run.error
        fitted = {
            **learned.attributes,
            **self._arrays(learned, runs),
            "n_iter_": _of_members([run.n_iter for run in runs]),
            "best_iter_": _of_members([run.best_iter for run in runs]),
            "t_": _of_members([run.n_seen for run in runs]),
            "loss_": _of_members([run.loss for run in runs]),
            **self._courses(runs, continues),
            "_learned": learned,
            "_planned": (self._parameter_values(), runs[0].plan),
            "_training": [run.past for run in runs],
            "_went_on": runs[0].incremental,
        }
        for message in dict.fromkeys(message for run in runs for message in run.warnings):
            warn(message, ConvergenceWarning)
        others = {name: value for name, value in vars(self).items() if name != "feature_names_in_"}
        self.__dict__ = others | fitted

    def _arrays(self, learned: Learned, runs: list[Run]) -> dict[str, Any]:
        """Return a fitted attribute for each kind of arrays that layers have; None for others."""
        parameters = _predicting(runs, learned.dtype)
        members = 0 if len(runs) == 1 else slice(None)
        shapes, normalization = learned.network.shapes, runs[0].plan.architecture.normalization
        if normalization is not None:  # without hidden layers there is an array for none of them
            blocks = *normalization.blocks(0), *normalization.statistics(0)
            shapes = {block.name: [] for block in blocks} | shapes
        found: dict[str, Any] = {}
        for name, attribute in attributes_of(learned.network).items():
            found[attribute] = None
            if name in shapes:
                found[attribute] = [
                    array[members, 0] if len(shape) == 1 else array[members]
                    for array, shape in zip(parameters.of(name), shapes[name], strict=True)
                ]
        return found

    def _courses(self, runs: list[Run], continues: bool) -> dict[str, Any]:
        """Return the course of training, and the best of it."""
        courses = [self._course(run, i, continues) for i, run in enumerate(runs)]
        names = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")
        each = zip(names, zip(*courses, strict=True), strict=True)
        return {name: _of_members(list(values)) for name, values in each}

    def _course(self, run: Run, member: int, continues: bool) -> tuple[Any, ...]:
        """Return a member's losses and the best of them, its scores and the best of them."""

        def past(name: str) -> Any:
            return self._of_member(name, member) if continues else None

        losses = going_on(past("loss_curve_"), run.losses)
        # Over calls of partial_fit, which have no stopping rule, the best is that of all calls.
        goes_on = run.incremental and continues
        if self.early_stopping:
            scores = going_on(past("validation_scores_"), run.scores)
            # Where rows were held out it is a float, also if L-BFGS made no iteration to score.
            unscored = None if run.validation is None else math.nan
            best_score = run.best_score if run.scores else unscored
            return losses, None, scores, past("best_validation_score_") if goes_on else best_score
        best_loss = min(run.losses, default=np.inf)
        if goes_on and past("best_loss_") is not None:
            best_loss = min(best_loss, past("best_loss_"))
        return losses, best_loss, None, None

    def _of_member(self, name: str, member: int) -> Any:
        """Return a member's own value of a fitted attribute, as it is kept; None if never set."""
        value = vars(self).get(name)
        return value if value is None or self._n_trained == 1 else value[member]

    def _check_fixed(self, fixed: dict[str, Any]) -> None:
        now = fixed_of(self.get_params(deep=False))
        for name, value in fixed.items():
            if not can_go_on(name, value, now[name]):
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training state behind unless training is meant to go on."""
        state = dict(super().__getstate__())
        state.pop("_planned", None)
        if "_training" in state and not (self.warm_start or self._went_on):
            del state["_training"]
        return state

    # ------------------------------------------------------------------ prediction

    def _scores(self, X: Any) -> Array:
        """Return the raw scores of X, of shape (n, n_outputs); several members' are pooled."""
        return np.asarray(self._outcome(X, self._pooled))

    def _outcome(self, X: Any, outcome: Callable[[Array], Any]) -> Any:
        """Return what `outcome` makes of every member's scores, a block of rows at a time."""
        check_is_fitted(self)
        learned = self._learned
        X = validated_input(self, X, learned.dtype)
        network, parameters = learned.network, self._parameters()
        with np.errstate(all="ignore"):
            return outcomes_of(
                network,
                parameters,
                X,
                lambda scores: outcome(finite(scores, network, parameters, X)),
            )

    def _pooled(self, scores: Array) -> Array:
        """Return the scores of the members' mean prediction."""
        return scores[0] if len(scores) == 1 else self._learned.loss.link.pool(scores)

    def _parameters(self) -> Parameters:
        """Return what `coefs_`, `intercepts_` and their like hold now, in the model's dtype."""
        learned = self._learned
        network, n_members, dtype = learned.network, learned.n_members, learned.dtype
        attributes = attributes_of(network)
        layers, axis = self._layers(network), None if n_members == 1 else slice(None)
        named: dict[str, list[Array]] = {
            "weights": [weights for weights, _ in layers],
            "biases": [biases for _, biases in layers],
        }
        for name, shapes in network.shapes.items():
            if name not in named:
                attribute = attributes[name]
                arrays = getattr(self, attribute)
                named[name] = checked_arrays(arrays, shapes, attribute, n_members)
            named[name] = [
                array[(axis, None) if len(shape) == 1 else axis].astype(dtype, copy=False)
                for array, shape in zip(named[name], shapes, strict=True)
            ]
        return network.parameters(named)

    def _layers(self, network: Network) -> list[tuple[Array, Array]]:
        """Return the weights and biases that `coefs_` and `intercepts_` hold now."""
        return checked_layers(
            self.coefs_, self.intercepts_, network, "coefs_, intercepts_", self._n_trained
        )

    @property
    def estimators_(self) -> list[Any]:
        """The members, each as an estimator of its own; they share the weights of this one.

        A single network has none: code that goes from members to their members has to end.
        """
        check_is_fitted(self)
        if self._n_trained == 1:
            raise AttributeError(
                f"estimators_ is there for several members, but this {type(self).__name__} is "
                "one network: use it as it is, or set n_members above 1."
            )
        return [self._alone(member) for member in range(self._n_trained)]

    @property
    def _n_trained(self) -> int:
        """The number of members that were trained."""
        return int(self._learned.n_members)

    def _alone(self, member: int) -> Any:
        """Return a member as an estimator with one network."""
        one = copy.copy(self)
        one.n_members = 1
        learned = self._learned
        one._learned = replace(learned, fixed=learned.fixed | {"n_members": 1}, n_members=1)
        # Its stream and moments stay with the ensemble, which goes on from them.
        one.__dict__.pop("_training", None)
        one.random_state = copy.deepcopy(self.random_state)
        one.init = member_init(self.init, member)
        for attribute in attributes_of(learned.network).values():
            arrays = getattr(self, attribute)
            setattr(one, attribute, None if arrays is None else [array[member] for array in arrays])
        for name in _PER_MEMBER:
            value = self._of_member(name, member)
            setattr(one, name, value.item() if isinstance(value, np.generic) else value)
        return one

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


# The fitted attributes that there are always; what else layers have gets its name and a "_".
_ATTRIBUTES = {
    "weights": "coefs_",
    "biases": "intercepts_",
    "gains": "gains_",
    "means": "running_means_",
    "variances": "running_variances_",
}

# The fitted attributes that hold something for each member.
_PER_MEMBER = (
    "best_iter_",
    "best_loss_",
    "best_validation_score_",
    "loss_",
    "loss_curve_",
    "n_iter_",
    "t_",
    "validation_scores_",
)


def attributes_of(network: Network) -> dict[str, str]:
    """Return the names of the layers' arrays, and of the fitted attributes with a list of each."""
    return {name: f"{name}_" for name in network.shapes} | _ATTRIBUTES


def _predicting(runs: list[Run], dtype: np.dtype[np.floating]) -> FlatParameters:
    """Return what the networks of some runs predict with, as the parameters of one stack."""
    each = [run.kept.predicting for run in runs]
    thetas = [theta.astype(dtype, copy=False) for theta, _ in each]
    theta = thetas[0] if len(thetas) == 1 else np.vstack(thetas)
    return runs[0].parameters.like(theta, join_states([statistics for _, statistics in each]))


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


def finite(outcomes: Array, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return what a network says of X, or raise an error that says whose fault it is."""
    if np.isfinite(outcomes.sum()) or np.isfinite(outcomes).all():
        return outcomes
    of_X = largest_magnitude(X)
    of_weights = max(map(largest_magnitude, [*parameters.weights, *parameters.biases]))
    sizes = f"the largest absolute value in X is {of_X:.3g}, of the weights {of_weights:.3g}"
    # Whatever the scale of X is: X itself may be the one row that it is measured by.
    if np.isfinite(scores_of(network, parameters, X / (of_X or 1.0))).all():
        advice = "Look at the scale of X: it should be that of the training data."
    else:
        advice = (
            "The weights are too large for any X. If they are what training has led to, it "
            "diverged: lower learning_rate_init or scale the training data, and fit again."
        )
    raise ValueError(f"The network's output on X is not finite: {sizes}. {advice}")


def _of_members(values: list[Any]) -> Any:
    """Return the value of a single member as it is, those of several as an array or a list."""
    if len(values) == 1 or values[0] is None:
        return values[0]
    return values if isinstance(values[0], Curve) else np.array(values)
