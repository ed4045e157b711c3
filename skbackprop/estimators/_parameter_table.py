"""Table of the estimators' parameters: defaults, constraints, types and effects.

`make reference` writes the constructors, docstrings and docs/api.md from this table and the texts
of docs/parameters.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any

import numpy as np

from .._sklearn import Interval, Options, StrOptions
from ..activations import ACTIVATIONS, ActivationFunction
from ..early_stopping import EarlyStopping
from ..initializers import INITIALIZERS, Initializer
from ..layers import LAYERS
from ..layers.base import Layer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..losses.base import Loss
from ..losses.classification import CLASSIFIER_LOSSES, ClassifierLoss, LogLoss
from ..losses.regression import REGRESSOR_LOSSES, SquaredError
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, LearningRateSchedule
from ..weight_averaging import AVERAGES, WeightAverage

AUTOENCODER_LOSSES: dict[str, Loss] = {"squared_error": SquaredError(), "log_loss": LogLoss()}

# The kinds of estimators; the autoencoder has no ensembles.
ESTIMATORS = ("classifier", "regressor", "autoencoder")
ENSEMBLES = ("classifier", "regressor")
CLASSIFIER, REGRESSOR, AUTOENCODER = ("classifier",), ("regressor",), ("autoencoder",)


@dataclass(frozen=True)
class Parameter:
    """One parameter of the constructors.

    Parameters
    ----------
    name : str
        The name.
    default : object
        The default.
    constraints : list
        The values other than names, as constraints of scikit-learn's parameter validation. Further
        checks are made where the value is used.
    type_hint : str
        The type in the signature.
    estimators : tuple of str, default=("classifier", "regressor", "autoencoder")
        The estimators with this parameter.
    warm_start_fixed : bool, default=False
        Whether a warm start must not change it, because it determines the network or its training
        state.
    affects_predictions : bool, default=False
        Whether a warm start may change it, and predictions depend on it.
    table : mapping or None, default=None
        The objects or classes behind its names; None if it takes no objects.
    """

    name: str
    default: Any
    constraints: list[Any]
    type_hint: str
    estimators: tuple[str, ...] = ESTIMATORS
    warm_start_fixed: bool = False
    affects_predictions: bool = False
    table: Mapping[str, Any] | None = None

    @property
    def all_constraints(self) -> list[Any]:
        """The constraint for scikit-learn's parameter validation."""
        if self.table is None or isinstance(self.constraints[0], StrOptions):
            return self.constraints
        return [StrOptions(set(self.table)), *self.constraints]


COUNT = Interval(Integral, 1, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")
BELOW_ONE = Interval(Real, 0, 1, closed="left")

# Parameters that a warm start must not change.
fixed = partial(Parameter, warm_start_fixed=True)

PARAMETERS = (
    fixed("n_components", 2, [COUNT], "int", estimators=AUTOENCODER),
    fixed("hidden_layer_sizes", (100,), ["array-like", COUNT], "int | Sequence[int] | Array"),
    fixed(
        "activation",
        "relu",
        [ActivationFunction, "array-like"],
        "ActivationLike | Sequence[ActivationLike]",
        table=ACTIVATIONS,
    ),
    fixed(
        "loss",
        "log_loss",
        [ClassifierLoss],
        "ClassifierLossName | ClassifierLoss",
        estimators=CLASSIFIER,
        table=CLASSIFIER_LOSSES,
    ),
    fixed(
        "loss",
        "squared_error",
        [Loss],
        "RegressorLossName | Loss",
        estimators=REGRESSOR,
        table=REGRESSOR_LOSSES,
    ),
    fixed(
        "loss",
        "squared_error",
        [Loss],
        "AutoencoderLossName | Loss",
        estimators=AUTOENCODER,
        table=AUTOENCODER_LOSSES,
    ),
    fixed("solver", "adam", [Optimizer, LBFGS], "SolverName | Optimizer | LBFGS", table=SOLVERS),
    Parameter("alpha", 0.0001, [NOT_NEGATIVE], "float"),
    Parameter("batch_size", "auto", [StrOptions({"auto"}), COUNT], 'Literal["auto"] | int'),
    Parameter(
        "learning_rate",
        "constant",
        [LearningRateSchedule, callable],
        "ScheduleName | LearningRateSchedule | Callable[[float], float]",
        table=SCHEDULES,
    ),
    Parameter("learning_rate_init", 0.001, [POSITIVE], "float"),
    Parameter("power_t", 0.5, [NOT_NEGATIVE], "float"),
    Parameter("max_iter", 200, [COUNT], "int"),
    Parameter("shuffle", True, ["boolean"], "bool"),
    Parameter("random_state", None, ["random_state"], "int | np.random.RandomState | None"),
    Parameter("tol", 0.0001, [NOT_NEGATIVE], "float"),
    Parameter("verbose", False, ["verbose"], "bool | int"),
    Parameter("warm_start", False, ["boolean"], "bool"),
    Parameter("momentum", 0.9, [SHARE], "float"),
    Parameter("nesterovs_momentum", True, ["boolean"], "bool"),
    Parameter("early_stopping", False, ["boolean", EarlyStopping], "bool | EarlyStopping"),
    Parameter(
        "validation_fraction", 0.1, [BELOW_ONE, Interval(Integral, 2, None, closed="left")], "float"
    ),
    Parameter("beta_1", 0.9, [BELOW_ONE], "float"),
    Parameter("beta_2", 0.999, [BELOW_ONE], "float"),
    Parameter("epsilon", 1e-08, [POSITIVE], "float"),
    Parameter("n_iter_no_change", 10, [COUNT, Options(Real, {np.inf})], "float"),
    Parameter("max_fun", 15000, [COUNT], "int"),
    fixed("n_estimators", 1, [COUNT], "int", estimators=ENSEMBLES),
    Parameter(
        "class_weight",
        None,
        [StrOptions({"balanced"}), dict, None],
        "ClassWeight | None",
        estimators=CLASSIFIER,
    ),
    Parameter("label_smoothing", 0.0, [BELOW_ONE], "float", estimators=CLASSIFIER),
    fixed("scale_target", False, ["boolean"], "bool", estimators=REGRESSOR),
    fixed("variational", False, ["boolean"], "bool", estimators=AUTOENCODER),
    Parameter("beta", 1.0, [POSITIVE], "float", estimators=AUTOENCODER, affects_predictions=True),
    Parameter(
        "contamination",
        0.1,
        [Interval(Real, 0, 0.5, closed="right")],
        "float",
        estimators=AUTOENCODER,
    ),
    Parameter("l1_ratio", 0.0, [SHARE], "float"),
    Parameter("clip_norm", None, [POSITIVE, None], "float | None"),
    fixed("layers", None, [Layer, list, tuple, None], "LayersLike | None", table=LAYERS),
    fixed("input_shape", None, [COUNT, list, tuple, None], "int | Sequence[int] | None"),
    Parameter("dropout", 0.0, [object], "float | Sequence[float] | Array"),
    fixed(
        "normalization",
        None,
        [Normalization, None],
        "NormalizationName | Normalization | None",
        estimators=ENSEMBLES,
        table=NORMALIZATIONS,
    ),
    Parameter(
        "average", None, [WeightAverage, None], "AverageName | WeightAverage | None", table=AVERAGES
    ),
    Parameter(
        "init",
        "auto",
        [StrOptions({"auto", *INITIALIZERS}), Initializer, tuple, list],
        'Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts',
        table=INITIALIZERS,
    ),
    Parameter("time_limit", None, [POSITIVE, None], "float | None"),
    fixed(
        "dtype",
        None,
        [StrOptions({"float32", "float64"}), None],
        'Literal["float32", "float64"] | None',
    ),
)


def get_parameters(estimator: str) -> dict[str, Parameter]:
    """Return the parameters of an estimator by name, in the order of its constructor."""
    return {row.name: row for row in PARAMETERS if estimator in row.estimators}


def get_constraints(estimator: str) -> dict[str, list[Any]]:
    """Return the constraints of an estimator for scikit-learn's parameter validation."""
    return {
        name: parameter.all_constraints for name, parameter in get_parameters(estimator).items()
    }


# The parameters that a warm start must not change.
FIXED = tuple(dict.fromkeys(p.name for p in PARAMETERS if p.warm_start_fixed))
