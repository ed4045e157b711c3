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
from sklearn.preprocessing import scale

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular import _training_cycles, base
from skbackprop.tabular._networks import TabularClassifierNetworks, TabularRegressorNetworks
from skbackprop.tabular._prediction import LabeledRows
from skbackprop.tabular._training_cycles import (
    FOR_CLASSES,
    FOR_NUMBERS,
    CycleResult,
    TrainingData,
    cycle_lengths,
    measure_epoch,
    network_params,
    shorten_training,
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
        def loss_of_outputs(self, *_):
            self._n_cycles = vars(self).get("_n_cycles", 0) + 1
            return losses[self._n_cycles - 1]

        monkeypatch.setattr(base, "cycle_lengths", lambda *_: [1] * len(losses))
        monkeypatch.setattr(base, "MIN_GAIN_OF_ENSEMBLE", -np.inf)
        for kind in (TabularClassifierNetworks, TabularRegressorNetworks):
            monkeypatch.setattr(kind, "loss_of_outputs", loss_of_outputs)

    return arrange


@pytest.mark.long
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


@pytest.mark.parametrize(
    "kind, gain", [(TabularClassifierNetworks, 0.05), (TabularRegressorNetworks, 0.1)]
)
def test_gain_that_a_longer_cycle_takes(kind, gain):
    cycle = CycleResult(kind(), np.empty((0, 1)), 0.5 * (1 - gain - 1e-9), np.array([3]), True)
    for index in (2, 3):
        assert cycle.lowers(0.5, index)
        assert not cycle._replace(loss=0.5 * (1 - gain + 1e-9)).lowers(0.5, index)
        assert cycle._replace(loss=-0.5 * (1 + gain + 1e-9)).lowers(-0.5, index)
        assert not cycle._replace(loss=-0.5 * (1 + gain - 1e-9)).lowers(-0.5, index)
        assert not cycle._replace(loss=np.nan).lowers(0.5, index)
    assert cycle._replace(loss=0.5 * (1 - gain / 5 - 1e-9)).lowers(0.5, 1)
    assert not cycle._replace(loss=0.5 * (1 - gain / 5 + 1e-9)).lowers(0.5, 1)


@pytest.mark.parametrize(
    "is_complete, n_train, loss, is_useful",
    [
        (True, 60_000, 1.005, True),
        (True, 60_000, 1.015, False),
        (False, 60_000, 1.005, False),
        (False, 60_000, 1.0, True),
        (True, 60_001, 1.005, False),
        (True, 60_001, 1.0, True),
    ],
)
def test_whether_a_cycle_is_kept(is_complete, n_train, loss, is_useful):
    """It may be a little worse than the best one if it is complete and rows are not very many."""
    cycle = CycleResult(None, np.empty((0, 1)), loss, np.array([3]), is_complete)
    assert cycle.is_useful(1.0, n_train) == is_useful


@BOTH
def test_no_cycle_begins_after_the_time_limit(kind, monkeypatch, in_cycles):
    """The clock says half of the time after the first cycle, and all of it after the second."""
    X, y = data_for(kind)
    in_cycles([3.0, 2.0, 1.0])
    times = [0.0, 0.0, 0.5, 0.5, 1.0]  # and before and after each cycle

    def perf_counter():
        return 1e6 * times[0] if len(times) == 1 else 1e6 * times.pop(0)

    monkeypatch.setattr(_training_cycles, "time", SimpleNamespace(perf_counter=perf_counter))
    with pytest.warns(ConvergenceWarning, match="time_limit"):
        model = kind(time_limit=1e6 * len(kind._configurations), **SMALL).fit(X, y)
    assert (model.n_iter_[0] == 2).all()


def test_the_time_of_encoding_counts(monkeypatch):
    """By a clock by which encoding takes 30 seconds, and training 10."""
    seconds, limits = [0.0], []

    def make_training_input(rows, view):
        seconds[0] += 30
        return rows

    def train_networks(networks, view, cycles, data, is_promising):
        seconds[0] += 10
        limits.append(data.time_limit)
        return SimpleNamespace(networks=SimpleNamespace(n_iter_=np.array([1]))), None, None

    model = TabularClassifier(blend=None)
    model.classes_ = np.arange(2)
    model._features = SimpleNamespace(make_training_input=make_training_input, n_blocks=0)
    monkeypatch.setattr(base, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))
    monkeypatch.setattr(base, "train_networks", train_networks)
    rows, progress = LabeledRows(None, np.arange(100) % 2, None), SimpleNamespace(is_stopped=False)
    rng = np.random.RandomState(0)
    model._fit_components(TrainingData(rows, 2, None, None, rng, 100, model, None, progress))
    assert limits == [(100 - 30) / 2, 100 - 30 - 10 - 30]


N_SHARED, N_FOLDS = 20_000, 5


def shared_data(time_limit, weight=None, validation=None):
    """Return data of 16,000 training rows for each of five networks, 20,000 with validation."""
    y = np.arange(N_SHARED) % 2
    folds = None if validation else np.arange(N_SHARED) // (N_SHARED // N_FOLDS)
    rows, rng = LabeledRows(None, y, weight), np.random.RandomState(0)
    validation = LabeledRows(None, y[:3000], None) if validation else None
    estimator = SimpleNamespace(time_limit=time_limit)
    return TrainingData(rows, N_FOLDS, folds, validation, rng, time_limit, estimator, None, None)


@pytest.fixture
def epoch_of_a_second(monkeypatch):
    """An epoch of all rows takes a second, and measuring it another one."""
    seconds = iter([0.0, 1.0])
    monkeypatch.setattr(_training_cycles, "measure_epoch", lambda *_: 1.0)
    clock = SimpleNamespace(perf_counter=lambda: next(seconds))
    monkeypatch.setattr(_training_cycles, "time", clock)


# Predictions of held-out rows take 20,000 / (3 * 5 * 16,000) = 1 / 12 of an epoch.
@pytest.mark.parametrize(
    "seconds, n_epochs, n_train",
    [
        (6 + 1 / 12, [6, 12], 16_000),
        (5.9 + 1 / 12, [5], 16_000),
        (3.1 + 1 / 12, [3], 16_000),
        (1.5 + 1 / 12, [3], 8_000),
        (0.3 + 1 / 12, [3], 1_600),
        (0.05, [3], 1_000),
    ],
)
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.usefixtures("epoch_of_a_second")
def test_a_first_cycle_ends_within_the_time_limit(seconds, n_epochs, n_train, is_weighted):
    weight = np.where(np.arange(N_SHARED) % 3, 1.0, 0.0) if is_weighted else None
    data = shared_data(seconds + 1 + 1e-9, weight)
    if n_epochs == [6, 12]:
        assert shorten_training(None, [6, 12], data)[0] == [6, 12]
        return
    with pytest.warns(
        ConvergenceWarning, match=f"on {n_train:,} of 16,000 rows, for {n_epochs[0]}"
    ):
        cycles, shortened = shorten_training(None, [6, 12], data)
    assert cycles == n_epochs
    assert shortened.time_limit == pytest.approx(seconds)
    assert shortened.n_train == n_train
    if n_train < 16_000:
        used = shortened.is_train
        np.testing.assert_array_equal(np.bincount(data.folds[used]), n_train // 4)
        assert not is_weighted or weight[used].all()
    else:
        assert shortened.is_train is None


@pytest.mark.usefixtures("epoch_of_a_second")
def test_a_first_cycle_with_validation_rows_ends_within_the_time_limit():
    """All networks predict them, which takes 3,000 / (3 * 20,000) of an epoch."""
    with pytest.warns(ConvergenceWarning, match="on 10,000 of 20,000 rows, for 3 epoch"):
        cycles, data = shorten_training(None, [6], shared_data(1 + 1.55 + 1e-9, validation=True))
    assert (cycles, data.n_train) == ([3], 10_000)


@pytest.mark.parametrize("time_limit", [np.inf, _training_cycles.MIN_TIME])
def test_nothing_is_measured_without_a_limit_or_time(time_limit):
    cycles, data = [6], shared_data(time_limit)
    assert shorten_training(None, cycles, data) == (cycles, data)


def some_networks(kind, y, batch_size=8):
    settings = {"n_estimators": 2, "batch_size": batch_size, "dropout": 0.2, "random_state": 0}
    settings |= {"n_iter_no_change": np.inf, "max_iter": 3, "learning_rate": "cosine"}
    return kind((4,), **settings)


@pytest.mark.parametrize("kind", [TabularClassifierNetworks, TabularRegressorNetworks])
@pytest.mark.parametrize("has_folds", [False, True])
def test_networks_trained_on_a_sample_equal_those_of_a_table_of_it(kind, has_folds):
    """Rows outside of it are held out with the others."""
    X, y = data_for(TabularClassifier)
    X = scale(X)
    y = y if kind is TabularClassifierNetworks else 2.0 * y
    is_train = np.random.RandomState(0).random_sample(len(y)) < 0.5
    folds = np.arange(len(y)) % 2 if has_folds else None
    model, expected = some_networks(kind, y), some_networks(kind, y)
    model.fit_cycle(LabeledRows(X, y, None), folds, is_train=is_train)
    rows = LabeledRows(X[is_train], y[is_train], None)
    expected.fit_cycle(rows, folds[is_train] if has_folds else None)
    for own, other in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(own, other)
    if has_folds:
        scores = model.out_of_fold_outputs()[0]
        assert scores.shape[0] == len(y)
        np.testing.assert_allclose(
            scores[is_train], expected.out_of_fold_outputs()[0], rtol=1e-5, atol=1e-6
        )


def test_an_epoch_is_measured_by_two_batches(monkeypatch):
    """By a clock that goes on by a second at each look, at the start and the end of the epoch."""
    seconds = iter(range(10))
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    monkeypatch.setattr(_training_cycles, "time", clock)
    X, y = data_for(TabularClassifier)
    networks = some_networks(TabularClassifierNetworks, y)
    folds, rng = np.arange(len(y)) % 2, np.random.RandomState(0)
    rows = LabeledRows(X, y, None)
    data = TrainingData(rows, 2, folds, None, rng, 10.0, None, None, None)
    before = networks.get_params()
    assert measure_epoch(networks, data) == data.n_train / 16
    assert networks.get_params() == before
    assert not hasattr(networks, "coefs_")


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("seconds", [1e6, 1e-6])
def test_a_fit_for_which_epochs_are_measured(kind, seconds, monkeypatch):
    """A generous limit changes nothing; with a short one a sample of rows is learned."""
    X, y = data_for(kind)
    settings = SMALL | {"max_iter": 6}
    monkeypatch.setattr(_training_cycles, "MANY_ROWS", 50)
    monkeypatch.setattr(_training_cycles, "_MIN_SHORT_ROWS", 40)
    whole = kind(**settings).fit(X, y)

    def measure(*arguments):
        assert measure_epoch(*arguments) > 0
        return seconds

    monkeypatch.setattr(_training_cycles, "measure_epoch", measure)
    model = kind(**settings, time_limit=1000.0)
    if seconds < 1:
        np.testing.assert_array_equal(model.fit(X, y).predict(X), whole.predict(X))
        return
    with pytest.warns(ConvergenceWarning, match=f"on 40 of {len(y) // 2} rows, for 3 epoch"):
        model.fit(X, y)
    assert (model.n_iter_ == 3).all()
    assert all((networks.t_ == 3 * 40).all() for networks in model.networks_)
    assert len(model.oof_member_) == len(y)


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
    rows, before = LabeledRows(None, y, None), set(vars(model))
    for outputs, earlier, expected in [
        (same, [[weak], [weak]], False),
        (other, [[weak], [weak]], True),
        (other, [[strong], [weak]], True),
        (other, [[weak], [strong]], True),
        (weak, [[strong], [strong]], False),
    ]:
        assert model._improves_mixture(outputs, earlier, rows, 0.005) == expected
    assert set(vars(model)) == before


@pytest.mark.long
@BOTH
def test_a_network_does_not_depend_on_its_held_out_targets(kind, monkeypatch):
    X, y = data_for(kind)
    folds = np.arange(len(y)) % 2
    monkeypatch.setattr(base, "draw_folds", lambda *_: folds)
    monkeypatch.setattr(base, "cycle_lengths", lambda *_: [2, 3])
    monkeypatch.setattr(_training_cycles, "TOLERANCE", np.inf)
    others = y.copy()
    others[folds == 0] = np.random.RandomState(0).permutation(y[folds == 0])
    ensembles = [kind(**SMALL).fit(X, targets)._components[0] for targets in (y, others)]
    (first, second), (of_first, of_second) = (
        [each.networks.coefs_[0][member] for each in ensembles] for member in (0, 1)
    )
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-5)
    assert np.abs(of_first - of_second).max() > 0.01


@pytest.mark.long
def test_out_of_fold_score_of_noise_is_negative():
    """Of a network that chose its epoch by its fold, R2 would be above zero here."""
    rng = np.random.RandomState(0)
    scores = []
    for seed in range(4):
        X, y = rng.normal(size=(80, 8)), rng.normal(size=80)
        scores.append(
            TabularRegressor(max_iter=12, blend=None, random_state=seed).fit(X, y).oof_score_
        )
    assert np.mean(scores) < 0
