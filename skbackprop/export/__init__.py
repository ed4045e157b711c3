"""Export fitted models to ONNX, and to C for small devices."""

from . import _tabular_converters  # noqa: F401 - registers formulas
from ._converters import to_expression
from .c_export import to_c
from .onnx_export import to_onnx
from .skl2onnx_converters import register_converters

__all__ = ["register_converters", "to_c", "to_expression", "to_onnx"]


def __dir__() -> list[str]:
    return __all__
