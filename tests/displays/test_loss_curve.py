"""Are the curves drawn those of the estimators, and is the best epoch where it should be?"""

import pickle

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    ConformalRegressor,
    TabularClassifier,
)
from skbackprop.displays import LossCurveDisplay
from skbackprop.estimators._history import History
from skbackprop.inspection import BackpropFeatures
from support import class_data, data_for, few_epochs, quick, value_data
from support.pictures import labels_overlap

pytestmark = few_epochs


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def numbers_of(line):
    """Return the numbers of a line, having seen that they are over the epochs."""
    numbers = line.get_ydata().tolist()
    assert line.get_xdata().tolist() == list(range(1, len(numbers) + 1))
    return numbers


def drawn(display):
    return [numbers_of(line) for line in display.lines_]


def best_of(ax):
    """Return the points that are marked as the best."""
    marked = [line for line in ax.lines if line.get_linestyle() == "None" and len(line.get_xdata())]
    return [point for line in marked for point in zip(*line.get_data(), strict=True)]


def legend_of(display):
    legend = display.ax_.get_legend() or display.figure_.legends[0]
    return [text.get_text() for text in legend.get_texts()]


# ----------------------------------------------------------------------- one estimator


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("estimator_class", [BackpropClassifier, BackpropRegressor])
def test_the_lines_are_the_curves_of_the_estimator(estimator_class, solver, n_estimators):
    model = quick(estimator_class, early_stopping=True, n_estimators=n_estimators, solver=solver)
    model.fit(*data_for(estimator_class))
    display = LossCurveDisplay.from_estimator(model)
    names = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
    curves = [getattr(model, name) for name in names]
    if n_estimators == 1:
        curves = [[curve] for curve in curves]
    assert drawn(display) == [curve for each in curves for curve in each]
    best = np.atleast_1d(model.best_iter_).tolist()
    for ax, each in ((display.ax_, curves[1]), (display.score_ax_, curves[2])):
        assert best_of(ax) == [(b, curve[b - 1]) for b, curve in zip(best, each, strict=True)]
    unit = "iteration" if solver == "lbfgs" else "epoch"
    of_best = f"best {unit}: {best[0]}" if n_estimators == 1 else f"best {unit}s"
    assert legend_of(display) == ["training loss", "validation loss", of_best]
    assert display.score_ax_.get_xlabel() == unit
    assert (display.ax_.get_ylabel(), display.score_ax_.get_ylabel()) == ("loss", "score")
    colors = [line.get_color() for line in display.lines_[::n_estimators]]
    assert len({str(color) for color in colors}) == 3


def test_without_scores_nothing_is_best():
    X, y = value_data()
    model = quick(BackpropRegressor).fit(X, y, X_val=X, y_val=y)
    display = LossCurveDisplay.from_estimator(model)
    assert display.score_ax_ is None
    assert drawn(display) == [model.loss_curve_, model.validation_loss_curve_]
    assert best_of(display.ax_) == []
    assert drawn(LossCurveDisplay.from_estimator(model.fit(X, y))) == [model.loss_curve_]


def test_a_single_epoch_is_a_point():
    model = quick(BackpropAutoencoder, n_components=2, max_iter=1).fit(class_data()[0])
    (line,) = LossCurveDisplay.from_estimator(model).lines_
    assert line.get_marker() == "."


def test_the_best_epoch_of_a_warm_start_is_counted_over_all_fits():
    X, y = class_data()
    model = quick(BackpropClassifier, early_stopping=True, warm_start=True).fit(X, y)
    n_before = len(model.loss_curve_)
    model.fit(X, y)
    best = n_before + model.best_iter_
    display = LossCurveDisplay.from_estimator(model)
    assert best_of(display.score_ax_) == [(best, model.validation_scores_[best - 1])]
    assert display.lines_[0].get_xdata()[-1] == n_before + model.n_iter_


def test_the_best_epoch_of_calls_of_partial_fit_is_counted_over_all_of_them():
    X, y = class_data()
    model = quick(BackpropClassifier, early_stopping=True, learning_rate_init=0.1)
    for _ in range(4):
        model.partial_fit(X, y, classes=[0, 1, 2], X_val=X, y_val=y)
    best = model.best_iter_
    display = LossCurveDisplay.from_estimator(model)
    assert best_of(display.score_ax_) == [(best, model.validation_scores_[best - 1])]


def test_scikit_learns_network_is_drawn_too():
    X, y = class_data()
    model = MLPClassifier((5,), early_stopping=True, max_iter=5, random_state=0).fit(X, y)
    display = LossCurveDisplay.from_estimator(model)
    assert drawn(display) == [model.loss_curve_, model.validation_scores_]
    best = 1 + model.validation_scores_.index(model.best_validation_score_)
    assert best_of(display.score_ax_) == [(best, model.best_validation_score_)]


@pytest.mark.parametrize("wrap", [
    lambda model: make_pipeline(StandardScaler(), model),
    lambda model: GridSearchCV(model, {"alpha": [0.1]}, cv=2),
    lambda model: GridSearchCV(make_pipeline(StandardScaler(), model), {}, cv=2),
    lambda model: BackpropFeatures(model),
])  # fmt: skip
def test_what_holds_a_network_is_drawn_as_it(wrap):
    X, y = class_data()
    model = wrap(quick(BackpropClassifier)).fit(X, y)
    inner = model
    while not isinstance(inner, BackpropClassifier):
        inner = (
            inner[-1]
            if hasattr(inner, "steps")
            else getattr(inner, "best_estimator_", None) or inner.estimator_
        )
    for each in (model, FrozenEstimator(model), pickle.loads(pickle.dumps(model))):
        assert drawn(LossCurveDisplay.from_estimator(each)) == [inner.loss_curve_]


def test_a_conformal_regressor_is_drawn_as_what_it_holds():
    model = ConformalRegressor(quick(BackpropRegressor)).fit(*value_data())
    assert drawn(LossCurveDisplay.from_estimator(model)) == [model.estimator_.loss_curve_]


def test_a_tabular_estimator_has_curves_for_each_kind_of_its_networks():
    model = TabularClassifier(n_estimators=2, max_iter=2, random_state=0).fit(*class_data())
    display = LossCurveDisplay.from_estimator(model)
    assert drawn(display) == [curve for net in model.networks_ for curve in net.loss_curve_]
    sizes = ["-".join(map(str, network.hidden_layer_sizes)) for network in model.networks_]
    named = [f"{size} units" for size in sizes]
    numbered = [f"{i}: {name}" for i, name in enumerate(named, 1)]
    assert legend_of(display) == (named if len(set(sizes)) == 2 else numbered)
    model.networks_.reverse()
    for network in model.networks_:
        network.hidden_layer_sizes = (8, 4)
    display = LossCurveDisplay.from_estimators({"a": model})
    assert legend_of(display)[:2] == ["a, 1: 8-4 units", "a, 2: 8-4 units"]


# ------------------------------------------------------------------ several, and axes


def test_several_estimators_have_a_color_each():
    X, y = class_data()
    models = {
        "plain": quick(BackpropClassifier).fit(X, y),
        "stopped": quick(BackpropClassifier, early_stopping=True, n_estimators=2).fit(X, y),
    }
    display = LossCurveDisplay.from_estimators(models)
    plain, stopped = models.values()
    assert drawn(display) == [
        plain.loss_curve_,
        *stopped.loss_curve_,
        *stopped.validation_loss_curve_,
        *stopped.validation_scores_,
    ]
    colors = [line.get_color() for line in display.lines_]
    assert not same_color(colors[0], colors[1])
    assert all(same_color(color, colors[1]) for color in colors[2:])
    assert [line.get_linestyle() for line in display.lines_[1:5]] == ["-", "-", "--", "--"]
    explained = ["training loss", "validation loss", "best epoch"]
    assert legend_of(display) == ["plain", "stopped", *explained]
    assert legend_of(LossCurveDisplay.from_estimators([plain, plain])) == ["1", "2"]


def test_displays_share_axes():
    X, y = class_data()
    one, other = (
        quick(BackpropClassifier, early_stopping=True, random_state=i).fit(X, y) for i in range(2)
    )
    axes = Figure().subplots(2)
    first = LossCurveDisplay.from_estimator(one, name="one", ax=axes)
    second = LossCurveDisplay.from_estimator(other, name="other", ax=axes)
    assert (second.ax_, second.score_ax_) == tuple(axes)
    assert not same_color(first.lines_[0].get_color(), second.lines_[0].get_color())
    assert legend_of(second) == ["one", "training loss", "validation loss", "best epoch", "other"]
    alone = LossCurveDisplay.from_estimator(one, ax=Figure().subplots())
    assert alone.score_ax_ is None
    assert drawn(alone) == [one.loss_curve_, one.validation_loss_curve_]


def test_losses_far_apart_are_on_a_logarithmic_scale():
    progress = [History(losses, [], [], 0) for losses in ([1, 0.5], [1, 0.001], [1, -1])]
    scales = [LossCurveDisplay(curves={"": [each]}).plot().ax_.get_yscale() for each in progress]
    assert scales == ["linear", "log", "linear"]


def test_keywords_are_of_all_lines_or_of_each_estimator():
    model = quick(BackpropClassifier).fit(*class_data())
    display = LossCurveDisplay.from_estimator(model, curve_kwargs={"lw": 5, "c": "red"})
    assert display.lines_[0].get_linewidth() == 5
    display = LossCurveDisplay.from_estimators(
        [model, model], curve_kwargs=[{"linewidth": 1}, {"linewidth": 2}]
    )
    assert [line.get_linewidth() for line in display.lines_] == [1, 2]
    with pytest.raises(ValueError, match="curve_kwargs must .* each of 2 estimators, got 1"):
        display.plot(curve_kwargs=[{}])


@pytest.mark.parametrize("size", [(4, 3), (10, 7)])
@pytest.mark.parametrize("n_estimators", [1, 4])
def test_all_that_is_written_can_be_read(size, n_estimators):
    model = quick(BackpropClassifier, early_stopping=True, n_estimators=2).fit(*class_data())
    names = ["a network", "the other one", "of a name that is rather long", "one more"]
    with pyplot.rc_context({"figure.figsize": size}):
        display = LossCurveDisplay.from_estimators(dict.fromkeys(names[:n_estimators], model))
    assert labels_overlap(display.figure_) == []
    legend = display.figure_.legends[0].get_window_extent()
    assert legend.width <= display.figure_.bbox.width
    assert legend.y0 >= display.ax_.get_window_extent().y1


# ------------------------------------------------------------------------------ errors


def test_what_is_not_fitted_or_has_no_losses_is_an_error():
    X, y = value_data()
    draw = LossCurveDisplay.from_estimator
    unfitted = quick(BackpropRegressor)
    for estimator in (
        unfitted,
        make_pipeline(StandardScaler(), unfitted),
        GridSearchCV(unfitted, {"alpha": [1.0]}),
        TabularClassifier(),
    ):
        with pytest.raises(NotFittedError):
            draw(estimator)
    rebuilt = BackpropRegressor()
    rebuilt.coefs_, rebuilt.intercepts_ = [np.ones((2, 1))], [np.ones(1)]
    unrefitted = GridSearchCV(quick(BackpropRegressor), {"alpha": [0.1]}, refit=False, cv=2)
    for estimator in (LinearRegression().fit(X, y), rebuilt, unrefitted.fit(X, y), "model", None):
        with pytest.raises(TypeError, match="takes a fitted network with a loss_curve_.*, got"):
            draw(estimator)
    with pytest.raises(ValueError, match="at least one fitted estimator, got none"):
        LossCurveDisplay.from_estimators({})
    fitted = unfitted.fit(X, y)
    for axes in ([None, None], [Figure().subplots()], [Figure().subplots()] * 3):
        with pytest.raises(TypeError, match="ax must be matplotlib Axes, a pair of them or None"):
            draw(fitted, ax=axes)
