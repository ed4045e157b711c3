"""Checks of weights that a user gives, as initial ones or in place of trained ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ..core.arrays import Array
from ..engine.network import Network

# The kinds of dtypes that hold real numbers.
_REAL = frozenset("biuf")


def has_member_axis(coefs: Any) -> bool:
    """Return whether each layer's weights are those of several members."""
    return _is_list(coefs) and len(coefs) > 0 and np.ndim(coefs[0]) == 3


def layer_widths(coefs: Any, name: str) -> tuple[int, ...]:
    """Return the widths of the layers that weights connect; those of members have one more axis.

    Raises
    ------
    ValueError
        If there are no weights, or they are no matrices; `name` says what the user should look at.
    """
    shapes = [np.shape(weights) for weights in coefs] if _is_list(coefs) else []
    if not shapes or any(len(shape) not in (2, 3) for shape in shapes):
        raise ValueError(
            f"{name} must be a list with an array of shape (fan_in, fan_out) for each layer, got "
            f"{f'arrays of the shapes {shapes}' if _is_list(coefs) else _named(coefs)}."
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def checked_layers(
    coefs: Any,
    intercepts: Any,
    network: Network,
    name: str,
    n_members: int = 1,
    advice: str = "",
) -> list[tuple[Array, Array]]:
    """Return given weights and biases layer by layer, after a check of their shapes.

    Those of several members have the member axis first. The biases of a layer may be a matrix
    with one row.

    Raises
    ------
    ValueError
        If a shape is not that of the network, or an array holds no real numbers. `name` says what
        the user should look at, `advice` how to get another network.
    """
    shapes = network.shapes["weights"]
    if not (_is_list(coefs) and _is_list(intercepts)):
        raise ValueError(
            f"{name} must be a list of weights and a list of intercepts, one array for each "
            f"layer, got {_named(coefs)} and {_named(intercepts)}."
        )
    if len(coefs) != len(shapes) or len(intercepts) != len(shapes):
        raise ValueError(
            f"{name} has {len(coefs)} arrays of weights and {len(intercepts)} of intercepts, but "
            f"the network has {len(shapes)} layers of weights: one of each is needed for each."
            f"{advice}"
        )
    axis = () if n_members == 1 else (n_members,)
    layers = []
    for i, shape in enumerate(shapes):
        weights, biases = _as_numbers(coefs[i]), _as_numbers(intercepts[i])
        needed = axis + shape, axis + shape[1:]
        if biases.shape == (*axis, 1, *shape[1:]):
            biases = biases.reshape(needed[1])
        if (weights.shape, biases.shape) != needed:
            raise ValueError(
                f"{name} has weights of shape {weights.shape} and intercepts of shape "
                f"{biases.shape} for layer {i}, but the network needs {needed[0]} and {needed[1]}."
                f"{advice}"
            )
        if not {weights.dtype.kind, biases.dtype.kind} <= _REAL:
            raise ValueError(
                f"{name} must hold real numbers, got arrays of {weights.dtype} and {biases.dtype} "
                f"for layer {i}."
            )
        layers.append((weights, biases))
    return layers


def checked_arrays(
    arrays: Any, shapes: Sequence[tuple[int, ...]], name: str, n_members: int
) -> list[Array]:
    """Return given arrays, one for each layer that has such, after a check of their shapes.

    Those of several members have the member axis first.
    """
    axis = () if n_members == 1 else (n_members,)
    needed = [axis + shape for shape in shapes]
    checked = list(map(_as_numbers, arrays)) if _is_list(arrays) else []
    given = [array.shape for array in checked]
    if given != needed:
        raise ValueError(
            f"{name} must be a list of arrays, one for each layer that has them, of the shapes "
            f"{needed}, got {given if _is_list(arrays) else _named(arrays)}."
        )
    return checked


def members_of_layers(
    layers: list[tuple[Array, Array]], n_members: int
) -> list[list[tuple[Array, Array]]]:
    """Return each member's weights and biases, layer by layer."""
    if n_members == 1:
        return [layers]
    return [[(weights[i], biases[i]) for weights, biases in layers] for i in range(n_members)]


def _is_list(values: Any) -> bool:
    """Return whether there may be an array for each layer in it: an array of arrays will do."""
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)


def _as_numbers(values: Any) -> Array:
    """Return an array, one of numbers where it is one of objects that are numbers.

    Layers of one shape become that if they are made a single array of objects.
    """
    array = np.asarray(values)
    if array.dtype == object:
        with suppress(TypeError, ValueError):
            return array.astype(np.float64)
    return array


def _named(value: Any) -> str:
    """Return what a value is, for a message in which it would take too much room."""
    return "None" if value is None else f"a value of type {type(value).__name__}"
