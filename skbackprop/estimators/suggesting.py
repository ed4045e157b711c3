"""Errors about names: of parameters, and of what a parameter may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import StrOptions
from ..core.suggestions import did_you_mean


class Suggesting(BaseEstimator):
    """An estimator whose errors suggest the valid name that is nearest to a wrong one.

    The errors are scikit-learn's, with a question at their end.
    """

    def set_params(self, **params: Any) -> Self:
        """Set parameters, of the estimator and of what is within it.

        Parameters
        ----------
        **params : dict
            The parameters by name; those of an object among them by its name, two underscores and
            their own.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no parameter of a name. Then nothing is changed.
        """
        names = self.get_params(deep=False)
        for own in (name.partition("__")[0] for name in params):
            if own not in names:
                try:
                    super().set_params(**{own: None})
                except ValueError as error:
                    raise ValueError(f"{error}{did_you_mean(own, names)}") from None
        super().set_params(**params)
        return self

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except ValueError as error:
            said = str(error)
            for name, constraints in self._parameter_constraints.items():
                if said.startswith(f"The {name!r} parameter of"):
                    words = [each for each in constraints if isinstance(each, StrOptions)]
                    names = set().union(*(each.options for each in words))
                    question = did_you_mean(getattr(self, name), names)
                    raise type(error)(f"{said}{question}") from None
            raise


def scorer_of(scoring: Any) -> Any:
    """Return the scorer of scikit-learn's that a name stands for; a callable as it is."""
    with suggesting_scorers(scoring):
        return get_scorer(scoring)


@contextmanager
def suggesting_scorers(scoring: Any) -> Iterator[None]:
    """Let an error about the name of a scorer, alone or among others, suggest the nearest one."""
    try:
        yield
    except ValueError as error:
        given = scoring.values() if isinstance(scoring, Mapping) else scoring
        names, known = [given] if isinstance(given, str) else given, get_scorer_names()
        wrong = [name for name in names if name not in known]
        question = did_you_mean(wrong[0], known) if wrong else ""
        raise type(error)(f"{error}{question}") from None
