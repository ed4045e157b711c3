"""Warnings of `fit`, compatible with warning filters for scikit-learn's networks."""

from __future__ import annotations

import sys
import warnings

# The module of scikit-learn's warnings, for `filterwarnings("ignore", module="sklearn")`.
_MODULE = "sklearn.neural_network._multilayer_perceptron"
# The packages between the user's line and this module.
_SKIPPED_PACKAGES = {"joblib", "sklearn", "skbackprop"}


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning in the name of scikit-learn's module, at the user's line.

    The line is that of the first frame outside of this package, scikit-learn and joblib.
    """
    frame = sys._getframe()
    while frame.f_back is not None and _package_of(frame.f_globals) in _SKIPPED_PACKAGES:
        frame = frame.f_back
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=_MODULE,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package_of(names: dict[str, object]) -> str:
    return str(names.get("__name__", "")).partition(".")[0]
