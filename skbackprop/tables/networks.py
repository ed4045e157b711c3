"""The networks of tabular estimators: how they are built and begin, and what is made of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.arrays import Array
from ..engine.network import Network
from ..estimators.base import BaseBackprop
from ..estimators.classifier import BackpropClassifier
from ..estimators.learned import Data, Learned, Prepared
from ..estimators.regressor import BackpropRegressor
from ..estimators.resumable import resume_runs
from ..fitting.folds import Start
from ..fitting.initial import Layers
from ..fitting.pieces import Pieces
from ..fitting.plan import Plan
from ..fitting.problem import Problem
from ..fitting.run import Run
from ..fitting.verdict import OUT_OF_TIME, USED_UP
from ..layers.inputs import BlockMaps, Scale
from .calibration import calibrated
from .components import Watched

# The outputs of the map of each block, beside which the number itself is an input.
N_EMBEDDED = 3


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


class OfTable(BaseBackprop):
    """What the networks of both estimators have beside what the base classes know.

    Attributes
    ----------
    _front : tuple of int
        The number of blocks at the beginning of a row, and the columns of each.
    _scores_of_mean : array of shape (n_outputs,)
        The scores to begin with.
    _folds : array of int of shape (n,) or None
        The network that holds out each row; None where there are rows to watch.
    _resumed_from : pair of dict of arrays and path, or None
        What the next fit goes on from, and the checkpoint that had it; None for nothing.
    """

    _front: tuple[int, int]
    _scores_of_mean: Array
    _folds: Array | None
    _resumed_from: tuple[Mapping[str, Array], Path] | None
    _training: Any

    def _plan_of(self, parameters: Mapping[str, Any]) -> Plan:
        plan = super()._plan_of(parameters)
        n_blocks, width = self._front
        maps = (BlockMaps(n_blocks, width, N_EMBEDDED),) if n_blocks else ()
        architecture = replace(plan.architecture, input_layers=(*maps, Scale()))
        return replace(plan, architecture=architecture, initial=NearTheMean(self._scores_of_mean))

    def _folds_for(self, problem: Problem, starts: Sequence[Start]) -> Array | None:
        return self._folds

    def _runs(
        self,
        plan: Plan,
        learned: Learned,
        data: Data,
        starts: Sequence[Start],
        incremental: bool,
    ) -> list[Run]:
        runs = super()._runs(plan, learned, data, starts, incremental)
        if self._resumed_from:
            resume_runs(runs, *self._resumed_from)
        return runs

    def _keep(self, prepared: Prepared, continues: bool, pieces: Pieces | None = None) -> None:
        """Keep what came of the runs.

        That all epochs were used up is what was wanted; of the user's time limit, of which each leg
        has a part, there is one warning for all legs.
        """
        known = USED_UP, OUT_OF_TIME
        for run in prepared.runs:
            run.warnings = [message for message in run.warnings if not message.startswith(known)]
        super()._keep(prepared, continues, pieces)

    def finish(self, n_iter: Array) -> None:
        """End training, after so many epochs of each, for predictions in double precision.

        These do not depend on the rows beside a row by more than nobody can see.
        """
        self._learned: Learned = replace(self._learned, dtype=np.dtype(np.float64))
        for name in self._attributes_of(self._learned.network).values():
            arrays = getattr(self, name)
            if arrays is not None:
                setattr(self, name, [array.astype(np.float64) for array in arrays])
        self.n_iter_ = n_iter
        del self._training, self._folds, self._resumed_from


class TableClassifierNetworks(OfTable, BackpropClassifier):
    """Networks for the labels of a table; made by a `TabularClassifier`."""

    def outputs_of(self, scores: Array) -> Array:
        """Return the logits of members, of shape (n_members, n, n_outputs): their scores."""
        return scores

    def loss_of(self, said: Array, seen: Watched) -> float:
        """Return the mean log loss of what networks say of rows, with the best temperature."""
        _, loss = calibrated(said, seen.y, seen.weight)
        return loss


class TableRegressorNetworks(OfTable, BackpropRegressor):
    """Networks for the numbers of a table; made by a `TabularRegressor`."""

    def outputs_of(self, scores: Array) -> Array:
        """Return what members say of rows, of shape (n_members, n, n_outputs), by their scores.

        That is a prediction, or one for each level; or a mean and a variance.
        """
        said = self._means(scores)
        said = said.reshape(*said.shape[:2], -1)
        if not self._learns_deviation:
            return said
        each = [self._learned.loss.deviation(own) for own in scores]
        std = self._each_in_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([said, variance[..., None]], axis=2)

    def loss_of(self, said: Array, seen: Watched) -> float:
        """Return the share of the loss that is left unexplained, of what is said of rows."""
        if self._folds is not None:
            return 1 - float(self.oof_score_)
        learned = self._learned
        targets = self._known_targets(learned).encode(seen.y, needs_all=False)
        return 1 - float(learned.loss.score(self._scores(seen.X), targets, seen.weight))
