"""An embedding of numbers: waves of each input, mapped to a few outputs of its own."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..core.arrays import Array
from ..core.checks import check_count, check_range
from ..core.names import InputLayerName
from .base import Block, BoundLayer, Site
from .inputs import InputLayer, Normal, Scale

# Rows whose waves are made at a time in prediction, so that they stay in the cache.
_ROWS = 256


@dataclass(frozen=True)
class PeriodicEmbedding(InputLayer):
    """Waves of each number, mapped to a few outputs: sin(2 pi f x) and cos(2 pi f x), times M.

    Each number x has frequencies f_1, ..., f_k of its own. With

        v = (sin(2 pi f_1 x), ..., sin(2 pi f_k x), cos(2 pi f_1 x), ..., cos(2 pi f_k x)),

    its outputs are v M, where the matrix M is its own as well. Both are drawn at the start,
    f from N(0, scale^2), and learned (Gorishniy, Rubachev & Babenko 2022, section 3). So a network
    can follow a function of one number that rises and falls several times, which dense layers learn
    late or never. All inputs stand behind the outputs as they are.

    The numbers should be scaled, so that most lie between -3 and 3, as a `StandardScaler` leaves
    them. What is no number, as the 0 and 1 of a category, gains nothing: name the others by
    `features`.

    Parameters
    ----------
    n_frequencies : int, default=16
        The frequencies k of each number, at least 1.
    scale : float, default=0.5
        The standard deviation of the frequencies at the start, above 0: the greater, the more
        detail, and the more noise that is learned by heart. The one to tune, between 0.05 and 5.
    n_units : int, default=3
        The outputs of each number, at least 1.
    trained : bool, default=True
        Whether the frequencies are learned, or stay as they were drawn.
    features : sequence of int or None, default=None
        The columns of X that are embedded, from 0 on; None for all.

    Raises
    ------
    ValueError
        If a setting is out of its range; in `fit`, if X has no such columns.

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
    >>> model = BackpropRegressor(input_layers=PeriodicEmbedding(scale=2.0), **settings)
    >>> model.fit(X, y).score(X, y) > 0.99
    True
    >>> model.frequencies_[0].shape, model.maps_[0].shape
    ((1, 16), (1, 32, 3))
    """

    n_frequencies: int = 16
    scale: float = 0.5
    n_units: int = 3
    trained: bool = True
    features: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_count(self, "n_frequencies", "n_units")
        check_range(self, "scale", low=0, closed="neither")
        if not np.isfinite(self.scale):
            raise ValueError(f"scale of PeriodicEmbedding must be finite, got {self.scale!r}.")
        if not isinstance(self.trained, (bool, np.bool_)):
            raise ValueError(
                f"trained of PeriodicEmbedding must be True or False, got {self.trained!r}."
            )
        object.__setattr__(self, "trained", bool(self.trained))
        if self.features is not None:
            object.__setattr__(self, "features", _checked_places(self.features))

    def check_inputs(self, n_inputs: int) -> None:
        beyond = [place for place in self.features or () if place >= n_inputs]
        if beyond:
            raise ValueError(
                f"features of PeriodicEmbedding must be columns from 0 to {n_inputs - 1}, since "
                f"there are {n_inputs} inputs, got {beyond[0]}."
            )

    def n_embedded(self, n_inputs: int) -> int:
        """Return how many of the inputs are embedded."""
        return n_inputs if self.features is None else len(self.features)

    def n_outputs(self, n_inputs: int) -> int:
        return self.n_embedded(n_inputs) * self.n_units + n_inputs

    def blocks(self, n_inputs: int) -> tuple[Block, ...]:
        shape = self.n_embedded(n_inputs), 2 * self.n_frequencies, self.n_units
        # Squares of waves are 1/2 in the mean, so that outputs have a variance of about one.
        maps = Block("maps", shape, Normal(self.n_frequencies**-0.5, shape))
        return (self._frequencies(n_inputs), maps) if self.trained else (maps,)

    def statistics(self, n_inputs: int) -> tuple[Block, ...]:
        return () if self.trained else (self._frequencies(n_inputs),)

    def _frequencies(self, n_inputs: int) -> Block:
        shape = self.n_embedded(n_inputs), self.n_frequencies
        return Block("frequencies", shape, Normal(self.scale, shape))

    def n_buffered(self, n_inputs: int) -> int:
        n_waves = 2 * self.n_frequencies * self.n_embedded(n_inputs)
        return super().n_buffered(n_inputs) + 2 * n_waves

    def largest_product(self, n_inputs: int) -> int:
        return self.n_frequencies * self.n_units

    def bind(self, site: Site) -> BoundLayer:
        return BoundPeriodic(self, site)


class BoundPeriodic:
    """A periodic embedding at its site.

    Arrays of waves have the embedded numbers before the rows, so that each number has its matrix
    in one piece, which NumPy's sine goes over in one call, and BLAS takes as it is.

    Parameters
    ----------
    layer : PeriodicEmbedding
        The settings.
    site : Site
        Where it computes.
    """

    def __init__(self, layer: PeriodicEmbedding, site: Site) -> None:
        self._site, self._n_units = site, layer.n_units
        n_embedded, k = layer.n_embedded(site.n_inputs), layer.n_frequencies
        self._n_mapped = n_embedded * layer.n_units
        self._columns: Any = slice(None) if layer.features is None else list(layer.features)
        held = site.parameters if layer.trained else site.statistics
        self._frequencies = held["frequencies"]
        self._factors = np.empty_like(self._frequencies)
        maps, d_maps = site.parameters["maps"], site.gradients.get("maps")
        self._of_sines, self._of_cosines = maps[..., :k, :], maps[..., k:, :]
        if d_maps is not None:
            self._d_of_sines, self._d_of_cosines = d_maps[..., :k, :], d_maps[..., k:, :]
        self._d_frequencies = site.gradients.get("frequencies")
        has_way_back = site.is_training or site.d_input is not None
        self._n_at_once = site.n_rows if has_way_back else min(site.n_rows, _ROWS)
        self._shape = n_embedded, k
        # Of two arrays each: sines and cosines, and the gradients by them.
        self._waves = [self._buffer(name, k) for name in ("sines", "cosines")]
        self._mapped = self._buffer("mapped", layer.n_units)
        if site.d_input is not None or self._d_frequencies is not None:
            self._slopes = [self._buffer(name, k) for name in ("by sines", "by cosines")]

    def _buffer(self, name: str, width: int) -> Array:
        return self._site.buffer(name, self._shape[0] * width, self._n_at_once)

    # ------------------------------------------------------------------ forward

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        np.multiply(self._frequencies, 2 * np.pi, out=self._factors)
        out[..., self._n_mapped :] = x
        for start in range(0, self._site.n_rows, self._n_at_once):
            rows = slice(start, start + self._n_at_once)
            self._map(x[..., rows, :], out[..., rows, :])

    def _map(self, x: Array, out: Array) -> None:
        """Write the outputs of some rows."""
        n_rows, k = x.shape[-2], self._shape[1]
        numbers, outputs = self._numbers(x)[..., None], self._outputs(out)
        sines, cosines = (_by_number(each, self._shape[0], n_rows, k) for each in self._waves)
        np.multiply(numbers, self._factors[..., None, :], out=cosines)
        np.sin(cosines, out=sines)
        np.cos(cosines, out=cosines)
        np.matmul(sines, self._of_sines, out=outputs)
        mapped = _by_number(self._mapped, self._shape[0], n_rows, self._n_units)
        outputs += np.matmul(cosines, self._of_cosines, out=mapped)

    # ----------------------------------------------------------------- backward

    def backward(self, delta: Array) -> Array:
        site, (n_embedded, k) = self._site, self._shape
        d_outputs = self._outputs(delta)
        sines, cosines = (_by_number(each, n_embedded, site.n_rows, k) for each in self._waves)
        if site.is_training:
            np.matmul(sines.swapaxes(-1, -2), d_outputs, out=self._d_of_sines)
            np.matmul(cosines.swapaxes(-1, -2), d_outputs, out=self._d_of_cosines)
        if self._d_frequencies is None and site.d_input is None:
            return delta
        # Of the phases 2 pi f x: cosines * d_sines - sines * d_cosines.
        by_phases, other = (_by_number(each, n_embedded, site.n_rows, k) for each in self._slopes)
        np.matmul(d_outputs, self._of_sines.swapaxes(-1, -2), out=by_phases)
        np.matmul(d_outputs, self._of_cosines.swapaxes(-1, -2), out=other)
        by_phases *= cosines
        other *= sines
        by_phases -= other
        if self._d_frequencies is not None:
            numbers = self._numbers(self._x)[..., None, :]
            np.matmul(numbers, by_phases, out=self._d_frequencies[..., None, :])
            self._d_frequencies *= 2 * np.pi
        if site.d_input is None:
            return delta
        site.d_input[...] = delta[..., self._n_mapped :]
        by_numbers = np.matmul(by_phases, self._factors[..., None])
        site.d_input[..., self._columns] += by_numbers[..., 0].swapaxes(-1, -2)
        return site.d_input

    # -------------------------------------------------------------------- views

    def _numbers(self, x: Array) -> Array:
        """Return the numbers that are embedded: (..., n_embedded, n)."""
        return x[..., self._columns].swapaxes(-1, -2)

    def _outputs(self, array: Array) -> Array:
        """Return what the maps lead to, a view: (..., n_embedded, n, n_units)."""
        columns = array[..., : self._n_mapped]
        return columns.reshape(*array.shape[:-1], -1, self._n_units).swapaxes(-2, -3)


def _by_number(buffer: Array, n_embedded: int, n_rows: int, width: int) -> Array:
    """Return the beginning of each member's memory as (..., n_embedded, n_rows, width)."""
    flat = buffer.reshape(*buffer.shape[:-2], -1)
    shape = n_embedded, n_rows, width
    return flat[..., : n_embedded * n_rows * width].reshape(*flat.shape[:-1], *shape)


def _checked_places(features: Any) -> tuple[int, ...]:
    """Return the places of columns as a tuple of int."""
    places: list[int] = []
    is_plain = isinstance(features, Iterable) and not isinstance(features, (str, bytes, dict, set))
    for place in features if is_plain else ():
        is_place = not isinstance(place, (bool, np.bool_)) and hasattr(place, "__index__")
        places.append(operator.index(place) if is_place else -1)
    if not places or min(places) < 0 or len(set(places)) < len(places):
        raise ValueError(
            "features of PeriodicEmbedding must be None for all columns, or the places of at least "
            f"one, from 0 on and each but once, such as [0, 3] or range(5), got {features!r}."
        )
    return tuple(places)


INPUT_LAYERS: dict[str, type[InputLayer]] = {"scale": Scale, "periodic": PeriodicEmbedding}

InputLayers: TypeAlias = InputLayerName | InputLayer | Sequence[InputLayerName | InputLayer]
"""What stands before the first dense layer: one such layer, or several in a row."""
