"""Expressions: the computation of a fitted model, as nodes of an ONNX model.

An `Expr` stands for an array of values for each row: a vector, the steps and channels of a
sequence, or an image. Operators and NumPy functions combine expressions, so that a formula is plain
NumPy: ``z * expit(z)``. Functions of this module make the expressions that are not elementwise:
`dense`, `softmax`, `take_columns` and so on. Nodes are those of opset 13, which newer ones have
too. Only `write_nodes` imports onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, Literal

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..layers._windows import AxisWindows
from ..layers.base import Shape
from ..utils.arrays import Array

# The opset of ONNX 1.8 (2020), which runtimes for small devices support.
OPSET = 13
# The domain of trees, and the oldest opset of it that has them.
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 1
# The type codes of onnx.TensorProto.
FLOAT, INT64 = 1, 7

# The ONNX operators of elementwise functions, by their names in NumPy and SciPy.
_OPERATORS = {
    **{name: name.title() for name in ("add", "exp", "log", "sqrt", "tanh", "sin", "cos", "erf")},
    "subtract": "Sub",
    "multiply": "Mul",
    "divide": "Div",
    "negative": "Neg",
    "power": "Pow",
    "absolute": "Abs",
    "minimum": "Min",
    "expit": "Sigmoid",
}
# The elementwise functions without an operator of their own.
_FORMULAS: dict[str, Callable[..., Any]] = {
    # Quantization tools need Relu.
    "maximum": lambda x, y: _elementwise("Relu", x) if _is_zero(y) else _elementwise("Max", x, y),
    "square": lambda x: x * x,
    "expm1": lambda x: np.exp(x) - 1.0,
    "log1p": lambda x: np.log(x + 1.0),
    "equal": lambda x, y: _elementwise("Cast", _elementwise("Equal", x, y), to=FLOAT),
    "isnan": lambda x: _elementwise("Cast", _elementwise("IsNaN", x), to=FLOAT),
}

# The kinds of nodes of a `forest`.
LEAF, AT_MOST, EQUALS = "LEAF", "BRANCH_LEQ", "BRANCH_EQ"


@dataclass(frozen=True, eq=False)
class Expr(NDArrayOperatorsMixin):
    """Expression: an array of values for each row, and for each ensemble member.

    In ONNX it is the output of a node, a tensor of shape (n, *shape), or (n_estimators, n, *shape)
    with several members.

    Parameters
    ----------
    operator : str
        The ONNX operator; empty for the input of a model.
    inputs : tuple of Expr or arrays, default=()
        The operands. Arrays are constants.
    shape : tuple of int, default=()
        The shape of the values of a row. Elementwise functions broadcast it as NumPy does.
    n_estimators : int, default=1
        The number of members with their own values.
    attributes : mapping, by default empty
        The attributes of the node.
    """

    operator: str
    inputs: tuple[Expr | Array, ...] = ()
    shape: Shape = ()
    n_estimators: int = 1
    attributes: Mapping[str, Any] = field(default_factory=dict)

    # Expressions are equal if they are identical; np.equal compares their values.
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Return the expression of an elementwise function."""
        name = ufunc.__name__
        if method == "__call__" and not options:
            if name in _OPERATORS:
                return _elementwise(_OPERATORS[name], *inputs)
            if name in _FORMULAS:
                return _FORMULAS[name](*inputs)
        raise TypeError(
            f"Formulas cannot use {name} ({method}, with the options {sorted(options)}). Use "
            "operators and these functions of NumPy and SciPy: "
            f"{sorted([*_OPERATORS, *_FORMULAS])}."
        )

    @property
    def width(self) -> int:
        """The number of values of a row."""
        return math.prod(self.shape)

    @property
    def n_channels(self) -> int:
        """The number of values of a position, which is a row if the shape has one axis."""
        return self.shape[-1]


def model_input(n_inputs: int) -> Expr:
    """Return the input of a model."""
    return Expr("", shape=(n_inputs,))


def write_nodes(
    names: Mapping[Expr, str], new_name: Callable[[str], str]
) -> tuple[list[Any], list[Any]]:
    """Return the nodes of an ONNX model, each after its inputs, and its constants.

    Parameters
    ----------
    names : dict of str
        The names of the input and of the outputs.
    new_name : callable
        Returns a unique name that contains a given one.

    Returns
    -------
    nodes : list of onnx.NodeProto
        The nodes. Their names are those of their outputs.
    constants : list of onnx.TensorProto
        The constants.
    """
    from onnx import helper, numpy_helper

    nodes, constants, named = list[Any](), list[Any](), dict(names)

    def name_of(value: Expr | Array) -> str:
        if isinstance(value, Expr):
            return named[value]
        constants.append(numpy_helper.from_array(value, new_name("constant")))
        return constants[-1].name

    # An expression is opened, then its inputs are finished, then it is finished itself.
    finished = set[Expr]()
    stack = [(output, False) for output in names]
    while stack:
        expression, is_open = stack.pop()
        kind, operands = expression.operator, expression.inputs
        if not is_open and expression not in finished:
            stack.append((expression, True))
            inputs = [each for each in operands if isinstance(each, Expr)]
            stack += [(each, False) for each in reversed(inputs)]
        elif expression not in finished and kind:
            if expression not in named:
                named[expression] = new_name(kind.lower())
            output, domain = named[expression], ML_DOMAIN if kind == "TreeEnsembleRegressor" else ""
            settings = {"name": output, "domain": domain, **expression.attributes}
            nodes.append(helper.make_node(kind, [*map(name_of, operands)], [output], **settings))
        if is_open:
            finished.add(expression)
    return nodes, constants


# ------------------------------------------------------------------ elementwise functions


def _elementwise(operator: str, *operands: Any, **attributes: Any) -> Expr:
    """Return the expression of an elementwise operator.

    Operands are expressions, or arrays of shape (), (width,) or (M, *shape).
    """
    each = [x if isinstance(x, Expr) else _to_float32(np.atleast_2d(x)) for x in operands]
    sizes = [(x.n_estimators, *x.shape) if isinstance(x, Expr) else x.shape for x in each]
    n_estimators = max(n for n, *_ in sizes)
    try:
        shape = np.broadcast_shapes(*(own for _, *own in sizes))
    except ValueError:
        shape = ()
    if not shape or any(n not in (1, n_estimators) for n, *_ in sizes):
        raise ValueError(
            f"{operator} got operands whose (n_estimators, *shape) do not match: {sizes}."
        )
    inputs = tuple(_with_axes(x, len(shape)) for x in each)
    return Expr(operator, inputs, shape, n_estimators, attributes)


def _with_axes(x: Expr | Array, n_axes: int) -> Expr | Array:
    """Return an operand with axes of size one in front of those of its values."""
    if isinstance(x, Expr):
        return reshape(x, (*[1] * (n_axes - len(x.shape)), *x.shape))
    return x.reshape(()) if x.size == 1 else _align(x, n_axes)


def _align(array: Array, n_axes: int) -> Array:
    """Return a constant with the member axis first that broadcasts with values of rows.

    A member has an array of the shape of values, of `n_axes` axes, a vector of channels, or
    matrices.
    """
    n_estimators, *shape = array.shape
    if n_estimators == 1:
        return np.asarray(array[0])
    return array.reshape(n_estimators, *[1] * (1 + n_axes - len(shape)), *shape)


def _to_float32(array: Any) -> Array:
    """Return an array in single precision, or raise an error if it overflows."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(single).all():
        largest = float(np.abs(array).max())
        raise ValueError(
            "The model must have finite values in single precision, the precision of exported "
            f"models, but the largest is {largest:.3g}. Scale X and y down, and fit again."
        )
    return single


def _is_zero(x: Any) -> bool:
    return not isinstance(x, Expr) and np.ndim(x) == 0 and x == 0


def clip(x: Any, low: Any, high: Any) -> Any:
    """Return values limited to the range from low to high."""
    return np.minimum(np.maximum(x, low), high)


def fill_nan(x: Expr, fill: Any) -> Expr:
    """Return values in which NaN, for missing values, is replaced."""
    return _elementwise("Where", _elementwise("IsNaN", x), fill, x)


def softmax(x: Expr) -> Expr:
    """Return exp(x_k) / sum_j exp(x_j) over the last axis, without overflow."""
    return Expr("Softmax", (x,), x.shape, x.n_estimators)


def reduce_sum(x: Expr) -> Expr:
    """Return the sum over the last axis, whose size becomes one."""
    return Expr("ReduceSum", (x, np.array([-1])), (*x.shape[:-1], 1), x.n_estimators)


def root_of_squares(x: Any, y: Any) -> Any:
    """Return sqrt(x^2 + y^2), without overflow."""
    size = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.finfo(np.float32).tiny)
    return size * np.sqrt(np.square(x / size) + np.square(y / size))


# ------------------------------------------------------------------------ products, tables


def dense(x: Expr, weights: Array, biases: Array | None = None) -> Expr:
    """Return x W + b with weights (M, fan_in, fan_out) and biases (M, fan_out), if any.

    It is computed for each position of x, over the channels.
    """
    n_estimators = max(x.n_estimators, len(weights))
    shape = *x.shape[:-1], weights.shape[-1]
    matrices = _align(_to_float32(weights), len(x.shape))
    if n_estimators == 1 and len(shape) == 1:
        own = () if biases is None else (_to_float32(biases[0]),)
        return Expr("Gemm", (x, matrices, *own), shape)
    product = Expr("MatMul", (x, matrices), shape, n_estimators)
    return product if biases is None else _elementwise("Add", product, biases)


def matmul(x: Expr, y: Expr) -> Expr:
    """Return the matrix products of x (..., a, b) and y (..., b, c) of the same members."""
    return Expr("MatMul", (x, y), (*x.shape[:-1], y.n_channels), x.n_estimators)


def block_linear(x: Expr, maps: Array) -> Expr:
    """Return the product of each block of columns with its matrix (M, n_blocks, width, n_units)."""
    n_estimators, n_blocks, width, n_units = maps.shape
    blocks = _swap_rows(reshape(x, (n_blocks, width)))
    shape = n_blocks, n_units
    matrices = _to_float32(maps if n_estimators > 1 else maps[0])
    products = Expr("MatMul", (blocks, matrices), shape, n_estimators)
    return reshape(_swap_rows(products), (math.prod(shape),))


def _swap_rows(x: Expr) -> Expr:
    """Return the tensor with the axes of the rows and of the first values exchanged."""
    perm = [0, 2, 1, 3] if x.n_estimators > 1 else [1, 0, 2]
    return Expr("Transpose", (x,), x.shape, x.n_estimators, {"perm": perm})


def gather(x: Expr, tables: Array) -> Expr:
    """Return row x of tables (M, n_rows, width), or zeros if x is not the index of a row.

    The rows of several x, which all members share, are side by side.
    """
    n_estimators, n_rows, width = tables.shape
    with_zeros = _to_float32(np.pad(tables, [(0, 0), (0, 1), (0, 0)]))
    nearest = _elementwise("Min", _elementwise("Max", _elementwise("Floor", x), 0.0), n_rows)
    row = _elementwise("Where", _elementwise("Equal", x, nearest), x, n_rows)
    index = Expr("Reshape", (_elementwise("Cast", row, to=INT64), np.array([-1])))
    table, axis = (with_zeros, 1) if n_estimators > 1 else (with_zeros[0], 0)
    found = Expr("Gather", (table, index), (width,), n_estimators, {"axis": axis})
    return found if x.width == 1 else _reshape(found, n_estimators, x.width * width)


def forest(
    x: Expr, nodes: Mapping[str, Array], targets: Array, n_estimators: int, width: int
) -> Expr:
    """Return sums of the leaves that a row reaches in trees, for each output of each member.

    The nodes are arrays of shape (n_nodes,), by the names that the attributes ``nodes_...`` of
    ONNX's TreeEnsembleRegressor have: treeids, nodeids, modes (one of `LEAF`, `AT_MOST` and
    `EQUALS`), featureids, values (also those of leaves), truenodeids, falsenodeids and
    missing_value_tracks_true. In each tree they are numbered from 0, the root. The targets are the
    numbers of the outputs that the tree of a node adds to: ``member * width + output``.
    """
    is_leaf = nodes["modes"] == LEAF
    weights = nodes["values"][is_leaf]
    _to_float32(weights)
    arrays = {f"nodes_{name}": array for name, array in nodes.items()} | {
        "nodes_values": np.where(is_leaf, 0.0, nodes["values"]),
        "target_treeids": nodes["treeids"][is_leaf],
        "target_nodeids": nodes["nodeids"][is_leaf],
        "target_ids": targets[is_leaf],
        "target_weights": weights,
    }
    attributes: dict[str, Any] = {name: array.tolist() for name, array in arrays.items()}
    attributes["n_targets"] = n_estimators * width
    sums = Expr("TreeEnsembleRegressor", (x,), (n_estimators * width,), 1, attributes)
    if n_estimators == 1:
        return sums
    by_row = reshape(sums, (n_estimators, width))
    return Expr("Transpose", (by_row,), (width,), n_estimators, {"perm": [1, 0, 2]})


# ------------------------------------------------------------------------ axes and columns


def take_columns(x: Expr, columns: Iterable[int]) -> Expr:
    """Return some of the values, by their indices on the last axis."""
    indices = np.array(list(columns), dtype=np.int64)
    shape = *x.shape[:-1], len(indices)
    return Expr("Gather", (x, indices), shape, x.n_estimators, {"axis": -1})


def concat(parts: Iterable[Expr]) -> Expr:
    """Return the values of expressions side by side, on the last axis."""
    filled = [part for part in parts if part.width]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        return Expr("Concat", shape=(0,))
    n_estimators = max(part.n_estimators for part in filled)
    inputs = tuple(broadcast_members(part, n_estimators) for part in filled)
    shape = *inputs[0].shape[:-1], sum(part.n_channels for part in inputs)
    return Expr("Concat", inputs, shape, n_estimators, {"axis": -1})


def reshape(x: Expr, shape: Sequence[int]) -> Expr:
    """Return the values with another shape of a row."""
    return x if tuple(shape) == x.shape else _reshape(x, x.n_estimators, *shape)


def _reshape(x: Expr, n_estimators: int, *shape: int) -> Expr:
    """Return the tensor with another shape."""
    members = (n_estimators,) if n_estimators > 1 else ()
    target = np.array([*members, -1, *shape], dtype=np.int64)
    return Expr("Reshape", (x, target), shape, n_estimators)


def transpose(x: Expr, axes: Sequence[int]) -> Expr:
    """Return the values with other axes of a row: axis k is axis ``axes[k]`` of x."""
    shape, n_before = tuple(x.shape[axis] for axis in axes), 1 + (x.n_estimators > 1)
    perm = [*range(n_before), *(n_before + axis for axis in axes)]
    return Expr("Transpose", (x,), shape, x.n_estimators, {"perm": perm})


# ------------------------------------------------------------------- images and sequences


def convolution(
    x: Expr,
    kernels: Array,
    biases: Array | None,
    windows: Sequence[AxisWindows],
    is_depthwise: bool = False,
) -> Expr:
    """Return the convolution of an image (height, width, channels).

    Kernels have the shape (M, height, width, n_channels, n_filters). With `is_depthwise`, each
    channel has its own kernel, of shape (M, height, width, n_channels).
    """
    n_estimators, n_filters = len(kernels), kernels.shape[-1]
    n_groups = x.n_estimators
    if is_depthwise:
        x = broadcast_members(x, n_estimators)
        n_groups, kernels = n_estimators * n_filters, kernels[..., None, :]
    by_filter = np.moveaxis(kernels, (-1, -2), (1, 2))
    by_filter = by_filter.reshape(n_estimators * n_filters, *by_filter.shape[2:])
    constants = [by_filter] if biases is None else [by_filter, biases.ravel()]
    operands, dilations = (x, *map(_to_float32, constants)), [axis.dilation for axis in windows]
    shape = *(axis.n_outputs for axis in windows), n_filters
    return _over_windows(
        "Conv", operands, windows, n_estimators, shape, dilations=dilations, group=n_groups
    )


def transposed_convolution(
    x: Expr, kernels: Array, biases: Array | None, windows: Sequence[AxisWindows]
) -> Expr:
    """Return an image to which each pixel of x adds a window, its channels times kernels.

    Kernels have the shape (M, height, width, n_filters, n_channels). The windows are those of the
    convolution from the output to x.
    """
    n_estimators, *size, n_filters, n_channels = kernels.shape
    # The members are groups of the filters, and of the channels if they have their own.
    by_channel = np.moveaxis(kernels, (-1, -2), (1, 2))
    if x.n_estimators == 1:
        by_channel = np.moveaxis(by_channel, 1, 0)
    by_channel = by_channel.reshape(x.n_estimators * n_channels, -1, *size)
    # The last window ends this number of rows and columns after the output.
    after = [
        (axis.n_outputs - 1) * axis.stride + axis.size - axis.before - axis.n_inputs
        for axis in windows
    ]
    image = _over_windows(
        "ConvTranspose",
        (x, _to_float32(by_channel)),
        [replace(axis, after=n) for axis, n in zip(windows, after, strict=True)],
        n_estimators,
        (*(axis.n_inputs for axis in windows), n_filters),
        output_padding=[max(-n, 0) for n in after],
        group=x.n_estimators,
    )
    return image if biases is None else _elementwise("Add", image, biases)


def pool(
    x: Expr, operator: Literal["MaxPool", "AveragePool"], windows: Sequence[AxisWindows]
) -> Expr:
    """Return the largest value or the mean of each window of an image, without the padding."""
    shape = *(axis.n_outputs for axis in windows), x.n_channels
    return _over_windows(operator, (x,), windows, x.n_estimators, shape)


def _over_windows(
    operator: str,
    operands: Sequence[Any],
    windows: Sequence[AxisWindows],
    n_estimators: int,
    shape: Shape,
    **attributes: Any,
) -> Expr:
    """Return images (height, width, channels) by an operator over windows of images.

    The first operand is the images, and the others are constants. The operator computes with
    tensors (n, n_estimators * channels, height, width).
    """
    image, *constants = operands
    if image.n_estimators == 1:
        tensor = Expr("Transpose", (image,), attributes={"perm": [0, 3, 1, 2]})
    else:
        by_row = Expr("Transpose", (image,), attributes={"perm": [1, 0, 4, 2, 3]})
        *size, n_channels = image.shape
        tensor = _reshape(by_row, 1, image.n_estimators * n_channels, *size)
    attributes |= {
        "kernel_shape": [axis.size for axis in windows],
        "strides": [axis.stride for axis in windows],
        "pads": [*(axis.before for axis in windows), *(max(axis.after, 0) for axis in windows)],
    }
    tensor = Expr(operator, (tensor, *constants), attributes=attributes)
    if n_estimators == 1:
        return Expr("Transpose", (tensor,), shape, attributes={"perm": [0, 2, 3, 1]})
    by_row = _reshape(tensor, 1, n_estimators, shape[-1], *shape[:-1])
    return Expr("Transpose", (by_row,), shape, n_estimators, {"perm": [1, 0, 3, 4, 2]})


def recurrence(
    x: Expr,
    operator: str,
    arrays: Sequence[Array],
    return_sequences: bool,
    attributes: Mapping[str, Any],
) -> Expr:
    """Return the states (n_steps, n_units) of a recurrent layer, or the last one, of sequences x.

    The operator is "GRU", "LSTM" or "RNN". The arrays are kernels (M, n_channels, n_gates n_units),
    recurrent kernels (M, n_units, n_gates n_units) and biases (M, n_gates n_units). The gates of a
    GRU are z, r and the candidate, whose recurrent biases (M, n_units) are one more array. Those of
    an LSTM are i, f, the candidate and o.
    """
    n_estimators, n_units, _ = arrays[1].shape
    attributes = {"hidden_size": n_units, **attributes}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
    is_reversed = "direction" in attributes
    rows = [x]
    if x.n_estimators > 1:
        each = (np.array(m) for m in range(n_estimators))
        rows = [Expr("Gather", (x, m), x.shape, attributes={"axis": 0}) for m in each]
    by_step = [_swap_rows(own) for own in rows]
    members = zip(*_to_onnx_gates(operator, *map(_to_float32, arrays)), strict=True)
    states = []
    for steps, weights in zip(cycle(by_step), members, strict=False):
        # The matrices are transposed, and have an axis for the direction.
        transposed = (array.T[None].copy() for array in weights)
        of_steps = Expr(operator, (steps, *transposed), attributes=attributes)
        # The states have the shape (n_steps, 1, n, n_units).
        if return_sequences:
            shape: Shape = (x.shape[0], n_units)
            states.append(Expr("Transpose", (of_steps,), attributes={"perm": [1, 2, 0, 3]}))
        else:
            shape, last = (n_units,), np.array(0 if is_reversed else -1)
            states.append(Expr("Gather", (of_steps, last), attributes={"axis": 0}))
    if n_estimators > 1:
        return Expr("Concat", tuple(states), shape, n_estimators, {"axis": 0})
    return Expr("Squeeze", (states[0], np.array([0])), shape)


def _to_onnx_gates(
    operator: str, kernels: Array, recurrent: Array, biases: Array, *candidate: Array
) -> tuple[Array, Array, Array]:
    """Return kernels, recurrent kernels and biases in the order of gates that ONNX has.

    Biases have two halves, of which the second one belongs to the recurrent kernels.
    """
    recurrent_biases = np.zeros_like(biases)
    if operator == "GRU":
        recurrent_biases[:, -candidate[0].shape[1] :] = candidate[0]
    if operator == "LSTM":  # ONNX has the gates i, o, f and the candidate
        columns = np.arange(biases.shape[1]).reshape(4, -1)[[0, 3, 1, 2]].ravel()
        kernels, recurrent, biases = (array[..., columns] for array in (kernels, recurrent, biases))
    return kernels, recurrent, np.concatenate([biases, recurrent_biases], axis=1)


# -------------------------------------------------------------------------------- members


def broadcast_members(x: Expr, n_estimators: int) -> Any:
    """Return values that all members share, repeated for each member."""
    return x if x.n_estimators == n_estimators else x * np.ones((n_estimators, 1))


def mean_over_members(x: Expr) -> Expr:
    """Return the mean over the members."""
    if x.n_estimators == 1:
        return x
    total = Expr("ReduceSum", (x, np.array([0])), x.shape, 1, {"keepdims": 0})
    return _elementwise("Mul", total, 1 / x.n_estimators)


def flatten_members(x: Expr) -> Expr:
    """Return the values of all members in one vector."""
    if x.n_estimators == 1:
        return x
    by_row = Expr("Transpose", (x,), attributes={"perm": [1, 0, 2]})
    return _reshape(by_row, 1, x.n_estimators * x.width)


def std_over_members(x: Expr) -> Any:
    """Return the standard deviation over the members."""
    if x.n_estimators == 1:
        return x * 0.0
    return root_mean_square(x - mean_over_members(x))


def root_mean_square(x: Any) -> Any:
    """Return the root mean square over the members, without overflow."""
    mean_size: Any = mean_over_members(np.abs(x))
    size = np.maximum(mean_size, np.finfo(np.float32).tiny)
    return size * np.sqrt(mean_over_members(np.square(x / size)))
