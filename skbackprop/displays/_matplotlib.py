"""Matplotlib helpers of the displays: axes, logarithmic scales, ticks and font sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.validation import require_extra

# Values that span more than this factor are plotted on a logarithmic scale.
_WIDE_FACTOR = 20

# A logarithmic axis has ticks at 1, 2 and 5 of each decade up to this many decades.
_FEW_DECADES = 1.5

# The smallest legible font size, in points.
_MIN_FONT_SIZE = 5.0

# The rotation of tick labels that do not fit side by side, in degrees.
_ROTATION = 40

# The layout may still shrink the axes to this share of their size.
_MIN_AXES_SHARE = 0.85


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError with the installation command if matplotlib is not installed.

    Parameters
    ----------
    caller : str
        The name of the class that needs matplotlib.
    """
    with require_extra(caller, extra="plot"):
        import matplotlib.figure  # noqa: F401 - only to check that it is installed


def new_figure(caller: str) -> Any:
    """Return a new pyplot figure without axes."""
    check_matplotlib(caller)
    from matplotlib import pyplot

    return pyplot.figure(layout="constrained")


def check_axes(caller: str, ax: Any) -> Any:
    """Return the axes that a user passed, or None, after checking their type."""
    check_matplotlib(caller)
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {ax!r}.")
    return ax


def axes_for(caller: str, ax: Any) -> Any:
    """Return the axes that a user passed, or those of a new figure."""
    ax = check_axes(caller, ax)
    return new_figure(caller).subplots() if ax is None else ax


def merge_kwargs(
    defaults: Mapping[str, Any], user_kwargs: Mapping[str, Any] | None, artist: type
) -> Any:
    """Return the user's keywords for an artist, which may be short ones, and the defaults."""
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(dict(user_kwargs or {}), artist)}


def add_legend(ax: Any) -> None:
    """Add a legend if any artist has a label."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small")


def prefers_log_scale(values: Iterable[float]) -> bool:
    """Return whether values are positive and span more than a factor of 20."""
    finite = np.asarray([*values], dtype=float)
    finite = finite[np.isfinite(finite)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > _WIDE_FACTOR * finite.min())


def set_log_scale_if_wide(ax: Any, lines: Iterable[Any]) -> None:
    """Make the y axis logarithmic, with plain numbers, if the lines span a wide range."""
    values = (y for line in lines for y in line.get_ydata())
    if ax.get_yscale() == "linear" and prefers_log_scale(values):
        ax.set_yscale("log")
    if ax.get_yscale() == "log":
        format_log_ticks(ax.yaxis)


def format_log_ticks(axis: Any) -> None:
    """Write ticks of a logarithmic axis as plain numbers, such as 0.02."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if np.log10(high / low) < _FEW_DECADES else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def set_nonoverlapping_ticks(
    ax: Any, which: str, positions: Sequence[float], labels: Sequence[str]
) -> None:
    """Set ticks whose labels do not overlap: rotated if that helps, else some labels are left out.

    Parameters
    ----------
    ax : Axes
        The axes, with their final scale and limits.
    which : {"x", "y"}
        The axis. Only labels of the x axis are rotated.
    positions : sequence of float
        The positions of the ticks.
    labels : sequence of str
        The labels of the ticks.
    """
    axis, dimension = (ax.xaxis, 0) if which == "x" else (ax.yaxis, 1)
    axis.set_ticks(positions, labels)
    axis.set_ticks([], minor=True)
    font_size = axis.get_ticklabels()[0].get_fontsize()
    points = np.zeros((len(positions), 2))
    points[:, dimension] = positions
    pixels = ax.transData.transform(points)[:, dimension] * _MIN_AXES_SHARE
    extents = np.array([_text_extent(ax, label, font_size) for label in labels])
    order = np.argsort(pixels)

    def fit(sizes: Any) -> bool:
        needed = (sizes[order][1:] + sizes[order][:-1]) / 2
        return bool((np.diff(pixels[order]) >= needed + 2).all())

    sizes = extents[:, dimension]
    if fit(sizes):
        return
    # The distance between rotated lines is smaller than that between ticks, by this sine.
    if which == "x" and fit(extents[:, 1] / np.sin(np.radians(_ROTATION))):
        axis.set_ticks(positions, labels, rotation=_ROTATION, ha="right", rotation_mode="anchor")
        return
    shown = [order[0]]
    for i in order[1:]:
        last = shown[-1]
        if pixels[i] - pixels[last] >= (sizes[i] + sizes[last]) / 2 + font_size / 3:
            shown.append(i)
    axis.set_ticks(positions, [label if i in shown else "" for i, label in enumerate(labels)])


def fit_font_size(ax: Any, text: str, width: float, height: float) -> float:
    """Return the largest usual font size in which text fits, or 0 if it would not be legible.

    Parameters
    ----------
    ax : Axes
        The axes of the text.
    text : str
        The text, of one or several lines.
    width, height : float
        The available space, in pixels.
    """
    if not text:
        return float("inf")
    usual = float(ax.xaxis.label.get_fontsize())
    text_width, text_height = _text_extent(ax, text, usual)
    size = usual * min(1.0, width / text_width, height / text_height)
    return size if size >= _MIN_FONT_SIZE else 0.0


def _text_extent(ax: Any, text: str, font_size: float) -> tuple[float, float]:
    """Return the width and height of a text, in pixels."""
    artist = ax.text(0, 0, text, fontsize=font_size, transform=None)
    extent = artist.get_window_extent()
    artist.remove()
    return max(extent.width, 1.0), max(extent.height, 1.0)
