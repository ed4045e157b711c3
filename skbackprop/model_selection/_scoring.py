"""The scores of a job's candidates: what is the same for all of a split is done once."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

from .._sklearn import _MultimetricScorer, _PassthroughScorer, _routing_enabled, _Scorer
from ._candidates import EvaluationConfig, Scored
from ._pipeline_cache import TransformedSplit


class SplitScorer:
    """What scores networks that have been trained on one split.

    scikit-learn's own scorers ask an estimator for predictions alone, so that they may be given
    the network of a pipeline, and the rows that come out of its transformers. Any other scorer is
    given the whole pipeline.

    Parameters
    ----------
    evaluation : Evaluation
        What all candidates have in common.
    estimator : estimator
        One of the candidates.
    split : int
        The number of the split.
    front : Front
        What the networks were trained on.
    """

    def __init__(
        self, evaluation: EvaluationConfig, estimator: Any, split: int, front: TransformedSplit
    ) -> None:
        self.evaluation, self.estimator = evaluation, estimator
        self.split, self.front = split, front
        self._asks_for_predictions = (
            type(front.pipeline) is Pipeline
            and not _routing_enabled()
            and _asks_for_predictions(evaluation.scorer)
        )
        self._rows: dict[bool, Scored] = {}
        self._transformed: dict[bool, Scored | None] = {}

    def score(self, network: Any, *, on_train: bool) -> Any:
        """Return the score of a network on the test rows, or on the training rows."""
        if on_train not in self._rows:
            self._take_rows(on_train)
        transformed = self._transformed[on_train]
        if transformed is not None:
            return self.evaluation.score(network, transformed)
        return self.evaluation.score(self.front.before(network), self._rows[on_train])

    def _take_rows(self, on_train: bool) -> None:
        rows = self.evaluation.rows_to_score(self.estimator, self.split, on_train=on_train)
        self._rows[on_train], self._transformed[on_train] = rows, None
        if self._asks_for_predictions and not rows.params:
            try:
                X = self.front.pipeline[:-1].transform(rows.X)
            except Exception:
                return  # the scores of all will say what is wrong, each for itself
            self._transformed[on_train] = rows._replace(X=X)


def _asks_for_predictions(scorer: Any) -> bool:
    """Return whether a scorer, or each of several, is scikit-learn's own."""
    scorers = scorer._scorers.values() if type(scorer) is _MultimetricScorer else [scorer]
    return all(type(each) in (_PassthroughScorer, _Scorer) for each in scorers)
