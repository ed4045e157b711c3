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

from ..training.callbacks import TrainingInterrupted
from ..training.config import TrainingConfig, is_lbfgs
from ..training.loop import make_training_loop
from ..training.partial_fit_session import PartialFitSession, make_partial_fit_session
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingRun
from ..utils.arrays import MatrixLike
from ._callbacks import CallbackRunner
from ._checkpoint_io import resume, resume_runs
from ._data_info import DataInfo, FitArguments, FitContext, ValidatedData
from ._decorators import with_callbacks
from ._fit_setup import FitSetupMixin
from ._mixins import suggests_arguments


class BaseNeuralNetwork(CallbackSupportMixin, FitSetupMixin):
    """Base of all estimators; not to be used directly."""

    # As a splitter's: what a search or a pipeline is given for groups is for early stopping too.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @classmethod
    @cache
    def _get_param_names(cls) -> Any:
        # scikit-learn reads the signature each time, which a search does for every fit four times.
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
        """Train, and leave the estimator as it was if that fails.

        A KeyboardInterrupt during training keeps what the complete epochs have reached.
        """
        continues = (incremental or self.warm_start) and hasattr(self, "coefs_")
        planned, learned, data = self._checked(given, continues, incremental, classes)
        session = self._resume_session(planned.config, learned, data) if incremental else None
        go_back = session.undo if session else self._make_rollback(continues, incremental)
        try:
            if session is None:
                starts = (
                    self._resumed_initial_states()
                    if continues
                    else self._new_initial_states(planned.config)
                )
                runs = self._runs(planned.config, learned, data, starts, incremental)
                session = make_partial_fit_session(runs, self.random_state) if incremental else None
            else:
                runs = [session.run]
            before = None
            if given.resume_from is not None:
                before = resume(self, runs, Path(given.resume_from))
            if given.checkpoint is not None:
                resume_runs(runs, *given.checkpoint)
            prepared = FitContext(planned, learned, data, runs, before)
            loop = make_training_loop(runs) if session is None else session.loop
            if incremental or not hasattr(self, "_skl_callbacks"):
                interrupt = loop.train()
            else:
                fitted_by = partial(self._fitted_by, prepared, continues)
                interrupt = CallbackRunner(self, given, runs, fitted_by).train(loop)
            if interrupt is not None and not _can_be_kept(runs, hasattr(self, "coefs_")):
                raise interrupt
            if not isinstance(interrupt, TrainingInterrupted):  # by which the rows may be gone
                interrupt = fit_temperature_scaling(runs) or interrupt
            self._keep(prepared, continues, session)
        except BaseException:
            go_back()
            raise
        if interrupt is not None:
            raise interrupt
        return self

    def _make_rollback(self, continues: bool, incremental: bool) -> Callable[[], None]:
        """Return what sets the random streams back to where they are now."""
        rngs = self._streams(continues, incremental)
        positions = [rng.get_state(legacy=False) for rng in rngs]

        def go_back() -> None:
            for rng, position in zip(rngs, positions, strict=True):
                rng.set_state(position)

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
        rngs = [rng for each in past for rng in each.state.rngs]
        if self.random_state is None or isinstance(self.random_state, np.random.RandomState):
            rngs.append(check_random_state(self.random_state))
        return rngs

    def _resume_session(
        self, config: TrainingConfig, learned: DataInfo, data: ValidatedData
    ) -> PartialFitSession | None:
        """Return the run of the last `partial_fit`, made to go on, if nothing else has come since.

        That is another fit, or what the user has changed: parameters, weights or their like.
        """
        session = self._partial_fit_session
        if session is None or session.past is None or not session.accepts(data.table):
            return None
        run, known = session.run, vars(self)
        is_the_last = (
            config is run.config
            and learned.loss is run.objective.loss
            and known.get("_training", [None])[0] is session.past
            and known.get("t_") == run.n_samples_seen
        )
        if not (is_the_last and self._holds(run.shown, learned.network)):
            return None
        session.continue_with(self._problem(config, learned, run.objective, data, incremental=True))
        return session

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _can_be_kept(runs: list[TrainingRun], was_fitted: bool) -> bool:
    """Return whether what an interrupt has left of the runs is worth more than what was before."""
    is_trained = [run.n_iter > 0 for run in runs]
    if any(run.error is not None for run in runs) or (any(is_trained) and not all(is_trained)):
        return False
    # One epoch that was not completed, as by partial_fit, has left nothing.
    return all(is_trained) or not (was_fitted or runs[0].incremental)
