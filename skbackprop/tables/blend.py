"""What the parameter `blend` means: which estimators, and whether they can be blended."""

from __future__ import annotations

from typing import Any

from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from ..losses.base import Loss
from ..losses.regression import AbsoluteError, Gamma, Poisson, Quantile, SquaredError

BOOSTING = "boosting"
BOOSTED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)

# Found out of fold on ten tables. Beside networks, trees that see half of the columns in each split
# and end in few rows bring more than the default's, on numbers most of all.
_SETTINGS: dict[str, Any] = {
    "learning_rate": 0.05,
    "max_iter": 1000,
    "max_features": 0.5,
    "min_samples_leaf": 5,
    "early_stopping": True,
    "n_iter_no_change": 20,
}

# The losses that boosting has as well, by the names that it has for them.
_LOSSES: dict[type[Loss], str] = {
    SquaredError: "squared_error",
    AbsoluteError: "absolute_error",
    Poisson: "poisson",
    Gamma: "gamma",
    Quantile: "quantile",
}


def n_blended(blend: Any) -> int:
    """Return the number of estimators that a parameter `blend` names."""
    return len(_listed(blend))


def classifiers_of(blend: Any) -> list[Any]:
    """Return the classifiers that a parameter `blend` means.

    Parameters
    ----------
    blend : None, "boosting" or list
        What the user has set; a list holds estimators, or "boosting".

    Raises
    ------
    TypeError, ValueError
        If it holds something else, or estimators that have no probabilities.
    """
    found = []
    for each in _listed(blend):
        if _is_boosting(each):
            found.append(HistGradientBoostingClassifier(**_SETTINGS))
            continue
        if not (is_classifier(each) and hasattr(each, "predict_proba")):
            raise ValueError(
                f"blend holds {each!r}, which has no predict_proba, so that it has no "
                "probabilities to be averaged. Pass a classifier that has, or put this one into "
                "sklearn.calibration.CalibratedClassifierCV."
            )
        found.append(each)
    return found


def regressors_of(blend: Any, loss: Loss, setting: Any) -> list[Any]:
    """Return the regressors that a parameter `blend` means, beside networks with a loss.

    Parameters
    ----------
    blend : None, "boosting" or list
        What the user has set; a list holds estimators, or "boosting".
    loss : Loss
        What networks learn by.
    setting : str or Loss
        How the user names it.

    Raises
    ------
    TypeError, ValueError
        If it holds something else, or estimators that do not predict what networks with the loss
        do.
    """
    listed = _listed(blend)
    if listed and loss.scores_per_target > 1:
        raise ValueError(
            f"loss={setting!r} has networks predict several numbers for each target, and other "
            f"estimators predict one, so that they cannot be averaged. Set blend=None, not "
            f"{blend!r}, or a loss with one prediction."
        )
    found = []
    for each in listed:
        if _is_boosting(each):
            own = _loss_of_boosting(loss, setting)
            found.append(HistGradientBoostingRegressor(**_SETTINGS, **own))
            continue
        if not is_regressor(each):
            raise ValueError(
                f"blend holds {each!r}, which is no regressor, so that it has no numbers to be "
                "averaged. Pass a regressor."
            )
        found.append(each)
    return found


def _listed(blend: Any) -> list[Any]:
    return [blend] if isinstance(blend, str) else list(blend or [])


def _is_boosting(each: Any) -> bool:
    """Return whether a member of a list is "boosting"; raise an error if it is no estimator."""
    if isinstance(each, str) and each == BOOSTING:
        return True
    if isinstance(each, (str, type)) or not hasattr(each, "fit"):
        raise TypeError(
            f'blend holds {each!r}, and must hold estimators, or "{BOOSTING}". Pass '
            f'blend="{BOOSTING}", or a list such as [RandomForestClassifier()].'
        )
    return False


def _loss_of_boosting(loss: Loss, setting: Any) -> dict[str, Any]:
    """Return the parameters by which boosting has the same loss."""
    name = _LOSSES.get(type(loss))
    if name is None:
        raise ValueError(
            f'blend="{BOOSTING}" has no loss like loss={setting!r}: it has '
            f"{', '.join(_LOSSES.values())}. Set one of these, or blend a list of regressors that "
            "learn by a loss of their own."
        )
    if isinstance(loss, Quantile):
        (level,) = loss.levels if isinstance(loss.levels, (list, tuple)) else [loss.levels]
        return {"loss": name, "quantile": float(level)}
    return {"loss": name}
