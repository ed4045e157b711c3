"""Training state of a stack of networks: all that training changes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Self

import numpy as np

from ..schedules import init_plateau_counter
from ..utils.arrays import (
    Array,
    ArrayDict,
    IndexArray,
    iter_column_blocks,
)
from .history import History
from .parameters import ParameterLayout, Parameters

# The names of the fields by type. Each field has a row or an item for every member.
_DICTS = ("optimizer", "schedule", "average", "plateau", "best")
_ARRAYS = ("n_samples_seen", "epoch", "loss", "best_loss", "temperature")
_BIT_GENERATORS = {"MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"}  # files may name these
_LISTS = ("orders", "held_out", "rngs", "layer_rngs", "history", "stop_reason")


@dataclass
class TrainState:
    """Complete training state of a stack of networks, from which training can be resumed exactly.

    Parameters
    ----------
    parameters : Parameters
        The parameters that training continues from.
    optimizer, schedule, average : dict
        The states of the optimizer, the schedule and the weight average, a row for each member.
    plateau : dict
        The counter of epochs without progress.
    best : dict
        The "score" and the "epoch" of the best epoch, and its "theta", "buffers/..." and
        "average/..."; empty if epochs have no score.
    n_samples_seen : array of int of shape (n_estimators, 1)
        The number of samples that each member has been trained on.
    epoch : array of int of shape (n_estimators, 1)
        The number of epochs, or of iterations of L-BFGS, since the start of this fit.
    loss : array of shape (n_estimators, 1)
        The training loss of the last epoch; infinite before the first.
    best_loss : array of shape (n_estimators, 1)
        The lowest training loss of an epoch since the start of the last `fit`, in calls of
        `partial_fit` as well; infinite before the first.
    temperature : array of shape (n_estimators, 1)
        The divisor of raw predictions, after calibration. Training ignores it.
    orders : list of IndexArray or None
        The training rows of each member, in the order of the last epoch, shuffled in place; None
        for all rows in their order. Members that visit the same rows in the same order may share
        one array, which is shuffled once, and whose rows are gathered once.
    held_out : list of IndexArray or None
        The rows that each member holds out, if any.
    rngs : list of RandomState or None
        The random state that shuffles each order, shared like the order; None for no shuffling.
    layer_rngs : list of Generator or None
        The random generator of each member's stochastic layers; None if there are none.
    history : list of History
        The records of each member's epochs, of this fit and of those that it continues.
    stop_reason : list of str
        Why the training of each member has ended: "converged", "unconverged", "time_limit",
        "stopped", "interrupted" or "diverged". Empty while it goes on.
    """

    parameters: Parameters
    optimizer: ArrayDict
    schedule: ArrayDict
    average: ArrayDict
    plateau: ArrayDict
    best: ArrayDict
    n_samples_seen: Array
    epoch: Array
    loss: Array
    best_loss: Array
    temperature: Array
    orders: list[IndexArray | None]
    held_out: list[IndexArray | None]
    rngs: list[np.random.RandomState | None]
    layer_rngs: list[np.random.Generator | None]
    history: list[History]
    stop_reason: list[str]

    @classmethod
    def initial(cls, parameters: Parameters, **values: Any) -> Self:
        """Return the state before the first epoch, with other `values` of some fields."""
        n = len(parameters)
        state = cls(
            parameters,
            optimizer={},
            schedule={},
            average={},
            plateau=init_plateau_counter(n),
            best={},
            n_samples_seen=np.zeros((n, 1), dtype=int),
            epoch=np.zeros((n, 1), dtype=int),
            loss=np.full((n, 1), np.inf),
            best_loss=np.full((n, 1), np.inf),
            temperature=np.ones((n, 1)),
            orders=[None] * n,
            held_out=[None] * n,
            rngs=[None] * n,
            layer_rngs=[None] * n,
            history=[History() for _ in range(n)],
            stop_reason=[""] * n,
        )
        return replace(state, **values) if values else state

    def __len__(self) -> int:
        return len(self.epoch)

    # ----------------------------------------------------------------------- members

    def take(self, members: Any) -> Self:
        """Return the state of some members.

        Arrays are views for a slice of members, and copies for an index array. Items of lists are
        not copied, so that members that share an order or a random state continue to do so.
        """
        numbers = np.arange(len(self))[members].tolist()
        return self._map(
            self.parameters.members(members),
            lambda array: array[members],
            lambda items: [items[i] for i in numbers],
        )

    @classmethod
    def concat(cls, states: Sequence[Self]) -> Self:
        """Return the state of all members of several states, of networks of one architecture.

        A single state is returned as it is; otherwise the arrays are copied.
        """
        first_state = states[0]
        if len(states) == 1:
            return first_state
        fields: dict[str, Any] = {}
        if any(map(attrgetter("best"), states)):  # other stacks may have no validation scores
            states = [state if state.best else state._with_no_best() for state in states]
        for name in _DICTS:
            fields[name] = _concatenate([*map(attrgetter(name), states)])
        for name in _ARRAYS:
            fields[name] = np.concatenate([*map(attrgetter(name), states)])
        for name in _LISTS:
            fields[name] = [*chain(*map(attrgetter(name), states))]
        buffers = _concatenate([*map(attrgetter("parameters.buffers"), states)])
        theta = np.concatenate([*map(attrgetter("parameters.theta"), states)])
        return cls(first_state.parameters.with_arrays(theta, buffers), **fields)

    def copy(self) -> Self:
        """Return a copy that shares nothing but the random states."""
        state = self._map(self.parameters.copy(), lambda array: array.copy(), list)
        state.orders = copy.deepcopy(self.orders)  # members that share an order share its copy
        state.history = [history.copy() for history in self.history]
        return state

    def share(self) -> Self:
        """Return a state with the same arrays, whose fields can be replaced without effect here."""
        return self._map(self.parameters, lambda array: array, list)

    def with_own_random_states(self) -> Self:
        """Return the state with copies of its random states, which other states may share."""
        rngs, layer_rngs = copy.deepcopy((self.rngs, self.layer_rngs))
        return replace(self, rngs=rngs, layer_rngs=layer_rngs)

    def continue_random_states(self, rngs: Sequence[np.random.RandomState | None]) -> None:
        """Set other random states, such as the user's own, to those of this state, and use them."""
        for rng, own_rng in zip(rngs, self.rngs, strict=True):
            if rng is not None and own_rng is not None:
                rng.set_state(own_rng.get_state(legacy=False))
        self.rngs = list(rngs)

    def _map(
        self,
        parameters: Parameters,
        on_array: Callable[[Array], Array],
        on_list: Callable[[list[Any]], list[Any]],
    ) -> Self:
        """Return a state with functions applied to all arrays and to all lists."""
        values: dict[str, Any] = {}
        for name in _DICTS:
            values[name] = {key: on_array(array) for key, array in getattr(self, name).items()}
        for name in _ARRAYS:
            values[name] = on_array(getattr(self, name))
        for name in _LISTS:
            values[name] = on_list(getattr(self, name))
        return type(self)(parameters, **values)

    # ---------------------------------------------------------------------- new starts

    def restart(self) -> None:
        """Reset the count of epochs, the loss, the best epoch and the plateau counter."""
        initial_state = self.initial(self.parameters)
        self.plateau = initial_state.plateau
        self.best = {}
        self.epoch = initial_state.epoch
        self.loss = initial_state.loss

    def with_parameters(self, parameters: Parameters, *, only_predicts: bool = False) -> Self:
        """Return the state that continues from the parameters used in prediction.

        Parameters
        ----------
        parameters : Parameters
            The `inference_parameters`, which are copied.
        only_predicts : bool, default=False
            Whether to leave out the fields that only training needs.
        """
        temperature = np.ones_like(self.temperature)
        if only_predicts:
            names = "n_samples_seen", "epoch", "loss", "best_loss", "history", "stop_reason"
            values = {name: getattr(self, name) for name in names}
            best = {name: self.best[name] for name in ("score", "epoch") if name in self.best}
            return self.initial(parameters, **values, best=best, temperature=temperature)
        return replace(
            self,
            parameters=parameters.copy(),
            average={},
            best={},
            temperature=temperature,
        )

    # ----------------------------------------------------------------- during training

    @property
    def is_active(self) -> bool:
        """Whether at least one member is still training."""
        return "" in self.stop_reason

    def trained_arrays(self) -> list[Array]:
        """Return the arrays that steps change, with a row for each member."""
        return [
            self.parameters.theta,
            *self.parameters.statistics.values(),
            *self.optimizer.values(),
            *self.average.values(),
        ]

    def changed_arrays(self) -> list[Array]:
        """Return all arrays that an epoch changes, with a row for each member."""
        counts = *self.schedule.values(), *self.plateau.values()
        return [
            *self.trained_arrays(),
            *counts,
            self.n_samples_seen,
            self.epoch,
            self.loss,
            self.best_loss,
        ]

    def is_finite(self) -> Array:
        """Return whether all trained arrays of each member are finite."""
        finite = np.ones(len(self), dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            for array in self.trained_arrays():
                # A finite sum has finite terms only; otherwise it may have overflowed.
                if not np.isfinite(array.sum()):
                    finite &= np.isfinite(array).all(axis=1)
        return finite

    def flush_subnormals(self) -> None:
        """Replace subnormal numbers by zero.

        A penalty shrinks the weights of unused units without end, and moments of zero gradients
        shrink as well. Subnormal numbers are negligible but many times slower in arithmetic.
        """
        for array in self.trained_arrays():
            if array.dtype.kind == "f":
                smallest_normal = np.finfo(array.dtype).smallest_normal
                for (block,) in iter_column_blocks(array):
                    block[np.abs(block) < smallest_normal] = 0

    def averaged_parameters(self) -> Parameters:
        """Return the parameters for prediction: their averages, if there is a weight average.

        Before averaging has begun, the averages are the current values.
        """
        parameters, average = self.parameters, self.average
        if not average:
            return parameters
        has_begun = average["total"] > 0
        buffers = {
            name: np.where(has_begun, average[name], array) if name in average else array
            for name, array in parameters.buffers.items()
        }
        return parameters.with_arrays(
            np.where(has_begun, average["average"], parameters.theta), buffers
        )

    def inference_parameters(self, layout: ParameterLayout) -> Parameters:
        """Return the parameters for prediction: of the best epoch, averaged and calibrated.

        They share memory with the training parameters where both are the same. `layout` is that of
        the network in prediction, which may have fewer layers.
        """
        state = self
        if "theta" in self.best:
            average = {name: array.copy() for name, array in self.average.items()}
            state = replace(self, parameters=self.parameters.copy(), average=average)
            state.return_to_best()
        parameters = state.averaged_parameters().with_layout(layout)
        if (self.temperature == 1).all():
            return parameters
        # The last layer has no activation, so scaling its parameters scales raw predictions.
        calibrated_parameters = parameters.with_arrays(parameters.theta.copy())
        for name in ("weights", "biases"):
            array = calibrated_parameters.select(name)[-1]
            array /= self.temperature.astype(array.dtype).reshape(-1, *[1] * (array.ndim - 1))
        return calibrated_parameters

    def keep_best(self, scores: Array, *, prefer_last: bool = False) -> None:
        """Copy the parameters of the members whose score is the best so far.

        Parameters
        ----------
        scores : array of shape (n_estimators, 1)
            The scores of the epoch; NaN is never the best.
        prefer_last : bool, default=False
            Whether the last one of equally good epochs counts as the best, not the first.
        """
        if not self.best:
            self.best = self._with_no_best().best
        current_arrays = {**self._inference_arrays(), "score": scores, "epoch": self.epoch}
        best_scores = self.best["score"]
        is_best = (scores >= best_scores if prefer_last else scores > best_scores)[:, 0]
        if is_best.any():
            best = {name: array.copy() for name, array in self.best.items()}
            for name, array in current_arrays.items():
                best[name][is_best] = array[is_best]
            self.best = best

    def _with_no_best(self) -> Self:
        """Return the state with arrays in `best` that stand for no epoch, with score -inf."""
        marks = {"score": np.full(self.epoch.shape, -np.inf), "epoch": np.zeros_like(self.epoch)}
        arrays = {name: array.copy() for name, array in self._inference_arrays().items()}
        return replace(self, best=arrays | marks)

    def return_to_best(self) -> None:
        """Set the parameters to those of the best epoch, for members that have one."""
        has_best = self.best["epoch"][:, 0] > 0
        for name, array in self._inference_arrays().items():
            array[has_best] = self.best[name][has_best]

    def _inference_arrays(self) -> ArrayDict:
        """Return the arrays that predictions depend on, by name as in `best`."""
        arrays = {"theta": self.parameters.theta}
        for kind, state in (("buffers", self.parameters.statistics), ("average", self.average)):
            arrays |= {f"{kind}/{name}": array for name, array in state.items()}
        return arrays

    # ------------------------------------------------------------------------- files

    def to_arrays(self) -> dict[str, Array]:
        """Return the state as arrays by name, without Python objects, for files."""
        dicts = {
            "buffers": self.parameters.buffers,
            **{name: getattr(self, name) for name in _DICTS},
        }
        arrays = {"theta": self.parameters.theta}
        arrays |= {
            f"{kind}/{name}": array
            for kind, state in dicts.items()
            for name, array in state.items()
        }
        arrays |= {name: getattr(self, name) for name in _ARRAYS}
        arrays["stop_reason"] = np.array(self.stop_reason)
        for name in ("rngs", "layer_rngs"):
            arrays[name] = np.array(list(map(dump_random_state, getattr(self, name))))
        for i, history in enumerate(self.history):
            arrays[f"history/{i}"] = history.to_array()
        for name in ("orders", "held_out"):
            for i, item in enumerate(getattr(self, name)):
                if item is not None:
                    arrays[f"{name}/{i}"] = item
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: ParameterLayout) -> Self:
        """Return the state from the arrays of `to_arrays`, which are copied.

        Parameters
        ----------
        arrays : dict
            The arrays by name.
        layout : ParameterLayout
            The layout of the network's parameters.
        """
        dicts: dict[str, ArrayDict] = {name: {} for name in (*_DICTS, "buffers")}
        for name, array in arrays.items():
            kind, _, key = name.partition("/")
            dicts.setdefault(kind, {})[key] = np.array(array)
        theta = dicts["theta"][""]
        values: dict[str, Any] = {name: dicts[name] for name in _DICTS}
        values |= {name: dicts[name][""] for name in _ARRAYS}
        for name in ("orders", "held_out"):
            values[name] = [dicts.get(name, {}).get(str(i)) for i in range(len(theta))]
        for name in ("rngs", "layer_rngs"):
            values[name] = [load_random_state(text) for text in arrays[name].tolist()]
        return cls(
            Parameters(theta, dicts["buffers"], layout),
            **values,
            history=[History.from_array(arrays[f"history/{i}"]) for i in range(len(theta))],
            stop_reason=arrays["stop_reason"].tolist(),
        )


def _concatenate(dicts: Sequence[ArrayDict]) -> ArrayDict:
    """Return the arrays of all members, from dicts of the arrays of some."""
    return {key: np.concatenate([*map(itemgetter(key), dicts)]) for key in dicts[0]}


def dump_random_state(rng: np.random.RandomState | np.random.Generator | None) -> bytes:
    """Return the state of a random generator as JSON."""
    state: Any = None
    if isinstance(rng, np.random.RandomState):
        state = {"legacy": rng.get_state(legacy=False)}
    elif rng is not None:
        state = rng.bit_generator.state
    return json.dumps(state, default=lambda array: array.tolist()).encode()


def load_random_state(text: bytes) -> Any:
    """Return a new random generator from the result of `dump_random_state`."""
    state = json.loads(text)
    if state is None:
        return None
    name = state.get("legacy", state)["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise ValueError(f"unknown bit generator {name!r}")
    bit_generator = getattr(np.random, name)()
    if "legacy" in state:
        rng = np.random.RandomState(bit_generator)
        rng.set_state(state["legacy"])
        return rng
    bit_generator.state = state
    return np.random.Generator(bit_generator)
