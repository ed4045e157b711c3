"""C code generation: declarations, weights and functions of a model."""

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

FUNCTIONS = {
    "logistic": """\
/* 1 / (1 + exp(-z)), of exponentials that never overflow. */
static float PREFIX_logistic(float z)
{
    const float e = expf(-fabsf(z));
    return (z >= 0.0f ? 1.0f : e) / (1.0f + e);
}
""",
    "dense": """\
/* out = x w + b, with weights w[n][k] and biases b[k], or none (NULL). */
static void PREFIX_dense(
    const float *x, const float *w, const float *b, size_t n, size_t k, float *out)
{
    for (size_t j = 0; j < k; ++j) out[j] = b ? b[j] : 0.0f;
    for (size_t i = 0; i < n; ++i, w += k) {
        const float xi = x[i];
        if (xi == 0.0f) continue; /* as many outputs of relu are */
        for (size_t j = 0; j < k; ++j) out[j] += xi * w[j];
    }
}
""",
    "dense_int8": """\
/* out = b + scale * (w q), with whole numbers q = round(inverse * x) within the limits, and
   weights w[k][n]. The sums fit into 32 bits, whatever x is. */
static void PREFIX_dense_int8(
    const float *x, const float *inverse, float limit, const int8_t *w, const float *scale,
    const float *b, size_t n, size_t k, float *out)
{
    for (size_t i = 0; i < n; ++i) {
        float v = x[i] * inverse[i];
        v += v >= 0.0f ? 0.5f : -0.5f;
        if (!(v > -limit)) v = -limit; /* and where it is no number */
        if (v > limit) v = limit;
        PREFIX_whole[i] = (int16_t)v;
    }
    for (size_t j = 0; j < k; ++j, w += n) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; ++i) sum += (int32_t)w[i] * PREFIX_whole[i];
        out[j] = (float)sum * scale[j] + (b ? b[j] : 0.0f);
    }
}
""",
    "gather": """\
/* out = the row *x of w[n + 1][k]; the last one, if *x is none of the numbers from 0 to n - 1. */
static void PREFIX_gather(const float *x, const float *w, size_t n, size_t k, float *out)
{
    const size_t row = *x >= 0.0f && *x < (float)n && *x == floorf(*x) ? (size_t)*x : n;
    for (size_t j = 0; j < k; ++j) out[j] = w[row * k + j];
}
""",
    "reduce_sum": """\
/* out = the sum of n numbers. */
static void PREFIX_reduce_sum(const float *x, size_t n, float *out)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; ++i) sum += x[i];
    *out = sum;
}
""",
    "softmax": """\
/* out = exp(x) / sum(exp(x)), of exponents that are at most zero. */
static void PREFIX_softmax(const float *x, size_t n, float *out)
{
    float largest = x[0], sum = 0.0f;
    for (size_t i = 1; i < n; ++i) if (x[i] > largest) largest = x[i];
    for (size_t i = 0; i < n; ++i) sum += out[i] = expf(x[i] - largest);
    for (size_t i = 0; i < n; ++i) out[i] /= sum;
}
""",
    "mean_over_members": """\
/* out = the mean over m members of their n numbers. */
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
/* Which of n numbers is the largest: the first of those that are. */
static int PREFIX_argmax(const float *x, size_t n)
{
    size_t largest = 0;
    for (size_t i = 1; i < n; ++i) if (x[i] > x[largest]) largest = i;
    return (int)largest;
}
""",
}


# Functions of single numbers, of names and numbers. Where the first is NaN, so are its maximum and
# its minimum with others, as NumPy's are; C's fmaxf is not.
_OPERATIONS = {
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


def float_text(value: Any) -> str:
    """Return a number in single precision as C has it, the shortest that is that number."""
    return f"{np.float32(value)!s}f"


# Of NumPy's types, those of C, and how a number is written.
_TYPES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "float32": ("float", float_text),
    "int8": ("int8_t", str),
    "uint8": ("uint8_t", str),
    "uint16": ("uint16_t", str),
    "uint32": ("uint32_t", str),
}


def _of_member(name: str, value: Expr, n_rows: int = 1) -> str:
    """Return where the part of an array begins that is of the member m, if there are several."""
    return f"{name} + m * {n_rows * value.width}" if value.n_estimators > 1 else name


def _at(pointer: str, index: str = "i") -> str:
    """Return a number of an array that begins at a pointer: a name, or one and an offset."""
    name, _, offset = pointer.partition(" + ")
    if offset and index == "0":
        return f"{name}[{offset}]"
    return f"{name}[{offset} + {index}]" if offset else f"{name}[{index}]"


def _copied(x: str, out: str, width: int) -> Iterator[str]:
    """Yield a loop that copies numbers."""
    yield f"for (size_t i = 0; i < {width}; ++i) {_at(out)} = {_at(x)};"


def _operand(value: float) -> str:
    """Return a number that stands in an expression, where two signs would be an operator."""
    text = float_text(value)
    return f"({text})" if text.startswith("-") else text


class CCodegen:
    """The parts of a C program that computes a model.

    Parameters
    ----------
    model : Model
        The model.
    prefix : str
        What all names begin with.
    layers : dict of Quantised
        The dense layers whose weights have 8 bits.

    Attributes
    ----------
    plan : Plan
        The order, and the memory.
    data : list of str
        The definitions of weights and other constants.
    n_data_bytes : int
        Their size.
    body : list of str
        The statements that compute the outputs.
    functions : set of str
        The names of the functions that these call.
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
        self._names: dict[int, tuple[str, Array]] = {}  # by identity, which arrays keep
        self.body = [*self._statements(), *self._copies()]

    # -------------------------------------------------------------------------- values

    def _array(self, array: Array, what: str = "constant") -> str:
        """Return the name of an array in the program, defined when it is first asked for."""
        if id(array) not in self._names:
            name = f"{self.prefix}_{what}{next(self._numbers)}"
            kind, as_text = _TYPES[array.dtype.name]
            texts = ", ".join(map(as_text, array.ravel()))
            lines = textwrap.fill(texts, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
            self.data.append(f"static const {kind} {name}[{array.size}] = {{\n{lines}\n}};")
            self.n_data_bytes += array.nbytes
            self._names[id(array)] = name, array
        return self._names[id(array)][0]

    def _pointer(self, value: Expr, is_in_loop: bool) -> str:
        """Return where the numbers of a value begin; in a loop, those of the member."""
        if value.operation == "row":
            return "x"
        if value.operation == "constant":
            return _of_member(self._array(value.arrays[0]), value)
        name = f"{self.prefix}_buffer{self.plan.places[value]}"
        if is_in_loop and value in self.plan.of_all_members:
            return _of_member(name, value)
        return name

    def _number(self, value: Expr) -> str:
        """Return a number of a value in a loop over i, or over members, or none."""
        if value.operation == "constant" and value.arrays[0].size == 1:
            return _operand(value.arrays[0].item())
        place = self._pointer(value, is_in_loop=value.n_estimators > 1)
        return _at(place, "i" if value.width > 1 else "0")

    # ---------------------------------------------------------------------- statements

    def _statements(self) -> Iterator[str]:
        for section in self.plan.sections:
            is_loop = section.n_estimators > 1
            if is_loop:
                yield f"for (size_t m = 0; m < {section.n_estimators}; ++m) {{"
            for value in section.kept:
                for line in self._computed(value):
                    yield f"    {line}" if is_loop else line
            if is_loop:
                yield "}"

    def _computed(self, value: Expr) -> Iterator[str]:
        """Yield the statements that compute a value which is kept."""
        if value.is_elementwise:
            yield from self._loop(value)
            return
        is_in_loop = value.n_estimators > 1
        out = self._pointer(value, is_in_loop)
        inputs = [self._pointer(each, is_in_loop) for each in value.inputs]
        write: Callable[..., Iterator[str]] = getattr(self, f"_{value.operation}")
        yield from write(value, out, *inputs)

    def _loop(self, value: Expr) -> Iterator[str]:
        """Yield a loop over functions of single numbers."""
        *on_the_way, last = self.plan.groups[value]
        names: dict[Expr, str] = {}

        def computed(each: Expr) -> str:
            operands = [names.get(used) or self._number(used) for used in each.inputs]
            if each.operation == "expit":
                self.functions.add("logistic")
            text = _OPERATIONS[each.operation].format(*operands)
            return text.replace("PREFIX", self.prefix)

        yield f"for (size_t i = 0; i < {value.width}; ++i) {{" if value.width > 1 else "{"
        for number, each in enumerate(on_the_way):
            text = computed(each)
            names[each] = f"t{number}"
            yield f"    const float t{number} = {text};"
        text = computed(last)
        yield f"    {self._number(value)} = {text};"
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
                float_text(layer.limit),
                _of_member(self._array(layer.weights, "weights"), value, n_inputs),
                _of_member(self._array(layer.scales, "scales"), value),
                "NULL"
                if layer.biases is None
                else _of_member(self._array(layer.biases, "biases"), value),
                n_inputs,
                value.width,
                out,
            )
            return
        weights, *biases = value.arrays
        yield self._call(
            "dense",
            x,
            _of_member(self._array(weights, "weights"), value, n_inputs),
            _of_member(self._array(biases[0], "biases"), value) if biases else "NULL",
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
        name = _of_member(self._array(maps, "maps"), value, width)
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
        name = _of_member(self._array(tables, "table"), value, n_rows)
        yield self._call("gather", x, name, n_rows - 1, value.width, out)

    def _take_columns(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (places,) = value.arrays
        if (np.diff(places) == 1).all():
            yield from _copied(f"{x} + {places[0]}", out, value.width)
            return
        chosen = self._array(places.astype(np.min_scalar_type(places.max())), "places")
        chosen = _at(x, f"{chosen}[i]")
        yield f"for (size_t i = 0; i < {value.width}; ++i) {_at(out)} = {chosen};"

    def _concat(self, value: Expr, out: str, *parts: str) -> Iterator[str]:
        start = 0
        for part, pointer in zip(value.inputs, parts, strict=True):
            yield from _copied(pointer, f"{out} + {start}", part.width)
            start += part.width

    def _reduce_sum(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("reduce_sum", x, value.inputs[0].width, out)

    def _softmax(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("softmax", x, value.width, out)

    def _mean_over_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._call("mean_over_members", x, value.inputs[0].n_estimators, value.width, out)

    def _flatten_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield from _copied(x, out, value.width)

    # ------------------------------------------------------------------------- outputs

    @cached_property
    def returned(self) -> ArgmaxOutput | None:
        """The label that the function returns: an only one."""
        labels = [output for output in self.model.outputs if isinstance(output, ArgmaxOutput)]
        return labels[0] if len(labels) == 1 else None

    @property
    def signature(self) -> str:
        """The function that users call, as it is declared."""
        kind = "void" if self.returned is None else "int"
        arguments = ["const float *x"]
        for output in self.model.outputs:
            if output is not self.returned:
                is_int = isinstance(output, (ArgmaxOutput, ThresholdOutput))
                arguments.append(f"{'int' if is_int else 'float'} *{output.name}")
        return f"{kind} {self.prefix}_predict({', '.join(arguments)})"

    def _copies(self) -> Iterator[str]:
        """Yield what hands the outputs over, as far as they are wanted."""
        for output in self.model.outputs:
            values = self._pointer(output.expression, is_in_loop=False)
            name, width = output.name, output.expression.width
            if output is self.returned:
                continue
            if isinstance(output, ArgmaxOutput):
                self.functions.add("argmax")
                yield f"if ({name}) *{name} = {self.prefix}_argmax({values}, {width});"
            else:
                number = _at(values)
                if isinstance(output, ThresholdOutput):
                    number = f"{number} > {float_text(output.threshold)}"
                yield f"if ({name})"
                yield f"    for (size_t i = 0; i < {width}; ++i) {name}[i] = {number};"
        if self.returned is not None:
            values = self._pointer(self.returned.expression, is_in_loop=False)
            self.functions.add("argmax")
            yield f"return {self.prefix}_argmax({values}, {self.returned.expression.width});"
