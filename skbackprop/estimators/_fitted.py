"""Fitted attributes and prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from ..nn.network import Network
from ..nn.parameters import FlatParameters, Parameters
from ..nn.prediction import predict_in_batches, predict_raw
from ..training._warnings import warn
from ..training.config import TrainingConfig
from ..training.convergence import messages_of
from ..training.folds import OutOfFoldPredictions, predict_out_of_fold
from ..training.history import WarmStartState
from ..training.partial_fit_session import PartialFitSession
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingRun
from ..training.weight_init import checked_arrays, checked_layers
from ..utils.arrays import Array, max_abs
from ..utils.stack_members import concatenate_states
from ._checkpoint_io import EstimatorCheckpoint
from ._data_info import DataInfo, FitContext, ValidatedParams
from ._from_weights import FromWeightsMixin
from ._loss_history import HistoryAttribute, SharedList, extend_curve
from ._mixins import FittedAttributesHTML, NestedParamsMixin
from ._validation import bare_clone, validated_input
from .summary import Summary, summary_of

# Rows that are scaled at once, where the network's output on them is not finite.
_ROWS_AT_ONCE = 1 << 10

# The course of training, for each member.
_COURSE = (
    "loss_curve_",
    "best_loss_",
    "validation_loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "best_iter_",
)

_CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")

# What scikit-learn keeps on an estimator while callbacks follow its fit, and is of no other.
OF_CALLBACKS = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")


class FittedAttributesMixin(FromWeightsMixin, NestedParamsMixin):
    """An estimator with the attributes that scikit-learn's networks have."""

    # Of the arrays that layers may have: those that there are always an attribute for.
    _attributes: ClassVar[Mapping[str, str]] = {"weights": "coefs_", "biases": "intercepts_"}

    _validated_params: ValidatedParams | None = None  # what was last trained by
    _partial_fit_session: PartialFitSession | None = (
        None  # the run that the last partial_fit has left bound
    )

    # Of one network; of several members an array, or a list, with a value for each. Checkers take
    # the attributes that are computed for what is read.
    coefs_: list[Array]
    intercepts_: list[Array]
    feature_names_in_: Array
    loss_: float | Any
    loss_curve_: list[float] = cast(Any, HistoryAttribute())
    best_loss_: float | Any | None
    validation_loss_curve_: list[float] | None = cast(Any, HistoryAttribute())
    validation_scores_: list[float] | None = cast(Any, HistoryAttribute())
    best_validation_score_: float | Any | None
    n_iter_: int | Any
    best_iter_: int | Any
    converged_: bool | Any
    t_: int | Any

    def _attributes_of(self, network: Network) -> dict[str, str]:
        """Return the names of layers' arrays, and of the fitted attributes with a list of each."""
        return {name: f"{name}_" for name in network.shapes} | dict(self._attributes)

    # ---------------------------------------------------------------- what is kept

    def _keep(
        self, prepared: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Set the attributes that scikit-learn's networks have, and the past to go on from.

        What a single network has one of, several have an array or a list of. Names of features
        are those of the first fit, or what the user has set since. It is one assignment: before it
        nothing has changed.

        Raises
        ------
        ValueError
            If a run failed.
        """
        runs = prepared.runs
        for run in runs:
            if run.error is not None:
                raise run.error
        fitted = self._outcome_of(prepared, continues)
        for message in messages_of(runs):
            warn(message, ConvergenceWarning)
        others = dict(vars(self))
        others.pop("_partial_fit_session", None)
        if not continues:
            others.pop("feature_names_in_", None)
        if session is not None:
            fitted["_partial_fit_session"] = session
            session.past = fitted["_training"][0]
        self.__dict__ = others | fitted

    def _outcome_of(self, prepared: FitContext, continues: bool) -> dict[str, Any]:
        """Return what `_keep` sets."""
        planned, learned, runs = prepared.planned, prepared.learned, prepared.runs
        pasts = [run.past for run in runs]
        return {
            **learned.attributes,
            **({} if continues else learned.names),
            **self._arrays(learned, planned.config, pasts),
            "_out_of_fold": _out_of_fold_of(runs, pasts, learned.dtype),
            "n_iter_": _of_members([run.n_iter for run in runs]),
            "converged_": _of_members([run.is_converged for run in runs]),
            "t_": _of_members([run.n_samples_seen for run in runs]),
            "loss_": _of_members([np.float64(run.loss) for run in runs]),
            **self._courses(prepared, continues),
            "_learned": learned,
            "_validated_params": planned,
            "_training": pasts,
            "_went_on": runs[0].incremental,
        }

    def _fitted_by(
        self,
        prepared: FitContext,
        continues: bool,
        settings: Mapping[str, str] | None,
        runs: Sequence[TrainingRun],
    ) -> dict[str, Any] | None:
        """Return what `_keep` would set of runs that have come so far; None if one has failed.

        With `settings`, those of `describe_settings_of`, it is all that another process needs to go
        on.
        """
        if any(run.error is not None for run in runs):
            return None
        in_order = sorted(runs, key=lambda run: run.member)
        if (interrupt := fit_temperature_scaling(in_order)) is not None:
            raise interrupt
        outcome = self._outcome_of(prepared._replace(runs=in_order), continues)
        if not continues and hasattr(self, "feature_names_in_"):  # of an earlier fit
            outcome.setdefault("feature_names_in_", None)
        before = [self._before(prepared, i, continues) for i in range(len(runs))]
        outcome["_curves_before"] = before
        if settings is not None:
            # The arrays of the outcome are the callbacks', to change as they like.
            apart = [run.snapshot() for run in in_order]
            moments = [run.checkpoint for run in apart]
            kind, problem = type(self).__name__, apart[0].problem
            outcome["_resumable"] = EstimatorCheckpoint(kind, settings, problem, moments, before)
        return outcome

    def _arrays(
        self, learned: DataInfo, config: TrainingConfig, pasts: list[WarmStartState]
    ) -> dict[str, Any]:
        """Return a fitted attribute for each kind of arrays that layers have; None for others."""
        attributes = self._attributes_of(learned.network)
        found: dict[str, Any] = dict.fromkeys(attributes.values())
        normalization = config.architecture.normalization
        if normalization is not None:  # without hidden layers there is an array for none of them
            for block in (*normalization.blocks(0), *normalization.statistics(0)):
                if block.name in attributes:
                    found[attributes[block.name]] = []
        return found | self._arrays_of(_predicting(pasts, learned.dtype), learned.network)

    def _arrays_of(self, parameters: FlatParameters, network: Network) -> dict[str, Any]:
        """Return the fitted attributes that hold the arrays of parameters."""
        attributes = self._attributes_of(network)
        members = 0 if len(parameters) == 1 else slice(None)
        return {
            attributes[name]: [
                array[members, 0] if len(shape) == 1 else array[members]
                for array, shape in zip(parameters.of(name), shapes, strict=True)
            ]
            for name, shapes in network.shapes.items()
        }

    def _holds(self, parameters: FlatParameters, network: Network) -> bool:
        """Return whether the fitted attributes hold these parameters."""
        arrays = self._arrays_of(parameters, network)
        return all(_are_equal(vars(self).get(name), arrays[name]) for name in arrays)

    def _set(self, attributes: Mapping[str, Any]) -> None:
        """Set fitted attributes by name."""
        self.__dict__ |= attributes

    def _with_one_network(self, learned: DataInfo) -> Self:
        """Return an estimator that predicts by one network, once it is given its arrays."""
        one, fixed = bare_clone(self), learned.fixed
        if "n_estimators" in fixed:
            one.n_estimators, fixed = 1, fixed | {"n_estimators": 1}
        one._set(learned.attributes)
        one._learned = replace(learned, fixed=fixed, n_estimators=1)
        return one

    def _courses(self, prepared: FitContext, continues: bool) -> dict[str, Any]:
        """Return the course of training, and the best of it."""
        courses = [
            self._course(run, i, continues, prepared.before) for i, run in enumerate(prepared.runs)
        ]
        each = zip(_COURSE, zip(*courses, strict=True), strict=True)
        return {name: _of_members(list(values)) for name, values in each}

    def _before(self, prepared: FitContext, member: int, continues: bool) -> dict[str, Any]:
        """Return a member's curves of earlier fits, which this one adds to; None where none are."""
        if prepared.before is not None:
            return {name: prepared.before[member].get(name) for name in _CURVES}
        return {name: self._of_member(name, member) if continues else None for name in _CURVES}

    def _course(
        self,
        run: TrainingRun,
        member: int,
        continues: bool,
        before: Sequence[Mapping[str, Any]] | None,
    ) -> tuple[Any, ...]:
        """Return what `_COURSE` names of a member.

        `before` has the curves that a fit adds to, if they are not the estimator's own.
        """

        def past(name: str) -> Any:
            if before is not None:
                return before[member].get(name)
            return self._of_member(name, member) if continues else None

        # Losses are NumPy's numbers, as in scikit-learn: they have methods such as round.
        losses = extend_curve(past("loss_curve_"), list(map(np.float64, run.losses)))
        # A call that watches nothing leaves what earlier ones have seen.
        watched = past("validation_loss_curve_")
        if run.watched is not None:
            watched = extend_curve(watched, list(map(np.float64, run.validation_losses)))
        # Over calls of partial_fit the best is that of all calls.
        goes_on = run.incremental and continues
        if self.early_stopping:
            scores = extend_curve(past("validation_scores_"), run.scores)
            best, best_iter = run.history.best, run.best_iter
            best_score: float | None = run.best_score
            if best is None and not run.scores:
                # Where rows were held out it is a float, if L-BFGS made no iteration to score.
                unscored = None if run.watched is None else math.nan
                best_score = past("best_validation_score_") if goes_on else unscored
            elif best is not None and run.incremental:  # counted in the scores of all calls
                best_iter = len(scores) if best.n_iter else past("best_iter_")
            return losses, None, watched, scores, best_score, best_iter
        best_loss = min(run.losses, default=np.inf)
        if goes_on and past("best_loss_") is not None:
            best_loss = min(best_loss, past("best_loss_"))
        return losses, np.float64(best_loss), watched, None, None, run.best_iter

    def _of_member(self, name: str, member: int) -> Any:
        """Return a member's own value of a fitted attribute, as it is kept; None if never set."""
        value = vars(self).get(name)
        return value if value is None or self._n_trained == 1 else value[member]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the training state behind unless training is meant to go on."""
        state = dict(super().__getstate__())
        for name in (
            "_validated_params",
            "_partial_fit_session",
            "_resumable",
            "_curves_before",
            *OF_CALLBACKS,
        ):
            state.pop(name, None)
        if "_training" in state and not (self.warm_start or self._went_on):
            del state["_training"]
        return state

    def __copy__(self) -> Self:
        """Return a copy that shares all but the random streams, so that each trains on for itself.

        That of the user, or NumPy's global one, is one stream for all who draw from it.
        """
        other = bare_clone(self)
        other.__dict__ = self.__getstate__()
        if "_training" in vars(other):
            shared = self.random_state, check_random_state(None)
            other._training = [past.apart_from(shared) for past in other._training]
        return other

    # -------------------------------------------------------------------- its size

    def summary(self) -> Summary:
        """Return a table of the layers: what they are, their outputs and their parameters.

        The layers are those that prediction goes through; dropout acts in training alone. Running
        statistics of batch normalisation are not learned by the gradient, and are not counted.

        Returns
        -------
        summary : Summary
            An object that Python shows as a table of text, and a notebook as one of HTML. Its
            rows are in ``layers``.

        Raises
        ------
        NotFittedError
            If the network is not fitted: before that, the number of inputs and outputs is not
            known.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = BackpropClassifier((), solver="lbfgs", max_iter=1000)
        >>> model.fit(X, y).summary()
        BackpropClassifier
        layer    outputs  parameters  shapes
        input          4           0
        Dense          3          15  weights (4, 3), biases (3,)
        softmax        3           0
        total                     15
        """
        check_is_fitted(self)
        learned = self._learned
        name = type(self).__name__
        return summary_of(name, learned.network, learned.loss.link.name, self._n_trained)

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return what a notebook shows below the parameters: the attributes, and the layers."""
        try:
            attributes = super()._get_fitted_attr_html(doc_link)
            return FittedAttributesHTML(attributes, [self.summary()])
        except (KeyError, ValueError, TypeError):
            # Of weights that were assigned, with which the parameters do not go. It is said when
            # it is used; to look at it is no error.
            return {}

    # ------------------------------------------------------------------ prediction

    def _predict_with(
        self, X: Any, outcome: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        """Return what `outcome` makes of every member's scores, a block of rows at a time.

        With `n_layers` it is given the outputs of so many layers in place of the scores.
        """
        check_is_fitted(self)
        learned = self._learned
        X = validated_input(self, X, learned.dtype)
        network, parameters = learned.network, self._parameters(learned)
        if n_layers is not None:
            layers = slice(n_layers)
            network, parameters = network.part(layers), parameters.part(layers)
        with np.errstate(all="ignore"):
            return predict_in_batches(
                network,
                parameters,
                X,
                lambda scores: outcome(check_finite_output(scores, network, parameters, X)),
            )

    def _parameters(self, learned: DataInfo) -> Parameters:
        """Return what `coefs_`, `intercepts_` and their like hold now, in the model's dtype."""
        network, n_estimators, dtype = learned.network, learned.n_estimators, learned.dtype
        attributes = self._attributes_of(network)
        layers, axis = self._layers(learned), None if n_estimators == 1 else slice(None)
        named: dict[str, list[Array]] = {
            "weights": [weights for weights, _ in layers],
            "biases": [biases for _, biases in layers],
        }
        for name, shapes in network.shapes.items():
            if name not in named:
                attribute = attributes[name]
                arrays = self._arrays_named(attribute)
                named[name] = checked_arrays(arrays, shapes, attribute, n_estimators)
            named[name] = [
                array[(axis, None) if len(shape) == 1 else axis].astype(dtype, copy=False)
                for array, shape in zip(named[name], shapes, strict=True)
            ]
        return network.parameters(named)

    def _arrays_named(self, attribute: str) -> Any:
        """Return arrays of layers, which a network that was put together may lack."""
        if hasattr(type(self), attribute) or attribute in vars(self):
            return getattr(self, attribute)
        raise NotFittedError(
            f"input_layers={self._settings['input_layers']!r} need {attribute}, which is not set. "
            f"Call fit, or set {attribute} as well as coefs_ and intercepts_."
        )

    def _layers(self, learned: DataInfo) -> list[tuple[Array, Array]]:
        """Return the weights and biases that `coefs_` and `intercepts_` hold now."""
        network, n_estimators = learned.network, learned.n_estimators
        names = "coefs_, intercepts_"
        advice = self._advice_on_shapes if "_learned" in vars(self) else ""
        return checked_layers(self.coefs_, self.intercepts_, network, names, n_estimators, advice)

    @property
    def _advice_on_shapes(self) -> str:
        """How to get a network of other layers than those that were fitted."""
        inside = (
            "hidden_features(X, layer=...)" if hasattr(self, "hidden_features") else "transform"
        )
        return (
            " The layers of a fitted network stay as they are. For another network, make a new "
            f"{type(self).__name__} with its hidden_layer_sizes and init=(coefs, intercepts). For "
            f"the output of a hidden layer, use {inside}."
        )

    @property
    def _n_trained(self) -> int:
        """The number of members that were trained."""
        return int(self._learned.n_estimators)


def _predicting(pasts: list[WarmStartState], dtype: np.dtype[np.floating]) -> FlatParameters:
    """Return what networks predict with, as the parameters of one stack."""
    each, parameters = [past.shown for past in pasts], pasts[0].state.parameters
    thetas = [theta.astype(dtype, copy=False) for theta, _ in each]
    theta = thetas[0] if len(thetas) == 1 else np.vstack(thetas)
    if theta is parameters.theta:
        return parameters
    return parameters.like(theta, concatenate_states([statistics for _, statistics in each]))


def _out_of_fold_of(
    runs: Sequence[TrainingRun], pasts: list[WarmStartState], dtype: np.dtype[np.floating]
) -> OutOfFoldPredictions | None:
    """Return what networks say of the rows that each has held out; None if they had no folds."""
    has_folds = runs[0].problem.folds is not None
    return predict_out_of_fold(runs, _predicting(pasts, dtype)) if has_folds else None


def _are_equal(held: Any, arrays: list[Array]) -> bool:
    """Return whether an attribute holds arrays like these, the same to the bit."""
    return (
        isinstance(held, list)
        and len(held) == len(arrays)
        and all(
            isinstance(own, np.ndarray)
            and own.shape == array.shape
            and own.dtype == array.dtype
            and own.tobytes() == array.tobytes()
            for own, array in zip(held, arrays, strict=True)
        )
    )


def check_finite_output(outcomes: Array, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return what a network says of X, or raise an error that says whose fault it is."""
    if np.isfinite(outcomes.sum()) or np.isfinite(outcomes).all():
        return outcomes
    of_X = max_abs(X)
    of_weights = max(map(max_abs, [*parameters.weights, *parameters.biases]))
    sizes = f"the largest absolute value in X is {of_X:.3g}, of the weights {of_weights:.3g}"
    # Whatever the scale of X is: X itself may be the one row that it is measured by.
    if all(
        np.isfinite(predict_raw(network, parameters, X[rows] / (of_X or 1.0))).all()
        for rows in gen_batches(X.shape[0], _ROWS_AT_ONCE)
    ):
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
    return values if isinstance(values[0], SharedList) else np.array(values)
