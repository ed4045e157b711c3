"""Warnings of `fit`, which filters written for scikit-learn's networks find as well."""

from __future__ import annotations

import sys
import warnings

# Whose warnings ours replace: `filterwarnings("ignore", module="sklearn")` is to go on working.
_MODULE = "sklearn.neural_network._multilayer_perceptron"
# Between the user's line and ours.
_PASSED_BY = {"joblib", "sklearn", "skbackprop"}


def warn(message: str, category: type[Warning]) -> None:
    """Warn in the name of scikit-learn's module, at the user's line.

    File and line, and with them how often "default" shows the warning, are those of the first
    frame outside of this package, scikit-learn and joblib.
    """
    frame = sys._getframe()
    while frame.f_back is not None and _package_of(frame.f_globals) in _PASSED_BY:
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
