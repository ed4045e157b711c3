"""Plot losses and validation scores over the epochs of training."""

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

# The color of the scores of a single network. Losses take the next color of the axes' cycle.
_SCORE_COLOR = "C2"


class LossCurveDisplay:
    """Plot of losses and validation scores over the epochs of training.

    Use `from_estimator` to create it, or `from_estimators` to compare several estimators. The upper
    part has the training loss and, if there are validation rows, the validation loss. With early
    stopping, a lower part has the validation scores, and dots mark the best epoch, whose weights
    the estimator has. An ensemble has a thin line for each member. Losses that span more than a
    factor of 20 are plotted on a logarithmic scale; ``display.ax_.set_yscale("linear")`` undoes it.

    Parameters
    ----------
    curves : dict of str to list of History
        For each estimator, by its name, the histories of its members: objects with ``losses``,
        ``validation_losses``, ``validation_scores`` and ``best_epoch``.
    unit : str, default="epoch"
        The unit of the horizontal axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the losses.
    score_ax_ : matplotlib Axes or None
        The axes of the scores; None if there are none.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of matplotlib Line2D
        The curves. For each estimator the training losses of its members come first, then the
        validation losses, then the scores.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.displays import LossCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(early_stopping=True, learning_rate_init=0.01, random_state=0)
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
        """Plot the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted network of this package, a scikit-learn network with a ``loss_curve_``, or a
            pipeline, search or other meta-estimator around one. A tabular estimator has curves for
            each of its `networks_`.
        name : str or None, default=None
            The name of the estimator in the legend, if several displays share axes. All its curves
            then have the same color, and the validation loss is dashed.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes to plot on, as in `plot`.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If the estimator has no loss curve.
        NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        fitted = _get_fitted(estimator)
        names = [name or ""] if len(fitted) == 1 else _name_networks(fitted)
        return cls._from_fitted(names, fitted).plot(ax, curve_kwargs=curve_kwargs)

    @classmethod
    def from_estimators(cls, estimators: Any, *, ax: Any = None, curve_kwargs: Any = None) -> Self:
        """Compare the training of several estimators.

        Each estimator has its own color. Validation losses are dashed.

        Parameters
        ----------
        estimators : dict of str to estimator, or list of estimators
            Fitted estimators of the kinds that `from_estimator` accepts, by their names in the
            legend. The estimators of a list are numbered.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes to plot on, as in `plot`.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display, plotted.

        Raises
        ------
        TypeError
            If an estimator has no loss curve.
        ValueError
            If there are no estimators.
        NotFittedError
            If an estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        if not isinstance(estimators, Mapping):
            estimators = {str(i): estimator for i, estimator in enumerate(estimators, 1)}
        if not estimators:
            raise ValueError("estimators must hold at least one fitted estimator, got none.")
        names, networks = [], []
        for name, estimator in estimators.items():
            fitted = _get_fitted(estimator)
            several = [f"{name}, {network_name}" for network_name in _name_networks(fitted)]
            names += [str(name)] if len(fitted) == 1 else several
            networks += fitted
        return cls._from_fitted(names, networks).plot(ax, curve_kwargs=curve_kwargs)

    @classmethod
    def _from_fitted(cls, names: Iterable[str], networks: Sequence[Any]) -> Self:
        use_lbfgs = [is_lbfgs(getattr(network, "solver", None)) for network in networks]
        unit = "iteration" if all(use_lbfgs) else "epoch or iteration"
        histories = zip(names, map(full_history, networks), strict=True)
        return cls(curves=dict(histories), unit=unit if any(use_lbfgs) else "epoch")

    def plot(self, ax: Any = None, *, curve_kwargs: Any = None) -> Self:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes for the losses, or a pair for losses and scores. With a single one the scores are
            left out. None for a new figure.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords for matplotlib's ``plot`` of all lines, or a dict for each estimator.

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
        caller = type(self).__name__
        if ax is None:
            return self.draw_in(new_figure(caller), curve_kwargs)
        pair = list(ax) if isinstance(ax, Iterable) else [ax, None]
        if len(pair) != 2 or pair[0] is None:
            raise TypeError(f"ax must be matplotlib Axes, a pair of them or None, got {ax!r}.")
        self._plot(check_axes(caller, pair[0]), check_axes(caller, pair[1]), curve_kwargs)
        add_legend(self.ax_)
        return self

    def draw_in(self, figure: Any, curve_kwargs: Any = None) -> Self:
        """Plot the curves into an empty figure, with the legend above them.

        Parameters
        ----------
        figure : matplotlib Figure
            The figure.
        curve_kwargs : dict, list of dict or None, default=None
            Keywords of the lines, as in `plot`.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.
        """
        if self._has("validation_scores"):
            ax, score_ax = figure.subplots(2, sharex=True, height_ratios=[3, 2])
        else:
            ax, score_ax = figure.subplots(), None
        self._plot(ax, score_ax, curve_kwargs)
        if score_ax is not None:
            ax.set_xlabel("")
        handles, labels = ax.get_legend_handles_labels()
        width = max((len(label) for label in labels), default=0) / 14 + 0.5  # inches
        n_columns = max(1, min(len(labels), int(figure.get_figwidth() / width)))
        style = {"ncols": n_columns, "fontsize": "small", "frameon": False}
        figure.legend(handles, labels, loc="outside upper center", **style)
        return self

    def _has(self, attribute: str) -> bool:
        """Return whether any history has values of this kind."""
        histories = (history for each in self.curves.values() for history in each)
        return any(getattr(history, attribute) for history in histories)

    def _plot(self, ax: Any, score_ax: Any, curve_kwargs: Any) -> None:
        """Plot the losses, and the scores if there are axes for them."""
        self.ax_, self.score_ax_, self.figure_, self.lines_ = ax, score_ax, ax.figure, []
        if isinstance(curve_kwargs, Mapping) or curve_kwargs is None:
            curve_kwargs = [curve_kwargs] * len(self.curves)
        if len(curve_kwargs) != len(self.curves):
            raise ValueError(
                f"curve_kwargs must be a dict, or a list with one for each of {len(self.curves)} "
                f"estimators, got {len(curve_kwargs)}."
            )
        is_named = list(self.curves) != [""]
        for (name, histories), user_kwargs in zip(self.curves.items(), curve_kwargs, strict=True):
            self._plot_estimator(name, histories, user_kwargs, is_named)
        if is_named:
            self._add_style_labels()
        ax.set_ylabel("loss")
        for axes in filter(None, (ax, score_ax)):
            axes.set_xlabel(self.unit)
            if axes.get_xscale() == "linear":
                axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            axes.grid(alpha=0.3)
        set_log_scale_if_wide(ax, ax.lines)
        if score_ax is not None:
            score_ax.set_ylabel("score")

    def _plot_estimator(
        self, name: str, histories: Sequence[History], user_kwargs: Any, is_named: bool
    ) -> None:
        """Plot the curves of an estimator. Those of a named estimator all have the same color."""
        is_single = len(histories) == 1
        losses, val_losses, scores, best_epochs = (
            [getattr(history, attribute) for history in histories]
            for attribute in ("losses", "validation_losses", "validation_scores", "best_epoch")
        )
        thin: dict[str, Any] = {} if is_single else {"linewidth": 0.7, "alpha": 0.7}
        label = name if is_named else "training loss"
        lines = self._plot_lines(self.ax_, losses, {**thin, "label": label}, user_kwargs)
        if is_named:
            color = lines[0].get_color() if lines else None
            dashed: dict[str, Any] = {"color": color, "label": "_", "linestyle": "--"}
            self._plot_lines(self.ax_, val_losses, {**thin, **dashed}, user_kwargs)
        else:
            color, own_style = _SCORE_COLOR, {**thin, "label": "validation loss"}
            self._plot_lines(self.ax_, val_losses, own_style, user_kwargs)
        if self.score_ax_ is not None:
            own_style = {**thin, "color": color, "label": "_"}
            self._plot_lines(self.score_ax_, scores, own_style, user_kwargs)
        if not any(scores):
            return
        label = f"best {self.unit}" + (f": {best_epochs[0]}" if is_single else "s")
        style = {
            "color": color if is_named else self.ax_.xaxis.label.get_color(),
            "label": "_" if is_named else label,
            "linestyle": "none",
            "marker": "o",
            "markersize": 5 if is_single else 3,
        }
        for ax, curves in ((self.ax_, val_losses), (self.score_ax_, scores)):
            dots = [
                (best, curve[best - 1])
                for best, curve in zip(best_epochs, curves, strict=True)
                if 0 < best <= len(curve)
            ]
            if ax is not None and dots:
                ax.plot(*zip(*dots, strict=True), **style)
                style["label"] = "_"

    def _plot_lines(
        self, ax: Any, curves: Sequence[Sequence[float]], style: dict[str, Any], user_kwargs: Any
    ) -> list[Any]:
        """Plot a line for each member, all with the same color and one label, and return them."""
        from matplotlib.lines import Line2D

        lines: list[Any] = []
        for curve in filter(None, curves):
            # A single value needs a marker, as it makes no line.
            default = {"marker": "." if len(curve) == 1 else None, **style}
            epochs = range(1, len(curve) + 1)
            lines += ax.plot(epochs, curve, **merge_kwargs(default, user_kwargs, Line2D))
            # The legend leaves out labels that begin with an underscore.
            style = {**style, "color": lines[0].get_color(), "label": "_"}
        self.lines_ += lines
        return lines

    def _add_style_labels(self) -> None:
        """Explain dashed lines and dots in the legend of named estimators."""
        styles: dict[str, dict[str, Any]] = {}
        if self._has("validation_losses"):
            styles |= {"training loss": {"linestyle": "-"}, "validation loss": {"linestyle": "--"}}
        if self._has("validation_scores"):
            styles[f"best {self.unit}"] = {"linestyle": "none", "marker": "o", "markersize": 5}
        _, labels = self.ax_.get_legend_handles_labels()
        for label in (label for label in styles if label not in labels):
            color = self.ax_.xaxis.label.get_color()
            self.ax_.plot([], [], color=color, label=label, **styles[label])


def _get_fitted(estimator: Any) -> list[Any]:
    """Return the fitted networks with a loss curve inside an estimator."""
    networks = unwrap_estimator(estimator)
    if all(getattr(network, "loss_curve_", None) is not None for network in networks):
        return networks
    raise TypeError(
        "LossCurveDisplay takes a fitted network with a loss_curve_, such as a BackpropClassifier, "
        f"a TabularClassifier, or a pipeline or refitted search of one, got {estimator!r}."
    )


def _name_networks(networks: Sequence[Any]) -> list[str]:
    """Return names that tell the networks of a tabular estimator apart: their layer sizes."""
    if len(networks) == 1:
        return [""]
    names = ["-".join(map(str, network.hidden_layer_sizes)) + " units" for network in networks]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]
