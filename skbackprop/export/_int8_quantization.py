"""Weights of 8 bits: what dense layers become of which whole numbers are multiplied.

An input x_i is rounded to a whole number of up to 16 bits, of a unit of its own: the units are in
proportion to the root mean squares of the inputs in a sample, and twice the largest value is still
a whole number of 16 bits. The unit is multiplied into the weights, w_ij unit_i, which are rounded
to 8 bits, the largest of each output being 127. So weights are as exact as they matter, whatever
the sizes of inputs are, and sums of products fit into 32 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..utils.arrays import Array
from ._expressions import Expr, align, evaluate
from ._model_graph import ArgmaxOutput, ModelGraph, ThresholdOutput

_LARGEST_WEIGHT = 127
_LARGEST_INPUT = (1 << 15) - 1
_LARGEST_SUM = (1 << 31) - 1
# Inputs up to so many times the largest of the sample are not clipped.
_ROOM = 2.0
# Below, inputs would have fewer levels than weights.
_MOST_INPUTS = _LARGEST_SUM // _LARGEST_WEIGHT**2


class QuantizedDense(NamedTuple):
    """A dense layer of whole numbers: z_j = b_j + scale_j sum_i weight_ji round(inverse_i x_i).

    Attributes
    ----------
    inverse : float array of shape (1 or n_estimators, n_inputs)
        What inputs are multiplied by, before they are rounded.
    limit : int
        The largest whole number that an input becomes.
    weights : int8 array of shape (n_estimators, n_outputs, n_inputs)
        The weights.
    scales : float array of shape (n_estimators, n_outputs)
        What the sum of products is multiplied by.
    biases : float array of shape (n_estimators, n_outputs) or None
        What is added.
    """

    inverse: Array
    limit: int
    weights: Array
    scales: Array
    biases: Array | None

    @classmethod
    def of(cls, expression: Expr, x: Array) -> QuantizedDense:
        """Round a dense expression, given its inputs for a sample: (n, d) or (M, n, d)."""
        weights, *biases = expression.arrays
        n_inputs = weights.shape[1]
        if n_inputs > _MOST_INPUTS:
            raise ValueError(
                f'weight_dtype="int8" is for layers of up to {_MOST_INPUTS} inputs, and one layer '
                f"has {n_inputs}, whose sums could overflow 32 bits. "
                'Set weight_dtype="float32".'
            )
        limit = min(_LARGEST_INPUT, _LARGEST_SUM // (_LARGEST_WEIGHT * n_inputs))
        inputs = (x if x.ndim == 3 else x[None]).astype(np.float64)
        largest, size = np.abs(inputs).max(axis=1), np.sqrt(np.square(inputs).mean(axis=1))
        # Inputs that the sample never has are taken to be as large as the others.
        of_layer = size.max(axis=1, keepdims=True)
        size = np.where(size > 0, size, np.where(of_layer > 0, of_layer, 1.0))
        units = size * (_ROOM * np.maximum(largest / size, 1.0)).max(axis=1, keepdims=True) / limit
        scaled = weights * units[:, :, None]
        scales = np.abs(scaled).max(axis=1, keepdims=True) / _LARGEST_WEIGHT
        whole = np.rint(scaled / np.where(scales > 0, scales, 1.0))
        return cls(
            (1 / units).astype(np.float32),
            limit,
            np.ascontiguousarray(whole.swapaxes(1, 2).astype(np.int8)),
            scales[:, 0].astype(np.float32),
            biases[0] if biases else None,
        )

    def output(self, x: Array) -> Array:
        """Return what the C program computes of inputs (n, d) or (M, n, d)."""
        several = len(self.weights) > 1
        inverse, *rest = (
            array[:, None] if several else array for array in (self.inverse, self.scales)
        )
        scaled = x * inverse
        whole = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
        whole = np.clip(whole, -self.limit, self.limit).astype(float)
        weights = self.weights if several else self.weights[0]
        sums = (whole @ weights.swapaxes(-1, -2).astype(float)).astype(np.float32)
        biases = 0 if self.biases is None else self.biases[:, None] if several else self.biases
        return np.asarray(sums * rest[0] + biases)


def quantize_model(model: ModelGraph, sample: Array) -> dict[Expr, QuantizedDense]:
    """Return what the dense layers of a model become, measured on a sample."""
    found: dict[Expr, QuantizedDense] = {}

    has_missing = np.isnan(sample).any()

    def dense_by(expression: Expr, x: Array) -> Array:
        if has_missing and np.isnan(x).any():
            raise ValueError(
                "calibration_data contains NaN, but the model does not accept missing values. "
                "Remove such rows."
            )
        weights, *biases = (align(expression, array) for array in expression.arrays)
        found[expression] = QuantizedDense.of(expression, x)
        return np.asarray(x @ weights + (biases[0] if biases else 0))

    evaluate(model.expressions, sample, dense_by)
    return found


def quantization_error(
    model: ModelGraph, layers: Mapping[Expr, QuantizedDense], sample: Array
) -> dict[str, float]:
    """Return what rounding does to each output on a sample.

    Of labels it is the share of rows that have another, of numbers the largest difference.
    """
    exact = evaluate(model.expressions, sample)
    rounded = evaluate(
        model.expressions, sample, lambda expression, x: layers[expression].output(x)
    )
    found = {}
    for output in model.outputs:
        pair = exact[output.expression], rounded[output.expression]
        if isinstance(output, ArgmaxOutput):
            first, second = (values.argmax(axis=-1) for values in pair)
            found[output.name] = float(np.mean(first != second))
        elif isinstance(output, ThresholdOutput):
            first, second = (values > output.threshold for values in pair)
            found[output.name] = float(np.mean((first != second).any(axis=-1)))
        else:
            found[output.name] = float(np.abs(pair[0] - pair[1]).max())
    return found
