"""Plot a hyperparameter search: scores over one or two parameters, or the rounds of halving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from numbers import Real
from typing import Any, Self, TypeAlias

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..utils.arrays import Array
from ._plotting import get_axes, is_wide

# Heat maps of more rows or columns have no scores written into their cells.
_MAX_TEXT_CELLS = 8

# Labels of values are rotated if they have more characters than this together.
_MAX_LABEL_CHARACTERS = 40

# The row of ``cv_results`` that is plotted for each combination of values, by their indices.
_Cells: TypeAlias = Mapping[tuple[int, ...], int]


@dataclass(kw_only=True, eq=False, repr=False)
class SearchDisplay:
    """Plot of a hyperparameter search: scores over one or two parameters, or halving rounds.

    Use `from_estimator` to create it from any fitted search with ``cv_results_``, of this package
    or of scikit-learn. One parameter is plotted as a curve, with the standard deviation over the
    folds, and two parameters as a heat map, in which brighter is better. If the search has further
    parameters, the best candidate over them is plotted, and the title names them. The best
    candidate of all is marked.

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
        The scores in the cells of a heat map of at most 8 rows and columns.

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

    cv_results: Mapping[str, Any]
    params: Sequence[str] | None = None
    metric: str = "score"
    score_name: str = "score"
    resource: str | None = None

    @classmethod
    def from_estimator(
        cls,
        search: Any,
        *,
        params: Sequence[str] | str | None = None,
        metric: str | None = None,
        negate_score: bool = False,
        score_name: str | None = None,
        ax: Any = None,
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
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.

        Returns
        -------
        display : SearchDisplay
            The display, plotted.

        Raises
        ------
        NotFittedError
            If `search` is not a fitted search.
        ValueError
            If the search has no such parameter or score.
        ImportError
            If matplotlib is not installed.
        """
        message = "SearchDisplay needs a fitted search, got an unfitted search or a %(name)s."
        check_is_fitted(search, "cv_results_", msg=message)
        results = search.cv_results_
        metrics = [key.removeprefix("mean_test_") for key in results if key[:10] == "mean_test_"]
        if metric is None:
            metric = search.refit if search.refit in metrics else "score"
        if metric not in metrics:
            raise ValueError(f"metric must be one of {metrics}, got {metric!r}.")
        if score_name is None:
            scoring = search.scoring if metric == "score" else metric
            name = scoring if isinstance(scoring, str) else "score"
            sign = "negative " if negate_score != name.startswith("neg_") else ""
            score_name = sign + name.removeprefix("neg_").replace("_", " ")
        display = cls(
            cv_results=results,
            params=[params] if isinstance(params, str) else params,
            metric=metric,
            score_name=score_name,
            resource=getattr(search, "resource", None),
        )
        return display.plot(ax, negate_score=negate_score)

    def plot(self, ax: Any = None, *, negate_score: bool = False) -> Self:
        """Plot the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        negate_score : bool, default=False
            Whether to plot negated scores, as for ``scoring="neg_log_loss"``.

        Returns
        -------
        display : SearchDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ValueError
            If a parameter is not valid.
        ImportError
            If matplotlib is not installed.
        """
        results, params = self.cv_results, self.cv_results["params"]
        scores = np.asarray(results[f"mean_test_{self.metric}"], float)
        # The order is from the worst to the best. Of equal scores, the first one is the best.
        order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")[::-1]
        rounds = np.asarray(results.get("iter", np.zeros(len(scores), int)))
        self._means = -scores if negate_score else scores
        self._best = order[rounds[order] == rounds.max()][-1]
        self.ax_ = ax = get_axes(self, ax)
        self.figure_, self.text_ = ax.figure, list[Any]()
        self.lines_: list[Any] = []
        self.image_: Any = None
        # In a pipeline, the name of the resource is only the end of the parameter's name.
        resource, all_names = f"__{self.resource}", dict.fromkeys(chain(*params))
        names = [name for name in all_names if not f"__{name}".endswith(resource)]
        # The rows of each candidate, in the order of the rounds.
        candidates: dict[str, list[int]] = {}
        for i, candidate in enumerate(params):
            candidates.setdefault(repr([candidate.get(name) for name in names]), []).append(i)
        if "n_resources" in results and self.params is None:
            self._plot_rounds(rounds, list(candidates.values()))
        else:
            last = {rows[-1] for rows in candidates.values()}
            numbers = [i for i in order.tolist() if i in last]
            axes, others = self._choose_axes(names, numbers)
            # In each cell the best candidate is the last one, which stays.
            cells = {tuple(axis.codes[i] for axis in axes): i for i in numbers}
            if others:
                ax.set_title(f"best over {', '.join(others)}", fontsize="medium", wrap=True)
            if len(axes) == 2:
                self._plot_heatmap(axes, cells, "viridis_r" if negate_score else "viridis")
                return self
            # Values that were tried with different values of the other parameters are not joined.
            is_joined = axes[0].is_numeric and (not others or len(numbers) > len(cells))
            self._plot_curve(axes[0], cells, "-" if is_joined else "none")
        ax.set_ylabel(self.score_name)
        ax.legend()
        if negate_score and is_wide(ax.dataLim.intervaly):
            ax.set_yscale("log")
        return self

    def _choose_axes(
        self, names: Sequence[str], rows: Sequence[int]
    ) -> tuple[list[ParameterAxis], list[str]]:
        """Return the axes of the parameters to plot, and the names of the other varied ones."""
        axes = {name: ParameterAxis(name, self.cv_results["params"]) for name in names}
        varied = [name for name in axes if len(axes[name].labels) > 1] or [*axes][:1]
        if self.params is None:
            # The sort is stable: among equals the first one comes first.
            chosen = sorted(varied, key=lambda name: -len(axes[name].labels))[:2]
            cells = {tuple(axes[name].codes[i] for name in chosen) for i in rows}
            if 2 * len(cells) < np.prod([len(axes[name].labels) for name in chosen]):
                chosen = chosen[:1]
        else:
            endings = [f"__{param}" for param in self.params]
            chosen = [name for end in endings for name in axes if f"__{name}".endswith(end)]
        if len(chosen) not in (1, 2) or len(chosen) != len(self.params or chosen):
            raise ValueError(
                "params must be one or two parameters of the search, or unique endings of their "
                f"names, got {self.params!r}. The parameters of the search are {list(axes)}."
            )
        return [axes[name] for name in chosen], [name for name in varied if name not in chosen]

    def _plot_curve(self, axis: ParameterAxis, cells: _Cells, linestyle: str) -> None:
        """Plot the score over one parameter."""
        ax, means, best = self.ax_, self._means, self._best
        codes, rows = zip(*sorted((code, i) for (code,), i in cells.items()), strict=True)
        x, y = axis.positions[list(codes)], means[list(rows)]
        std = np.asarray(self.cv_results[f"std_test_{self.metric}"], float)[list(rows)]
        self.lines_ = ax.plot(x, y, linestyle=linestyle, marker="o")
        ax.errorbar(x, y, std, fmt="none", ecolor=self.lines_[0].get_color(), capsize=2)
        place = axis.positions[axis.codes[best]]
        ax.plot(place, means[best], "*", color="C1", ms=12, label=f"best: {means[best]:.3g}")
        ax.set_xlabel(axis.name)
        if not axis.is_numeric:
            axis.label_ticks(ax.xaxis)
        elif is_wide(np.abs(x[x != 0])):
            linear = {} if x[0] > 0 else {"linthresh": np.abs(x[x != 0]).min()}
            ax.set_xscale("log" if x[0] > 0 else "symlog", **linear)

    def _plot_heatmap(self, axes: Sequence[ParameterAxis], cells: _Cells, cmap: str) -> None:
        """Plot a cell for each pair of values, colored by its score."""
        from matplotlib.patches import Rectangle

        ax, means, (across, along) = self.ax_, self._means, axes
        cell_scores = np.full((len(along.labels), len(across.labels)), np.nan)
        for (column, row), i in cells.items():
            cell_scores[row, column] = means[i]
        self.image_ = ax.imshow(cell_scores, cmap, origin="lower", aspect="auto")
        ax.figure.colorbar(self.image_, ax=ax, label=self.score_name)
        ax.set(xlabel=across.name, ylabel=along.name)
        across.label_ticks(ax.xaxis)
        along.label_ticks(ax.yaxis)
        corner = across.codes[self._best] - 0.5, along.codes[self._best] - 0.5
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, color="C1", lw=3))
        for cell, i in cells.items() if max(cell_scores.shape) <= _MAX_TEXT_CELLS else ():
            # The other end of the color map is legible on the cell.
            color = self.image_.cmap(0.0 if self.image_.norm(means[i]) > 0.5 else 1.0)
            text = ax.text(*cell, f"{means[i]:.3g}", ha="center", va="center", color=color)
            self.text_.append(text)

    def _plot_rounds(self, rounds: Array, candidates: Sequence[list[int]]) -> None:
        """Plot the score of each candidate over the resources of the halving rounds."""
        ax, means, best = self.ax_, self._means, self._best
        resources = np.asarray(self.cv_results["n_resources"])
        labels = [
            f"after {resources[rounds == i][0]:g}: {n - n_next} dropped, {n_next} remaining"
            for i, (n, n_next) in enumerate(pairwise(np.bincount(rounds)))
        ]
        labels.append("last round")
        for rows in sorted(candidates, key=lambda rows: (best in rows, rounds[rows[-1]])):
            i = rounds[rows[-1]]
            color, label = f"C{i}", labels[i]
            if best in rows:
                color, label = "black", f"best: {means[best]:.3g}"
            labels[i] = "_"  # the legend leaves out labels that begin with an underscore
            self.lines_ += ax.plot(resources[rows], means[rows], ".-", color=color, label=label)
        ticks = np.unique(resources)
        ax.set(xscale="log", xlabel="samples" if self.resource == "n_samples" else self.resource)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()


class ParameterAxis:
    """Values of a searched parameter, and their positions on an axis.

    Values are compared by their text. Numbers are sorted.

    Parameters
    ----------
    name : str
        The name of the parameter.
    params : list of dict
        The parameters of each row of ``cv_results``.

    Attributes
    ----------
    is_numeric : bool
        Whether all values are numbers.
    codes : list of int
        For each row of ``cv_results``, the index of its value.
    labels : list of str
        The text of each value.
    positions : array
        The positions of the values on an axis: numbers, or the indices of other values.
    """

    def __init__(self, name: str, params: Sequence[Mapping[str, Any]]) -> None:
        column = [candidate.get(name, "not set") for candidate in params]
        by_text = {repr(value): value for value in column}
        is_numeric = all(isinstance(v, Real) and not isinstance(v, bool) for v in by_text.values())
        texts = sorted(by_text, key=by_text.__getitem__) if is_numeric else list(by_text)
        values = [by_text[text] for text in texts]
        self.name, self.is_numeric = name, is_numeric
        self.codes = [texts.index(repr(value)) for value in column]
        self.labels = [f"{value:.4g}" if is_numeric else str(value) for value in values]
        self.positions = np.array(values) if is_numeric else np.arange(len(values))

    def label_ticks(self, axis: Any) -> None:
        """Set a tick with the value's text at each index of a matplotlib axis."""
        axis.set_ticks(range(len(self.labels)), self.labels)
        if axis.axis_name == "x" and len("".join(self.labels)) > _MAX_LABEL_CHARACTERS:
            axis.set_tick_params(rotation=45)
