"""Base class of the tabular estimators: from a raw table to trained networks and predictions."""

from __future__ import annotations

import copy
import math
import time
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.callback import CallbackSupportMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch, check_consistent_length, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Interval, StrOptions, warn
from ..estimators._decorators import (
    with_argument_suggestions,
    with_callbacks,
    with_parameter_validation,
)
from ..estimators._estimator_mixin import EstimatorMixin
from ..estimators._validation import (
    prefix_errors,
    replace_attributes,
    shallow_copy,
    validate_groups,
    validate_weight,
)
from ..estimators.explanation import Explanation
from ..estimators.summary import FittedAttributesHTML
from ..training.splitting import draw_folds, draw_group_folds
from ..utils.arrays import Array, MatrixLike
from ._blend import AUTO, BOOSTING, choose_view, cross_fit
from ._checkpoints import CycleCheckpoints
from ._explanation import explain_table, keep_background, read_background
from ._model_inputs import FeatureBuilder, FeatureView, draw_seed
from ._prediction import (
    LabeledRows,
    TabularModel,
    permutation_importance,
    predict_out_of_fold,
)
from ._read_table import TableColumns, read_table
from ._table_encoding import FittedEncoding, UnscaledRows
from ._training_cycles import (
    MAX_ROWS_OF_FULL_ENSEMBLE,
    MIN_GAIN_OF_BOOSTING,
    MIN_GAIN_OF_ENSEMBLE,
    MIN_TIME,
    N_ESTIMATORS,
    VERY_MANY_ROWS,
    EnsembleSettings,
    TrainingData,
    affordable_networks,
    cycle_lengths,
    network_params,
    train_networks,
)


class BaseTabular(CallbackSupportMixin, EstimatorMixin, metaclass=ABCMeta):
    """Base class of `TabularClassifier` and `TabularRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_estimators": [Interval(Integral, 2, None, closed="left"), StrOptions({AUTO})],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "column_kinds": [dict, None],
        "blend": [StrOptions({AUTO, BOOSTING}), list, tuple, None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _configurations: ClassVar[Sequence[EnsembleSettings]]

    # Groups that a search or a pipeline routes to splitters are routed here as well.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    n_features_in_: int
    feature_names_in_: Array
    _targets: Any  # ClassifierTargets or RegressorTargets
    background_: UnscaledRows | None

    n_estimators: Any
    categorical_features: Any
    column_kinds: Any
    blend: Any
    max_iter: int | None
    time_limit: float | None
    verbose: bool | int
    random_state: Any

    # ------------------------------------------------------- methods of subclasses

    @staticmethod
    @abstractmethod
    def _validate_target(y: Any) -> Array:
        """Return the user's y as a 1d array; raise if it is not valid."""

    @abstractmethod
    def _fit_targets(self, y: Array, weight: Array | None) -> None:
        """Set `_targets`, and attributes of the target, given a valid y and the user's weights."""

    @abstractmethod
    def _make_networks(self, params: dict[str, Any], rows: LabeledRows) -> Any:
        """Return untrained networks for training rows."""

    @abstractmethod
    def _blended_estimators(self, n_rows: int) -> list[Any]:
        """Return the estimators of `blend` for so many rows."""

    @abstractmethod
    def _fit_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Fit the weights of components to held-out outputs, and return the mixed outputs.

        The outputs of a component have the shape (1 or n_estimators, n, n_outputs).
        """

    @abstractmethod
    def _loss_of_mixed(self, mixed: Array, y: Array, weight: Array | None) -> float:
        """Return the loss of mixed outputs, which ensembles must lower."""

    def _fit_intervals(self, mixed: Array, rows: LabeledRows, folds: Array | None) -> None:
        """Fit prediction intervals to mixed outputs for held-out rows."""

    @abstractmethod
    def _mix(self, outputs: Sequence[Array]) -> Array:
        """Return the mixture of the outputs of all components."""

    @abstractmethod
    def _set_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        """Set the out-of-fold attributes, given mixed outputs and the user's weights."""

    @abstractmethod
    def _is_out_of_fold(self, mixed: Array) -> bool:
        """Return whether mixed outputs are close to those of the training rows."""

    @abstractmethod
    def _score_mixed(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        """Return the score of mixed outputs, by a scorer or as `oof_score_`."""

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
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.
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
            groups on without a request.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint` of an estimator with the same parameters, fitted to
            the same data. Networks resume training after the last complete training cycle, and end
            with exactly the same weights as without the interruption. The estimators of `blend` are
            fitted again. Only ``verbose`` and ``random_state`` (which is ignored) may differ from
            the first fit.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a column, y or a weight is not valid. The estimator is left unchanged.
        """
        start = time.perf_counter()
        n_blended = 1 if isinstance(self.blend, str) else len(self.blend or ())
        n_components = len(self._configurations) + n_blended
        context = self._init_callback_context(max_subtasks=n_components)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        fitted = shallow_copy(self)
        for name in [name for name in vars(fitted) if name.startswith(("oof_", "_importances"))]:
            delattr(fitted, name)
        fitted._fit_table(
            X,
            y,
            sample_weight,
            (X_val, y_val, sample_weight_val),
            groups,
            resume_from,
            start,
            context,
        )
        replace_attributes(self, fitted)
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)
        return self

    def _fit_table(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        given_validation: tuple[Any, Any, Any],
        groups: Any,
        resume_from: Any,
        start: float,
        context: Any,
    ) -> None:
        """Set the fitted attributes.

        `given_validation` are `X_val`, `y_val` and `sample_weight_val`. Training began at `start`
        by `time.perf_counter`.
        """
        checkpoints = CycleCheckpoints(self, resume_from)
        if y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        columns = read_table(self, X, reset=True)
        user_weight = validate_weight(sample_weight, columns.table)
        y = self._validate_target(y)
        check_consistent_length(columns.table, y)
        self._fit_targets(y, user_weight)
        y = self._targets.encode(y)
        weight = self._targets.training_weight(y, user_weight)
        rng = checkpoints.start_stream(check_random_state(self.random_state))
        is_validated = any(part is not None for part in given_validation)
        group = None
        if groups is not None and not is_validated:
            group = validate_groups(groups, len(y))
        rows = LabeledRows(self._fit_features(columns, y, group, rng), y, weight)
        validation = self._read_validation(*given_validation) if is_validated else None
        folds, n_estimators = None, self._resolve_n_estimators(len(y))
        if not is_validated:
            folds = self._make_folds(y, weight, group, n_estimators, rng)
            n_estimators = int(folds.max()) + 1
        checkpoints.check_data([*rows.flat(), folds, *(validation.flat() if validation else ())])
        # The rows are the same whatever estimators draw seeds in between.
        background_stream = copy.deepcopy(rng)
        spent = time.perf_counter() - start
        time_limit = math.inf if self.time_limit is None else self.time_limit - spent
        mixed = self._fit_models(
            TrainingData(
                rows, n_estimators, folds, validation, rng, time_limit, self, context, checkpoints
            )
        )
        if folds is not None:
            self.oof_member_ = folds
            self._set_out_of_fold(mixed, y, user_weight)
        self.background_ = keep_background(rows.X, weight, background_stream)

    def _fit_features(
        self, columns: TableColumns, y: Array, group: Array | None, rng: np.random.RandomState
    ) -> UnscaledRows:
        """Set the features and kinds of columns, and return the training rows."""
        target_type = self._targets.target_type
        encoding, rows = FittedEncoding.fit(
            columns,
            y if target_type else None,
            self.categorical_features,
            column_kinds=self.column_kinds,
            target_type=target_type or "auto",
            random_state=rng,
            groups=group,
            with_interactions=True,
        )
        self._features = FeatureBuilder.from_encoding(encoding, rows, rng, columns.n_rows)
        self.column_kinds_ = encoding.name_kinds(getattr(self, "feature_names_in_", None))
        return rows

    def _read_validation(self, X: Any, y: Any, sample_weight: Any) -> LabeledRows:
        """Return the user's validation rows."""
        if X is None:
            raise ValueError(
                "y_val and sample_weight_val are only valid with X_val, but X_val is None. Pass "
                "X_val as well."
            )
        if y is None:
            raise ValueError("X_val needs targets, but y_val is None. Pass y_val as well.")
        with prefix_errors("X_val, y_val"):
            columns = read_table(self, X, reset=False)
            y = self._targets.encode(y)
            check_consistent_length(columns.table, y)
            weight = validate_weight(sample_weight, columns.table)
            weight = self._targets.training_weight(y, weight)
            if weight is not None and not weight.any():
                raise ValueError(
                    "class_weight gives every row the weight zero. Give a positive weight to a "
                    "class in y_val, or pass rows of other classes."
                )
            return LabeledRows(self._features.encoding.read_rows(columns), y, weight)

    def _make_folds(
        self,
        y: Array,
        weight: Array | None,
        group: Array | None,
        n_folds: int,
        rng: np.random.RandomState,
    ) -> Array:
        """Return the fold of each row; raise if there are not two rows, or groups, with weight."""
        if len(y) < 2:
            raise ValueError(
                f"n_samples={len(y)}, but at least 2 rows are needed, one to train on and one to "
                "hold out. Pass more rows."
            )
        has_class_weight = getattr(self, "class_weight", None) is not None
        name = "sample_weight times class_weight" if has_class_weight else "sample_weight"
        if weight is not None and np.count_nonzero(weight) < 2:
            raise ValueError(
                f"{name} is positive for one row only, but at least 2 such rows are needed, one to "
                "train on and one to hold out. Give more rows a positive weight."
            )
        strata = y if is_classifier(self) else None
        if weight is not None and not weight.all():
            # Rows with and without weight are distributed evenly.
            is_used = (weight > 0).astype(np.intp)
            strata = is_used if strata is None else is_used * (strata.max() + 1) + strata
        if group is not None:
            has_weight = None if weight is None else weight > 0
            n_groups = len(np.unique(group if has_weight is None else group[has_weight]))
            if n_groups < 2:
                raise ValueError(
                    f"{name} is positive in one group only, but at least 2 such groups are "
                    "needed, one to train on and one to hold out. Give rows of other groups a "
                    "positive weight, or fit without groups."
                )
            return draw_group_folds(group, min(n_folds, n_groups), rng, strata, has_weight)
        return draw_folds(len(y), min(n_folds, len(y)), rng, strata)

    def _resolve_n_estimators(self, n_rows: int) -> int:
        """Return the number of networks of each ensemble, for a number of training rows."""
        default = N_ESTIMATORS if n_rows <= MAX_ROWS_OF_FULL_ENSEMBLE else N_ESTIMATORS // 2
        n_estimators = default if self.n_estimators == AUTO else int(self.n_estimators)
        if self.time_limit is None:
            return n_estimators
        n_components = len(self._configurations) + len(self._blended_estimators(n_rows))
        n_affordable = affordable_networks(
            self._configurations[0],
            self._features.n_encoded,
            self._features.n_blocks,
            n_rows * cycle_lengths(n_rows, self.max_iter)[0],
            self.time_limit / n_components,
        )
        if n_affordable < n_estimators:
            warn(
                f"time_limit={self.time_limit:g} seconds suffice for {n_affordable} of "
                f"{n_estimators} networks in each ensemble. Increase time_limit, or fit a sample "
                "of the rows.",
                ConvergenceWarning,
            )
        return min(n_estimators, n_affordable)

    def _fit_models(self, data: TrainingData) -> Array:
        """Fit the components and their mixture, and return mixed outputs for held-out rows."""
        outputs, held_out = self._fit_components(data), data.held_out
        mixed = self._fit_mixture(outputs, held_out.y, held_out.weight)
        self._fit_intervals(mixed, held_out, data.folds)
        return mixed

    def _fit_components(self, data: TrainingData) -> list[Array]:
        """Fit all components, set the attributes for them, and return their held-out outputs.

        Each component gets an equal share of the time left. The estimators of `blend` come first.
        One network ensemble is always trained, since networks can use any time. With very many
        rows, boosting that was not asked for is kept only where it improves the mixture.
        """
        start, n_rows = time.perf_counter(), len(data.rows.y)
        # From very many rows the first ensemble learns what a second one would add, at twice the
        # time of a prediction.
        configurations = self._configurations[: 1 if n_rows > VERY_MANY_ROWS else None]
        n_networks = len(configurations)
        blend = self._blended_estimators(n_rows)
        n_components = n_networks + len(blend)
        # The randomness of a component does not depend on the others.
        rngs = [np.random.RandomState(draw_seed(data.rng)) for _ in range(n_components)]

        def data_for(component: int, view: FeatureView, n_left: int) -> TrainingData:
            rows = self._rows_in_view(data.rows, view)
            validation = data.validation and self._rows_in_view(data.validation, view)
            left = data.time_limit - (time.perf_counter() - start)
            limit, rng = max(left / n_left, MIN_TIME), rngs[component]
            return data._replace(rows=rows, validation=validation, rng=rng, time_limit=limit)

        blended, trained = list[tuple[Any, Array]](), list[tuple[Any, Array]]()
        first_outputs, is_stopped = list[Array](), False

        def is_promising(outputs: Array) -> bool:
            earlier = [first_outputs.copy(), [own_outputs for _, own_outputs in trained]]
            first_outputs.append(outputs)
            return not trained or self._improves_mixture(
                outputs, earlier, data.held_out, MIN_GAIN_OF_ENSEMBLE
            )

        for index, estimator in enumerate(blend):
            own = data_for(n_networks + index, choose_view(estimator), n_components - index)
            component = cross_fit(estimator, self._targets, self._features.is_nominal, own)
            if component is not None:
                blended.append(component)
        for index, defaults in enumerate(configurations):
            view: FeatureView = "embedded" if defaults.embeds else "encoded"
            own = data_for(index, view, n_networks - index)
            if trained and (own.time_limit == MIN_TIME or is_stopped):
                break
            networks = self._make_ensemble(defaults, own)
            ensemble, outputs, is_stopped = train_networks(
                networks, view, index + 1, own, is_promising
            )
            trained.append((ensemble, outputs))
        if self.blend == AUTO and n_rows > VERY_MANY_ROWS:
            others = [[outputs for _, outputs in trained]]
            blended = [
                (component, outputs)
                for component, outputs in blended
                if self._improves_mixture(outputs, others, data.held_out, MIN_GAIN_OF_BOOSTING)
            ]
        self._components: list[Any] = [each for each, _ in trained + blended]
        self.networks_ = [each.networks for each, _ in trained]
        self.n_iter_ = np.array([networks.n_iter_ for networks in self.networks_])
        self.blended_ = [each.estimators for each, _ in blended]
        return [outputs for _, outputs in trained + blended]

    def _make_ensemble(self, defaults: EnsembleSettings, data: TrainingData) -> Any:
        """Return the untrained networks of an ensemble."""
        n_blocks = self._features.n_blocks if defaults.embeds else 0
        params = network_params(defaults, n_blocks, data.n_train, data.n_estimators)
        return self._make_networks(params | {"random_state": draw_seed(data.rng)}, data.rows)

    def _rows_in_view(self, rows: LabeledRows, view: FeatureView) -> LabeledRows:
        """Return encoded rows of a table in a view."""
        return rows._replace(X=self._features.make_training_input(rows.X, view))

    def _improves_mixture(
        self, outputs: Array, earlier: Sequence[list[Array]], rows: LabeledRows, min_gain: float
    ) -> bool:
        """Return whether a component improves one of several mixtures enough to be worth its time.

        Parameters
        ----------
        outputs : array
            The held-out outputs of the component.
        earlier : sequence of lists of arrays
            Those of the other components in each mixture.
        rows : LabeledRows
            The held-out rows.
        min_gain : float
            The share of the loss of a mixture that the component must remove.
        """

        def loss_of_mixture(components: Sequence[Array]) -> float:
            mixed = shallow_copy(self)._fit_mixture(components, rows.y, rows.weight)
            return self._loss_of_mixed(mixed, rows.y, rows.weight)

        for others in earlier:
            alone, mixed = loss_of_mixture(others), loss_of_mixture([*others, outputs])
            if alone - mixed > min_gain * alone:
                return True
        return False

    # ------------------------------------------------------------------ prediction

    def _predict(self, X: Any, mix: Callable[[Sequence[Array]], Array]) -> Array:
        """Return what `mix` computes from the outputs of all components."""
        if not hasattr(self, "_components"):  # a hundred times as fast as check_is_fitted
            check_is_fitted(self)
        rows = self._features.encoding.read_rows(read_table(self, X, reset=False))
        return TabularModel(self._features, self._components, mix).predict(rows)

    def _predict_for_score(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Return the targets and the mixed outputs that the score is computed from."""
        return self._targets.encode(y), self._predict(X, self._mix)

    def _score_predictions(self, y: Array, predicted: Array, weight: Array | None) -> float:
        """Return the score, given what `_predict_for_score` has returned."""
        return self._score_mixed(predicted, y, weight, None)

    # ------------------------------------------------------- explanations, importances

    def _explain(
        self,
        X: Any,
        background: Any,
        mix: Callable[[Sequence[Array]], Array],
        output_names: list[str] | None,
        n_permutations: int | None,
        random_state: Any,
    ) -> Explanation:
        """Return the share of each column in what `mix` computes from the outputs."""
        check_is_fitted(self)
        columns = read_table(self, X, reset=False)
        rows = vars(self).get("background_")
        if background is not None:
            with prefix_errors("background"):
                given = read_table(self, background, reset=False)
                rows = read_background(given, self._features, random_state)
        elif rows is None:
            raise ValueError(
                "background must be given, because this estimator keeps no training rows in "
                "background_. Pass training rows, or fit again."
            )
        return explain_table(
            TabularModel(self._features, self._components, mix),
            columns,
            rows,
            output_names,
            n_permutations,
            random_state,
        )

    def permutation_importance(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        scoring: Any = None,
        n_repeats: int = 5,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Return how much permuting each column lowers the out-of-fold score.

        Pass the training data, because `fit` does not keep it. The score of out-of-fold predictions
        is used, so importances hold for new rows, and no rows have to be set aside. Columns are
        those of the table, not of its encoding. This method also sets ``feature_importances_`` to
        the mean importances.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The training table, with rows in the order of `fit`.
        y : array-like of shape (n_samples,)
            The target of the training table.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row in the score; None for equal weights.
        scoring : str, callable or None, default=None
            A scorer as in scikit-learn; None for the score of ``oof_score_``. For a classifier,
            "neg_log_loss" is finer than accuracy.
        n_repeats : int, default=5
            The number of permutations of each column.
        random_state : int, RandomState instance or None, default=None
            Seed of the permutations.

        Returns
        -------
        result : Bunch
            As in scikit-learn's function of this name: ``importances_mean`` and
            ``importances_std``, of shape (n_features,), and ``importances``, of shape
            (n_features, n_repeats).

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not the training table, or if `fit` had no folds because of X_val, or ran on a
            Dask cluster.

        Notes
        -----
        If several columns have the same information, each of them has a low importance, because the
        model can use the other ones. Target statistics of categories are out of fold, as in `fit`.

        References
        ----------
        Breiman, "Random forests", Machine Learning 45, 2001, section 10.
        """
        check_is_fitted(self)
        if not hasattr(self, "oof_member_"):
            raise ValueError(
                "permutation_importance needs to know which rows each network has held out, but "
                "with X_val there are none, and those on a Dask cluster are not kept. Pass rows "
                "that were not trained on to sklearn.inspection.permutation_importance."
            )
        check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
        columns, y_encoded = read_table(self, X, reset=False), self._targets.encode(y)
        check_consistent_length(columns.table, y_encoded)
        weight = validate_weight(sample_weight, columns.table)
        model = TabularModel(self._features, self._components, self._mix)
        rows, n_rows = self._features.encoding.read_training_rows(columns), len(self.oof_member_)
        is_training_table = columns.n_rows == n_rows and self._is_out_of_fold(
            predict_out_of_fold(model, rows, self.oof_member_)
        )
        if not is_training_table:
            raise ValueError(
                f"X must be the table of {n_rows} rows that fit was given, in the same order, got "
                f"{columns.n_rows} other row(s). For other rows use "
                "sklearn.inspection.permutation_importance."
            )
        result = permutation_importance(
            model,
            rows,
            self.oof_member_,
            lambda mixed: self._score_mixed(mixed, y_encoded, weight, scoring),
            n_repeats,
            check_random_state(random_state),
        )
        self._importances = result.importances_mean
        return result

    @property
    def feature_importances_(self) -> Array:
        """The means of the last call of `permutation_importance`."""
        if not hasattr(self, "_importances"):
            raise AttributeError(
                "feature_importances_ is not computed yet. Call permutation_importance(X, y) "
                "first, with the table that fit was given."
            )
        importances: Array = self._importances
        return importances

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return the HTML of the fitted attributes and the layers."""
        attributes = super()._get_fitted_attr_html(doc_link)
        return FittedAttributesHTML(attributes, [each.summary() for each in self.networks_])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags
