"""Expressions: the computation of a fitted model, as nodes of an ONNX model.

An `Expr` stands for an array of values for each row: a vector, the steps and channels of a
sequence, or an image. Operators and NumPy functions combine expressions, so that a formula is plain
NumPy: ``expit(x @ weights + biases)``. Functions of this module make the expressions that NumPy has
no operator for: `softmax`, `take_columns` and so on.
Nodes are those of opset 13, which newer ones have too. Only `write_nodes` imports onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ..layers._windows import AxisWindows
from ..layers.base import Shape
from ..utils.arrays import Array

# The opset of ONNX 1.8 (2020), which runtimes for small devices support.
OPSET = 13
# The domain of trees and words, and the opset that has trees in double precision.
ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
# The codes of types in onnx.TensorProto.
_TYPE_CODES = {np.float32: 1, np.int64: 7, np.float64: 11}

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
# The functions without an elementwise operator of their own.
_FORMULAS: dict[str, Callable[..., Any]] = {
    # Quantization tools need Relu.
    "maximum": lambda x, y: _elementwise("Relu", x) if _is_zero(y) else _elementwise("Max", x, y),
    "square": lambda x: x * x,
    "expm1": lambda x: np.exp(x) - 1.0,
    "log1p": lambda x: np.log(x + 1.0),
    "equal": lambda x, y: cast(_elementwise("Equal", x, y), x.dtype),
    "isnan": lambda x: cast(_elementwise("IsNaN", x), x.dtype),
    "matmul": lambda x, y: _multiply_matrices(x, y),
}

# The kinds of nodes of a `forest`.
LEAF, AT_MOST, EQUALS = "LEAF", "BRANCH_LEQ", "BRANCH_EQ"
# The operators of `forest` and `encode_words`.
_FOREST, _LOOKUP = "TreeEnsembleRegressor", "LabelEncoder"


@dataclass(frozen=True, eq=False)
class Expr(NDArrayOperatorsMixin):
    """Expression: an array of values for each row.

    In ONNX it is the output of a node, a tensor of shape (n, *shape).

    Parameters
    ----------
    operator : str
        The ONNX operator; empty for the input of a model.
    inputs : tuple of Expr or arrays, default=()
        The operands. Arrays are constants.
    shape : tuple of int, default=()
        The shape of the values of a row. Elementwise functions broadcast it as NumPy does.
    attributes : mapping, by default empty
        The attributes of the node.
    dtype : dtype, default=np.float32
        The dtype of the values. Elementwise functions keep it.
    """

    operator: str
    inputs: tuple[Expr | Array, ...] = ()
    shape: Shape = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtype: Any = np.float32

    # Expressions are equal if they are identical; np.equal compares their values.
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Return the expression of a function."""
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

    nodes, constants, all_names = list[Any](), dict[Any, Any](), dict(names)

    def name_of(value: Expr | Array) -> str:
        if isinstance(value, Expr):
            return all_names[value]
        # Members share equal constants, so that runtimes compute equal nodes once.
        key = value.shape, value.dtype, value.tobytes()
        if key not in constants:
            constants[key] = numpy_helper.from_array(value, new_name("constant"))
        return str(constants[key].name)

    inputs_of, pending = dict[Expr, list[Expr]](), [*names]
    while pending:
        expression = pending.pop()
        if expression not in inputs_of:
            inputs_of[expression] = [x for x in expression.inputs if isinstance(x, Expr)]
            pending += inputs_of[expression]
    for expression in TopologicalSorter(inputs_of).static_order():
        kind = expression.operator
        if kind:
            output = all_names.setdefault(expression, new_name(kind.lower()))
            domain = ML_DOMAIN if kind in (_FOREST, _LOOKUP) else ""
            settings = {
                name: numpy_helper.from_array(a, name) if isinstance(a, np.ndarray) else a
                for name, a in expression.attributes.items()
            } | {"name": output, "domain": domain}
            inputs = [name_of(value) for value in expression.inputs]
            nodes.append(helper.make_node(kind, inputs, [output], **settings))
    return nodes, [*constants.values()]


# ------------------------------------------------------------------ elementwise functions


def _elementwise(operator: str, *operands: Any) -> Expr:
    """Return the expression of an elementwise operator on expressions, arrays and numbers."""
    dtype = [x.dtype for x in operands if isinstance(x, Expr)][-1]
    values = [x if isinstance(x, Expr) else _to_finite(x, dtype) for x in operands]
    shape = np.broadcast_shapes(*(x.shape for x in values))
    # In a tensor, axes of size one follow that of the rows.
    inputs = tuple(
        reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape) if isinstance(x, Expr) else x
        for x in values
    )
    return Expr(operator, inputs, shape, dtype=dtype)


def _multiply_matrices(x: Expr, y: Any) -> Expr:
    """Return the matrix products of x (..., a, b) or (b,) and y (..., b, c)."""
    y = y if isinstance(y, Expr) else _to_finite(y, x.dtype)
    return Expr("MatMul", (x, y), (*x.shape[:-1], y.shape[-1]), dtype=x.dtype)


def _to_finite(array: Any, dtype: Any = np.float32) -> Array:
    """Return an array of a dtype, or raise an error if it overflows."""
    converted = np.asarray(array, dtype=dtype)
    if not np.isfinite(converted).all():
        largest = float(np.abs(array).max())
        raise ValueError(
            "The model must have finite values in single precision, the precision of exported "
            f"models, but the largest is {largest:.3g}. Scale X and y down, and fit again."
        )
    return converted


def cast(x: Expr, dtype: Any) -> Expr:
    """Return values as floats in single or double precision, or as integers."""
    return Expr("Cast", (x,), x.shape, {"to": _TYPE_CODES[dtype]}, dtype) if x.width else x


def zeros(x: Expr) -> Expr:
    """Return a zero in single precision for each row."""
    return cast(np.isnan(take_columns(x, [0])) * 0.0, np.float32)


def _is_zero(x: Any) -> bool:
    return isinstance(x, (int, float)) and x == 0


def clip(x: Any, low: Any, high: Any) -> Any:
    """Return values limited to the range from low to high."""
    return np.minimum(np.maximum(x, low), high)


def fill_nan(x: Expr, fill: Any) -> Expr:
    """Return values in which NaN, for missing values, is replaced."""
    return _elementwise("Where", _elementwise("IsNaN", x), fill, x)


def softmax(x: Expr) -> Expr:
    """Return exp(x_k) / sum_j exp(x_j) over the last axis, without overflow."""
    return Expr("Softmax", (x,), x.shape)


def mean(x: Expr) -> Any:
    """Return the mean over the last axis, whose size becomes one."""
    # A sum of large numbers could overflow in single precision.
    return Expr("ReduceSum", (x * (1 / x.shape[-1]), np.array([-1])), (*x.shape[:-1], 1))


def root_of_squares(x: Any, y: Any) -> Any:
    """Return sqrt(x^2 + y^2), without overflow."""
    size = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.finfo(np.float32).tiny)
    return size * np.sqrt(np.square(x / size) + np.square(y / size))


def take_class(values: Expr, classes: Array) -> Expr:
    """Return the class with the largest value. Integers and strings have one dtype."""
    kind = classes.dtype.kind
    if kind == "U":
        classes = classes.astype(object)
    elif kind in "iu" and classes.max() <= np.iinfo(np.int64).max:
        classes = classes.astype(np.int64)
    code = Expr("ArgMax", (values,), attributes={"axis": -1, "keepdims": 0})
    return Expr("Gather", (classes, code), attributes={"axis": 0}, dtype=classes.dtype)


def is_above(values: Expr, threshold: float) -> Expr:
    """Return 1 where a value is above the threshold, else 0."""
    return cast(_elementwise("Greater", values, threshold), np.int64)


# ----------------------------------------------------------------- blocks, tables, trees


def multiply_blocks(x: Expr, maps: Array) -> Expr:
    """Return the product of each row of x with its own matrix (n_blocks, width, n_units)."""
    return _swap_rows(
        Expr("MatMul", (_swap_rows(x), _to_finite(maps)), (len(maps), maps.shape[-1]))
    )


def multiply_members(x: Expr, weights: Array) -> Expr:
    """Return products with the weights of each member (M, a, b), of x (a,) or (M, a)."""
    if len(x.shape) == 2:
        return multiply_blocks(x, weights)
    return reshape(x @ np.concatenate([*weights], axis=-1), weights.shape[::2])


def _swap_rows(x: Expr) -> Expr:
    """Return the tensor with the axes of the rows and of the first values exchanged."""
    return Expr("Transpose", (x,), x.shape, {"perm": [1, 0, 2]})


def gather(x: Expr, table: Array) -> Expr:
    """Return the row of a table (n_rows, width) for each x, or zeros if x is not the index of one.

    The rows of several x are side by side.
    """
    n_rows, width = table.shape
    with_zeros = _to_finite(np.pad(table, [(0, 1), (0, 0)]))
    nearest = _elementwise("Min", _elementwise("Max", _elementwise("Floor", x), 0.0), n_rows)
    row = _elementwise("Where", _elementwise("Equal", x, nearest), x, n_rows)
    rows = take_rows(row, with_zeros)
    return reshape(rows, (x.width * width,))


def take_rows(x: Expr, table: Array) -> Expr:
    """Return the row of a table for each x, the index of one."""
    shape = (*x.shape, *table.shape[1:])
    return Expr("Gather", (table, cast(x, np.int64)), shape, {"axis": 0}, table.dtype.type)


def encode_words(x: Expr, codes: Mapping[str, int]) -> Expr:
    """Return the code of each string, and 0 for others."""
    values = [float(code) for code in codes.values()]
    attributes = {"keys_strings": [*codes], "values_floats": values, "default_float": 0.0}
    return Expr(_LOOKUP, (x,), x.shape, attributes)


def forest(x: Expr, nodes: Mapping[str, Array], targets: Array, n_outputs: int) -> Expr:
    """Return sums of the leaves that a row x in double precision reaches, for each output.

    The nodes are arrays of shape (n_nodes,), by the names that the attributes ``nodes_...`` of
    ONNX's TreeEnsembleRegressor have: treeids, nodeids, modes (one of `LEAF`, `AT_MOST` and
    `EQUALS`), featureids, values (also those of leaves), truenodeids, falsenodeids and
    missing_value_tracks_true. In each tree they are numbered from 0, the root. The targets are the
    numbers of the outputs that the tree of a node adds to.
    """
    is_leaf = nodes["modes"] == LEAF
    arrays = {f"nodes_{name}": array for name, array in nodes.items() if name != "values"} | {
        "target_treeids": nodes["treeids"][is_leaf],
        "target_nodeids": nodes["nodeids"][is_leaf],
        "target_ids": targets[is_leaf],
    }
    attributes: dict[str, Any] = {name: array.tolist() for name, array in arrays.items()}
    attributes |= {
        "nodes_values_as_tensor": np.where(is_leaf, 0.0, nodes["values"]),
        "target_weights_as_tensor": nodes["values"][is_leaf],
        "n_targets": n_outputs,
    }
    return Expr(_FOREST, (x,), (n_outputs,), attributes)


# ------------------------------------------------------------------------ axes and columns


def take_columns(x: Expr | list[Expr], columns: Iterable[int]) -> Expr:
    """Return some of the values, by their indices on the last axis, or in a list of columns."""
    if isinstance(x, list):
        return concat([x[column] for column in columns])
    indices = np.array(list(columns), dtype=np.int64)
    if np.array_equal(indices, np.arange(x.shape[-1])):
        return x
    return Expr("Gather", (x, indices), (*x.shape[:-1], len(indices)), {"axis": -1}, x.dtype)


def concat(parts: Iterable[Expr]) -> Expr:
    """Return the values of expressions side by side, on the last axis."""
    operands = tuple(part for part in parts if part.width)
    if len(operands) < 2:
        return operands[0] if operands else Expr("Concat", shape=(0,))
    shape = *operands[0].shape[:-1], sum(x.shape[-1] for x in operands)
    return Expr("Concat", operands, shape, {"axis": -1}, operands[0].dtype)


def reshape(x: Expr, shape: Sequence[int]) -> Expr:
    """Return the values with another shape of a row."""
    shape = tuple(shape)
    constant = np.array([-1, *shape])
    return x if shape == x.shape else Expr("Reshape", (x, constant), shape, dtype=x.dtype)


def transpose(x: Expr, axes: Sequence[int]) -> Expr:
    """Return the values with other axes of a row: axis k is axis ``axes[k]`` of x."""
    perm = [0, *(1 + axis for axis in axes)]
    return Expr("Transpose", (x,), tuple(x.shape[axis] for axis in axes), {"perm": perm})


# ------------------------------------------------------------------- images and sequences


def over_windows(
    operator: str,
    x: Expr,
    windows: Sequence[AxisWindows],
    shape: Shape,
    constants: Iterable[Array] = (),
    **attributes: Any,
) -> Expr:
    """Return what an operator of ONNX computes over the windows of images.

    Images have the shape (height, width, channels), or less axes: a sequence is an image of height
    one. A transposed convolution has the windows of its output.

    Parameters
    ----------
    operator : str
        "Conv", "ConvTranspose", "MaxPool" or "AveragePool".
    x : Expr
        The images.
    windows : sequence of AxisWindows
        The windows along height and width.
    shape : tuple of int
        The shape of the result.
    constants : arrays, default=()
        Kernels of shape (height, width, channels, channels), and biases.
    **attributes : object
        Other attributes of the node.
    """
    size, size_after = [axis.n_inputs for axis in windows], [axis.n_outputs for axis in windows]
    if operator == "ConvTranspose":
        size, size_after = size_after, size
    attributes |= {
        "kernel_shape": [axis.size for axis in windows],
        "strides": [axis.stride for axis in windows],
        "pads": [*(axis.n_before for axis in windows), *(max(axis.n_after, 0) for axis in windows)],
    }
    # The operators compute with tensors (n, channels, height, width).
    images = transpose(reshape(x, (*size, x.width // math.prod(size))), (2, 0, 1))
    arrays = [_to_finite(a.transpose(3, 2, 0, 1) if a.ndim == 4 else a) for a in constants]
    shape_after = math.prod(shape) // math.prod(size_after), *size_after
    result = Expr(operator, (images, *arrays), shape_after, attributes)
    return reshape(transpose(result, (1, 2, 0)), shape)


def recurrence(
    operator: str,
    x: Expr,
    constants: Iterable[Array],
    return_sequences: bool,
    is_reversed: bool,
    **attributes: Any,
) -> Expr:
    """Return the states (n_steps, n_units) of a recurrent layer, or the last one, of sequences x.

    The operator is "GRU", "LSTM" or "RNN". The constants are the kernels (n_channels, n_gates
    n_units), the recurrent kernels (n_units, n_gates n_units) and the biases of both, in the order
    of gates that ONNX has.
    """
    # ONNX transposes the matrices, and has an axis for the direction.
    arrays = [_to_finite(array.T[None]) for array in constants]
    n_units = arrays[1].shape[-1]
    attributes |= {"hidden_size": n_units, "direction": "reverse" if is_reversed else "forward"}
    states = Expr(operator, (_swap_rows(x), *arrays), attributes=attributes)
    by_step = Expr("Squeeze", (states, np.array([1])), (x.shape[0], n_units))
    if return_sequences:
        return _swap_rows(by_step)
    last = np.array(0 if is_reversed else -1)
    return Expr("Gather", (by_step, last), (n_units,), {"axis": 0})


# -------------------------------------------------------------------------------- members


def stack_members(members: Sequence[Expr]) -> Expr:
    """Return the vectors of ensemble members as rows of a matrix; a single one stays a vector."""
    shape = len(members), members[0].width
    return members[0] if len(members) == 1 else reshape(concat(members), shape)


def mean_over_members(x: Expr) -> Any:
    """Return the mean of the rows of a matrix, or a vector as it is."""
    if len(x.shape) == 1:
        return x
    total = Expr("ReduceSum", (x, np.array([1])), x.shape[1:], {"keepdims": 0})
    return total * (1 / x.shape[0])


def std_over_members(x: Expr) -> Any:
    """Return the standard deviation of the rows of a matrix, or zeros for a vector."""
    return x * 0.0 if len(x.shape) == 1 else root_mean_square(x - mean_over_members(x))


def root_mean_square(x: Any) -> Any:
    """Return the root mean square over the members, without overflow."""
    size = np.maximum(mean_over_members(np.abs(x)), np.finfo(np.float32).tiny)
    return size * np.sqrt(mean_over_members(np.square(x / size)))
