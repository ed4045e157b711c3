"""Parameters of the estimators: names, types, defaults and constraints.

`make reference` writes the docstrings and docs/api.md from these classes and the texts of
docs/parameters.toml.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np

from .._sklearn import Interval, Options, StrOptions
from ..activations import ACTIVATIONS, ActivationFunction, ActivationLike
from ..early_stopping import EarlyStopping
from ..initializers import INITIALIZERS, Initializer
from ..layers import LAYERS, LayersLike
from ..layers.base import Layer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..losses.base import Loss
from ..losses.classification import CLASSIFIER_LOSSES, ClassifierLoss, LogLoss
from ..losses.regression import REGRESSOR_LOSSES, SquaredError
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, LearningRateSchedule
from ..training.architecture import CoefsAndIntercepts
from ..training.class_weight import ClassWeight
from ..utils._name_types import (
    AutoencoderLossName,
    AverageName,
    ClassifierLossName,
    InitializerName,
    NormalizationName,
    RegressorLossName,
    ScheduleName,
    SolverName,
)
from ..utils.arrays import Array
from ..weight_averaging import AVERAGES, WeightAverage

AUTOENCODER_LOSSES: dict[str, Loss] = {"squared_error": SquaredError(), "log_loss": LogLoss()}

COUNT = Interval(Integral, 1, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")
BELOW_ONE = Interval(Real, 0, 1, closed="left")


@dataclass(eq=False, repr=False, kw_only=True)
class NetworkParameters:
    """Parameters of all networks. Subclasses add their own, and declare the positional ones.

    The constraints are those of scikit-learn's parameter validation. `Config` checks what they
    cannot express.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", COUNT],
        "activation": [StrOptions(set(ACTIVATIONS)), ActivationFunction, "array-like"],
        "solver": [StrOptions(set(SOLVERS)), Optimizer, LBFGS],
        "alpha": [NOT_NEGATIVE],
        "batch_size": [StrOptions({"auto"}), COUNT],
        "learning_rate": [StrOptions(set(SCHEDULES)), LearningRateSchedule, callable],
        "learning_rate_init": [POSITIVE],
        "power_t": [NOT_NEGATIVE],
        "max_iter": [COUNT],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [NOT_NEGATIVE],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [SHARE],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean", EarlyStopping],
        "validation_fraction": [BELOW_ONE, Interval(Integral, 2, None, closed="left")],
        "beta_1": [BELOW_ONE],
        "beta_2": [BELOW_ONE],
        "epsilon": [POSITIVE],
        "n_iter_no_change": [COUNT, Options(Real, {np.inf})],
        "max_fun": [COUNT],
        "l1_ratio": [SHARE],
        "clip_norm": [POSITIVE, None],
        "layers": [StrOptions(set(LAYERS)), Layer, list, tuple, None],
        "input_shape": [COUNT, list, tuple, None],
        "n_frozen_layers": [Interval(Integral, 0, None, closed="left")],
        "dropout": [object],
        "average": [StrOptions(set(AVERAGES)), WeightAverage, None],
        "init": [StrOptions({"auto", *INITIALIZERS}), Initializer, tuple, list],
        "time_limit": [POSITIVE, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
    }

    loss: Any
    solver: SolverName | Optimizer | LBFGS = "adam"
    alpha: float = 0.0001
    batch_size: Literal["auto"] | int = "auto"
    learning_rate: ScheduleName | LearningRateSchedule | Callable[[float], float] = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: int | np.random.RandomState | None = None
    tol: float = 0.0001
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool | EarlyStopping = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-08
    n_iter_no_change: float = 10
    max_fun: int = 15000
    l1_ratio: float = 0.0
    clip_norm: float | None = None
    layers: LayersLike | None = None
    input_shape: int | Sequence[int] | None = None
    n_frozen_layers: int = 0
    dropout: float | Sequence[float] | Array = 0.0
    average: AverageName | WeightAverage | None = None
    init: Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts = "auto"
    time_limit: float | None = None
    dtype: Literal["float32", "float64"] | None = None


@dataclass(eq=False, repr=False)
class ClassifierParameters(NetworkParameters):
    """Parameters of `BackpropClassifier`."""

    _losses: ClassVar[Mapping[str, Loss]] = CLASSIFIER_LOSSES
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NetworkParameters._parameter_constraints,
        "loss": [StrOptions(set(CLASSIFIER_LOSSES)), ClassifierLoss],
        "normalization": [StrOptions(set(NORMALIZATIONS)), Normalization, None],
        "n_estimators": [COUNT],
        "n_jobs": [Integral, None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "label_smoothing": [BELOW_ONE],
    }

    hidden_layer_sizes: int | Sequence[int] | Array = (100,)
    activation: ActivationLike | Sequence[ActivationLike] = "relu"
    _: KW_ONLY
    loss: ClassifierLossName | ClassifierLoss = "log_loss"
    normalization: NormalizationName | Normalization | None = None
    n_estimators: int = 1
    n_jobs: int | None = None
    class_weight: ClassWeight | None = None
    label_smoothing: float = 0.0


@dataclass(eq=False, repr=False)
class RegressorParameters(NetworkParameters):
    """Parameters of `BackpropRegressor`."""

    _losses: ClassVar[Mapping[str, Loss]] = REGRESSOR_LOSSES
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NetworkParameters._parameter_constraints,
        "loss": [StrOptions(set(REGRESSOR_LOSSES)), Loss],
        "normalization": [StrOptions(set(NORMALIZATIONS)), Normalization, None],
        "n_estimators": [COUNT],
        "n_jobs": [Integral, None],
        "scale_target": ["boolean"],
    }

    hidden_layer_sizes: int | Sequence[int] | Array = (100,)
    activation: ActivationLike | Sequence[ActivationLike] = "relu"
    _: KW_ONLY
    loss: RegressorLossName | Loss = "squared_error"
    normalization: NormalizationName | Normalization | None = None
    n_estimators: int = 1
    n_jobs: int | None = None
    scale_target: bool = False


@dataclass(eq=False, repr=False)
class AutoencoderParameters(NetworkParameters):
    """Parameters of `BackpropAutoencoder`."""

    _losses: ClassVar[Mapping[str, Loss]] = AUTOENCODER_LOSSES
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **NetworkParameters._parameter_constraints,
        "n_components": [COUNT],
        "loss": [StrOptions(set(AUTOENCODER_LOSSES)), Loss],
        "variational": ["boolean"],
        "beta": [POSITIVE],
        "contamination": [Interval(Real, 0, 0.5, closed="right")],
    }

    n_components: int = 2
    hidden_layer_sizes: int | Sequence[int] | Array = (100,)
    activation: ActivationLike | Sequence[ActivationLike] = "relu"
    _: KW_ONLY
    loss: AutoencoderLossName | Loss = "squared_error"
    variational: bool = False
    beta: float = 1.0
    contamination: float = 0.1
