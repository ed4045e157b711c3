"""scikit-learn's scorers by name, with suggestions for unknown names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sklearn.metrics import get_scorer, get_scorer_names

from ..utils.suggestions import did_you_mean


def get_scorer_with_suggestion(scoring: Any, others: Iterable[str] = ()) -> Any:
    """Return a scorer by name, as `sklearn.metrics.get_scorer`; a callable is returned as it is.

    Parameters
    ----------
    scoring : str or callable
        The name or the scorer.
    others : iterable of str, default=()
        Further names that are valid for the parameter, used in the suggestion.
    """
    try:
        return get_scorer(scoring)
    except ValueError as error:
        suggestion = did_you_mean(scoring, [*others, *get_scorer_names()])
        raise ValueError(f"{error}{suggestion}") from None
