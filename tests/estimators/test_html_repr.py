"""Notebooks show parameters, attributes and layers."""

import re
from html import unescape

import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalRegressor,
    TabularClassifier,
    TabularRegressor,
    inspection,
)
from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from support import class_data, few_epochs, quick, value_data

pytestmark = few_epochs

NETWORK = quick(BackpropClassifier)
TABULAR = {"n_estimators": 2, "max_iter": 1, "random_state": 0}
ESTIMATORS = {
    "classifier": NETWORK,
    "ensemble": quick(BackpropRegressor, n_estimators=2),
    "autoencoder": quick(BackpropAutoencoder, n_components=2),
    "grid": BackpropGridSearchCV(NETWORK, {"alpha": [0.1, 1.0]}, cv=2),
    "random": BackpropRandomizedSearchCV(NETWORK, {"alpha": [0.1, 1.0]}, n_iter=1, cv=2),
    "halving": BackpropHalvingGridSearchCV(NETWORK, {"alpha": [0.1, 1.0, 10.0]}, cv=2),
    "tabular classifier": TabularClassifier(**TABULAR),
    "tabular regressor": TabularRegressor(**TABULAR),
    "conformal": ConformalRegressor(quick(BackpropRegressor)),
    "features": inspection.BackpropFeatures(NETWORK),
    "encoder": TableEncoder(),
    "bins": PiecewiseLinearEncoder(),
    "cosines": PeriodicFeatures(),
}
OF_NUMBERS = {"ensemble", "tabular regressor", "conformal"}
EVERY = pytest.mark.parametrize("name", ESTIMATORS)


def fitted(name):
    X, y = (value_data if name in OF_NUMBERS else class_data)()
    return sklearn.clone(ESTIMATORS[name]).fit(X, y)


def body_of(html):
    return unescape(html.partition("</style>")[2].partition("<script>")[0])


def layers_of(html):
    """Return the rows of each table of layers."""
    found = re.findall(r"<summary>(Layers[^<]*)</summary>(.*?)</table>", body_of(html), re.DOTALL)
    return {
        title: [
            re.findall(r"<t[dh]>(.*?)</t[dh]>", row)
            for row in re.findall(r"<tr class=\"default\">(.*?)</tr>", rows)
        ]
        for title, rows in found
    }


def rows_of(summary):
    return [line.split() for line in str(summary).splitlines()[1:]]


# -------------------------------------------------------------- parameters, attributes


@EVERY
def test_parameters_and_fitted_attributes_are_shown(name):
    estimator = ESTIMATORS[name]
    before = body_of(estimator._repr_html_())
    assert "<span>Not fitted</span>" in before
    assert "Fitted attributes" not in before
    assert layers_of(before) == {}
    model = fitted(name)
    after = body_of(model._repr_html_())
    assert "<span>Fitted</span>" in after
    assert "Fitted attributes" in after
    shown_parameters = set(re.findall(r'<td class="param">(\w+)</td>', before.replace("\n", "")))
    assert set(estimator.get_params(deep=False)) <= shown_parameters
    of_fit = {each for each in vars(model) if each.endswith("_") and not each.startswith("_")}
    if hasattr(model, "coefs_"):
        of_fit |= {"coefs_", "intercepts_"}
    assert of_fit <= set(re.findall(r'<td class="param">\s*<a[^>]*>\s*(\w+)', after))


@pytest.mark.parametrize("name", ["classifier", "grid", "tabular regressor"])
def test_display_text_gives_no_html(name):
    with sklearn.config_context(display="text"):
        assert not hasattr(fitted(name), "_repr_html_")


# ------------------------------------------------------------------------------ layers


@pytest.mark.parametrize("name", ["classifier", "ensemble", "autoencoder"])
def test_a_fitted_network_shows_its_layers(name):
    model = fitted(name)
    (rows,) = layers_of(model._repr_html_()).values()
    assert [" ".join(row).split() for row in rows] == rows_of(model.summary())


@pytest.mark.parametrize("name", ["grid", "halving"])
def test_nested_networks_show_their_layers(name):
    model = fitted(name)
    inner = model.best_estimator_
    assert layers_of(model._repr_html_()) == layers_of(inner._repr_html_()) != {}
    X, y = class_data()
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier)).fit(X, y)
    assert layers_of(pipeline._repr_html_()) == layers_of(pipeline[-1]._repr_html_()) != {}


def test_a_tabular_estimator_shows_those_of_each_kind_of_networks():
    model = fitted("tabular classifier")
    found = layers_of(model._repr_html_())
    assert list(found) == ["Layers, 1 of 2", "Layers, 2 of 2"]
    for network, rows in zip(model.networks_, found.values(), strict=True):
        assert [" ".join(row).split() for row in rows] == rows_of(network.summary())
