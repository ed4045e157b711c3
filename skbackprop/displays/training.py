"""Plot losses and scores over the epochs of training, and losses over learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..inspection._learning_rate_finder import LearningRateFinderResult, find_learning_rate
from ._plotting import get_axes, is_wide, unwrap_estimator


@dataclass(frozen=True)
class LossCurves:
    """Losses and scores of one network over all fits, including earlier warm starts, by epoch.

    Parameters
    ----------
    losses : list of float
        The training loss of each epoch.
    validation_losses : list of float
        The validation loss after each epoch; empty without validation data.
    validation_scores : list of float
        The validation score after each epoch; empty without early stopping.
    best_epoch : int
        The epoch whose weights are kept, counted from 1.
    """

    losses: list[float]
    validation_losses: list[float]
    validation_scores: list[float]
    best_epoch: int


def _get_curves(estimator: Any) -> list[LossCurves]:
    """Return the curves of each member of a network of this package, or of scikit-learn's."""
    best_iter, curves = getattr(estimator, "best_iter_", None), []
    n_members = 1 if best_iter is None else np.size(best_iter)
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_"):
        curve = getattr(estimator, name, None)
        members = [curve or []] if n_members == 1 else (curve or [[]] * n_members)
        curves.append([*map(list, members)])
    if best_iter is None:  # scikit-learn keeps the first of equal best scores
        best_epochs = np.array([1 + np.argmax(scores) if scores else 0 for scores in curves[2]])
    else:
        best_epochs = np.atleast_1d(best_iter)
        if not estimator._model.is_incremental:  # best_iter_ is counted in the last fit
            best_epochs = best_epochs + np.array([*map(len, curves[0])]) - estimator.n_iter_
    return [LossCurves(*member) for member in zip(*curves, best_epochs.tolist(), strict=True)]


class LossCurveDisplay:
    """Plot of losses and validation scores over the epochs of training.

    Use `from_estimator` to create it, or `from_estimators` to compare several estimators. The upper
    part has the training loss and, if there are validation rows, the dashed validation loss. With
    early stopping, a lower part has the validation scores, unless they are the negated validation
    losses, and dots mark the best epoch, whose weights the estimator has. Epochs of L-BFGS are its
    iterations. An ensemble has a thin line for each member. Losses that span more than a factor of
    20 are plotted on a logarithmic scale; ``display.ax_.set_yscale("linear")`` undoes it.

    Parameters
    ----------
    curves : dict of str to list of LossCurves
        For each estimator, by its name, the histories of its members: objects with ``losses``,
        ``validation_losses``, ``validation_scores`` and ``best_epoch``.

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

    def __init__(self, *, curves: Mapping[str, Sequence[LossCurves]]) -> None:
        self.curves = curves

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
        NotFittedError
            If an estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        """
        if not isinstance(estimators, Mapping):
            estimators = {str(i): estimator for i, estimator in enumerate(estimators, 1)}
        curves = {}
        for name, estimator in estimators.items():
            networks = unwrap_estimator(estimator)
            if not all(getattr(network, "loss_curve_", None) for network in networks):
                message = "LossCurveDisplay needs a fitted network with a loss_curve_, got"
                raise TypeError(f"{message} {estimator!r}.")
            for number, network in enumerate(networks, 1):
                parts = [str(name)]
                if len(networks) > 1:
                    sizes = "-".join(map(str, network.hidden_layer_sizes))
                    parts.append(f"{number}: {sizes} units")
                curves[", ".join(filter(None, parts))] = _get_curves(network)
        return cls(curves=curves).plot(ax)

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
        members = [member for members in self.curves.values() for member in members]
        if ax is None and any(map(_has_other_scores, members)):
            ax = get_axes(self, None, nrows=2, sharex=True)
            ax[0].xaxis.label.set_visible(False)
        axes = [get_axes(self, item) for item in (ax if isinstance(ax, Iterable) else [ax])]
        self.ax_, self.score_ax_ = axes[0], axes[1] if len(axes) > 1 else None
        self.figure_, self.lines_ = self.ax_.figure, list[Any]()
        for name, estimator_curves in self.curves.items():
            self._plot_estimator(name, estimator_curves)
        for panel, label in zip(axes, ("loss", "score"), strict=False):
            panel.set(xlabel="epoch", ylabel=label)
        self.ax_.legend()
        if is_wide(self.ax_.dataLim.intervaly):
            self.ax_.set_yscale("log")
        return self

    def _plot_estimator(self, name: str, members: Sequence[LossCurves]) -> None:
        """Plot the curves of an estimator, all with the same color."""
        thin: dict[str, Any] = {} if len(members) == 1 else {"linewidth": 0.7, "alpha": 0.7}
        # The legend leaves out labels that begin with an underscore.
        color, best_label = None, "_" if name else "best epoch"
        for ax, attribute, linestyle, label in (
            (self.ax_, "losses", "-", name or "training loss"),
            (self.ax_, "validation_losses", "--", f"{name}, validation loss".removeprefix(", ")),
            (self.score_ax_, "validation_scores", "-", "_"),
        ):
            for member in members:
                curve, best = getattr(member, attribute), member.best_epoch
                is_shown = attribute != "validation_scores" or _has_other_scores(member)
                if ax is None or not curve or not is_shown:
                    continue
                # A single value needs a marker, as it makes no line.
                marker = "." if len(curve) == 1 else None
                style = thin | {"color": color, "linestyle": linestyle, "marker": marker}
                (line,) = ax.plot(range(1, len(curve) + 1), curve, label=label, **style)
                self.lines_.append(line)
                color, label = line.get_color(), "_"
                if attribute != "losses" and member.validation_scores and 0 < best <= len(curve):
                    ax.plot(best, curve[best - 1], "o", color=color, markersize=4, label=best_label)
                    best_label = "_"


def _has_other_scores(curves: LossCurves) -> bool:
    """Return whether there are validation scores other than the negated validation losses."""
    scores = curves.validation_scores
    return bool(scores) and scores != [-loss for loss in curves.validation_losses]


class LearningRateDisplay:
    """Plot of the loss over the learning rate, with the suggested rate.

    Use `from_estimator` to create it, or pass the result of `find_learning_rate`.

    Parameters
    ----------
    range_test : LearningRateFinderResult
        The result of `find_learning_rate`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    line_ : matplotlib Line2D
        The smoothed loss.
    suggestion_line_ : matplotlib Line2D
        The suggested rate.

    See Also
    --------
    skbackprop.find_learning_rate : Runs the range test.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, find_learning_rate
    >>> from skbackprop.displays import LearningRateDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> result = find_learning_rate(BackpropClassifier(random_state=0), X, y)
    >>> display = LearningRateDisplay(range_test=result).plot()
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('learning rate', 'training loss')
    """

    def __init__(self, *, range_test: LearningRateFinderResult) -> None:
        self.range_test = range_test

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any = None, *, ax: Any = None) -> Self:
        """Run `find_learning_rate` with its default settings, and plot the result.

        Parameters
        ----------
        estimator : BackpropClassifier, BackpropRegressor, BackpropAutoencoder or Pipeline
            An estimator with a stochastic solver, or a pipeline that ends in one. It stays
            unchanged.
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets; None for an autoencoder.
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.

        Returns
        -------
        display : LearningRateDisplay
            The display, plotted. Its ``range_test`` holds the result.

        Raises
        ------
        TypeError, ValueError
            If `find_learning_rate` raises it.
        ImportError
            If matplotlib is not installed.
        """
        return cls(range_test=find_learning_rate(estimator, X, y)).plot(ax)

    def plot(self, ax: Any = None) -> Self:
        """Plot the losses over the learning rates, and mark the suggested rate.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on; None for a new figure.

        Returns
        -------
        display : LearningRateDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` is not matplotlib axes.
        ImportError
            If matplotlib is not installed.
        """
        self.ax_ = ax = get_axes(self, ax)
        self.figure_, result = ax.figure, self.range_test
        (self.line_,) = ax.plot(result.rates, result.smoothed_losses, label="smoothed")
        color = self.line_.get_color()
        ax.plot(result.rates, result.losses, color=color, alpha=0.3, label="loss of a batch")
        self.suggestion_line_ = ax.axvline(result.suggestion, color="C1", linestyle="--")
        self.suggestion_line_.set_label(f"suggestion: {result.suggestion:.2g}")
        # The last losses of single batches may be far above the smoothed curve.
        low, high = result.smoothed_losses.min(), result.smoothed_losses.max()
        ax.set_ylim(top=high + 0.1 * (high - low))
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.legend()
        return self
