"""Initial weights: random or given by the user, and their validation."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np

from ..activations import ActivationFunction, get_activation
from ..initializers import INITIALIZERS
from ..nn.network import Network
from ..utils.arrays import Array

# The kinds of dtypes that hold real numbers.
_REAL = frozenset("biuf")


def has_member_axis(coefs: Any) -> bool:
    """Return whether weights are those of several networks."""
    return _is_list(coefs) and len(coefs) > 0 and np.ndim(coefs[0]) == 3


def layer_widths(coefs: Any, name: str) -> tuple[int, ...]:
    """Return the widths of the layers that weights connect, with or without a member axis.

    Raises
    ------
    ValueError
        If there are no weights, or they are no matrices; `name` is named in the error.
    """
    shapes = [np.shape(weights) for weights in coefs] if _is_list(coefs) else []
    if not shapes or any(len(shape) not in (2, 3) for shape in shapes):
        raise ValueError(
            f"{name} must be a list with an array of shape (fan_in, fan_out) for each layer, got "
            f"{f'arrays of the shapes {shapes}' if _is_list(coefs) else _describe_briefly(coefs)}."
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def validate_weights(
    coefs: Any, intercepts: Any, network: Network, name: str, n_estimators: int = 1
) -> list[tuple[Array, Array]]:
    """Validate given weights and biases and return them layer by layer.

    Those of several networks have the member axis first.

    Raises
    ------
    ValueError
        If a shape is not that of the network, or an array has no real numbers; `name` is named in
        the error.
    """
    shapes = network.shapes["weights"]
    if not (_is_list(coefs) and _is_list(intercepts)):
        raise ValueError(
            f"{name} must be a list of weights and a list of intercepts, one array for each "
            f"layer, got {_describe_briefly(coefs)} and {_describe_briefly(intercepts)}."
        )
    if len(coefs) != len(shapes) or len(intercepts) != len(shapes):
        raise ValueError(
            f"{name} must have {len(shapes)} arrays of weights and {len(shapes)} of intercepts, "
            f"one for each layer, got {len(coefs)} and {len(intercepts)}."
        )
    axis = () if n_estimators == 1 else (n_estimators,)
    return [
        (
            validate_array(coefs[i], axis + shape, f"{name}: the weights of layer {i}"),
            validate_array(intercepts[i], axis + shape[1:], f"{name}: the biases of layer {i}"),
        )
        for i, shape in enumerate(shapes)
    ]


def validate_array(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return an array of real numbers of this shape, after a check.

    A vector may have an axis of length one before its last, as NumPy's biases often have.
    """
    array = _as_numbers(value)
    if array.shape == (*shape[:-1], 1, shape[-1]):
        array = array.reshape(shape)
    if array.shape != shape or array.dtype.kind not in _REAL:
        raise ValueError(
            f"{name} must be an array of real numbers of shape {shape}, got one of shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    return array


def _is_list(values: Any) -> bool:
    """Return whether a value is a list of arrays, or an array of them."""
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _as_numbers(values: Any) -> Array:
    """Return an array, with objects converted to numbers if possible.

    Layers of one shape arrive as objects if the user has made a single array of them.
    """
    array = np.asarray(values)
    if array.dtype == object:
        with suppress(TypeError, ValueError):
            return array.astype(np.float64)
    return array


def _describe_briefly(value: Any) -> str:
    """Return a short description of a value, for an error."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


CoefsAndIntercepts: TypeAlias = tuple[Any, Any] | list[Any]
"""The weights and the biases of all layers, as users give them."""


def get_init(init: Any, activation: Any, *, is_single_layer: bool) -> Any:
    """Return the initializer of all layers, None for the layers' own, or (coefs, intercepts).

    Without hidden layers, the activation matters here only, as in scikit-learn.
    """
    if isinstance(init, (tuple, list)):
        if len(init) != 2:
            raise ValueError(
                "init must be a name, an Initializer or a pair (coefs, intercepts), got a "
                f"{type(init).__name__} of length {len(init)}."
            )
        return tuple(init)
    if init != "auto":
        return INITIALIZERS[init] if isinstance(init, str) else init
    is_one = isinstance(activation, (str, ActivationFunction))
    return get_activation(activation).initializer if is_single_layer and is_one else None


def make_initial_weights(
    init: Any, network: Network, rng: np.random.RandomState, member: int, n_estimators: int
) -> list[tuple[Array, Array]]:
    """Return the initial weights and biases of one network, layer by layer.

    Parameters
    ----------
    init : Initializer, None or (coefs, intercepts)
        As from `get_init`. Given weights with a member axis are those of several networks; without
        one, all networks start from the same.
    network : Network
        The architecture.
    rng : RandomState
        The stream that draws.
    member, n_estimators : int
        The number of the network, and the number of networks.
    """
    if not isinstance(init, tuple):
        return network.draw_weights(rng, init)
    coefs, intercepts = init
    n_given = n_estimators if has_member_axis(coefs) else 1
    layers = validate_weights(coefs, intercepts, network, "init", n_given)
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError("init must contain only finite numbers, got NaN or infinity.")
    if n_given == 1:
        return layers
    return [(weights[member], biases[member]) for weights, biases in layers]


def get_member_init(init: Any, member: int) -> Any:
    """Return the parameter `init` for one of several networks."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init
