"""An embedding of categories: a vector for each level of a column, learned and looked up."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np

from ..core.arrays import Array
from ..core.checks import check_count, check_range
from .base import Block, BoundLayer, Site
from .inputs import InputLayer, Normal

# Rows that are looked at together, so that a check of X copies little of it.
_ROWS = 1 << 16

# Levels whose codes are all numbers of float32, in which networks and exports may read them.
_MOST_LEVELS = 1 << 24


@dataclass(frozen=True)
class CategoryEmbedding(InputLayer):
    """A vector for each level of a category, which is learned, in place of the level's code.

    A column of X that is embedded holds codes c = 0, 1, ..., n - 1, one for each of n levels. It
    has a table E of n vectors, drawn from N(0, scale^2), and its outputs are row c of E (Guo &
    Berkhahn 2016, section 3). That is the product of a one-hot row and E, without the memory and
    the time of one-hot columns. The other columns come first, as they are and in their order, and
    then the vectors, column by column.

    What is no code has a vector of zeros: -1, as scikit-learn's `OrdinalEncoder` writes with
    ``handle_unknown="use_encoded_value", unknown_value=-1``, and in prediction any other number. So
    levels that are new then are as none. A level of the table that no training row has keeps the
    vector that was drawn.

    It stands first among the `input_layers`, since it reads codes from X. The derivative by a code
    is zero.

    Parameters
    ----------
    n_levels : dict of int, or sequence of pairs of int
        The columns of X that hold codes, from 0 on, and how many levels each of them has:
        ``{3: 104, 4: 28}`` for codes up to 103 in column 3, and up to 27 in column 4.
    n_units : int, default=8
        The length of the vectors, at least 1.
    scale : float, default=0.2
        The standard deviation of the numbers of vectors at the start, 0 or more: the greater, the
        sooner levels are told apart, and the more noise there is in those of few rows.

    Raises
    ------
    ValueError
        If a setting is out of its range; in `fit`, if X has no such columns, or if they hold
        anything but codes and -1.

    References
    ----------
    Guo, C. & Berkhahn, F. (2016). Entity embeddings of categorical variables. arXiv:1604.06737.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.layers import CategoryEmbedding
    >>> rng = np.random.default_rng(0)
    >>> codes, x = rng.integers(0, 50, 600), rng.normal(size=600)
    >>> slopes = rng.normal(size=50)
    >>> X, y = np.column_stack([x, codes]), slopes[codes] * x
    >>> layer = CategoryEmbedding({1: 50})
    >>> settings = {"learning_rate_init": 0.01, "batch_size": 32, "random_state": 0}
    >>> model = BackpropRegressor(input_layers=layer, **settings).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    >>> model.embeddings_[0].shape
    (50, 8)
    """

    n_levels: Mapping[int, int] | tuple[tuple[int, int], ...]
    n_units: int = 8
    scale: float = 0.2

    is_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count(self, "n_units")
        check_range(self, "scale", low=0)
        if not np.isfinite(self.scale):
            raise ValueError(f"scale of CategoryEmbedding must be finite, got {self.scale!r}.")
        object.__setattr__(self, "n_levels", _checked_levels(self.n_levels))

    @property
    def coded_columns(self) -> tuple[int, ...]:
        """The columns of X that are embedded."""
        return tuple(column for column, _ in self._pairs)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of levels of each of them."""
        return tuple(n_levels for _, n_levels in self._pairs)

    @property
    def _pairs(self) -> tuple[tuple[int, int], ...]:
        return cast("tuple[tuple[int, int], ...]", self.n_levels)

    def check_inputs(self, n_inputs: int) -> None:
        if self.coded_columns[-1] >= n_inputs:
            raise ValueError(
                f"n_levels of CategoryEmbedding must be for columns from 0 to {n_inputs - 1}, "
                f"since there are {n_inputs} inputs, got column {self.coded_columns[-1]}."
            )

    def check_rows(self, X: Array) -> None:
        self.check_inputs(X.shape[1])
        for start in range(0, len(X), _ROWS):
            codes = X[start : start + _ROWS, list(self.coded_columns)]
            wrong = (codes != np.floor(codes)) | (codes < -1) | (codes >= self.sizes)
            if wrong.any():
                row, at = np.argwhere(wrong)[0]
                raise ValueError(
                    f"Column {self.coded_columns[at]} of X must hold codes from 0 to "
                    f"{self.sizes[at] - 1}, or -1 for none, as n_levels of CategoryEmbedding says, "
                    f"got {codes[row, at]:g} in row {start + row}. Encode it by an OrdinalEncoder, "
                    "which no scaler follows, and let n_levels say how many levels there are."
                )

    def n_outputs(self, n_inputs: int) -> int:
        return n_inputs + len(self.coded_columns) * (self.n_units - 1)

    def blocks(self, n_inputs: int) -> tuple[Block, ...]:
        shape = sum(self.sizes), self.n_units
        return (Block("embeddings", shape, Normal(self.scale, shape)),)

    def n_buffered(self, n_inputs: int) -> int:
        # A code, a row of the table, and the places in it, for each vector and its gradient.
        return super().n_buffered(n_inputs) + len(self.coded_columns) * (2 + 2 * self.n_units)

    def bind(self, site: Site) -> BoundLayer:
        return BoundCategories(self, site)


class BoundCategories:
    """An embedding of categories at its site.

    The tables of all columns are one below the other, so that all vectors of a row are looked up at
    once. All arrays here have the axis of members.

    Parameters
    ----------
    layer : CategoryEmbedding
        The settings.
    site : Site
        Where it computes.
    """

    def __init__(self, layer: CategoryEmbedding, site: Site) -> None:
        self._site, self._n_units = site, layer.n_units
        self._n_embedded, self._n_others = len(layer.sizes), site.n_inputs - len(layer.sizes)
        self._columns = _index(layer.coded_columns)
        self._others = _index([i for i in range(site.n_inputs) if i not in layer.coded_columns])
        self._sizes = np.array(layer.sizes)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._tables = _by_member(site.parameters["embeddings"])
        if site.is_training:
            gradients = _by_member(site.gradients["embeddings"])
            self._d_tables = gradients.reshape(len(gradients), -1)
            # Memory that is asked for in each step takes longer than the sums that it is for.
            shape = len(gradients), site.n_rows, self._n_embedded, self._n_units
            self._places = np.empty(shape, np.intp)
            self._of_units = np.arange(self._n_units)

    def forward(self, x: Array, out: Array) -> None:
        x, out = _by_member(x), _by_member(out)
        out[..., : self._n_others] = x[..., self._others]
        codes = x[..., self._columns]  # of one member where all have the same rows
        is_code = (codes >= 0) & (codes < self._sizes) & (codes == np.floor(codes))
        self._known = None if is_code.all() else is_code[..., None]
        self._rows = np.where(is_code, codes, 0).astype(np.intp) + self._starts
        vectors = self._vectors(out)
        if len(self._rows) == 1:
            vectors[...] = np.take(self._tables, self._rows[0], axis=1)
        else:
            for member, table in enumerate(self._tables):
                vectors[member] = np.take(table, self._rows[member], axis=0)
        if self._known is not None:
            vectors *= self._known

    def backward(self, delta: Array) -> Array:
        d_input = self._site.d_input
        if self._site.is_training:
            self._add_up(self._vectors(_by_member(delta)))
        if d_input is None:
            return delta
        d_input[..., self._columns] = 0
        d_input[..., self._others] = delta[..., : self._n_others]
        return d_input

    def _add_up(self, d_vectors: Array) -> None:
        """Leave the gradient by each vector: the sum over the rows that it was looked up for."""
        if self._known is not None:
            d_vectors *= self._known
        # Numbers of one axis are the case in which NumPy adds fast.
        places = self._places[: len(self._rows)]
        np.add(self._rows[..., None] * self._n_units, self._of_units, out=places)
        self._d_tables[...] = 0
        for member, d_table in enumerate(self._d_tables):
            own = places[member % len(places)]
            np.add.at(d_table, own.reshape(-1), d_vectors[member].reshape(-1))

    def _vectors(self, outputs: Array) -> Array:
        """Return the vectors among outputs, a view: (n_members, n, n_columns, n_units)."""
        columns = outputs[..., self._n_others :]
        return columns.reshape(*outputs.shape[:-1], self._n_embedded, self._n_units)


def _index(places: Sequence[int]) -> Any:
    """Return what columns are indexed by: a slice, which is fast, where they are side by side."""
    n = len(places)
    return slice(places[0], places[0] + n) if n and places[-1] - places[0] < n else list(places)


def _by_member(array: Array) -> Array:
    """Return an array with the axis of members, which those of a single one come without."""
    return array[None] if array.ndim == 2 else array


def _checked_levels(n_levels: Any) -> tuple[tuple[int, int], ...]:
    """Return columns and their numbers of levels as pairs of int, by column."""
    items = n_levels.items() if isinstance(n_levels, Mapping) else n_levels
    try:
        pairs = sorted((_whole(column), _whole(n)) for column, n in items)
    except (TypeError, ValueError):
        pairs = []
    columns, numbers = {column for column, _ in pairs}, [n for _, n in pairs]
    has_columns = 0 < len(pairs) == len(columns) and min(columns) >= 0
    if not (has_columns and min(numbers) >= 1 and max(numbers) <= _MOST_LEVELS):
        raise ValueError(
            "n_levels of CategoryEmbedding must be a dict of columns of X, from 0 on, and of how "
            f"many levels each has, from 1 to {_MOST_LEVELS}, such as {{3: 104, 4: 28}}, or such "
            f"pairs, got {n_levels!r}."
        )
    return tuple(pairs)


def _whole(number: Any) -> int:
    if isinstance(number, (bool, np.bool_)):
        raise TypeError
    return operator.index(number)
