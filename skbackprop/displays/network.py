"""Draw the layers of a network as a diagram."""

from __future__ import annotations

import re
from itertools import pairwise
from math import log2, prod
from typing import Any, Self

from ..estimators.summary import LayerSummary, Summary, format_shape
from ._plotting import first_network, get_axes

# Height of a row of the diagram in a new figure, in inches, and of its bar, as a share of the row.
_ROW_HEIGHT, _BAR_HEIGHT = 0.6, 0.55


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

    ax_: Any
    figure_: Any
    bars_: list[Any]
    text_: list[Any]

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
        height = _ROW_HEIGHT * (len(rows) + 1)
        self.ax_ = ax = get_axes(type(self).__name__, ax, figsize=(6.4, height))
        from matplotlib.patches import Polygon, Rectangle

        self.figure_, self.bars_, self.text_ = ax.figure, [], []
        n_members, n_parameters = self.summary.n_estimators, self.summary.n_parameters
        members = f"{n_members} members of " if n_members > 1 else ""
        ax.set_title(f"{self.summary.estimator}: {members}{n_parameters:,} parameters", wrap=True)
        # Half a bar is at most one unit wide. Names are to the left, details to the right.
        ax.set(xlim=(-2, 4), ylim=(len(rows), 0))
        ax.set_axis_off()
        n_values = [prod(row[0].output_shape) for row in rows]
        widths = [0.2 + 0.8 * log2(n + 1) / log2(max(n_values) + 1) for n in n_values]
        gap = (1 - _BAR_HEIGHT) / 2
        for i, (row, (name, color), width) in enumerate(
            zip(rows, _name_rows(rows), widths, strict=True)
        ):
            if i > 0:
                above, top = widths[i - 1], i - gap
                corners = [(-above, top), (above, top), (width, i + gap), (-width, i + gap)]
                ax.add_patch(Polygon(corners, color="gray", alpha=0.2, lw=0))
                size = f"{sum(layer.n_parameters for layer in row):,}"
                self._write(0, i, size, "center", fontsize="x-small")
            bar = Rectangle((-width, i + gap), 2 * width, _BAR_HEIGHT, color=color, alpha=0.5)
            self.bars_.append(ax.add_patch(bar))
            details = _describe_layers(row)
            if i == len(rows) - 1:
                details.append(self.summary.layers[-1].kind)
            self._write(-1.1, i + 0.5, name, "right")
            self._write(0, i + 0.5, format_shape(row[0].output_shape), "center")
            self._write(1.1, i + 0.5, ", ".join(details), "left", fontsize="small", wrap=True)
        return self

    def _write(self, x: float, y: float, text: str, align: str, **style: Any) -> None:
        self.text_.append(self.ax_.text(x, y, text, ha=align, va="center", **style))


def _group_layers(summary: Summary) -> list[list[LayerSummary]]:
    """Return the layers of each row of the diagram. A layer with weights begins a new row."""
    rows: list[list[LayerSummary]] = [[]]
    for layer in summary.layers[:-1]:
        if any(len(shape) > 1 for shape in layer.shapes.values()):
            rows.append([])
        rows[-1].append(layer)
    return rows


def _name_rows(rows: list[list[LayerSummary]]) -> list[tuple[str, str]]:
    """Return the name and the color of each row. Dense hidden layers are numbered."""
    named, n_hidden = [("inputs", "C0")], 0
    for first, *_ in rows[1:-1]:
        if "weights" in first.shapes:  # of `hidden_layer_sizes`
            n_hidden += 1
            named.append((f"hidden {n_hidden}", "C1"))
        else:
            named.append((_to_words(first.kind).replace(" ", "\n"), "C4"))
    return [*named, ("outputs", "C2")]


def _describe_layers(row: list[LayerSummary]) -> list[str]:
    """Return the kinds of the layers after the first, such as "batch normalization"."""
    details = []
    for before, layer in pairwise(row):
        is_same = layer.output_shape == before.output_shape
        change = "" if is_same else f" to {format_shape(layer.output_shape)}"
        details.append(_to_words(layer.kind) + change)
    return details


def _to_words(kind: str) -> str:
    """Return the name of a class in words, but such as "Conv2D" and "GRU" as they are."""
    if kind.isupper() or re.search(r"\d", kind):
        return kind
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()
