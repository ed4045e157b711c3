"""Plot explanations: the contribution of each column to predictions, a Shapley value."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from scipy.stats import rankdata

from ..estimators.explanation import Explanation
from ..inspection._explain import explain
from ..utils.arrays import Array
from ._plotting import get_axes

# The colors of contributions that raise and lower the prediction, and of values without an order.
_HIGHER, _LOWER, _NEUTRAL = "C3", "C0", "0.6"
# Ranks are colored from blue to red.
_COLORS: dict[str, Any] = {"cmap": "coolwarm", "vmin": 0, "vmax": 1}

# Points of a beeswarm are stacked in so many bins along the axis.
_N_BINS = 60


class ExplanationDisplay:
    """Plot of an explanation: bars for one row, a summary for many rows.

    Use `from_estimator` to create it, or pass an `Explanation`. The bars of one row show how each
    column moves the prediction away from the mean prediction of the background, with the numbers at
    the right. The summary shows a point for each row and column, colored by the value of the column
    from low (blue) to high (red); values that are not numbers are gray. Columns are sorted by their
    mean absolute contribution.

    Parameters
    ----------
    explanation : Explanation
        The explanation.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    bars_ : matplotlib BarContainer or None
        The bars, of one row or of mean absolute contributions.
    points_ : list of matplotlib PathCollection or None
        The points of the summary for each column, from the top.

    See Also
    --------
    skbackprop.inspection.explain : Computes the explanation.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import TabularRegressor
    >>> from skbackprop.displays import ExplanationDisplay
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = TabularRegressor(n_estimators=2, max_iter=3, random_state=0).fit(X, y)
    >>> display = ExplanationDisplay.from_estimator(model, X[:10])
    >>> display.plot(row=0).ax_.get_xlabel()
    'contribution to the prediction'
    """

    def __init__(self, *, explanation: Explanation) -> None:
        self.explanation = explanation

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        background: Any = None,
        *,
        ax: Any = None,
        **options: Any,
    ) -> Self:
        """Explain the predictions of an estimator with default settings, and plot the explanation.

        Parameters
        ----------
        estimator : estimator
            A fitted classifier or regressor, as in `explain`.
        X : array-like or data frame of shape (n_samples, n_features)
            The rows to explain.
        background : array-like or data frame of shape (n_background, n_features), default=None
            Rows to compare with; only tabular estimators do not need it.
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        **options : object
            The options `row`, `target`, `kind` and `max_features` of `plot`.

        Returns
        -------
        display : ExplanationDisplay
            The display, plotted. Its ``explanation`` holds the explanation.

        Raises
        ------
        TypeError, ValueError
            If `explain` or `plot` raises it.
        ImportError
            If matplotlib is not installed.
        """
        return cls(explanation=explain(estimator, X, background)).plot(ax, **options)

    def plot(
        self,
        ax: Any = None,
        *,
        row: int | None = None,
        target: Any = None,
        kind: Literal["beeswarm", "bar"] = "beeswarm",
        max_features: int = 10,
    ) -> Self:
        """Plot the contributions of the columns, the largest at the top.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.
        row : int, default=None
            The position of the row to plot. None for a summary of all rows, or the row if there is
            only one.
        target : int or str, default=None
            The class, target or quantile to plot: its name or its position. None for the last one,
            which is ``classes_[1]`` for two classes.
        kind : {"beeswarm", "bar"}, default="beeswarm"
            The summary: a point for each row, or the mean absolute contribution.
        max_features : int, default=10
            The maximum number of columns. For one row, the others share the last bar.

        Returns
        -------
        display : ExplanationDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `target` or `kind` is not valid.
        IndexError
            If there is no such row.
        TypeError
            If `ax` is not matplotlib axes.
        ImportError
            If matplotlib is not installed.
        """
        n_rows, n_columns = self.explanation.values.shape[:2]
        if kind not in ("beeswarm", "bar"):
            raise ValueError(f'kind must be "beeswarm" or "bar", got {kind!r}.')
        values, base, name = self._select_contributions(target)
        height = 1.5 + 0.35 * min(max_features, n_columns)
        self.ax_ = ax = get_axes(self, ax, figsize=(6.4, height))
        self.figure_ = ax.figure
        self.bars_: Any = None
        self.points_: Any = None
        row = 0 if row is None and n_rows == 1 else row
        if row is not None:
            self._plot_row(row, values[row], base[row], max_features)
        else:
            self._plot_summary(values, kind, max_features)
        ax.set_ylim(max(ax.get_ylim()), min(ax.get_ylim()))
        ax.locator_params(axis="x", nbins=5)  # whose labels do not touch
        ax.set_title(": ".join(filter(None, (name, ax.get_title()))))
        return self

    def _select_contributions(self, target: Any) -> tuple[Array, Array, str | None]:
        """Return the contributions and base values of one output, and its name."""
        values, base = self.explanation.values, self.explanation.base_values
        if values.ndim == 2:
            return values, base, None
        positions = [str(i) for i in range(values.shape[2])]
        names = self.explanation.output_names or positions
        name = names[-1] if target is None else str(target)
        if name not in (*names, *positions):
            raise ValueError(f"target must be one of {names}, or its position, got {target!r}.")
        i = names.index(name) if name in names else int(name)
        return values[:, :, i], base[:, i], names[i]

    def _plot_row(self, row: int, values: Array, base: float, max_features: int) -> None:
        """Plot the contributions in one prediction as bars."""
        ax, explanation = self.ax_, self.explanation
        order = np.argsort(-np.abs(values), kind="stable")
        n_shown = len(order) if len(order) <= max_features else max_features - 1
        names = [
            f"{explanation.feature_names[i]} = {_format_value(explanation.data[row][i])}"
            for i in order[:n_shown]
        ]
        contributions = values[order[:n_shown]]
        if n_shown < len(order):
            contributions = np.append(contributions, values[order[n_shown:]].sum())
            names.append(f"{len(order) - n_shown} others")
        colors = np.where(contributions > 0, _HIGHER, _LOWER)
        heights = range(len(contributions))
        self.bars_ = ax.barh(heights, contributions, height=0.6, color=colors)
        digits = _find_number_format(contributions)
        ax.set_yticks(heights, names)
        # At the ends of the bars, the numbers would meet the names or the frame.
        numbers = ax.secondary_yaxis("right")
        numbers.set_ticks(heights, [f"{value:+{digits}}" for value in contributions])
        numbers.tick_params(length=0)
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_xlabel("contribution to the prediction")
        ax.set_title(f"prediction {base + values.sum():{digits}}, mean {base:{digits}}")

    def _plot_summary(self, values: Array, kind: str, max_features: int) -> None:
        """Plot the contributions in all predictions, or the means of their absolute values."""
        ax, importances = self.ax_, np.abs(values).mean(axis=0)
        columns = np.argsort(-importances, kind="stable")[:max_features]
        heights = range(len(columns))
        ax.set_yticks(heights, [self.explanation.feature_names[column] for column in columns])
        if kind == "bar":
            self.bars_ = ax.barh(heights, importances[columns], height=0.6, color=_LOWER)
            ax.set_xlabel("mean absolute contribution")
            return
        span, self.points_ = float(np.ptp(values[:, columns])) or 1.0, []
        for height, column in zip(heights, columns.tolist(), strict=True):
            ranks = _compute_ranks(self.explanation.data[:, column])
            style = {"color": _NEUTRAL} if ranks is None else {"c": ranks, **_COLORS}
            y = height + _beeswarm_offsets(values[:, column], span / _N_BINS)
            self.points_.append(ax.scatter(values[:, column], y, s=12, linewidths=0, **style))
        ax.axvline(0, color="black", linewidth=0.8)
        ax.set_ylim(len(columns) - 0.5, -0.5)
        ax.set_xlabel("contribution to the prediction")
        ranked = [points for points in self.points_ if points.get_array() is not None]
        if ranked:
            gray = "" if len(ranked) == len(self.points_) else " (gray: not a number)"
            bar = self.figure_.colorbar(ranked[0], ax=self.ax_, label=f"value of the column{gray}")
            bar.set_ticks([0, 1], labels=["low", "high"])


def _beeswarm_offsets(contributions: Array, width: float) -> Array:
    """Return vertical offsets, within 0.4, that separate points of about the same contribution."""
    bins = np.floor(contributions / width).astype(np.intp)
    places = np.zeros(len(contributions))
    for number in np.unique(bins):
        n = np.count_nonzero(bins == number)
        places[bins == number] = np.arange(n) - (n - 1) / 2
    return places * min(0.08, 0.4 / max(1.0, float(np.abs(places).max())))


def _compute_ranks(values: Any) -> Array | None:
    """Return the rank of each value of a numeric column, in [0, 1]; None for other columns."""
    try:
        ranks = rankdata(np.array(values, dtype=float), "dense", nan_policy="omit") - 1
    except (TypeError, ValueError):
        return None
    return np.nan_to_num(ranks / max(1, np.nanmax(ranks, initial=0)), nan=0.5)


def _find_number_format(values: Array) -> str:
    """Return a format with three digits for the largest value, and as many decimals for all."""
    decimals = 2 - int(np.floor(np.log10(np.abs(values).max() or 1.0)))
    return f".{max(0, decimals)}f" if decimals < 7 else ".2e"


def _format_value(value: Any) -> str:
    """Return a short text of a value."""
    return f"{value:.4g}" if isinstance(value, (float, np.floating)) else str(value)[:24]
