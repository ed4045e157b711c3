"""Architectures of networks, before the numbers of inputs and outputs are known."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Self, cast

import numpy as np
from scipy.sparse import issparse

from .. import layers as all_layers
from ..activations import ActivationFunction, Identity, get_activation
from ..layers import LAYERS
from ..layers.base import Layer, Shape, check_layers, expand_layers, has_sequence_layer
from ..layers.dense import Activation, Dense, Dropout
from ..layers.latent import Bottleneck, Sampling
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..layers.reshaping import Flatten, Reshape
from ..nn.network import Network, dense_network


@dataclass(frozen=True)
class MLPSpec:
    """Architecture of a network: layers of any kind, then dense hidden layers.

    Parameters
    ----------
    hidden : tuple of int
        The number of units in each hidden layer.
    activations : tuple of ActivationFunction
        The activation of each hidden layer.
    normalization : Normalization or None, default=None
        The normalization before each activation.
    dropout : tuple of float, default=()
        The dropout rates of the inputs and of each hidden layer; empty for no dropout.
    layers : tuple of Layer, default=()
        The layers before the hidden ones.
    input_shape : tuple of int or None, default=None
        The shape of one row; None for that of its columns.
    """

    hidden: tuple[int, ...]
    activations: tuple[ActivationFunction, ...]
    normalization: Normalization | None = None
    dropout: tuple[float, ...] = ()
    layers: tuple[Layer, ...] = ()
    input_shape: Shape | None = None

    @classmethod
    def from_params(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the architecture for an estimator's parameters."""
        hidden = validate_hidden_layer_sizes(parameters["hidden_layer_sizes"])
        return cls(
            hidden,
            tuple(map(get_activation, validate_activations(parameters))),
            get_normalization(parameters.get("normalization")),
            validate_dropout(parameters["dropout"], len(hidden)),
            check_layers_param(parameters.get("layers")),
            check_input_shape_param(parameters.get("input_shape")),
        )

    @property
    def reads_sequences(self) -> bool:
        """Whether a layer reads sequences, which may end in padding."""
        return has_sequence_layer(self.layers)

    def validate_input(self, X: Any) -> None:
        """Check that the first layer can read X.

        Raises
        ------
        TypeError
            If X is sparse and there are layers that would make it dense.
        ValueError
            If the first layer can not read the values of X.
        """
        if not self.layers:
            return
        if issparse(X):
            raise TypeError(
                f"layers={list(self.layers)!r} need a dense X, because their output has few zeros, "
                "got a sparse X. Pass X.toarray(), or set layers=None."
            )
        self.layers[0].validate_input_values(X)

    def network(self, row_shape: Shape, n_outputs: int) -> Network:
        """Return the network that predicts, without the dropout of hidden layers."""
        input_shape = self.check_row_shape(row_shape)
        layers, (n_units,) = self.layers_before_dense(input_shape)
        widths = n_units, *self.hidden, n_outputs
        dense = dense_network(widths, self.activations, normalization=self.normalization)
        return Network(input_shape, (*layers, *dense.layers))

    def check_row_shape(self, row_shape: Shape) -> Shape:
        """Return the input shape for rows of X of this shape.

        Raises
        ------
        ValueError
            If the rows have another shape than `input_shape`.
        """
        input_shape = self.input_shape or row_shape
        expected = input_shape if len(row_shape) > 1 else (math.prod(input_shape),)
        if row_shape != expected:
            raise ValueError(
                f"input_shape={input_shape} does not match X, whose rows have the shape "
                f"{row_shape}. Set input_shape to the shape of one row, or to None to use the "
                "shape of X."
            )
        return input_shape

    def layers_before_dense(self, input_shape: Shape) -> tuple[list[Layer], Shape]:
        """Return the executed layers before the dense ones, and the shape (n_units,) after them."""
        shape, executed = input_shape, list[Layer]()
        # The layer that has read a sequence and returned a vector.
        reader: Layer | None = None
        for i, layer in enumerate(self.layers):
            if reader is not None and layer.reads_sequences and len(shape) == 1:
                raise ValueError(
                    f"layers[{i}]: {layer!r} reads sequences, but {reader!r} before it returns one "
                    "vector for each row. Set return_sequences=True there, or remove one of the "
                    "two."
                )
            try:
                expanded, shape = expand_layers([layer], shape)
            except ValueError as error:
                raise ValueError(f"layers[{i}]: {error}") from None
            executed += expanded
            if len(shape) > 1:
                reader = None
            elif layer.reads_sequences:
                reader = layer
        if len(shape) > 1:
            executed.append(Flatten())
            shape = (math.prod(shape),)
        return executed, shape

    def shaped_parts(self, input_shape: Shape) -> tuple[Network, ...]:
        """Return the layers before the dense ones; for an autoencoder also those after them."""
        return (Network(input_shape, tuple(self.layers_before_dense(input_shape)[0])),)

    def update_network(self, network: Network) -> Network:
        """Return a network of an earlier fit with the settings that a warm start may change."""
        return network

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer; empty for no dropout."""
        return self.dropout


@dataclass(frozen=True)
class AutoencoderSpec(MLPSpec):
    """An encoder, a bottleneck without an activation, and a decoder that mirrors the encoder.

    Parameters
    ----------
    hidden, activations, normalization, dropout, layers, input_shape
        Of the encoder.
    n_components : int, default=1
        The number of units of the bottleneck.
    variational : bool, default=False
        Whether codes are drawn from normal distributions, whose means and log variances are the
        units of the bottleneck.
    beta : float, default=1.0
        The weight of their divergence from the standard normal distribution.
    """

    n_components: int = 1
    variational: bool = False
    beta: float = 1.0

    @classmethod
    def from_params(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the architecture for an autoencoder's parameters."""
        encoder = MLPSpec.from_params(parameters)
        return cls(
            encoder.hidden,
            encoder.activations,
            dropout=encoder.dropout,
            layers=encoder.layers,
            input_shape=encoder.input_shape,
            n_components=int(parameters["n_components"]),
            variational=bool(parameters["variational"]),
            beta=float(parameters["beta"]),
        )

    def network(self, row_shape: Shape, n_outputs: int) -> Network:
        """Return encoder and decoder as the network that predicts, without dropout.

        Its outputs are as many as its inputs.
        """
        input_shape = self.check_row_shape(row_shape)
        layers, (n_units,) = self.layers_before_dense(input_shape)
        widths = n_units, *self.hidden, self.n_components, *self.hidden[::-1], n_units
        dense = dense_network(widths, (*self.activations, Identity(), *self.activations[::-1]))
        n_before = 2 * len(self.hidden)
        bottleneck: tuple[Layer, ...] = dense.layers[n_before], Bottleneck(Identity())
        if self.variational:
            statistics = cast(Dense, dense.layers[n_before])
            bottleneck = replace(statistics, n_units=2 * self.n_components), Sampling(self.beta)
        encoder = *layers, *dense.layers[:n_before], *bottleneck
        decoder = *dense.layers[n_before + 2 :], *self.mirror_layers(input_shape)
        return Network(input_shape, (*encoder, *decoder))

    def mirror_layers(self, input_shape: Shape) -> list[Layer]:
        """Return the executed layers of the decoder after the dense ones.

        Raises
        ------
        ValueError
            If a layer has no mirror image.
        """
        shapes = [input_shape]
        for layer in self.layers:
            shapes.append(expand_layers([layer], shapes[-1])[1])
        mirrored: list[Layer] = []
        if len(shapes[-1]) > 1:
            mirrored.append(Reshape(shapes[-1]))
        for i, layer in reversed(list(enumerate(self.layers))):
            try:
                own = layer.mirror(shapes[i])
            except NotImplementedError:
                raise ValueError(
                    f"layers[{i}]: {layer!r} has no mirror image, but the decoder needs one. Use "
                    f"{', '.join(_mirrored_layers())}, or define mirror(input_shape) in a custom "
                    "layer."
                ) from None
            _, shape = expand_layers(own, shapes[i + 1])
            if math.prod(shape) != math.prod(shapes[i]):
                raise ValueError(
                    f"layers[{i}]: the mirror image of {layer!r} returns rows of shape {shape}, "
                    f"but must return as many values as {shapes[i]} has."
                )
            mirrored += own
            if shape != shapes[i]:  # of one channel, without an axis for it
                mirrored.append(Reshape(shapes[i]))
        for i in range(len(mirrored) - 1):
            layer, following = mirrored[i : i + 2]
            if isinstance(layer, Activation) and isinstance(following, Normalization):
                mirrored[i : i + 2] = following, layer
        # Raw predictions have one axis, and the loss has the link after them.
        while mirrored and isinstance(mirrored[-1], (Activation, Dropout, Normalization, Reshape)):
            mirrored.pop()
        return expand_layers(mirrored, (math.prod(shapes[-1]),))[0]

    def shaped_parts(self, input_shape: Shape) -> tuple[Network, ...]:
        """Return the layers before the dense ones, and those after them."""
        (front,) = super().shaped_parts(input_shape)
        after = Network(front.row_shapes[-1], tuple(self.mirror_layers(input_shape)))
        return front, after

    def update_network(self, network: Network) -> Network:
        """Return a network of an earlier fit with the present `beta`."""
        if not self.variational:
            return network
        layers = (Sampling(self.beta) if isinstance(a, Sampling) else a for a in network.layers)
        return Network(network.input_shape, tuple(layers))

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer of both halves; empty for no dropout."""
        return (*self.dropout, 0.0, *self.dropout[:0:-1]) if self.dropout else ()


def _mirrored_layers() -> list[str]:
    """Return the names of the layers that have a mirror image."""
    kinds = {name: getattr(all_layers, name) for name in all_layers.__all__}
    return [
        name
        for name, kind in kinds.items()
        if isinstance(kind, type) and getattr(kind, "mirror", Layer.mirror) is not Layer.mirror
    ]


def validate_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Validate `hidden_layer_sizes` and return the widths of the hidden layers."""
    is_sequence = isinstance(hidden_layer_sizes, Iterable)
    widths = list(hidden_layer_sizes) if is_sequence else [hidden_layer_sizes]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(
            "hidden_layer_sizes must be > 0: one positive integer for each hidden layer, or () "
            f"for none, got {hidden_layer_sizes!r}."
        )
    return tuple(int(width) for width in widths)


def validate_activations(parameters: Mapping[str, Any]) -> tuple[str | ActivationFunction, ...]:
    """Validate `activation` and return the name or instance for each hidden layer."""
    hidden_layer_sizes, activation = parameters["hidden_layer_sizes"], parameters["activation"]
    n_hidden = len(validate_hidden_layer_sizes(hidden_layer_sizes))
    if isinstance(activation, (str, ActivationFunction)):
        return (activation,) * n_hidden
    each = tuple(str(part) if isinstance(part, str) else part for part in activation)
    for part in each:
        get_activation(part)
    if len(each) != n_hidden:
        raise ValueError(
            f"activation must have one entry for each of the {n_hidden} hidden layer(s) of "
            f"hidden_layer_sizes={hidden_layer_sizes!r}, got {len(each)}. Pass one for each layer, "
            "or a single name or ActivationFunction for all."
        )
    return each


def get_normalization(normalization: str | Normalization | None) -> Normalization | None:
    """Return the normalization for a name, an instance or None."""
    if isinstance(normalization, str):
        return NORMALIZATIONS[normalization]()
    return normalization


def check_layers_param(layers: Any) -> tuple[Layer, ...]:
    """Validate `layers` and return the layers, for names and instances."""
    return () if layers is None else check_layers(layers, LAYERS)


def check_input_shape_param(input_shape: Any) -> Shape | None:
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


def infer_n_features(architecture: MLPSpec, width: int, sizes: Mapping[str, int]) -> int:
    """Return the number of features of a network with given weights.

    Parameters
    ----------
    architecture : MLPSpec
        The architecture.
    width : int
        The number of inputs of the first hidden layer.
    sizes : dict
        The number of values in the given arrays of the layers before it, by name.

    Raises
    ------
    ValueError
        If no number of features, or more than one, belongs to these weights.
    """
    names = sorted(sizes)

    def excess(shape: Shape) -> tuple[int, ...]:
        """Return the excess of inputs of the first hidden layer, and of values of each array."""
        try:
            parts = architecture.shaped_parts(shape)
        except ValueError:
            return -1, *(0 for _ in names)
        n_values: Counter[str] = Counter()
        for part in parts:
            for name, own in part.shapes.items():
                n_values[name] += sum(map(math.prod, own))
        return parts[0].n_units[-1] - width, *(
            n_values[name] - sizes[name] if name in n_values else 0 for name in names
        )

    fits = (0, *(0 for _ in names))
    if architecture.input_shape is not None:
        n_features = math.prod(architecture.input_shape)
        if excess(architecture.input_shape)[0] == 0:
            return n_features
    else:
        limit = max(width, *sizes.values()) if sizes else width
        n_features = 1 + bisect_left(range(1, limit + 1), fits, key=lambda n: excess((n,)))
        if excess((n_features,)) == fits != excess((n_features + 1,)):
            return n_features
    raise ValueError(
        f"coefs_ with {width} inputs and layers={list(architecture.layers)!r} do not determine the "
        "number of features. Set n_features_in_ or input_shape, and set layers to the layers of "
        "the network."
    )


def validate_dropout(dropout: Any, n_hidden: int) -> tuple[float, ...]:
    """Validate `dropout` and return the rates of input and hidden layers; empty if all are 0."""
    if isinstance(dropout, Real):
        rates = [0.0] + [dropout] * n_hidden
    else:
        is_array = isinstance(dropout, np.ndarray) and dropout.ndim == 1
        rates = list(dropout) if is_array or isinstance(dropout, (list, tuple)) else []
    is_valid = len(rates) == 1 + n_hidden and all(
        isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool) and 0 <= rate < 1
        for rate in [dropout if isinstance(dropout, Real) else 0.0, *rates]
    )
    if not is_valid:
        raise ValueError(
            "dropout must be one rate in [0, 1) for all hidden layers, or a sequence of "
            f"{1 + n_hidden} such rates, one for the input and one for each of the {n_hidden} "
            f"hidden layers, got {dropout!r}."
        )
    return tuple(map(float, rates)) if any(rates) else ()
