"""What each part of a model computes, as a formula: all that the export knows of the parts.

`to_expression` has a function for each class of activation, link, loss, layer and transformer. The
formulas are for all targets: a part that has one can be written as ONNX and as C.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
from scipy.special import erf, expit
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from .. import activations, layers, losses
from ..layers.dense import Activation, Dense
from ..layers.embeddings import CategoricalEmbedding, PeriodicEmbedding
from ..layers.feature_layers import BlockDiagonalDense, Scale
from ..losses import links
from ..losses.multioutput import MultiOutputLink
from ..utils.arrays import Array
from . import _expressions as ex
from ._expressions import Expr

# The arrays of a layer by name, with the member axis first.
Arrays = Mapping[str, Array]


@singledispatch
def to_expression(part: Any, *inputs: Any) -> Any:
    """Return what a part computes, as an expression: register functions of your own parts.

    A function is registered for a class: ``to_expression.register`` decorates it, and tells the
    class by the annotation of its first argument. It is given the part, and an expression of

    - the input z of an activation: ``(activation, z)``,
    - the scores of a link: ``(link, scores)``, for the predictions that it makes of them,
    - the scores of a loss whose `predict` is its own: ``(loss, scores)``,
    - the input of a transformer in a pipeline: ``(transformer, x)``,
    - the input of a layer, and its arrays by name: ``(layer, x, arrays)``.

    It returns an expression, made by operators and by NumPy's and SciPy's functions: add,
    subtract, multiply, divide, negative, power, square, absolute, maximum, minimum, equal, isnan,
    exp, expm1, log, log1p, sqrt, tanh, sin and cos of ``numpy``, expit and erf of
    ``scipy.special``.

    Parameters
    ----------
    part : object
        The part.
    *inputs : objects
        What it is given.

    Returns
    -------
    outputs : Expression
        What the part computes.

    Raises
    ------
    TypeError
        If no function is registered for the class of the part.

    Examples
    --------
    The formula is the one that `forward` computes. It may be tried on arrays:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from skbackprop.activations import Activation
    >>> from skbackprop.export import formula
    >>> @dataclass(frozen=True)
    ... class Cube(Activation):
    ...     keeps_input = True
    ...
    ...     def forward(self, z, a):
    ...         np.power(z, 3, out=a)
    ...
    ...     def backward(self, z, a, delta):
    ...         delta *= 3 * z**2
    >>> @to_expression.register
    ... def of_cube(activation: Cube, z):
    ...     return z**3
    >>> to_expression(Cube(), np.array([-1.0, 2.0]))
    array([-1.,  8.])
    """
    name = type(part).__name__
    raise TypeError(
        f"There is no formula to export {name} by. Register one: decorate a function of the {name} "
        "and its input, which returns its output, with skbackprop.export.formula.register."
    )


# What parts of each kind compute their outputs by.
_METHODS = ("forward", "bind", "inverse", "predict", "transform")


def convert(part: Any, *inputs: Any) -> Any:
    """Return what a part computes by its formula, which may be that of a base class.

    Raises
    ------
    TypeError
        If there is none, or the part computes otherwise than the class that it is for.
    """
    return lookup_converter(to_expression, type(part))(part, *inputs)


def lookup_converter(functions: Any, kind: type) -> Any:
    """Return the function for a class, or that for its base class if it computes the same.

    If it does not, that for any object is returned, as if there were none.
    """
    function = functions.dispatch(kind)
    of = next((base for base in kind.__mro__ if functions.registry.get(base) is function), object)
    does_the_same = all(getattr(kind, name, None) is getattr(of, name, None) for name in _METHODS)
    return function if does_the_same else functions.dispatch(object)


# --------------------------------------------------------------------------- activations


@to_expression.register
def _(part: activations.Identity, z: Any) -> Any:
    return z


@to_expression.register
def _(part: activations.Logistic, z: Any) -> Any:
    return expit(z)


@to_expression.register
def _(part: activations.Tanh, z: Any) -> Any:
    return np.tanh(z)


@to_expression.register
def _(part: activations.Relu, z: Any) -> Any:
    return np.maximum(z, 0.0)


@to_expression.register
def _(part: activations.LeakyRelu, z: Any) -> Any:
    return np.maximum(z, part.negative_slope * z)


@to_expression.register
def _(part: activations.Elu, z: Any) -> Any:
    return np.maximum(z, 0.0) + part.alpha * np.expm1(np.minimum(z, 0.0))


@to_expression.register
def _(part: activations.Selu, z: Any) -> Any:
    return part.SCALE * to_expression(part.ELU, z)


@to_expression.register
def _(part: activations.Softplus, z: Any) -> Any:
    return _softplus(z)


@to_expression.register
def _(part: activations.Silu, z: Any) -> Any:
    return z * expit(z)


@to_expression.register
def _(part: activations.Gelu, z: Any) -> Any:
    return z * (0.5 * erf(z / np.sqrt(2.0)) + 0.5)


@to_expression.register
def _(part: activations.GeluTanh, z: Any) -> Any:
    x = np.minimum(np.maximum(z, -10.0), 10.0)  # beyond, the gate is 0 or 1
    return z * expit(x * (part.LINEAR + part.CUBIC * np.square(x)))


@to_expression.register
def _(part: activations.Mish, z: Any) -> Any:
    e = np.exp(np.minimum(z, part.MAX_EXP_ARGUMENT))
    n = e * (e + 2.0)
    return z * (n / (n + 2.0))


def _softplus(z: Any) -> Any:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


# ------------------------------------------------------------------------- links, losses


@to_expression.register
def _(part: links.IdentityLink, scores: Any) -> Any:
    return scores


@to_expression.register
def _(part: links.LogLink, scores: Any) -> Any:
    bound = links.max_exp_argument(np.dtype(np.float32))
    return np.exp(np.minimum(np.maximum(scores, -bound), bound))


@to_expression.register
def _(part: links.LogitLink, scores: Any) -> Any:
    return expit(scores)


@to_expression.register
def _(part: links.TanhLink, scores: Any) -> Any:
    return np.tanh(scores)


@to_expression.register
def _(part: links.ReluLink, scores: Any) -> Any:
    return np.maximum(scores, 0.0)


@to_expression.register
def _(part: links.SoftmaxLink, scores: Expr) -> Any:
    return ex.softmax(scores)


@to_expression.register
def _(part: links.NonCrossingQuantileLink, scores: Expr) -> Any:
    # The first of each target is a prediction, the others are steps from one to the next.
    is_step = np.arange(scores.width) % part.n > 0
    steps = is_step * _softplus(scores) + ~is_step * scores
    added_up = np.kron(np.eye(scores.width // part.n), np.triu(np.ones((part.n, part.n))))
    return ex.integer_linear(steps, added_up)


@to_expression.register
def _(part: links.GaussianLink, scores: Expr) -> Any:
    variance = np.arange(scores.width) % 2
    return (1 - variance) * scores + variance * (to_expression(links.LOG_LINK, scores) + part.floor)


@to_expression.register
def _(part: MultiOutputLink, scores: Expr) -> Any:
    return ex.concat(convert(*each) for each in split_links(part, scores))


def split_links(link: MultiOutputLink, scores: Expr) -> list[tuple[links.Link, Expr]]:
    """Return each link with the scores that are its own."""
    ends = np.cumsum(link.widths)
    each = zip(link.links, link.widths, ends, strict=True)
    return [(own, ex.take_columns(scores, range(end - width, end))) for own, width, end in each]


@to_expression.register
def _(part: losses.Loss, scores: Any) -> Any:
    return convert(part.link, scores)


@to_expression.register
def _(part: losses.Quantile, scores: Expr) -> Any:
    return to_expression(part.link, scores)  # of each target, its quantiles side by side


@to_expression.register
def _(part: losses.Gaussian, scores: Expr) -> Any:
    return ex.take_columns(scores, range(scores.width)[part.prediction_columns])


def deviation(loss: losses.Loss, scores: Expr) -> Any:
    """Return the standard deviation that a loss learns; None if it learns none."""
    if isinstance(loss, losses.Gaussian):
        variances = range(scores.width)[1::2]
        return np.sqrt(ex.take_columns(to_expression(loss.link, scores), variances))
    if type(loss).predict_std is losses.Loss.predict_std:
        return None
    raise TypeError(
        f"return_std=True is for the losses of this package, and {type(loss).__name__} has a "
        "deviation of its own. Export the model without it."
    )


# -------------------------------------------------------------------------------- layers


@to_expression.register
def _(part: Dense, x: Expr, arrays: Arrays) -> Any:
    return ex.dense(x, arrays["weights"], arrays.get("biases"))


@to_expression.register
def _(part: Activation, x: Expr, arrays: Arrays) -> Any:
    return convert(part.activation, x)


@to_expression.register
def _(part: layers.BatchNormalization, x: Expr, arrays: Arrays) -> Any:
    factor = arrays["gains"] / np.sqrt(arrays["variances"] + part.epsilon)
    return x * factor + (arrays["biases"] - arrays["means"] * factor)


@to_expression.register
def _(part: layers.LayerNormalization, x: Expr, arrays: Arrays) -> Any:
    # A sum of large numbers, or of their squares, may overflow in single precision.
    centred = x - ex.reduce_sum(x * (1 / x.width))
    mean_size: Any = ex.reduce_sum(np.abs(centred) * (1 / x.width))
    size = np.maximum(mean_size, 1.0)
    centred = centred / size
    variance = ex.reduce_sum(np.square(centred)) * (1 / x.width)
    denominator = np.sqrt(variance + part.epsilon / size / size)
    return centred / denominator * arrays["gains"] + arrays["biases"]


@to_expression.register
def _(part: BlockDiagonalDense, x: Expr, arrays: Arrays) -> Any:
    n_mapped = part.n_blocks * part.width
    mapped = ex.block_linear(ex.take_columns(x, range(n_mapped)), arrays["maps"])
    others = ex.take_columns(x, range(n_mapped, x.width))
    # All members have the others alike, but what is side by side has as many members.
    return ex.concat([mapped, ex.broadcast_members(others, mapped.n_estimators)])


@to_expression.register
def _(part: PeriodicEmbedding, x: Expr, arrays: Arrays) -> Any:
    frequencies, maps, k = arrays["frequencies"], arrays["maps"], part.n_frequencies
    n_estimators, n_embedded, _ = frequencies.shape
    places = range(n_embedded) if part.features is None else part.features
    numbers = ex.take_columns(x, np.repeat(places, k))
    phases = numbers * (2 * np.pi * frequencies).reshape(n_estimators, -1)
    of_sines = ex.block_linear(np.sin(phases), maps[:, :, :k])
    mapped = of_sines + ex.block_linear(np.cos(phases), maps[:, :, k:])
    return ex.concat([mapped, ex.broadcast_members(x, mapped.n_estimators)])


@to_expression.register
def _(part: CategoricalEmbedding, x: Expr, arrays: Arrays) -> Any:
    tables = np.split(arrays["embeddings"], np.cumsum(part.sizes)[:-1], axis=1)
    vectors = [
        ex.gather(ex.take_columns(x, [column]), table)
        for column, table in zip(part.categorical_columns, tables, strict=True)
    ]
    places = [at for at in range(x.width) if at not in part.categorical_columns]
    others = (
        [ex.broadcast_members(ex.take_columns(x, places), vectors[0].n_estimators)]
        if places
        else []
    )
    return ex.concat([*others, *vectors])


@to_expression.register
def _(part: Scale, x: Expr, arrays: Arrays) -> Any:
    return x * arrays["scales"]


# -------------------------------------------------------------- transformers of pipelines


@to_expression.register
def _(part: StandardScaler, x: Any) -> Any:
    centred = x if part.mean_ is None or not part.with_mean else x - part.mean_
    return centred if part.scale_ is None else centred * (1 / part.scale_)


@to_expression.register
def _(part: MinMaxScaler, x: Any) -> Any:
    scaled = x * part.scale_ + part.min_
    low, high = part.feature_range
    return np.minimum(np.maximum(scaled, low), high) if part.clip else scaled


@to_expression.register
def _(part: MaxAbsScaler, x: Any) -> Any:
    scaled = x * (1 / part.scale_)
    return np.minimum(np.maximum(scaled, -1.0), 1.0) if getattr(part, "clip", False) else scaled


@to_expression.register
def _(part: RobustScaler, x: Any) -> Any:
    centred = x - part.center_ if part.with_centering else x
    return centred * (1 / part.scale_) if part.with_scaling else centred
