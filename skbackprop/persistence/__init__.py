"""Safe files: fitted estimators are saved and loaded without running code from the file."""

from .files import load, save
from .trust import trusted_types

__all__ = ["load", "save", "trusted_types"]


def __dir__() -> list[str]:
    return __all__
