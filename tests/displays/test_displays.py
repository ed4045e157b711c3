"""What all displays have in common, and the display of a range test."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropClassifier, displays, find_learning_rate
from skbackprop.displays import LearningRateDisplay
from skbackprop.inspection import explain
from support import class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("closed_figures")]

DISPLAYS = {
    "ExplanationDisplay": lambda model, X, y: displays.ExplanationDisplay(
        explanation=explain(model, X[:3], X)
    ),
    "LearningRateDisplay": lambda model, X, y: displays.LearningRateDisplay(
        range_test=find_learning_rate(model, X, y)
    ),
    "LossCurveDisplay": lambda model, X, y: displays.LossCurveDisplay(curves={}),
    "NetworkDisplay": lambda model, X, y: displays.NetworkDisplay(summary=model.summary()),
    "SearchDisplay": lambda model, X, y: displays.SearchDisplay(
        cv_results=GridSearchCV(model, {"alpha": [1.0]}, cv=2).fit(X, y).cv_results_
    ),
    "WeightsDisplay": lambda model, X, y: displays.WeightsDisplay(weights=model.coefs_),
}


@pytest.mark.filterwarnings("ignore:No artists with labels")
@pytest.mark.parametrize("name", displays.__all__)
def test_plots_on_the_given_axes_or_on_a_new_pyplot_figure(name):
    X, y = class_data()
    display = DISPLAYS[name](quick(BackpropClassifier).fit(X, y), X, y)
    ax = Figure().subplots()
    assert display.plot(ax) is display
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert pyplot.get_fignums() == []
    assert display.plot().figure_.number in pyplot.get_fignums()  # so that pyplot.show shows it
    for wrong in ("axes", Figure()):
        with pytest.raises(TypeError, match="ax must be a matplotlib Axes"):
            display.plot(wrong)


def test_learning_rate_display_plots_the_range_test():
    model, (X, y) = quick(BackpropClassifier), class_data()
    found = find_learning_rate(model, X, y)
    ax = Figure().subplots()
    display = LearningRateDisplay.from_estimator(model, X, y, ax=ax)
    for name in ("rates", "losses", "smoothed_losses"):
        np.testing.assert_array_equal(getattr(display.range_test, name), getattr(found, name))
    assert ax.get_xscale() == "log"
    smoothed, raw, suggestion = ax.lines
    np.testing.assert_array_equal(raw.get_data(), [found.rates, found.losses])
    np.testing.assert_array_equal(smoothed.get_data(), [found.rates, found.smoothed_losses])
    assert raw.get_color() == smoothed.get_color() != suggestion.get_color()
    assert display.line_ is smoothed
    assert display.suggestion_line_ is suggestion
    assert suggestion.get_xdata()[0] == found.suggestion
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["smoothed", "loss of a batch", f"suggestion: {found.suggestion:.2g}"]
