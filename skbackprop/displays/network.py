"""The architecture of a network as a diagram: its layers from the input to the output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2
from numbers import Integral
from typing import Any, Self

from ..estimators.base import BaseNeuralNetwork
from ..estimators.summary import LayerSummary, Summary
from ._matplotlib import check_axes, check_matplotlib, fit_font_size, new_figure
from ._unwrap import fitted_networks

# Where things are across the axes: the names end here, the bars lie between, and what the layers
# do begins there.
_NAMES, _BARS, _DETAILS = 0.16, (0.18, 0.5), 0.53

# The height of a bar and the width of the narrowest one, as shares of a row and of the widest.
_BAR, _NARROWEST = 0.55, 0.2

# Inches that a row takes in a figure of our own.
_ROW = 0.3


@dataclass(frozen=True)
class _Row:
    """A row of the diagram.

    Parameters
    ----------
    name : str
        "inputs", "hidden 1", "outputs".
    n_units : int
        How many numbers come out of it.
    details : tuple of str
        What it does, in that order.
    n_parameters : int
        The learned numbers, of what leads to it and is in it.
    """

    name: str
    n_units: int
    details: tuple[str, ...]
    n_parameters: int


class NetworkDisplay:
    """A diagram of a network: inputs, hidden layers with their units, and outputs.

    It is made by `from_estimator`. Each layer is a bar, the wider the more units it has (by their
    logarithm), with its normalisation, activation and dropout beside it, and the function that
    turns scores into predictions beside the outputs. Between two bars stands the number of
    parameters of the layer that the lower one is.

    Parameters
    ----------
    summary : Summary
        What the network's `summary` returns.
    dropout : sequence of float, default=()
        The rates of dropout of the inputs and of each hidden layer; empty for none.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bars_ : list of matplotlib Rectangle
        A bar for each layer, from the inputs to the outputs.
    text_ : list of matplotlib Text
        What is written beside and in them, row by row.

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
            A fitted network of this package, or a pipeline, a search or the like of one.
        network : int, default=0
            Which of the `networks_` of a tabular estimator.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure, which is as high as the layers need.

        Returns
        -------
        display : NetworkDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If it has no network of this package.
        NotFittedError
            If it is not fitted: before that, the number of inputs and outputs is not known.
        ValueError
            If there is no such network.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        held = fitted_networks(cls.__name__, estimator)
        if not (isinstance(network, Integral) and 0 <= network < len(held)):
            raise ValueError(
                f"network must be an int from 0 to {len(held) - 1}, the place of one of the "
                f"estimator's networks, got {network!r}."
            )
        one = held[int(network)]
        return cls(summary=one.summary(), dropout=_dropout_of(one)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure, which is as high as the layers need.

        Returns
        -------
        display : NetworkDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` are no axes.
        ImportError
            If matplotlib is not installed.
        """
        owner = type(self).__name__
        ax = check_axes(owner, ax)
        rows = _rows_of(self.summary, self.dropout)
        if ax is None:
            figure = new_figure(owner)
            width, height = figure.get_size_inches()
            figure.set_size_inches(width, max(height, _ROW * (len(rows) + 1)))
            ax = figure.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        ax.set(xlim=(0, 1), ylim=(len(rows), 0), xticks=[], yticks=[])
        ax.set_axis_off()
        title = ax.set_title(self._title, fontsize="medium")
        extent, room = title.get_window_extent(), ax.get_window_extent()
        title.set_fontsize(title.get_fontsize() * min(1.0, room.width / extent.width))
        widths = _widths([row.n_units for row in rows])
        self._draw_bars(rows, widths)
        self._write(rows, widths)
        return self

    @property
    def _title(self) -> str:
        summary = self.summary
        size = f"{summary.n_parameters:,} parameters"
        if summary.n_estimators > 1:
            size = f"{summary.n_estimators} members of {size}"
        return f"{summary.estimator}: {size}"

    def _draw_bars(self, rows: Sequence[_Row], widths: Sequence[float]) -> None:
        """Draw a bar for each row, and what leads from one to the next."""
        from matplotlib.patches import Polygon, Rectangle

        ax, middle, gap = self.ax_, sum(_BARS) / 2, (1 - _BAR) / 2
        edge = ax.xaxis.label.get_color()
        self.bars_ = []
        for i, width in enumerate(widths):
            color = "C0" if i == 0 else "C2" if i == len(rows) - 1 else "C1"
            bar = Rectangle(
                (middle - width / 2, i + gap), width, _BAR, fc=color, alpha=0.45, ec=edge, lw=0.8
            )
            self.bars_.append(ax.add_patch(bar))
            if i > 0:
                above, top = widths[i - 1] / 2, i - gap
                corners = [
                    (middle - above, top),
                    (middle + above, top),
                    (middle + width / 2, i + gap),
                    (middle - width / 2, i + gap),
                ]
                ax.add_patch(Polygon(corners, fc=edge, alpha=0.12, lw=0))

    def _write(self, rows: Sequence[_Row], widths: Sequence[float]) -> None:
        """Write names, units and details into each row, in one font, as large as there is room."""
        ax, middle = self.ax_, sum(_BARS) / 2
        (left, bottom), (right, top) = ax.transAxes.transform([(0, 0), (1, 1)])
        width, height = right - left, (top - bottom) / len(rows)

        def font_for(details: Sequence[str]) -> float:
            """Return the largest font in which all texts fit, 0 if none does."""
            fonts = [
                fit_font_size(ax, text, room * width, 0.9 * height)
                for row, bar, said in zip(rows, widths, details, strict=True)
                for text, room in (
                    (row.name, _NAMES),
                    (f"{row.n_units:,}", bar),
                    (said, 1 - _DETAILS),
                )
            ]
            return min(fonts)

        most = max(len(row.details) for row in rows)
        layouts = [[_on_lines(row.details, n) for row in rows] for n in range(1, most + 1)]
        details = max(layouts, key=font_for)
        font = font_for(details)
        self.text_ = []
        if not font:  # bars alone are better than what nobody can read
            return
        for i, (row, text) in enumerate(zip(rows, details, strict=True)):
            y = i + 0.5
            for x, said, side in (
                (_NAMES, row.name, "right"),
                (middle, f"{row.n_units:,}", "center"),
                (_DETAILS, text, "left"),
            ):
                if said:
                    self.text_.append(ax.text(x, y, said, ha=side, va="center", fontsize=font))
        self._write_parameters(rows, height, width)

    def _write_parameters(self, rows: Sequence[_Row], height: float, width: float) -> None:
        """Write the number of parameters between two bars, if there is room."""
        texts = [f"{row.n_parameters:,}" for row in rows[1:]]
        room = (_BARS[1] - _BARS[0]) * width, 0.85 * (1 - _BAR) * height
        font = min(fit_font_size(self.ax_, text, *room) for text in texts)
        if not font:
            return
        for i, text in enumerate(texts, 1):
            written = self.ax_.text(
                sum(_BARS) / 2, i, text, ha="center", va="center", fontsize=min(font, 8), alpha=0.7
            )
            self.text_.append(written)


def _widths(n_units: Sequence[int]) -> list[float]:
    """Return the width of each bar: by the logarithm of its units, the widest over all the room."""
    room, most = _BARS[1] - _BARS[0], log2(max(n_units) + 1)
    return [room * (_NARROWEST + (1 - _NARROWEST) * log2(n + 1) / most) for n in n_units]


def _dropout_of(network: BaseNeuralNetwork) -> tuple[float, ...]:
    """Return the rates of dropout that a network was trained with, or would be."""
    planned = network._validated_params
    if planned is not None:
        return planned.config.architecture.rates
    settings = network._settings | network._parameters_for(network._widths)
    return network._plan_of(settings).architecture.rates


def _rows_of(summary: Summary, dropout: Sequence[float]) -> list[_Row]:
    """Return the rows: each begins with a layer of weights; what follows it belongs to it."""
    inputs, *layers, outcome = summary.layers
    groups: list[list[LayerSummary]] = [[inputs]]
    for layer in layers:
        if "weights" in layer.shapes:
            groups.append([])
        groups[-1].append(layer)
    rows = []
    for i, group in enumerate(groups):
        first, *others = group
        is_last = i == len(groups) - 1
        details = _details_of(first, others)
        if i < len(dropout) and dropout[i] > 0:
            details.append(f"dropout {dropout[i]:g}")
        if is_last:
            details.append(_counted(outcome.kind))
        name = "inputs" if i == 0 else "outputs" if is_last else f"hidden {i}"
        # What stands before the first layer of weights goes over the inputs.
        n_units = first.n_outputs if i == 0 else group[-1].n_outputs
        rows.append(_Row(name, n_units, tuple(details), sum(layer.n_parameters for layer in group)))
    return rows


def _on_lines(details: Sequence[str], n_lines: int) -> str:
    """Return details on so many lines at most, about the same number on each."""
    at_once = max(1, ceil(len(details) / n_lines))
    lines = [details[i : i + at_once] for i in range(0, len(details), at_once)]
    return ",\n".join(", ".join(line) for line in lines)


def _details_of(first: LayerSummary, others: Sequence[LayerSummary]) -> list[str]:
    """Return what is said of the layers behind the first of a group."""
    details, n_units = [], first.n_outputs
    for layer in others:
        changes = f" to {layer.n_outputs:,}" if layer.n_outputs != n_units else ""
        details.append(_in_words(layer.kind) + changes)
        n_units = layer.n_outputs
    return details


def _in_words(kind: str) -> str:
    """Return the name of a class as words: "batch normalisation" for BatchNormalization."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()
    return words.replace("normalization", "normalisation")


def _counted(names: str) -> str:
    """Return names that may be the same, each once."""
    counts = Counter(names.split(", "))
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())
