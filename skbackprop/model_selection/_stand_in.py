"""Stand-ins of candidates, which take over trained estimators instead of training."""

from __future__ import annotations

import copy
import pickle
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.utils import Tags, TargetTags, get_tags
from sklearn.utils.metadata_routing import get_routing_for_object

from .._sklearn import CallbackSupportMixin, with_callbacks
from ..utils.arrays import IndexArray
from ..utils.configurable import is_equal


@dataclass(eq=False)
class TrainedEstimator:
    """Estimator of a candidate that has been trained on one split.

    The estimator and its state are pickled once, in the worker that has trained it, and stay
    pickled until they are loaded.

    Parameters
    ----------
    seconds : float
        The candidate's share of the training time of its stack.
    estimator : estimator or bytes
        The trained estimator.
    resumable : tuple of (int, TrainState), bytes or None, default=None
        A checksum of the data, and the state to resume from, if training only pauses.
    """

    seconds: float
    estimator: Any
    resumable: Any = None

    def load(self, name: str) -> Any:
        """Return the "estimator" or the "resumable" state."""
        value = getattr(self, name)
        return pickle.loads(value) if isinstance(value, bytes) else value

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        for name in ("estimator", "resumable"):
            if not isinstance(state[name], bytes):
                with suppress(Exception):  # joblib pickles classes of the user's script
                    state[name] = pickle.dumps(state[name])
        return state


class RepeatedTransform:
    """Method `transform` of a fitted transformer, which computes equal rows once.

    The candidates of a split share their transformers, and scikit-learn transforms the same rows
    for each of them.

    Parameters
    ----------
    transformer : estimator
        The transformer.
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self.results: list[tuple[Any, Any]] = []  # of test and training rows, for example

    def __call__(self, X: Any, **params: Any) -> Any:
        for rows, result in [] if params else self.results:
            if _are_same_rows(X, rows):
                return copy.deepcopy(result)
        rows = copy.deepcopy(X)
        result = type(self.transformer).transform(self.transformer, X, **params)
        if not params and _are_same_rows(X, rows):  # otherwise it overwrites its input
            self.results = [*self.results[-1:], (rows, result)]
        return copy.deepcopy(result)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"results": []}


def _are_same_rows(X: Any, other: Any) -> bool:
    if hasattr(X, "equals"):  # a data frame
        return type(X) is type(other) and bool(X.equals(other))
    X, other = (vars(rows) if issparse(rows) else rows for rows in (X, other))
    return is_equal(X, other)


class Candidate(dict[str, Any]):
    """Parameters of a candidate, with the estimators trained by them for its stand-in.

    scikit-learn clones the parameters of a candidate and passes the clone to `set_params`. The
    clone has the estimators as one more item. Otherwise, a candidate is a dict of parameters.

    Parameters
    ----------
    parameters : dict
        The parameters.
    estimators : dict
        The trained estimators by the checksum of their training rows; without those of splits on
        which scikit-learn trains.
    """

    def __init__(self, parameters: dict[str, Any], estimators: dict[int, Any]) -> None:
        super().__init__(parameters)
        self.estimators = estimators.copy()

    def __sklearn_clone__(self) -> dict[str, Any]:
        return {**clone(dict(self), safe=False), "_estimators": self.estimators}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without training states, because workers that score do not need them."""
        trained = {key: replace(item, resumable=None) for key, item in self.estimators.items()}
        return Candidate, (dict(self), trained)

    def copy(self) -> Candidate:
        """Return a copy that shares the trained estimators, for the next round of a search."""
        return Candidate(self, self.estimators)


class StandIn(CallbackSupportMixin):
    """Estimator whose `fit` takes over an estimator that has been trained on the same rows.

    In `fit` it becomes an instance of the user's class, since scorers may use any method or
    attribute of the estimator that they get. If there is no trained estimator for its rows, it
    becomes the user's unfitted estimator, and fits itself.

    Parameters
    ----------
    estimator : estimator
        The user's estimator.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.params: dict[str, Any] = {}
        self.estimators: dict[int, TrainedEstimator] = {}

    def __sklearn_clone__(self) -> StandIn:
        return StandIn(self.estimator)

    def __sklearn_tags__(self) -> Any:
        if self.estimators:  # not for kernel matrices, which are split by rows and columns
            return Tags(estimator_type=None, target_tags=TargetTags(required=False))
        return get_tags(self._with_params() if self.params else self.estimator)

    def __repr__(self) -> str:
        return repr(self.estimator)

    def _with_params(self) -> Any:
        return clone(self.estimator).set_params(**self.params)

    def get_params(self, deep: bool = True) -> Any:
        """Return the parameters of the user's estimator."""
        return self.estimator.get_params(deep)

    def set_params(self, *, _estimators: Any = None, **params: Any) -> Self:
        """Set the parameters of a candidate, and the estimators trained with them."""
        self.params, self.estimators = params, _estimators or {}
        return self

    def get_metadata_routing(self) -> Any:
        """Return the routing of the user's estimator."""
        return get_routing_for_object(self.estimator)

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, rows: IndexArray, **params: Any) -> Self:
        """Become the estimator that has been trained on these rows, or fit the user's estimator."""
        trained = self.estimators.get(zlib.crc32(rows.tobytes()))
        estimator = self._with_params() if trained is None else trained.load("estimator")
        for name in ("estimator", "params", "estimators"):
            delattr(self, name)
        self.__dict__.update(vars(estimator) | vars(self))  # callbacks of the search stay
        self.__class__ = type(estimator)
        if trained is None:
            return self.fit(X, *([] if y is None else [y]), **params)
        if hasattr(self, "_skl_callbacks"):
            context = self._init_callback_context().call_on_fit_task_begin(estimator=self, X=X, y=y)
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self
