"""Base class of the tabular estimators: from a raw table to trained networks and predictions."""

from __future__ import annotations

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from .._sklearn import CallbackSupportMixin, Interval, StrOptions
from ..estimators._estimator_mixin import (
    EstimatorMixin,
    with_argument_suggestions,
    with_callbacks,
    with_parameter_validation,
)
from ..estimators._validation import prefix_errors, replace_attributes, shallow_copy
from ..nn.rows import Rows, row_vectors
from ..training.checks import validate_groups
from ..training.class_weight import check_total_weight
from ..training.diagnostics import warn
from ..training.jobs import JobCount
from ..training.splits import draw_folds, draw_group_folds
from ..training.targets import check_measured
from ..utils.arrays import Array, MatrixLike
from ._blended_estimators import AUTO, BOOSTING, choose_view, cross_fit, is_monotone
from ._model_inputs import FeatureBuilder, FeatureView, draw_seed
from ._networks import (
    VERY_MANY_ROWS,
    CycleCheckpoints,
    EnsembleSettings,
    TrainingData,
    count_affordable_networks,
    network_params,
    train_networks,
)
from ._prediction import TabularPredictionMixin, keep_background
from ._read_table import TableColumns, read_table
from ._table_encoding import CategoryFitter, FittedEncoding, UnscaledRows, fit_categories
from .encoder import TableEncoder

# The default number of networks of an ensemble. Above this number of rows half of them suffice,
# because networks differ less if they are trained on more rows.
N_ESTIMATORS, MAX_ROWS_OF_FULL_ENSEMBLE = 8, 200_000

# A further ensemble trains on after its first cycle if it lowers the loss of the earlier ensembles
# by this share. All cycles of a useless ensemble would take 40 % of a fit. On nine tables of labels
# and three splits, two gains were smaller, and one of 0.004 grew to 6 % in the end.
MIN_GAIN_OF_ENSEMBLE = 0.003

# With very many rows, boosting that lowers the out-of-fold loss by less than this share is not
# worth its time, which is several times that of the networks' predictions. About half of the gain
# is one of averaging, which the networks of a prediction have without boosting.
MIN_GAIN_OF_BOOSTING = 0.02


class BaseTabular(TabularPredictionMixin, CallbackSupportMixin, EstimatorMixin):
    """Base class of `TabularClassifier` and `TabularRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_estimators": [Interval(Integral, 2, None, closed="left"), StrOptions({AUTO})],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "column_kinds": [dict, None],
        "monotonic_cst": ["array-like", dict, None],
        "blend": [StrOptions({AUTO, BOOSTING}), list, tuple, None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, StrOptions({AUTO}), None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _configurations: ClassVar[Sequence[EnsembleSettings]]
    _target_type: Any  # the target_type of a TableEncoder; None for a single class
    _fit_categories: CategoryFitter = staticmethod(fit_categories)

    # Groups that a search or a pipeline routes to splitters are routed here as well.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    classes_: Array  # of a classifier

    n_estimators: Any
    categorical_features: Any
    column_kinds: Any
    monotonic_cst: Any
    blend: Any
    max_iter: int | None
    time_limit: float | None
    n_jobs: Any
    verbose: bool | int
    random_state: Any

    # ------------------------------------------------------- methods of subclasses

    @abstractmethod
    def _fit_targets(self, y: Array, weight: Array | None) -> None:
        """Set the attributes of the target, given a valid y and the user's weights."""

    def _training_weight(self, y: Array, weight: Array | None) -> Array | None:
        """Return the weights of rows with encoded targets, times the weights of their classes."""
        return weight

    @abstractmethod
    def _make_networks(self, params: dict[str, Any], rows: Rows) -> Any:
        """Return untrained networks for training rows."""

    @abstractmethod
    def _blended_estimators(self, n_rows: int) -> list[Any]:
        """Return the estimators of `blend` for a number of rows."""

    @abstractmethod
    def _fit_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Fit the weights of components to held-out outputs, and return the mixed outputs.

        The outputs of a component have the shape (1 or n_estimators, n, n_outputs). Out of fold
        they are those of one network for each row.
        """

    @abstractmethod
    def _mixture_loss(self, mixture: Array, y: Array, weight: Array | None) -> Any:
        """Return the loss of mixed outputs, which components must lower, or that of each target."""

    @abstractmethod
    def _fit_conformity(self, mixture: Array, rows: Rows, folds: Array | None) -> None:
        """Fit intervals or sets of labels to mixed outputs for held-out rows.

        `folds` has the network that held out each row; None for the rows of a validation table.
        """

    @abstractmethod
    def _set_out_of_fold(self, mixture: Array, y: Array, weight: Array | None) -> None:
        """Set the out-of-fold attributes, given mixed outputs and the user's weights."""

    # -------------------------------------------------------------------- training

    @with_argument_suggestions
    @with_callbacks
    @with_parameter_validation(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: MatrixLike | None = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        resume_from: str | PathLike[str] | None = None,
    ) -> Self:
        """Fit the networks, and the estimators of `blend`, to a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table. Values may be missing. Infinite numbers and columns of lists raise errors
            that suggest a remedy.
        y : array-like of shape (n_samples,), or for a regressor (n_samples, n_targets)
            The target, or several targets. Of several targets, some may be NaN, but not all of a
            row: they were not measured.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            The weight of each row, or of each of several targets, non-negative and not all zero;
            None for equal weights.
        X_val, y_val : data frame or array-like, default=None
            A validation table with the columns of X, and its target. All networks are then trained
            on all rows of X; early stopping, temperatures, weights and the width of intervals
            depend on X_val. There are no folds, and no attributes that begin with ``oof_``.
        sample_weight_val : array-like, default=None
            The weight of each row of X_val; None for equal weights.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, such as a patient or a day, as numbers or strings. All rows of a
            group are in the same fold, so out-of-fold results hold for new groups. At least two
            groups; with fewer groups than `n_estimators`, there are as many networks as groups.
            Ignored with X_val. With metadata routing, searches, pipelines and cross-validation pass
            groups to `fit` by default.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint` of an estimator with the same parameters, fitted to
            the same data. Networks resume training after the last complete training cycle, and end
            with exactly the same weights as without the interruption. The estimators of `blend` are
            not in the file, and are fitted again. Only ``verbose`` and ``random_state``, which has
            no effect, may differ from the first fit.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a column, y or a weight is not valid. The estimator is left unchanged.
        """
        end = math.inf if self.time_limit is None else time.perf_counter() + self.time_limit
        n_blended = 1 if isinstance(self.blend, str) else len(self.blend or ())
        n_components = len(self._configurations) + n_blended
        context = self._init_callback_context(max_subtasks=n_components)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        fitted = shallow_copy(self)
        for name in [name for name in vars(fitted) if name.startswith(("oof_", "_importances"))]:
            delattr(fitted, name)
        validation_data = X_val, y_val, sample_weight_val
        fitted._fit_table(X, y, sample_weight, validation_data, groups, resume_from, end, context)
        replace_attributes(self, fitted)
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)
        return self

    @np.errstate(all="ignore")  # values may be subnormal or huge, and np.seterr may raise
    def _fit_table(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: tuple[Any, Any, Any],
        groups: Any,
        resume_from: Any,
        end: float,
        context: Any,
    ) -> None:
        """Set the fitted attributes.

        `validation_data` are `X_val`, `y_val` and `sample_weight_val`. Training ends at the time
        `end` of `time.perf_counter`.
        """
        checkpoints = CycleCheckpoints(self, resume_from)
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        columns = read_table(self, X, reset=True)
        y, user_weight = self._validate_targets(y, sample_weight, columns.table)
        self._fit_targets(y, user_weight)
        y = self._encode_targets(y)
        weight = self._training_weight(y, user_weight)
        rng = checkpoints.start_stream(check_random_state(self.random_state))
        is_validated = any(part is not None for part in validation_data)
        group = None
        if groups is not None and not is_validated:
            group = validate_groups(groups, len(y))
        measured_y = y
        if weight is not None and weight.ndim == 2:
            measured_y = np.where(weight > 0, y, np.nan)
        held_out = rows = Rows(self._fit_features(columns, measured_y, group, rng), y, weight)
        if is_validated:
            held_out = self._read_validation(*validation_data)
        n_estimators = self._resolve_n_estimators(len(y))
        folds, held_out_parts = None, [*held_out.X, held_out.y, held_out.weight]
        if not is_validated:
            folds = self._make_folds(rows, group, n_estimators, rng)
            n_estimators, held_out_parts = int(folds.max()) + 1, [folds]
        checkpoints.check_data([*rows.X, y, weight, *held_out_parts])
        # A copy of the stream draws the same rows, however many seeds estimators draw.
        background_stream = copy.deepcopy(rng)
        data = TrainingData(
            rows,
            self._count_training_rows(len(y), folds),
            n_estimators,
            folds,
            held_out,
            rng,
            end,
            self,
            context,
            checkpoints,
            JobCount(self.n_jobs, 2 * 8 * len(y) * columns.table.shape[1]),
        )
        mixture = self._fit_mixture(self._fit_components(data), held_out.y, held_out.weight)
        self._fit_conformity(mixture, held_out, folds)
        if folds is not None:
            self.oof_member_ = folds
            self._set_out_of_fold(mixture, y, user_weight)
        self.background_ = keep_background(rows.X, weight, background_stream)

    def _count_training_rows(self, n_rows: int, folds: Array | None) -> int:
        """Return the number of training rows of the network with the largest fold."""
        return n_rows if folds is None else n_rows - int(np.bincount(folds).max())

    def _fit_features(
        self, columns: TableColumns, y: Array, group: Array | None, rng: RandomState
    ) -> UnscaledRows:
        """Set the features and kinds of columns, and return the training rows.

        With `verbose`, a line is printed for each column.
        """
        target_type = self._target_type
        settings = TableEncoder(
            self.categorical_features,
            column_kinds=self.column_kinds,
            target_type=target_type or "auto",
            random_state=rng,
        )
        encoding, rows = FittedEncoding.fit(
            columns,
            y if target_type else None,
            settings,
            group,
            True,
            self.monotonic_cst,
            self._fit_categories,
        )
        n_rows = self._count_training_rows(columns.n_rows, None)
        self._features = FeatureBuilder.from_encoding(encoding, rows, rng, n_rows)
        others = [item for item in self._blended_estimators(n_rows) if not is_monotone(item)]
        if others and any(encoding.constraints):
            raise ValueError(
                f"blend must hold no {type(others[0]).__name__} with monotonic_cst, got "
                f"{self.blend!r}, because only networks and gradient boosting of scikit-learn, "
                "without absolute errors or quantiles, have monotone predictions. Remove it, or "
                "set blend=None."
            )
        self.column_kinds_ = encoding.name_kinds(getattr(self, "feature_names_in_", None))
        if self.verbose:
            for line in encoding.describe_columns(columns, rows):
                print(f"[{type(self).__name__}] {line}", flush=True)
        return rows

    def _read_validation(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        """Return the user's validation rows."""
        if X is None or y is None:
            raise ValueError(
                f"X_val needs y_val, and y_val and sample_weight_val need X_val, but "
                f"{'X_val' if X is None else 'y_val'} is None. Pass X_val and y_val, or neither."
            )
        with prefix_errors("X_val, y_val"):
            columns = read_table(self, X, reset=False)
            y, user_weight = self._validate_targets(y, sample_weight, columns.table)
            y = self._encode_targets(y)
            weight = self._training_weight(y, user_weight)
            if weight is not None:
                class_weight = getattr(self, "class_weight", None)
                check_total_weight(weight.sum(), class_weight, sample_weight)
                check_measured(weight)
            return Rows(self._features.encoding.read_rows(columns), y, weight)

    def _make_folds(self, rows: Rows, group: Array | None, n_folds: int, rng: RandomState) -> Array:
        """Return the fold of each row; two rows, or groups, must have weight."""
        y, weight = rows.y, rows.weight
        target_mask = np.ones((len(y), 1), bool) if weight is None else row_vectors(weight) > 0
        units = np.arange(len(y)) if group is None else group
        n_units = min(len(np.unique(units[mask])) for mask in target_mask.T)
        if n_units < 2:
            unit = "row" if group is None else "group"
            raise ValueError(
                f"At least 2 {unit}s with a positive weight are needed for each target, one to "
                f"train on and one to hold out, got {n_units}, with n_samples={len(y)}. Pass more "
                f"{unit}s, or give more {unit}s a positive weight."
            )
        strata = y if is_classifier(self) else None
        has_weight = np.asarray(target_mask.any(axis=1))
        if not target_mask.all():
            # Rows with and without weight, for each target, are distributed evenly. Those of the
            # rarest target come last together, so folds share them, even if there are only two.
            codes = np.zeros(len(y), dtype=np.intp)
            for mask in target_mask.T[np.argsort(target_mask.sum(axis=0), kind="stable")]:
                _, codes = np.unique(2 * codes + mask, return_inverse=True)
            strata = codes if strata is None else codes * (strata.max() + 1) + strata
        if group is None:
            return draw_folds(len(y), min(n_folds, len(y)), rng, strata)
        n_folds = min(n_folds, len(np.unique(group[has_weight])))
        return draw_group_folds(group, n_folds, rng, strata, has_weight)

    def _default_n_estimators(self, n_rows: int) -> int:
        """Return `n_estimators`, or the number that "auto" chooses for a number of rows."""
        default = N_ESTIMATORS if n_rows <= MAX_ROWS_OF_FULL_ENSEMBLE else N_ESTIMATORS // 2
        return default if self.n_estimators == AUTO else int(self.n_estimators)

    def _resolve_n_estimators(self, n_rows: int) -> int:
        """Return the number of networks of each ensemble that the time limit allows."""
        n_estimators = self._default_n_estimators(n_rows)
        if self.time_limit is None:
            return n_estimators
        n_components = len(self._configurations) + len(self._blended_estimators(n_rows))
        n_affordable = count_affordable_networks(self, n_rows, self.time_limit / n_components)
        if n_affordable < n_estimators:
            warn(
                f"time_limit={self.time_limit:g} seconds suffice for {n_affordable} of "
                f"{n_estimators} networks in each ensemble. Increase time_limit, or fit a sample "
                "of the rows.",
                ConvergenceWarning,
            )
        return min(n_estimators, n_affordable)

    def _fit_components(self, data: TrainingData) -> list[Array]:
        """Fit all components, set the attributes for them, and return their held-out outputs.

        Each component gets an equal share of the time left. The estimators of `blend` come first.
        One network ensemble is always trained, since networks can use any time. With very many
        rows, the boosting of "auto" is kept only if it improves the mixture.
        """
        n_rows = len(data.rows.y)
        # With very many rows, a second ensemble would double the time of predictions without a gain
        # in accuracy.
        configurations = self._configurations[: 1 if n_rows > VERY_MANY_ROWS else None]
        n_networks = len(configurations)
        blend = self._blended_estimators(n_rows)
        n_components = n_networks + len(blend)
        # Each component has its own stream, so components do not affect each other.
        rngs = [RandomState(draw_seed(data.rng)) for _ in range(n_components)]

        def data_for(component: int, view: FeatureView, n_left: int) -> TrainingData:
            make_input = self._features.make_training_input
            rows = held_out = replace(data.rows, X=make_input(data.rows.X, view))
            if data.folds is None:
                held_out = replace(data.held_out, X=make_input(data.held_out.X, view))
            now = time.perf_counter()
            end, rng = now + (data.end - now) / n_left, rngs[component]
            return data._replace(rows=rows, held_out=held_out, rng=rng, end=end)

        networks, outputs, first_outputs = list[Any](), list[Array](), list[Array]()
        is_stopped = False

        def is_promising(cycle_outputs: Array) -> bool:
            mixtures = [first_outputs.copy(), outputs]
            first_outputs.append(cycle_outputs)
            return not networks or self._improves_mixture(
                cycle_outputs, mixtures, data.held_out, MIN_GAIN_OF_ENSEMBLE
            )

        results = [
            cross_fit(item, data_for(n_networks + i, choose_view(item), n_components - i))
            for i, item in enumerate(blend)
        ]
        blended = [result for result in results if result is not None]
        for index, defaults in enumerate(configurations):
            if networks and (is_stopped or time.perf_counter() >= data.end):
                break
            part = data_for(index, defaults.view, n_networks - index)
            ensemble = self._make_ensemble(defaults, part)
            ensemble, ensemble_outputs, is_stopped = train_networks(
                ensemble, index + 1, part, is_promising
            )
            networks.append(ensemble)
            outputs.append(ensemble_outputs)
        if self.blend == AUTO and n_rows > VERY_MANY_ROWS and blended:
            _, boosted_outputs = blended[0]
            gain = MIN_GAIN_OF_BOOSTING
            if not self._improves_mixture(boosted_outputs, [outputs], data.held_out, gain):
                blended = []
        self.networks_ = networks
        self._blended = [component for component, _ in blended]
        self.n_iter_ = np.array([item.n_iter_ for item in networks])
        self.blended_ = [component.estimators for component in self._blended]
        return outputs + [blended_outputs for _, blended_outputs in blended]

    def _make_ensemble(self, defaults: EnsembleSettings, data: TrainingData) -> Any:
        """Return the untrained networks of an ensemble."""
        features = self._features
        n_blocks = features.n_blocks if defaults.view == "embedded" else 0
        sizes, constraints = (data.n_train, data.n_estimators), features.encoded_constraints
        params = network_params(defaults, n_blocks, *sizes, constraints)
        networks = self._make_networks(params | {"random_state": draw_seed(data.rng)}, data.rows)
        if constraints:
            networks.init = replace(networks.init, n_monotone=networks.layers[0].n_monotone)
        return networks

    def _improves_mixture(
        self, outputs: Array, mixtures: Sequence[list[Array]], rows: Rows, min_gain: float
    ) -> bool:
        """Return whether a component improves one of several mixtures enough, for any target.

        Parameters
        ----------
        outputs : array
            The held-out outputs of the component.
        mixtures : sequence of lists of arrays
            The outputs of the other components in each mixture.
        rows : Rows
            The held-out rows.
        min_gain : float
            The share of the loss of a mixture that the component must remove.
        """

        def loss_of_mixture(components: Sequence[Array]) -> Any:
            mixture = shallow_copy(self)._fit_mixture(components, rows.y, rows.weight)
            return self._mixture_loss(mixture, rows.y, rows.weight)

        for components in mixtures:
            loss, mixture = loss_of_mixture(components), loss_of_mixture([*components, outputs])
            if np.any(loss - mixture > min_gain * loss):
                return True
        return False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


def split_held_out(n_rows: int, weight: Array | None, folds: Array | None) -> list[Array]:
    """Return the indices of the rows with weight in each fold; without folds, of all rows."""
    folds = np.zeros(n_rows, dtype=np.intp) if folds is None else folds
    has_weight = True if weight is None else weight > 0
    return [np.flatnonzero(has_weight & (folds == fold)) for fold in range(folds.max() + 1)]
