"""Plot a network: its layers as a diagram, and its weights as images or histograms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil, log2, prod, sqrt
from typing import Any, Self

import numpy as np

from ..estimators.summary import LayerSummary, Summary, format_shape
from ..utils.arrays import Array
from ._plotting import first_network, get_axes

# Height of a row of the diagram in a new figure, in inches, and of its bar, as a share of the row.
_ROW_HEIGHT, _BAR_HEIGHT = 0.6, 0.55
# Height of the highest bar of a histogram, as a share of its row.
_MAX_HEIGHT = 0.85
# The gray of the gaps between images.
_GRAY = 0.83


class NetworkDisplay:
    """Diagram of a network: inputs, layers with their shapes, and outputs.

    Use `from_estimator` to create it. Each layer with weights is a bar whose width grows with the
    logarithm of its number of values, with the layers that follow it, such as activations and
    pooling, beside it. The output activation stands beside the outputs. The number between two bars
    counts the parameters that connect them.

    Parameters
    ----------
    summary : Summary
        The result of the network's `summary` method.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bars_ : list of matplotlib Rectangle
        A bar for each layer, from the inputs to the outputs.
    text_ : list of matplotlib Text
        The texts beside, inside and between the bars, row by row.

    See Also
    --------
    BackpropClassifier.summary : The same as a table.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.displays import NetworkDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((16, 8), max_iter=5, n_iter_no_change=np.inf).fit(X, y)
    >>> display = NetworkDisplay.from_estimator(model)
    >>> [text.get_text() for text in display.text_ if "hidden" in text.get_text()]
    ['hidden 1', 'hidden 2']
    """

    def __init__(self, *, summary: Summary) -> None:
        self.summary = summary

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Draw the architecture of a fitted network.

        Parameters
        ----------
        estimator : estimator
            A fitted network or tabular estimator of this package, or a pipeline, search or other
            meta-estimator around one. A tabular estimator shows the first of its `networks_`; pass
            another one by itself.
        ax : matplotlib Axes, default=None
            Axes to draw on; None for a new figure whose height fits the layers.

        Returns
        -------
        display : NetworkDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator contains no network of this package.
        NotFittedError
            If the estimator is not fitted, so that its inputs and outputs are not known.
        ImportError
            If matplotlib is not installed.
        """
        return cls(summary=first_network(cls.__name__, estimator).summary()).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None for a new figure whose height fits the layers.

        Returns
        -------
        display : NetworkDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ImportError
            If matplotlib is not installed.
        """
        rows = _group_layers(self.summary)
        self.ax_ = ax = get_axes(self, ax, figsize=(6.4, _ROW_HEIGHT * (len(rows) + 1)))
        from matplotlib.patches import Polygon, Rectangle

        self.figure_, self.bars_, self.text_ = ax.figure, list[Any](), list[Any]()
        n_members, n_parameters = self.summary.n_estimators, self.summary.n_parameters
        members = f"{n_members} members of " if n_members > 1 else ""
        ax.set_title(f"{self.summary.estimator}: {members}{n_parameters:,} parameters", wrap=True)
        # Half a bar is at most one unit wide. Names are to the left, details to the right.
        ax.set(xlim=(-2, 4), ylim=(len(rows), 0))
        ax.set_axis_off()
        n_values = [prod(layers[0].output_shape) for _, layers in rows]
        widths = [0.2 + 0.8 * log2(n + 1) / log2(max(n_values) + 1) for n in n_values]
        gap = (1 - _BAR_HEIGHT) / 2
        for i, ((name, layers), width) in enumerate(zip(rows, widths, strict=True)):
            if i > 0:
                above, top = widths[i - 1], i - gap
                corners = [(-above, top), (above, top), (width, i + gap), (-width, i + gap)]
                ax.add_patch(Polygon(corners, color="gray", alpha=0.2, lw=0))
                n_parameters = sum(layer.n_parameters for layer in layers)
                self._write(0, i, f"{n_parameters:,}", size="x-small")
            color = {"inputs": "C0", "outputs": "C2"}.get(name, "C1")
            bar = Rectangle((-width, i + gap), 2 * width, _BAR_HEIGHT, color=color, alpha=0.5)
            self.bars_.append(ax.add_patch(bar))
            self._write(-1.1, i + 0.5, name, ha="right")
            self._write(0, i + 0.5, format_shape(layers[0].output_shape))
            self._write(1.1, i + 0.5, _describe_layers(layers), ha="left", size="small", wrap=True)
        return self

    def _write(self, x: float, y: float, text: str, ha: str = "center", **style: Any) -> None:
        self.text_.append(self.ax_.text(x, y, text, ha=ha, va="center", **style))


def _group_layers(summary: Summary) -> list[tuple[str, list[LayerSummary]]]:
    """Return the name and the layers of each row. A layer with weights begins a new row.

    Layers of `hidden_layer_sizes` are numbered.
    """
    rows, n_hidden = [("inputs", list[LayerSummary]())], 0
    for layer in summary.layers:
        if any(len(shape) > 1 for shape in layer.shapes.values()):
            n_hidden += "weights" in layer.shapes
            rows.append((f"hidden {n_hidden}" if "weights" in layer.shapes else layer.kind, []))
        rows[-1][1].append(layer)
    return [*rows[:-1], ("outputs", rows[-1][1])]


def _describe_layers(layers: list[LayerSummary]) -> str:
    """Return the kinds of the layers after the first, with the shapes that they change."""
    kinds = [
        layer.kind
        if layer.output_shape == last_layer.output_shape
        else f"{layer.kind} to {format_shape(layer.output_shape)}"
        for last_layer, layer in pairwise(layers)
    ]
    return ", ".join(kinds)


class WeightsDisplay:
    """Plot of a network's weights: images of the first layer, or histograms of all layers.

    Use `from_estimator` to create it. With the option `image_shape`, the weights of each unit of
    the first layer, or the filters of a first `Conv2D`, are images: red where a pixel excites the
    unit, blue where it inhibits the unit, on the same scale for all units. Otherwise each layer has
    a histogram with a height of its own. The first layer is on top.

    Parameters
    ----------
    weights : list of arrays of shape (fan_in, fan_out)
        The weights of each layer.

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

    def __init__(self, *, weights: Sequence[Array]) -> None:
        self.weights = weights

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **options: Any) -> Self:
        """Plot the weights of a fitted network.

        Parameters
        ----------
        estimator : estimator
            A fitted network or tabular estimator of this package, or a pipeline, search or other
            meta-estimator around one. The first network of an ensemble is plotted; for another one,
            pass it from `estimators_` or `networks_`.
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        **options : object
            The options `image_shape` and `max_units` of `plot`.

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
            If `image_shape` does not match the number of inputs.
        ImportError
            If matplotlib is not installed.
        """
        fitted = first_network(cls.__name__, estimator)
        network, parameters = fitted._model.network, fitted._model.parameters
        layers, shapes = network.layers, network.row_shapes[:-1]
        # Those of layers that read columns of X, such as embeddings, are left out. Kernels have a
        # column for each filter.
        weights = [
            arrays[spec.name][0].reshape(-1, spec.shape[-1])
            for layer, shape, arrays in zip(layers, shapes, parameters.layers, strict=True)
            if not layer.reads_columns
            for spec in layer.parameter_specs(shape)
            if spec.regularized
        ]
        return cls(weights=weights).plot(ax, **options)

    def plot(
        self, ax: Any = None, *, image_shape: tuple[int, ...] | None = None, max_units: int = 64
    ) -> Self:
        """Plot the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        image_shape : tuple of int or None, default=None
            The shape of the input, or of the kernels of a first `Conv2D`, as an image:
            (height, width), or (height, width, 3) in color. None for histograms.
        max_units : int, default=64
            Maximum number of units to plot: those with the largest weights.

        Returns
        -------
        display : WeightsDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ValueError
            If `image_shape` is not valid.
        ImportError
            If matplotlib is not installed.
        """
        shape, n_inputs = image_shape, len(self.weights[0])
        if shape is not None and (np.size(shape) not in (2, 3) or prod(shape) != n_inputs):
            raise ValueError(
                "image_shape must be (height, width), or (height, width, 3) for color images, with "
                f"as many values as the {n_inputs} inputs of each unit, got {shape!r}."
            )
        self.ax_ = ax = get_axes(self, ax)
        self.figure_, self.histograms_ = ax.figure, list[Any]()
        self.image_: Any = None
        self.units_: Array = np.array([], dtype=int)
        if shape is None:
            self._plot_histograms()
            return self
        first = np.asarray(self.weights[0])
        self.units_ = np.sort(np.argsort(-np.abs(first).max(axis=0), kind="stable")[:max_units])
        images = first[:, self.units_].T.reshape(-1, *shape)
        bound = float(np.abs(images).max()) or 1.0
        if len(shape) == 3:
            self.image_ = ax.imshow(_tile((images / bound + 1) / 2, _GRAY))
        else:
            self.image_ = ax.imshow(_tile(images, np.nan), "RdBu_r", vmin=-bound, vmax=bound)
            ax.figure.colorbar(self.image_, ax=ax, label="weight")
        title = f"first layer: {len(self.units_)} of {first.shape[1]} units"
        ax.set(xticks=[], yticks=[], facecolor=str(_GRAY), title=title)
        return self

    def _plot_histograms(self) -> None:
        """Plot a histogram for each layer, the first layer on top."""
        ax, n_layers = self.ax_, len(self.weights)
        for layer, weights in enumerate(self.weights):
            floor = n_layers - 1 - layer
            # About the best number of bins for normally distributed weights.
            counts, edges = np.histogram(weights, int(np.clip(sqrt(weights.size), 10, 80)))
            heights = floor + _MAX_HEIGHT * np.append(counts, counts[-1]) / counts.max()
            style: dict[str, Any] = {"facecolor": f"C{layer}", "alpha": 0.7, "step": "post"}
            self.histograms_.append(ax.fill_between(edges, floor, heights, **style))
        labels = [f"{len(weights)} x {weights.shape[1]}" for weights in self.weights]
        ax.set_yticks([n_layers - 0.55 - layer for layer in range(n_layers)], labels)
        ax.set(xlabel="weight", ylabel="layer: inputs x units")


def _tile(images: Array, fill: float) -> Array:
    """Return images in one sheet of about square shape, with gaps of one pixel between them."""
    n, height, width = images.shape[:3]
    n_columns = ceil(sqrt(n * height / width))
    n_rows = ceil(n / n_columns)
    sheet = np.full((n_rows * (height + 1), n_columns * (width + 1), *images.shape[3:]), fill)
    for i, image in enumerate(images):
        top, left = i // n_columns * (height + 1), i % n_columns * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet[:-1, :-1]
