"""What `load` trusts: the classes that models of this package consist of, and no others.

A file names the class of each of its objects. Only those whose names are known here, or to skops as
part of scikit-learn, NumPy and SciPy, are ever looked up. All are classes that hold values, and do
nothing when they are made but look at them; nothing is among them that writes to files or runs what
it is given, as callbacks do. The only functions are the metrics that scorers of searches name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import numpy as np
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold
from sklearn.utils import Bunch

from .. import (
    activations,
    averages,
    conformal,
    initializers,
    inspection,
    layers,
    losses,
    optimizers,
    schedules,
    search,
    stopping,
    tables,
)
from .._sklearn import _MultimetricScorer, _PassthroughScorer, _Scorer
from ..engine.network import Network
from ..engine.parameters import FlatParameters, Layout
from ..engine.state import TrainingState
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.curves import Curve
from ..estimators.labels import Columns, Indicators, Labels
from ..estimators.learned import Learned
from ..estimators.numbers import Numbers, Reproduced
from ..estimators.regressor import BackpropRegressor
from ..fitting.course import Best, Kept, Past, Window
from ..fitting.folds import OutOfFold
from ..layers.base import Block
from ..layers.dense import Dense, Elementwise
from ..layers.dropout import Dropout
from ..layers.inputs import BlockMaps, Normal, Scale
from ..losses import blocks, links, smoothing, with_link
from ..tables.categories import Codes, Levels, OneHot
from ..tables.clones import Clones, Taken
from ..tables.encoding import Encoding
from ..tables.ensembles import NetworksOfTable
from ..tables.inputs import Blocks, Inputs
from ..tables.networks import TableClassifierNetworks, TableRegressorNetworks
from ..tables.numbers import Numbers as NumbersOfTable
from ..tables.said import Said
from ..tables.targets import TargetStatistics

# Modules whose public classes users set parameters to, or fit.
_PUBLIC = (
    activations,
    averages,
    initializers,
    inspection,
    layers,
    losses,
    optimizers,
    schedules,
    search,
    stopping,
    tables,
)

# What fitted estimators consist of beside these.
_OF_ESTIMATORS = (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    conformal.ConformalRegressor,
    *(Learned, Curve, OutOfFold),
    *(Columns, Indicators, Labels, Numbers, Reproduced),
    *(Network, Dense, Elementwise, Dropout, BlockMaps, Scale),
    *(blocks.BlockLoss, blocks.BlockLink, smoothing.Smoothed),
    *(links.IdentityLink, links.ExpLink, links.LogisticLink, links.SoftmaxLink),
    *(links.OrderedLink, links.MeanVarianceLink, links.TanhLink, links.ReluLink),
    with_link.LossWithLink,
)
_OF_TRAINING = (Past, Best, Kept, Window, TrainingState, FlatParameters, Layout, Block, Normal)
_OF_TABLES = (
    *(Inputs, Blocks, Encoding, NumbersOfTable, Levels, OneHot, Codes, TargetStatistics),
    *(NetworksOfTable, TableClassifierNetworks, TableRegressorNetworks, Clones, Taken, Said),
)
# Of others, what fitted searches hold, which skops does not know.
_OF_OTHERS = (
    np.dtype,
    *(KFold, StratifiedKFold, GroupKFold, Bunch),
    *(_MultimetricScorer, _PassthroughScorer, _Scorer),
)


def trusted_types() -> list[str]:
    """Return the names of what `load` trusts beside what skops itself does.

    They are for other programs that read skops files: ``skops.io.load(file, trusted=...)``, or
    MLflow's ``skops_trusted_types``.

    Returns
    -------
    names : list of str
        The full names, sorted.

    Examples
    --------
    >>> from skbackprop.persistence import trusted_types
    >>> "skbackprop.estimators.classifier.BackpropClassifier" in trusted_types()
    True
    """
    return list(_names())


@cache
def _names() -> tuple[str, ...]:
    public = (kind for module in _PUBLIC for kind in _public_classes(module))
    scorers = [get_scorer(name) for name in get_scorer_names()]
    metrics = (scorer._score_func for scorer in scorers)
    kinds = {*public, *_OF_ESTIMATORS, *_OF_TRAINING, *_OF_TABLES, *_OF_OTHERS, *metrics}
    return tuple(sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds))


def _public_classes(module: ModuleType) -> Iterator[type]:
    """Yield the classes that a module's `__all__` names."""
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield thing
