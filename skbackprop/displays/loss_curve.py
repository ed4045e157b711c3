"""Plot losses and validation scores over the epochs of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from ..estimators._history import LossCurves, get_full_history
from ..training.config import is_lbfgs
from ._plotting import check_matplotlib, set_log_scale_if_wide, unwrap_estimator


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
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> Self:
        """Plot the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted network of this package, a scikit-learn network with a ``loss_curve_``, or a
            pipeline, search or other meta-estimator around one. A tabular estimator has curves for
            each of its `networks_`.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes to plot on, as in `plot`.

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
        return cls.from_estimators({"": estimator}, ax=ax)

    @classmethod
    def from_estimators(cls, estimators: Any, *, ax: Any = None) -> Self:
        """Compare the training of several estimators.

        Each estimator has its own color.

        Parameters
        ----------
        estimators : dict of str to estimator, or list of estimators
            Fitted estimators of the kinds that `from_estimator` accepts, by their names in the
            legend. The estimators of a list are numbered.
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes to plot on, as in `plot`.

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
        if not isinstance(estimators, Mapping):
            estimators = {str(i): estimator for i, estimator in enumerate(estimators, 1)}
        if not estimators:
            raise ValueError("estimators must contain at least one fitted estimator, got none.")
        curves, units = {}, set()
        for name, estimator in estimators.items():
            networks = unwrap_estimator(estimator)
            if any(getattr(network, "loss_curve_", None) is None for network in networks):
                raise TypeError(
                    "LossCurveDisplay needs a fitted network with a loss_curve_, such as a "
                    "BackpropClassifier, a TabularClassifier, or a pipeline or refitted search of "
                    f"one, got {estimator!r}."
                )
            for number, network in enumerate(networks, 1):
                is_single = len(networks) == 1
                own = "" if is_single else f"{number}: {_format_layers(network)}"
                curves[", ".join(filter(None, (str(name), own)))] = get_full_history(network)
                uses_lbfgs = is_lbfgs(getattr(network, "solver", None))
                units.add("iteration" if uses_lbfgs else "epoch")
        return cls(curves=curves, unit=" or ".join(sorted(units))).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Plot the curves.

        Parameters
        ----------
        ax : matplotlib Axes, pair of Axes or None, default=None
            Axes for the losses, or a pair for losses and scores. With a single one the scores are
            left out. None for a new figure.

        Returns
        -------
        display : LossCurveDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is none of these.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(type(self).__name__)
        from matplotlib import pyplot
        from matplotlib.axes import Axes

        if ax is None:
            has_scores = any(
                member.validation_scores for members in self.curves.values() for member in members
            )
            figure = pyplot.figure(layout="constrained")
            ax = figure.subplots(1 + has_scores, sharex=True, squeeze=False)[:, 0]
            ax[0].xaxis.label.set_visible(not has_scores)
        axes = [*ax] if isinstance(ax, Iterable) else [ax]
        if not (1 <= len(axes) <= 2 and all(isinstance(each, Axes) for each in axes)):
            raise TypeError(f"ax must be a matplotlib Axes, a pair of them or None, got {ax!r}.")
        self.ax_, self.score_ax_ = axes[0], axes[1] if len(axes) == 2 else None
        self.figure_, self.lines_ = self.ax_.figure, []
        for name, members in self.curves.items():
            self._plot_estimator(name, members)
        for each, label in zip(axes, ("loss", "score"), strict=False):
            each.set(xlabel=self.unit, ylabel=label)
        self.ax_.legend()
        set_log_scale_if_wide(self.ax_, self.ax_.lines)
        return self

    def _plot_estimator(self, name: str, members: Sequence[LossCurves]) -> None:
        """Plot the curves of an estimator, all with the same color."""
        thin: dict[str, Any] = {} if len(members) == 1 else {"linewidth": 0.7, "alpha": 0.7}
        # The legend leaves out labels that begin with an underscore.
        color, best_label = None, "_" if name else f"best {self.unit}"
        for ax, attribute, linestyle, label in (
            (self.ax_, "losses", "-", name or "training loss"),
            (self.ax_, "validation_losses", "--", f"{name}, validation loss".removeprefix(", ")),
            (self.score_ax_, "validation_scores", "-", "_"),
        ):
            for member in members:
                curve, best = getattr(member, attribute), member.best_epoch
                if ax is None or not curve:
                    continue
                # A single value needs a marker, as it makes no line.
                marker = "." if len(curve) == 1 else None
                style = {"color": color, "linestyle": linestyle, "marker": marker, "label": label}
                (line,) = ax.plot(range(1, len(curve) + 1), curve, **style, **thin)
                self.lines_.append(line)
                color, label = line.get_color(), "_"
                if attribute != "losses" and member.validation_scores and 0 < best <= len(curve):
                    ax.plot(best, curve[best - 1], "o", color=color, markersize=4, label=best_label)
                    best_label = "_"


def _format_layers(network: Any) -> str:
    """Return the sizes of the hidden layers, such as "128-64 units"."""
    return "-".join(map(str, network.hidden_layer_sizes)) + " units"
