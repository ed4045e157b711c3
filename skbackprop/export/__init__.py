"""Export fitted models to ONNX, and to C for small devices."""

from ._converters import to_expression
from .c_export import to_c
from .onnx_export import register_converters, to_onnx

__all__ = ["register_converters", "to_c", "to_expression", "to_onnx"]


def __dir__() -> list[str]:
    return __all__
