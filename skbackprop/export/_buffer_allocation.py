"""Order of computation and allocation of buffers in a C program.

A C program computes the expressions of a model one row at a time. Chains of elementwise functions
are computed in one loop without memory for intermediate values. All other values are stored in
buffers, which are reused after their last read. Values of ensemble members are computed in a loop
over the members. Values that are read after this loop are stored for all members.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ._expressions import Expr, topological_sort


@dataclass
class Buffer:
    """Buffer for values, and the time of their last read."""

    size: int
    end: int


@dataclass(frozen=True)
class LoopNest:
    """Consecutive expressions, computed once, or in a loop over the members."""

    n_estimators: int
    stored: list[Expr] = field(default_factory=list)


class BufferPlan:
    """Order and buffers of the expressions of a program.

    Parameters
    ----------
    outputs : iterable of Expr
        The outputs of the model.

    Attributes
    ----------
    groups : dict of lists
        For each stored expression, the elementwise expressions that its loop computes, itself
        last.
    loop_nests : list of LoopNest
        All stored expressions, in order.
    stored_for_all : set of Expr
        The expressions that are stored for all members.
    buffers : list of Buffer
        The buffers.
    buffer_indices : dict of int
        The index of the buffer of each stored expression.
    """

    def __init__(self, outputs: Iterable[Expr]) -> None:
        self._outputs = list(outputs)
        self._order = [
            each
            for each in topological_sort(self._outputs)
            if each.operation not in ("row", "constant")
        ]
        self._users: dict[Expr, list[Expr]] = defaultdict(list)
        for user in self._order:
            for used in dict.fromkeys(user.inputs):
                self._users[used].append(user)
        self._roots = self._find_roots()
        self.groups: dict[Expr, list[Expr]] = defaultdict(list)
        for each in self._order:
            self.groups[self._roots[each]].append(each)
        self.loop_nests = self._make_loop_nests()
        self._times: dict[Expr, int] = {}
        self._spans: dict[tuple[int, int], tuple[int, int]] = {}
        for nest in self.loop_nests:
            first = len(self._times)
            self._times |= {each: first + i for i, each in enumerate(nest.stored)}
            self._spans[self._key(nest.stored[0])] = first, len(self._times) - 1
        self.stored_for_all = {
            each
            for each in self._times
            if each.n_estimators > 1
            and any(self._key(user) != self._key(each) for user in self._users[each])
        }
        self.buffers: list[Buffer] = []
        self.buffer_indices: dict[Expr, int] = {}
        for each in sorted(self._times, key=self._start):
            size = each.width * (each.n_estimators if each in self.stored_for_all else 1)
            self.buffer_indices[each] = self._allocate(size, self._start(each), self._end(each))

    # --------------------------------------------------------------------------- order

    @cached_property
    def _depths(self) -> dict[Expr, int]:
        """For each expression, how often its inputs switch between members and all members."""
        depths: dict[Expr, int] = {}
        for each in self._order:
            depths[each] = max(
                (
                    depths[used] + ((used.n_estimators > 1) != (each.n_estimators > 1))
                    for used in each.inputs
                    if used in depths
                ),
                default=0,
            )
        return depths

    def _key(self, expression: Expr) -> tuple[int, int]:
        """Return the key of the loop nest of an expression."""
        return self._depths[expression], expression.n_estimators

    def _find_roots(self) -> dict[Expr, Expr]:
        """Return for each expression the stored expression whose loop computes it."""
        roots: dict[Expr, Expr] = {}
        for each in reversed(self._order):
            users = self._users[each]
            is_fused = each.is_elementwise and each not in self._outputs
            is_fused = is_fused and all(
                user.is_elementwise
                and user.width == each.width
                and self._key(user) == self._key(each)
                for user in users
            )
            user_roots = {roots[user] for user in users}
            roots[each] = user_roots.pop() if is_fused and len(user_roots) == 1 else each
        return roots

    def _make_loop_nests(self) -> list[LoopNest]:
        nests: dict[tuple[int, int], LoopNest] = {}
        stored = [each for each in self._order if self._roots[each] is each]
        for each in sorted(stored, key=self._key):
            nests.setdefault(self._key(each), LoopNest(each.n_estimators)).stored.append(each)
        return list(nests.values())

    # -------------------------------------------------------------------------- memory
    # The inputs of expression t are read at time 2 t, and its values are written at 2 t + 1.

    def _start(self, each: Expr) -> int:
        """Return the time of the first write. If stored for all members, when the loop begins."""
        if each in self.stored_for_all:
            return 2 * self._spans[self._key(each)][0]
        return 2 * self._times[each] + 1

    def _end(self, each: Expr) -> int:
        """Return the time of the last read."""
        if each in self._outputs:
            return 2 * len(self._times)
        return max(self._end_of_use(each, user) for user in self._users[each])

    def _end_of_use(self, each: Expr, user: Expr) -> int:
        """Return the time of the last read by a user, or when the user's loop over members ends."""
        if user.n_estimators > 1 and self._key(user) != self._key(each):
            return 2 * self._spans[self._key(user)][1] + 1
        # An elementwise loop reads each value before it overwrites it.
        is_in_place = user.is_elementwise and user.width == each.width
        return 2 * self._times[self._roots[user]] + (not is_in_place)

    def _allocate(self, size: int, start: int, end: int) -> int:
        """Return the index of the smallest buffer that fits and is free, or enlarge or add one."""
        free = [i for i, buffer in enumerate(self.buffers) if buffer.end < start]
        fitting = [i for i in free if self.buffers[i].size >= size]
        if fitting:
            index = min(fitting, key=lambda i: self.buffers[i].size)
        elif free:
            index = max(free, key=lambda i: self.buffers[i].size)
        else:
            index = len(self.buffers)
            self.buffers.append(Buffer(size, end))
        buffer = self.buffers[index]
        buffer.size, buffer.end = max(buffer.size, size), end
        return index
