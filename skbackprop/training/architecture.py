"""What networks are made of, before it is known how many inputs and outputs they have."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse

from ..activations import ACTIVATIONS, ActivationFunction, Identity
from ..layers.embeddings import INPUT_LAYERS
from ..layers.feature_layers import FeatureLayer
from ..layers.normalization import NORMALIZATIONS, Normalization
from ..nn.network import Network, dense_network
from ..utils.validation import did_you_mean


@dataclass(frozen=True)
class MLPSpec:
    """Dense hidden layers, one after the other, and what comes before the first of them.

    Parameters
    ----------
    hidden : tuple of int
        The number of units in each hidden layer.
    activations : tuple of Activation
        One for each of them.
    normalization : Normalization or None, default=None
        What is made of the input of each activation.
    dropout : tuple of float, default=()
        The rates at which training leaves out inputs and the units of each hidden layer; empty
        where it leaves out none.
    input_layers : tuple of FeatureLayer, default=()
        What becomes of the inputs before the first dense layer.
    """

    hidden: tuple[int, ...]
    activations: tuple[ActivationFunction, ...]
    normalization: Normalization | None = None
    dropout: tuple[float, ...] = ()
    input_layers: tuple[FeatureLayer, ...] = ()

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return what an estimator's parameters make."""
        hidden = hidden_widths(parameters["hidden_layer_sizes"])
        return cls(
            hidden,
            tuple(map(check_activation_param, activation_of_each_layer(parameters))),
            check_normalization_param(parameters.get("normalization")),
            dropout_rates(parameters["dropout"], len(hidden)),
            check_input_layers_param(parameters.get("input_layers")),
        )

    def validate_input(self, X: Any) -> None:
        """Check that layers can be trained on X.

        Raises
        ------
        TypeError
            If X is sparse, but layers make other numbers of its zeros.
        ValueError
            If the first of them can not read what X holds.
        """
        if not self.input_layers:
            return
        if issparse(X):
            raise TypeError(
                f"X is sparse, but input_layers={list(self.input_layers)!r} need dense X: what "
                "they make of a row has few zeros. Pass X.toarray(), or set input_layers=None."
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
        """The rate of dropout before each layer of weights; empty for none."""
        return self.dropout


@dataclass(frozen=True)
class AutoencoderSpec(MLPSpec):
    """An encoder, a bottleneck without an activation, and a decoder that mirrors the encoder.

    Parameters
    ----------
    hidden, activations, normalization, dropout, input_layers
        Those of the encoder.
    n_components : int, default=1
        The number of units of the bottleneck.
    """

    n_components: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Return what an autoencoder's parameters make."""
        one_half = MLPSpec.of(parameters)
        return cls(
            one_half.hidden,
            one_half.activations,
            dropout=one_half.dropout,
            n_components=int(parameters["n_components"]),
        )

    def network(self, n_inputs: int, n_outputs: int) -> Network:
        """Return both halves as the network that predicts, without dropout."""
        widths = n_inputs, *self.hidden, self.n_components, *self.hidden[::-1], n_outputs
        return dense_network(widths, (*self.activations, Identity(), *self.activations[::-1]))

    @property
    def rates(self) -> tuple[float, ...]:
        """The rate of dropout before each layer of weights of both halves; empty for none."""
        return (*self.dropout, 0.0, *self.dropout[:0:-1]) if self.dropout else ()


def hidden_widths(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the widths of the hidden layers, checked."""
    is_sequence = isinstance(hidden_layer_sizes, Iterable)
    widths = list(hidden_layer_sizes) if is_sequence else [hidden_layer_sizes]
    if not all(isinstance(width, Integral) and int(width) > 0 for width in widths):
        raise ValueError(
            "hidden_layer_sizes must be > 0: one positive integer for each hidden layer, or () "
            f"for none, got {hidden_layer_sizes!r}."
        )
    return tuple(int(width) for width in widths)


def activation_of_each_layer(parameters: Mapping[str, Any]) -> tuple[str | ActivationFunction, ...]:
    """Return the name or instance for each hidden layer, checked."""
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


def check_activation_param(activation: str | ActivationFunction) -> ActivationFunction:
    """Return the activation behind a name; an instance is returned as it is."""
    return ACTIVATIONS[activation] if isinstance(activation, str) else activation


def check_normalization_param(normalization: str | Normalization | None) -> Normalization | None:
    """Return the normalisation behind a name; an instance or None is returned as it is."""
    if isinstance(normalization, str):
        return NORMALIZATIONS[normalization]()
    return normalization


def check_input_layers_param(input_layers: Any) -> tuple[FeatureLayer, ...]:
    """Return the layers behind names and instances, one of them or a list, checked."""
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
                f"{type(layer).__name__} must be the first of input_layers, since it reads columns "
                f"of X, and there may be but one, got {each!r}."
            )
    return tuple(each)


def infer_n_features(input_layers: Sequence[FeatureLayer], width: int) -> int:
    """Return how many inputs these layers make so many outputs of, which rise with them."""

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
    """Return the rates of the input and of each hidden layer, checked; empty if all are zero."""
    if isinstance(dropout, Real):
        rates = [0.0] + [dropout] * n_hidden
        is_valid = _is_rate(dropout)
    else:
        is_array = isinstance(dropout, np.ndarray) and dropout.ndim == 1
        rates = list(dropout) if is_array or isinstance(dropout, (list, tuple)) else []
        is_valid = len(rates) == 1 + n_hidden and all(map(_is_rate, rates))
    if not is_valid:
        raise ValueError(
            "dropout must be one rate in [0, 1) for all hidden layers, or a sequence of "
            f"{1 + n_hidden} such rates, one for the input and one for each of the {n_hidden} "
            f"hidden layers, got {dropout!r}."
        )
    return tuple(map(float, rates)) if any(rates) else ()


def _is_rate(value: Any) -> bool:
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    return is_number and not isinstance(value, bool) and bool(0 <= value < 1)
