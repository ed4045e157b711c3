"""Safe files: save and load estimators without running code from the file."""

from ._trusted_types import get_trusted_types
from .save_load import load, save

__all__ = ["get_trusted_types", "load", "save"]


def __dir__() -> list[str]:
    return __all__
