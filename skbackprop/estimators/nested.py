"""Parameters within parameters: the settings of an estimator's parts, as ``solver__momentum``.

scikit-learn changes what stands behind a nested name in place. Parts are values, so here the
estimator is given another one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cache
from numbers import Real
from typing import Any, ClassVar, Self

from ..core.parts import Part, split_names
from .parameters import Parameter
from .shown import Documented


class NestedParameters(Documented):
    """An estimator some parameters of which are parts that have settings of their own."""

    _rows: ClassVar[dict[str, Parameter]]  # of the table of parameters, by name

    @property
    def _settings(self) -> dict[str, Any]:
        """All parameters by name, also those that a derived class's constructor does not take."""
        return dict(zip(self._rows, self._values, strict=True))

    @property
    def _values(self) -> tuple[Any, ...]:
        """The values of all parameters, in the order of their table."""
        values: tuple[Any, ...] = self._getter()(self)
        return values

    @classmethod
    @cache
    def _getter(cls) -> Callable[[Any], Any]:
        return operator.attrgetter(*cls._rows)

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator, and settings of the objects among them.

        ``set_params(solver__weight_decay=0.1)`` puts an optimizer with this decay in the place of
        the one that is there; the latter, and what has been fitted with it, stay as they are.

        Parameters
        ----------
        **params : dict
            The parameters by name; settings of an object by the parameter's name, two underscores
            and their own name.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            If there is no parameter or setting of a name, or an object does not take a value.
            Then nothing is changed.
        """
        values, (plain, nested) = self.get_params(deep=False), split_names(params)
        for name in [*plain, *nested]:
            if name not in values:
                return super().set_params(**{name: None})  # scikit-learn's error
        for name, settings in nested.items():
            part = plain.get(name, values[name])
            if not isinstance(part, Part):
                raise ValueError(self._no_settings(name, part, settings))
            plain[name] = part.set_params(**settings)
        return super().set_params(**plain)

    def _no_settings(self, name: str, value: Any, settings: dict[str, Any]) -> str:
        """Return what to do where a parameter is no object, so that it has no settings."""
        is_short = value is None or isinstance(value, (str, Real))
        said = f"{name}={value!r}" if is_short else f"{name} of type {type(value).__name__}"
        nested = " and ".join(f"{name}__{setting}" for setting in settings)
        message = f"{said} has no settings of its own, so there is no {nested}."
        table = self._rows[name].table if name in self._rows else None
        if table is None:
            return message
        kind = _kind_with(settings, table, value)
        module = ".".join(kind.__module__.split(".")[:2])
        return (
            f"{message} To set its settings, give an instance: for example "
            f"{name}={kind.__name__}(), which is in {module}."
        )


def _kind_with(settings: dict[str, Any], table: Mapping[str, Any], value: Any) -> type[Part]:
    """Return the class behind a name, or else the first of a table, that has such settings."""
    parts = [table[value]] if isinstance(value, str) and value in table else []
    parts += table.values()
    kinds: list[type[Part]] = [part if isinstance(part, type) else type(part) for part in parts]
    names, _ = split_names(settings)
    able = (kind for kind in kinds if names.keys() <= set(kind.setting_names()))
    return next(able, kinds[0])
