"""Callback that plots losses during training, in a notebook or to a file."""

from __future__ import annotations

import io
import math
import sys
import time
from numbers import Real
from pathlib import Path
from typing import Any

from ..displays._matplotlib import check_matplotlib
from ..displays.loss_curve import LossCurveDisplay
from ..estimators._history import History, history_of
from ..training.config import is_lbfgs
from ..utils.atomic_write import atomic_write, check_replaceable
from ._files import check_path, prefix_file_errors, warn_on_oserror

# The resolution of plots in a notebook, which shows them at half the size for sharpness.
_DPI = 200


class LiveLossPlot:
    """Callback that plots losses and validation scores during training.

    The upper part has the training loss and, if there are validation rows, the validation loss.
    With early stopping, a lower part has the validation scores, and dots mark the best epoch so
    far. An ensemble has a thin line for each member; L-BFGS plots them at the end. The plot shows
    the epochs of one fit.

    In a notebook the plot appears below the cell and is updated in place. A file is replaced at
    once, so that a viewer never loads an incomplete one. The last update shows the end of the fit,
    also if it was interrupted. If the file cannot be written during a fit, the callback warns and
    training continues. The figure size is matplotlib's ``rcParams["figure.figsize"]``.

    Parameters
    ----------
    path : str, path-like or None, default=None
        The file, with the suffix .png, .svg or .pdf. None for no file, in a notebook. Fits that
        share a file overwrite it.
    every : float, default=2.0
        The minimum number of seconds between updates, each of which takes 0.1 to 0.3 seconds. 0
        plots after each epoch, ``np.inf`` only after the first one and the last.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The plot of the last fit. Copies and pickles leave it out.

    Raises
    ------
    ValueError
        If a parameter is not valid; in `fit`, if there is neither a path nor a notebook.
    ImportError
        In `fit`, if matplotlib is not installed.
    OSError
        In `fit`, before training begins, if the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import LiveLossPlot
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(early_stopping=True, learning_rate_init=0.01, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     plot = LiveLossPlot(Path(folder) / "iris.png")
    ...     model = model.set_callbacks(plot).fit(X, y)
    ...     plot.path.exists()
    True
    >>> [axes.get_ylabel() for axes in plot.figure_.axes]
    ['loss', 'score']
    """

    figure_: Any

    def __init__(self, path: Any = None, every: float = 2.0) -> None:
        is_number = isinstance(every, Real) and not isinstance(every, bool)
        if not is_number or not every >= 0:
            raise ValueError(f"every of LiveLossPlot must be a number >= 0, got {every!r}.")
        self.path = None if path is None else check_path(self, path, (".png", ".svg", ".pdf"))
        self.every = float(every)
        # The figures of running fits, by their contexts. Several fits may run in threads.
        self._figures: dict[Any, _LiveFigure] = {}

    def __repr__(self) -> str:
        path = None if self.path is None else str(self.path)
        return f"LiveLossPlot({path!r}, every={self.every:g})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle only the settings, because plots belong to a fit."""
        return type(self), (self.path, self.every)

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that matplotlib is installed, and that there is a file or a notebook."""
        figure = _new_figure()
        if self.path is not None:
            with prefix_file_errors(self, self.path):
                check_replaceable(self.path)
        elif not _is_in_notebook():
            raise ValueError(
                "LiveLossPlot needs the path of a file outside of a notebook, such as "
                "LiveLossPlot('loss.png')."
            )
        self._figures[context] = _LiveFigure(figure)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Plot epochs that an interrupt left out."""
        live = self._figures.pop(context, None)
        if live is not None and live.is_behind:
            self._draw(estimator, live)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Plot the epochs so far, if the last update is old enough."""
        histories = history_of(fitted_estimator)
        if not any(history.losses for history in histories):
            return
        while context not in self._figures:  # the context of the fit has a figure
            context = context.parent
        live = self._figures[context]
        live.histories = histories
        if live.is_behind and time.monotonic() >= live.due_at:
            self._draw(estimator, live)

    def _draw(self, estimator: Any, live: _LiveFigure) -> None:
        """Plot the epochs so far, and write or show the figure."""
        figure, path = live.figure, self.path
        unit = "iteration" if is_lbfgs(estimator.solver) else "epoch"
        figure.clear()
        LossCurveDisplay(curves={"": live.histories}, unit=unit).draw_in(figure)
        if path is not None:
            content = _render(figure, format=path.suffix[1:].lower())
            warn_on_oserror(self, path, lambda: _write(path, content))
        if _is_in_notebook():
            live.show(_render(figure, format="png", dpi=_DPI))
        live.plotted, live.due_at = live.histories, time.monotonic() + self.every
        self.figure_ = figure


class _LiveFigure:
    """Figure of a running fit, with the histories that it shows.

    Parameters
    ----------
    figure : matplotlib Figure
        The figure.
    """

    def __init__(self, figure: Any) -> None:
        self.figure = figure
        self.histories: list[History] = []  # so far
        self.plotted: list[History] = []  # in the last update
        self.due_at = -math.inf
        self._output: Any = None

    @property
    def is_behind(self) -> bool:
        """Whether there are epochs that are not plotted yet."""
        return self.histories != self.plotted

    def show(self, png: bytes) -> None:
        """Show the plot in the notebook, in place of the last one of this fit."""
        from IPython.display import Image, display

        image = Image(png, format="png", retina=True)
        if self._output is None:
            self._output = display(image, display_id=True)
        else:
            self._output.update(image)


def _new_figure() -> Any:
    """Return a figure that is not registered with pyplot, so that none is left open."""
    check_matplotlib(LiveLossPlot.__name__)
    from matplotlib.figure import Figure

    return Figure(layout="constrained")


def _is_in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook."""
    # Notebooks import IPython.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _render(figure: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
