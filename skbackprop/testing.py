"""Numerical checks of gradients, for custom losses, activations and layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .activations import ActivationFunction
from .layers.base import Layer, Shape, expand_layers
from .layers.columns import Scale
from .layers.dense import Dense
from .layers.reshaping import Flatten
from .losses.base import Loss
from .nn.network import BuiltNetwork, Network
from .nn.parameters import FlatParameters
from .utils.arrays import Array, BufferPool, squeeze_member_axis
from .utils.configurable import check_in_place

__all__ = ["check_activation", "check_gradient", "check_layer", "check_loss"]


def __dir__() -> list[str]:
    return __all__


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
        If a difference exceeds ``rtol * norm(g) + atol`` or is NaN.
    ValueError
        If the shapes of the gradient and `theta` differ, or `n_directions` is less than 1.

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
    if n_directions < 1:
        raise ValueError(f"n_directions must be at least 1, got {n_directions}.")
    theta = np.array(theta, dtype=np.float64)
    gradient = np.array(value_and_gradient(theta.copy())[1], dtype=np.float64)
    if gradient.shape != theta.shape:
        raise ValueError(
            f"the gradient must have the shape of theta, {theta.shape}, got {gradient.shape}."
        )
    rng = random_state
    if rng is None or isinstance(rng, (int, np.integer)):
        rng = np.random.RandomState(rng)
    scale = np.linalg.norm(gradient) + atol / rtol
    worst = 0.0
    for i in range(n_directions):
        direction = rng.normal(size=theta.shape)
        direction /= np.linalg.norm(direction)
        above = float(value_and_gradient(theta + step * direction)[0])
        below = float(value_and_gradient(theta - step * direction)[0])
        expected = (above - below) / (2 * step)
        got = float(np.sum(gradient * direction))
        error = abs(got - expected) / scale
        if not error <= rtol:
            raise AssertionError(
                f"the gradient does not match the value: along direction {i} it is {got!r}, but "
                f"the central difference is {expected!r} (norm of the gradient "
                f"{np.linalg.norm(gradient):.3g}, rtol={rtol}, atol={atol})."
            )
        worst = max(worst, float(error))
    return worst


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
        If the derivative is wrong, or `forward` returns a different result in place.
    TypeError
        If `forward` or `backward` returns its result instead of writing it in place.

    Examples
    --------
    >>> from skbackprop.activations import Tanh
    >>> from skbackprop.testing import check_activation
    >>> check_activation(Tanh()) < 1e-6
    True
    """
    z = np.linspace(-4.05, 3.95, 40) if z is None else np.asarray(z, dtype=np.float64)

    def value_and_gradient(z: Any) -> tuple[float, Any]:
        a, delta = np.empty_like(z), np.ones_like(z)
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = activation.forward(z.copy(), a)  # type: ignore[func-returns-value]
        check_in_place(activation, "forward(z, a)", "a", result, a)
        value = a.sum()
        # In training, a has overwritten z by now unless the activation needs it.
        z = z.copy() if activation.needs_preactivation else a
        result = activation.backward(z, a, delta)  # type: ignore[func-returns-value]
        check_in_place(activation, "backward(z, a, delta)", "delta", result, delta)
        return float(value), delta

    error = check_gradient(value_and_gradient, z, **options)
    if not activation.needs_preactivation:
        out_of_place, in_place = np.empty_like(z), z.copy()
        activation.forward(z.copy(), out_of_place)
        activation.forward(in_place, in_place)
        np.testing.assert_array_equal(in_place, out_of_place)
    return error


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
        If the gradient is wrong or changes when it overwrites `raw_prediction`, or if `value` does
        not return one number for each row of each network.
    TypeError
        If `gradient` returns its result instead of writing it to `out`.

    Examples
    --------
    >>> from skbackprop.losses import Poisson
    >>> from skbackprop.testing import check_loss
    >>> check_loss(Poisson(), raw_prediction=[[0.5], [-1.0]], y=[[2.0], [0.0]]) < 1e-6
    True
    """
    raw_prediction = np.asarray(raw_prediction, dtype=np.float64)[None]
    y = np.asarray(y, dtype=np.float64)[None]
    _check_value(loss, raw_prediction, y)

    def value_and_gradient(raw_prediction: Any) -> tuple[float, Any]:
        out = np.empty_like(raw_prediction)
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = loss.gradient(raw_prediction, y, out)  # type: ignore[func-returns-value]
        check_in_place(loss, "gradient(raw_prediction, y, out)", "out", result, out)
        value = float(loss.value(raw_prediction, y).sum())
        loss.gradient(raw_prediction, y, raw_prediction)
        np.testing.assert_array_equal(raw_prediction, out)
        return value, out

    return check_gradient(value_and_gradient, raw_prediction, **options)


def _check_value(loss: Loss, raw_prediction: Any, y: Any) -> None:
    """Check that `value` returns the loss of each row, for one and for two networks."""
    n = len(y[0])
    for n_estimators in (1, 2):
        raw = np.repeat(raw_prediction, n_estimators, axis=0)
        value = np.asarray(loss.value(raw, np.repeat(y, n_estimators, axis=0)))
        if value.shape != (n_estimators, n):
            raise AssertionError(
                "value(raw_prediction, y) must return the loss of each row, of shape "
                "(n_estimators, n) = "
            )
        rows = [slice(i, i + 1) for i in range(n)]
        by_row = [loss.value(raw_prediction[:, row], y[:, row])[0, 0] for row in rows]
        np.testing.assert_allclose(
            value[-1],
            by_row,
            err_msg="value(raw_prediction, y) mixes rows: the loss of a row depends on other rows",
        )


def check_layer(layer: Layer, input_shape: Shape, X: Any = None, **options: Any) -> float:
    """Check both passes of a layer, as the first of a network and after another layer.

    It checks that

    - the gradients with respect to parameters and input match finite differences,
    - training and prediction have the same output, unless the layer draws random numbers or has
      running statistics,
    - `backward` writes gradients instead of adding them, and the first layer leaves X unchanged,
    - in a stack of three networks, each computes the same as alone, to the bit, in float32.

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
        If a check fails.
    ValueError
        If the layer does not take rows of shape `input_shape`.

    Examples
    --------
    >>> from skbackprop.layers import Conv2D
    >>> from skbackprop.testing import check_layer
    >>> check_layer(Conv2D(4, 3, activation="tanh"), (6, 6, 2)) < 1e-6
    True
    """
    if X is None:
        X = np.random.RandomState(0).normal(size=(5, *input_shape))
    X = np.asarray(X, dtype=np.float64).reshape(len(X), -1)
    # Before a layer that reads columns of X there is no other.
    before: list[tuple[Layer, ...]] = [()] if layer.reads_columns else [(), (Scale(),)]
    errors = []
    for first in before:
        layers = expand_layers((*first, layer, Flatten(), Dense(2)), input_shape)[0]
        network = Network(tuple(input_shape), tuple(layers))
        _check_passes(layer, network, X)
        for subject, check in [
            ("with respect to the parameters", _check_parameter_gradient),
            ("with respect to the input", _check_input_gradient),
        ]:
            try:
                errors.append(check(network, X, options))
            except AssertionError as error:
                message = f"{layer!r} {subject}: {error}"
                raise AssertionError(message) from None
        _check_members(layer, network, X)
    return max(errors)


@dataclass(frozen=True)
class _LayerResult:
    """Result of a forward and a backward pass."""

    value: float
    raw_prediction: Array
    gradient: Array
    input_gradient: Array


def _run_layer(
    network: Network,
    parameters: FlatParameters,
    X: Array,
    is_training: bool = True,
    seed: int = 0,
    n_steps: int = 1,
) -> _LayerResult:
    """Compute a weighted sum of raw predictions, and its gradients, by steps on the same memory."""
    n_estimators, n_rows = len(parameters), X.shape[-2]
    gradients = parameters.with_theta(np.full_like(parameters.theta, np.nan))
    built = BuiltNetwork(
        network,
        parameters,
        n_rows,
        BufferPool(parameters.dtype),
        gradients if is_training else None,
        rngs=[np.random.default_rng(seed + i) for i in range(n_estimators)],
        with_input_gradient=True,
    )
    built.batch.weight, built.batch.total = 1 / n_rows, n_rows
    raw = np.empty((n_estimators, n_rows, network.n_units[-1]), parameters.dtype)
    slope = np.random.RandomState(1).normal(size=raw.shape[1:])
    for _ in range(n_steps):
        built.forward(X, squeeze_member_axis(raw))
        value = float(np.sum(raw * slope))
        if built.activity_loss is not None:
            value += float(built.activity_loss.sum()) / n_rows
        built.delta[...] = slope
        input_gradient = built.backward().copy()
    return _LayerResult(value, raw, gradients.theta, input_gradient)


def _draw_parameters(
    network: Network, n_estimators: int, dtype: Any = np.float64
) -> FlatParameters:
    """Return parameters that differ from their initial values."""
    rngs = [np.random.RandomState(seed) for seed in range(n_estimators)]
    parameters = network.layout.init(n_estimators, np.dtype(np.float64), rngs)
    for theta, rng in zip(parameters.theta, rngs, strict=True):
        theta += 0.4 * rng.randn(len(theta))
    return network.copy_parameters(parameters, np.dtype(dtype))


def _check_parameter_gradient(network: Network, X: Array, options: Any) -> float:
    """Check the gradient with respect to all parameters of a network."""
    start = _draw_parameters(network, 1)

    def value_and_gradient(theta: Any) -> tuple[float, Any]:
        step = _run_layer(network, start.with_theta(theta), X)
        return step.value, step.gradient

    return check_gradient(value_and_gradient, start.theta, **options)


def _check_input_gradient(network: Network, X: Array, options: Any) -> float:
    """Check the gradient with respect to the input, in training and in prediction."""
    parameters = _draw_parameters(network, 1)
    is_number = np.isfinite(X)
    is_number[:, network.layers[0].categorical_columns] = False
    errors = [0.0]
    for is_training in (True, False):

        def value_and_gradient(numbers: Any, is_training: bool = is_training) -> tuple[float, Any]:
            rows = X.copy()
            rows[is_number] = numbers
            step = _run_layer(network, parameters, rows, is_training)
            assert not step.input_gradient[~is_number].any(), (
                "the gradient with respect to padding, tokens or categories must be zero."
            )
            return step.value, step.input_gradient[is_number]

        if is_number.any():
            errors.append(check_gradient(value_and_gradient, X[is_number], **options))
    return max(errors)


def _check_passes(layer: Layer, network: Network, X: Array) -> None:
    """Check that training, prediction and a second step on the same memory agree."""
    if network.stochastic or network.layout.init(1, np.dtype(np.float64)).statistics:
        return
    parameters, rows = _draw_parameters(network, 1), X.copy()
    step = _run_layer(network, parameters, rows)
    np.testing.assert_array_equal(rows, X, f"{layer!r} overwrites its input.")
    np.testing.assert_allclose(
        _run_layer(network, parameters, X, is_training=False).raw_prediction,
        step.raw_prediction,
        rtol=1e-9,
        err_msg=f"Prediction by {layer!r} differs from its output in training.",
    )
    again = _run_layer(network, parameters, X, n_steps=2)
    for name in ("raw_prediction", "gradient", "input_gradient"):
        np.testing.assert_array_equal(
            getattr(again, name),
            getattr(step, name),
            f"{layer!r} computes a different {name} in a second step. Overwrite `out`, the "
            "gradients and `grad_input` instead of adding to their old values.",
        )


def _check_members(layer: Layer, network: Network, X: Array) -> None:
    """Check that the members of a stack, with the same rows or others, equal networks alone."""
    parameters = _draw_parameters(network, 3, np.float32)
    shared = X.astype(np.float32)
    own = np.stack([np.roll(shared, i, axis=0) for i in range(3)])
    for is_training in (True, False):
        for rows in (shared, own):
            stack = _run_layer(network, parameters, rows, is_training)
            for i in range(3):
                alone = _run_layer(
                    network,
                    parameters.members(slice(i, i + 1)),
                    rows if rows is shared else rows[i],
                    is_training,
                    seed=i,
                )
                for got, expected in [
                    (stack.raw_prediction[i], alone.raw_prediction[0]),
                    (stack.gradient[i], alone.gradient[0]),
                    (stack.input_gradient[i], alone.input_gradient),
                ]:
                    np.testing.assert_array_equal(
                        got,
                        expected,
                        f"{layer!r} computes a different result for a network in a stack than for "
                        "the same network alone.",
                    )
