"""Training by L-BFGS, through SciPy, and its objective on all rows."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy import optimize

from ..nn.stack import Stack, TimeLimitReached, fsum_or_nan, loss_normalizer, sum_losses
from ..optimizers import LBFGS
from ..utils.arrays import Array
from .epochs import GetState, Members, end_epoch
from .resources import compute_rows_at_once


class FullBatchObjective:
    """Objective of one network over all rows, as a function of its flat parameters.

    Memory is bounded, because the gradients of blocks of rows are summed.

    Parameters
    ----------
    stack : Stack
        One network, without layers that draw random numbers and with a penalty that is
        differentiable everywhere. Its loss is averaged over the epoch, and its batches are the
        blocks. Each call overwrites the parameters of its state.
    deadline : float, default=np.inf
        The time, by `time.monotonic`, after which no block of a further iteration begins.
    """

    def __init__(self, stack: Stack, deadline: float = math.inf) -> None:
        self._stack = stack
        self._state = stack.state
        self._deadline = deadline
        self._penalty = stack.config.penalty
        self._sum = np.empty_like(stack.gradients.theta)
        self._total = float(stack.batches.total_weights.item())

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the value at the flat parameters `x`, and a new array with the gradient.

        Raises
        ------
        TimeLimitReached
            After the deadline, once an iteration is complete.
        """
        stack = self._stack
        gradient = stack.gradients.theta
        self._state.parameters.theta[0] = x
        self._sum[...] = 0
        losses: list[float] = []
        for chunk in stack.batches.chunks():
            step = stack.bind_step(chunk.members, chunk.batch_size)
            for batch in chunk.batches:
                is_late = time.monotonic() > self._deadline
                if is_late and self._state.epoch.any():
                    raise TimeLimitReached
                step.backpropagate(batch)
                self._sum += gradient
            losses += sum_losses(stack.loss, chunk)[0].tolist()
        np.copyto(gradient, self._sum)
        losses += self._penalty.value(step.add_penalty_gradient(self._total)).tolist()
        return fsum_or_nan(losses) / self._total, gradient[0].copy()

    def penalty(self, x: Array) -> float:
        """Return the penalty at `x`."""
        n = self._state.parameters.regularized.shape[1]
        sums = self._penalty.accumulate(x[None, :n])
        return float(self._penalty.value(sums).item() / self._total)


# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def train_by_lbfgs(
    members: Members,
    until: int | None = None,
    deadlines: tuple[float, float] = (math.inf, math.inf),
) -> Iterator[GetState]:
    """Train one network by L-BFGS (Byrd et al. 1995), in double precision.

    Parameters are those of `train_epochs`, for a single member. An iteration counts as an epoch.
    The state is yielded only before the first iteration and after the last one, because it does
    not contain the internal state of SciPy.
    """
    state = members.state
    yield lambda: state
    if state.stop_reason != [""]:
        return
    network = members.network
    config = members.config
    (member_rows,) = members.rows
    solver = config.solver
    assert isinstance(solver, LBFGS)
    dtype = state.parameters.dtype
    state.parameters = state.parameters.astype(np.float64)
    n_rows = member_rows.n_visited(state.orders[0])
    size = compute_rows_at_once(network, config, member_rows, n_rows)
    stack_config = replace(config, batch_size=size)
    stack = Stack(network, members.loss, stack_config, members.rows, state, mean_over="epoch")
    objective = FullBatchObjective(stack, deadlines[0])
    theta = state.parameters.theta
    last_x = theta[0].copy()
    # With several targets, training minimizes the sum of their losses but reports the mean.
    unreported_share = 1 - 1 / loss_normalizer(network, members.loss)

    def reported_loss(result: optimize.OptimizeResult) -> float:
        value = float(result.fun)
        return value - unreported_share * (value - objective.penalty(result.x))

    def end_iteration(intermediate_result: optimize.OptimizeResult) -> None:
        theta[0] = intermediate_result.x
        losses = np.array([reported_loss(intermediate_result)])
        end_epoch(network, stack, members.validation, losses)
        last_x[:] = intermediate_result.x
        if state.stop_reason == ["converged"]:
            raise StopIteration

    if any(part is not None and part.scoring is not None for part in members.validation):
        state.keep_best(np.array([[math.nan]]))  # training may end before the first iteration
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
            state.loss[...] = reported_loss(result)
            is_converged = result.status in (0, _STOPPED_BY_CALLBACK)
            reason = "converged" if is_converged else "unconverged"
        else:
            reason = "diverged"
    except TimeLimitReached:
        pass
    except KeyboardInterrupt:
        reason = "interrupted"
        raise
    finally:
        theta[0] = last_x
        state.parameters = state.parameters.astype(dtype)
        state.stop_reason = [reason]
    yield lambda: state
