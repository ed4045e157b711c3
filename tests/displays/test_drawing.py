"""Are axes legible at any size?"""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropClassifier, displays, find_learning_rate
from skbackprop.displays._matplotlib import (
    fit_font_size,
    format_log_ticks,
    merge_kwargs,
    prefers_log_scale,
    set_nonoverlapping_ticks,
)
from support import class_data, few_epochs, quick
from support.pictures import labels_overlap

pytestmark = few_epochs


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


# ------------------------------------------------------------------------- matplotlib

MADE = {
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


@pytest.mark.parametrize("name", displays.__all__)
def test_a_display_draws_into_given_axes_and_takes_nothing_else(name):
    X, y = class_data()
    model = quick(BackpropClassifier).fit(X, y)
    made = MADE[name](model, X, y)
    ax = Figure().subplots()
    before = pyplot.get_fignums()
    assert made.plot(ax) is made
    assert made.ax_ is ax
    assert made.figure_ is ax.figure
    assert pyplot.get_fignums() == before
    assert made.plot().figure_.number in pyplot.get_fignums()  # so that pyplot.show shows it
    with pytest.raises(TypeError, match="ax must be matplotlib Axes"):
        made.plot("axes")


# --------------------------------------------------------------------------- legibility


@pytest.mark.parametrize(
    "numbers, is_logarithmic",
    [
        ([1, 20], False),
        ([1, 21], True),
        ([1, 21, np.nan, np.inf], True),
        ([-1, 21], False),
        ([0, 21], False),
        ([np.nan], False),
        ([], False),
    ],
)
def test_positive_numbers_that_span_more_than_a_factor_of_20_are_wide(numbers, is_logarithmic):
    assert prefers_log_scale(numbers) is is_logarithmic


@pytest.mark.parametrize("size", [(4, 3), (10, 7)])
@pytest.mark.parametrize("along", ["x", "y"])
@pytest.mark.parametrize("scale", ["linear", "log"])
@pytest.mark.parametrize(
    "labels",
    [["0.0001", "0.0003", "0.001"], [f"{i}" for i in range(1, 60)], ["a long name", "b", "c" * 15]],
)
def test_ticks_are_where_they_should_and_their_labels_do_not_overlap(size, along, scale, labels):
    positions = np.geomspace(1, 100, len(labels))
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    ax.plot(positions, positions)
    ax.set(xscale=scale, yscale=scale)
    set_nonoverlapping_ticks(ax, along, positions, labels)
    axis = ax.xaxis if along == "x" else ax.yaxis
    np.testing.assert_allclose(axis.get_ticklocs(), positions)
    written = [label.get_text() for label in axis.get_ticklabels()]
    assert all(text in ("", label) for text, label in zip(written, labels, strict=True))
    assert written[0] == labels[0]
    assert not labels_overlap(figure)


@pytest.mark.parametrize("high", [3, 30, 1e3, 1e7])
def test_logarithmic_axes_have_plain_numbers(high):
    figure = Figure(figsize=(4, 3), layout="constrained")
    ax = figure.subplots()
    ax.plot([0.5, high], [0.5, high])
    ax.set_yscale("log")
    format_log_ticks(ax.yaxis)
    figure.draw_without_rendering()
    low, high = ax.get_ylim()
    written = {
        label.get_text(): place
        for label, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)
        if low <= place <= high
    }
    assert len(written) >= 2
    assert all(float(text) == pytest.approx(place) for text, place in written.items())
    assert not labels_overlap(figure)


def test_the_check_of_overlaps_finds_what_there_is():
    figure = Figure(figsize=(4, 3))
    ax = figure.subplots()
    assert labels_overlap(figure) == []
    ax.set_xticks([0.5, 0.51], ["one", "other"])
    ax.text(0.95, 0.5, "this goes beyond the border of the figure")
    assert labels_overlap(figure) == [
        ("one", "other"),
        ("this goes beyond the border of the figure", "border"),
    ]


def test_a_text_fits_in_its_font_or_is_left_out():
    ax = Figure(figsize=(4, 3)).subplots()
    usual = ax.xaxis.label.get_fontsize()
    assert fit_font_size(ax, "word", 1000, 1000) == usual
    for width, height in ((40, 100), (200, 9)):
        font = fit_font_size(ax, "two words", width, height)
        assert 0 < font < usual
        extent = ax.text(0, 0, "two words", fontsize=0.95 * font).get_window_extent()
        assert extent.width <= width
        assert extent.height <= height
    assert fit_font_size(ax, "two words", 5, 5) == 0


def test_the_user_s_keywords_come_first_under_any_name():
    from matplotlib.lines import Line2D

    assert merge_kwargs({"color": "red", "alpha": 1}, {"c": "blue", "lw": 2}, Line2D) == {
        "color": "blue",
        "alpha": 1,
        "linewidth": 2,
    }
    assert merge_kwargs({"alpha": 1}, None, Line2D) == {"alpha": 1}
