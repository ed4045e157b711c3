"""Export a fitted estimator to C for small devices."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_array

from ..utils.arrays import Array
from ..utils.suggestions import did_you_mean
from ._c_codegen import CCodegen
from ._expressions import Expr, dense_int8, evaluate, measure_channels, topological_sort
from ._model_graph import ModelGraph, ModelOutput, build_graph

_WIDTH = 90
# The number of values of all expressions that calibration keeps at a time.
_N_VALUES = 1 << 22

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
    const float *x, const float *inverse, const int8_t *w, const float *scale, const float *b,
    float limit, size_t n, size_t k, float *out)
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
    "window": """\
/* out = the values of an image x[h][w][c] in the window of m rows and n columns from (top, left)
   on, which wrap around below zero. They are zero outside the image. */
static void PREFIX_window(
    const float *x, size_t h, size_t w, size_t c, size_t top, size_t left, size_t m, size_t n,
    size_t step_down, size_t step_right, float *out)
{
    for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < n; ++j, out += c) {
            const size_t row = top + i * step_down, column = left + j * step_right;
            const int is_inside = row < h && column < w;
            for (size_t k = 0; k < c; ++k)
                out[k] = is_inside ? x[(row * w + column) * c + k] : 0.0f;
        }
}
""",
    "depthwise": """\
/* out[c] = the sum of x[n][c] w[n][c] over n, plus b[c], or NULL for none. */
static void PREFIX_depthwise(
    const float *x, const float *w, const float *b, size_t n, size_t c, float *out)
{
    for (size_t k = 0; k < c; ++k) out[k] = b ? b[k] : 0.0f;
    for (size_t i = 0; i < n; ++i, x += c, w += c)
        for (size_t k = 0; k < c; ++k) out[k] += x[k] * w[k];
}
""",
    "add_window": """\
/* Add values x[m][n][c] to an image out[h][w][c] in the window from (top, left) on, which wrap
   around below zero. Values outside the image are left out. */
static void PREFIX_add_window(
    const float *x, size_t h, size_t w, size_t c, size_t top, size_t left, size_t m, size_t n,
    float *out)
{
    for (size_t i = top; i != top + m; ++i)
        for (size_t j = left; j != left + n; ++j, x += c)
            for (size_t k = 0; i < h && j < w && k < c; ++k) out[(i * w + j) * c + k] += x[k];
}
""",
    "max_pool": """\
/* out = the largest value of each channel of an image x[h][w][c] in the window of m rows and n
   columns from (top, left) on, which wrap around below zero. */
static void PREFIX_max_pool(
    const float *x, size_t h, size_t w, size_t c, size_t top, size_t left, size_t m, size_t n,
    float *out)
{
    for (size_t k = 0; k < c; ++k) out[k] = -INFINITY;
    for (size_t i = top; i != top + m; ++i)
        for (size_t j = left; j != left + n; ++j)
            for (size_t k = 0; i < h && j < w && k < c; ++k) {
                const float value = x[(i * w + j) * c + k];
                if (value > out[k]) out[k] = value;
            }
}
""",
    "average_pool": """\
/* out = the mean of each channel of an image x[h][w][c] in the window of m rows and n columns from
   (top, left) on, which wrap around below zero. */
static void PREFIX_average_pool(
    const float *x, size_t h, size_t w, size_t c, size_t top, size_t left, size_t m, size_t n,
    float *out)
{
    size_t n_inside = 0;
    for (size_t k = 0; k < c; ++k) out[k] = 0.0f;
    for (size_t i = top; i != top + m; ++i)
        for (size_t j = left; j != left + n; ++j) {
            if (i >= h || j >= w) continue;
            ++n_inside;
            for (size_t k = 0; k < c; ++k) out[k] += x[(i * w + j) * c + k];
        }
    for (size_t k = 0; k < c; ++k) out[k] /= (float)n_inside;
}
""",
    "gru": """\
/* A step of a GRU with input x[n] from the state h[k], which becomes the next one. The columns of
   w[n][3 k], u[k][3 k] and b[3 k] are those of the gates z, r and of the candidate. */
static void PREFIX_gru(
    const float *x, const float *w, const float *u, const float *b, const float *c, size_t n,
    size_t k, float *work, float *h)
{
    float *const s = work + 3 * k;
    PREFIX_dense(x, w, b, n, 3 * k, work);
    PREFIX_dense(h, u, NULL, k, 3 * k, s);
    for (size_t j = 0; j < k; ++j) {
        const float z = PREFIX_logistic(work[j] + s[j]);
        const float r = PREFIX_logistic(work[k + j] + s[k + j]);
        const float candidate = tanhf(work[2 * k + j] + r * (s[2 * k + j] + c[j]));
        h[j] = candidate + z * (h[j] - candidate);
    }
}
""",
    "lstm": """\
/* A step of an LSTM with input x[n] from the state h[k] and the cell c[k], which become the next
   ones. The columns of w[n][4 k], u[k][4 k] and b[4 k] are those of the gates i and f, of the
   candidate and of the gate o. */
static void PREFIX_lstm(
    const float *x, const float *w, const float *u, const float *b, size_t n, size_t k,
    float *work, float *c, float *h)
{
    float *const s = work + 4 * k;
    PREFIX_dense(x, w, b, n, 4 * k, work);
    PREFIX_dense(h, u, NULL, k, 4 * k, s);
    for (size_t j = 0; j < k; ++j) {
        const float in = PREFIX_logistic(work[j] + s[j]);
        const float forget = PREFIX_logistic(work[k + j] + s[k + j]);
        const float candidate = tanhf(work[2 * k + j] + s[2 * k + j]);
        c[j] = forget * c[j] + in * candidate;
        h[j] = PREFIX_logistic(work[3 * k + j] + s[3 * k + j]) * tanhf(c[j]);
    }
}
""",
    "relu": """\
static float PREFIX_relu(float z) { return z < 0.0f ? 0.0f : z; }
""",
    "simple_rnn": """\
/* A step of a recurrent layer h = f(x w + h u + b) with input x[n] and state h[k]. */
static void PREFIX_simple_rnn(
    const float *x, const float *w, const float *u, const float *b, size_t n, size_t k,
    float *work, float (*f)(float), float *h)
{
    float *const s = work + k;
    PREFIX_dense(x, w, b, n, k, work);
    PREFIX_dense(h, u, NULL, k, k, s);
    for (size_t j = 0; j < k; ++j) h[j] = f(work[j] + s[j]);
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


@dataclass(frozen=True)
class CProgram:
    """C program of a model, with its memory requirements.

    Parameters
    ----------
    source : str
        The source code.
    n_data_bytes : int
        The size of the constants: weights, biases and scales. They are const and can stay in
        read-only memory.
    n_buffer_bytes : int
        The size of the static buffers, the only memory that the program writes to besides a few
        variables on the stack.
    differences : dict of float or None
        The error of 8-bit weights on the calibration data for each output: for labels the share of
        rows whose label changes, for numbers the largest absolute difference. None for weights in
        single precision.
    """

    source: str = field(repr=False)
    n_data_bytes: int
    n_buffer_bytes: int
    differences: Mapping[str, float] | None


def to_c(
    estimator: Any,
    *,
    prefix: str = "model",
    weight_dtype: Literal["float32", "int8"] = "float32",
    calibration_data: Any = None,
    return_std: bool = False,
) -> CProgram:
    """Return a fitted estimator as one C99 file without dependencies, for one row at a time.

    The program needs only the C standard library (``-lm``), allocates no memory and computes in
    single precision. Its function ``model_predict(x, ...)`` takes a row and pointers to the
    outputs, which may be NULL for outputs that are not needed. If there is one label, the function
    returns the index of the class. The outputs have the same names as with `to_onnx`; the comment
    at the top of the file lists them. After ``#define MODEL_DECLARATIONS``, including the file adds
    only the declarations.

    A row is flat, also if the rows of X had several axes in training: its values are in the order
    of ``X.reshape(len(X), -1)``. Padding at the end of sequences is not exported: the program takes
    sequences of full length.

    Parameters
    ----------
    estimator : estimator
        A fitted network or tabular estimator, a refitted search of one, or a pipeline that ends in
        one after scikit-learn's scalers or other transformers with a formula (`to_expression`).
    prefix : str, default="model"
        The prefix of all names, so that a program can contain several models.
    weight_dtype : {"float32", "int8"}, default="float32"
        The type of the weights of dense layers and convolutions. With "int8", weights have 8 bits,
        a quarter of the size, and the inputs of layers 16 bits, so that products are integer
        products. Everything else stays in single precision, also recurrent layers.
    calibration_data : array-like of shape (n_samples, ...) or None, default=None
        Typical rows, such as the training rows. Required for "int8", and for it alone: they
        measure the range of each layer's inputs and the error of the quantization. Values up to
        twice as large as in these rows are not clipped. They may have missing values (NaN) if the
        model accepts them, as tabular models do.
    return_std : bool, default=False
        Whether to add the standard deviation that a regressor's ``predict(X, return_std=True)``
        returns.

    Returns
    -------
    program : CProgram
        The ``source``, its memory requirements, and for "int8" the errors on the calibration data.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If the estimator, or a part of it, cannot be exported, such as the gradient boosting of a
        tabular estimator that was not fitted with ``blend=None``.
    ValueError
        If the prefix is not a C identifier, `calibration_data` and `weight_dtype` do not match, or
        weights overflow in single precision.

    See Also
    --------
    to_onnx : Export to ONNX.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.export import to_c
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    >>> program = to_c(model, prefix="iris")
    >>> "int iris_predict(const float *x, float *probabilities)" in program.source
    True
    >>> program.n_data_bytes, program.n_buffer_bytes
    (268, 44)
    >>> small = to_c(model, prefix="iris", weight_dtype="int8", calibration_data=X)
    >>> small.differences["label"] < 0.01
    True
    """
    if not isinstance(prefix, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix):
        raise ValueError(
            "prefix must be a C identifier of letters, digits and underscores that begins with a "
            f"letter, got {prefix!r}."
        )
    if weight_dtype not in ("float32", "int8"):
        question = did_you_mean(weight_dtype, ("float32", "int8"))
        raise ValueError(
            f'weight_dtype must be "float32" or "int8", got {weight_dtype!r}.{question}'
        )
    if (calibration_data is None) == (weight_dtype == "int8"):
        raise ValueError(
            'weight_dtype="int8" needs calibration_data, typical rows that measure the range of '
            "each layer's inputs. Pass for example calibration_data=X_train."
            if calibration_data is None
            else (
                'calibration_data is only used with weight_dtype="int8", got '
                'weight_dtype="float32". Set weight_dtype="int8", or omit calibration_data.'
            )
        )
    model = build_graph(estimator, return_std)
    if any(each.operation == "forest" for each in topological_sort(model.expressions)):
        raise TypeError(
            f"{model.estimator} cannot be exported to C, because its networks are blended with "
            "gradient boosting, whose trees only to_onnx exports. Fit it with blend=None."
        )
    if calibration_data is None:
        return generate_c(model, prefix)
    rows = check_array(
        calibration_data,
        dtype=np.float32,
        ensure_all_finite="allow-nan",
        allow_nd=True,
        input_name="calibration_data",
    )
    rows = rows.reshape(len(rows), -1)
    if rows.shape[1] != model.row.width:
        raise ValueError(
            f"calibration_data must have the {model.row.width} features of the model, got "
            f"{rows.shape[1]}."
        )
    model, errors = _quantize_model(model, rows)
    return generate_c(model, prefix, errors)


def _quantize_model(model: ModelGraph, X: Array) -> tuple[ModelGraph, dict[str, float]]:
    """Return a model with 8-bit weights, calibrated on rows X, and the error of each output.

    The error of labels is the share of rows whose label changes, that of numbers the largest
    absolute difference.
    """
    expressions = topological_sort(model.expressions)
    n_values = sum(each.n_estimators * each.width for each in expressions)
    n_rows = max(_N_VALUES // n_values, 1)
    blocks = [X[start : start + n_rows] for start in range(0, len(X), n_rows)]
    measured = _measure_inputs(model, blocks)
    quantized: dict[Expr, Expr] = {}
    for each in expressions:
        inputs = tuple(quantized[used] for used in each.inputs)
        if each.operation == "dense":
            weights, *biases = each.arrays
            quantized[each] = dense_int8(
                inputs[0], weights, biases[0] if biases else None, *measured[each]
            )
        else:
            quantized[each] = replace(each, inputs=inputs) if inputs else each
    outputs = [replace(output, expression=quantized[output.expression]) for output in model.outputs]
    changes: dict[str, list[Array]] = {output.name: [] for output in outputs}
    for rows in blocks:
        exact = evaluate(model.expressions, rows)
        rounded = evaluate([output.expression for output in outputs], rows)
        for before, after in zip(model.outputs, outputs, strict=True):
            values = exact[before.expression], rounded[after.expression]
            changes[after.name].append(_measure_change(after, *values))
    errors = {
        output.name: float(np.concatenate(changes[output.name]).max())
        if output.classes is None and output.threshold is None
        else float(np.concatenate(changes[output.name]).mean())
        for output in outputs
    }
    return replace(model, outputs=tuple(outputs)), errors


def _measure_inputs(model: ModelGraph, blocks: list[Array]) -> dict[Expr, tuple[Array, Array]]:
    """Return the largest size and the mean square of each input of all dense layers."""
    expressions, n_rows = topological_sort(model.expressions), 0
    measured: dict[Expr, tuple[Array, Array]] = {}
    for rows in blocks:
        values, has_missing = evaluate(model.expressions, rows), np.isnan(rows).any()
        for each in expressions:
            if each.operation != "dense":
                continue
            (x,) = each.inputs
            if has_missing and np.isnan(values[x]).any():
                raise ValueError(
                    "calibration_data must not contain NaN, because the model does not accept "
                    "missing values. Remove these rows."
                )
            largest, mean_square = measure_channels(x, values[x])
            if n_rows:
                before, mean_before = measured[each]
                share = len(rows) / (n_rows + len(rows))
                largest = np.maximum(largest, before)
                mean_square = share * mean_square + (1 - share) * mean_before
            measured[each] = largest, mean_square
        n_rows += len(rows)
    return measured


def _measure_change(output: ModelOutput, before: Array, after: Array) -> Array:
    """Return for each row whether a label has changed, or by how much a number has."""
    if output.classes is not None:
        return np.asarray(before.argmax(axis=-1) != after.argmax(axis=-1))
    if output.threshold is not None:
        is_changed = (before > output.threshold) != (after > output.threshold)
        return np.asarray(is_changed.any(axis=-1))
    return np.asarray(np.abs(before - after).max(axis=-1))


# ------------------------------------------------------------------------------ the file


def generate_c(
    model: ModelGraph, prefix: str, errors: Mapping[str, float] | None = None
) -> CProgram:
    """Return the C program of a model, with errors of its 8-bit weights if it has them."""
    code, upper = CCodegen(model, prefix), prefix.upper()
    int8_widths = [
        each.inputs[0].n_channels
        for each in topological_sort(model.expressions)
        if each.operation == "dense_int8"
    ]
    n_rounded = max(int8_widths, default=0)
    n_bytes = 4 * (sum(code.plan.buffer_sizes) + code.n_scratch) + 2 * n_rounded
    classes = [
        _declare_classes(output, prefix) for output in model.outputs if output.classes is not None
    ]
    parts = [
        _header_comment(code, errors, n_bytes),
        f"#ifndef {upper}_H\n#define {upper}_H\n",
        f"#define {upper}_N_FEATURES {model.row.width}",
        *(f"extern const {declaration};" for declaration, _ in classes),
        f"{code.signature};\n\n#endif\n",
        f"#ifndef {upper}_DECLARATIONS\n",
        "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n",
        *(f"const {declaration} = {{{values}}};\n" for declaration, values in classes),
        *code.data,
        "",
        *(
            f"static float {prefix}_buffer{number}[{size}];"
            for number, size in enumerate(code.plan.buffer_sizes)
        ),
        *([f"static float {prefix}_scratch[{code.n_scratch}];"] if code.n_scratch else []),
        *([f"static int16_t {prefix}_rounded[{n_rounded}];"] if n_rounded else []),
        "",
        *(text.replace("PREFIX", prefix) for text in _select_functions(code.functions)),
        f"{code.signature}\n{{",
        *(f"    {line}" for line in code.body),
        "}\n\n#endif\n",
    ]
    return CProgram("\n".join(parts), code.n_data_bytes, n_bytes, errors)


def _select_functions(names: Iterable[str]) -> list[str]:
    """Return the texts of runtime functions, and of those that they call."""
    called, texts = set(names), list[str]()
    for name, text in reversed(C_FUNCTIONS.items()):
        if name in called:
            texts.insert(0, text)
            called |= {other for other in C_FUNCTIONS if f"PREFIX_{other}(" in text}
    return texts


def _header_comment(code: CCodegen, errors: Mapping[str, float] | None, n_bytes: int) -> str:
    """Return the comment at the top of the file."""
    model, prefix = code.model, code.prefix
    names = model.feature_names
    features = "" if names is None else f": {', '.join(map(_escape_comment, names))}"
    shape = f", of shape {model.row_shape}" if len(model.row_shape) > 1 else ""
    rows = [("x", f"{model.row.width} numbers{shape}{features}")]
    for output in model.outputs:
        width = output.expression.width
        if output.classes is not None:
            name = "returns" if output is code.returned else output.name
            rows.append((name, f"index of the class in {_classes_name(output, prefix)}"))
        elif output.threshold is not None:
            rows.append((output.name, f"{width} indicators, 1 or 0, of the labels"))
        else:
            shape = "" if output.shape is None else f", of shape {output.shape}"
            rows.append((output.name, f"{width} number{'s' if width > 1 else ''}{shape}"))
    operations = {each.operation for each in topological_sort(model.expressions)}
    missing = "" if operations.isdisjoint(("isnan", "fill_nan")) else ", or NaN for missing values"
    paragraphs = [
        "Pass NULL for outputs that are not needed.",
        f"Constants take {code.n_data_bytes} bytes, static buffers {n_bytes}. No memory is "
        "allocated, and no other memory is written to. Calls share the buffers, so they must not "
        f"run at the same time. x must be finite{missing}.",
        f"Compile as C99 (cc -std=c99 -O2) and link with -lm. Define {prefix.upper()}_DECLARATIONS "
        "before including the file to get only the declarations.",
    ]
    if errors is not None:
        changes = ", ".join(
            f"{name} for {error:.2%} of the rows"
            if name.startswith("label")
            else f"{name} by up to {error:.3g}"
            for name, error in errors.items()
        )
        paragraphs.append(f"Weights have 8 bits, which changed on the calibration data: {changes}.")
    lines = [f"{model.estimator}, exported by skbackprop: prediction for one row."]
    lines += ["", f"    {code.signature};", ""]
    for name, text in rows:
        lines += textwrap.wrap(
            text, _WIDTH, initial_indent=f"{name:<16}", subsequent_indent=" " * 16
        )
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, _WIDTH)]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines), " */", ""])


def _escape_comment(name: Any) -> str:
    """Return a name that is safe in a C comment."""
    text = str(name).encode("unicode_escape").decode()
    return text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def _classes_name(output: ModelOutput, prefix: str) -> str:
    return f"{prefix}_{output.name.replace('label', 'classes')}"


def _declare_classes(output: ModelOutput, prefix: str) -> tuple[str, str]:
    """Return the declaration of the classes of a label in C, and their values."""
    values = [] if output.classes is None else output.classes.tolist()
    if isinstance(values[0], str):
        kind, literals = "char *const ", [_string_literal(value) for value in values]
    elif isinstance(values[0], float):
        kind, literals = "double ", [repr(value) for value in values]
    elif max(map(abs, values)) < 2**15:  # the range of int in the C standard
        kind, literals = "int ", [str(int(value)) for value in values]
    else:  # a literal of the digits of -2**63 would overflow
        kind = "long long "
        literals = [f"{v}LL" if v > -(2**63) else f"{v + 1}LL - 1" for v in values]
    return f"{kind}{_classes_name(output, prefix)}[{len(values)}]", ", ".join(literals)


def _string_literal(text: str) -> str:
    """Return a C literal, with octal escapes for bytes that are not plain ASCII."""
    return (
        '"'
        + "".join(
            chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
            for byte in text.encode()
        )
        + '"'
    )
