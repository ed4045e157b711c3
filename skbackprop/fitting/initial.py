"""Where the initial weights of networks come from: drawn from a distribution, or given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..activations import Activation
from ..core.arrays import Array
from ..engine.network import Network
from ..initializers import INITIALIZERS, BoundedUniform, Initializer
from .architecture import as_activation
from .weights import checked_layers, has_member_axis, members_of_layers

Layers: TypeAlias = list[tuple[Array, Array]]
"""The weights and biases of each layer."""

CoefsAndIntercepts: TypeAlias = tuple[Any, Any] | list[Any]
"""The weights of all layers, and their biases, as users give them."""


@dataclass(frozen=True)
class Drawn:
    """Weights that are drawn from a distribution.

    Parameters
    ----------
    initializer : Initializer or None
        What draws each layer; None for what suits its activation, and for the last layer what
        suits the one before.
    of_one_layer : Initializer
        What draws the only layer of a network that has no activation to go by.
    """

    initializer: Initializer | None
    of_one_layer: Initializer

    def layers(self, network: Network, stream: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases, drawn from its stream."""
        n_layers = len(network.shapes["weights"])
        initializers = [activation.initializer for activation in network.activations]
        if self.initializer is not None:
            initializers = [self.initializer] * n_layers
        elif not initializers:
            initializers = [self.of_one_layer]
        else:
            initializers.append(initializers[-1])
        return network.draw(initializers, stream)


@dataclass(frozen=True, eq=False)
class Given:
    """Weights that the user gives.

    Parameters
    ----------
    coefs, intercepts : list of arrays
        One of each for each layer. With a member axis they are each member's own, else all start
        from them.
    n_members : int
        The number of members.
    """

    coefs: Any
    intercepts: Any
    n_members: int

    def layers(self, network: Network, stream: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases, checked."""
        n_given = self.n_members if has_member_axis(self.coefs) else 1
        layers = checked_layers(self.coefs, self.intercepts, network, "init", n_given)
        if not all(np.isfinite(array).all() for layer in layers for array in layer):
            raise ValueError("init contains NaN or infinity: initial weights have to be finite.")
        return members_of_layers(layers, n_given)[member % n_given]


class Initial(Protocol):
    """Where initial weights come from: `Drawn`, `Given`, or any other such thing."""

    def layers(self, network: Network, stream: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases."""


def initial_weights(parameters: Mapping[str, Any]) -> Initial:
    """Return where an estimator's parameters say that weights come from."""
    init = parameters["init"]
    if isinstance(init, (tuple, list)):
        if len(init) != 2:
            raise ValueError(
                "init must be a name, an Initializer or a pair (coefs, intercepts), got a "
                f"{type(init).__name__} of length {len(init)}."
            )
        coefs, intercepts = init
        return Given(coefs, intercepts, int(parameters.get("n_members", 1)))
    activation = parameters["activation"]
    is_one = isinstance(activation, (str, Activation))
    # Without hidden layers the activation makes no difference but here, as in scikit-learn.
    of_one_layer = as_activation(activation).initializer if is_one else BoundedUniform()
    if isinstance(init, str):
        init = None if init == "auto" else INITIALIZERS[init]
    return Drawn(init, of_one_layer)


def member_init(init: Any, member: int) -> Any:
    """Return the parameter `init` of one member as that of a single network."""
    if isinstance(init, (tuple, list)) and len(init) == 2 and has_member_axis(init[0]):
        return tuple([array[member] for array in arrays] for arrays in init)
    return init
