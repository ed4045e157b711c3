"""Normalization of the inputs of hidden layers' activations.

With the weights W, the gains g and the biases b of a layer, and its input x, the input of the
activation is z = g * norm(x W) + b. The biases come after the normalization, which would cancel
them before. The gains are initially one, and are not penalized.

A new normalization takes one class and one line in `NORMALIZATIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ..utils.arrays import BLOCK, Array, squeeze_member_axis
from ..utils.parallel import parallel_for, split_rows
from ..utils.validation import validate_interval
from .base import (
    NUM_BATCHES_TRACKED,
    BatchView,
    BuiltLayer,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
    padding_mask,
)
from .dense import allocate_partial_sums


class Normalization(Layer):
    """Base class of normalizations of the inputs of activations."""

    # The start of the names of its arrays: those of an estimator's hidden layers have none.
    scope: str = ""

    batch_view: ClassVar[BatchView] = "positions"
    _set_elsewhere: ClassVar[frozenset[str]] = frozenset({"scope"})
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 1

    def inplace_forward(self, has_backward: bool) -> bool:
        return not has_backward

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        same: Any = self  # a dataclass with this field
        return (replace(same, scope="normalization_"),)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = input_shape[-1:]
        biases = ParameterSpec(f"{self.scope}biases", shape)
        return biases, ParameterSpec(f"{self.scope}gains", shape, initializer=1.0)


@dataclass(frozen=True)
class BatchNormalization(Normalization):
    """Batch normalization: norm(z) = (z - m) / sqrt(v + epsilon), for each unit over the rows.

    In training m and v are the weighted mean and variance of the current batch (Ioffe & Szegedy
    2015, algorithm 1): m = sum_i w_i z_i and v = sum_i w_i (z_i - m)^2 with weights that sum to
    one. A row of weight 2 equals the row twice, and a row of weight 0 has no effect. In a batch of
    one row v = 0, and norm(z) = 0.

    In prediction m and v are running statistics: the mean and the variance of the rows of all
    batches, where a batch t steps ago has ``momentum**t`` of its weight. The variance is about the
    running mean (Chan, Golub & LeVeque 1983), so it includes the differences between the means of
    batches, and small batches do not bias it.

    Parameters
    ----------
    momentum : float, default=0.9
        Factor by which each step multiplies the weight of past batches, in [0, 1).
    epsilon : float, default=1e-5
        Small positive constant added to the variance for numerical stability.

    Raises
    ------
    ValueError
        If `momentum` or `epsilon` is out of range.

    See Also
    --------
    LayerNormalization : Normalize each row by itself.

    References
    ----------
    Chan, T. F., Golub, G. H. & LeVeque, R. J. (1983). Algorithms for computing the sample
    variance: analysis and recommendations. The American Statistician 37(3), 242-247.

    Ioffe, S. & Szegedy, C. (2015). Batch normalization: accelerating deep network training by
    reducing internal covariate shift. ICML.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import BatchNormalization
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     normalization=BatchNormalization(momentum=0.95), batch_size=32, tol=0.01, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    scope: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        validate_interval(self, "momentum", low=0, high=1, closed="left")
        validate_interval(self, "epsilon", low=0, closed="neither")

    def buffer_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        means, variances = (
            ParameterSpec(f"{self.scope}means", input_shape[-1:]),
            ParameterSpec(f"{self.scope}variances", input_shape[-1:], initializer=1.0),
        )
        return means, variances, ParameterSpec(NUM_BATCHES_TRACKED, (1,))

    def init_running_count(
        self, buffers: Mapping[str, Array], n_samples_seen: int, batch_size: int, weight: float
    ) -> None:
        # The sum of batch_size * momentum^t over the batches.
        decay: float = self.momentum ** (n_samples_seen / batch_size)
        n_rows = batch_size * (1 - decay) / (1 - self.momentum)
        buffers[NUM_BATCHES_TRACKED][...] = weight * n_rows

    def build(self, context: LayerContext) -> BuiltLayer:
        if not context.is_training:
            return BuiltBatchNormInference(context, self)
        return BuiltBatchNormTraining(context, self)


@dataclass(frozen=True)
class LayerNormalization(Normalization):
    """Layer normalization: norm(z) = (z - m) / sqrt(v + epsilon), for each row over the units.

    The mean m and the variance v = mean((z - m)^2) are those of the units of the layer (Ba et al.
    2016, equation 3). Rows do not depend on each other, and training and prediction compute the
    same. In a layer of one unit norm(z) = 0.

    Parameters
    ----------
    epsilon : float, default=1e-5
        Small positive constant added to the variance for numerical stability.

    Raises
    ------
    ValueError
        If `epsilon` is not positive.

    See Also
    --------
    BatchNormalization : Normalize each unit over the rows of a batch.

    References
    ----------
    Ba, J. L., Kiros, J. R. & Hinton, G. E. (2016). Layer normalization. arXiv:1607.06450.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import LayerNormalization
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     normalization=LayerNormalization(), batch_size=32, tol=0.01, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    epsilon: float = 1e-5
    scope: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        validate_interval(self, "epsilon", low=0, closed="neither")

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltLayerNorm(context, self)


class BuiltNormalization:
    """out = gains * norm(x) + biases; norm(x) takes the memory of x."""

    def __init__(
        self, context: LayerContext, layer: BatchNormalization | LayerNormalization
    ) -> None:
        gains, biases, gradients = f"{layer.scope}gains", f"{layer.scope}biases", context.gradients
        self.gains, self.biases = context.parameters[gains], context.parameters[biases]
        self.d_gains, self.d_biases = gradients.get(gains), gradients.get(biases)
        dtype = context.pool.dtype
        shape = context.n_estimators, context.n_rows, context.n_outputs
        self._epsilon, self._one = dtype.type(layer.epsilon), dtype.type(1)
        self._scratch = squeeze_member_axis(context.pool.get("normalization scratch", shape))
        self._ones = np.ones((1, context.n_rows), dtype)
        self._copy = context.input_copy()

    def _writable(self, x: Array) -> Array:
        """Return `x` if it may be overwritten, else a copy of it."""
        if self._copy is None:
            return x
        np.copyto(self._copy, x)
        return self._copy

    def _invert(self, variance: Array, out: Array) -> None:
        """Write 1 / sqrt(variance + epsilon) to `out`."""
        np.add(variance, self._epsilon, out=out)
        np.sqrt(out, out=out)
        np.divide(self._one, out, out=out)


class BuiltBatchNormTraining(BuiltNormalization):
    """Batch normalization in training, which updates the running statistics."""

    def __init__(self, context: LayerContext, layer: BatchNormalization) -> None:
        super().__init__(context, layer)
        self._context, self._momentum, dtype = context, layer.momentum, context.pool.dtype
        statistics = context.buffers
        self._means = statistics[f"{layer.scope}means"]
        self._variances = statistics[f"{layer.scope}variances"]
        # The total weight of all batches so far, the share of the current batch, and the rest.
        self._weight = statistics[NUM_BATCHES_TRACKED].reshape(context.n_estimators, 1)
        share, rest = np.empty((2, context.n_estimators, 1, 1), dtype)
        self._flat_share, self._share, self._rest = (
            share[:, 0],
            squeeze_member_axis(share),
            squeeze_member_axis(rest),
        )
        self._equal = np.full((context.n_rows, 1), 1 / context.n_rows, dtype)
        self._mean, self._variance, self._inverse, self._step = (
            np.empty_like(self.gains) for _ in range(4)
        )

    def forward(self, x: Array, out: Array) -> None:
        x = self._writable(x)
        self._row_weights = self._weights_of_positions()
        weights = self._row_weights.swapaxes(-1, -2)
        np.matmul(weights, x, out=self._mean)
        np.subtract(x, self._mean, out=x)
        np.multiply(x, x, out=self._scratch)
        np.matmul(weights, self._scratch, out=self._variance)
        self._invert(self._variance, self._inverse)
        np.multiply(x, self._inverse, out=x)
        self._normed = x
        np.multiply(x, self.gains, out=out)
        np.add(out, self.biases, out=out)
        self._update_share()
        self._update_statistics()

    def _weights_of_positions(self) -> Array:
        """Return the weight of each position of the batch: those of a row share its weight."""
        weight, lengths = self._context.batch.weight, self._context.lengths
        n_positions = self._context.n_positions
        if not isinstance(weight, np.ndarray):
            if lengths is None:
                return self._equal
            weight = np.ones((self._context.n_rows // n_positions, 1), self._equal.dtype)
        if n_positions > 1:
            weight = np.repeat(weight, n_positions, axis=-2) / n_positions
        if lengths is not None:
            steps = ~padding_mask(lengths, n_positions)
            is_step = steps.reshape(len(lengths), -1, 1).astype(weight.dtype)
            weight = weight * (is_step if self._context.n_estimators > 1 else is_step[0])
            weight /= weight.sum(axis=-2, keepdims=True)
        return weight

    def _update_share(self) -> None:
        """Compute the share of the batch in the running statistics."""
        total = self._context.batch.total
        np.multiply(self._weight, self._momentum, out=self._weight)
        np.add(self._weight, total, out=self._weight)
        np.divide(total, self._weight, out=self._flat_share, casting="same_kind")
        np.subtract(1, self._share, out=self._rest)

    def _update_statistics(self) -> None:
        """Update the running statistics by those of the batch.

        With d = m - mean: mean += share * d, variance = rest * (variance + share * d^2) + share * v
        """
        step, share = self._step, self._share
        np.subtract(self._mean, self._means, out=step)
        np.multiply(step, step, out=self._mean)
        np.multiply(self._mean, share, out=self._mean)
        np.add(self._variances, self._mean, out=self._variances)
        np.multiply(self._variances, self._rest, out=self._variances)
        np.multiply(self._variance, share, out=self._variance)
        np.add(self._variances, self._variance, out=self._variances)
        np.multiply(step, share, out=step)
        np.add(self._means, step, out=self._means)

    def backward(self, delta: Array) -> Array:
        # With the weights w_i of the rows, and n for norm(z):
        # d z_i = gains / sqrt(v + epsilon) * (delta_i - w_i * (d_biases + n_i * d_gains))
        normed = self._normed
        np.multiply(delta, normed, out=self._scratch)
        d_gains = np.matmul(self._ones, self._scratch, out=self.d_gains)
        d_biases = np.matmul(self._ones, delta, out=self.d_biases)
        np.multiply(normed, d_gains, out=normed)
        np.add(normed, d_biases, out=normed)
        np.multiply(normed, self._row_weights, out=normed)
        np.subtract(delta, normed, out=delta)
        np.multiply(self._inverse, self.gains, out=self._inverse)
        np.multiply(delta, self._inverse, out=delta)
        return delta


class BuiltLayerNorm(BuiltNormalization):
    """Layer normalization, in training and in prediction, of parts of the rows."""

    def __init__(self, context: LayerContext, layer: LayerNormalization) -> None:
        super().__init__(context, layer)
        n_units, dtype = context.n_outputs, context.pool.dtype
        self._equal = np.full((n_units, 1), 1 / n_units, dtype)
        mean, inverse = np.empty((2, context.n_estimators, context.n_rows, 1), dtype)
        self._mean, self._inverse = squeeze_member_axis(mean), squeeze_member_axis(inverse)
        self._shares = np.empty_like(self.gains)
        self._parts = split_rows(context.n_rows, BLOCK // n_units)
        # The sums of each part for the gradients of gains and biases.
        self._sums = [
            allocate_partial_sums(each, len(self._parts)) for each in (self.d_gains, self.d_biases)
        ]

    def forward(self, x: Array, out: Array) -> None:
        self._normed, self._out = self._writable(x), out
        parallel_for(self._forward_part, self._parts)

    def _forward_part(self, part: slice) -> None:
        x, out, scratch, mean, inverse = self._rows(
            part, self._normed, self._out, self._scratch, self._mean, self._inverse
        )
        np.matmul(x, self._equal, out=mean)
        np.subtract(x, mean, out=x)
        np.multiply(x, x, out=scratch)
        np.matmul(scratch, self._equal, out=mean)
        self._invert(mean, inverse)
        np.multiply(x, inverse, out=x)
        np.multiply(x, self.gains, out=out)
        np.add(out, self.biases, out=out)

    def _rows(self, part: slice, *arrays: Array) -> Sequence[Array]:
        """Return the rows of a part of each array."""
        return arrays if len(self._parts) == 1 else [each[..., part, :] for each in arrays]

    def backward(self, delta: Array) -> Array:
        self._delta = delta
        np.multiply(self.gains, self._equal.T, out=self._shares)
        parallel_for(self._backward_part, range(len(self._parts)))
        for total, sums in zip((self.d_gains, self.d_biases), self._sums, strict=True):
            if sums is not None and len(sums) > 1:
                np.add.reduce(sums, axis=0, out=total)
        return delta

    def _backward_part(self, number: int) -> None:
        # With e for delta * gains, n for norm(z), and means over the units:
        # d z = (e - mean(e) - n * mean(e * n)) / sqrt(v + epsilon)
        part = self._parts[number]
        normed, delta, scratch, mean, inverse = self._rows(
            part, self._normed, self._delta, self._scratch, self._mean, self._inverse
        )
        ones, (d_gains, d_biases) = self._ones[:, part], self._sums
        np.multiply(delta, normed, out=scratch)
        if d_gains is not None and d_biases is not None:
            np.matmul(ones, scratch, out=d_gains[number])
            np.matmul(ones, delta, out=d_biases[number])
        shares = self._shares.swapaxes(-1, -2)
        np.matmul(scratch, shares, out=mean)
        np.multiply(normed, mean, out=normed)
        np.matmul(delta, shares, out=mean)
        np.multiply(delta, self.gains, out=delta)
        np.subtract(delta, mean, out=delta)
        np.subtract(delta, normed, out=delta)
        np.multiply(delta, inverse, out=delta)


class BuiltBatchNormInference:
    """Batch normalization in prediction: a factor and a shift for each unit."""

    def __init__(self, context: LayerContext, layer: BatchNormalization) -> None:
        parameters, statistics, scope = context.parameters, context.buffers, layer.scope
        variances = statistics[f"{scope}variances"]
        deviations = np.sqrt(variances + context.pool.dtype.type(layer.epsilon))
        self._factor = parameters[f"{scope}gains"] / deviations
        self._shift = parameters[f"{scope}biases"] - statistics[f"{scope}means"] * self._factor

    def forward(self, x: Array, out: Array) -> None:
        np.multiply(x, self._factor, out=out)
        np.add(out, self._shift, out=out)

    def backward(self, delta: Array) -> Array:
        np.multiply(delta, self._factor, out=delta)
        return delta


NORMALIZATIONS: dict[str, type[Normalization]] = {
    "batch": BatchNormalization,
    "layer": LayerNormalization,
}
