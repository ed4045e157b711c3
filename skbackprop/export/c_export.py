"""`to_c`: a fitted estimator as one C file for small devices."""

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
from ._c_codegen import FUNCTIONS, CCodegen
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
    """A C program, and what it takes.

    Parameters
    ----------
    source : str
        The text of the file.
    n_data_bytes : int
        The bytes of its constants: weights, biases, scales. They are const, so that they stay in
        the read-only memory of a device.
    n_buffer_bytes : int
        The bytes of its static buffers, which is all the memory that it writes to, but for a few
        variables on the stack.
    differences : dict of float or None
        What weights of 8 bits change on the sample: of each output of labels the share of rows
        whose label is another, of each output of numbers the largest absolute difference. None
        for weights in single precision.
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

    The program needs nothing but C's own library (``-lm``), allocates no memory and computes in
    single precision. Its function ``model_predict(x, ...)`` takes a row, and pointers to where its
    outputs go, or NULL for those that are not wanted. It returns the number of the class, where
    there is one label. The outputs have the names that `to_onnx` gives them; the comment at the
    head of the file says what there is. A program that includes the file after
    ``#define MODEL_DECLARATIONS`` sees the declarations alone.

    Parameters
    ----------
    estimator : estimator
        A fitted network or tabular estimator, a search that has refitted one, or a pipeline that
        ends in one after scikit-learn's scalers or other transformers with a `to_expression`.
    prefix : str, default="model"
        What all names of the program begin with, so that several fit into one.
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
        The text in ``source``, its sizes, and for "int8" the `differences` on the sample.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is none that can be exported, or has a part without a `to_expression`.
    ValueError
        If the prefix is no name in C, there is a sample without need or none where there has to
        be one, or single precision does not hold the weights.

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
    _check_name(prefix)
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


def generate_c(model: ModelGraph, prefix: str, sample: Array | None = None) -> CProgram:
    """Return a model as a C program: with weights of 8 bits, if there is a sample."""
    layers, changes = {}, None
    if sample is not None:
        layers = quantize_model(model, sample)
        changes = quantization_error(model, layers, sample)
    source = CCodegen(model, prefix, layers)
    n_whole = max((each.weights.shape[2] for each in layers.values()), default=0)
    n_buffers = sum(buffer.size for buffer in source.plan.buffers)
    n_bytes = 4 * n_buffers + 2 * n_whole
    text = "\n".join(_file(source, changes, n_bytes, n_whole))
    return CProgram(text, source.n_data_bytes, n_bytes, changes)


def _check_name(prefix: Any) -> None:
    is_name = isinstance(prefix, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", prefix)
    if not is_name or _KEYWORDS.fullmatch(prefix):
        raise ValueError(
            "prefix must be a name in C: letters, digits and underscores, a letter first, and no "
            f"keyword; got {prefix!r}."
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


def _file(
    source: CCodegen, changes: dict[str, float] | None, n_bytes: int, n_whole: int
) -> Iterator[str]:
    """Yield the parts of the file."""
    prefix, upper, labels = source.prefix, source.prefix.upper(), _labels_of(source.model)
    yield _head(source, changes, n_bytes)
    yield f"#ifndef {upper}_H\n#define {upper}_H\n"
    yield f"#define {upper}_N_FEATURES {source.model.row.width}"
    for name, label in labels:
        yield f"extern const {_kind_of(label)}{prefix}_{name}[{len(label.classes)}];"
    yield f"{source.signature};\n\n#endif\n"
    yield f"#ifndef {upper}_DECLARATIONS\n"
    yield "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n"
    for name, label in labels:
        kind = _kind_of(label)
        values = ", ".join(_literal(value, kind) for value in label.classes.tolist())
        yield f"const {kind}{prefix}_{name}[{len(label.classes)}] = {{{values}}};\n"
    yield from source.data
    yield ""
    for number, buffer in enumerate(source.plan.buffers):
        yield f"static float {prefix}_buffer{number}[{buffer.size}];"
    if n_whole:
        yield f"static int16_t {prefix}_whole[{n_whole}];"
    yield ""
    for name, text in FUNCTIONS.items():
        if name in source.functions:
            yield text.replace("PREFIX", prefix)
    body = "\n".join(f"    {line}" for line in source.body)
    yield f"{source.signature}\n{{\n{body}\n}}\n\n#endif\n"


def _head(source: CCodegen, changes: dict[str, float] | None, n_bytes: int) -> str:
    """Return the comment at the head of the file."""
    model, prefix = source.model, source.prefix
    names = model.feature_names
    of_row = "" if names is None else f": {', '.join(map(_plain, names))}"
    rows = [("x", f"{model.row.width} numbers{of_row}")]
    for output in model.outputs:
        width = output.expression.width
        if isinstance(output, ArgmaxOutput):
            classes = output.name.replace("label", "classes")
            name = "returns" if output is source.returned else output.name
            rows.append((name, f"the number of the class in {prefix}_{classes}"))
        elif isinstance(output, ThresholdOutput):
            rows.append((output.name, f"{width} times 1 or 0: whether there is each label"))
        else:
            shape = "" if output.shape is None else f", of shape {output.shape}"
            rows.append((output.name, f"{width} number{'s' if width > 1 else ''}{shape}"))
    paragraphs = [
        f"{model.estimator}, written by skbackprop: its prediction for one row.",
        f"    {source.signature};",
        "\n".join(
            line
            for name, text in rows
            for line in textwrap.wrap(
                text, _WIDTH, initial_indent=f"{name:<16}", subsequent_indent=" " * 16
            )
        ),
        "Where an output may go is to be large enough, or NULL if it is not wanted.",
        f"Constants take {source.n_data_bytes} bytes, static buffers {n_bytes}. No memory is "
        "allocated, and no other is written to. Calls share the buffers: let one end before the "
        f"next begins. x has to be finite{_but_for_missing(model)}.",
        f"Compile it as C99 (cc -std=c99 -O2), and link with -lm. To see the declarations alone, "
        f"define {prefix.upper()}_DECLARATIONS before including the file.",
    ]
    if changes is not None:
        found = ", ".join(
            f"another {name} for {change:.2%} of the rows"
            if name.startswith("label")
            else f"{name} by up to {change:.3g}"
            for name, change in changes.items()
        )
        paragraphs.append(f"Weights have 8 bits, which changed on a sample: {found}.")
    lines = [
        line
        for paragraph in paragraphs
        for part in paragraph.splitlines()
        for line in (textwrap.wrap(part, _WIDTH) if part[0] != " " and "  " not in part else [part])
        + ([""] if part == paragraph.splitlines()[-1] else [])
    ]
    return "\n".join(["/*", *(f" * {line}".rstrip() for line in lines[:-1]), " */", ""])


def _but_for_missing(model: ModelGraph) -> str:
    """Return what the head says of missing values, if the model has a place for them."""
    takes_missing = any(
        each.operation in ("isnan", "fill_nan") for each in topological_sort(model.expressions)
    )
    return ", or NaN where it is missing" if takes_missing else ""


def _plain(name: Any) -> str:
    """Return a name as it may stand in a comment."""
    text = str(name).encode("unicode_escape").decode()
    return text.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


# -------------------------------------------------------------------------------- labels


def _labels_of(model: ModelGraph) -> list[tuple[str, ArgmaxOutput]]:
    """Return the outputs of labels, each with the name of the array of its classes."""
    labels = [output for output in model.outputs if isinstance(output, ArgmaxOutput)]
    return [(output.name.replace("label", "classes"), output) for output in labels]


def _kind_of(label: ArgmaxOutput) -> str:
    """Return the type of the array of classes, up to its name."""
    classes = label.classes
    if classes.dtype.kind in "UO":
        return "char *const "
    if classes.dtype.kind == "f":
        return "double "
    if int(classes.min()) >= _LEAST_INT and int(classes.max()) <= _LARGEST_INT:
        return "int "
    return "unsigned long long " if classes.dtype == np.uint64 else "long long "


# What an int holds for certain, on the smallest devices too.
_LEAST_INT, _LARGEST_INT = -(2**15) + 1, 2**15 - 1


def _literal(value: Any, kind: str) -> str:
    """Return a class as a constant of C; what is no plain ASCII of a string in octal numbers."""
    if isinstance(value, str):
        return '"' + "".join(map(_character, value.encode())) + '"'
    if kind == "long long " and value == -(2**63):  # whose digits alone no type has
        return "-9223372036854775807LL - 1"
    return f"{int(value)}{_SUFFIXES[kind]}" if kind in _SUFFIXES else repr(value)


_SUFFIXES = {"int ": "", "long long ": "LL", "unsigned long long ": "ULL"}


def _character(byte: int) -> str:
    is_plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
    return chr(byte) if is_plain else f"\\{byte:03o}"
