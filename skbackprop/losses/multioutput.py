"""Loss of several groups of outputs, each with its own loss and link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from ..utils.arrays import Array, DropsCachedProperties
from .base import Loss
from .links import Link


@dataclass(frozen=True)
class MultiOutputLoss(DropsCachedProperties, Loss):
    """Sum of the losses of several groups of outputs: loss(s, y) = sum_b loss_b(s_b, y_b).

    Parameters
    ----------
    losses : tuple of Loss
        The loss of each group.
    widths : tuple of int
        The number of outputs of each group.
    """

    losses: tuple[Loss, ...]
    widths: tuple[int, ...]
    average_over_outputs: ClassVar[bool] = False

    @cached_property
    def link(self) -> MultiOutputLink:
        return MultiOutputLink([loss.link for loss in self.losses], self.widths)

    def value(self, raw_prediction: Array, y: Array) -> Array:
        groups = _zip_groups(self.losses, self.widths, raw_prediction, y)
        # Python's sum adds in the order of the groups; NumPy's order depends on the shape.
        return np.asarray(sum(loss.value(*arrays) for loss, *arrays in groups))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        gradients = []
        for loss, raw, target in _zip_groups(self.losses, self.widths, raw_prediction, y):
            loss.gradient(raw, target, raw)
            gradients.append(raw)
        np.concatenate(gradients, axis=-1, out=out)


class MultiOutputLink(Link):
    """Link of several groups of outputs, each with its own link.

    Parameters
    ----------
    links : sequence of Link
        The link of each group.
    widths : sequence of int
        The number of outputs of each group.

    Attributes
    ----------
    name : list of str
        The name of each link.
    """

    def __init__(self, links: Sequence[Link], widths: Sequence[int]) -> None:
        self.links, self.widths = links, widths
        self.name = [str(link.name) for link in links]

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        predictions = []
        for link, raw in _zip_groups(self.links, self.widths, raw_prediction):
            link.inverse(raw, raw)
            predictions.append(raw)
        np.concatenate(predictions, axis=-1, out=out)

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        deltas = []
        for link, own, delta_own in _zip_groups(self.links, self.widths, predictions, delta):
            link.inverse_backward(own, delta_own)
            deltas.append(delta_own)
        np.concatenate(deltas, axis=-1, out=delta)

    def log_inverse(self, raw_prediction: Array) -> Array:
        groups = _zip_groups(self.links, self.widths, raw_prediction)
        return np.concatenate([link.log_inverse(raw) for link, raw in groups], axis=-1)

    def average_predictions(self, raw_prediction: Array) -> Array:
        groups = _zip_groups(self.links, self.widths, raw_prediction)
        return np.concatenate([link.average_predictions(raw) for link, raw in groups], axis=-1)

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        groups = _zip_groups(self.links, self.widths, raw_prediction, delta)
        return np.concatenate(
            [link.average_predictions_backward(*arrays) for link, *arrays in groups], axis=-1
        )


def _zip_groups(parts: Sequence[Any], widths: Sequence[int], *arrays: Array) -> Iterator[Any]:
    """Iterate over the loss or link of each group with copies of its columns of each array."""
    return zip(parts, *(split_outputs(array, widths) for array in arrays), strict=True)


def split_outputs(array: Array, widths: Sequence[int]) -> list[Array]:
    """Return copies of groups of adjacent columns.

    A copy has the memory layout of the output of a separate network, and so the same rounding.
    """
    ends = accumulate(widths)
    return [array[..., end - width : end].copy() for width, end in zip(widths, ends, strict=True)]
