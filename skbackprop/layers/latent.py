"""Layers at the end of an autoencoder's encoder: the bottleneck, and sampled codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import between
from .base import BoundLayer, LayerContext, ParameterFreeLayer, Shape
from .dense import Activation


@dataclass(frozen=True)
class Bottleneck(Activation):
    """The end of an encoder: the activation after the units of the code, the identity."""


@dataclass(frozen=True)
class Sampling(ParameterFreeLayer):
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

    beta: Annotated[float, between(0, closed="left")] = 1.0

    batch_view = "flat"
    stochastic = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1 or input_shape[0] % 2:
            raise self.input_shape_error("as many means as log variances", input_shape)
        return (input_shape[0] // 2,)

    def bind(self, context: LayerContext) -> BoundLayer:
        batch, grad_input, shape = context.batch, context.grad_input, context.out_shape
        if not batch.is_training:
            return _bind_means(grad_input)
        noise, deviation = context.scratch("noise", *shape), context.scratch("deviation", *shape)
        divergence, loss = batch.scratch("divergence", *shape), batch.get_activity_loss()

        def forward(x: Array, out: Array) -> None:
            batch.fill_with_noise(noise)
            mean, log_variance = _split(x)
            np.multiply(log_variance, 0.5, out=deviation)
            np.exp(deviation, out=deviation)
            np.multiply(deviation, noise, out=out)
            np.add(out, mean, out=out)
            np.square(deviation, out=divergence)
            np.subtract(divergence, log_variance, out=divergence)
            np.subtract(divergence, 1, out=divergence)
            np.add(loss, 0.5 * self.beta * divergence.sum(axis=-1), out=loss)
            np.square(mean, out=divergence)
            np.add(loss, 0.5 * self.beta * divergence.sum(axis=-1), out=loss)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is None:
                return
            weight, (mean, _) = self.beta * batch.weight, _split(x)
            d_mean, d_log_variance = _split(grad_input)
            np.multiply(mean, weight, out=d_mean)
            np.add(d_mean, delta, out=d_mean)
            np.square(deviation, out=divergence)
            np.subtract(divergence, 1, out=divergence)
            np.multiply(divergence, weight, out=d_log_variance)
            np.multiply(deviation, noise, out=divergence)
            np.multiply(divergence, delta, out=divergence)
            np.add(d_log_variance, divergence, out=d_log_variance)
            np.multiply(d_log_variance, 0.5, out=d_log_variance)

        return forward, backward


def _bind_means(grad_input: Array | None) -> BoundLayer:
    """Return the passes z = m of prediction."""

    def forward(x: Array, out: Array) -> None:
        out[...] = _split(x)[0]

    def backward(x: Array, out: Array, delta: Array) -> None:
        if grad_input is not None:
            d_mean, d_log_variance = _split(grad_input)
            d_mean[...], d_log_variance[...] = delta, 0

    return forward, backward


def _split(x: Array) -> tuple[Array, Array]:
    """Return views of the first and the second half of the last axis."""
    n = x.shape[-1] // 2
    return x[..., :n], x[..., n:]
