"""How an estimator's networks are to be trained: its parameters as objects, made once.

All that trains reads a `TrainingConfig`, and nothing behind it looks at an estimator's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from ..early_stopping import EarlyStopping
from ..layers.normalization import BatchNormalization
from ..losses.base import Loss
from ..nn.ensemble_trainer import PlateauStopper
from ..nn.regularizers import L1L2, L2, Regularizer
from ..optimizers import LBFGS, SOLVERS, Optimizer
from ..schedules import SCHEDULES, ConstantRate, LearningRateSchedule, as_schedule
from ..utils.equality import is_equal
from ..utils.stack_members import static_signature
from ..utils.validation import did_you_mean
from ..weight_averaging import AVERAGES, WeightAverage
from .architecture import MLPSpec
from .class_weight import checked_class_weight
from .weight_init import WeightInit, initial_weights

Part = TypeVar("Part")

# The rows of a batch under batch_size="auto".
_ROWS_OF_A_BATCH = 200

# An iteration of L-BFGS does less than an epoch, and its scores rise slowly at first.
_LBFGS_PATIENCE = 10

# The names of schedules that are scikit-learn's, which act with its "sgd" alone.
SGD_ONLY_SCHEDULES = ("constant", "invscaling", "adaptive")


@dataclass(frozen=True)
class TrainingConfig:
    """How networks are to be trained, whatever the data.

    Parameters
    ----------
    architecture : Architecture
        What the networks are made of.
    initial : Drawn or Given
        Where their initial weights come from.
    n_estimators : int
        How many networks there are.
    dtype : dtype or None
        What they compute in; None for the dtype of the data.
    loss : Loss
        The loss as the user names it; targets may need another of its kind.
    label_smoothing : float
        The share of a classifier's targets that is spread over all classes.
    class_weight : dict, "balanced", list of these and None, or None
        What a classifier's rows weigh by their classes, as `compute_sample_weight` takes it.
    scale_target : bool
        Whether a regressor's targets are scaled.
    penalty : Penalty
        The penalty on the weights.
    solver : Optimizer or LBFGS
        What makes the steps, or goes along all rows at once.
    schedule : Schedule
        The course of the learning rate.
    rate : float
        The base rate.
    clip_norm : float
        The largest norm that a gradient may have; infinite for any.
    average : Average or None
        What averages the weights over the steps.
    batch_size : int
        The rows of a batch, where there are so many.
    shuffle : bool
        Whether the rows are visited in another order in each epoch.
    time_limit : float
        The most seconds that a fit trains for; infinite for any.
    max_iter : int
        The most epochs, or iterations of L-BFGS.
    tol : float
        The improvement of the training loss that counts as progress; of L-BFGS the gradient that
        counts as zero.
    n_iter_no_change : float
        The epochs without progress that are put up with; infinite for all.
    stopping : EarlyStopping or None
        What is watched beside the training loss, and ends training in its place; None for nothing.
    verbose : bool
        Whether each epoch is printed.
    """

    architecture: MLPSpec
    initial: WeightInit
    n_estimators: int
    dtype: np.dtype[np.floating] | None
    loss: Loss
    label_smoothing: float
    class_weight: Any
    scale_target: bool
    penalty: Regularizer
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
        """Whether all rows make one step."""
        return isinstance(self.solver, LBFGS)

    @property
    def patience(self) -> PlateauStopper:
        """When a lack of progress ends training."""
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
        """How many arrays of the size of the parameters the optimizer and the average keep."""
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
    """Return the plan that an estimator's parameters make.

    Parameters
    ----------
    parameters : dict
        The constructor's, by name, each a value that the estimator's constraints let pass. Not
        every estimator has all.
    losses : dict
        The losses that the estimator knows by name.
    kind_of_network : type
        The kind of `MLPSpec` that it has.

    Raises
    ------
    ValueError
        If parameters do not go together, or a value is none that its constraint could tell.
    """
    is_stochastic = not is_lbfgs(parameters["solver"])
    loss, dtype = parameters["loss"], parameters["dtype"]
    batch_size = parameters["batch_size"]
    smoothing = float(parameters.get("label_smoothing", 0.0))
    return TrainingConfig(
        architecture=kind_of_network.of(parameters),
        initial=initial_weights(parameters),
        n_estimators=int(parameters.get("n_estimators", 1)),
        dtype=None if dtype is None else np.dtype(dtype),
        loss=_smoothable(losses[loss] if isinstance(loss, str) else loss, loss, smoothing),
        label_smoothing=smoothing,
        class_weight=checked_class_weight(parameters.get("class_weight")),
        scale_target=bool(parameters.get("scale_target", False)),
        penalty=build_penalty(parameters),
        solver=instantiate(SOLVERS, parameters["solver"], parameters),
        schedule=build_schedule(parameters),
        rate=float(parameters["learning_rate_init"]),
        clip_norm=_or_infinite(parameters["clip_norm"]),
        average=build_average(parameters) if is_stochastic else None,
        batch_size=_ROWS_OF_A_BATCH if isinstance(batch_size, str) else int(batch_size),
        shuffle=bool(parameters["shuffle"]),
        time_limit=_or_infinite(parameters["time_limit"]),
        max_iter=int(parameters["max_iter"]),
        tol=float(parameters["tol"]),
        n_iter_no_change=float(parameters["n_iter_no_change"]),
        stopping=_calibrating(build_stopping(parameters), losses, loss),
        verbose=bool(parameters["verbose"]),
    )


def _or_infinite(limit: Any) -> float:
    """Return a limit as a float; None is for none."""
    return math.inf if limit is None else float(limit)


def is_lbfgs(solver: Any) -> bool:
    """Return whether the solver is the one that takes no stochastic steps, by name or instance."""
    kind = SOLVERS.get(solver) if isinstance(solver, str) else type(solver)
    return kind is not None and issubclass(kind, LBFGS)


def is_warm_start_compatible(name: str, before: Any, now: Any) -> bool:
    """Return whether training can go on with this value of a parameter that shapes its state.

    Of an optimizer the numbers may change; L-BFGS leaves no state, so all of its settings may.
    """
    if name == "solver":
        before, now = (
            LBFGS if isinstance(s, LBFGS) else static_signature(s) for s in (before, now)
        )
    return is_equal(now, before)


def check_solver(config: TrainingConfig, parameters: Mapping[str, Any]) -> None:
    """Check that L-BFGS has nothing random to do, and nothing that needs batches."""
    solver = parameters["solver"]
    if not config.is_lbfgs:
        return
    if np.any(parameters["dropout"]):
        raise ValueError(
            f"solver={solver!r} needs the same objective in every call, which dropout makes "
            f"random: got dropout={parameters['dropout']!r}. Set dropout=0.0, or choose a "
            "stochastic solver such as 'adam' or 'sgd'."
        )
    if isinstance(config.architecture.normalization, BatchNormalization):
        raise ValueError(
            f"solver={solver!r} takes all rows at once, and leaves no batches to normalise over: "
            f"got normalization={parameters['normalization']!r}. Set normalization='layer' or "
            "None, or choose a stochastic solver such as 'adam' or 'sgd'."
        )


def _smoothable(loss: Loss, setting: Any, smoothing: float) -> Loss:
    """Return a loss, after a check that its labels may be smoothed if they are to be."""
    if smoothing and not getattr(loss, "supports_predict_proba", True):
        raise ValueError(
            f"label_smoothing={smoothing} needs a loss of probabilities, but loss={setting!r} has "
            "decision values. Set label_smoothing=0, or choose another loss, such as "
            '"log_loss".'
        )
    return loss


def instantiate(
    table: Mapping[str, type[Part]], setting: Any, parameters: Mapping[str, Any]
) -> Part:
    """Return the object behind a name, its fields set to the parameters of the same name.

    Fields that are no parameters keep their defaults. An instance is returned as it is.
    """
    if not isinstance(setting, str):
        return setting
    kind: Any = table[setting]
    names = [field.name for field in fields(kind) if field.name in parameters]
    built: Part = kind(**{name: parameters[name] for name in names})
    return built


def build_schedule(parameters: Mapping[str, Any]) -> LearningRateSchedule:
    """Return the schedule; scikit-learn's names act with sgd alone, as they do there."""
    schedule, solver = parameters["learning_rate"], parameters["solver"]
    if not isinstance(schedule, str):
        return as_schedule(schedule, "learning_rate")
    if schedule in SGD_ONLY_SCHEDULES and not (isinstance(solver, str) and solver == "sgd"):
        return ConstantRate()
    return instantiate(SCHEDULES, schedule, parameters)


def build_stopping(parameters: Mapping[str, Any]) -> EarlyStopping | None:
    """Return what stops training early, if anything does: a flag stands for the flat parameters."""
    setting = parameters["early_stopping"]
    if isinstance(setting, EarlyStopping):
        return setting
    return instantiate({"early": EarlyStopping}, "early", parameters) if setting else None


def _calibrating(
    stopping: EarlyStopping | None, losses: Mapping[str, Loss], setting: Any
) -> EarlyStopping | None:
    """Return what stops training early, after a check that there is what it is to calibrate."""
    if stopping is not None and stopping.calibrate:
        loss = losses[setting] if isinstance(setting, str) else setting
        if not hasattr(loss, "supports_predict_proba"):
            raise ValueError(
                "EarlyStopping(calibrate=True) is for classifiers, which have probabilities to "
                "calibrate. Set calibrate=False; intervals of regressors are calibrated by "
                "ConformalRegressor."
            )
        if not loss.supports_predict_proba:
            raise ValueError(
                f"EarlyStopping(calibrate=True) needs a loss of probabilities, but "
                f"loss={setting!r} has decision values. Set calibrate=False, or choose another "
                'loss, such as "log_loss".'
            )
    return stopping


def build_penalty(parameters: Mapping[str, Any]) -> Regularizer:
    """Return the penalty on the weights."""
    alpha, l1_ratio = float(parameters["alpha"]), float(parameters["l1_ratio"])
    return L1L2(alpha, l1_ratio) if l1_ratio else L2(alpha)


def build_average(parameters: Mapping[str, Any]) -> WeightAverage | None:
    """Return what averages the weights over the steps, if anything does."""
    average = parameters["average"]
    is_name = isinstance(average, str) and average in AVERAGES
    if not (average is None or is_name or isinstance(average, WeightAverage)):
        advice = did_you_mean(average, AVERAGES) or f" {_average_instead_of(average)}"
        raise ValueError(
            f"average must be None, one of the names {list(AVERAGES)}, or an Average, got "
            f"{average!r}.{advice}"
        )
    return instantiate(AVERAGES, average, parameters)


def _average_instead_of(value: Any) -> str:
    """Return what to write in the place of a flag or a number, which might mean either average."""
    if isinstance(value, Real) and not isinstance(value, bool):
        if 0 < float(value) < 1:
            return (
                f"For an exponential average write average=ExponentialMovingAverage(decay={value})"
                ", imported from skbackprop.weight_averaging."
            )
        if float(value) >= 1:
            return (
                "For the mean of the steps from so many rows on write "
                f"average=PolyakAverage(start={value}), imported from skbackprop.weight_averaging."
            )
    return (
        "Write average='polyak' for the mean of all steps, average='ema' for an "
        "exponential moving average, average=None for neither."
    )
