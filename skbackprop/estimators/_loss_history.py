"""Lists of losses and scores that further training extends without copying."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..utils.arrays import Array


class CurvePrefix:
    """The first numbers of a list that others may extend: an immutable loss curve.

    Curves that continue it share its list; each knows how much of it is its own. Only the longest
    is extended in place, a shorter one is copied first.

    Parameters
    ----------
    numbers : list of float, or array
        The numbers. A list is used as it is, an array becomes a list of NumPy scalars.
    """

    def __init__(self, numbers: list[float] | Array) -> None:
        self._numbers = numbers if isinstance(numbers, list) else list(numbers)
        self._n = len(numbers)

    def __repr__(self) -> str:
        return f"SharedList({self._numbers[: self._n]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy its own numbers only; NumPy scalars as one array."""
        own = self.numbers[: self._n]
        are_scalars = bool(own) and all(isinstance(number, np.float64) for number in own)
        return CurvePrefix, (np.array(own) if are_scalars else own,)

    def __len__(self) -> int:
        return self._n

    @property
    def numbers(self) -> list[float]:
        """The numbers: the shared list itself if nothing has been added to it, else a copy."""
        return self._numbers if len(self._numbers) == self._n else self._numbers[: self._n]

    def extended(self, more: list[float]) -> CurvePrefix:
        """Return this curve with more numbers at its end."""
        numbers = self.numbers
        numbers += more
        return CurvePrefix(numbers)


def extend_curve(past: Any, more: list[float]) -> CurvePrefix:
    """Return a curve that continues another one, a list set by the user, or None."""
    return (past if isinstance(past, CurvePrefix) else CurvePrefix(list(past or []))).extended(more)


class HistoryAttribute:
    """A fitted attribute that is stored as a `CurvePrefix` and read as a list.

    With several networks it is a list of such lists; it may be None.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        try:
            kept = vars(estimator)[self._name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r}"
            ) from None
        return [_as_list(each) for each in kept] if isinstance(kept, list) else _as_list(kept)

    def __set__(self, estimator: Any, value: Any) -> None:
        vars(estimator)[self._name] = value


def _as_list(kept: Any) -> Any:
    return kept.numbers if isinstance(kept, CurvePrefix) else kept
