"""What all estimators share: `fit`, which prepares runs, trains them, and keeps what came of them.

It is all or nothing: a fit that fails leaves the estimator as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state

from ..core.arrays import MatrixLike
from ..fitting.interrupts import INTERRUPTS, BrokenOff, Interrupt
from ..fitting.pieces import Pieces, pieces_of
from ..fitting.plan import Plan, is_lbfgs
from ..fitting.run import Run
from ..fitting.temperature import calibrate
from ..fitting.training import train
from .decorators import with_callbacks
from .hooks import Hooks
from .learned import Data, Given, Learned, Prepared
from .preparing import Preparing
from .resumable import resume
from .suggesting import suggests_arguments


class BaseBackprop(CallbackSupportMixin, Preparing):
    """Base of all estimators; not to be used directly."""

    # As a splitter's: what a search or a pipeline is given for groups is for early stopping too.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, which a search does for every fit four times.
        return super()._get_param_names()

    @suggests_arguments
    def fit(
        self,
        X: MatrixLike,
        y: MatrixLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: MatrixLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        resume_from: str | PathLike[str] | None = None,
        groups: MatrixLike | None = None,
    ) -> Self:
        """Train the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input, without missing values.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.
        X_val, y_val : array-like, default=None
            Rows like X and y that are not trained on: their loss is recorded after each epoch in
            `validation_loss_curve_`, and `early_stopping` goes by them in place of a share of X.
            In a `Pipeline` with ``transform_input=["X_val"]`` they come transformed as X does.
        sample_weight_val : array-like, default=None
            The weight of each of them; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint`, of an estimator with the same parameters that was
            fitted to the same data: training goes on from there, and ends with the very same
            weights as if it had never been interrupted. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, a number or a word: rows of one patient, say, or of one day. What
            `early_stopping` holds out is whole groups, so that the score that training ends by, and
            what is found out of fold, are true of new groups. Without effect where nothing is held
            out. With metadata routing, groups that are given to a search, a pipeline or to
            cross-validation come here without a request.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if training diverges. The estimator
            is then left as it was.
        KeyboardInterrupt
            On Ctrl-C, which keeps the last complete epoch. Before the first one is complete, an
            estimator that was fitted is left as it was; one that was not has its initial
            weights, with an ``n_iter_`` of 0.
        """
        given = Given(X, y, sample_weight, X_val, y_val, sample_weight_val, resume_from, groups)
        return self._fit_followed(given)

    def _check_stochastic(self) -> bool:
        if is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got "
                f"solver={self.solver!r}. Choose another solver, or use warm_start=True with fit."
            )
        return True

    @with_callbacks
    def _fit_followed(self, given: Given) -> Self:
        """Train as a whole fit; whatever happens, callbacks are torn down."""
        return self._train(given, incremental=False)

    def _train(self, given: Given, incremental: bool, classes: Any = None) -> Self:
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        planned, learned, data = self._checked(given, continues, incremental, classes)
        pieces = self._further_pieces(planned.plan, learned, data) if incremental else None
        go_back = pieces.undo if pieces else self._way_back(continues, incremental)
        try:
            if pieces is None:
                starts = self._known_starts() if continues else self._new_starts(planned.plan)
                runs = self._runs(planned.plan, learned, data, starts, incremental)
                pieces = pieces_of(runs, self.random_state) if incremental else None
            else:
                runs = [pieces.run]
            before = None
            if given.resume_from is not None:
                before = resume(self, runs, Path(given.resume_from))
            prepared = Prepared(planned, learned, data, runs, before)
            if pieces is not None:
                interrupt = pieces.train()
            elif incremental or not hasattr(self, "_skl_callbacks"):
                interrupt = train(runs)
            else:
                interrupt = self._train_with_callbacks(given, prepared, continues)
            if interrupt is not None and not _can_be_kept(runs, hasattr(self, "coefs_")):
                raise interrupt
            if not isinstance(interrupt, BrokenOff):  # by which the rows may be gone
                interrupt = calibrate(runs) or interrupt
            self._keep(prepared, continues, pieces)
        except BaseException:
            go_back()
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _train_with_callbacks(
        self, given: Given, prepared: Prepared, continues: bool
    ) -> Interrupt | None:
        """Train, and call the hooks of the user's callbacks; return the interrupt, if any."""
        hooks = Hooks(self, given, prepared.runs, partial(self._fitted_by, prepared, continues))
        hooks.begin()
        interrupt = train(prepared.runs, hooks)
        if interrupt is None:
            try:
                hooks.end(prepared.runs)
            except INTERRUPTS as late:  # training is over, and kept
                return late
        return interrupt

    def _way_back(self, continues: bool, incremental: bool) -> Callable[[], None]:
        """Return what sets the random streams back to where they are now."""
        streams = self._streams(continues, incremental)
        positions = [stream.get_state(legacy=False) for stream in streams]

        def go_back() -> None:
            for stream, position in zip(streams, positions, strict=True):
                stream.set_state(position)

        return go_back

    def _streams(self, continues: bool, incremental: bool) -> list[np.random.RandomState]:
        """Return the random streams that a fit draws from, which a failure leaves where they are.

        They are the user's, NumPy's global one, or the estimator's own. Copies would not do: two
        threads would draw the same from those of the global one, and a copy takes as long as a
        step on a batch of a few rows.
        """
        if continues and incremental and not self.shuffle:
            return []  # nothing is drawn
        past = getattr(self, "_training", []) if continues else []
        streams = [stream for each in past for stream in each.state.streams]
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            streams.append(check_random_state(self.random_state))
        return streams

    def _further_pieces(self, plan: Plan, learned: Learned, data: Data) -> Pieces | None:
        """Return the run of the last `partial_fit`, made to go on, if nothing else has come since.

        That is another fit, or what the user has changed: parameters, weights or their like.
        """
        pieces = self._pieces
        if pieces is None or pieces.past is None or not pieces.takes(data.table):
            return None
        run, known = pieces.run, vars(self)
        is_the_last = (
            plan is run.plan
            and learned.loss is run.objective.loss
            and known.get("_training", [None])[0] is pieces.past
            and known.get("t_") == run.n_seen
        )
        if not (is_the_last and self._holds(run.shown, learned.network)):
            return None
        pieces.go_on(self._problem(plan, learned, run.objective, data, incremental=True))
        return pieces

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _can_be_kept(runs: list[Run], was_fitted: bool) -> bool:
    """Return whether what an interrupt has left of the runs is worth more than what was before."""
    is_trained = [run.n_iter > 0 for run in runs]
    if any(run.error is not None for run in runs) or (any(is_trained) and not all(is_trained)):
        return False
    # One epoch that was not completed, as by partial_fit, has left nothing.
    return all(is_trained) or not (was_fitted or runs[0].incremental)
