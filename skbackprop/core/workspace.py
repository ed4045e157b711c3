"""The buffers of training, allocated once and carved anew for every shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import Array


class Workspace:
    """Named flat buffers, views of which are handed out.

    Two shapes under one name share their memory, so a short last batch costs nothing and
    only one of them may be in use at a time.
    """

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype = dtype
        self._flat: dict[str, Array] = {}

    def array(self, name: str, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array of the shape, of undefined values, in the buffer of the name.

        All arrays of a name have one dtype, that of the workspace unless another is given. The
        buffer is made anew where it is too small; arrays handed out before then keep the memory
        that they have.
        """
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype or self.dtype)
        return flat[:size].reshape(shape)
