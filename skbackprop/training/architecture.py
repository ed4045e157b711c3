"""Architectures of networks, before the numbers of inputs and outputs are known."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse

from ..activations import ACTIVATIONS, ActivationFunction, Identity
from ..layers.input_layers import INPUT_LAYERS, FeatureLayer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..nn.network import Network, dense_network
from ..utils.validation import did_you_mean


@dataclass(frozen=True)
class MLPSpec:
    """A multilayer perceptron: input layers and dense hidden layers.

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
    input_layers : tuple of FeatureLayer, default=()
        The layers before the first dense layer.
    """

    hidden: tuple[int, ...]
    activations: tuple[ActivationFunction, ...]
    normalization: Normalization | None = None
    dropout: tuple[float, ...] = ()
    input_layers: tuple[FeatureLayer, ...] = ()

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the architecture for an estimator's parameters."""
        hidden = hidden_widths(parameters["hidden_layer_sizes"])
        return cls(
            hidden,
            tuple(map(get_activation, activation_of_each_layer(parameters))),
            get_normalization(parameters.get("normalization")),
            dropout_rates(parameters["dropout"], len(hidden)),
            check_input_layers_param(parameters.get("input_layers")),
        )

    def validate_input(self, X: Any) -> None:
        """Check that the input layers can read X.

        Raises
        ------
        TypeError
            If X is sparse and there are input layers, which would make it dense.
        ValueError
            If the first input layer cannot read the values of X.
        """
        if not self.input_layers:
            return
        if issparse(X):
            raise TypeError(
                f"X is sparse, but input_layers={list(self.input_layers)!r} need dense X: their "
                "output has few zeros. Pass X.toarray(), or set input_layers=None."
            )
        self.input_layers[0].validate_input_values(X)

    def network(self, n_inputs: int, n_outputs: int) -> Network:
        """Return the network that predicts, without dropout."""
        n_units = n_inputs
        for layer in self.input_layers:
            layer.validate_input_shape(n_units)
            n_units = layer.compute_n_outputs(n_units)
        widths = n_units, *self.hidden, n_outputs
        dense = dense_network(widths, self.activations, normalization=self.normalization)
        return Network(n_inputs, (*self.input_layers, *dense.layers))

    @property
    def rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer; empty for no dropout."""
        return self.dropout


@dataclass(frozen=True)
class AutoencoderSpec(MLPSpec):
    """An encoder, a bottleneck without an activation, and a decoder that mirrors the encoder.

    Parameters
    ----------
    hidden, activations, normalization, dropout, input_layers
        Of the encoder.
    n_components : int, default=1
        The number of units of the bottleneck.
    """

    n_components: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the architecture for an autoencoder's parameters."""
        encoder = MLPSpec.of(parameters)
        return cls(
            encoder.hidden,
            encoder.activations,
            dropout=encoder.dropout,
            n_components=int(parameters["n_components"]),
        )

    def network(self, n_inputs: int, n_outputs: int) -> Network:
        """Return encoder and decoder as the network that predicts, without dropout."""
        widths = n_inputs, *self.hidden, self.n_components, *self.hidden[::-1], n_outputs
        return dense_network(widths, (*self.activations, Identity(), *self.activations[::-1]))

    @property
    def rates(self) -> tuple[float, ...]:
        """The dropout rate before each dense layer of both halves; empty for no dropout."""
        return (*self.dropout, 0.0, *self.dropout[:0:-1]) if self.dropout else ()


def hidden_widths(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Validate `hidden_layer_sizes` and return the widths of the hidden layers."""
    is_sequence = isinstance(hidden_layer_sizes, Iterable)
    widths = list(hidden_layer_sizes) if is_sequence else [hidden_layer_sizes]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(
            "hidden_layer_sizes must be > 0: one positive integer for each hidden layer, or () "
            f"for none, got {hidden_layer_sizes!r}."
        )
    return tuple(int(width) for width in widths)


def activation_of_each_layer(parameters: Mapping[str, Any]) -> tuple[str | ActivationFunction, ...]:
    """Validate `activation` and return the name or instance for each hidden layer."""
    hidden_layer_sizes, activation = parameters["hidden_layer_sizes"], parameters["activation"]
    n_hidden = len(hidden_widths(hidden_layer_sizes))
    if isinstance(activation, (str, ActivationFunction)):
        return (activation,) * n_hidden
    each = tuple(str(part) if isinstance(part, str) else part for part in activation)
    for layer, part in enumerate(each):
        is_name = isinstance(part, str) and part in ACTIVATIONS
        if not (is_name or isinstance(part, ActivationFunction)):
            raise ValueError(
                f"activation must be a name or an Activation for each hidden layer, got {part!r} "
                f"for layer {layer}. The names are {', '.join(map(repr, ACTIVATIONS))}."
                f"{did_you_mean(part, ACTIVATIONS)}"
            )
    if len(each) != n_hidden:
        raise ValueError(
            f"activation has {len(each)} entries, but hidden_layer_sizes="
            f"{hidden_layer_sizes!r} makes {n_hidden} hidden layers: give one for each, "
            "or a single name or Activation for all of them."
        )
    return each


def get_activation(activation: str | ActivationFunction) -> ActivationFunction:
    """Return the activation function for a name or an instance."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


def get_normalization(normalization: str | Normalization | None) -> Normalization | None:
    """Return the normalization for a name, an instance or None."""
    if isinstance(normalization, str):
        return NORMALIZATIONS[normalization]()
    return normalization


def check_input_layers_param(input_layers: Any) -> tuple[FeatureLayer, ...]:
    """Validate `input_layers` and return the layers, for names and instances."""
    if input_layers is None:
        return ()
    is_sequence = isinstance(input_layers, (list, tuple))
    each = [
        INPUT_LAYERS[layer]() if isinstance(layer, str) and layer in INPUT_LAYERS else layer
        for layer in (input_layers if is_sequence else [input_layers])
    ]
    for layer in each:
        if not isinstance(layer, FeatureLayer):
            raise ValueError(
                "input_layers must be None, a name or an FeatureLayer, or a list of these, got "
                f"{layer!r}. The names are {', '.join(map(repr, INPUT_LAYERS))}; objects such as "
                "PeriodicEmbedding() are in skbackprop.layers."
            )
    for layer in each[1:]:
        if layer.is_first:
            raise ValueError(
                f"{type(layer).__name__} must be the first and only such layer of input_layers, "
                f"since it reads columns of X, got {each!r}."
            )
    return tuple(each)


def infer_n_features(input_layers: Sequence[FeatureLayer], width: int) -> int:
    """Return the number of inputs for which these layers have this number of outputs."""

    def n_outputs(n_inputs: int) -> int:
        for layer in input_layers:
            n_inputs = layer.compute_n_outputs(n_inputs)
        return n_inputs

    n_inputs = bisect_left(range(width + 1), width, key=n_outputs)
    if n_outputs(n_inputs) != width:
        raise ValueError(
            f"coefs_ takes {width} inputs, but input_layers={list(input_layers)!r} make another "
            "number of any number of features. Set input_layers to those of the network."
        )
    return n_inputs


def dropout_rates(dropout: Any, n_hidden: int) -> tuple[float, ...]:
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
