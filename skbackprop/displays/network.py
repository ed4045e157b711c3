"""Draw the layers of a network as a diagram."""

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

# Horizontal layout of a row: the end of the names, the span of the bars, the start of the details.
_NAMES_END, _BARS, _DETAILS_START = 0.16, (0.18, 0.5), 0.53
_CENTER, _MAX_BAR_WIDTH = sum(_BARS) / 2, _BARS[1] - _BARS[0]

# Height of a bar as a share of its row, and width of the narrowest bar as a share of the widest.
_BAR_HEIGHT, _MIN_BAR_WIDTH = 0.55, 0.2

# Height of a row in a new figure, in inches.
_ROW_HEIGHT = 0.3


@dataclass(frozen=True)
class _DiagramRow:
    """Row of a network diagram.

    Parameters
    ----------
    name : str
        "inputs", "hidden 1", "outputs".
    n_units : int
        The number of outputs of the row.
    details : tuple of str
        Normalization, activation and dropout, in this order.
    n_parameters : int
        The number of parameters.
    """

    name: str
    n_units: int
    details: tuple[str, ...]
    n_parameters: int


class NetworkDisplay:
    """Diagram of a network: inputs, hidden layers with their units, and outputs.

    Use `from_estimator` to create it. Each layer is a bar whose width grows with the logarithm of
    its units, with its normalization, activation and dropout beside it. The output activation
    stands beside the outputs. The number between two bars counts the parameters that connect them.

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
        The texts beside and inside the bars, row by row.

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
        return cls(summary=selected.summary(), dropout=_get_dropout(selected)).plot(ax)

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
        caller = type(self).__name__
        ax = check_axes(caller, ax)
        rows = _make_rows(self.summary, self.dropout)
        if ax is None:
            figure = new_figure(caller)
            width, height = figure.get_size_inches()
            figure.set_size_inches(width, max(height, _ROW_HEIGHT * (len(rows) + 1)))
            ax = figure.subplots()
        self.ax_, self.figure_, self.bars_, self.text_ = ax, ax.figure, [], []
        ax.set(xlim=(0, 1), ylim=(len(rows), 0), xticks=[], yticks=[])
        ax.set_axis_off()
        size = f"{self.summary.n_parameters:,} parameters"
        if self.summary.n_estimators > 1:
            size = f"{self.summary.n_estimators} members of {size}"
        title = ax.set_title(f"{self.summary.estimator}: {size}", fontsize="medium")
        share = ax.get_window_extent().width / title.get_window_extent().width
        title.set_fontsize(title.get_fontsize() * min(1.0, share))
        logs = [log2(row.n_units + 1) for row in rows]
        shares = (_MIN_BAR_WIDTH + (1 - _MIN_BAR_WIDTH) * log / max(logs) for log in logs)
        widths = [_MAX_BAR_WIDTH * share for share in shares]
        self._draw_bars(widths)
        self._write_texts(rows, widths)
        return self

    def _draw_bars(self, widths: Sequence[float]) -> None:
        """Draw a bar for each row, and a trapezoid between two bars."""
        from matplotlib.patches import Polygon, Rectangle

        ax, gap = self.ax_, (1 - _BAR_HEIGHT) / 2
        edge = ax.xaxis.label.get_color()
        for i, width in enumerate(widths):
            color = "C0" if i == 0 else "C2" if i == len(widths) - 1 else "C1"
            left, right = _CENTER - width / 2, _CENTER + width / 2
            bar = Rectangle(
                (left, i + gap), width, _BAR_HEIGHT, fc=color, alpha=0.45, ec=edge, lw=0.8
            )
            self.bars_.append(ax.add_patch(bar))
            if i > 0:
                above = widths[i - 1] / 2
                corners = [(_CENTER - above, i - gap), (_CENTER + above, i - gap)]
                corners += [(right, i + gap), (left, i + gap)]
                ax.add_patch(Polygon(corners, fc=edge, alpha=0.12, lw=0))

    def _write_texts(self, rows: Sequence[_DiagramRow], widths: Sequence[float]) -> None:
        """Write names, units and details of all rows in the largest font that fits."""
        ax = self.ax_
        extent = ax.get_window_extent()
        row_height = extent.height / len(rows)
        best_size, best_details = 0.0, [""] * len(rows)
        for n_lines in range(1, max(len(row.details) for row in rows) + 1):
            details = [_wrap(row.details, n_lines) for row in rows]
            size = min(
                fit_font_size(ax, text, share * extent.width, 0.9 * row_height)
                for row, width, text_of_details in zip(rows, widths, details, strict=True)
                for text, share in (
                    (row.name, _NAMES_END),
                    (f"{row.n_units:,}", width),
                    (text_of_details, 1 - _DETAILS_START),
                )
            )
            if size > best_size:
                best_size, best_details = size, details
        if not best_size:  # no text is better than illegible text
            return
        for i, (row, text_of_details) in enumerate(zip(rows, best_details, strict=True)):
            for x, text, side in (
                (_NAMES_END, row.name, "right"),
                (_CENTER, f"{row.n_units:,}", "center"),
                (_DETAILS_START, text_of_details, "left"),
            ):
                if text:
                    style = {"ha": side, "va": "center", "fontsize": best_size}
                    self.text_.append(ax.text(x, i + 0.5, text, **style))
        counts = [f"{row.n_parameters:,}" for row in rows[1:]]
        space = _MAX_BAR_WIDTH * extent.width, 0.85 * (1 - _BAR_HEIGHT) * row_height
        size = min(fit_font_size(ax, count, *space) for count in counts)
        for i, count in enumerate(counts if size else [], 1):
            style = {"ha": "center", "va": "center", "fontsize": min(size, 8), "alpha": 0.7}
            self.text_.append(ax.text(_CENTER, i, count, **style))


def _get_dropout(network: BaseNeuralNetwork) -> tuple[float, ...]:
    """Return the dropout rates of a fitted network."""
    validated = network._validated_params
    if validated is not None:
        return validated.config.architecture.rates
    settings = network._settings | network._parameters_for(network._widths)
    return network._plan_of(settings).architecture.rates


def _make_rows(summary: Summary, dropout: Sequence[float]) -> list[_DiagramRow]:
    """Return the rows of the diagram. Each one starts with a layer that has weights."""
    inputs, *layers, outcome = summary.layers
    groups: list[list[LayerSummary]] = [[inputs]]
    for layer in layers:
        if "weights" in layer.shapes:
            groups.append([])
        groups[-1].append(layer)
    rows = []
    for i, group in enumerate(groups):
        is_last = i == len(groups) - 1
        details, n_units = [], group[0].n_outputs
        for layer in group[1:]:
            change = f" to {layer.n_outputs:,}" if layer.n_outputs != n_units else ""
            words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", layer.kind).lower()
            details.append(words + change)
            n_units = layer.n_outputs
        if i < len(dropout) and dropout[i] > 0:
            details.append(f"dropout {dropout[i]:g}")
        if is_last:
            counts = Counter(outcome.kind.split(", "))
            details += [f"{n} x {name}" if n > 1 else name for name, n in counts.items()]
        name = "inputs" if i == 0 else "outputs" if is_last else f"hidden {i}"
        # Layers before the first layer with weights, such as embeddings, do not change the inputs.
        n_units = group[0].n_outputs if i == 0 else n_units
        n_parameters = sum(layer.n_parameters for layer in group)
        rows.append(_DiagramRow(name, n_units, tuple(details), n_parameters))
    return rows


def _wrap(details: Sequence[str], n_lines: int) -> str:
    """Return details on at most so many lines, about the same number on each."""
    per_line = max(1, ceil(len(details) / n_lines))
    lines = [details[i : i + per_line] for i in range(0, len(details), per_line)]
    return ",\n".join(", ".join(line) for line in lines)
