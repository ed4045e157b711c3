"""Numerical checks of gradients, for custom losses, activations and layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from .activations import ActivationFunction
from .layers.base import Layer, Shape, expand_layers
from .layers.columns import Scale
from .layers.dense import Dense
from .layers.reshaping import Flatten
from .losses.base import Loss
from .nn.network import BoundNetwork, Network
from .nn.parameters import Parameters
from .utils.arrays import Array, BufferPool, squeeze_member_axis

__all__ = ["check_activation", "check_gradient", "check_layer", "check_loss"]


def check_gradient(
    value_and_gradient: Callable[[Any], tuple[float, Any]],
    theta: Any,
    *,
    n_directions: int = 10,
    step: float = 1e-5,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    random_state: Any = 0,
) -> float:
    """Check a gradient against central differences along random directions.

    For random unit directions v, it compares g'v with
    (f(theta + h v) - f(theta - h v)) / (2 h), which has an error of order h^2.

    Parameters
    ----------
    value_and_gradient : callable
        Function of an array of the shape of `theta`. It returns the value, a float, and the
        gradient, an array of the same shape. The function may reuse the memory of the gradient.
    theta : array-like
        The point at which to check. It is converted to float64.
    n_directions : int, default=10
        The number of directions, at least 1.
    step : float, default=1e-5
        The step h, positive. `theta` should be of order 1.
    rtol : float, default=1e-6
        The allowed difference, relative to the norm of the gradient.
    atol : float, default=1e-9
        The allowed difference for a gradient near zero.
    random_state : int, RandomState instance or None, default=0
        Random state of the directions.

    Returns
    -------
    error : float
        The largest difference, relative to ``norm(g) + atol / rtol``.

    Raises
    ------
    AssertionError
        If a difference exceeds ``rtol * norm(g) + atol`` or is NaN, or the gradient does not have
        the shape of `theta`.
    TypeError, ValueError
        If `n_directions` is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.testing import check_gradient
    >>> error = check_gradient(lambda x: (np.sum(x**3), 3 * x**2), [1.0, 2.0])
    >>> error < 1e-6
    True
    >>> check_gradient(lambda x: (np.sum(x**3), x**2), [1.0, 2.0])
    Traceback (most recent call last):
        ...
    AssertionError: the gradient does not match the value: along direction 0 ...
    """
    check_scalar(n_directions, "n_directions", Integral, min_val=1)
    theta = np.array(theta, dtype=np.float64)
    gradient = np.array(value_and_gradient(theta.copy())[1], dtype=np.float64)
    assert gradient.shape == theta.shape, f"the gradient has the wrong shape {gradient.shape}."
    rng, norm, errors = check_random_state(random_state), np.linalg.norm(gradient), []
    for i in range(n_directions):
        direction = rng.normal(size=theta.shape)
        direction /= np.linalg.norm(direction)
        above = float(value_and_gradient(theta + step * direction)[0])
        below = float(value_and_gradient(theta - step * direction)[0])
        expected, got = (above - below) / (2 * step), float(np.sum(gradient * direction))
        error = abs(got - expected) / (norm + atol / rtol)
        if not error <= rtol:
            raise AssertionError(
                f"the gradient does not match the value: along direction {i} it is {got!r}, but "
                f"the central difference is {expected!r} (norm of the gradient {norm:.3g}, "
                f"rtol={rtol}, atol={atol})."
            )
        errors.append(float(error))
    return max(errors)


def check_activation(activation: ActivationFunction, z: Any = None, **options: Any) -> float:
    """Check that an activation's `backward` is the derivative of its `forward`.

    Parameters
    ----------
    activation : ActivationFunction
        The activation.
    z : array-like, default=None
        The points at which to check, without kinks. None for 40 points of both signs.
    **options
        Options of `check_gradient`.

    Returns
    -------
    error : float
        The largest difference, relative to the norm of the gradient, as in `check_gradient`.

    Raises
    ------
    AssertionError
        If the derivative is wrong, or `forward` or `backward` does not write its result in place.

    Examples
    --------
    >>> from skbackprop.activations import Tanh
    >>> from skbackprop.testing import check_activation
    >>> check_activation(Tanh()) < 1e-6
    True
    """

    def value_and_gradient(z: Any, in_place: bool) -> tuple[float, Any]:
        a, delta = z if in_place else np.full_like(z, np.nan), np.ones_like(z)
        activation.forward(z, a)
        value = float(a.sum())
        activation.backward(z, a, delta)
        return value, delta

    z = np.linspace(-4.05, 3.95, 40) if z is None else z
    # In training, an activation that does not need z overwrites it.
    return max(
        check_gradient(partial(value_and_gradient, in_place=in_place), z, **options)
        for in_place in {False, not activation.needs_preactivation}
    )


def check_loss(loss: Loss, raw_prediction: Any, y: Any, **options: Any) -> float:
    """Check that a loss's `gradient` is the derivative of its `value`.

    Parameters
    ----------
    loss : Loss
        The loss.
    raw_prediction : array-like of shape (n, k)
        The raw predictions at which to check.
    y : array-like of shape (n, k)
        Targets for which the loss is defined.
    **options
        Options of `check_gradient`.

    Returns
    -------
    error : float
        The largest difference, relative to the norm of the gradient, as in `check_gradient`.

    Raises
    ------
    AssertionError
        If the gradient is wrong or not written to `out`, or if `value` does not return the loss of
        each row of each network.

    Examples
    --------
    >>> from skbackprop.losses import Poisson
    >>> from skbackprop.testing import check_loss
    >>> check_loss(Poisson(), raw_prediction=[[0.5], [-1.0]], y=[[2.0], [0.0]]) < 1e-6
    True
    """
    raw_prediction, y = (
        np.repeat(np.asarray(array, dtype=np.float64)[None], 2, axis=0)
        for array in (raw_prediction, y)
    )
    weight = np.random.RandomState(0).uniform(1, 2, raw_prediction.shape[:2])

    def value_and_gradient(raw_prediction: Any, is_stack: bool) -> tuple[float, Any]:
        value = np.asarray(loss.value(raw_prediction, y))
        if value.shape != weight.shape:
            raise AssertionError(
                "value(raw_prediction, y) must return the loss of each row, of shape "
                f"(n_estimators, n) = {weight.shape}, got {value.shape}."
            )
        # The arrays of a single network have no axis of networks. It overwrites its predictions.
        out = np.full_like(raw_prediction, np.nan) if is_stack else raw_prediction
        arrays = raw_prediction, y, out
        for network_arrays in [arrays] if is_stack else zip(*arrays, strict=True):
            loss.gradient(*network_arrays)
        return float(np.sum(weight * value)), weight[..., None] * out

    return max(
        check_gradient(partial(value_and_gradient, is_stack=is_stack), raw_prediction, **options)
        for is_stack in (False, True)
    )


def check_layer(layer: Layer, input_shape: Shape, X: Any = None, **options: Any) -> float:
    """Check the gradients of a layer with respect to its parameters and its input.

    A network, and a stack of two, have the layer first, and in a second check after another layer.
    They compute two steps on the same memory, so that gradients that are added to old ones are
    found.

    Parameters
    ----------
    layer : Layer
        The layer.
    input_shape : tuple of int
        The shape of one row of its input.
    X : array-like of shape ``(n, *input_shape)``, default=None
        The rows at which to check, without kinks. NaN after the last step of a sequence is padding;
        the gradient with respect to padding must be zero. None for five rows of normally
        distributed numbers. Layers that read tokens or categories need X.
    **options
        Options of `check_gradient`.

    Returns
    -------
    error : float
        The largest difference, relative to the norm of the gradient, as in `check_gradient`.

    Raises
    ------
    AssertionError
        If a gradient is wrong.
    ValueError
        If the layer does not take rows of shape `input_shape`, or X has other rows.

    Examples
    --------
    >>> from skbackprop.layers import Conv2D
    >>> from skbackprop.testing import check_layer
    >>> check_layer(Conv2D(4, 3, activation="tanh"), (6, 6, 2)) < 1e-6
    True
    """
    if X is None:
        X = np.random.RandomState(0).normal(size=(5, *input_shape))
    X = np.asarray(X, dtype=np.float64)
    if X.shape[1:] != tuple(input_shape):
        raise ValueError(f"X must have rows of shape {tuple(input_shape)}, got {X.shape[1:]}.")
    X = X.reshape(len(X), -1)
    # Before a layer that reads columns of X there is no other.
    first_layers: list[tuple[Layer, ...]] = [()] if layer.reads_columns else [(), (Scale(),)]
    errors = []
    for first, n_estimators in product(first_layers, (1, 2)):
        layers = expand_layers((*first, layer, Flatten(), Dense(2)), input_shape)[0]
        network = Network(tuple(input_shape), tuple(layers))
        for subject, value_and_gradient, point in _gradients_of_network(network, X, n_estimators):
            try:
                errors.append(check_gradient(value_and_gradient, point, **options))
            except AssertionError as error:
                raise AssertionError(f"{layer!r} with respect to {subject}: {error}") from None
    return max(errors)


def _gradients_of_network(
    network: Network, X: Array, n_estimators: int
) -> Iterator[tuple[str, Any, Array]]:
    """Yield each subject of differentiation, its function for `check_gradient`, and a point."""
    rngs = [np.random.RandomState(seed) for seed in range(n_estimators)]
    start = network.layout.init(n_estimators, np.dtype(np.float64), rngs)
    start.theta[...] += 0.4 * rngs[0].randn(*start.theta.shape)
    is_number = np.isfinite(X)
    is_number[:, network.layers[0].categorical_columns] = False

    def by_parameters(theta: Any) -> tuple[float, Any]:
        return _run_network(network, start.with_arrays(theta), X, True)[:2]

    def by_input(numbers: Any, is_training: bool) -> tuple[float, Any]:
        rows = X.copy()
        rows[is_number] = numbers
        value, _, gradient = _run_network(network, start, rows, is_training)
        assert not gradient[~is_number].any(), (
            "the gradient with respect to padding, tokens or categories must be zero."
        )
        return value, gradient[is_number]

    yield "the parameters", by_parameters, start.theta
    if is_number.any():
        yield "the input", partial(by_input, is_training=True), X[is_number]
        yield "the input in prediction", partial(by_input, is_training=False), X[is_number]


def _run_network(
    network: Network, parameters: Parameters, X: Array, is_training: bool
) -> tuple[float, Array, Array]:
    """Return a weighted sum of raw predictions, and its gradients by parameters and input."""
    n_rows, gradients = len(X), parameters.with_arrays(np.full_like(parameters.theta, np.nan))
    pool, rngs = BufferPool(parameters.dtype), map(np.random.default_rng, range(len(parameters)))
    trained = gradients if is_training else None
    bound = BoundNetwork(
        network, parameters, n_rows, pool, trained, rngs=list(rngs), with_input_gradient=True
    )
    bound.batch.weight, bound.batch.total = 1 / n_rows, n_rows
    raw = squeeze_member_axis(np.empty((len(parameters), n_rows, network.n_units[-1])))
    slope = np.random.RandomState(1).normal(size=raw.shape)
    for _ in range(2):
        bound.forward(X, raw)
        bound.delta[...] = slope
        input_gradient = bound.backward()
    value = float(np.sum(raw * slope))
    if bound.activity_loss is not None:
        value += float(bound.activity_loss.sum()) / n_rows
    return value, gradients.theta, input_gradient.reshape(-1, *X.shape).sum(axis=0)
