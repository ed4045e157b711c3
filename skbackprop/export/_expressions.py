"""Expressions: the computation of a fitted model, independent of the export format.

An `Expr` stands for an array of values for each row: a vector, the steps and channels of a
sequence, or an image. Operators and NumPy functions combine expressions, so that a formula is plain
NumPy: ``z * expit(z)``. Functions of this module make the expressions that are not elementwise:
`dense`, `softmax`, `take_columns` and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

from ..layers.base import Shape
from ..utils.arrays import Array

# The elementwise functions, by their names in NumPy and SciPy.
_UFUNCS: tuple[Any, ...] = (
    *(np.add, np.subtract, np.multiply, np.divide, np.negative, np.power, np.square),
    *(np.absolute, np.maximum, np.minimum, np.equal, np.isnan),
    *(np.exp, np.expm1, np.log, np.log1p, np.sqrt, np.tanh, np.sin, np.cos),
    *(special.expit, special.erf),
)
FUNCTIONS: dict[str, Callable[..., Array]] = {
    **{function.__name__: function for function in _UFUNCS},
    "fill_nan": lambda x, fill: np.asarray(np.where(np.isnan(x), fill, x)),
}

# Activations of simple recurrent layers, by their names in `ACTIVATIONS`.
RECURRENT_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "logistic": special.expit,
}

# The kinds of nodes of a `forest`.
LEAF, AT_MOST, EQUALS = range(3)

# Operations for which programs in C store no values.
_VIEWS = ("reshape", "windows")

# The range of 8-bit weights. With more inputs, the inputs would have fewer levels than the weights.
_MAX_WEIGHT = 127
_MAX_INT8_INPUTS = ((1 << 31) - 1) // _MAX_WEIGHT**2


@dataclass(frozen=True, eq=False)
class Expr(NDArrayOperatorsMixin):
    """Expression: an array of values for each row, and for each ensemble member.

    Parameters
    ----------
    operation : str
        The name of one of `FUNCTIONS`, or of a function of this module.
    inputs : tuple of Expr, default=()
        The operands.
    shape : tuple of int, default=(1,)
        The shape of the values of a row. Elementwise functions broadcast it as NumPy does.
    n_estimators : int, default=1
        The number of members with their own values.
    arrays : tuple of arrays, default=()
        Constant operands, such as weights or indices of columns.
    attributes : mapping, by default empty
        Settings of the operation, such as the strides of windows.
    """

    operation: str
    inputs: tuple[Expr, ...] = ()
    shape: Shape = (1,)
    n_estimators: int = 1
    arrays: tuple[Array, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)

    # Expressions are equal if they are identical; np.equal compares their values.
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Return the expression of an elementwise function."""
        name = ufunc.__name__
        if method != "__call__" or options or name not in FUNCTIONS:
            raise TypeError(
                f"Formulas cannot use {name} ({method}, with the options {sorted(options)}). Use "
                f"operators and these functions of NumPy and SciPy: {sorted(FUNCTIONS)}."
            )
        return _make_elementwise(name, *inputs)

    @property
    def is_elementwise(self) -> bool:
        """Whether each value depends on one value of each operand."""
        return self.operation in FUNCTIONS

    @property
    def width(self) -> int:
        """The number of values of a row."""
        return math.prod(self.shape)

    @property
    def n_channels(self) -> int:
        """The number of values of a position, which is a row if the shape has one axis."""
        return self.shape[-1]

    @property
    def n_positions(self) -> int:
        """The number of positions of a row: 1 if the shape has one axis."""
        return math.prod(self.shape[:-1])

    @property
    def memory(self) -> Expr:
        """The expression whose values a program stores for it: itself, or that which it views."""
        return self.inputs[0].memory if self.operation in _VIEWS else self


def model_input(n_inputs: int) -> Expr:
    """Return the input of a model."""
    return Expr("row", shape=(n_inputs,))


def constant(values: Any) -> Expr:
    """Return values that are the same for all rows, of shape (), (width,) or (M, *shape).

    Raises
    ------
    ValueError
        If a value overflows in single precision.
    """
    if isinstance(values, Expr):
        return values
    array = _to_float32(np.atleast_2d(values))
    n_estimators, *shape = array.shape
    return Expr("constant", (), tuple(shape), n_estimators, (array,))


def fill_nan(x: Expr, fill: Any) -> Any:
    """Return values in which NaN, for missing values, is replaced."""
    return _make_elementwise("fill_nan", x, fill)


def dense(x: Expr, weights: Array, biases: Array | None = None) -> Expr:
    """Return x W + b with weights (M, fan_in, fan_out) and biases (M, fan_out), if any.

    It is computed for each position of x, over the channels.
    """
    n_estimators, _, width = weights.shape
    arrays = (weights,) if biases is None else (weights, biases)
    shape = *x.shape[:-1], width
    return Expr("dense", (x,), shape, n_estimators, tuple(map(_to_float32, arrays)))


def max_rounded_input(n_inputs: int) -> int:
    """Return the largest integer input of `dense_int8` for which sums fit into 32 bits."""
    return min((1 << 15) - 1, ((1 << 31) - 1) // (_MAX_WEIGHT * n_inputs))


def measure_channels(x: Expr, values: Array) -> tuple[Array, Array]:
    """Return the largest size and the mean square of the channels of x, (M, n_channels) each."""
    inputs = values.reshape(x.n_estimators, -1, x.n_channels).astype(np.float64)
    return np.abs(inputs).max(axis=1), np.square(inputs).mean(axis=1)


def dense_int8(
    x: Expr, weights: Array, biases: Array | None, largest: Array, mean_square: Array
) -> Expr:
    """Return z_j = b_j + scale_j sum_i w_ji round(inverse_i x_i) with 8-bit weights w.

    Each input x_i is rounded to a multiple of its own unit, a 16-bit integer. The units are
    proportional to the root mean squares of the inputs in a sample, measured by `measure_channels`,
    and such that twice the largest value in the sample still fits into 16 bits. The units are
    multiplied into the weights, which are rounded to 8 bits with a scale for each output. Weights
    are therefore as precise as they are important, whatever the range of the inputs.
    """
    n_estimators, n_inputs, n_outputs = weights.shape
    if n_inputs > _MAX_INT8_INPUTS:
        raise ValueError(
            f'weight_dtype="int8" needs layers of at most {_MAX_INT8_INPUTS} inputs, because sums '
            f'could overflow 32 bits, but one layer has {n_inputs}. Set weight_dtype="float32".'
        )
    size = np.sqrt(mean_square)
    # Inputs that are always zero are assumed to be as large as the largest other input.
    layer_size = size.max(axis=1, keepdims=True)
    size = np.where(size > 0, size, np.where(layer_size > 0, layer_size, 1.0))
    headroom = (2.0 * np.maximum(largest / size, 1.0)).max(axis=1, keepdims=True)
    units = size * headroom / max_rounded_input(n_inputs)
    scaled = weights * units[:, :, None]
    scales = np.abs(scaled).max(axis=1, keepdims=True) / _MAX_WEIGHT
    rounded = np.rint(scaled / np.where(scales > 0, scales, 1.0))
    arrays = [(1 / units).astype(np.float32), np.ascontiguousarray(rounded.swapaxes(1, 2), np.int8)]
    arrays += [scales[:, 0].astype(np.float32), *([] if biases is None else [biases])]
    return Expr("dense_int8", (x,), (*x.shape[:-1], n_outputs), n_estimators, tuple(arrays))


def integer_linear(x: Expr, matrix: Array) -> Expr:
    """Return x A with a matrix of small integers, which is not quantized."""
    shape = *x.shape[:-1], matrix.shape[1]
    return Expr("integer_linear", (x,), shape, x.n_estimators, (_to_float32(matrix[None]),))


def block_linear(x: Expr, maps: Array) -> Expr:
    """Return the product of each block of columns with its matrix (M, n_blocks, width, n_units)."""
    n_estimators, n_blocks, _, n_units = maps.shape
    return Expr("block_linear", (x,), (n_blocks * n_units,), n_estimators, (_to_float32(maps),))


def gather(x: Expr, tables: Array) -> Expr:
    """Return row x of tables (M, n_rows, width), or zeros if x is not the index of a row.

    The rows of several x are side by side.
    """
    n_estimators, _, width = tables.shape
    with_zeros = _to_float32(np.pad(tables, [(0, 0), (0, 1), (0, 0)]))
    return Expr("gather", (x,), (x.width * width,), n_estimators, (with_zeros,))


def take_columns(x: Expr, columns: Iterable[int]) -> Expr:
    """Return some of the values, by their indices on the last axis."""
    indices = np.array(list(columns), dtype=np.int64)
    return Expr("take_columns", (x,), (*x.shape[:-1], len(indices)), x.n_estimators, (indices,))


def concat(parts: Iterable[Expr]) -> Expr:
    """Return the values of expressions with the same number of members, on the last axis."""
    inputs = tuple(part for part in parts if part.width)
    if len(inputs) == 1:
        return inputs[0]
    if not inputs:
        return Expr("concat", shape=(0,))
    shape = *inputs[0].shape[:-1], sum(part.n_channels for part in inputs)
    return Expr("concat", inputs, shape, inputs[0].n_estimators)


def broadcast_members(x: Expr, n_estimators: int) -> Any:
    """Return values that all members share, repeated for each member."""
    return x if x.n_estimators == n_estimators else x * np.ones((n_estimators, 1))


def reduce_sum(x: Expr) -> Expr:
    """Return the sum over the last axis, whose size becomes one."""
    return Expr("reduce_sum", (x,), (*x.shape[:-1], 1), x.n_estimators)


def softmax(x: Expr) -> Expr:
    """Return exp(x_k) / sum_j exp(x_j) over the last axis, without overflow."""
    return Expr("softmax", (x,), x.shape, x.n_estimators)


def reshape(x: Expr, shape: Sequence[int]) -> Expr:
    """Return the values with another shape of a row."""
    x, shape = x.inputs[0] if x.operation == "reshape" else x, tuple(shape)
    return x if shape == x.shape else Expr("reshape", (x,), shape, x.n_estimators)


def transpose(x: Expr, axes: Sequence[int]) -> Expr:
    """Return the values with other axes of a row: axis k is axis ``axes[k]`` of x."""
    shape = tuple(x.shape[axis] for axis in axes)
    return Expr("transpose", (x,), shape, x.n_estimators, (), {"axes": tuple(axes)})


def matmul(x: Expr, y: Expr) -> Expr:
    """Return the matrix products of x (..., a, b) and y (..., b, c) of the same members."""
    shape = *x.shape[:-1], y.n_channels
    return Expr("matmul", (x, y), shape, x.n_estimators)


def windows(
    x: Expr,
    size: Sequence[int],
    strides: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0, 0, 0),
    dilation: Sequence[int] = (1, 1),
) -> Expr:
    """Return the values of an image (h, w, c) in each window, side by side, for `dense`.

    `padding` is the number of zeros at the top, on the left, at the bottom and on the right.
    """
    attributes = _slide(x, size, strides, padding, dilation)
    shape = *attributes["n_windows"], math.prod(size) * x.n_channels
    return Expr("windows", (x,), shape, x.n_estimators, (), attributes)


def depthwise(x: Expr, kernels: Array, biases: Array | None) -> Expr:
    """Return the sum over each window x of the products with kernels, for each channel.

    The kernels have the shape (M, height, width, n_channels), with as many members as the windows.
    """
    n_estimators, n_channels = len(kernels), kernels.shape[-1]
    arrays = [kernels.reshape(n_estimators, -1, n_channels), *([] if biases is None else [biases])]
    shape = *x.shape[:-1], n_channels
    return Expr("depthwise", (x,), shape, n_estimators, tuple(map(_to_float32, arrays)))


def transposed_convolution(
    x: Expr,
    kernels: Array,
    output_size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
) -> Expr:
    """Return an image to which each position of x adds a window, its channels times kernels.

    The kernels have the shape (M, height, width, n_filters, n_channels). `padding` is the number of
    rows at the top and of columns on the left of the windows that are outside the image.
    """
    n_estimators, height, width, n_filters, n_channels = kernels.shape
    by_channel = np.moveaxis(kernels, -1, 1).reshape(n_estimators, n_channels, -1)
    named = {"size": (height, width), "strides": strides, "padding": padding}
    attributes = {name: tuple(map(int, values)) for name, values in named.items()}
    attributes["n_windows"] = x.shape[:2]
    shape = (*output_size, n_filters)
    arrays = (_to_float32(by_channel),)
    return Expr("transposed_convolution", (x,), shape, n_estimators, arrays, attributes)


def pool(
    x: Expr,
    kind: Literal["max", "average"],
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int] = (0, 0, 0, 0),
) -> Expr:
    """Return the largest value or the mean of each window of an image, without the padding."""
    attributes = _slide(x, size, strides, padding, (1, 1))
    shape = *attributes["n_windows"], x.n_channels
    return Expr(f"{kind}_pool", (x,), shape, x.n_estimators, (), attributes)


def recurrence(
    x: Expr,
    cell: Literal["gru", "lstm", "simple_rnn"],
    arrays: Sequence[Array],
    return_sequences: bool,
    is_reversed: bool = False,
    activation: str = "tanh",
) -> Expr:
    """Return the states (n_steps, n_units) of a recurrent layer, or the last one, of sequences x.

    The arrays are kernels (M, n_channels, n_gates n_units), recurrent kernels (M, n_units, n_gates
    n_units) and biases (M, n_gates n_units). The gates of a GRU are z, r and the candidate, whose
    recurrent biases (M, n_units) are one more array. Those of an LSTM are i, f, the candidate and
    o. A simple layer has one of `RECURRENT_ACTIVATIONS`.
    """
    n_estimators, n_units, _ = arrays[1].shape
    shape = (x.shape[0], n_units) if return_sequences else (n_units,)
    attributes = {
        "cell": cell,
        "n_units": n_units,
        "return_sequences": return_sequences,
        "is_reversed": is_reversed,
        "activation": activation,
    }
    each = tuple(map(_to_float32, arrays))
    return Expr("recurrence", (x,), shape, n_estimators, each, attributes)


def forest(x: Expr, nodes: Mapping[str, Array], n_estimators: int, width: int) -> Expr:
    """Return sums of the leaves that a row reaches in trees, for each output of each member.

    The nodes are arrays of shape (n_nodes,). In each tree they are numbered from 0, the root.

    - ``tree``, ``node``: the numbers of the tree and of the node in it.
    - ``kind``: one of `LEAF`, `AT_MOST` and `EQUALS`, which compare a value of x with ``number``.
    - ``column``: the column of the value.
    - ``number``: the number, or the value of a leaf.
    - ``yes``, ``no``: the next nodes.
    - ``is_yes_if_missing``: whether NaN leads to ``yes``.
    - ``target``: the number of the output that the tree adds to: ``member * width + output``.
    """
    _to_float32(nodes["number"][nodes["kind"] == LEAF])
    return Expr("forest", (x,), (width,), n_estimators, attributes=nodes)


def _slide(
    x: Expr,
    size: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> dict[str, tuple[int, ...]]:
    """Return the attributes of windows, with their numbers ``n_windows`` in both directions."""
    n_windows = (
        (n + before + after - step * (k - 1) - 1) // stride + 1
        for n, before, after, k, stride, step in zip(
            x.shape, padding[:2], padding[2:], size, strides, dilation, strict=False
        )
    )
    named = {"size": size, "strides": strides, "padding": padding, "dilation": dilation}
    attributes = {name: tuple(map(int, values)) for name, values in named.items()}
    return {**attributes, "n_windows": tuple(n_windows)}


def mean_over_members(x: Expr) -> Expr:
    """Return the mean over the members."""
    return x if x.n_estimators == 1 else Expr("mean_over_members", (x,), x.shape)


def flatten_members(x: Expr) -> Expr:
    """Return the values of all members in one vector."""
    if x.n_estimators == 1:
        return x
    return Expr("flatten_members", (x,), (x.n_estimators * x.width,))


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


def root_of_squares(x: Any, y: Any) -> Any:
    """Return sqrt(x^2 + y^2), without overflow."""
    size = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.finfo(np.float32).tiny)
    return size * np.sqrt(np.square(x / size) + np.square(y / size))


def _make_elementwise(name: str, *inputs: Any) -> Expr:
    operands = tuple(map(constant, inputs))
    n_estimators = max(operand.n_estimators for operand in operands)
    sizes = [(each.n_estimators, *each.shape) for each in operands]
    try:
        shape = np.broadcast_shapes(*(operand.shape for operand in operands))
    except ValueError:
        shape = ()
    if not shape or any(n not in (1, n_estimators) for n, *_ in sizes):
        raise ValueError(f"{name} got operands whose (n_estimators, *shape) do not match: {sizes}.")
    operands = tuple(_with_axes(operand, len(shape)) for operand in operands)
    return Expr(name, operands, shape, n_estimators)


def _with_axes(x: Expr, n_axes: int) -> Expr:
    """Return values with axes of size one in front, unless they are a single number."""
    n_new = n_axes - len(x.shape)
    if not n_new or (x.operation == "constant" and x.arrays[0].size == 1):
        return x
    shape = *[1] * n_new, *x.shape
    if x.operation == "constant":
        return constant(x.arrays[0].reshape(x.n_estimators, *shape))
    return reshape(x, shape)


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


def topological_sort(outputs: Iterable[Expr]) -> list[Expr]:
    """Return the outputs and all their direct and indirect inputs, each after its inputs."""
    found: dict[int, Expr] = {}
    stack = [(output, False) for output in reversed(list(outputs))]
    while stack:
        expression, has_inputs = stack.pop()
        if id(expression) in found:
            continue
        if has_inputs:
            found[id(expression)] = expression
        else:
            stack.append((expression, True))
            stack += [(each, False) for each in reversed(expression.inputs)]
    return list(found.values())


# -------------------------------------------------------------------------- evaluation


def evaluate(outputs: Iterable[Expr], X: Array) -> dict[Expr, Array]:
    """Compute the values of expressions and of all their inputs, in single precision.

    Parameters
    ----------
    outputs : iterable of Expr
        The expressions.
    X : array of shape (n, n_inputs)
        The rows.

    Returns
    -------
    values : dict of arrays
        The values of each expression, of shape (n, *shape), or (n_estimators, n, *shape) if it has
        several members.
    """
    values: dict[Expr, Array] = {}
    with np.errstate(all="ignore"):
        for expression in topological_sort(outputs):
            inputs = [values[each] for each in expression.inputs]
            if expression.operation == "row":
                value = X
            elif expression.is_elementwise:
                value = FUNCTIONS[expression.operation](*inputs)
            else:
                value = OPERATIONS[expression.operation](expression, *inputs)
            values[expression] = np.asarray(value, dtype=np.float32)
    return values


def align(expression: Expr, array: Array) -> Array:
    """Return an array with the member axis first that broadcasts with values of rows.

    A member has an array of the shape of values, a vector of channels, or matrices.
    """
    n_estimators, *shape = array.shape
    if expression.n_estimators == 1:
        return np.asarray(array[0])
    n_new = 1 + len(expression.shape) - len(shape)
    return array.reshape(n_estimators, *[1] * n_new, *shape)


def _dense(expression: Expr, x: Array) -> Array:
    weights, *biases = (align(expression, array) for array in expression.arrays)
    return x @ weights + (biases[0] if biases else 0)


def _dense_int8(expression: Expr, x: Array) -> Array:
    inverse, weights, scales, *biases = (align(expression, array) for array in expression.arrays)
    limit = max_rounded_input(expression.inputs[0].n_channels)
    scaled = x * inverse
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    rounded = np.clip(rounded, -limit, limit).astype(float)
    sums = (rounded @ weights.astype(float).swapaxes(-1, -2)).astype(np.float32)
    return np.asarray(sums * scales + (biases[0] if biases else 0))


def _block_linear(expression: Expr, x: Array) -> Array:
    (maps,) = expression.arrays
    _, n_blocks, width, _ = maps.shape
    blocks = x.reshape(*x.shape[:-1], n_blocks, width).swapaxes(-2, -3)
    mapped = (blocks @ align(expression, maps)).swapaxes(-2, -3)
    return np.asarray(mapped.reshape(*mapped.shape[:-2], expression.width))


def _gather(expression: Expr, x: Array) -> Array:
    tables = expression.arrays[0]
    last = tables.shape[1] - 1
    rows = np.where(x == np.clip(np.floor(x), 0, last), x, last).astype(np.intp)
    rows = np.broadcast_to(rows, (len(tables), *rows.shape[-2:]))
    found = np.stack([table[own] for table, own in zip(tables, rows, strict=True)])
    found = found.reshape(len(tables), -1, expression.width)
    return np.asarray(found[0] if expression.n_estimators == 1 else found)


def _reshape(expression: Expr, x: Array) -> Array:
    n_axes = len(expression.inputs[0].shape)
    return x.reshape(*x.shape[:-n_axes], *expression.shape)


def _transpose(expression: Expr, x: Array) -> Array:
    axes = expression.attributes["axes"]
    return np.moveaxis(x, [axis - len(axes) for axis in axes], range(-len(axes), 0))


def _slide_over(expression: Expr, x: Array, fill: float) -> Array:
    """Return windows (..., n_windows, n_windows, size, size, n_channels) of padded images."""
    each = expression.attributes
    (size, strides, padding, dilation) = (
        each[name] for name in ("size", "strides", "padding", "dilation")
    )
    sides = [(0, 0)] * (x.ndim - 3) + [padding[::2], padding[1::2], (0, 0)]
    padded = np.pad(x, sides, constant_values=fill)
    spans = [step * (k - 1) + 1 for k, step in zip(size, dilation, strict=True)]
    found = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(-3, -2))
    (down, right), (step_down, step_right) = strides, dilation
    return np.moveaxis(found[..., ::down, ::right, :, ::step_down, ::step_right], -3, -1)


def _windows(expression: Expr, x: Array) -> Array:
    return _slide_over(expression, x, 0.0).reshape(*x.shape[:-3], *expression.shape)


def _depthwise(expression: Expr, x: Array) -> Array:
    kernels, *biases = expression.arrays
    n_estimators, size, n_channels = kernels.shape
    by_channel = x.reshape(n_estimators, *x.shape[-4:-1], size, n_channels)
    products = by_channel * kernels[:, None, None, None]
    summed = products.sum(axis=-2) if n_estimators > 1 else products.sum(axis=-2)[0]
    return np.asarray(summed + (align(expression, biases[0]) if biases else 0))


def _transposed_convolution(expression: Expr, x: Array) -> Array:
    (kernels,), each = expression.arrays, expression.attributes
    (height, width, n_filters), (top, left) = expression.shape, each["padding"]
    (down, right), size = each["strides"], each["size"]
    n, m = each["n_windows"]
    added = x @ align(expression, kernels)
    # From the first to the last row and column to which one value of the kernels is added.
    n_rows, n_columns = (n - 1) * down + 1, (m - 1) * right + 1
    padded = max(top + height, n_rows + size[0]), max(left + width, n_columns + size[1])
    out = np.zeros((*added.shape[:-3], *padded, n_filters), np.float32)
    for i, (row, column) in enumerate(np.ndindex(*size)):
        part = added[..., i * n_filters : (i + 1) * n_filters]
        out[..., row : row + n_rows : down, column : column + n_columns : right, :] += part
    return out[..., top : top + height, left : left + width, :]


def _recurrence(expression: Expr, x: Array) -> Array:
    each = expression.attributes
    kernels, recurrent, biases, *others = (
        array if array.ndim == 3 else array[:, None] for array in expression.arrays
    )
    x = x if x.ndim == 4 else x[None]
    h = c = np.zeros((1, x.shape[1], each["n_units"]), np.float32)
    n_gates = biases.shape[-1] // each["n_units"]
    steps = np.moveaxis(x, 2, 0)[:: -1 if each["is_reversed"] else 1]
    states = []
    for step in steps:
        by_input = np.split(step @ kernels + biases, n_gates, axis=-1)
        by_state = np.split(h @ recurrent, n_gates, axis=-1)
        z = [a + b for a, b in zip(by_input, by_state, strict=True)]
        if each["cell"] == "gru":
            update, reset = map(special.expit, z[:2])
            candidate = np.tanh(by_input[2] + reset * (by_state[2] + others[0]))
            h = candidate + update * (h - candidate)
        elif each["cell"] == "lstm":
            c = special.expit(z[1]) * c + special.expit(z[0]) * np.tanh(z[2])
            h = special.expit(z[3]) * np.tanh(c)
        else:
            h = RECURRENT_ACTIVATIONS[each["activation"]](z[0])
        states.append(h)
    found = h
    if each["return_sequences"]:
        found = np.stack(states[:: -1 if each["is_reversed"] else 1], axis=2)
    return found if expression.n_estimators > 1 else found[0]


OPERATIONS: dict[str, Callable[..., Array]] = {
    "constant": lambda expression: align(expression, expression.arrays[0]),
    "dense": _dense,
    "dense_int8": _dense_int8,
    "integer_linear": lambda expression, x: x @ expression.arrays[0][0],
    "block_linear": _block_linear,
    "gather": _gather,
    "take_columns": lambda expression, x: x[..., expression.arrays[0]],
    "concat": lambda _, *parts: np.concatenate(parts, axis=-1),
    "reduce_sum": lambda _, x: x.sum(axis=-1, keepdims=True),
    "softmax": lambda _, x: special.softmax(x, axis=-1),
    "reshape": _reshape,
    "transpose": _transpose,
    "matmul": lambda _, x, y: x @ y,
    "windows": _windows,
    "depthwise": _depthwise,
    "transposed_convolution": _transposed_convolution,
    "max_pool": lambda each, x: _slide_over(each, x, -np.inf).max(axis=(-3, -2)),
    "average_pool": lambda each, x: np.nanmean(_slide_over(each, x, np.nan), axis=(-3, -2)),
    "recurrence": _recurrence,
    "mean_over_members": lambda _, x: x.mean(axis=0),
    "flatten_members": lambda _, x: np.hstack(list(x)),
}
