"""Activation functions of hidden layers, and their derivatives.

To add an activation, write a class and add it to `ACTIVATIONS`. A custom activation needs no
registration: pass an instance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from scipy.special import ndtr

from .initializers import GlorotUniform, Initializer, VarianceScaling
from .utils._name_types import ActivationName
from .utils.arrays import Array
from .utils.configurable import Configurable
from .utils.validation import between, find_by_name

__all__ = [
    "ACTIVATIONS",
    "ActivationFunction",
    "Elu",
    "Gelu",
    "GeluTanh",
    "Identity",
    "LeakyRelu",
    "Logistic",
    "Mish",
    "Relu",
    "Selu",
    "Silu",
    "Softplus",
    "Tanh",
]


class ActivationFunction(Configurable):
    """Base class of activations: an element-wise function f and its derivative.

    Attributes
    ----------
    needs_preactivation : bool, default=False
        Whether `backward` reads `z`. If not, `z` and `a` may share memory.
    initializer : Initializer, default=GlorotUniform()
        Initializer of the layer's weights under ``init="auto"``.
    """

    needs_preactivation: ClassVar[bool] = False

    @property
    def initializer(self) -> Initializer:
        return GlorotUniform()

    def forward(self, z: Array, a: Array) -> None:
        """Write f(z) to `a`, which may be `z` itself unless `needs_preactivation`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(z, a)")

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        """Multiply `delta` by f'(z) in place; `z` and `a` may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__} must define backward(z, a, delta)")


# ------------------------------------------------------------- scikit-learn's activations


@dataclass(frozen=True)
class Identity(ActivationFunction):
    """f(z) = z, f'(z) = 1.

    Examples
    --------
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.activations import Identity
    >>> BackpropRegressor(activation=Identity())
    BackpropRegressor(activation=Identity())
    """

    def forward(self, z: Array, a: Array) -> None:
        if a is not z:
            np.copyto(a, z)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        pass


@dataclass(frozen=True)
class Logistic(ActivationFunction):
    """f(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, f'(z) = a (1 - a).

    It is computed by tanh, which NumPy vectorizes. The absolute error is one unit in the last
    place of 1, which is negligible for the next layer.

    See Also
    --------
    Tanh : The same curve, between -1 and 1.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Logistic
    >>> BackpropClassifier(activation=Logistic())
    BackpropClassifier(activation=Logistic())
    """

    initializer = GlorotUniform(2.0)

    def forward(self, z: Array, a: Array) -> None:
        np.multiply(z, 0.5, out=a)
        np.tanh(a, out=a)
        np.multiply(a, 0.5, out=a)
        np.add(a, 0.5, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.multiply(delta, a, out=delta)
        np.subtract(1.0, a, out=a)
        np.multiply(delta, a, out=delta)


@dataclass(frozen=True)
class Tanh(ActivationFunction):
    """f(z) = tanh(z), f'(z) = 1 - a^2.

    See Also
    --------
    Logistic : The same curve, between 0 and 1.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Tanh
    >>> BackpropClassifier(activation=Tanh())
    BackpropClassifier(activation=Tanh())
    """

    def forward(self, z: Array, a: Array) -> None:
        np.tanh(z, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.multiply(a, a, out=a)
        np.subtract(1.0, a, out=a)
        np.multiply(delta, a, out=delta)


@dataclass(frozen=True)
class Relu(ActivationFunction):
    """f(z) = max(z, 0), f'(z) = 1 if z > 0, else 0.

    See Also
    --------
    LeakyRelu : With a slope for negative inputs.
    Silu : A smooth relative.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Relu
    >>> BackpropClassifier(activation=Relu())
    BackpropClassifier(activation=Relu())
    """

    def forward(self, z: Array, a: Array) -> None:
        # NumPy vectorizes the maximum of two arrays, but not of an array and a scalar. Small arrays
        # take zeros of their shape, and so a single loop; large ones a row of zeros.
        shape = z.shape if z.nbytes <= 1 << 20 else z.shape[-1:]
        np.maximum(z, _zeros(shape, z.dtype), out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.greater(a, 0, out=a)
        np.multiply(delta, a, out=delta)


@lru_cache(maxsize=64)
def _zeros(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    zeros = np.zeros(shape, dtype)
    zeros.flags.writeable = False
    return zeros


# ----------------------------------------------------- variants of relu with smooth tails

# A block of this size stays in the cache over several passes.
_BLOCK_SIZE = 8_192


def _iter_blocks_with_scratch(
    *arrays: Array, block_size: int = _BLOCK_SIZE
) -> Iterator[tuple[Array, ...]]:
    """Yield blocks of arrays, followed by a scratch array of the block's shape.

    The last array is the largest one. An array before it that the members of a stack share has one
    member or no axis of members; it is read only.

    The scratch memory does not grow with the network. If an array is not contiguous, everything
    is one block.
    """
    last = arrays[-1]
    if last.size <= block_size or not all(array.flags.c_contiguous for array in arrays):
        yield (*arrays, np.empty_like(last))
        return
    if any(array.shape != last.shape for array in arrays):
        repeated = [np.broadcast_to(array, last.shape) for array in arrays[:-1]]
        for arrays_of_member in zip(*repeated, last, strict=True):
            yield from _iter_blocks_with_scratch(*arrays_of_member, block_size=block_size)
        return
    flat = [array.reshape(-1) for array in arrays]
    scratch = np.empty(block_size, last.dtype)
    for start in range(0, last.size, block_size):
        block = [array[start : start + block_size] for array in flat]
        yield (*block, scratch[: block[0].size])


@dataclass(frozen=True)
class LeakyRelu(ActivationFunction):
    """f(z) = max(z, s z), f'(z) = 1 if z > 0, else s.

    Maas, Hannun & Ng (2013), section 2. Units with negative inputs still learn.

    Parameters
    ----------
    negative_slope : float, default=0.01
        The slope s for negative inputs, in [0, 1].

    Raises
    ------
    ValueError
        If the slope is out of range.

    See Also
    --------
    Relu : Zero for negative inputs.
    Elu : Smooth, and bounded below.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import LeakyRelu
    >>> BackpropClassifier(activation=LeakyRelu(0.1))
    BackpropClassifier(activation=LeakyRelu(negative_slope=0.1))
    """

    negative_slope: Annotated[float, between(0, 1)] = 0.01

    @property
    def initializer(self) -> Initializer:
        # He et al. 2015, equation 15.
        return VarianceScaling(2.0 / (1.0 + self.negative_slope**2), mode="fan_in")

    def forward(self, z: Array, a: Array) -> None:
        for x, f, leak in _iter_blocks_with_scratch(z, a):
            np.multiply(x, self.negative_slope, out=leak)
            np.maximum(x, leak, out=f)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.greater(a, 0, out=a)
        np.maximum(a, self.negative_slope, out=a)
        np.multiply(delta, a, out=delta)


@dataclass(frozen=True)
class Elu(ActivationFunction):
    """f(z) = z if z > 0, else alpha (exp(z) - 1); f'(z) = 1, else a + alpha.

    Clevert, Unterthiner & Hochreiter (2016), section 3.

    Parameters
    ----------
    alpha : float, default=1.0
        Negated limit of f for large negative inputs, non-negative. With 1, f has no kink.

    Raises
    ------
    ValueError
        If alpha is out of range.

    See Also
    --------
    Selu : With constants that normalize the outputs of deep networks.
    LeakyRelu : Linear on both sides of zero.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Elu
    >>> BackpropClassifier(activation=Elu(alpha=0.5))
    BackpropClassifier(activation=Elu(alpha=0.5))
    """

    alpha: Annotated[float, between(0, closed="left")] = 1.0

    @property
    def initializer(self) -> Initializer:
        # 2 for alpha = 0, as for relu; preserves the second moment within 0.5 % up to alpha = 1.
        return VarianceScaling(2.0 / (1.0 + 0.2246 * self.alpha**2), mode="fan_in")

    def forward(self, z: Array, a: Array) -> None:
        for x, f, negative in _iter_blocks_with_scratch(z, a):
            np.minimum(x, 0, out=negative)
            np.expm1(negative, out=negative)
            np.multiply(negative, self.alpha, out=negative)
            np.maximum(x, 0, out=f)
            np.add(f, negative, out=f)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        for f, back, positive in _iter_blocks_with_scratch(a, delta):
            np.greater(f, 0, out=positive)
            np.multiply(positive, 1.0 - self.alpha, out=positive)
            np.minimum(f, 0, out=f)
            np.add(f, self.alpha, out=f)
            np.add(f, positive, out=f)
            np.multiply(back, f, out=back)


@dataclass(frozen=True)
class Selu(ActivationFunction):
    """f(z) = s elu(z) with alpha = 1.6733, s = 1.0507; f'(z) = s, else a + s alpha.

    With these constants, the outputs of deep layers converge to mean 0 and variance 1
    (Klambauer et al. 2017, equation 2).

    See Also
    --------
    Elu : Without the factor s.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Selu
    >>> BackpropClassifier(activation=Selu())
    BackpropClassifier(activation=Selu())
    """

    SCALE: ClassVar[float] = 1.0507009873554804934193349852946
    ELU: ClassVar[Elu] = Elu(1.6732632423543772848170429916717)

    initializer = VarianceScaling(mode="fan_in", distribution="normal")

    def forward(self, z: Array, a: Array) -> None:
        self.ELU.forward(z, a)
        np.multiply(a, self.SCALE, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.multiply(a, 1.0 / self.SCALE, out=a)
        self.ELU.backward(z, a, delta)
        np.multiply(delta, self.SCALE, out=delta)


@dataclass(frozen=True)
class Softplus(ActivationFunction):
    """f(z) = log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|)), f'(z) = 1 - exp(-a).

    Dugas et al. (2001): a smooth relu. It is computed by the second form, which does not overflow.

    See Also
    --------
    Relu : Its limit for large inputs.
    Silu : Smooth, with zero at zero.

    Examples
    --------
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.activations import Softplus
    >>> BackpropRegressor(activation=Softplus())
    BackpropRegressor(activation=Softplus())
    """

    initializer = VarianceScaling(1.1732, mode="fan_in")

    def forward(self, z: Array, a: Array) -> None:
        for x, f, tail in _iter_blocks_with_scratch(z, a):
            np.abs(x, out=tail)
            np.negative(tail, out=tail)
            np.exp(tail, out=tail)
            np.log1p(tail, out=tail)
            np.maximum(x, 0, out=f)
            np.add(f, tail, out=f)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.negative(a, out=a)
        np.expm1(a, out=a)
        np.multiply(delta, a, out=delta)
        np.negative(delta, out=delta)


# ------------------------------------------------------------- self-gated activations

_LOGISTIC = Logistic()


class SelfGated(ActivationFunction):
    """f(z) = z s(z), f'(z) = s(z) + z s'(z), with a gate s between 0 and 1.

    In training, the forward pass computes the derivative as well, because the gate takes most of
    the time. The results are the same to the bit.
    """

    needs_preactivation: ClassVar[bool] = True

    def gate(self, z: Array, s: Array) -> None:
        """Write s(z) to `s`."""
        raise NotImplementedError(f"{type(self).__name__} must define gate(z, s)")

    def derivative_from_gate(self, z: Array, s: Array) -> None:
        """Write f'(z) to `z`, given the gate."""
        raise NotImplementedError(f"{type(self).__name__} must define derivative_from_gate(z, s)")

    def forward(self, z: Array, a: Array) -> None:
        self.gate(z, a)
        np.multiply(a, z, out=a)

    def forward_with_derivative(self, s: Array, z: Array, a: Array) -> None:
        """Write s(z) to `s`, f(z) to `a`, and f'(z) to `z`."""
        self.gate(z, s)
        np.multiply(s, z, out=a)
        self.derivative_from_gate(z, s)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        self.gate(z, a)
        self.derivative_from_gate(z, a)
        np.multiply(delta, z, out=delta)


@dataclass(frozen=True)
class Silu(SelfGated):
    """f(z) = z s with s = 1 / (1 + exp(-z)), f'(z) = s + z s (1 - s).

    Elfwing, Uchibe & Doya (2018), section 2; the swish of Ramachandran, Zoph & Le (2017) with
    beta = 1.

    See Also
    --------
    Gelu : With the normal distribution instead of the logistic function.
    Mish : Similar, with softplus.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Silu
    >>> BackpropClassifier(activation=Silu())
    BackpropClassifier(activation=Silu())
    """

    initializer = VarianceScaling(2.4297, mode="fan_in")

    def gate(self, z: Array, s: Array) -> None:
        _LOGISTIC.forward(z, s)

    def derivative_from_gate(self, z: Array, s: Array) -> None:
        for x, gate, slope in _iter_blocks_with_scratch(z, s):
            np.subtract(1.0, gate, out=slope)
            np.multiply(slope, gate, out=slope)
            np.multiply(x, slope, out=x)
            np.add(x, gate, out=x)


@dataclass(frozen=True)
class Gelu(SelfGated):
    """f(z) = z P(z), f'(z) = P(z) + z p(z), with the normal distribution P and its density p.

    Hendrycks & Gimpel (2016), section 2, without approximation: P(z) = (1 + erf(z / sqrt(2))) / 2.
    In single precision and long rows, such as sequences, P comes from NumPy's tanh and is exact to
    1e-7, which takes a third of the time or less.

    See Also
    --------
    GeluTanh : Faster approximation.
    Silu : With the logistic function instead of the normal distribution.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Gelu
    >>> BackpropClassifier(activation=Gelu())
    BackpropClassifier(activation=Gelu())
    """

    # P(z) = (1 + tanh(z q(z^2))) / 2 for the polynomial q with these coefficients, highest degree
    # first, a minimax fit on [-6, 6] weighted by the derivative of P with respect to z q(z^2).
    COEFFICIENTS: ClassVar[tuple[float, ...]] = (
        *(1.7561766e-9, -1.32263532e-7, 3.96474659e-6, -5.53062043e-5, -3.25949534e-5),
        *(3.63330846e-2, 7.97884941e-1),
    )

    LONG_ROW: ClassVar[int] = 2_048

    initializer = VarianceScaling(2.1551, mode="fan_in")

    def gate(self, z: Array, s: Array) -> None:
        # The length of a row does not depend on how many rows or networks there are.
        if z.dtype != np.float32 or z.shape[-1] < self.LONG_ROW:
            ndtr(z, out=s)
            return
        highest, *others = self.COEFFICIENTS
        for x, gate, square in _iter_blocks_with_scratch(z, s, block_size=8 * _BLOCK_SIZE):
            clipped = np.clip(x, -6.0, 6.0)  # outside, P is 0 or 1
            np.multiply(clipped, clipped, out=square)
            np.multiply(square, highest, out=gate)
            for coefficient in others[:-1]:
                np.add(gate, coefficient, out=gate)
                np.multiply(gate, square, out=gate)
            np.add(gate, others[-1], out=gate)
            np.multiply(gate, clipped, out=gate)
            np.tanh(gate, out=gate)
            np.multiply(gate, 0.5, out=gate)
            np.add(gate, 0.5, out=gate)

    def derivative_from_gate(self, z: Array, s: Array) -> None:
        for x, gate, density in _iter_blocks_with_scratch(z, s, block_size=8 * _BLOCK_SIZE):
            np.clip(x, -40.0, 40.0, out=x)  # outside, P is 0 or 1 and p is 0
            np.multiply(x, x, out=density)
            np.multiply(density, -0.5, out=density)
            np.exp(density, out=density)
            np.multiply(density, x, out=density)
            np.multiply(density, 1.0 / math.sqrt(2.0 * math.pi), out=density)
            np.add(density, gate, out=x)


@dataclass(frozen=True)
class GeluTanh(SelfGated):
    """f(z) = z s, s = 1 / (1 + exp(-u)), u(z) = 2 sqrt(2 / pi) (z + 0.044715 z^3).

    The derivative is f'(z) = s (1 + z (1 - s) u'(z)). This is the tanh approximation of gelu
    (Hendrycks & Gimpel 2016, section 2), with an error below 0.0005. It is faster, because NumPy
    vectorizes tanh.

    See Also
    --------
    Gelu : The exact function.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import GeluTanh
    >>> BackpropClassifier(activation=GeluTanh())
    BackpropClassifier(activation=GeluTanh())
    """

    LINEAR: ClassVar[float] = 2.0 * math.sqrt(2.0 / math.pi)
    CUBIC: ClassVar[float] = 0.044715 * LINEAR

    initializer = VarianceScaling(2.1551, mode="fan_in")

    def gate(self, z: Array, s: Array) -> None:
        np.clip(z, -10.0, 10.0, out=s)  # outside, s is 0 or 1
        for gate, u in _iter_blocks_with_scratch(s):
            np.multiply(gate, gate, out=u)
            np.multiply(u, self.CUBIC, out=u)
            np.add(u, self.LINEAR, out=u)
            np.multiply(u, gate, out=u)
            _LOGISTIC.forward(u, gate)

    def derivative_from_gate(self, z: Array, s: Array) -> None:
        np.clip(z, -10.0, 10.0, out=z)
        for x, gate, slope in _iter_blocks_with_scratch(z, s):
            np.multiply(x, x, out=slope)
            np.multiply(slope, 3.0 * self.CUBIC, out=slope)
            np.add(slope, self.LINEAR, out=slope)
            np.multiply(x, slope, out=x)
            np.subtract(1.0, gate, out=slope)
            np.multiply(x, slope, out=x)
            np.add(x, 1.0, out=x)
            np.multiply(x, gate, out=x)


@dataclass(frozen=True)
class Mish(ActivationFunction):
    """f(z) = z tanh(log(1 + e)) = z n / (n + 2) with e = exp(z), n = e (e + 2).

    Misra (2020); f'(z) = n / (n + 2) + 4 z e (e + 1) / (n + 2)^2.

    See Also
    --------
    Silu : Similar, and faster.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.activations import Mish
    >>> BackpropClassifier(activation=Mish())
    BackpropClassifier(activation=Mish())
    """

    needs_preactivation: ClassVar[bool] = True
    MAX_EXP_ARGUMENT: ClassVar[float] = 25.0  # for larger z, f(z) = z to the last digit

    initializer = VarianceScaling(2.1068, mode="fan_in")

    def forward(self, z: Array, a: Array) -> None:
        for x, f, e in _iter_blocks_with_scratch(z, a):
            np.minimum(x, self.MAX_EXP_ARGUMENT, out=e)
            np.exp(e, out=e)
            np.add(e, 2.0, out=f)
            np.multiply(f, e, out=f)
            np.add(f, 2.0, out=e)
            np.divide(f, e, out=f)
            np.multiply(f, x, out=f)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        for x, f, back, e in _iter_blocks_with_scratch(z, a, delta):
            np.minimum(x, self.MAX_EXP_ARGUMENT, out=x)
            np.exp(x, out=e)
            np.add(e, 2.0, out=f)
            np.multiply(f, e, out=f)
            np.multiply(x, e, out=x)
            np.add(e, 1.0, out=e)
            np.multiply(x, e, out=x)
            np.multiply(x, 4.0, out=x)
            np.add(f, 2.0, out=e)
            np.divide(x, e, out=x)
            np.add(x, f, out=x)
            np.divide(x, e, out=x)
            np.multiply(back, x, out=back)


ACTIVATIONS: dict[str, ActivationFunction] = {
    "identity": Identity(),
    "logistic": Logistic(),
    "tanh": Tanh(),
    "relu": Relu(),
    "leaky_relu": LeakyRelu(),
    "elu": Elu(),
    "selu": Selu(),
    "gelu": Gelu(),
    "gelu_tanh": GeluTanh(),
    "silu": Silu(),
    "mish": Mish(),
    "softplus": Softplus(),
}


def get_activation(activation: str | ActivationFunction) -> ActivationFunction:
    """Return the activation function for a name or an instance."""
    return find_by_name("activation", activation, ACTIVATIONS, ActivationFunction)


ActivationLike: TypeAlias = ActivationName | ActivationFunction
