"""Layers for training only: noise, and images that are moved at random, worked by hand."""

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.layers import (
    Conv2D,
    Dense,
    Flatten,
    GaussianNoise,
    RandomFlip,
    RandomTranslation2D,
    Scale,
)
from skbackprop.nn.network import Network
from support import class_data, few_epochs
from support.shaped import run_step
from support.stacks import assert_same_bits

pytestmark = few_epochs


def run_layer(layer, x, delta, seeds=(0,)):
    """Return the output of a layer in a training step, and the gradient by its input."""
    network = Network(x.shape[1:], (Scale(), layer, Flatten(), Scale()))
    parameters = network.layout.init(len(seeds), x.dtype)
    rngs = [np.random.default_rng(seed) for seed in seeds]
    out, _, d_x = run_step(network, parameters, x, delta, rngs)
    return out.reshape(len(seeds), *x.shape), d_x.reshape(len(seeds), *x.shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seeds", [(3,), (3, 4, 5)])
def test_noise_is_drawn_by_each_member(seeds, dtype):
    x = np.random.RandomState(0).randn(5, 4).astype(dtype)
    delta = np.random.RandomState(1).randn(len(seeds), 5, 4).astype(dtype)
    out, d_x = run_layer(GaussianNoise(0.3), x, delta, seeds)
    noise = [0.3 * np.random.default_rng(seed).standard_normal((5, 4)) for seed in seeds]
    assert_same_bits(out, x + np.array(noise, dtype))
    assert_same_bits(d_x, delta)


def test_noise_has_the_mean_and_the_variance_that_it_says():
    x = np.random.RandomState(0).randn(400, 250)
    noise = run_layer(GaussianNoise(0.5), x, x[None])[0][0] - x
    # Five standard errors of the mean and of the variance of 100,000 numbers.
    assert abs(noise.mean()) < 5 * 0.5 / np.sqrt(noise.size)
    assert abs(noise.var() - 0.25) < 5 * 0.25 * np.sqrt(2 / noise.size)
    assert np.isclose(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1], 0, atol=0.25)


IMAGE = np.array([[1, 2, 3], [4, 5, 6.0]])
FLIPPED = {
    "horizontal": [[3, 2, 1], [6, 5, 4]],
    "vertical": [[4, 5, 6], [1, 2, 3]],
    "both": [[6, 5, 4], [3, 2, 1]],
}
DOWN, UP = [[0, 0, 0], [1, 2, 3]], [[4, 5, 6], [0, 0, 0]]
LEFT, RIGHT = [[2, 3, 0], [5, 6, 0]], [[0, 1, 2], [0, 4, 5]]
DIAGONALLY = [[[0, 0, 0], row] for row in ([2, 3, 0], [0, 1, 2])]
DIAGONALLY += [[row, [0, 0, 0]] for row in ([5, 6, 0], [0, 4, 5])]
MOVED = {
    RandomTranslation2D(0.5, 0): [DOWN, UP],
    RandomTranslation2D(0, 0.4): [LEFT, RIGHT],
    RandomTranslation2D(0.4): [DOWN, UP, LEFT, RIGHT, *DIAGONALLY],
    RandomFlip("horizontal"): [FLIPPED["horizontal"]],
    RandomFlip("vertical"): [FLIPPED["vertical"]],
    RandomFlip(): list(FLIPPED.values()),
}


@pytest.mark.parametrize("has_channels", [False, True])
@pytest.mark.parametrize("layer", MOVED, ids=str)
def test_images_are_moved_as_by_hand(layer, has_channels):
    """All moves are equally frequent."""
    expected = [IMAGE, *map(np.array, MOVED[layer])]
    if has_channels:
        expected = [np.stack([image, 10 * image], axis=2) for image in expected]
    x = np.tile(expected[0], (4000, *[1] * expected[0].ndim))
    out, again = run_layer(layer, x, np.ones((2, *x.shape)), (0, 1))[0]
    assert not np.array_equal(out, again)
    counts = [(out == image).all(axis=tuple(range(1, x.ndim))).sum() for image in expected]
    assert sum(counts) == len(x)
    share = 1 / len(expected)
    np.testing.assert_allclose(counts, 4000 * share, atol=5 * np.sqrt(4000 * share))


@pytest.mark.parametrize("layer", MOVED, ids=str)
def test_gradients_move_back(layer):
    """The gradient by x of <out, delta> is the adjoint move: <out, delta> = <x, d_x>."""
    x, delta = np.random.RandomState(0).randn(2, 3, 20, 4, 5, 2)
    out, d_x = run_layer(layer, x[0], delta, (0, 1, 2))
    products = (out * delta).sum(axis=(2, 3, 4)), (x[0] * d_x).sum(axis=(2, 3, 4))
    np.testing.assert_allclose(*products, rtol=1e-12)
    assert not np.array_equal(out[0], out[1])


AUGMENTED = [GaussianNoise(0.2), RandomFlip(), RandomTranslation2D(0.5)]


def test_prediction_skips_the_layers():
    X, y = class_data()
    settings = {"input_shape": (2, 2), "max_iter": 3, "random_state": 0}
    layers = [*AUGMENTED, Conv2D(2, 1)]
    model = BackpropClassifier((5,), layers=layers, **settings).fit(X, y)
    plain = BackpropClassifier((5,), layers=layers[-1:], **settings).fit(X, y)
    assert not np.array_equal(model.predict_proba(X), plain.predict_proba(X))
    for name in ("kernels_", "kernel_biases_", "coefs_", "intercepts_"):
        setattr(plain, name, getattr(model, name))
    assert_same_bits(model.predict_proba(X), plain.predict_proba(X))


@pytest.mark.parametrize(
    "layer, shape, match",
    [
        (lambda: GaussianNoise(-0.1), None, "stddev of GaussianNoise"),
        (lambda: RandomFlip("left"), None, "mode of RandomFlip must be 'horizontal'"),
        (RandomFlip, (4,), "takes images of shape"),
        (lambda: RandomTranslation2D(1.1), None, "height_factor of RandomTranslation2D"),
        (lambda: RandomTranslation2D(0.1, -0.1), None, "width_factor of RandomTranslation2D"),
        (lambda: RandomTranslation2D(0.1), (4, 4), "shifts by at least one pixel"),
    ],
)
def test_wrong_settings_and_shapes_are_errors(layer, shape, match):
    with pytest.raises(ValueError, match=match):
        Network(shape, (layer(), Dense(1)))
