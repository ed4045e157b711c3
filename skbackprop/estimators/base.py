"""What the classifier and the regressor share: from scikit-learn's conventions to a run and back.

An estimator is a stack of one network. `fit` and `partial_fit` validate, let a run train it, and
keep what came of it: all or nothing.
"""

from __future__ import annotations

import copy
import math
import operator
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
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
from ..fitting.effects import warn_of_no_effect
from ..fitting.plan import (
    activation_of_each_layer,
    as_normalization,
    build_average,
    build_network,
    can_go_on,
    dropout_rates,
    hidden_widths,
    is_lbfgs,
    with_dropout,
)
from ..fitting.run import Problem, Run
from ..fitting.training import train
from ..fitting.warnings import warn
from ..fitting.weights import checked_arrays, checked_layers, member_init, member_streams
from ..losses.base import Loss
from .curves import Curve, CurveAttribute, going_on
from .nested import NestedParameters
from .parameters import ARCHITECTURE
from .rebuilt import Rebuilt
from .validation import check_range, validated_data, validated_input, validated_weight


class BaseBackprop(Rebuilt, NestedParameters, metaclass=ABCMeta):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]]
    _y_numeric: ClassVar[bool]  # whether the targets are numbers
    _shapes_data: ClassVar[tuple[str, ...]] = ("dtype", "loss")  # what a table depends on

    _known_parameters: Sequence[Any] = ()  # those last validated, for this process
    loss_curve_ = CurveAttribute()
    best_loss_: float | None
    validation_scores_ = CurveAttribute()
    best_validation_score_: float | None

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _encode(self, y: Any, reset: bool, incremental: bool, classes: Any) -> Array:
        """Return targets of shape (n, k); with `reset` learn what they are.

        `classes` are all labels there will ever be, where the user has named them.
        """

    @abstractmethod
    def _loss(self) -> Loss:
        """Return the loss to train with, for the targets last encoded.

        Predictions go by `_trained_loss`: the user may have set another `loss` since.
        """

    @abstractmethod
    def _score_targets(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return the score of predictions from raw `scores` for encoded targets."""

    def _outcomes(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return of each member and row what `_score_targets` is to judge: the raw scores."""
        return scores_of(network, parameters, X, rows)

    def _strata(self, y: Array) -> Array | None:
        """Return the class of each row, where a split is to be stratified by it."""
        return None

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
        before = dict(self.__dict__)
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        streams = self._streams_to_restore(continues, incremental)
        streams_before = [stream.get_state(legacy=False) for stream in streams]
        try:
            runs = self._prepare(X, y, sample_weight, continues, incremental, classes)
            interrupt = train(runs)
            if interrupt is not None and not _can_be_kept(runs, "coefs_" in before):
                raise interrupt
            self._keep(runs, continues)
        except BaseException:
            self.__dict__ = before
            for stream, state in zip(streams, streams_before, strict=True):
                stream.set_state(state)
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _streams_to_restore(
        self, continues: bool, incremental: bool
    ) -> list[np.random.RandomState]:
        """Return the random streams that a failure must leave where they are."""
        if continues and incremental and not self.shuffle:
            return []  # nothing is drawn
        past = getattr(self, "_training", []) if continues else []
        streams = [state["stream"] for state in past]
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
    ) -> list[Run]:
        """Check parameters and data, and return a run for each member, ready to be trained."""
        self._check_parameters(is_known=incremental and continues)
        if continues:
            self._check_architecture()
        table = self._table(X, y, sample_weight, not continues, incremental, classes)
        return self._runs(table, continues, incremental)

    def _check_parameters(self, is_known: bool) -> None:
        """Validate the parameters; with `is_known` only if one is another than the last time.

        For a batch of a few rows that would take as long as to train on it.
        """
        parameters = [getattr(self, name) for name in self._get_param_names()]
        known = self._known_parameters
        is_same = len(known) == len(parameters) and all(map(operator.is_, known, parameters))
        if not (is_known and is_same):
            build_average(self)  # says what to write in the place of a flag or a number
            self._validate_params()
            warn_of_no_effect(self, {name: row.default for name, row in self._rows.items()})
            self._known_parameters = parameters

    def _prepare_first(self, X: Any, y: Any, sample_weight: Any = None) -> list[Run]:
        """Return the runs of a `fit` with nothing to go on from; the arguments are those of fit."""
        return self._prepare(X, y, sample_weight, continues=False, incremental=False)

    def _prepare_like(self, other: BaseBackprop, table: Table) -> list[Run]:
        """Return the runs of a first fit to data that another estimator has checked already."""
        self._check_parameters(is_known=False)
        self.__dict__ = vars(other) | vars(self)
        return self._runs(table, continues=False, incremental=False)

    def _table(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        incremental: bool,
        classes: Any,
    ) -> Table:
        """Return checked data; with `reset` learn the features and the targets."""
        X, y = self._validated(X, y, reset)
        if reset:
            self._model_dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        check_range(X, self._model_dtype)
        weight = validated_weight(sample_weight, X)
        return Table(X, self._encode(y, reset, incremental, classes), weight)

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        """Return checked X and targets; with `reset` take note of the features."""
        return validated_data(self, X, y, self._y_numeric, reset)

    def _new_network(self, n_features: int, n_outputs: int) -> Network:
        """Return the architecture that is to be trained on data of so many columns."""
        return build_network(self, n_features, n_outputs)

    def _dropout_rates(self, n_hidden: int) -> tuple[float, ...]:
        """Return the rates of the input and of so many hidden layers; empty for none."""
        return dropout_rates(self.dropout, n_hidden)

    def _runs(self, table: Table, continues: bool, incremental: bool) -> list[Run]:
        """Return a run for each member: from the estimator's weights, or from new ones."""
        if continues:
            network = self._trained_network
        else:
            network = self._new_network(table.X.shape[1], table.y.shape[1])
        problem = Problem(
            self,
            with_dropout(network, self._dropout_rates(len(network.activations)), self),
            self._loss(),
            table,
            self._model_dtype,
            self._score_targets,
            self._strata,
            incremental,
            self._outcomes,
        )
        if continues:
            runs = self._further_runs(problem)
        else:
            streams = member_streams(self.random_state, self.n_members)
            runs = [Run(problem, stream, None, {}, 0, i) for i, stream in enumerate(streams)]
        if not (incremental or problem.is_lbfgs):
            runs[0].warn_of_batch_size()
        return runs

    def _further_runs(self, problem: Problem) -> list[Run]:
        """Return a run for each member that goes on from its weights, and its state if known."""
        past = getattr(self, "_training", None)
        if past is None:  # it was left behind when the estimator was pickled
            past = [{} for _ in range(self.n_members)]
            streams = member_streams(self.random_state, self.n_members)
        else:
            streams = [state["stream"] for state in past]
        parameters, n_members = self._parameters(), self.n_members
        starts = [parameters.members(slice(i, i + 1)) for i in range(n_members)]
        n_seen = np.broadcast_to(getattr(self, "t_", 0), n_members).tolist()
        return [
            Run(problem, *of_member, member)
            for member, of_member in enumerate(zip(streams, starts, past, n_seen, strict=True))
        ]

    # ---------------------------------------------------------------- what is kept

    def _keep(self, runs: list[Run], continues: bool) -> None:
        """Set the attributes that scikit-learn's networks have, and the state to go on from.

        What a single network has one of, several have an array or a list of.

        Raises
        ------
        ValueError
            If a run failed.
        """
        for run in runs:
            if run.error is not None:
                raise run.error
        thetas = [run.kept_theta(self._model_dtype) for run in runs]
        parameters = runs[0].parameters.like(
            thetas[0] if len(runs) == 1 else np.vstack(thetas),
            join_states([run.kept_statistics() for run in runs]),
        )
        members = 0 if len(runs) == 1 else slice(None)
        problem = runs[0].problem
        self._trained_network = problem.network.with_dropout(())
        self._keep_arrays(parameters, members)
        widths = self._trained_network.widths
        self.n_layers_, self.n_outputs_ = len(widths), widths[-1]
        self._trained_loss = problem.loss
        self.out_activation_ = problem.loss.link.name
        self.n_iter_ = _of_members([run.n_iter for run in runs])
        self.best_iter_ = _of_members([run.best_iter for run in runs])
        self.t_ = _of_members([run.n_seen for run in runs])
        self.loss_ = _of_members([run.loss for run in runs])
        self._keep_courses(runs, continues)
        if not continues:
            self._architecture = self._architecture_now()
        self._training = [run.kept_state for run in runs]
        self._went_on = problem.incremental
        for message in dict.fromkeys(message for run in runs for message in run.warnings):
            warn(message, ConvergenceWarning)

    def _keep_arrays(self, parameters: FlatParameters, members: Any) -> None:
        """Set a fitted attribute for each kind of arrays that layers have; None for other kinds."""
        shapes, normalization = self._trained_network.shapes, as_normalization(self.normalization)
        if normalization is not None:  # without hidden layers there is an array for none of them
            blocks = *normalization.blocks(0), *normalization.statistics(0)
            shapes = {block.name: [] for block in blocks} | shapes
        for name, attribute in self._attributes.items():
            arrays = None
            if name in shapes:
                arrays = [
                    array[members, 0] if len(shape) == 1 else array[members]
                    for array, shape in zip(parameters.of(name), shapes[name], strict=True)
                ]
            setattr(self, attribute, arrays)

    @property
    def _attributes(self) -> dict[str, str]:
        """The names of the layers' arrays, and of the fitted attributes with a list of each."""
        return {name: f"{name}_" for name in self._trained_network.shapes} | _ATTRIBUTES

    def _keep_courses(self, runs: list[Run], continues: bool) -> None:
        """Set the course of training, and the best of it."""
        courses = [self._course(run, i, continues) for i, run in enumerate(runs)]
        names = ("loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_")
        for name, values in zip(names, zip(*courses, strict=True), strict=True):
            setattr(self, name, _of_members(list(values)))

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

    def _architecture_now(self) -> dict[str, Any]:
        architecture = {name: getattr(self, name) for name in ARCHITECTURE}
        architecture["hidden_layer_sizes"] = hidden_widths(self.hidden_layer_sizes)
        architecture["activation"] = activation_of_each_layer(self)
        return architecture

    def _check_architecture(self) -> None:
        now = self._architecture_now()
        for name, value in self._architecture.items():
            if not can_go_on(name, value, now[name]):
                raise ValueError(
                    f"{name} was {value!r} when training began and is {now[name]!r} now, but it "
                    "cannot change while training goes on. Set it back, or start anew with "
                    "warm_start=False and fit."
                )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training state behind unless training is meant to go on."""
        state = dict(super().__getstate__())
        state.pop("_known_parameters", None)
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
        X = validated_input(self, X)
        network, parameters = self._trained_network, self._parameters()
        with np.errstate(all="ignore"):
            return outcomes_of(
                network,
                parameters,
                X,
                lambda scores: outcome(finite(scores, network, parameters, X)),
            )

    def _pooled(self, scores: Array) -> Array:
        """Return the scores of the members' mean prediction."""
        return scores[0] if len(scores) == 1 else self._trained_loss.link.pool(scores)

    def _parameters(self) -> Parameters:
        """Return what `coefs_`, `intercepts_` and their like hold now, in the model's dtype."""
        network, n_members, dtype = self._trained_network, self._n_trained, self._model_dtype
        layers, axis = self._layers(network), None if n_members == 1 else slice(None)
        named: dict[str, list[Array]] = {
            "weights": [weights for weights, _ in layers],
            "biases": [biases for _, biases in layers],
        }
        for name, shapes in network.shapes.items():
            if name not in named:
                attribute = self._attributes[name]
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
        return int(self._architecture["n_members"])

    def _alone(self, member: int) -> Any:
        """Return a member as an estimator with one network."""
        one = copy.copy(self)
        one.n_members = 1
        one._architecture = {**self._architecture, "n_members": 1}
        # Its stream and moments stay with the ensemble, which goes on from them.
        one.__dict__.pop("_training", None)
        one.random_state = copy.deepcopy(self.random_state)
        one.init = member_init(self.init, member)
        for attribute in self._attributes.values():
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
