"""Networks with `layers` have all that networks have.

Each row of `NETWORKS` goes once through each method, solver, penalty, copy and search. What the
layers compute is tested in tests/layers.
"""

import copy

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    find_learning_rate,
)
from skbackprop.estimators._fitted import ParameterList
from skbackprop.inspection import BackpropFeatures, gradient_importance
from skbackprop.layers import (
    GRU,
    LSTM,
    Activation,
    AveragePool2D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    Flatten,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    LayerNormalization,
    MaxPool2D,
    MultiHeadAttention,
    Permute,
    PositionalEncoding,
    Reshape,
    Residual,
    Scale,
    SimpleRNN,
    TransformerBlock,
    UpSampling2D,
)
from skbackprop.optimizers import SGD
from skbackprop.testing import check_gradient
from support import (
    answers,
    assert_same_search,
    bits,
    class_data,
    few_epochs,
    pairs,
    pickled,
    quick,
    safely_saved,
    same_bits,
    same_values,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N, D = 48, 16
X, Y = class_data(N, D)
VALUES = value_data(N, D)[1]
TOKENS = np.random.RandomState(0).randint(0, 5, (N, 6))
IMAGES = X.reshape(N, 4, 4)
SEQUENCES = X.reshape(N, 8, 2).copy()
SEQUENCES[::3, 6:] = np.nan
SEQUENCES[1, 1:] = np.nan
# The rows, and the parameters of the network.
NETWORKS = {
    "dense": (X, {"layers": [Dense(6, activation="gelu"), LayerNormalization()]}),
    "apart": (X, {"layers": [Dense(6, use_bias=False), BatchNormalization(), Activation("tanh")]}),
    "dropout": (X, {"layers": [Dropout(0.1), Dense(6, activation="tanh"), Dropout(0.2)]}),
    "image": (
        X,
        {
            "input_shape": (4, 4),
            "layers": [
                Reshape((4, 4, 1)),
                Dense(3, activation="tanh"),
                BatchNormalization(),
                Dropout(0.2),
                Dense(2, activation="silu"),
            ],
        },
    ),
    "sequence": (
        X,
        {
            "input_shape": (8, 2),
            "layers": [LayerNormalization(), Dense(3, activation="tanh"), Flatten(), Dense(4)],
            "hidden_layer_sizes": (),
        },
    ),
    "residual": (
        X,
        {"layers": [Dense(6), Residual([LayerNormalization(), Dense(6, activation="gelu")])]},
    ),
    "convolution": (
        IMAGES,
        {"layers": [Conv2D(3, 2, activation="tanh"), BatchNormalization(), Dropout(0.1)]},
    ),
    "signal": (X, {"input_shape": (8, 2), "layers": [Conv1D(3, 3, activation="tanh")]}),
    "recurrence": (SEQUENCES, {"layers": [GRU(4), Activation("tanh")]}),
    "pooling": (
        IMAGES,
        {
            "layers": [
                Conv2D(3, 2, padding="same", activation="relu"),
                MaxPool2D(2),
                Conv2DTranspose(2, 2, strides=2),
                AveragePool2D(2),
                UpSampling2D(2),
                DepthwiseConv2D(2),
                Permute((2, 1, 3)),
                GlobalAveragePool2D(),
            ]
        },
    ),
    "both ways": (
        SEQUENCES,
        {"layers": [Bidirectional(LSTM(3, return_sequences=True)), GlobalMaxPool1D()]},
    ),
    "attention": (
        SEQUENCES,
        {
            "layers": [
                Dense(4),
                PositionalEncoding(),
                TransformerBlock(2, 6, dropout=0.1),
                MultiHeadAttention(2),
                GlobalAveragePool1D(),
            ],
            "hidden_layer_sizes": (),
        },
    ),
    "text": (TOKENS, {"layers": [Embedding(5, 4), PositionalEncoding(True), SimpleRNN(3)]}),
    "tokens": (TOKENS, {"layers": [Embedding(5, 3), Activation("tanh")]}),
}
# Those that L-BFGS trains, and those whose inputs are numbers.
SMOOTH = ["dense", "sequence", "residual", "signal", "recurrence", "tokens"]
NUMERIC = [
    name for name, (rows, _) in NETWORKS.items() if np.isfinite(rows).all() and rows is not TOKENS
]
every_network = pytest.mark.parametrize("name", NETWORKS)
NAMES = list(NETWORKS)
# Each network once, alone or in an ensemble.
ALONE_OR_NOT = [(name, 1 + i % 2) for i, name in enumerate(NAMES)]
alone_or_not = pytest.mark.parametrize("name, n_estimators", ALONE_OR_NOT)


def classifier(name, **changes):
    return quick(BackpropClassifier, **NETWORKS[name][1] | changes)


def regressor(name, **changes):
    return quick(BackpropRegressor, **NETWORKS[name][1] | changes)


def rows_of(name):
    return NETWORKS[name][0]


def arrays_of(model):
    """Return the fitted lists of arrays by name, of all layers."""
    attributes = {name: getattr(model, name) for name in dir(model)}
    return {name: list(a) for name, a in attributes.items() if isinstance(a, ParameterList)}


def kernels_of(model):
    """Return the arrays that penalties act on."""
    arrays = arrays_of(model)
    names = ["coefs_", *(name for name in arrays if name.endswith(("weights_", "kernels_")))]
    return [array for name in names for array in arrays[name]]


# ------------------------------------------------------------------------------ what is said


@alone_or_not
def test_hidden_features_are_the_rows_of_each_activation(name, n_estimators):
    model = classifier(name, n_estimators=n_estimators).fit(rows_of(name), Y)
    summary = model.summary()
    kinds = ("Gelu", "Tanh", "Silu", "Relu")
    activations = [layer for layer in summary.layers if layer.kind in kinds]
    for i, layer in enumerate(activations):
        features = model.hidden_features(rows_of(name), layer=i)
        assert features.shape == (N, n_estimators * np.prod(layer.output_shape))
    if model.hidden_layer_sizes:
        members = model.hidden_features(rows_of(name)).reshape(N, n_estimators, -1)
        networks = model.estimators_ if n_estimators > 1 else [model]
        for i, one in enumerate(networks):
            scores = members[:, i] @ one.coefs_[-1] + one.intercepts_[-1]
            np.testing.assert_allclose(one.decision_function(rows_of(name)), scores, rtol=1e-9)


@pytest.mark.parametrize("name, n_estimators", [row for row in ALONE_OR_NOT if row[0] in NUMERIC])
def test_the_input_gradient_belongs_to_the_prediction(name, n_estimators):
    rows = rows_of(name)
    model = regressor(name, n_estimators=n_estimators, activation="tanh").fit(rows, VALUES)
    check_gradient(lambda x: (model.predict(x).sum(), model.input_gradient(x)), X[:5])


@pytest.mark.parametrize("name", ["image", "tokens", "attention"])
def test_inspection_takes_them(name):
    rows = rows_of(name)
    model = classifier(name)
    found = find_learning_rate(model, rows, Y)
    assert found.suggestion > 0
    features = BackpropFeatures(model, 0).fit(rows, Y)
    np.testing.assert_array_equal(
        features.transform(rows), features.estimator_.hidden_features(rows, layer=0)
    )
    model.fit(rows, Y)
    if name in NUMERIC:
        importance = gradient_importance(model, rows)
        assert importance.shape == (3, D)
        assert (importance > 0).all()


# -------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name, dtype, n_estimators", pairs(NAMES, ["float32", "float64"], [1, 2]))
def test_all_arrays_have_the_dtype(name, dtype, n_estimators):
    model = classifier(name, dtype=dtype, n_estimators=n_estimators).fit(rows_of(name), Y)
    arrays = arrays_of(model)
    assert {array.dtype for own in arrays.values() for array in own} == {np.dtype(dtype)}
    assert model.predict_proba(rows_of(name)).dtype == dtype
    n_trained = sum(
        array.size
        for key, own in arrays.items()
        if not key.endswith(("means_", "variances_"))
        for array in own
    )
    assert n_trained == n_estimators * model.n_parameters_


@every_network
def test_partial_fit_and_warm_starts_resume(name, tmp_path):
    rows = rows_of(name)
    model = classifier(name)
    for _ in range(2):
        model.partial_fit(rows, Y, classes=[0, 1, 2])
    copied = safely_saved(pickled(model, tmp_path), tmp_path)
    for one in (model, copied):
        one.partial_fit(rows, Y)
    assert same_values(arrays_of(copied), arrays_of(model))
    warm = classifier(name, warm_start=True, max_iter=2).fit(rows, Y)
    first = warm.loss_
    warm.set_params(layers=copy.deepcopy(warm.layers)).fit(rows, Y)
    assert warm.loss_ < first
    with pytest.raises(ValueError, match="layers of the fitted network is .* must not change to"):
        warm.set_params(layers=warm.layers[:-1]).fit(rows, Y)


def test_a_list_of_layers_that_has_changed_is_noticed():
    layers = [Dense(4, activation="relu"), "scale"]
    model = quick(BackpropClassifier, layers=layers, input_shape=[D])
    expected = quick(BackpropClassifier, layers=tuple(layers))
    for one in (model, expected):
        one.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y)
    for change in (
        lambda: layers.append(Dropout(0.1)),
        lambda: layers.__setitem__(0, Dense(5, activation="relu")),
        lambda: layers.pop(),
    ):
        saved = [*layers]
        change()
        with pytest.raises(ValueError, match=r"layers of the fitted network is \(Dense\(n_units=4"):
            model.partial_fit(X, Y)
        layers[:] = saved
        model.partial_fit(X, Y)
        expected.partial_fit(X, Y)
    layers[:] = [Dense(4, activation="relu"), Scale()]  # the same, written differently
    assert same_bits(model.partial_fit(X, Y), expected.partial_fit(X, Y))


@alone_or_not
def test_weights_are_assigned(name, n_estimators):
    rows = rows_of(name)
    trained, model = (
        classifier(name, n_estimators=n_estimators, random_state=seed).fit(rows, Y)
        for seed in (0, 1)
    )
    for key, arrays in arrays_of(trained).items():
        with pytest.raises(ValueError, match=rf"{key}\[0\] must .* shape"):
            setattr(model, key, [array[..., :-1] for array in arrays])
        setattr(model, key, arrays)
    assert same_values(answers(model, rows), answers(trained, rows))


def penalized_loss(model, name, alpha, l1_ratio):
    """Return the loss by hand: penalties act on all weights, those of `layers` too."""
    kernels = kernels_of(model)
    shapes = [shape for layer in model.summary().layers for shape in layer.shapes.values()]
    n_vectors = len(getattr(model, "embeddings_", []))
    assert len(kernels) + n_vectors == sum(len(shape) > 1 for shape in shapes)
    squares = sum((kernel**2).sum() for kernel in kernels)
    absolute = sum(np.abs(kernel).sum() for kernel in kernels)
    penalty = alpha * ((1 - l1_ratio) / 2 * squares + l1_ratio * absolute) / N
    return log_loss(Y, model.predict_proba(rows_of(name))) + penalty


@pytest.mark.parametrize("name", SMOOTH)
def test_the_loss_of_lbfgs_by_hand(name):
    rows = rows_of(name)
    model = classifier(name, solver="lbfgs", alpha=2.0, max_iter=20).fit(rows, Y)
    assert model.loss_ == pytest.approx(penalized_loss(model, name, 2.0, 0.0), rel=1e-9)
    without = classifier(name, solver="lbfgs", alpha=0.0, max_iter=20).fit(rows, Y)
    largest = [max(np.abs(k).max() for k in kernels_of(one)) for one in (model, without)]
    assert largest[0] < largest[1]


@pytest.mark.parametrize("name, l1_ratio", list(zip(SMOOTH, [0.0, 0.5, 1.0] * 2, strict=True)))
def test_the_loss_of_an_epoch_by_hand(name, l1_ratio):
    model = classifier(name, alpha=2.0, l1_ratio=l1_ratio, batch_size=N)
    model.partial_fit(rows_of(name), Y, classes=[0, 1, 2])
    expected = penalized_loss(model, name, 2.0, l1_ratio)
    assert model.partial_fit(rows_of(name), Y).loss_ == pytest.approx(expected, rel=1e-9)


@every_network
def test_clipping_bounds_a_step_of_all_arrays(name):
    rows, rate, norm = rows_of(name), 0.5, 1e-3
    settings = {"solver": SGD(momentum=0.0), "learning_rate_init": rate, "batch_size": N}
    model = classifier(name, clip_norm=norm, alpha=0.0, **settings)
    model.partial_fit(rows, Y, classes=[0, 1, 2])
    before = copy.deepcopy(arrays_of(model))
    model.partial_fit(rows, Y)
    steps = [
        after - earlier
        for key, own in arrays_of(model).items()
        if not key.endswith(("means_", "variances_"))
        for after, earlier in zip(own, before[key], strict=True)
    ]
    length = np.sqrt(sum((step**2).sum() for step in steps))
    assert length == pytest.approx(rate * norm, rel=1e-6)


# -------------------------------------------------------------------------------- searches


@pytest.mark.parametrize("name", ["dense", "attention", "text"])
def test_searches_over_layers_equal_scikit_learn_s(name, stack_sizes):
    rows, layers = rows_of(name), NETWORKS[name][1]["layers"]
    grid = {"layers": [layers, copy.deepcopy(layers), [*layers, Dense(3)]], "alpha": [0.0, 1.0]}
    model = classifier(name, max_iter=2, n_iter_no_change=np.inf)
    settings = {"cv": 2, "scoring": bits, "return_train_score": True}
    search = BackpropGridSearchCV(model, grid, **settings).fit(rows, Y)
    if name == "dense":  # which fits into the cache
        assert max(stack_sizes) == 8
    reference = GridSearchCV(model, grid, **settings).fit(rows, Y)
    assert_same_search(search, reference)
    assert same_bits(search.best_estimator_, reference.best_estimator_)
