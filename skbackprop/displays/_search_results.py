"""What a search has found, put in order for pictures: candidates, and the values of parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

# Longer labels of values are cut.
_LONGEST_LABEL = 16

# Values are for a logarithmic scale if they are more even on it, and the largest is about ten times
# the smallest or more.
_WIDE = 9.9

# Values from zero on are uneven if half of them lie in this first share of the way to the largest.
_FIRST = 0.25


@dataclass(frozen=True, eq=False)  # values may be arrays, which have no simple equality
class CandidateResult:
    """A candidate of a search, in one round.

    Parameters
    ----------
    parameters : dict
        Its values of the parameters.
    mean, std : float
        The mean score over the folds, and their standard deviation; NaN if a fit failed.
    round : int
        The round of a halving search; 0 in others.
    resources : float
        What the round has given it; NaN in others.
    """

    parameters: Mapping[str, Any]
    mean: float
    std: float
    round: int
    resources: float


def candidate_results(
    cv_results: Mapping[str, Any], metric: str, sign: int = 1
) -> list[CandidateResult]:
    """Return the candidates of a search, in the order of its results.

    Parameters
    ----------
    cv_results : dict
        The ``cv_results_`` of a search.
    metric : str
        Which score; "score" where there is only one.
    sign : int, default=1
        What scores are multiplied by: -1 for their negatives.
    """
    n = len(cv_results["params"])
    return [
        CandidateResult(*of_candidate)
        for of_candidate in zip(
            cv_results["params"],
            (sign * np.asarray(cv_results[f"mean_test_{metric}"], float)).tolist(),
            np.asarray(cv_results[f"std_test_{metric}"], float).tolist(),
            cv_results.get("iter", [0] * n),
            cv_results.get("n_resources", [np.nan] * n),
            strict=True,
        )
    ]


def scored_metrics(cv_results: Mapping[str, Any]) -> list[str]:
    """Return the names of the scores that there are."""
    return [key.removeprefix("mean_test_") for key in cv_results if key.startswith("mean_test_")]


def n_splits_of(cv_results: Mapping[str, Any], metric: str) -> int:
    """Return the number of folds."""
    return sum(bool(re.fullmatch(rf"split\d+_test_{re.escape(metric)}", key)) for key in cv_results)


def hashable_key(value: Any) -> Any:
    """Return what tells values apart; some, such as arrays, are no keys themselves."""
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return isinstance(value, (bool, np.bool_)), value  # True is no 1


def best(candidates: Iterable[CandidateResult], sign: int = 1) -> CandidateResult:
    """Return the first with the largest mean, times a sign; one that failed only if all have."""
    return max(candidates, key=lambda each: -np.inf if np.isnan(each.mean) else sign * each.mean)


def best_by(
    candidates: Iterable[CandidateResult], key: Callable[[CandidateResult], Any], sign: int = 1
) -> dict[Any, CandidateResult]:
    """Return the best candidate of each key."""
    groups: dict[Any, list[CandidateResult]] = {}
    for candidate in candidates:
        groups.setdefault(key(candidate), []).append(candidate)
    return {key: best(group, sign) for key, group in groups.items()}


def halving_paths(
    candidates: Iterable[CandidateResult], resource: str | None
) -> list[list[CandidateResult]]:
    """Return the rounds of each candidate of a halving search, in the order of the first round.

    Parameters
    ----------
    candidates : iterable of Candidate
        The rows of all rounds.
    resource : str or None
        The parameter that grows from round to round, if it is one.
    """
    courses: dict[Any, list[CandidateResult]] = {}
    for candidate in candidates:
        own = tuple(
            (name, hashable_key(value))
            for name, value in sorted(candidate.parameters.items())
            if name != resource
        )
        # Candidates that are drawn may be equal: then each goes on from one of its own.
        twin = 0
        while courses.get((own, twin), []) and courses[own, twin][-1].round >= candidate.round:
            twin += 1
        courses.setdefault((own, twin), []).append(candidate)
    return list(courses.values())


# -------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class ParameterAxis:
    """The values of a parameter, in order.

    Parameters
    ----------
    name : str
        Its full name.
    label : str
        The part of the name that tells it from the others.
    values : list
        The values that were tried, sorted where they are numbers.
    """

    name: str
    label: str
    values: list[Any]

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(v, Real) and not isinstance(v, (bool, np.bool_)) for v in self.values)

    @property
    def labels(self) -> list[str]:
        """What is written of each value."""
        return [label_of(value) for value in self.values]

    @property
    def scale(self) -> str:
        """The scale of an axis: "linear", "log", or "places" for one place after the other."""
        if not self.is_number:
            return "places"
        values = np.asarray(self.values, float)
        if values[0] <= 0:
            return "places" if _middle(values) < _FIRST else "linear"
        is_even = abs(_middle(values) - 0.5) <= abs(_middle(np.log(values)) - 0.5)
        return "linear" if is_even or values[-1] < _WIDE * values[0] else "log"

    @property
    def positions(self) -> list[float]:
        """Where the values are on an axis of this scale."""
        if self.scale == "places":
            return [float(place) for place in range(len(self.values))]
        return [float(value) for value in self.values]

    def place(self, candidate: CandidateResult) -> int:
        """Return the place of a candidate's value among all."""
        keys = [hashable_key(value) for value in self.values]
        return keys.index(hashable_key(value_of(candidate, self.name)))


def _middle(values: Any) -> float:
    """Return where the median of sorted numbers is on the way from the first to the last."""
    span = values[-1] - values[0]
    return float((np.median(values) - values[0]) / span) if span else 0.5


class Unset:
    """The value of a parameter that a candidate leaves as it is."""

    def __repr__(self) -> str:
        return "not set"


NOT_SET = Unset()


def value_of(candidate: CandidateResult, name: str) -> Any:
    """Return a candidate's value of a parameter."""
    return candidate.parameters.get(name, NOT_SET)


def parameter_axis(
    candidates: Sequence[CandidateResult], name: str, others: Iterable[str]
) -> ParameterAxis:
    """Return a parameter with all the values that candidates have.

    Parameters
    ----------
    candidates : sequence of Candidate
        The candidates.
    name : str
        The name of the parameter.
    others : iterable of str
        The names of all parameters, which tell how much of the name has to be written.
    """
    values = {hashable_key(value): value for value in (value_of(each, name) for each in candidates)}
    parameter = ParameterAxis(name, short_name(name, others), list(values.values()))
    return replace(parameter, values=sorted(parameter.values)) if parameter.is_number else parameter


def short_name(name: str, others: Iterable[str]) -> str:
    """Return the end of a parameter's name that no other parameter has."""
    parts = name.split("__")
    for n in range(1, len(parts) + 1):
        short = "__".join(parts[-n:])
        if sum(other == short or other.endswith(f"__{short}") for other in others) <= 1:
            return short
    return name


def label_of(value: Any) -> str:
    """Return what is written of a value: numbers with few digits, sizes of layers as 64-32."""
    if isinstance(value, Real) and not isinstance(value, (bool, np.bool_)):
        return f"{float(value):.4g}"
    if isinstance(value, tuple) and value and all(isinstance(part, int) for part in value):
        return "-".join(map(str, value))
    text = str(value)
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"
