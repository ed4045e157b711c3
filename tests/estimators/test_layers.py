"""Do layers before the first dense one belong to an estimator as all else does?

That they compute what they say, and learn what they should, is in
tests/layers/test_maps_and_embeddings.py; pieces, pickles and members of stacks are drawn in
test_combinations.py.
"""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.utils import get_tags

from skbackprop import BackpropRegressor
from skbackprop.callbacks import Checkpoint
from skbackprop.layers import PeriodicEmbedding, Scale
from skbackprop.optimizers import AdamW
from skbackprop.testing import check_gradient
from support import (
    BOTH,
    assert_same_network,
    classes_for,
    data_for,
    few_epochs,
    quick,
    same_bits,
    value_data,
)

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


@pytest.mark.parametrize(
    "setting, value",
    [
        ("n_frequencies", 0),
        ("trained", 1),
        ("features", []),
        ("features", [0, 0]),
        ("features", [-1]),
        ("features", [0.0, 1.0]),
        ("features", [True, False]),
        ("features", 3),
    ],
)
def test_settings_out_of_their_range_name_themselves(setting, value):
    with pytest.raises(ValueError, match=f"{setting} of PeriodicEmbedding must be"):
        PeriodicEmbedding(**{setting: value})
    model = quick(BackpropRegressor, layers=SOME)
    with pytest.raises(ValueError, match=f"{setting} of PeriodicEmbedding must be"):
        model.set_params(**{f"layers__{setting}": value})


@pytest.mark.parametrize("places", [range(1, 4, 2), np.array([1, 3]), (1, 3)])
def test_columns_may_be_any_sequence_of_places(places):
    assert SOME.set_params(features=places) == SOME
    assert clone(quick(BackpropRegressor, layers=SOME)).layers == SOME


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


def test_a_summary_by_hand():
    X, y = value_data()
    model = quick(BackpropRegressor, layers=[Scale(), SOME], dropout=[0.1, 0.0])
    assert repr(model.fit(X, y).summary()) == "\n".join(
        [
            "BackpropRegressor",
            "layer              outputs  parameters  shapes",
            "input                    4           0",
            "Scale                    4           4  scales (4,)",
            "PeriodicEmbedding        8          20  frequencies (2, 2), maps (2, 4, 2)",
            "Dense                    5          45  weights (8, 5), biases (5,)",
            "Relu                     5           0",
            "Dense                    1           6  weights (5, 1), biases (1,)",
            "identity                 1           0",
            "total                               75",
        ]
    )
    assert "PeriodicEmbedding" in model._repr_html_()
    assert model.n_layers_ == 3
    assert model.hidden_features(X).shape == (60, 5)


@every_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_the_prediction_by_hand(layers, dtype, n_estimators):
    X, y = value_data()
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


@every_kind
def test_the_gradient_by_the_input_belongs_to_the_prediction(layers):
    X, y = value_data(n=6)
    model = quick(BackpropRegressor, layers=layers, activation="tanh", n_estimators=2)
    model.fit(X, y)
    check_gradient(lambda x: (model.predict(x).sum(), model.input_gradient(x)), X)


def test_many_rows_are_predicted_as_few_are():
    """Beyond some hundred rows, waves are made a block at a time."""
    X, y = value_data(n=700)
    model = quick(BackpropRegressor, layers=SOME, max_iter=1).fit(X, y)
    parts = [model.predict(X[start : start + 100]) for start in range(0, 700, 100)]
    np.testing.assert_allclose(model.predict(X), np.hstack(parts), rtol=1e-12, atol=1e-12)


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


@BOTH
@every_kind
def test_training_is_resumed_to_the_bit(estimator_class, layers, tmp_path):
    X, y = data_for(estimator_class)
    path = tmp_path / "checkpoint.npz"
    settings = {"layers": layers, "average": "ema", "n_estimators": 2}
    whole = quick(estimator_class, **settings, max_iter=6).fit(X, y)
    model = quick(estimator_class, **settings, max_iter=3)
    model.set_callbacks(Checkpoint(path)).fit(X, y)
    resumed = quick(estimator_class, **settings, max_iter=6).fit(X, y, resume_from=path)
    assert same_bits(resumed, whole)


@BOTH
def test_they_cannot_change_while_training_goes_on(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, layers=Scale()).partial_fit(X, y, **classes_for(estimator_class))
    with pytest.raises(ValueError, match=r"layers was \(Scale\(\),\) when training began"):
        model.set_params(layers=SOME).partial_fit(X, y)
    assert_same_network(model.set_params(layers=Scale()).partial_fit(X, y), model)


@pytest.mark.long
@pytest.mark.parametrize("layers", ["periodic", ["scale", "periodic"]], ids=str)
def test_a_wave_of_one_feature_among_others_is_learned(layers):
    """Without waves, as many epochs learn nothing of it."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-2, 2, (400, 3))
    y = np.sin(8 * X[:, 0]) + 0.5 * X[:, 1]
    settings = {"max_iter": 60, "learning_rate_init": 0.01, "batch_size": 32, "random_state": 0}
    X_new = rng.uniform(-2, 2, (400, 3))
    y_new = np.sin(8 * X_new[:, 0]) + 0.5 * X_new[:, 1]
    scores = [
        BackpropRegressor((32,), layers=each, **settings).fit(X, y).score(X_new, y_new)
        for each in (None, layers)
    ]
    assert scores[0] < 0.6 < 0.9 < scores[1]
