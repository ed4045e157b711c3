"""Generate the C code of a model, which computes one row at a time: constants and statements."""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np

from ..layers.base import Shape
from ..utils.arrays import Array
from ._expressions import Expr, max_rounded_input, topological_sort
from ._model_graph import ModelGraph

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
    "expit": "PREFIX_logistic({})",
    **{
        name: f"{name}f({{}})"
        for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sin", "cos", "erf")
    },
}


def _float_literal(value: Any) -> str:
    """Return the shortest C literal of a number in single precision."""
    return f"{np.float32(value)!s}f"


def _index_pointer(pointer: str, index: str = "i") -> str:
    """Return an element of an array. The pointer is a name, or a name and an offset."""
    name, _, offset = pointer.partition(" + ")
    if offset and index == "0":
        return f"{name}[{offset}]"
    return f"{name}[{offset} + {index}]" if offset else f"{name}[{index}]"


def _copy_values(x: str, out: str, n: int, index: str = "i") -> str:
    """Return a loop that copies the values of an index, which is a function of i."""
    value = _index_pointer(x, index)
    return f"for (size_t i = 0; i < {n}; ++i) {_index_pointer(out)} = {value};"


def _at_position(pointer: str, n_positions: int, step: int, index: str = "p") -> str:
    """Return the pointer to the values at position p, of which there are `step` for each."""
    if n_positions == 1:
        return pointer
    return f"{pointer} + {index}" if step == 1 else f"{pointer} + {index} * {step}"


def _for_each_position(n_positions: int, *statements: str) -> Iterator[str]:
    """Yield statements that read and write at position p."""
    if n_positions == 1:
        yield from statements
        return
    yield f"for (size_t p = 0; p < {n_positions}; ++p) {{"
    yield from (f"    {statement}" for statement in statements)
    yield "}"


def _window_arguments(image: Shape, attributes: Mapping[str, Any]) -> list[Any]:
    """Return the shape of an image, the corner of the window of position p, and its size."""
    n_down, n_right = attributes["n_windows"]
    indices = (f"p / {n_right}", f"p % {n_right}") if min(n_down, n_right) > 1 else ("p", "p")
    corner = []
    for axis, (index, n) in enumerate(zip(indices, (n_down, n_right), strict=True)):
        stride, before = attributes["strides"][axis], attributes["padding"][axis]
        start = "0" if n == 1 else index if stride == 1 else f"{index} * {stride}"
        corner.append(f"{start} - {before}" if before else start)
    return [*image, *corner, *attributes["size"]]


def _strided_index(shape: Shape, strides: Iterable[int]) -> str:
    """Return the index sum_k stride_k i_k of value i in an array of a shape, as a C expression."""
    axes: list[tuple[int, int]] = []
    for n, stride in zip(shape, strides, strict=True):
        if axes and axes[-1][1] == n * stride:
            axes[-1] = axes[-1][0] * n, stride
        elif n > 1:
            axes.append((n, stride))
    terms, step = [], math.prod(n for n, _ in axes)
    for axis, (n, stride) in enumerate(axes):
        step //= n
        quotient = "i" if step == 1 else f"i / {step}"
        remainder = f"{quotient} % {n}" if axis else quotient
        if stride:
            terms.append(remainder if stride == 1 else f"{remainder} * {stride}")
    return " + ".join(terms) or "0"


def _compute_strides(shape: Shape) -> list[int]:
    """Return the strides of values of a shape in memory, which are 0 on axes of size one."""
    return [math.prod(shape[axis + 1 :]) if n > 1 else 0 for axis, n in enumerate(shape)]


class BufferPlan:
    """Order and buffers of the expressions of a program.

    Chains of elementwise functions are computed in one loop without memory for intermediate values.
    All other values are stored in buffers, which are reused after their last read. Values of
    ensemble members are computed in a loop over the members. Values that are read after this loop
    are stored for all members.

    Parameters
    ----------
    outputs : iterable of Expr
        The outputs of the model.

    Attributes
    ----------
    groups : dict of lists
        For each stored expression, the elementwise expressions that its loop computes, itself
        last.
    loop_nests : list of lists
        All stored expressions, in order. Those of a list are computed one after the other, in a
        common loop over the members if there are several.
    stored_for_all : set of Expr
        The expressions that are stored for all members.
    buffer_sizes : list of int
        The number of values in each buffer.
    buffer_indices : dict of int
        The index of the buffer of each stored expression.
    """

    def __init__(self, outputs: Iterable[Expr]) -> None:
        self._outputs = [output.memory for output in outputs]
        self._order = [
            each
            for each in topological_sort(self._outputs)
            if each.operation not in ("row", "constant") and each.memory is each
        ]
        self._users: dict[Expr, list[Expr]] = defaultdict(list)
        # For each expression, how often its inputs switch between members and all members.
        self._depths: dict[Expr, int] = {}
        for user in self._order:
            depth = 0
            for used in dict.fromkeys(each.memory for each in user.inputs):
                self._users[used].append(user)
                if used in self._depths:
                    is_switch = (used.n_estimators > 1) != (user.n_estimators > 1)
                    depth = max(depth, self._depths[used] + is_switch)
            self._depths[user] = depth
        self._roots = self._find_roots()
        self.groups: dict[Expr, list[Expr]] = defaultdict(list)
        for each in self._order:
            self.groups[self._roots[each]].append(each)
        nests: dict[tuple[int, int], list[Expr]] = defaultdict(list)
        stored = sorted((each for each in self._order if self._roots[each] is each), key=self._key)
        for each in stored:
            nests[self._key(each)].append(each)
        self.loop_nests = list(nests.values())
        # The inputs of expression t are read at time 2 t, and its values are written at 2 t + 1.
        self._times = {each: 2 * i for i, each in enumerate(stored)}
        self._spans = {
            key: (self._times[nest[0]], self._times[nest[-1]] + 1) for key, nest in nests.items()
        }
        self.stored_for_all = {
            each
            for each in stored
            if each.n_estimators > 1
            and any(self._key(user) != self._key(each) for user in self._users[each])
        }
        self.buffer_sizes: list[int] = []
        self.buffer_indices: dict[Expr, int] = {}
        self._allocate_buffers()

    def _key(self, expression: Expr) -> tuple[int, int]:
        """Return the key of the loop nest of an expression."""
        return self._depths[expression], expression.n_estimators

    def _find_roots(self) -> dict[Expr, Expr]:
        """Return for each expression the stored expression whose loop computes it."""
        roots: dict[Expr, Expr] = {}
        for each in reversed(self._order):
            users = self._users[each]
            is_fused = each.is_elementwise and each not in self._outputs
            is_fused = is_fused and all(
                user.is_elementwise
                and user.width == each.width
                and self._key(user) == self._key(each)
                for user in users
            )
            user_roots = {roots[user] for user in users}
            roots[each] = user_roots.pop() if is_fused and len(user_roots) == 1 else each
        return roots

    def _allocate_buffers(self) -> None:
        """Assign the smallest buffer that fits and is free, or enlarge the largest, or add one."""
        sizes, ends = self.buffer_sizes, list[int]()
        for each in sorted(self._times, key=self._start):
            size = each.width * (each.n_estimators if each in self.stored_for_all else 1)
            free = [i for i, end in enumerate(ends) if end < self._start(each)]
            fitting = [i for i in free if sizes[i] >= size]
            if fitting:
                index = min(fitting, key=sizes.__getitem__)
            elif free:
                index = max(free, key=sizes.__getitem__)
            else:
                index = len(sizes)
                sizes.append(size)
                ends.append(0)
            sizes[index], ends[index] = max(sizes[index], size), self._end(each)
            self.buffer_indices[each] = index

    def _start(self, each: Expr) -> int:
        """Return the time of the first write. If stored for all members, when the loop begins."""
        return (
            self._spans[self._key(each)][0]
            if each in self.stored_for_all
            else (self._times[each] + 1)
        )

    def _end(self, each: Expr) -> int:
        """Return the time of the last read."""
        if each in self._outputs:
            return 2 * len(self._times)
        end = 0
        for user in self._users[each]:
            if user.n_estimators > 1 and self._key(user) != self._key(each):
                end_of_use = self._spans[self._key(user)][1]  # when the loop over members ends
            else:
                # An elementwise loop reads each value before it overwrites it.
                is_in_place = user.is_elementwise and user.width == each.width
                end_of_use = self._times[self._roots[user]] + (not is_in_place)
            end = max(end, end_of_use)
        return end


# -------------------------------------------------------------------------------- code


class CCodegen:
    """C code of a model: constants, statements and the runtime functions that they call.

    Parameters
    ----------
    model : ModelGraph
        The computation graph of the model.
    prefix : str
        The prefix of all names.

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
    n_scratch : int
        The number of values in the buffer that one operation after the other uses.
    """

    def __init__(self, model: ModelGraph, prefix: str) -> None:
        self.model, self.prefix = model, prefix
        # The function returns the label if there is exactly one.
        labels = [output for output in model.outputs if output.classes is not None]
        self.returned = labels[0] if len(labels) == 1 else None
        self.plan = BufferPlan(model.expressions)
        self.data: list[str] = []
        self.n_data_bytes = 0
        self.functions: set[str] = set()
        self.n_scratch = 0
        self._numbers = count()
        self._names: dict[int, tuple[str, Array]] = {}  # by id, with the array to keep it alive
        self.body = [*self._compute_statements(), *self._output_statements()]

    # -------------------------------------------------------------------------- values

    def _define(self, array: Array, kind: str) -> str:
        """Return the name of an array in the program, and define it if it is new."""
        if id(array) not in self._names:
            name = f"{self.prefix}_{kind}{next(self._numbers)}"
            is_float = array.dtype == np.float32
            c_type = "float" if is_float else f"{array.dtype.name}_t"
            texts = ", ".join(map(_float_literal if is_float else str, array.ravel()))
            lines = textwrap.fill(texts, 100, initial_indent="    ", subsequent_indent="    ")
            self.data.append(f"static const {c_type} {name}[{array.size}] = {{\n{lines}\n}};")
            self.n_data_bytes += array.nbytes
            self._names[id(array)] = name, array
        return self._names[id(array)][0]

    def _get_constant(self, array: Array, kind: str = "constant") -> str:
        """Return the pointer to the part of member m in an array with the member axis first."""
        name = self._define(array, kind)
        return f"{name} + m * {array[0].size}" if len(array) > 1 else name

    def _get_pointer(self, value: Expr, is_in_loop: bool) -> str:
        """Return the pointer to the values of an expression; in a loop, to those of the member."""
        value = value.memory
        if value.operation == "row":
            return "x"
        if value.operation == "constant":
            return self._get_constant(value.arrays[0])
        name = f"{self.prefix}_buffer{self.plan.buffer_indices[value]}"
        if is_in_loop and value in self.plan.stored_for_all:
            return f"{name} + m * {value.width}"
        return name

    def _get_element(self, value: Expr, shape: Shape) -> str:
        """Return the value of an expression that belongs to value i of a shape."""
        if value.operation == "constant" and value.arrays[0].size == 1:
            text = _float_literal(value.arrays[0].item())
            return f"({text})" if text.startswith("-") else text
        pointer = self._get_pointer(value, is_in_loop=value.n_estimators > 1)
        own = (1,) * (len(shape) - len(value.shape)) + value.shape
        return _index_pointer(pointer, _strided_index(shape, _compute_strides(own)))

    def _get_scratch(self, n_values: int) -> str:
        """Return the buffer for intermediate values of an operation."""
        self.n_scratch = max(self.n_scratch, n_values)
        return f"{self.prefix}_scratch"

    # ---------------------------------------------------------------------- statements

    def _compute_statements(self) -> Iterator[str]:
        for nest in self.plan.loop_nests:
            n_estimators = nest[0].n_estimators
            lines = (line for value in nest for line in self._compute(value))
            if n_estimators > 1:
                yield f"for (size_t m = 0; m < {n_estimators}; ++m) {{"
                yield from (f"    {line}" for line in lines)
                yield "}"
            else:
                yield from lines

    def _compute(self, value: Expr) -> Iterator[str]:
        """Return the statements that compute a stored expression."""
        if value.is_elementwise:
            return self._compute_elementwise(value)
        is_in_loop = value.n_estimators > 1
        pointers = [self._get_pointer(each, is_in_loop) for each in (value, *value.inputs)]
        statements: Iterator[str] = getattr(self, f"_{value.operation}")(value, *pointers)
        return statements

    def _compute_elementwise(self, value: Expr) -> Iterator[str]:
        """Yield a loop that computes a chain of elementwise functions."""
        *intermediate, last = self.plan.groups[value]
        names: dict[Expr, str] = {}

        def write(each: Expr) -> str:
            operands = [
                names.get(used.memory) or self._get_element(used, each.shape)
                for used in each.inputs
            ]
            if each.operation == "expit":
                self.functions.add("logistic")
            text = _ELEMENTWISE[each.operation].format(*operands)
            return text.replace("PREFIX", self.prefix)

        yield f"for (size_t i = 0; i < {value.width}; ++i) {{" if value.width > 1 else "{"
        for i, each in enumerate(intermediate):
            yield f"    const float t{i} = {write(each)};"
            names[each] = f"t{i}"
        yield f"    {self._get_element(value, value.shape)} = {write(last)};"
        yield "}"

    def _format_call(self, function: str, *arguments: Any) -> str:
        self.functions.add(function)
        return f"{self.prefix}_{function}({', '.join(map(str, arguments))});"

    def _dense(self, value: Expr, out: str, x: str) -> Iterator[str]:
        is_int8 = value.operation == "dense_int8"
        kinds = ["inverse", "weights", "scales", "biases"] if is_int8 else ["weights", "biases"]
        arrays = [*map(self._get_constant, value.arrays, kinds)]
        arrays += ["NULL"] * (len(kinds) - len(arrays))
        (source,), n_positions = value.inputs, value.n_positions
        n_inputs, n_outputs = source.n_channels, value.n_channels
        limit = [_float_literal(max_rounded_input(n_inputs))] if is_int8 else []
        statements = []
        if source.operation == "windows":
            statements.append(self._copy_window(source, x))
            x = self._get_scratch(n_inputs)
        else:
            x = _at_position(x, n_positions, n_inputs)
        out = _at_position(out, n_positions, n_outputs)
        arguments = x, *arrays, *limit, n_inputs, n_outputs, out
        statements.append(self._format_call(value.operation, *arguments))
        yield from _for_each_position(n_positions, *statements)

    _dense_int8 = _dense

    def _copy_window(self, windows: Expr, x: str) -> str:
        """Return the statement that copies the window of position p to the scratch buffer."""
        window = _window_arguments(windows.inputs[0].shape, windows.attributes)
        scratch = self._get_scratch(windows.n_channels)
        return self._format_call("window", x, *window, *windows.attributes["dilation"], scratch)

    def _depthwise(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (windows,), n_positions, n_channels = value.inputs, value.n_positions, value.n_channels
        arrays = [*map(self._get_constant, value.arrays, ("kernels", "biases"))]
        arrays += ["NULL"] * (2 - len(arrays))
        scratch, size = self._get_scratch(windows.n_channels), windows.n_channels // n_channels
        out = _at_position(out, n_positions, n_channels)
        call = self._format_call("depthwise", scratch, *arrays, size, n_channels, out)
        yield from _for_each_position(n_positions, self._copy_window(windows, x), call)

    def _max_pool(self, value: Expr, out: str, x: str) -> Iterator[str]:
        out = _at_position(out, value.n_positions, value.n_channels)
        window = _window_arguments(value.inputs[0].shape, value.attributes)
        call = self._format_call(value.operation, x, *window, out)
        yield from _for_each_position(value.n_positions, call)

    _average_pool = _max_pool

    def _transposed_convolution(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (kernels,) = value.arrays
        _, n_channels, n_window = kernels.shape
        weights, scratch = self._get_constant(kernels, "kernels"), self._get_scratch(n_window)
        n_positions = value.inputs[0].n_positions
        x = _at_position(x, n_positions, n_channels)
        window = _window_arguments(value.shape, value.attributes)
        yield f"for (size_t i = 0; i < {value.width}; ++i) {_index_pointer(out)} = 0.0f;"
        yield from _for_each_position(
            n_positions,
            self._format_call("dense", x, weights, "NULL", n_channels, n_window, scratch),
            self._format_call("add_window", scratch, *window, out),
        )

    def _matmul(self, value: Expr, out: str, x: str, y: str) -> Iterator[str]:
        n_rows, n_inputs = value.inputs[0].shape[-2:]
        n_positions, n_outputs = value.n_positions, value.n_channels
        if n_positions > n_rows:
            y = f"{y} + p / {n_rows} * {n_inputs * n_outputs}"
        x = _at_position(x, n_positions, n_inputs)
        out = _at_position(out, n_positions, n_outputs)
        call = self._format_call("dense", x, y, "NULL", n_inputs, n_outputs, out)
        yield from _for_each_position(n_positions, call)

    def _transpose(self, value: Expr, out: str, x: str) -> Iterator[str]:
        strides = _compute_strides(value.inputs[0].shape)
        index = _strided_index(value.shape, [strides[axis] for axis in value.attributes["axes"]])
        yield _copy_values(x, out, value.width, index)

    def _recurrence(self, value: Expr, out: str, x: str) -> Iterator[str]:
        n_steps, n_channels = value.inputs[0].shape
        cell, n_units, is_all, is_reversed = (
            value.attributes[name]
            for name in ("cell", "n_units", "return_sequences", "is_reversed")
        )
        # The buffer has both products, the cells of an LSTM, and the state unless it is the output.
        n_products, n_cells = 2 * value.arrays[1].shape[-1], n_units * (cell == "lstm")
        work = self._get_scratch(n_products + n_cells + n_units * is_all)
        state = f"{work} + {n_products + n_cells}" if is_all else out
        kinds = "kernels", "recurrent_kernels", "biases", "recurrent_biases"
        arrays = map(self._get_constant, value.arrays, kinds)
        arguments = [*arrays, n_channels, n_units, work]
        if cell == "lstm":
            arguments.append(f"{work} + {n_products}")
        if cell == "simple_rnn":
            activation = value.attributes["activation"]
            self.functions.add(activation)
            arguments.append("tanhf" if activation == "tanh" else f"{self.prefix}_{activation}")
        step = f"({n_steps - 1} - p)" if is_reversed else "p"
        x = _at_position(x, n_steps, n_channels, step)
        out = _at_position(out, n_steps, n_units, step)
        for start in [state, *([f"{work} + {n_products}"] if n_cells else [])]:
            yield f"for (size_t i = 0; i < {n_units}; ++i) {_index_pointer(start)} = 0.0f;"
        statements = [self._format_call(cell, x, *arguments, state)]
        if is_all:
            statements.append(_copy_values(state, out, n_units))
        yield from _for_each_position(n_steps, *statements)

    def _integer_linear(self, value: Expr, out: str, x: str) -> Iterator[str]:
        matrix = self._get_constant(value.arrays[0], "sums")
        yield self._format_call("dense", x, matrix, "NULL", value.inputs[0].width, value.width, out)

    def _block_linear(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (maps,) = value.arrays
        _, n_blocks, width, n_units = maps.shape
        pointers = (
            f"{x} + i * {width}",
            f"{self._get_constant(maps, 'maps')} + i * {width * n_units}",
        )
        out = f"{out} + i * {n_units}"
        yield f"for (size_t i = 0; i < {n_blocks}; ++i) {{"
        yield "    " + self._format_call("dense", *pointers, "NULL", width, n_units, out)
        yield "}"

    def _gather(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (tables,) = value.arrays
        table, (_, n_rows, width) = self._get_constant(tables, "table"), tables.shape
        n_values = value.inputs[0].width
        x, out = _at_position(x, n_values, 1), _at_position(out, n_values, width)
        call = self._format_call("gather", x, table, n_rows - 1, width, out)
        yield from _for_each_position(n_values, call)

    def _take_columns(self, value: Expr, out: str, x: str) -> Iterator[str]:
        (columns,) = value.arrays
        n_positions, n_columns = value.n_positions, value.n_channels
        x = _at_position(x, n_positions, value.inputs[0].n_channels)
        out = _at_position(out, n_positions, n_columns)
        if (np.diff(columns) == 1).all():
            copy = _copy_values(f"{x} + {columns[0]}", out, n_columns)
        else:
            indices = self._define(columns.astype(np.min_scalar_type(columns.max())), "columns")
            copy = _copy_values(x, out, n_columns, f"{indices}[i]")
        yield from _for_each_position(n_positions, copy)

    def _concat(self, value: Expr, out: str, *parts: str) -> Iterator[str]:
        n_positions, start, copies = value.n_positions, 0, []
        out = _at_position(out, n_positions, value.n_channels)
        for part, pointer in zip(value.inputs, parts, strict=True):
            own = _at_position(pointer, n_positions, part.n_channels)
            to = f"{out} + {start}" if start else out
            copies.append(_copy_values(own, to, part.n_channels))
            start += part.n_channels
        yield from _for_each_position(n_positions, *copies)

    def _reduce_sum(self, value: Expr, out: str, x: str) -> Iterator[str]:
        n_positions, n = value.n_positions, value.inputs[0].n_channels
        x, out = _at_position(x, n_positions, n), _at_position(out, n_positions, 1)
        yield from _for_each_position(n_positions, self._format_call("reduce_sum", x, n, out))

    def _softmax(self, value: Expr, out: str, x: str) -> Iterator[str]:
        n_positions, n = value.n_positions, value.n_channels
        x, out = (_at_position(pointer, n_positions, n) for pointer in (x, out))
        yield from _for_each_position(n_positions, self._format_call("softmax", x, n, out))

    def _mean_over_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield self._format_call(
            "mean_over_members", x, value.inputs[0].n_estimators, value.width, out
        )

    def _flatten_members(self, value: Expr, out: str, x: str) -> Iterator[str]:
        yield _copy_values(x, out, value.width)

    # ------------------------------------------------------------------------- outputs

    @property
    def signature(self) -> str:
        """The signature of the function that users call."""
        arguments = ["const float *x"]
        for output in self.model.outputs:
            if output is not self.returned:
                kind = "float" if output.dtype == np.float32 and output.classes is None else "int"
                arguments.append(f"{kind} *{output.name}")
        kind = "void" if self.returned is None else "int"
        return f"{kind} {self.prefix}_predict({', '.join(arguments)})"

    def _output_statements(self) -> Iterator[str]:
        """Yield the statements that write the outputs whose pointers are not NULL."""
        returned = []
        for output in self.model.outputs:
            values = self._get_pointer(output.expression, is_in_loop=False)
            name, width = output.name, output.expression.width
            if output.classes is not None:
                index = self._format_call("argmax", values, width)
                if output is self.returned:
                    returned = [f"return {index}"]
                else:
                    yield f"if ({name}) *{name} = {index}"
            else:
                above = "" if output.threshold is None else f" > {_float_literal(output.threshold)}"
                yield f"if ({name})"
                yield (
                    f"    for (size_t i = 0; i < {width}; ++i) "
                    f"{name}[i] = {_index_pointer(values)}{above};"
                )
        yield from returned
