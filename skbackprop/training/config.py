"""The training configuration: an estimator's parameters as validated objects.

All training reads a `TrainingConfig`; nothing behind it looks at an estimator's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from ..early_stopping import EarlyStopping
from ..layers.normalization import BatchNormalization
from ..losses.base import Loss
from ..nn.network import Network
from ..nn.objective import L1L2, L2
from ..nn.stack_trainer import PlateauStopper
from ..nn.update import UpdateRule
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, ConstantRate, LearningRateSchedule, as_schedule
from ..utils.configurable import static_signature
from ..utils.equality import is_equal
from ..weight_averaging import AVERAGES, WeightAverage
from .architecture import MLPSpec
from .class_weight import validate_class_weight
from .weight_init import WeightInit, make_weight_init

Part = TypeVar("Part")

# The batch size for batch_size="auto".
_ROWS_OF_A_BATCH = 200

# An iteration of L-BFGS does less than an epoch, and its scores rise slowly at first.
_LBFGS_PATIENCE = 10

# scikit-learn's names of schedules, which have an effect with solver="sgd" only.
SGD_ONLY_SCHEDULES = ("constant", "invscaling", "adaptive")


@dataclass(frozen=True)
class TrainingConfig:
    """The configuration of training, independent of the data.

    Parameters
    ----------
    architecture : MLPSpec
        The layers of the networks.
    initial : WeightInit
        The initial weights: random or given.
    n_estimators : int
        The number of networks.
    dtype : dtype or None
        The dtype of the parameters; None for the dtype of the data.
    loss : Loss
        The loss that the user has chosen; targets may need a variant of it.
    label_smoothing : float
        The share of a classifier's targets that is spread over all classes.
    class_weight : dict, "balanced" or None
        The weights of a classifier's classes, as `compute_sample_weight` takes them.
    scale_target : bool
        Whether a regressor's targets are scaled.
    penalty : L2
        The penalty on the weights.
    solver : Optimizer or LBFGS
        The stochastic optimizer, or L-BFGS on all rows.
    schedule : LearningRateSchedule
        The schedule of the learning rate.
    rate : float
        The initial learning rate.
    clip_norm : float
        The largest norm of a gradient; infinite for no clipping.
    average : WeightAverage or None
        The average of the weights over the steps; None for no average.
    batch_size : int
        The number of rows of a batch, if there are as many.
    shuffle : bool
        Whether the rows are shuffled before each epoch.
    time_limit : float
        The largest number of seconds that a fit trains; infinite for no limit.
    max_iter : int
        The largest number of epochs, or of iterations of L-BFGS.
    tol : float
        The minimum improvement of the training loss that counts as progress. With L-BFGS, the
        largest gradient component that counts as zero.
    n_iter_no_change : float
        The number of epochs without progress after which training stops; infinite to go on.
    stopping : EarlyStopping or None
        The early stopping, by validation rows instead of the training loss; None without.
    verbose : bool
        Whether to print the progress of each epoch.
    """

    architecture: MLPSpec
    initial: WeightInit
    n_estimators: int
    dtype: np.dtype[np.floating] | None
    loss: Loss
    label_smoothing: float
    class_weight: Any
    scale_target: bool
    penalty: L2
    solver: Optimizer | LBFGS
    schedule: LearningRateSchedule
    rate: float
    clip_norm: float
    average: WeightAverage | None
    batch_size: int
    shuffle: bool
    time_limit: float
    max_iter: int
    tol: float
    n_iter_no_change: float
    stopping: EarlyStopping | None
    verbose: bool

    @property
    def is_lbfgs(self) -> bool:
        """Whether the solver is L-BFGS."""
        return isinstance(self.solver, LBFGS)

    def check_network(self, network: Network) -> None:
        """Check that the solver can train the layers of a network.

        Raises
        ------
        ValueError
            If L-BFGS is to train a layer that is random or takes statistics of batches.
        """
        if not self.is_lbfgs:
            return
        for layer in network.layers:
            if layer.stochastic or isinstance(layer, BatchNormalization):
                raise ValueError(
                    "solver='lbfgs' needs a deterministic objective and uses no batches, but the "
                    f"network contains {layer!r}. Remove this layer, or choose a stochastic solver "
                    "such as 'adam' or 'sgd'."
                )

    @property
    def update_rule(self) -> UpdateRule:
        """How each step of a stochastic optimizer changes the parameters."""
        assert isinstance(self.solver, Optimizer)
        return UpdateRule(self.solver, self.clip_norm, self.average)

    @property
    def patience(self) -> PlateauStopper:
        """The rule that ends training for lack of progress."""
        of: TrainingConfig | EarlyStopping = self.stopping or self
        n_epochs = of.n_iter_no_change * (_LBFGS_PATIENCE if self.is_lbfgs else 1)
        return PlateauStopper(of.tol, n_epochs)

    @cached_property
    def stacking_key(self) -> list[Any]:
        """The settings that networks trained in one stack have in common; compared by `is_equal`.

        The numbers of the penalty, the solver, the schedule and the average may differ by member.
        """
        return [
            self.architecture,
            self.n_estimators,
            self.dtype,
            self.loss,
            self.label_smoothing,
            self.class_weight is None,
            self.scale_target,
            self.batch_size,
            self.max_iter,
            self.time_limit,
            *map(static_signature, (self.penalty, self.solver, self.schedule, self.average)),
        ]

    @property
    def n_moments(self) -> int:
        """The number of arrays, each like the parameters, that optimizer and average keep."""
        if isinstance(self.solver, LBFGS):
            return 0
        theta = np.zeros((1, 2))
        states = [self.solver.init(theta)]
        if self.average is not None:
            states.append(self.average.init(theta, np.zeros((1, 1), dtype=int)))
        return sum(np.shape(array) == theta.shape for state in states for array in state.values())


def make_training_config(
    parameters: Mapping[str, Any],
    losses: Mapping[str, Loss],
    kind_of_network: type[MLPSpec],
) -> TrainingConfig:
    """Return the training configuration for an estimator's parameters.

    Parameters
    ----------
    parameters : dict
        The constructor's parameters by name, after the check of the estimator's constraints. Not
        every estimator has all.
    losses : dict
        The estimator's losses by name.
    kind_of_network : type
        Its subclass of `MLPSpec`.

    Raises
    ------
    ValueError
        If parameters contradict each other, or a value is invalid in a way that constraints cannot
        express.
    """
    loss, dtype, stopping = (parameters[name] for name in ("loss", "dtype", "early_stopping"))
    batch_size, time_limit = parameters["batch_size"], parameters["time_limit"]
    alpha, l1_ratio = float(parameters["alpha"]), float(parameters["l1_ratio"])
    clip_norm = parameters["clip_norm"]
    if not isinstance(stopping, EarlyStopping):  # a flag stands for the flat parameters
        names = {"early": EarlyStopping}
        stopping = instantiate(names, "early", parameters) if stopping else None
    is_variational = bool(parameters.get("variational"))
    if stopping is not None and is_variational and stopping.scoring is None:
        stopping = replace(stopping, scoring="loss")
    config = TrainingConfig(
        architecture=kind_of_network.from_params(parameters),
        initial=make_weight_init(parameters),
        n_estimators=int(parameters.get("n_estimators", 1)),
        dtype=None if dtype is None else np.dtype(dtype),
        loss=losses[loss] if isinstance(loss, str) else loss,
        label_smoothing=float(parameters.get("label_smoothing", 0.0)),
        class_weight=validate_class_weight(parameters.get("class_weight")),
        scale_target=bool(parameters.get("scale_target", False)),
        penalty=L1L2(alpha, l1_ratio) if l1_ratio else L2(alpha),
        solver=instantiate(SOLVERS, parameters["solver"], parameters),
        schedule=build_schedule(parameters),
        rate=float(parameters["learning_rate_init"]),
        clip_norm=math.inf if clip_norm is None else float(clip_norm),
        average=(
            None
            if is_lbfgs(parameters["solver"])
            else instantiate(AVERAGES, parameters["average"], parameters)
        ),
        batch_size=_ROWS_OF_A_BATCH if isinstance(batch_size, str) else int(batch_size),
        shuffle=bool(parameters["shuffle"]),
        time_limit=math.inf if time_limit is None else float(time_limit),
        max_iter=int(parameters["max_iter"]),
        tol=float(parameters["tol"]),
        n_iter_no_change=float(parameters["n_iter_no_change"]),
        stopping=stopping,
        verbose=bool(parameters["verbose"]),
    )
    _check_probabilities(config, parameters)
    return config


def _check_probabilities(config: TrainingConfig, parameters: Mapping[str, Any]) -> None:
    """Check that the loss allows calibration and label smoothing."""
    has_probabilities = getattr(config.loss, "supports_predict_proba", None)
    calibrates = config.stopping is not None and config.stopping.calibrate
    if calibrates and has_probabilities is None:
        raise ValueError(
            "EarlyStopping(calibrate=True) is only valid for classifiers, because it calibrates "
            "probabilities. Set calibrate=False. For calibrated intervals of a regressor, use "
            "ConformalRegressor."
        )
    if has_probabilities is False and (calibrates or config.label_smoothing):
        smoothing = f"label_smoothing={config.label_smoothing}"
        raise ValueError(
            f"{'EarlyStopping(calibrate=True)' if calibrates else smoothing} needs a loss with "
            f"probabilities, but loss={parameters['loss']!r} has only decision values. Set "
            f"{'calibrate=False' if calibrates else 'label_smoothing=0'}, or choose another loss, "
            'such as "log_loss".'
        )


def is_lbfgs(solver: Any) -> bool:
    """Return whether the solver is L-BFGS, by name or instance."""
    kind = SOLVERS.get(solver) if isinstance(solver, str) else type(solver)
    return kind is not None and issubclass(kind, LBFGS)


def is_warm_start_compatible(name: str, before: Any, now: Any) -> bool:
    """Return whether training can continue after this change of a parameter.

    The numbers of an optimizer may change. L-BFGS has no state, so all of its settings may.
    """
    if name == "solver":
        before, now = (
            LBFGS if isinstance(s, LBFGS) else static_signature(s) for s in (before, now)
        )
    return is_equal(now, before)


def instantiate(
    table: Mapping[str, type[Part]], setting: Any, parameters: Mapping[str, Any]
) -> Part:
    """Return the object for a name, its fields set to the parameters of the same name.

    Other fields keep their defaults. An instance is returned as it is.
    """
    if not isinstance(setting, str):
        return setting
    kind: Any = table[setting]
    names = [field.name for field in fields(kind) if field.name in parameters]
    built: Part = kind(**{name: parameters[name] for name in names})
    return built


def build_schedule(parameters: Mapping[str, Any]) -> LearningRateSchedule:
    """Return the schedule; scikit-learn's names have an effect with "sgd" only, as there."""
    schedule, solver = parameters["learning_rate"], parameters["solver"]
    if not isinstance(schedule, str):
        return as_schedule(schedule, "learning_rate")
    if schedule in SGD_ONLY_SCHEDULES and not (isinstance(solver, str) and solver == "sgd"):
        return ConstantRate()
    return instantiate(SCHEDULES, schedule, parameters)
