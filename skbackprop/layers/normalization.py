"""Normalization of the inputs of hidden layers' activations.

With the weights W, the gains g and the biases b of a layer, and its input x, the input of the
activation is z = g * norm(x W) + b. The biases come after the normalization, which would cancel
them before. The gains are initially one, and are not penalized.

A new normalization takes one class and one line in `NORMALIZATIONS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np

from ..utils.arrays import BLOCK, Array
from ..utils.parallel import split_rows
from ..utils.validation import between
from .base import (
    NUM_BATCHES_TRACKED,
    BoundLayer,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
    parallelize_rows,
)


class Normalization(Layer):
    """Base class of normalizations of the inputs of activations."""

    # The names of its arrays start with the scope, which hidden layers of an estimator lack.
    scope: str = ""

    batch_view = "positions"
    backward_reads = "neither"
    _set_elsewhere: ClassVar[frozenset[str]] = frozenset({"scope"})

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        same: Any = self  # a dataclass with this field
        return (replace(same, scope="normalization_"),)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = input_shape[-1:]
        biases = ParameterSpec(f"{self.scope}biases", shape)
        return biases, ParameterSpec(f"{self.scope}gains", shape, initializer=1.0)

    def memory_per_sample(self, input_shape: Shape) -> int:
        return math.prod(input_shape)

    def _get_arrays(self, named: Mapping[str, Array], *names: str) -> list[Any]:
        """Return arrays of the layer; None for gradients in prediction."""
        return [named.get(f"{self.scope}{name}") for name in names]


@dataclass(frozen=True)
class BatchNormalization(Normalization):
    """Batch normalization: norm(z) = (z - m) / sqrt(v + epsilon), for each unit over the rows.

    In training m and v are the weighted mean and variance of the current batch (Ioffe & Szegedy
    2015, algorithm 1): m = sum_i w_i z_i and v = sum_i w_i (z_i - m)^2 with weights that sum to
    one. A row of weight 2 equals the row twice, and a row of weight 0 has no effect. In a batch of
    one row v = 0, and norm(z) = 0.

    In prediction, and in a frozen layer, m and v are running statistics: the mean and the variance
    of the rows of all batches, where a batch t steps ago has ``momentum**t`` of its weight. The
    variance is about the running mean (Chan, Golub & LeVeque 1983), so it includes the differences
    between the means of batches, and small batches do not bias it.

    Parameters
    ----------
    momentum : float, default=0.9
        Factor by which each step multiplies the weight of past batches, in [0, 1).
    epsilon : float, default=1e-5
        Small positive constant added to the variance for numerical stability.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    momentum: Annotated[float, between(0, 1, "left")] = 0.9
    epsilon: Annotated[float, between(0, closed="neither")] = 1e-5
    scope: str = field(default="", repr=False)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = input_shape[-1:]
        return (
            *super().parameter_specs(input_shape),
            ParameterSpec(f"{self.scope}means", shape, trained=False),
            ParameterSpec(f"{self.scope}variances", shape, initializer=1.0, trained=False),
            ParameterSpec(NUM_BATCHES_TRACKED, (1,), trained=False),
        )

    def bind(self, context: LayerContext) -> BoundLayer:
        batch, shape = context.batch, context.x_shape
        gains, biases = self._get_arrays(context.parameters, "gains", "biases")
        if not (batch.is_training and self.trainable):
            return self._bind_inference(context, gains, biases)
        d_gains, d_biases = self._get_arrays(context.gradients, "gains", "biases")
        normed, ones = context.scratch("normed", *shape), batch.ones(shape[0])
        products = batch.scratch("normalization products", *shape)
        mean, variance, inverse = (np.empty_like(gains) for _ in range(3))
        epsilon = batch.pool.dtype.type(self.epsilon)
        update_statistics = self._bind_statistics(context, mean, variance)
        row_weights = equal = np.full((shape[0], 1), 1 / shape[0], batch.pool.dtype)

        def forward(x: Array, out: Array) -> None:
            nonlocal row_weights
            row_weights = _weigh_positions(context, equal)
            weights = row_weights.swapaxes(-1, -2)
            np.matmul(weights, x, out=mean)
            np.subtract(x, mean, out=normed)
            np.multiply(normed, normed, out=products)
            np.matmul(weights, products, out=variance)
            np.divide(1, np.sqrt(variance + epsilon), out=inverse)
            np.multiply(normed, inverse, out=normed)
            np.multiply(normed, gains, out=out)
            np.add(out, biases, out=out)
            update_statistics()

        def backward(x: Array, out: Array, delta: Array) -> None:
            # With the weights w_i of the rows, and n for norm(z):
            # d z_i = gains / sqrt(v + epsilon) * (delta_i - w_i * (d_biases + n_i * d_gains))
            np.multiply(delta, normed, out=products)
            np.matmul(ones, products, out=d_gains)
            np.matmul(ones, delta, out=d_biases)
            np.multiply(normed, d_gains, out=normed)
            np.add(normed, d_biases, out=normed)
            np.multiply(normed, row_weights, out=normed)
            np.subtract(delta, normed, out=delta)
            np.multiply(inverse, gains, out=inverse)
            np.multiply(delta, inverse, out=delta)

        return forward, backward

    def _bind_statistics(
        self, context: LayerContext, mean: Array, variance: Array
    ) -> Callable[[], None]:
        """Return the function that updates the running statistics by those of a batch."""
        batch = context.batch
        means, variances = self._get_arrays(context.buffers, "means", "variances")
        weight = context.buffers[NUM_BATCHES_TRACKED].reshape(batch.n_estimators, 1)
        shape = (-1,) + (1,) * (mean.ndim - 1)

        def update() -> None:
            np.multiply(weight, self.momentum, out=weight)
            np.add(weight, batch.total, out=weight)
            # The current batch has a share of the total weight of all batches.
            share = (batch.total / weight).astype(mean.dtype).reshape(shape)
            step = mean - means
            variances[...] = (1 - share) * (variances + step**2 * share) + share * variance
            means[...] += share * step

        return update

    def _bind_inference(self, context: LayerContext, gains: Array, biases: Array) -> BoundLayer:
        """Return the passes of prediction: a factor and a shift for each unit."""
        means, variances = self._get_arrays(context.buffers, "means", "variances")
        epsilon = context.batch.pool.dtype.type(self.epsilon)

        def compute_factor() -> Array:
            factor: Array = gains / np.sqrt(variances + epsilon)
            return factor

        def forward(x: Array, out: Array) -> None:
            factor = compute_factor()
            np.multiply(x, factor, out=out)
            np.add(out, biases - means * factor, out=out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            np.multiply(delta, compute_factor(), out=delta)

        return forward, backward


def _weigh_positions(context: LayerContext, equal: Array) -> Array:
    """Return the weight of each position of a batch: those of a row share its weight."""
    weight, lengths = context.batch.weight, context.lengths
    n_positions = math.prod(context.input_shape[:-1])
    if not isinstance(weight, np.ndarray):
        if lengths is None:
            return equal
        weight = np.ones((context.batch.n_rows, 1), equal.dtype)
    if n_positions > 1:
        weight = np.repeat(weight, n_positions, axis=-2) / n_positions
    if lengths is not None:
        steps = ~context.padding_mask()
        is_step = steps.reshape(len(lengths), -1, 1).astype(weight.dtype)
        weight = weight * (is_step if context.batch.n_estimators > 1 else is_step[0])
        weight /= weight.sum(axis=-2, keepdims=True)
    return weight


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    epsilon: Annotated[float, between(0, closed="neither")] = 1e-5
    scope: str = field(default="", repr=False)

    def bind(self, context: LayerContext) -> BoundLayer:
        (n_rows, n_units), batch = context.x_shape, context.batch
        gains, biases = self._get_arrays(context.parameters, "gains", "biases")
        products = batch.scratch("normalization products", n_rows, n_units)
        normed = context.scratch("normed", n_rows, n_units) if context.has_backward else None
        mean, inverse = context.scratch("mean", n_rows, 1), context.scratch("inverse", n_rows, 1)
        equal = np.full((n_units, 1), 1 / n_units, products.dtype)
        epsilon, ones = products.dtype.type(self.epsilon), batch.ones(n_rows)

        def forward(
            normed: Array | None, products: Array, mean: Array, inverse: Array, x: Array, out: Array
        ) -> None:
            centered = out if normed is None else normed
            np.matmul(x, equal, out=mean)
            np.subtract(x, mean, out=centered)
            np.multiply(centered, centered, out=products)
            np.matmul(products, equal, out=mean)
            np.divide(1, np.sqrt(mean + epsilon), out=inverse)
            np.multiply(centered, inverse, out=centered)
            np.multiply(centered, gains, out=out)
            np.add(out, biases, out=out)

        def backward(
            d_gains: Array | None,
            d_biases: Array | None,
            normed: Array,
            products: Array,
            mean: Array,
            inverse: Array,
            x: Array,
            out: Array,
            delta: Array,
        ) -> None:
            # With e for delta * gains, n for norm(z), and means over the units:
            # d z = (e - mean(e) - n * mean(e * n)) / sqrt(v + epsilon)
            np.multiply(delta, normed, out=products)
            if d_gains is not None:
                ones_of_rows = ones[:, : delta.shape[-2]]
                np.matmul(ones_of_rows, products, out=d_gains)
                np.matmul(ones_of_rows, delta, out=d_biases)
            shares_of_units = (gains * equal.T).swapaxes(-1, -2)
            np.matmul(products, shares_of_units, out=mean)
            np.multiply(normed, mean, out=normed)
            np.matmul(delta, shares_of_units, out=mean)
            np.multiply(delta, gains, out=delta)
            np.subtract(delta, mean, out=delta)
            np.subtract(delta, normed, out=delta)
            np.multiply(delta, inverse, out=delta)

        parts, arrays = split_rows(n_rows, BLOCK // n_units), (normed, products, mean, inverse)
        sums = self._get_arrays(context.gradients, "gains", "biases")
        return (
            partial(parallelize_rows(forward, parts), *arrays),
            partial(parallelize_rows(backward, parts, *sums), *arrays),
        )


NORMALIZATIONS: dict[str, type[Normalization]] = {
    "batch": BatchNormalization,
    "layer": LayerNormalization,
}
