"""Table of the estimators' parameters: defaults, constraints, types and what they may change.

`make reference` writes the constructors, docstrings and docs/api.md from this table and the texts
of docs/parameters.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from .._sklearn import Interval, Options, StrOptions
from ..activations import ACTIVATIONS, ActivationFunction
from ..early_stopping import EarlyStopping
from ..initializers import INITIALIZERS, Initializer
from ..layers.input_layers import INPUT_LAYERS, FeatureLayer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..losses.base import Loss
from ..losses.classification import CLASSIFIER_LOSSES, ClassifierLoss
from ..losses.regression import REGRESSOR_LOSSES, SquaredError
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, LearningRateSchedule
from ..weight_averaging import AVERAGES, WeightAverage

AUTOENCODER_LOSSES: dict[str, Loss] = {"squared_error": SquaredError()}

# The kinds of estimators; the autoencoder has no ensembles.
ESTIMATORS = ("classifier", "regressor", "autoencoder")
ENSEMBLES = ("classifier", "regressor")
# The Dask estimators, and the local estimators whose parameters they share.
ON_A_CLUSTER = {"dask_classifier": "classifier", "dask_regressor": "regressor"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of the constructors.

    Parameters
    ----------
    name : str
        The name.
    default : object
        The default.
    constraint : list
        The constraint for scikit-learn's parameter validation. Further checks are made where the
        value is used.
    hint : str
        The type in the signature.
    of : tuple of str, default=("classifier", "regressor", "autoencoder")
        The estimators with this parameter.
    warm_start_fixed : bool, default=False
        Whether a warm start must not change it, because it determines the network or its training
        state.
    table : mapping or None, default=None
        The objects or classes behind its names; None if it takes no objects.
    """

    name: str
    default: Any
    constraint: list[Any]
    hint: str
    of: tuple[str, ...] = ESTIMATORS
    warm_start_fixed: bool = False
    table: Mapping[str, Any] | None = None


COUNT = Interval(Integral, 1, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
SHARE = Interval(Real, 0, 1, closed="both")
BELOW_ONE = Interval(Real, 0, 1, closed="left")

PARAMETERS = (
    Parameter("n_components", 2, [COUNT], hint="int", of=("autoencoder",), warm_start_fixed=True),
    Parameter(
        "hidden_layer_sizes",
        (100,),
        ["array-like", COUNT],
        hint="int | Sequence[int] | Array",
        warm_start_fixed=True,
    ),
    Parameter(
        "activation",
        "relu",
        [StrOptions(set(ACTIVATIONS)), ActivationFunction, "array-like"],
        hint="ActivationLike | Sequence[ActivationLike]",
        warm_start_fixed=True,
        table=ACTIVATIONS,
    ),
    Parameter(
        "loss",
        "log_loss",
        [StrOptions(set(CLASSIFIER_LOSSES)), ClassifierLoss],
        hint="ClassifierLossName | ClassifierLoss",
        of=("classifier",),
        warm_start_fixed=True,
        table=CLASSIFIER_LOSSES,
    ),
    Parameter(
        "loss",
        "squared_error",
        [StrOptions(set(REGRESSOR_LOSSES)), Loss],
        hint="RegressorLossName | Loss",
        of=("regressor",),
        warm_start_fixed=True,
        table=REGRESSOR_LOSSES,
    ),
    Parameter(
        "loss",
        "squared_error",
        [StrOptions(set(AUTOENCODER_LOSSES)), Loss],
        hint="AutoencoderLossName | Loss",
        of=("autoencoder",),
        warm_start_fixed=True,
        table=AUTOENCODER_LOSSES,
    ),
    Parameter(
        "solver",
        "adam",
        [StrOptions(set(SOLVERS)), Optimizer, LBFGS],
        hint="SolverName | Optimizer | LBFGS",
        warm_start_fixed=True,
        table=SOLVERS,
    ),
    Parameter("alpha", 0.0001, [NOT_NEGATIVE], hint="float"),
    Parameter("batch_size", "auto", [StrOptions({"auto"}), COUNT], hint='Literal["auto"] | int'),
    Parameter(
        "learning_rate",
        "constant",
        [StrOptions(set(SCHEDULES)), LearningRateSchedule, callable],
        hint="ScheduleName | LearningRateSchedule | Callable[[float], float]",
        table=SCHEDULES,
    ),
    Parameter("learning_rate_init", 0.001, [POSITIVE], hint="float"),
    Parameter("power_t", 0.5, [NOT_NEGATIVE], hint="float"),
    Parameter("max_iter", 200, [COUNT], hint="int"),
    Parameter("shuffle", True, ["boolean"], hint="bool"),
    Parameter("random_state", None, ["random_state"], hint="int | np.random.RandomState | None"),
    Parameter("tol", 0.0001, [NOT_NEGATIVE], hint="float"),
    Parameter("verbose", False, ["verbose"], hint="bool | int"),
    Parameter("warm_start", False, ["boolean"], hint="bool"),
    Parameter("momentum", 0.9, [SHARE], hint="float"),
    Parameter("nesterovs_momentum", True, ["boolean"], hint="bool"),
    Parameter("early_stopping", False, ["boolean", EarlyStopping], hint="bool | EarlyStopping"),
    Parameter(
        "validation_fraction",
        0.1,
        [BELOW_ONE, Interval(Integral, 2, None, closed="left")],
        hint="float",
    ),
    Parameter("beta_1", 0.9, [BELOW_ONE], hint="float"),
    Parameter("beta_2", 0.999, [BELOW_ONE], hint="float"),
    Parameter("epsilon", 1e-08, [POSITIVE], hint="float"),
    Parameter("n_iter_no_change", 10, [COUNT, Options(Real, {np.inf})], hint="float"),
    Parameter("max_fun", 15000, [COUNT], hint="int"),
    Parameter("n_estimators", 1, [COUNT], hint="int", of=ENSEMBLES, warm_start_fixed=True),
    Parameter(
        "class_weight",
        None,
        [StrOptions({"balanced"}), dict, list, None],
        hint="ClassWeight | list[ClassWeight | None] | None",
        of=("classifier",),
    ),
    Parameter("label_smoothing", 0.0, [BELOW_ONE], hint="float", of=("classifier",)),
    Parameter(
        "scale_target", False, ["boolean"], hint="bool", of=("regressor",), warm_start_fixed=True
    ),
    Parameter(
        "contamination",
        0.1,
        [Interval(Real, 0, 0.5, closed="right")],
        hint="float",
        of=("autoencoder",),
    ),
    Parameter("l1_ratio", 0.0, [SHARE], hint="float"),
    Parameter("clip_norm", None, [POSITIVE, None], hint="float | None"),
    Parameter(
        "input_layers",
        None,
        [StrOptions(set(INPUT_LAYERS)), FeatureLayer, list, tuple, None],
        hint="InputLayers | None",
        of=ENSEMBLES,
        warm_start_fixed=True,
        table=INPUT_LAYERS,
    ),
    Parameter("dropout", 0.0, [object], hint="float | Sequence[float] | Array"),
    Parameter(
        "normalization",
        None,
        [StrOptions(set(NORMALIZATIONS)), Normalization, None],
        hint="NormalizationName | Normalization | None",
        of=ENSEMBLES,
        warm_start_fixed=True,
        table=NORMALIZATIONS,
    ),
    Parameter(
        "average",
        None,
        [StrOptions(set(AVERAGES)), WeightAverage, None],
        hint="AverageName | WeightAverage | None",
        table=AVERAGES,
    ),
    Parameter(
        "init",
        "auto",
        [StrOptions({"auto", *INITIALIZERS}), Initializer, tuple, list],
        hint='Literal["auto"] | InitializerName | Initializer | CoefsAndIntercepts',
        table=INITIALIZERS,
    ),
    Parameter("time_limit", None, [POSITIVE, None], hint="float | None"),
    Parameter(
        "dtype",
        None,
        [StrOptions({"float32", "float64"}), None],
        hint='Literal["float32", "float64"] | None',
        warm_start_fixed=True,
    ),
)

# Parameters that only the Dask estimators have.
OF_A_CLUSTER = (
    Parameter("client", None, [object], hint="Client | None", of=tuple(ON_A_CLUSTER)),
    Parameter("sync_every", 10, [COUNT], hint="int", of=tuple(ON_A_CLUSTER)),
)


def parameters_of(estimator: str) -> dict[str, Parameter]:
    """Return the parameters of an estimator by name, in the order of its constructor."""
    kinds = {estimator, ON_A_CLUSTER.get(estimator, estimator)}
    return {row.name: row for row in (*PARAMETERS, *OF_A_CLUSTER) if not kinds.isdisjoint(row.of)}


def constraints_of(estimator: str) -> dict[str, list[Any]]:
    """Return the constraints of an estimator for scikit-learn's parameter validation."""
    return {name: parameter.constraint for name, parameter in parameters_of(estimator).items()}


# The parameters that a warm start must not change.
FIXED = tuple(dict.fromkeys(p.name for p in PARAMETERS if p.warm_start_fixed))
