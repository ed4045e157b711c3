"""Ensembles of networks as components: trained in legs, up to the last that is of use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..core.arrays import Array
from ..core.caches import Caching
from ..engine.network import Network
from ..engine.prediction import ROWS_OF_PREDICTOR, Predictor
from ..fitting.verdict import OUT_OF_TIME
from ..fitting.warnings import warn
from .components import NO_TIME, Component, Kind, Training, Watched
from .inputs import WIDTH, View, seed_from
from .recipe import TOLERANCE, Configuration, legs_for, settings_for


@dataclass(frozen=True, eq=False)
class NetworksOfTable(Caching, Component):
    """An ensemble of networks.

    Parameters
    ----------
    networks : TableClassifierNetworks or TableRegressorNetworks
        The fitted networks.
    view : View
        How they see rows.
    """

    networks: Any
    view: View

    @property
    def can_be_shared(self) -> bool:
        """Whether several threads may ask them at once."""
        return True

    @property
    def largest_product(self) -> int:
        """The multiplications in the largest matrix product while they predict."""
        network: Network = self.networks._learned.network
        return network.largest_product(ROWS_OF_PREDICTOR)

    def outputs(self, X: Array, in_single: bool = False) -> Array:
        """Return what each network says of rows, of shape (n_members, n, n_outputs)."""
        predictor = self._in_single if in_single else self._in_double
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.outputs_of(predictor.scores(X)))

    def outputs_of(self, member: int, X: Array) -> Array:
        """Return what one network says of rows, of shape (n, n_outputs), in single precision."""
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.outputs_of(self._of_members[member].scores(X))[0])

    @cached_property
    def _of_members(self) -> list[Predictor]:
        network, parameters = self._in_single.network, self._in_single.parameters
        members = [slice(at, at + 1) for at in range(len(parameters))]
        return [Predictor(network, parameters.members(member)) for member in members]

    @cached_property
    def _in_double(self) -> Predictor:
        return self._predictor(np.float64)

    @cached_property
    def _in_single(self) -> Predictor:
        return self._predictor(np.float32)

    def _predictor(self, dtype: Any) -> Predictor:
        learned = self.networks._learned
        parameters = self.networks._parameters(learned).astype(dtype)
        return Predictor(learned.network, parameters)


class _Leg(NamedTuple):
    """What a leg of training has led to.

    Parameters
    ----------
    attributes : dict
        Those of the networks.
    said : array of shape (n_said, n, n_outputs)
        What they say of rows that they were not trained on.
    loss : float
        How far that is from the targets.
    n_iter : array of int of shape (n_members,)
        The epochs of all legs up to it.
    is_whole : bool
        Whether there was time for all of its epochs.
    """

    attributes: dict[str, Any]
    said: Array
    loss: float
    n_iter: Array
    is_whole: bool

    def is_of_use(self, best: float) -> bool:
        """Return whether it is kept where the least loss before it was `best`."""
        return not self.loss > best * (1 + TOLERANCE if self.is_whole else 1)


def _share_of_training(training: Training) -> float:
    """Return the share of the time for training itself; the rest is for what is said afterwards.

    That takes one of an epoch's three matrix products for each row and member. Of a single epoch,
    the least that training is good for, it is this share that all else leaves.
    """
    n_trained = 3 * training.n_members * training.n_train
    n_said = len(training.X)
    if training.watched is not None:
        n_said = training.n_members * len(training.watched.X)
    return n_trained / (n_trained + n_said)


def _warn_of_time(time_limit: float, n_iter: Array) -> None:
    """Say that the user's time limit ended training, and after how many epochs that are kept."""
    limit = f"{OUT_OF_TIME}{time_limit:g} seconds are over, of which each ensemble has a part."
    if n_iter.any():
        kept = f"Networks of {n_iter.min()} to {n_iter.max()} epochs are kept."
    else:
        kept = (
            "After less than an epoch nothing has been learned: the weights are those at the start."
        )
    warn(f"{limit} {kept} Raise time_limit, or train fewer members.", ConvergenceWarning)


@dataclass(frozen=True, eq=False)
class KindOfNetworks(Kind):
    """Networks of one configuration.

    Parameters
    ----------
    view : View
        How they see rows.
    n_blocks : int
        The blocks of columns at the beginning of a row, as they see it.
    configuration : Configuration
        What they are like.
    max_iter : int or None
        The most epochs; None for what suits the number of rows.
    build : callable
        Returns networks for (parameters, targets, weights of rows).
    """

    view: View
    n_blocks: int
    configuration: Configuration
    max_iter: int | None
    build: Callable[[dict[str, Any], Array, Array | None], Any]

    is_patient: ClassVar[bool] = True

    def train(self, training: Training) -> tuple[Component, Array]:
        """Return the networks, trained, and what they say of rows that were not trained on.

        They train in legs, up to the last that was of use. All members end with the same leg,
        chosen among a few by what is said of all rows: so what is said out of fold stays honest.
        """
        end = time.perf_counter() + training.time_limit * _share_of_training(training)
        n_train = training.n_train
        settings = settings_for(self.configuration, n_train, training.n_members)
        settings["random_state"] = seed_from(training.stream)
        networks = self.build(settings, training.y, training.weight)
        networks._front = self.n_blocks, WIDTH
        networks._folds = training.folds
        legs = legs_for(n_train, self.max_iter)
        progress = training.progress
        progress.begin_ensemble()
        task = training.context.subcontext("ensemble", max_subtasks=len(legs))
        task.call_on_fit_task_begin(estimator=training.estimator)
        kept: list[_Leg] = []
        was_cut_short = False
        for at, n_epochs in enumerate(legs):
            start = time.perf_counter()
            left = end - start
            if kept and (left <= 0 or progress.is_stopped):
                break
            limit = None if math.isinf(left) else max(left, NO_TIME)
            networks.set_params(max_iter=n_epochs, time_limit=limit)
            progress.begin_leg(networks, at)
            leg = self._leg(networks, training, task.subcontext("leg"), kept)
            now = time.perf_counter()
            is_kept = leg.is_of_use(min((each.loss for each in kept), default=math.inf))
            progress.print_leg(legs, at, leg, now - start, is_kept)
            was_cut_short |= limit is not None and not leg.is_whole and now >= end
            progress.is_stopped |= not leg.is_whole and now < end
            if not is_kept:
                break
            kept.append(leg)
        progress.is_stopped |= task.call_on_fit_task_end(estimator=training.estimator)
        if was_cut_short:
            _warn_of_time(training.estimator.time_limit, kept[-1].n_iter)
        networks.__dict__ = kept[-1].attributes
        networks.finish(kept[-1].n_iter)
        return NetworksOfTable(networks, self.view), kept[-1].said

    def _leg(self, networks: Any, training: Training, task: Any, before: Sequence[_Leg]) -> _Leg:
        """Return what one more leg leads to."""
        with task.propagate_callback_context(networks):
            task.call_on_fit_task_begin(estimator=training.estimator)
            networks.fit(training.X, training.y, sample_weight=training.weight)
            wants_end = task.call_on_fit_task_end(estimator=training.estimator)
        training.progress.is_stopped |= wants_end
        networks.set_callbacks()
        if training.watched is None:
            seen = Watched(training.X, training.y, training.weight)
            said = networks.outputs_of(networks._held_out_once.scores[None].copy())
        else:
            seen = training.watched
            said = NetworksOfTable(networks, self.view).outputs(seen.X)
        loss = networks.loss_of(said, seen)
        n_iter = networks.n_iter_ + (before[-1].n_iter if before else 0)
        is_whole = bool((networks.n_iter_ == networks.max_iter).all())
        return _Leg(dict(vars(networks)), said, loss, n_iter, is_whole)
