"""Values that keep what they have worked out, for as long as they stay in memory."""

from __future__ import annotations

from functools import cached_property
from typing import Any


class Caching:
    """A value of whose cached properties copies, pickles and files hold none: they come anew."""

    def __getstate__(self) -> dict[str, Any]:
        kind = type(self)
        return {
            name: held
            for name, held in vars(self).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        }
