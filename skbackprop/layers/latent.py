"""Layers at the end of an autoencoder's encoder: the bottleneck, and sampled codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import validate_interval
from .base import BatchView, BuiltLayer, Layer, LayerContext, Shape
from .dense import Activation


@dataclass(frozen=True)
class Bottleneck(Activation):
    """The end of an encoder: the activation after the units of the code, the identity."""


@dataclass(frozen=True)
class Sampling(Layer):
    """Codes drawn from a normal distribution for each row: z = m + exp(v / 2) * e.

    The first half of the inputs are the means m, the second half the logarithms v of the
    variances. In training e is standard normal noise (Kingma & Welling 2014, section 2.4), and in
    prediction it is zero.

    The layer adds beta times the Kullback-Leibler divergence from the standard normal distribution
    to the loss of each row (appendix B; the weight beta is that of Higgins et al. 2017, equation
    4): ``KL = 1/2 sum_j (m_j**2 + exp(v_j) - 1 - v_j)``. With the gradient delta with respect to
    z, the gradient with respect to m is ``delta + beta m``, and with respect to v
    ``1/2 (delta e exp(v / 2) + beta (exp(v) - 1))``.

    Parameters
    ----------
    beta : float, default=1.0
        The weight of the divergence, non-negative.

    Raises
    ------
    ValueError
        If `beta` is out of range; in `fit`, if the number of inputs is odd.

    References
    ----------
    Higgins, I., Matthey, L., Pal, A., Burgess, C., Glorot, X., Botvinick, M., Mohamed, S. &
    Lerchner, A. (2017). beta-VAE: learning basic visual concepts with a constrained variational
    framework. ICLR.

    Kingma, D. P. & Welling, M. (2014). Auto-encoding variational Bayes. ICLR.

    Examples
    --------
    >>> from skbackprop.layers.latent import Sampling
    >>> Sampling().compute_output_shape((6,))
    (3,)
    """

    beta: float = 1.0

    batch_view: ClassVar[BatchView] = "flat"
    stochastic: ClassVar[bool] = True
    has_activity_loss: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 6

    def __post_init__(self) -> None:
        validate_interval(self, "beta", low=0, high=np.inf, closed="left")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1 or input_shape[0] % 2:
            raise self.input_shape_error("as many means as log variances", input_shape)
        return (input_shape[0] // 2,)

    def build(self, context: LayerContext) -> BuiltLayer:
        return (
            BuiltSampling(self.beta, context)
            if context.is_training
            else BuiltSamplingInference(context)
        )


class BuiltSampling:
    """z = m + exp(v / 2) * e with new noise e for each batch.

    Parameters
    ----------
    beta : float
        The weight of the divergence.
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, beta: float, context: LayerContext) -> None:
        self._beta, self._context = beta, context
        shape = context.n_rows, context.n_outputs
        self._noise = context.scratch("noise", *shape)
        self._deviation = context.scratch("deviation", *shape)
        self._divergence = context.pool.get("divergence", self._noise.shape)
        self._members = context.with_member_axis(self._noise)
        # The same noise in single and in double precision.
        self._drawn = context.pool.get("normal noise", shape, np.float64)

    def forward(self, x: Array, out: Array) -> None:
        for rng, noise in zip(self._context.rngs, self._members, strict=True):
            rng.standard_normal(out=self._drawn)
            noise[...] = self._drawn
        mean, log_variance = _split(x)
        divergence, activity_loss = self._divergence, self._context.activity_loss
        np.multiply(log_variance, 0.5, out=self._deviation)
        np.exp(self._deviation, out=self._deviation)
        np.multiply(self._deviation, self._noise, out=out)
        np.add(out, mean, out=out)
        if activity_loss is not None:
            np.square(self._deviation, out=divergence)
            np.subtract(divergence, log_variance, out=divergence)
            np.subtract(divergence, 1, out=divergence)
            activity_loss += 0.5 * self._beta * divergence.sum(axis=-1)
            np.square(mean, out=divergence)
            activity_loss += 0.5 * self._beta * divergence.sum(axis=-1)
        self._x = x

    def backward(self, delta: Array) -> Array:
        grad_input, divergence = self._context.grad_input, self._divergence
        if grad_input is None:
            return delta
        weight = self._beta * self._context.batch.weight
        mean, _ = _split(self._x)
        d_mean, d_log_variance = _split(grad_input)
        np.multiply(mean, weight, out=d_mean)
        np.add(d_mean, delta, out=d_mean)
        np.square(self._deviation, out=divergence)
        np.subtract(divergence, 1, out=divergence)
        np.multiply(divergence, weight, out=d_log_variance)
        np.multiply(self._deviation, self._noise, out=divergence)
        np.multiply(divergence, delta, out=divergence)
        np.add(d_log_variance, divergence, out=d_log_variance)
        np.multiply(d_log_variance, 0.5, out=d_log_variance)
        return grad_input


class BuiltSamplingInference:
    """z = m, for prediction.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        self._context = context

    def forward(self, x: Array, out: Array) -> None:
        out[...] = _split(x)[0]

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        d_mean, d_log_variance = _split(grad_input)
        d_mean[...], d_log_variance[...] = delta, 0
        return grad_input


def _split(x: Array) -> tuple[Array, Array]:
    """Return views of the first and the second half of the last axis."""
    n = x.shape[-1] // 2
    return x[..., :n], x[..., n:]
