"""Rows on the workers by which training is watched: the scores of each epoch come to the client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..estimators._validation import bare_clone
from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..nn.parameters import FlatParameters, Parameters
from ..training.validation_data import Evaluator, ValidationData
from ..utils.arrays import Array
from ._actor_pool import ActorPool
from ._partitions import Partition, Partitions
from ._worker import WorkerConfig

Estimator = TypeVar("Estimator")

_WHERE = (
    "The input of X_val is on the workers. A scorer of EarlyStopping can give it to predict, "
    "predict_proba, decision_function and score of the estimator, and not look at it."
)


class RemoteInput:
    """The input of rows on the workers.

    Parameters
    ----------
    blocks : Blocks
        The rows, with encoded targets.
    """

    def __init__(self, blocks: Partitions) -> None:
        self.blocks = blocks
        self.shape = blocks.n_rows, blocks.facts[0].n_features
        self.dtype = blocks.facts[0].dtype
        self._crew: ActorPool | None = None

    def scores(self, network: Network, parameters: FlatParameters, setting: WorkerConfig) -> Array:
        """Return the scores of all rows, in their order, by each of the networks."""
        self._crew = self._crew or ActorPool(self.blocks, setting)
        theta, statistics = parameters.theta, parameters.statistics
        answers = self._crew.call("scores", theta, statistics)
        return np.concatenate(self._crew.in_order(answers), axis=1)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        self._say_where()

    def __getitem__(self, _: Any) -> NoReturn:
        self._say_where()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"It has no {name!r}. {_WHERE}")  # as who asks with hasattr expects

    @staticmethod
    def _say_where() -> NoReturn:
        raise TypeError(_WHERE)


class RemoteValidationTable(Dataset):
    """Rows of which the targets and weights are here, and the input is not."""

    @property
    def arrays(self) -> list[Any]:
        """The targets, and the weights, if there are any."""
        return super().arrays[1:]


def remote_validation_data(given: Partitions, blocks: Partitions) -> ValidationData:
    """Return rows to be watched, of which targets and weights are here and the input is not.

    Parameters
    ----------
    given : Blocks
        The rows with targets as the user has given them, for scorers.
    blocks : Blocks
        The same with encoded targets, and weights as in training.
    """
    here = blocks.each(_targets_of)
    weights = [weight for _, weight in here if weight is not None]
    y = np.concatenate([y for y, _ in here])
    table = RemoteValidationTable(
        RemoteInput(blocks), y, np.concatenate(weights) if weights else None
    )
    return ValidationData(table, None, np.concatenate([y for y, _ in given.each(_targets_of)]))


def _targets_of(block: Partition) -> tuple[Array, Array | None]:
    return block.y, block.weight


def with_precomputed_scores(estimator: Estimator, X: RemoteInput, scores: Array) -> Estimator:
    """Return an estimator that says of X what its scores say, without a look at the input.

    Parameters
    ----------
    estimator : estimator
        A fitted local one.
    X : Elsewhere
        The input.
    scores : array of shape (n_rows, n_outputs)
        The scores of its rows.
    """
    whole: Any = estimator

    def validated(input: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        return (X, y) if input is X else whole._validated(input, y, reset)

    def outcome(input: Any, outcome: Callable[[Array], Any], n_layers: int | None = None) -> Any:
        if input is X and n_layers is None:
            return outcome(scores[None].copy())  # which it may overwrite
        return whole._predict_with(input, outcome, n_layers)

    other = bare_clone(estimator)
    other.__dict__ |= {"_validated": validated, "_predict_with": outcome}
    return other


class RemoteEvaluator:
    """A judge that lets the workers compute the scores of rows that they hold.

    Parameters
    ----------
    evaluator : Judge
        What makes loss and score of them.
    setting : Setting
        How the network is trained.
    """

    def __init__(self, evaluator: Evaluator, setting: WorkerConfig) -> None:
        self._judge, self._setting = evaluator, setting
        self.loss, self.score = evaluator.loss, evaluator.score

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw scores."""
        return X.scores(network, parameters, self._setting)
