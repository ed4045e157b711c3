"""Mixin of all public estimators: parameters, errors with suggestions, method decorators."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from inspect import signature, unwrap
from numbers import Real
from typing import Any, ClassVar, Self, TypeVar, cast

import numpy as np
from sklearn import callback
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils import metaestimators

from .._sklearn import StrOptions, _fit_context, _MultimetricScorer, _Scorer, _VisualBlock
from ..utils.configurable import (
    Configurable,
    get_nested_params,
    has_settings,
    set_nested_params,
    split_nested_params,
)
from ..utils.validation import check_keywords, did_you_mean, suggest_value
from ._parameter_constraints import Parameter

# The address of the documentation, without a slash at the end, as in [project.urls] of
# pyproject.toml. While it is empty, notebooks show no links.
DOCUMENTATION_URL = ""

_PACKAGE = __name__.partition(".")[0]

Method = TypeVar("Method", bound=Callable[..., Any])


class EstimatorMixin(BaseEstimator):
    """Base of all public estimators: suggestions in errors, nested settings, HTML links.

    Errors about unknown or invalid parameters are scikit-learn's, and end with a suggestion.
    `set_params` also sets the settings of objects such as optimizers. Notebooks link to the
    estimator's page of the documentation.
    """

    _rows: ClassVar[Mapping[str, Parameter]] = {}  # the rows of the parameter table, by name

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
                raise ValueError(_no_settings_message(name, value, settings, self._rows.get(name)))
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


# --------------------------------------------------------------------------------- decorators


def available_if(check: Callable[[Any], bool]) -> Callable[[Method], Method]:
    """Make a method available only if a check of the estimator passes."""
    decorator: Callable[[Method], Method] = metaestimators.available_if(check)
    return decorator


def with_callbacks(method: Method) -> Method:
    """Set up callbacks before a fit, and tear them down after it."""
    return _raise_first_error(callback.with_callbacks, method)


def validates_parameters(prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Validate the parameters by their constraints at the beginning of a fit.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether to skip the validation in fits of inner estimators.
    """
    decorator = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)
    return partial(_raise_first_error, decorator)


def _raise_first_error(decorator: Callable[..., Any], method: Method) -> Method:
    """Decorate a fit such that an error of `teardown` does not replace the one before it.

    The decorators of scikit-learn raise the error of `teardown`, which after a failed fit is often
    only its consequence.
    """

    @wraps(method)
    def decorated(self: Any, *args: Any, **arguments: Any) -> Any:
        errors: list[BaseException] = []

        @wraps(method)
        def recorded(self: Any, *args: Any, **arguments: Any) -> Any:
            try:
                return method(self, *args, **arguments)
            except BaseException as error:
                errors.append(error)
                raise

        try:
            return decorator(recorded)(self, *args, **arguments)
        except Exception as error:
            first = errors[0] if errors else error
            if isinstance(first, TypeError):
                _check_hooks(getattr(self, "_skl_callbacks", []))
            if first is error:
                raise
        raise first

    return cast(Method, decorated)


def _check_hooks(callbacks: Iterable[Any]) -> None:
    """Raise a TypeError if `setup` or `teardown` of callbacks do not take their arguments."""
    for each in callbacks:
        for name in ("setup", "teardown"):
            arguments = signature(getattr(each, name))
            try:
                arguments.bind(estimator=None, context=None)
            except TypeError as error:
                raise TypeError(
                    f"{name} of the callback {type(each).__name__} is called with the keyword "
                    f"arguments estimator and context, but its signature is {name}{arguments}. "
                    f"Define it as def {name}(self, estimator, context)."
                ) from error


def suggests_arguments(method: Method) -> Method:
    """Decorate a method: an unknown argument raises a TypeError with a suggestion."""
    innermost = unwrap(method)

    @wraps(method)
    def checked(self: Any, *args: Any, **arguments: Any) -> Any:
        if arguments:
            elsewhere = (*type(self)._get_param_names(), "set_callbacks")
            check_keywords(type(self), innermost, arguments, elsewhere)
        return method(self, *args, **arguments)

    return cast(Method, checked)


# ----------------------------------------------------------------------------- suggestions


def _suggest_value(name: str, value: Any, constraints: list[Any]) -> str:
    """Return a sentence that suggests a valid value of a parameter, or an empty string."""
    classes = tuple(each for each in constraints if isinstance(each, type))
    if isinstance(value, type) and issubclass(value, classes):
        return f" Did you mean {value.__name__}()?"
    options = [each.options for each in constraints if isinstance(each, StrOptions)]
    names = [name for each in options for name in sorted(each)]
    suggestion = did_you_mean(value, names)
    suggestion = suggestion or suggest_value(name, value, ("loss", *get_scorer_names()))
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


# --------------------------------------------------------------------------------- scorers


def get_scorer_with_suggestion(
    scoring: Any, classes: Any = None, others: Iterable[str] = ()
) -> Any:
    """Return a scorer by name, as `sklearn.metrics.get_scorer`; a callable is returned as it is.

    Parameters
    ----------
    scoring : str or callable
        The name or the scorer.
    classes : array of shape (n_classes,), list of such arrays or None, default=None
        The labels, for `with_positive_class`.
    others : iterable of str, default=()
        Further names that are valid for the parameter, used in the suggestion.
    """
    with suggesting_scorers(scoring, others):
        return with_positive_class(get_scorer(scoring), classes)


def with_positive_class(scorer: Any, classes: Any) -> Any:
    """Return a scorer whose `pos_label` is the larger of two classes, if it needs one.

    By default, metrics such as "f1" use the class 1 as the positive class, and fail if no class
    is 1. A scorer with a `pos_label` of its own does not change.
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
def suggesting_scorers(scoring: Any, others: Iterable[str] = ()) -> Iterator[None]:
    """Add a suggestion to errors about unknown names of scorers."""
    try:
        yield
    except ValueError as error:
        given = scoring.values() if isinstance(scoring, Mapping) else scoring
        names, known = [given] if isinstance(given, str) else given, [*others, *get_scorer_names()]
        wrong = [name for name in names if name not in known]
        suggestion = did_you_mean(wrong[0], known) if wrong else ""
        raise type(error)(f"{error}{suggestion}") from None


# -------------------------------------------------------------------------- overrides
#
# Subclasses of `MLPClassifier` and `MLPRegressor` customize training by overriding private methods
# of theirs, which are never called here. The error names the public alternative.

_ACTIVATION = (
    "pass a custom ActivationFunction as activation=, or change the layers by layers=, "
    "dropout= and normalization=; hidden_features(X, layer=...) returns hidden outputs"
)
_LOSS = (
    "pass a custom Loss with value and gradient as loss=; alpha=, l1_ratio= and clip_norm= control "
    "penalties and large gradients"
)
_OPTIMIZER = (
    "pass a custom Optimizer as solver= and a custom LearningRateSchedule as learning_rate=, and "
    "follow or stop training after each epoch by a callback (set_callbacks)"
)
_STOPPING = (
    "pass early_stopping=EarlyStopping(scoring=...) with a custom scorer, or stop training by a "
    "callback (set_callbacks)"
)
_WEIGHTS = "pass a custom Initializer as init=, or the weights themselves: (coefs, intercepts)"
_DATA = (
    "override fit or partial_fit, and change X and y before calling super(). For probabilistic "
    "labels, repeat each row for each class with the probability as its sample_weight"
)
_FIT = "override fit and partial_fit, and call super()"
_PREDICT = "override predict, and call super().predict(X)"

REPLACEMENTS: Mapping[str, str] = {
    "_backprop": _LOSS,
    "_check_solver": "override partial_fit, and call super()",
    "_compute_loss_grad": _LOSS,
    "_fit": _FIT,
    "_fit_lbfgs": "pass solver=LBFGS(...) with custom settings",
    "_fit_stochastic": _OPTIMIZER,
    "_forward_pass": _ACTIVATION,
    "_forward_pass_fast": _ACTIVATION,
    "_init_coef": _WEIGHTS,
    "_initialize": _WEIGHTS,
    "_loss_grad_lbfgs": _LOSS,
    "_predict": _PREDICT,
    "_score": _STOPPING,
    "_score_with_function": _STOPPING,
    "_unpack": _WEIGHTS,
    "_update_no_improvement_count": _STOPPING,
    "_validate_input": _DATA,
}
"""The alternative to overriding each method, by its name."""


def reject_unused_overrides(estimator: Any) -> None:
    """Check that an estimator overrides no method that would never be called.

    Raises
    ------
    TypeError
        If its class or the instance overrides one. The error names the alternative.
    """
    kind, own = type(estimator), vars(estimator)
    for name, replacement in REPLACEMENTS.items():
        method = own.get(name, getattr(kind, name, None))
        if not (callable(method) or isinstance(method, property)):
            continue
        if (getattr(method, "__module__", None) or "").partition(".")[0] not in (
            "sklearn",
            _PACKAGE,
        ):
            raise TypeError(
                f"{kind.__name__} overrides {name}, a private method of scikit-learn's networks "
                f"that skbackprop never calls. Remove or rename it. Instead, {replacement}."
            )
