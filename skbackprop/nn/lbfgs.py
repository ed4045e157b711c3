"""L-BFGS training of one network on all rows at once, through SciPy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from scipy import optimize

from ..optimizers import LBFGS
from ..utils.arrays import Array, BufferPool, IndexArray
from .data_loader import Batch, DataLoader, Dataset
from .objective import DivergenceError, LossAndGradient, Objective, PenaltyGradient, fsum_or_nan
from .parameters import FlatParameters
from .stack_trainer import TimeLimit


class EvaluationLog:
    """Values and gradients of an objective, in the order of evaluation.

    A repeated optimization reads the cached evaluations first, and then adds to them.

    Parameters
    ----------
    start : array of shape (p,)
        The parameters of the first evaluation.
    values : list of float
        The values.
    gradients : list of arrays of shape (p,)
        The gradients.
    """

    def __init__(self, start: Array, values: list[float], gradients: list[Array]) -> None:
        self.start, self.values, self.gradients = start, values, gradients
        self._n_read = 0

    @property
    def is_known(self) -> bool:
        """Whether the next evaluation is cached."""
        return self._n_read < len(self.values)

    def next(self, evaluate: Callable[[], tuple[float, Array]]) -> tuple[float, Array]:
        """Return the next value and gradient, evaluated if they are not cached."""
        if not self.is_known:
            value, gradient = evaluate()
            self.values.append(value)
            self.gradients.append(gradient)
        i, self._n_read = self._n_read, self._n_read + 1
        return self.values[i], self.gradients[i].copy()

    def to_arrays(self) -> dict[str, Array]:
        """Return the evaluations as arrays by name."""
        n = len(self.start)
        gradients = np.array(self.gradients).reshape(-1, n)
        return {"start": self.start, "values": np.array(self.values), "gradients": gradients}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> EvaluationLog:
        """Return the evaluations that `to_arrays` has described."""
        values, gradients = arrays["values"].tolist(), list(arrays["gradients"])
        return cls(arrays["start"], values, gradients)


class FullBatchLoss:
    """Mean loss over all rows, without the penalty, and its gradient.

    The gradients of blocks of rows are summed, so memory is bounded.

    Parameters
    ----------
    objective : Objective
        The objective of one network; its penalty is not used.
    parameters : FlatParameters
        Its parameters, which are only read.
    table : Dataset
        The data.
    order : IndexArray or None
        The rows to use; None for all.
    row_block : int
        The number of rows of a block.
    time_limit : TimeLimit or None, default=None
        The time limit, checked before each block.

    Attributes
    ----------
    gradients : FlatParameters
        The gradient.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: FlatParameters,
        table: Dataset,
        order: IndexArray | None,
        row_block: int,
        time_limit: TimeLimit | None = None,
    ) -> None:
        n_rows = table.n_rows if order is None else len(order)
        self._objective, self._parameters = objective, parameters
        self._time_limit = time_limit
        self.gradients = parameters.with_theta(np.empty_like(parameters.theta))
        self._sum = np.empty_like(parameters.theta)
        self._pool = BufferPool(parameters.dtype)
        self._batches = DataLoader(
            [table], [order], [min(row_block, n_rows)], self._pool, mean_over="epoch"
        )
        self._bound: dict[int, LossAndGradient] = {}

    @property
    def total(self) -> float:
        """The total weight of all rows, over which the loss is averaged."""
        return float(self._batches.total_weights.item())

    def __call__(self) -> list[float]:
        """Write the gradient of the mean to `gradients`; return the sums of the blocks' losses.

        Losses are multiplied by the weights of their rows; the sums are not divided.
        """
        self._sum[...] = 0
        losses: list[float] = []
        for chunk in self._batches.chunks():
            batches: Iterable[Batch] = chunk.batches
            if self._time_limit is not None:
                batches = self._time_limit.iter_until_reached(batches)
            gradient = self._gradient(chunk.batch_size)
            for batch in batches:
                gradient.backward_loss(batch)
                self._sum += self.gradients.theta
            losses += self._objective.batch_losses(chunk)[0].tolist()
        np.copyto(self.gradients.theta, self._sum)
        return losses

    def _gradient(self, n_rows: int) -> LossAndGradient:
        if n_rows not in self._bound:
            self._bound[n_rows] = LossAndGradient(
                self._objective,
                self._parameters,
                self.gradients,
                n_rows,
                self._pool,
                self._batches.is_sparse,
            )
        return self._bound[n_rows]


class FullBatchObjective:
    """Objective of one network over all rows, as a function of its flat parameters.

    It includes the smooth part of the penalty. The gradients of blocks of rows are summed, so
    memory is bounded.

    Parameters
    ----------
    objective : Objective
        The objective of one network.
    parameters : FlatParameters
        The parameters of the network; each call overwrites them.
    table : Dataset
        The data.
    order : IndexArray or None
        The training rows; None for all.
    row_block : int
        The number of rows of a block.
    time_limit : TimeLimit or None, default=None
        The time limit, checked before each block.
    evaluations : EvaluationCache or None, default=None
        The cache of evaluations; None for no cache.

    Attributes
    ----------
    l1 : float
        The factor of sum(|W|), the part of the penalty that is not included.
    bounds : None
        The parameters have no bounds.
    """

    bounds = None

    def __init__(
        self,
        objective: Objective,
        parameters: FlatParameters,
        table: Dataset,
        order: IndexArray | None,
        row_block: int,
        time_limit: TimeLimit | None = None,
        evaluations: EvaluationLog | None = None,
    ) -> None:
        self._evaluations = evaluations
        smooth = replace(objective, penalty=objective.penalty.smooth)
        self.objective, self.parameters = smooth, parameters
        self._loss = FullBatchLoss(smooth, parameters, table, order, row_block, time_limit)
        self.gradients = self._loss.gradients
        self._add_penalty = PenaltyGradient(
            smooth.penalty, parameters, self.gradients, BufferPool(parameters.dtype)
        )
        self._total = self._loss.total
        self.l1 = objective.penalty.l1 / self._total

    def start(self) -> Array:
        """Return a copy of the current parameters, the starting point."""
        theta: Array = self.parameters.theta[0].copy()
        return theta

    def theta_at(self, x: Array) -> Array:
        """Return the flat parameters at a point of the search, the point itself."""
        return x

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the value at the flat parameters `x`, and a new array with the gradient."""
        self.parameters.theta[0] = x
        if self._evaluations is not None:
            return self._evaluations.next(self._evaluate)
        return self._evaluate()

    def _evaluate(self) -> tuple[float, Array]:
        losses = self._loss()
        measure = self._add_penalty(self._total)
        losses += self.objective.penalty.value(measure).tolist()
        return fsum_or_nan(losses) / self._total, self.gradients.theta[0].copy()

    def excess(self, x: Array) -> float:
        """Return by how much the value at `x` exceeds the objective: it is the objective itself."""
        return 0.0

    def penalty(self, x: Array) -> float:
        """Return the penalty at `x`."""
        penalty, n = self.objective.penalty, self.parameters.regularized.shape[1]
        return float(penalty.value(penalty.accumulate(x[None, :n])).item() / self._total)


class BoundConstrainedL1:
    """Objective with an L1 penalty, as a smooth function of the positive and negative weights.

    With W = P - N and P, N >= 0 the penalty is l1 * sum(P + N), which is linear. At the minimum one
    of the two is zero, and the penalty is l1 * sum(|W|) (Schmidt et al. 2007).

    Parameters
    ----------
    objective : FullBatchObjective
        The objective without the L1 penalty.
    """

    def __init__(self, objective: FullBatchObjective) -> None:
        self._smooth = objective
        self._n = n = objective.parameters.regularized.shape[1]
        n_free = objective.parameters.theta.shape[1] - n
        self.bounds = optimize.Bounds(np.repeat([0.0, -np.inf], [2 * n, n_free]), np.inf)

    def start(self) -> Array:
        """Return (P, N, biases) of the current parameters, the starting point."""
        theta = self._smooth.start()
        weights, biases = theta[: self._n], theta[self._n :]
        return np.concatenate([np.maximum(weights, 0), np.maximum(-weights, 0), biases])

    def theta_at(self, x: Array) -> Array:
        """Return the flat parameters at (P, N, biases)."""
        n = self._n
        return np.concatenate([x[:n] - x[n : 2 * n], x[2 * n :]])

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the value at (P, N, biases), and a new array with the gradient."""
        l1, n = self._smooth.l1, self._n
        value, g = self._smooth(self.theta_at(x))
        return value + self._l1_penalty(x), np.concatenate([l1 + g[:n], l1 - g[:n], g[n:]])

    def excess(self, x: Array) -> float:
        """Return by how much the value at `x` exceeds the objective, where P and N overlap."""
        return float(2 * self._smooth.l1 * np.minimum(x[: self._n], x[self._n : 2 * self._n]).sum())

    def penalty(self, x: Array) -> float:
        """Return the penalty of W = P - N."""
        return self._smooth.penalty(self.theta_at(x)) + self._l1_penalty(x) - self.excess(x)

    def _l1_penalty(self, x: Array) -> float:
        return float(self._smooth.l1 * x[: 2 * self._n].sum())


def minimize(
    objective: FullBatchObjective,
    lbfgs: LBFGS,
    *,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[float], bool],
    on_evaluation: Callable[[], None] = lambda: None,
) -> optimize.OptimizeResult:
    """Minimize an objective over all rows by L-BFGS (Byrd et al. 1995), through SciPy.

    Parameters
    ----------
    objective : FullBatchObjective
        The objective. On return its parameters are those of the result; if something is raised,
        those of the last complete iteration.
    lbfgs : LBFGS
        The number of corrections and the limit on evaluations.
    max_iter : int
        The maximum number of iterations.
    tol : float
        The largest component of the gradient at which the optimization has converged.
    on_iteration : callable
        Called after each iteration with the reported loss, while the parameters are those of the
        iteration; returns whether to stop.
    on_evaluation : callable
        Called before each evaluation of the objective. By default it does nothing.

    Returns
    -------
    result : scipy.optimize.OptimizeResult
        SciPy's result, with the reported loss as `fun`.

    Raises
    ------
    DivergenceError
        If the loss is not finite at the starting point or at the end.
    """
    theta = objective.parameters.theta
    iterate = theta[0].copy()
    smooth = BoundConstrainedL1(objective) if objective.l1 else objective
    not_reported = 1 - 1 / objective.objective.loss_normalizer

    def reported(at: optimize.OptimizeResult) -> float:
        value = float(at.fun) - smooth.excess(at.x)
        return value - not_reported * (value - smooth.penalty(at.x))

    def evaluate(x: Array) -> tuple[float, Array]:
        on_evaluation()
        return smooth(x)

    def callback(intermediate_result: optimize.OptimizeResult) -> None:
        theta[0] = iterate[:] = smooth.theta_at(intermediate_result.x)
        try:
            is_last = on_iteration(reported(intermediate_result))
        except StopIteration as error:  # SciPy would stop silently
            raise RuntimeError("A callback has raised StopIteration.") from error
        if is_last:
            raise StopIteration

    try:
        with np.errstate(all="ignore"):
            result = optimize.minimize(
                evaluate,
                smooth.start(),
                method="L-BFGS-B",
                jac=True,
                bounds=smooth.bounds,
                callback=callback,
                options={
                    "maxcor": lbfgs.n_corrections,
                    "maxfun": lbfgs.max_fun,
                    "maxiter": max_iter,
                    "gtol": tol,
                },
            )
        if not (np.isfinite(result.fun) and np.isfinite(result.x).all()):
            raise DivergenceError(np.array([True]))
    except BaseException:
        theta[0] = iterate
        raise
    theta[0] = smooth.theta_at(result.x)
    result.fun = reported(result)
    return result
