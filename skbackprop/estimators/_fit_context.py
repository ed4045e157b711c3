"""What a fit knows: its arguments, validated parameters and data, and the data's properties."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from .._sklearn import warn
from ..losses.base import Loss
from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..training.architecture import activation_of_each_layer, hidden_widths
from ..training.config import TrainingConfig
from ..training.training_run import TrainingRun
from ..training.training_task import ValidationData
from ..utils.arrays import Array
from ._parameter_table import FIXED

# Types of values that can be changed in place.
_MUTABLE = (list, dict, np.ndarray)


class BaseTargetEncoder(ABC):
    """The encoding of an estimator's targets for its network."""

    @abstractmethod
    def encode(self, y: Any, needs_all: bool) -> Array:
        """Return validated y as the network's targets: an array of shape (n, k).

        With `needs_all`, y must contain every class of the first y.
        """

    def strata(self, y: Array) -> Array | None:
        """Return the class of each row of encoded targets; None if rows have no single class."""
        return None

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of the targets."""
        return {}


@dataclass(frozen=True)
class DataInfo:
    """The properties of the training data, and the network and the loss made for them.

    Parameters
    ----------
    fixed : dict
        The parameters that must not change between calls, with their first values.
    n_features : int
        The number of columns of X.
    feature_names : array of str or None
        The names of the columns, if they have any.
    dtype : dtype
        The dtype of the network's parameters.
    targets : TargetEncoder
        The encoding of the targets.
    loss : Loss
        The loss for these targets, with its link.
    network : Network
        The network that predicts.
    n_estimators : int
        The number of networks.
    """

    fixed: dict[str, Any]
    n_features: int
    feature_names: Array | None
    dtype: np.dtype[np.floating]
    targets: BaseTargetEncoder
    loss: Loss
    network: Network
    n_estimators: int

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of these properties, except for the names of features."""
        widths = self.network.widths
        return {
            "n_features_in_": self.n_features,
            **self.targets.attributes,
            "n_layers_": len(widths),
            "n_outputs_": widths[-1],
            "n_parameters_": self.network.layout.n_parameters,
            "out_activation_": self.loss.link.name,
        }

    @property
    def names(self) -> dict[str, Any]:
        """The fitted attribute with the names of features, if there are any."""
        return {} if self.feature_names is None else {"feature_names_in_": self.feature_names}


class ValidatedParams(NamedTuple):
    """The training configuration, with the parameter values that it was made from.

    Parameters
    ----------
    values : tuple
        The parameter values.
    config : TrainingConfig
        The configuration.
    is_fixed : bool
        Whether all values are immutable, so that the same objects make the same configuration.
    messages : tuple of str
        The warnings of each fit about parameters that have no effect.
    """

    values: tuple[Any, ...]
    config: TrainingConfig
    is_fixed: bool
    messages: tuple[str, ...]

    @classmethod
    def of(cls, values: tuple[Any, ...], config: TrainingConfig, messages: tuple[str, ...]) -> Self:
        """Return the configuration with its parameter values and warnings."""
        is_fixed = not any(isinstance(value, _MUTABLE) for value in values)
        return cls(values, config, is_fixed, messages)

    def warn(self) -> None:
        """Warn of the parameters that have no effect."""
        for message in self.messages:
            warn(message, UserWarning)


class FitArguments(NamedTuple):
    """The arguments of `fit`, as the user gives them, and two of tabular estimators alone.

    These are the `folds` (the network that holds out each row), and a `checkpoint` that has been
    read: the arrays of the runs, and the path of its file.
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

    @property
    def has_rows_to_watch(self) -> bool:
        """Whether the user gives validation data."""
        if self.X_val is None and not (self.y_val is None and self.sample_weight_val is None):
            raise ValueError(
                "y_val and sample_weight_val are for the rows of X_val, but X_val is None. Give "
                "X_val as well."
            )
        return self.X_val is not None


class ValidatedData(NamedTuple):
    """Validated training data, targets as the user gave them, validation data, groups and folds."""

    table: Dataset
    y: Any
    watched: ValidationData | None
    groups: Array | None
    folds: Array | None = None


class ScoringInputs(NamedTuple):
    """The targets, predictions and weights that a score is computed from.

    Each has a row for each sample, so that those of several tables can be concatenated.
    """

    y: Any
    said: Any
    weight: Array | None


class FitContext(NamedTuple):
    """A prepared fit: its validated parameters and data, and its runs.

    `before` has the loss curves up to the checkpoint of a resumed fit, as `resume` returns them.
    """

    planned: ValidatedParams
    learned: DataInfo
    data: ValidatedData
    runs: list[TrainingRun]
    before: Sequence[Mapping[str, Any]] | None = None


def warm_start_signature(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that must not change between calls, in a canonical form."""
    fixed = {name: parameters[name] for name in FIXED if name in parameters}
    fixed["hidden_layer_sizes"] = hidden_widths(parameters["hidden_layer_sizes"])
    fixed["activation"] = activation_of_each_layer(parameters)
    return fixed
