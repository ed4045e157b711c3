"""Plot the result of a learning rate finder."""

from __future__ import annotations

from typing import Any, Self

from ..inspection._learning_rate_finder import LearningRateFinderResult, find_learning_rate
from ._plotting import check_matplotlib, get_axes


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
    >>> found = find_learning_rate(BackpropClassifier(random_state=0), X, y)
    >>> display = LearningRateDisplay(range_test=found).plot()
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('learning rate', 'training loss')
    """

    ax_: Any
    figure_: Any
    line_: Any
    suggestion_line_: Any

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
        check_matplotlib(cls.__name__)
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
        ax, result = get_axes(type(self).__name__, ax), self.range_test
        (self.line_,) = ax.plot(result.rates, result.smoothed_losses, label="smoothed")
        color = self.line_.get_color()
        ax.plot(result.rates, result.losses, color=color, alpha=0.3, label="loss of a batch")
        label = f"suggestion: {result.suggestion:.2g}"
        self.suggestion_line_ = ax.axvline(
            result.suggestion, color="C1", linestyle="--", label=label
        )
        # The last losses of single batches may be far above the smoothed curve.
        low, high = result.smoothed_losses.min(), result.smoothed_losses.max()
        ax.set_ylim(top=high + 0.1 * (high - low))
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
