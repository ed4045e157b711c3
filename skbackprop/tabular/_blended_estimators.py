"""Other estimators in a tabular ensemble: the `blend` parameter, and a clone for each fold."""

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

from .._sklearn import fit_boosting
from ..losses.base import Loss
from ..losses.regression import AbsoluteError, Gamma, Poisson, Quantile, SquaredError
from ..nn.rows import Rows, split_targets
from ..training.diagnostics import warn
from ..training.jobs import run_jobs
from ..training.resources import openmp_limit
from ..utils.arrays import Array, IndexArray
from ._model_inputs import FeatureView, draw_seed
from ._networks import TrainingData

AUTO, BOOSTING = "auto", "boosting"
BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)

# Chosen on ten tables of 1,000 to 2,000 rows by the test loss of the mixture. Combined with
# networks, trees that see half of the columns in each split and end in small leaves gain more than
# the default ones. On 20 to 25 tables of numbers, all columns, 31 leaves, a rate of 0.1, a Poisson
# loss and scikit-learn's settings gained nothing. 16 leaves at a rate of 0.15 are as accurate as 31
# leaves at 0.05, and take two fifths of the time.
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.15,
    "max_iter": 1000,
    "max_leaf_nodes": 16,
    "max_features": 0.5,
    "min_samples_leaf": 5,
    "early_stopping": True,
    "n_iter_no_change": 20,
}

# Chosen on six tables and three seeds. With up to 400 training rows boosting gained nothing on
# average, and cost up to a quarter of the error with 12; with 800 rows it gained 1.6 percent.
MIN_ROWS_OF_AUTO = 500

# The losses that gradient boosting supports, with their names in scikit-learn.
_LOSSES: dict[type[Loss], str] = {
    SquaredError: "squared_error",
    AbsoluteError: "absolute_error",
    Poisson: "poisson",
    Gamma: "gamma",
    Quantile: "quantile",
}


def resolve_blend(
    blend: Any, n_rows: int, loss: Loss | None = None, setting: Any = None
) -> list[Any]:
    """Return the estimators of a parameter `blend`.

    Parameters
    ----------
    blend : "auto", "boosting", list or None
        The parameter; a list holds estimators or "boosting". "auto" is "boosting" from
        `MIN_ROWS_OF_AUTO` rows on, with a loss that boosting has, and None otherwise.
    n_rows : int
        The number of training rows.
    loss : Loss or None, default=None
        The loss of the networks of a regressor; None for classifiers.
    setting : str or Loss, default=None
        The value of the parameter `loss`.

    Raises
    ------
    TypeError, ValueError
        If it holds anything else, or estimators that cannot be averaged with the networks.
    """
    if isinstance(blend, str) and blend == AUTO:
        has_loss = loss is None or (type(loss) in _LOSSES and loss.n_outputs_per_target == 1)
        blend = BOOSTING if has_loss and n_rows >= MIN_ROWS_OF_AUTO else None
    items = [blend] if isinstance(blend, str) else list(blend or [])
    if items and loss is not None and loss.n_outputs_per_target > 1:
        raise ValueError(
            f"blend must be None with loss={setting!r}, got {blend!r}. The networks predict "
            "several numbers for each target, which cannot be averaged with the one of other "
            "estimators. Set blend=None, or a loss with one prediction."
        )
    estimators = []
    for item in items:
        if isinstance(item, str) and item == BOOSTING:
            if loss is None:
                item = HistGradientBoostingClassifier(**_SETTINGS)
            elif type(loss) in _LOSSES:
                quantile = float(loss.quantiles[0]) if isinstance(loss, Quantile) else None
                item = HistGradientBoostingRegressor(
                    loss=_LOSSES[type(loss)], quantile=quantile, **_SETTINGS
                )
            else:
                raise ValueError(
                    f'blend="{BOOSTING}" has no loss like loss={setting!r}. Set loss to one of '
                    f"{', '.join(_LOSSES.values())}, or set blend to None or to a list of "
                    "regressors with their own losses."
                )
        elif isinstance(item, (str, type)) or not hasattr(item, "fit"):
            raise TypeError(
                f'blend must hold estimators, or "{BOOSTING}", got {item!r}. Pass '
                f'blend="{BOOSTING}", or a list such as [RandomForestClassifier()].'
            )
        elif loss is None and not (is_classifier(item) and hasattr(item, "predict_proba")):
            raise ValueError(
                f"blend must hold classifiers, got {item!r}, which has no predict_proba. Pass "
                "another classifier, or wrap this one in "
                "sklearn.calibration.CalibratedClassifierCV."
            )
        elif loss is not None and not is_regressor(item):
            raise ValueError(f"blend must hold regressors, got {item!r}, which is not a regressor.")
        estimators.append(item)
    return estimators


def is_monotone(estimator: Any) -> bool:
    """Return whether an estimator can have constraints.

    With absolute errors or quantiles, boosting sets leaves to medians or quantiles of residuals,
    which need not have the order of the constraints.
    """
    return isinstance(estimator, BOOSTED) and estimator.loss not in ("absolute_error", "quantile")


# With a time limit, gradient boosting starts with this number of trees and then doubles it.
_FIRST_TREES = 10

# Boosting rejects columns without values. It chooses bins on a sample of 200,000 rows, in which a
# column with a smaller share of values than this may have none.
_MIN_SHARE_OF_VALUES = 1e-4

# Probabilities below this are treated as zero.
MIN_PROBABILITY = 1e-4


@dataclass(frozen=True, eq=False)
class CrossFittedEstimators:
    """Clones of an estimator, one for each fold; a single one if there are validation rows.

    Parameters
    ----------
    view : FeatureView
        The representation of rows that the estimators take.
    estimators : sequence of estimators
        The fitted clones.
    n_classes : int or None
        The number of classes; None for numbers.
    minimum : float
        The lower bound of predicted numbers.
    n_targets : int
        The number of targets. The clones of a fold, one for each target, follow each other.
    """

    view: FeatureView
    estimators: Sequence[Any]
    n_classes: int | None
    minimum: float
    n_targets: int
    max_matmul_size: ClassVar[int] = 0  # its products are not known

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may predict at once; only boosting is known to allow it."""
        return all(isinstance(item, (*BOOSTED, DummyClassifier)) for item in self.estimators)

    def outputs(self, X: Array, single_precision: bool = False, member: int | None = None) -> Array:
        """Return the logits, or the predicted numbers, of all clones or of one.

        Returns
        -------
        outputs : array of shape (n_folds, n, n_logits) or (n_folds, n, n_targets, 1)
            In double precision.

        Raises
        ------
        ValueError
            If predictions are not finite, or do not have the right shape.
        """
        X = X.astype(np.float64, copy=False)
        n_targets, members = self.n_targets, slice(None)
        if member is not None:
            members = slice(n_targets * member, n_targets * (member + 1))
        outputs = np.array([self._predict_outputs(item, X) for item in self.estimators[members]])
        if self.n_classes is not None:
            return outputs
        return outputs.reshape(-1, n_targets, len(X), 1).swapaxes(1, 2)

    def _predict_outputs(self, estimator: Any, X: Array) -> Array:
        """Return the outputs of a clone, of shape (n, n_outputs)."""
        # A clone may not have seen all classes.
        n_columns = 1 if self.n_classes is None else len(estimator.classes_)
        predict = estimator.predict if self.n_classes is None else estimator.predict_proba
        with openmp_limit(X.size):
            predictions = np.asarray(predict(X), dtype=np.float64)
        if predictions.size != len(X) * n_columns or not np.isfinite(predictions).all():
            raise ValueError(
                f"{estimator!r} in blend returns an array of shape {predictions.shape}, or numbers "
                "that are not finite, but must predict one number for each row, or a probability "
                "for each of its classes_. Correct it, or remove it from blend."
            )
        if self.n_classes is None:
            return np.maximum(predictions.reshape(len(X), 1), self.minimum)
        shares = np.zeros((len(X), self.n_classes))
        shares[:, estimator.classes_] = predictions
        logs = np.log(np.maximum(shares, MIN_PROBABILITY))
        return np.asarray(logs if self.n_classes > 2 else logs[:, 1:] - logs[:, :1])


def cross_fit(estimator: Any, data: TrainingData) -> tuple[CrossFittedEstimators, Array] | None:
    """Fit a clone of an estimator for each fold.

    Parameters
    ----------
    estimator : estimator
        The estimator.
    data : TrainingData
        The data.

    Returns
    -------
    component : CrossFittedEstimators
        The fitted clones.
    outputs : array of shape (1, n, n_outputs)
        The out-of-fold outputs, or the outputs for validation rows. The function returns None if
        the time limit does not allow all folds.
    """
    n_classes = len(data.estimator.classes_) if is_classifier(estimator) else None
    rows, held_out = data.rows, data.held_out
    # In double precision, other rows do not affect the prediction of a row.
    X = rows.X[:].astype(np.float64, copy=False)
    targets = split_targets(rows.y, rows.weight), split_targets(held_out.y, held_out.weight)
    parts = [
        data._replace(rows=Rows(X, *target), held_out=Rows(held_out.X, *held_out_target))
        for target, held_out_target in zip(*targets, strict=True)
    ]
    n_clones = 1 if data.folds is None else data.n_estimators
    task = data.context.subcontext("blend", max_subtasks=n_clones)
    task.call_on_fit_task_begin(estimator=data.estimator)
    start = time.perf_counter()
    clones = _fit_clones(estimator, parts, n_clones, task)
    task.call_on_fit_task_end(estimator=data.estimator)
    if len(clones) < n_clones * len(parts):
        share = data.end - start
        warn(
            f"{type(estimator).__name__} is left out of the blend: training it on all {n_clones} "
            f"folds would exceed its share of time_limit, {max(share, 0):.2g} seconds. Increase "
            "time_limit to keep it.",
            ConvergenceWarning,
        )
        return None
    minimum = -np.inf
    if n_classes is None and data.estimator._targets.loss.interval_y_true.low == 0:
        minimum = float(np.finfo(np.float32).tiny)
    view = choose_view(estimator)
    component = CrossFittedEstimators(view, clones, n_classes, minimum, len(parts))
    if data.folds is None:
        return component, component.outputs(held_out.X[:])
    folds = [np.flatnonzero(data.folds == fold) for fold in range(n_clones)]
    by_fold = [component.outputs(X[index], member=i)[0] for i, index in enumerate(folds)]
    outputs = np.concatenate(by_fold)[np.argsort(np.concatenate(folds))]
    return component, outputs[np.newaxis]


def choose_view(estimator: Any) -> FeatureView:
    """Return the view of rows for an estimator; boosting reads the table itself."""
    return "table" if isinstance(estimator, BOOSTED) else "encoded"


def _fit_clones(
    estimator: Any, parts: Sequence[TrainingData], n_clones: int, task: Any
) -> list[Any]:
    """Fit clones side by side, as many at a time as there are jobs, as long as the time allows.

    Parameters
    ----------
    estimator : estimator
        The estimator.
    parts : sequence of TrainingData
        The data of each target.
    n_clones : int
        The number of clones for each target.
    task : CallbackContext
        The task that has a subtask for each fold.

    Returns
    -------
    clones : list of estimators
        The fitted clones, those of a fold one after the other.
    """
    data = parts[0]
    start = time.perf_counter()
    share = data.end - start
    clones = list[Any]()
    n_done = 0
    while n_done < n_clones:
        seconds, n_left = time.perf_counter() - start, n_clones - n_done
        budget = share - seconds
        seconds_left = seconds / n_done * n_left if n_done else 0.0
        is_boosting = isinstance(estimator, BOOSTED)  # boosting has its own time limit
        if budget <= 0 or (seconds_left > budget and not is_boosting):
            break
        n_jobs = min(data.jobs.resolve(seconds_left), n_left)
        # Only a time limit makes it necessary to wait for some before others begin.
        n_next = n_left if n_jobs > 1 and math.isinf(data.end) else n_jobs
        time_limit = budget / -(-n_left // n_jobs) / len(parts)
        fold_tasks = []
        arguments = []
        for fold in range(n_done, n_done + n_next):
            fold_tasks.append(task.subcontext("fold"))
            fold_tasks[-1].call_on_fit_task_begin(estimator=data.estimator)
            for part in parts:
                model = _make_clone(estimator, part, fold)
                arguments.append((model, part.rows, part.held_out, part.folds, fold, time_limit))
        clones += run_jobs(_fit_clone, arguments, n_jobs)
        n_done += n_next
        for fold_task in fold_tasks:
            fold_task.call_on_fit_task_end(estimator=data.estimator)
    for model in clones:
        if isinstance(model, BOOSTED):
            use_ordinal_table(model, data.estimator._features.categorical_mask)
    return clones


def _make_clone(estimator: Any, data: TrainingData, fold: int) -> Any:
    """Return a clone with the settings for the data, and with drawn seeds."""
    features, rows = data.estimator._features, data.rows
    if is_classifier(estimator):
        is_train = _is_in_training(rows, data.folds, fold)
        if (rows.y[is_train] == rows.y[is_train][0]).all():
            return DummyClassifier()
    model = clone(estimator)
    if any(features.table_constraints):
        model.set_params(monotonic_cst=features.table_constraints)
    # Draw a seed for each random_state that is None, so that the fit is reproducible.
    for name, value in sorted(model.get_params().items()):
        if name.split("__")[-1] == "random_state" and value is None:
            model.set_params(**{name: draw_seed(data.rng)})
    if isinstance(model, BOOSTED) and isinstance(model.categorical_features, str):  # "from_dtype"
        mask = features.categorical_mask
        model.set_params(categorical_features=mask if mask.any() else None)
    return model


def _fit_clone(
    model: Any, rows: Rows, held_out: Rows, folds: Array | None, fold: int, seconds: float
) -> Any:
    """Fit an estimator for a single target to all rows except those of a fold, and return it."""
    try:
        X, y, weight = _select_rows(rows, _is_in_training(rows, folds, fold))
        takes_weight = weight is not None and has_fit_parameter(model, "sample_weight")
        arguments = {"sample_weight": weight} if takes_weight else {}
        if not isinstance(model, BOOSTED):
            return model.fit(X, y, **arguments)
        # Trees ignore columns without values, because constants are never split.
        X[:, np.isnan(X).mean(axis=0) > 1 - _MIN_SHARE_OF_VALUES] = 0.0
        if model.early_stopping is True:
            arguments |= _select_validation(model, held_out, y, folds, fold)
        with openmp_limit(X.size), np.errstate(over="ignore"):  # midpoints of huge values overflow
            _fit_boosting(model, X, y, arguments, seconds)
    except Exception as error:
        error.add_note(f"Raised by {model!r} of blend, in fold {fold}.")
        raise
    return model


def _is_in_training(rows: Rows, folds: Array | None, fold: int) -> Array:
    """Return the rows with weight outside of a fold; without folds, all rows with weight."""
    is_train = np.ones(len(rows.y), dtype=bool) if folds is None else folds != fold
    return is_train if rows.weight is None else is_train & (rows.weight > 0)


def _select_validation(
    model: Any, held_out: Rows, y: Array, folds: Array | None, fold: int
) -> dict[str, Any]:
    """Return the arguments of `fit` for early stopping, by held-out rows of a known class."""
    is_used = np.ones(len(held_out.y), bool) if folds is None else folds == fold
    if is_classifier(model):
        is_used &= np.isin(held_out.y, y)
    X_val, y_val, weight_val = _select_rows(held_out, is_used)
    if not len(y_val):
        model.set_params(validation_fraction=None)
        return {}
    X_val = X_val.astype(np.float64, copy=False)
    return {"X_val": X_val, "y_val": y_val, "sample_weight_val": weight_val}


def _select_rows(rows: Rows, is_selected: Array) -> tuple[Array, Array, Array | None]:
    """Return the input, the target and the weights of selected rows that have weight."""
    if rows.weight is None:
        return rows.X[is_selected], rows.y[is_selected], None
    is_selected = is_selected & (rows.weight > 0)
    return rows.X[is_selected], rows.y[is_selected], rows.weight[is_selected]


def _fit_boosting(model: Any, X: Array, y: Array, options: dict[str, Any], seconds: float) -> None:
    """Fit gradient boosting as far as the time allows.

    With a time limit, warm starts at most double the number of trees as long as there is time.
    """
    if math.isinf(seconds):
        fit_boosting(model, X, y, **options)
        return
    start, n_trees = time.perf_counter(), model.max_iter
    model.set_params(warm_start=True, max_iter=min(_FIRST_TREES, n_trees))
    fit_boosting(model, X, y, **options)
    while model.n_iter_ == model.max_iter < n_trees:
        duration = time.perf_counter() - start
        n_more = min(model.n_iter_, int(model.n_iter_ * (seconds - duration) / duration))
        if n_more < 1:
            break
        model.set_params(max_iter=min(n_trees, model.n_iter_ + n_more))
        fit_boosting(model, X, y, **options)
    model.set_params(warm_start=False, max_iter=n_trees)


# ----------------------------------------------------- categories in gradient boosting

# Codes of categories are from 0 to 255, as gradient boosting allows.
_N_CODES = 256


@dataclass(frozen=True, eq=False)
class OrdinalTable:
    """Ordinal encoding of columns of codes, in place of scikit-learn's in gradient boosting.

    It gives the same values. Scikit-learn's encoder takes longer than the trees for a few rows.

    Parameters
    ----------
    columns : array of int of shape (n_columns,)
        The order in which the trees number the columns: those of codes first.
    ordinals : array of shape (n_coded, 257)
        The ordinal of each code, NaN for codes that were not seen in training. The last place is
        for missing values.
    """

    columns: IndexArray
    ordinals: Array

    def transform(self, X: Array) -> Array:
        """Return rows with ordinals in place of codes, and the columns in their order."""
        X = np.asarray(X, dtype=np.float64)[:, self.columns]
        coded = slice(len(self.ordinals))
        codes = np.nan_to_num(X[:, coded], nan=_N_CODES).astype(np.intp)
        X[:, coded] = self.ordinals[np.arange(len(self.ordinals)), codes]
        return X


def use_ordinal_table(boosting: Any, categorical_mask: Array) -> None:
    """Replace the encoding of categories of fitted gradient boosting by a table, in place.

    Predictions stay the same.

    Parameters
    ----------
    boosting : estimator
        The fitted estimator.
    categorical_mask : array of bool of shape (n_columns,)
        The columns that hold codes from 0 to 255, or NaN. If others are categorical, the encoding
        stays as it is.
    """
    is_categorical = boosting.is_categorical_
    if is_categorical is None or (is_categorical & ~categorical_mask).any():
        return
    categories = boosting._preprocessor.named_transformers_["encoder"].categories_
    ordinals = np.full((len(categories), _N_CODES + 1), np.nan)
    for row, column_categories in zip(ordinals, categories, strict=True):
        codes = column_categories[~np.isnan(column_categories)].astype(np.intp)
        row[codes] = np.arange(len(codes))
    columns = np.argsort(~is_categorical, kind="stable")
    boosting._preprocessor = OrdinalTable(columns, ordinals)
