"""In which order the values of a row are computed, and which of them share memory.

A C program goes through a model's expressions one row at a time. Functions of single numbers are
computed together, in one loop over the numbers of a row, and what is on its way there needs no
memory. The other values are kept in buffers, each of which serves anew once nobody reads it. What
members have of their own is computed member by member, in a loop; what is asked of all members
after it is kept for each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from ._expressions import Expr, topological_sort


@dataclass
class Buffer:
    """Memory for some numbers, and until when they are read."""

    size: int
    end: int


@dataclass(frozen=True)
class LoopNest:
    """Consecutive values, computed once, or once for each member."""

    n_estimators: int
    kept: list[Expr] = field(default_factory=list)


class BufferPlan:
    """What a program computes, and where it keeps it.

    Parameters
    ----------
    outputs : iterable of Expression
        What is wanted at the end.

    Attributes
    ----------
    groups : dict of lists
        Of each value that is kept, the functions of single numbers that lead to it, itself last.
    sections : list of Section
        All values that are kept, in order.
    of_all_members : set of Expression
        Those that are kept for each member.
    buffers : list of Buffer
        The memory.
    places : dict of int
        The number of the buffer of each value.
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
        self.sections = self._in_sections()
        self._times: dict[Expr, int] = {}
        self._spans: dict[tuple[int, int], tuple[int, int]] = {}
        for section in self.sections:
            first = len(self._times)
            self._times |= {each: first + i for i, each in enumerate(section.kept)}
            self._spans[self._key(section.kept[0])] = first, len(self._times) - 1
        self.of_all_members = {
            each
            for each in self._times
            if each.n_estimators > 1
            and any(self._key(user) != self._key(each) for user in self._users[each])
        }
        self.buffers: list[Buffer] = []
        self.places: dict[Expr, int] = {}
        for each in sorted(self._times, key=self._start):
            size = each.width * (each.n_estimators if each in self.of_all_members else 1)
            self.places[each] = self._taken(size, self._start(each), self._end(each))

    # ----------------------------------------------------------------------- the order

    @cached_property
    def _depths(self) -> dict[Expr, int]:
        """How often what leads to a value goes from members to all of them, and back."""
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
        """Return what the values of one section have in common."""
        return self._depths[expression], expression.n_estimators

    def _find_roots(self) -> dict[Expr, Expr]:
        """Return for each value the one in whose loop it is computed."""
        roots: dict[Expr, Expr] = {}
        for each in reversed(self._order):
            users = self._users[each]
            goes_on = each.is_elementwise and each not in self._outputs
            goes_on = goes_on and all(
                user.is_elementwise
                and user.width == each.width
                and self._key(user) == self._key(each)
                for user in users
            )
            theirs = {roots[user] for user in users}
            roots[each] = theirs.pop() if goes_on and len(theirs) == 1 else each
        return roots

    def _in_sections(self) -> list[LoopNest]:
        sections: dict[tuple[int, int], LoopNest] = {}
        kept = [each for each in self._order if self._roots[each] is each]
        for each in sorted(kept, key=self._key):
            sections.setdefault(self._key(each), LoopNest(each.n_estimators)).kept.append(each)
        return list(sections.values())

    # ---------------------------------------------------------------------- the memory
    # At the time 2 t what the value t is made of is read, and at 2 t + 1 it is written.

    def _start(self, each: Expr) -> int:
        """Return when a value is first written: that of all members, as their loop begins."""
        if each in self.of_all_members:
            return 2 * self._spans[self._key(each)][0]
        return 2 * self._times[each] + 1

    def _end(self, each: Expr) -> int:
        """Return when a value is last read."""
        if each in self._outputs:
            return 2 * len(self._times)
        return max(self._end_of_use(each, user) for user in self._users[each])

    def _end_of_use(self, each: Expr, user: Expr) -> int:
        """Return when a value is last read for another: in a loop of members, when that ends."""
        if user.n_estimators > 1 and self._key(user) != self._key(each):
            return 2 * self._spans[self._key(user)][1] + 1
        # A loop over single numbers reads each before it writes to its place.
        is_in_place = user.is_elementwise and user.width == each.width
        return 2 * self._times[self._roots[user]] + (not is_in_place)

    def _taken(self, size: int, start: int, end: int) -> int:
        """Return the number of a buffer that is free from a time on: the smallest that will do."""
        free = [number for number, buffer in enumerate(self.buffers) if buffer.end < start]
        fitting = [number for number in free if self.buffers[number].size >= size]
        if fitting:
            number = min(fitting, key=lambda number: self.buffers[number].size)
        elif free:
            number = max(free, key=lambda number: self.buffers[number].size)
        else:
            number = len(self.buffers)
            self.buffers.append(Buffer(size, end))
        buffer = self.buffers[number]
        buffer.size, buffer.end = max(buffer.size, size), end
        return number
