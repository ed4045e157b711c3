"""Plot losses and validation scores over the epochs of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Self

from ..estimators._history import LossCurves, get_full_history
from ..training.config import is_lbfgs
from ._plotting import check_matplotlib, merge_kwargs, set_log_scale_if_wide, unwrap_estimator


class LossCurveDisplay:
    """Plot of losses and validation scores over the epochs of training.

    Use `from_estimator` to create it, or `from_estimators` to compare several estimators. The upper
    part has the training loss and, if there are validation rows, the dashed validation loss. With
    early stopping, a lower part has the validation scores, and dots mark the best epoch, whose
    weights the estimator has. An ensemble has a thin line for each member. Losses that span more
    than a factor of 20 are plotted on a logarithmic scale; ``display.ax_.set_yscale("linear")``
    undoes it.

    Parameters
    ----------
    curves : dict of str to list of LossCurves
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

    def __init__(self, *, curves: Mapping[str, Sequence[LossCurves]], unit: str = "epoch") -> None:
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
            The name of the estimator in the legend, if several displays share axes.
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

        Each estimator has its own color.

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
            raise ValueError("estimators must contain at least one fitted estimator, got none.")
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
        histories = zip(names, map(get_full_history, networks), strict=True)
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
        check_matplotlib(type(self).__name__)
        from matplotlib import pyplot
        from matplotlib.axes import Axes

        if isinstance(curve_kwargs, Mapping) or curve_kwargs is None:
            curve_kwargs = [curve_kwargs] * len(self.curves)
        if len(curve_kwargs) != len(self.curves):
            raise ValueError(
                f"curve_kwargs must be a dict, or a list with one for each of {len(self.curves)} "
                f"estimators, got {len(curve_kwargs)}."
            )
        if ax is None:
            members = chain.from_iterable(self.curves.values())
            has_scores = any(member.validation_scores for member in members)
            figure = pyplot.figure(layout="constrained")
            ax = figure.subplots(1 + has_scores, sharex=True, squeeze=False)[:, 0]
            ax[0].xaxis.label.set_visible(not has_scores)
        axes = [*ax] if isinstance(ax, Iterable) else [ax]
        if not (1 <= len(axes) <= 2 and all(isinstance(each, Axes) for each in axes)):
            raise TypeError(f"ax must be a matplotlib Axes, a pair of them or None, got {ax!r}.")
        self.ax_, self.score_ax_ = axes[0], axes[1] if len(axes) == 2 else None
        self.figure_, self.lines_ = self.ax_.figure, []
        for (name, histories), user_kwargs in zip(self.curves.items(), curve_kwargs, strict=True):
            self._plot_estimator(name, histories, user_kwargs)
        for each, label in zip(axes, ("loss", "score"), strict=False):
            each.set(xlabel=self.unit, ylabel=label)
        self.ax_.legend()
        set_log_scale_if_wide(self.ax_, self.ax_.lines)
        return self

    def _plot_estimator(self, name: str, histories: Sequence[LossCurves], user_kwargs: Any) -> None:
        """Plot the curves of an estimator, all with the same color."""
        from matplotlib.lines import Line2D

        thin: dict[str, Any] = {} if len(histories) == 1 else {"linewidth": 0.7, "alpha": 0.7}
        color, best_label = None, "_" if name else f"best {self.unit}"
        for ax, attribute, linestyle, label in (
            (self.ax_, "losses", "-", name or "training loss"),
            (self.ax_, "validation_losses", "--", f"{name}, validation loss".removeprefix(", ")),
            (self.score_ax_, "validation_scores", "-", "_"),
        ):
            for history in histories:
                curve, best = getattr(history, attribute), history.best_epoch
                if ax is None or not curve:
                    continue
                style = {**thin, "color": color, "linestyle": linestyle, "label": label}
                # A single value needs a marker, as it makes no line.
                style["marker"] = "." if len(curve) == 1 else None
                style = merge_kwargs(style, user_kwargs, Line2D)
                (line,) = ax.plot(range(1, len(curve) + 1), curve, **style)
                self.lines_.append(line)
                # The legend leaves out labels that begin with an underscore.
                color, label = line.get_color(), "_"
                if attribute != "losses" and history.validation_scores and 0 < best <= len(curve):
                    ax.plot(best, curve[best - 1], "o", color=color, markersize=4, label=best_label)
                    best_label = "_"


def _get_fitted(estimator: Any) -> list[Any]:
    """Return the fitted networks with a loss curve inside an estimator."""
    networks = unwrap_estimator(estimator)
    if all(getattr(network, "loss_curve_", None) is not None for network in networks):
        return networks
    raise TypeError(
        "LossCurveDisplay needs a fitted network with a loss_curve_, such as a "
        "BackpropClassifier, a TabularClassifier, or a pipeline or refitted search of one, got "
        f"{estimator!r}."
    )


def _name_networks(networks: Sequence[Any]) -> list[str]:
    """Return names that tell the networks of a tabular estimator apart: their layer sizes."""
    if len(networks) == 1:
        return [""]
    names = ["-".join(map(str, network.hidden_layer_sizes)) + " units" for network in networks]
    if len(set(names)) == len(names):
        return names
    return [f"{i}: {name}" for i, name in enumerate(names, 1)]
