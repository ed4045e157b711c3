"""Displays of the weights and the layers of a network."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, TabularClassifier
from skbackprop.displays import NetworkDisplay, WeightsDisplay
from skbackprop.layers import BatchNormalization, Conv2D, Dense, Dropout, Reshape
from support import class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("closed_figures")]


def fitted(estimator_class=BackpropClassifier, n_features=4, **settings):
    make = class_data if estimator_class is BackpropClassifier else value_data
    return quick(estimator_class, **settings).fit(*make(n_features=n_features))


# ------------------------------------------------------------------------------ images


def test_images_are_the_weights_of_the_first_layer():
    model = fitted(n_features=12, hidden_layer_sizes=(6, 3))
    display = WeightsDisplay.from_estimator(model, image_shape=(3, 4))
    weights = model.coefs_[0]
    assert display.units_.tolist() == list(range(6))
    sheet = np.ma.filled(display.image_.get_array(), np.nan)
    for unit in range(6):  # three images a row, with gaps of one pixel
        top, left = 4 * (unit // 3), 5 * (unit % 3)
        tile = sheet[top : top + 3, left : left + 4]
        np.testing.assert_array_equal(tile, weights[:, unit].reshape(3, 4))
    bound = np.abs(weights).max()
    assert display.image_.get_clim() == (-bound, bound)  # white is zero
    assert display.ax_.get_title() == "first layer: 6 of 6 units"
    assert display.histograms_ == []


def test_max_units_selects_the_units_with_the_largest_weights():
    model = fitted(n_features=9, hidden_layer_sizes=(20,))
    display = WeightsDisplay.from_estimator(model, image_shape=(3, 3), max_units=4)
    largest = np.abs(model.coefs_[0]).max(axis=0)
    assert set(display.units_) == set(np.argsort(largest)[-4:])
    assert display.ax_.get_title() == "first layer: 4 of 20 units"


def test_color_images_are_gray_where_weights_are_zero():
    weights = np.zeros((12, 2))
    weights[:3, 0] = 1, 0, -1  # of the first pixel
    display = WeightsDisplay(weights=[weights]).plot(image_shape=(2, 2, 3))
    assert display.image_.get_array()[0, 0].tolist() == [1, 0.5, 0]
    assert display.image_.get_array()[0, 2].tolist() == [0.83] * 3  # the gap is light gray


@pytest.mark.parametrize("n_channels", [1, 3])
def test_images_are_the_filters_of_a_first_convolution(n_channels):
    shape, kernel = (5, 4, n_channels), (3, 2, 3) if n_channels == 3 else (3, 2)
    layers = [Conv2D(6, (3, 2), activation="relu"), Dense(2)]
    model = fitted(n_features=20 * n_channels, layers=layers, input_shape=shape)
    display = WeightsDisplay.from_estimator(model, image_shape=kernel)
    kernels = model.kernels_[0]
    assert display.units_.tolist() == list(range(6))
    for i, weights in enumerate([kernels, *model.dense_weights_, *model.coefs_]):
        flat = weights.reshape(-1, weights.shape[-1])
        np.testing.assert_array_equal(display.weights[i], flat)
    sheet = np.ma.filled(display.image_.get_array(), np.nan)
    first = sheet[:3, :2] if n_channels == 1 else sheet[:3, :2] * 2 - 1
    expected = kernels[..., 0] / (1 if n_channels == 1 else np.abs(kernels).max())
    np.testing.assert_allclose(first, expected.reshape(first.shape), rtol=1e-12)
    with pytest.raises(
        ValueError, match=rf"as many values as the {6 * n_channels} inputs of each unit"
    ):
        WeightsDisplay.from_estimator(model, image_shape=(5, 4))
    labels = [
        label.get_text() for label in WeightsDisplay.from_estimator(model).ax_.get_yticklabels()
    ]
    assert labels == [f"{6 * n_channels} x 6", "6 x 2", "18 x 5", "5 x 3"]


# -------------------------------------------------------------------------- histograms


def test_histograms_show_the_weights_of_each_layer():
    model = fitted(hidden_layer_sizes=(30, 10))
    display = WeightsDisplay.from_estimator(model)
    assert len(display.histograms_) == 3
    for layer, (weights, histogram) in enumerate(
        zip(model.coefs_, display.histograms_, strict=True)
    ):
        floor = 2 - layer
        outline = histogram.get_paths()[0]
        counts, edges = np.histogram(weights, int(np.clip(weights.size**0.5, 10, 80)))
        for x, height in zip((edges[:-1] + edges[1:]) / 2, counts / counts.max(), strict=True):
            top = floor + 0.85 * height
            assert outline.contains_point((x, top - 0.01)) or height == 0
            assert not outline.contains_point((x, top + 0.01))
        assert outline.vertices[:, 0].min() == pytest.approx(weights.min())
        assert outline.vertices[:, 0].max() == pytest.approx(weights.max())
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["4 x 30", "30 x 10", "10 x 3"]
    assert display.ax_.get_xlabel() == "weight"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"image_shape": (2, 3)}, r"values as the 4 inputs of .* got \(2, 3\)"),
        ({"image_shape": (4,)}, r"image_shape must be \(height, width\).*got \(4,\)"),
        ({"image_shape": 4}, "image_shape must be"),
    ],
)
def test_raises_on_options_of_weights_that_are_not_valid(options, message):
    with pytest.raises(ValueError, match=message):
        WeightsDisplay.from_estimator(fitted(), **options)


# ----------------------------------------------------------------------------- diagram


def rows_of(display):
    """Return (name, units, details) of each row, as it is written."""
    written = {}
    for text in display.text_:
        _, y = text.get_position()
        if y % 1:
            written.setdefault(y, {})[text.get_horizontalalignment()] = text.get_text()
    return [(row["right"], row["center"], row["left"]) for _, row in sorted(written.items())]


def test_diagram_has_a_row_for_each_layer():
    model = fitted(
        hidden_layer_sizes=(1200, 20),
        activation=["gelu_tanh", "relu"],
        normalization="batch",
        dropout=0.1,
    )
    display = NetworkDisplay.from_estimator(model)
    assert rows_of(display) == [
        ("inputs", "4", ""),
        ("hidden 1", "1,200", "BatchNormalization, GeluTanh"),
        ("hidden 2", "20", "BatchNormalization, Relu"),
        ("outputs", "3", "softmax"),
    ]
    layers = [layer.n_parameters for layer in model.summary().layers]
    between = [f"{layers[1] + layers[2]:,}", f"{layers[4] + layers[5]:,}", "63"]
    assert [text.get_text() for text in display.text_ if not text.get_position()[1] % 1] == between
    assert display.ax_.get_title() == f"BackpropClassifier: {model.n_parameters_:,} parameters"
    widths = [bar.get_width() for bar in display.bars_]
    assert np.argsort(widths).tolist() == [3, 0, 2, 1]  # the more units, the wider


def test_diagram_has_a_row_for_each_layer_with_weights():
    layers = [
        Reshape((4, 4, 1)),
        Conv2D(3, 2, activation="tanh"),
        BatchNormalization(),
        Dropout(0.2),
        Dense(2),
    ]
    model = fitted(n_features=16, layers=layers)
    display = NetworkDisplay.from_estimator(model)
    assert rows_of(display) == [
        ("inputs", "16", "Reshape to 4 x 4 x 1"),
        ("Conv2D", "3 x 3 x 3", "Tanh, BatchNormalization, Dropout"),
        ("Dense", "3 x 3 x 2", "Flatten to 18"),
        ("hidden 1", "5", "Relu"),
        ("outputs", "3", "softmax"),
    ]
    between = [text.get_text() for text in display.text_ if not text.get_position()[1] % 1]
    assert between == ["21", "8", "95", "18"]
    widths = [bar.get_width() for bar in display.bars_]
    assert np.argsort(widths).tolist() == [4, 3, 0, 2, 1]


def test_diagram_of_each_kind_of_estimator():
    auto = quick(BackpropAutoencoder, n_components=2).fit(class_data()[0])
    names = [name for name, *_ in rows_of(NetworkDisplay.from_estimator(auto))]
    assert names == ["inputs", "hidden 1", "hidden 2", "hidden 3", "outputs"]
    linear = NetworkDisplay.from_estimator(fitted(hidden_layer_sizes=()))
    assert [row[:2] for row in rows_of(linear)] == [("inputs", "4"), ("outputs", "3")]
    members = NetworkDisplay.from_estimator(fitted(n_estimators=4))
    assert "4 members of" in members.ax_.get_title()
    search = GridSearchCV(make_pipeline(StandardScaler(), quick(BackpropRegressor)), {}, cv=2)
    regressor = NetworkDisplay.from_estimator(search.fit(*value_data()))
    assert rows_of(regressor)[-1] == ("outputs", "1", "identity")


def test_the_first_of_several_networks_is_drawn():
    X, y = class_data()
    model = TabularClassifier(n_estimators=2, max_iter=1, random_state=0).fit(X, y)
    network = model.networks_[0]
    assert rows_of(NetworkDisplay.from_estimator(model)) == rows_of(
        NetworkDisplay.from_estimator(network)
    )
    np.testing.assert_array_equal(
        WeightsDisplay.from_estimator(model).weights[0], network.coefs_[0][0]
    )


# -------------------------------------------------------------------------------- both


@pytest.mark.parametrize("display_class", [NetworkDisplay, WeightsDisplay])
def test_raises_on_other_and_unfitted_estimators(display_class):
    name = display_class.__name__
    for estimator in (
        BackpropClassifier(),
        make_pipeline(BackpropClassifier()),
        GridSearchCV(BackpropClassifier(), {}),
        TabularClassifier(),
    ):
        with pytest.raises(NotFittedError):
            display_class.from_estimator(estimator)
    for estimator in (LinearRegression().fit(*value_data()), BackpropClassifier, 3):
        with pytest.raises(TypeError, match=f"{name} needs a fitted BackpropClassifier.*, got"):
            display_class.from_estimator(estimator)
