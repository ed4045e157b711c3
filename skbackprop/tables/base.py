"""What both tabular estimators share: from a raw table to trained networks, and to predictions."""

from __future__ import annotations

import math
import time
from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Interval, StrOptions, _fit_context
from ..core.arrays import Array
from ..estimators.shown import AttributesAndLayers, Documented
from ..estimators.validation import stand_in, validated_weight
from ..fitting.holdout import cut_into_folds
from .columns import read
from .components import Component, Kind, Training
from .inputs import WIDTH, Inputs, View
from .networks import KindOfNetworks
from .recipe import Configuration

# Numbers in the input of the rows that are predicted at once.
_NUMBERS_AT_ONCE = 1 << 22

# A limit that is over before the first epoch.
_NO_TIME = 1e-9


class BaseTabular(CallbackSupportMixin, Documented, BaseEstimator, metaclass=ABCMeta):
    """Base of `TabularClassifier` and `TabularRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_members": [Interval(Integral, 2, None, closed="left")],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "random_state": ["random_state"],
    }
    _configurations: ClassVar[Sequence[Configuration]]

    n_members: int
    categorical_features: Any
    max_iter: int | None
    time_limit: float | None
    random_state: Any

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _take_in(self, y: Any, weight: Array | None) -> tuple[Array, Array | None]:
        """Learn what y is; return it as the networks learn it, and what rows weigh in training."""

    @property
    @abstractmethod
    def _kind_of_target(self) -> str | None:
        """What a `TableEncoder` calls such targets; None if they say nothing."""

    @abstractmethod
    def _networks(self, settings: dict[str, Any], y: Array, weight: Array | None) -> Any:
        """Return networks with these parameters, for these targets."""

    @abstractmethod
    def _combine(self, held_out: list[Array], y: Array, weight: Array | None) -> None:
        """Learn how to mix components, by what each says of the rows that its models held out."""

    @abstractmethod
    def _mixed(self, outputs: list[Array]) -> Array:
        """Return the predictions for rows that are mixed of what each component says of them.

        That has the shape (n_members, n, n_outputs), and it is the mean over members that counts.
        """

    # -------------------------------------------------------------------- training

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train networks on a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table. Numbers and categories may be missing; infinite numbers, dates and columns
            of lists are errors that say what to do.
        y : array-like of shape (n_samples,)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not valid, X is no table, or a column, y or a weight holds what
            cannot be trained on. The estimator is then left as it was.
        """
        start = time.perf_counter()
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        context = self._init_callback_context(max_subtasks=len(self._configurations))
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=None)
        fitted = stand_in(self)
        columns = read(fitted, X, reset=True)
        weight = validated_weight(sample_weight, columns.as_given)
        targets, weight = fitted._take_in(y, weight)
        n_rows = columns.n_rows
        if len(targets) != n_rows:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {n_rows} and {len(targets)}."
            )
        if n_rows < 2:
            raise ValueError(
                f"n_samples = {n_rows}, but at least 2 rows are needed: one to train on, and one "
                "to hold out."
            )
        stream = check_random_state(self.random_state)
        kind = fitted._kind_of_target
        target = targets if kind else None
        fitted._inputs, encoded = Inputs.learn(
            columns, target, kind or "auto", self.categorical_features, stream
        )
        folds = fitted._folds(targets, stream)
        trained = fitted._trained(encoded, targets, weight, folds, stream, start, context)
        fitted._components = [component for component, _ in trained]
        fitted.networks_ = [each.networks for each in fitted._components]
        fitted.n_iter_ = np.array([each.n_iter_ for each in fitted.networks_])
        fitted.oof_member_ = folds
        fitted._combine([held_out for _, held_out in trained], targets, weight)
        self.__dict__ = fitted.__dict__
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=None)
        return self

    def _folds(self, y: Array, stream: np.random.RandomState) -> Array:
        """Return the member of each component that holds out each row."""
        strata = y if is_classifier(self) else None
        return cut_into_folds(len(y), min(self.n_members, len(y)), stream, strata)

    @property
    def _kinds(self) -> list[Kind]:
        """The kinds of models that predictions are mixed of."""
        kinds: list[Kind] = []
        for each in self._configurations:
            view: View = "embedded" if each.embeds else "encoded"
            n_blocks = self._inputs.n_blocks if each.embeds else 0
            kinds.append(KindOfNetworks(view, n_blocks, each, self.max_iter, self._networks))
        return kinds

    def _trained(
        self,
        encoded: Array,
        y: Array,
        weight: Array | None,
        folds: Array,
        stream: np.random.RandomState,
        start: float,
        context: Any,
    ) -> list[tuple[Component, Array]]:
        """Return models of each kind, trained, or of the first that there was time for.

        Each comes with what it says out of fold. Those that are to come have equal parts of the
        time that is left.
        """
        limit = math.inf if self.time_limit is None else self.time_limit
        trained: list[tuple[Component, Array]] = []
        for i, kind in enumerate(self._kinds):
            left = limit - (time.perf_counter() - start)
            if trained and left <= 0:
                break
            share = max(left / (len(self._kinds) - i), _NO_TIME)
            X = self._inputs.seen(encoded, kind.view)
            training = Training(X, y, weight, folds, stream, share, self, context)
            trained.append(kind.train(training))
        return trained

    # ------------------------------------------------------------------ prediction

    def _predicted(self, X: Any) -> Array:
        """Return what is mixed of all components for the rows of X, block by block."""
        check_is_fitted(self)
        encoded = self._inputs.encode(read(self, X, reset=False))
        width = encoded.shape[1] + self._inputs.n_blocks * WIDTH
        parts, n_at_once = [], max(1, _NUMBERS_AT_ONCE // width)
        for start in range(0, len(encoded), n_at_once):
            rows = encoded[start : start + n_at_once]
            views = {
                view: self._inputs.seen(rows, view)
                for view in {each.view for each in self._components}
            }
            parts.append(self._mixed([each.outputs(views[each.view]) for each in self._components]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return what a notebook shows below the parameters: the attributes, and the layers."""
        attributes = super()._get_fitted_attr_html(doc_link)
        return AttributesAndLayers(attributes, [each.summary() for each in self.networks_])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags
