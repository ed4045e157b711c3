"""The `fit` of all estimators: check the input, train, set the fitted attributes.

It is all or nothing: a fit that fails leaves the estimator as it was.
"""

from __future__ import annotations

from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state

from ..training.config import TrainingConfig, is_lbfgs
from ..training.loop import TrainingLoop
from ..training.partial_fit_session import PartialFitSession, make_partial_fit_session
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingInterrupted, TrainingRun
from ..utils.arrays import MatrixLike
from ._callbacks import CallbackRunner
from ._checkpoint_io import resume, resume_runs
from ._decorators import with_callbacks
from ._fit_context import DataInfo, FitArguments, FitContext, ValidatedData
from ._fit_setup import FitSetupMixin
from ._mixins import suggests_arguments


class BaseNeuralNetwork(CallbackSupportMixin, FitSetupMixin):
    """Base of all estimators; not to be used directly."""

    # As for splitters: groups given to a search or a pipeline are passed on to early stopping.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, four times for every fit of a search.
        return super()._get_param_names()

    @suggests_arguments
    @with_callbacks
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
            The weight of each row, non-negative and not all zero; None for equal weights.
        X_val, y_val : array-like, default=None
            Validation data, not trained on. The loss on it is recorded after each epoch in
            `validation_loss_curve_`, and `early_stopping` uses it instead of a share of X. In a
            `Pipeline`, ``transform_input=["X_val"]`` transforms it like X.
        sample_weight_val : array-like, default=None
            The weight of each validation row; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint` from an estimator with the same parameters and the
            same data. Training resumes from it, and ends with exactly the weights of an
            uninterrupted fit. ``max_iter`` may be higher.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, such as a patient or a day, as numbers or strings.
            `early_stopping` then holds out whole groups, so that validation scores and
            out-of-fold predictions are honest for new groups. Without effect if no rows are held
            out. With metadata routing, groups given to a search, a pipeline or cross-validation
            are passed on without a request.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            stays as it was.
        KeyboardInterrupt
            On Ctrl-C, which keeps the last complete epoch. Before the end of the first epoch, a
            fitted estimator stays as it was, and a new one gets its initial weights, with
            ``n_iter_`` 0.
        """
        given = FitArguments(
            X, y, sample_weight, X_val, y_val, sample_weight_val, resume_from, groups
        )
        return self._train(given)

    def _check_stochastic(self) -> bool:
        if is_lbfgs(self.solver):
            raise AttributeError(
                "partial_fit is only available for stochastic solvers, got "
                f"solver={self.solver!r}. Choose another solver, or use warm_start=True with fit."
            )
        return True

    def _train(self, given: FitArguments, incremental: bool = False, classes: Any = None) -> Self:
        """Check the input, train, and set the fitted attributes.

        If anything fails, the estimator and its random streams stay as they were. Ctrl-C during
        training keeps the last complete epoch.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        planned, learned, data = self._checked(given, continues, incremental, classes)
        session = self._resume_session(planned.config, learned, data) if incremental else None
        rngs = [] if session else self._used_streams(continues, incremental)
        positions = [rng.get_state(legacy=False) for rng in rngs]
        try:
            if session is not None:
                runs = [session.run]
            else:
                starts = self._starts(planned.config, data.table if continues else None)
                runs = self._runs(planned.config, learned, data, starts, incremental)
                if incremental:
                    session = make_partial_fit_session(runs, self.random_state)
            before = None
            if given.resume_from is not None:
                before = resume(self, runs, Path(given.resume_from))
            if given.checkpoint is not None:
                resume_runs(runs, *given.checkpoint)
            prepared = FitContext(planned, learned, data, runs, before)
            loop = TrainingLoop(runs) if session is None else session.loop
            if incremental or not hasattr(self, "_skl_callbacks"):
                interrupt = loop.train()
            else:
                interrupt = CallbackRunner(self, given, prepared, continues).train(loop)
            if interrupt is not None and not _is_worth_keeping(runs, hasattr(self, "coefs_")):
                raise interrupt
            if not isinstance(interrupt, TrainingInterrupted):  # after which rows may be lost
                interrupt = fit_temperature_scaling(runs) or interrupt
            self._keep(prepared, continues, session)
        except BaseException:
            for rng, position in zip(rngs, positions, strict=True):
                rng.set_state(position)
            if session is not None:
                session.restore_rng()
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _used_streams(self, continues: bool, incremental: bool) -> list[np.random.RandomState]:
        """Return the random streams that a fit draws from: the user's or the estimator's own.

        A failed fit resets them. Training on copies would not do: two threads would draw the same
        numbers from copies of NumPy's global stream, and a copy takes as long as a step on a batch
        of a few rows.
        """
        if continues and incremental and not self.shuffle:
            return []  # nothing is drawn
        past = getattr(self, "_training", []) if continues else []
        rngs = [rng for each in past for rng in each.state.rngs]
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            rngs.append(check_random_state(self.random_state))
        return rngs

    def _resume_session(
        self, config: TrainingConfig, learned: DataInfo, data: ValidatedData
    ) -> PartialFitSession | None:
        """Return the session of the last `partial_fit`, prepared for the new rows.

        None if there is none, the rows do not fit, or anything has changed since: by another fit,
        or by the user in parameters or fitted attributes.
        """
        session = self._partial_fit_session
        if session is None or session.past is None or not session.accepts(data.table):
            return None
        run, known = session.run, vars(self)
        is_unchanged = (
            config is run.config
            and learned.loss is run.objective.loss
            and known.get("_training", [None])[0] is session.past
            and known.get("t_") == run.n_samples_seen
        )
        if not (is_unchanged and self._holds(run.shown, learned.network)):
            return None
        session.continue_with(self._problem(config, learned, run.objective, data, incremental=True))
        return session

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _is_worth_keeping(runs: list[TrainingRun], was_fitted: bool) -> bool:
    """Return whether the runs after an interrupt are worth more than the state before the fit."""
    is_trained = [run.n_iter > 0 for run in runs]
    if any(run.error is not None for run in runs) or (any(is_trained) and not all(is_trained)):
        return False
    # An incomplete first epoch, as of partial_fit, has changed nothing.
    return all(is_trained) or not (was_fitted or runs[0].incremental)
