"""Encoding of targets for a network: its base class, and numeric targets of regressors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..losses.base import Loss, can_be_scaled
from ..nn.objective import Objective
from ..training.training_task import Evaluator, RawPredictionEvaluator
from ..utils.arrays import Array, max_abs
from ._validation import check_targets


class BaseTargetEncoder(ABC):
    """Encoder of an estimator's targets for its network."""

    @abstractmethod
    def encode(self, y: Any, needs_all: bool) -> Array:
        """Return validated y as the network's targets: an array of shape (n, k).

        With `needs_all`, y must contain every class of the first y.
        """

    def strata(self, y: Array) -> Array | None:
        """Return the class of each row of encoded targets; None if rows have no single class."""
        return None

    def check_classes(self, classes: Any) -> None:
        """Check that `classes` of a further `partial_fit` are those of the first one."""
        return

    def make_loss(self, loss: Any, smoothing: float) -> Loss:
        """Return the variant of a loss for these targets, with label smoothing."""
        variant: Loss = loss
        return variant

    def make_evaluator(self, objective: Objective) -> Evaluator:
        """Return the evaluator of validation rows."""
        return RawPredictionEvaluator(objective, objective.loss.score)

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of the targets."""
        return {}


@dataclass(frozen=True, eq=False)
class RegressionTargetEncoder(BaseTargetEncoder):
    """Encoder of a regressor's targets: scaled if requested, one for each network output.

    Parameters
    ----------
    loss : Loss
        The loss, which may have several outputs for each target and restrict their range.
    setting : str or Loss
        The loss as the user set it, for errors.
    n_targets : int
        The number of targets.
    mean, scale : array of shape (n_targets,) or None
        Subtracted from and divided by in scaling; None without scaling.
    """

    loss: Loss
    setting: Any
    n_targets: int
    mean: Array | None = None
    scale: Array | None = None

    @classmethod
    def fit(
        cls,
        loss: Loss,
        setting: Any,
        y: Array,
        weight: Array | None,
        dtype: Any,
        *,
        is_scaled: bool,
    ) -> RegressionTargetEncoder:
        """Return the encoder for targets y, with the weighted mean and scale if `is_scaled`."""
        y = y[:, None] if y.ndim == 1 else y
        check_targets(y, loss, setting)
        if not is_scaled:
            return cls(loss, setting, y.shape[1])
        check_can_be_scaled(loss, setting)
        mean, scale = _mean_and_scale(y.astype(np.float64), weight, loss.interval_y_true.low == 0)
        return cls(loss, setting, y.shape[1], mean, scale).checked(max_abs(y), dtype)

    def checked(self, largest: float, dtype: Any) -> RegressionTargetEncoder:
        """Return the encoder after a check that targets up to `largest` fit the dtype."""
        limits = np.finfo(dtype)
        limit = float(limits.max)
        are_finite = all(
            np.isfinite(each).all() for each in (self.mean, self.scale) if each is not None
        )
        if not are_finite or largest > limit:
            raise ValueError(
                f"y is too large to be scaled for predictions in {np.dtype(dtype)}: its largest "
                f"absolute value is {largest:.3g}. Scale y down."
            )
        if self.scale is not None and (self.scale < limits.tiny).any():
            raise ValueError(
                f"y is too small to be scaled for predictions in {np.dtype(dtype)}: its mean or "
                f"standard deviation is {self.scale.min():.3g}. Scale y up."
            )
        return self

    @property
    def attributes(self) -> dict[str, Any]:
        return {"target_mean_": self.mean, "target_scale_": self.scale}

    def encode(self, y: Any, needs_all: bool) -> Array:
        y = y[:, None] if y.ndim == 1 else y
        if y.shape[1] != self.n_targets:
            raise ValueError(
                f"y must have {self.n_targets} column(s), as in training, got {y.shape[1]}."
            )
        check_targets(y, self.loss, self.setting)
        if self.mean is not None and self.scale is not None:
            y = (y.astype(np.float64) - self.mean) / self.scale
        each = self.loss.n_outputs_per_target
        return y if each == 1 else np.repeat(y, each, axis=1)

    def inverse_transform(self, values: Array, *, from_zero: bool = False) -> Array:
        """Return predictions of shape (n, k, ...) in the units of y, in float64 if y is scaled.

        Single precision would round away a spread that is small compared with the mean. With
        `from_zero` the values are deviations, to which the mean is not added. A single target has
        no axis in the result.
        """
        if self.mean is not None and self.scale is not None:
            axes = (-1, *[1] * (values.ndim - 2))
            limits = np.finfo(np.float64)
            lowest = limits.tiny if self.loss.interval_y_true.low == 0 else limits.min
            with np.errstate(over="ignore"):
                values = values.astype(np.float64) * self.scale.reshape(axes)
                if not from_zero:
                    values += self.mean.reshape(axes)
            values = np.clip(values, lowest, limits.max)
        return values if values.shape[1] > 1 else values[:, 0]

    def to_training_units(self, values: Array, *, from_zero: bool = False) -> Array:
        """Return predictions of one target, or deviations `from_zero`, in the network's units.

        They are in double precision.
        """
        values = values.astype(np.float64)
        if self.mean is not None and self.scale is not None:
            values = (values - (0.0 if from_zero else self.mean[0])) / self.scale[0]
        return values

    def gradients_in_units_of_y(self, gradients: Array) -> Array:
        """Return gradients of predictions, of shape (n, d, k * c), in the units of y.

        The features become the last axis. Axes of a single target, or of a single prediction for
        each target, are dropped.
        """
        by_target = gradients.reshape(*gradients.shape[:2], self.n_targets, -1)
        if self.scale is not None:
            by_target = by_target * self.scale[:, None].astype(gradients.dtype)
        features_last = np.moveaxis(by_target, 1, -1)
        axes = tuple(axis for axis in (1, 2) if features_last.shape[axis] == 1)
        return np.ascontiguousarray(features_last.squeeze(axis=axes))


def check_can_be_scaled(loss: Loss, setting: Any) -> None:
    """Check that a loss accepts scaled targets; errors show it as `setting`."""
    if not can_be_scaled(loss):
        minimum, maximum, _ = loss.interval_y_true
        raise ValueError(
            "scale_target=True needs a loss that accepts all targets or all y >= 0, but "
            f"loss={setting!r} needs y >= {minimum:g} and y <= {maximum:g}. Set scale_target=False."
        )


def _mean_and_scale(y: Array, weight: Array | None, is_positive: bool) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of targets of shape (n, k).

    For targets that must stay positive, return zero and the mean.
    """
    counted = y if weight is None else y[weight > 0]
    low, high = counted.min(axis=0), counted.max(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(y, axis=0, weights=weight)
        # The mean of a constant column is exactly its value.
        mean = np.where(low == high, counted[0], mean)
        if is_positive:
            mean, scale = np.zeros_like(mean), mean
        else:
            # Deviations are divided by a power of two, which causes no rounding, so that the
            # largest is between 1/2 and 1, and squares neither overflow nor underflow.
            exponent = np.frexp(np.maximum(high - mean, mean - low))[1]
            squares = np.square(np.ldexp(y - mean, -exponent))
            scale = np.ldexp(np.sqrt(np.average(squares, axis=0, weights=weight)), exponent)
    return mean, np.where(scale == 0, 1.0, scale)  # of constant targets
