"""Loss curves: the curves of the estimators, their best epochs, and comparisons."""

import pickle

import numpy as np
import pytest
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
    EarlyStopping,
    TabularClassifier,
)
from skbackprop.displays import LossCurveDisplay
from skbackprop.displays.training import LossCurves
from skbackprop.inspection import BackpropFeatures
from support import class_data, data_for, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("closed_figures")]


def plotted(display):
    """Return the values of each line, after checking that they are over the epochs."""
    for line in display.lines_:
        assert line.get_xdata().tolist() == list(range(1, len(line.get_ydata()) + 1))
    return [line.get_ydata().tolist() for line in display.lines_]


def best_points(ax):
    """Return the points that are marked as the best."""
    marked = [line for line in ax.lines if line.get_linestyle() == "None"]
    return [point for line in marked for point in zip(*line.get_data(), strict=True)]


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("estimator_class", [BackpropClassifier, BackpropRegressor])
def test_plots_the_curves_of_the_estimator(estimator_class, solver, n_estimators):
    model = quick(estimator_class, early_stopping=True, n_estimators=n_estimators, solver=solver)
    model.fit(*data_for(estimator_class))
    display = LossCurveDisplay.from_estimator(model)
    names = ("loss_curve_", "validation_loss_curve_", "validation_scores_")
    curves = [getattr(model, name) for name in names]
    if n_estimators == 1:
        curves = [[curve] for curve in curves]
    assert plotted(display) == [curve for each in curves for curve in each]
    best = np.atleast_1d(model.best_iter_).tolist()
    for ax, each in ((display.ax_, curves[1]), (display.score_ax_, curves[2])):
        assert best_points(ax) == [(b, curve[b - 1]) for b, curve in zip(best, each, strict=True)]
    assert legend_texts(display) == ["training loss", "validation loss", "best epoch"]
    assert display.score_ax_.get_xlabel() == "epoch"
    assert (display.ax_.get_ylabel(), display.score_ax_.get_ylabel()) == ("loss", "score")
    styles = [line.get_linestyle() for line in display.lines_[::n_estimators]]
    assert styles == ["-", "--", "-"]


def test_plots_no_scores_that_are_negated_losses():
    model = quick(BackpropRegressor, early_stopping=EarlyStopping("loss"), max_iter=5)
    display = LossCurveDisplay.from_estimator(model.fit(*value_data()))
    assert display.score_ax_ is None
    assert plotted(display) == [model.loss_curve_, model.validation_loss_curve_]
    best = model.best_iter_
    assert best_points(display.ax_) == [(best, model.validation_loss_curve_[best - 1])]


def test_plots_no_best_epoch_without_scores():
    X, y = value_data()
    model = quick(BackpropRegressor).fit(X, y, X_val=X, y_val=y)
    display = LossCurveDisplay.from_estimator(model)
    assert display.score_ax_ is None
    assert plotted(display) == [model.loss_curve_, model.validation_loss_curve_]
    assert best_points(display.ax_) == []
    assert plotted(LossCurveDisplay.from_estimator(model.fit(X, y))) == [model.loss_curve_]


def test_marks_a_single_epoch_by_a_point():
    model = quick(BackpropAutoencoder, n_components=2, max_iter=1).fit(class_data()[0])
    (line,) = LossCurveDisplay.from_estimator(model).lines_
    assert line.get_marker() == "."


def fit_twice(model, X, y):
    n_before = len(model.set_params(warm_start=True).fit(X, y).loss_curve_)
    return n_before + model.fit(X, y).best_iter_


def fit_in_parts(model, X, y):
    for _ in range(4):
        model.partial_fit(X, y, classes=[0, 1, 2], X_val=X, y_val=y)
    return model.best_iter_


@pytest.mark.parametrize("fit", [fit_twice, fit_in_parts])
def test_counts_the_best_epoch_over_all_calls(fit):
    model = quick(BackpropClassifier, early_stopping=True, learning_rate_init=0.1)
    best = fit(model, *class_data())
    display = LossCurveDisplay.from_estimator(model)
    assert best_points(display.score_ax_) == [(best, model.validation_scores_[best - 1])]
    assert plotted(display)[0] == model.loss_curve_


def test_plots_networks_of_scikit_learn():
    X, y = class_data()
    model = MLPClassifier((5,), early_stopping=True, max_iter=5, random_state=0).fit(X, y)
    display = LossCurveDisplay.from_estimator(model)
    assert plotted(display) == [model.loss_curve_, model.validation_scores_]
    best = 1 + model.validation_scores_.index(model.best_validation_score_)
    assert best_points(display.score_ax_) == [(best, model.best_validation_score_)]


@pytest.mark.parametrize("make, network_in", [
    (lambda: make_pipeline(StandardScaler(), quick(BackpropClassifier)), lambda p: p[-1]),
    (
        lambda: GridSearchCV(make_pipeline(quick(BackpropClassifier)), {}, cv=2),
        lambda search: search.best_estimator_[-1],
    ),
    (lambda: BackpropFeatures(quick(BackpropClassifier)), lambda model: model.estimator_),
    (lambda: ConformalRegressor(quick(BackpropRegressor)), lambda model: model.estimator_),
])  # fmt: skip
def test_plots_the_network_inside_a_meta_estimator(make, network_in):
    model = make()
    X, y = value_data() if isinstance(model, ConformalRegressor) else class_data()
    model.fit(X, y)
    for each in (model, FrozenEstimator(model), pickle.loads(pickle.dumps(model))):
        assert plotted(LossCurveDisplay.from_estimator(each)) == [network_in(model).loss_curve_]


def test_names_the_networks_of_a_tabular_estimator_by_their_layer_sizes():
    model = TabularClassifier(n_estimators=2, max_iter=2, random_state=0).fit(*class_data())
    for network, sizes in zip(model.networks_, [(8, 4), (16,)], strict=True):
        network.hidden_layer_sizes = sizes
    display = LossCurveDisplay.from_estimator(model)
    assert plotted(display) == [curve for net in model.networks_ for curve in net.loss_curve_]
    assert legend_texts(display) == ["1: 8-4 units", "2: 16 units"]
    display = LossCurveDisplay.from_estimators({"a": model})
    assert legend_texts(display) == ["a, 1: 8-4 units", "a, 2: 16 units"]


def test_gives_each_of_several_estimators_a_color():
    X, y = class_data()
    plain = quick(BackpropClassifier).fit(X, y)
    stopped = quick(BackpropClassifier, early_stopping=True, n_estimators=2).fit(X, y)
    display = LossCurveDisplay.from_estimators({"plain": plain, "stopped": stopped})
    assert plotted(display) == [
        plain.loss_curve_,
        *stopped.loss_curve_,
        *stopped.validation_loss_curve_,
        *stopped.validation_scores_,
    ]
    colors = [line.get_color() for line in display.lines_]
    assert not same_color(colors[0], colors[1])
    dots = [line.get_color() for line in display.ax_.lines if line.get_linestyle() == "None"]
    assert all(same_color(color, colors[1]) for color in [*colors[2:], *dots])
    assert legend_texts(display) == ["plain", "stopped", "stopped, validation loss"]
    assert legend_texts(LossCurveDisplay.from_estimators([plain, plain])) == ["1", "2"]


def test_displays_can_share_axes():
    X, y = class_data()
    one, other = (
        quick(BackpropClassifier, early_stopping=True, random_state=i).fit(X, y) for i in range(2)
    )
    axes = Figure().subplots(2)
    first = LossCurveDisplay.from_estimators({"one": one}, ax=axes)
    second = LossCurveDisplay.from_estimators({"other": other}, ax=axes)
    assert (second.ax_, second.score_ax_) == tuple(axes)
    assert not same_color(first.lines_[0].get_color(), second.lines_[0].get_color())
    validation = ["one, validation loss", "other, validation loss"]
    assert legend_texts(second) == ["one", validation[0], "other", validation[1]]
    alone = LossCurveDisplay.from_estimator(one, ax=Figure().subplots())
    assert alone.score_ax_ is None
    assert plotted(alone) == [one.loss_curve_, one.validation_loss_curve_]


def test_plots_losses_far_apart_on_a_logarithmic_scale():
    histories = [LossCurves(losses, [], [], 0) for losses in ([1, 0.5], [1, 0.001], [1, -1])]
    scales = [LossCurveDisplay(curves={"": [each]}).plot().ax_.get_yscale() for each in histories]
    assert scales == ["linear", "log", "linear"]


def test_raises_on_estimators_without_a_loss_curve():
    X, y = value_data()
    from_estimator = LossCurveDisplay.from_estimator
    unfitted = quick(BackpropRegressor)
    for estimator in (
        unfitted,
        make_pipeline(StandardScaler(), unfitted),
        GridSearchCV(unfitted, {"alpha": [1.0]}),
        TabularClassifier(),
    ):
        with pytest.raises(NotFittedError):
            from_estimator(estimator)
    rebuilt = BackpropRegressor.from_weights([np.ones((2, 1))], [np.ones(1)])
    unrefitted = GridSearchCV(quick(BackpropRegressor), {"alpha": [0.1]}, refit=False, cv=2)
    for estimator in (LinearRegression().fit(X, y), rebuilt, unrefitted.fit(X, y), "model", None):
        with pytest.raises(TypeError, match="needs a fitted network with a loss_curve_.*, got"):
            from_estimator(estimator)
