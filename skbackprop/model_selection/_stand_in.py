"""Stand-ins of candidates, which take over trained estimators instead of training."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

from sklearn.base import clone
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import get_routing_for_object

from ..utils.arrays import IndexArray


@dataclass(eq=False)
class TrainedEstimator:
    """Estimator of a candidate that has been trained on one split.

    The estimator and its state are pickled once, in the worker that has trained it, and stay
    pickled until they are loaded.

    Parameters
    ----------
    checksum : int
        The `checksum_of_rows` of the training rows.
    seconds : float
        The candidate's share of the training time of its stack.
    estimator : estimator or bytes
        The trained estimator.
    resumable : tuple of (int, TrainState), bytes or None, default=None
        A checksum of the data, and the state to resume from, if training only pauses.
    """

    checksum: int
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
                with suppress(Exception):  # classes of the user's script, which joblib can pickle
                    state[name] = pickle.dumps(state[name])
        return state


def checksum_of_rows(rows: IndexArray) -> int:
    """Return a number by which training rows are recognized."""
    return zlib.crc32(rows.tobytes())


class Candidate(dict[str, Any]):
    """Parameters of a candidate, which bring the estimators trained with them to its stand-in.

    scikit-learn clones the parameters of a candidate and passes the clone to `set_params`. The
    clone has one more item. Everywhere else, a candidate is the dict of its parameters.

    Parameters
    ----------
    parameters : dict
        The parameters.
    trained : iterable of TrainedEstimator or None, default=()
        The estimator of each split; None for splits on which scikit-learn trains it.
    """

    def __init__(self, parameters: dict[str, Any], trained: Iterable[Any] = ()) -> None:
        super().__init__(parameters)
        self.trained: list[TrainedEstimator | None] = list(trained)

    @property
    def seconds(self) -> list[float]:
        """The training time of each split; 0 for splits on which scikit-learn trains."""
        return [trained.seconds if trained else 0.0 for trained in self.trained]

    def __sklearn_clone__(self) -> dict[str, Any]:
        return {**clone(dict(self), safe=False), "_trained": self.trained}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the training states, of which workers that score have no use."""
        return Candidate, (dict(self), [t and replace(t, resumable=None) for t in self.trained])

    def copy(self) -> Candidate:
        """Return a copy that shares the trained estimators, for the next round of a search."""
        return Candidate(self, self.trained)


class StandIn(CallbackSupportMixin):
    """Estimator whose `fit` takes over an estimator that has been trained on the same rows.

    In `fit` it becomes an instance of the user's class, since scorers may use any method or
    attribute of the estimator that they get. If no trained estimator has its rows, it becomes the
    user's unfitted estimator, and fits itself.

    Parameters
    ----------
    estimator : estimator
        The user's estimator.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.params: dict[str, Any] = {}
        self.trained: Sequence[Any] = ()

    def __sklearn_clone__(self) -> StandIn:
        return StandIn(self.estimator)

    def __sklearn_tags__(self) -> Any:
        if not any(self.trained):
            return get_tags(self._with_params())
        tags = get_tags(self.estimator)
        tags.input_tags.pairwise = False  # else it would not be trained
        return tags

    def __repr__(self) -> str:
        return repr(self.estimator)

    def _with_params(self) -> Any:
        return clone(self.estimator).set_params(**self.params)

    def get_params(self, deep: bool = True) -> Any:
        """Return the parameters of the user's estimator."""
        return self.estimator.get_params(deep)

    def set_params(self, *, _trained: Sequence[Any] = (), **params: Any) -> Self:
        """Set the parameters of a candidate, and the estimators trained with them."""
        self.params, self.trained = params, _trained
        return self

    def get_metadata_routing(self) -> Any:
        """Return the routing of the user's estimator."""
        return get_routing_for_object(self.estimator)

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, rows: IndexArray, **params: Any) -> Self:
        """Become the estimator that has been trained on these rows, or fit the user's estimator."""
        checksum = checksum_of_rows(rows)
        found = [each for each in self.trained if each and each.checksum == checksum]
        become = found[0].load("estimator") if found else self._with_params()
        for name in ("estimator", "params", "trained"):
            delattr(self, name)
        self.__dict__.update(vars(become) | vars(self))  # the callbacks are those of the search
        self.__class__ = type(become)
        if not found:
            return self.fit(X, *([] if y is None else [y]), **params)
        if hasattr(self, "_skl_callbacks"):
            context = self._init_callback_context().call_on_fit_task_begin(estimator=self, X=X, y=y)
            context.call_on_fit_task_end(estimator=self, X=X, y=y)
        return self
