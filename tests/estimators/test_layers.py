"""Layers before the first dense one, in an estimator.

That they compute what they say, and learn what they should, is in
tests/layers/test_maps_and_embeddings.py; pieces, pickles and members of stacks are drawn in
test_combinations.py.
"""

import numpy as np
import pytest
from scipy import sparse
from sklearn.utils import get_tags

from skbackprop import BackpropRegressor
from skbackprop.layers import PeriodicEmbedding, Scale
from skbackprop.optimizers import AdamW
from support import BOTH, assert_same_network, data_for, few_epochs, pairs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

SOME = PeriodicEmbedding(2, n_units=2, features=[1, 3])
LAYERS = {
    "scale": "scale",
    "periodic": PeriodicEmbedding(3),
    "fixed": PeriodicEmbedding(3, trained=False),
    "list": [Scale(), SOME],
}
every_kind = pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)


# --------------------------------------------------------------------------- the parameter


@BOTH
def test_none_and_an_empty_list_are_the_network_without(estimator_class):
    X, y = data_for(estimator_class)
    expected = quick(estimator_class).fit(X, y)
    assert not any(hasattr(expected, name) for name in ("scales_", "frequencies_", "maps_"))
    for value in (None, [], ()):
        model = quick(estimator_class, layers=value).fit(X, y)
        assert_same_network(model, expected, rtol=0, atol=0)
        assert get_tags(model).input_tags.sparse


WRONG = {
    "name": ("waves", "must be a str among"),
    "class": ([PeriodicEmbedding], "object of class Layer, got <class .*PeriodicEmbedding"),
    "within": (["scale", 3], "must be one of 'scale', 'periodic', or .* got 3"),
    "list in a list": ([["scale"]], r"got \['scale'\]"),
    "columns": (SOME.set_params(features=[0, 4]), "columns from 0 to 3, .* 4 inputs, got 4"),
}


@pytest.mark.parametrize("value, says", WRONG.values(), ids=WRONG)
def test_what_is_no_layer_is_an_error_and_nothing_is_lost(value, says):
    X, y = value_data()
    model = quick(BackpropRegressor).fit(X, y)
    expected = model.predict(X)
    with pytest.raises(ValueError, match=says):
        model.set_params(layers=value).fit(X, y)
    np.testing.assert_array_equal(model.predict(X), expected)


@every_kind
def test_sparse_input_is_an_error_that_says_what_to_do(layers):
    X, y = value_data()
    model = quick(BackpropRegressor, layers=layers)
    with pytest.raises(TypeError, match=r"layers=.* need a dense X.* Pass X.toarray\(\)"):
        model.fit(sparse.csr_array(X), y)
    with pytest.raises(TypeError, match=r"does not accept sparse input. Pass X.toarray\(\)"):
        model.fit(X, y).predict(sparse.csr_array(X))
    assert not get_tags(model).input_tags.sparse


# ------------------------------------------------------------------------------- the network


@pytest.mark.parametrize(
    "name, dtype, n_estimators", pairs([*LAYERS], ["float32", "float64"], [1, 3])
)
def test_the_prediction_by_hand(name, dtype, n_estimators):
    X, y = value_data()
    layers = LAYERS[name]
    model = quick(BackpropRegressor, layers=layers, dtype=dtype, n_estimators=n_estimators)
    model.fit(X, y)
    each = []
    for one in model.estimators_ if n_estimators > 1 else [model]:
        x, places = X, range(4)
        if hasattr(one, "scales_"):
            x, places = x * one.scales_[0], [1, 3]
        if hasattr(one, "maps_"):
            waves = 2 * np.pi * x[:, places, None] * one.frequencies_[0]
            waves = np.concatenate([np.sin(waves), np.cos(waves)], axis=2)
            mapped = np.einsum("nif,ifu->niu", waves, one.maps_[0]).reshape(len(x), -1)
            x = np.hstack([mapped, x])
        hidden = np.maximum(x @ one.coefs_[0] + one.intercepts_[0], 0)
        each.append((hidden @ one.coefs_[1] + one.intercepts_[1])[:, 0])
        assert {array.dtype for array in one.coefs_} == {np.dtype(dtype)}
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(model.predict(X), np.mean(each, axis=0), tolerance, tolerance)


# -------------------------------------------------------------------------------- training


@pytest.mark.parametrize("average", [None, "polyak", "ema"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs", AdamW(weight_decay=0.5)], ids=str)
def test_frequencies_that_are_not_trained_stay_as_they_were_drawn(solver, average):
    X, y = value_data()
    if solver == "lbfgs" and average:
        average = None
    drawn = []
    for max_iter, early_stopping in ((1, False), (4, False), (4, True)):
        model = quick(
            BackpropRegressor,
            layers=PeriodicEmbedding(3, trained=False),
            solver=solver,
            average=average,
            alpha=1.0,
            max_iter=max_iter,
            early_stopping=early_stopping,
        )
        drawn.append(model.fit(X, y).frequencies_[0])
    np.testing.assert_array_equal(drawn[1], drawn[0])
    np.testing.assert_array_equal(drawn[2], drawn[0])
    assert drawn[0].std() == pytest.approx(0.5, rel=0.5)
    assert model.maps_[0].shape == (4, 6, 3)
