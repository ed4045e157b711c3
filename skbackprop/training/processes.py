"""Training of the networks of a model in several processes, by joblib.

Networks do not depend on each other, so each process trains some of them, as stacks, to the same
bits as all of them together.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..nn.train_state import TrainState
from ..utils.arrays import ArrayDict
from .config import Config
from .jobs import run_jobs
from .model import Model
from .problem import Problem
from .train import TrainingInterrupted, train


def train_in_processes(problem: Problem, model: Model, n_jobs: int, start: float) -> Model:
    """Train the networks of a model as `train` does, in groups side by side.

    Parameters
    ----------
    problem : Problem
        The data.
    model : Model
        The model before training, which does not change, but for the user's random state.
    n_jobs : int
        The number of groups, at most that of networks. joblib's backend determines whether each has
        a process.
    start : float
        The time, by `time.monotonic`, from which a time limit counts.

    Raises
    ------
    TrainingInterrupted
        On Ctrl-C. Its model is that after the last complete epoch of each network.
    RuntimeError
        If a process is killed.
    """
    arguments = []
    with tempfile.TemporaryDirectory() as folder:
        stop_file = Path(folder) / "stop"
        for part in np.array_split(np.arange(len(model.state)), n_jobs):
            config = replace(model.config, n_estimators=len(part))
            arrays = model.state.take(slice(part[0], part[-1] + 1)).to_arrays()
            arguments.append((problem, config, arrays, time.monotonic() - start, stop_file))
        with _stop_on_interrupt(stop_file) as interrupts:
            try:
                parts = run_jobs(_train_part, arguments, n_jobs)
            except RuntimeError:
                if interrupts:  # it has ended a process that was just starting
                    raise KeyboardInterrupt from None
                raise
    model = _join_parts(model, parts, is_interrupted=bool(interrupts))
    if interrupts:
        raise TrainingInterrupted([model]) from KeyboardInterrupt()
    return model


def _join_parts(model: Model, parts: Sequence[ArrayDict], *, is_interrupted: bool) -> Model:
    """Return the model after training, from the states of its groups of networks."""
    layout = model.state.parameters.layout
    state = TrainState.concat([TrainState.from_arrays(arrays, layout) for arrays in parts])
    state.continue_random_states(model.state.rngs)
    if is_interrupted:
        reasons = {"": "interrupted", "stopped": "interrupted"}
        state.stop_reason = [reasons.get(reason, reason) for reason in state.stop_reason]
    return replace(model, state=state)


def _train_part(
    problem: Problem, config: Config, arrays: ArrayDict, elapsed: float, stop_file: Path
) -> ArrayDict:
    """Train some networks, and return their state as arrays.

    Parameters
    ----------
    problem : Problem
        The data.
    config : Config
        The configuration of the networks.
    arrays : dict
        Their state before training, which is copied.
    elapsed : float
        The seconds of a time limit that are over.
    stop_file : path
        The file whose existence ends training after an epoch.
    """
    start = time.monotonic() - elapsed
    network = config.network(problem.row_shape, problem.rows.y.shape[1])
    layout = network.with_dropout(config.dropout_rates).layout
    state = TrainState.from_arrays(arrays, layout)
    model = Model({}, config, network, problem.targets, state, problem.row_shape)
    try:
        (model,) = train([problem], [model], lambda _: stop_file.exists(), start=start)
    except TrainingInterrupted as error:
        (model,) = error.models
    return model.state.to_arrays()


@contextmanager
def _stop_on_interrupt(stop_file: Path) -> Iterator[list[int]]:
    """Context in which the first Ctrl-C makes a file, and only the second one raises an error.

    Processes get the same signal from a terminal, and end their epoch at once. The context has a
    list of the signals so far. In another thread, or where a program handles signals by itself,
    nothing changes.
    """
    interrupts: list[int] = []

    def note(number: int, frame: Any) -> None:
        if interrupts:
            raise KeyboardInterrupt
        interrupts.append(number)
        stop_file.touch()

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
