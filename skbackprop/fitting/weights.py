"""Initial weights and the streams that draw them; checks of weights that a user gives."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..activations import Activation
from ..core.arrays import Array
from ..engine.network import Network
from ..initializers import INITIALIZERS, BoundedUniform, Initializer
from .plan import as_activation

_LARGEST_SEED = np.iinfo(np.int32).max

# The kinds of dtypes that hold real numbers.
_REAL = frozenset("biuf")


def member_streams(random_state: Any, n_members: int) -> list[np.random.RandomState]:
    """Return what draws each member's weights and rows: for the first, the user's own stream.

    Without a seed that is NumPy's global stream, as in scikit-learn. The seeds of the others are
    drawn from a copy of it, so that it is where it would be without them.
    """
    first: np.random.RandomState = check_random_state(random_state)
    if n_members == 1:
        return [first]
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_members - 1).tolist()
    return [first, *map(np.random.RandomState, seeds)]


def stream_of_its_own() -> np.random.RandomState:
    """Return a stream with a seed from NumPy's global one."""
    return np.random.RandomState(check_random_state(None).randint(_LARGEST_SEED))


def initial_layers(
    settings: Any, network: Network, stream: np.random.RandomState, member: int = 0
) -> list[tuple[Array, Array]]:
    """Return a member's initial (weights, biases) of each layer: drawn, or as the user gave them.

    Given arrays with a member axis hold each member's own, others serve all members.
    """
    init = settings.init
    if isinstance(init, (tuple, list)):
        if len(init) != 2:
            raise ValueError(
                "init must be a name, an Initializer or a pair (coefs, intercepts), got a "
                f"{type(init).__name__} of length {len(init)}."
            )
        coefs, intercepts = init
        n_given = settings.n_members if _has_member_axis(coefs) else 1
        layers = checked_layers(coefs, intercepts, network, "init", n_given)
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise ValueError("init contains NaN or infinity: initial weights have to be finite.")
        return members_of_layers(layers, n_given)[member % n_given]
    if isinstance(init, str) and init == "auto":
        return network.draw(_initializers_of_activations(settings, network), stream)
    initializer = INITIALIZERS[init] if isinstance(init, str) else init
    return network.draw([initializer] * len(network.shapes["weights"]), stream)


def _initializers_of_activations(settings: Any, network: Network) -> list[Initializer]:
    """Return what draws each layer: its activation's own, and the last layer like the one before.

    Without hidden layers the activation makes no difference but here, as in scikit-learn.
    """
    initializers = [activation.initializer for activation in network.activations]
    if initializers:
        return [*initializers, initializers[-1]]
    is_one = isinstance(settings.activation, (str, Activation))
    return [as_activation(settings.activation).initializer if is_one else BoundedUniform()]


def member_init(init: Any, member: int) -> Any:
    """Return the initial weights of one member as those of a single network."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and _has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init


def _has_member_axis(coefs: Any) -> bool:
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
    coefs: Any, intercepts: Any, network: Network, name: str, n_members: int = 1
) -> list[tuple[Array, Array]]:
    """Return given weights and biases layer by layer, after a check of their shapes.

    Those of several members have the member axis first.

    Raises
    ------
    ValueError
        If a shape is not that of the network, or an array holds no real numbers; `name` says what
        the user should look at.
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
        )
    axis = () if n_members == 1 else (n_members,)
    layers = []
    for i, shape in enumerate(shapes):
        weights, biases = _as_numbers(coefs[i]), _as_numbers(intercepts[i])
        needed = axis + shape, axis + shape[1:]
        if (weights.shape, biases.shape) != needed:
            raise ValueError(
                f"{name} has weights of shape {weights.shape} and intercepts of shape "
                f"{biases.shape} for layer {i}, but the network needs {needed[0]} and {needed[1]}."
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
            f"{name} must be a list of arrays, one for each hidden layer, of the shapes {needed}, "
            f"got {given if _is_list(arrays) else _named(arrays)}."
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
