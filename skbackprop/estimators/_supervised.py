"""Base class of classifier and regressor: ensembles, hidden features, input gradients.

The autoencoder has none of these, because codes of several networks have no meaningful average, and
batch-normalized codes would depend on the other rows of a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from ..nn.network import Network
from ..nn.prediction import OutputGradient, compute_input_gradients
from ..nn.train_state import TrainState
from ..training.architecture import (
    get_member_init,
    has_member_axis,
    layer_widths,
    make_initial_weights,
)
from ..training.config import Config
from ..training.model import Model
from ..training.start import Fresh
from ..training.targets import Targets
from ..training.validation import OutOfFoldPredictions
from ..utils.arrays import Array, MatrixLike
from ._fitted import check_finite_output
from ._validation import validate_input
from .base import BaseNeuralNetwork


class BaseSupervisedNetwork(BaseNeuralNetwork):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    @classmethod
    def _from_weights(
        cls,
        coefs: Sequence[Any],
        intercepts: Sequence[Any],
        make_targets: Callable[[Config, int], Targets],
        params: Mapping[str, Any],
    ) -> Self:
        """Return a fitted estimator with the weights of the user."""
        n_features, *hidden_widths, n_outputs = layer_widths(coefs)
        settings = {"hidden_layer_sizes": tuple(hidden_widths), **params}
        if has_member_axis(coefs):
            settings["n_estimators"] = len(coefs[0])
        estimator = cls(**settings, init=(coefs, intercepts))
        all_params = estimator._get_init_params()
        config = estimator._validate_config(all_params, Fresh(None))
        if config.layers or config.normalization is not None:
            raise ValueError(
                "from_weights makes networks of dense layers alone, so layers and normalization "
                f"must be None, got {list(config.layers)!r} and {config.normalization!r}."
            )
        network = config.network((n_features,), n_outputs)
        n = config.n_estimators
        layers = [
            make_initial_weights(config.init, network, np.random.RandomState(0), i, n)
            for i in range(n)
        ]
        dtype = config.dtype or np.result_type(np.float32, *(np.asarray(coef) for coef in coefs))
        state = TrainState.initial(network.init_parameters(layers, dtype))
        targets = make_targets(config, n_outputs)
        model = Model(all_params, config, network, targets, state, (n_features,))
        estimator._set_model(model.summarize())
        return estimator

    # --------------------------------------------------------------------- ensembles

    def _average_raw(self, raw_predictions: Array) -> Array:
        """Return raw predictions that stand for the mean of the members' predictions."""
        if len(raw_predictions) == 1:
            return raw_predictions[0]
        return self._model.targets.loss.link.average_predictions(raw_predictions)

    def _get_out_of_fold(self) -> OutOfFoldPredictions:
        """Return the out-of-fold predictions."""
        check_is_fitted(self)
        out_of_fold = self._model.out_of_fold
        if out_of_fold is None:
            raise AttributeError(
                "Out-of-fold attributes are only available with several members, each of which "
                "holds out one fold. Set n_estimators to the number of folds and "
                'early_stopping=EarlyStopping(validation_fraction="folds"), and fit again.'
            )
        return out_of_fold

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

        A single network has no `estimators_`, which ends the recursion over members.
        """
        check_is_fitted(self)
        n = len(self._model.state)
        if n == 1:
            raise AttributeError(
                "estimators_ is only available with several members, but this "
                f"{type(self).__name__} is a single network. Use it directly, or set n_estimators "
                "above 1."
            )
        return [self._take_member(i) for i in range(n)]

    def _take_member(self, i: int) -> Self:
        """Return one of several networks as an estimator, which shares its weights."""
        member = self._without_model()
        member.n_estimators = 1
        member.random_state = copy.deepcopy(self.random_state)
        member.init = get_member_init(self.init, i)
        member._set_model(self._model.member(i, member._get_init_params()))
        return member

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
        n_layers = n_layers_up_to(self._model.network, layer)
        return np.asarray(self._predict_in_blocks(X, lambda units: np.hstack([*units]), n_layers))

    # --------------------------------------------------------------- input gradients

    def _input_gradients(self, X: Any, output_gradient: OutputGradient, n_outputs: int) -> Array:
        """Return derivatives of outputs by the features, of shape (n, n_features, n_outputs)."""
        network = self._model.network
        parameters = self._model.parameters
        X = validate_input(self, X)
        with np.errstate(all="ignore"):
            gradients = compute_input_gradients(network, parameters, X, output_gradient, n_outputs)
            return check_finite_output(gradients, network, parameters, X)

    def _get_row_shape(self, X: Any) -> tuple[int, ...]:
        """Return the shape of one row of valid X as the user has given it."""
        is_shaped = len(self._model.network.input_shape) > 1 and not issparse(X)
        return np.shape(X)[1:] if is_shaped else (self.n_features_in_,)

    def _raw_output_gradient(self, raw_predictions: Array, output: int) -> Array:
        """Return the derivatives of an averaged raw prediction by the members' raw predictions."""
        delta = np.zeros_like(raw_predictions[0])
        delta[:, output] = 1
        if len(raw_predictions) == 1:
            return delta[None]
        link = self._model.targets.loss.link
        return link.average_predictions_backward(raw_predictions, delta)

    def _prediction_output_gradient(self, raw_predictions: Array, output: int) -> Array:
        """Return the derivatives of an averaged prediction by the members' raw predictions."""
        link = self._model.targets.loss.link
        mean = np.empty_like(raw_predictions)
        delta = np.zeros_like(raw_predictions)
        link.inverse(raw_predictions, mean)
        delta[..., output] = 1 / len(raw_predictions)
        link.inverse_backward(mean, delta)
        return delta


def n_layers_up_to(network: Network, layer: Any) -> int:
    """Return the number of network layers up to the activation of a hidden layer.

    Raises
    ------
    ValueError
        If `layer` is not the index of a hidden layer, which may be negative.
    """
    counts = network.n_up_to_activation
    n_hidden = len(counts)
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
    return counts[layer]
