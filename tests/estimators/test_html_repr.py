"""Notebooks show parameters and attributes."""

import re
from html import unescape

import pytest
import sklearn

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
    ConformalClassifier,
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
    "conformal sets": ConformalClassifier(NETWORK),
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


@EVERY
def test_parameters_and_fitted_attributes_are_shown(name):
    estimator = ESTIMATORS[name]
    before = body_of(estimator._repr_html_())
    assert "<span>Not fitted</span>" in before
    assert "Fitted attributes" not in before
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
