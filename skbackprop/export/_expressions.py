"""Expressions: the computation of a fitted model, independent of the export format.

An `Expr` stands for a vector of values for each row. Operators and NumPy functions combine
expressions, so that a formula is plain NumPy: ``z * expit(z)``. Functions of this module make the
expressions that are not elementwise: `dense`, `softmax`, `take_columns` and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from scipy import special

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

# The range of 8-bit weights. With more inputs, the inputs would have fewer levels than the weights.
_MAX_WEIGHT = 127
_MAX_INT8_INPUTS = ((1 << 31) - 1) // _MAX_WEIGHT**2


@dataclass(frozen=True, eq=False)
class Expr(NDArrayOperatorsMixin):
    """Expression: a vector of values for each row, and for each ensemble member.

    Parameters
    ----------
    operation : str
        The name of one of `FUNCTIONS`, or of a function of this module.
    inputs : tuple of Expr, default=()
        The operands.
    width : int, default=1
        The number of values for a row.
    n_estimators : int, default=1
        The number of members with their own values.
    arrays : tuple of arrays, default=()
        Constant operands, such as weights or indices of columns.
    """

    operation: str
    inputs: tuple[Expr, ...] = ()
    width: int = 1
    n_estimators: int = 1
    arrays: tuple[Array, ...] = ()

    # Expressions are equal if they are identical; np.equal compares their values.
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Return the expression of an elementwise function."""
        name = ufunc.__name__
        if method != "__call__" or options or name not in FUNCTIONS:
            raise TypeError(
                f"Formulas can't use {name} ({method}, with the options {sorted(options)}). Use "
                f"operators and these functions of NumPy and SciPy: {sorted(FUNCTIONS)}."
            )
        return _make_elementwise(name, *inputs)

    @property
    def is_elementwise(self) -> bool:
        """Whether each value depends on one value of each operand."""
        return self.operation in FUNCTIONS


def row(n_inputs: int) -> Expr:
    """Return the input of a model."""
    return Expr("row", width=n_inputs)


def constant(values: Any) -> Expr:
    """Return values that are the same for all rows, of shape (), (width,) or (M, width).

    Raises
    ------
    ValueError
        If a value overflows in single precision.
    """
    if isinstance(values, Expr):
        return values
    array = _to_float32(np.atleast_2d(values))
    n_estimators, width = array.shape
    return Expr("constant", (), width, n_estimators, (array,))


def fill_nan(x: Expr, fill: Any) -> Any:
    """Return values in which NaN, for missing values, is replaced."""
    return _make_elementwise("fill_nan", x, fill)


def dense(x: Expr, weights: Array, biases: Array | None = None) -> Expr:
    """Return x W + b with weights (M, fan_in, fan_out) and biases (M, fan_out), if any."""
    n_estimators, _, width = weights.shape
    arrays = (weights,) if biases is None else (weights, biases)
    return Expr("dense", (x,), width, n_estimators, tuple(map(_to_float32, arrays)))


def max_rounded_input(n_inputs: int) -> int:
    """Return the largest integer input of `dense_int8` for which sums fit into 32 bits."""
    return min((1 << 15) - 1, ((1 << 31) - 1) // (_MAX_WEIGHT * n_inputs))


def dense_int8(x: Expr, weights: Array, biases: Array | None, sample: Array) -> Expr:
    """Return z_j = b_j + scale_j sum_i w_ji round(inverse_i x_i) with 8-bit weights w.

    Each input x_i is rounded to a multiple of its own unit, a 16-bit integer. The units are
    proportional to the root mean squares of the inputs in a sample of shape (n, d) or (M, n, d),
    and such that twice the largest value in the sample still fits into 16 bits. The units are
    multiplied into the weights, which are rounded to 8 bits with a scale for each output. Weights
    are therefore as precise as they are important, whatever the range of the inputs.
    """
    n_estimators, n_inputs, n_outputs = weights.shape
    if n_inputs > _MAX_INT8_INPUTS:
        raise ValueError(
            f'weight_dtype="int8" is for layers of up to {_MAX_INT8_INPUTS} inputs, and one layer '
            f'has {n_inputs}, whose sums could overflow 32 bits. Set weight_dtype="float32".'
        )
    inputs = (sample if sample.ndim == 3 else sample[None]).astype(np.float64)
    largest, size = np.abs(inputs).max(axis=1), np.sqrt(np.square(inputs).mean(axis=1))
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
    return Expr("dense_int8", (x,), n_outputs, n_estimators, tuple(arrays))


def integer_linear(x: Expr, matrix: Array) -> Expr:
    """Return x A with a matrix of small integers, which is not quantized."""
    return Expr(
        "integer_linear", (x,), matrix.shape[1], x.n_estimators, (_to_float32(matrix[None]),)
    )


def block_linear(x: Expr, maps: Array) -> Expr:
    """Return the product of each block of columns with its matrix (M, n_blocks, width, n_units)."""
    n_estimators, n_blocks, _, n_units = maps.shape
    return Expr("block_linear", (x,), n_blocks * n_units, n_estimators, (_to_float32(maps),))


def gather(x: Expr, tables: Array) -> Expr:
    """Return row x of tables (M, n_rows, width), or zeros if x is not the index of a row."""
    n_estimators, _, width = tables.shape
    with_zeros = _to_float32(np.pad(tables, [(0, 0), (0, 1), (0, 0)]))
    return Expr("gather", (x,), width, n_estimators, (with_zeros,))


def take_columns(x: Expr, columns: Iterable[int]) -> Expr:
    """Return some of the values, by their indices."""
    indices = np.array(list(columns), dtype=np.int64)
    return Expr("take_columns", (x,), len(indices), x.n_estimators, (indices,))


def concat(parts: Iterable[Expr]) -> Expr:
    """Return the values of expressions with the same number of members, side by side."""
    inputs = tuple(part for part in parts if part.width)
    if len(inputs) == 1:
        return inputs[0]
    width = sum(part.width for part in inputs)
    return Expr("concat", inputs, width, inputs[0].n_estimators if inputs else 1)


def broadcast_members(x: Expr, n_estimators: int) -> Any:
    """Return values that all members share, repeated for each member."""
    return x if x.n_estimators == n_estimators else x * np.ones((n_estimators, 1))


def reduce_sum(x: Expr) -> Expr:
    """Return the sum of the values of a row."""
    return Expr("reduce_sum", (x,), 1, x.n_estimators)


def softmax(x: Expr) -> Expr:
    """Return exp(x_k) / sum_j exp(x_j) over the values of a row, without overflow."""
    return Expr("softmax", (x,), x.width, x.n_estimators)


def mean_over_members(x: Expr) -> Expr:
    """Return the mean over the members."""
    return x if x.n_estimators == 1 else Expr("mean_over_members", (x,), x.width)


def flatten_members(x: Expr) -> Expr:
    """Return the values of all members in one vector."""
    if x.n_estimators == 1:
        return x
    return Expr("flatten_members", (x,), x.n_estimators * x.width)


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
    width = max(operand.width for operand in operands)
    n_estimators = max(operand.n_estimators for operand in operands)
    for operand in operands:
        if operand.width not in (1, width) or operand.n_estimators not in (1, n_estimators):
            sizes = [(each.n_estimators, each.width) for each in operands]
            raise ValueError(
                f"{name} got operands whose (n_estimators, width) do not match: {sizes}."
            )
    return Expr(name, operands, width, n_estimators)


def _to_float32(array: Any) -> Array:
    """Return an array in single precision, or raise an error if it overflows."""
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(single).all():
        largest = float(np.abs(array).max())
        raise ValueError(
            "The model has values that are not finite in single precision, in which models are "
            f"exported: the largest is {largest:.3g}. Scale X and y down, and fit again."
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
        The values of each expression, of shape (n, width), or (n_estimators, n, width) if it has
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
    """Return an array of shape (M, width) or (M, a, b) that broadcasts with values of rows."""
    if expression.n_estimators == 1:
        return np.asarray(array[0])
    return array[:, None] if array.ndim == 2 else array


def _dense(expression: Expr, x: Array) -> Array:
    weights, *biases = (align(expression, array) for array in expression.arrays)
    return x @ weights + (biases[0] if biases else 0)


def _dense_int8(expression: Expr, x: Array) -> Array:
    inverse, weights, scales, *biases = (align(expression, array) for array in expression.arrays)
    limit = max_rounded_input(expression.inputs[0].width)
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
    rows = np.where(x == np.clip(np.floor(x), 0, last), x, last).astype(np.intp)[..., 0]
    rows = np.broadcast_to(rows, (len(tables), rows.shape[-1]))
    found = np.take_along_axis(tables, rows[..., None], axis=1)
    return found[0] if expression.n_estimators == 1 else found


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
    "mean_over_members": lambda _, x: x.mean(axis=0),
    "flatten_members": lambda _, x: np.hstack(list(x)),
}
