"""Base mixins of the estimators: parameter errors, HTML representation, nested parameters."""

from __future__ import annotations

import copy
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from inspect import signature, unwrap
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer, get_scorer_names

from .._sklearn import StrOptions, _MultimetricScorer, _Scorer, _VisualBlock
from ..utils.config import Configurable, split_nested_params
from ..utils.validation import check_keywords, did_you_mean, instead_of
from ._decorators import Method
from ._parameter_table import Parameter
from .summary import Summary


class SuggestingMixin(BaseEstimator):
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


def get_scorer_with_suggestion(
    scoring: Any, classes: Any = None, others: Iterable[str] = ()
) -> Any:
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


# Where the documentation is on the web, without a slash at the end; as [project.urls] in
# pyproject.toml says. As long as it is nowhere, there are no links.
DOCUMENTATION_URL = ""

_PACKAGE = __name__.partition(".")[0]


class HTMLReprMixin(SuggestingMixin):
    """An estimator whose representation links to its page of the documentation.

    The page of ``skbackprop.tabular.TableEncoder`` is
    ``reference/generated/skbackprop.tabular.TableEncoder.html``. Classes that are not public have
    none, and those that others derive from ours have what they say themselves, in scikit-learn's
    way. `dir`, and so completion, shows what is public alone.
    """

    def __dir__(self) -> list[str]:
        """Return what completion in a notebook is to show: what is public."""
        names = super().__dir__()
        return [name for name in names if name.startswith("__") or not name.startswith("_")]

    def _get_doc_link(self) -> str:
        module = public_module_of(type(self))
        if module is None:
            link: str = super()._get_doc_link()
            return link
        if not DOCUMENTATION_URL:
            return ""
        return f"{DOCUMENTATION_URL}/reference/generated/{module}.{type(self).__name__}.html"


class MetaEstimatorReprMixin(HTMLReprMixin):
    """An estimator that trains a clone of its `estimator`, and keeps it as `estimator_`.

    It is shown around the one that it has trained, as scikit-learn shows searches.
    """

    def _sk_visual_block_(self) -> Any:
        key = "estimator_" if "estimator_" in vars(self) else "estimator"
        held = getattr(self, key)
        name = f"{key}: {type(held).__name__}"
        return _VisualBlock("parallel", [held], names=[name], name_details=[str(held)])


def public_module_of(kind: type) -> str | None:
    """Return the name of the module that users import a class of ours from; None if there is none.

    It is the package, or one of the modules right in it.
    """
    package, _, rest = kind.__module__.partition(".")
    if package != _PACKAGE:
        return None
    for module in (package, f"{package}.{rest.partition('.')[0]}"):
        if getattr(sys.modules.get(module), kind.__name__, None) is kind:
            return module
    return None


class FittedAttributesHTML:
    """Fitted attributes, as scikit-learn shows them, and the tables of layers below.

    Parameters
    ----------
    attributes : object
        What scikit-learn has collected.
    summaries : sequence of Summary
        A summary for each kind of networks.
    """

    def __init__(self, attributes: Any, summaries: Sequence[Summary]) -> None:
        self._attributes, self._summaries = attributes, summaries

    def __len__(self) -> int:
        return len(self._attributes)

    def _repr_html_inner(self) -> str:
        shown: str = self._attributes._repr_html_inner()
        n = len(self._summaries)
        for i, summary in enumerate(self._summaries, 1):
            which = "" if n == 1 else f", {i} of {n}"
            # In the style of scikit-learn's tables.
            rows = summary._html_rows('<tr class="default">')
            shown += (
                f'<div class="estimator-table"><details><summary>Layers{which}</summary>'
                f'<table class="parameters-table">{rows}</table></details></div>'
            )
        return shown


class NestedParamsMixin(HTMLReprMixin):
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
        values, (plain, nested) = self.get_params(deep=False), split_nested_params(params)
        for name in [*plain, *nested]:
            if name not in values:
                return super().set_params(**{name: None})  # scikit-learn's error
        for name, settings in nested.items():
            part = plain.get(name, values[name])
            if not isinstance(part, Configurable):
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


def _kind_with(
    settings: dict[str, Any], table: Mapping[str, Any], value: Any
) -> type[Configurable]:
    """Return the class behind a name, or else the first of a table, that has such settings."""
    parts = [table[value]] if isinstance(value, str) and value in table else []
    parts += table.values()
    kinds: list[type[Configurable]] = [
        part if isinstance(part, type) else type(part) for part in parts
    ]
    names, _ = split_nested_params(settings)
    able = (kind for kind in kinds if names.keys() <= set(kind.setting_names()))
    return next(able, kinds[0])
