"""Settings that have no effect beside the others: a fit says so, and what to do.

scikit-learn ignores its parameters in silence where a solver has no use for them. With its own
solvers, by name, so do we: code written for it hears nothing. All else is said.

One row of `RULES` is for the parameters that can be idle for one reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ..early_stopping import EarlyStopping
from ..optimizers import SOLVERS
from ..schedules import SCHEDULES
from ..utils.config import Configurable
from ..utils.equality import is_equal
from .config import SGD_ONLY_SCHEDULES, is_lbfgs

_Idle: TypeAlias = Callable[[Mapping[str, Any], str, Any], str | None]

# The solvers that scikit-learn has.
_SOLVERS_OF_SCIKIT_LEARN = ("lbfgs", "sgd", "adam")


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
        What has no effect, why, and what to do.
    """
    for names, idle in RULES:
        for name in names:
            value, default = parameters[name], defaults[name]
            because = None if is_equal(value, default) else idle(parameters, name, default)
            if because is not None:
                yield f"{name}={value!r} has no effect with {because}"


def _without_steps(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Say that L-BFGS has no steps: nothing to average, to clip or to choose a length for."""
    value = parameters[name]
    if not is_lbfgs(parameters["solver"]) or (
        isinstance(value, str) and value in SGD_ONLY_SCHEDULES
    ):
        return None
    return (
        f"solver={parameters['solver']!r}, which makes no stochastic steps. Set "
        f"{name}={default!r}, or choose a stochastic solver such as 'adam' or 'sgd'."
    )


def _for_sgd_alone(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Say that a schedule goes by name with "sgd" alone, as in scikit-learn."""
    value, solver = parameters[name], parameters["solver"]
    is_theirs = isinstance(value, str) and value in SGD_ONLY_SCHEDULES
    if not is_theirs or _is_of_scikit_learn(solver) or is_lbfgs(solver):
        return None
    return (
        f"solver={solver!r}: by name it acts with solver='sgd' alone, as in scikit-learn. Write "
        f"{name}={SCHEDULES[value].__name__}(), imported from skbackprop.schedules."
    )


def _not_of_this_solver(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Say that a solver does not read a flat parameter: an instance reads none."""
    solver = parameters["solver"]
    if _is_of_scikit_learn(solver):
        return None
    if isinstance(solver, str):
        is_read = name in SOLVERS[solver].setting_names()
        return None if is_read else _no_such_setting("solver", solver, name, default)
    return _beside_an_instance("solver", solver, parameters[name], name, default)


def _not_of_this_schedule(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Say that a schedule does not read a flat parameter, likewise."""
    schedule = parameters["learning_rate"]
    if isinstance(schedule, str):
        is_theirs = schedule in SGD_ONLY_SCHEDULES
        return None if is_theirs else _no_such_setting("learning_rate", schedule, name, default)
    return _beside_an_instance("learning_rate", schedule, parameters[name], name, default)


def _not_of_this_stopping(parameters: Mapping[str, Any], name: str, default: Any) -> str | None:
    """Say that an `EarlyStopping` has settings of its own; some schedules read the flat ones."""
    stopping = parameters["early_stopping"]
    if not isinstance(stopping, EarlyStopping) or parameters["learning_rate"] == "adaptive":
        return None
    return _beside_an_instance("early_stopping", stopping, parameters[name], name, default)


def _beside_an_instance(of: str, part: Any, value: Any, name: str, default: Any) -> str:
    if not (isinstance(part, Configurable) and name in part.setting_names()):
        return _no_such_setting(of, part, name, default)
    return (
        f"{of}={part!r}, which has settings of its own. Set it there, "
        f"{of}={type(part).__name__}({name}={value!r}), and leave {name} at its "
        f"default, {default!r}."
    )


def _no_such_setting(of: str, part: Any, name: str, default: Any) -> str:
    return f"{of}={part!r}, which has no such setting. Leave it at its default, {default!r}."


def _is_of_scikit_learn(solver: Any) -> bool:
    return isinstance(solver, str) and solver in _SOLVERS_OF_SCIKIT_LEARN


# Of each reason: the parameters that it can leave idle, and what returns the rest of the message,
# or None where the parameter has an effect or its idleness is scikit-learn's.
RULES: tuple[tuple[tuple[str, ...], _Idle], ...] = (
    (("average", "clip_norm", "learning_rate"), _without_steps),
    (("learning_rate",), _for_sgd_alone),
    (
        ("momentum", "nesterovs_momentum", "beta_1", "beta_2", "epsilon", "max_fun"),
        _not_of_this_solver,
    ),
    (("power_t",), _not_of_this_schedule),
    (("validation_fraction", "n_iter_no_change"), _not_of_this_stopping),
)
