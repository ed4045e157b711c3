"""Fitted attributes of the networks, their weights, and prediction."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._sklearn import warn
from ..losses._composite import override_link
from ..nn.network import Network
from ..nn.parameters import FlatParameters, Parameters
from ..nn.prediction import iter_predict_raw
from ..training.architecture import check_input_layers_param, infer_n_features
from ..training.checkpoint import TrainingCheckpoint
from ..training.config import TrainingConfig
from ..training.convergence import distinct_warnings
from ..training.partial_fit_session import PartialFitSession
from ..training.temperature import fit_temperature_scaling, predict_out_of_fold
from ..training.training_run import TrainingRun
from ..training.weight_init import checked_arrays, checked_layers, layer_widths
from ..utils.arrays import Array, concatenate_states
from ._checkpoint_io import EstimatorCheckpoint
from ._derived_attributes import derived, has_weights
from ._fit_context import DataInfo, FitContext, ValidatedParams, warm_start_signature
from ._history import CurvePrefix, HistoryAttribute, extend_curve
from ._mixins import EstimatorMixin, FittedAttributesHTML
from ._prediction import RowJoiner, check_finite_output, rows_per_block
from ._validation import shallow_copy_of, validated_input
from .summary import Summary, summarize_network

_CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")

# Attributes with losses and scores of each member.
_COURSE = (
    "loss_curve_",
    "best_loss_",
    "validation_loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "best_iter_",
)

# Attributes that scikit-learn sets while callbacks follow a fit, and which belong to that fit.
OF_CALLBACKS = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")

# Attributes that pickles and copies leave out.
_TRANSIENT = (
    "_validated_params",
    "_partial_fit_session",
    "_resumable",
    "_histories",
    *OF_CALLBACKS,
)


class FittedAttributesMixin(EstimatorMixin):
    """Fitted attributes of the networks, from training or from assigned weights, and prediction.

    With several members, an attribute is an array or list with one value for each member.
    """

    # The fitted attributes with the parameter arrays that every network has, by layer name.
    _attributes: ClassVar[Mapping[str, str]] = {"weights": "coefs_", "biases": "intercepts_"}

    _validated_params: ValidatedParams | None = None  # of the last fit
    _partial_fit_session: PartialFitSession | None = None  # of the last partial_fit

    # The types are those that reading returns.
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

    # ------------------------------------------------------------------- parameters

    @property
    def _values(self) -> tuple[Any, ...]:
        """The values of all parameters, in the order of the parameter table."""
        values: tuple[Any, ...] = operator.attrgetter(*self._rows)(self)
        return values

    @property
    def _settings(self) -> dict[str, Any]:
        """All parameters by name, including those that a subclass's constructor does not take."""
        return dict(zip(self._rows, self._values, strict=True))

    # --------------------------------------------------------- setting after training

    def _keep(
        self, prepared: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Set the fitted attributes and the state for a warm start, all at once.

        Feature names are those of the first fit, or what the user has assigned since.

        Raises
        ------
        ValueError
            If a run failed. Nothing is set then.
        """
        runs = prepared.runs
        for run in runs:
            if run.error is not None:
                raise run.error
        fitted = self._outcome_of(prepared, continues)
        for message in distinct_warnings(runs):
            warn(message, ConvergenceWarning)
        fitted["_partial_fit_session"] = session
        if session is not None:
            session.past = fitted["_training"][0]
        if not continues and "feature_names_in_" not in fitted:
            self.__dict__.pop("feature_names_in_", None)
        self._set(fitted)

    def _set(self, attributes: Mapping[str, Any]) -> None:
        """Set attributes in one step, which Ctrl-C cannot interrupt halfway."""
        self.__dict__.update(attributes)

    def _outcome_of(self, prepared: FitContext, continues: bool) -> dict[str, Any]:
        """Return the fitted attributes of the runs."""
        planned, learned, runs = prepared.planned, prepared.learned, prepared.runs
        pasts = [run.past for run in runs]
        parameters = _stack_weights(pasts, learned.dtype)
        has_folds = runs[0].problem.folds is not None
        courses = [self._course(run, i, continues, prepared.before) for i, run in enumerate(runs)]
        return {
            **learned.attributes,
            **({} if continues else learned.names),
            **self._arrays(learned, planned.config, parameters),
            "_out_of_fold": predict_out_of_fold(runs, parameters) if has_folds else None,
            "n_iter_": _per_member([run.n_iter for run in runs]),
            "converged_": _per_member([run.is_converged for run in runs]),
            "t_": _per_member([run.n_samples_seen for run in runs]),
            "loss_": _per_member([np.float64(run.loss) for run in runs]),
            **{
                name: _per_member(list(values))
                for name, values in zip(_COURSE, zip(*courses, strict=True), strict=True)
            },
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
        """Return the fitted attributes of unfinished runs for callbacks; None if a run failed.

        With `settings`, those of `describe_settings_of`, the attributes include a checkpoint from
        which another process can resume training.
        """
        if any(run.error is not None for run in runs):
            return None
        in_order = sorted(runs, key=lambda run: run.member)
        if (interrupt := fit_temperature_scaling(in_order)) is not None:
            raise interrupt
        fitted = self._outcome_of(prepared._replace(runs=in_order), continues)
        if not continues and hasattr(self, "feature_names_in_"):  # of an earlier fit
            fitted.setdefault("feature_names_in_", None)
        fitted["_histories"] = [run.history for run in in_order]
        if settings is not None:
            # Callbacks may change the arrays in `fitted`, so the checkpoint copies the state.
            copies = [run.snapshot() for run in in_order]
            moments = [run.checkpoint for run in copies]
            name, problem = type(self).__name__, copies[0].problem
            before = [
                {name: self._previous(name, i, continues, prepared.before) for name in _CURVES}
                for i in range(len(runs))
            ]
            fitted["_resumable"] = EstimatorCheckpoint(name, settings, problem, moments, before)
        return fitted

    def _course(
        self,
        run: TrainingRun,
        member: int,
        continues: bool,
        before: Sequence[Mapping[str, Any]] | None,
    ) -> tuple[Any, ...]:
        """Return the values of the `_COURSE` attributes for one member."""

        def previous(name: str) -> Any:
            return self._previous(name, member, continues, before)

        # Losses are NumPy scalars, as in scikit-learn: they have methods such as round.
        losses = extend_curve(previous("loss_curve_"), list(map(np.float64, run.losses)))
        # A call without validation data keeps the curve of earlier calls.
        validation_losses = previous("validation_loss_curve_")
        if run.watched is not None:
            validation_losses = extend_curve(
                validation_losses, list(map(np.float64, run.validation_losses))
            )
        # The best of partial_fit is that of all calls.
        continues_best = run.incremental and continues
        if self.early_stopping:
            scores = extend_curve(previous("validation_scores_"), run.scores)
            best, best_iter = run.history.best, run.best_iter
            best_score: float | None = run.best_score
            if best is None and not run.scores:
                # With validation data it is a float, even if L-BFGS made no iteration to score.
                unscored = None if run.watched is None else math.nan
                best_score = previous("best_validation_score_") if continues_best else unscored
            elif best is not None and run.incremental:  # counted in the scores of all calls
                best_iter = len(scores) if best.n_iter else previous("best_iter_")
            return losses, None, validation_losses, scores, best_score, best_iter
        best_loss = min(run.losses, default=np.inf)
        if continues_best and previous("best_loss_") is not None:
            best_loss = min(best_loss, previous("best_loss_"))
        return losses, np.float64(best_loss), validation_losses, None, None, run.best_iter

    def _previous(
        self, name: str, member: int, continues: bool, before: Sequence[Mapping[str, Any]] | None
    ) -> Any:
        """Return a member's attribute of earlier fits that training continues; None without.

        A resumed fit continues the curves `before` of its checkpoint.
        """
        if before is not None:
            return before[member].get(name)
        return self._of_member(name, member) if continues else None

    def _of_member(self, name: str, member: int) -> Any:
        """Return the stored value of a fitted attribute for one member; None if it is not set."""
        value = vars(self).get(name)
        return value if value is None or self._n_trained == 1 else value[member]

    @property
    def _n_trained(self) -> int:
        """The number of fitted members."""
        return int(self._learned.n_estimators)

    # --------------------------------------------------------------- parameter arrays

    def _attributes_of(self, network: Network) -> dict[str, str]:
        """Return the fitted attributes that hold the parameter arrays, by the arrays' names."""
        return {name: f"{name}_" for name in network.shapes} | dict(self._attributes)

    def _arrays(
        self, learned: DataInfo, config: TrainingConfig, parameters: FlatParameters
    ) -> dict[str, Any]:
        """Return all attributes with parameter arrays; those the network lacks are None."""
        attributes = self._attributes_of(learned.network)
        found: dict[str, Any] = dict.fromkeys(attributes.values())
        normalization = config.architecture.normalization
        if normalization is not None:  # an empty list for a network without hidden layers
            for spec in (*normalization.parameter_specs(0), *normalization.buffer_specs(0)):
                if spec.name in attributes:
                    found[attributes[spec.name]] = []
        return found | self._arrays_of(parameters, learned.network)

    def _arrays_of(self, parameters: FlatParameters, network: Network) -> dict[str, Any]:
        """Return the fitted attributes with the arrays of parameters."""
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
        """Return whether the fitted attributes equal these parameters bit for bit."""
        arrays = self._arrays_of(parameters, network)
        return all(_are_identical(vars(self).get(name), arrays[name]) for name in arrays)

    def _parameters(self, learned: DataInfo) -> Parameters:
        """Return the current values of `coefs_`, `intercepts_` and so on, in the model's dtype."""
        network, n_estimators, dtype = learned.network, learned.n_estimators, learned.dtype
        attributes = self._attributes_of(network)
        axis = None if n_estimators == 1 else slice(None)
        advice = self._advice_on_shapes if "_learned" in vars(self) else ""
        layers = checked_layers(
            self.coefs_, self.intercepts_, network, "coefs_, intercepts_", n_estimators, advice
        )
        named: dict[str, list[Array]] = {
            "weights": [weights for weights, _ in layers],
            "biases": [biases for _, biases in layers],
        }
        for name, shapes in network.shapes.items():
            if name not in named:
                attribute = attributes[name]
                arrays = self._assigned_arrays(attribute)
                named[name] = checked_arrays(arrays, shapes, attribute, n_estimators)
            named[name] = [
                array[(axis, None) if len(shape) == 1 else axis].astype(dtype, copy=False)
                for array, shape in zip(named[name], shapes, strict=True)
            ]
        return network.parameters(named)

    def _assigned_arrays(self, attribute: str) -> Any:
        """Return an attribute with parameter arrays, which assigned weights may lack."""
        if hasattr(type(self), attribute) or attribute in vars(self):
            return getattr(self, attribute)
        raise NotFittedError(
            f"input_layers={self._settings['input_layers']!r} need {attribute}, which is not set. "
            f"Call fit, or set {attribute} as well as coefs_ and intercepts_."
        )

    @property
    def _advice_on_shapes(self) -> str:
        """What to do instead of assigning weights of other shapes than the fitted ones."""
        hidden = (
            "hidden_features(X, layer=...)" if hasattr(self, "hidden_features") else "transform"
        )
        return (
            " The layers of a fitted network stay as they are. For another network, make a new "
            f"{type(self).__name__} with its hidden_layer_sizes and init=(coefs, intercepts). For "
            f"the output of a hidden layer, use {hidden}."
        )

    # ----------------------------------------------- derived from assigned weights

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether there are weights to predict with."""
        return has_weights(self)

    @derived
    def _widths(self: Any) -> tuple[int, ...]:
        return layer_widths(self.coefs_, "coefs_")

    @derived
    def n_features_in_(self: Any) -> int:
        layers = check_input_layers_param(self._settings.get("input_layers"))
        return infer_n_features(layers, int(self._widths[0]))

    @derived
    def n_layers_(self: Any) -> int:
        return len(self._widths)

    @derived
    def n_outputs_(self: Any) -> int:
        return int(self._widths[-1])

    @derived
    def n_parameters_(self: Any) -> int:
        return int(self._learned.network.layout.n_parameters)

    @derived
    def _learned(self: Any) -> DataInfo:
        widths = self._widths
        # Parameters that affect training only may be invalid: predictions do not need them.
        training_defaults = {
            name: row.default
            for name, row in self._rows.items()
            if name == "solver" or not row.warm_start_fixed
        }
        settings = self._settings | self._parameters_for(widths)
        config = self._plan_of(settings | training_defaults)
        targets = self._recall(config, widths[-1])
        loss = self._loss_of(config, targets)
        n_features = infer_n_features(config.architecture.input_layers, int(widths[0]))
        is_single = all(np.asarray(weights).dtype == np.float32 for weights in self.coefs_)
        return DataInfo(
            warm_start_signature(settings),
            n_features,
            vars(self).get("feature_names_in_"),
            config.dtype or np.dtype(np.float32 if is_single else np.float64),
            targets,
            override_link(loss, vars(self).get("out_activation_", loss.link.name)),
            config.architecture.network(n_features, widths[-1]),
            config.n_estimators,
        )

    def _parameters_for(self, widths: tuple[int, ...]) -> dict[str, Any]:
        """Return the parameters of a network whose layers have these widths."""
        return {"hidden_layer_sizes": widths[1:-1]}

    @property
    def out_activation_(self) -> Any:
        """The output activation, which the user may replace after `fit`."""
        if "out_activation_" in vars(self):
            return vars(self)["out_activation_"]
        if not has_weights(self):
            raise AttributeError(f"{type(self).__name__} has no out_activation_: call fit first.")
        return self._learned.loss.link.name

    @out_activation_.setter
    def out_activation_(self, value: Any) -> None:
        known = vars(self).get("_learned")
        if known is not None:
            loss = override_link(known.loss, value)
            if loss is not known.loss:
                self._learned = replace(known, loss=loss)
        self._set({"out_activation_": value})

    @out_activation_.deleter
    def out_activation_(self) -> None:
        del self.__dict__["out_activation_"]

    # ----------------------------------------------------------------------- copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the training state, unless training is meant to continue."""
        state = dict(super().__getstate__())
        for name in _TRANSIENT:
            state.pop(name, None)
        if "_training" in state and not (self.warm_start or self._went_on):
            del state["_training"]
        return state

    def __copy__(self) -> Self:
        """Return a copy that shares all but the random streams, so that each trains on its own.

        A RandomState of the user, or NumPy's global one, stays shared.
        """
        other = object.__new__(type(self))
        other.__setstate__(self.__getstate__())
        if "_training" in vars(other):
            shared = self.random_state, check_random_state(None)
            other._set({"_training": [past.copy_rngs(shared) for past in vars(self)["_training"]]})
        return other

    def _as_single_network(self, learned: DataInfo) -> Self:
        """Return a copy with one network and no training state, whose arrays are set later."""
        one, fixed = shallow_copy_of(self), learned.fixed
        if "n_estimators" in fixed:
            one.n_estimators, fixed = 1, fixed | {"n_estimators": 1}
        one._set({"_learned": replace(learned, fixed=fixed, n_estimators=1)})
        for name in ("_training", "_out_of_fold", *_TRANSIENT):
            one.__dict__.pop(name, None)
        return one

    def _with_one_network(self, learned: DataInfo) -> Self:
        """Return a copy for scorers, with the data info of a fit; its arrays are set later."""
        one = self._as_single_network(learned)
        one._set(learned.attributes)
        return one

    # ---------------------------------------------------------------------- summary

    def summary(self) -> Summary:
        """Return a table of the layers, with their outputs and numbers of parameters.

        It shows the layers used in prediction, so dropout is not among them. Running statistics
        of batch normalization are not learned by gradients and are not counted.

        Returns
        -------
        summary : Summary
            A table, shown as text or, in a notebook, as HTML. Its rows are in ``layers``.

        Raises
        ------
        NotFittedError
            If the network is not fitted, as the numbers of inputs and outputs are unknown.

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
        return summarize_network(name, learned.network, learned.loss.link.name, self._n_trained)

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return the HTML of the fitted attributes and of the layers."""
        try:
            attributes = super()._get_fitted_attr_html(doc_link)
            return FittedAttributesHTML(attributes, [self.summary()])
        except (KeyError, ValueError, TypeError):
            # Assigned weights that contradict the parameters raise an error in use, not here.
            return {}

    # ------------------------------------------------------------------- prediction

    def _predict_with(
        self, X: Any, outcome: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        """Return predictions, computed from raw predictions in blocks of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input, which is validated.
        outcome : callable
            Turns raw predictions of shape (n_estimators, n, k), which it may overwrite, into
            predictions of n rows: an array, a CSR matrix, or a list or tuple of arrays.
        n_layers : int or None, default=None
            Use the outputs of the first `n_layers` layers in place of the raw predictions.

        Returns
        -------
        predictions : array, CSR matrix, list or tuple
            The predictions of all rows.
        """
        check_is_fitted(self)
        learned = self._learned
        X = validated_input(self, X, learned.dtype)
        network, parameters = learned.network, self._parameters(learned)
        if n_layers is not None:
            network, parameters = (
                network.part(slice(n_layers)),
                parameters.part(slice(n_layers)),
            )
        n_rows, predictions = rows_per_block(network, parameters), RowJoiner(X.shape[0])
        with np.errstate(all="ignore"):
            for block in iter_predict_raw(network, parameters, X):
                for start in range(0, block.shape[1], n_rows):
                    raw = block[:, start : start + n_rows]
                    predictions.append(outcome(check_finite_output(raw, network, parameters, X)))
        return predictions.join()


def _stack_weights(pasts: list[TrainingCheckpoint], dtype: np.dtype[np.floating]) -> FlatParameters:
    """Return the parameters that the fitted attributes show, of all members as one stack."""
    each, parameters = [past.fitted_parameters for past in pasts], pasts[0].state.parameters
    thetas = [theta.astype(dtype, copy=False) for theta, _ in each]
    theta = thetas[0] if len(thetas) == 1 else np.vstack(thetas)
    if theta is parameters.theta:
        return parameters
    return parameters.like(theta, concatenate_states([statistics for _, statistics in each]))


def _are_identical(value: Any, arrays: list[Array]) -> bool:
    """Return whether an attribute is a list of arrays with the same bits."""
    return (
        isinstance(value, list)
        and len(value) == len(arrays)
        and all(
            isinstance(own, np.ndarray)
            and own.shape == array.shape
            and own.dtype == array.dtype
            and own.tobytes() == array.tobytes()
            for own, array in zip(value, arrays, strict=True)
        )
    )


def _per_member(values: list[Any]) -> Any:
    """Return the value of a single member, or an array or list with those of several."""
    if len(values) == 1 or values[0] is None:
        return values[0]
    return values if isinstance(values[0], CurvePrefix) else np.array(values)
