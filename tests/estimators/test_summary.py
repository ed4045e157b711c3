"""The summary says what the network is made of, and counts what it has learned."""

import re

import pytest
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.activations import LeakyRelu
from skbackprop.layers import BatchNormalization, Conv2D, Dropout, MaxPool2D
from support import class_data, data_for, few_epochs, pairs, quick

pytestmark = few_epochs

EVERY = pytest.mark.parametrize(
    "estimator_class", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
)


def table_of(summary):
    """Return the words of each line below the headings."""
    return [line.split() for line in repr(summary).splitlines()[2:]]


def test_equals_a_case_computed_by_hand():
    X, y = class_data(n_features=4, n_classes=3)
    model = quick(
        BackpropClassifier,
        hidden_layer_sizes=(7, 5),
        activation=["tanh", LeakyRelu()],
        normalization="batch",
        n_estimators=2,
        dropout=0.5,
    ).fit(X, y)
    assert repr(model.summary()) == "\n".join(
        [
            "BackpropClassifier",
            "layer               outputs  parameters  shapes",
            "input                     4           0",
            "Dense                     7          28  weights (4, 7)",
            "BatchNormalization        7          14  biases (7,), gains (7,)",
            "Tanh                      7           0",
            "Dense                     5          35  weights (7, 5)",
            "BatchNormalization        5          10  biases (5,), gains (5,)",
            "LeakyRelu                 5           0",
            "Dense                     3          18  weights (5, 3), biases (3,)",
            "softmax                   3           0",
            "total                               105",
            "total of 2 members                  210",
        ]
    )


def test_shapes_of_images_by_hand():
    X, y = class_data(n_features=48, n_classes=3)
    layers = [
        Conv2D(6, 3, padding="same", activation="relu"),
        MaxPool2D(2),
        Dropout(0.1),
        BatchNormalization(),
    ]
    model = quick(BackpropClassifier, layers=layers, input_shape=(4, 4, 3)).fit(X, y)
    summary = model.summary()
    assert repr(summary) == "\n".join(
        [
            "BackpropClassifier",
            "layer                 outputs  parameters  shapes",
            "input               4 x 4 x 3           0",
            "Conv2D              4 x 4 x 6         168  kernels (3, 3, 3, 6), kernel_biases (6,)",
            "Relu                4 x 4 x 6           0",
            "MaxPool2D           2 x 2 x 6           0",
            "Dropout             2 x 2 x 6           0",
            "BatchNormalization  2 x 2 x 6          12  "
            "normalization_biases (6,), normalization_gains (6,)",
            "Flatten                    24           0",
            "Dense                       5         125  weights (24, 5), biases (5,)",
            "Relu                        5           0",
            "Dense                       3          18  weights (5, 3), biases (3,)",
            "softmax                     3           0",
            "total                                 323",
        ]
    )
    assert summary.n_parameters == model.n_parameters_
    assert "<td>Conv2D</td><td>4 x 4 x 6</td><td>168</td>" in summary._repr_html_()


@pytest.mark.parametrize(
    "estimator_class, hidden, normalization, n_estimators",
    pairs(
        [BackpropClassifier, BackpropRegressor, BackpropAutoencoder],
        [(), (6,), (6, 3)],
        [None, "batch", "layer"],
        [1, 3],
    ),
)
def test_it_counts_the_arrays_that_are_learned(
    estimator_class, hidden, normalization, n_estimators
):
    X, y = data_for(estimator_class)
    settings = {"normalization": normalization, "n_estimators": n_estimators}
    if estimator_class is BackpropAutoencoder:
        settings = {}
    model = quick(estimator_class, hidden_layer_sizes=hidden, **settings).fit(X, y)
    arrays = [*model.coefs_, *model.intercepts_, *(getattr(model, "gains_", None) or [])]
    counted = sum(array.size for array in arrays)
    summary = model.summary()
    assert summary.n_estimators * model.n_parameters_ == counted
    assert summary.n_parameters == model.n_parameters_
    assert type(model.n_parameters_) is int
    totals = [line[-1] for line in table_of(summary) if line[0] == "total"]
    expected = [model.n_parameters_, counted] if summary.n_estimators > 1 else [counted]
    assert totals == [f"{number:,}" for number in expected]
    for one in getattr(model, "estimators_", []):
        assert one.summary().layers == summary.layers
        assert one.summary().n_estimators == 1


@EVERY
def test_a_notebook_shows_the_same_table(estimator_class):
    X, y = data_for(estimator_class)
    summary = quick(estimator_class).fit(X, y).summary()
    rows = [
        re.findall(r"<t[dh]>(.*?)</t[dh]>", row)
        for row in re.findall(r"<tr>(.*?)</tr>", summary._repr_html_())
    ]
    assert rows[0] == ["layer", "outputs", "parameters", "shapes"]
    assert [" ".join(row).split() for row in rows[1:]] == table_of(summary)


def test_names_are_escaped_in_html():
    class Marked(LeakyRelu):
        pass

    Marked.__name__ = "<b>&"
    X, y = class_data()
    html = quick(BackpropClassifier, activation=Marked()).fit(X, y).summary()._repr_html_()
    assert "<td>&lt;b&gt;&amp;</td>" in html


@EVERY
def test_unfitted_network_has_no_summary(estimator_class):
    model = estimator_class()
    with pytest.raises(NotFittedError):
        model.summary()
    assert not hasattr(model, "n_parameters_")
