"""Looking inside a fitted network: what its hidden layers make of X, and how it depends on X."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..nn.input_gradients import OutputGradient, compute_input_gradients
from ..utils.arrays import Array, MatrixLike
from ._fitted import check_finite_output
from .base import BaseNeuralNetwork


class HiddenLayersMixin(BaseNeuralNetwork):
    """An estimator that shows what is inside of its networks; not to be used directly."""

    def hidden_features(self, X: MatrixLike, layer: int = -1) -> Array:
        """Return the outputs of a hidden layer: what the network has made of each row so far.

        They are a = f(z), the values of the layer's activation, as prediction computes them:
        normalised where the layer is, and without dropout. Units of different members have
        nothing to do with each other, so that no mean of them is taken: they stand side by side,
        as columns for whatever comes next.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.
        layer : int, default=-1
            Which hidden layer: 0 is the first, -1 the last.

        Returns
        -------
        features : array of shape (n_samples, n_estimators * n_units)
            In the model's dtype: the units of the first member, then those of the second, and so
            on. ``features.reshape(len(features), n_estimators, -1)`` has an axis of the members.

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
        return np.asarray(self._predict_with(X, _side_by_side, self._n_layers_up_to(layer)))

    def _input_gradients(self, X: Any, slope: OutputGradient, n_quantities: int) -> Array:
        """Return derivatives of shape (n, n_features, n_quantities), of what `slope` is that of.

        X is input that has been checked.
        """
        learned = self._learned
        network, parameters = learned.network, self._parameters(learned)
        with np.errstate(all="ignore"):
            gradients = compute_input_gradients(network, parameters, X, slope, n_quantities)
            return check_finite_output(gradients, network, parameters, X)

    def _score_cotangent(self, scores: Array, output: int) -> Array:
        """Return derivatives of the pooled score of an output by the scores of each member."""
        delta = np.zeros_like(scores[0])
        delta[:, output] = 1
        if len(scores) == 1:
            return delta[None]
        return self._learned.loss.link.average_predictions_backward(scores, delta)

    def _slope_of_prediction(self, scores: Array, output: int) -> Array:
        """Return derivatives of the mean of the members' predictions by the scores of each."""
        mean, delta, link = np.empty_like(scores), np.zeros_like(scores), self._learned.loss.link
        link.inverse(scores, mean)
        delta[..., output] = 1 / len(scores)
        link.inverse_backward(mean, delta)
        return delta

    def _n_layers_up_to(self, layer: Any) -> int:
        """Return the number of layers up to the activation of a hidden layer."""
        each = self._learned.network.n_up_to_activation
        return each[validate_layer_index(layer, len(each))]

    def _n_hidden_features(self, layer: Any) -> int:
        """Return the number of columns of the `hidden_features`."""
        n_units = self._learned.network.n_units[self._n_layers_up_to(layer)]
        return n_units * self._n_trained


def validate_layer_index(layer: Any, n_hidden: int) -> int:
    """Return the place of a hidden layer, checked; it may be counted from the end."""
    if not n_hidden:
        raise ValueError(
            "The network has no hidden layers, so that there are no hidden features. Give it some "
            "by hidden_layer_sizes."
        )
    is_int = isinstance(layer, Integral) and not isinstance(layer, bool)
    if not (is_int and -n_hidden <= layer < n_hidden):
        raise ValueError(
            f"layer must be an int from {-n_hidden} to {n_hidden - 1}, since the network has "
            f"{n_hidden} hidden layer(s), got {layer!r}."
        )
    return int(layer)


def _side_by_side(units: Array) -> Array:
    """Return outputs of shape (n_estimators, n, k) as rows with the units of all members."""
    return units[0] if len(units) == 1 else np.hstack(list(units))
