"""Attention, positional encoding and transformer blocks for sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..activations import ActivationFunction, get_activation
from ..utils.arrays import Array, max_by_halves, squeeze_member_axis
from ..utils.parallel import parallel_for, split_rows
from ..utils.validation import validate_bool, validate_interval, validate_positive_int
from .base import (
    BatchView,
    BuiltLayer,
    KernelInit,
    Layer,
    LayerContext,
    NormalInit,
    ParameterSpec,
    Shape,
    expand_layers,
    padding_mask,
)
from .dense import BuiltPositionwiseDense, Dense, Dropout
from .normalization import LayerNormalization
from .residual import Residual

_SEQUENCES = "sequences of shape (steps, channels), as they come from Embedding, Conv1D or Dense"


@dataclass(frozen=True)
class PositionalEncoding(Layer):
    """Add an encoding of each step's position to a sequence: out_t = x_t + p_t.

    Attention does not see the order of steps, so they must say where they are. By default p is
    fixed (Vaswani et al. 2017, section 3.5): for channels 2 i and 2 i + 1 of c,

        p_t = (sin(t / 10000^(2 i / c)), cos(t / 10000^(2 i / c))).

    Parameters
    ----------
    trained : bool, default=False
        Whether p is a trained table instead, with initial values drawn from N(0, 0.1^2) (Gehring
        et al. 2017, sections 3.1 and 3.5).

    Raises
    ------
    ValueError
        If `trained` is not a bool; in `fit`, if the input is not a sequence with channels.

    See Also
    --------
    TransformerBlock : Block of attention and dense layers.

    References
    ----------
    Gehring, J., Auli, M., Grangier, D., Yarats, D. & Dauphin, Y. (2017). Convolutional sequence to
    sequence learning. ICML.

    Vaswani, A., Shazeer, N., Parmar, N., Uszkoreit, J., Jones, L., Gomez, A. N., Kaiser, L. &
    Polosukhin, I. (2017). Attention is all you need. NeurIPS.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Embedding, PositionalEncoding, TransformerBlock
    >>> layers = [Embedding(100, 32), PositionalEncoding(), TransformerBlock(4, 64)]
    >>> model = BackpropClassifier((), layers=layers)
    """

    trained: bool = False

    batch_view: ClassVar[BatchView] = "flat"
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 1

    def __post_init__(self) -> None:
        validate_bool(self, "trained")

    def inplace_forward(self, has_backward: bool) -> bool:
        return True

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return ()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise self.input_shape_error(_SEQUENCES, input_shape)
        return input_shape

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        initializer = NormalInit(0.1, input_shape)
        specs = (ParameterSpec("position_embeddings", input_shape, initializer),)
        return specs if self.trained else ()

    def max_matmul_size(self, input_shape: Shape) -> int:
        return 0

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltPositionalEncoding(context)


class BuiltPositionalEncoding:
    """out = x + p, with p as one long row.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        table = context.parameters.get("position_embeddings")
        d_table = context.gradients.get("position_embeddings")
        if table is None:
            table = compute_sinusoids(context.input_shape).astype(context.pool.dtype)
        self._row, self._d_row = (
            _as_one_row(table),
            None if d_table is None else _as_one_row(d_table),
        )
        self._ones = np.ones((1, context.n_rows), context.pool.dtype)

    def forward(self, x: Array, out: Array) -> None:
        np.add(x, self._row, out=out)

    def backward(self, delta: Array) -> Array:
        if self._d_row is not None:
            np.matmul(self._ones, delta, out=self._d_row)
        return delta


def _as_one_row(table: Array) -> Array:
    """Return a view of (..., steps, channels) as (..., 1, steps * channels)."""
    return table.reshape(*table.shape[:-2], 1, -1)


def compute_sinusoids(shape: Shape) -> Array:
    """Return the fixed positional encoding of shape (steps, channels)."""
    n_steps, n_channels = shape
    channels = np.arange(n_channels)
    wavelengths = 10_000.0 ** ((channels - channels % 2) / n_channels)
    phases = np.arange(n_steps)[:, np.newaxis] / wavelengths
    return np.where(channels % 2 == 0, np.sin(phases), np.cos(phases))


def _check_heads(layer: MultiHeadAttention | TransformerBlock, input_shape: Shape) -> None:
    """Raise a ValueError if the channels can not be divided among the heads."""
    if layer.key_size is None and input_shape[-1] % layer.n_heads:
        raise ValueError(
            f"n_heads of {type(layer).__name__} must divide the number of channels if key_size is "
            f"None, got n_heads={layer.n_heads} and {input_shape[-1]} channels. Set key_size to "
            "the number of channels of each head, or change one of them."
        )


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """Multi-head self-attention: each step gets a weighted mean of the values of all steps.

    Each of the heads maps the input x, a sequence of vectors, to queries, keys and values of d
    channels, q = x W_q + b_q, k = x W_k + b_k and v = x W_v + b_v, and computes

        a = softmax(q k^T / sqrt(d)) v

    with the softmax over the keys of each query. The output is [a_1, ..., a_h] W_o + b_o, with as
    many channels as the input (Vaswani et al. 2017, section 3.2). Padding at the end of sequences
    has no weight.

    Attention does not depend on the order of steps: put a `PositionalEncoding` before it.

    Parameters
    ----------
    n_heads : int
        The number h of heads, at least 1.
    key_size : int or None, default=None
        The number d of channels of each head. None for the channels of the input divided by
        `n_heads`.
    is_causal : bool, default=False
        Whether each step sees itself and the steps before it only.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if the input is not a sequence with channels, or if
        `key_size` is None and `n_heads` does not divide the number of channels.

    See Also
    --------
    TransformerBlock : Attention with a dense part and normalization.

    References
    ----------
    Vaswani, A., Shazeer, N., Parmar, N., Uszkoreit, J., Jones, L., Gomez, A. N., Kaiser, L. &
    Polosukhin, I. (2017). Attention is all you need. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.layers import MultiHeadAttention
    >>> X = np.random.default_rng(0).normal(size=(100, 10, 4))
    >>> y = X[:, :, 0].max(axis=1)
    >>> model = BackpropRegressor(layers=MultiHeadAttention(2), tol=0.1, random_state=0).fit(X, y)
    >>> model.attention_kernels_[0].shape, model.attention_output_kernels_[0].shape
    ((4, 12), (4, 4))
    """

    n_heads: int
    key_size: int | None = None
    is_causal: bool = False

    batch_view: ClassVar[BatchView] = "positions"
    reads_sequences: ClassVar[bool] = True
    divides_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_heads")
        if self.key_size is not None:
            validate_positive_int(self, "key_size")
        validate_bool(self, "is_causal")

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise self.input_shape_error(_SEQUENCES, input_shape)
        _check_heads(self, input_shape)
        return input_shape

    def compute_key_size(self, input_shape: Shape) -> int:
        """Return the number of channels of each head."""
        return self.key_size or input_shape[-1] // self.n_heads

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        n_channels, width = input_shape[-1], self.n_heads * self.compute_key_size(input_shape)
        inner, outer = (n_channels, 3 * width), (width, n_channels)
        return (
            ParameterSpec("attention_kernels", inner, KernelInit(inner), regularized=True),
            ParameterSpec("attention_biases", inner[-1:]),
            ParameterSpec("attention_output_kernels", outer, KernelInit(outer), regularized=True),
            ParameterSpec("attention_output_biases", outer[-1:]),
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        # Output, queries, keys, values and outputs of heads, with gradients, and the scores.
        n_steps, width = input_shape[0], self.n_heads * self.compute_key_size(input_shape)
        return 2 * math.prod(input_shape) + n_steps * (8 * width + self.n_heads * n_steps)

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltAttention(self, context)


# Scores that are computed at once, so that they stay in the cache over several passes.
_SCORES_AT_ONCE = 1 << 16


class HeadArrays:
    """Memory for queries, keys, values and outputs of all heads, or for their gradients.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    n_heads, key_size : int
        The number of heads, and of channels of each.
    name : str
        The name of the memory.

    Attributes
    ----------
    projected, joined : arrays of shape (n_estimators, n_positions, 3 * width) and (..., width)
        The queries, keys and values of all heads side by side, and so their outputs.
    queries, keys, values, outputs : views of shape (n_sequences, n_heads, n_steps, key_size)
        The matrices of each head, which BLAS takes as they are. The sequences are those of all
        members.
    joined_by_head : view of shape (n_estimators, n_positions * n_heads, key_size)
        The outputs, with a row for each head.
    """

    def __init__(self, context: LayerContext, n_heads: int, key_size: int, name: str) -> None:
        members, n_positions, n_steps = context.n_estimators, context.n_rows, context.input_shape[0]
        get, width = context.pool.get, n_heads * key_size
        projected = get(f"attention projections {name}", (members, n_positions, 3 * width))
        joined = get(f"attention outputs {name}", (members, n_positions, width))
        parts = projected.reshape(-1, n_steps, 3, n_heads, key_size)
        self.queries, self.keys, self.values = (parts[:, :, i].swapaxes(1, 2) for i in range(3))
        self.outputs = joined.reshape(-1, n_steps, n_heads, key_size).swapaxes(1, 2)
        self.joined_by_head = joined.reshape(members, -1, key_size)
        self.projected, self.joined = squeeze_member_axis(projected), squeeze_member_axis(joined)


class BuiltAttention:
    """Self-attention bound to its arrays.

    Scores have the axis of keys before that of queries, since NumPy's maximum over a short last
    axis takes four times as long. They are computed for blocks of sequences.

    Parameters
    ----------
    layer : MultiHeadAttention
        The settings.
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, layer: MultiHeadAttention, context: LayerContext) -> None:
        self._context, dtype, n_steps = context, context.pool.dtype, context.input_shape[0]
        key_size, n_heads = layer.compute_key_size(context.input_shape), layer.n_heads
        self._scale = dtype.type(1 / math.sqrt(key_size))
        self._mask = _mask_future(n_steps, dtype) if layer.is_causal else None
        n_sequences = context.n_estimators * context.n_rows // n_steps
        self._blocks = split_rows(n_sequences, _SCORES_AT_ONCE // (n_heads * n_steps**2))
        at_once = max(block.stop - block.start for block in self._blocks)
        has_backward = context.is_training or context.grad_input is not None
        name = str(context.index) if has_backward else "of any layer"
        self._arrays = HeadArrays(context, n_heads, key_size, name)
        shape, get = (n_heads, n_steps, n_steps), context.pool.get
        # The weights of the values, for each sequence and head: (..., n_keys, n_queries). They are
        # kept for the backward pass only.
        self._scores: Array | None = None
        if has_backward:
            self._scores = get(f"attention scores {name}", (n_sequences, *shape))
        self._shape_of_block = at_once, *shape
        self._of_queries = np.empty((n_sequences, n_heads, 1, n_steps), dtype)
        self._ones = np.ones((1, n_steps), dtype)
        d_joined = None
        if has_backward:
            # Of no use after a backward pass, so all attention layers share this memory.
            self._gradients = HeadArrays(context, n_heads, key_size, "gradients")
            d_joined = self._gradients.joined
            self._ones_of_channels = np.ones((key_size, 1), dtype)
            self._sums = np.empty((context.n_estimators, context.n_rows * n_heads, 1), dtype)
            self._sums_of_heads = self._sums.reshape(n_sequences, n_steps, n_heads).swapaxes(1, 2)
        parameters, gradients = context.parameters, context.gradients
        self._projection = BuiltPositionwiseDense(
            context.n_rows,
            parameters["attention_kernels"],
            parameters["attention_biases"],
            gradients.get("attention_kernels"),
            gradients.get("attention_biases"),
            context.grad_input,
        )
        self._output_projection = BuiltPositionwiseDense(
            context.n_rows,
            parameters["attention_output_kernels"],
            parameters["attention_output_biases"],
            gradients.get("attention_output_kernels"),
            gradients.get("attention_output_biases"),
            d_joined,
        )

    def forward(self, x: Array, out: Array) -> None:
        self._projection.forward(x, self._arrays.projected)
        self._is_step = self._find_steps()
        self._padding_mask: Array | None = None
        if self._is_step is not None:
            mask = np.where(self._is_step, 0, -np.inf).astype(out.dtype)
            self._padding_mask = mask[:, np.newaxis, :, np.newaxis]
        parallel_for(self._attend, self._blocks)
        self._output_projection.forward(self._arrays.joined, out)

    def _attend(self, block: slice) -> None:
        """Compute the weights of a block of sequences, and the outputs of all heads."""
        own, of_queries = self._arrays, self._of_queries[block]
        scores = self._scores_of_block(block) if self._scores is None else self._scores[block]
        np.matmul(own.keys[block], own.queries[block].swapaxes(-1, -2), out=scores)
        np.multiply(scores, self._scale, out=scores)
        if self._mask is not None:
            np.add(scores, self._mask, out=scores)
        if self._padding_mask is not None:
            np.add(scores, self._padding_mask[block], out=scores)
        n_steps = scores.shape[-2]
        halves = self._context.pool.get_for_thread(
            "maxima of a block", (*scores.shape[:2], n_steps - n_steps // 2, n_steps)
        )
        np.subtract(scores, max_by_halves(scores, halves), out=scores)
        np.exp(scores, out=scores)
        np.matmul(self._ones, scores, out=of_queries)
        np.divide(scores, of_queries, out=scores)
        np.matmul(scores.swapaxes(-1, -2), own.values[block], out=own.outputs[block])

    def _scores_of_block(self, block: slice) -> Array:
        """Return memory for the scores of a block."""
        scores = self._context.pool.get_for_thread("scores of a block", self._shape_of_block)
        return scores[: block.stop - block.start]

    def _find_steps(self) -> Array | None:
        """Return which steps of all sequences are no padding; None if all are."""
        lengths = self._context.lengths
        if lengths is None:
            return None
        n_steps = self._context.input_shape[0]
        is_step = ~padding_mask(lengths, n_steps)
        members = np.broadcast_to(is_step, (self._context.n_estimators, *is_step.shape[1:]))
        return members.reshape(-1, n_steps)

    def backward(self, delta: Array) -> Array:
        own, back = self._arrays, self._gradients
        if self._is_step is not None:
            np.multiply(delta, self._is_step.reshape(*delta.shape[:-1], 1), out=delta)
        self._output_projection.backward(delta)
        # With weights s, values v and outputs a = s v with gradient d, the gradient with respect to
        # the scores is s (d v^T - sum(s d v^T)) with sums over the keys, which are sums of a d over
        # the channels (Dao et al. 2022, appendix B.2).
        np.multiply(back.joined, own.joined, out=own.joined)
        np.matmul(own.joined_by_head, self._ones_of_channels, out=self._sums)
        np.copyto(self._of_queries[:, :, 0], self._sums_of_heads)
        parallel_for(self._attend_back, self._blocks)
        return self._projection.backward(back.projected)

    def _attend_back(self, block: slice) -> None:
        """Write the gradients of queries, keys and values of a block of sequences."""
        assert self._scores is not None
        own, back, scores = self._arrays, self._gradients, self._scores[block]
        d_scores, d_outputs = self._scores_of_block(block), back.outputs[block]
        np.matmul(own.values[block], d_outputs.swapaxes(-1, -2), out=d_scores)
        np.subtract(d_scores, self._of_queries[block], out=d_scores)
        np.multiply(d_scores, scores, out=d_scores)
        np.multiply(d_scores, self._scale, out=d_scores)
        np.matmul(scores, d_outputs, out=back.values[block])
        np.matmul(d_scores.swapaxes(-1, -2), own.keys[block], out=back.queries[block])
        np.matmul(d_scores, own.queries[block], out=back.keys[block])


def _mask_future(n_steps: int, dtype: np.dtype[np.floating]) -> Array:
    """Return an array (keys, queries) of -inf for keys after the query, and 0 for others."""
    mask = np.zeros((n_steps, n_steps), dtype)
    mask[np.tril_indices(n_steps, -1)] = -np.inf
    return mask


@dataclass(frozen=True)
class TransformerBlock(Layer):
    """Block of a transformer: attention and two dense layers, each with a residual connection.

    With layer normalization before each part (Xiong et al. 2020, section 3; figure 1b), with which
    training needs no warm-up of the learning rate, it computes

        u = x + attention(norm(x)),
        y = u + f(norm(u) W_1 + b_1) W_2 + b_2,

    for sequences x with as many channels as the output y. It stands for `Residual`,
    `LayerNormalization`, `MultiHeadAttention`, `Dense` and `Dropout` layers. After the last of
    several blocks a `LayerNormalization` often helps.

    Parameters
    ----------
    n_heads : int
        The number of heads of the attention, at least 1.
    n_units : int
        The number of units of the first dense layer, at least 1; most often two to four times the
        number of channels.
    activation : str or ActivationFunction, default="gelu"
        The function f.
    dropout : float, default=0.0
        The dropout rate of both parts before they are added, in [0, 1).
    key_size : int or None, default=None
        The number of channels of each head. None for the channels of the input divided by
        `n_heads`.
    is_causal : bool, default=False
        Whether each step sees itself and the steps before it only.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if the input is not a sequence with channels, or if
        `key_size` is None and `n_heads` does not divide the number of channels.

    See Also
    --------
    MultiHeadAttention : The attention layer alone.
    PositionalEncoding : Add the positions of the steps before the first block.

    References
    ----------
    Vaswani, A., Shazeer, N., Parmar, N., Uszkoreit, J., Jones, L., Gomez, A. N., Kaiser, L. &
    Polosukhin, I. (2017). Attention is all you need. NeurIPS.

    Xiong, R., Yang, Y., He, D., Zheng, K., Zheng, S., Xing, C., Zhang, H., Lan, Y., Wang, L. & Liu,
    T.-Y. (2020). On layer normalization in the transformer architecture. ICML.

    Examples
    --------
    Which of two tokens comes first:

    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Embedding, GlobalAveragePool1D
    >>> from skbackprop.layers import PositionalEncoding, TransformerBlock
    >>> X = np.random.default_rng(0).permuted(np.tile(np.arange(6), (200, 1)), axis=1)
    >>> y = (X == 0).argmax(axis=1) < (X == 1).argmax(axis=1)
    >>> block = TransformerBlock(n_heads=2, n_units=16)
    >>> layers = [Embedding(6, 8), PositionalEncoding(), block, GlobalAveragePool1D()]
    >>> settings = {"learning_rate_init": 0.01, "batch_size": 20, "random_state": 0}
    >>> model = BackpropClassifier((), layers=layers, tol=0.01, **settings)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    n_heads: int
    n_units: int
    activation: str | ActivationFunction = "gelu"
    dropout: float = 0.0
    key_size: int | None = None
    is_causal: bool = False

    reads_sequences: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_heads", "n_units")
        get_activation(self.activation)
        validate_interval(self, "dropout", low=0, high=1, closed="left")
        if self.key_size is not None:
            validate_positive_int(self, "key_size")
        validate_bool(self, "is_causal")

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise self.input_shape_error(_SEQUENCES, input_shape)
        _check_heads(self, input_shape)
        return input_shape

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        *_, n_channels = self.compute_output_shape(input_shape)
        attention = MultiHeadAttention(self.n_heads, self.key_size, self.is_causal)
        dropout = [Dropout(self.dropout)] if self.dropout else []
        dense = [Dense(self.n_units, self.activation), Dense(n_channels)]
        parts = (
            Residual([LayerNormalization(), attention, *dropout]),
            Residual([LayerNormalization(), *dense, *dropout]),
        )
        return tuple(expand_layers(parts, input_shape)[0])
