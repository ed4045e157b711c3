"""Attention, positional encoding and transformer blocks for sequences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

from ..activations import ActivationLike
from ..utils.arrays import Array, max_by_halves
from ..utils.parallel import parallel_for, split_rows
from ..utils.validation import between, validate_positive_int
from .base import (
    BoundLayer,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
    draw_kernels,
    draw_normal,
    expand_layers,
)
from .dense import Dense, Dropout, bind_dense
from .normalization import LayerNormalization
from .residual import Residual

_SEQUENCES = "sequences of shape (steps, channels), as they come from Embedding, Conv1D or Dense"


@dataclass(frozen=True)
class PositionalEncoding(Layer):
    """Add an encoding of each step's position to a sequence: out_t = x_t + p_t.

    Attention does not see the order of steps, so it has to be part of the input. By default p is
    fixed (Vaswani et al. 2017, section 3.5): for channels 2 i and 2 i + 1 of c,

        p_t = (sin(t / 10000^(2 i / c)), cos(t / 10000^(2 i / c))).

    Parameters
    ----------
    trained : bool, default=False
        Whether p is a trained table instead, with initial values drawn from N(0, 0.1^2) (Gehring
        et al. 2017, sections 3.1 and 3.5).
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    batch_view = "flat"
    backward_reads = "neither"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return ()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise self.input_shape_error(_SEQUENCES, input_shape)
        return input_shape

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        initializer = partial(draw_normal, 0.1, input_shape)
        specs = (ParameterSpec("position_embeddings", input_shape, initializer),)
        return specs if self.trained else ()

    def bind(self, context: LayerContext) -> BoundLayer:
        if self.trained:
            table = context.parameters["position_embeddings"]
        else:
            table = compute_sinusoids(context.input_shape).astype(context.batch.pool.dtype)
        # NumPy adds one long row faster than a table.
        row = table.reshape(*table.shape[:-2], 1, -1)
        d_table = context.gradients.get("position_embeddings")
        d_row = None if d_table is None else d_table.reshape(row.shape)
        ones = context.batch.ones(context.batch.n_rows)

        def forward(x: Array, out: Array) -> None:
            np.add(x, row, out=out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if d_row is not None:
                np.matmul(ones, delta, out=d_row)

        return forward, backward


def compute_sinusoids(shape: Shape) -> Array:
    """Return the fixed positional encoding of shape (steps, channels)."""
    n_steps, n_channels = shape
    channels = np.arange(n_channels)
    wavelengths = 10_000.0 ** ((channels - channels % 2) / n_channels)
    phases = np.arange(n_steps)[:, np.newaxis] / wavelengths
    return np.where(channels % 2 == 0, np.sin(phases), np.cos(phases))


class AttentionLayer(Layer):
    """Base class of layers with attention: their common settings, and the shape of sequences."""

    n_heads: int
    key_size: int | None
    is_causal: bool

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 2:
            raise self.input_shape_error(_SEQUENCES, input_shape)
        if self.key_size is None and input_shape[-1] % self.n_heads:
            raise ValueError(
                f"n_heads of {type(self).__name__} must divide the number of channels if key_size "
                f"is None, got n_heads={self.n_heads} and {input_shape[-1]} channels. Set key_size "
                "to the number of channels of each head, or change one of them."
            )
        return input_shape


@dataclass(frozen=True)
class MultiHeadAttention(AttentionLayer):
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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_heads: Annotated[int, validate_positive_int]
    key_size: Annotated[int | None, validate_positive_int] = None
    is_causal: bool = False

    batch_view = "positions"

    def compute_key_size(self, input_shape: Shape) -> int:
        """Return the number of channels of each head."""
        return self.key_size or input_shape[-1] // self.n_heads

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        n_channels, width = input_shape[-1], self.n_heads * self.compute_key_size(input_shape)
        inner, outer = (n_channels, 3 * width), (width, n_channels)
        draw_inner, draw_outer = partial(draw_kernels, inner), partial(draw_kernels, outer)
        return (
            ParameterSpec("attention_kernels", inner, draw_inner, regularized=True),
            ParameterSpec("attention_biases", inner[-1:]),
            ParameterSpec("attention_output_kernels", outer, draw_outer, regularized=True),
            ParameterSpec("attention_output_biases", outer[-1:]),
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        # A row has outputs, queries, keys, values and outputs of heads, all with gradients, and
        # scores.
        n_steps, width = input_shape[0], self.n_heads * self.compute_key_size(input_shape)
        return 2 * math.prod(input_shape) + n_steps * (8 * width + self.n_heads * n_steps)

    def max_matmul_size(self, input_shape: Shape) -> None:
        return None

    @property
    def reads_sequences(self) -> bool:
        return True

    def bind(self, context: LayerContext) -> BoundLayer:
        has_backward, key_size = context.has_backward, self.compute_key_size(context.input_shape)
        name = str(context.index) if has_backward else "of any layer"
        heads = HeadArrays(context, self.n_heads, key_size, name)
        # Gradients are read only until the backward pass of the layer ends, so that all layers
        # share their memory. Without a backward pass there are none.
        d_heads: Any = None
        if has_backward:
            d_heads = HeadArrays(context, self.n_heads, key_size, "gradients")
        project, project_back = bind_dense(
            context, "attention_kernels", "attention_biases", context.grad_input
        )
        merge, merge_back = bind_dense(
            context,
            "attention_output_kernels",
            "attention_output_biases",
            d_heads.joined if has_backward else None,
        )
        attend, attend_back = bind_attention(context, heads, d_heads, self.is_causal)

        def forward(x: Array, out: Array) -> None:
            project(x, heads.projected)
            attend()
            merge(heads.joined, out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            context.fill_padding(delta)
            merge_back(heads.joined, None, delta)
            attend_back()
            project_back(x, None, d_heads.projected)

        return forward, backward


# A block of sequences has at most this many scores, which stay in the cache over several passes.
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
    """

    def __init__(self, context: LayerContext, n_heads: int, key_size: int, name: str) -> None:
        batch, n_positions, n_steps = context.batch, context.x_shape[0], context.input_shape[0]
        width = n_heads * key_size
        self.projected = batch.scratch(f"attention projections {name}", n_positions, 3 * width)
        self.joined = batch.scratch(f"attention outputs {name}", n_positions, width)
        parts = self.projected.reshape(-1, n_steps, 3, n_heads, key_size)
        self.queries, self.keys, self.values = (parts[:, :, i].swapaxes(1, 2) for i in range(3))
        self.outputs = self.joined.reshape(-1, n_steps, n_heads, key_size).swapaxes(1, 2)


def bind_attention(
    context: LayerContext, heads: HeadArrays, d_heads: Any, is_causal: bool
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the passes of a = softmax(q k^T / sqrt(d)) v of all heads.

    The first one writes the outputs of all heads. The second one writes the gradients of queries,
    keys and values from those of the outputs, and overwrites the outputs. Both divide the sequences
    into blocks.

    With weights s, values v and outputs a = s v with gradient d, the gradient with respect to the
    scores is s (d v^T - sum(s d v^T)) with sums over the keys, which are sums of a d over the
    channels (Dao et al. 2022, appendix B.2).

    Scores have the shape (n_sequences, n_heads, n_keys, n_queries), because NumPy's maximum over a
    short last axis takes four times as long as over that of the keys.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    heads : HeadArrays
        The queries, keys, values and outputs.
    d_heads : HeadArrays or None
        The memory for their gradients; None if there is no backward pass.
    is_causal : bool
        Whether each step sees itself and the steps before it only.
    """
    batch, pool = context.batch, context.batch.pool
    n_sequences, n_heads, n_steps, key_size = heads.queries.shape
    shape = n_heads, n_steps, n_steps
    blocks = split_rows(n_sequences, _SCORES_AT_ONCE // math.prod(shape))
    scale = pool.dtype.type(1 / math.sqrt(key_size))
    if is_causal:
        # Scores of keys after the query become -inf, and their weights 0.
        future = np.where(np.tri(n_steps, k=-1), -np.inf, 0).astype(pool.dtype)
    all_sums = pool.get("sums over keys", (n_sequences, n_heads, 1, n_steps))
    ones, channel_ones = batch.ones(n_steps), batch.ones(key_size).T
    if d_heads is not None:
        # The backward pass reads the weights of all sequences.
        weights = pool.get(f"attention scores {context.index}", (n_sequences, *shape))

    def get_scores(block: slice) -> Array:
        return pool.get_for_thread("scores of a block", (block.stop - block.start, *shape))

    def forward() -> None:
        padding: Array | None = None
        if context.lengths is not None:
            # The scores of padding become -inf: an array (sequences, 1, keys, 1) of -inf and 0.
            mask = np.where(context.padding_mask(), -np.inf, 0).astype(pool.dtype)
            of_members = np.broadcast_to(mask, (batch.n_estimators, *mask.shape[1:]))
            padding = of_members.reshape(-1, 1, n_steps, 1)

        def forward_block(block: slice) -> None:
            scores = get_scores(block) if d_heads is None else weights[block]
            sums = all_sums[block]
            np.matmul(heads.keys[block], heads.queries[block].swapaxes(-1, -2), out=scores)
            np.multiply(scores, scale, out=scores)
            if is_causal:
                np.add(scores, future, out=scores)
            if padding is not None:
                np.add(scores, padding[block], out=scores)
            half_shape = len(scores), n_heads, n_steps - n_steps // 2, n_steps
            halves = pool.get_for_thread("maxima of a block", half_shape)
            np.subtract(scores, max_by_halves(scores, halves), out=scores)
            np.exp(scores, out=scores)
            np.matmul(ones, scores, out=sums)
            np.divide(scores, sums, out=scores)
            np.matmul(scores.swapaxes(-1, -2), heads.values[block], out=heads.outputs[block])

        parallel_for(forward_block, blocks)

    def backward() -> None:
        np.multiply(d_heads.joined, heads.joined, out=heads.joined)
        by_head = heads.joined.reshape(batch.n_estimators, -1, key_size)
        sums_by_head = pool.get("sums over channels", (*by_head.shape[:2], 1))
        np.matmul(by_head, channel_ones, out=sums_by_head)
        by_step = sums_by_head.reshape(-1, n_steps, n_heads)
        np.copyto(all_sums[:, :, 0], by_step.swapaxes(1, 2))
        parallel_for(backward_block, blocks)

    def backward_block(block: slice) -> None:
        d_scores, d_outputs = get_scores(block), d_heads.outputs[block]
        np.matmul(heads.values[block], d_outputs.swapaxes(-1, -2), out=d_scores)
        np.subtract(d_scores, all_sums[block], out=d_scores)
        np.multiply(d_scores, weights[block], out=d_scores)
        np.multiply(d_scores, scale, out=d_scores)
        np.matmul(weights[block], d_outputs, out=d_heads.values[block])
        np.matmul(d_scores.swapaxes(-1, -2), heads.keys[block], out=d_heads.queries[block])
        np.matmul(d_scores, heads.queries[block], out=d_heads.keys[block])

    return forward, backward


@dataclass(frozen=True)
class TransformerBlock(AttentionLayer):
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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_heads: Annotated[int, validate_positive_int]
    n_units: Annotated[int, validate_positive_int]
    activation: ActivationLike = "gelu"
    dropout: Annotated[float, between(0, 1, "left")] = 0.0
    key_size: Annotated[int | None, validate_positive_int] = None
    is_causal: bool = False

    batch_view = "sequences"

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
