"""What comes before the network of a pipeline: fitted once for all candidates that share it.

The transformers of a pipeline are fitted once for each split and each setting of their own; what
comes out of them, a `TransformedSplit`, serves all candidates that differ in their network alone.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from typing import Any

from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

from ._candidates import EvaluationConfig


@dataclass
class TransformedSplit:
    """What the networks of some candidates are trained on in one split.

    Parameters
    ----------
    X, y : array-like
        The training rows, transformed.
    fit_params : dict
        Further arguments of a network's fit.
    pipeline : Pipeline or None, default=None
        The pipeline, fitted but for its last step; None for networks that stand alone.
    seconds : float, default=0.0
        A candidate's share of the time that it took.
    """

    X: Any
    y: Any
    fit_params: dict[str, Any]
    pipeline: Any = None
    seconds: float = 0.0

    def before(self, network: Any) -> Any:
        """Return the whole estimator, which ends in a network that has been fitted to X."""
        if self.pipeline is None:
            return network
        estimator = copy.copy(self.pipeline)
        estimator.steps = [*self.pipeline.steps[:-1], (self.pipeline.steps[-1][0], network)]
        return estimator


class _CaptureFitArgs(BaseEstimator):
    """Stands at the end of a pipeline in the place of a network, and keeps what fit is given."""

    def __init__(self, network: Any = None) -> None:
        self.network = network

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> _CaptureFitArgs:
        self.caught_ = X, y, fit_params
        return self

    def get_metadata_routing(self) -> Any:
        return get_routing_for_object(self.network)


def fit_transformers(
    evaluation: EvaluationConfig, estimator: Pipeline, split: int, n_candidates: int
) -> TransformedSplit | str:
    """Fit all that comes before the network of a pipeline to one split's training rows.

    Parameters
    ----------
    evaluation : Evaluation
        The data and its splits.
    estimator : Pipeline
        One of the candidates; it is not changed.
    split : int
        The number of the split.
    n_candidates : int
        Those that share the front, and so its time.

    Returns
    -------
    front : Front or str
        The error if that fails: a transformer may, and so may the fit of a pipeline of the user's
        own that needs the network. Alone, each candidate ends as it should.
    """
    start = time.perf_counter()
    pipeline = clone(estimator)
    name, network = pipeline.steps[-1]
    catch = _CaptureFitArgs(network)
    pipeline.steps = [*pipeline.steps[:-1], (name, catch)]
    X, y, fit_params = evaluation.train(estimator, split)
    try:
        pipeline.fit(X, y, **fit_params)
    except Exception as error:
        return repr(error)  # not itself, which may not come through to another process
    return TransformedSplit(*catch.caught_, pipeline, (time.perf_counter() - start) / n_candidates)
