"""Fitted attributes of the networks, from training or from assigned weights, and prediction.

Code that stores weights in its own files assigns `coefs_`, `intercepts_` and the other attributes
that scikit-learn's networks need, and predicts. All other fitted attributes are then derived from
the weights and the parameters.
"""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted

from .._sklearn import warn
from ..losses._composite import override_link
from ..losses.base import Loss
from ..nn.network import Network
from ..nn.parameters import FlatParameters, Parameters
from ..nn.prediction import iter_predict_raw, predict_raw
from ..training.architecture import MLPSpec, infer_n_features
from ..training.checkpoint import TrainingCheckpoint
from ..training.config import TrainingConfig, make_training_config
from ..training.diagnostics import distinct_warnings
from ..training.out_of_fold import predict_out_of_fold
from ..training.partial_fit_session import PartialFitSession
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingRun
from ..training.weight_init import layer_widths, validate_arrays, validate_layers
from ..utils.arrays import Array, concatenate_states, max_abs
from ._checkpoint_io import EstimatorCheckpoint
from ._estimator_mixin import EstimatorMixin
from ._fit_context import DataInfo, FitContext, ValidatedParams, warm_start_signature
from ._history import CURVES, HistoryAttribute, make_history_attributes
from ._validation import set_attributes, shallow_copy, validate_input
from .summary import FittedAttributesHTML, Summary, summarize_network

Value = TypeVar("Value")

# Attributes that scikit-learn sets while callbacks follow a fit, and which belong to that fit.
CALLBACK_ATTRIBUTES = ("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx")

# Attributes that pickles and copies leave out.
_TRANSIENT = (
    "_validated_params",
    "_partial_fit_session",
    "_resumable",
    "_histories",
    *CALLBACK_ATTRIBUTES,
)

# Size of the raw predictions that are turned into predictions at once.
_BLOCK_SIZE = 1 << 18

# Rows that are predicted at once to find the cause of output that is not finite.
_ROWS_AT_ONCE = 1 << 10


class DerivedAttribute:
    """Attribute that is computed from the weights unless it is set.

    Without weights, access raises an AttributeError.

    Parameters
    ----------
    derive : callable
        Takes the estimator and returns the value.
    """

    def __init__(self, derive: Callable[[Any], Any]) -> None:
        self._derive = derive

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        if not has_weights(estimator):
            raise AttributeError(
                f"{type(estimator).__name__} has no {self._name} before fit. Call fit first."
            )
        return self._derive(estimator)


class OptionalDerivedAttribute(DerivedAttribute):
    """Attribute that is None unless a parameter requires it to be set.

    Parameters
    ----------
    parameter : str
        The name of the parameter.
    is_required : callable
        Takes the parameter's value and returns whether the attribute has to be set.
    """

    def __init__(self, parameter: str, is_required: Callable[[Any], bool]) -> None:
        super().__init__(self._derive_none)
        self._parameter, self._is_required = parameter, is_required

    def _derive_none(self, estimator: Any) -> None:
        value = getattr(estimator, self._parameter)
        if self._is_required(value):
            raise NotFittedError(
                f"{self._parameter}={value!r} needs {self._name}, which is not set. Call fit, or "
                f"set {self._name} together with coefs_ and intercepts_."
            )


def derived(derive: Callable[[Any], Value]) -> Value:
    """Decorate a method: its value is an attribute that is derived unless it is set."""
    return cast(Value, DerivedAttribute(derive))  # the type that checkers see


def has_weights(estimator: Any) -> bool:
    """Return whether an estimator has weights, fitted or assigned."""
    return vars(estimator).keys() >= {"coefs_", "intercepts_"}


class FittedNetwork(NamedTuple):
    """The layers, loss and targets of a fitted estimator, and the parameters of its networks."""

    info: DataInfo
    parameters: Parameters
    targets: Any

    @property
    def network(self) -> Network:
        """The layers used in prediction."""
        return self.info.network

    @property
    def loss(self) -> Loss:
        """The loss, with its link."""
        return self.info.loss


def get_fitted_network(estimator: FittedAttributesMixin) -> FittedNetwork:
    """Return the network of a fitted estimator, or of one with assigned weights."""
    info = estimator._data_info
    targets = estimator._get_target_encoder(info)
    return FittedNetwork(info, estimator._fitted_parameters(info), targets)


class FittedAttributesMixin(EstimatorMixin):
    """Fitted attributes of the networks, from training or from assigned weights, and prediction.

    With several members, an attribute is an array or list with one value for each member.
    """

    _losses: ClassVar[Mapping[str, Loss]]  # by name
    _kind_of_network: ClassVar[type[MLPSpec]] = MLPSpec

    # The fitted attributes with the parameter arrays that every network has, by layer name.
    _attribute_names: ClassVar[Mapping[str, str]] = {"weights": "coefs_", "biases": "intercepts_"}

    _validated_params: ValidatedParams | None = None  # of the last fit
    _partial_fit_session: PartialFitSession | None = None  # of the last partial_fit

    # The types are those that reading returns.
    coefs_: list[Array]
    intercepts_: list[Array]
    scales_: list[Array]  # of the `layers`, if there are any
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
        values: tuple[Any, ...] = operator.attrgetter(*self._parameter_table)(self)
        return values

    @property
    def _settings(self) -> dict[str, Any]:
        """All parameters by name, including those that a subclass's constructor does not take."""
        return dict(zip(self._parameter_table, self._values, strict=True))

    def _make_config(self, parameters: Mapping[str, Any]) -> TrainingConfig:
        return make_training_config(parameters, self._losses, self._kind_of_network)

    # --------------------------------------------------------- setting after training

    def _set_fitted_attributes(
        self, context: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Set the fitted attributes and the state for a warm start.

        Feature names are those of the first fit, or what the user has assigned since.

        Raises
        ------
        ValueError
            If a run failed. Nothing is set then.
        """
        runs = context.runs
        for run in runs:
            if run.error is not None:
                raise run.error
        fitted = self._make_fitted_attributes(context, continues)
        for message in distinct_warnings(runs):
            warn(message, ConvergenceWarning)
        fitted["_partial_fit_session"] = session
        if session is not None:
            session.checkpoint = fitted["_training"][0]
        if not (continues or "feature_names_in_" in fitted) and hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        set_attributes(self, fitted)

    def _make_fitted_attributes(self, context: FitContext, continues: bool) -> dict[str, Any]:
        """Return the fitted attributes of the runs."""
        info, runs = context.info, context.runs
        checkpoints = [run.warm_start_checkpoint for run in runs]
        parameters = _stack_weights(checkpoints, info.dtype)
        has_folds = runs[0].task.folds is not None
        fitted = info.attributes | ({} if continues else info.feature_attributes)
        normalization = context.params.config.architecture.normalization
        if normalization is not None:  # an empty list for a network without hidden layers
            for spec in (*normalization.parameter_specs((1,)), *normalization.buffer_specs((1,))):
                if spec.name in self._attribute_names:
                    fitted[self._attribute_names[spec.name]] = []
        arrays = self._array_attributes(parameters, info.network)
        return {
            "_data_info": info,
            **dict.fromkeys(self._attribute_names.values()),
            **fitted,
            **arrays,
            "_out_of_fold": predict_out_of_fold(runs, parameters) if has_folds else None,
            **make_history_attributes(runs, context.before),
            "_validated_params": context.params,
            "_training": checkpoints,
            "_was_incremental": runs[0].incremental,
        }

    def _get_attributes_during_fit(
        self,
        context: FitContext,
        continues: bool,
        settings: Mapping[str, str] | None,
        runs: Sequence[TrainingRun],
    ) -> dict[str, Any] | None:
        """Return the fitted attributes of unfinished runs for callbacks; None if a run failed.

        With `settings`, those of `describe_settings`, the attributes include a checkpoint from
        which another process can resume training.
        """
        if any(run.error is not None for run in runs):
            return None
        in_order = sorted(runs, key=lambda run: run.member)
        if (interrupt := fit_temperature_scaling(in_order)) is not None:
            raise interrupt
        fitted = self._make_fitted_attributes(context._replace(runs=in_order), continues)
        if not continues and hasattr(self, "feature_names_in_"):  # of an earlier fit
            fitted.setdefault("feature_names_in_", None)
        fitted["_histories"] = [run.history for run in in_order]
        if settings is not None:
            # Callbacks may change the arrays in `fitted`, so the checkpoint copies the state.
            copies = [run.snapshot() for run in in_order]
            checkpoints = [run.checkpoint for run in copies]
            before = [{name: past.get(name) for name in CURVES} for past in context.before]
            name, task = type(self).__name__, copies[0].task
            fitted["_resumable"] = EstimatorCheckpoint(name, settings, task, checkpoints, before)
        return fitted

    def _get_for_member(self, name: str, member: int) -> Any:
        """Return the stored value of a fitted attribute for one member; None if it is not set."""
        value = vars(self).get(name)
        return value if value is None or self._n_trained == 1 else value[member]

    @property
    def _n_trained(self) -> int:
        """The number of fitted members."""
        return int(self._data_info.n_estimators)

    # --------------------------------------------------------------- parameter arrays

    def _name_attributes(self, network: Network) -> dict[str, str]:
        """Return the fitted attributes that hold the parameter arrays, by the arrays' names."""
        return {name: f"{name}_" for name in network.shapes} | dict(self._attribute_names)

    def _array_attributes(self, parameters: FlatParameters, network: Network) -> dict[str, Any]:
        """Return the fitted attributes with the arrays of parameters."""
        attributes = self._name_attributes(network)
        members = 0 if len(parameters) == 1 else slice(None)
        return {
            attributes[name]: [
                array[members, 0] if len(shape) == 1 else array[members]
                for array, shape in zip(parameters.select(name), shapes, strict=True)
            ]
            for name, shapes in network.shapes.items()
        }

    def _has_parameters(self, parameters: FlatParameters, network: Network) -> bool:
        """Return whether the fitted attributes equal these parameters bit for bit."""
        arrays = self._array_attributes(parameters, network)
        return all(_are_identical(vars(self).get(name), arrays[name]) for name in arrays)

    def _fitted_parameters(self, info: DataInfo) -> Parameters:
        """Return the current values of `coefs_`, `intercepts_` and so on, in the model's dtype."""
        network, n_estimators, dtype = info.network, info.n_estimators, info.dtype
        attributes = self._name_attributes(network)
        axis = None if n_estimators == 1 else slice(None)
        advice = self._advice_on_shapes if "_data_info" in vars(self) else ""
        layers = validate_layers(
            self.coefs_, self.intercepts_, network, "coefs_, intercepts_", n_estimators, advice
        )
        named: dict[str, list[Array]] = {
            "weights": [weights for weights, _ in layers],
            "biases": [biases for _, biases in layers],
        }
        for name, shapes in network.shapes.items():
            if name not in named:
                attribute = attributes[name]
                if not (hasattr(type(self), attribute) or attribute in vars(self)):
                    raise NotFittedError(
                        f"layers={self._settings['layers']!r} need {attribute}, which is not set. "
                        f"Call fit, or set {attribute} together with coefs_ and intercepts_."
                    )
                arrays = getattr(self, attribute)
                named[name] = validate_arrays(arrays, shapes, attribute, n_estimators)
            named[name] = [
                array[(axis, None) if len(shape) == 1 else axis].astype(dtype, copy=False)
                for array, shape in zip(named[name], shapes, strict=True)
            ]
        return network.parameters(named)

    @property
    def _advice_on_shapes(self) -> str:
        """What to do instead of assigning weights of other shapes than the fitted ones."""
        hidden = (
            "hidden_features(X, layer=...)" if hasattr(self, "hidden_features") else "transform"
        )
        return (
            " The layers of a fitted network cannot be changed. For another network, create a new "
            f"{type(self).__name__} with its hidden_layer_sizes and init=(coefs, intercepts). For "
            f"the outputs of a hidden layer, use {hidden}."
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
        architecture = self._kind_of_network.from_params(
            self._settings | self._infer_parameters(self._widths)
        )
        n_estimators = int(self._settings.get("n_estimators", 1))
        sizes = {
            name.removesuffix("_"): sum(map(np.size, arrays)) // n_estimators
            for name, arrays in vars(self).items()
            if name.endswith("_") and isinstance(arrays, (list, tuple))
        }
        return infer_n_features(architecture, int(self._widths[0]), sizes)

    @derived
    def n_layers_(self: Any) -> int:
        return len(self._widths)

    @derived
    def n_outputs_(self: Any) -> int:
        return int(self._widths[-1])

    @derived
    def n_parameters_(self: Any) -> int:
        return int(self._data_info.network.layout.n_parameters)

    @derived
    def _data_info(self: Any) -> DataInfo:
        widths = self._widths
        # Parameters that affect training only may be invalid: predictions do not need them.
        training_defaults = {
            name: row.default
            for name, row in self._parameter_table.items()
            if name == "solver" or not (row.warm_start_fixed or row.affects_predictions)
        }
        settings = self._settings | self._infer_parameters(widths)
        config = self._make_config(settings | training_defaults)
        targets = self._rebuild_target_encoder(config, widths[-1])
        loss = targets.make_loss(config.loss, config.label_smoothing)
        row_shape = (int(self.n_features_in_),)
        is_single = all(np.asarray(weights).dtype == np.float32 for weights in self.coefs_)
        return DataInfo(
            warm_start_signature(settings),
            row_shape,
            getattr(self, "feature_names_in_", None),
            config.dtype or np.dtype(np.float32 if is_single else np.float64),
            targets,
            override_link(loss, vars(self).get("out_activation_", loss.link.name)),
            config.architecture.network(row_shape, widths[-1]),
            config.n_estimators,
        )

    @abstractmethod
    def _rebuild_target_encoder(self, config: TrainingConfig, n_outputs: int) -> Any:
        """Return the `BaseTargetEncoder` of a network made from weights, by its attributes."""

    def _get_target_encoder(self, info: DataInfo) -> Any:
        """Return the target encoder with the present fitted attributes.

        None for a classifier made from weights whose classes are unknown.
        """
        return info.targets

    def _infer_parameters(self, widths: tuple[int, ...]) -> dict[str, Any]:
        """Return the parameters of a network whose layers have these widths."""
        return {"hidden_layer_sizes": widths[1:-1]}

    @property
    def out_activation_(self) -> Any:
        """The output activation, which the user may replace after `fit`."""
        if "out_activation_" in vars(self):
            return vars(self)["out_activation_"]
        if not has_weights(self):
            raise AttributeError(
                f"{type(self).__name__} has no out_activation_ before fit. Call fit first."
            )
        return self._data_info.loss.link.name

    @out_activation_.setter
    def out_activation_(self, value: Any) -> None:
        info = vars(self).get("_data_info")
        if info is not None:
            loss = override_link(info.loss, value)
            if loss is not info.loss:
                self._data_info = replace(info, loss=loss)
        self.__dict__["out_activation_"] = value

    @out_activation_.deleter
    def out_activation_(self) -> None:
        del self.__dict__["out_activation_"]

    # ----------------------------------------------------------------------- copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the training state, unless training is meant to continue."""
        state = {k: v for k, v in super().__getstate__().items() if k not in _TRANSIENT}
        if "_training" in state and not (self.warm_start or self._was_incremental):
            del state["_training"]
        return state

    def __copy__(self) -> Self:
        """Return a copy that shares all but the random streams, so that each trains on its own.

        A RandomState of the user, or NumPy's global one, stays shared.
        """
        other = object.__new__(type(self))
        other.__setstate__(self.__getstate__())
        if hasattr(other, "_training"):
            shared = self.random_state, check_random_state(None)
            other._training = [checkpoint.copy_rngs(shared) for checkpoint in other._training]
        return other

    def _as_single_network(self, info: DataInfo) -> Self:
        """Return a copy with one network and no training state, whose arrays are set later."""
        one, fixed = shallow_copy(self), info.fixed
        if "n_estimators" in fixed:
            one.n_estimators, fixed = 1, fixed | {"n_estimators": 1}
        one._data_info = replace(info, fixed=fixed, n_estimators=1)
        for name in {"_training", "_out_of_fold", *_TRANSIENT}.intersection(vars(one)):
            delattr(one, name)
        return one

    # ---------------------------------------------------------------------- summary

    def summary(self) -> Summary:
        """Return a table of the layers, with their outputs and numbers of parameters.

        It shows `layers` and the hidden layers with the shapes of their outputs, but not the
        dropout of the parameter `dropout`. Running statistics of batch normalization are not
        learned by gradients and are not counted.

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
        info, name = self._data_info, type(self).__name__
        return summarize_network(name, info.network, info.loss.link.name, info.n_estimators)

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return the HTML of the fitted attributes and of the layers."""
        try:
            attributes = super()._get_fitted_attr_html(doc_link)
            return FittedAttributesHTML(attributes, [self.summary()])
        except (KeyError, ValueError, TypeError):
            # Assigned weights that contradict the parameters raise an error in use, not here.
            return {}

    # ------------------------------------------------------------------- prediction

    def _predict_in_blocks(
        self, X: Any, transform: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        """Return predictions, computed from raw predictions in blocks of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input, which is validated.
        transform : callable
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
        info = self._data_info
        X = validate_input(self, X)
        network, parameters = info.network, self._fitted_parameters(info)
        if n_layers is not None:
            layers = slice(n_layers)
            network, parameters = network.part(layers), parameters.part(layers)
        n_rows = max(1, _BLOCK_SIZE // (len(parameters) * network.n_units[-1]))
        predictions = RowJoiner(X.shape[0])
        with np.errstate(all="ignore"):
            for block in iter_predict_raw(network, parameters, X):
                for start in range(0, block.shape[1], n_rows):
                    raw = block[:, start : start + n_rows]
                    predictions.append(transform(check_finite_output(raw, network, parameters, X)))
        return predictions.join()


def _stack_weights(
    checkpoints: list[TrainingCheckpoint], dtype: np.dtype[np.floating]
) -> FlatParameters:
    """Return the parameters that the fitted attributes show, of all members as one stack."""
    each, parameters = (
        [checkpoint.fitted_parameters for checkpoint in checkpoints],
        checkpoints[0].state.parameters,
    )
    thetas = [theta.astype(dtype, copy=False) for theta, _ in each]
    theta = thetas[0] if len(thetas) == 1 else np.vstack(thetas)
    if theta is parameters.theta:
        return parameters
    return parameters.with_theta(theta, concatenate_states([statistics for _, statistics in each]))


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


class RowJoiner:
    """Joins the predictions of consecutive blocks of rows.

    A prediction is an array, a CSR matrix, or a list or tuple of arrays. Blocks are copied, so
    that buffers can be reused, unless a single block has all rows.

    Parameters
    ----------
    n_rows : int
        The number of rows of all blocks.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows, self._start = n_rows, 0
        self._joined: Any = None
        self._matrices: list[Any] = []

    def append(self, block: Any) -> None:
        """Append the predictions of the next rows."""
        if issparse(block):
            self._matrices.append(block)
            return
        is_sequence = isinstance(block, (list, tuple))
        arrays = block if is_sequence else [block]
        stop = self._start + len(arrays[0])
        if stop - self._start == self._n_rows:
            self._joined = block
            return
        if self._joined is None:
            targets = [np.empty((self._n_rows, *each.shape[1:]), each.dtype) for each in arrays]
            self._joined = type(block)(targets) if is_sequence else targets[0]
        targets = self._joined if is_sequence else [self._joined]
        for target, array in zip(targets, arrays, strict=True):
            target[self._start : stop] = array
        self._start = stop

    def join(self) -> Any:
        """Return the predictions of all rows."""
        return vstack(self._matrices) if self._matrices else self._joined


def check_finite_output(outputs: Array, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return outputs of a network for X, or raise an error with the likely cause."""
    if np.isfinite(outputs.sum()) or np.isfinite(outputs).all():
        return outputs
    largest = max_abs(X)
    largest_weight = max(map(max_abs, [*parameters.weights, *parameters.biases]))
    sizes = (
        f"the largest absolute value in X is {largest:.3g} and in the weights {largest_weight:.3g}"
    )
    # With X scaled to at most 1 in absolute value, only the weights can be the cause.
    if all(
        np.isfinite(predict_raw(network, parameters, X[rows] / (largest or 1.0))).all()
        for rows in gen_batches(X.shape[0], _ROWS_AT_ONCE)
    ):
        advice = "Check that X has the same scale as the training data."
    else:
        advice = (
            "The weights are too large for any X. If training made them, it diverged: lower "
            "learning_rate_init or scale the training data, and fit again."
        )
    raise ValueError(f"The network's output on X is not finite: {sizes}. {advice}")
