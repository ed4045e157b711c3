"""Export fitted models to ONNX, and to scikit-learn's own networks."""

from ._converters import to_expression
from .onnx_export import register_converters, to_onnx
from .sklearn_export import to_sklearn

__all__ = ["register_converters", "to_expression", "to_onnx", "to_sklearn"]
