"""Export a fitted estimator to C for small devices."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.utils import check_array

from ..utils.arrays import Array
from ..utils.validation import did_you_mean
from ._c_codegen import C_FUNCTIONS, CCodegen
from ._expressions import topological_sort
from ._int8_quantization import quantization_error, quantize_model
from ._model_graph import ArgmaxOutput, ModelGraph, ThresholdOutput, build_graph

_WIDTH = 90
_KEYWORDS = re.compile(
    r"auto|break|case|char|const|continue|default|do|double|else|enum|extern|float|for"
    r"|goto|if|inline|int|long|register|restrict|return|short|signed|sizeof|static"
    r"|struct|switch|typedef|union|unsigned|void|volatile|while"
)


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

    source: str
    n_data_bytes: int
    n_buffer_bytes: int
    differences: dict[str, float] | None

    def __repr__(self) -> str:
        return (
            f"CProgram({len(self.source)} characters, n_data_bytes={self.n_data_bytes}, "
            f"n_buffer_bytes={self.n_buffer_bytes}, differences={self.differences})"
        )


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

    Parameters
    ----------
    estimator : estimator
        A fitted network or tabular estimator, a refitted search of one, or a pipeline that ends in
        one after scikit-learn's scalers or other transformers with a formula (`to_expression`).
    prefix : str, default="model"
        The prefix of all names, so that a program can contain several models.
    weight_dtype : {"float32", "int8"}, default="float32"
        The type of the weights of dense layers. With "int8", weights have 8 bits, a quarter of the
        size, and the inputs of layers 16 bits, so that products are integer products. Everything
        else stays in single precision.
    calibration_data : array-like of shape (n_samples, n_features) or None, default=None
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
        If the estimator, or a part of it, cannot be exported.
    ValueError
        If the prefix is not a C identifier, `calibration_data` and `weight_dtype` do not match, or
        weights overflow in single precision.

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
    _check_prefix(prefix)
    if weight_dtype not in ("float32", "int8"):
        question = did_you_mean(weight_dtype, ("float32", "int8"))
        raise ValueError(
            f'weight_dtype must be "float32" or "int8", got {weight_dtype!r}.{question}'
        )
    if (calibration_data is None) == (weight_dtype == "int8"):
        raise ValueError(
            'weight_dtype="int8" needs calibration_data, typical rows that measure the range of '
            "each layer's inputs. Pass calibration_data=X_train, for example."
            if calibration_data is None
            else 'calibration_data is for weight_dtype="int8", but weight_dtype is "float32". '
            'Set weight_dtype="int8", or leave calibration_data out.'
        )
    model = build_graph(estimator, return_std)
    if calibration_data is not None:
        calibration_data = _validate_calibration_data(calibration_data, model)
    return generate_c(model, prefix, calibration_data)


def generate_c(model: ModelGraph, prefix: str, X: Array | None = None) -> CProgram:
    """Return the C program of a model, with 8-bit weights if there are calibration rows X."""
    layers, errors = {}, None
    if X is not None:
        layers = quantize_model(model, X)
        errors = quantization_error(model, layers, X)
    code = CCodegen(model, prefix, layers)
    n_rounded = max((layer.weights.shape[2] for layer in layers.values()), default=0)
    n_bytes = 4 * sum(buffer.size for buffer in code.plan.buffers) + 2 * n_rounded
    source = "\n".join(_file_parts(code, errors, n_bytes, n_rounded))
    return CProgram(source, code.n_data_bytes, n_bytes, errors)


def _check_prefix(prefix: Any) -> None:
    is_name = isinstance(prefix, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix)
    if not is_name or _KEYWORDS.fullmatch(prefix):
        raise ValueError(
            "prefix must be a C identifier of letters, digits and underscores that begins with a "
            f"letter and is not a keyword, got {prefix!r}."
        )


def _validate_calibration_data(X: Any, model: ModelGraph) -> Array:
    rows: Array = check_array(
        X, dtype=np.float32, ensure_all_finite="allow-nan", input_name="calibration_data"
    )
    if rows.shape[1] != model.row.width:
        raise ValueError(
            f"calibration_data has {rows.shape[1]} features, but the model takes {model.row.width}."
        )
    return rows


# ------------------------------------------------------------------------------ the file


def _file_parts(
    source: CCodegen, errors: dict[str, float] | None, n_bytes: int, n_rounded: int
) -> Iterator[str]:
    """Yield the parts of the file."""
    prefix, upper, labels = source.prefix, source.prefix.upper(), _labels_of(source.model)
    yield _header_comment(source, errors, n_bytes)
    yield f"#ifndef {upper}_H\n#define {upper}_H\n"
    yield f"#define {upper}_N_FEATURES {source.model.row.width}"
    for name, label in labels:
        yield f"extern const {_get_c_type(label)}{prefix}_{name}[{len(label.classes)}];"
    yield f"{source.signature};\n\n#endif\n"
    yield f"#ifndef {upper}_DECLARATIONS\n"
    yield "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n"
    for name, label in labels:
        kind = _get_c_type(label)
        values = ", ".join(_literal(value, kind) for value in label.classes.tolist())
        yield f"const {kind}{prefix}_{name}[{len(label.classes)}] = {{{values}}};\n"
    yield from source.data
    yield ""
    for number, buffer in enumerate(source.plan.buffers):
        yield f"static float {prefix}_buffer{number}[{buffer.size}];"
    if n_rounded:
        yield f"static int16_t {prefix}_rounded[{n_rounded}];"
    yield ""
    for name, text in C_FUNCTIONS.items():
        if name in source.functions:
            yield text.replace("PREFIX", prefix)
    body = "\n".join(f"    {line}" for line in source.body)
    yield f"{source.signature}\n{{\n{body}\n}}\n\n#endif\n"


def _header_comment(source: CCodegen, errors: dict[str, float] | None, n_bytes: int) -> str:
    """Return the comment at the top of the file."""
    model, prefix = source.model, source.prefix
    names = model.feature_names
    features = "" if names is None else f": {', '.join(map(_escape_comment, names))}"
    rows = [("x", f"{model.row.width} numbers{features}")]
    for output in model.outputs:
        width = output.expression.width
        if isinstance(output, ArgmaxOutput):
            classes = output.name.replace("label", "classes")
            name = "returns" if output is source.returned else output.name
            rows.append((name, f"index of the class in {prefix}_{classes}"))
        elif isinstance(output, ThresholdOutput):
            rows.append((output.name, f"{width} indicators, 1 or 0, of the labels"))
        else:
            shape = "" if output.shape is None else f", of shape {output.shape}"
            rows.append((output.name, f"{width} number{'s' if width > 1 else ''}{shape}"))
    paragraphs = [
        f"{model.estimator}, exported by skbackprop: prediction for one row.",
        f"    {source.signature};",
        "\n".join(
            line
            for name, text in rows
            for line in textwrap.wrap(
                text, _WIDTH, initial_indent=f"{name:<16}", subsequent_indent=" " * 16
            )
        ),
        "Pass NULL for outputs that are not needed.",
        f"Constants take {source.n_data_bytes} bytes, static buffers {n_bytes}. No memory is "
        "allocated, and no other memory is written to. Calls share the buffers, so they must not "
        f"run at the same time. x must be finite{_describe_missing(model)}.",
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
    lines = [
        line
        for paragraph in paragraphs
        for part in paragraph.splitlines()
        for line in (textwrap.wrap(part, _WIDTH) if part[0] != " " and "  " not in part else [part])
        + ([""] if part == paragraph.splitlines()[-1] else [])
    ]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines[:-1]), " */", ""])


def _describe_missing(model: ModelGraph) -> str:
    """Return a phrase about missing values, if the model accepts them."""
    takes_missing = any(
        each.operation in ("isnan", "fill_nan") for each in topological_sort(model.expressions)
    )
    return ", or NaN for missing values" if takes_missing else ""


def _escape_comment(name: Any) -> str:
    """Return a name that is safe in a C comment."""
    text = str(name).encode("unicode_escape").decode()
    return text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


# -------------------------------------------------------------------------------- labels


def _labels_of(model: ModelGraph) -> list[tuple[str, ArgmaxOutput]]:
    """Return the label outputs, each with the name of its array of classes."""
    labels = [output for output in model.outputs if isinstance(output, ArgmaxOutput)]
    return [(output.name.replace("label", "classes"), output) for output in labels]


def _get_c_type(label: ArgmaxOutput) -> str:
    """Return the C type of the classes, as it stands before the name of the array."""
    classes = label.classes
    if classes.dtype.kind in "UO":
        return "char *const "
    if classes.dtype.kind == "f":
        return "double "
    if int(classes.min()) >= _MIN_INT and int(classes.max()) <= _MAX_INT:
        return "int "
    return "unsigned long long " if classes.dtype == np.uint64 else "long long "


# The range of int in the C standard.
_MIN_INT, _MAX_INT = -(2**15) + 1, 2**15 - 1


def _literal(value: Any, kind: str) -> str:
    """Return a class as a C literal, with octal escapes for characters that are not ASCII."""
    if isinstance(value, str):
        return '"' + "".join(map(_escape_byte, value.encode())) + '"'
    if kind == "long long " and value == -(2**63):  # a literal of its digits would overflow
        return "-9223372036854775807LL - 1"
    return f"{int(value)}{_SUFFIXES[kind]}" if kind in _SUFFIXES else repr(value)


_SUFFIXES = {"int ": "", "long long ": "LL", "unsigned long long ": "ULL"}


def _escape_byte(byte: int) -> str:
    is_plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if is_plain else f"\\{byte:03o}"
