"""The pictures of a search: curves, heat maps, points, and the rounds of halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np

from ._matplotlib import (
    add_legend,
    apply_layout,
    fitting_font,
    merge_kwargs,
    prefers_log_scale,
    scale_values,
    set_nonoverlapping_ticks,
)
from ._search_results import (
    CandidateResult,
    ParameterAxis,
    best,
    best_by,
    halving_paths,
    short_name,
)

# How far bars of several curves are apart, as a share of the axis.
_BESIDE = 0.01

# More values than these have no tick each.
_MOST_TICKS = 10

# More names of parameters than these are counted in a title, not named.
_MOST_NAMES = 2

# Lines, an image or points with colours, texts.
Drawn = tuple[list[Any], Any, list[Any]]


@dataclass(frozen=True)
class SearchSummary:
    """What a search has found, and which parameters are drawn.

    Parameters
    ----------
    rows : list of Candidate
        The candidates, of all rounds.
    parameters : list of Parameter
        The one or two that are drawn.
    others : list of Parameter
        Those that were searched beside them.
    score_name : str
        What the score is called.
    n_folds : int
        The number of folds.
    sign : int
        -1 if the lower the better.
    resource : str or None
        What the rounds of a halving search have more of; None for other searches.
    """

    rows: list[CandidateResult]
    parameters: list[ParameterAxis]
    others: list[ParameterAxis]
    score_name: str
    n_folds: int
    sign: int
    resource: str | None

    @cached_property
    def courses(self) -> list[list[CandidateResult]]:
        """The rounds of each candidate."""
        return halving_paths(self.rows, self.resource)

    @property
    def candidates(self) -> list[CandidateResult]:
        """Each candidate in the last round that it has reached."""
        return [course[-1] for course in self.courses]

    @property
    def best(self) -> CandidateResult:
        """The best candidate, of the last round."""
        last = max(row.round for row in self.rows)
        return best((row for row in self.rows if row.round == last), self.sign)

    def best_by_value(self) -> dict[Any, CandidateResult]:
        """Return the best candidate for each value, or pair of places of values, that is drawn."""
        return best_by(
            self.candidates,
            lambda each: tuple(parameter.place(each) for parameter in self.parameters),
            self.sign,
        )

    @property
    def is_full_grid(self) -> bool:
        """Whether at least half of the cells of all pairs of values were tried."""
        across, along = (len(parameter.values) for parameter in self.parameters)
        return 2 * len(self.best_by_value()) >= across * along

    def scale_scores(self, ax: Any, lines: Sequence[Any]) -> None:
        """Draw losses that are far apart on a logarithmic scale; scores are none."""
        if self.sign < 0:
            scale_values(ax, lines)

    @property
    def title(self) -> str:
        """What is to be known of the picture."""
        names = [parameter.label for parameter in self.others]
        said = [] if self.resource is None else ["each in its last round"]
        if names:
            many = len(names) > _MOST_NAMES
            over = f"{len(names)} other parameters" if many else ", ".join(names)
            said.insert(0, f"best over {over}")
        return ", ".join(said)


@dataclass(frozen=True)
class Style:
    """How it is drawn.

    Parameters
    ----------
    spread : {"errorbar", "fill_between"} or None
        What shows the standard deviation of the folds.
    curve_kwargs, image_kwargs : dict or None
        The user's keywords for lines, and for images or points.
    """

    spread: str | None
    curve_kwargs: Any
    image_kwargs: Any


# ------------------------------------------------------------------------------ curves


def draw_curves(ax: Any, found: SearchSummary, style: Style) -> Drawn:
    """Draw the score over the first parameter, with a curve for each value of the second."""
    over, *by = found.parameters
    ax.set_xscale("linear" if over.scale == "places" else over.scale)
    by_value = found.best_by_value()
    n_curves = len(by[0].values) if by else 1
    lines, best_at = [], 0.0
    for i in range(n_curves):
        own = {places[0]: each for places, each in by_value.items() if not by or places[1] == i}
        if not own:
            continue
        label = f"{by[0].label} = {by[0].labels[i]}" if by else "_"
        places = sorted(own)
        x = [over.positions[place] for place in places]
        if style.spread == "errorbar":  # so that bars don't hide each other
            x = _beside(x, over, i - (n_curves - 1) / 2)
        color = _color(i, n_curves)
        each = [own[place] for place in places]
        # A line says nothing between names, nor where each value was tried with other ones of the
        # other parameters.
        is_joined = over.is_number and (not found.others or len(found.candidates) > len(by_value))
        default = {"color": color, "label": label, "linestyle": "-" if is_joined else "none"}
        lines.append(_draw_line(ax, x, each, {**default, "marker": "o", "markersize": 4}, style))
        if found.best in each:
            best_at = x[each.index(found.best)]
    if found.best in by_value.values():  # elsewhere it is one of another round
        _ring(ax, best_at, found.best)
    _margins(ax, over)
    _ticks(ax, "x", over)
    ax.set(xlabel=over.label, ylabel=_score_label(found, style.spread is not None))
    ax.set_title(found.title, fontsize="medium")
    ax.grid(alpha=0.3)
    found.scale_scores(ax, lines)
    add_legend(ax)
    return lines, None, []


def _draw_line(
    ax: Any,
    x: Sequence[float],
    candidates: Sequence[CandidateResult],
    default: dict[str, Any],
    style: Style,
) -> Any:
    """Draw the means of candidates with their spread, and return the line."""
    from matplotlib.lines import Line2D

    mean = np.array([each.mean for each in candidates])
    std = np.array([each.std for each in candidates])
    keywords = merge_kwargs(default, style.curve_kwargs, Line2D)
    (line,) = ax.plot(x, mean, **keywords)
    color = line.get_color()
    if style.spread == "errorbar":
        ax.errorbar(x, mean, std, fmt="none", ecolor=color, elinewidth=1, capsize=2)
    elif style.spread == "fill_between":
        ax.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
    return line


def _beside(x: Sequence[float], over: ParameterAxis, shift: float) -> list[float]:
    """Return positions a bit to the side."""
    low, high = over.positions[0], over.positions[-1]
    if over.scale == "log":
        return [position * (high / low) ** (_BESIDE * shift) for position in x]
    return [position + (high - low) * _BESIDE * shift for position in x]


def _color(i: int, n: int) -> Any:
    """Return the colour of one of several curves: of the style, as long as it has enough."""
    from matplotlib import colormaps, rcParams

    if n <= len(rcParams["axes.prop_cycle"]):
        return f"C{i}"
    return colormaps["viridis"](0.1 + 0.8 * i / (n - 1))


def _ring(ax: Any, x: float, candidate: CandidateResult, y: float | None = None) -> None:
    """Put a ring around the best candidate, at its score unless told otherwise."""
    color = ax.xaxis.label.get_color()
    ax.plot(
        [x],
        [candidate.mean if y is None else y],
        marker="o",
        markersize=10,
        markerfacecolor="none",
        markeredgecolor=color,
        linestyle="none",
        label=f"best: {candidate.mean:.3g}",
    )


# ------------------------------------------------------------------- heat maps, points


def draw_heatmap(ax: Any, found: SearchSummary, style: Style) -> Drawn:
    """Draw a cell for each pair of values, its colour the score; the spread is written in it."""
    from matplotlib.image import AxesImage
    from matplotlib.patches import Rectangle

    across, along = found.parameters
    by_value = found.best_by_value()
    means = np.full((len(along.values), len(across.values)), np.nan)
    for (column, row), candidate in by_value.items():
        means[row, column] = candidate.mean
    default = _colors(found, means)
    default |= {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = ax.imshow(means, **merge_kwargs(default, style.image_kwargs, AxesImage))
    bar = ax.figure.colorbar(image, ax=ax)
    ax.set(xlabel=across.label, ylabel=along.label)
    ax.set_title(found.title, fontsize="medium")
    bar.set_label(_score_label(found, True))
    set_nonoverlapping_ticks(ax, "y", range(len(along.values)), along.labels)
    apply_layout(ax)  # long labels leave less room for the others
    set_nonoverlapping_ticks(ax, "x", range(len(across.values)), across.labels)
    column, row = (parameter.place(found.best) for parameter in found.parameters)
    # Two lines, so that it is seen on light and dark cells.
    for color, width in (("white", 3), ("black", 1)):
        ax.add_patch(
            Rectangle(
                (column - 0.5, row - 0.5), 1, 1, fill=False, color=color, lw=width, clip_on=False
            )
        )
    texts = _write_scores(ax, image, by_value)
    if not any("±" in text.get_text() for text in texts):
        bar.set_label(_score_label(found, False))
    return [], image, texts


def _write_scores(ax: Any, image: Any, by_value: dict[Any, CandidateResult]) -> list[Any]:
    """Write the mean and the spread into each cell, or the mean alone, if there is room."""
    corners = ax.transData.transform([(0, 0), (1, 1)])
    width, height = 0.8 * np.abs(corners[1] - corners[0])
    written_as = _digits_for([each.mean for each in by_value.values()])
    for with_spread in (True, False):
        texts = {
            places: _text_of(each, written_as, with_spread) for places, each in by_value.items()
        }
        font = min(fitting_font(ax, text, width, height) for text in texts.values())
        if font:
            return [
                _write(ax, image, places, text, by_value[places].mean, font)
                for places, text in texts.items()
            ]
    return []


def _digits_for(means: Sequence[float]) -> str:
    """Return a format that gives numbers three digits, and all of them the same decimals."""
    if prefers_log_scale(means):
        return ".3g"
    largest = float(np.nanmax(np.abs(means)))
    return f".{max(0, 2 - int(np.floor(np.log10(largest or 1.0))))}f"


def _text_of(candidate: CandidateResult, written_as: str, with_spread: bool) -> str:
    if np.isnan(candidate.mean):
        return "failed"
    spread = f"\n±{candidate.std:{written_as}}" if with_spread else ""
    return f"{candidate.mean:{written_as}}{spread}"


def _write(
    ax: Any, image: Any, places: tuple[int, int], text: str, mean: float, font: float
) -> Any:
    color = ax.xaxis.label.get_color() if np.isnan(mean) else _readable_on(image, mean)
    return ax.text(*places, text, ha="center", va="center", fontsize=font, color=color)


def draw_points(ax: Any, found: SearchSummary, style: Style) -> Drawn:
    """Draw a point for each pair of values, its colour the score."""
    from matplotlib.collections import PathCollection

    across, along = found.parameters
    by_value = found.best_by_value()
    # The best are drawn last, on top.
    ordered = sorted(
        (item for item in by_value.items() if not np.isnan(item[1].mean)),
        key=lambda item: found.sign * item[1].mean,
    )
    x = [across.positions[places[0]] for places, _ in ordered]
    y = [along.positions[places[1]] for places, _ in ordered]
    means = np.array([each.mean for _, each in ordered])
    default = _colors(found, means) | {"s": 30, "linewidth": 0.5}
    default["edgecolor"] = ax.xaxis.label.get_color()  # the colours may be like the ground
    keywords = merge_kwargs(default, style.image_kwargs, PathCollection)
    points = ax.scatter(x, y, c=means, **keywords)
    ax.set(xlabel=across.label, ylabel=along.label)
    for axis, parameter in (("x", across), ("y", along)):
        if parameter.scale == "log":
            getattr(ax, f"set_{axis}scale")("log")
    ax.figure.colorbar(points, ax=ax).set_label(_score_label(found, False))
    for axis, parameter in (("x", across), ("y", along)):
        _ticks(ax, axis, parameter)
    places = tuple(parameter.place(found.best) for parameter in found.parameters)
    _ring(ax, across.positions[places[0]], found.best, along.positions[places[1]])
    add_legend(ax)
    ax.set_title(found.title, fontsize="medium")
    ax.grid(alpha=0.3)
    return [], points, []


def _colors(found: SearchSummary, means: Any) -> dict[str, Any]:
    """Return keywords by which what is better is brighter."""
    colors = {"cmap": "viridis" if found.sign > 0 else "viridis_r"}
    return colors | ({"norm": "log"} if found.sign < 0 and prefers_log_scale(means.ravel()) else {})


def _readable_on(image: Any, value: float) -> str:
    """Return black or white, whichever is seen on the colour of a value."""
    red, green, blue, _ = image.cmap(image.norm(value))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


# ------------------------------------------------------------------------------ rounds


def plot_halving(ax: Any, found: SearchSummary, style: Style) -> Drawn:
    """Draw the score of each candidate over what the rounds have given it."""
    resources = {row.round: row.resources for row in found.rows}
    unit = "samples" if found.resource == "n_samples" else short_name(str(found.resource), ())
    best_course = next(course for course in found.courses if course[-1] is found.best)
    lines, n_rounds = [], len(resources)
    for last, resource in sorted(resources.items()):
        left = [
            course
            for course in found.courses
            if course[-1].round == last and course is not best_course
        ]
        label = f"last round: {len(left)}"
        if last < n_rounds - 1:
            n_remaining = sum(course[-1].round > last for course in found.courses)
            label = f"after {resource:g}: {len(left)} dropped, {n_remaining} remaining"
        for course in left:
            default = {"color": f"C{last}", "label": label, "marker": "o", "markersize": 3}
            plain = Style(None, style.curve_kwargs, None)
            default |= {"linewidth": 1, "alpha": 0.8}
            lines.append(_draw_line(ax, [row.resources for row in course], course, default, plain))
            label = "_"
    default = {
        "color": ax.xaxis.label.get_color(),
        "label": f"best: {found.best.mean:.3g}",
        "marker": "o",
        "markersize": 4,
        "linewidth": 2,
    }
    x = [row.resources for row in best_course]
    lines.append(_draw_line(ax, x, best_course, default, style))
    each = sorted(set(resources.values()))
    if len(each) > 1:
        ax.set_xscale("log")
        set_nonoverlapping_ticks(ax, "x", each, [f"{resource:g}" for resource in each])
    ax.set(xlabel=unit, ylabel=_score_label(found, style.spread is not None, "best"))
    ax.grid(alpha=0.3)
    found.scale_scores(ax, lines)
    add_legend(ax)
    return lines, None, []


# ---------------------------------------------------------------------------- the axes


def _score_label(found: SearchSummary, with_spread: bool, of: str = "") -> str:
    if found.n_folds < 2:
        return found.score_name
    what = "mean ± std" if with_spread else "mean"
    return f"{found.score_name}\n{what} of {found.n_folds} folds"


def _ticks(ax: Any, along: str, parameter: ParameterAxis) -> None:
    """Put a tick at each value, as long as there are few."""
    few = len(parameter.values) <= _MOST_TICKS
    if few or parameter.scale == "places":
        set_nonoverlapping_ticks(ax, along, parameter.positions, parameter.labels)
    elif parameter.scale == "linear" and all(isinstance(v, Integral) for v in parameter.values):
        axis = ax.xaxis if along == "x" else ax.yaxis
        axis.get_major_locator().set_params(integer=True)


def _margins(ax: Any, over: ParameterAxis) -> None:
    if over.scale == "places":
        ax.set_xlim(-0.5, len(over.values) - 0.5)


# By name: what `kind` may be.
PICTURES: dict[str, Callable[[Any, SearchSummary, Style], Drawn]] = {
    "curve": draw_curves,
    "heatmap": draw_heatmap,
    "scatter": draw_points,
    "rounds": plot_halving,
}
