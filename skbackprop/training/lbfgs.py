"""Training by L-BFGS, through SciPy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import optimize

from ..losses.base import Loss
from ..nn.full_batch import FullBatchObjective, rows_of_block
from ..nn.network import Network
from ..nn.rows import Rows
from ..nn.stack import TimeLimitReached
from ..nn.step import loss_normalizer
from ..nn.train_state import TrainState
from ..optimizers import LBFGS
from .config import Config
from .train import GetState, TrainingInterrupted, is_stalled, print_epoch, print_stall
from .validation import Validation, evaluate

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def train_by_lbfgs(
    network: Network,
    loss: Loss,
    config: Config,
    rows: Sequence[Rows],
    validation: Sequence[Validation | None],
    state: TrainState,
    until: int | None = None,
    deadlines: tuple[float, float] = (math.inf, math.inf),
) -> Iterator[GetState]:
    """Train one network by L-BFGS (Byrd et al. 1995), in double precision.

    Parameters are those of `train_epochs`, for a single member. An iteration counts as an epoch.
    The state is yielded before the first iteration and after the last one only, because SciPy's
    own state is no part of it.
    """
    yield lambda: state
    if state.stop_reason != [""]:
        return
    (own_rows,), solver = rows, config.solver
    assert isinstance(solver, LBFGS)
    dtype = state.parameters.dtype
    state.parameters = state.parameters.astype(np.float64)
    order = state.orders[0]
    n_rows = own_rows.n_rows if order is None else len(order)
    block = rows_of_block(network, n_rows, own_rows.is_sparse)
    objective = FullBatchObjective(network, loss, config, own_rows, state, block, deadlines[0])
    theta, last_x = state.parameters.theta, state.parameters.theta[0].copy()
    # Several targets have their mean loss reported, and their sum minimized.
    not_reported = 1 - 1 / loss_normalizer(network, loss)

    def reported(result: optimize.OptimizeResult) -> float:
        value = float(result.fun)
        return value - not_reported * (value - objective.penalty(result.x))

    def end_iteration(intermediate_result: optimize.OptimizeResult) -> None:
        theta[0] = intermediate_result.x
        (found,) = evaluate(network, state, validation)
        last_x[:] = intermediate_result.x
        state.epoch += 1
        state.loss[...] = reported(intermediate_result)
        record = {"epoch": int(state.epoch.item()), "loss": float(state.loss.item()), **found}
        state.history[0].append(record)
        if config.verbose:
            print_epoch(state, int(state.epoch.item()))
        if "validation_score" not in found:
            return
        score = found["validation_score"]
        # Of equally good iterations the last has the lowest loss. On few rows many are equal.
        state.keep_best(np.array([[score]]), last_of_equals=True)
        monitored = np.array([[math.inf if math.isnan(score) else -score]])
        if is_stalled(config, state, monitored).item():
            if config.verbose:
                print_stall(config, True, "Stopping.")
            raise StopIteration

    if any(each is not None and each.scoring is not None for each in validation):
        state.keep_best(np.array([[math.nan]]))  # there may be no iteration
    reason = "time_limit"
    try:
        with np.errstate(all="ignore"):
            result = optimize.minimize(
                objective,
                last_x.copy(),
                method="L-BFGS-B",
                jac=True,
                callback=end_iteration,
                options={
                    "maxcor": solver.n_corrections,
                    "maxfun": solver.max_fun,
                    "maxiter": config.max_iter,
                    "gtol": config.gtol,
                },
            )
        if np.isfinite(result.fun) and np.isfinite(result.x).all():
            last_x[:] = result.x
            state.loss[...] = reported(result)
            is_converged = result.status in (0, _STOPPED_BY_CALLBACK)
            reason = "converged" if is_converged else "unconverged"
        else:
            reason = "diverged"
    except TimeLimitReached:
        pass
    except KeyboardInterrupt as error:
        reason = "interrupted"
        raise TrainingInterrupted(state) from error
    finally:
        theta[0] = last_x
        state.parameters = state.parameters.astype(dtype)
        state.stop_reason = [reason]
    yield lambda: state
