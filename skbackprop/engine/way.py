"""The way through a network's layers: all of a pass that does not depend on its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..layers.base import Layer

Output: TypeAlias = Literal["buffer", "input", "matrices", "scores"]


@dataclass(frozen=True, slots=True)
class Step:
    """A layer on the way, and what follows from those before and after it.

    Parameters
    ----------
    layer : Layer
        The layer.
    index, n_inputs, n_outputs : int
        Its place in the network, and the columns before and after it.
    is_sparse : bool
        Whether its input is a list of CSR matrices.
    owns_input : bool
        Whether nobody else reads its input once it has gone forward.
    output : {"buffer", "input", "matrices", "scores"}
        Where its output goes: to a buffer of its own, to where its input is, to a list of CSR
        matrices, or with the last layer to the scores.
    turn : int or None
        To which of two buffers the gradient by its input goes: a layer reads one while it fills
        the other. None where none is wanted, or where it takes the memory of that by the output.
    """

    layer: Layer
    index: int
    n_inputs: int
    n_outputs: int
    is_sparse: bool
    owns_input: bool
    output: Output
    turn: int | None


class Way:
    """The way forward through the layers of a network, and back where that is wanted.

    Parameters
    ----------
    layers : sequence of Layer
        The layers. Those that are random are left out in prediction.
    n_units : sequence of int
        The number of inputs, and of the outputs of each layer.
    is_training : bool
        Whether there is a way back, down to the lowest layer that learns.
    is_sparse : bool
        Whether the input is sparse.
    is_by_input : bool, default=False
        Whether there is a way back out of training: to the input, through layers as they predict.

    Attributes
    ----------
    steps : list of Step
        The layers that are gone through.
    lowest : int
        The last step on the way back.
    turn : int
        To which of the two buffers d loss / d scores goes.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        n_units: Sequence[int],
        is_training: bool,
        is_sparse: bool,
        is_by_input: bool = False,
    ) -> None:
        has_way_back = is_training or is_by_input
        places = [i for i, layer in enumerate(layers) if is_training or not layer.is_random]
        last = layers[places[-1]]
        if has_way_back and last.needs_output:
            raise TypeError(
                f"{type(last).__name__} may not be the last layer in training: it would "
                "overwrite the scores. The loss has a link in its place."
            )
        learning = (step for step, i in enumerate(places) if layers[i].blocks(n_units[i]))
        self.lowest, self.turn = 0 if is_by_input else next(learning, len(places)), 0
        # The first step the gradient by whose input is wanted.
        self._first_by_input = 0 if is_by_input else self.lowest + 1
        self.steps: list[Step] = []
        owns_input = False
        for i in places:
            layer, n_inputs, n_outputs = layers[i], n_units[i], n_units[i + 1]
            if is_sparse and not layer.takes_sparse:
                raise TypeError(f"{type(layer).__name__} takes no sparse input. Pass X.toarray().")
            owns_input = owns_input and not is_sparse
            gives_sparse = is_sparse and layer.keeps_sparse
            output: Output = "buffer"
            if i == places[-1]:
                output = "scores"
            elif gives_sparse:
                output = "matrices"
            elif owns_input and layer.overwrites_input(has_way_back):
                output = "input"
            turn = self._next_turn(layer) if has_way_back else None
            self.steps.append(
                Step(layer, i, n_inputs, n_outputs, is_sparse, owns_input, output, turn)
            )
            is_sparse, owns_input = gives_sparse, not layer.needs_output

    def _next_turn(self, layer: Layer) -> int | None:
        """Return the buffer for the gradient by the layer's input, that by its output is next."""
        n_below = len(self.steps)
        if n_below < self.lowest or layer.overwrites_delta:
            return None
        turn, self.turn = self.turn, 1 - self.turn
        return turn if n_below >= self._first_by_input else None
