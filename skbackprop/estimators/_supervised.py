"""Base class of classifier and regressor: ensembles, hidden features, input gradients.

The autoencoder has none of these: averaged codes of several networks would mean nothing, and
batch-normalized codes would depend on the other rows of a batch.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from numbers import Integral
from typing import Any, ClassVar, Self, cast

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from ..layers.normalization import BatchNormalization
from ..nn.network import Network
from ..nn.prediction import OutputGradient, compute_input_gradients
from ..training.architecture import get_normalization
from ..training.out_of_fold import OutOfFoldPredictions
from ..training.weight_init import get_member_init
from ..utils.arrays import Array, MatrixLike
from ._fit_context import ScoredPredictions
from ._fitted_attributes import OptionalDerivedAttribute, check_finite_output
from ._history import HISTORY_ATTRIBUTES
from ._validation import validate_input
from .base import BaseNeuralNetwork

# The fitted attributes with a value for each member, beside the parameter arrays.
_PER_MEMBER = (*HISTORY_ATTRIBUTES, "converged_", "loss_", "n_iter_", "t_")


def _is_batch_normalization(normalization: Any) -> bool:
    return isinstance(get_normalization(normalization), BatchNormalization)


class BaseSupervisedNetwork(BaseNeuralNetwork):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _attribute_names: ClassVar[Mapping[str, str]] = {
        "weights": "coefs_",
        "biases": "intercepts_",
        "gains": "gains_",
        "means": "running_means_",
        "variances": "running_variances_",
    }

    gains_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", lambda value: value is not None)
    )
    running_means_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", _is_batch_normalization)
    )
    running_variances_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", _is_batch_normalization)
    )

    # Of the `layers`, if there are any.
    embeddings_: list[Array]
    frequencies_: list[Array]
    maps_: list[Array]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self._settings["layers"]
        return tags

    # --------------------------------------------------------------------- ensembles

    def _average_raw(self, scores: Array) -> Array:
        """Return the raw prediction whose prediction is the mean of the members' predictions."""
        if len(scores) == 1:
            return scores[0]
        return self._data_info.loss.link.average_predictions(scores)

    def _get_out_of_fold(self) -> OutOfFoldPredictions:
        """Return the out-of-fold predictions."""
        check_is_fitted(self)
        predictions: OutOfFoldPredictions | None = getattr(self, "_out_of_fold", None)
        if predictions is None:
            raise AttributeError(
                "Out-of-fold attributes are only available with several members, each of which "
                "holds out one fold. Set n_estimators to the number of folds and "
                'early_stopping=EarlyStopping(validation_fraction="folds"), and fit again.'
            )
        return predictions

    @property
    def oof_member_(self) -> Array:
        """The member that held out each row, with cross-validation folds in early stopping."""
        return self._get_out_of_fold().member

    @property
    def oof_score_(self) -> float:
        """The score of `oof_prediction_`, with the row weights of training."""
        return self._get_out_of_fold().score

    @property
    def estimators_(self) -> list[Self]:
        """The members as estimators of one network each, which share this estimator's weights.

        A single network has no `estimators_`, so that recursion over members ends.
        """
        check_is_fitted(self)
        if self._n_trained == 1:
            raise AttributeError(
                "estimators_ is only available with several members, but this "
                f"{type(self).__name__} is a single network. Use it directly, or set n_estimators "
                "above 1."
            )
        members = []
        for i in range(self._n_trained):
            one = self._as_single_network(self._data_info)
            one.random_state = copy.deepcopy(self.random_state)
            one.init = get_member_init(self.init, i)
            for attribute in self._name_attributes(self._data_info.network).values():
                arrays = getattr(self, attribute)
                own = None if arrays is None else [array[i] for array in arrays]
                setattr(one, attribute, own)
            for name in _PER_MEMBER:
                value = self._get_for_member(name, i)
                is_scalar = isinstance(value, np.generic) and name not in ("loss_", "best_loss_")
                setattr(one, name, value.item() if is_scalar else value)
            members.append(one)
        return members

    # --------------------------------------------------------------- hidden features

    def hidden_features(self, X: MatrixLike, layer: int = -1) -> Array:
        """Return the outputs of a hidden layer, as features for other estimators.

        The outputs are a = f(z), the values of the layer's activation in prediction: normalized
        if the layer is, and without dropout. Activations in `layers` count as hidden layers too,
        and the outputs of images and sequences are flattened. The units of several members stand
        side by side, as they are not comparable and so have no meaningful average.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        layer : int, default=-1
            The index of the hidden layer: 0 is the first, -1 the last.

        Returns
        -------
        features : array of shape (n_samples, n_estimators * n_units)
            The units of the first member, then those of the second, and so on, in the model's
            dtype. ``features.reshape(len(features), n_estimators, -1)`` has an axis of members.

        Raises
        ------
        NotFittedError
            If the network is not fitted.
        ValueError
            If there is no such hidden layer, or X is not valid input for the network.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = BackpropClassifier((16, 3), solver="lbfgs", max_iter=1000, random_state=0)
        >>> model.fit(X, y).hidden_features(X).shape
        (150, 3)
        >>> model.hidden_features(X, layer=0).shape
        (150, 16)
        """
        check_is_fitted(self)

        def side_by_side(units: Array) -> Array:
            return units[0] if len(units) == 1 else np.hstack(list(units))

        n_layers = n_layers_up_to(self._data_info.network, layer)
        return np.asarray(self._predict_in_blocks(X, side_by_side, n_layers))

    # --------------------------------------------------------------- input gradients

    def _input_gradients(self, X: Any, output_gradient: OutputGradient, n_outputs: int) -> Array:
        """Return derivatives of outputs by the features, of shape (n, n_features, n_outputs)."""
        info = self._data_info
        X = validate_input(self, X)
        network, parameters = info.network, self._fitted_parameters(info)
        with np.errstate(all="ignore"):
            gradients = compute_input_gradients(network, parameters, X, output_gradient, n_outputs)
            return check_finite_output(gradients, network, parameters, X)

    def _get_row_shape(self, X: Any) -> tuple[int, ...]:
        """Return the shape of one row of valid X as the user has given it."""
        info = self._data_info
        is_shaped = len(info.network.input_shape) > 1 and not issparse(X)
        return np.shape(X)[1:] if is_shaped else (info.n_features,)

    def _raw_output_gradient(self, scores: Array, output: int) -> Array:
        """Return the derivatives of an averaged raw prediction by those of each member."""
        delta = np.zeros_like(scores[0])
        delta[:, output] = 1
        if len(scores) == 1:
            return delta[None]
        return self._data_info.loss.link.average_predictions_backward(scores, delta)

    def _prediction_output_gradient(self, scores: Array, output: int) -> Array:
        """Return the derivatives of an averaged prediction by the members' raw predictions."""
        mean, delta, link = np.empty_like(scores), np.zeros_like(scores), self._data_info.loss.link
        link.inverse(scores, mean)
        delta[..., output] = 1 / len(scores)
        link.inverse_backward(mean, delta)
        return delta

    # ------------------------------------------------------------------------- score

    @abstractmethod
    def _make_scoring_inputs(self, X: Any, y: Any, sample_weight: Any) -> ScoredPredictions:
        """Return what the score is computed from."""

    @abstractmethod
    def _compute_score(self, inputs: ScoredPredictions) -> float:
        """Return the score."""


def make_scoring_inputs(
    estimator: BaseSupervisedNetwork, X: Any, y: Any, sample_weight: Any
) -> ScoredPredictions:
    """Return the targets, predictions and weights that the score of rows is computed from."""
    return estimator._make_scoring_inputs(X, y, sample_weight)


def compute_score(estimator: BaseSupervisedNetwork, inputs: ScoredPredictions) -> float:
    """Return the estimator's score, from the inputs of all rows together."""
    return estimator._compute_score(inputs)


def n_layers_up_to(network: Network, layer: Any) -> int:
    """Return the number of network layers up to the activation of a hidden layer."""
    counts = network.n_up_to_activation
    return counts[validate_layer_index(layer, len(counts))]


def validate_layer_index(layer: Any, n_hidden: int) -> int:
    """Return the index of a hidden layer, which may be negative, after a check."""
    if not n_hidden:
        raise ValueError(
            "The network has no hidden layers, so it has no hidden features. Set "
            "hidden_layer_sizes, and fit again."
        )
    is_int = isinstance(layer, Integral) and not isinstance(layer, bool)
    if not (is_int and -n_hidden <= layer < n_hidden):
        raise ValueError(
            f"layer must be an int from {-n_hidden} to {n_hidden - 1} for a network with "
            f"{n_hidden} hidden layer(s), got {layer!r}."
        )
    return int(layer)
