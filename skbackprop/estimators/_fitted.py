"""Fitted state of the networks: parameter arrays, pickles, prediction and summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_is_fitted

from ..losses.base import Loss
from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import FEW_ROWS, Predictor, predict_raw
from ..nn.train_state import TrainState
from ..training.architecture import validate_array
from ..training.config import Config
from ..training.validation import OutOfFoldPredictions
from ..utils.arrays import Array, max_abs
from ._estimator_mixin import EstimatorMixin
from ._targets import Targets
from ._validation import validate_input
from .summary import Summary, summarize_network


def history_attributes(
    state: TrainState, config: Config, incremental: bool, last_best_loss: Any
) -> dict[str, Any]:
    """Return the fitted attributes about the last training, per member if there are several.

    After `partial_fit`, the best loss is the lowest of all its calls and of the fit before them.
    """
    n, is_scored, members = len(state), config.early_stopping is not None, []
    last_best = np.full(n, np.inf) if last_best_loss is None else np.ravel(last_best_loss)
    for i in range(n):
        epoch = int(state.epoch[i, 0])
        n_iter = min(epoch, 1) if incremental else epoch
        losses = [record["loss"] for record in state.history[i][-n_iter:]] if n_iter else []
        if incremental:
            losses.append(last_best[i])
        best_epoch = int(state.best["epoch"][i, 0]) if state.best else 0
        best_score = float(state.best["score"][i, 0]) if best_epoch else math.nan
        attributes = {
            "n_iter_": n_iter,
            "converged_": state.stop_reason[i] == "converged",
            "t_": int(state.n_samples_seen[i, 0]),
            "loss_": np.float64(state.loss[i, 0]),
            "best_loss_": None if is_scored else np.float64(min(losses, default=np.inf)),
            "best_validation_score_": best_score if state.best else None,
            "best_iter_": best_epoch or n_iter,
        }
        members.append(attributes)
    if n == 1:
        return members[0]
    return {name: _stack_values([member[name] for member in members]) for name in members[0]}


def get_curve(state: TrainState, key: str) -> Any:
    """Return a curve over all fits, a list of curves of several members, or None.

    The key is that of the records of epochs.
    """
    # Losses are NumPy scalars, as in scikit-learn: they have methods such as round.
    kind = float if key == "validation_score" else np.float64
    curves = [[kind(record[key]) for record in items if key in record] for items in state.history]
    if key == "validation_loss" and not any(curves):
        return None
    return curves[0] if len(curves) == 1 else curves


def _stack_values(values: Sequence[Any]) -> Any:
    """Return an array with the values of several members, or None."""
    return None if values[0] is None else np.array(values)


# The number of raw predictions that are turned into predictions at once.
_BLOCK_SIZE = 1 << 18

# The number of rows predicted at once in the search for the cause of non-finite outputs.
_ROWS_AT_ONCE = 1 << 10

# The names of layers' arrays by the attributes of another name, two of which are scikit-learn's.
_ARRAY_NAMES = {
    "coefs_": "weights",
    "intercepts_": "biases",
    "running_means_": "means",
    "running_variances_": "variances",
}

# The attributes of `normalization`, which are None without it.
_NORMALIZATION_ATTRIBUTES = "gains_", "running_means_", "running_variances_"

# The attributes in which a fitted network is held.
FITTED_PARTS = "_config", "_network", "_targets", "_state", "_predictor", "_out_of_fold"

# Attributes without a place in pickles and copies: derived ones, and those of a running fit.
_TRANSIENT = (
    *FITTED_PARTS,
    *("_callback_fit_ctx", "_skl_callbacks_to_teardown", "_parent_callback_ctx", "_predictors"),
)


class ParameterList(list[Array]):
    """The arrays of one kind of a fitted network, a view of its parameters for each layer.

    Items that are assigned are copied into the network.

    Parameters
    ----------
    arrays : sequence of arrays
        The views.
    assign : callable
        Writes an array to the network, given its position in the list.
    """

    def __init__(self, arrays: Sequence[Array], assign: Callable[[int, Any], None]) -> None:
        super().__init__(arrays)
        self._assign = assign

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __setitem__(self, index: Any, value: Any) -> None:
        numbers = range(len(self))[index]
        pairs = zip(numbers, value, strict=True) if isinstance(index, slice) else [(numbers, value)]
        for i, array in pairs:
            self._assign(i, array)

    def _refuse(self, *args: Any) -> Any:
        raise TypeError(
            "A fitted network cannot have more or fewer layers. Assign an array of the same shape "
            "to an item of the list, or all arrays to the attribute."
        )

    append = extend = insert = pop = remove = clear = _refuse
    __delitem__ = __iadd__ = __imul__ = _refuse


class FittedMixin(EstimatorMixin):
    """Fitted state of the networks: parameter arrays, pickles, prediction and summary.

    With several members, an attribute is an array or list with one value for each member.
    """

    _losses: ClassVar[Mapping[str, Loss]]  # by name
    _config_class: ClassVar[type[Config]] = Config

    _fit_params: dict[str, Any]  # the constructor's parameters at the last fit
    _config: Config  # these parameters as objects
    _network: Network  # the layers in prediction
    _targets: Targets
    _state: TrainState
    _predictor: Predictor  # with the parameters for prediction
    _row_shape: tuple[int, ...]
    _out_of_fold: OutOfFoldPredictions | None = None  # None without folds
    _was_incremental: bool  # whether the last training was `partial_fit`

    # The types are those that reading returns.
    coefs_: list[Array]
    intercepts_: list[Array]
    gains_: list[Array] | None
    running_means_: list[Array] | None
    running_variances_: list[Array] | None
    scales_: list[Array]
    embeddings_: list[Array]
    frequencies_: list[Array]
    maps_: list[Array]
    n_features_in_: int
    feature_names_in_: Array
    loss_: float | Any
    best_loss_: float | Any | None
    best_validation_score_: float | Any | None
    n_iter_: int | Any
    best_iter_: int | Any
    converged_: bool | Any
    t_: int | Any

    def __sklearn_is_fitted__(self) -> bool:
        return "_state" in vars(self)

    # --------------------------------------------------------------- parameter arrays

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_") and "_state" in self.__dict__:
            if self._find_array(name):
                return self._get_arrays(name)
            if name in _NORMALIZATION_ATTRIBUTES and hasattr(type(self), "normalization"):
                return None
        return object.__getattribute__(self, name)  # raises the error of a property again

    def __dir__(self) -> list[str]:
        """Return the names of attributes, those of the networks' arrays among them."""
        names = [*super().__dir__(), *_ARRAY_NAMES]
        names += [f"{name}_" for name in (self._network.shapes if "_state" in vars(self) else ())]
        return [name for name in names if hasattr(self, name)]

    def __setattr__(self, name: str, value: Any) -> None:
        if name.endswith("_") and "_state" in vars(self) and self._find_array(name):
            arrays = self._get_arrays(name)
            if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != len(arrays):
                raise ValueError(
                    f"{name} must be a list of {len(arrays)} arrays of the shapes "
                    f"{[array.shape for array in arrays]}, got {value!r}. The layers of a fitted "
                    f"network cannot be changed: create a new {type(self).__name__} for another "
                    "network."
                )
            arrays[:] = value
        elif name == "feature_names_in_" and value is None:  # the columns have no names
            self.__dict__.pop(name, None)
        elif name in ("coefs_", "intercepts_"):
            raise AttributeError(
                f"{name} can only be assigned after fit. To make a fitted {type(self).__name__} "
                f"from weights, call {type(self).__name__}.from_weights(coefs, intercepts)."
            )
        else:
            super().__setattr__(name, value)

    def _find_array(self, attribute: str) -> str:
        """Return the name of the layers' array that an attribute shows; empty if there is none."""
        name = _ARRAY_NAMES.get(attribute, attribute[:-1])
        is_other = name != attribute[:-1] or name not in _ARRAY_NAMES.values()
        return name if is_other and name in self._network.shapes else ""

    def _get_arrays(self, name: str) -> ParameterList:
        """Return the arrays of an attribute, as views of the parameters for prediction."""
        parameters, kind = self._predictor.parameters, self._find_array(name)
        members = 0 if len(parameters) == 1 else slice(None)
        pairs = zip(parameters.select(kind), self._network.shapes[kind], strict=True)
        arrays = [x[members, 0] if len(shape) == 1 else x[members] for x, shape in pairs]
        if parameters.theta is not self._state.parameters.theta:
            # Training does not continue from these arrays, so they are read-only.
            for array in arrays:
                array.flags.writeable = False

        def assign(i: int, value: Any) -> None:
            array = validate_array(value, arrays[i].shape, f"{name}[{i}]")
            parameters = self._predictor.parameters
            if parameters.theta is not self._state.parameters.theta:
                # Training continues from the parameters for prediction, which contain the weight
                # average, the best epoch and the temperature.
                self._state = self._state.with_parameters(parameters)
                self._predictor = Predictor(self._network, self._state.parameters)
            self._get_arrays(name)[i][...] = array

        return ParameterList(arrays, assign)

    # ------------------------------------------------------------ other fitted attributes

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch, of all fits that continued each other."""
        return get_curve(self._state, "loss")

    @property
    def validation_loss_curve_(self) -> list[float] | None:
        """The loss of the validation rows after each epoch."""
        return get_curve(self._state, "validation_loss")

    @property
    def validation_scores_(self) -> list[float] | None:
        """The score of the validation rows after each epoch."""
        has_scores = self._config.early_stopping is not None
        return get_curve(self._state, "validation_score") if has_scores else None

    @property
    def n_layers_(self) -> int:
        """The number of layers with weights, and the input."""
        return len(self._network.widths)

    @property
    def n_outputs_(self) -> int:
        """The number of raw predictions of a row."""
        return self._network.n_units[-1]

    @property
    def n_parameters_(self) -> int:
        """The number of learned parameters of one network, also of its frozen layers."""
        return self._network.layout.n_parameters + self._network.layout.n_frozen

    @property
    def out_activation_(self) -> str:
        """The name of the function that turns raw predictions into predictions."""
        return self._targets.loss.link.name

    # ------------------------------------------------------------------------ pickles

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the networks as arrays.

        Fields that only training needs are left out, unless training is likely to continue.
        """
        attributes = super().__getstate__()
        result = {name: value for name, value in attributes.items() if name not in _TRANSIENT}
        if "_state" in attributes:
            state = self._state
            if not (self.warm_start or self._was_incremental):
                state = state.with_parameters(self._predictor.parameters, only_predicts=True)
            result["_fitted"] = {
                "targets": self._targets.to_dict(),
                "n_outputs": self._network.n_units[-1],
                "state": state.to_arrays(),
                "out_of_fold": None if self._out_of_fold is None else tuple(self._out_of_fold),
            }
        return result

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        values = dict(attributes)
        fitted = values.pop("_fitted", None)
        super().__setstate__(values)
        if fitted is not None:
            config = self._config_class.from_params(self._fit_params, self._losses)
            network = config.network(self._row_shape, fitted["n_outputs"])
            targets = self._restore_targets(config, fitted["targets"])
            state = TrainState.from_arrays(fitted["state"], network.layout)
            self._set_networks(config, network, targets, state)
            out_of_fold = fitted["out_of_fold"]
            self._out_of_fold = out_of_fold and OutOfFoldPredictions(*out_of_fold)

    def _restore_targets(self, config: Config, values: Mapping[str, Any]) -> Targets:
        """Return the targets from the result of `Targets.to_dict`."""
        raise NotImplementedError

    def _set_networks(
        self, config: Config, network: Network, targets: Targets, state: TrainState
    ) -> None:
        """Set the networks for prediction."""
        predictor = Predictor(network, state.inference_parameters(network.layout), FEW_ROWS)
        self.__dict__.update(
            _config=config,
            _network=network,
            _targets=targets,
            _state=state,
            _predictor=predictor,
        )

    # ---------------------------------------------------------------------- summary

    def summary(self) -> Summary:
        """Return a table of the layers, with their outputs and numbers of parameters.

        It shows `layers` and the hidden layers with the shapes of their outputs, but not the
        dropout of the parameter `dropout`. Running statistics of batch normalization are not
        learned by gradients and are not counted.

        Returns
        -------
        summary : Summary
            A table, shown as text or, in a notebook, as HTML. Its rows are in ``layers``.

        Raises
        ------
        NotFittedError
            If the network is not fitted, as the numbers of inputs and outputs are unknown.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import BackpropClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = BackpropClassifier((), solver="lbfgs", max_iter=1000)
        >>> model.fit(X, y).summary()
        BackpropClassifier
        layer    outputs  parameters  shapes
        input          4           0
        Dense          3          15  weights (4, 3), biases (3,)
        softmax        3           0
        total                     15
        """
        check_is_fitted(self)
        name, link = type(self).__name__, self._targets.loss.link
        return summarize_network(name, self._network, link.name, len(self._state))

    # ------------------------------------------------------------------- prediction

    def _predict_in_blocks(
        self, X: Any, transform: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        """Return predictions, computed from raw predictions in blocks of rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input, which is validated.
        transform : callable
            Turns raw predictions of shape (n_estimators, n, k), which it may overwrite, into
            predictions of n rows: an array, a CSR matrix, or a tuple of arrays.
        n_layers : int or None, default=None
            Use the outputs of the first `n_layers` layers in place of the raw predictions.

        Returns
        -------
        predictions : array, CSR matrix or tuple of arrays
            The predictions of all rows.
        """
        check_is_fitted(self)
        X = validate_input(self, X)
        predictor = self._predictor
        network, parameters = predictor.network, predictor.parameters
        if n_layers is not None:
            layers = slice(n_layers)
            predictor = Predictor(network.part(layers), parameters.part(layers))
        elif X.shape[0] > FEW_ROWS:
            predictor = Predictor(network, parameters)
        n_rows = max(1, _BLOCK_SIZE // (len(parameters) * predictor.network.n_units[-1]))
        arrays: list[Array] = []
        matrices: list[Any] = []
        with np.errstate(all="ignore"):
            for rows, outputs in predictor.iter_parts(X, rows_at_once=n_rows):
                check_finite_output(outputs, predictor.network, parameters, X)
                result = transform(outputs)
                if outputs.shape[1] == X.shape[0]:
                    return result
                if issparse(result):
                    matrices.append(result)
                    continue
                parts = result if isinstance(result, tuple) else (result,)
                if not arrays:
                    arrays = [np.empty((X.shape[0], *a.shape[1:]), a.dtype) for a in parts]
                for array, part in zip(arrays, parts, strict=True):
                    array[rows] = part
        if matrices:
            return vstack(matrices)
        return tuple(arrays) if len(arrays) > 1 else arrays[0]


def check_finite_output(outputs: Array, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return outputs of a network for X, or raise an error with the likely cause."""
    if np.isfinite(outputs.sum()) or np.isfinite(outputs).all():
        return outputs
    max_x, max_weight = max_abs(X), max_abs(parameters.theta)
    sizes = f"the largest absolute value in X is {max_x:.3g} and in the weights {max_weight:.3g}"
    # With X scaled to at most 1 in absolute value, only the weights can be the cause.
    if all(
        np.isfinite(predict_raw(network, parameters, X[rows] / (max_x or 1.0))).all()
        for rows in gen_batches(X.shape[0], _ROWS_AT_ONCE)
    ):
        advice = "Check that X has the same scale as the training data."
    else:
        advice = (
            "The weights are too large for any X. If training made them, it diverged: lower "
            "learning_rate_init or scale the training data, and fit again."
        )
    raise ValueError(f"The network's output on X is not finite: {sizes}. {advice}")
