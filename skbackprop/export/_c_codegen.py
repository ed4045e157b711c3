"""Generate the C code of a model: runtime functions, constants and statements."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from ..utils.arrays import Array
from ._buffer_allocation import BufferPlan
from ._expressions import Expr
from ._int8_quantization import QuantizedDense
from ._model_graph import ArgmaxOutput, ModelGraph, ThresholdOutput

# Runtime functions. PREFIX stands for the prefix of a program's names.
C_FUNCTIONS = {
    "logistic": """\
/* 1 / (1 + exp(-z)), without overflow. */
static float PREFIX_logistic(float z)
{
    const float e = expf(-fabsf(z));
    return (z >= 0.0f ? 1.0f : e) / (1.0f + e);
}
""",
    "dense": """\
/* out = x w + b with weights w[n][k] and biases b[k], or NULL for none. */
static void PREFIX_dense(
    const float *x, const float *w, const float *b, size_t n, size_t k, float *out)
{
    for (size_t j = 0; j < k; ++j) out[j] = b ? b[j] : 0.0f;
    for (size_t i = 0; i < n; ++i, w += k) {
        const float xi = x[i];
        if (xi == 0.0f) continue; /* common after relu */
        for (size_t j = 0; j < k; ++j) out[j] += xi * w[j];
    }
}
""",
    "dense_int8": """\
/* out = b + scale * (w q) with integers q = round(inverse * x), clipped to the limit, and weights
   w[k][n]. The sums fit into 32 bits for all x. */
static void PREFIX_dense_int8(
    const float *x, const float *inverse, float limit, const int8_t *w, const float *scale,
    const float *b, size_t n, size_t k, float *out)
{
    for (size_t i = 0; i < n; ++i) {
        float v = x[i] * inverse[i];
        v += v >= 0.0f ? 0.5f : -0.5f;
        if (!(v > -limit)) v = -limit; /* also if v is NaN */
        if (v > limit) v = limit;
        PREFIX_rounded[i] = (int16_t)v;
    }
    for (size_t j = 0; j < k; ++j, w += n) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; ++i) sum += (int32_t)w[i] * PREFIX_rounded[i];
        out[j] = (float)sum * scale[j] + (b ? b[j] : 0.0f);
    }
}
""",
    "gather": """\
/* out = row *x of w[n + 1][k], or the last row if *x is not an integer from 0 to n - 1. */
static void PREFIX_gather(const float *x, const float *w, size_t n, size_t k, float *out)
{
    const size_t row = *x >= 0.0f && *x < (float)n && *x == floorf(*x) ? (size_t)*x : n;
    for (size_t j = 0; j < k; ++j) out[j] = w[row * k + j];
}
""",
    "reduce_sum": """\
/* out = the sum of n values. */
static void PREFIX_reduce_sum(const float *x, size_t n, float *out)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; ++i) sum += x[i];
    *out = sum;
}
""",
    "softmax": """\
/* out = exp(x) / sum(exp(x)), without overflow. */
static void PREFIX_softmax(const float *x, size_t n, float *out)
{
    float largest = x[0], sum = 0.0f;
    for (size_t i = 1; i < n; ++i) if (x[i] > largest) largest = x[i];
    for (size_t i = 0; i < n; ++i) sum += out[i] = expf(x[i] - largest);
    for (size_t i = 0; i < n; ++i) out[i] /= sum;
}
""",
    "mean_over_members": """\
/* out = the mean of n values over m members. */
static void PREFIX_mean_over_members(const float *x, size_t m, size_t n, float *out)
{
    for (size_t i = 0; i < n; ++i) {
        float sum = 0.0f;
        for (size_t member = 0; member < m; ++member) sum += x[member * n + i];
        out[i] = sum / (float)m;
    }
}
""",
    "argmax": """\
/* The index of the first largest of n values. */
static int PREFIX_argmax(const float *x, size_t n)
{
    size_t largest = 0;
    for (size_t i = 1; i < n; ++i) if (x[i] > x[largest]) largest = i;
    return (int)largest;
}
""",
}


# Elementwise functions. Maximum and minimum are NaN if the first operand is, as in NumPy, unlike
# C's fmaxf and fminf.
_ELEMENTWISE = {
    "add": "{} + {}",
    "subtract": "{} - {}",
    "multiply": "{} * {}",
    "divide": "{} / {}",
    "negative": "-{}",
    "power": "powf({}, {})",
    "square": "{0} * {0}",
    "absolute": "fabsf({})",
    "maximum": "{0} < {1} ? {1} : {0}",
    "minimum": "{0} > {1} ? {1} : {0}",
    "equal": "{} == {} ? 1.0f : 0.0f",
    "isnan": "isnan({}) ? 1.0f : 0.0f",
    "fill_nan": "isnan({0}) ? {1} : {0}",
    "exp": "expf({})",
    "expm1": "expm1f({})",
    "log": "logf({})",
    "log1p": "log1pf({})",
    "sqrt": "sqrtf({})",
    "tanh": "tanhf({})",
    "sin": "sinf({})",
    "cos": "cosf({})",
    "expit": "PREFIX_logistic({})",
    "erf": "erff({})",
}
_WIDTH, _INDENT = 100, "    "


def _float_literal(value: Any) -> str:
    """Return the shortest C literal of a number in single precision."""
    return f"{np.float32(value)!s}f"


# For each NumPy dtype the C type, and the function that returns literals.
_TYPES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "float32": ("float", _float_literal),
    "int8": ("int8_t", str),
    "uint8": ("uint8_t", str),
    "uint16": ("uint16_t", str),
    "uint32": ("uint32_t", str),
}


def _member_pointer(name: str, value: Expr, n_rows: int = 1) -> str:
    """Return the pointer to the values of member m in an array."""
    return f"{name} + m * {n_rows * value.width}" if value.n_estimators > 1 else name


def _element(pointer: str, index: str = "i") -> str:
    """Return an element of an array. The pointer is a name, or a name and an offset."""
    name, _, offset = pointer.partition(" + ")
    if offset and index == "0":
        return f"{name}[{offset}]"
    return f"{name}[{offset} + {index}]" if offset else f"{name}[{index}]"


def _copy(x: str, out: str, width: int) -> Iterator[str]:
    """Yield a loop that copies values."""
    yield f"for (size_t i = 0; i < {width}; ++i) {_element(out)} = {_element(x)};"


def _operand(value: float) -> str:
    """Return a literal for use in an expression, with parentheses around negative numbers."""
    text = _float_literal(value)
    return f"({text})" if text.startswith("-") else text


class CCodegen:
    """C code of a model: constants, statements and the runtime functions that they call.

    Parameters
    ----------
    model : ModelGraph
        The computation graph of the model.
    prefix : str
        The prefix of all names.
    layers : dict of QuantizedDense
        The dense layers with 8-bit weights.

    Attributes
    ----------
    plan : BufferPlan
        The order of computation and the buffers.
    data : list of str
        The definitions of weights and other constants.
    n_data_bytes : int
        The size of the constants.
    body : list of str
        The statements of the function that computes the outputs.
    functions : set of str
        The names of the runtime functions that it calls.
    """

    def __init__(
        self, model: ModelGraph, prefix: str, layers: Mapping[Expr, QuantizedDense]
    ) -> None:
        self.model, self.prefix, self._layers = model, prefix, layers
        self.plan = BufferPlan(model.expressions)
        self.data: list[str] = []
        self.n_data_bytes = 0
        self.functions: set[str] = set()
        self._numbers = count()
        self._names: dict[int, tuple[str, Array]] = {}  # by id, with the array to keep it alive
        self.body = [*self._compute_statements(), *self._output_statements()]

    # -------------------------------------------------------------------------- values

    def _array(self, array: Array, kind: str = "constant") -> str:
        """Return the name of an array in the program, and define it if it is new."""
        if id(array) not in self._names:
            name = f"{self.prefix}_{kind}{next(self._numbers)}"
            c_type, to_literal = _TYPES[array.dtype.name]
            texts = ", ".join(map(to_literal, array.ravel()))
            lines = textwrap.fill(texts, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
            self.data.append(f"static const {c_type} {name}[{array.size}] = {{\n{lines}\n}};")
            self.n_data_bytes += array.nbytes
            self._names[id(array)] = name, array
        return self._names[id(array)][0]

    def _pointer(self, value: Expr, is_in_loop: bool) -> str:
        """Return the pointer to the values of an expression; in a loop, to those of the member."""
        if value.operation == "row":
            return "x"
        if value.operation == "constant":
            return _member_pointer(self._array(value.arrays[0]), value)
        name = f"{self.prefix}_buffer{self.plan.buffer_indices[value]}"
        if is_in_loop and value in self.plan.stored_for_all:
            return _member_pointer(name, value)
        return name

    def _get_element(self, value: Expr) -> str:
        """Return one value of an expression in a loop over i, or over members, or without loop."""
        if value.operation == "constant" and value.arrays[0].size == 1:
            return _operand(value.arrays[0].item())
        pointer = self._pointer(value, is_in_loop=value.n_estimators > 1)
        return _element(pointer, "i" if value.width > 1 else "0")

    # ---------------------------------------------------------------------- statements

    def _compute_statements(self) -> Iterator[str]:
        for nest in self.plan.loop_nests:
            is_loop = nest.n_estimators > 1
            if is_loop:
                yield f"for (size_t m = 0; m < {nest.n_estimators}; ++m) {{"
            for value in nest.stored:
                for line in self._compute(value):
                    yield f"    {line}" if is_loop else line
            if is_loop:
                yield "}"

    def _compute(self, value: Expr) -> Iterator[str]:
        """Yield the statements that compute a stored expression."""
        if value.is_elementwise:
            yield from self._loop(value)
            return
        is_in_loop = value.n_estimators > 1
        out = self._pointer(value, is_in_loop)
        inputs = [self._pointer(each, is_in_loop) for each in value.inputs]
        method: Callable[..., Iterator[str]] = getattr(self, f"_{value.operation}")
        yield from method(value, out, *inputs)

    def _loop(self, value: Expr) -> Iterator[str]:
        """Yield a loop that computes a chain of elementwise functions."""
        *intermediate, last = self.plan.groups[value]
        names: dict[Expr, str] = {}

        def write(each: Expr) -> str:
            operands = [names.get(used) or self._get_element(used) for used in each.inputs]
            if each.operation == "expit":
                self.functions.add("logistic")
            text = _ELEMENTWISE[each.operation].format(*operands)
            return text.replace("PREFIX", self.prefix)

        yield f"for (size_t i = 0; i < {value.width}; ++i) {{" if value.width > 1 else "{"
        for i, each in enumerate(intermediate):
            yield f"    const float t{i} = {write(each)};"
            names[each] = f"t{i}"
        yield f"    {self._get_element(value)} = {write(last)};"
        yield "}"

    def _call(self, function: str, *arguments: Any) -> str:
        self.functions.add(function)
        return f"{self.prefix}_{function}({', '.join(map(str, arguments))});"

    def _dense(self, value: Expr, out: str, x: str) -> Iterator[str]:
        n_inputs = value.inputs[0].width
        if value in self._layers:
            layer = self._layers[value]
            inverse = self._array(layer.inverse, "inverse")
            yield self._call(
                "dense_int8",
                x,
                f"{inverse} + m * {n_inputs}" if len(layer.inverse) > 1 else inverse,
                _float_literal(layer.limit),
                _member_pointer(self._array(layer.weights, "weights"), value, n_inputs),
                _member_pointer(self._array(layer.scales, "scales"), value),
                "NULL"
                if layer.biases is None
                else _member_pointer(self._array(layer.biases, "biases"), value),
                n_inputs,
                value.width,
                out,
            )
            return
        weights, *biases = value.arrays
        yield self._call(
            "dense",
            x,
            _member_pointer(self._array(weights, "weights"), value, n_inputs),
            _member_pointer(self._array(biases[0], "biases"), value) if biases else "NULL",
            n_inputs,
            value.width,
            out,
        )

    def _integer_linear(self, value: Expr, out: str, x: str) -> Iterator[str]:
        matrix = self._array(value.arrays[0], "sums")
        yield self._call("dense", x, matrix, "NULL", value.inputs[0].width, value.width, out)

    def _block_linear(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (maps,) = value.arrays
        _, n_blocks, width, n_units = maps.shape
        name = _member_pointer(self._array(maps, "maps"), value, width)
        yield f"for (size_t i = 0; i < {n_blocks}; ++i) {{"
        yield "    " + self._call(
            "dense",
            f"{x} + i * {width}",
            f"{name} + i * {width * n_units}",
            "NULL",
            width,
            n_units,
            f"{out} + i * {n_units}",
        )
        yield "}"

    def _gather(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (tables,) = value.arrays
        n_rows = tables.shape[1]
        name = _member_pointer(self._array(tables, "table"), value, n_rows)
        yield self._call("gather", x, name, n_rows - 1, value.width, out)

    def _take_columns(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (columns,) = value.arrays
        if (np.diff(columns) == 1).all():
            yield from _copy(f"{x} + {columns[0]}", out, value.width)
            return
        indices = self._array(columns.astype(np.min_scalar_type(columns.max())), "columns")
        element = _element(x, f"{indices}[i]")
        yield f"for (size_t i = 0; i < {value.width}; ++i) {_element(out)} = {element};"

    def _concat(self, value: Expr, out: str, *parts: str) -> Iterator[str]:
        start = 0
        for part, pointer in zip(value.inputs, parts, strict=True):
            yield from _copy(pointer, f"{out} + {start}", part.width)
            start += part.width

    def _reduce_sum(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("reduce_sum", x, value.inputs[0].width, out)

    def _softmax(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("softmax", x, value.width, out)

    def _mean_over_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("mean_over_members", x, value.inputs[0].n_estimators, value.width, out)

    def _flatten_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield from _copy(x, out, value.width)

    # ------------------------------------------------------------------------- outputs

    @cached_property
    def returned(self) -> ArgmaxOutput | None:
        """The label that the function returns, if there is exactly one."""
        labels = [output for output in self.model.outputs if isinstance(output, ArgmaxOutput)]
        return labels[0] if len(labels) == 1 else None

    @property
    def signature(self) -> str:
        """The signature of the function that users call."""
        kind = "void" if self.returned is None else "int"
        arguments = ["const float *x"]
        for output in self.model.outputs:
            if output is not self.returned:
                is_int = isinstance(output, (ArgmaxOutput, ThresholdOutput))
                arguments.append(f"{'int' if is_int else 'float'} *{output.name}")
        return f"{kind} {self.prefix}_predict({', '.join(arguments)})"

    def _output_statements(self) -> Iterator[str]:
        """Yield the statements that write the outputs whose pointers are not NULL."""
        for output in self.model.outputs:
            values = self._pointer(output.expression, is_in_loop=False)
            name, width = output.name, output.expression.width
            if output is self.returned:
                continue
            if isinstance(output, ArgmaxOutput):
                self.functions.add("argmax")
                yield f"if ({name}) *{name} = {self.prefix}_argmax({values}, {width});"
            else:
                number = _element(values)
                if isinstance(output, ThresholdOutput):
                    number = f"{number} > {_float_literal(output.threshold)}"
                yield f"if ({name})"
                yield f"    for (size_t i = 0; i < {width}; ++i) {name}[i] = {number};"
        if self.returned is not None:
            values = self._pointer(self.returned.expression, is_in_loop=False)
            self.functions.add("argmax")
            yield f"return {self.prefix}_argmax({values}, {self.returned.expression.width});"
