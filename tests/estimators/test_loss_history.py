"""Do losses and scores go on from call to call, at a cost that does not grow with the calls?

They are lists, as in scikit-learn, which are added to in place; and yet what a failed call, a copy
or a member of an ensemble has of them stays as it is.
"""

import copy
import pickle
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropRegressor
from support import BOTH, classes_for, data_for, few_epochs, quick

pytestmark = few_epochs


@pytest.mark.parametrize("n_estimators", [1, 3])
@BOTH
def test_partial_fit_copies_no_curve(estimator_class, n_estimators):
    """The list is the same one from the first call to the last, and a plain one."""
    data = data_for(estimator_class)
    model = quick(estimator_class, n_estimators=n_estimators)
    model.partial_fit(*data, **classes_for(estimator_class))
    curves = curves_of(model)
    for n_calls in range(2, 6):
        model.partial_fit(*data)
        for curve, first in zip(curves_of(model), curves, strict=True):
            assert curve is first
            assert type(curve) is list
            assert len(curve) == n_calls


def curves_of(model):
    return [model.loss_curve_] if model.n_estimators == 1 else model.loss_curve_


def test_warm_fits_copy_neither_losses_nor_scores():
    data = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, early_stopping=True, warm_start=True).fit(*data)
    losses, scores = model.loss_curve_, model.validation_scores_
    model.fit(*data)
    assert model.loss_curve_ is losses and model.validation_scores_ is scores
    assert len(losses) == len(scores) == 10


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_have_their_own_curves(copied):
    """Whichever is trained first, and whatever the other one does."""
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor).partial_fit(X, y)
    twin = copied(model)
    before = list(model.loss_curve_)
    model.partial_fit(X, y)
    assert twin.loss_curve_ == before
    twin.partial_fit(X, -y).partial_fit(X, -y)
    assert twin.loss_curve_[:1] == model.loss_curve_[:1] == before
    assert twin.loss_curve_[1] != model.loss_curve_[1]
    assert (len(model.loss_curve_), len(twin.loss_curve_)) == (2, 3)


def test_members_have_their_own_curves():
    data = data_for(BackpropRegressor)
    ensemble = quick(BackpropRegressor, n_estimators=2).partial_fit(*data)
    member = ensemble.estimators_[0]
    ensemble.partial_fit(*data)
    member.partial_fit(*data).partial_fit(*data)
    assert [len(curve) for curve in ensemble.loss_curve_] == [2, 2]
    assert len(member.loss_curve_) == 3


def test_failed_call_adds_nothing_to_the_curve():
    """A warning that is made an error is raised when all has been trained and kept."""
    data = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, warm_start=True, early_stopping=True).fit(*data)
    spared = copy.deepcopy(model).fit(*data)
    losses, scores = list(model.loss_curve_), list(model.validation_scores_)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        with pytest.raises(ConvergenceWarning):
            model.fit(*data)
    assert (model.loss_curve_, model.validation_scores_) == (losses, scores)
    assert copy.deepcopy(model).loss_curve_ == losses
    model.fit(*data)
    assert model.loss_curve_ == spared.loss_curve_
    assert model.validation_scores_ == spared.validation_scores_


def test_assigned_curve_is_continued():
    data = data_for(BackpropRegressor)
    model = quick(BackpropRegressor).partial_fit(*data)
    own = [7.0]
    model.loss_curve_ = own
    assert model.partial_fit(*data).loss_curve_ == [7.0, model.loss_]
    assert own == [7.0]
    model.loss_curve_.append(8.0)  # to what was handed out
    assert model.partial_fit(*data).loss_curve_[:1] == [7.0]
    assert model.loss_curve_[-1] == model.loss_ and len(model.loss_curve_) == 3


def test_no_curve_before_fit():
    with pytest.raises(AttributeError, match="'BackpropRegressor' .* attribute 'loss_curve_'"):
        BackpropRegressor().loss_curve_  # noqa: B018
    assert not hasattr(BackpropRegressor(), "validation_scores_")
