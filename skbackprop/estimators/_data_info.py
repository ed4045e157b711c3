"""What an estimator has learned beside its weights, as one value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..losses.base import Loss
from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..training._warnings import warn
from ..training.architecture import activation_of_each_layer, hidden_widths
from ..training.config import TrainingConfig
from ..training.training_run import TrainingRun
from ..training.validation_data import ValidationData
from ..utils.arrays import Array
from ._parameter_table import FIXED

# Values whose contents may change under one's hands.
_CHANGING = (list, dict, np.ndarray)


class TargetEncoder(ABC):
    """What an estimator knows of its targets: the way from y to what its network is to learn."""

    @abstractmethod
    def encode(self, y: Any, needs_all: bool) -> Array:
        """Return what the network is to learn of checked y: an array of shape (n, k).

        With `needs_all`, y has to have all that the first y had, every class of it.
        """

    def strata(self, y: Array) -> Array | None:
        """Return the class of each row of encoded targets; None where there is not one."""
        return None

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes that tell users of it."""
        return {}


@dataclass(frozen=True)
class DataInfo:
    """What an estimator has learned of its data, and what it has made of it.

    Parameters
    ----------
    fixed : dict
        The parameters that no further training may change, as they were at first.
    n_features : int
        The number of columns of X.
    feature_names : array of str or None
        Their names, if they have any.
    dtype : dtype
        What the network computes in.
    targets : Targets
        What is known of the targets.
    loss : Loss
        The loss for them, with its link.
    network : Network
        The layers that predict.
    n_estimators : int
        The number of networks.
    """

    fixed: dict[str, Any]
    n_features: int
    feature_names: Array | None
    dtype: np.dtype[np.floating]
    targets: TargetEncoder
    loss: Loss
    network: Network
    n_estimators: int

    @property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes that tell users of it, but for the names."""
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
        """The fitted attribute with the names of the features, if they have any."""
        return {} if self.feature_names is None else {"feature_names_in_": self.feature_names}


class ValidatedParams(NamedTuple):
    """A plan, and the values of the parameters that it was made of.

    Parameters
    ----------
    values : tuple
        The values.
    config : Plan
        The plan.
    is_fixed : bool
        Whether they are what they were as long as they are the same objects: no lists, say.
    messages : tuple of str
        What each fit is to warn of: parameters that have no effect.
    """

    values: tuple[Any, ...]
    config: TrainingConfig
    is_fixed: bool
    messages: tuple[str, ...]

    @classmethod
    def of(cls, values: tuple[Any, ...], config: TrainingConfig, messages: tuple[str, ...]) -> Self:
        """Return a plan with the values that it was made of, and what to warn of."""
        is_fixed = not any(isinstance(value, _CHANGING) for value in values)
        return cls(values, config, is_fixed, messages)

    def warn(self) -> None:
        """Warn of the parameters that have no effect, as each fit does once."""
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
        """Whether there are rows that are not trained on."""
        if self.X_val is None and not (self.y_val is None and self.sample_weight_val is None):
            raise ValueError(
                "y_val and sample_weight_val are for the rows of X_val, but X_val is None. Give "
                "X_val as well."
            )
        return self.X_val is not None


class ValidatedData(NamedTuple):
    """Checked data: what is trained on, its targets as the user gave them, and what is watched.

    And the group of each row to train on, where the user has named groups, and its fold, where
    folds are given.
    """

    table: Dataset
    y: Any
    watched: ValidationData | None
    groups: Array | None
    folds: Array | None = None


class ScoringInputs(NamedTuple):
    """Rows that a score is made of: their targets, what was said of them, and their weights.

    Each of the three has a row for each, so that those of several tables can be put together.
    """

    y: Any
    said: Any
    weight: Array | None


class FitContext(NamedTuple):
    """A fit that is about to begin: its plan, what was learned of the data, and its runs.

    Where it is resumed, also the curves that it adds to, as `resume` returns them.
    """

    planned: ValidatedParams
    learned: DataInfo
    data: ValidatedData
    runs: list[TrainingRun]
    before: Sequence[Mapping[str, Any]] | None = None


def warm_start_signature(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that cannot change while training goes on, in their plainest form."""
    fixed = {name: parameters[name] for name in FIXED if name in parameters}
    fixed["hidden_layer_sizes"] = hidden_widths(parameters["hidden_layer_sizes"])
    fixed["activation"] = activation_of_each_layer(parameters)
    return fixed
