"""Plot the weights of a network as images or as histograms."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod, sqrt
from numbers import Integral
from typing import Any, Self

import numpy as np

from ..estimators._fitted_attributes import get_fitted_network
from ..utils.arrays import Array
from ._plotting import check_matplotlib, fitted_networks, get_axes, merge_kwargs

# Height of the highest bar of a histogram, as a share of its row.
_MAX_HEIGHT = 0.85


class WeightsDisplay:
    """Plot of a network's weights: images of the first layer, or histograms of all layers.

    Use `from_estimator` to create it. With an `image_shape`, the weights of each unit of the first
    layer, or the filters of a first `Conv2D`, are images: red where a pixel excites the unit, blue
    where it inhibits the unit, on the same scale for all units. Otherwise each layer has a
    histogram with a height of its own. The first layer is on top.

    Parameters
    ----------
    weights : list of arrays of shape (fan_in, fan_out)
        The weights of each layer.
    image_shape : tuple of int or None, default=None
        The shape of the input or kernel as an image: (height, width), or (height, width, 3) in
        color.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    image_ : matplotlib AxesImage or None
        The images in one sheet; None for histograms.
    units_ : array of int
        The plotted units, row by row; empty for histograms.
    histograms_ : list of matplotlib PolyCollection
        The histograms; empty for images.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.displays import WeightsDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> model = BackpropClassifier((16,), max_iter=10, n_iter_no_change=np.inf, random_state=0)
    >>> display = WeightsDisplay.from_estimator(model.fit(X / 16, y), image_shape=(8, 8))
    >>> len(display.units_)
    16
    """

    ax_: Any
    figure_: Any
    image_: Any
    units_: Array
    histograms_: list[Any]

    def __init__(
        self, *, weights: Sequence[Array], image_shape: tuple[int, ...] | None = None
    ) -> None:
        self.weights = weights
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        image_shape: tuple[int, ...] | None = None,
        member: int = 0,
        max_units: int = 64,
        ax: Any = None,
        image_kwargs: Any = None,
        fill_kwargs: Any = None,
    ) -> Self:
        """Plot the weights of a fitted network.

        Parameters
        ----------
        estimator : estimator
            A fitted network or tabular estimator of this package, or a pipeline, search or other
            meta-estimator around one.
        image_shape : tuple of int or None, default=None
            The shape of the input, or of the kernels of a first `Conv2D`, as an image:
            (height, width), or (height, width, 3) in color. None for histograms.
        member : int, default=0
            The index of the network in an ensemble. For tabular estimators the members of all
            `networks_` are counted.
        max_units : int, default=64
            Maximum number of units to plot: those with the largest weights.
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of the images.
        fill_kwargs : dict, default=None
            Keywords for matplotlib's ``fill_between`` of the histograms.

        Returns
        -------
        display : WeightsDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If the estimator contains no network of this package.
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If there is no such member, or if `image_shape` does not match the number of inputs.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        members: list[list[Array]] = []
        for network in fitted_networks(cls.__name__, estimator):
            members += _weights_of_members(network)
        if not (isinstance(member, Integral) and 0 <= member < len(members)):
            raise ValueError(f"member must be an int from 0 to {len(members) - 1}, got {member!r}.")
        display = cls(weights=members[int(member)], image_shape=image_shape)
        return display.plot(
            ax, max_units=max_units, image_kwargs=image_kwargs, fill_kwargs=fill_kwargs
        )

    def plot(
        self,
        ax: Any = None,
        *,
        max_units: int = 64,
        image_kwargs: Any = None,
        fill_kwargs: Any = None,
    ) -> Self:
        """Plot the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        max_units : int, default=64
            Maximum number of units to plot: those with the largest weights.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of the images.
        fill_kwargs : dict, default=None
            Keywords for matplotlib's ``fill_between`` of the histograms.

        Returns
        -------
        display : WeightsDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ValueError
            If `image_shape` is not valid, or `max_units` is not positive.
        ImportError
            If matplotlib is not installed.
        """
        if not isinstance(max_units, Integral) or max_units < 1:
            raise ValueError(f"max_units must be an int of at least 1, got {max_units!r}.")
        shape = self.image_shape
        if shape is not None:
            shape = _validate_image_shape(shape, len(self.weights[0]))
        self.ax_ = get_axes(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.image_, self.units_, self.histograms_ = None, np.array([], dtype=int), []
        if shape is None:
            self._plot_histograms(fill_kwargs)
        else:
            self._plot_images(shape, int(max_units), image_kwargs)
        return self

    def _plot_images(self, shape: tuple[int, ...], max_units: int, image_kwargs: Any) -> None:
        """Plot the images of the units in a sheet of about square shape."""
        from matplotlib.image import AxesImage

        first = np.asarray(self.weights[0])
        n_units = first.shape[1]
        largest = np.argsort(-np.abs(first).max(axis=0), kind="stable")[:max_units]
        self.units_ = np.sort(largest)
        shown = first[:, self.units_]
        bound = float(np.abs(shown).max()) or 1.0
        images = shown.T.reshape(-1, *shape)
        default: dict[str, Any] = {"interpolation": "nearest"}
        if len(shape) == 3:  # zero is gray, and gaps are transparent
            images = np.append((images / bound + 1) / 2, np.ones((*images.shape[:3], 1)), axis=3)
        else:
            default |= {"cmap": "RdBu_r", "vmin": -bound, "vmax": bound}
        ax = self.ax_
        sheet = _tile(images, fill=0.0 if len(shape) == 3 else np.nan)
        self.image_ = ax.imshow(sheet, **merge_kwargs(default, image_kwargs, AxesImage))
        if len(shape) == 2:
            ax.figure.colorbar(self.image_, ax=ax, label="weight")
        count = f"{len(shown.T)} of {n_units}" if len(shown.T) < n_units else f"{n_units}"
        ax.set(xticks=[], yticks=[], facecolor="lightgray", title=f"first layer: {count} units")

    def _plot_histograms(self, fill_kwargs: Any) -> None:
        """Plot a histogram for each layer, the first layer on top."""
        from matplotlib.collections import PolyCollection

        ax, n_layers = self.ax_, len(self.weights)
        for layer, weights in enumerate(self.weights):
            floor = n_layers - 1 - layer
            # About the best number of bins for normally distributed weights.
            counts, edges = np.histogram(weights, int(np.clip(sqrt(weights.size), 10, 80)))
            heights = floor + _MAX_HEIGHT * np.append(counts, counts[-1]) / counts.max()
            default = {"facecolor": f"C{layer}", "alpha": 0.7, "step": "post"}
            style = merge_kwargs(default, fill_kwargs, PolyCollection)
            self.histograms_.append(ax.fill_between(edges, floor, heights, **style))
        labels = [f"{len(weights)} x {weights.shape[1]}" for weights in self.weights]
        ax.set_yticks([n_layers - 0.55 - layer for layer in range(n_layers)], labels)
        ax.set(xlabel="weight", ylabel="layer: inputs x units")


def _weights_of_members(estimator: Any) -> list[list[Array]]:
    """Return the matrices of weights of each network; kernels have a column for each filter.

    Those of layers that read columns of X, such as embeddings, are not among them.
    """
    info, parameters, _ = get_fitted_network(estimator)
    network = info.network
    return [
        [
            arrays[spec.name][member].reshape(-1, spec.shape[-1])
            for layer, shape, arrays in zip(
                network.layers, network.row_shapes[:-1], parameters.layers, strict=True
            )
            if not layer.reads_columns
            for spec in layer.parameter_specs(shape)
            if spec.regularized
        ]
        for member in range(info.n_estimators)
    ]


def _validate_image_shape(shape: Any, n_inputs: int) -> tuple[int, ...]:
    """Return the image shape as a tuple, checked against the number of inputs."""
    is_shape = isinstance(shape, (tuple, list)) and all(
        isinstance(n, Integral) and int(n) > 0 for n in shape
    )
    if not is_shape or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise ValueError(
            "image_shape must be (height, width), or (height, width, 3) for color images, got "
            f"{shape!r}."
        )
    if prod(shape) != n_inputs:
        raise ValueError(
            f"image_shape must have as many values as the {n_inputs} inputs of each unit of the "
            f"first layer, got {tuple(shape)} with {prod(shape)}."
        )
    return tuple(map(int, shape))


def _tile(images: Array, fill: float) -> Array:
    """Return images in one sheet of about square shape, with gaps of one pixel between them."""
    n, height, width = images.shape[:3]
    n_columns = ceil(sqrt(n * height / width))
    n_rows = ceil(n / n_columns)
    tiles = np.full((n_rows * n_columns, height + 1, width + 1, *images.shape[3:]), fill)
    tiles[:n, :-1, :-1] = images
    tiles = tiles.reshape(n_rows, n_columns, *tiles.shape[1:]).swapaxes(1, 2)
    sheet = tiles.reshape(n_rows * (height + 1), n_columns * (width + 1), *images.shape[3:])
    return sheet[:-1, :-1]
