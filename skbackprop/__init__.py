"""Neural networks for scikit-learn: raw tables, and a drop-in for MLPClassifier.

docs/questions.md leads from questions to pages of the guide. For survival (censored times), ordinal
targets, ranking and GPUs, docs/user_guide/which_estimator.md names other packages.
"""

from .conformal import ConformalClassifier, ConformalRegressor
from .early_stopping import EarlyStopping
from .estimators.autoencoder import BackpropAutoencoder
from .estimators.classifier import BackpropClassifier
from .estimators.regressor import BackpropRegressor
from .inspection._learning_rate_finder import find_learning_rate
from .model_selection._search import (
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
)
from .tabular.classifier import TabularClassifier
from .tabular.regressor import TabularRegressor

__all__ = [
    "BackpropAutoencoder",
    "BackpropClassifier",
    "BackpropGridSearchCV",
    "BackpropHalvingGridSearchCV",
    "BackpropHalvingRandomSearchCV",
    "BackpropRandomizedSearchCV",
    "BackpropRegressor",
    "ConformalClassifier",
    "ConformalRegressor",
    "EarlyStopping",
    "TabularClassifier",
    "TabularRegressor",
    "__version__",
    "find_learning_rate",
]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    # The public modules are those that say what is public in them.
    modules = [name for name, module in globals().items() if hasattr(module, "__all__")]
    return [*__all__, *(name for name in modules if not name.startswith("_"))]
