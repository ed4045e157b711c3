"""Are conformal intervals those of the definition, and how many rows does a coverage take?

CV+ is compared with its definition, by which all n numbers of each new row are sorted, and of one
model with split conformal prediction; rows that take turns are covered as the theorem says.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skbackprop.estimators.conformity_scores import (
    LabelScores,
    UncalibratedBand,
    conformal_quantile_rank,
    cv_plus_interval,
    min_calibration_samples,
)
from support import sets_by_definition

# ------------------------------------------------------------------------ how many rows


@pytest.mark.parametrize("coverage", [1e-12, 0.01, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999])
def test_min_calibration_samples_reaches_the_rank(coverage):
    needed = min_calibration_samples(coverage)
    assert conformal_quantile_rank(needed, coverage) <= needed
    assert needed == 1 or conformal_quantile_rank(needed - 1, coverage) > needed - 1


def test_ranks_are_those_of_exact_arithmetic():
    ranks = {(9, 0.7): 7, (9, 0.9): 9, (99, 0.55): 55, (99, 0.95): 95, (10, 0.9): 10, (18, 0.9): 18}
    assert {case: conformal_quantile_rank(*case) for case in ranks} == ranks
    assert [min_calibration_samples(coverage) for coverage in (0.5, 0.8, 0.9, 0.95, 0.99)] == [
        1,
        4,
        9,
        19,
        99,
    ]


# ---------------------------------------------------------------------------------- CV+


def by_definition(band, scores, coverage):
    """Return the ends that sorting all n numbers of each row gives, in their order or not."""
    n = sum(map(len, scores))
    rank = conformal_quantile_rank(n, coverage)
    half_width, unit = (np.broadcast_to(each, band.center.shape) for each in band[1:])
    reach = [half_width[k] + unit[k] * scores[k][:, None] for k in range(len(scores))]
    upper = np.sort(np.vstack([band.center[k] + own for k, own in enumerate(reach)]), axis=0)
    lower = np.sort(np.vstack([band.center[k] - own for k, own in enumerate(reach)]), axis=0)
    return lower[n - rank], upper[rank - 1]


KINDS = {
    "mean": lambda rng, shape: UncalibratedBand(rng.randn(*shape), 0.0, 1.0),
    "deviation": lambda rng, shape: UncalibratedBand(
        rng.randn(*shape), 0.0, rng.uniform(0.1, 3, shape)
    ),
    "quantiles": lambda rng, shape: UncalibratedBand.from_quantiles(
        np.sort(rng.randn(*shape, 3), axis=-1)
    ),
    "models alike": lambda rng, shape: UncalibratedBand(np.zeros(shape), 0.0, 1.0),
}


@given(
    kind=st.sampled_from(sorted(KINDS)),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 9),
    coverage=st.sampled_from([0.05, 0.3, 0.5, 0.8, 0.9]),
    ties=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_both_ends_are_those_of_the_definition(kind, sizes, coverage, ties, seed):
    rng = np.random.RandomState(seed)
    scores = [np.sort(rng.randn(n)) for n in sizes]
    if ties:
        scores = [own.round() for own in scores]
    band = KINDS[kind](rng, (len(sizes), 7))
    lower, upper = by_definition(band, scores, coverage)
    found = cv_plus_interval(band, scores, coverage)
    is_turned = lower > upper
    middle = (lower + upper) / 2
    expected = np.where(is_turned, middle, [lower, upper]).T
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
    # By what is rounded it is no narrower.
    wide = found[~is_turned] - expected[~is_turned]
    assert (wide[:, 0] < 1e-14).all()
    assert (wide[:, 1] > -1e-14).all()


@pytest.mark.parametrize("coverage", [0.2, 0.9])
def test_cv_plus_of_one_model_is_split_conformal(coverage):
    rng = np.random.RandomState(0)
    scores = np.sort(rng.randn(50))
    band = UncalibratedBand(rng.randn(1, 9), rng.rand(1, 9), rng.rand(1, 9))
    correction = scores[conformal_quantile_rank(50, coverage) - 1]
    expected = band.expand(correction)[0]
    np.testing.assert_allclose(cv_plus_interval(band, [scores], coverage), expected, rtol=1e-12)


# ------------------------------------------------------------------------- sets of labels


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("kind", ["lac", "aps"])
@given(
    n_models=st.integers(1, 4),
    n_classes=st.integers(1, 5),
    coverage=st.sampled_from([0.05, 0.3, 0.5, 0.8, 0.9]),
    seed=st.integers(0, 2**16),
)
def test_sets_are_those_of_the_definition(kind, by_class, n_models, n_classes, coverage, seed):
    rng = np.random.RandomState(seed)
    held_out = rng.dirichlet(np.full(n_classes, 0.5), 30)
    new = rng.dirichlet(np.full(n_classes, 0.5), (n_models, 7))
    codes, folds = rng.randint(n_classes, size=30), rng.randint(n_models, size=30)
    parts = [(held_out[folds == k], codes[folds == k]) for k in range(n_models)]
    found = LabelScores.fit(kind, parts).predict_sets(new, coverage, by_class)
    expected = sets_by_definition(kind, new, held_out, codes, folds, coverage, by_class)
    np.testing.assert_array_equal(found, expected)


def test_sets_by_hand():
    held_out = np.array([[0.5, 0.25, 0.25], [0.25, 0.625, 0.125], [0.125, 0.375, 0.5]])
    codes = np.array([0, 0, 1])  # with the scores 0, 0.625, 0.5 of "aps"
    new = np.array([[[0.125, 0.25, 0.625], [0.3125, 0.375, 0.3125]]])
    for kind, coverage, by_class, expected in [
        ("aps", 0.25, False, [[0, 0, 1], [0, 1, 0]]),  # up to 0
        ("aps", 0.5, False, [[0, 0, 1], [1, 1, 0]]),  # up to 0.5; of equal labels the first
        ("aps", 0.75, False, [[0, 1, 1], [1, 1, 0]]),  # up to 0.625
        ("aps", 0.5, True, [[0, 0, 1], [1, 1, 1]]),  # up to 0.625, 0.5 and without end
        ("lac", 0.25, False, [[0, 0, 1], [0, 0, 0]]),  # from 0.5
        ("lac", 0.5, False, [[0, 0, 1], [0, 1, 0]]),  # from 0.375
        ("lac", 0.75, False, [[0, 1, 1], [1, 1, 1]]),  # from 0.25
        ("lac", 0.3, True, [[0, 0, 1], [0, 1, 1]]),  # from 0.5, 0.375 and without end
    ]:
        scores = LabelScores.fit(kind, [(held_out, codes)])
        found = scores.predict_sets(new, coverage, by_class)
        assert found.astype(int).tolist() == expected, (kind, coverage, by_class)
