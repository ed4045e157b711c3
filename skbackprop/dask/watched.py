"""Rows on the workers by which training is watched: the scores of each epoch come to the client."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.arrays import Array
from ..engine.batches import Table
from ..engine.network import Network
from ..engine.parameters import FlatParameters, Parameters
from ..fitting.watch import Judge, Watched
from .blocks import Block, Blocks
from .crew import Crew
from .part import Setting


class Elsewhere:
    """The input of rows on the workers.

    Parameters
    ----------
    blocks : Blocks
        The rows, with encoded targets.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.shape = blocks.n_rows, blocks.facts[0].n_features
        self.dtype = blocks.facts[0].dtype
        self._crew: Crew | None = None

    def scores(self, network: Network, parameters: FlatParameters, setting: Setting) -> Array:
        """Return the scores of all rows, in their order."""
        self._crew = self._crew or Crew(self.blocks, setting)
        theta, statistics = parameters.theta, parameters.statistics
        answers = self._crew.call("scores", theta, statistics)
        return np.concatenate(self._crew.in_order(answers))[None]


def watched_on(blocks: Blocks) -> Watched:
    """Return rows to be watched, of which targets and weights are here and the input is not."""
    here = blocks.each(_without_input)
    y = np.concatenate([block.y for block in here])
    weights = [block.weight for block in here if block.weight is not None]
    table = Table(Elsewhere(blocks), y, np.concatenate(weights) if weights else None)
    return Watched(table, None, y)


def _without_input(block: Block) -> Block:
    return block._replace(X=block.X[:, :0])


class RemoteJudge:
    """A judge that lets the workers compute the scores of rows that they hold.

    Parameters
    ----------
    judge : Judge
        What makes loss and score of them.
    setting : Setting
        How the network is trained.
    """

    def __init__(self, judge: Judge, setting: Setting) -> None:
        self._judge, self._setting = judge, setting
        self.loss, self.score = judge.loss, judge.score

    def outcomes(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw scores."""
        return X.scores(network, parameters, self._setting)
