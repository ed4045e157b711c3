"""The course of training as a picture: losses, scores, and which epoch was the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from ..estimators._history import History, full_history
from ..training.config import is_lbfgs
from ._matplotlib import (
    add_legend,
    check_axes,
    check_matplotlib,
    merge_kwargs,
    new_figure,
    set_log_scale_if_wide,
)
from ._unwrap import unwrap_estimator

# The colour of the scores of a network alone. Losses take the next of the axes' cycle.
_SCORES = "C2"


class LossCurveDisplay:
    """Losses and scores over the epochs of training, and the best epoch.

    It is made by `from_estimator`, or by `from_estimators` for several in one picture. The upper
    part has the training loss and, where rows were held out or watched, the validation loss; under
    early stopping a lower part has the validation scores, and dots mark the epoch whose weights are
    kept. Of an ensemble there is a thin line for each member. Losses that span more than a factor
    of 20 are drawn on a logarithmic scale; ``display.ax_.set_yscale("linear")`` undoes it.

    Parameters
    ----------
    curves : dict of str to list of Progress
        By the name of each estimator the curves of its members: objects with ``losses``,
        ``validation_losses``, ``validation_scores`` and ``best_epoch``.
    unit : str, default="epoch"
        What the curves have a number for.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the losses.
    score_ax_ : matplotlib Axes or None
        Those of the scores; None where none are drawn.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The curves: of each estimator the training losses of its members, then the validation
        losses, then the scores.

    See Also
    --------
    skbackprop.callbacks.LiveLossPlot : Draws the same while a network trains.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.displays import LossCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), early_stopping=True, max_iter=20, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(model.fit(X, y))
    >>> display.ax_.get_ylabel(), display.score_ax_.get_ylabel()
    ('loss', 'score')
    """

    ax_: Any
    score_ax_: Any
    figure_: Any
    lines_: list[Any]

    def __init__(self, *, curves: Mapping[str, Sequence[History]], unit: str = "epoch") -> None:
        self.curves = curves
        self.unit = unit

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Any = None, curve_kwargs: Any = None
    ) -> Self:
        """Draw the course of a fitted estimator's training.

        Parameters
        ----------
        estimator : estimator
            A fitted network of this package, a scikit-learn network that has a ``loss_curve_``, or
            a pipeline, a search or the like of one. A `TabularClassifier` or `TabularRegressor`
            has curves for each kind of its networks.
        name : str or None, default=None
            What the legend calls the estimator, where several displays share axes. Its curves then
            have one colour, and the validation loss is dashed.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Where to draw, as in `plot`.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no losses.
        NotFittedError
            If it is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        trained = _trained_in(estimator)
        names = [name or ""] if len(trained) == 1 else _names_of(trained)
        return cls._of(names, trained).plot(ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimators(cls, estimators: Any, *, ax: Any = None, curve_kwargs: Any = None) -> Self:
        """Draw the courses of several estimators in one picture.

        Each has a colour; the validation losses are dashed.

        Parameters
        ----------
        estimators : dict of str to estimator, or list of estimators
            Fitted estimators of the kinds that `from_estimator` takes, by the names that the
            legend is to have; those of a list are numbered.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Where to draw, as in `plot`.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If an estimator has no losses.
        ValueError
            If there are none.
        NotFittedError
            If one is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        if not isinstance(estimators, Mapping):
            estimators = {str(i): each for i, each in enumerate(estimators, 1)}
        if not estimators:
            raise ValueError("estimators must hold at least one fitted estimator, got none.")
        names, trained = [], []
        for name, estimator in estimators.items():
            own = _trained_in(estimator)
            names += [str(name)] if len(own) == 1 else [f"{name}, {of}" for of in _names_of(own)]
            trained += own
        return cls._of(names, trained).plot(ax, curve_kwargs=curve_kwargs)

    @classmethod
    def _of(cls, names: Iterable[str], trained: Sequence[Any]) -> Self:
        are_lbfgs = [is_lbfgs(getattr(each, "solver", None)) for each in trained]
        unit = "epoch"
        if any(are_lbfgs):
            unit = "iteration" if all(are_lbfgs) else "epoch or iteration"
        by_name = zip(names, map(full_history, trained), strict=True)
        return cls(curves=dict(by_name), unit=unit)

    def plot(self, ax: Any = None, *, curve_kwargs: Any = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, pair of Axes or None, default=None
            Where to draw the losses, or the losses and the scores; on one alone the scores are
            left out. None for a new figure.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords for matplotlib's ``plot``, of all lines, or a dict for each estimator.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is none of these.
        ValueError
            If `curve_kwargs` is a list of another length.
        ImportError
            If matplotlib is not installed.
        """
        owner = type(self).__name__
        if ax is None:
            return self.draw_in(new_figure(owner), curve_kwargs)
        each = list(ax) if isinstance(ax, Iterable) else [ax, None]
        if len(each) != 2 or each[0] is None:
            raise TypeError(f"ax must be matplotlib Axes, a pair of them or None, got {ax!r}.")
        self._draw(check_axes(owner, each[0]), check_axes(owner, each[1]), curve_kwargs)
        add_legend(self.ax_)
        return self

    def draw_in(self, figure: Any, curve_kwargs: Any = None) -> Self:
        """Draw the curves into an empty figure, with the legend above them, where it hides none.

        Parameters
        ----------
        figure : matplotlib Figure
            Where to draw.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        if any(member.validation_scores for member in self._members):
            ax, score_ax = figure.subplots(2, sharex=True, height_ratios=[3, 2])
        else:
            ax, score_ax = figure.subplots(), None
        self._draw(ax, score_ax, curve_kwargs)
        if score_ax is not None:
            ax.set_xlabel("")
        handles, labels = ax.get_legend_handles_labels()
        width = max((len(label) for label in labels), default=0) / 14 + 0.5  # inches
        columns = max(1, min(len(labels), int(figure.get_figwidth() / width)))
        figure.legend(
            handles,
            labels,
            loc="outside upper center",
            ncols=columns,
            fontsize="small",
            frameon=False,
        )
        return self

    @property
    def _neutral(self) -> Any:
        """The colour of what is written, which goes with any style."""
        return self.ax_.xaxis.label.get_color()

    @property
    def _members(self) -> list[History]:
        return [member for members in self.curves.values() for member in members]

    def _draw(self, ax: Any, score_ax: Any, curve_kwargs: Any) -> None:
        """Draw the losses, and the scores where there are axes for them."""
        self.ax_, self.score_ax_, self.figure_ = ax, score_ax, ax.figure
        self.lines_ = []
        if isinstance(curve_kwargs, Mapping) or curve_kwargs is None:
            curve_kwargs = [curve_kwargs] * len(self.curves)
        if len(curve_kwargs) != len(self.curves):
            raise ValueError(
                f"curve_kwargs must be a dict, or a list with one for each of {len(self.curves)} "
                f"estimators, got {len(curve_kwargs)}."
            )
        one_of_several = list(self.curves) != [""]
        for (name, members), given in zip(self.curves.items(), curve_kwargs, strict=True):
            self._draw_estimator(name, members, given, one_of_several)
        if one_of_several:
            self._explain_styles()
        ax.set_ylabel("loss")
        for axes in filter(None, (ax, score_ax)):
            axes.set_xlabel(self.unit)
            if axes.get_xscale() == "linear":
                axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(alpha=0.3)
        set_log_scale_if_wide(ax, ax.lines)
        if score_ax is not None:
            score_ax.set_ylabel("score")

    def _draw_estimator(
        self, name: str, members: Sequence[History], given: Any, one_of_several: bool
    ) -> None:
        """Draw the curves of an estimator: alone a colour for each kind, or one for all kinds."""
        losses = [member.losses for member in members]
        watched = [member.validation_losses for member in members]
        scores = [member.validation_scores for member in members]
        best = [member.best_epoch for member in members]
        label = name if one_of_several else "training loss"
        style: dict[str, Any] = {} if len(members) == 1 else {"linewidth": 0.7, "alpha": 0.7}
        first = self._lines(self.ax_, losses, {**style, "label": label}, given)
        if one_of_several:
            own = {**style, "color": first[0].get_color() if first else None, "label": "_"}
            self._lines(self.ax_, watched, {**own, "linestyle": "--"}, given)
        else:
            self._lines(self.ax_, watched, {**style, "label": "validation loss"}, given)
            own = {**style, "color": _SCORES, "label": "_"}
        if self.score_ax_ is not None:
            self._lines(self.score_ax_, scores, own, given)
        if any(scores):
            said = f"best {self.unit}" + (f": {best[0]}" if len(members) == 1 else "s")
            label = "_" if one_of_several else said
            dots = {
                "color": own["color"] if one_of_several else self._neutral,
                "markersize": 5 if len(members) == 1 else 3,
            }
            _mark(self.ax_, watched, best, {**dots, "label": label})
            if self.score_ax_ is not None:
                _mark(self.score_ax_, scores, best, {**dots, "label": "_"})

    def _lines(
        self, ax: Any, curves: Sequence[Sequence[float]], style: dict[str, Any], given: Any
    ) -> list[Any]:
        """Draw a line for each member, all of one colour and under one label; return them."""
        from matplotlib.lines import Line2D

        drawn: list[Any] = []
        for curve in filter(None, curves):
            # A single number makes no line.
            default = {"marker": "." if len(curve) == 1 else None, **style}
            drawn += ax.plot(
                range(1, len(curve) + 1), curve, **merge_kwargs(default, given, Line2D)
            )
            # A legend leaves out labels that begin so.
            style = {**style, "color": drawn[0].get_color(), "label": "_"}
        self.lines_ += drawn
        return drawn

    def _explain_styles(self) -> None:
        """Let the legend say what is dashed and what dots are, where colours are estimators."""
        styles: dict[str, dict[str, Any]] = {}
        if any(member.validation_losses for member in self._members):
            styles |= {"training loss": {"linestyle": "-"}, "validation loss": {"linestyle": "--"}}
        if any(member.validation_scores for member in self._members):
            styles[f"best {self.unit}"] = {"linestyle": "none", "marker": "o", "markersize": 5}
        _, explained = self.ax_.get_legend_handles_labels()
        for label in (label for label in styles if label not in explained):
            self.ax_.plot([], [], color=self._neutral, label=label, **styles[label])


def _mark(
    ax: Any, curves: Sequence[Sequence[float]], best_epochs: Sequence[int], style: dict[str, Any]
) -> None:
    """Put a dot on each curve where its best epoch is."""
    marked = [
        (best, curve[best - 1])
        for best, curve in zip(best_epochs, curves, strict=True)
        if 0 < best <= len(curve)
    ]
    if marked:
        ax.plot(*zip(*marked, strict=True), linestyle="none", marker="o", **style)


def _trained_in(estimator: Any) -> list[Any]:
    """Return the estimators with losses that one holds."""
    trained = unwrap_estimator(estimator)
    if all(getattr(each, "loss_curve_", None) is not None for each in trained):
        return trained
    raise TypeError(
        "LossCurveDisplay takes a fitted network with a loss_curve_, such as a BackpropClassifier, "
        "a TabularClassifier, or a pipeline or search of one that has been refitted, got "
        f"{estimator!r}."
    )


def _names_of(networks: Sequence[Any]) -> list[str]:
    """Return what tells the kinds of networks of a tabular estimator apart."""
    names = ["-".join(map(str, network.hidden_layer_sizes)) + " units" for network in networks]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]
