"""The rows of one worker, and what it computes of them between two exchanges with the client.

A `Part` is an actor: it lives on a worker beside its rows. It keeps buffers from call to call, and
nothing that a result depends on: what a call returns follows from its arguments and the rows. So
another worker that is given the same rows can take its place in any round.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from scipy.sparse import issparse, vstack

from ..core.arrays import BUFFER_SIZE, Array, Rows, State
from ..core.members import take_state
from ..engine.batches import Table
from ..engine.objective import Objective, exact_sum
from ..engine.parameters import FlatParameters
from ..engine.prediction import scores_of
from ..engine.stack import Stack
from ..engine.state import TrainingState
from ..engine.update import Rule
from ..engine.whole import WholeLoss
from ..fitting.threads import limiting_blas
from ..schedules.base import init_progress
from ..schedules.kinds import Constant
from .blocks import Block

Result = TypeVar("Result")

_GOLDEN = (5**0.5 - 1) / 2

# Numbers in the buffers of the rows that go through the network at once.
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Setting:
    """What all parts of a training have in common.

    Parameters
    ----------
    objective : Objective
        What is minimised, of one network.
    rule : Rule or None
        How a step is made; None where it is not here that steps are made.
    batch_size : int
        The rows of a batch.
    """

    objective: Objective
    rule: Rule | None
    batch_size: int


class Share(NamedTuple):
    """Which rows of a part a call is about: a piece of an epoch, of pieces of one size each.

    Parameters
    ----------
    order : int or None
        What the order of the rows in this epoch is drawn by; None for rows as they stand.
    masks : int
        What dropout's masks in this epoch are drawn by.
    piece, n_pieces : int
        The number of the piece, and how many make the epoch.
    """

    order: int | None
    masks: int
    piece: int
    n_pieces: int


class Gradient(NamedTuple):
    """A network's gradient by a part's rows of a batch, and what else a step is to know of them.

    Parameters
    ----------
    g : array of shape (1, p)
        The gradient of their mean loss.
    statistics : list of arrays
        The running statistics, brought up to date.
    weight : float
        What the rows weigh.
    loss : float
        The sum of their losses, each times its weight.
    """

    g: Array
    statistics: list[Array]
    weight: float
    loss: float


class Common(NamedTuple):
    """What all parts begin a round of steps with, and what each of them comes to.

    Parameters
    ----------
    theta : array of shape (n_members, p)
        The parameters.
    statistics, optimizer, average : dict
        Those of a `TrainingState`.
    """

    theta: Array
    statistics: State
    optimizer: State
    average: State

    @classmethod
    def of(cls, state: TrainingState) -> Self:
        """Return what a state has of it, the very same arrays."""
        parameters = state.parameters
        return cls(parameters.theta, parameters.statistics, state.optimizer, state.average)

    def member(self, i: int) -> Self:
        """Return that of one of several networks, as views."""
        own = slice(i, i + 1)
        return type(self)(self.theta[own], *(take_state(state, own) for state in self[1:]))

    def put_into(self, state: TrainingState) -> None:
        """Copy it into the arrays of a state."""
        own = Common.of(state)
        np.copyto(own.theta, self.theta)
        for kind, given in zip(own[1:], self[1:], strict=True):
            for name, array in given.items():
                np.copyto(kind[name], array)


class Steps(NamedTuple):
    """What the steps of a part on one network have come to.

    Parameters
    ----------
    common : Common
        What they have made of what they began with.
    n_rows : int
        The rows that the steps were made on.
    weight : float
        What they weigh.
    loss : float
        Their mean loss as it is reported, penalty included.
    """

    common: Common
    n_rows: int
    weight: float
    loss: float


class Raised(NamedTuple):
    """An exception of what was computed, unlike those of the connection."""

    error: Exception


def _answering(method: Callable[..., Result]) -> Callable[..., Result | Raised]:
    """Let a method return what it raises: who calls it can tell it from a worker that is lost."""

    @wraps(method)
    def answer(self: Part, *arguments: Any) -> Result | Raised:
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                return limiting_blas(lambda: method(self, *arguments), self.largest_product)
        except Exception as error:
            return Raised(error)

    return answer


def _member_of(theta: Array, statistics: State, i: int) -> tuple[Array, State]:
    """Return what is one network's of the parameters of several, as views."""
    own = slice(i, i + 1)
    return theta[own], take_state(statistics, own)


def piece_of(n_rows: int, number: int, share: Share) -> slice:
    """Return which rows of a block, in their order, are in a share of an epoch.

    It depends on the block alone, and not on who holds it or what else there is: so a batch has the
    same rows whoever computes it. Where a block does not divide evenly, the one row more comes at
    another time for each block, by multiples of the golden ratio, so that batches are of one size.
    """
    n_pieces = share.n_pieces
    shift = int(number * _GOLDEN % 1 * n_pieces)
    start, stop = ((n_rows * at + shift) // n_pieces for at in (share.piece, share.piece + 1))
    return slice(start, stop)


class Part:
    """The rows of one worker.

    Parameters
    ----------
    setting : Setting
        How they are trained on.
    numbers : sequence of int
        The numbers of its blocks among all.
    *blocks : Block
        The rows, in several blocks.

    Attributes
    ----------
    largest_product : int
        The multiplications in the largest matrix product of a step.
    """

    def __init__(self, setting: Setting, numbers: Sequence[int], *blocks: Block) -> None:
        network, is_sparse = setting.objective.network, issparse(blocks[0].X)
        self._setting, self._numbers, self._blocks = setting, numbers, blocks
        self._starts = np.cumsum([0, *(block.n_rows for block in blocks)])
        self._n_rows = int(self._starts[-1])
        self._n_at_once = max(1, _NUMBERS_AT_ONCE // network.n_of_row(is_sparse))
        self._orders: dict[int | None, list[Rows]] = {}
        self._losses: dict[int, WholeLoss] = {}
        self._stacks: dict[int, Stack] = {}
        self._parameters: FlatParameters | None = None
        self._masks = [np.random.default_rng()] if network.is_random else []
        self.largest_product = network.largest_product(setting.batch_size)

    # ------------------------------------------------------------------ what is computed

    @_answering
    def gradient(self, theta: Array, statistics: State, shares: Sequence[Share]) -> list[Gradient]:
        """Return the gradient of each network, by this part's share of its batch."""
        self._keep_orders(shares)
        each = enumerate(shares)
        return [self._gradient(*_member_of(theta, statistics, i), share) for i, share in each]

    @_answering
    def steps(self, common: Common, rates: Array, shares: Sequence[Share]) -> list[Steps]:
        """Return what steps of each network, on this part's share of its epoch, lead to."""
        self._keep_orders(shares)
        each = enumerate(shares)
        return [self._steps(common.member(i), rates[i : i + 1], share) for i, share in each]

    def _gradient(self, theta: Array, statistics: State, share: Share) -> Gradient:
        parameters = self._set(theta, statistics)
        self._draw_masks(share)
        g, weight, losses = np.zeros(theta.shape), 0.0, [0.0]
        for table in self._tables(share):
            loss = self._loss_of(table, parameters)
            losses += loss()
            g += loss.total * loss.gradients.theta
            weight += loss.total
        g /= weight or 1.0
        running = [array.copy() for array in parameters.statistics.values()]
        return Gradient(g.astype(theta.dtype), running, weight, exact_sum(losses))

    def _steps(self, common: Common, rate: Array, share: Share) -> Steps:
        rows = self._rows_of(share)
        if share.order is not None and len(self._blocks) > 1:  # so that each batch has some of all
            keys = share.order, self._numbers[0], share.piece
            np.random.default_rng(keys).shuffle(rows)
        table = self._gathered(rows)
        if table is None:
            return Steps(common, 0, 0.0, 0.0)
        stack = self._stack_of(table, common)
        common.put_into(stack.state)
        self._draw_masks(share)
        loss = stack.run_epoch(rate)
        weight = float(stack.batches.total_weights.item())
        reached = copy.deepcopy(Common.of(stack.state))  # the next network's steps go on in it
        return Steps(reached, table.n_rows, weight, loss.item())

    @_answering
    def scores(self, theta: Array, statistics: State) -> list[Array]:
        """Return the scores of all rows, block by block, as each of the networks predicts."""
        network = self._setting.objective.network
        parameters = FlatParameters(theta, statistics, network.layout)
        return [scores_of(network, parameters, block.X) for block in self._blocks]

    @_answering
    def echo(self, *arguments: Any) -> Any:
        """Return what it is given: what a round takes in which nothing is computed."""
        return arguments[0]

    @_answering
    def seconds_of_step(self, theta: Array, statistics: State, n_rows: int) -> float:
        """Return the time that the gradient of a batch of so many rows takes, at best."""
        parameters = self._set(theta, statistics)
        table = self._gathered(np.arange(min(n_rows, self._n_rows)))
        if table is None:
            return 0.0
        self._draw_masks(Share(None, 0, 0, 1))
        loss, best = self._loss_of(table, parameters), np.inf
        for _ in range(3):
            start = time.perf_counter()
            loss()
            best = min(best, time.perf_counter() - start)
        return float(best)

    # --------------------------------------------------------------------- rows of a share

    def _rows_of(self, share: Share) -> Rows:
        """Return the rows of a share: of each block its own, in the order drawn for it."""
        pieces = [
            start + self._order_of(i, share.order)[piece_of(block.n_rows, number, share)]
            for i, (start, number, block) in enumerate(
                zip(self._starts, self._numbers, self._blocks, strict=False)
            )
        ]
        return np.concatenate(pieces)

    def _order_of(self, i: int, drawn_by: int | None) -> Rows:
        """Return the order of a block's rows in an epoch."""
        if drawn_by not in self._orders:
            orders = [np.arange(block.n_rows) for block in self._blocks]
            if drawn_by is not None:
                for number, order in zip(self._numbers, orders, strict=True):
                    np.random.default_rng([drawn_by, number]).shuffle(order)
            self._orders[drawn_by] = orders
        return self._orders[drawn_by][i]

    def _keep_orders(self, shares: Sequence[Share]) -> None:
        """Forget all orders but those of the networks' epochs."""
        drawn_by = {share.order for share in shares}
        self._orders = {key: kept for key, kept in self._orders.items() if key in drawn_by}

    def _tables(self, share: Share) -> Iterator[Table]:
        """Yield the rows of a share in tables of so many as go through the network at once."""
        if share.n_pieces == 1:  # their order is of no account
            for block in self._blocks:
                for start in range(0, block.n_rows, self._n_at_once):
                    yield block.table(slice(start, start + self._n_at_once))
            return
        rows = self._rows_of(share)
        for start in range(0, len(rows), self._n_at_once):
            table = self._gathered(rows[start : start + self._n_at_once])
            if table is not None:
                yield table

    def _gathered(self, rows: Rows) -> Table | None:
        """Return a table of some rows; None for none."""
        if not len(rows):
            return None
        if len(self._blocks) == 1:
            return self._blocks[0].table(rows)
        of_block = np.searchsorted(self._starts, rows, side="right") - 1
        places = {i: np.flatnonzero(of_block == i) for i in np.unique(of_block).tolist()}
        weight = None
        if self._blocks[0].weight is not None:
            weight = self._out_of_blocks("weight", rows, places)
        X, y = (self._out_of_blocks(name, rows, places) for name in ("X", "y"))
        return Table(X, y, weight)

    def _out_of_blocks(self, name: str, rows: Rows, places: dict[int, Rows]) -> Any:
        """Return rows of X, y or the weights; those of each block go to places of their own."""
        arrays = [getattr(block, name) for block in self._blocks]
        parts = (arrays[i][rows[own] - self._starts[i]] for i, own in places.items())
        if issparse(arrays[0]):
            return vstack([*parts])[np.argsort(np.concatenate([*places.values()]))]
        dtype = np.result_type(*(array.dtype for array in arrays))
        whole = np.empty((len(rows), *arrays[0].shape[1:]), dtype)
        for own, part in zip(places.values(), parts, strict=True):
            whole[own] = part
        return whole

    # ------------------------------------------------------------------------- what is bound

    def _set(self, theta: Array, statistics: State) -> FlatParameters:
        """Return the parameters of this part, made those given."""
        if self._parameters is None:
            network = self._setting.objective.network
            self._parameters = network.layout.start(1, theta.dtype)
        np.copyto(self._parameters.theta, theta)
        for name, array in statistics.items():
            np.copyto(self._parameters.statistics[name], array)
        return self._parameters

    def _loss_of(self, table: Table, parameters: FlatParameters) -> WholeLoss:
        """Return the loss over a table, in the memory that is bound for as many rows."""
        n_rows = table.n_rows
        if n_rows not in self._losses:
            self._losses[n_rows] = WholeLoss(
                self._setting.objective, parameters, table, None, n_rows, streams=self._masks
            )
        self._losses[n_rows].serve(table)
        return self._losses[n_rows]

    def _stack_of(self, table: Table, common: Common) -> Stack:
        """Return the stack that steps through a table, likewise."""
        n_rows, setting = table.n_rows, self._setting
        if n_rows not in self._stacks:
            rule = setting.rule
            assert rule is not None
            self._stacks[n_rows] = Stack(
                setting.objective,
                self._state_like(common),
                [table],
                [min(setting.batch_size, n_rows)],
                rule.optimizer,
                Constant(),
                np.ones((1, 1)),
                rule.clip_norm,
                rule.average,
            )
        self._stacks[n_rows].serve([table])
        return self._stacks[n_rows]

    def _state_like(self, common: Common) -> TrainingState:
        """Return a state in memory of its own, of one member that visits rows as they stand."""
        layout, masks = self._setting.objective.network.layout, self._masks
        theta, *states = copy.deepcopy(common)
        parameters = FlatParameters(theta, states[0], layout)
        counts = init_progress(1), np.zeros((1, 1), dtype=int)
        return TrainingState(parameters, states[1], {}, states[2], *counts, [None], [None], masks)

    def _draw_masks(self, share: Share) -> None:
        """Let the masks be those of a share, whoever computes it."""
        for stream in self._masks:
            drawn = np.random.default_rng([share.masks, self._numbers[0], share.piece])
            stream.bit_generator.state = drawn.bit_generator.state
