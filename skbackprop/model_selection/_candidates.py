"""The candidates of a search, and what all of them have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from sklearn.pipeline import Pipeline

from .._sklearn import _check_method_params, _MultimetricScorer, _safe_split, _score
from ..estimators._data_info import ValidatedParams
from ..estimators.base import BaseNeuralNetwork
from ..training.config import is_lbfgs

# The package, of which this module is an inner room.
_PACKAGE = __name__.partition(".")[0]

Split = tuple[Any, Any]
"""The rows to train on and the rows to test on."""


class Scored(NamedTuple):
    """Rows that candidates are scored on, and further arguments of the scorer."""

    X: Any
    y: Any
    params: dict[str, Any]


@dataclass
class EvaluationConfig:
    """What all candidates have in common.

    Parameters
    ----------
    estimator : estimator
        What each candidate is a clone of.
    X, y : array-like
        The data.
    splits : list of (train, test)
        The rows of each split.
    scorer : callable
        What scores a candidate.
    fit_params, score_params : dict
        Further arguments of fit and scorer.
    return_train_score : bool
        Whether to score on the training rows as well.
    error_score : "raise" or float
        The score of a candidate that can't be fitted.
    verbose : int
        How much to print.
    max_bytes : int
        The memory that a stack may take.
    """

    estimator: Any
    X: Any
    y: Any
    splits: list[Split]
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    return_train_score: bool
    error_score: Any
    verbose: int
    max_bytes: int

    def train(self, estimator: Any, split: int) -> tuple[Any, Any, dict[str, Any]]:
        """Return the training rows of X, of y and of the arguments of an estimator's fit."""
        rows = self.splits[split][0]
        X, y = _safe_split(estimator, self.X, self.y, rows)
        return X, y, _check_method_params(self.X, params=self.fit_params, indices=rows)

    def rows_to_score(self, estimator: Any, split: int, *, on_train: bool) -> Scored:
        """Return what is needed to score an estimator on the test rows, or on the training rows."""
        train, test = self.splits[split]
        rows = train if on_train else test
        X, y = _safe_split(estimator, self.X, self.y, rows, None if on_train else train)
        return Scored(X, y, _check_method_params(self.X, params=self.score_params, indices=rows))

    def score(self, estimator: Any, rows: Scored) -> Any:
        """Return the score of a fitted estimator on some rows."""
        return _score(estimator, rows.X, rows.y, self.scorer, rows.params, self.error_score)

    def failed_score(self) -> Any:
        """Return what stands for the score of a candidate that could not be fitted."""
        if isinstance(self.scorer, _MultimetricScorer):
            return dict.fromkeys(self.scorer._scorers, self.error_score)
        return self.error_score


@dataclass
class Candidate:
    """One setting of the parameters that are searched, and an estimator that has it.

    Parameters
    ----------
    number : int
        Its place among the candidates.
    parameters : dict
        The setting.
    estimator : estimator
        The estimator, not fitted.
    """

    number: int
    parameters: dict[str, Any]
    estimator: Any

    @property
    def network(self) -> Any:
        """The estimator itself, or the last step of a pipeline."""
        is_pipeline = isinstance(self.estimator, Pipeline)
        return self.estimator.steps[-1][1] if is_pipeline else self.estimator

    @property
    def is_network(self) -> bool:
        """Whether it is one of our estimators, or a pipeline that ends in one.

        Not with callbacks of its own, which follow it alone.
        """
        kind = type(self.network)
        return (
            issubclass(kind, BaseNeuralNetwork)
            and not hasattr(self.network, "_skl_callbacks")
            # Not with a fit of the user's own, which nothing else can stand in for.
            and kind.fit.__module__.partition(".")[0] == _PACKAGE
            and kind._train is BaseNeuralNetwork._train
        )

    @property
    def unbatchable_reason(self) -> str | None:
        """Why it can't be a member of a stack; None if it can."""
        if hasattr(self.network, "_skl_callbacks"):
            return "callbacks follow each fit"
        if not self.is_network:
            return f"{type(self.network).__name__} is not a network of skbackprop"
        if is_lbfgs(self.network.solver):
            return "lbfgs trains one network at a time"
        return None

    @property
    def name_of_epochs(self) -> str:
        """The parameter of the estimator that is the number of its network's epochs."""
        is_pipeline = isinstance(self.estimator, Pipeline)
        return f"{self.estimator.steps[-1][0]}__max_iter" if is_pipeline else "max_iter"

    @cached_property
    def planned(self) -> ValidatedParams | None:
        """What its network's parameters make: made once, for all splits.

        None where they are not valid: alone, fit will say what is wrong.
        """
        try:
            planned: ValidatedParams = self.network._plan_anew()
        except Exception:
            return None
        return planned

    @property
    def shape(self) -> list[Any]:
        """What its network has to have in common with others in a stack: nothing without a plan."""
        planned = self.planned
        return [self] if planned is None else [type(self.network), *planned.config.stacking_key]

    @property
    def settings_of_transformers(self) -> dict[str, Any]:
        """The parameters of all that comes before the network."""
        if not isinstance(self.estimator, Pipeline):
            return {}
        last = self.estimator.steps[-1][0]
        return {
            name: value
            for name, value in self.parameters.items()
            if name.partition("__")[0] != last
        }
