"""Does the picture of a range test show what `find_learning_rate` has found?"""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.linear_model import LinearRegression

from skbackprop import BackpropClassifier, find_learning_rate
from skbackprop.displays import LearningRateDisplay
from support import class_data, quick
from support.pictures import labels_overlap


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def test_the_lines_are_what_was_found():
    model, (X, y) = quick(BackpropClassifier), class_data()
    found = find_learning_rate(model, X, y, smallest=1e-5, n_steps=60)
    axes = Figure().subplots()
    display = LearningRateDisplay.from_estimator(
        model, X, y, smallest=1e-5, n_steps=60, ax=axes, curve_kwargs={"lw": 3}
    )
    for name in ("rates", "losses", "smoothed_losses"):
        np.testing.assert_array_equal(getattr(display.range_test, name), getattr(found, name))
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "training loss")
    smoothed, raw, suggestion = axes.lines
    np.testing.assert_array_equal(raw.get_xdata(), found.rates)
    np.testing.assert_array_equal(raw.get_ydata(), found.losses)
    np.testing.assert_array_equal(smoothed.get_xdata(), found.rates)
    np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed_losses)
    assert display.line_ is smoothed
    assert smoothed.get_linewidth() == 3
    assert display.suggestion_line_ is suggestion
    assert suggestion.get_xdata()[0] == found.suggestion
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["smoothed", "loss of a batch", f"suggestion: {found.suggestion:.2g}"]


@pytest.mark.parametrize("size", [(4, 3), (10, 7)])
def test_all_that_is_written_can_be_read(size):
    with pyplot.rc_context({"figure.figsize": size}):
        display = LearningRateDisplay.from_estimator(quick(BackpropClassifier), *class_data())
    assert labels_overlap(display.figure_) == []


def test_other_estimators_are_errors():
    with pytest.raises(TypeError, match="find_learning_rate takes a BackpropClassifier"):
        LearningRateDisplay.from_estimator(LinearRegression(), *class_data())
