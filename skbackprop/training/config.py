"""An estimator's parameters as validated objects, and the networks that they describe."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np

from ..activations import ActivationFunction, Identity
from ..early_stopping import EarlyStopping
from ..layers import LAYERS
from ..layers.base import Layer, Shape, check_layers
from ..layers.dense import Dense
from ..layers.latent import Bottleneck, Sampling
from ..layers.normalization import NORMALIZATIONS, BatchNormalization, Normalization
from ..losses.base import Loss
from ..nn.network import Network, dense_layers
from ..nn.stack import L1L2, L2
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, ConstantRate, LearningRateSchedule, as_schedule
from ..utils.arrays import FloatOrPerMember
from ..utils.configurable import (
    get_nested_params,
    has_settings,
    index_settings,
    is_equal,
    stack_settings,
    static_signature,
)
from ..weight_averaging import AVERAGES, WeightAverage
from .architecture import (
    check_row_shape,
    expand_and_flatten,
    get_activations,
    get_init,
    mirror_layers,
    validate_dropout,
    validate_hidden_layer_sizes,
    validate_input_shape,
)
from .class_weight import validate_class_weight

Part = TypeVar("Part")

# The batch size for batch_size="auto".
_ROWS_OF_A_BATCH = 200

# An iteration of L-BFGS does less than an epoch, and its scores rise slowly at first.
_LBFGS_PATIENCE = 10

# scikit-learn's names of schedules, which have an effect with solver="sgd" only.
_SGD_ONLY_SCHEDULES = ("constant", "invscaling", "adaptive")

# Fields whose numbers may differ among the networks of a stack: then they are arrays with a row for
# each network.
_STACKED = (
    "penalty",
    "solver",
    "clip_norm",
    "average",
    "learning_rate",
    "learning_rate_init",
    "tol",
    "n_iter_no_change",
)
# The types of the fields that are numbers, by their annotations.
_NUMBERS = {"bool": bool, "int": int, "float": float, "FloatOrPerMember": float}
# Fields that networks of one stack need not have in common.
_PER_NETWORK = ("init", "class_weight", "gtol", "early_stopping", "verbose")


@dataclass(frozen=True, eq=False, kw_only=True)
class Config:
    """The parameters of an estimator, resolved to objects, under their own names.

    Names are replaced by the objects they stand for, whose settings include flat parameters such as
    ``momentum``. ``early_stopping`` is None or an `EarlyStopping`; its ``tol`` and
    ``n_iter_no_change`` then replace those of the estimator. The `penalty` combines ``alpha`` and
    ``l1_ratio``, and `gtol` is the estimator's ``tol`` for L-BFGS.
    """

    hidden_layer_sizes: tuple[int, ...]
    n_frozen_layers: int
    activation: tuple[ActivationFunction, ...]
    normalization: Normalization | None
    dropout: tuple[float, ...]
    layers: tuple[Layer, ...]
    input_shape: Shape | None
    init: Any
    n_estimators: int = 1
    dtype: np.dtype[Any] | None
    loss: Loss
    label_smoothing: float = 0.0
    class_weight: Any
    scale_target: bool = False
    penalty: L2
    solver: Optimizer | LBFGS
    learning_rate: LearningRateSchedule
    learning_rate_init: FloatOrPerMember
    clip_norm: FloatOrPerMember
    average: WeightAverage | None
    batch_size: int
    shuffle: bool
    time_limit: float
    max_iter: int
    tol: FloatOrPerMember
    n_iter_no_change: FloatOrPerMember
    gtol: float
    early_stopping: EarlyStopping | None
    verbose: bool

    # The parameters that a warm start must keep.
    fixed_names: ClassVar[tuple[str, ...]] = (
        "hidden_layer_sizes",
        "activation",
        "loss",
        "solver",
        "n_estimators",
        "scale_target",
        "layers",
        "input_shape",
        "normalization",
        "dtype",
    )

    @classmethod
    def from_params(cls, params: Mapping[str, Any], losses: Mapping[str, Loss]) -> Self:
        """Return the configuration for an estimator's parameters.

        Parameters
        ----------
        params : dict
            The constructor's parameters by name, after the check of the estimator's constraints.
            Not every estimator has all.
        losses : dict
            The estimator's losses by name.

        Raises
        ------
        ValueError
            If parameters contradict each other, or a value is invalid in a way that constraints
            cannot express.
        """
        loss, dtype, layers = params["loss"], params["dtype"], params.get("layers")
        class_weight, normalization = params.get("class_weight"), params.get("normalization")
        clip_norm, batch_size = params["clip_norm"], params["batch_size"]
        time_limit, tol, patience = params["time_limit"], params["tol"], params["n_iter_no_change"]
        alpha, l1_ratio = float(params["alpha"]), float(params["l1_ratio"])
        hidden_layer_sizes = validate_hidden_layer_sizes(params["hidden_layer_sizes"])
        layers = () if layers is None else check_layers(layers, LAYERS)
        is_single_layer = not (hidden_layer_sizes or any(isinstance(x, Dense) for x in layers))
        early_stopping = params["early_stopping"] or None
        if early_stopping is not None and not isinstance(early_stopping, EarlyStopping):
            # The flag stands for the parameters of the estimator.
            early_stopping = instantiate({"flag": EarlyStopping}, "flag", params)
        if early_stopping is not None:
            tol, patience = early_stopping.tol, early_stopping.n_iter_no_change
            if early_stopping.scoring is None and params.get("variational"):
                early_stopping = replace(early_stopping, scoring="loss")
        solver = instantiate(SOLVERS, params["solver"], params)
        is_lbfgs = isinstance(solver, LBFGS)
        values = {
            "hidden_layer_sizes": hidden_layer_sizes,
            "activation": get_activations(params["activation"], hidden_layer_sizes),
            "normalization": instantiate(NORMALIZATIONS, normalization, {}),
            "dropout": validate_dropout(params["dropout"], len(hidden_layer_sizes)),
            "layers": layers,
            "input_shape": validate_input_shape(params.get("input_shape")),
            "init": get_init(params["init"], params["activation"], is_single_layer=is_single_layer),
            "dtype": None if dtype is None else np.dtype(dtype),
            "loss": losses[loss] if isinstance(loss, str) else loss,
            "class_weight": None if class_weight is None else validate_class_weight(class_weight),
            "penalty": L1L2(alpha, l1_ratio) if l1_ratio else L2(alpha),
            "solver": solver,
            "learning_rate": ConstantRate() if is_lbfgs else make_schedule(params),
            "clip_norm": math.inf if clip_norm is None else float(clip_norm),
            "average": None if is_lbfgs else instantiate(AVERAGES, params["average"], params),
            "batch_size": _ROWS_OF_A_BATCH if isinstance(batch_size, str) else int(batch_size),
            "time_limit": math.inf if time_limit is None else float(time_limit),
            "tol": float(tol),
            "n_iter_no_change": float(patience) * (_LBFGS_PATIENCE if is_lbfgs else 1),
            "gtol": float(params["tol"]),
            "early_stopping": early_stopping,
        }
        for field in fields(cls):  # other numbers keep their names
            if field.name in params and field.name not in values:
                values[field.name] = _NUMBERS[str(field.type)](params[field.name])
        config = cls(**values)
        config._check_combinations(params)
        return config

    def _check_combinations(self, params: Mapping[str, Any]) -> None:
        """Check that the solver, the loss and early stopping allow the other parameters."""
        if self.n_frozen_layers > (n_hidden := len(self.hidden_layer_sizes)):
            raise ValueError(
                f"n_frozen_layers must be at most the number of hidden layers, {n_hidden}, since "
                f"the output layer is always trained, got {self.n_frozen_layers}. To freeze an "
                "object of layers, set its trainable=False."
            )
        if self.is_lbfgs and params["l1_ratio"]:
            raise ValueError(
                f"solver={params['solver']!r} needs a smooth objective, so l1_ratio must be 0, got "
                f"{params['l1_ratio']!r}. Set l1_ratio=0, or choose a stochastic solver such as "
                "'adam' or 'sgd'."
            )
        has_probabilities = getattr(self.loss, "supports_predict_proba", None)
        calibrates = self.early_stopping is not None and self.early_stopping.calibrate
        if calibrates and has_probabilities is None:
            raise ValueError(
                "EarlyStopping(calibrate=True) is only valid for classifiers, because it "
                "calibrates probabilities. Set calibrate=False. For calibrated intervals of a "
                "regressor, use ConformalRegressor."
            )
        setting = f"label_smoothing={self.label_smoothing}" if self.label_smoothing else ""
        if calibrates:
            setting = "EarlyStopping(calibrate=True)"
        if has_probabilities is False and setting:
            raise ValueError(
                f"{setting} needs a loss with probabilities, but loss={params['loss']!r} has only "
                'decision values. Remove it, or choose another loss, such as "log_loss".'
            )

    @cached_property
    def is_lbfgs(self) -> bool:
        """Whether the solver is L-BFGS."""
        return isinstance(self.solver, LBFGS)

    @cached_property
    def stops_without_progress(self) -> bool:
        """Whether training of a network may stop before ``max_iter``, for lack of progress."""
        return bool(np.isfinite(self.n_iter_no_change).any())

    def network(self, row_shape: Shape, n_outputs: int) -> Network:
        """Return the network that predicts: the `layers`, the hidden layers and the output layer.

        It has no dropout layers, because prediction does not use them.

        Parameters
        ----------
        row_shape : tuple of int
            The shape of one row of X.
        n_outputs : int
            The number of raw predictions.
        """
        input_shape = check_row_shape(self.input_shape, row_shape)
        layers, _ = expand_and_flatten(self.layers, input_shape)
        widths, activation = self.hidden_layer_sizes, self.activation
        n_frozen = self.n_frozen_layers
        layers += dense_layers(widths, activation, n_outputs, self.normalization, n_frozen)
        return Network(input_shape, tuple(layers[0].adapt_network(layers)))

    def validate_network(self, network: Network) -> None:
        """Check that the solver can train the layers of a network, dropout included.

        Raises
        ------
        ValueError
            If the solver is L-BFGS and a layer is random or uses batch statistics.
        """
        for layer in network.layers if self.is_lbfgs else ():
            is_batch_normalization = isinstance(layer, BatchNormalization) and layer.trainable
            if layer.stochastic or is_batch_normalization:
                raise ValueError(
                    "solver='lbfgs' needs a deterministic objective and uses no batches, but the "
                    f"network contains {layer!r}. Remove this layer, or choose a stochastic solver "
                    "such as 'adam' or 'sgd'."
                )

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer; empty for no dropout."""
        return self.dropout

    def check_warm_start(self, last_config: Config) -> None:
        """Check that no parameter has changed that a warm start must keep.

        Layers may be frozen, or be trained again.
        """
        for name in self.fixed_names:
            start, value = getattr(last_config, name), getattr(self, name)
            # The settings of an optimizer may change, but not its class.
            is_same = type(start) is type(value) if name == "solver" else is_equal(start, value)
            if name in ("layers", "normalization"):
                is_same = is_equal(_without_trainable(start), _without_trainable(value))
            if not is_same:
                raise ValueError(
                    f"{name} of the fitted network is {start!r}, and must not change to {value!r} "
                    "while training continues. Set it back, or call fit with warm_start=False to "
                    "train from scratch."
                )

    @cached_property
    def without_time_limit(self) -> Config:
        """The configuration without a time limit."""
        return replace(self, time_limit=math.inf)

    @cached_property
    def without_stopping_criteria(self) -> Config:
        """The configuration without a time limit and without stopping for lack of progress."""
        return replace(self.without_time_limit, n_iter_no_change=math.inf)

    @cached_property
    def stacking_key(self) -> list[Any]:
        """The settings that networks trained in one stack have in common; compared by `is_equal`.

        The numbers of the penalty, the solver, the schedule and the average may differ by member.
        """
        key: list[Any] = [type(self), self.class_weight is None]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _STACKED:
                key.append(static_signature(value))
            elif field.name not in _PER_NETWORK:
                key.append(value)
        return key

    def members(self, members: Any) -> Self:
        """Return the configuration of some members of a stack, a slice or an index array."""
        values = {name: index_settings(getattr(self, name), members) for name in _STACKED}
        return replace(self, **values)


@dataclass(frozen=True, eq=False, kw_only=True)
class AutoencoderConfig(Config):
    """The parameters of an autoencoder, whose decoder mirrors the encoder.

    The bottleneck between them has no activation. With `variational`, codes are drawn from normal
    distributions, whose means and log variances are its units, and `beta` is the weight of their
    divergence from the standard normal distribution.
    """

    n_components: int
    variational: bool
    beta: float

    fixed_names: ClassVar[tuple[str, ...]] = (*Config.fixed_names, "n_components", "variational")

    def network(self, row_shape: Shape, n_outputs: int) -> Network:
        """Return encoder and decoder as one network, whose outputs are as many as its inputs."""
        input_shape = check_row_shape(self.input_shape, row_shape)
        layers, (n_units,) = expand_and_flatten(self.layers, input_shape)
        hidden_widths, activation = self.hidden_layer_sizes, self.activation
        widths = *hidden_widths, self.n_components, *hidden_widths[::-1]
        activations = *activation, Identity(), *activation[::-1]
        dense = dense_layers(widths, activations, n_units, n_frozen=self.n_frozen_layers)
        n_before = 2 * len(hidden_widths)
        bottleneck: tuple[Layer, ...] = dense[n_before], Bottleneck(Identity())
        if self.variational:
            statistics = cast(Dense, dense[n_before])
            units = replace(statistics, n_units=2 * self.n_components)
            bottleneck = units, Sampling(self.beta)
        encoder = *layers, *dense[:n_before], *bottleneck
        decoder = *dense[n_before + 2 :], *mirror_layers(self.layers, input_shape)
        return Network(input_shape, (*encoder, *decoder))

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer of encoder and decoder."""
        return (*self.dropout, 0.0, *self.dropout[:0:-1]) if self.dropout else ()


def _without_trainable(layers: Any) -> dict[str, Any]:
    """Return the types and settings of layers by name, but for whether they are trainable."""
    params = {"": layers} | get_nested_params("", layers)
    return {
        name: type(value) if has_settings(value) else value
        for name, value in params.items()
        if not name.endswith("__trainable")
    }


def stack_configs(configs: Sequence[Config]) -> Config:
    """Return the configuration of a stack, of configurations with one `stacking_key`.

    It is the first one if all are the same object.
    """
    if all(config is configs[0] for config in configs):
        return configs[0]
    values = {name: stack_settings([*map(attrgetter(name), configs)]) for name in _STACKED}
    return replace(configs[0], **values)


def is_lbfgs(solver: Any) -> bool:
    """Return whether the solver is L-BFGS, by name or instance."""
    kind = SOLVERS.get(solver) if isinstance(solver, str) else type(solver)
    return kind is not None and issubclass(kind, LBFGS)


def instantiate(table: Mapping[str, type[Part]], setting: Any, params: Mapping[str, Any]) -> Part:
    """Return the object for a name, its fields set to the parameters of the same name.

    Other fields keep their defaults. An instance is returned as it is.
    """
    if not isinstance(setting, str):
        return setting
    kind: Any = table[setting]
    settings = {field.name: params[field.name] for field in fields(kind) if field.name in params}
    part: Part = kind(**settings)
    return part


def make_schedule(params: Mapping[str, Any]) -> LearningRateSchedule:
    """Return the schedule; as in scikit-learn, its names have an effect with "sgd" only."""
    schedule, solver = params["learning_rate"], params["solver"]
    if not isinstance(schedule, str):
        return as_schedule(schedule, "learning_rate")
    if schedule in _SGD_ONLY_SCHEDULES and not (isinstance(solver, str) and solver == "sgd"):
        return ConstantRate()
    return instantiate(SCHEDULES, schedule, params)
