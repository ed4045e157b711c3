"""Are networks of tables trained in cycles, and do they end with the last useful one?

The last useful cycle is compared with a training without further cycles. That a network knows
nothing of the rows that it holds out is tested by changing their targets.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_wine
from sklearn.exceptions import ConvergenceWarning

from skbackprop import TabularClassifier
from skbackprop.nn.rows import Rows
from skbackprop.tabular import _networks, base
from skbackprop.tabular._networks import (
    FOR_CLASSES,
    FOR_NUMBERS,
    TabularClassifierNetworks,
    TabularNetworkMixin,
    TabularRegressorNetworks,
    cycle_lengths,
    network_params,
)
from support.tables import BOTH

SMALL = {"n_estimators": 2, "blend": None, "random_state": 0}


def data_for(kind):
    return (load_wine if kind is TabularClassifier else load_diabetes)(return_X_y=True)


@pytest.mark.parametrize("configuration", [*FOR_CLASSES, *FOR_NUMBERS], ids=repr)
@given(n_train=st.integers(1, 2_000_000), n_estimators=st.integers(2, 20))
def test_batch_sizes_and_epochs(configuration, n_train, n_estimators):
    params = network_params(configuration, 0, n_train, n_estimators)
    size = params["batch_size"]
    n_steps = -(-n_train // size)
    limits = {12_000: 256, 60_000: 512, np.inf: configuration.max_batch_size}
    limit = next(size for most, size in limits.items() if n_train <= most)
    assert 1 <= size <= min(limit, n_train)
    assert n_train < 32 * 7 or size > limit / 2 or size >= n_train // 7 / 2
    assert n_steps * size - n_train < n_steps  # equal sizes, but for rounding
    is_large = n_train > 12_000
    assert params["learning_rate_init"] == (configuration.large_batch_rate if is_large else 0.01)
    first, *others = cycle_lengths(n_train, None)
    assert others == [2 * first, 4 * first, 8 * first, 16 * first]
    assert 2 <= first <= 8
    assert n_steps * first >= 75 or first == 8  # a hundred steps, but for rounding
    assert first >= 6 or n_train <= 12_000 or n_train > 250_000


@given(n_train=st.integers(1, 200_000), max_iter=st.integers(1, 300))
def test_max_iter_limits_the_epochs_of_all_cycles(n_train, max_iter):
    whole, cut = cycle_lengths(n_train, None), cycle_lengths(n_train, max_iter)
    assert sum(cut) == min(max_iter, sum(whole))
    assert cut[:-1] == whole[: len(cut) - 1]
    assert min(cut) > 0


@pytest.fixture
def in_cycles(monkeypatch):
    """Train one cycle of an epoch for each loss, which is its result."""

    def arrange(losses):
        def held_out_loss(self, *_):
            self._n_cycles = vars(self).get("_n_cycles", 0) + 1
            return losses[self._n_cycles - 1]

        monkeypatch.setattr(_networks, "cycle_lengths", lambda *_: [1] * len(losses))
        monkeypatch.setattr(base, "MIN_GAIN_OF_ENSEMBLE", -np.inf)
        for kind in (TabularClassifierNetworks, TabularRegressorNetworks):
            monkeypatch.setattr(kind, "held_out_loss", held_out_loss)

    return arrange


@pytest.mark.parametrize(
    "losses, n_cycles",
    [
        ([3.0], 1),
        ([3.0, 2.0, 1.0], 3),
        ([3.0, 2.0, 2.1, 1.0], 2),  # what would have come then is not waited for
        ([3.0, 3.02, 3.0], 2),  # a little worse
        ([3.0, 2.99, 2.0], 2),  # too small a gain
        ([3.0, 2.0, 2.01, 1.0], 3),
        ([3.0, 2.9, 2.93], 2),  # worse than the best one
        ([0.0, 0.0, 0.0], 2),
        ([0.0, 1e-3], 1),
        ([np.nan, np.nan], 2),
        ([np.nan, np.nan, np.nan], 2),
        ([3.0, 2.0, 1.0, 0.8, 0.7, 0.6], 6),
        ([3.0, 2.0, 1.7, 1.69, 1.0], 4),  # the third is worth a fourth, but not that a fifth
        ([3.0, 2.0, 1.99, 1.0], 3),
        ([3.0, 2.0, 1.8, 1.9, 1.0], 3),
        ([3.0, 1.8, 1.81, 1.0], 3),
        ([-1.0, -2.0, -3.0, -4.0], 4),
    ],
    ids=str,
)
@BOTH
def test_the_last_useful_cycle_is_kept(kind, losses, n_cycles, in_cycles):
    X, y = data_for(kind)
    in_cycles(losses)
    model = kind(**SMALL).fit(X, y)
    in_cycles(losses[:n_cycles])
    expected = kind(**SMALL).fit(X, y)
    assert (model.n_iter_ == n_cycles).all()
    assert model.oof_score_ == expected.oof_score_
    np.testing.assert_array_equal(model.predict(X), expected.predict(X))


def test_a_worse_cycle_of_very_many_rows_is_not_kept(in_cycles, monkeypatch):
    monkeypatch.setattr(_networks, "VERY_MANY_ROWS", 1)
    in_cycles([3.0, 3.02, 3.0])
    model = TabularClassifier(**SMALL).fit(*data_for(TabularClassifier))
    assert (model.n_iter_ == 1).all()


@BOTH
@pytest.mark.parametrize("seconds, n_cycles", [(2.9, 1), (3.1, 2), (6.9, 2), (7.1, 3)])
def test_a_cycle_begins_if_it_ends_within_the_time_limit(kind, seconds, n_cycles, monkeypatch):
    """By a clock by which the first cycle takes a second, and each one twice as long as before."""
    now = [0.0]
    fit_cycle = TabularNetworkMixin.fit_cycle

    def timed(self, *args):
        is_stopped = fit_cycle(self.set_params(time_limit=None), *args)
        now[0] += self.max_iter
        return is_stopped

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(TabularNetworkMixin, "fit_cycle", timed)
    monkeypatch.setattr(base, "time", clock)
    monkeypatch.setattr(_networks, "time", clock)
    monkeypatch.setattr(_networks, "cycle_lengths", lambda *_: [1, 2, 4])
    monkeypatch.setattr(_networks, "TOLERANCE", np.inf)
    monkeypatch.setattr(TabularNetworkMixin, "min_gain", -np.inf)
    monkeypatch.delattr(TabularRegressorNetworks, "min_gain")
    X, y = data_for(kind)
    model = kind(**SMALL, time_limit=seconds * len(kind._configurations))
    n_epochs = sum([1, 2, 4][:n_cycles])
    if n_cycles == 3:
        model.fit(X, y)
    else:
        with pytest.warns(ConvergenceWarning) as warned:
            model.fit(X, y)
        assert f"Networks of {n_epochs} to {n_epochs} epochs are kept" in str(warned[0].message)
    assert (model.n_iter_[0] == n_epochs).all()


@BOTH
def test_a_short_time_limit_takes_fewer_networks(kind, monkeypatch):
    X, y = data_for(kind)
    seconds = 1e3 * len(kind._configurations)
    kind(3, max_iter=1, blend=None, time_limit=seconds, random_state=0).fit(X, y)
    monkeypatch.setattr(_networks, "_MULTIPLY_ADDS", 1.0)
    model = kind(3, max_iter=1, blend=None, time_limit=seconds, random_state=0)
    with pytest.warns(ConvergenceWarning, match="seconds suffice for 2 of 3 networks in each"):
        model.fit(X, y)
    assert model.n_iter_.shape[1] == 2
    assert set(model.oof_member_) == {0, 1}


@pytest.mark.parametrize("n_networks", [1, 3])
def test_an_ensemble_goes_on_if_it_improves_a_mixture(n_networks):
    rng, model = np.random.RandomState(0), TabularClassifier()
    y = rng.randint(2, size=300)
    model.classes_ = np.arange(2)
    noise = rng.normal(size=(2, n_networks, 300, 1))
    signs = 2.0 * y[:, None] - 1
    weak, same, other, strong = (
        signs + 2 * noise[0],
        signs + 2 * noise[0] + 1e-3,
        signs + 2 * noise[1],
        4 * signs + noise[0],
    )
    rows, before = Rows(None, y), set(vars(model))
    for outputs, earlier, expected in [
        (same, [[weak], [weak]], False),
        (other, [[weak], [weak]], True),
        (other, [[strong], [weak]], True),
        (other, [[weak], [strong]], True),
        (weak, [[strong], [strong]], False),
    ]:
        assert model._improves_mixture(outputs, earlier, rows, 0.005) == expected
    assert set(vars(model)) == before


@BOTH
def test_a_network_does_not_depend_on_its_held_out_targets(kind, monkeypatch):
    X, y = data_for(kind)
    folds = np.arange(len(y)) % 2
    monkeypatch.setattr(base, "draw_folds", lambda *_: folds)
    monkeypatch.setattr(_networks, "cycle_lengths", lambda *_: [2, 3])
    monkeypatch.setattr(_networks, "TOLERANCE", np.inf)
    others = y.copy()
    others[folds == 0] = np.random.RandomState(0).permutation(y[folds == 0])
    ensembles = [kind(**SMALL).fit(X, targets)._components[0] for targets in (y, others)]
    (first, second), (of_first, of_second) = (
        [each.coefs_[0][member] for each in ensembles] for member in (0, 1)
    )
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
    assert np.abs(of_first - of_second).max() > 0.01
