"""scikit-learn's scorers by name, with suggestions for unknown names and any positive class."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import _MultimetricScorer, _Scorer
from ..utils.suggestions import did_you_mean


def get_scorer_with_suggestion(
    scoring: Any, classes: Any = None, others: Iterable[str] = ()
) -> Any:
    """Return a scorer by name, as `sklearn.metrics.get_scorer`; a callable is returned as it is.

    Parameters
    ----------
    scoring : str or callable
        The name or the scorer.
    classes : array of shape (n_classes,) or None, default=None
        The labels, for `with_pos_label`.
    others : iterable of str, default=()
        Further names that are valid for the parameter, used in the suggestion.
    """
    with add_scorer_suggestions(scoring, others):
        return with_pos_label(get_scorer(scoring), classes)


def with_pos_label(scorer: Any, classes: Any) -> Any:
    """Return a scorer whose `pos_label` is the larger of two classes, if it needs one.

    By default, metrics such as "f1" use the class 1 as the positive class, and fail if no class
    is 1. A scorer with a `pos_label` of its own does not change.
    """
    if type(scorer) is _MultimetricScorer:
        several = copy.copy(scorer)
        several._scorers = {
            name: with_pos_label(each, classes) for name, each in scorer._scorers.items()
        }
        return several
    if type(scorer) is not _Scorer or np.ndim(classes) != 1 or len(classes) != 2:
        return scorer
    parameter = signature(scorer._score_func).parameters.get("pos_label")
    if parameter is None or "pos_label" in scorer._kwargs:
        return scorer
    labels = np.asarray(classes).tolist()
    # Metrics whose default is None infer the positive class of numeric labels themselves.
    works_by_default = (
        not isinstance(labels[1], (str, bytes))
        if parameter.default is None
        else (parameter.default in labels)
    )
    if works_by_default:
        return scorer
    scorer = copy.copy(scorer)
    scorer._kwargs = {**scorer._kwargs, "pos_label": labels[1]}
    return scorer


@contextmanager
def add_scorer_suggestions(scoring: Any, others: Iterable[str] = ()) -> Iterator[None]:
    """Add a suggestion to errors about unknown names of scorers."""
    try:
        yield
    except ValueError as error:
        given = scoring.values() if isinstance(scoring, Mapping) else scoring
        names, known = [given] if isinstance(given, str) else given, [*others, *get_scorer_names()]
        wrong = [name for name in names if name not in known]
        suggestion = did_you_mean(wrong[0], known) if wrong else ""
        raise type(error)(f"{error}{suggestion}") from None
