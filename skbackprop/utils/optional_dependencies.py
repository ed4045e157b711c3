"""Imports of optional dependencies, with errors that say what to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(owner: str, extra: str) -> Iterator[None]:
    """Context in which a failing import raises an error that says what to install.

    Parameters
    ----------
    owner : str
        The name of the function or class that needs the package.
    extra : str
        The extra that installs it.

    Raises
    ------
    ImportError
        If an import in the context fails.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or extra).partition(".")[0]
        raise ImportError(
            f"{owner} needs {package}, which cannot be imported. Install it with pip install "
            f'"skbackprop[{extra}]"'
        ) from error
