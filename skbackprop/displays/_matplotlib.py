"""What all displays share: matplotlib, imported late, and axes that stay legible at any size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..utils.optional_dependencies import require_extra

# Values that span more than this factor are drawn on a logarithmic scale.
_WIDE = 20

# Up to so many decades, a logarithmic axis has ticks at 1, 2 and 5 of each; beyond, at 1 alone.
_FEW_DECADES = 1.5

# The smallest font that is legible, in points.
_SMALLEST_FONT = 5.0

# Degrees at which labels of a horizontal axis are written, if there is no room for them otherwise.
_SLANT = 40

# What a layout may leave of the axes' size at the time that something is drawn.
_SHARE_LEFT = 0.85


def check_matplotlib(owner: str) -> None:
    """Raise an ImportError that says what to install, if matplotlib is not there.

    Parameters
    ----------
    owner : str
        The name of what needs it.
    """
    with require_extra(owner, extra="plot"):
        import matplotlib.figure  # noqa: F401 - to see whether it is there


def new_figure(owner: str, **options: Any) -> Any:
    """Return a figure of pyplot's, so that it is shown, without axes."""
    check_matplotlib(owner)
    from matplotlib import pyplot

    return pyplot.figure(layout="constrained", **options)


def given_axes(owner: str, ax: Any) -> Any:
    """Return the axes that a user has given, checked; None where there are none."""
    check_matplotlib(owner)
    from matplotlib.axes import Axes

    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {ax!r}.")
    return ax


def axes_for(owner: str, ax: Any) -> Any:
    """Return the axes that a user has given, or those of a new figure."""
    ax = given_axes(owner, ax)
    return new_figure(owner).subplots() if ax is None else ax


def merge_kwargs(defaults: Mapping[str, Any], given: Mapping[str, Any] | None, kind: type) -> Any:
    """Return keywords for matplotlib: those of the user, and the defaults for the others.

    Parameters
    ----------
    defaults : dict
        What holds unless the user says otherwise, by full names.
    given : dict or None
        The user's keywords, which may be short: "lw" for "linewidth".
    kind : type
        The artist that they are for.
    """
    from matplotlib.cbook import normalize_kwargs

    return {**defaults, **normalize_kwargs(dict(given or {}), kind)}


def add_legend(ax: Any) -> None:
    """Add a legend, if there is anything with a name."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(fontsize="small")


# ------------------------------------------------------------------------------ scales


def prefers_log_scale(numbers: Iterable[float]) -> bool:
    """Return whether numbers are better seen on a logarithmic scale: positive, and far apart."""
    finite = np.asarray([*numbers], dtype=float)
    finite = finite[np.isfinite(finite)]
    return bool(len(finite) and finite.min() > 0 and finite.max() > _WIDE * finite.min())


def scale_values(axis: Any, lines: Iterable[Any]) -> None:
    """Make a y axis logarithmic, if the lines on it are better seen so.

    Parameters
    ----------
    axis : Axes
        The axes.
    lines : iterable of Line2D
        The lines.
    """
    if axis.get_yscale() == "linear" and prefers_log_scale(
        y for line in lines for y in line.get_ydata()
    ):
        axis.set_yscale("log")
    if axis.get_yscale() == "log":
        format_log_ticks(axis.yaxis)


def format_log_ticks(axis: Any) -> None:
    """Give a logarithmic axis ticks that can be read: 0.02 rather than 2 times ten to the -2."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if np.log10(high / low) < _FEW_DECADES else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axis.set_minor_formatter(NullFormatter())


def set_nonoverlapping_ticks(
    ax: Any, along: str, positions: Sequence[float], labels: Sequence[str]
) -> None:
    """Put ticks with labels on an axis, so that no two labels overlap.

    Where there is no room for all, those of a horizontal axis are written at a slant; if that does
    not do either, and on a vertical axis, some in between are left out.

    Parameters
    ----------
    ax : Axes
        The axes, with the scale and the limits that they will have.
    along : {"x", "y"}
        Which axis.
    positions : sequence of float
        Where the ticks are.
    labels : sequence of str
        What is written at them.
    """
    axis = ax.xaxis if along == "x" else ax.yaxis
    axis.set_ticks(positions, labels)
    axis.set_ticks([], minor=True)
    font = axis.get_ticklabels()[0].get_fontsize()
    which = 0 if along == "x" else 1
    points = np.zeros((len(positions), 2))
    points[:, which] = positions
    pixels = ax.transData.transform(points)[:, which] * _SHARE_LEFT
    extents = [_extent(ax, label, font) for label in labels]
    sizes = [extent[which] for extent in extents]
    if along == "x" and _overlap(pixels, sizes):
        # The distance of two slanted lines is the sine of the slant.
        heights = [extent[1] / np.sin(np.radians(_SLANT)) for extent in extents]
        if not _overlap(pixels, heights):
            axis.set_ticks(positions, labels, rotation=_SLANT, ha="right", rotation_mode="anchor")
            return
    # Those that overlap the last one that is kept stay without a label.
    kept: list[int] = []
    for i in np.argsort(pixels).tolist():
        if not kept or pixels[i] - pixels[kept[-1]] >= (sizes[i] + sizes[kept[-1]]) / 2 + font / 3:
            kept.append(i)
    axis.set_ticks(positions, [label if i in kept else "" for i, label in enumerate(labels)])


def _overlap(pixels: Any, sizes: Sequence[float]) -> bool:
    order = np.argsort(pixels)
    needed = (np.asarray(sizes)[order][1:] + np.asarray(sizes)[order][:-1]) / 2
    return bool((np.diff(pixels[order]) < needed + 2).any())


def apply_layout(ax: Any) -> None:
    """Let the layout give axes the size that they have with what is written so far."""
    if hasattr(ax.figure, "draw_without_rendering"):  # a part of a figure waits for the whole
        ax.figure.draw_without_rendering()


# ------------------------------------------------------------------------------- fonts


def fitting_font(ax: Any, text: str, width: float, height: float) -> float:
    """Return the largest font, up to the usual one, in which a text fits; 0 if none is legible.

    Parameters
    ----------
    ax : Axes
        Where it is to be written.
    text : str
        The text, which may have several lines.
    width, height : float
        The room that there is, in pixels.
    """
    if not text:
        return float("inf")
    usual = float(ax.xaxis.label.get_fontsize())
    wide, high = _extent(ax, text, usual)
    font = usual * min(1.0, width / wide, height / high)
    return font if font >= _SMALLEST_FONT else 0.0


def _extent(ax: Any, text: str, font: float) -> tuple[float, float]:
    """Return the width and the height of a text, in pixels."""
    artist = ax.text(0, 0, text, fontsize=font, transform=None)
    extent = artist.get_window_extent()
    artist.remove()
    return max(extent.width, 1.0), max(extent.height, 1.0)
