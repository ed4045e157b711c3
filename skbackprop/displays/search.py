"""Plot a hyperparameter search: scores over one or two parameters, or the rounds of halving."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError

from ..utils.validation import did_you_mean
from ._matplotlib import (
    add_legend,
    axes_for,
    check_matplotlib,
    fit_font_size,
    merge_kwargs,
    prefers_log_scale,
    set_log_scale_if_wide,
    set_nonoverlapping_ticks,
)

_STD_STYLES = ("errorbar", "fill_between", None)

# An axis has a tick for each value up to this many numbers.
_MAX_TICKS = 10

# Longer labels of values are cut.
_MAX_LABEL_LENGTH = 16

# More averaged-out parameters than this are counted in the title instead of named.
_MAX_NAMES = 2


class SearchDisplay:
    """Plot of a hyperparameter search: scores over one or two parameters, or halving rounds.

    Use `from_estimator` to create it from any fitted search with ``cv_results_``, of this package
    or of scikit-learn. One parameter is plotted as a curve, with the standard deviation over the
    folds, and two parameters as a heat map. If the search has further parameters, the best
    candidate over them is plotted, and the title names them. The best candidate of all is marked.

    A halving search without `params` is plotted by its rounds: the score of each candidate over
    the resources of the rounds, colored by its last round. With `params` it is plotted like any
    other search, with each candidate's score in its last round.

    Parameters
    ----------
    cv_results : dict
        The ``cv_results_`` of a search.
    params : list of str or None, default=None
        One or two parameters to plot, by their full names or by unique endings of them, such as
        "alpha" for "mlp__alpha". The second one is the vertical axis of the heat map. None for the
        parameters with the most values: two if their values form a grid, otherwise one.
    metric : str, default="score"
        The name of the score in ``cv_results``; "score" if there is only one.
    score_name : str, default="score"
        The name of the score on the axis.
    resource : str or None, default=None
        The resource of a halving search: a parameter, or "n_samples".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The curves; empty for heat maps.
    image_ : matplotlib AxesImage or None
        The heat map, if any.
    text_ : list of matplotlib Text
        The scores in the cells of a heat map.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, BackpropGridSearchCV
    >>> from skbackprop.displays import SearchDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((8,), max_iter=20, n_iter_no_change=np.inf, random_state=0)
    >>> rates = [0.001, 0.01, 0.1]
    >>> search = BackpropGridSearchCV(network, {"learning_rate_init": rates}).fit(X, y)
    >>> display = SearchDisplay.from_estimator(search, score_name="accuracy")
    >>> display.ax_.get_xlabel(), display.ax_.get_xscale()
    ('learning_rate_init', 'log')
    """

    ax_: Any
    figure_: Any
    lines_: list[Any]
    image_: Any
    text_: list[Any]

    def __init__(
        self,
        *,
        cv_results: Mapping[str, Any],
        params: Sequence[str] | None = None,
        metric: str = "score",
        score_name: str = "score",
        resource: str | None = None,
    ) -> None:
        self.cv_results = cv_results
        self.params = params
        self.metric = metric
        self.score_name = score_name
        self.resource = resource

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        params: Sequence[str] | str | None = None,
        metric: str | None = None,
        negate_score: bool = False,
        score_name: str | None = None,
        std_display_style: str | None = "errorbar",
        ax: Any = None,
        curve_kwargs: Any = None,
        image_kwargs: Any = None,
    ) -> Self:
        """Plot the results of a fitted search.

        Parameters
        ----------
        search : search
            A fitted search of this package, or a grid, randomized or halving search of
            scikit-learn.
        params : list of str, str or None, default=None
            One or two parameters to plot. None for those with the most values, and for the rounds
            of a halving search.
        metric : str or None, default=None
            The score to plot, if there are several; None for the one that `refit` names.
        negate_score : bool, default=False
            Whether to plot negated scores, as for ``scoring="neg_log_loss"``.
        score_name : str or None, default=None
            The name of the score on the axis; None for the name of `scoring`.
        std_display_style : {"errorbar", "fill_between"} or None, default="errorbar"
            How curves show the standard deviation over the folds, as in `plot`.
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of curves.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of heat maps.

        Returns
        -------
        display : SearchDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If `search` is not a search.
        NotFittedError
            If the search is not fitted.
        ValueError
            If the search has no such parameter or score, or if all its fits failed.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        if not (hasattr(search, "refit") and hasattr(search, "fit")):
            raise TypeError(
                "SearchDisplay takes a fitted search, such as a BackpropGridSearchCV or "
                f"scikit-learn's GridSearchCV, got {search!r}."
            )
        if not hasattr(search, "cv_results_"):
            raise NotFittedError(
                f"This {type(search).__name__} is not fitted yet. Call fit before plotting it."
            )
        results = search.cv_results_
        metrics = [key.removeprefix("mean_test_") for key in results if key[:10] == "mean_test_"]
        if metric is None:
            refit = search.refit
            metric = refit if isinstance(refit, str) and refit in metrics else "score"
        if metric not in metrics:
            question = did_you_mean(metric, metrics)
            raise ValueError(f"metric must be one of {metrics}, got {metric!r}.{question}")
        if score_name is None:
            scorer = search.scoring if metric == "score" else metric
            score_name = _get_score_name(scorer, negate_score)
        resource = getattr(search, "_resource", getattr(search, "resource", None))
        display = cls(
            cv_results=results,
            params=[params] if isinstance(params, str) else params,
            metric=metric,
            score_name=score_name,
            resource=resource if "n_resources" in results else None,
        )
        return display.plot(
            ax,
            negate_score=negate_score,
            std_display_style=std_display_style,
            curve_kwargs=curve_kwargs,
            image_kwargs=image_kwargs,
        )

    def plot(
        self,
        ax: Any = None,
        *,
        negate_score: bool = False,
        std_display_style: str | None = "errorbar",
        curve_kwargs: Any = None,
        image_kwargs: Any = None,
    ) -> Self:
        """Plot the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        negate_score : bool, default=False
            Whether to plot negated scores, as for ``scoring="neg_log_loss"``.
        std_display_style : {"errorbar", "fill_between"} or None, default="errorbar"
            How curves show the standard deviation over the folds; None to leave it out. Among the
            rounds of halving only the best candidate has it. Heat maps have it in their cells, if
            there is room.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of curves.
        image_kwargs : dict, default=None
            Keywords for matplotlib's ``imshow`` of heat maps.

        Returns
        -------
        display : SearchDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ValueError
            If a parameter is not valid, or if all fits of the search failed.
        ImportError
            If matplotlib is not installed.
        """
        if std_display_style not in _STD_STYLES:
            raise ValueError(
                f"std_display_style must be one of {_STD_STYLES}, got {std_display_style!r}."
                f"{did_you_mean(std_display_style, filter(None, _STD_STYLES))}"
            )
        check_matplotlib(type(self).__name__)
        results = _read_results(self.cv_results, self.metric, negate_score)
        if all(np.isnan(result.mean) for result in results):
            raise ValueError("There is nothing to plot: all fits of the search failed.")
        is_halving = "n_resources" in self.cv_results
        paths = _group_rounds(results, self.resource if is_halving else None)
        candidates = [path[-1] for path in paths]
        axes, others = self._select_parameters(results, candidates)
        last_round = max(result.round for result in results)
        best = max((r for r in results if r.round == last_round), key=lambda r: r.rank)
        self.ax_ = axes_for(type(self).__name__, ax)
        self.figure_ = self.ax_.figure
        self.lines_, self.image_, self.text_ = [], None, []
        with_std = std_display_style is not None
        if is_halving and self.params is None:
            self._plot_rounds(paths, best, std_display_style, curve_kwargs)
            self.ax_.set_ylabel(self._score_label(with_std))
        else:
            by_cell = _best_by_cell(candidates, axes)
            title = [_describe(others)] if others else []
            title += ["each in its last round"] if is_halving else []
            self.ax_.set_title(", ".join(title), fontsize="medium")
            if len(axes) == 2:
                self._plot_heatmap(axes, by_cell, best, negate_score, image_kwargs)
                return self
            # Categories are not joined, nor values that were tried with different values of the
            # other parameters.
            is_joined = axes[0].is_numeric and (not others or len(candidates) > len(by_cell))
            self._plot_curve(axes[0], by_cell, best, is_joined, std_display_style, curve_kwargs)
            self.ax_.set_ylabel(self._score_label(with_std))
        self.ax_.grid(alpha=0.3)
        if negate_score:
            set_log_scale_if_wide(self.ax_, self.lines_)
        add_legend(self.ax_)
        return self

    def _select_parameters(
        self, results: Sequence[CandidateResult], candidates: Sequence[CandidateResult]
    ) -> tuple[list[ParameterAxis], list[ParameterAxis]]:
        """Return the axes of the parameters to plot, and those of the other varied parameters."""
        names = dict.fromkeys(name for result in results for name in result.params)
        searched = [name for name in names if name != self.resource]
        axes = {name: ParameterAxis.from_results(results, name, searched) for name in searched}
        varied = [name for name in searched if len(axes[name].values) > 1] or searched[:1]
        if self.params is None:
            # The sort is stable: among equals the first one comes first.
            varied.sort(key=lambda name: (not axes[name].is_numeric, -len(axes[name].values)))
            chosen = varied[:2]
            cells = _best_by_cell(candidates, [axes[name] for name in chosen])
            if 2 * len(cells) < np.prod([len(axes[name].values) for name in chosen]):
                chosen = chosen[:1]
        else:
            chosen = [_find_parameter(param, searched) for param in self.params]
        if not 1 <= len(chosen) <= 2:
            raise ValueError(
                f"params must name one or two parameters, got {self.params!r}. The search has "
                f"{searched}."
            )
        others = [axes[name] for name in varied if name not in chosen]
        return [axes[name] for name in chosen], others

    def _score_label(self, with_std: bool) -> str:
        pattern = rf"split\d+_test_{re.escape(self.metric)}"
        n_folds = sum(bool(re.fullmatch(pattern, key)) for key in self.cv_results)
        if n_folds < 2:
            return self.score_name
        return f"{self.score_name}\n{'mean ± std' if with_std else 'mean'} of {n_folds} folds"

    def _plot_line(
        self,
        x: Sequence[float],
        results: Sequence[CandidateResult],
        style: Mapping[str, Any],
        std_display_style: str | None,
        curve_kwargs: Any,
    ) -> None:
        """Plot the mean scores of results and their standard deviations."""
        from matplotlib.lines import Line2D

        mean, std = np.array([(result.mean, result.std) for result in results]).T
        style = {"marker": "o", "markersize": 4, **style}
        (line,) = self.ax_.plot(x, mean, **merge_kwargs(style, curve_kwargs, Line2D))
        self.lines_.append(line)
        color = line.get_color()
        if std_display_style == "errorbar":
            self.ax_.errorbar(x, mean, std, fmt="none", ecolor=color, elinewidth=1, capsize=2)
        elif std_display_style == "fill_between":
            self.ax_.fill_between(x, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)

    def _plot_curve(
        self,
        axis: ParameterAxis,
        by_cell: Mapping[tuple[int, ...], CandidateResult],
        best: CandidateResult,
        is_joined: bool,
        std_display_style: str | None,
        curve_kwargs: Any,
    ) -> None:
        """Plot the score over one parameter, with a ring around the best candidate."""
        ax, cells = self.ax_, sorted(by_cell)
        ax.set(xlabel=axis.label, xscale="log" if axis.scale == "log" else "linear")
        x, results = [axis.positions[cell[0]] for cell in cells], [by_cell[cell] for cell in cells]
        style = {"color": "C0", "label": "_", "linestyle": "-" if is_joined else "none"}
        self._plot_line(x, results, style, std_display_style, curve_kwargs)
        if best in results:  # in a halving search, an earlier round may have a higher score
            ax.plot(
                x[results.index(best)],
                best.mean,
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=ax.xaxis.label.get_color(),
                linestyle="none",
                label=f"best: {best.mean:.3g}",
            )
        if axis.scale == "categories":
            ax.set_xlim(-0.5, len(axis.values) - 0.5)
        if len(axis.values) <= _MAX_TICKS or axis.scale == "categories":
            set_nonoverlapping_ticks(ax, "x", axis.positions, axis.value_labels)

    def _plot_heatmap(
        self,
        axes: Sequence[ParameterAxis],
        by_cell: Mapping[tuple[int, ...], CandidateResult],
        best: CandidateResult,
        negate_score: bool,
        image_kwargs: Any,
    ) -> None:
        """Plot a cell for each pair of values, colored by its score: brighter is better."""
        from matplotlib.image import AxesImage
        from matplotlib.patches import Rectangle

        ax, (across, along) = self.ax_, axes
        means = np.full((len(along.values), len(across.values)), np.nan)
        for (column, row), result in by_cell.items():
            means[row, column] = result.mean
        style = {"cmap": "viridis_r" if negate_score else "viridis", "origin": "lower"}
        style |= {"aspect": "auto", "interpolation": "nearest"}
        if negate_score and prefers_log_scale(means.ravel()):
            style["norm"] = "log"
        self.image_ = ax.imshow(means, **merge_kwargs(style, image_kwargs, AxesImage))
        colorbar = ax.figure.colorbar(self.image_, ax=ax, label=self._score_label(True))
        ax.set(xlabel=across.label, ylabel=along.label)
        set_nonoverlapping_ticks(ax, "y", range(len(along.values)), along.value_labels)
        if hasattr(ax.figure, "draw_without_rendering"):  # long labels narrow the axes
            ax.figure.draw_without_rendering()
        set_nonoverlapping_ticks(ax, "x", range(len(across.values)), across.value_labels)
        column, row = (axis.index(best) for axis in axes)
        for color, width in (("white", 3), ("black", 1)):  # visible on light and on dark cells
            ax.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5),
                    1,
                    1,
                    fill=False,
                    color=color,
                    lw=width,
                    clip_on=False,
                )
            )
        self._write_scores(by_cell)
        if not any("±" in text.get_text() for text in self.text_):
            colorbar.set_label(self._score_label(False))

    def _write_scores(self, by_cell: Mapping[tuple[int, ...], CandidateResult]) -> None:
        """Write mean and standard deviation into each cell, or only the mean, if there is room."""
        ax, image = self.ax_, self.image_
        corners = ax.transData.transform([(0, 0), (1, 1)])
        width, height = 0.8 * np.abs(corners[1] - corners[0])
        means = [result.mean for result in by_cell.values()]
        largest = float(np.nanmax(np.abs(means))) or 1.0
        n_decimals = max(0, 2 - int(np.floor(np.log10(largest))))
        number = ".3g" if prefers_log_scale(means) else f".{n_decimals}f"
        for std_format in ("\n±{:" + number + "}", ""):
            texts = [
                "failed"
                if np.isnan(result.mean)
                else f"{result.mean:{number}}{std_format.format(result.std)}"
                for result in by_cell.values()
            ]
            font_size = min(fit_font_size(ax, text, width, height) for text in texts)
            if font_size:
                break
        else:
            return
        for cell, text, mean in zip(by_cell, texts, means, strict=True):
            red, green, blue, _ = image.cmap(image.norm(mean))
            color = "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
            color = ax.xaxis.label.get_color() if np.isnan(mean) else color
            style = {"ha": "center", "va": "center", "fontsize": font_size, "color": color}
            self.text_.append(ax.text(*cell, text, **style))

    def _plot_rounds(
        self,
        paths: Sequence[Sequence[CandidateResult]],
        best: CandidateResult,
        std_display_style: str | None,
        curve_kwargs: Any,
    ) -> None:
        """Plot the score of each candidate over the resources of the halving rounds."""
        ax = self.ax_
        resources = {path[-1].round: path[-1].resources for path in paths}
        for i, resource in sorted(resources.items()):
            ending = [path for path in paths if path[-1].round == i and path[-1] is not best]
            n_remaining = sum(path[-1].round > i for path in paths)
            label = f"last round: {len(ending)}"
            if n_remaining:
                label = f"after {resource:g}: {len(ending)} dropped, {n_remaining} remaining"
            for path in ending:
                style = {"color": f"C{i}", "label": label, "markersize": 3}
                style |= {"linewidth": 1, "alpha": 0.8}
                self._plot_line([r.resources for r in path], path, style, None, curve_kwargs)
                label = "_"
        (path,) = (path for path in paths if path[-1] is best)
        style = {"color": ax.xaxis.label.get_color(), "label": f"best: {best.mean:.3g}"}
        x = [result.resources for result in path]
        self._plot_line(x, path, style | {"linewidth": 2}, std_display_style, curve_kwargs)
        ticks = sorted({result.resources for path in paths for result in path})
        if len(ticks) > 1:
            ax.set_xscale("log")
            set_nonoverlapping_ticks(ax, "x", ticks, [f"{resource:g}" for resource in ticks])
        is_rows = self.resource == "n_samples"
        ax.set_xlabel("samples" if is_rows else shorten_name(str(self.resource), ()))


# --------------------------------------------------------------------------- candidates


@dataclass(frozen=True, eq=False)  # values may be arrays, which have no plain equality
class CandidateResult:
    """Score of a candidate in one round of a search.

    Parameters
    ----------
    params : dict
        The values of the parameters.
    mean, std : float
        Mean and standard deviation of the score over the folds; NaN if a fit failed.
    rank : float
        The larger, the better; -inf if a fit failed.
    round : int
        The round of a halving search; 0 for other searches.
    resources : float
        The resources of the round; NaN for other searches.
    """

    params: Mapping[str, Any]
    mean: float
    std: float
    rank: float
    round: int
    resources: float


def _read_results(
    cv_results: Mapping[str, Any], metric: str, negate_score: bool
) -> list[CandidateResult]:
    n = len(cv_results["params"])
    scores = np.asarray(cv_results[f"mean_test_{metric}"], float)
    return [
        CandidateResult(*fields)
        for fields in zip(
            cv_results["params"],
            (-scores if negate_score else scores).tolist(),
            np.asarray(cv_results[f"std_test_{metric}"], float).tolist(),
            np.where(np.isnan(scores), -np.inf, scores).tolist(),
            cv_results.get("iter", [0] * n),
            cv_results.get("n_resources", [np.nan] * n),
            strict=True,
        )
    ]


def _group_rounds(
    results: Iterable[CandidateResult], resource: str | None
) -> list[list[CandidateResult]]:
    """Return the rounds of each candidate of a halving search, in the order of the first round."""
    paths: dict[Any, list[CandidateResult]] = {}
    for result in results:
        params = sorted((name, value) for name, value in result.params.items() if name != resource)
        key = tuple((name, _to_hashable(value)) for name, value in params)
        # Random candidates may be equal. Each of them then continues one path.
        twin = 0
        while (key, twin) in paths and paths[key, twin][-1].round >= result.round:
            twin += 1
        paths.setdefault((key, twin), []).append(result)
    return list(paths.values())


def _best_by_cell(
    candidates: Iterable[CandidateResult], axes: Sequence[ParameterAxis]
) -> dict[tuple[int, ...], CandidateResult]:
    """Return the best candidate for each combination of values of some parameters."""
    best: dict[tuple[int, ...], CandidateResult] = {}
    for candidate in candidates:
        cell = tuple(axis.index(candidate) for axis in axes)
        if cell not in best or candidate.rank > best[cell].rank:
            best[cell] = candidate
    return best


# --------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class ParameterAxis:
    """Values of a searched parameter and their positions on an axis.

    Parameters
    ----------
    name : str
        The full name of the parameter.
    label : str
        The shortest unique ending of the name.
    values : list
        The values that were tried, sorted if they are numbers.
    """

    name: str
    label: str
    values: list[Any]

    @classmethod
    def from_results(
        cls, results: Iterable[CandidateResult], name: str, searched: Iterable[str]
    ) -> ParameterAxis:
        """Return the axis of a parameter with all its values in the results of a search."""
        values = (result.params.get(name, "not set") for result in results)
        unique = list({_to_hashable(value): value for value in values}.values())
        axis = cls(name, shorten_name(name, searched), unique)
        return cls(axis.name, axis.label, sorted(unique)) if axis.is_numeric else axis

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(_is_number(value) for value in self.values)

    @property
    def value_labels(self) -> list[str]:
        """The tick labels of the values."""
        return [format_value(value) for value in self.values]

    @property
    def scale(self) -> str:
        """The scale of the axis, "linear", "log" or "categories", on which values are even."""
        if not self.is_numeric:
            return "categories"
        values = np.asarray(self.values, float)
        if values[0] <= 0:
            return "categories" if _relative_median(values) < 0.25 else "linear"
        off_center = [abs(_relative_median(each) - 0.5) for each in (values, np.log(values))]
        is_log = off_center[1] < off_center[0] and values[-1] >= 9.9 * values[0]
        return "log" if is_log else "linear"

    @property
    def positions(self) -> list[float]:
        """The positions of the values on an axis of this scale."""
        is_categorical = self.scale == "categories"
        return [float(i if is_categorical else value) for i, value in enumerate(self.values)]

    def index(self, result: CandidateResult) -> int:
        """Return the index of a candidate's value among the values."""
        keys = [_to_hashable(value) for value in self.values]
        return keys.index(_to_hashable(result.params.get(self.name, "not set")))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, (bool, np.bool_))


def _relative_median(values: Any) -> float:
    """Return the position of the median of sorted values between the first and the last."""
    span = values[-1] - values[0]
    return float((np.median(values) - values[0]) / span) if span else 0.5


def _to_hashable(value: Any) -> Any:
    """Return a key that tells values apart, also True from 1, and arrays by their text."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return isinstance(value, (bool, np.bool_)), value


def format_value(value: Any) -> str:
    """Return the label of a value: numbers with four digits, layer sizes as 64-32."""
    if _is_number(value):
        return f"{float(value):.4g}"
    if isinstance(value, tuple) and value and all(isinstance(size, int) for size in value):
        return "-".join(map(str, value))
    text = str(value)
    return text if len(text) <= _MAX_LABEL_LENGTH else text[: _MAX_LABEL_LENGTH - 1] + "…"


def shorten_name(name: str, others: Iterable[str]) -> str:
    """Return the shortest ending of a parameter's name that no other parameter has."""
    parts = name.split("__")
    for n in range(1, len(parts) + 1):
        short = "__".join(parts[-n:])
        if sum(other == short or other.endswith(f"__{short}") for other in others) <= 1:
            return short
    return name


def _find_parameter(param: str, searched: Sequence[str]) -> str:
    """Return the full name of a searched parameter from its unique ending."""
    if param in searched:
        return param
    matching = [name for name in searched if name.endswith(f"__{param}")]
    if len(matching) != 1:
        raise ValueError(
            f"params must be parameters of the search, {list(searched)}, or unique endings of "
            f"them, got {param!r}."
        )
    return matching[0]


def _describe(others: Sequence[ParameterAxis]) -> str:
    names = ", ".join(axis.label for axis in others)
    return f"best over {names if len(others) <= _MAX_NAMES else f'{len(others)} other parameters'}"


def _get_score_name(scoring: Any, negate_score: bool) -> str:
    """Return the name of a score, such as "log loss" for a negated "neg_log_loss"."""
    name = getattr(scoring, "__name__", scoring)
    if not isinstance(name, str):
        return "negative score" if negate_score else "score"
    is_negative = negate_score
    if name.startswith("neg_"):
        name, is_negative = name.removeprefix("neg_"), not negate_score
    return ("negative " if is_negative else "") + name.replace("_", " ")
