"""Is a loss over blocks of outputs what the losses of its blocks are, added up?"""

import pickle

import numpy as np
import pytest

from skbackprop.losses import BrierScore, Focal, Hinge, LogLoss
from skbackprop.losses._composite import (
    LabelSmoothing,
    MultiOutputLoss,
    split_outputs,
)
from skbackprop.testing import check_loss
from support.stacks import DTYPES, some_targets

SOFTMAX, LOGISTIC = LogLoss(multiclass=True), LogLoss()
BLOCKS = {
    "one": ((SOFTMAX,), (3,)),
    "softmax and logistic": ((SOFTMAX, LOGISTIC, SOFTMAX), (3, 1, 4)),
    "focal": ((Focal(multiclass=True), Focal()), (3, 1)),
    "smoothed": ((LabelSmoothing(SOFTMAX, 0.1), LabelSmoothing(LOGISTIC, 0.1)), (3, 1)),
    "of all kinds": (
        (BrierScore(multiclass=True), Hinge(), LOGISTIC, Focal(1.0, multiclass=True)),
        (5, 3, 2, 40),
    ),
    "many": ((LOGISTIC,) * 12, (1,) * 12),
}
every_block = pytest.mark.parametrize("name", BLOCKS)


def case(name, n_estimators=2, n_rows=7):
    """Return a loss over blocks, with scores and targets."""
    losses, widths = BLOCKS[name]
    rng = np.random.RandomState(0)
    inner = [getattr(loss, "base_loss", loss) for loss in losses]
    y = [
        np.hstack(
            [
                some_targets(loss, n_rows, width, rng)
                for loss, width in zip(inner, widths, strict=True)
            ]
        )
        for _ in range(n_estimators)
    ]
    scores = rng.normal(scale=2, size=(n_estimators, n_rows, sum(widths)))
    return MultiOutputLoss(losses, widths), scores, np.array(y)


def blocks_of(loss):
    """Return each loss with its columns."""
    ends = np.cumsum(loss.widths)
    starts = ends - loss.widths
    return list(zip(loss.losses, map(slice, starts, ends), strict=True))


def gradient(loss, scores, y):
    out = np.full_like(scores, np.nan)
    loss.gradient(scores, y, out)
    return out


@every_block
def test_gradient_is_the_derivative_of_the_value(name):
    loss, scores, y = case(name)
    check_loss(loss, scores[0], y[0])


@every_block
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_block_is_its_own_loss(name, dtype):
    loss, scores, y = case(name)
    scores, y = scores.astype(dtype), y.astype(dtype)
    kept = scores.copy(), y.copy()
    value, slope = loss.value(scores, y), gradient(loss, scores, y)
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(y, kept[1])
    assert (value.shape, value.dtype, slope.dtype) == (scores.shape[:2], dtype, dtype)
    blocks = blocks_of(loss)
    values = [each.value(scores[..., part], y[..., part]) for each, part in blocks]
    np.testing.assert_allclose(value, np.sum(values, axis=0), rtol=10 * np.finfo(dtype).eps)
    for each, part in blocks:
        own = np.ascontiguousarray(scores[..., part])
        np.testing.assert_array_equal(slope[..., part], gradient(each, own, y[..., part]))


@every_block
@pytest.mark.parametrize("n_rows", [1, 7])
def test_a_member_is_to_the_bit_what_it_is_alone(name, n_rows):
    loss, scores, y = case(name, n_estimators=3, n_rows=n_rows)
    value, slope = loss.value(scores, y), gradient(loss, scores, y)
    shared = loss.value(scores, y[:1])
    for i in range(3):
        alone = slice(i, i + 1)
        np.testing.assert_array_equal(loss.value(scores[alone], y[alone])[0], value[i])
        np.testing.assert_array_equal(loss.value(scores[alone], y[:1])[0], shared[i])
        np.testing.assert_array_equal(gradient(loss, scores[i], y[i]), slope[i])


def test_losses_of_equal_blocks_are_equal():
    assert MultiOutputLoss((SOFTMAX, LOGISTIC), (3, 1)) == MultiOutputLoss(
        (SOFTMAX, LOGISTIC), (3, 1)
    )
    assert MultiOutputLoss((SOFTMAX, LOGISTIC), (3, 1)) != MultiOutputLoss(
        (SOFTMAX, LOGISTIC), (3, 2)
    )
    assert MultiOutputLoss((SOFTMAX, LOGISTIC), (3, 1)) != MultiOutputLoss(
        (SOFTMAX, Focal()), (3, 1)
    )
    loss = MultiOutputLoss((SOFTMAX, LOGISTIC), (3, 1))
    assert loss.link.name == ["softmax", "logistic"]
    assert pickle.loads(pickle.dumps(loss)) == loss


@every_block
def test_the_link_is_that_of_each_block(name):
    loss, scores, _ = case(name, n_estimators=3)
    mean, pooled = np.full_like(scores, np.nan), loss.link.average_predictions(scores)
    loss.link.inverse(scores, mean)
    for each, part in blocks_of(loss):
        own = scores[..., part].copy()
        np.testing.assert_array_equal(pooled[:, part], each.link.average_predictions(own))
        each.link.inverse(own, own)
        np.testing.assert_array_equal(mean[..., part], own)
    loss.link.inverse(scores, scores)
    np.testing.assert_array_equal(scores, mean)


def test_logarithms_of_probabilities_block_by_block():
    loss, scores, _ = case("softmax and logistic")
    mean = np.empty_like(scores)
    loss.link.inverse(scores, mean)
    np.testing.assert_allclose(loss.link.log_inverse(scores), np.log(mean), rtol=1e-12)


def test_blocks_are_copies_that_lie_as_arrays_of_their_own():
    array = np.arange(24.0).reshape(2, 3, 4)
    parts = split_outputs(array, (1, 3))
    np.testing.assert_array_equal(np.concatenate(parts, axis=-1), array)
    assert all(part.flags.c_contiguous and part.base is None for part in parts)


@every_block
def test_derivatives_through_the_link_are_those_of_its_blocks(name):
    loss, scores, _ = case(name, n_estimators=3)
    slope = np.random.RandomState(1).normal(size=scores.shape)
    mean, delta = np.empty_like(scores), slope.copy()
    loss.link.inverse(scores, mean)
    loss.link.inverse_backward(mean, delta)
    pooled = loss.link.average_predictions_backward(scores, slope[0])
    for each, part in blocks_of(loss):
        own = slope[..., part].copy()
        each.link.inverse_backward(mean[..., part], own)
        np.testing.assert_allclose(delta[..., part], own, rtol=1e-12, atol=1e-15)
        expected = each.link.average_predictions_backward(scores[..., part], slope[0][..., part])
        np.testing.assert_allclose(pooled[..., part], expected, rtol=1e-12, atol=1e-15)
