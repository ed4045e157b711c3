"""Fitted models for other programs: ONNX, for runtimes of all kinds, and C, for small devices."""

from . import tabular  # noqa: F401 - for the formulas that it registers
from .c_program import to_c
from .converters import register_converters
from .formulas import formula
from .onnx_model import to_onnx

__all__ = ["formula", "register_converters", "to_c", "to_onnx"]


def __dir__() -> list[str]:
    return __all__
