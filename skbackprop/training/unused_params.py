"""Warnings about parameters that have no effect in combination with others.

scikit-learn silently ignores parameters that its solvers do not use. With its own solvers, by name,
so do we, for code written for it. All other unused parameters cause a warning.

Each row of `RULES` has the parameters that can be unused for one reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ..early_stopping import EarlyStopping
from ..optimizers import SOLVERS
from ..schedules import SCHEDULES
from ..utils.configurable import Configurable
from ..utils.equality import is_equal
from .config import SGD_ONLY_SCHEDULES, is_lbfgs

_Rule: TypeAlias = Callable[[Mapping[str, Any], str, Any], str | None]

# The solvers that scikit-learn has.
_SKLEARN_SOLVERS = ("lbfgs", "sgd", "adam")


def unused_parameter_warnings(
    parameters: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[str]:
    """Yield a warning for each parameter that is not at its default and has no effect.

    Parameters
    ----------
    parameters : mapping
        An estimator's parameters, by name.
    defaults : mapping
        The defaults of its parameters, by name.

    Yields
    ------
    message : str
        The parameter, why it has no effect, and what to do.
    """
    for names, rule in RULES:
        for name in names:
            value, default = parameters[name], defaults[name]
            because = None if is_equal(value, default) else rule(parameters, name, default)
            if because is not None:
                yield f"{name}={value!r} has no effect with {because}"


def _unused_by_lbfgs(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Explain that L-BFGS has no stochastic steps to average, to clip or to schedule."""
    value = parameters[name]
    if not is_lbfgs(parameters["solver"]) or (
        isinstance(value, str) and value in SGD_ONLY_SCHEDULES
    ):
        return None
    return (
        f"solver={parameters['solver']!r}, which makes no stochastic steps. Set "
        f"{name}={default!r}, or choose a stochastic solver such as 'adam' or 'sgd'."
    )


def _unused_without_sgd(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Explain that a schedule given by name needs solver="sgd", as in scikit-learn."""
    value, solver = parameters[name], parameters["solver"]
    is_theirs = isinstance(value, str) and value in SGD_ONLY_SCHEDULES
    if not is_theirs or _is_sklearn_solver(solver) or is_lbfgs(solver):
        return None
    return (
        f"solver={solver!r}: by name it needs solver='sgd', as in scikit-learn. Write "
        f"{name}={SCHEDULES[value].__name__}(), imported from skbackprop.schedules."
    )


def _unused_by_solver(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Explain that a solver does not use a flat parameter; an instance uses none."""
    solver = parameters["solver"]
    if _is_sklearn_solver(solver):
        return None
    if isinstance(solver, str):
        is_read = name in SOLVERS[solver].setting_names()
        return None if is_read else _explain_missing("solver", solver, name, default)
    return _explain_instance("solver", solver, parameters[name], name, default)


def _unused_by_schedule(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Explain that a schedule does not use a flat parameter; an instance uses none."""
    schedule = parameters["learning_rate"]
    if isinstance(schedule, str):
        is_theirs = schedule in SGD_ONLY_SCHEDULES
        return None if is_theirs else _explain_missing("learning_rate", schedule, name, default)
    return _explain_instance("learning_rate", schedule, parameters[name], name, default)


def _unused_by_stopping(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Explain that an `EarlyStopping` has its own settings; some schedules use the flat ones."""
    stopping = parameters["early_stopping"]
    if not isinstance(stopping, EarlyStopping) or parameters["learning_rate"] == "adaptive":
        return None
    return _explain_instance("early_stopping", stopping, parameters[name], name, default)


def _explain_instance(of: str, part: Any, value: Any, name: str, default: Any) -> str:
    if not (isinstance(part, Configurable) and name in part.setting_names()):
        return _explain_missing(of, part, name, default)
    return (
        f"{of}={part!r}, which has settings of its own. Set it there, "
        f"{of}={type(part).__name__}({name}={value!r}), and leave {name} at its "
        f"default, {default!r}."
    )


def _explain_missing(of: str, part: Any, name: str, default: Any) -> str:
    return f"{of}={part!r}, which has no such setting. Leave it at its default, {default!r}."


def _is_sklearn_solver(solver: Any) -> bool:
    return isinstance(solver, str) and solver in _SKLEARN_SOLVERS


# For each reason: the parameters that it concerns, and the function that returns the rest of the
# message, or None if the parameter has an effect or scikit-learn ignores it as well.
RULES: tuple[tuple[tuple[str, ...], _Rule], ...] = (
    (("average", "clip_norm", "learning_rate"), _unused_by_lbfgs),
    (("learning_rate",), _unused_without_sgd),
    (
        ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "max_fun"),
        _unused_by_solver,
    ),
    (("power_t",), _unused_by_schedule),
    (("validation_fraction", "n_iter_no_change"), _unused_by_stopping),
)
