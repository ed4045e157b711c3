"""Types that `load` trusts: the classes that models of this package consist of.

A file names the class of each of its objects. `load` looks up only the names listed here, and those
of scikit-learn, NumPy and SciPy that skops trusts. All of them are classes that hold values and do
nothing but check them when they are created. Callbacks are not trusted, because they write files.
The only trusted functions are the metrics of scikit-learn's scorers.
"""

from __future__ import annotations

import inspect
from functools import cache
from importlib import import_module

from sklearn.metrics import get_scorer, get_scorer_names

# Modules whose public classes are parameters of estimators or estimators themselves.
_PUBLIC_MODULES = (
    *("activations", "early_stopping", "initializers", "inspection", "layers", "losses"),
    *("model_selection", "optimizers", "schedules", "tabular", "weight_averaging"),
)

# Other classes whose instances are part of fitted estimators, by module.
_CLASSES = {
    "_conformal_intervals": ["ErrorScale"],
    "conformal": ["ConformalRegressor"],
    "estimators._targets": ["NumberTargets"],
    "estimators.autoencoder": ["BackpropAutoencoder"],
    "estimators.classifier": ["BackpropClassifier"],
    "estimators.regressor": ["BackpropRegressor"],
    "layers.columns": ["BlockDiagonalDense"],
    "tabular._blend": ["CrossFittedEstimators"],
    "tabular._boosted_trees": ["OrdinalTable"],
    "tabular._categorical_encoding": [
        *("CategoricalEncoding", "CategoryLevels", "OneHot", "OrdinalCodes"),
    ],
    "tabular._category_interactions": ["CategoryInteractions"],
    "tabular._dates": ["DateEncoding", "TimeEncoding"],
    "tabular._model_inputs": ["FeatureBuilder", "NumericBlockEncoder"],
    "tabular._networks": [
        *("NetworkEnsemble", "OutputBiasInit"),
        *("TabularClassifierNetworks", "TabularRegressorNetworks"),
    ],
    "tabular._robust_scaling": ["RobustScaling"],
    "tabular._table_encoding": ["FittedEncoding", "UnscaledRows"],
    "tabular._target_encoding": ["TargetEncoding"],
    "tabular._targets": ["ClassifierTargets", "RegressorTargets"],
    "tabular._text": ["TextEncoding"],
}

# Parts of fitted searches that skops does not know.
_OTHERS = (
    *("numpy.dtype", "sklearn.utils._bunch.Bunch"),
    *(f"sklearn.model_selection._split.{kind}KFold" for kind in ("", "Group", "Stratified")),
    *(f"sklearn.metrics._scorer._{kind}Scorer" for kind in ("", "Multimetric", "Passthrough")),
)


@cache
def _trusted_names() -> tuple[str, ...]:
    modules = (import_module(f"skbackprop.{name}") for name in _PUBLIC_MODULES)
    public = (getattr(module, name) for module in modules for name in module.__all__)
    metrics = (get_scorer(name)._score_func for name in get_scorer_names())
    names = {
        f"{each.__module__}.{each.__qualname__}"
        for each in (*filter(inspect.isclass, public), *metrics)
    }
    names |= {f"skbackprop.{module}.{name}" for module, own in _CLASSES.items() for name in own}
    return tuple(sorted(names.union(_OTHERS)))


def get_trusted_types() -> list[str]:
    """Return the names of the types that `load` trusts in addition to those of skops.

    Other programs that read skops files need them: ``skops.io.load(file, trusted=...)``, or
    MLflow's ``skops_trusted_types``.

    Returns
    -------
    names : list of str
        The full names, sorted.

    Examples
    --------
    >>> from skbackprop.persistence import get_trusted_types
    >>> "skbackprop.estimators.classifier.BackpropClassifier" in get_trusted_types()
    True
    """
    return list(_trusted_names())
