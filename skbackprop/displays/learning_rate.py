"""The range test of learning rates as a picture."""

from __future__ import annotations

from typing import Any, Self

from ..inspection._learning_rate_finder import LearningRateFinderResult, find_learning_rate
from ._matplotlib import add_legend, axes_for, check_matplotlib, merge_kwargs


class LearningRateDisplay:
    """The loss over the learning rate, and the suggested rate: a range test.

    It is made by `from_estimator`, or of what `find_learning_rate` has returned.

    Parameters
    ----------
    range_test : LearningRateFinderResult
        What `find_learning_rate` has found.

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
    skbackprop.find_learning_rate : The range test itself.

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
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        smallest: float = 1e-6,
        largest: float = 10.0,
        n_steps: int = 100,
        ax: Any = None,
        curve_kwargs: Any = None,
    ) -> Self:
        """Try learning rates on an estimator, and draw what becomes of the loss.

        Parameters
        ----------
        estimator : BackpropClassifier, BackpropRegressor, BackpropAutoencoder or Pipeline
            The estimator, which stays as it is, with a stochastic solver; or a pipeline of one.
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets; None for an estimator that is fitted without any.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row; None for equal weights.
        smallest, largest : float, default=1e-6, 10.0
            The first and the last rate, positive.
        n_steps : int, default=100
            The number of rates, at least 20.
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the smoothed loss.

        Returns
        -------
        display : LearningRateDisplay
            The display, drawn; what was found is its ``range_test``.

        Raises
        ------
        TypeError, ValueError
            What `find_learning_rate` raises.
        ImportError
            If matplotlib is not installed.
        """
        check_matplotlib(cls.__name__)
        found = find_learning_rate(
            estimator,
            X,
            y,
            sample_weight=sample_weight,
            smallest=smallest,
            largest=largest,
            n_steps=n_steps,
        )
        return cls(range_test=found).plot(ax, curve_kwargs=curve_kwargs)

    def plot(self, ax: Any = None, *, curve_kwargs: Any = None) -> Self:
        """Draw the losses over the rates, and mark the suggestion.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None for a new figure.
        curve_kwargs : dict, default=None
            Keywords for matplotlib's ``plot`` of the smoothed loss.

        Returns
        -------
        display : LearningRateDisplay
            The display itself.

        Raises
        ------
        TypeError
            If `ax` are no axes.
        ImportError
            If matplotlib is not installed.
        """
        ax, found = axes_for(type(self).__name__, ax), self.range_test
        from matplotlib.lines import Line2D

        style = merge_kwargs({"label": "smoothed"}, curve_kwargs, Line2D)
        (self.line_,) = ax.plot(found.rates, found.smoothed_losses, **style)
        color = self.line_.get_color()
        ax.plot(found.rates, found.losses, color=color, alpha=0.3, label="loss of a batch")
        label = f"suggestion: {found.suggestion:.2g}"
        self.suggestion_line_ = ax.axvline(
            found.suggestion, color=ax.xaxis.label.get_color(), linestyle="--", label=label
        )
        # What matters is the curve; the last losses of single batches may be far above it.
        low, high = found.smoothed_losses.min(), found.smoothed_losses.max()
        ax.set_ylim(top=high + 0.1 * (high - low))
        ax.set(xscale="log", xlabel="learning rate", ylabel="training loss")
        ax.grid(alpha=0.3)
        add_legend(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
