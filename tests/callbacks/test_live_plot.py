"""Does the learning curve draw what the fitted estimator's curves are, where and when it should?"""

import copy
import pickle
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from matplotlib import _pylab_helpers, pyplot
from matplotlib.colors import same_color
from matplotlib.image import imread
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.callbacks import LiveLossPlot
from skbackprop.displays import LossCurveDisplay
from support import data_for, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.long]

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


class Pictures:
    """Counts the pictures that are drawn, and the numbers that are in them."""

    def __init__(self, monkeypatch):
        draw, self.n_epochs = LossCurveDisplay.draw_in, []

        def counted(display, figure):
            (members,) = display.curves.values()
            self.n_epochs.append(max(len(member.losses) for member in members))
            draw(display, figure)

        monkeypatch.setattr(LossCurveDisplay, "draw_in", counted)


@pytest.fixture
def pictures(monkeypatch):
    return Pictures(monkeypatch)


def followed(estimator_class, curve, **settings):
    """Return an estimator with a learning curve, and its data."""
    settings = {"n_iter_no_change": np.inf} | settings
    return quick(estimator_class, **settings).set_callbacks(curve), data_for(estimator_class)


# The colors in which training losses, validation losses and scores are drawn.
TRAINING, VALIDATION, SCORES = "C0", "C1", "C2"


def lines_of(axes, color):
    """Return the numbers of the lines of a color, having seen that they are over the epochs."""
    lines = [line for line in axes.lines if same_color(line.get_color(), color)]
    for line in lines:
        assert line.get_xdata().tolist() == list(range(1, len(line.get_xdata()) + 1))
    return [line.get_ydata().tolist() for line in lines]


def best_of(axes):
    """Return the points that are marked."""
    (points,) = [line for line in axes.lines if line.get_linestyle() == "None"]
    return list(zip(points.get_xdata(), points.get_ydata(), strict=True))


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --------------------------------------------------------------------- what is drawn


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("estimator_class", [BackpropClassifier, BackpropRegressor])
def test_the_lines_are_the_curves_of_the_estimator(tmp_path, estimator_class, n_estimators, solver):
    curve = LiveLossPlot(tmp_path / "curve.png")
    model, data = followed(
        estimator_class, curve, early_stopping=True, n_estimators=n_estimators, solver=solver
    )
    model.fit(*data)

    def curves(name):
        return [getattr(model, name)] if n_estimators == 1 else getattr(model, name)

    above, below = curve.figure_.axes
    assert lines_of(above, TRAINING) == curves("loss_curve_")
    assert lines_of(above, VALIDATION) == curves("validation_loss_curve_")
    assert lines_of(below, SCORES) == curves("validation_scores_")
    best = np.atleast_1d(model.best_iter_).tolist()
    for axes, name in ((above, "validation_loss_curve_"), (below, "validation_scores_")):
        assert best_of(axes) == [(b, c[b - 1]) for b, c in zip(best, curves(name), strict=True)]
    unit = "iteration" if solver == "lbfgs" else "epoch"
    assert below.get_xlabel() == unit
    of_best = f"best {unit}: {best[0]}" if n_estimators == 1 else f"best {unit}s"
    assert legend_of(curve.figure_) == ["training loss", "validation loss", of_best]


def test_without_scores_there_is_one_part_and_nothing_is_best(tmp_path):
    curve = LiveLossPlot(tmp_path / "curve.png")
    model, (X, y) = followed(BackpropRegressor, curve)
    model.fit(X, y)
    (axes,) = curve.figure_.axes
    assert legend_of(curve.figure_) == ["training loss"]
    model.fit(X, y, X_val=X, y_val=y)
    (axes,) = curve.figure_.axes
    assert lines_of(axes, VALIDATION) == [model.validation_loss_curve_]
    assert legend_of(curve.figure_) == ["training loss", "validation loss"]


def test_an_autoencoder_and_a_single_epoch_are_drawn(tmp_path):
    curve = LiveLossPlot(tmp_path / "curve.png")
    model, data = followed(BackpropAutoencoder, curve, max_iter=1)
    model.fit(*data)
    (axes,) = curve.figure_.axes
    assert lines_of(axes, TRAINING) == [model.loss_curve_]
    assert axes.lines[0].get_marker() == "."  # one point is no line


# ------------------------------------------------------------------------ when it is


def test_each_epoch_is_drawn_once_or_the_first_and_the_last(tmp_path, pictures):
    for every, drawn in ((0, [1, 2, 3, 4, 5]), (np.inf, [1, 5]), (1000.0, [1, 5])):
        pictures.n_epochs.clear()
        model, data = followed(BackpropClassifier, LiveLossPlot(tmp_path / "a.png", every=every))
        model.fit(*data)
        assert pictures.n_epochs == drawn


def test_what_an_interrupt_leaves_is_drawn(tmp_path, pictures):
    class Pressing(LiveLossPlot):
        def on_fit_task_begin(self, estimator, context):
            if context.parent is not None and context.task_id == 3:
                raise KeyboardInterrupt

    curve = Pressing(tmp_path / "curve.png", every=1000.0)
    model, data = followed(BackpropClassifier, curve)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data)
    assert pictures.n_epochs == [1, 3]
    assert lines_of(curve.figure_.axes[0], TRAINING) == [model.loss_curve_]


# ----------------------------------------------------------------------- where it is


@pytest.mark.parametrize("suffix", [*SIGNATURES, ".PNG"])
def test_the_suffix_names_the_format(tmp_path, suffix):
    path = tmp_path / f"curve{suffix}"
    model, data = followed(BackpropClassifier, LiveLossPlot(path))
    model.fit(*data)
    assert path.read_bytes().startswith(SIGNATURES[suffix.lower()])
    assert list(tmp_path.iterdir()) == [path]


def test_who_reads_the_file_finds_a_whole_picture(tmp_path):
    path, found = tmp_path / "curve.png", []
    model, data = followed(BackpropClassifier, LiveLossPlot(path, every=0), max_iter=6)
    training = threading.Thread(target=model.fit, args=data)
    training.start()
    while training.is_alive():
        if path.exists():
            found.append(imread(path).shape)
    training.join()
    assert found
    assert len(set(found)) == 1


def test_pyplot_knows_of_no_figure(tmp_path):
    before = pyplot.get_fignums()
    model, data = followed(BackpropClassifier, LiveLossPlot(tmp_path / "curve.png", every=0))
    model.fit(*data)
    assert pyplot.get_fignums() == before
    assert list(_pylab_helpers.Gcf.figs) == before


@pytest.fixture
def notebook(monkeypatch):
    """Return what a notebook is told to show: pairs of an output and a picture."""
    shown = []

    class Output:
        def update(self, picture):
            shown.append((self, picture))

    def display(picture, display_id):
        assert display_id is True
        shown.append((Output(), picture))
        return shown[-1][0]

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.version_info = (9, 0)  # which matplotlib asks for
    module.Image, module.display = (lambda png, **options: (png, options)), display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_in_a_notebook_one_output_of_each_fit_is_updated(tmp_path, notebook):
    model, data = followed(BackpropClassifier, LiveLossPlot(every=0), max_iter=2)
    model.fit(*data)
    assert len(notebook) == 2
    assert len({output for output, _ in notebook}) == 1
    assert all(png.startswith(SIGNATURES[".png"]) for _, (png, _) in notebook)
    assert all(options == {"format": "png", "retina": True} for _, (_, options) in notebook)
    model.fit(*data)
    assert len({output for output, _ in notebook}) == 2
    # With a path there is both.
    both = LiveLossPlot(tmp_path / "curve.svg", every=0)
    model.set_callbacks(both).fit(*data)
    assert len(notebook) == 6
    assert both.path.exists()


def test_in_ipython_outside_of_a_notebook_there_is_nowhere_to_draw_to(monkeypatch):
    ipython = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    for shell in (None, SimpleNamespace()):
        ipython.get_ipython = lambda shell=shell: shell
        model, data = followed(BackpropClassifier, LiveLossPlot())
        with pytest.raises(ValueError, match=r"outside of a notebook.*LiveLossPlot\('loss.png'\)"):
            model.fit(*data)
        assert not hasattr(model, "coefs_")


# ---------------------------------------------------------------------------- errors


def test_bad_arguments_are_errors_when_it_is_made():
    for path in ("curve", "curve.jpeg", 3):
        with pytest.raises(ValueError, match=r"LiveLossPlot .* \.png, \.svg or \.pdf, got"):
            LiveLossPlot(path)
    for every in (-1, np.nan, "often", None, True):
        with pytest.raises(ValueError, match="every of LiveLossPlot must be a number >= 0, got"):
            LiveLossPlot("curve.png", every=every)


def test_a_path_that_cannot_be_written_to_is_an_error_before_training(tmp_path, pictures):
    folder = tmp_path / "folder.png"
    folder.mkdir()
    for path in (tmp_path / "missing" / "curve.png", folder):
        model, data = followed(BackpropClassifier, LiveLossPlot(path))
        with pytest.raises(OSError, match="LiveLossPlot can't write to its path") as caught:
            model.fit(*data)
        assert caught.value.filename == str(path)
        assert not hasattr(model, "coefs_")
    assert pictures.n_epochs == []


def test_what_fails_within_a_fit_is_a_warning(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    model, data = followed(BackpropClassifier, LiveLossPlot(tmp_path / "curve.png", every=0))
    monkeypatch.setattr("os.replace", full)
    with pytest.warns(UserWarning, match=r"could not write to .*curve.png: No space left"):
        model.fit(*data)
    assert model.n_iter_ == 5
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------- copies, threads, pipelines, searches


def test_settings_travel_and_pictures_stay(tmp_path):
    curve = LiveLossPlot(tmp_path / "curve.png", every=7)
    model, data = followed(BackpropClassifier, curve)
    model.fit(*data)
    assert repr(curve) == f"LiveLossPlot({str(curve.path)!r}, every=7)"
    for other in (copy.deepcopy(curve), pickle.loads(pickle.dumps(model))._skl_callbacks[0]):
        assert repr(other) == repr(curve)
        assert not hasattr(other, "figure_")
    clone(model).fit(*data)
    assert repr(LiveLossPlot()) == "LiveLossPlot(None, every=2)"


def test_fits_in_threads_draw_each_its_own(tmp_path, monkeypatch):
    drawn, draw = [], LossCurveDisplay.draw_in

    def noted(display, figure):
        draw(display, figure)
        drawn.append((threading.get_ident(), id(figure), display.curves[""][0].losses))

    monkeypatch.setattr(LossCurveDisplay, "draw_in", noted)
    curve = LiveLossPlot(tmp_path / "curve.png", every=0)
    models = [
        followed(BackpropClassifier, curve, random_state=seed, max_iter=4)[0] for seed in (0, 1)
    ]
    data = data_for(BackpropClassifier)
    threads = [threading.Thread(target=model.fit, args=data) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(thread, figure) for thread, figure, _ in drawn}) == 2
    expected = [model.loss_curve_[:n] for model in models for n in range(1, 5)]
    assert sorted(losses for *_, losses in drawn) == sorted(expected)


def test_it_draws_in_a_pipeline_and_in_a_search(tmp_path):
    curve = LiveLossPlot(tmp_path / "curve.png", every=np.inf)
    model, (X, y) = followed(BackpropClassifier, curve, max_iter=2)
    pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    assert lines_of(curve.figure_.axes[0], TRAINING) == [pipeline[-1].loss_curve_]
    search = GridSearchCV(pipeline, {"backpropclassifier__alpha": [1.0]}, cv=2).fit(X, y)
    best = search.best_estimator_[-1]  # the last that is fitted
    assert lines_of(curve.figure_.axes[0], TRAINING) == [best.loss_curve_]


def test_set_on_a_pipeline_or_a_search_it_draws_nothing(tmp_path):
    X, y = data_for(BackpropClassifier)
    curve = LiveLossPlot(tmp_path / "curve.png")
    make_pipeline(StandardScaler(), quick(BackpropClassifier)).set_callbacks(curve).fit(X, y)
    search = GridSearchCV(quick(BackpropClassifier), {"alpha": [0.1]}, cv=2)
    search.set_callbacks(curve).fit(X, y)
    assert not hasattr(curve, "figure_")
    assert not curve.path.exists()
