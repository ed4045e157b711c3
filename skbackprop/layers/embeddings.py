"""Embeddings of numbers, categories and tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np

from ..utils.arrays import Array, iter_row_slices
from ..utils.validation import between, validate_positive_int
from .base import BoundLayer, Layer, LayerContext, ParameterSpec, Shape, as_ints, draw_normal
from .columns import ColumnLayer, Scale, view_blocks

# Up to this number of levels, float32 represents all codes exactly.
_MOST_LEVELS = 1 << 24


@dataclass(frozen=True)
class CategoricalEmbedding(ColumnLayer):
    """Trained embedding vector for each level of a categorical column.

    An embedded column of X holds codes c = 0, 1, ..., n - 1, one for each of n levels. It has a
    table E of n vectors, drawn from N(0, scale^2), and its outputs are row c of E (Guo & Berkhahn
    2016, section 3): the product of a one-hot row and E, without the memory and the time of one-hot
    columns. The outputs are the other columns, unchanged and in their order, and then the vectors,
    column by column.

    The code -1 has a vector of zeros, for missing and unknown levels, as scikit-learn's
    `OrdinalEncoder` encodes them with ``handle_unknown="use_encoded_value", unknown_value=-1``. In
    prediction, any other number that is not a code has a vector of zeros, too. A level without
    training rows keeps its initial vector.

    It must be the first of `layers`, since it reads codes from X. The gradient with
    respect to a code is zero.

    Parameters
    ----------
    n_levels : dict of int, or sequence of pairs of int
        The columns of X that hold codes, from 0 on, and the number of levels of each:
        ``{3: 104, 4: 28}`` for codes up to 103 in column 3, and up to 27 in column 4.
    n_units : int, default=8
        The length of the vectors, at least 1.
    scale : float, default=0.2
        Standard deviation of the initial vectors, 0 or more. Larger values separate levels sooner,
        and add noise to rare levels.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if X has no such columns, or if they hold other
        values than codes and -1.

    See Also
    --------
    Embedding : Embed sequences of tokens.
    PeriodicEmbedding : Embed numbers.

    References
    ----------
    Guo, C. & Berkhahn, F. (2016). Entity embeddings of categorical variables. arXiv:1604.06737.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.layers import CategoricalEmbedding
    >>> rng = np.random.default_rng(0)
    >>> codes, x = rng.integers(0, 50, 600), rng.normal(size=600)
    >>> slopes = rng.normal(size=50)
    >>> X, y = np.column_stack([x, codes]), slopes[codes] * x
    >>> layer = CategoricalEmbedding({1: 50})
    >>> settings = {"learning_rate_init": 0.01, "batch_size": 32, "random_state": 0}
    >>> model = BackpropRegressor(layers=layer, **settings).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    >>> model.embeddings_[0].shape
    (50, 8)
    """

    n_levels: Mapping[int, int] | tuple[tuple[int, int], ...]
    n_units: Annotated[int, validate_positive_int] = 8
    scale: Annotated[float, between(0, closed="left")] = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        levels: Any = self.n_levels
        items = levels.items() if isinstance(levels, Mapping) else levels
        pairs = sorted(map(as_ints, items)) if isinstance(items, Iterable) else []
        columns = {pair[0] for pair in pairs if len(pair) == 2}
        if not (
            0 < len(pairs) == len(columns)
            and min(columns) >= 0
            and all(1 <= n <= _MOST_LEVELS for _, n in pairs)
        ):
            raise ValueError(
                "n_levels of CategoricalEmbedding must be a dict of columns of X, from 0 on, and "
                f"of how many levels each has, from 1 to {_MOST_LEVELS}, such as {{3: 104, 4: "
                f"28}}, or such pairs, got {levels!r}."
            )
        object.__setattr__(self, "n_levels", tuple(pairs))

    @property
    def categorical_columns(self) -> tuple[int, ...]:
        """The embedded columns of X."""
        return tuple(dict(self.n_levels))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of levels of each embedded column."""
        return tuple(dict(self.n_levels).values())

    def validate_columns(self, n_inputs: int) -> None:
        if self.categorical_columns[-1] >= n_inputs:
            raise ValueError(
                f"n_levels of CategoricalEmbedding must be for columns from 0 to {n_inputs - 1}, "
                f"since X has {n_inputs} columns, got column {self.categorical_columns[-1]}."
            )

    def validate_input_values(self, X: Array) -> None:
        self.validate_columns(X.shape[1])
        for rows in iter_row_slices(X):
            codes = X[rows, list(self.categorical_columns)]
            wrong = (codes != np.floor(codes)) | (codes < -1) | (codes >= self.sizes)
            if wrong.any():
                row, at = np.argwhere(wrong)[0]
                number = codes[row, at]
                raise ValueError(
                    f"Column {self.categorical_columns[at]} of X must hold codes from 0 to "
                    f"{self.sizes[at] - 1}, or -1 for none, as n_levels of CategoricalEmbedding "
                    f"says, got {number:g} in row {rows.start + row}. Encode the column by an "
                    "OrdinalEncoder without a scaler after it, and set n_levels to the number of "
                    "levels."
                )

    def compute_n_outputs(self, n_inputs: int) -> int:
        return n_inputs + len(self.categorical_columns) * (self.n_units - 1)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = sum(self.sizes), self.n_units
        return (ParameterSpec("embeddings", shape, partial(draw_normal, self.scale, shape)),)

    def bind(self, context: LayerContext) -> BoundLayer:
        (n_inputs,), n_rows = context.input_shape, context.batch.n_rows
        n_embedded, grad_input = len(self.sizes), context.grad_input
        n_others = n_inputs - n_embedded
        columns = _column_index(self.categorical_columns)
        others = _column_index([i for i in range(n_inputs) if i not in self.categorical_columns])
        sizes = np.array(self.sizes)
        offsets = np.cumsum(sizes) - sizes
        table = EmbeddingTable(context, n_embedded, self.n_units)

        def vectors(outputs: Array) -> Array:
            """Return a view of the vectors in outputs: (n_estimators, n, n_columns, n_units)."""
            shape = len(outputs), n_rows, n_embedded, self.n_units
            return outputs[..., n_others:].reshape(shape)

        def forward(x: Array, out: Array) -> None:
            x, out = context.with_member_axis(x), context.with_member_axis(out)
            out[..., :n_others] = x[..., others]
            table.look_up(x[..., columns], sizes, offsets, vectors(out))

        def backward(x: Array, out: Array, delta: Array) -> None:
            if context.gradients:
                table.sum_gradients(vectors(context.with_member_axis(delta)))
            if grad_input is not None:
                grad_input[..., columns] = 0
                grad_input[..., others] = delta[..., :n_others]

        return forward, backward


class EmbeddingTable:
    """Vectors of a trained table "embeddings", looked up by code, and the table's gradient.

    All arrays have the member axis. Numbers that are no code have a vector of zeros.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    n_codes : int
        The number of codes in each row.
    n_units : int
        The length of the vectors.
    """

    def __init__(self, context: LayerContext, n_codes: int, n_units: int) -> None:
        self._tables = context.with_member_axis(context.parameters["embeddings"])
        if context.gradients:
            gradients = context.with_member_axis(context.gradients["embeddings"])
            self._d_tables = gradients.reshape(len(gradients), -1)
            # Allocating this memory in each step takes longer than the sums.
            shape = len(gradients), context.batch.n_rows, n_codes, n_units
            self._indices = context.batch.pool.get(f"indices {context.index}", shape, np.intp)
            self._unit_numbers = np.arange(n_units)

    def look_up(self, codes: Array, sizes: Any, offsets: Any, vectors: Array) -> None:
        """Write the vectors of codes, which are those of one member for all if they share rows.

        Parameters
        ----------
        codes : array of shape (n_estimators or 1, n_rows, n_codes)
            The codes.
        sizes, offsets : int or arrays of shape (n_codes,)
            The number of codes of each column, and where their part of the table starts.
        vectors : array of shape (n_estimators, n_rows, n_codes, n_units)
            The output.
        """
        is_code = (codes >= 0) & (codes < sizes) & (codes == np.floor(codes))
        self._mask = None if is_code.all() else is_code[..., None]
        self._rows = np.where(is_code, codes, 0).astype(np.intp) + offsets
        for member, table in enumerate(self._tables):
            rows = self._rows[member % len(self._rows)]
            np.take(table, rows, axis=0, out=vectors[member], mode="clip")
        if self._mask is not None:
            vectors *= self._mask

    def sum_gradients(self, d_vectors: Array) -> None:
        """Compute the gradient of each vector, the sum over the rows with its code."""
        if self._mask is not None:
            d_vectors *= self._mask
        # np.add.at is fast for one-dimensional arrays.
        indices, n_units = self._indices[: len(self._rows)], len(self._unit_numbers)
        np.add(self._rows[..., None] * n_units, self._unit_numbers, out=indices)
        self._d_tables[...] = 0
        for member, d_table in enumerate(self._d_tables):
            member_indices = indices[member % len(indices)]
            np.add.at(d_table, member_indices.reshape(-1), d_vectors[member].reshape(-1))


@dataclass(frozen=True)
class Embedding(Layer):
    """Trained embedding vector for each token of a sequence: out_t = E[x_t].

    A row of X holds tokens 0, 1, ..., n - 1, most often the numbers of words or characters, and its
    output is a sequence of their vectors, the rows of a table E (Bengio et al. 2003, section 2).
    The initial vectors are drawn from N(0, scale^2).

    Sequences shorter than the others end in -1, which is padding: recurrent, pooling and attention
    layers leave it out. Its vectors are zeros.

    It must be the first of `layers`, since it reads tokens from X. The gradient with respect to a
    token is zero.

    Parameters
    ----------
    n_tokens : int
        The number n of tokens, from 1 to 2^24.
    n_units : int
        The length of the vectors, at least 1.
    scale : float, default=0.05
        Standard deviation of the initial vectors, 0 or more. Larger values add noise to rare
        tokens.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit` and `predict`, if X holds other values than tokens
        and padding at the end of rows, or a row of padding alone.

    See Also
    --------
    CategoricalEmbedding : Embed coded categories of tables.

    References
    ----------
    Bengio, Y., Ducharme, R., Vincent, P. & Jauvin, C. (2003). A neural probabilistic language
    model. JMLR 3, 1137-1155.

    Examples
    --------
    Texts as the numbers of their letters, of which some are vowels:

    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Embedding
    >>> words = ["area", "idea", "radio", "rhythm", "try", "spy"]
    >>> X = np.full((6, 6), -1)
    >>> for row, word in zip(X, words):
    ...     row[: len(word)] = [ord(letter) - ord("a") for letter in word]
    >>> y = ["vowels", "vowels", "vowels", "none", "none", "none"]
    >>> model = BackpropClassifier(layers=[Embedding(26, 4)], max_iter=50, tol=0.01, random_state=0)
    >>> model.fit(X, y).embeddings_[0].shape
    (26, 4)
    """

    n_tokens: Annotated[int, validate_positive_int]
    n_units: Annotated[int, validate_positive_int]
    scale: Annotated[float, between(0, closed="left")] = 0.05

    batch_view = "sequences"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_tokens > _MOST_LEVELS:
            raise ValueError(
                f"n_tokens of Embedding must be at most {_MOST_LEVELS}, got {self.n_tokens}. "
                "Single precision does not hold all larger integers."
            )

    @property
    def categorical_columns(self) -> slice:
        """All columns of X."""
        return slice(None)

    def validate_input_values(self, X: Array) -> None:
        for rows in iter_row_slices(X):
            tokens = X[rows]
            is_token = (tokens >= 0) & (tokens < self.n_tokens) & (tokens == np.floor(tokens))
            wrong = ~(is_token | (tokens == -1))
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"X must hold tokens from 0 to {self.n_tokens - 1}, as n_tokens of Embedding "
                    f"says, and -1 after the last token of a row, got {tokens[row, column]:g} in "
                    f"row {rows.start + row}, column {column}. Set n_tokens to the number of "
                    "tokens, and use no scaler before the network. Words become tokens by the "
                    "vocabulary_ of a CountVectorizer, or by an OrdinalEncoder."
                )
            is_followed = ~is_token[:, :-1] & is_token[:, 1:]
            if is_followed.any():
                row, column = np.argwhere(is_followed)[0]
                raise ValueError(
                    "The padding -1 must stand after the last token of a row of X, got -1 in row "
                    f"{rows.start + row}, column {column}, before the token "
                    f"{tokens[row, column + 1]:g}. Move it to the end of the row, or give unknown "
                    "words a token of their own."
                )
            if not is_token[:, 0].all():
                raise ValueError(
                    f"Row {rows.start + int(is_token[:, 0].argmin())} of X contains only padding, "
                    "but a sequence needs at least one token. Remove the row, or give empty "
                    "sequences a token of their own."
                )

    def validate_prediction_input(self, X: Array) -> None:
        self.validate_input_values(X)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise self.input_shape_error("sequences of tokens, of shape (steps,)", input_shape)
        return input_shape[0], self.n_units

    def compute_lengths(self, x: Array) -> Array | None:
        if (x[..., -1] != -1).all():
            return None
        lengths: Array = np.count_nonzero(x != -1, axis=-1)
        return lengths

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = self.n_tokens, self.n_units
        return (ParameterSpec("embeddings", shape, partial(draw_normal, self.scale, shape)),)

    def bind(self, context: LayerContext) -> BoundLayer:
        table = EmbeddingTable(context, *context.out_shape[1:])
        shape = -1, *context.out_shape[:2]

        def forward(x: Array, out: Array) -> None:
            table.look_up(x.reshape(shape), self.n_tokens, 0, context.with_member_axis(out))

        def backward(x: Array, out: Array, delta: Array) -> None:
            if context.gradients:
                table.sum_gradients(context.with_member_axis(delta))
            if context.grad_input is not None:
                context.grad_input[...] = 0

        return forward, backward


def _column_index(columns: Sequence[int]) -> Any:
    """Return the index of sorted columns: a slice, which is faster, if they are adjacent."""
    n = len(columns)
    is_slice = n > 0 and columns[-1] - columns[0] < n
    return slice(columns[0], columns[0] + n) if is_slice else list(columns)


# Prediction computes the waves of at most this many rows at once, which stay in the cache.
_PERIODIC_ROWS = 256


@dataclass(frozen=True)
class PeriodicEmbedding(ColumnLayer):
    """Periodic embedding of numbers: sin(2 pi f x) and cos(2 pi f x), mapped to a few outputs.

    Each number x has its own frequencies f_1, ..., f_k. With

        v = (sin(2 pi f_1 x), ..., sin(2 pi f_k x), cos(2 pi f_1 x), ..., cos(2 pi f_k x)),

    its outputs are v M, with its own matrix M. Both are trained; the initial frequencies are drawn
    from N(0, scale^2) (Gorishniy, Rubachev & Babenko 2022, section 3). So a network learns
    functions that rise and fall several times, which dense layers learn late or never. All inputs
    follow the outputs unchanged.

    The numbers should be scaled, as by a `StandardScaler`, so that most lie between -3 and 3. A
    categorical column of 0 and 1 gains nothing: select the numerical columns by `features`.

    Parameters
    ----------
    n_frequencies : int, default=16
        The number k of frequencies of each number, at least 1.
    scale : float, default=0.5
        Standard deviation of the initial frequencies, positive. Larger values learn more detail,
        and overfit more. It is the setting to tune, between 0.1 and 2.
    n_units : int, default=3
        The number of outputs of each number, at least 1.
    trained : bool, default=True
        Whether the frequencies are trained, or keep their initial values.
    features : sequence of int or None, default=None
        The columns to embed, from 0 on; None for all.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a setting is out of range; in `fit`, if X has no such columns.

    See Also
    --------
    CategoricalEmbedding : Embed coded categories.

    References
    ----------
    Gorishniy, Y., Rubachev, I. & Babenko, A. (2022). On embeddings for numerical features in
    tabular deep learning. NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.layers import PeriodicEmbedding
    >>> X = np.linspace(-2, 2, 400)[:, np.newaxis]
    >>> y = np.sin(10 * X[:, 0])
    >>> settings = {"learning_rate_init": 0.01, "batch_size": 32, "random_state": 0}
    >>> model = BackpropRegressor(layers=PeriodicEmbedding(scale=2.0), **settings)
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    >>> model.frequencies_[0].shape, model.maps_[0].shape
    ((1, 16), (1, 32, 3))
    """

    n_frequencies: Annotated[int, validate_positive_int] = 16
    scale: Annotated[float, between(0, closed="neither")] = 0.5
    n_units: Annotated[int, validate_positive_int] = 3
    trained: bool = True
    features: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features is not None:
            columns = as_ints(self.features)
            if not columns or min(columns) < 0 or len(set(columns)) < len(columns):
                raise ValueError(
                    "features of PeriodicEmbedding must be None for all columns, or at least one "
                    "column, from 0 on and each only once, such as [0, 3] or range(5), got "
                    f"{self.features!r}."
                )
            object.__setattr__(self, "features", columns)

    def validate_columns(self, n_inputs: int) -> None:
        beyond = [column for column in self.features or () if column >= n_inputs]
        if beyond:
            raise ValueError(
                f"features of PeriodicEmbedding must be columns from 0 to {n_inputs - 1}, since "
                f"there are {n_inputs} inputs, got {beyond[0]}."
            )

    def n_embedded(self, n_inputs: int) -> int:
        """Return the number of embedded inputs."""
        return n_inputs if self.features is None else len(self.features)

    def compute_n_outputs(self, n_inputs: int) -> int:
        return self.n_embedded(n_inputs) * self.n_units + n_inputs

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        n_embedded, k = self.n_embedded(input_shape[0]), self.n_frequencies
        draw_frequencies = partial(draw_normal, self.scale, (n_embedded, k))
        shape = n_embedded, 2 * k, self.n_units
        # The mean square of a wave is 1/2, so the outputs have a variance of about one.
        draw_maps = partial(draw_normal, k**-0.5, shape)
        return (
            ParameterSpec("frequencies", (n_embedded, k), draw_frequencies, trained=self.trained),
            ParameterSpec("maps", shape, draw_maps),
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        n_waves = 2 * self.n_frequencies * self.n_embedded(input_shape[0])
        return super().memory_per_sample(input_shape) + 2 * n_waves

    def bind(self, context: LayerContext) -> BoundLayer:
        n_rows, grad_input = context.batch.n_rows, context.grad_input
        n_embedded, k = self.n_embedded(context.input_shape[0]), self.n_frequencies
        columns: Any = slice(None) if self.features is None else list(self.features)
        frequencies = (context.parameters if self.trained else context.buffers)["frequencies"]
        maps, d_maps = context.parameters["maps"], context.gradients.get("maps")
        d_frequencies, factors = context.gradients.get("frequencies"), np.empty_like(frequencies)
        n_at_once = n_rows if context.has_backward else min(n_rows, _PERIODIC_ROWS)
        n_mapped = n_embedded * self.n_units

        def make_scratch(name: str, width: int = k) -> Array:
            return context.scratch(name, n_embedded, n_at_once, width)

        all_sines, all_cosines = make_scratch("sines"), make_scratch("cosines")
        all_mapped = make_scratch("mapped", self.n_units)

        def get_numbers(x: Array) -> Array:
            return x[..., columns].swapaxes(-1, -2)

        def forward(x: Array, out: Array) -> None:
            np.multiply(frequencies, 2 * np.pi, out=factors)
            out[..., n_mapped:] = x
            for start in range(0, n_rows, n_at_once):
                rows = slice(start, start + n_at_once)
                numbers = get_numbers(x[..., rows, :])
                outputs = view_blocks(out[..., rows, :], n_embedded, self.n_units)
                n = numbers.shape[-1]
                sines, cosines = all_sines[..., :n, :], all_cosines[..., :n, :]
                np.multiply(numbers[..., None], factors[..., None, :], out=cosines)
                np.sin(cosines, out=sines)
                np.cos(cosines, out=cosines)
                np.matmul(sines, maps[..., :k, :], out=outputs)
                mapped = np.matmul(cosines, maps[..., k:, :], out=all_mapped[..., :n, :])
                np.add(outputs, mapped, out=outputs)

        def backward(x: Array, out: Array, delta: Array) -> None:
            d_outputs = view_blocks(delta, n_embedded, self.n_units)
            sines, cosines = all_sines, all_cosines
            if d_maps is not None:
                np.matmul(sines.swapaxes(-1, -2), d_outputs, out=d_maps[..., :k, :])
                np.matmul(cosines.swapaxes(-1, -2), d_outputs, out=d_maps[..., k:, :])
            if d_frequencies is None and grad_input is None:
                return
            # The gradient by the phases 2 pi f x is cosines * d_sines - sines * d_cosines.
            d_sines, d_cosines = make_scratch("d sines"), make_scratch("d cosines")
            np.matmul(d_outputs, maps[..., :k, :].swapaxes(-1, -2), out=d_sines)
            np.matmul(d_outputs, maps[..., k:, :].swapaxes(-1, -2), out=d_cosines)
            np.multiply(d_cosines, sines, out=d_cosines)
            d_phases = np.multiply(d_sines, cosines, out=d_sines)
            np.subtract(d_phases, d_cosines, out=d_phases)
            if d_frequencies is not None:
                np.matmul(get_numbers(x)[..., None, :], d_phases, out=d_frequencies[..., None, :])
                np.multiply(d_frequencies, 2 * np.pi, out=d_frequencies)
            if grad_input is not None:
                grad_input[...] = delta[..., n_mapped:]
                d_numbers = np.matmul(d_phases, factors[..., None])
                grad_input[..., columns] += d_numbers[..., 0].swapaxes(-1, -2)

        return forward, backward


LAYERS: dict[str, type[Layer]] = {"scale": Scale, "periodic": PeriodicEmbedding}
