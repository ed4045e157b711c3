"""Context of a fit: its arguments, validated parameters and data, and the runs."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..layers.base import Shape
from ..losses._composite import LossWithLink, override_link
from ..losses.base import Loss
from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..training.architecture import (
    check_input_shape_param,
    check_layers_param,
    validate_activations,
    validate_hidden_layer_sizes,
)
from ..training.class_weight import compute_sample_weight
from ..training.config import TrainingConfig, is_warm_start_compatible
from ..training.training_run import TrainingRun
from ..training.training_task import ValidationData
from ..utils.arrays import Array
from ._parameter_table import FIXED
from ._target_encoding import BaseTargetEncoder


@dataclass(frozen=True)
class DataInfo:
    """The properties of the training data, and the network and the loss made for them.

    Parameters
    ----------
    fixed : dict
        The parameters that must not change between calls, with their first values.
    row_shape : tuple of int
        The shape of one row of X: (n_features,), or more sizes for X of more dimensions.
    feature_names : array of str or None
        The names of the columns, if they have any.
    dtype : dtype
        The dtype of the network's parameters.
    targets : BaseTargetEncoder
        The encoding of the targets.
    loss : Loss
        The loss for these targets, with its link.
    network : Network
        The network that predicts.
    n_estimators : int
        The number of networks.
    """

    fixed: dict[str, Any]
    row_shape: Shape
    feature_names: Array | None
    dtype: np.dtype[np.floating]
    targets: BaseTargetEncoder
    loss: Loss
    network: Network
    n_estimators: int

    @property
    def n_features(self) -> int:
        """The number of values of one row of X."""
        return math.prod(self.row_shape)

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of these properties, except for the names of features."""
        widths = self.network.widths
        return {
            "n_features_in_": self.n_features,
            **self.targets.attributes,
            "n_layers_": len(widths),
            "n_outputs_": self.network.n_units[-1],
            "n_parameters_": self.network.layout.n_parameters,
            "out_activation_": self.loss.link.name,
        }

    @property
    def feature_attributes(self) -> dict[str, Any]:
        """The fitted attributes of the features: their number, and their names if they have any."""
        names = {} if self.feature_names is None else {"feature_names_in_": self.feature_names}
        return {"n_features_in_": self.n_features, **names}


class ValidatedParams(NamedTuple):
    """The training configuration, with the parameter values that it was made from.

    Parameters
    ----------
    values : tuple
        The parameter values.
    config : TrainingConfig
        The configuration.
    fixed : dict
        The parameters that a warm start must not change, as `warm_start_signature` returns them.
    is_immutable : bool
        Whether no value can change, apart from the items of lists, so that the same objects make
        the same configuration.
    lists : tuple of pairs
        The lists among the values, such as that of `layers`, each with its items.
    """

    values: tuple[Any, ...]
    config: TrainingConfig
    fixed: dict[str, Any]
    is_immutable: bool
    lists: tuple[tuple[list[Any], tuple[Any, ...]], ...]

    @property
    def is_current(self) -> bool:
        """Whether the same values make the same configuration as before."""
        return self.is_immutable and all(
            len(values) == len(items) and all(map(operator.is_, values, items))
            for values, items in self.lists
        )


class FitArguments(NamedTuple):
    """The arguments of `fit`, as the user gives them, and three of tabular estimators alone.

    These are the `folds` (the network that holds out each row), a `checkpoint` that has been read
    (the arrays of the runs, and the path of its file), and `is_train` (whether networks may be
    trained on each row; None for all rows).
    """

    X: Any
    y: Any
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    resume_from: Any = None
    groups: Any = None
    folds: Array | None = None
    checkpoint: tuple[Mapping[str, Array], Path] | None = None
    is_train: Array | None = None

    @property
    def has_validation_data(self) -> bool:
        """Whether the user gives validation data."""
        if self.X_val is None and not (self.y_val is None and self.sample_weight_val is None):
            raise ValueError(
                "y_val and sample_weight_val are only valid with X_val, but X_val is None. Pass "
                "X_val as well."
            )
        return self.X_val is not None


class ValidatedData(NamedTuple):
    """Validated training data, with targets as the user gave them, and how its rows are used."""

    table: Dataset
    y: Any
    validation: ValidationData | None
    groups: Array | None
    folds: Array | None = None
    is_train: Array | None = None


class ScoredPredictions(NamedTuple):
    """The targets, predictions and weights that a score is computed from.

    Each has a row for each sample, so that those of several tables can be concatenated.
    """

    y: Any
    predicted: Any
    weight: Array | None


class FitContext(NamedTuple):
    """The validated parameters and data of a fit, and its runs.

    `before` has the fitted attributes of each network that the fit continues, by name: those of
    the estimator in a warm start, the loss curves of its checkpoint in a resumed fit, else none.
    """

    params: ValidatedParams
    info: DataInfo
    data: ValidatedData
    runs: list[TrainingRun]
    before: Sequence[Mapping[str, Any]]


def warm_start_signature(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that must not change between calls, in a canonical form."""
    fixed = {name: parameters[name] for name in FIXED if name in parameters}
    fixed["hidden_layer_sizes"] = validate_hidden_layer_sizes(parameters["hidden_layer_sizes"])
    fixed["activation"] = validate_activations(parameters)
    if "layers" in fixed:
        fixed["layers"] = check_layers_param(fixed["layers"]) or None
        fixed["input_shape"] = check_input_shape_param(fixed["input_shape"])
    return fixed


def check_warm_start(fixed: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a warm start changes no parameter of the `warm_start_signature`."""
    for name, value in fixed.items():
        if not is_warm_start_compatible(name, value, now[name]):
            raise ValueError(
                f"{name} was {value!r} when training began and is {now[name]!r} now, but it must "
                "not change while training continues. Set it back, or call fit with "
                "warm_start=False to train from scratch."
            )


def multiply_class_weight(config: TrainingConfig, targets: Any, table: Dataset) -> Dataset:
    """Return a table of encoded targets whose weights are multiplied by the class weights."""
    labels = targets.class_indices(table.y)
    return replace(table, weight=compute_sample_weight(config.class_weight, labels, table.weight))


def update_data_info(
    info: DataInfo, config: TrainingConfig, targets: Any, is_same_config: bool
) -> DataInfo:
    """Return the properties of the data of an earlier fit, with loss and layers of another.

    Raises
    ------
    ValueError
        If the user has set an output activation that cannot be trained.
    """
    link = info.loss.link.name
    if isinstance(info.loss, LossWithLink):
        unable = ""
        if config.is_lbfgs:
            unable = "solver='lbfgs' cannot minimize"
        elif config.stopping is not None and config.stopping.calibrate:
            unable = "calibrate=True has no temperature for"
        if unable:
            raise ValueError(
                f"out_activation_ was set to {link!r}, but {unable} its loss. Set it back to "
                f"{info.loss.base_loss.link.name!r} before training continues, or train with "
                "solver='sgd' or 'adam' and without calibration."
            )
    if is_same_config and targets is info.targets:
        return info
    loss = targets.make_loss(config.loss, config.label_smoothing)
    if isinstance(info.loss, LossWithLink):
        loss = override_link(loss, link)
    network = config.architecture.update_network(info.network)
    return replace(info, targets=targets, loss=loss, network=network)
