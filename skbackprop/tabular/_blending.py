"""Other estimators in a tabular ensemble: one clone for each fold."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import has_fit_parameter

from ..losses.base import Loss
from ..losses.regression import AbsoluteError, Gamma, Poisson, Quantile, SquaredError
from ..training._warnings import warn
from ..utils.arrays import Array
from ._components import FoldEnsemble, FoldEnsembleFactory, TrainingData
from ._features import FeatureView, draw_seed

BOOSTING = "boosting"
BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)

# Found out of fold on ten tables. Beside networks, trees that see half of the columns in each split
# and end in few rows bring more than the default's, on numbers most of all.
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 1000,
    "max_features": 0.5,
    "min_samples_leaf": 5,
    "early_stopping": True,
    "n_iter_no_change": 20,
}

# The losses that boosting has as well, by the names that it has for them.
_LOSSES: dict[type[Loss], str] = {
    SquaredError: "squared_error",
    AbsoluteError: "absolute_error",
    Poisson: "poisson",
    Gamma: "gamma",
    Quantile: "quantile",
}


def n_extra_estimators(blend: Any) -> int:
    """Return the number of estimators that a parameter `blend` names."""
    return len(_listed(blend))


def resolve_classifiers(blend: Any) -> list[Any]:
    """Return the classifiers that a parameter `blend` means.

    Parameters
    ----------
    blend : None, "boosting" or list
        What the user has set; a list holds estimators, or "boosting".

    Raises
    ------
    TypeError, ValueError
        If it holds something else, or estimators that have no probabilities.
    """
    found = []
    for each in _listed(blend):
        if _is_boosting(each):
            found.append(HistGradientBoostingClassifier(**_SETTINGS))
            continue
        if not (is_classifier(each) and hasattr(each, "predict_proba")):
            raise ValueError(
                f"blend holds {each!r}, which has no predict_proba, so that it has no "
                "probabilities to be averaged. Pass a classifier that has, or put this one into "
                "sklearn.calibration.CalibratedClassifierCV."
            )
        found.append(each)
    return found


def resolve_regressors(blend: Any, loss: Loss, setting: Any) -> list[Any]:
    """Return the regressors that a parameter `blend` means, beside networks with a loss.

    Parameters
    ----------
    blend : None, "boosting" or list
        What the user has set; a list holds estimators, or "boosting".
    loss : Loss
        What networks learn by.
    setting : str or Loss
        How the user names it.

    Raises
    ------
    TypeError, ValueError
        If it holds something else, or estimators that do not predict what networks with the loss
        do.
    """
    listed = _listed(blend)
    if listed and loss.n_outputs_per_target > 1:
        raise ValueError(
            f"loss={setting!r} has networks predict several numbers for each target, and other "
            f"estimators predict one, so that they cannot be averaged. Set blend=None, not "
            f"{blend!r}, or a loss with one prediction."
        )
    found = []
    for each in listed:
        if _is_boosting(each):
            own = _loss_of_boosting(loss, setting)
            found.append(HistGradientBoostingRegressor(**_SETTINGS, **own))
            continue
        if not is_regressor(each):
            raise ValueError(
                f"blend holds {each!r}, which is no regressor, so that it has no numbers to be "
                "averaged. Pass a regressor."
            )
        found.append(each)
    return found


def _listed(blend: Any) -> list[Any]:
    return [blend] if isinstance(blend, str) else list(blend or [])


def _is_boosting(each: Any) -> bool:
    """Return whether a member of a list is "boosting"; raise an error if it is no estimator."""
    if isinstance(each, str) and each == BOOSTING:
        return True
    if isinstance(each, (str, type)) or not hasattr(each, "fit"):
        raise TypeError(
            f'blend holds {each!r}, and must hold estimators, or "{BOOSTING}". Pass '
            f'blend="{BOOSTING}", or a list such as [RandomForestClassifier()].'
        )
    return False


def _loss_of_boosting(loss: Loss, setting: Any) -> dict[str, Any]:
    """Return the parameters by which boosting has the same loss."""
    name = _LOSSES.get(type(loss))
    if name is None:
        raise ValueError(
            f'blend="{BOOSTING}" has no loss like loss={setting!r}: it has '
            f"{', '.join(_LOSSES.values())}. Set one of these, or blend a list of regressors that "
            "learn by a loss of their own."
        )
    if isinstance(loss, Quantile):
        (level,) = loss.quantiles
        return {"loss": name, "quantile": float(level)}
    return {"loss": name}


# Trees in the first part of a training that is not to take long; each part has as many as were
# there before.
_FEW_TREES = 10

# Below, a probability is as good as zero.
_LEAST = 1e-4


@dataclass(frozen=True)
class OutputAdapter:
    """What is taken of estimators: logits of classes, or predictions of numbers.

    Parameters
    ----------
    n_classes : int or None
        The number of classes; None for numbers.
    least : float
        The least that a number may be.
    """

    n_classes: int | None
    least: float

    def of(self, estimator: Any, X: Array) -> Array:
        """Return what a fitted estimator says of rows, of shape (n, n_outputs).

        Of the classes it may not have seen all.

        Raises
        ------
        ValueError
            If it is not finite, or not one number for each row, or each class of it.
        """
        if self.n_classes is None:
            said = np.asarray(estimator.predict(X), dtype=np.float64)
            _check_size(estimator, said, len(X))
            said = said.reshape(len(X), 1)
        else:
            shares, classes = np.asarray(estimator.predict_proba(X)), estimator.classes_
            _check_size(estimator, shares, len(X) * len(classes))
            said = np.zeros((len(X), self.n_classes))
            said[:, classes] = shares
        if not np.isfinite(said).all():
            raise ValueError(
                f"{estimator!r} in blend predicts what is not finite. Train it alone to see why, "
                "or leave it out."
            )
        if self.n_classes is None:
            return np.maximum(said, self.least)
        logs = np.log(np.maximum(said, _LEAST))
        return np.asarray(logs if self.n_classes > 2 else logs[:, 1:] - logs[:, :1])


def _check_size(estimator: Any, said: Array, size: int) -> None:
    if said.size != size:
        raise ValueError(
            f"{estimator!r} in blend returns an array of shape {said.shape}, but has to predict "
            "one number for each row, or a probability for each of its classes_."
        )


@dataclass(frozen=True, eq=False)
class CrossFittedEstimators(FoldEnsemble):
    """Clones of an estimator: one for each fold, or one where there are rows to watch.

    Parameters
    ----------
    view : View
        How they see rows.
    estimators : list of estimators
        The clones, fitted.
    taken : Taken
        What is taken of them.
    """

    view: FeatureView
    estimators: Sequence[Any]
    taken: OutputAdapter

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask them at once, which is known of boosting."""
        return all(isinstance(each, (*BOOSTED, DummyClassifier)) for each in self.estimators)

    def outputs(self, X: Array, in_single: bool = False) -> Array:
        """Return what each clone says of rows, of shape (n_estimators, n, n_outputs)."""
        X = _in_double(X)
        return np.array([self.taken.of(each, X) for each in self.estimators])

    def outputs_of(self, member: int, X: Array) -> Array:
        """Return what one clone says of rows, of shape (n, n_outputs)."""
        return self.taken.of(self.estimators[member], _in_double(X))


@dataclass(frozen=True, eq=False)
class CrossFittedFactory(FoldEnsembleFactory):
    """An estimator that is cloned for each fold.

    Parameters
    ----------
    view : View
        How it sees rows.
    estimator : estimator
        What is cloned.
    taken : Taken
        What is taken of it.
    is_nominal : array of bool of shape (n_inputs,)
        The columns of the view "table" that hold categories.
    """

    view: FeatureView
    estimator: Any
    taken: OutputAdapter
    is_nominal: Array
    can_use_any_time: ClassVar[bool] = False

    @classmethod
    def of(cls, estimator: Any, taken: OutputAdapter, is_nominal: Array) -> CrossFittedFactory:
        """Return the kind of an estimator: boosting sees the table, others encoded rows."""
        view: FeatureView = "table" if isinstance(estimator, BOOSTED) else "encoded"
        return cls(view, estimator, taken, is_nominal)

    def train(self, training: TrainingData) -> tuple[FoldEnsemble, Array] | None:
        """Return a clone for each fold, trained, and what they say of rows not trained on.

        None if the time does not suffice for all folds.
        """
        training = training._replace(X=_in_double(training.X))
        n_clones = 1 if training.folds is None else training.n_estimators
        task = training.context.subcontext("blend", max_subtasks=n_clones)
        task.call_on_fit_task_begin(estimator=training.estimator)
        start, clones = time.perf_counter(), list[Any]()
        for fold in range(n_clones):
            spent, n_to_come = time.perf_counter() - start, n_clones - fold
            left = training.time_limit - spent
            if clones and not self._is_boosting and spent / fold * n_to_come > left:
                break
            of_fold = task.subcontext("fold")
            of_fold.call_on_fit_task_begin(estimator=training.estimator)
            try:
                clones.append(self._fitted(training, fold, left / n_to_come))
            except Exception as error:
                error.add_note(f"It is {self.estimator!r} of blend that raised it, fold {fold}.")
                raise
            of_fold.call_on_fit_task_end(estimator=training.estimator)
        task.call_on_fit_task_end(estimator=training.estimator)
        name, spent = type(self.estimator).__name__, time.perf_counter() - start
        training.progress.print_line(f"blend, {name}: {len(clones)} folds in {spent:.1f}s")
        if len(clones) == n_clones:
            component = CrossFittedEstimators(self.view, clones, self.taken)
            return component, self._of_others(component, training)
        warn(
            f"{type(self.estimator).__name__} is left out of the blend: training it for all "
            f"{n_clones} folds would take longer than its part of time_limit, "
            f"{training.time_limit:.2g} seconds.",
            ConvergenceWarning,
        )
        return None

    def _of_others(self, component: CrossFittedEstimators, training: TrainingData) -> Array:
        """Return what clones say of rows that they were not trained on."""
        X, folds = training.X, training.folds
        if training.watched is not None:
            return component.outputs(training.watched.X)
        assert folds is not None
        rows = [np.flatnonzero(folds == fold) for fold in range(training.n_estimators)]
        pairs = zip(component.estimators, rows, strict=True)
        by_fold = [self.taken.of(each, X[own]) for each, own in pairs]
        said = np.empty((1, len(X), by_fold[0].shape[1]))
        said[0, np.concatenate(rows)] = np.concatenate(by_fold)
        return said

    @property
    def _is_boosting(self) -> bool:
        return isinstance(self.estimator, BOOSTED)

    def _fitted(self, training: TrainingData, fold: int, seconds: float) -> Any:
        """Return a clone that is trained on all rows but those of a fold."""
        X, y, weight, folds = training.X, training.y, training.weight, training.folds
        rows = np.ones(len(y), dtype=bool) if folds is None else folds != fold
        if weight is not None:
            rows &= weight > 0
        X, y = X[rows], y[rows]
        if self.taken.n_classes is not None and (y == y[0]).all():
            return DummyClassifier().fit(X, y)
        own = clone(self.estimator)
        own.set_params(**_seeds(own, training.rng))
        weighted = {}
        if weight is not None and has_fit_parameter(own, "sample_weight"):
            weighted["sample_weight"] = weight[rows]
        if not self._is_boosting:
            return own.fit(X, y, **weighted)
        if isinstance(own.categorical_features, str):  # as the dtype of the table's columns says
            own.set_params(categorical_features=self.is_nominal if self.is_nominal.any() else None)
        if own.early_stopping is True:
            others = _to_stop_by(training, fold, np.unique(y))
            weighted |= others
            if not others:
                own.set_params(validation_fraction=None)
        with np.errstate(over="ignore"):  # between values that are next to infinite
            return _boosted(own, X, y, weighted, seconds)


def _in_double(X: Array) -> Array:
    """Return rows in double precision, in which what is said does not depend on the rows beside."""
    return X.astype(np.float64, copy=False)


def _to_stop_by(training: TrainingData, fold: int, known: Array) -> dict[str, Any]:
    """Return what boosting stops by: the rows that it holds out, or those that are watched.

    Only those count whose class is among those that are `known`. There may be none.
    """
    X, y, weight = training.X, training.y, training.weight
    rows = np.ones(len(y), dtype=bool) if training.folds is None else training.folds == fold
    if training.watched is not None:
        X, y, weight = training.watched
        rows = np.ones(len(y), dtype=bool)
    if is_classifier(training.estimator):
        rows &= np.isin(y, known)
    if weight is not None:
        rows &= weight > 0
    if not rows.any():
        return {}
    found = {"X_val": _in_double(X[rows]), "y_val": y[rows]}
    return found if weight is None else found | {"sample_weight_val": weight[rows]}


def _boosted(own: Any, X: Array, y: Array, more: dict[str, Any], seconds: float) -> Any:
    """Return boosting, trained as far as the time allows.

    Where it does not go on for ever, there are more and more trees: what was there before is seen
    again, which takes less than what is new.
    """
    if math.isinf(seconds):
        return own.fit(X, y, **more)
    start, n_trees = time.perf_counter(), own.max_iter
    own.set_params(warm_start=True, max_iter=min(_FEW_TREES, n_trees)).fit(X, y, **more)
    while own.n_iter_ == own.max_iter < n_trees:
        spent = time.perf_counter() - start
        n_more = min(own.n_iter_, int(own.n_iter_ * (seconds - spent) / spent))
        if n_more < 1:
            break
        own.set_params(max_iter=min(n_trees, own.n_iter_ + n_more)).fit(X, y, **more)
    return own.set_params(warm_start=False, max_iter=n_trees)


def _seeds(estimator: Any, rng: np.random.RandomState) -> dict[str, int]:
    """Draw a seed for each `random_state` of an estimator, and of its parts, that is None."""
    parameters = estimator.get_params()
    names = [name for name in sorted(parameters) if name.split("__")[-1] == "random_state"]
    return {name: draw_seed(rng) for name in names if parameters[name] is None}
