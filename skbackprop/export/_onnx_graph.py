"""Expressions as ONNX: nodes and initializers, which fit any opset from 13 on.

Values of a row are tensors (n, width), those of several members (n_estimators, n, width): ONNX
broadcasts as NumPy does. This module knows the operators and builds lists; it imports no onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..utils.arrays import Array
from ._expressions import Expr, align, topological_sort
from ._model_graph import ArgmaxOutput, ModelGraph, ModelOutput, ThresholdOutput

# The operators of single numbers. What has no operator of its own is made of several, below.
_OPERATORS = {
    "add": "Add",
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "negative": "Neg",
    "power": "Pow",
    "absolute": "Abs",
    "maximum": "Max",
    "minimum": "Min",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "sin": "Sin",
    "cos": "Cos",
    "expit": "Sigmoid",
    "erf": "Erf",
}
# The opset of ONNX 1.8, of 2020, which runtimes for small devices read, and newer ones as well.
OPSET = 13
# The numbers of ONNX's types, as onnx.TensorProto has them.
_FLOAT, _INT64 = 1, 7


class Node(NamedTuple):
    """An operator, and the names of what goes in and what comes out."""

    operator: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Nodes and initializers of a model, in their order.

    Parameters
    ----------
    model : Model
        What is to be written.
    input_name : str
        The name of the input, a tensor of floats (n, n_features).
    output_names : list of str
        The name of each output.
    new_name : callable
        Returns a name like the one that it is given, which nothing else has.

    Attributes
    ----------
    nodes : list of Node
        The nodes.
    initializers : dict of arrays
        What nodes take from the model itself, by name.
    """

    def __init__(
        self,
        model: ModelGraph,
        input_name: str,
        output_names: list[str],
        new_name: Callable[[str], str],
    ) -> None:
        self.nodes: list[Node] = []
        self.initializers: dict[str, Array] = {}
        self._new_name = new_name
        self._names = {model.row: input_name}
        for expression in topological_sort(model.expressions):
            if expression not in self._names and expression.operation != "constant":
                self._names[expression] = self._written(expression)
        for output, name in zip(model.outputs, output_names, strict=True):
            self._write_output(output, name)

    # ------------------------------------------------------------------------ building

    def _node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or self._new_name(operator.lower())
        self.nodes.append(Node(operator, list(inputs), output, attributes))
        return output

    def _initializer(self, name: str, array: Array) -> str:
        name = self._new_name(name)
        self.initializers[name] = array
        return name

    def _number(self, value: float) -> str:
        return self._initializer("number", np.array(value, dtype=np.float32))

    def _shape(self, *shape: int) -> str:
        return self._initializer("shape", np.array(shape, dtype=np.int64))

    def _write_output(self, output: ModelOutput, name: str) -> None:
        values = self._names[output.expression]
        if isinstance(output, ArgmaxOutput):
            code = self._node("ArgMax", values, axis=-1, keepdims=0)
            classes = self._initializer("classes", output.classes)
            self._node("Gather", classes, code, output=name, axis=0)
        elif isinstance(output, ThresholdOutput):
            is_above = self._node("Greater", values, self._number(output.threshold))
            self._node("Cast", is_above, output=name, to=_INT64)
        elif output.shape is not None:
            self._node("Reshape", values, self._shape(-1, *output.shape), output=name)
        else:
            self._node("Identity", values, output=name)

    # --------------------------------------------------------------------- expressions

    def _written(self, expression: Expr) -> str:
        """Write the nodes of an expression, and return the name of its values."""
        operation, inputs = expression.operation, expression.inputs
        if operation == "maximum" and _is_zero(inputs[1]):
            return self._node("Relu", self._name_of(inputs[0]))  # which tools that quantise want
        names = [self._name_of(each) for each in inputs]
        if operation in _OPERATORS:
            return self._node(_OPERATORS[operation], *names)
        written: str = getattr(self, f"_{operation}")(expression, *names)
        return written

    def _name_of(self, expression: Expr) -> str:
        """Return the name of values that are there, or constant."""
        if expression not in self._names:
            (array,) = expression.arrays
            is_number = array.size == 1
            self._names[expression] = (
                self._number(array.item()) if is_number else self._array(expression, array)
            )
        return self._names[expression]

    def _array(self, expression: Expr, array: Array) -> str:
        return self._initializer(expression.operation, align(expression, array))

    def _square(self, expression: Expr, x: str) -> str:
        return self._node("Mul", x, x)

    def _expm1(self, expression: Expr, x: str) -> str:
        return self._node("Sub", self._node("Exp", x), self._number(1.0))

    def _log1p(self, expression: Expr, x: str) -> str:
        return self._node("Log", self._node("Add", x, self._number(1.0)))

    def _equal(self, expression: Expr, *inputs: str) -> str:
        return self._node("Cast", self._node("Equal", *inputs), to=_FLOAT)

    def _isnan(self, expression: Expr, x: str) -> str:
        return self._node("Cast", self._node("IsNaN", x), to=_FLOAT)

    def _fill_nan(self, expression: Expr, x: str, fill: str) -> str:
        return self._node("Where", self._node("IsNaN", x), fill, x)

    def _dense(self, expression: Expr, x: str) -> str:
        weights, *biases = (self._array(expression, array) for array in expression.arrays)
        if expression.n_estimators == 1:
            return self._node("Gemm", x, weights, *biases)
        product = self._node("MatMul", x, weights)
        return self._node("Add", product, *biases) if biases else product

    def _integer_linear(self, expression: Expr, x: str) -> str:
        (matrix,) = expression.arrays
        return self._node("MatMul", x, self._initializer("integer_linear", matrix[0]))

    def _block_linear(self, expression: Expr, x: str) -> str:
        (maps,) = expression.arrays
        n_estimators, n_blocks, width, n_units = maps.shape
        of_members = (n_estimators,) if expression.inputs[0].n_estimators > 1 else ()
        blocks = self._node("Reshape", x, self._shape(*of_members, -1, n_blocks, width))
        by_block = self._node("Transpose", blocks, perm=[0, 2, 1, 3] if of_members else [1, 0, 2])
        mapped = self._node("MatMul", by_block, self._array(expression, maps))
        if n_estimators == 1:
            by_row = self._node("Transpose", mapped, perm=[1, 0, 2])
            return self._node("Reshape", by_row, self._shape(-1, n_blocks * n_units))
        by_row = self._node("Transpose", mapped, perm=[0, 2, 1, 3])
        return self._node("Reshape", by_row, self._shape(n_estimators, -1, n_blocks * n_units))

    def _gather(self, expression: Expr, x: str) -> str:
        (tables,) = expression.arrays
        n_estimators, n_rows, _ = tables.shape
        last = self._number(n_rows - 1)
        nearest = self._node(
            "Min", self._node("Max", self._node("Floor", x), self._number(0)), last
        )
        place = self._node("Where", self._node("Equal", x, nearest), x, last)
        row = self._node("Reshape", self._node("Cast", place, to=_INT64), self._shape(-1))
        return self._node(
            "Gather", self._array(expression, tables), row, axis=int(n_estimators > 1)
        )

    def _take_columns(self, expression: Expr, x: str) -> str:
        places = self._initializer("places", expression.arrays[0])
        return self._node("Gather", x, places, axis=-1)

    def _concat(self, expression: Expr, *parts: str) -> str:
        return self._node("Concat", *parts, axis=-1)

    def _reduce_sum(self, expression: Expr, x: str) -> str:
        return self._node("ReduceSum", x, self._shape(-1), keepdims=1)

    def _softmax(self, expression: Expr, x: str) -> str:
        return self._node("Softmax", x, axis=-1)

    def _mean_over_members(self, expression: Expr, x: str) -> str:
        (of_members,) = expression.inputs
        total = self._node("ReduceSum", x, self._shape(0), keepdims=0)
        return self._node("Mul", total, self._number(1 / of_members.n_estimators))

    def _flatten_members(self, expression: Expr, x: str) -> str:
        by_row = self._node("Transpose", x, perm=[1, 0, 2])
        return self._node("Reshape", by_row, self._shape(-1, expression.width))


def _is_zero(expression: Expr) -> bool:
    return expression.operation == "constant" and not expression.arrays[0].any()


def values_of(array: Array) -> Any:
    """Return the values of an initializer as ONNX has them: texts as bytes."""
    return [text.encode() for text in array] if array.dtype == object else array.ravel()


def with_labels(model: ModelGraph, labels: Callable[[Array], Array]) -> ModelGraph:
    """Return a model with other arrays in place of its classes."""
    outputs = (
        replace(output, classes=labels(output.classes))
        if isinstance(output, ArgmaxOutput)
        else output
        for output in model.outputs
    )
    return replace(model, outputs=tuple(outputs))


def dtype_of(output: ModelOutput) -> np.dtype[Any]:
    """Return the dtype of an output."""
    if isinstance(output, ArgmaxOutput):
        dtype: np.dtype[Any] = output.classes.dtype
        return dtype
    return np.dtype(np.int64 if isinstance(output, ThresholdOutput) else np.float32)
