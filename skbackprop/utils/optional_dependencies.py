"""Packages that few functions need: the extras of pyproject.toml, imported where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(owner: str, extra: str) -> Iterator[None]:
    """Let an import that fails within it say what to install.

    Parameters
    ----------
    owner : str
        The name of what needs the package.
    extra : str
        The extra that brings it.

    Raises
    ------
    ImportError
        If an import within it fails.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or extra).partition(".")[0]
        raise ImportError(
            f'{owner} needs {package}, which can\'t be imported: pip install "skbackprop[{extra}]"'
        ) from error
