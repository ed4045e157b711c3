"""Safe files: save and load estimators without running code from the file.

A file names the class of each of its objects. `load` looks up only the names listed here, and those
of scikit-learn, NumPy and SciPy that skops trusts. All of them are classes that hold values and do
nothing but check them when they are created. Callbacks are not trusted, because they write files.
The only trusted functions are the metrics of scikit-learn's scorers.
"""

from __future__ import annotations

import inspect
import os
import pickle
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np
from sklearn.metrics import get_scorer, get_scorer_names

from .estimators._checkpoint import atomic_write
from .tabular._blended_estimators import BOOSTED, OrdinalTable
from .utils.arrays import Array
from .utils.validation import require_extra

__all__ = ["get_trusted_types", "load", "save"]


# Modules whose public classes are parameters of estimators or estimators themselves.
_PUBLIC_MODULES = (
    *("activations", "early_stopping", "initializers", "inspection", "layers", "losses"),
    *("model_selection", "optimizers", "schedules", "tabular", "weight_averaging"),
)

# Other classes whose instances are part of fitted estimators, by module.
_CLASSES = {
    "conformal": ["ConformalClassifier", "ConformalRegressor"],
    "training.targets": ["NumberTargets"],
    "estimators.conformity_scores": ["ErrorScale", "LabelScores"],
    "estimators.autoencoder": ["BackpropAutoencoder"],
    "estimators.classifier": ["BackpropClassifier"],
    "estimators.regressor": ["BackpropRegressor"],
    "layers.columns": ["BlockDiagonalDense"],
    "tabular._blended_estimators": ["CrossFittedEstimators", "OrdinalTable"],
    "tabular._categorical_encoding": [
        *("CategoricalEncoding", "CategoryLevels", "OneHot", "OrdinalCodes", "TargetEncoding"),
    ],
    "tabular._column_values": ["InferredKind"],
    "tabular._random_slopes": ["RandomSlopes"],
    "tabular._date_and_text_encodings": ["DateEncoding", "TextEncoding", "TimeEncoding"],
    "tabular._model_inputs": ["FeatureBuilder"],
    "tabular._monotone": ["MonotoneInputs"],
    "tabular._networks": [
        *("OutputBiasInit", "TabularClassifierNetworks", "TabularRegressorNetworks"),
    ],
    "tabular._string_formats": ["DateFormat", "NumberFormat"],
    "tabular._table_encoding": ["FittedEncoding", "UnscaledRows"],
    "tabular.numeric_encoders": ["RobustScaling"],
}

# Parts of fitted searches that skops does not know.
_OTHERS = (
    *("numpy.dtype", "sklearn.utils._bunch.Bunch"),
    *(f"sklearn.model_selection._split.{kind}KFold" for kind in ("", "Group", "Stratified")),
    *(f"sklearn.metrics._scorer._{kind}Scorer" for kind in ("", "Multimetric", "Passthrough")),
)

# The trees of scikit-learn's gradient boosting. It follows their indices without checks.
_TREE = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write an estimator to a skops file, which `load` reads without running code from it.

    Before the file is written, the estimator is loaded back, so what cannot be loaded is not saved.
    If anything fails, an older file of this name stays as it was.

    Callbacks are code and are left out, also those of nested estimators. The training state is
    saved as in a pickle: after ``partial_fit``, and with ``warm_start=True``.

    The first `save` or `load` of a process imports skops, which imports all modules of
    scikit-learn. This takes half a second to three seconds.

    Parameters
    ----------
    estimator : estimator
        An estimator of this package, fitted or not, or one of scikit-learn that contains one, such
        as a pipeline.
    path : str or path
        The file. By convention its name ends in ``.skops``.

    Raises
    ------
    ImportError
        If skops is not installed.
    pickle.PicklingError, AttributeError
        If a part of the estimator has no name in a module, such as a lambda.
    TypeError
        If skops cannot store or restore a part of the estimator.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Load an estimator from a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.persistence import load, save
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(max_iter=500, random_state=0).fit(X, y)
    >>> path = Path(tempfile.mkdtemp()) / "iris.skops"
    >>> save(model, path)
    >>> bool((load(path).predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    skops_io = _import_skops("save")
    content = skops_io.dumps(_Walk(estimator).copy(), compression=ZIP_DEFLATED)
    skops_io.loads(content, trusted=skops_io.get_untrusted_types(data=content))
    with atomic_write(Path(path)) as file:
        file.write(content)


def load(path: str | os.PathLike[str], *, trusted: Sequence[str | type] = ()) -> Any:
    """Return the estimator of a file of `save`, without running code from the file.

    A file consists of names of classes and of values. It is loaded only if all its classes are
    trusted: the classes that models of this package consist of (`get_trusted_types`), and those of
    scikit-learn, NumPy and SciPy that skops trusts. Anything else is not even imported. Do not rely
    on the predictions of a model from a stranger.

    The first `save` or `load` of a process takes longer, see `save`.

    Parameters
    ----------
    path : str or path
        The file.
    trusted : sequence of str or type, default=()
        Further classes and functions to trust, such as your own or those that the error message
        names. Names are full ones, such as ``"my_module.MyLoss"``. They are imported, instantiated
        and called as the file says.

    Returns
    -------
    estimator : estimator
        The estimator, equal to the saved one, without callbacks.

    Raises
    ------
    ImportError
        If skops is not installed.
    FileNotFoundError
        If there is no such file.
    skops.io.exceptions.UntrustedTypesFoundException
        If the file names a type that is not trusted. It is a TypeError.
    zipfile.BadZipFile
        If the file is damaged or incomplete, or is not a skops file.
    ValueError
        If trees of gradient boosting could read memory beyond their arrays.

    See Also
    --------
    save : Save an estimator to a file.
    get_trusted_types : Types that files may hold.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.persistence import load, save
    >>> path = Path(tempfile.mkdtemp()) / "model.skops"
    >>> save(BackpropRegressor(alpha=0.01), path)
    >>> load(path)
    BackpropRegressor(alpha=0.01)
    """
    skops_io = _import_skops("load")
    estimator = skops_io.load(path, trusted=[*get_trusted_types(), _TREE, *trusted])
    if _TREE not in trusted:
        _check_trees(estimator)
    return estimator


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
    modules = (import_module(f"skbackprop.{name}") for name in _PUBLIC_MODULES)
    public = (getattr(module, name) for module in modules for name in module.__all__)
    metrics = (get_scorer(name)._score_func for name in get_scorer_names())
    names = {
        f"{item.__module__}.{item.__qualname__}"
        for item in (*filter(inspect.isclass, public), *metrics)
    }
    names |= {
        f"skbackprop.{module}.{name}" for module, classes in _CLASSES.items() for name in classes
    }
    return sorted(names.union(_OTHERS))


def _import_skops(caller: str) -> Any:
    with require_extra(caller, extra="skops"):
        import skops.io
    return skops.io


class _Walk(pickle.Pickler):
    """Pickler that leaves out callbacks, and finds gradient boosting and its trees."""

    def __init__(self, estimator: Any) -> None:
        self._file = BytesIO()
        super().__init__(self._file, pickle.HIGHEST_PROTOCOL)
        self.boosting: list[Any] = []
        self.trees: list[Any] = []
        self.dump(estimator)

    def copy(self) -> Any:
        """Return a copy of the estimator without callbacks."""
        return pickle.loads(self._file.getvalue())

    def reducer_override(self, thing: Any) -> Any:
        """Return the reduced form of an object that has callbacks."""
        kind = type(thing)
        if kind in BOOSTED:
            self.boosting.append(thing)
        if f"{kind.__module__}.{kind.__qualname__}" == _TREE:
            self.trees.append(thing)
        if isinstance(thing, type) or "_skl_callbacks" not in getattr(thing, "__dict__", ()):
            return NotImplemented
        factory, arguments, state, *rest = thing.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        state = {name: value for name, value in state.items() if name != "_skl_callbacks"}
        return factory, arguments, state, *rest


def _check_trees(estimator: Any) -> None:
    """Raise an error if trees of gradient boosting could read memory beyond their arrays."""
    walk, valid = _Walk(estimator), set()
    for boosting in walk.boosting:
        trees = [tree for iteration in getattr(boosting, "_predictors", ()) for tree in iteration]
        if trees and _has_valid_columns(boosting):
            is_categorical = boosting._bin_mapper.is_categorical_ != 0
            valid |= {id(tree) for tree in trees if _is_valid(tree, is_categorical)}
    if not valid.issuperset(map(id, walk.trees)):
        raise ValueError(
            "The file has trees of gradient boosting whose indices are not valid, or which encode "
            "categories in a way that cannot be checked. If you trust the author of the file, add "
            f"{_TREE!r} to trusted."
        )


def _has_valid_columns(boosting: Any) -> bool:
    """Return whether rows have the columns that the trees of gradient boosting expect."""
    mapper, table, n_columns = boosting._bin_mapper, boosting._preprocessor, boosting._n_features
    parts = [(part, name) for part in (boosting, mapper) for name in vars(part)]
    return (
        type(mapper).__name__ == "_BinMapper"
        and mapper.is_categorical_.shape == (n_columns,) == (boosting.n_features_in_,)
        and (table is None or (type(table) is OrdinalTable and table.columns.shape == (n_columns,)))
        and "_in_fit" not in vars(boosting)  # for which columns are not checked
        # Attributes must not take the place of methods.
        and not any(callable(getattr(type(part), name, None)) for part, name in parts)
    )


def _is_valid(tree: Any, is_categorical: Array) -> bool:
    """Return whether nodes lead on, to columns and sets of categories that exist."""
    nodes, sets = tree.nodes, (tree.raw_left_cat_bitsets, tree.binned_left_cat_bitsets)
    splits = np.flatnonzero(nodes["is_leaf"] == 0)
    column, is_set = nodes["feature_idx"][splits], nodes["is_categorical"][splits] != 0
    children = np.stack([nodes[side][splits].astype(np.int64) for side in ("left", "right")])
    has_column = (column >= 0) & (column < len(is_categorical))
    has_set = is_categorical[np.where(has_column, column, 0)]
    has_set &= nodes["bitset_idx"][splits] < len(sets[0])
    is_valid = (children > splits) & (children < len(nodes)) & has_column & (has_set | ~is_set)
    return bool(
        len(nodes) and is_valid.all() and all(array.shape == (len(sets[0]), 8) for array in sets)
    )
