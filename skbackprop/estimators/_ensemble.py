"""Several networks as one estimator, and normalised layers: what not every estimator takes.

The mean of several autoencoders' codes would say nothing, and normalised codes would depend on the
rows beside them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..layers.normalization import BatchNormalization
from ..training.architecture import check_normalization_param
from ..training.folds import OutOfFoldPredictions
from ..training.weight_init import member_init
from ..utils.arrays import Array
from ._from_weights import OptionalDerivedAttribute
from ._hidden_layers import HiddenLayersMixin


def _is_over_batches(normalization: Any) -> bool:
    return isinstance(check_normalization_param(normalization), BatchNormalization)


class EnsembleMixin(HiddenLayersMixin):
    """Base of `BackpropClassifier` and `BackpropRegressor`; not to be used directly."""

    _attributes: ClassVar[Mapping[str, str]] = {
        **HiddenLayersMixin._attributes,
        "gains": "gains_",
        "means": "running_means_",
        "variances": "running_variances_",
    }

    gains_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", lambda value: value is not None)
    )
    running_means_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", _is_over_batches)
    )
    running_variances_: list[Array] | None = cast(
        Any, OptionalDerivedAttribute("normalization", _is_over_batches)
    )

    # Of the layers before the first dense one, where there are such.
    scales_: list[Array]
    embeddings_: list[Array]
    frequencies_: list[Array]
    maps_: list[Array]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self._settings["input_layers"]
        return tags

    def _scores(self, X: Any) -> Array:
        """Return the raw scores of X, of shape (n, n_outputs); several members' are pooled."""
        return np.asarray(self._predict_with(X, self._pooled))

    def _pooled(self, scores: Array) -> Array:
        """Return the scores of the members' mean prediction."""
        return (
            scores[0] if len(scores) == 1 else self._learned.loss.link.average_predictions(scores)
        )

    @property
    def oof_member_(self) -> Array:
        """The member that has held out each row, where early stopping goes by folds."""
        return self._held_out_once.member

    @property
    def oof_score_(self) -> float:
        """What `score` makes of `oof_prediction_`; rows weigh what they do in training."""
        return self._held_out_once.score

    @property
    def _held_out_once(self) -> OutOfFoldPredictions:
        """What was said of each row by the member that has held it out."""
        check_is_fitted(self)
        found: OutOfFoldPredictions | None = vars(self).get("_out_of_fold")
        if found is None:
            raise AttributeError(
                "What begins with oof_ is there after a fit with several members and "
                'early_stopping=EarlyStopping(validation_fraction="folds"), whose members hold '
                "out each row once."
            )
        return found

    @property
    def estimators_(self) -> list[Self]:
        """The members, each as an estimator of its own; they share the weights of this one.

        A single network has none: code that goes from members to their members has to end.
        """
        check_is_fitted(self)
        if self._n_trained == 1:
            raise AttributeError(
                f"estimators_ is there for several members, but this {type(self).__name__} is "
                "one network: use it as it is, or set n_estimators above 1."
            )
        return [self._single_member(member) for member in range(self._n_trained)]

    def _single_member(self, member: int) -> Self:
        """Return a member as an estimator with one network."""
        one = copy.copy(self)
        one.n_estimators = 1
        learned = self._learned
        one._learned = replace(learned, fixed=learned.fixed | {"n_estimators": 1}, n_estimators=1)
        # Its stream and moments stay with the ensemble, which goes on from them.
        one.__dict__.pop("_training", None)
        one.__dict__.pop("_out_of_fold", None)
        one.random_state = copy.deepcopy(self.random_state)
        one.init = member_init(self.init, member)
        for attribute in self._attributes_of(learned.network).values():
            arrays = getattr(self, attribute)
            setattr(one, attribute, None if arrays is None else [array[member] for array in arrays])
        for name in _PER_MEMBER:
            value = self._of_member(name, member)
            is_plain = not isinstance(value, np.generic) or name in ("loss_", "best_loss_")
            setattr(one, name, value if is_plain else value.item())
        return one


# The fitted attributes that hold something for each member.
_PER_MEMBER = (
    "best_iter_",
    "best_loss_",
    "best_validation_score_",
    "converged_",
    "loss_",
    "loss_curve_",
    "n_iter_",
    "t_",
    "validation_loss_curve_",
    "validation_scores_",
)
