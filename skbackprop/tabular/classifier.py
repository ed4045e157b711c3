"""A classifier for raw tables: labels and calibrated probabilities by ensembles of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.base import ClassifierMixin

from .._sklearn import StrOptions
from ..estimators._label_encoding import make_target_encoder
from ..estimators._validation import validated_labels
from ..training.class_weight import (
    ClassWeight,
    EncodedLabels,
    checked_class_weight,
    compute_class_weight,
    compute_sample_weight,
)
from ..utils.arrays import Array, Columns, TableLike
from ._blending import OutputAdapter, resolve_classifiers
from ._calibration import mixture_weights_nll, probabilities, temperature_for_scores
from ._defaults import FOR_CLASSES, NetworkDefaults, log_class_prior
from ._importance import apply_scorer
from ._network_ensemble import TableClassifierNetworks
from .base import BaseTabular

_TINY = np.finfo(np.float64).tiny

# The power of the temperatures above one of single networks by which the scores are divided whose
# probabilities are averaged. A mean is less sure of itself than each of them, and more often
# right, so that their whole temperatures would leave it too soft. Of one below one, as after few
# epochs, the root would be softer still.
_OF_MEANS = 0.5


class TabularClassifier(ClassifierMixin, BaseTabular):
    """Predict the labels of raw tables, with calibrated probabilities, by ensembles of networks.

    A table may have numbers, booleans, categories and strings, of any scale, with missing values.
    There are two ensembles of `n_estimators` networks. Those of the first see each number through
    cosines and the bins that it fills, which they learn to map to a few inputs [1]_; those of the
    second see it as it is. Each network holds out a fold of its own, so that all rows are held out
    once by each ensemble. They train in legs, in each of which the rate falls to zero [2]_, and all
    networks of an ensemble end with the last leg that was of use out of fold. On what is said out
    of fold the probabilities of each ensemble are calibrated, by one temperature [3]_, and the
    weights of the two are found, by likelihood. The settings are those that were found best on
    tables of many kinds; there is nothing to tune.

    Parameters
    ----------
    n_estimators : int, default=8
        The networks of each ensemble, and the folds; at least 2. Fewer are faster, and somewhat
        worse. If there are fewer rows, there are as many networks as rows.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        Which columns are categories, as for a `TableEncoder`: a mask, positions or names; None for
        none. "from_dtype": those of a data frame that hold categories or strings, and those of an
        array of objects that hold strings.
    class_weight : dict, "balanced" or None, default=None
        The weight of each class, by which those of its rows are multiplied; "balanced" for weights
        by which all classes weigh the same. None for equal weights. Probabilities are calibrated
        for classes that are as frequent as their weights make them.
    blend : "boosting", list of estimators or None, default=None
        Classifiers that are mixed with the networks: each is cloned and fitted for the same folds,
        and weighted with them by what it says out of fold. They need ``predict_proba``. "boosting"
        is a `HistGradientBoostingClassifier` (rate 0.05, half of the columns for each split, at
        most 1,000 rounds, early stopping by the fold that is held out). It, and any of its class
        in a list, sees the table itself: numbers with missing values, and codes of categories. All
        others are given the outputs of a `TableEncoder` in float64. All are given the weights of
        rows if they take them, and a seed for each ``random_state`` that is None. A list may hold
        "boosting" as well. None for networks alone.
    max_iter : int or None, default=None
        The most epochs of a network; None for 14 to 56, the fewer the more rows there are.
    time_limit : float or None, default=None
        The most seconds that `fit` trains for; None for any. If it is over, what has been learned
        is kept.
    verbose : bool or int, default=False
        Whether to print a line after each leg of each ensemble, with its loss of rows that are held
        out and the time that is left at most, and after each estimator of `blend`.
    random_state : int, RandomState instance or None, default=None
        Draws weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, sorted.
    oof_predict_proba_ : array of shape (n_samples, n_classes)
        The probabilities of each training row, by the networks that have held it out. What begins
        with ``oof_`` is not there after a fit with X_val.
    oof_prediction_ : array of shape (n_samples,)
        The label of each training row, by the same.
    oof_score_ : float
        Their accuracy, in which rows have their `sample_weight`: an estimate of what `score` says
        of new rows.
    networks_ : list of estimators
        The ensembles, each a fitted `BackpropClassifier` of encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network of each ensemble that has held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend` its clones, one for each fold; one alone after a fit with
        X_val. One is missing that there was no time for.
    weights_ : array of shape (n_ensembles + n_blended,)
        What each ensemble weighs in the predictions, and then each of `blended_`; they add up to
        one.
    temperatures_ : array of shape (n_ensembles + n_blended,)
        What the scores of each are divided by, as a single network says them out of fold; where
        networks are averaged it is the square root of what is above one.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The epochs that each network was trained for.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    TabularRegressor : The same for numbers.
    TableEncoder : Raw tables as input for other estimators.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022.
    .. [2] Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    .. [3] Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbackprop import TabularClassifier
    >>> table = pd.DataFrame(
    ...     {
    ...         "age": [20.0, 31.0, None, 50.0, 42.0, 23.0] * 5,
    ...         "city": ["Bern", "Oslo", "Rome", "Oslo", None, "Bern"] * 5,
    ...     }
    ... )
    >>> buys = ["no", "yes", "yes", "yes", "yes", "no"] * 5
    >>> model = TabularClassifier(n_estimators=3, random_state=0).fit(table, buys)
    >>> model.predict(pd.DataFrame({"age": [21.0, 48.0], "city": ["Bern", "Oslo"]}))
    array(['no', 'yes'], dtype='<U3')
    >>> model.oof_predict_proba_.shape
    (30, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseTabular._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    _configurations: ClassVar[Sequence[NetworkDefaults]] = FOR_CLASSES

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        class_weight: ClassWeight | None = None,
        blend: Literal["boosting"] | list[Any] | tuple[Any, ...] | None = None,
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.class_weight = class_weight
        self.blend = blend
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.verbose = verbose
        self.random_state = random_state

    def _checked_target(self, y: Any) -> Array:
        return validated_labels(y)

    def _take_in(self, y: Array, weight: Array | None) -> Array:
        self._labels = make_target_encoder(y)
        self.classes_ = self._labels.classes
        coded = self._coded(y)
        if self.class_weight is not None:
            of_classes = checked_class_weight(self.class_weight)
            self._weight_of_class = compute_class_weight(of_classes, coded, weight)
            compute_sample_weight(of_classes, [coded], False, weight)  # an error where none counts
        return coded.codes

    def _encoded_target(self, y: Any) -> Array:
        return self._coded(self._checked_target(y)).codes

    def _coded(self, y: Array) -> EncodedLabels:
        (coded,) = self._labels.class_indices(self._labels.encode(y, needs_all=False))
        return coded

    def _weight_in_training(self, y: Array, weight: Array | None) -> Array | None:
        if self.class_weight is None:
            return weight
        of_class = self._weight_of_class[y]
        return of_class if weight is None else weight * of_class

    @property
    def _kind_of_target(self) -> str | None:
        return {1: None, 2: "binary"}.get(len(self.classes_), "multiclass")

    def _others(self) -> tuple[list[Any], OutputAdapter]:
        blended, n_classes = resolve_classifiers(self.blend), len(self.classes_)
        return blended if n_classes > 1 else [], OutputAdapter(n_classes, -np.inf)

    def _networks(self, settings: dict[str, Any], y: Array, weight: Array | None) -> Any:
        networks = TableClassifierNetworks(**settings)
        shares = np.bincount(y, weights=weight)
        # A class whose rows all weigh nothing has half a row.
        least = 0.5 * shares.sum() / len(y)
        networks._scores_of_mean = log_class_prior(np.maximum(shares, least))
        return networks

    def _combine(self, said: list[Array], y: Array, weight: Array | None) -> Array:
        self.temperatures_ = np.array([temperature_for_scores(own, y, weight) for own in said])
        pairs = zip(said, self.temperatures_, strict=True)
        by_component = np.array([_mean_probabilities(*pair) for pair in pairs])
        seen = np.maximum(by_component[:, np.arange(len(y)), y], _TINY)
        self.weights_ = mixture_weights_nll(seen, weight)
        mixed = np.tensordot(self.weights_, by_component, 1)
        self._last_temperature = temperature_for_scores(_logs(mixed), y, weight)
        return self._calibrated(mixed)

    def _keep_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        self.oof_predict_proba_ = mixed
        self.oof_prediction_ = self.classes_[mixed.argmax(axis=1)]
        self.oof_score_ = self._score_of(mixed, y, weight, None)

    def _score_of(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        scoring = "accuracy" if scoring is None else scoring
        return apply_scorer(scoring, mixed, self.classes_, self.classes_[y], weight)

    def _predictions_of(self, mixed: Array) -> Array:
        return mixed

    @property
    def _oof(self) -> Array:
        return self.oof_predict_proba_

    def _mixed(self, outputs: list[Array]) -> Array:
        mixed = 0.0
        for each, temperature, weight in zip(
            outputs, self.temperatures_, self.weights_, strict=True
        ):
            mixed = mixed + weight * _mean_probabilities(each, temperature)
        return self._calibrated(np.asarray(mixed))

    def _calibrated(self, mixed: Array) -> Array:
        """Return the mean probabilities, to the power that the last temperature says."""
        said = probabilities(_logs(mixed), self._last_temperature)
        return said if len(self.classes_) > 1 else np.ones((len(said), 1))

    # ------------------------------------------------------------------ prediction

    def predict(self, X: TableLike) -> Array:
        """Predict the most probable label of each row.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table; a dict or a Series is one row, a list of dicts several.

        Returns
        -------
        y : array of shape (n_samples,)
            The labels.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        labels: Array = self.classes_[codes]
        return labels

    def predict_proba(self, X: TableLike) -> Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table; a dict or a Series is one row, a list of dicts several.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            In the order of ``classes_``; rows add up to one.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.
        """
        return self._predicted(X, self._mixed)


def _mean_probabilities(scores: Array, temperature: float) -> Array:
    """Return the mean over networks of probabilities, of scores (n_networks, n, n_outputs).

    The temperature is that of single networks.
    """
    divisor = ensemble_temperature(temperature, len(scores))
    return np.asarray(probabilities(scores, divisor).mean(axis=0))


def ensemble_temperature(temperature: float, n_networks: int) -> float:
    """Return what scores are divided by whose probabilities are averaged over networks."""
    return temperature if n_networks == 1 else min(temperature, temperature**_OF_MEANS)


def _logs(shares: Array) -> Array:
    """Return logarithms, finite where a share has become zero."""
    return np.asarray(np.log(np.maximum(shares, _TINY)))
