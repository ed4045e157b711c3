"""TabularClassifier: labels and calibrated probabilities for raw tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.special import expit, softmax
from sklearn.base import ClassifierMixin

from .._sklearn import StrOptions
from ..estimators._label_encoding import make_target_encoder
from ..estimators._validation import shallow_copy_of, validated_labels
from ..estimators.classifier import BackpropClassifier
from ..estimators.explanation import Explanation, output_transform
from ..training.class_weight import (
    ClassWeight,
    EncodedLabels,
    checked_class_weight,
    compute_class_weight,
    compute_sample_weight,
)
from ..training.temperature import fit_temperature, subsample_index, weights_of_rows
from ..utils.arrays import Array, ColumnKinds, Columns, MatrixLike, TableLike
from ._blend import resolve_blend
from ._prediction import LabeledRows, OutputBiasInit, TabularNetworkMixin, apply_scorer
from ._training_cycles import FOR_CLASSES, EnsembleSettings
from .base import BaseTabular

_TINY = np.finfo(np.float64).tiny

# The exponent of temperatures above one when probabilities of several networks are averaged. The
# average is less confident and more accurate than single networks, whose full temperature would
# make it too soft. Temperatures below one, as after few epochs, are kept.
_ENSEMBLE_EXPONENT = 0.5

# A few rows cannot justify a lower temperature, that is more confident predictions.
_MIN_TEMPERATURE = 0.5

# The number of steps of expectation maximization.
_N_STEPS = 200


class TabularClassifier(ClassifierMixin, BaseTabular):
    """Classifier for raw tables with calibrated probabilities: networks and boosting.

    Tables may have numbers, booleans, categories and strings, of any scale, with missing values.
    There are two ensembles of `n_estimators` networks. The first one gets each number as cosines
    and piecewise-linear bins, and learns to map them to a few inputs [1]_; the second one gets the
    scaled number. Each network holds out one fold. Networks are trained in cycles. In each cycle
    the learning rate decays to zero [2]_. Training ends when a cycle no longer lowers the
    out-of-fold loss enough. Gradient boosting is cross-fitted to the same folds. Out-of-fold
    predictions calibrate the probabilities of each ensemble by a temperature [3]_, and determine
    the weights of the ensembles and of boosting by maximum likelihood. The defaults work well for
    tables of many kinds, so nothing has to be tuned.

    Parameters
    ----------
    n_estimators : int, default=8
        The number of networks of each ensemble, and of folds; at least 2. Fewer are faster and
        somewhat worse. At most the number of rows is used.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as in `TableEncoder`: a mask, positions or names; None for none.
        "from_dtype": the columns of a data frame with categories or strings, and those of an array
        of objects with strings, unless the strings are numbers, dates or text.
    column_kinds : dict or None, default=None
        The kinds of columns, as in `TableEncoder`, by their names or positions: "number",
        "category", "text", "date", "time" or "duration". None infers them from dtypes and values.
    class_weight : dict, "balanced" or None, default=None
        The weight of each class, a factor of the weights of its rows. "balanced" gives all classes
        the same total weight. None for equal weights. Probabilities are calibrated for the weighted
        class frequencies.
    blend : "auto", "boosting", list of estimators or None, default="auto"
        Classifiers that are averaged with the networks. Each is cloned and fitted for the same
        folds, and weighted by its out-of-fold predictions. They need ``predict_proba``. "boosting"
        is a `HistGradientBoostingClassifier` (learning rate 0.15, 16 leaves, half of the columns
        for each split, at most 1,000 iterations, early stopping by the held-out fold). "auto" is
        the same from 500 rows on, and None for fewer. Boosting, and any instance of its class in a
        list, gets the table itself: numbers with missing values, and codes of categories. All
        others get the outputs of a `TableEncoder` in float64. All get sample weights if they
        support them, and a seed for each ``random_state`` that is None. A list may also hold
        "boosting". None for networks only, which are smaller and faster, and can be exported to C.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None lets training choose: 14 to 248.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit. At the limit, `fit` keeps the
        best networks so far.
    verbose : bool or int, default=False
        Whether to print a line after each training cycle of each ensemble, with its validation loss
        and the maximum time left, and after each estimator of `blend`.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, sorted.
    oof_predict_proba_ : array of shape (n_samples, n_classes)
        The out-of-fold probabilities of the training rows. Attributes that begin with ``oof_`` are
        missing after a fit with X_val.
    oof_prediction_ : array of shape (n_samples,)
        The out-of-fold labels of the training rows.
    oof_score_ : float
        Their accuracy, weighted by `sample_weight`: an estimate of `score` on new rows.
    networks_ : list of estimators
        The ensembles, each a fitted `BackpropClassifier` for encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network of each ensemble that held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend` its clones, one for each fold; a single one after a fit with
        X_val. Estimators that exceeded the time limit are missing.
    weights_ : array of shape (n_ensembles + n_blended,)
        The weight of each ensemble in predictions, and then of each of `blended_`. Their sum is
        one.
    temperatures_ : array of shape (n_ensembles + n_blended,)
        The temperature of single networks, out of fold, which divides their logits. When networks
        are averaged, the square root of temperatures above one is used.
    background_ : tuple of arrays or None
        The encoded training rows that `explain` compares with: numbers, and codes of categories. If
        files must not hold them, set it to None before saving.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The number of epochs of each network.
    column_kinds_ : dict
        The kind of each column, by its name, or by its position if columns have no names: "number",
        "category", "text", "date", "time" or "duration".
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, if all are strings.

    See Also
    --------
    TabularRegressor : The regressor.
    TableEncoder : Encode raw tables for other estimators.

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
    _configurations: ClassVar[Sequence[EnsembleSettings]] = FOR_CLASSES

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        class_weight: ClassWeight | None = None,
        blend: Literal["auto", "boosting"] | list[Any] | tuple[Any, ...] | None = "auto",
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
        self.class_weight = class_weight
        self.blend = blend
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.verbose = verbose
        self.random_state = random_state

    def _validate_target(self, y: Any) -> Array:
        return validated_labels(y)

    def _fit_target(self, y: Array, weight: Array | None) -> Array:
        self._labels = make_target_encoder(y)
        self.classes_ = self._labels.classes
        encoded = self._encode_labels(y)
        if self.class_weight is not None:
            class_weight = checked_class_weight(self.class_weight)
            self._weight_of_class = compute_class_weight(class_weight, encoded, weight)
            # Raises if no row has weight.
            compute_sample_weight(class_weight, [encoded], False, weight)
        return encoded.codes

    def _encode_target(self, y: Any) -> Array:
        return self._encode_labels(self._validate_target(y)).codes

    def _encode_labels(self, y: Array) -> EncodedLabels:
        (encoded,) = self._labels.class_indices(self._labels.encode(y, needs_all=False))
        return encoded

    def _training_weight(self, y: Array, weight: Array | None) -> Array | None:
        if self.class_weight is None:
            return weight
        class_weight = self._weight_of_class[y]
        return class_weight if weight is None else weight * class_weight

    def _target_type(self) -> str | None:
        return {1: None, 2: "binary"}.get(len(self.classes_), "multiclass")

    def _blended_estimators(self, n_rows: int) -> tuple[list[Any], int | None, float]:
        blended, n_classes = resolve_blend(self.blend, n_rows), len(self.classes_)
        return blended if n_classes > 1 else [], n_classes, -np.inf

    def _make_networks(self, params: dict[str, Any], rows: LabeledRows) -> Any:
        shares = np.bincount(rows.y, rows.weight, len(self.classes_))
        # A class without weight counts as half a row.
        prior = np.log(np.maximum(shares, 0.5 * shares.sum() / len(rows.y)))
        if len(prior) <= 2:
            prior = np.array([prior[-1] - prior[0]])
        return TableClassifierNetworks(**params, init=OutputBiasInit(tuple(prior.tolist())))

    def _fit_mixture(
        self, outputs: Sequence[Array], y: Array, weight: Array | None, folds: Array | None
    ) -> Array:
        self.temperatures_ = np.array([calibrate(own, y, weight)[0] for own in outputs])
        pairs = zip(outputs, self.temperatures_, strict=True)
        by_component = np.array([_average_probabilities(*pair) for pair in pairs])
        likelihoods = np.maximum(by_component[:, np.arange(len(y)), y], _TINY)
        self.weights_ = mixture_weights_nll(likelihoods, weight)
        mixed = np.tensordot(self.weights_, by_component, 1)
        self._last_temperature, _ = calibrate(_safe_log(mixed), y, weight)
        return self._rescale(mixed)

    def _loss_of_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> float:
        mixed = shallow_copy_of(self)._fit_mixture(outputs, y, weight, None)
        return -float(np.average(_safe_log(mixed[np.arange(len(y)), y]), weights=weight))

    def _mix(self, outputs: Sequence[Array]) -> Array:
        mixed = 0.0
        for each, temperature, weight in zip(
            outputs, self.temperatures_, self.weights_, strict=True
        ):
            mixed = mixed + weight * _average_probabilities(each, temperature)
        return self._rescale(np.asarray(mixed))

    def _rescale(self, mixed: Array) -> Array:
        """Return mixed probabilities, calibrated by the last temperature."""
        rescaled = probabilities(_safe_log(mixed), self._last_temperature)
        return rescaled if len(self.classes_) > 1 else np.ones((len(rescaled), 1))

    def _set_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        self.oof_predict_proba_ = mixed
        self.oof_prediction_ = self.classes_[mixed.argmax(axis=1)]
        self.oof_score_ = self._score_mixed(mixed, y, weight, None)

    def _is_out_of_fold(self, mixed: Array) -> bool:
        return np.allclose(mixed, self.oof_predict_proba_, rtol=0.01, atol=0.01)

    def _score_mixed(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        scoring = "accuracy" if scoring is None else scoring
        return apply_scorer(scoring, mixed, self.classes_, self.classes_[y], weight)

    # ------------------------------------------------------------------ prediction

    def predict(self, X: TableLike) -> Array:
        """Predict the most probable label of each row.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, a list of dicts several.

        Returns
        -------
        y : array of shape (n_samples,)
            The labels.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or a numeric column is not numeric any more.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        labels: Array = self.classes_[codes]
        return labels

    def predict_proba(self, X: TableLike) -> Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, a list of dicts several.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``. The sum of each row is one.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or a numeric column is not numeric any more.
        """
        return self._predict(X, self._mix)

    def explain(
        self,
        X: TableLike,
        *,
        output: Literal["probability", "log_odds"] = "probability",
        background: MatrixLike | None = None,
        n_permutations: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Explanation:
        """Explain each prediction by the share of each column.

        The shares are interventional Shapley values [1]_ of the whole model: for each class, they
        sum to its output minus the mean output of the background. The share of a column is the mean
        change of the output when its value replaces that of a background row, over all orders in
        which columns are replaced. Columns are those of the table, not of its encoding.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The rows to explain.
        output : {"probability", "log_odds"}, default="probability"
            The output that is explained: the probability p of each class, as in `predict_proba`, or
            log(p / (1 - p)), which differs more between confident predictions.
        background : data frame, array-like or sparse matrix, default=None
            Rows to compare with. If there are more than 100, a random sample of 100 is used. None
            for 100 training rows with weight, which `fit` keeps (fewer above 1,000 columns).
        n_permutations : int, default=None
            The number of random orders for each background row. Every second order is the reverse
            of the previous one [2]_. None computes exact values for up to 6 columns, and draws 1
            order for more. The time is proportional to the number. Even numbers give exact values
            if at most two columns interact.
        random_state : int, RandomState instance or None, default=0
            Seed of the orders.

        Returns
        -------
        explanation : Explanation
            Its ``values`` have the shape (n_samples, n_features, n_classes).

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If an argument is not valid, or the table has other columns than in `fit`.

        References
        ----------
        .. [1] Janzing, Minorics & Bloebaum, "Feature relevance quantification in explainable AI: a
           causal problem", AISTATS 2020.
        .. [2] Mitchell, Cooper, Frank & Holmes, "Sampling permutations for Shapley value
           estimation", Journal of Machine Learning Research 23(43), 2022.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import TabularClassifier
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = TabularClassifier(n_estimators=2, max_iter=5, random_state=0).fit(X, y)
        >>> explanation = model.explain(X[:2])
        >>> explanation.values.shape
        (2, 4, 3)
        >>> bool(abs(explanation.predictions - model.predict_proba(X[:2])).max() < 1e-12)
        True
        """
        transform = output_transform(output)
        return self._explain(
            X,
            background,
            lambda outputs: transform(self._mix(outputs)),
            [str(label) for label in self.classes_] if hasattr(self, "classes_") else None,
            n_permutations,
            random_state,
        )


def _average_probabilities(logits: Array, temperature: float) -> Array:
    """Return the average probabilities of networks, given logits (n_networks, n, n_outputs).

    The temperature is that of single networks.
    """
    divisor = ensemble_temperature(temperature, len(logits))
    return np.asarray(probabilities(logits, divisor).mean(axis=0))


def ensemble_temperature(temperature: float, n_networks: int) -> float:
    """Return the temperature of networks that are averaged, given that of single networks."""
    return temperature if n_networks == 1 else min(temperature, temperature**_ENSEMBLE_EXPONENT)


def _safe_log(shares: Array) -> Array:
    """Return logarithms that are finite for zeros too."""
    return np.asarray(np.log(np.maximum(shares, _TINY)))


class TableClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks of a `TabularClassifier`, whose outputs are logits."""

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the mean log loss with the best temperature.

        It is independent of overconfidence, which temperature scaling corrects, so that it is no
        reason to stop training (Holzmueller et al. 2025, arXiv 2501.19195, section 3).
        """
        _, loss = calibrate(outputs, rows.y, rows.weight)
        return loss


def probabilities(scores: Array, temperature: float = 1.0) -> Array:
    """Return the probability of each class, given logits and a temperature.

    Parameters
    ----------
    scores : array of shape (..., n_outputs)
        Logits; a single one for two classes.
    temperature : float, default=1.0
        The divisor of the logits; probabilities are less confident above one.

    Returns
    -------
    probabilities : array of shape (..., n_classes), in double precision
    """
    logits = scores.astype(np.float64) / temperature
    if logits.shape[-1] > 1:
        return np.asarray(softmax(logits, axis=-1))
    return np.concatenate([expit(-logits), expit(logits)], axis=-1)


def calibrate(scores: Array, codes: Array, weight: Array | None) -> tuple[float, float]:
    """Return the temperature of maximum likelihood, and the mean log loss with it.

    See Guo et al. 2017, section 4.2.

    Parameters
    ----------
    scores : array of shape (n, n_outputs) or (n_models, n, n_outputs)
        Logits, of one or several models; a single one for two classes.
    codes : array of int of shape (n,)
        The class of each row.
    weight : array of shape (n,) or None
        The weight of each row.
    """
    rows = subsample_index(len(codes))
    codes, weight = codes[rows], weights_of_rows(weight, rows)
    logits = scores[..., rows, :].astype(np.float64)
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    logits -= logits.max(axis=-1, keepdims=True)
    own = logits[..., np.arange(len(codes)), codes]

    def losses_at(temperature: float) -> Array:
        scaled = logits / temperature
        losses = np.log(np.exp(scaled, out=scaled).sum(axis=-1)) - own / temperature
        return np.asarray(losses.reshape(-1, len(codes)).mean(axis=0))

    return fit_temperature(losses_at, weight, _MIN_TEMPERATURE)


def mixture_weights_nll(likelihoods: Array, weight: Array | None) -> Array:
    """Return the mixture weights of maximum likelihood.

    They are found by expectation maximization: the weight of a model is the mean of its shares in
    the likelihood of each row.

    Parameters
    ----------
    likelihoods : array of shape (n_models, n)
        The probability of the true class of each row by each model, above zero.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    rows = subsample_index(likelihoods.shape[1])
    likelihoods, weight = likelihoods[:, rows], weights_of_rows(weight, rows)
    weights = np.full(len(likelihoods), 1 / len(likelihoods))
    for _ in range(_N_STEPS if len(likelihoods) > 1 else 0):
        shares = weights[:, None] * likelihoods
        shares /= shares.sum(axis=0)
        weights = np.average(shares, axis=1, weights=weight)
    return weights
