"""Lists of losses and scores that further training extends without copying."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..utils.arrays import Array


class SharedList:
    """The numbers of the epochs up to one time: a value, whatever is added later.

    Those who go on from it share its list, and each knows how much of the list is its own. Only
    the longest can be added to in place; a shorter one goes on with a copy.

    Parameters
    ----------
    numbers : list of float, or array
        The numbers. A list is taken over; of an array a list is made, whose items are NumPy's.
    """

    def __init__(self, numbers: list[float] | Array) -> None:
        self._numbers = numbers if isinstance(numbers, list) else list(numbers)
        self._n = len(numbers)

    def __repr__(self) -> str:
        return f"Curve({self._numbers[: self._n]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and deepcopy what is its own alone; NumPy's numbers as one array."""
        own = self.numbers[: self._n]
        are_numpys = bool(own) and all(isinstance(number, np.float64) for number in own)
        return SharedList, (np.array(own) if are_numpys else own,)

    def __len__(self) -> int:
        return self._n

    @property
    def numbers(self) -> list[float]:
        """The numbers: the shared list itself, as long as nothing has been added to it."""
        return self._numbers if len(self._numbers) == self._n else self._numbers[: self._n]

    def followed_by(self, more: list[float]) -> SharedList:
        """Return this curve and what comes after it."""
        numbers = self.numbers
        numbers += more
        return SharedList(numbers)


def extend_curve(past: Any, more: list[float]) -> SharedList:
    """Return a curve that goes on from a kept one, a list that the user has set, or None."""
    return (past if isinstance(past, SharedList) else SharedList(list(past or []))).followed_by(
        more
    )


class HistoryAttribute:
    """An attribute of fitted estimators that is kept as a curve, and read as a list.

    Of several members it is a list of such lists; it may be None.
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
    return kept.numbers if isinstance(kept, SharedList) else kept
