"""Quantization of dense layers to 8-bit weights.

Each input x_i is rounded to a multiple of its own unit, a 16-bit integer. The units are
proportional to the root mean squares of the inputs in the calibration data, and such that twice the
largest value still fits into 16 bits. The units are multiplied into the weights, w_ij unit_i, which
are rounded to 8 bits with a scale for each output. Weights are therefore as precise as they are
important, whatever the range of the inputs, and sums of products fit into 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..utils.arrays import Array
from ._expressions import Expr, align, evaluate
from ._model_graph import ArgmaxOutput, ModelGraph, ThresholdOutput

_MAX_WEIGHT = 127
_MAX_INPUT = (1 << 15) - 1
_MAX_SUM = (1 << 31) - 1
# Inputs are clipped beyond this multiple of the largest value in the calibration data.
_HEADROOM = 2.0
# With more inputs, the inputs would have fewer levels than the weights.
_MAX_INPUTS = _MAX_SUM // _MAX_WEIGHT**2


class QuantizedDense(NamedTuple):
    """Quantized dense layer: z_j = b_j + scale_j sum_i weight_ji round(inverse_i x_i).

    Attributes
    ----------
    inverse : float array of shape (1 or n_estimators, n_inputs)
        The inverse units of the inputs.
    limit : int
        The largest magnitude of a rounded input.
    weights : int8 array of shape (n_estimators, n_outputs, n_inputs)
        The weights.
    scales : float array of shape (n_estimators, n_outputs)
        The scales of the sums of products.
    biases : float array of shape (n_estimators, n_outputs) or None
        The biases.
    """

    inverse: Array
    limit: int
    weights: Array
    scales: Array
    biases: Array | None

    @classmethod
    def from_expression(cls, expression: Expr, x: Array) -> QuantizedDense:
        """Quantize a dense expression by its inputs x, of shape (n, d) or (M, n, d)."""
        weights, *biases = expression.arrays
        n_inputs = weights.shape[1]
        if n_inputs > _MAX_INPUTS:
            raise ValueError(
                f'weight_dtype="int8" is for layers of up to {_MAX_INPUTS} inputs, and one layer '
                f"has {n_inputs}, whose sums could overflow 32 bits. "
                'Set weight_dtype="float32".'
            )
        limit = min(_MAX_INPUT, _MAX_SUM // (_MAX_WEIGHT * n_inputs))
        inputs = (x if x.ndim == 3 else x[None]).astype(np.float64)
        largest, size = np.abs(inputs).max(axis=1), np.sqrt(np.square(inputs).mean(axis=1))
        # Inputs that are always zero are assumed to be as large as the largest other input.
        layer_size = size.max(axis=1, keepdims=True)
        size = np.where(size > 0, size, np.where(layer_size > 0, layer_size, 1.0))
        units = (
            size * (_HEADROOM * np.maximum(largest / size, 1.0)).max(axis=1, keepdims=True) / limit
        )
        scaled = weights * units[:, :, None]
        scales = np.abs(scaled).max(axis=1, keepdims=True) / _MAX_WEIGHT
        rounded = np.rint(scaled / np.where(scales > 0, scales, 1.0))
        return cls(
            (1 / units).astype(np.float32),
            limit,
            np.ascontiguousarray(rounded.swapaxes(1, 2).astype(np.int8)),
            scales[:, 0].astype(np.float32),
            biases[0] if biases else None,
        )

    def compute_output(self, x: Array) -> Array:
        """Return the outputs of the C program for inputs of shape (n, d) or (M, n, d)."""
        biases = np.zeros_like(self.scales) if self.biases is None else self.biases
        inverse, weights, scales = self.inverse, self.weights.astype(float), self.scales
        if len(weights) > 1:  # with an axis for the rows
            inverse, scales, biases = inverse[:, None], scales[:, None], biases[:, None]
        else:
            weights = weights[0]
        scaled = x * inverse
        rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
        rounded = np.clip(rounded, -self.limit, self.limit).astype(float)
        sums = (rounded @ weights.swapaxes(-1, -2)).astype(np.float32)
        return np.asarray(sums * scales + biases)


def quantize_model(model: ModelGraph, X: Array) -> dict[Expr, QuantizedDense]:
    """Return the quantized dense layers of a model, calibrated on rows X."""
    layers: dict[Expr, QuantizedDense] = {}
    has_missing = np.isnan(X).any()

    def quantize(expression: Expr, x: Array) -> Array:
        if has_missing and np.isnan(x).any():
            raise ValueError(
                "calibration_data contains NaN, but the model does not accept missing values. "
                "Remove such rows."
            )
        weights, *biases = (align(expression, array) for array in expression.arrays)
        layers[expression] = QuantizedDense.from_expression(expression, x)
        return np.asarray(x @ weights + (biases[0] if biases else 0))

    evaluate(model.expressions, X, quantize)
    return layers


def quantization_error(
    model: ModelGraph, layers: Mapping[Expr, QuantizedDense], X: Array
) -> dict[str, float]:
    """Return the error of each output of a quantized model on rows X.

    The error of labels is the share of rows whose label changes, that of numbers the largest
    absolute difference.
    """
    exact = evaluate(model.expressions, X)
    quantized = evaluate(
        model.expressions, X, lambda expression, x: layers[expression].compute_output(x)
    )
    errors = {}
    for output in model.outputs:
        pair = exact[output.expression], quantized[output.expression]
        if isinstance(output, ArgmaxOutput):
            first, second = (values.argmax(axis=-1) for values in pair)
            error = np.mean(first != second)
        elif isinstance(output, ThresholdOutput):
            first, second = (values > output.threshold for values in pair)
            error = np.mean((first != second).any(axis=-1))
        else:
            error = np.abs(pair[0] - pair[1]).max()
        errors[output.name] = float(error)
    return errors
