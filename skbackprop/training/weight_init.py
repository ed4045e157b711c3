"""Initial weights: random or given by the user, and their validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..activations import ActivationFunction, get_activation
from ..initializers import INITIALIZERS, GlorotUniform, Initializer
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


def validate_layers(
    coefs: Any,
    intercepts: Any,
    network: Network,
    name: str,
    n_estimators: int = 1,
    advice: str = "",
) -> list[tuple[Array, Array]]:
    """Validate given weights and biases and return them layer by layer.

    Those of several networks have the member axis first. The biases of a layer may be a matrix
    with one row.

    Raises
    ------
    ValueError
        If a shape is not that of the network, or an array has no real numbers. `name` is named in
        the error, `advice` is added to it.
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
            f"one for each layer, got {len(coefs)} and {len(intercepts)}.{advice}"
        )
    axis = () if n_estimators == 1 else (n_estimators,)
    layers = []
    for i, shape in enumerate(shapes):
        weights, biases = _as_numbers(coefs[i]), _as_numbers(intercepts[i])
        needed = axis + shape, axis + shape[1:]
        if biases.shape == (*axis, 1, *shape[1:]):
            biases = biases.reshape(needed[1])
        if (weights.shape, biases.shape) != needed:
            raise ValueError(
                f"{name} must have weights of shape {needed[0]} and intercepts of shape "
                f"{needed[1]} for layer {i}, got {weights.shape} and {biases.shape}.{advice}"
            )
        if not {weights.dtype.kind, biases.dtype.kind} <= _REAL:
            raise ValueError(
                f"{name} must contain real numbers, got arrays of {weights.dtype} and "
                f"{biases.dtype} for layer {i}."
            )
        layers.append((weights, biases))
    return layers


def validate_arrays(
    arrays: Any, shapes: Sequence[tuple[int, ...]], name: str, n_estimators: int
) -> list[Array]:
    """Validate given arrays, one for each layer that has such, and return them.

    Those of several networks have the member axis first.
    """
    axis = () if n_estimators == 1 else (n_estimators,)
    needed = [axis + shape for shape in shapes]
    checked = list(map(_as_numbers, arrays)) if _is_list(arrays) else []
    given = [array.shape for array in checked]
    if given != needed:
        raise ValueError(
            f"{name} must be a list of arrays of the shapes {needed}, one for each layer with such "
            f"an array, got {given if _is_list(arrays) else _describe_briefly(arrays)}."
        )
    return checked


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


Layers: TypeAlias = list[tuple[Array, Array]]
"""The weights and biases of each layer."""

CoefsAndIntercepts: TypeAlias = tuple[Any, Any] | list[Any]
"""The weights and the biases of all layers, as users give them."""


@dataclass(frozen=True)
class RandomInit:
    """Random initial weights.

    Parameters
    ----------
    initializer : Initializer or None
        Initializer of all layers; None for the layers' own, which suit their activations.
    of_one_layer : Initializer
        The initializer of a network with a single layer, which has no activation.
    """

    initializer: Initializer | None
    of_one_layer: Initializer

    def layers(self, network: Network, rng: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases, drawn from its stream."""
        is_one_layer = len(network.shapes["weights"]) == 1
        of_layers = self.of_one_layer if is_one_layer else None
        return network.draw_weights(rng, self.initializer or of_layers)


@dataclass(frozen=True, eq=False)
class FixedInit:
    """Initial weights given by the user.

    Parameters
    ----------
    coefs, intercepts : list of arrays
        One of each for each layer. With a member axis each network has its own, else all start
        from the same.
    n_estimators : int
        The number of networks.
    """

    coefs: Any
    intercepts: Any
    n_estimators: int

    def layers(self, network: Network, rng: np.random.RandomState, member: int) -> Layers:
        """Validate the weights and return those of one network."""
        n_given = self.n_estimators if has_member_axis(self.coefs) else 1
        layers = validate_layers(self.coefs, self.intercepts, network, "init", n_given)
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise ValueError("init must contain only finite numbers, got NaN or infinity.")
        if n_given == 1:
            return layers
        i = member % n_given
        return [(weights[i], biases[i]) for weights, biases in layers]


@runtime_checkable
class WeightInit(Protocol):
    """Initial weights of networks: `RandomInit`, `FixedInit` or the like."""

    def layers(self, network: Network, rng: np.random.RandomState, member: int) -> Layers:
        """Return the initial weights and biases of a network."""


def make_weight_init(parameters: Mapping[str, Any]) -> WeightInit:
    """Return the `WeightInit` for an estimator's parameters."""
    init = parameters["init"]
    if isinstance(init, WeightInit):
        return init
    if isinstance(init, (tuple, list)):
        if len(init) != 2:
            raise ValueError(
                "init must be a name, an Initializer or a pair (coefs, intercepts), got a "
                f"{type(init).__name__} of length {len(init)}."
            )
        coefs, intercepts = init
        return FixedInit(coefs, intercepts, int(parameters.get("n_estimators", 1)))
    activation = parameters["activation"]
    is_one = isinstance(activation, (str, ActivationFunction))
    # Without hidden layers the activation only matters here, as in scikit-learn.
    of_one_layer = get_activation(activation).initializer if is_one else GlorotUniform()
    if isinstance(init, str):
        init = None if init == "auto" else INITIALIZERS[init]
    return RandomInit(init, of_one_layer)


def get_member_init(init: Any, member: int) -> Any:
    """Return the parameter `init` for one of several networks."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init
