"""Proofs that a gradient belongs to its value, for one's own losses and activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .activations import ActivationFunction
from .losses.base import Loss
from .utils.config import check_in_place

__all__ = ["check_activation", "check_gradient", "check_loss"]


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

    For random unit directions v it compares g'v with
    (f(theta + h v) - f(theta - h v)) / (2 h), whose error is of the order of h^2.

    Parameters
    ----------
    value_and_gradient : callable
        Called with an array of the shape of `theta`; returns the value, a float, and its
        gradient, an array of that shape. It may reuse the gradient's memory.
    theta : array-like
        The point at which to check, as float64.
    n_directions : int, default=10
        The number of directions, at least 1.
    step : float, default=1e-5
        The step h, positive. `theta` should be of the order of one.
    rtol : float, default=1e-6
        The difference allowed, as a share of the norm of the gradient.
    atol : float, default=1e-9
        The difference allowed for a gradient near zero.
    random_state : int, RandomState instance or None, default=0
        What draws the directions.

    Returns
    -------
    error : float
        The largest difference, as a share of ``norm(g) + atol / rtol``.

    Raises
    ------
    AssertionError
        If a difference exceeds ``rtol * norm(g) + atol``, or is not a number.
    ValueError
        If the gradient has another shape than `theta`, or `n_directions` is below 1.

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
    AssertionError: the gradient does not belong to the value: along direction 0 ...
    """
    if n_directions < 1:
        raise ValueError(f"n_directions must be at least 1, got {n_directions}.")
    theta = np.array(theta, dtype=np.float64)
    gradient = np.array(value_and_gradient(theta.copy())[1], dtype=np.float64)
    if gradient.shape != theta.shape:
        raise ValueError(f"the gradient has shape {gradient.shape}, theta has {theta.shape}.")
    rng = np.random.RandomState(random_state) if _is_seed(random_state) else random_state
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
                f"the gradient does not belong to the value: along direction {i} it says {got!r}, "
                f"the central difference says {expected!r} (norm of the gradient "
                f"{np.linalg.norm(gradient):.3g}, rtol={rtol}, atol={atol})."
            )
        worst = max(worst, float(error))
    return worst


def _is_seed(random_state: Any) -> bool:
    return random_state is None or isinstance(random_state, (int, np.integer))


def check_activation(activation: ActivationFunction, z: Any = None, **options: Any) -> float:
    """Check that an activation's `backward` is the derivative of its `forward`.

    Parameters
    ----------
    activation : Activation
        The activation.
    z : array-like, default=None
        Where to check; keep away from kinks. None for 40 points of both signs.
    **options
        Options of `check_gradient`.

    Returns
    -------
    error : float
        As for `check_gradient`.

    Raises
    ------
    AssertionError
        If the derivative is wrong, or `forward` gives another result in place.
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
        result: object = activation.forward(z.copy(), a)  # type: ignore[func-returns-value]
        check_in_place(activation, "forward(z, a)", "a", result, a)
        value = a.sum()
        # In training z is gone by now, overwritten by a, unless the activation keeps it.
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


def check_loss(loss: Loss, scores: Any, y: Any, **options: Any) -> float:
    """Check that a loss's `gradient` is the derivative of its `value`.

    Parameters
    ----------
    loss : Loss
        The loss.
    scores : array-like of shape (n, k)
        Where to check.
    y : array-like of shape (n, k)
        Targets that the loss allows.
    **options
        Options of `check_gradient`.

    Returns
    -------
    error : float
        As for `check_gradient`.

    Raises
    ------
    AssertionError
        If the gradient is wrong, or is another when it overwrites the scores; if `value` does
        not return one number for each row of each network.
    TypeError
        If `gradient` returns its result instead of writing it to `out`.

    Examples
    --------
    >>> from skbackprop.losses import Poisson
    >>> from skbackprop.testing import check_loss
    >>> check_loss(Poisson(), scores=[[0.5], [-1.0]], y=[[2.0], [0.0]]) < 1e-6
    True
    """
    scores = np.asarray(scores, dtype=np.float64)[None]
    y = np.asarray(y, dtype=np.float64)[None]
    _check_value(loss, scores, y)

    def value_and_gradient(scores: Any) -> tuple[float, Any]:
        gradient = np.empty_like(scores)
        result: object = loss.gradient(scores, y, gradient)  # type: ignore[func-returns-value]
        check_in_place(loss, "gradient(scores, y, out)", "out", result, gradient)
        value = float(loss.value(scores, y).sum())
        loss.gradient(scores, y, scores)
        np.testing.assert_array_equal(scores, gradient)
        return value, gradient

    return check_gradient(value_and_gradient, scores, **options)


def _check_value(loss: Loss, scores: Any, y: Any) -> None:
    """Check that `value` returns the loss of each row, for two networks and for each row alone."""
    value = np.asarray(loss.value(scores, y))
    both = np.asarray(loss.value(np.repeat(scores, 2, axis=0), np.repeat(y, 2, axis=0)))
    for found, n_estimators in ((value, 1), (both, 2)):
        expected = n_estimators, scores.shape[1]
        if found.shape != expected:
            raise AssertionError(
                f"value(scores, y) returned the shape {found.shape} for scores of shape "
                f"{(n_estimators, *scores.shape[1:])}, but has to return the loss of each row, of "
                f"shape (n_estimators, n) = {expected}: a sum over the last axis."
            )
    by_row = [loss.value(scores[:, i : i + 1], y[:, i : i + 1])[0, 0] for i in range(value.size)]
    np.testing.assert_allclose(
        np.stack([value[0], both[1]]),
        np.stack([by_row, by_row]),
        err_msg="value(scores, y) is not the loss of each row by itself",
    )
