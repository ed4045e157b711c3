"""Formulas of activations, links, losses, layers, transformers and encoders, as expressions.

`to_expression` has a function for each class. What has a formula can be exported without skl2onnx.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from typing import Any

import numpy as np
from scipy.special import erf, expit
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from .. import activations, layers, losses
from ..layers import pooling
from ..layers._recurrence import split_channels
from ..layers._windows import AxisWindows, as_pair
from ..layers.attention import compute_sinusoids
from ..layers.augmentation import ImageAugmentation
from ..layers.columns import BlockDiagonalDense, Scale
from ..layers.convolution import Convolution
from ..layers.latent import Sampling
from ..layers.reshaping import CropOrPad, Reshaping
from ..losses import links
from ..tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from ..tabular._categorical_encoding import CategoryLevels, OneHot
from ..tabular._column_values import find_role, to_floats
from ..tabular._monotone import MonotoneDense, MonotoneInputs
from ..tabular._table_encoding import FittedEncoding
from ..tabular.numeric_encoders import RobustScaling
from ..utils.arrays import Array
from . import _expressions as ex
from ._expressions import Expr

# The arrays of a layer of one ensemble member, by name.
Arrays = Mapping[str, Array]
# The scalers of scikit-learn that have formulas.
SCALERS = (MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler)


@singledispatch
def to_expression(part: Any, *inputs: Any) -> Any:
    """Return the output of a part as an expression. Register functions for your own classes.

    The decorator ``to_expression.register`` registers a function for the class that annotates its
    first argument. The function gets the part, and

    - for an activation, its input z: ``(activation, z)``,
    - for a link, the raw predictions that it maps to predictions: ``(link, raw_prediction)``,
    - for a loss with its own `predict`, the raw predictions: ``(loss, raw_prediction)``,
    - for a transformer in a pipeline, its input: ``(transformer, x)``,
    - for a layer, its input and its arrays by name: ``(layer, x, arrays)``. The input has the shape
      of a row. Each member of an ensemble calls the function with its own arrays.

    It returns an expression, made with operators and these functions: add, subtract, multiply,
    divide, matmul, negative, power, square, absolute, maximum, minimum, equal, isnan, exp, expm1,
    log, log1p, sqrt, tanh, sin and cos of ``numpy``, expit and erf of ``scipy.special``. They
    broadcast the values of a row as NumPy does.

    Parameters
    ----------
    part : object
        The activation, link, loss, layer or transformer.
    *inputs : objects
        Its inputs.

    Returns
    -------
    output : Expr
        Its output.

    Raises
    ------
    TypeError
        If no function is registered for the class.

    Examples
    --------
    The formula is the same as in `forward`. You can test it on arrays:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from skbackprop.activations import ActivationFunction
    >>> from skbackprop.export import to_expression
    >>> @dataclass(frozen=True)
    ... class Cube(ActivationFunction):
    ...     needs_preactivation = True
    ...
    ...     def forward(self, z, a):
    ...         np.power(z, 3, out=a)
    ...
    ...     def backward(self, z, a, delta):
    ...         delta *= 3 * z**2
    >>> @to_expression.register
    ... def convert_cube(activation: Cube, z):
    ...     return z**3
    >>> to_expression(Cube(), np.array([-1.0, 2.0]))
    array([-1.,  8.])
    """
    name = type(part).__name__
    raise TypeError(
        f"{name} cannot be exported, because it has no formula. Register a function that takes the "
        f"{name} and its input and returns its output, with the decorator "
        "skbackprop.export.to_expression.register."
    )


# Methods that compute the outputs of parts.
_COMPUTING_METHODS = ("forward", "bind", "bind_steps", "inverse", "predict", "transform")


def convert(part: Any, *inputs: Any) -> Any:
    """Return the output of a part by the formula of its class, or of a base class.

    Raises
    ------
    TypeError
        If there is no formula, or the class overrides the computation of its base class.
    """
    return find_converter(to_expression, type(part))(part, *inputs)


def find_converter(converters: Any, kind: type) -> Any:
    """Return the function for a class, or for its base class if it computes the same.

    Otherwise return the function for all objects, which raises an error.
    """
    function = converters.dispatch(kind)
    registry = converters.registry
    owner = next((base for base in kind.__mro__ if registry.get(base) is function), object)
    is_same = all(
        getattr(kind, name, None) is getattr(owner, name, None) for name in _COMPUTING_METHODS
    )
    return function if is_same else converters.dispatch(object)


# ------------------------------------------------- activations, links, losses; short formulas


def _softplus(z: Any) -> Any:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _gelu_tanh(part: activations.GeluTanh, z: Any) -> Any:
    x = ex.clip(z, -10.0, 10.0)  # outside, the gate is 0 or 1
    return z * expit(x * (part.LINEAR + part.CUBIC * np.square(x)))


def _mish(part: activations.Mish, z: Any) -> Any:
    e = np.exp(np.minimum(z, part.MAX_EXP_ARGUMENT))
    n = e * (e + 2.0)
    return z * (n / (n + 2.0))


def _scale_columns(x: Any, center: Array | None, scale: Array | None) -> Any:
    centered = x if center is None else x - center
    return centered if scale is None else centered / scale


def _exp(part: links.LogLink, raw: Any) -> Any:
    bound = links.max_exp_argument(np.dtype(np.float32))
    return np.exp(ex.clip(raw, -bound, bound))


_FORMULAS: dict[type, Callable[..., Any]] = {
    activations.Identity: lambda part, z: z,
    activations.Logistic: lambda part, z: expit(z),
    activations.Tanh: lambda part, z: np.tanh(z),
    activations.Relu: lambda part, z: np.maximum(z, 0.0),
    activations.LeakyRelu: lambda part, z: np.maximum(z, part.negative_slope * z),
    activations.Elu: lambda part, z: np.maximum(z, 0.0) + part.alpha * np.expm1(np.minimum(z, 0.0)),
    activations.Selu: lambda part, z: part.SCALE * to_expression(part.ELU, z),
    activations.Softplus: lambda part, z: _softplus(z),
    activations.Silu: lambda part, z: z * expit(z),
    activations.Gelu: lambda part, z: z * (0.5 * erf(z / np.sqrt(2.0)) + 0.5),
    activations.GeluTanh: _gelu_tanh,
    activations.Mish: _mish,
    links.IdentityLink: lambda part, raw: raw,
    links.LogLink: _exp,
    links.LogitLink: lambda part, raw: expit(raw),
    links.SoftmaxLink: lambda part, raw: ex.softmax(raw),
    losses.Loss: lambda part, raw: convert(part.link, raw),
    losses.Quantile: lambda part, raw: to_expression(part.link, raw),  # the quantiles of a target
    losses.Gaussian: lambda part, raw: ex.take_columns(
        raw, range(raw.shape[-1])[part.prediction_columns]
    ),
    layers.Activation: lambda part, x, arrays: convert(part.function, x),
    layers.Dropout: lambda part, x, arrays: x,
    layers.GaussianNoise: lambda part, x, arrays: x,
    ImageAugmentation: lambda part, x, arrays: x,
    layers.Permute: lambda part, x, arrays: ex.transpose(x, [axis - 1 for axis in part.dims]),
    Reshaping: lambda part, x, arrays: ex.reshape(x, part.compute_output_shape(x.shape)),
    Sampling: lambda part, x, arrays: ex.take_columns(x, range(x.width // 2)),
    Scale: lambda part, x, arrays: x * arrays["scales"],
    RobustScaler: lambda part, x: _scale_columns(x, part.center_, part.scale_),
    StandardScaler: lambda part, x: _scale_columns(
        x, part.mean_ if part.with_mean else None, part.scale_
    ),
}
for _kind, _formula in _FORMULAS.items():
    to_expression.register(_kind)(_formula)


@to_expression.register
def _(part: links.NonCrossingQuantileLink, raw: Expr) -> Any:
    # The first raw prediction of each target is a quantile, the others are steps to the next one.
    is_step = np.arange(raw.shape[-1]) % part.n > 0
    steps = is_step * _softplus(raw) + ~is_step * raw
    return steps @ np.kron(np.eye(raw.shape[-1] // part.n), np.triu(np.ones((part.n, part.n))))


@to_expression.register
def _(part: links.GaussianLink, raw: Expr) -> Any:
    is_variance = np.arange(raw.shape[-1]) % 2
    variances = to_expression(links.LOG_LINK, raw) + part.floor
    return (1 - is_variance) * raw + is_variance * variances


def get_predicted_std(loss: losses.Loss, raw: Expr) -> Any:
    """Return the standard deviation that the network predicts, or None for most losses."""
    if isinstance(loss, losses.Gaussian):
        variances = range(raw.shape[-1])[1::2]
        return np.sqrt(ex.take_columns(to_expression(loss.link, raw), variances))
    if type(loss).predict_std is losses.Loss.predict_std:
        return None
    raise TypeError(
        "return_std=True is only supported for the losses of this package, but "
        f"{type(loss).__name__} has its own standard deviation. Set return_std=False."
    )


# -------------------------------------------------------------------------------- layers


@to_expression.register
def _(part: layers.Dense, x: Expr, arrays: Arrays) -> Any:
    weights = arrays[f"{part.scope}weights"]
    product = x @ weights if weights.ndim == 2 else ex.multiply_members(x, weights)
    return product + arrays[f"{part.scope}biases"] if part.use_bias else product


@to_expression.register
def _(part: layers.BatchNormalization, x: Expr, arrays: Arrays) -> Any:
    factor = arrays[f"{part.scope}gains"] / np.sqrt(arrays[f"{part.scope}variances"] + part.epsilon)
    return x * factor + (arrays[f"{part.scope}biases"] - arrays[f"{part.scope}means"] * factor)


@to_expression.register
def _(part: layers.LayerNormalization, x: Expr, arrays: Arrays) -> Any:
    centered = x - ex.mean(x)
    # The squares of large numbers could overflow in single precision.
    size = np.maximum(ex.mean(np.abs(centered)), 1.0)
    centered = centered / size
    variance = ex.mean(np.square(centered))
    normalized = centered / np.sqrt(variance + part.epsilon / size / size)
    return normalized * arrays[f"{part.scope}gains"] + arrays[f"{part.scope}biases"]


@to_expression.register
def _(part: BlockDiagonalDense, x: Expr, arrays: Arrays) -> Any:
    n_mapped = part.n_blocks * part.width
    blocks = ex.reshape(ex.take_columns(x, range(n_mapped)), (part.n_blocks, part.width))
    others: Any = ex.take_columns(x, range(n_mapped, x.width))
    maps = arrays["maps"]
    if maps.ndim == 3:
        mapped = ex.multiply_blocks(blocks, maps)
        return ex.concat([ex.reshape(mapped, (mapped.width,)), others])
    # The maps of all members side by side, for the first layer of a network.
    n_members = len(maps)
    mapped = ex.multiply_blocks(blocks, np.concatenate([*maps], axis=-1))
    by_member = ex.transpose(
        ex.reshape(mapped, (part.n_blocks, n_members, part.n_units)), (1, 0, 2)
    )
    columns = ex.reshape(by_member, (n_members, part.n_blocks * part.n_units))
    return ex.concat([columns, others * np.ones((n_members, 1))])


@to_expression.register
def _(part: MonotoneInputs, x: Expr, arrays: Arrays) -> Any:
    columns, signs = part.order()
    return ex.take_columns(x, columns) * np.where(signs, signs, 1)


@to_expression.register
def _(part: MonotoneDense, x: Expr, arrays: Arrays) -> Any:
    split = x.width - part.n_inputs
    others = ex.take_columns(x, range(split, x.width))
    activations = ex.concat(part.activate(ex.take_columns(x, range(split)), others))
    return activations @ part.expand_weights(arrays["weights"]) + arrays["biases"]


@to_expression.register
def _(part: layers.PeriodicEmbedding, x: Expr, arrays: Arrays) -> Any:
    frequencies = arrays["frequencies"]
    columns = range(len(frequencies)) if part.features is None else part.features
    numbers: Any = ex.reshape(ex.take_columns(x, columns), (len(frequencies), 1))
    phases = numbers * (2 * np.pi * frequencies)
    waves = ex.concat([np.sin(phases), np.cos(phases)])
    mapped = ex.multiply_blocks(waves, arrays["maps"])
    return ex.concat([ex.reshape(mapped, (mapped.width,)), x])


@to_expression.register
def _(part: layers.CategoricalEmbedding, x: Expr, arrays: Arrays) -> Any:
    tables = np.split(arrays["embeddings"], np.cumsum(part.sizes)[:-1])
    vectors = [
        ex.gather(ex.take_columns(x, [column]), table)
        for column, table in zip(part.categorical_columns, tables, strict=True)
    ]
    others = [i for i in range(x.width) if i not in part.categorical_columns]
    return ex.concat([ex.take_columns(x, others), *vectors])


@to_expression.register(Convolution)
@to_expression.register(layers.DepthwiseConv2D)
@to_expression.register(layers.Conv2DTranspose)
def _(part: Convolution, x: Expr, arrays: Arrays) -> Expr:
    windows, kernels = list(part.image_windows(x.shape)), arrays["kernels"]
    operator, attributes = "Conv", {"dilations": [axis.dilation for axis in windows]}
    if isinstance(part, layers.Conv1D):  # a sequence is an image of height one
        kernels = kernels[None]
    elif isinstance(part, layers.DepthwiseConv2D):  # each channel is a group
        kernels, attributes["group"] = kernels[..., None, :], kernels.shape[-1]
    elif isinstance(part, layers.Conv2DTranspose):
        # The last window ends this number of rows and columns after the output.
        after = [
            (axis.n_outputs - 1) * axis.stride + axis.size - axis.n_before - axis.n_inputs
            for axis in windows
        ]
        windows = [replace(axis, n_after=n) for axis, n in zip(windows, after, strict=True)]
        operator, attributes = "ConvTranspose", {"output_padding": [max(-n, 0) for n in after]}
    constants = [kernels, arrays["kernel_biases"]] if part.use_bias else [kernels]
    shape = part.compute_output_shape(x.shape)
    return ex.over_windows(operator, x, windows, shape, constants, **attributes)


@to_expression.register
def _(part: layers.UpSampling2D, x: Expr, arrays: Arrays) -> Expr:
    (height, width), (down, right) = x.shape[:2], as_pair(part.size)
    pixels: Any = ex.reshape(x, (height, 1, width, 1, x.width // (height * width)))
    copies = pixels * np.ones((1, down, 1, right, 1))
    return ex.reshape(copies, part.compute_output_shape(x.shape))


@to_expression.register
def _(part: CropOrPad, x: Expr, arrays: Arrays) -> Expr:
    positions = np.arange(x.width).reshape(x.shape)
    for axis, size in enumerate(part.sizes):
        positions = np.take(positions, np.arange(size), axis=axis, mode="clip")
    return ex.reshape(
        ex.take_columns(ex.reshape(x, (x.width,)), positions.ravel()), positions.shape
    )


@to_expression.register(pooling.BaseMaxPooling)
@to_expression.register(pooling.BaseAveragePooling)
@to_expression.register(pooling.BaseGlobalMaxPooling)
@to_expression.register(pooling.BaseGlobalAveragePooling)
def _(part: Any, x: Expr, arrays: Arrays) -> Expr:
    shape = part.compute_output_shape(x.shape)
    if isinstance(part, pooling.GlobalPooling):
        size = math.prod(x.shape[: part.n_axes])
        windows: tuple[AxisWindows, ...] = (AxisWindows(size, size),)
    else:
        windows = part.compute_windows(x.shape)
    if len(windows) == 1:  # a sequence is an image of height one
        windows = AxisWindows(1), *windows
    is_max = isinstance(part, (pooling.BaseMaxPooling, pooling.BaseGlobalMaxPooling))
    return ex.over_windows("MaxPool" if is_max else "AveragePool", x, windows, shape)


@to_expression.register(layers.GRU)
@to_expression.register(layers.LSTM)
@to_expression.register(layers.SimpleRNN)
def _(part: Any, x: Expr, arrays: Arrays, is_reversed: bool = False) -> Expr:
    kernels, recurrent, biases = (
        arrays[name] for name in ("kernels", "recurrent_kernels", "kernel_biases")
    )
    attributes, recurrent_biases = dict[str, Any](), np.zeros_like(biases)
    if isinstance(part, layers.GRU):
        operator, attributes = "GRU", {"linear_before_reset": 1}
        recurrent_biases[-len(recurrent) :] = arrays["recurrent_biases"]
    elif isinstance(part, layers.LSTM):
        operator = "LSTM"
        # The gates are i, f, the candidate and o; ONNX has i, o, f and the candidate.
        columns = np.arange(len(biases)).reshape(4, -1)[[0, 3, 1, 2]].ravel()
        kernels, recurrent, biases = (array[..., columns] for array in (kernels, recurrent, biases))
    else:
        activation = convert(activations.get_activation(part.activation), Expr("", shape=(1,)))
        operator, attributes = "RNN", {"activations": [activation.operator]}
        if activation.operator not in ("Tanh", "Relu", "Sigmoid"):
            raise TypeError(
                f"SimpleRNN with activation={part.activation!r} cannot be exported. Use one of "
                "['tanh', 'relu', 'logistic'], and fit again."
            )
    sequence = ex.reshape(x, split_channels(x.shape))
    constants = kernels, recurrent, np.concatenate([biases, recurrent_biases])
    return ex.recurrence(
        operator, sequence, constants, part.return_sequences, is_reversed, **attributes
    )


@to_expression.register
def _(part: layers.Bidirectional, x: Expr, arrays: Arrays) -> Expr:
    states = []
    for direction in ("forward", "backward"):
        arrays_of_direction = {
            name.removeprefix(f"{direction}_"): array
            for name, array in arrays.items()
            if name.startswith(direction)
        }
        states.append(convert(part.layer, x, arrays_of_direction, direction == "backward"))
    return ex.concat(states)


@to_expression.register
def _(part: layers.MultiHeadAttention, x: Any, arrays: Arrays) -> Any:
    n_steps, key_size = x.shape[0], part.compute_key_size(x.shape)

    def project(i: int, axes: tuple[int, int, int], factor: float = 1.0) -> Any:
        """Return queries, keys or values of all heads, with other axes than (step, head, d)."""
        columns = slice(i * part.n_heads * key_size, (i + 1) * part.n_heads * key_size)
        kernels, biases = arrays["attention_kernels"], arrays["attention_biases"]
        by_step: Any = x @ (kernels[:, columns] * factor) + biases[columns] * factor
        return ex.transpose(ex.reshape(by_step, (n_steps, part.n_heads, key_size)), axes)

    queries, keys = project(0, (1, 0, 2), 1 / math.sqrt(key_size)), project(1, (1, 2, 0))
    scores = queries @ keys
    if part.is_causal:
        scores = scores + np.triu(np.full((n_steps, n_steps), -1e30), 1)
    heads = ex.transpose(ex.softmax(scores) @ project(2, (1, 0, 2)), (1, 0, 2))
    outputs: Any = ex.reshape(heads, (n_steps, part.n_heads * key_size))
    return outputs @ arrays["attention_output_kernels"] + arrays["attention_output_biases"]


@to_expression.register
def _(part: layers.PositionalEncoding, x: Expr, arrays: Arrays) -> Any:
    return x + arrays.get("position_embeddings", compute_sinusoids(x.shape))


@to_expression.register
def _(part: layers.Embedding, x: Expr, arrays: Arrays) -> Expr:
    return ex.reshape(ex.gather(x, arrays["embeddings"]), part.compute_output_shape(x.shape))


# -------------------------------------------------------------- transformers of pipelines


@to_expression.register
def _(part: MinMaxScaler, x: Any) -> Any:
    scaled = x * part.scale_ + part.min_
    return ex.clip(scaled, *part.feature_range) if part.clip else scaled


@to_expression.register
def _(part: MaxAbsScaler, x: Any) -> Any:
    scaled = x / part.scale_
    return ex.clip(scaled, -1.0, 1.0) if part.clip else scaled


# ------------------------------------------------------------------- encoders of tables
# The input is numeric, so the levels of categories must be numbers. Missing values are NaN.


@to_expression.register
def _(part: TableEncoder, x: Any) -> Expr:
    encoded = encode_table(part._encoding, *convert_columns(part._encoding, x))
    return ex.take_columns(encoded, range(part._encoding.n_outputs))


def encode_table(encoding: FittedEncoding, numbers: Expr, codes: Any) -> Expr:
    """Return the encoded columns of a table, numbers before categories, or a column of zeros."""
    encoder = encoding.categories.encoder
    columns = [column for column, _ in encoder.outputs()]
    if isinstance(encoder, OneHot):
        starts, outputs = encoder._table
        positions = ex.take_rows(codes + starts, outputs.astype(np.float32))
        repeated: Any = ex.take_columns(positions, columns)
        categories = np.equal(repeated, np.arange(len(columns)))
    else:
        categories = ex.take_columns(codes, columns)
    encoded = ex.concat([_encode_numbers(encoding.numbers, numbers), categories])
    return encoded if encoded.width else ex.zeros(numbers if numbers.width else codes)


def convert_columns(encoding: FittedEncoding, x: Expr | list[Expr]) -> tuple[Expr, Expr]:
    """Return numbers with target statistics, in double precision, and codes of categories.

    Raises
    ------
    TypeError
        If there are columns of dates, times or text, or of categories of other types.
    """
    for column, encoded in encoding.column_encodings.items():
        raise TypeError(
            f"{encoded.label} must contain numbers to be exported, but fit treated it as "
            f"{encoding.kinds[column].kind}. Remove the column, or convert it to numbers before "
            "fit, for example with a TableEncoder for that column."
        )
    categories = encoding.categories
    codes = ex.concat(
        _encode_levels(levels, ex.take_columns(x, [column]))
        for column, levels in zip(categories.columns, categories.levels, strict=True)
    )
    numbers = [ex.cast(ex.take_columns(x, encoding.numeric_columns), np.float64)]
    statistics = categories.statistics
    if statistics is not None:
        columns, tables = statistics.columns, [table[-1] for table in statistics.tables]
        numbers.append(look_up(ex.take_columns(codes, columns), tables))
    fitted = encoding.interactions
    if fitted is not None:
        values = ex.take_columns(numbers[0], fitted.numbers)
        z = ex.fill_nan(_scale_and_clip(values, encoding.numbers, [*fitted.numbers]), 0.0)
        tables = [table[-1] for table in fitted.coefficients]
        lines = look_up(ex.take_columns(codes, fitted.categories), tables)
        intercept, slope = (ex.reshape(ex.take_columns(lines, [i]), z.shape) for i in range(2))
        numbers.append(intercept + slope * z)
    return ex.concat(numbers), codes


def look_up(codes: Expr, tables: Sequence[Array]) -> Expr:
    """Return the row that each code has in its own table (n_codes, ...), in double precision."""
    if not tables:
        return codes
    starts = np.cumsum([0, *map(len, tables[:-1])])
    return ex.take_rows(codes + starts, np.concatenate(tables).astype(np.float64))


def get_levels(levels: CategoryLevels) -> list[Any]:
    """Return all levels of a column but the missing one."""
    return [level for level in (*levels.frequent, *levels.infrequent) if level is not None]


def _encode_levels(levels: CategoryLevels, x: Any) -> Expr:
    """Return the codes of a column of categories, in single precision.

    Raises
    ------
    TypeError
        If levels are neither all numbers nor all strings.
    ValueError
        If levels are equal in the precision of the input, or missing values and empty strings are
        different levels.
    """
    all_levels, (missing_code,) = get_levels(levels), levels.encode([None])
    codes, has_words = levels.encode(all_levels), x.dtype is object
    others = [
        level
        for level in all_levels
        if not (isinstance(level, str) if has_words else find_role(type(level)) == "number")
    ]
    if others:
        raise TypeError(
            f"{levels.label} has levels such as {others[0]!r}, but an exported model accepts "
            "either strings or numbers in a column. Convert the column to strings, and fit again."
        )
    if has_words:
        code_of_word = {"": missing_code} | dict(zip(all_levels, codes, strict=True))
        if missing_code not in (0, code_of_word[""]):
            raise ValueError(
                f"{levels.label} has missing values and empty strings, but an exported model reads "
                "empty strings as missing values. Replace the empty strings, and fit again."
            )
        return ex.encode_words(x, code_of_word)
    numbers = to_floats(all_levels, levels.label)
    if len(np.unique(numbers.astype(x.dtype))) < len(numbers):
        raise ValueError(
            f"{levels.label} has levels that are equal as {np.dtype(x.dtype)}, the type of its "
            "input. Number the levels from 0, and fit again."
        )
    code: Any = np.isnan(x) * missing_code
    if all_levels:
        code = code + np.equal(x, numbers) @ codes[:, None]
    return ex.cast(code, np.float32)


def _scale_and_clip(x: Expr, scaling: RobustScaling, columns: Any) -> Any:
    """Return columns scaled and clipped smoothly."""
    z = ex.clip((x - scaling.center[columns]) * scaling.scale[columns], -1e9, 1e9)
    return z / np.sqrt(1.0 + np.square(z / 3.0))


def _encode_numbers(numbers: RobustScaling, x: Expr) -> Expr:
    """Return scaled columns, two-valued columns, and indicators of missing values."""
    scaled, two_valued, with_missing = numbers.input_columns
    z = _scale_and_clip(ex.take_columns(x, scaled), numbers, scaled)
    center, scale = numbers.center[two_valued], numbers.scale[two_valued]
    share = ex.clip((ex.take_columns(x, two_valued) - center) * scale, 0.0, 1.0)
    filled = ex.fill_nan(ex.concat([z, share]), numbers.fill[[*scaled, *two_valued]])
    return ex.cast(ex.concat([filled, np.isnan(ex.take_columns(x, with_missing))]), np.float32)


@to_expression.register
def _(part: PiecewiseLinearEncoder, x: Expr) -> Any:
    feature, *bins = part._bin_arrays()
    return bin_fractions(ex.take_columns(x, feature), *bins) - 0.5


@to_expression.register
def _(part: PeriodicFeatures, x: Expr) -> Any:
    numbers: Any = ex.reshape(x, (x.width, 1))
    waves: Any = np.cos(numbers * (2 * np.pi * part.frequencies_) + part.phases_)
    return ex.reshape(waves, (waves.width,))


def bin_fractions(x: Expr, lower: Array, width: Array, least: Array, most: Array) -> Any:
    """Return how much of each bin lies below x."""
    fractions = (x - lower) * np.minimum(1 / width, np.finfo(np.float32).max)
    return ex.clip(fractions, least, most)
