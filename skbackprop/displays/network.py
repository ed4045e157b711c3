"""Draw the layers of a network as a diagram."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import log2, prod
from numbers import Integral
from typing import Any, Self

from ..estimators._fitted_attributes import get_dropout_rates
from ..estimators.summary import LayerSummary, Summary, format_shape
from ._plotting import check_matplotlib, fitted_networks, get_axes

# Height of a row of the diagram in a new figure, in inches, and of its bar, as a share of the row.
_ROW_HEIGHT, _BAR_HEIGHT = 0.6, 0.55


# The array that the hidden layers of `hidden_layer_sizes` and the output layer have.
_HIDDEN = "weights"


class NetworkDisplay:
    """Diagram of a network: inputs, layers with their shapes, and outputs.

    Use `from_estimator` to create it. Each layer with weights is a bar whose width grows with the
    logarithm of its number of values, with the layers that follow it, such as activations, pooling
    and dropout, beside it. The output activation stands beside the outputs. The number between two
    bars counts the parameters that connect them.

    Parameters
    ----------
    summary : Summary
        The result of the network's `summary` method.
    dropout : sequence of float, default=()
        The dropout rates of the inputs and of each hidden layer; empty for none.

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

    def __init__(self, *, summary: Summary, dropout: Sequence[float] = ()) -> None:
        self.summary = summary
        self.dropout = dropout

    @classmethod
    def from_estimator(cls, estimator: Any, *, network: int = 0, ax: Any = None) -> Self:
        """Draw the architecture of a fitted network.

        Parameters
        ----------
        estimator : estimator
            A fitted network or tabular estimator of this package, or a pipeline, search or other
            meta-estimator around one.
        network : int, default=0
            The index in the `networks_` of a tabular estimator.
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
        ValueError
            If there is no such network.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        networks = fitted_networks(cls.__name__, estimator)
        if not (isinstance(network, Integral) and 0 <= network < len(networks)):
            raise ValueError(
                f"network must be an int from 0 to {len(networks) - 1}, got {network!r}."
            )
        selected = networks[int(network)]
        return cls(summary=selected.summary(), dropout=get_dropout_rates(selected)).plot(ax)

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
        groups = _group_layers(self.summary)
        height = _ROW_HEIGHT * (len(groups) + 1)
        self.ax_ = ax = get_axes(type(self).__name__, ax, figsize=(6.4, height))
        from matplotlib.patches import Polygon, Rectangle

        self.figure_, self.bars_, self.text_ = ax.figure, [], []
        size = f"{self.summary.n_parameters:,} parameters"
        if self.summary.n_estimators > 1:
            size = f"{self.summary.n_estimators} members of {size}"
        ax.set_title(f"{self.summary.estimator}: {size}", wrap=True)
        # Half a bar is at most one unit wide. Names are to the left, details to the right.
        ax.set(xlim=(-2, 4), ylim=(len(groups), 0))
        ax.set_axis_off()
        first = [group[0] for group in groups]
        n_values = [prod(layer.output_shape) for layer in first]
        widths = [0.2 + 0.8 * log2(n + 1) / log2(max(n_values) + 1) for n in n_values]
        gap = (1 - _BAR_HEIGHT) / 2
        n_dense = 0
        for i, (group, width) in enumerate(zip(groups, widths, strict=True)):
            is_last = i == len(groups) - 1
            is_dense = _HIDDEN in group[0].shapes
            n_dense += is_dense
            if i == 0:
                name, color = "inputs", "C0"
            elif is_last:
                name, color = "outputs", "C2"
            elif is_dense:
                name, color = f"hidden {n_dense}", "C1"
            else:
                name, color = _to_words(group[0].kind).replace(" ", "\n"), "C4"
            if i > 0:
                above, top = widths[i - 1], i - gap
                corners = [(-above, top), (above, top), (width, i + gap), (-width, i + gap)]
                ax.add_patch(Polygon(corners, color="gray", alpha=0.2, lw=0))
                n_parameters = sum(layer.n_parameters for layer in group)
                self._write(0, i, f"{n_parameters:,}", "center", fontsize="x-small")
            bar = Rectangle((-width, i + gap), 2 * width, _BAR_HEIGHT, color=color, alpha=0.5)
            self.bars_.append(ax.add_patch(bar))
            details = _describe_layers(group)
            is_before_dense = not is_last and _HIDDEN in first[i + 1].shapes
            if is_before_dense and n_dense < len(self.dropout) and self.dropout[n_dense] > 0:
                details.append(f"dropout {self.dropout[n_dense]:g}")
            if is_last:
                counts = Counter(self.summary.layers[-1].kind.split(", "))
                details += [f"{n} x {kind}" if n > 1 else kind for kind, n in counts.items()]
            self._write(-1.1, i + 0.5, name, "right")
            self._write(0, i + 0.5, format_shape(first[i].output_shape), "center")
            self._write(1.1, i + 0.5, ", ".join(details), "left", fontsize="small", wrap=True)
        return self

    def _write(self, x: float, y: float, text: str, align: str, **style: Any) -> None:
        self.text_.append(self.ax_.text(x, y, text, ha=align, va="center", **style))


def _group_layers(summary: Summary) -> list[list[LayerSummary]]:
    """Return the layers of each row of the diagram. A layer with weights begins a new row."""
    groups: list[list[LayerSummary]] = [[]]
    for layer in summary.layers[:-1]:
        if any(len(shape) > 1 for shape in layer.shapes.values()):
            groups.append([])
        groups[-1].append(layer)
    return groups


def _describe_layers(group: Sequence[LayerSummary]) -> list[str]:
    """Return the kinds of the layers after the first, such as "batch normalization"."""
    details = []
    for before, layer in pairwise(group):
        is_same = layer.output_shape == before.output_shape
        change = "" if is_same else f" to {format_shape(layer.output_shape)}"
        details.append(_to_words(layer.kind) + change)
    return details


def _to_words(kind: str) -> str:
    """Return the name of a class in words, but such as "Conv2D" and "GRU" as they are."""
    if kind.isupper() or re.search(r"\d", kind):
        return kind
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()
