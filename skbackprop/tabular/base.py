"""What both tabular estimators share: from a raw table to trained networks, and to predictions."""

from __future__ import annotations

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
from sklearn.utils import Bunch, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from .._sklearn import Interval, StrOptions
from ..estimators._data_info import FitArguments
from ..estimators._decorators import checks_parameters, with_callbacks
from ..estimators._mixins import EstimatorMixin, FittedAttributesHTML, suggests_arguments
from ..estimators._validation import bare_clone, prefix_errors, validated_groups, validated_weight
from ..training.validation_split import group_k_fold_indices, k_fold_indices
from ..utils.arrays import Array, MatrixLike
from ._blending import (
    BOOSTING,
    CrossFittedEstimators,
    CrossFittedFactory,
    OutputAdapter,
    n_extra_estimators,
)
from ._components import (
    FoldEnsemble,
    FoldEnsembleFactory,
    TableValidationData,
    TrainingData,
    fit_components,
)
from ._dataframe import AnyColumns, read_table
from ._defaults import NetworkDefaults
from ._features import FeatureBuilder, FeatureView
from ._fit_progress import FitProgress
from ._importance import OutOfFoldPredictor, permutation_importance
from ._network_ensemble import NetworkEnsemble, NetworkEnsembleFactory
from ._prediction import predict_in_blocks


class BaseTabular(CallbackSupportMixin, EstimatorMixin, metaclass=ABCMeta):
    """Base of `TabularClassifier` and `TabularRegressor`; not to be used directly."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_estimators": [Interval(Integral, 2, None, closed="left")],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "blend": [StrOptions({BOOSTING}), list, tuple, None],
        "max_iter": [Interval(Integral, 1, None, closed="left"), None],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }
    _configurations: ClassVar[Sequence[NetworkDefaults]]

    # As a splitter's, what a search or a pipeline is given for its groups is for these folds too.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    n_features_in_: int
    feature_names_in_: Array

    n_estimators: int
    categorical_features: Any
    blend: Any
    max_iter: int | None
    time_limit: float | None
    verbose: bool | int
    random_state: Any

    # ------------------------------------------------------- what a subclass defines

    @abstractmethod
    def _checked_target(self, y: Any) -> Array:
        """Return what the user gave as y as an array of one axis; raise if it will not do."""

    @abstractmethod
    def _take_in(self, y: Array, weight: Array | None) -> Array:
        """Learn what checked y is, in which rows have weights; return it as networks learn it."""

    @abstractmethod
    def _encoded_target(self, y: Any) -> Array:
        """Return other targets as the networks learn them."""

    def _weight_in_training(self, y: Array, weight: Array | None) -> Array | None:
        """Return what rows weigh in training, given their targets and the user's weights."""
        return weight

    @property
    @abstractmethod
    def _kind_of_target(self) -> str | None:
        """What a `TableEncoder` calls such targets; None if they say nothing."""

    @abstractmethod
    def _networks(self, settings: dict[str, Any], y: Array, weight: Array | None) -> Any:
        """Return networks with these parameters, for these targets."""

    @abstractmethod
    def _others(self) -> tuple[list[Any], OutputAdapter]:
        """Return what is blended with networks, and what is taken of it, once y is known."""

    @abstractmethod
    def _combine(self, said: list[Array], y: Array, weight: Array | None) -> Array:
        """Learn how to mix components, and return the predictions that are mixed.

        It is learned by what each says of rows that were not trained on, of shape
        (n_said, n, n_outputs), by the targets of these rows and by what these weigh.
        """

    def _measure(self, mixed: Array, y: Array, weight: Array | None, folds: Array | None) -> None:
        """Learn how far predictions are off, of rows that were not trained on, by their folds."""

    @abstractmethod
    def _keep_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        """Set the attributes that tell of the predictions out of fold.

        They are given with the targets and what rows weigh for the user.
        """

    @abstractmethod
    def _score_of(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        """Return the score of what was mixed, by a scorer or as of `oof_score_`."""

    @abstractmethod
    def _predictions_of(self, mixed: Array) -> Array:
        """Return the predictions, or probabilities, of what was mixed."""

    @property
    @abstractmethod
    def _oof(self) -> Array:
        """The predictions, or probabilities, out of fold."""

    @abstractmethod
    def _mixed(self, outputs: list[Array]) -> Array:
        """Return the predictions for rows that are mixed of what each component says of them.

        That has the shape (n_estimators, n, n_outputs), and it is the mean over members that
        counts.
        """

    # -------------------------------------------------------------------- training

    @suggests_arguments
    @with_callbacks
    @checks_parameters(prefer_skip_nested_validation=True)
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
        """Train networks on a table.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table. Numbers and categories may be missing; infinite numbers, dates and columns
            of lists are errors that say what to do.
        y : array-like of shape (n_samples,)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.
        X_val, y_val : data frame or array-like, default=None
            A table like X, and its targets, that are not trained on. There are no folds then: all
            networks train on all rows of X, and X_val says when they stop. What is otherwise found
            out of fold, temperatures, weights and the width of intervals, is found on X_val too,
            and there are no attributes that begin with ``oof_``.
        sample_weight_val : array-like, default=None
            The weight of each row of X_val; None for equal weights.
        groups : array-like of shape (n_samples,), default=None
            The group of each row, a number or a word: rows of one patient, say, or of one day. No
            fold splits a group, so that all that is found out of fold is true of new groups. Of
            fewer groups than members there are as many members as groups; there must be two.
            Without effect where there is X_val. With metadata routing, groups that are given to a
            search, a pipeline or to cross-validation come here without a request.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint`, of an estimator with the same parameters that was
            fitted to the same data. Networks go on from the last epoch that was saved, and end with
            the very same weights as if they had never been interrupted. The estimators of `blend`
            are fitted again. ``time_limit`` and ``verbose`` may differ.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter is not valid, X is no table, or a column, y or a weight holds what
            cannot be trained on. The estimator is then left as it was.
        """
        start = time.perf_counter()
        given = FitArguments(X, y, sample_weight, X_val, y_val, sample_weight_val, resume_from)
        n_kinds = len(self._configurations) + n_extra_estimators(self.blend)
        context = self._init_callback_context(max_subtasks=n_kinds)
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        fitted = bare_clone(self)
        for name in [name for name in vars(fitted) if name.startswith(("oof_", "_importances"))]:
            delattr(fitted, name)
        fitted._fit(given, groups, start, context)
        self.__dict__ = fitted.__dict__
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)
        return self

    def _fit(self, given: FitArguments, groups: Any, start: float, context: Any) -> None:
        """Learn all there is; `fit` keeps it once it is complete."""
        if given.y is None:
            name = type(self).__name__
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        columns = read_table(self, given.X, reset=True)
        weight_given = validated_weight(given.sample_weight, columns.as_given)
        y = self._checked_target(given.y)
        _check_lengths(columns, y, "X", "y")
        y = self._take_in(y, weight_given)
        if len(y) < 2 and not given.has_rows_to_watch:
            raise ValueError(
                f"n_samples = {len(y)}, but at least 2 rows are needed: one to train on, and one "
                "to hold out."
            )
        weight = self._weight_in_training(y, weight_given)
        if weight is not None and np.count_nonzero(weight) < 2 and not given.has_rows_to_watch:
            raise ValueError(
                f"{self._weights_by_name} is above zero for one row alone, but at least 2 such "
                "rows are needed: one to train on, and one to hold out."
            )
        watched = self._watched(given)
        progress = FitProgress(self, start, len(self._configurations), given.resume_from)
        rng = progress.start_stream(check_random_state(self.random_state))
        kind = self._kind_of_target
        has_groups = groups is not None and watched is None
        group = validated_groups(groups, len(y)) if has_groups else None
        target = y if kind else None
        self._inputs, rows = FeatureBuilder.learn(
            columns, target, kind or "auto", self.categorical_features, rng, group
        )
        folds, n_estimators = None, self.n_estimators
        if watched is None:
            folds = self._folds(y, weight, group, rng)
            n_estimators = int(folds.max()) + 1
        else:
            with prefix_errors("X_val, y_val"):
                watched = watched._replace(X=self._inputs.rows(watched.X))
        of_watched = () if watched is None else (watched.X.encoded, watched.y, watched.weight)
        progress.check_data([rows.encoded, y, weight, folds, *of_watched])
        spent = time.perf_counter() - start
        limit = math.inf if self.time_limit is None else self.time_limit - spent
        data = TrainingData(
            *(rows, y, weight, n_estimators, folds, watched, rng, limit),
            *(self, context, progress),
        )
        trained = fit_components(self._kinds, data, self._inputs.transform)
        self._keep([component for component, _ in trained])
        said = [own for _, own in trained]
        if watched is not None:
            y, weight = watched.y, watched.weight
        mixed = self._combine(said, y, weight)
        self._measure(mixed, y, weight, folds)
        if folds is not None:
            self.oof_member_ = folds
            self._keep_out_of_fold(mixed, y, weight_given)
        progress.print_end(vars(self).get("oof_score_"))

    def _watched(self, given: FitArguments) -> TableValidationData | None:
        """Return the rows that the user wants training to stop by, as columns that are read."""
        if not given.has_rows_to_watch:
            return None
        if given.y_val is None:
            raise ValueError("X_val needs its targets, but y_val is None. Give y_val as well.")
        with prefix_errors("X_val, y_val"):
            columns = read_table(self, given.X_val, reset=False)
            y = self._encoded_target(given.y_val)
            _check_lengths(columns, y, "X_val", "y_val")
            weight = validated_weight(given.sample_weight_val, columns.as_given)
            weight = self._weight_in_training(y, weight)
            if weight is not None and not weight.any():
                raise ValueError(
                    "by class_weight no row has a weight above zero. Give a weight to a class "
                    "that is in y_val, or rows of other classes."
                )
            return TableValidationData(columns, y, weight)

    def _folds(
        self, y: Array, weight: Array | None, group: Array | None, rng: np.random.RandomState
    ) -> Array:
        """Return the member of each component that holds out each row."""
        strata = y if is_classifier(self) else None
        if weight is not None and not weight.all():
            # Those of all classes that count are dealt out one after the other.
            counts = (weight > 0).astype(np.intp)
            strata = counts if strata is None else counts * (strata.max() + 1) + strata
        if group is not None:
            has_weight = None if weight is None else weight > 0
            n_groups = len(np.unique(group if has_weight is None else group[has_weight]))
            if n_groups < 2:
                raise ValueError(
                    f"{self._weights_by_name} is above zero in one of the groups alone, but at "
                    "least 2 such groups are needed: one to train on, and one to hold out. Leave "
                    "groups out, or give weight to rows of other groups."
                )
            n_folds = min(self.n_estimators, n_groups)
            return group_k_fold_indices(group, n_folds, rng, strata, has_weight)
        return k_fold_indices(len(y), min(self.n_estimators, len(y)), rng, strata)

    @property
    def _weights_by_name(self) -> str:
        """What an error calls that by which rows weigh in training."""
        by_class = getattr(self, "class_weight", None) is not None
        return "sample_weight times class_weight" if by_class else "sample_weight"

    @property
    def _kinds(self) -> list[FoldEnsembleFactory]:
        """The kinds of models that predictions are mixed of."""
        kinds: list[FoldEnsembleFactory] = []
        for each in self._configurations:
            view: FeatureView = "embedded" if each.embeds else "encoded"
            n_blocks = self._inputs.n_blocks if each.embeds else 0
            kinds.append(
                NetworkEnsembleFactory(view, n_blocks, each, self.max_iter, self._networks)
            )
        others, taken = self._others()
        is_nominal = self._inputs.is_nominal
        return kinds + [CrossFittedFactory.of(each, taken, is_nominal) for each in others]

    def _keep(self, components: list[FoldEnsemble]) -> None:
        """Set the attributes that tell of what predictions are mixed."""
        self._components = components
        networks = [each.networks for each in components if isinstance(each, NetworkEnsemble)]
        self.networks_, self.n_iter_ = networks, np.array([each.n_iter_ for each in networks])
        self.blended_ = [
            each.estimators for each in components if isinstance(each, CrossFittedEstimators)
        ]

    # ------------------------------------------------------------------ prediction

    def _predicted(self, X: Any, mix: Callable[[list[Array]], Array]) -> Array:
        """Return what `mix` makes of what each component says of the rows of X."""
        if not hasattr(self, "_components"):  # which takes a hundredth of the time of the check
            check_is_fitted(self)
        return predict_in_blocks(
            read_table(self, X, reset=False), self._inputs, self._components, mix
        )

    # ------------------------------------------------------------------- importances

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
        """Return how much the score out of fold falls when each column's values are permuted.

        X and y are the table that `fit` was given, which is not kept. Each row is predicted by the
        models that have held it out, so that what is found is true of new rows, and no rows have to
        be set aside for it. The columns are those of the table, not those that are made of them.
        Afterwards the means are in ``feature_importances_``.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table that `fit` was given, with its rows in the same order.
        y : array-like of shape (n_samples,)
            Its targets.
        sample_weight : array-like of shape (n_samples,), default=None
            What each row weighs in the score; None for equal weights.
        scoring : str, callable or None, default=None
            The score, as scikit-learn's scorers; None for that of ``oof_score_``. A classifier's
            "neg_log_loss" is finer than its accuracy.
        n_repeats : int, default=5
            How often each column is permuted.
        random_state : int, RandomState instance or None, default=None
            Draws the permutations.

        Returns
        -------
        result : Bunch
            As of scikit-learn's function of this name: ``importances_mean`` and
            ``importances_std``, of shape (n_features,), and ``importances``, of shape
            (n_features, n_repeats).

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not the table of `fit`, or there were no folds, since it was given X_val.

        Notes
        -----
        What columns tell in common counts for none of them: where one is permuted, the others have
        it still. Of a category with many levels the mean of the target is among the inputs, and
        that of a training row has a part in it, by which its importance may be a little too high.

        References
        ----------
        Breiman, "Random forests", Machine Learning 45, 2001, section 10.
        """
        check_is_fitted(self)
        if not hasattr(self, "oof_member_"):
            raise ValueError(
                "permutation_importance goes by what models have held out, and with X_val they "
                "hold out nothing. Pass the rows of X_val to sklearn.inspection's function."
            )
        check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
        columns, targets = read_table(self, X, reset=False), self._encoded_target(y)
        _check_lengths(columns, targets, "X", "y")
        weight = validated_weight(sample_weight, columns.as_given)
        rows = self._inputs.rows(columns)
        out_of_fold = OutOfFoldPredictor(
            rows, self._inputs, self._components, self.oof_member_, self._mixed
        )
        self._check_are_of_fit(out_of_fold)
        result = permutation_importance(
            out_of_fold,
            lambda said: self._score_of(said, targets, weight, scoring),
            columns.n_columns,
            n_repeats,
            check_random_state(random_state),
        )
        self._importances = result.importances_mean
        return result

    @property
    def feature_importances_(self) -> Array:
        """The means that `permutation_importance` has found last."""
        if not hasattr(self, "_importances"):
            raise AttributeError(
                "feature_importances_ is there after permutation_importance(X, y), which needs the "
                "table that fit was given."
            )
        importances: Array = self._importances
        return importances

    def _check_are_of_fit(self, out_of_fold: OutOfFoldPredictor) -> None:
        """Raise an error if rows are not those of `fit`, as what is said of them tells."""
        n_rows = len(out_of_fold.taken_in.codes)
        is_known = n_rows == len(self.oof_member_)
        if is_known and self._inputs.encoding.statistics is None:  # these were out of fold in fit
            said, kept = self._predictions_of(out_of_fold.said(out_of_fold.taken_in)), self._oof
            is_known = np.allclose(said, kept, rtol=1e-2, atol=1e-2 * np.ptp(kept))
        if not is_known:
            raise ValueError(
                f"X must be the table of {len(self.oof_member_)} rows that fit was given, in the "
                f"same order, but its {n_rows} row(s) are others. For other rows use "
                "sklearn.inspection.permutation_importance."
            )

    def _get_fitted_attr_html(self, doc_link: str = "") -> Any:
        """Return what a notebook shows below the parameters: the attributes, and the layers."""
        attributes = super()._get_fitted_attr_html(doc_link)
        return FittedAttributesHTML(attributes, [each.summary() for each in self.networks_])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags


def _check_lengths(columns: AnyColumns, y: Array, name: str, name_of_y: str) -> None:
    if columns.n_rows != len(y):
        raise ValueError(
            f"{name} and {name_of_y} have inconsistent numbers of samples: {columns.n_rows} and "
            f"{len(y)}."
        )
