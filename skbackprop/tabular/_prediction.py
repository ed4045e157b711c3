"""Predictions for any number of rows: part by part, in several threads, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..training.blas_threads import threads_for_stacks, with_blas_limit
from ..utils.arrays import Array
from ._components import FoldEnsemble
from ._dataframe import AnyColumns
from ._features import WIDTH, FeatureBuilder

# Rows, and numbers in their widest view, that are predicted at once.
_ROWS_AT_ONCE = 2048
_NUMBERS_AT_ONCE = 1 << 22

# Of more rows networks predict in single precision. That takes less than half the time, and
# differs by some millionths from what they say of fewer.
MANY_ROWS = 4096

Item = TypeVar("Item")
Result = TypeVar("Result")
Mix = Callable[[list[Array]], Array]


def predict_in_blocks(
    columns: AnyColumns, inputs: FeatureBuilder, components: Sequence[FoldEnsemble], mix: Mix
) -> Array:
    """Return what is made of what components say of the rows of a table.

    Parameters
    ----------
    columns : AnyColumns
        The table.
    inputs : Inputs
        What makes views of its rows.
    components : sequence of Component
        Those that are asked.
    mix : callable
        Returns predictions of a list with what each component says, of shape
        (n_estimators, n, n_outputs), for any number n of rows.

    Returns
    -------
    predictions : array of shape (n_rows, ...)
    """
    n_rows, views = columns.n_rows, {each.view for each in components}
    in_single = n_rows > MANY_ROWS

    def of(part: AnyColumns) -> Array:
        rows = inputs.rows(part)
        seen = {view: inputs.transform(rows, view) for view in views}
        return mix([each.outputs(seen[each.view], in_single) for each in components])

    width = inputs.n_encoded + inputs.n_blocks * WIDTH
    n_at_once = min(_ROWS_AT_ONCE, max(1, _NUMBERS_AT_ONCE // width))
    if n_rows <= n_at_once:
        return of(columns)
    parts = [slice(start, start + n_at_once) for start in range(0, n_rows, n_at_once)]
    is_thread_safe = all(each.is_thread_safe for each in components)
    n_threads = min(threads_for_stacks(), len(parts)) if is_thread_safe else 1
    largest = max(each.max_matmul_size for each in components)
    found = with_blas_limit(
        lambda: thread_map(lambda part: of(columns.part(part)), parts, n_threads),
        largest,
        n_side_by_side=n_threads,
    )
    return np.concatenate(found)


def thread_map(of: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> list[Result]:
    """Return what comes of each item; an error, or Ctrl-C, ends all that has not begun."""
    if n_threads == 1:
        return [of(item) for item in items]
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            return list(pool.map(of, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
