"""A learning curve that is drawn while a network trains, in a notebook and to a file."""

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

# Pixels to an inch of pictures in a notebook, which shows them at half the size: sharp on any
# screen.
_DPI = 200


class LiveLossPlot:
    """A callback that draws losses and validation scores over the epochs while a network trains.

    The upper part has the training loss and, where rows are held out or watched, the validation
    loss; under early stopping a lower part has the validation scores, and dots mark the best epoch
    so far, whose weights are kept. Of an ensemble there is a thin line for each member; if it is
    trained by L-BFGS, they are drawn at the end. The epochs are those of one fit.

    In a notebook the picture appears below the cell and is redrawn in place. A file is replaced as
    a whole, so that a viewer that reloads it never meets half a picture. The last drawing is that
    of the end of the fit, also if it was interrupted. If the file cannot be written within a fit,
    it is a warning and training goes on. The size is matplotlib's ``rcParams["figure.figsize"]``.

    Parameters
    ----------
    path : str, path-like or None, default=None
        The file; its suffix is .png, .svg or .pdf. None for none, in a notebook. Fits that share it
        draw over each other's picture.
    every : float, default=2.0
        The least number of seconds between two drawings, each of which takes a tenth to a third of
        one; 0 draws each epoch, ``np.inf`` the first one and the last.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The picture of the last fit that was drawn. It does not travel with copies and pickles.

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
    >>> model = BackpropClassifier((8,), early_stopping=True, max_iter=20, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     curve = LiveLossPlot(Path(folder) / "iris.png")
    ...     model = model.set_callbacks(curve).fit(X, y)
    ...     curve.path.exists()
    True
    >>> [axes.get_ylabel() for axes in curve.figure_.axes]
    ['loss', 'score']
    """

    figure_: Any

    def __init__(self, path: Any = None, every: float = 2.0) -> None:
        is_number = isinstance(every, Real) and not isinstance(every, bool)
        if not is_number or not every >= 0:
            raise ValueError(f"every of LiveLossPlot must be a number >= 0, got {every!r}.")
        self.path = None if path is None else check_path(self, path, (".png", ".svg", ".pdf"))
        self.every = float(every)
        # By the context of the fit: several may go on at a time, in threads.
        self._drawings: dict[Any, _LiveFigure] = {}

    def __repr__(self) -> str:
        path = None if self.path is None else str(self.path)
        return f"LiveLossPlot({path!r}, every={self.every:g})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the settings alone: pictures belong to who has seen the fit."""
        return type(self), (self.path, self.every)

    def setup(self, estimator: Any, context: Any) -> None:
        """See whether there is something to draw with, and somewhere to draw to."""
        figure = _new_figure()
        if self.path is not None:
            with prefix_file_errors(self, self.path):
                check_replaceable(self.path)
        elif not _is_in_notebook():
            raise ValueError(
                "LiveLossPlot has nowhere to draw to: outside of a notebook give it the path of "
                "a file, such as LiveLossPlot('curve.png')."
            )
        self._drawings[context] = _LiveFigure(figure)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Draw what an interrupt has left undrawn."""
        drawing = self._drawings.pop(context, None)
        if drawing is not None and drawing.is_behind:
            self._draw(estimator, drawing)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: the curve is one of epochs that are over."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Draw the epochs so far, if it is time to."""
        progress = history_of(fitted_estimator)
        if not any(member.losses for member in progress):
            return  # nothing to draw
        while context not in self._drawings:  # that of the fit, which has been set up
            context = context.parent
        drawing = self._drawings[context]
        drawing.progress = progress
        if drawing.is_behind and time.monotonic() >= drawing.due_at:
            self._draw(estimator, drawing)

    def _draw(self, estimator: Any, drawing: _LiveFigure) -> None:
        """Draw the epochs so far, and show them."""
        figure, path = drawing.figure, self.path
        unit = "iteration" if is_lbfgs(estimator.solver) else "epoch"
        figure.clear()
        LossCurveDisplay(curves={"": drawing.progress}, unit=unit).draw_in(figure)
        if path is not None:
            picture = _picture(figure, format=path.suffix[1:].lower())
            warn_on_oserror(self, path, lambda: _write(path, picture))
        if _is_in_notebook():
            drawing.show(_picture(figure, format="png", dpi=_DPI))
        drawing.drawn, drawing.due_at = drawing.progress, time.monotonic() + self.every
        self.figure_ = figure


class _LiveFigure:
    """What is drawn of one fit.

    Parameters
    ----------
    figure : matplotlib Figure
        Where to.
    """

    def __init__(self, figure: Any) -> None:
        self.figure = figure
        self.progress: list[History] = []  # so far
        self.drawn: list[History] = []  # in the last picture
        self.due_at = -math.inf
        self._output: Any = None

    @property
    def is_behind(self) -> bool:
        """Whether there is progress that is not drawn yet."""
        return self.progress != self.drawn

    def show(self, png: bytes) -> None:
        """Show a picture in the notebook, in place of the last one of this fit."""
        from IPython.display import Image, display

        picture = Image(png, format="png", retina=True)
        if self._output is None:
            self._output = display(picture, display_id=True)
        else:
            self._output.update(picture)


def _new_figure() -> Any:
    """Return a figure that pyplot does not know of, so that none is left open."""
    check_matplotlib(LiveLossPlot.__name__)
    from matplotlib.figure import Figure

    return Figure(layout="constrained")


def _is_in_notebook() -> bool:
    """Return whether this is a process that runs the cells of a notebook."""
    # Where it is, IPython has been imported.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _write(path: Path, picture: bytes) -> None:
    with atomic_write(path) as file:
        file.write(picture)


def _picture(figure: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
