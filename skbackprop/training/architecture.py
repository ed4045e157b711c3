"""Validation of architecture parameters, and the layers and weights that they describe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import issparse

from ..activations import ActivationFunction, get_activation
from ..initializers import INITIALIZERS
from ..layers.base import Layer, Shape, expand_layers
from ..layers.dense import Activation
from ..layers.normalization import Normalization
from ..layers.reshaping import Flatten, Reshape
from ..nn.network import Network
from ..utils.arrays import Array


def check_row_shape(input_shape: Shape | None, row_shape: Shape) -> Shape:
    """Validate the shape of the rows of X, and return the input shape of the network.

    Raises
    ------
    ValueError
        If the rows have another shape than `input_shape`.
    """
    expected = input_shape or row_shape
    if row_shape != (expected if len(row_shape) > 1 else (math.prod(expected),)):
        raise ValueError(
            f"input_shape={expected} does not match X, whose rows have the shape {row_shape}. Set "
            "input_shape to the shape of one row, or to None to use the shape of X."
        )
    return expected


def expand_and_flatten(layers: Sequence[Layer], input_shape: Shape) -> tuple[list[Layer], Shape]:
    """Return the executed layers before the dense ones, and the shape (n_units,) after them."""
    shape, executed_layers = input_shape, list[Layer]()
    # The layer that has read a sequence and returned a vector.
    reader: Layer | None = None
    for i, layer in enumerate(layers):
        if reader is not None and layer.reads_sequences and len(shape) == 1:
            raise ValueError(
                f"layers[{i}]: {layer!r} reads sequences, but {reader!r} before it returns one "
                "vector for each row. Set return_sequences=True there, or remove one of the two."
            )
        try:
            parts, shape = expand_layers([layer], shape)
        except ValueError as error:
            hint = ""
            if len(input_shape) == 3 and input_shape[0] < min(input_shape[1:]):
                hint = (
                    f" Rows of shape {input_shape} are read as (height, width, channels). If the "
                    "channels come first, move them to the end, as by np.moveaxis(X, 1, -1)."
                )
            raise ValueError(f"layers[{i}]: {error}{hint}") from None
        executed_layers += parts
        if len(shape) > 1:
            reader = None
        elif layer.reads_sequences:
            reader = layer
    if len(shape) > 1:
        executed_layers.append(Flatten())
        shape = (math.prod(shape),)
    return executed_layers, shape


def mirror_layers(layers: Sequence[Layer], input_shape: Shape) -> list[Layer]:
    """Return the executed layers of a decoder after its dense layers: the mirror of `layers`.

    Raises
    ------
    ValueError
        If a layer has no mirror image.
    """
    shapes = [input_shape]
    for layer in layers:
        shapes.append(expand_layers([layer], shapes[-1])[1])
    decoder: list[Layer] = []
    if len(shapes[-1]) > 1:
        decoder.append(Reshape(shapes[-1]))
    for i, layer in reversed(list(enumerate(layers))):
        try:
            image = layer.mirror(shapes[i])
        except NotImplementedError:
            raise ValueError(
                f"layers[{i}]: {layer!r} has no mirror image, but the decoder needs one. Use "
                "another layer, such as GRU, Conv1D or Conv2D, or define mirror(input_shape) in a "
                "custom layer."
            ) from None
        _, shape = expand_layers(image, shapes[i + 1])
        if math.prod(shape) != math.prod(shapes[i]):
            raise ValueError(
                f"layers[{i}]: the mirror image of {layer!r} returns rows of shape {shape}, "
                f"but must return as many values as {shapes[i]} has."
            )
        decoder += [replace(part, trainable=True) for part in image]
        if shape != shapes[i]:  # one channel may come without an axis
            decoder.append(Reshape(shapes[i]))
    for i in range(len(decoder) - 1):
        layer, next_layer = decoder[i : i + 2]
        if isinstance(layer, Activation) and isinstance(next_layer, Normalization):
            decoder[i : i + 2] = next_layer, layer
    # Raw predictions have one axis, and the loss applies the link function to them.
    dropped = Activation, Normalization, Reshape
    while decoder and (decoder[-1].stochastic or isinstance(decoder[-1], dropped)):
        decoder.pop()
    return expand_layers(decoder, (math.prod(shapes[-1]),))[0]


def check_first_layer(layers: Sequence[Layer], X: Any) -> None:
    """Check that the first of the `layers` can read X.

    Raises
    ------
    TypeError
        If X is sparse and there are layers that would make it dense.
    ValueError
        If the first layer can not read the values of X.
    """
    if layers and issparse(X):
        raise TypeError(
            f"layers={list(layers)!r} need a dense X, because their output has few zeros, got a "
            "sparse X. Pass X.toarray(), or set layers=None."
        )
    if layers:
        layers[0].validate_input_values(X)


def validate_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Validate `hidden_layer_sizes` and return the widths of the hidden layers."""
    is_sequence = isinstance(hidden_layer_sizes, Iterable)
    widths = list(hidden_layer_sizes) if is_sequence else [hidden_layer_sizes]
    for width in widths:
        if not isinstance(width, Integral) or width <= 0:
            raise ValueError(
                "hidden_layer_sizes must be > 0: one positive integer for each hidden layer, or () "
                f"for none, got {hidden_layer_sizes!r}."
            )
    return tuple(map(int, widths))


def get_activations(
    activation: Any, hidden_layer_sizes: Sequence[int]
) -> tuple[ActivationFunction, ...]:
    """Validate `activation` and return the function of each hidden layer."""
    n_hidden = len(hidden_layer_sizes)
    if isinstance(activation, (str, ActivationFunction)):
        return (get_activation(activation),) * n_hidden
    functions = tuple(get_activation(str(x) if isinstance(x, str) else x) for x in activation)
    if len(functions) != n_hidden:
        raise ValueError(
            f"activation must have one entry for each of the {n_hidden} hidden layer(s) of "
            f"hidden_layer_sizes={tuple(hidden_layer_sizes)!r}, got {len(functions)}. Pass one for "
            "each layer, or a single name or ActivationFunction for all."
        )
    return functions


def validate_input_shape(input_shape: Any) -> Shape | None:
    """Validate `input_shape` and return it as a tuple of int, or None."""
    if input_shape is None:
        return None
    sizes = list(input_shape) if isinstance(input_shape, (list, tuple)) else [input_shape]
    is_valid = all(isinstance(size, Integral) and not isinstance(size, bool) for size in sizes)
    if not (sizes and is_valid and min(sizes) > 0):
        raise ValueError(
            "input_shape must be None or the shape of one row of X as a tuple of positive "
            "integers, such as (28, 28) or (28, 28, 3) for images and (200, 3) for sequences, got "
            f"{input_shape!r}."
        )
    return tuple(map(int, sizes))


def validate_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Validate `dropout` and return the rates of input and hidden layers; empty if all are 0."""
    is_array = isinstance(dropout, np.ndarray) and dropout.ndim == 1
    is_sequence = is_array or isinstance(dropout, (list, tuple))
    rates = list(dropout) if is_sequence else [0.0] + [dropout] * n_hidden
    is_valid = len(rates) == 1 + n_hidden
    for rate in rates if is_sequence else [dropout]:
        is_number = isinstance(rate, Real) and not isinstance(rate, bool)
        is_valid = is_valid and is_number and 0 <= rate < 1
    if not is_valid:
        raise ValueError(
            "dropout must be one rate in [0, 1) for all hidden layers, or a sequence of "
            f"{1 + n_hidden} such rates, one for the input and one for each of the {n_hidden} "
            f"hidden layers, got {dropout!r}."
        )
    return tuple(map(float, rates)) if any(rates) else ()


def has_member_axis(coefs: Any) -> bool:
    """Return whether weights have a member axis, as those of several networks have."""
    return _is_list(coefs) and len(coefs) > 0 and np.ndim(coefs[0]) == 3


def layer_widths(coefs: Any) -> tuple[int, ...]:
    """Return the widths of the layers that weights connect, with or without a member axis.

    Raises
    ------
    ValueError
        If `coefs` is not a list of matrices.
    """
    shapes = [np.shape(weights) for weights in coefs] if _is_list(coefs) else []
    if not shapes or any(len(shape) not in (2, 3) for shape in shapes):
        raise ValueError(
            "coefs must be a list with an array of shape (fan_in, fan_out) for each layer, got "
            f"{f'arrays of the shapes {shapes}' if shapes else type(coefs).__name__}."
        )
    return (shapes[0][-2], *(shape[-1] for shape in shapes))


def validate_coefs(
    coefs: Any, intercepts: Any, network: Network, n_estimators: int = 1
) -> list[tuple[Array, Array]]:
    """Validate the weights and biases of `init` and return them layer by layer.

    Arrays of several networks have the member axis first.

    Raises
    ------
    ValueError
        If a shape does not match the network, or an array does not hold real numbers.
    """
    shapes = network.shapes["weights"]
    given = [len(x) if _is_list(x) else type(x).__name__ for x in (coefs, intercepts)]
    if given != [len(shapes)] * 2:
        raise ValueError(
            f"init must have a list of {len(shapes)} arrays of weights and a list of "
            f"{len(shapes)} arrays of intercepts, one for each layer, got {given[0]} and "
            f"{given[1]}."
        )
    axis = () if n_estimators == 1 else (n_estimators,)
    return [
        (
            validate_array(coefs[i], axis + shape, f"init: the weights of layer {i}"),
            validate_array(intercepts[i], axis + shape[1:], f"init: the biases of layer {i}"),
        )
        for i, shape in enumerate(shapes)
    ]


def validate_array(value: Any, shape: tuple[int, ...], name: str) -> Array:
    """Return an array of real numbers of this shape, after a check.

    A vector may have an axis of length one before its last, as NumPy's biases often have.
    """
    array = np.asarray(value)
    if array.shape == (*shape[:-1], 1, shape[-1]):
        array = array.reshape(shape)
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be an array of real numbers of shape {shape}, got one of shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    return array


def _is_list(values: Any) -> bool:
    """Return whether a value is a list of arrays, or an array of them."""
    return isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)


CoefsAndIntercepts: TypeAlias = tuple[Any, Any] | list[Any]
"""The weights and the biases of all layers, as users give them."""


def get_init(init: Any, activation: Any, *, is_single_layer: bool) -> Any:
    """Return the initializer of all layers, None for the layers' own, or (coefs, intercepts).

    Without hidden layers, the activation only selects the initializer, as in scikit-learn.
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
    is_single = isinstance(activation, (str, ActivationFunction))
    return get_activation(activation).initializer if is_single_layer and is_single else None


def make_initial_weights(
    init: Any, network: Network, rng: np.random.RandomState, member: int, n_estimators: int
) -> list[tuple[Array, Array]]:
    """Return the initial weights and biases of one network, layer by layer.

    Parameters
    ----------
    init : Initializer, None or (coefs, intercepts)
        As from `get_init`. Weights with a member axis differ by network; without one, all networks
        start from the same weights.
    network : Network
        The architecture.
    rng : RandomState
        The random stream for the weights.
    member, n_estimators : int
        The number of the network, and the number of networks.
    """
    if not isinstance(init, tuple):
        return network.draw_weights(rng, init)
    coefs, intercepts = init
    n_networks = n_estimators if has_member_axis(coefs) else 1
    layers = validate_coefs(coefs, intercepts, network, n_networks)
    if not all(np.isfinite(array).all() for layer in layers for array in layer):
        raise ValueError("init must contain only finite numbers, got NaN or infinity.")
    if n_networks == 1:
        return layers
    return [(weights[member], biases[member]) for weights, biases in layers]


def get_member_init(init: Any, member: int) -> Any:
    """Return the parameter `init` for one of several networks."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init
