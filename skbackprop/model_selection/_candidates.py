"""Candidates of a search, their training states and shared configuration."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from sklearn.pipeline import Pipeline

from .._sklearn import _check_method_params, _safe_split
from ..estimators._fit_context import ValidatedParams
from ..estimators.base import BaseNeuralNetwork, validate_params
from ..training.checkpoint import TrainingCheckpoint
from ..training.config import is_lbfgs

# The name of the package that this module belongs to.
_PACKAGE = __name__.partition(".")[0]

CandidateSplit: TypeAlias = tuple[int, int]
"""The number of a candidate and the number of a split."""


@dataclass
class Candidate:
    """One combination of the searched parameters, and an estimator with it.

    Parameters
    ----------
    number : int
        The index of the candidate.
    parameters : dict
        The setting.
    estimator : estimator
        The estimator, not fitted.
    has_callbacks : bool, default=False
        Whether the estimator, or a part of it, has callbacks of its own.
    """

    number: int
    parameters: dict[str, Any]
    estimator: Any
    has_callbacks: bool = False

    @property
    def step(self) -> str:
        """The name of the last step of a pipeline; empty if there is no pipeline."""
        return self.estimator.steps[-1][0] if isinstance(self.estimator, Pipeline) else ""

    @property
    def network(self) -> Any:
        """The estimator itself, or the last step of a pipeline."""
        return self.estimator.steps[-1][1] if self.step else self.estimator

    @property
    def single_fit_reason(self) -> str | None:
        """Why scikit-learn has to fit the candidate; None if `fit_many` can."""
        network = self.network
        if self.has_callbacks or hasattr(network, "_skl_callbacks"):
            return "callbacks need a separate fit"
        # A subclass with its own fit has to be fitted by that.
        has_our_fit = type(network).fit.__module__.partition(".")[0] == _PACKAGE
        if not isinstance(network, BaseNeuralNetwork) or not has_our_fit:
            return f"{type(network).__name__} is not a network of skbackprop"
        return None

    @property
    def unbatchable_reason(self) -> str | None:
        """Why the candidate cannot train in a stack with others; None if it can."""
        reason = self.single_fit_reason
        if reason is None and is_lbfgs(self.network.solver):
            return "lbfgs trains one network at a time"
        return reason

    @cached_property
    def validated_params(self) -> ValidatedParams | None:
        """The validated parameters of the network, computed once for all splits.

        None if they are invalid. Then `fit` raises the error.
        """
        try:
            return validate_params(self.network)
        except Exception:
            return None

    @property
    def stacking_key(self) -> list[Any]:
        """What the network must have in common with the other members of a stack."""
        validated = self.validated_params
        return [self] if validated is None else [type(self.network), *validated.config.stacking_key]

    def share_architecture_and_loss(self, other: Candidate) -> None:
        """Share the architecture and the loss of a candidate with an equal key.

        Later comparisons then find the same objects, which is fast.
        """
        own, theirs = self.validated_params, other.validated_params
        if own is not None and theirs is not None:
            shared = {name: getattr(theirs.config, name) for name in ("architecture", "loss")}
            self.validated_params = own._replace(config=replace(own.config, **shared))

    @property
    def transformer_parameters(self) -> dict[str, Any]:
        """The searched parameters of the transformers before the network."""
        if not self.step:
            return {}
        return {
            name: value
            for name, value in self.parameters.items()
            if name.partition("__")[0] != self.step
        }


@dataclass(frozen=True)
class RoundBudget:
    """Number of epochs of a round of successive halving.

    Parameters
    ----------
    resource : str
        The estimator's parameter for the number of epochs.
    pause_epoch : int
        The epoch after which this round ends.
    n_epochs : int
        The epoch after which the last round ends. Schedules count progress towards it.
    """

    resource: str
    pause_epoch: int
    n_epochs: int

    def resumes(self, candidate: Candidate) -> bool:
        """Return whether a candidate resumes training instead of starting again."""
        epochs_parameter = f"{candidate.step}__max_iter" if candidate.step else "max_iter"
        return candidate.unbatchable_reason is None and self.resource == epochs_parameter


class CandidateStates(dict[CandidateSplit, list[TrainingCheckpoint]]):
    """Training states of candidates on splits, from which the next round resumes.

    They are pickled as a single bytes object, because joblib handles each array by itself, which
    is slow for many small arrays. Random number generators and row orders that several states
    share are still shared after unpickling.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_states, (pickle.dumps(dict(self), protocol=pickle.HIGHEST_PROTOCOL),)


def _unpickle_states(pickled: bytes) -> CandidateStates:
    return CandidateStates(pickle.loads(pickled))


@dataclass
class EvaluationConfig:
    """Data, splits, scoring and settings that all candidates share.

    Parameters
    ----------
    estimator : estimator
        The estimator that each candidate is a clone of.
    X, y : array-like
        The data.
    splits : list of (train, test)
        The indices of the training rows and the test rows of each split.
    scorer : callable
        The scorer.
    fit_params, score_params : dict
        Further arguments of `fit` and of the scorer.
    return_train_score : bool
        Whether to score on the training rows as well.
    error_score : "raise" or float
        The score of a candidate whose fit fails.
    verbose : int
        How much to print.
    max_bytes : int
        The memory that a stack may take.
    has_callbacks : bool
        Whether the estimator, or a part of it, has callbacks of its own.
    budget : RoundBudget or None, default=None
        The epochs of a round of successive halving; None to train each candidate to its end.
    """

    estimator: Any
    X: Any
    y: Any
    splits: list[tuple[Any, Any]]
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    return_train_score: bool
    error_score: Any
    verbose: int
    max_bytes: int
    has_callbacks: bool
    budget: RoundBudget | None = None

    def training_data(self, estimator: Any, split: int) -> tuple[Any, Any, dict[str, Any]]:
        """Return the training rows of X, y and the arguments of `fit`."""
        rows = self.splits[split][0]
        X, y = _safe_split(estimator, self.X, self.y, rows)
        return X, y, _check_method_params(self.X, params=self.fit_params, indices=rows)

    def scoring_data(
        self, estimator: Any, split: int, *, on_train: bool
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Return the test or training rows of X, y and the scorer's arguments."""
        train, test = self.splits[split]
        rows = train if on_train else test
        X, y = _safe_split(estimator, self.X, self.y, rows, None if on_train else train)
        return X, y, _check_method_params(self.X, params=self.score_params, indices=rows)
