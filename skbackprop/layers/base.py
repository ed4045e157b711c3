"""What a pass asks of a layer: its output forward, and back the gradient by its input."""

from __future__ import annotations

from typing import Any, Protocol

from ..core.arrays import Array


class Layer(Protocol):
    """What a pass asks of a layer."""

    def forward(self, x: Any, out: Array) -> None:
        """Write the layer's output on `x` to `out`."""

    def backward(self, delta: Array) -> Array:
        """Return the gradient by the input; on return `delta` may be overwritten."""
