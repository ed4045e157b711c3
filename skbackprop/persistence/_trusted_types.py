"""Types that `load` trusts: the classes that models of this package consist of.

A file names the class of each of its objects. `load` looks up only the names listed here, and those
of scikit-learn, NumPy and SciPy that skops trusts. All of them are classes that hold values and do
nothing but check them when they are created. Callbacks are not trusted, because they write files.
The only trusted functions are the metrics of scikit-learn's scorers.
"""

from __future__ import annotations

import inspect
from functools import cache

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
from .._conformal_intervals import ErrorScale
from .._sklearn import _MultimetricScorer, _PassthroughScorer, _Scorer
from ..estimators._fit_context import DataInfo
from ..estimators._history import ImmutableCurve
from ..estimators._label_encoding import MultilabelEncoder, SingleLabelEncoder
from ..estimators._target_encoding import RegressionTargetEncoder
from ..estimators.autoencoder import BackpropAutoencoder, ReconstructionTargetEncoder
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..layers.base import KernelInit, NormalInit, ParameterSpec
from ..layers.columns import BlockDiagonalDense
from ..layers.convolution import TransposedKernelInit
from ..layers.dense import HiddenDropout
from ..layers.latent import Bottleneck, Sampling
from ..layers.recurrent import ForgetBiasInit, OrthogonalInit
from ..layers.reshaping import CropOrPad
from ..layers.residual import ResidualEnd, ResidualStart
from ..losses import _composite, links
from ..nn.network import Network
from ..nn.parameters import FlatParameters, ParameterLayout
from ..nn.train_state import TrainState
from ..tabular._blend import CrossFittedEstimators
from ..tabular._boosted_trees import PackedTrees
from ..tabular._categorical_encoding import (
    CategoricalEncoding,
    CategoryLevels,
    OneHot,
    OrdinalCodes,
)
from ..tabular._category_interactions import CategoryInteractions
from ..tabular._dates import DateEncoding, TimeEncoding
from ..tabular._model_inputs import FeatureBuilder, NumericBlockEncoder
from ..tabular._networks import (
    NetworkEnsemble,
    OutputBiasInit,
    TabularClassifierNetworks,
    TabularRegressorNetworks,
)
from ..tabular._robust_scaling import RobustScaling
from ..tabular._table_encoding import FittedEncoding, UnscaledRows
from ..tabular._target_encoding import TargetEncoding
from ..tabular._targets import ClassifierTargets, RegressorTargets
from ..tabular._text import TextEncoding
from ..training.checkpoint import (
    BestEpoch,
    History,
    ParameterSnapshot,
    TrainingCheckpoint,
)
from ..training.out_of_fold import OutOfFoldPredictions

# Modules whose public classes are parameters of estimators or estimators themselves.
_PUBLIC_MODULES = (
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

# Other classes whose instances are part of fitted estimators.
_CLASSES: tuple[type, ...] = (
    # estimators and their fitted attributes
    *(BackpropAutoencoder, BackpropClassifier, BackpropRegressor, conformal.ConformalRegressor),
    *(DataInfo, ImmutableCurve, OutOfFoldPredictions),
    *(MultilabelEncoder, SingleLabelEncoder),
    *(RegressionTargetEncoder, ReconstructionTargetEncoder),
    # networks and losses
    *(Network, HiddenDropout, BlockDiagonalDense, ResidualStart, ResidualEnd),
    *(Bottleneck, Sampling, CropOrPad),
    _composite.LabelSmoothing,
    *(links.IdentityLink, links.LogLink, links.LogitLink, links.SoftmaxLink),
    *(links.NonCrossingQuantileLink, links.GaussianLink, links.TanhLink, links.ReluLink),
    _composite.LossWithLink,
    # training states
    *(TrainingCheckpoint, History, BestEpoch, ParameterSnapshot, TrainState),
    *(FlatParameters, ParameterLayout, ParameterSpec, NormalInit, KernelInit),
    *(ForgetBiasInit, OrthogonalInit, TransposedKernelInit),
    # tabular estimators
    *(FeatureBuilder, NumericBlockEncoder, FittedEncoding, RobustScaling),
    *(CategoricalEncoding, CategoryLevels, OneHot, OrdinalCodes),
    *(TargetEncoding, CategoryInteractions),
    *(ClassifierTargets, RegressorTargets, ErrorScale),
    *(DateEncoding, TimeEncoding, TextEncoding, UnscaledRows),
    *(NetworkEnsemble, TabularClassifierNetworks, TabularRegressorNetworks),
    *(CrossFittedEstimators, OutputBiasInit, PackedTrees),
    # parts of fitted searches that skops does not know
    *(np.dtype, KFold, StratifiedKFold, GroupKFold, Bunch),
    *(_MultimetricScorer, _PassthroughScorer, _Scorer),
)


@cache
def _trusted_names() -> tuple[str, ...]:
    public = (getattr(module, name) for module in _PUBLIC_MODULES for name in module.__all__)
    metrics = (get_scorer(name)._score_func for name in get_scorer_names())
    types = {*filter(inspect.isclass, public), *_CLASSES, *metrics}
    return tuple(sorted(f"{each.__module__}.{each.__qualname__}" for each in types))


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
