"""What there is to say of how a run has ended: warnings, or the error that it failed by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core.arrays import largest_magnitude
from .course import Window
from .divergence import (
    ENOUGH_ROWS,
    GROWN,
    SAFE,
    Symptoms,
    loss_of,
    loss_of_zero_scores,
    spread,
)
from .run import Run
from .slowness import advice_on, advice_on_stopping

# How a warning begins that all epochs were used up, in scikit-learn's words.
USED_UP = "Stochastic Optimizer: Maximum iterations"
# How a warning begins that early stopping went by a score that says nothing.
STOPPED_BY_FLOOR = "Early stopping ended training by a validation score that never left its floor,"
OUT_OF_TIME = "Training ended: time_limit="


def messages_of(runs: Sequence[Run]) -> list[str]:
    """Return what to warn of after several runs.

    Of those that used up their epochs, or stopped by a useless score, it is one message.
    """
    found = list(dict.fromkeys(message for run in runs for message in run.warnings))
    for once in (USED_UP, STOPPED_BY_FLOOR):
        alike = [message for message in found if message.startswith(once)]
        found = [message for message in found if message not in alike[1:]]
    return found


def end_converged(run: Run) -> None:
    """Take note that training has ended by its stopping rule, and whether by a useless score."""
    _judge(run)
    run.ending = "converged"
    if advice := advice_on_stopping(run):
        run.warnings.append(f"{STOPPED_BY_FLOOR} {advice}")


def end_stopped(run: Run) -> None:
    """Take note that the user has ended training, by Ctrl-C or a callback."""
    _judge(run)
    run.ending = "stopped"


def _judge(run: Run) -> None:
    """Take note of a divergence that has left the finite numbers alone, or come back to them."""
    _take_note_of_scores(run)
    first = run.first_loss
    if not run.n_iter or first is None:
        return
    largest, growth, last = run.largest_weight, run.growth, run.loss
    has_risen, zero = last > first, None
    if run.incremental:
        has_risen, last, zero = _judge_window(run, first)
    if has_risen or growth > GROWN or largest > SAFE:
        _look_at_losses(run, first, last, has_risen, growth, largest, zero)


def _judge_window(run: Run, first: float) -> tuple[bool, float, float | None]:
    """Add a call of `partial_fit` to the window of those that are judged together.

    The loss of scores of zero is computed only once the losses of a whole window have risen, from
    the next window on.

    Returns
    -------
    has_risen : bool
        Whether there are enough rows, with a mean loss far enough above the first to look closer.
    last : float
        Their mean loss.
    zero : float or None
        The mean loss that scores of zero would have; None if that is to be computed of this call.
    """
    weight, before = run.table.weight, run.window_before
    n = run.n_train if weight is None else int(np.count_nonzero(weight))
    n_rows, total, zero = before.n_rows + n, before.loss + n * run.loss, None
    if before.loss_of_zero_scores is not None:
        zero = before.loss_of_zero_scores + n * _loss_of_zero_scores(run)
    run.window, last = Window(n_rows, total, zero), run.loss
    if n_rows < ENOUGH_ROWS:
        return False, last, None
    last = total / n_rows
    # The first call has other rows, so that one may be a little above the other.
    has_risen = last > first + abs(first)
    run.window = Window(loss_of_zero_scores=0.0 if has_risen else None)
    is_one_call = before.n_rows == 0
    return has_risen and (zero is not None or is_one_call), last, zero and zero / n_rows


def end_unconverged(run: Run) -> None:
    """Take note that the epochs were used up, unless that is what the user wanted."""
    _judge(run)
    run.ending = "unconverged"
    if not run.incremental and run.plan.patience.n_epochs != math.inf:
        run.warnings.append(
            f"{USED_UP} ({run.plan.max_iter}) reached and the optimization hasn't converged yet. "
            f"{advice_on(run)}"
        )


def end_unconverged_lbfgs(run: Run, why: str) -> None:
    """Take note that SciPy has given up, and why."""
    _judge(run)
    run.ending = "unconverged"
    max_fun = getattr(run.plan.solver, "max_fun", math.inf)
    run.warnings.append(
        f"lbfgs failed to converge after {run.n_iter} iteration(s) ({why}). Increase max_iter "
        f"(now {run.plan.max_iter}) or max_fun (now {max_fun}), or scale X, for example with "
        "sklearn.preprocessing.StandardScaler."
    )


def end_out_of_time(run: Run) -> None:
    """Take note that the time was used up, and of what that has left."""
    _judge(run)
    run.ending = "time_limit"
    limit = f"{OUT_OF_TIME}{run.plan.time_limit:g} seconds are over after"
    if run.n_iter:
        unit = "iteration(s)" if run.plan.is_lbfgs else "epoch(s)"
        kept = f"the weights of number {run.best_iter} are kept"
        run.warnings.append(f"{limit} {run.n_iter} {unit}; {kept}.")
    else:
        run.warnings.append(
            f"{limit} less than an epoch, so nothing has been learned and the "
            "weights are those at the start. Raise time_limit, or train on fewer rows."
        )


def end_diverged(run: Run) -> None:
    """Take note of an error, or of a warning where there is a scored epoch to go back to."""
    _take_note_of_scores(run)
    run.ending = "diverged"
    _diverge(run, run.n_iter + 1, "the loss or a parameter is no longer finite")


def _take_note_of_scores(run: Run) -> None:
    if run.scores and run.course.best is None:
        run.warnings.append(
            "The validation score of no epoch is a finite number, so the weights of the last "
            f"are kept. Scale the data, {_scales(run)}"
        )


def _look_at_losses(
    run: Run,
    first: float,
    last: float,
    has_risen: bool,
    growth: float,
    largest: float,
    zero: float | None,
) -> None:
    best, worst = run.course.best, max(*run.losses, last)
    if best is None and (growth > GROWN or largest > SAFE):
        # The last step may have gone astray.
        loss = _loss_of_kept(run, whole=largest > SAFE)
        if not math.isfinite(loss):
            _diverge(
                run,
                run.n_iter,
                "the network's output on the training data is no longer finite, since its "
                f"largest weight is {largest:.3g}",
            )
            return
        if not run.incremental:
            last = max(last, loss)
            has_risen = has_risen or last > first + abs(first)
    has_own_score = run.plan.stopping is not None and run.plan.stopping.scoring is None
    score = best.score if best is not None and has_own_score else None
    symptoms = Symptoms(worst, last, has_risen, growth, largest, score)
    if symptoms.has_diverged(
        run.table.y, lambda: _loss_of_zero_scores(run) if zero is None else zero
    ):
        kept = "" if best is None else f" {_kept_epoch(run)}"
        run.warnings.append(
            f"Training diverged: the loss was {first:.3g} at first, {worst:.3g} at worst and "
            f"is {last:.3g} at last, and the largest weight is {largest:.3g}. "
            f"{_advice(run)}{kept}"
        )


def _loss_of_zero_scores(run: Run) -> float:
    return loss_of_zero_scores(run.table, run.train, run.objective)


def _loss_of_kept(run: Run, whole: bool) -> float:
    """Return the mean loss of what is kept, on the whole of the training rows or a sample.

    It is NaN if a score is not finite.
    """
    theta, statistics = run.kept.predicting
    parameters, rows = run.parameters.like(theta, statistics), run.train
    if not whole:
        rows = spread(run.table, rows, sum(run.network.widths))
    with np.errstate(all="ignore"):
        return loss_of(parameters, run.table, rows, run.objective)


def _diverge(run: Run, epoch: int, what: str) -> None:
    message = f"Training diverged in epoch {epoch}: {what}. {_advice(run)}"
    if run.course.best is None or run.incremental:  # a call that fails leaves nothing
        run.error = ValueError(message)
    else:
        run.warnings.append(f"{message} {_kept_epoch(run)}")


def _advice(run: Run) -> str:
    if run.plan.is_lbfgs:  # which has no learning rate
        return f"Scale the data, {_scales(run)}"
    return f"Lower learning_rate_init (now {run.plan.rate}), or scale the data, {_scales(run)}"


def _kept_epoch(run: Run) -> str:
    if run.incremental:
        return "The weights of the call with the best validation score are kept."
    return f"The weights of epoch {run.best_iter}, which had the best validation score, are kept."


def _scales(run: Run) -> str:
    """Return how to scale the data, and what they are like as they are."""
    return (
        "for example with sklearn.preprocessing.StandardScaler: the largest absolute value in "
        f"X is {largest_magnitude(run.table.X):.3g}, in the targets "
        f"{largest_magnitude(run.table.y):.3g}.{_penalty_on_light_rows(run)}"
    )


def _penalty_on_light_rows(run: Run) -> str:
    """Return what to do where the rows of a batch weigh so little that the penalty is all."""
    weight, alpha = run.table.weight, float(run.plan.penalty.alpha)
    of_a_batch = np.inf if weight is None else float(weight.mean()) * run.rows_at_once
    if of_a_batch >= alpha:
        return ""
    return (
        f" The rows of a batch have a sample_weight of about {of_a_batch:.3g}, by which the "
        f"penalty alpha={alpha:g} is divided: scale them to a mean of one, or lower alpha."
    )
