"""ONNX nodes and initializers of a computation graph, for opset 13 and newer ones.

Values are tensors of shape (n, *shape), or (n_estimators, n, *shape) for several members. ONNX
broadcasts as NumPy does. This module does not import onnx.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..utils.arrays import Array
from ._expressions import AT_MOST, EQUALS, LEAF, Expr, align, topological_sort
from ._model_graph import ModelGraph, ModelOutput

# Elementwise functions that are a single operator. The others have a method of `OnnxGraph`.
_OPERATORS = {
    **{name: name.title() for name in ("add", "exp", "log", "sqrt", "tanh", "sin", "cos", "erf")},
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "negative": "Neg",
    "power": "Pow",
    "absolute": "Abs",
    "maximum": "Max",
    "minimum": "Min",
    "expit": "Sigmoid",
    "softmax": "Softmax",  # over the last axis
}
_RECURRENT_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "logistic": "Sigmoid"}
# The opset of ONNX 1.8 (2020), which runtimes for small devices support.
OPSET = 13
# The domain of trees, and the oldest opset of it that has them.
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 1
_NODE_MODES = {LEAF: "LEAF", AT_MOST: "BRANCH_LEQ", EQUALS: "BRANCH_EQ"}
# The type codes of onnx.TensorProto.
_FLOAT, _INT64 = 1, 7


class OnnxNode(NamedTuple):
    """ONNX node: an operator with the names of its inputs and of its output, and its domain."""

    operator: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]
    domain: str = ""


class OnnxGraph:
    """Nodes and initializers of a model.

    Parameters
    ----------
    model : ModelGraph
        The computation graph of the model.
    input_name : str
        The name of the input, a float tensor of shape (n, n_features).
    output_names : list of str
        The names of the outputs.
    new_name : callable
        Returns a unique name that contains a given one.

    Attributes
    ----------
    nodes : list of OnnxNode
        The nodes, in the order of their computation.
    initializers : dict of arrays
        The constants, by name.
    """

    def __init__(
        self,
        model: ModelGraph,
        input_name: str,
        output_names: list[str],
        new_name: Callable[[str], str],
    ) -> None:
        self.nodes: list[OnnxNode] = []
        self.initializers: dict[str, Array] = {}
        self._new_name = new_name
        self._names = {model.row: input_name}
        for expression in topological_sort(model.expressions):
            if expression not in self._names and expression.operation != "constant":
                self._names[expression] = self._add_expression(expression)
        for output, name in zip(model.outputs, output_names, strict=True):
            self._add_output(output, name)

    def _add_node(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or self._new_name(operator.lower())
        self.nodes.append(OnnxNode(operator, list(inputs), output, attributes))
        return output

    def _add_initializer(self, name: str, array: Array) -> str:
        name = self._new_name(name)
        self.initializers[name] = array
        return name

    def _add_number(self, value: float) -> str:
        return self._add_initializer("number", np.array(value, dtype=np.float32))

    def _add_shape(self, *shape: int) -> str:
        return self._add_initializer("shape", np.array(shape, dtype=np.int64))

    def _add_output(self, output: ModelOutput, name: str) -> None:
        values = self._names[output.expression]
        if output.classes is not None:
            code = self._add_node("ArgMax", values, axis=-1, keepdims=0)
            classes = self._add_initializer("classes", output.classes)
            self._add_node("Gather", classes, code, output=name, axis=0)
        elif output.threshold is not None:
            is_above = self._add_node("Greater", values, self._add_number(output.threshold))
            self._add_node("Cast", is_above, output=name, to=_INT64)
        elif output.shape is not None:
            self._add_node("Reshape", values, self._add_shape(-1, *output.shape), output=name)
        else:
            self._add_node("Identity", values, output=name)

    def _add_expression(self, expression: Expr) -> str:
        """Add the nodes of an expression, and return the name of its values."""
        operation, inputs = expression.operation, expression.inputs
        is_relu = operation == "maximum" and inputs[1].operation == "constant"
        if is_relu and not inputs[1].arrays[0].any():  # quantization tools need Relu
            return self._add_node("Relu", self._get_name(inputs[0]))
        names = [self._get_name(each) for each in inputs]
        if operation in _OPERATORS:
            return self._add_node(_OPERATORS[operation], *names)
        name: str = getattr(self, f"_{operation}")(expression, *names)
        return name

    def _get_name(self, expression: Expr) -> str:
        """Return the name of the values of an expression, and add a constant if needed."""
        if expression not in self._names:
            (array,) = expression.arrays
            name = (
                self._add_number(array.item())
                if array.size == 1
                else self._add_array(expression, array)
            )
            self._names[expression] = name
        return self._names[expression]

    def _add_array(self, expression: Expr, array: Array) -> str:
        return self._add_initializer(expression.operation, align(expression, array))

    def _square(self, expression: Expr, x: str) -> str:
        return self._add_node("Mul", x, x)

    def _expm1(self, expression: Expr, x: str) -> str:
        return self._add_node("Sub", self._add_node("Exp", x), self._add_number(1.0))

    def _log1p(self, expression: Expr, x: str) -> str:
        return self._add_node("Log", self._add_node("Add", x, self._add_number(1.0)))

    def _equal(self, expression: Expr, *inputs: str) -> str:
        return self._add_node("Cast", self._add_node("Equal", *inputs), to=_FLOAT)

    def _isnan(self, expression: Expr, x: str) -> str:
        return self._add_node("Cast", self._add_node("IsNaN", x), to=_FLOAT)

    def _fill_nan(self, expression: Expr, x: str, fill: str) -> str:
        return self._add_node("Where", self._add_node("IsNaN", x), fill, x)

    def _dense(self, expression: Expr, x: str) -> str:
        if expression.inputs[0].operation == "windows":
            return self._convolve(expression, x)
        weights, *biases = (self._add_array(expression, array) for array in expression.arrays)
        if expression.n_estimators == 1 and len(expression.shape) == 1:
            return self._add_node("Gemm", x, weights, *biases)
        product = self._add_node("MatMul", x, weights)
        return self._add_node("Add", product, *biases) if biases else product

    def _windows(self, expression: Expr, x: str) -> str:
        return x  # of the image, which the convolution reads

    def _convolve(self, expression: Expr, x: str) -> str:
        (window,), (weights, *biases) = expression.inputs, expression.arrays
        (image,), attributes = window.inputs, window.attributes
        size, n_groups, n_channels = attributes["size"], image.n_estimators, image.n_channels
        if expression.operation == "depthwise":
            n_groups, n_channels = n_groups * n_channels, 1
        kernels = weights.reshape(len(weights), *size, n_channels, expression.n_channels)
        kernels = kernels.transpose(0, 4, 3, 1, 2).reshape(-1, n_channels, *size)
        arrays = [self._add_initializer("kernels", np.ascontiguousarray(kernels))]
        arrays += [self._add_initializer("biases", each.ravel()) for each in biases]
        convolved = self._add_node(
            "Conv",
            self._to_channels_first(image, x),
            *arrays,
            kernel_shape=list(size),
            strides=list(attributes["strides"]),
            pads=list(attributes["padding"]),
            dilations=list(attributes["dilation"]),
            group=n_groups,
        )
        return self._to_channels_last(expression, convolved)

    _depthwise = _convolve

    def _transposed_convolution(self, expression: Expr, x: str) -> str:
        (image,), (weights,), attributes = (
            expression.inputs,
            expression.arrays,
            expression.attributes,
        )
        size, strides = attributes["size"], attributes["strides"]
        # The members are groups of the filters, and of the channels if they have their own.
        kernels = weights.reshape(len(weights), image.n_channels, *size, -1)
        axes = (0, 1, 4, 2, 3) if image.n_estimators > 1 else (1, 0, 4, 2, 3)
        n_filters = expression.n_channels * (1 if image.n_estimators > 1 else len(weights))
        kernels = kernels.transpose(axes).reshape(-1, n_filters, *size)
        # The number of rows and columns after those of the output.
        after = [
            (n - 1) * stride + k - before - n_outputs
            for n, stride, k, before, n_outputs in zip(
                image.shape, strides, size, attributes["padding"], expression.shape, strict=False
            )
        ]
        convolved = self._add_node(
            "ConvTranspose",
            self._to_channels_first(image, x),
            self._add_initializer("kernels", np.ascontiguousarray(kernels)),
            kernel_shape=list(size),
            strides=list(strides),
            pads=[*attributes["padding"], *(max(n, 0) for n in after)],
            output_padding=[max(-n, 0) for n in after],
            group=image.n_estimators,
        )
        return self._to_channels_last(expression, convolved)

    def _to_channels_first(self, image: Expr, x: str) -> str:
        """Add nodes that make tensors (n, n_estimators * channels, height, width) of images."""
        if image.n_estimators == 1:
            return self._add_node("Transpose", x, perm=[0, 3, 1, 2])
        height, width, n_channels = image.shape
        by_row = self._add_node("Transpose", x, perm=[1, 0, 4, 2, 3])
        shape = self._add_shape(-1, image.n_estimators * n_channels, height, width)
        return self._add_node("Reshape", by_row, shape)

    def _to_channels_last(self, image: Expr, x: str) -> str:
        """Add nodes that make images of such tensors."""
        if image.n_estimators == 1:
            return self._add_node("Transpose", x, perm=[0, 2, 3, 1])
        height, width, n_channels = image.shape
        shape = self._add_shape(-1, image.n_estimators, n_channels, height, width)
        by_row = self._add_node("Reshape", x, shape)
        return self._add_node("Transpose", by_row, perm=[1, 0, 3, 4, 2])

    def _max_pool(self, expression: Expr, x: str, operator: str = "MaxPool") -> str:
        (image,), attributes = expression.inputs, expression.attributes
        if expression.n_estimators > 1:
            x = self._add_node("Reshape", x, self._add_shape(-1, *image.shape))
        pooled = self._add_node(
            operator,
            self._add_node("Transpose", x, perm=[0, 3, 1, 2]),
            kernel_shape=list(attributes["size"]),
            strides=list(attributes["strides"]),
            pads=list(attributes["padding"]),
        )
        pooled = self._add_node("Transpose", pooled, perm=[0, 2, 3, 1])
        return self._reshape(expression, pooled) if expression.n_estimators > 1 else pooled

    def _average_pool(self, expression: Expr, x: str) -> str:
        return self._max_pool(expression, x, "AveragePool")

    def _recurrence(self, expression: Expr, x: str) -> str:
        """Add a node for each member, and join their states."""
        each, (source,) = expression.attributes, expression.inputs
        is_all, is_shared = each["return_sequences"], source.n_estimators == 1
        operator, arrays = _to_onnx_recurrence(expression)
        attributes: dict[str, Any] = {"hidden_size": each["n_units"]}
        if each["cell"] == "gru":
            attributes["linear_before_reset"] = 1
        if each["cell"] == "simple_rnn" and each["activation"] != "tanh":
            attributes["activations"] = [_RECURRENT_ACTIVATIONS[each["activation"]]]
        if each["is_reversed"]:
            attributes["direction"] = "reverse"
        last = 0 if each["is_reversed"] else -1
        by_step = self._add_node("Transpose", x, perm=[1, 0, 2]) if is_shared else ""
        states = []
        for m, member in enumerate(zip(*arrays, strict=True)):
            if not is_shared:
                rows = self._add_node("Gather", x, self._add_index(m), axis=0)
                by_step = self._add_node("Transpose", rows, perm=[1, 0, 2])
            # The matrices are transposed, and have an axis for the direction.
            weights = [self._add_initializer("recurrence", own.T[None].copy()) for own in member]
            of_steps = self._add_node(operator, by_step, *weights, **attributes)
            # The states have the shape (n_steps, 1, n, n_units).
            if is_all:
                states.append(self._add_node("Transpose", of_steps, perm=[1, 2, 0, 3]))
            else:
                states.append(self._add_node("Gather", of_steps, self._add_index(last), axis=0))
        if len(states) > 1:
            return self._add_node("Concat", *states, axis=0)
        return self._add_node("Squeeze", *states, self._add_shape(0))

    def _add_index(self, index: int) -> str:
        return self._add_initializer("index", np.array(index, dtype=np.int64))

    def _forest(self, expression: Expr, x: str) -> str:
        nodes = expression.attributes
        is_leaf = nodes["kind"] == LEAF
        lists = {
            "nodes_treeids": nodes["tree"],
            "nodes_nodeids": nodes["node"],
            "nodes_featureids": nodes["column"],
            "nodes_values": np.where(is_leaf, np.float32(0), nodes["number"]),
            "nodes_truenodeids": nodes["yes"],
            "nodes_falsenodeids": nodes["no"],
            "nodes_missing_value_tracks_true": nodes["is_yes_if_missing"].astype(np.int64),
            "target_treeids": nodes["tree"][is_leaf],
            "target_nodeids": nodes["node"][is_leaf],
            "target_ids": nodes["target"][is_leaf],
            "target_weights": nodes["number"][is_leaf],
        }
        output = self._new_name("forest")
        attributes: dict[str, Any] = {name: array.tolist() for name, array in lists.items()}
        attributes["nodes_modes"] = [_NODE_MODES[kind] for kind in nodes["kind"].tolist()]
        attributes["n_targets"] = expression.n_estimators * expression.width
        self.nodes.append(OnnxNode("TreeEnsembleRegressor", [x], output, attributes, ML_DOMAIN))
        if expression.n_estimators == 1:
            return output
        shape = self._add_shape(-1, expression.n_estimators, expression.width)
        return self._add_node("Transpose", self._add_node("Reshape", output, shape), perm=[1, 0, 2])

    def _reshape(self, expression: Expr, x: str) -> str:
        members = (expression.n_estimators,) if expression.n_estimators > 1 else ()
        return self._add_node("Reshape", x, self._add_shape(*members, -1, *expression.shape))

    def _transpose(self, expression: Expr, x: str) -> str:
        n_before = 1 + (expression.n_estimators > 1)
        axes = [n_before + axis for axis in expression.attributes["axes"]]
        return self._add_node("Transpose", x, perm=[*range(n_before), *axes])

    def _matmul(self, expression: Expr, x: str, y: str) -> str:
        return self._add_node("MatMul", x, y)

    def _integer_linear(self, expression: Expr, x: str) -> str:
        (matrix,) = expression.arrays
        return self._add_node("MatMul", x, self._add_initializer("integer_linear", matrix[0]))

    def _block_linear(self, expression: Expr, x: str) -> str:
        (maps,) = expression.arrays
        n_estimators, n_blocks, width, n_units = maps.shape
        members = (n_estimators,) if expression.inputs[0].n_estimators > 1 else ()
        blocks = self._add_node("Reshape", x, self._add_shape(*members, -1, n_blocks, width))
        by_block = self._add_node("Transpose", blocks, perm=[0, 2, 1, 3] if members else [1, 0, 2])
        products = self._add_node("MatMul", by_block, self._add_array(expression, maps))
        members = (n_estimators,) if n_estimators > 1 else ()
        by_row = self._add_node("Transpose", products, perm=[0, 2, 1, 3] if members else [1, 0, 2])
        return self._add_node("Reshape", by_row, self._add_shape(*members, -1, n_blocks * n_units))

    def _gather(self, expression: Expr, x: str) -> str:
        (tables,) = expression.arrays
        n_estimators, n_rows, _ = tables.shape
        last = self._add_number(n_rows - 1)
        floor = self._add_node("Max", self._add_node("Floor", x), self._add_number(0))
        nearest = self._add_node("Min", floor, last)
        index = self._add_node("Where", self._add_node("Equal", x, nearest), x, last)
        row = self._add_node(
            "Reshape", self._add_node("Cast", index, to=_INT64), self._add_shape(-1)
        )
        table = self._add_array(expression, tables)
        found = self._add_node("Gather", table, row, axis=int(n_estimators > 1))
        return found if expression.inputs[0].width == 1 else self._reshape(expression, found)

    def _take_columns(self, expression: Expr, x: str) -> str:
        columns = self._add_initializer("columns", expression.arrays[0])
        return self._add_node("Gather", x, columns, axis=-1)

    def _concat(self, expression: Expr, *parts: str) -> str:
        return self._add_node("Concat", *parts, axis=-1)

    def _reduce_sum(self, expression: Expr, x: str) -> str:
        return self._add_node("ReduceSum", x, self._add_shape(-1), keepdims=1)

    def _mean_over_members(self, expression: Expr, x: str) -> str:
        total = self._add_node("ReduceSum", x, self._add_shape(0), keepdims=0)
        return self._add_node("Mul", total, self._add_number(1 / expression.inputs[0].n_estimators))

    def _flatten_members(self, expression: Expr, x: str) -> str:
        by_row = self._add_node("Transpose", x, perm=[1, 0, 2])
        return self._add_node("Reshape", by_row, self._add_shape(-1, expression.width))


def _to_onnx_recurrence(expression: Expr) -> tuple[str, list[Array]]:
    """Return the operator of a recurrence with its kernels, recurrent kernels and biases.

    Biases have two halves, of which the second one belongs to the recurrent kernels.
    """
    kernels, recurrent, biases, *others = expression.arrays
    n_units, zeros = expression.attributes["n_units"], np.zeros_like(biases)
    if expression.attributes["cell"] == "gru":
        own = np.concatenate([zeros[:, : 2 * n_units], *others], axis=1)
        return "GRU", [kernels, recurrent, np.concatenate([biases, own], axis=1)]
    if expression.attributes["cell"] == "lstm":
        # ONNX has the gates i, o, f and the candidate.
        columns = np.arange(4 * n_units).reshape(4, n_units)[[0, 3, 1, 2]].ravel()
        kernels, recurrent, biases = (array[..., columns] for array in (kernels, recurrent, biases))
    operator = "LSTM" if expression.attributes["cell"] == "lstm" else "RNN"
    return operator, [kernels, recurrent, np.concatenate([biases, zeros], axis=1)]
