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
    conformal,
    early_stopping,
    initializers,
    inspection,
    layers,
    losses,
    model_selection,
    optimizers,
    schedules,
    tabular,
    weight_averaging,
)
from .._sklearn import _MultimetricScorer, _PassthroughScorer, _Scorer
from ..estimators._data_info import DataInfo
from ..estimators._label_encoding import MultilabelTargets, MultioutputTargets, SingleLabelTargets
from ..estimators._loss_history import SharedList
from ..estimators._target_scaling import ReconstructionTargets, RegressionTargets
from ..estimators.autoencoder import BackpropAutoencoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..layers.base import ParameterSpec
from ..layers.dense import Activation, Dense
from ..layers.dropout import Dropout
from ..layers.feature_layers import BlockDiagonalDense, NormalInit, Scale
from ..losses import _link_override, classification, links, multioutput
from ..nn.network import Network
from ..nn.parameters import FlatParameters, ParameterLayout
from ..nn.train_state import TrainState
from ..tabular._blending import CrossFittedEstimators
from ..tabular._categorical_encoding import (
    CategoryLevels,
    OneHot,
    OrdinalCodes,
    TargetEncoding,
)
from ..tabular._distribution_targets import DistributionTargets
from ..tabular._encoding import FittedEncoding
from ..tabular._features import FeatureBlocks, FeatureBuilder
from ..tabular._network_ensemble import (
    NetworkEnsemble,
    OutputBiasInit,
    TableClassifierNetworks,
    TableRegressorNetworks,
)
from ..tabular._numeric_encoding import RobustScaling
from ..training.folds import OutOfFoldPredictions
from ..training.history import BestEpoch, ParameterSnapshot, WarmStartState, Window

# Modules whose public classes users set parameters to, or fit.
_PUBLIC = (
    activations,
    weight_averaging,
    initializers,
    inspection,
    layers,
    losses,
    optimizers,
    schedules,
    model_selection,
    early_stopping,
    tabular,
)

# What fitted estimators consist of beside these.
_OF_ESTIMATORS = (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    conformal.ConformalRegressor,
    *(DataInfo, SharedList, OutOfFoldPredictions),
    *(
        MultioutputTargets,
        MultilabelTargets,
        SingleLabelTargets,
        RegressionTargets,
        ReconstructionTargets,
    ),
    *(Network, Dense, Activation, Dropout, BlockDiagonalDense, Scale),
    *(multioutput.MultiOutputLoss, multioutput.MultiOutputLink, classification.LabelSmoothing),
    *(links.IdentityLink, links.LogLink, links.LogitLink, links.SoftmaxLink),
    *(links.NonCrossingQuantileLink, links.GaussianLink, links.TanhLink, links.ReluLink),
    _link_override.LossWithLink,
)
_OF_TRAINING = (
    WarmStartState,
    BestEpoch,
    ParameterSnapshot,
    Window,
    TrainState,
    FlatParameters,
    ParameterLayout,
    ParameterSpec,
    NormalInit,
)
_OF_TABLES = (
    *(
        FeatureBuilder,
        FeatureBlocks,
        FittedEncoding,
        RobustScaling,
        CategoryLevels,
        OneHot,
        OrdinalCodes,
        TargetEncoding,
    ),
    *(
        NetworkEnsemble,
        TableClassifierNetworks,
        TableRegressorNetworks,
        CrossFittedEstimators,
        OutputBiasInit,
        DistributionTargets,
    ),
)
# Of others, what fitted searches hold, which skops does not know.
_OF_OTHERS = (
    np.dtype,
    *(KFold, StratifiedKFold, GroupKFold, Bunch),
    *(_MultimetricScorer, _PassthroughScorer, _Scorer),
)


def get_trusted_types() -> list[str]:
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
