"""A fitted network, or an ensemble of them: all that an estimator holds after training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import FEW_ROWS, Predictor
from ..nn.stack import BaseStack
from ..nn.train_state import TrainState
from ..utils.arrays import Array
from .config import Config
from .targets import Targets
from .validation import OutOfFoldPredictions


@dataclass(frozen=True, eq=False)
class Model:
    """Networks with their parameters, the encoding of their targets and their training state.

    Parameters
    ----------
    params : dict
        The constructor's parameters of the estimator.
    config : Config
        These parameters as objects.
    network : Network
        The layers in prediction.
    targets : Targets
        The encoding of the targets, with the loss.
    state : TrainState
        The training state, which the next call of `partial_fit` changes in place. Its parameters
        have the layout of `training_network`.
    row_shape : tuple of int
        The shape of one row of X.
    feature_names : array of str or None, default=None
        The names of the columns of X, if they have any.
    out_of_fold : OutOfFoldPredictions or None, default=None
        The prediction of each training row by the network that held it out, with folds.
    results : dict
        The fitted attributes about training, by name.
    is_incremental : bool, default=False
        Whether the last training was a call of `partial_fit`.
    stack : BaseStack or None, default=None
        The stack that is bound to the state, which the next call of `partial_fit` uses again.
    """

    params: dict[str, Any]
    config: Config
    network: Network
    targets: Targets
    state: TrainState
    row_shape: tuple[int, ...]
    feature_names: Array | None = None
    out_of_fold: OutOfFoldPredictions | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    is_incremental: bool = False
    stack: BaseStack | None = field(default=None, repr=False)

    @property
    def training_network(self) -> Network:
        """The layers in training, with dropout."""
        return self.network.with_dropout(self.config.dropout_rates)

    @cached_property
    def predictor(self) -> Predictor:
        """The predictor, with the parameters for prediction."""
        return Predictor(
            self.network, self.state.inference_parameters(self.network.layout), FEW_ROWS
        )

    @property
    def parameters(self) -> Parameters:
        """The parameters for prediction: of the best epoch, averaged and calibrated."""
        return self.predictor.parameters

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The fitted attributes of an estimator, but for the arrays of the network."""
        attributes: dict[str, Any] = {"n_features_in_": math.prod(self.row_shape)}
        if self.feature_names is not None:
            attributes["feature_names_in_"] = self.feature_names
        return {**attributes, **self.targets.attributes, **self.results}

    # ------------------------------------------------------------------ other models

    def with_parameters(self, parameters: Parameters, *, only_predicts: bool = False) -> Self:
        """Return the model that predicts by, and continues training from, given parameters.

        With `only_predicts`, it has no state of training.
        """
        parameters = parameters.with_layout(self.training_network.layout)
        state = self.state.with_parameters(parameters, only_predicts=only_predicts)
        return replace(self, state=state, stack=None)

    def summarize(self) -> Self:
        """Return the model with the results of its last training."""
        summary = describe_training(self.state, self.config, self.is_incremental)
        return replace(self, results={**self.results, **summary})

    def reuse_predictor(self, last: Model) -> None:
        """Take over the predictor of a model with the same arrays, and its buffers."""
        if last.parameters.theta is self.state.inference_parameters(self.network.layout).theta:
            vars(self)["predictor"] = last.predictor

    def member(self, i: int, params: dict[str, Any]) -> Self:
        """Return one of several networks, which shares its weights, as a model of its own."""
        members = slice(i, i + 1)
        member = replace(
            self,
            params=params,
            config=replace(self.config, n_estimators=1),
            state=self.state.take(members),
            out_of_fold=None,
        )
        parameters = self.parameters.members(members)
        return member.with_parameters(parameters, only_predicts=True).summarize()

    # ------------------------------------------------------------------------- files

    def to_dict(self, *, only_predicts: bool = False) -> dict[str, Any]:
        """Return the model as values that files can hold; `only_predicts` leaves the rest out."""
        model = self.with_parameters(self.parameters, only_predicts=True) if only_predicts else self
        return {
            "params": self.params,
            "targets_kind": type(self.targets).__name__,
            "targets": self.targets.to_dict(),
            "n_outputs": self.network.n_units[-1],
            "state": model.state.to_arrays(),
            "row_shape": self.row_shape,
            "feature_names": self.feature_names,
            "out_of_fold": None if self.out_of_fold is None else tuple(self.out_of_fold),
            "results": dict(self.results),
            "is_incremental": self.is_incremental,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the model from the result of `to_dict`, whose arrays are copied."""
        kind = Targets.find_kind(values["targets_kind"])
        config = kind.config_class.from_params(values["params"], kind.named_losses)
        network = config.network(values["row_shape"], values["n_outputs"])
        layout = network.with_dropout(config.dropout_rates).layout
        out_of_fold = values["out_of_fold"]
        model = cls(
            params=values["params"],
            config=config,
            network=network,
            targets=kind.from_dict(config, values["targets"]),
            state=TrainState.from_arrays(values["state"], layout),
            row_shape=values["row_shape"],
            feature_names=values["feature_names"],
            out_of_fold=None if out_of_fold is None else OutOfFoldPredictions(*out_of_fold),
            results=values["results"],
            is_incremental=values["is_incremental"],
        )
        model.predictor  # noqa: B018, threads share the predictor, so it is made now
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        return Model.from_dict, (self.to_dict(),)


def describe_training(state: TrainState, config: Config, is_incremental: bool) -> dict[str, Any]:
    """Return the fitted attributes about the last training, per member if there are several.

    After `partial_fit`, the best loss is the lowest of all its calls and of the fit before them.
    """
    n = len(state)
    members: list[dict[str, Any]] = []
    for i in range(n):
        epoch = int(state.epoch[i, 0])
        n_iter = min(epoch, 1) if is_incremental else epoch
        best_epoch = int(state.best["epoch"][i, 0]) if state.best else 0
        best_score = float(state.best["score"][i, 0]) if best_epoch else math.nan
        members.append(
            {
                "n_iter_": n_iter,
                "converged_": state.stop_reason[i] == "converged",
                "t_": int(state.n_samples_seen[i, 0]),
                "loss_": np.float64(state.loss[i, 0]),
                "best_loss_": state.best_loss[i, 0] if config.early_stopping is None else None,
                "best_validation_score_": best_score if state.best else None,
                "best_iter_": best_epoch or n_iter,
            }
        )
    if n == 1:
        return members[0]
    return {name: _stack_values([member[name] for member in members]) for name in members[0]}


def _stack_values(values: Sequence[Any]) -> Any:
    """Return an array with the values of several members, or None."""
    return None if values[0] is None else np.array(values)


def get_curve(state: TrainState, name: str) -> Any:
    """Return a curve over all fits, a list of curves of several members, or None.

    The name is that of a column of `History`.
    """
    # Losses are NumPy scalars, as in scikit-learn: they have methods such as round.
    arrays = [history.curve(name) for history in state.history]
    if name == "validation_loss" and not any(map(len, arrays)):
        return None
    curves = [array.tolist() if name == "validation_score" else list(array) for array in arrays]
    return curves[0] if len(curves) == 1 else curves
