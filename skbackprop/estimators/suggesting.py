"""Errors about names of parameters and of their values; the scorers that names stand for."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import signature, unwrap
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import StrOptions, _MultimetricScorer, _Scorer
from ..core.suggestions import check_keywords, did_you_mean, instead_of
from .decorators import Method


class Suggesting(BaseEstimator):
    """An estimator whose errors suggest the valid name that was meant by a wrong one.

    The errors are Python's and scikit-learn's, with a question at their end.
    """

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Make an estimator; an unknown parameter is a TypeError that suggests the right one."""
        if params:
            methods = [name for name in ("set_callbacks",) if hasattr(cls, name)]
            check_keywords(cls, cls.__init__, params, methods)
        return super().__new__(cls)

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
                    question = _question_about(name, getattr(self, name), constraints)
                    raise type(error)(f"{said}{question}") from None
            raise


def suggests_arguments(method: Method) -> Method:
    """Let a method's error about an unknown argument suggest one of it, or of the estimator."""
    innermost = unwrap(method)

    @wraps(method)
    def checked(self: Any, *args: Any, **arguments: Any) -> Any:
        if arguments:
            elsewhere = (*type(self)._get_param_names(), "set_callbacks")
            check_keywords(type(self), innermost, arguments, elsewhere)
        return method(self, *args, **arguments)

    return checked  # type: ignore[return-value]


def _question_about(name: str, value: Any, constraints: list[Any]) -> str:
    """Return what a parameter's value was probably meant to be, as a question; or nothing."""
    kinds = tuple(each for each in constraints if isinstance(each, type))
    if isinstance(value, type) and issubclass(value, kinds):
        return f" Did you mean {value.__name__}()?"
    words = [each for each in constraints if isinstance(each, StrOptions)]
    names = [name for each in words for name in sorted(each.options)]
    question = did_you_mean(value, names)
    return question or instead_of(name, value, ("loss", *get_scorer_names()))


def scorer_of(scoring: Any, classes: Any = None, others: Iterable[str] = ()) -> Any:
    """Return the scorer of scikit-learn's that a name stands for; a callable as it is.

    Parameters
    ----------
    scoring : str or callable
        The name or the scorer.
    classes : array of shape (n_classes,), list of such arrays or None, default=None
        The labels, for `with_positive_class`.
    others : iterable of str, default=()
        Further names that are valid where the scorer is set, for the hint in the error.
    """
    with suggesting_scorers(scoring, others):
        return with_positive_class(get_scorer(scoring), classes)


def with_positive_class(scorer: Any, classes: Any) -> Any:
    """Return a scorer that takes the larger of two classes for the positive one, if it needs it.

    Metrics such as "f1" take the class 1 for the positive one, and fail if no class is 1. With 1
    among the classes, or with a `pos_label` of its own, a scorer is returned as it is.
    """
    if type(scorer) is _MultimetricScorer:
        several = copy.copy(scorer)
        several._scorers = {
            name: with_positive_class(each, classes) for name, each in scorer._scorers.items()
        }
        return several
    if type(scorer) is not _Scorer or np.ndim(classes) != 1 or len(classes) != 2:
        return scorer
    parameter = signature(scorer._score_func).parameters.get("pos_label")
    if parameter is None or "pos_label" in scorer._kwargs:
        return scorer
    labels = np.asarray(classes).tolist()
    # None is for metrics that find out by themselves that numbers are meant.
    is_found = (
        not isinstance(labels[1], (str, bytes))
        if parameter.default is None
        else (parameter.default in labels)
    )
    if is_found:
        return scorer
    scorer = copy.copy(scorer)
    scorer._kwargs = {**scorer._kwargs, "pos_label": labels[1]}
    return scorer


@contextmanager
def suggesting_scorers(scoring: Any, others: Iterable[str] = ()) -> Iterator[None]:
    """Let an error about the name of a scorer, alone or among others, suggest the nearest one."""
    try:
        yield
    except ValueError as error:
        given = scoring.values() if isinstance(scoring, Mapping) else scoring
        names, known = [given] if isinstance(given, str) else given, [*others, *get_scorer_names()]
        wrong = [name for name in names if name not in known]
        question = did_you_mean(wrong[0], known) if wrong else ""
        raise type(error)(f"{error}{question}") from None
