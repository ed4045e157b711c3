"""The fitted estimators inside pipelines, searches and frozen estimators."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline


def get_pipeline_steps(estimator: Any) -> list[Any]:
    """Return the steps of a pipeline, of a search's best pipeline, or the estimator itself."""
    if isinstance(estimator, Pipeline):
        each = (step for _, step in estimator.steps if step not in (None, "passthrough"))
        return [part for step in each for part in get_pipeline_steps(step)]
    if hasattr(estimator, "best_estimator_"):  # a refitted search
        return get_pipeline_steps(estimator.best_estimator_)
    if isinstance(estimator, FrozenEstimator):
        return get_pipeline_steps(estimator.estimator)
    return [estimator]
