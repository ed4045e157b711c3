"""Losses side by side: each of several blocks of outputs has a loss and a link of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array, DropsCachedProperties
from .base import Loss
from .links import Link


@dataclass(frozen=True)
class MultiOutputLoss(DropsCachedProperties, Loss):
    """The sum of a loss for each block of outputs: loss(s, y) = sum_b loss_b(s_b, y_b).

    Parameters
    ----------
    losses : tuple of Loss
        One for each block.
    widths : tuple of int
        The number of outputs of each.
    """

    losses: tuple[Loss, ...]
    widths: tuple[int, ...]
    average_over_outputs: ClassVar[bool] = False

    @cached_property
    def link(self) -> MultiOutputLink:
        return MultiOutputLink([loss.link for loss in self.losses], self.widths)

    def value(self, scores: Array, y: Array) -> Array:
        blocks = zip(
            self.losses,
            split_outputs(scores, self.widths),
            split_outputs(y, self.widths),
            strict=True,
        )
        # Added up one after the other: the order of NumPy's sum depends on the shape.
        return np.asarray(sum(loss.value(*block) for loss, *block in blocks))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        parts = split_outputs(scores, self.widths)
        for loss, part, target in zip(
            self.losses, parts, split_outputs(y, self.widths), strict=True
        ):
            loss.gradient(part, target, part)
        np.concatenate(parts, axis=-1, out=out)


class MultiOutputLink(Link):
    """Predictions block by block, each through a link of its own.

    Parameters
    ----------
    links : sequence of Link
        One for each block.
    widths : sequence of int
        The number of outputs of each.

    Attributes
    ----------
    name : list of str
        The name of each link.
    """

    def __init__(self, links: Sequence[Link], widths: Sequence[int]) -> None:
        self.links, self.widths = links, widths
        self.name = [str(link.name) for link in links]

    def inverse(self, scores: Array, out: Array) -> None:
        parts = split_outputs(scores, self.widths)
        for link, part in zip(self.links, parts, strict=True):
            link.inverse(part, part)
        np.concatenate(parts, axis=-1, out=out)

    def log_inverse(self, scores: Array) -> Array:
        parts = zip(self.links, split_outputs(scores, self.widths), strict=True)
        return np.concatenate([link.log_inverse(part) for link, part in parts], axis=-1)

    def average_predictions(self, scores: Array) -> Array:
        parts = zip(self.links, split_outputs(scores, self.widths), strict=True)
        return np.concatenate([link.average_predictions(part) for link, part in parts], axis=-1)

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        parts = zip(
            self.links,
            split_outputs(scores, self.widths),
            split_outputs(delta, self.widths),
            strict=True,
        )
        return np.concatenate(
            [link.average_predictions_backward(*part) for link, *part in parts], axis=-1
        )

    def backward(self, mean: Array, delta: Array) -> None:
        parts = split_outputs(delta, self.widths)
        for link, *part in zip(self.links, split_outputs(mean, self.widths), parts, strict=True):
            link.backward(*part)
        np.concatenate(parts, axis=-1, out=delta)


def split_outputs(array: Array, widths: Sequence[int]) -> list[Array]:
    """Return copies of blocks of columns.

    A copy lies in memory as the outputs of a network of its own would, and rounds as they do.
    """
    ends = accumulate(widths)
    return [array[..., end - width : end].copy() for width, end in zip(widths, ends, strict=True)]
