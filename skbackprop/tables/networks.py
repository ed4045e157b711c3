"""The networks of tabular estimators: what stands before their dense layers, and how they begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..core.arrays import Array
from ..engine.network import Network
from ..estimators.classifier import BackpropClassifier
from ..estimators.learned import Learned, Prepared
from ..estimators.regressor import BackpropRegressor
from ..fitting.architecture import Architecture
from ..fitting.initial import Layers
from ..fitting.pieces import Pieces
from ..fitting.plan import Plan
from ..fitting.verdict import USED_UP
from ..layers.base import Layer
from ..layers.inputs import BlockMaps, Scale

# The outputs of the map of each block, beside which the number itself is an input.
N_EMBEDDED = 3


@dataclass(frozen=True)
class Embedded(Architecture):
    """Dense layers, and before them a map for each block of inputs, and a scale of all inputs.

    Parameters
    ----------
    hidden, activations, normalization, dropout
        Those of the dense layers.
    n_blocks, width : int, default=0
        The number of blocks at the beginning of a row, and the inputs of each.
    """

    n_blocks: int = 0
    width: int = 0

    def network(self, n_inputs: int, n_outputs: int) -> Network:
        """Return the network that predicts, without dropout."""
        front: list[Layer] = []
        n_units = n_inputs
        if self.n_blocks:
            front.append(BlockMaps(self.n_blocks, self.width, N_EMBEDDED))
            n_units = front[0].n_outputs(n_inputs)
        dense = super().network(n_units, n_outputs)
        return Network(n_inputs, (*front, Scale(), *dense.layers))


@dataclass(frozen=True, eq=False)
class NearTheMean:
    """Initial weights from which the first predictions are near the mean of the targets.

    Hidden weights have the variance 2 / fan_in, the last ones a hundredth of 1 / fan_in.

    Parameters
    ----------
    scores : array of shape (n_outputs,)
        The scores of the mean: the biases of the last layer.
    """

    scores: Array

    def layers(self, network: Network, stream: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases, drawn from its stream."""
        *hidden, last = network.shapes["weights"]
        layers = [(_normal(stream, 2**0.5, shape), np.zeros(shape[1])) for shape in hidden]
        return [*layers, (_normal(stream, 0.1, last), np.asarray(self.scores, float))]


def _normal(stream: np.random.RandomState, gain: float, shape: tuple[int, ...]) -> Array:
    drawn: Array = stream.normal(0, gain / shape[0] ** 0.5, shape)
    return drawn


class OfTable:
    """What the networks of both estimators have beside what the base classes know.

    Attributes
    ----------
    _front : tuple of int
        The number of blocks at the beginning of a row, and the columns of each.
    _scores_of_mean : array of shape (n_outputs,)
        The scores to begin with.
    """

    _kind_of_network: ClassVar[type[Architecture]] = Embedded
    _front: tuple[int, int]
    _scores_of_mean: Array
    _training: Any

    def _plan_of(self, parameters: Mapping[str, Any]) -> Plan:
        plan: Plan = super()._plan_of(parameters)  # type: ignore[misc]
        n_blocks, width = self._front
        architecture = replace(plan.architecture, n_blocks=n_blocks, width=width)  # type: ignore[call-arg]
        return replace(plan, architecture=architecture, initial=NearTheMean(self._scores_of_mean))

    def _keep(self, prepared: Prepared, continues: bool, pieces: Pieces | None = None) -> None:
        """Keep what came of the runs, for predictions in double precision.

        These do not depend on the rows beside a row by more than nobody can see. That all epochs
        were used up is what was wanted.
        """
        for run in prepared.runs:
            run.warnings = [message for message in run.warnings if not message.startswith(USED_UP)]
        super()._keep(prepared, continues, pieces)  # type: ignore[misc]
        self._learned: Learned = replace(self._learned, dtype=np.dtype(np.float64))
        for name in self._attributes_of(self._learned.network).values():  # type: ignore[attr-defined]
            arrays = getattr(self, name)
            if arrays is not None:
                setattr(self, name, [array.astype(np.float64) for array in arrays])
        del self._training


class TableClassifierNetworks(OfTable, BackpropClassifier):
    """Networks for the labels of a table; made by a `TabularClassifier`."""

    def member_scores(self, X: Array) -> Array:
        """Return the raw scores of each member, of shape (n_rows, n_members, n_outputs)."""
        scores: Array = self._outcome(X, lambda scores: scores.swapaxes(0, 1).copy())
        return scores


class TableRegressorNetworks(OfTable, BackpropRegressor):
    """Networks for the numbers of a table; made by a `TabularRegressor`."""
