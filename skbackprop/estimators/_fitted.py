"""Fitted state of the networks: parameter arrays, pickles, prediction and summary."""

from __future__ import annotations

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
from ..training.architecture import validate_array
from ..training.config import Config
from ..training.model import Model, get_curve
from ..utils.arrays import Array, max_abs
from ._estimator_mixin import EstimatorMixin
from ._validation import validate_input
from .summary import Summary, summarize_network

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
_NORMALIZATION_ATTRIBUTES = ("gains_", "running_means_", "running_variances_")

# Attributes of a running fit, without a place in pickles and copies.
_OF_RUNNING_FIT = (
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
    "_parent_callback_ctx",
    "_predictors",
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

    _model: Model  # only of a fitted estimator

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
        return "_model" in vars(self)

    def _set_model(self, model: Model) -> None:
        """Replace the fitted network, and with it all fitted attributes."""
        last = vars(self).get("_model")
        if last is not None and model.is_incremental:
            model.reuse_predictor(last)
        model.predictor  # noqa: B018, threads share the predictor, so it is made now
        self._model = model

    # --------------------------------------------------------------- parameter arrays

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_") and not name.startswith("_") and "_model" in self.__dict__:
            attributes = self._model.attributes
            if name in attributes:
                return attributes[name]
            if self._find_array(name):
                return self._get_arrays(name)
            if name in _NORMALIZATION_ATTRIBUTES and hasattr(type(self), "normalization"):
                return None
        return object.__getattribute__(self, name)  # raises the error of a property again

    def __dir__(self) -> list[str]:
        """Return the names of attributes, those of the fitted network among them."""
        names = [*super().__dir__(), *_ARRAY_NAMES]
        if "_model" in vars(self):
            names += self._model.attributes
            names += [f"{name}_" for name in self._model.network.shapes]
        return [name for name in names if hasattr(self, name)]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_model":
            attributes = self.__dict__
            # Attributes that a user has set belong to the model before.
            for attribute in [key for key in attributes if key.endswith("_")]:
                if attribute in value.attributes:
                    del attributes[attribute]
            attributes["_model"] = value
        elif name.endswith("_") and "_model" in vars(self) and self._find_array(name):
            arrays = self._get_arrays(name)
            if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != len(arrays):
                raise ValueError(
                    f"{name} must be a list of {len(arrays)} arrays of the shapes "
                    f"{[array.shape for array in arrays]}, got {value!r}. The layers of a fitted "
                    f"network cannot be changed: create a new {type(self).__name__} for another "
                    "network."
                )
            arrays[:] = value
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
        return name if is_other and name in self._model.network.shapes else ""

    def _get_arrays(self, name: str) -> ParameterList:
        """Return the arrays of an attribute, as views of the parameters for prediction."""
        model = self._model
        parameters = model.parameters
        kind = self._find_array(name)
        members = 0 if len(parameters) == 1 else slice(None)
        pairs = zip(parameters.select(kind), model.network.shapes[kind], strict=True)
        arrays = [x[members, 0] if len(shape) == 1 else x[members] for x, shape in pairs]
        if parameters.theta is not model.state.parameters.theta:
            # Training does not continue from these arrays, so they are read-only.
            for array in arrays:
                array.flags.writeable = False

        def assign(i: int, value: Any) -> None:
            array = validate_array(value, arrays[i].shape, f"{name}[{i}]")
            model = self._model
            if model.parameters.theta is not model.state.parameters.theta:
                # Training continues from the parameters for prediction, which contain the weight
                # average, the best epoch and the temperature.
                self.__dict__["_model"] = model.with_parameters(model.parameters)
            self._get_arrays(name)[i][...] = array

        return ParameterList(arrays, assign)

    # ------------------------------------------------------------ other fitted attributes

    @property
    def loss_curve_(self) -> list[float]:
        """The training loss of each epoch, of all fits that continued each other."""
        return get_curve(self._model.state, "loss")

    @property
    def validation_loss_curve_(self) -> list[float] | None:
        """The loss of the validation rows after each epoch."""
        return get_curve(self._model.state, "validation_loss")

    @property
    def validation_scores_(self) -> list[float] | None:
        """The score of the validation rows after each epoch."""
        has_scores = self._model.config.early_stopping is not None
        return get_curve(self._model.state, "validation_score") if has_scores else None

    @property
    def n_layers_(self) -> int:
        """The number of layers with weights, and the input."""
        return len(self._model.network.widths)

    @property
    def n_outputs_(self) -> int:
        """The number of raw predictions of a row."""
        return self._model.network.n_units[-1]

    @property
    def n_parameters_(self) -> int:
        """The number of learned parameters of one network, also of its frozen layers."""
        layout = self._model.network.layout
        return layout.n_parameters + layout.n_frozen

    @property
    def out_activation_(self) -> str:
        """The name of the function that turns raw predictions into predictions."""
        return self._model.targets.loss.link.name

    # ------------------------------------------------------------------------ pickles

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the networks as arrays.

        Fields that only training needs are left out, unless training is likely to continue.
        """
        attributes = super().__getstate__()
        result = {name: attributes[name] for name in attributes if name not in _OF_RUNNING_FIT}
        if "_model" in attributes:
            trains_on = self.warm_start or self._model.is_incremental
            result["_model"] = self._model.to_dict(only_predicts=not trains_on)
        return result

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        values = dict(attributes)
        model = values.pop("_model", None)
        super().__setstate__(values)
        if model is not None:
            self.__dict__["_model"] = Model.from_dict(model)

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
        model = self._model
        link = model.targets.loss.link
        return summarize_network(type(self).__name__, model.network, link.name, len(model.state))

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
        if not self.__sklearn_is_fitted__():
            check_is_fitted(self)  # it raises the error, and takes longer than a layer
        X = validate_input(self, X)
        predictor = self._model.predictor
        network = predictor.network
        parameters = predictor.parameters
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
    max_x = max_abs(X)
    max_weight = max_abs(parameters.theta)
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
