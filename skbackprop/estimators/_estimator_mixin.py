"""Base class of all public estimators: nested parameters, errors with suggestions, HTML links."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer_names

from .._sklearn import StrOptions, _VisualBlock
from ..utils.configurable import (
    Configurable,
    get_nested_params,
    has_settings,
    set_nested_params,
    split_nested_params,
)
from ..utils.suggestions import check_keywords, did_you_mean, suggest_for_wrong_type
from ._parameter_table import Parameter

# The address of the documentation, without a slash at the end, as in [project.urls] of
# pyproject.toml. While it is empty, notebooks show no links.
DOCUMENTATION_URL = ""

_PACKAGE = __name__.partition(".")[0]


class EstimatorMixin(BaseEstimator):
    """Base of all public estimators: suggestions in errors, nested settings, HTML links.

    Errors about unknown or invalid parameters are scikit-learn's, and end with a suggestion.
    `set_params` also sets the settings of objects such as optimizers. Notebooks link to the
    estimator's page of the documentation.
    """

    _parameter_table: ClassVar[
        Mapping[str, Parameter]
    ] = {}  # the rows of the parameter table, by name

    def __new__(cls, *args: Any, **params: Any) -> Self:
        """Make an estimator; an unknown parameter raises a TypeError with a suggestion."""
        if params:
            methods = [name for name in ("set_callbacks",) if hasattr(cls, name)]
            check_keywords(cls, cls.__init__, params, methods)
        return super().__new__(cls)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator, and settings of the objects among them.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add the settings of objects, such as ``solver__weight_decay``, and of
            objects in a list, such as ``layers__0__n_units``.

        Returns
        -------
        params : dict
            The parameters by name.
        """
        params: dict[str, Any] = super().get_params(deep)
        if deep:
            for name in self._get_param_names():
                params |= get_nested_params(name, params[name])
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator, and settings of the objects among them.

        ``set_params(solver__weight_decay=0.1)`` replaces the optimizer by one with this weight
        decay. The old optimizer, and networks that were fitted with it, do not change. For lists
        of objects, ``layers__0__n_units`` is a setting of the first layer, and ``layers__0`` the
        layer itself.

        Parameters
        ----------
        **params : dict
            The parameters by name. A setting of an object has the parameter's name, two
            underscores and its own name.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If a parameter or setting does not exist, or an object does not accept a value.
            Nothing is changed then.
        """
        values = self.get_params(deep=False)
        changes, nested = split_nested_params(params)
        for name in (*changes, *nested):
            if name not in values:
                try:
                    super().set_params(**{name: None})
                except ValueError as error:
                    raise ValueError(f"{error}{did_you_mean(name, values)}") from None
        for name, settings in nested.items():
            value = changes.get(name, values[name])
            if has_settings(value):
                changes[name] = set_nested_params(name, value, settings)
            elif hasattr(value, "set_params") and not isinstance(value, type):
                changes |= {f"{name}__{setting}": settings[setting] for setting in settings}
            else:
                raise ValueError(
                    _no_settings_message(name, value, settings, self._parameter_table.get(name))
                )
        return super().set_params(**changes)

    def _validate_params(self) -> None:
        try:
            super()._validate_params()
        except ValueError as error:
            message = str(error)
            for name, constraints in self._parameter_constraints.items():
                if message.startswith(f"The {name!r} parameter of"):
                    for each in constraints:  # name the options of a set in a fixed order
                        if isinstance(each, StrOptions):
                            options = ", ".join(map(repr, sorted(each.options)))
                            message = message.replace(str(each), f"a str among {{{options}}}")
                    suggestion = _suggest_value(name, getattr(self, name), constraints)
                    raise type(error)(f"{message}{suggestion}") from None
            raise

    def __dir__(self) -> list[str]:
        """Return the public attributes, for completion in notebooks."""
        names = super().__dir__()
        return [name for name in names if name.startswith("__") or not name.startswith("_")]

    def _get_doc_link(self) -> str:
        module = get_public_module(type(self))
        if module is None:  # a user's subclass may have a link of its own
            link: str = super()._get_doc_link()
            return link
        if not DOCUMENTATION_URL:
            return ""
        return f"{DOCUMENTATION_URL}/reference/generated/{module}.{type(self).__name__}.html"


class MetaEstimatorReprMixin(EstimatorMixin):
    """Base of estimators that train a clone of `estimator` and keep it as `estimator_`.

    The HTML representation nests the inner estimator, as scikit-learn's searches do.
    """

    def _sk_visual_block_(self) -> Any:
        key = "estimator_" if "estimator_" in vars(self) else "estimator"
        inner = getattr(self, key)
        name = f"{key}: {type(inner).__name__}"
        return _VisualBlock("parallel", [inner], names=[name], name_details=[str(inner)])


def _suggest_value(name: str, value: Any, constraints: list[Any]) -> str:
    """Return a sentence that suggests a valid value of a parameter, or an empty string."""
    classes = tuple(each for each in constraints if isinstance(each, type))
    if isinstance(value, type) and issubclass(value, classes):
        return f" Did you mean {value.__name__}()?"
    options = [each.options for each in constraints if isinstance(each, StrOptions)]
    names = [name for each in options for name in sorted(each)]
    suggestion = did_you_mean(value, names)
    suggestion = suggestion or suggest_for_wrong_type(name, value, ("loss", *get_scorer_names()))
    bases = [each for each in classes if get_public_module(each) is not None]
    is_object = callable(value) or type(value).__module__ != "builtins"
    if suggestion or not (names and bases and is_object and not isinstance(value, np.ndarray)):
        return suggestion
    base = f"{get_public_module(bases[0])}.{bases[0].__name__}"
    what = "a function" if callable(value) else "an object of another class"
    return (
        f" For {what}, write a subclass of {base}, as docs/extending.md shows, and pass an "
        "instance of it."
    )


def _no_settings_message(
    name: str, value: Any, settings: Mapping[str, Any], row: Parameter | None
) -> str:
    """Return the error for nested settings of a parameter whose value is not an object."""
    is_short = value is None or isinstance(value, (str, Real))
    got = f"{name}={value!r}" if is_short else f"{name} of type {type(value).__name__}"
    nested = " and ".join(f"{name}__{setting}" for setting in settings)
    message = (
        f"{got} has no settings of its own, so {nested} {'do' if len(settings) > 1 else 'does'} "
        "not exist."
    )
    if row is None or row.table is None:
        return message
    # Suggest the class that the name stands for, or else the first with all of these settings.
    named = [row.table[value]] if isinstance(value, str) and value in row.table else []
    classes: list[type[Configurable]] = [
        each if isinstance(each, type) else type(each) for each in (*named, *row.table.values())
    ]
    names, _ = split_nested_params(settings)
    able = (each for each in classes if names.keys() <= set(each.setting_names()))
    suggested = next(able, classes[0])
    module = ".".join(suggested.__module__.split(".")[:2])
    return (
        f"{message} To change its settings, pass an instance: for example "
        f"{name}={suggested.__name__}() from {module}."
    )


def get_public_module(cls: type) -> str | None:
    """Return the module that users import a class of the package from, or None.

    It is the package itself or one of its direct submodules.
    """
    package, _, rest = cls.__module__.partition(".")
    if package != _PACKAGE:
        return None
    for module in (package, f"{package}.{rest.partition('.')[0]}"):
        if getattr(sys.modules.get(module), cls.__name__, None) is cls:
            return module
    return None
