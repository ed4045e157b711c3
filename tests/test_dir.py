"""`dir` of the package shows public names only, and those of fitted estimators are documented."""

import inspect

import pytest
from sklearn.model_selection import GridSearchCV

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.inspection import BackpropFeatures
from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from support import class_data, few_epochs, quick
from test_house import PUBLIC_MODULES, documented_names

pytestmark = few_epochs

X, Y = class_data(n_classes=2)
IN_FOLDS = skbackprop.EarlyStopping(validation_fraction="folds")
ESTIMATORS = [
    quick(BackpropClassifier),
    quick(BackpropClassifier, loss="hinge"),
    quick(BackpropRegressor, n_estimators=2, early_stopping=IN_FOLDS, normalization="batch"),
    quick(BackpropAutoencoder),
    ConformalClassifier(quick(BackpropClassifier)),
    ConformalRegressor(quick(BackpropRegressor)),
    BackpropGridSearchCV(quick(BackpropClassifier), {"alpha": [1.0]}, cv=2),
    TabularClassifier(2, max_iter=1),
    TabularRegressor(2, max_iter=1),
    BackpropFeatures(quick(BackpropClassifier)),
    PeriodicFeatures(),
    PiecewiseLinearEncoder(),
    TableEncoder(),
]


def test_the_package():
    modules = [module.__name__.partition(".")[2] for module in PUBLIC_MODULES[1:]]
    assert dir(skbackprop) == sorted([*skbackprop.__all__, *modules])


@pytest.mark.parametrize("model", ESTIMATORS, ids=str)
def test_fitted_estimators(model):
    kind = type(model)
    names = {name for name in dir(model.fit(X, Y)) if not name.startswith("_")}
    documented = {*model.get_params(deep=False), *documented_names(kind, "Attributes")}
    if isinstance(model, GridSearchCV):
        documented |= documented_names(GridSearchCV, "Attributes").keys()
    methods = {name for name, _ in inspect.getmembers(kind, callable) if name[0] != "_"}
    assert names <= documented | methods
    assert all(hasattr(model, name) for name in names)
    assert {"fit", "get_params"} <= names
