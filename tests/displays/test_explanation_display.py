"""Bars of one explained row, and summaries of several."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text
from sklearn.datasets import load_wine

from skbackprop import BackpropClassifier, TabularClassifier
from skbackprop.displays import ExplanationDisplay
from skbackprop.inspection import Explanation, explain
from support import class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("closed_figures")]

VALUES = np.array([[0.5, -2.0, 0.1], [-1.5, 1.0, 0.3]])
EXPLANATION = Explanation(
    VALUES,
    np.array([10.0, 10.0]),
    np.array([[1.5, "red", None], [2.5, "blue", 4]], dtype=object),
    ["size", "color", "age"],
)


def labels_of(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_bars_of_one_row_are_sorted_by_their_size():
    ax = Figure().subplots()
    display = ExplanationDisplay(explanation=EXPLANATION).plot(ax, row=0)
    assert labels_of(ax.yaxis) == ["color = red", "size = 1.5", "age = None"]
    assert [bar.get_width() for bar in display.bars_] == [-2.0, 0.5, 0.1]
    assert display.bars_[0].get_facecolor() == to_rgba("C0")
    assert display.bars_[1].get_facecolor() == to_rgba("C3")
    (numbers,) = ax.child_axes
    assert labels_of(numbers.yaxis) == ["-2.00", "+0.50", "+0.10"]
    assert ax.get_title() == "prediction 8.60, mean 10.00"
    assert ax.yaxis_inverted()  # the largest is at the top
    assert display.points_ is None


def test_columns_beyond_the_maximum_share_a_bar():
    display = ExplanationDisplay(explanation=EXPLANATION).plot(
        Figure().subplots(), row=1, max_features=2
    )
    assert labels_of(display.ax_.yaxis) == ["size = 2.5", "2 others"]
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], [-1.5, 1.3])
    assert display.ax_.get_title() == "prediction 9.80, mean 10.00"
    (bar,) = display.plot(Figure().subplots(), row=0, max_features=1).bars_
    assert bar.get_width() == pytest.approx(0.5 - 2.0 + 0.1)


def test_summaries_are_sorted_by_mean_absolute_shares():
    display = ExplanationDisplay(explanation=EXPLANATION).plot(Figure().subplots(), kind="bar")
    assert labels_of(display.ax_.yaxis) == ["color", "size", "age"]
    np.testing.assert_allclose([bar.get_width() for bar in display.bars_], [1.5, 1.0, 0.2])
    display.plot(Figure().subplots(), max_features=2)
    assert display.bars_ is None
    assert labels_of(display.ax_.yaxis) == ["color", "size"]
    for points, column, height in zip(display.points_, [1, 0], [0, 1], strict=True):
        x, y = points.get_offsets().T
        np.testing.assert_array_equal(x, VALUES[:, column])
        assert (abs(y - height) <= 0.4).all()
    words, numbers = display.points_
    assert words.get_array() is None  # gray, since words have no order
    np.testing.assert_array_equal(numbers.get_array(), [0.0, 1.0])
    with_missing = display.plot(Figure().subplots()).points_[2]
    np.testing.assert_array_equal(with_missing.get_array(), [0.5, 0.0])  # in the middle


def test_points_of_equal_shares_are_stacked():
    same = Explanation(np.zeros((50, 1)), np.zeros(50), np.arange(50)[:, None], ["x"])
    display = ExplanationDisplay(explanation=same).plot(Figure().subplots())
    heights = display.points_[0].get_offsets()[:, 1]
    assert len(np.unique(heights)) == 50
    assert abs(heights).max() <= 0.4


@pytest.mark.parametrize("column, ticks", [([1, 3], ["low", "high"]), (["red", "blue"], None)])
def test_a_color_bar_explains_the_colors_of_numbers(column, ticks):
    values = np.array(column)[:, None]
    display = ExplanationDisplay(explanation=Explanation(VALUES[:, :1], np.zeros(2), values, ["x"]))
    others = [ax for ax in display.plot().figure_.axes if ax is not display.ax_]
    assert [labels_of(ax.yaxis) for ax in others] == ([ticks] if ticks else [])


@pytest.mark.slow
def test_texts_neither_overlap_nor_leave_the_figure(monkeypatch):
    wine, drawn = load_wine(as_frame=True), []
    model = TabularClassifier(n_estimators=2, max_iter=10, blend=None, random_state=0)
    model.fit(wine.data, wine.target_names[wine.target])
    display = ExplanationDisplay(explanation=explain(model, wine.data[::18]))
    monkeypatch.setattr(Text, "draw", lambda text, _: drawn.append(text))
    for row in (*range(10), None):
        figure = display.plot(row=row).figure_
        drawn.clear()
        figure.draw_without_rendering()
        shown = [text for text in drawn if text.get_visible() and text.get_text()]
        boxes = [text.get_window_extent() for text in shown]
        assert len(boxes) > 15
        for box in boxes:
            assert box.count_overlaps(boxes) == 1  # itself
            assert figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            assert figure.bbox.containsy(box.y0) and figure.bbox.containsy(box.y1)


def test_explains_an_estimator_and_plots_one_class():
    X, y = class_data()
    names = np.array(["low", "mid", "top"])
    model = quick(BackpropClassifier).fit(X, names[y])
    display = ExplanationDisplay.from_estimator(model, X[:1], X, target="mid")
    expected = explain(model, X[:1], X)
    np.testing.assert_array_equal(display.explanation.values, expected.values)
    shares = expected.values[0, :, 1]
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_array_equal(widths, shares[np.argsort(-abs(shares))])
    base = expected.base_values[0, 1]
    number = r"(\d\.\d+)"
    title = re.fullmatch(f"mid: prediction {number}, mean {number}", display.ax_.get_title())
    assert [float(part) for part in title.groups()] == pytest.approx(
        [base + shares.sum(), base], abs=0.005
    )
    assert display.plot(target=2).ax_.get_title().startswith("top: ")
    assert display.plot().ax_.get_title().startswith("top: ")


def test_errors():
    display = ExplanationDisplay(explanation=EXPLANATION)
    with pytest.raises(ValueError, match='kind must be "beeswarm" or "bar"'):
        display.plot(kind="pie")
    two = Explanation(np.zeros((1, 2, 2)), np.zeros((1, 2)), np.zeros((1, 2)), ["a", "b"])
    with pytest.raises(ValueError, match=r"target must be one of \['0', '1'\], or its position"):
        ExplanationDisplay(explanation=two).plot(target=2)
