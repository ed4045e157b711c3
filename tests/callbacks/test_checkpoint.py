"""Does training go on from a checkpoint to the bit, wherever it has ended?"""

import copy
import re
import time
from contextlib import suppress
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_backend
from scipy.sparse import csc_array, csr_array
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    EarlyStopping,
    TabularClassifier,
)
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.estimators._checkpoint_io import data_fingerprint
from skbackprop.estimators._parameter_table import PARAMETERS
from skbackprop.initializers import INITIALIZERS
from skbackprop.layers import LayerNormalization, Scale
from skbackprop.nn import stack_trainer
from skbackprop.nn.data_loader import Dataset
from skbackprop.optimizers import LBFGS, OPTIMIZERS, SGD, Adam
from skbackprop.schedules import SCHEDULES, LambdaSchedule
from skbackprop.training import loop
from skbackprop.training.parallelism import array_split
from skbackprop.training.training_task import ValidationData
from skbackprop.weight_averaging import ExponentialMovingAverage, PolyakAverage
from support import (
    class_data,
    data_for,
    few_epochs,
    forks,
    peak_of,
    quick,
    same_bits,
    same_values,
)
from support.cases import two_that_differ_in

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_EPOCHS = 7
ALL = [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
SETTINGS = {
    **{f"solver={name}": {"solver": name} for name in [*OPTIMIZERS, "lbfgs"]},
    **{f"rate={name}": {"learning_rate": name, "solver": "sgd"} for name in SCHEDULES},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "lbfgs, early stopping": {"solver": "lbfgs", "early_stopping": True},
    "lbfgs, l1": {"solver": "lbfgs", "l1_ratio": 0.5, "alpha": 0.1},
    "average": {"average": ExponentialMovingAverage(0.5), "early_stopping": True},
    "dropout and normalization": {"dropout": 0.2, "normalization": "batch"},
    "members": {"n_estimators": 3},
    "members that stop": {
        **{"n_estimators": 3, "early_stopping": True, "n_iter_no_change": 1, "tol": 0.0}
    },
    "in order": {"shuffle": False},
    "float32": {"dtype": "float32"},
    "classes weighted": {"class_weight": "balanced"},
}
EACH = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)

LEFT = (
    *("coefs_", "intercepts_", "loss_curve_", "loss_", "best_loss_", "validation_scores_"),
    *("validation_loss_curve_", "best_validation_score_", "n_iter_", "best_iter_", "t_"),
)


class Kill(BaseException):
    """What stands for the kill of a process: nothing handles it."""


class SilentCallback:
    """Callback whose hooks do nothing."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context): ...


class KillAfter(SilentCallback):
    """Ends training as a kill does, once an epoch is over."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_fit_task_end(self, estimator, context):
        if context.task_id + 1 == self.n_epochs and context.task_name != "fit":
            raise Kill


class Numbers(SilentCallback):
    """Takes note of the numbers of the epochs."""

    def __init__(self):
        self.found = []

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "fit":
            self.found.append(context.task_id)


class Spoiling(SilentCallback):
    """Changes the estimator that it is given."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        for array in [*fitted_estimator.coefs_, *fitted_estimator.intercepts_]:
            array[...] = 0


def estimators(settings):
    """Yield an estimator of each class that has the settings, and its data."""
    for estimator_class in ALL:
        if settings.keys() <= set(estimator_class._get_param_names()):
            defaults = {"max_iter": N_EPOCHS, "n_iter_no_change": np.inf}
            yield quick(estimator_class, **defaults | settings), data_for(estimator_class)


def assert_same_fit(actual, expected):
    for name in LEFT:
        assert same_values(getattr(actual, name), getattr(expected, name)), name


def killed(model, data, *callbacks, **fit_params):
    with pytest.raises(Kill):
        model.set_callbacks(*callbacks).fit(*data, **fit_params)
    model.set_callbacks()


@pytest.mark.long
@EACH
def test_resumed_and_further_training_match_to_the_bit(settings, tmp_path):
    path, end = tmp_path / "network.npz", tmp_path / "end.npz"
    for model, data in estimators(settings | {"warm_start": True}):
        params = model.get_params(deep=False)
        whole = quick(type(model), **params).set_callbacks(Checkpoint(end, every=100)).fit(*data)
        assert_same_fit(quick(type(model), **params).fit(*data, resume_from=end), whole)
        for every in (1, 2):
            n_epochs = min(3, np.max(whole.n_iter_))
            killed(model, data, Checkpoint(path, every), KillAfter(n_epochs))
            resumed = quick(type(model), **params | {"random_state": 5})
            assert_same_fit(resumed.fit(*data, resume_from=path), whole)
        # What a resumed fit leaves behind is what an uninterrupted one does.
        assert_same_fit(resumed.fit(*data), whole.set_callbacks().fit(*data))


@pytest.mark.long
@EACH
@pytest.mark.parametrize("n_before", [0, 1, 2])
@pytest.mark.parametrize("goes_on", ["the same", "a new one", "one that is further"])
def test_warm_start_fits_resume_in_any_estimator(settings, n_before, goes_on, tmp_path):
    """Its curves are those of the fits before it and its own, each epoch once."""
    path = tmp_path / "network.npz"
    for model, data in estimators(settings | {"warm_start": True}):
        whole, new = (quick(type(model), **model.get_params(deep=False)) for _ in range(2))
        for _ in range(n_before):
            model.fit(*data)
        for _ in range(n_before + 1):
            whole.fit(*data)
        # A later fit may stop at once.
        n_epochs = min(2, np.max(whole.n_iter_))
        killed(model, data, Checkpoint(path), KillAfter(n_epochs))
        further = copy.deepcopy(model).fit(*data)
        resuming = {"the same": model, "a new one": new, "one that is further": further}[goes_on]
        resuming.set_callbacks().fit(*data, resume_from=path)
        assert_same_fit(resuming, whole)


@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs"}, {"n_estimators": 2}])
def test_a_higher_max_iter_continues_a_finished_fit(settings, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    settings = {"n_iter_no_change": np.inf} | settings
    quick(BackpropRegressor, max_iter=3, **settings).set_callbacks(Checkpoint(path)).fit(*data)
    longer = quick(BackpropRegressor, max_iter=6, **settings)
    assert_same_fit(longer.fit(*data, resume_from=path), longer.__sklearn_clone__().fit(*data))


@pytest.mark.parametrize("n_stacks", [1, 2])
def test_members_left_behind_by_a_time_limit_catch_up(n_stacks, tmp_path, monkeypatch):
    """The time may be over in the midst of a turn, of which the first stack has had its own."""
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    settings = {"n_estimators": 4, "n_iter_no_change": np.inf}
    whole = quick(BackpropRegressor, **settings).fit(*data)
    times = iter([0.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0])
    with monkeypatch.context() as patch:
        patch.setattr(loop, "threads_for_stacks", lambda: 1)
        patch.setattr(loop, "array_split", lambda runs, _: array_split(runs, 2))
        patch.setattr(stack_trainer, "time", SimpleNamespace(monotonic=lambda: next(times)))
        model = quick(BackpropRegressor, **settings, time_limit=2)
        model.set_callbacks(Checkpoint(path)).fit(*data)
    assert model.n_iter_.tolist() == [2, 2, 1, 1]
    monkeypatch.setattr(loop, "array_split", lambda runs, _: array_split(runs, n_stacks))
    numbers = Numbers()
    model.set_callbacks(numbers).set_params(time_limit=None).fit(*data, resume_from=path)
    assert_same_fit(model, whole)
    assert numbers.found == [1, 2, 3, 4]


def test_the_user_s_random_stream_is_resumed(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    rngs = [np.random.RandomState(7), np.random.RandomState(7), np.random.RandomState(8)]
    whole, first, second = (quick(BackpropClassifier, random_state=each) for each in rngs)
    whole.fit(*data)
    killed(first, data, Checkpoint(path), KillAfter(2))
    assert same_values(rngs[1], np.random.RandomState(7))  # as before the fit that failed
    assert_same_fit(second.fit(*data, resume_from=path), whole)
    assert same_values(rngs[2], rngs[0])


@pytest.mark.parametrize("settings", [{}, {"solver": "lbfgs"}, {"n_estimators": 2}])
def test_resumed_callbacks_count_epochs_on(settings, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    log, whole_log = TrainingLog(tmp_path / "log.jsonl"), TrainingLog(tmp_path / "whole.jsonl")
    model = quick(BackpropRegressor, **settings)
    model.set_callbacks(whole_log).fit(*data)
    killed(model, data, Checkpoint(path), log, KillAfter(2))
    numbers = Numbers()
    model.set_callbacks(log, numbers).fit(*data, resume_from=path)
    assert numbers.found == list(range(2, np.max(model.n_iter_)))
    lines, expected = (pd.read_json(each.path, lines=True) for each in (log, whole_log))
    for column in ("member", "epoch", "loss"):
        assert lines[column].tolist() == expected[column].tolist()


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"n_estimators": 2}])
def test_changes_by_other_callbacks_are_not_saved(settings, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    model = quick(BackpropClassifier, **settings)
    whole = quick(BackpropClassifier, **settings).fit(*data)
    killed(model, data, Spoiling(), Checkpoint(path), KillAfter(2))
    assert_same_fit(model.fit(*data, resume_from=path), whole)


def test_resumes_in_a_pipeline(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier))
    pipeline[-1].set_callbacks(Checkpoint(path), KillAfter(2))
    with pytest.raises(Kill):
        pipeline.fit(*data)
    pipeline[-1].set_callbacks()
    resumed = pipeline.fit(*data, backpropclassifier__resume_from=path)[-1]
    assert same_bits(resumed, pipeline.fit(*data)[-1])


# ------------------------------------------------------------------------------------ errors


def checkpointed(tmp_path, **settings):
    """Return the file of a checkpoint of a classifier."""
    path = tmp_path / "network.npz"
    quick(BackpropClassifier, **settings).set_callbacks(Checkpoint(path)).fit(*class_data(40))
    return path


def test_raises_if_max_iter_leaves_no_epoch(tmp_path):
    path, model = checkpointed(tmp_path), quick(BackpropClassifier, max_iter=4)
    with pytest.raises(ValueError, match="is of epoch 5, so max_iter=4 leaves no epochs"):
        model.fit(*class_data(40), resume_from=path)
    assert not hasattr(model, "coefs_")


def as_it_falls(progress):
    return 1 - progress


# May be others in another process, but for dtype and random_state, which come with the data and
# the position of the stream.
FREE = {"max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start"}
FREE |= {"random_state", "contamination"}


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: f"{row.name} of {row.estimators[0]}")
@pytest.mark.parametrize("exchanged", [False, True])
def test_raises_on_changed_parameters_except_free_ones(row, exchanged, tmp_path):
    path, settings = tmp_path / "network.npz", {"max_iter": 3, "random_state": 0}
    if row.name == "max_fun":
        settings["solver"] = "lbfgs"
    models = two_that_differ_in(row, **settings)
    data = data_for(type(models[0]), 200)  # as many as a batch has, where nothing is said
    one, other = models[::-1] if exchanged and row.name not in FREE else models
    one.set_callbacks(Checkpoint(path)).fit(*data)
    if row.name in FREE:
        other.fit(*data, resume_from=path)
        return
    said = "for other data" if row.name == "dtype" else rf"resume_from: .*\b{row.name}\b.* was"
    if row.name in ("loss", "scale_target"):  # which may change what is made of y
        said = "was .* at the checkpoint and is"
    with pytest.raises(ValueError, match=said):
        other.fit(*data, resume_from=path)


@pytest.mark.parametrize(
    "one, other",
    [
        ({"hidden_layer_sizes": [5]}, {"hidden_layer_sizes": (5,)}),
        ({"activation": "tanh"}, {"activation": ["tanh"]}),
        ({"solver": "adam", "beta_1": 0.5}, {"solver": Adam(0.5)}),
        ({"solver": "sgd"}, {"solver": SGD(), "learning_rate": "constant"}),
        ({"solver": "lbfgs"}, {"solver": LBFGS()}),
        ({"learning_rate": as_it_falls}, {"learning_rate": LambdaSchedule(as_it_falls)}),
        ({"early_stopping": True, "tol": 0.1}, {"early_stopping": EarlyStopping(tol=0.1)}),
        ({"dropout": 0.2}, {"dropout": [0.0, 0.2]}),
        ({"normalization": "layer"}, {"normalization": LayerNormalization()}),
        ({"average": "polyak"}, {"average": PolyakAverage()}),
        ({"layers": "scale"}, {"layers": [Scale()]}),
        ({"init": "he_normal"}, {"init": INITIALIZERS["he_normal"]}),
        ({"dtype": None}, {"dtype": "float64"}),
        ({"alpha": 1}, {"alpha": np.float64(1)}),
        ({"shuffle": 0 == 1}, {"shuffle": np.bool_(0)}),
    ],
    ids=lambda values: re.sub(" at 0x[0-9a-f]+", "", str(values)),  # not where a function lies
)
@pytest.mark.parametrize("exchanged", [False, True])
def test_resumes_with_equal_parameters_written_differently(one, other, exchanged, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    one, other = (other, one) if exchanged else (one, other)
    whole = quick(BackpropClassifier, **other).fit(*data)
    killed(quick(BackpropClassifier, **one), data, Checkpoint(path), KillAfter(2))
    assert_same_fit(quick(BackpropClassifier, **other).fit(*data, resume_from=path), whole)


def falling(share):
    return lambda progress: 1 - share * progress


@pytest.mark.parametrize(
    "name, make, said",
    [
        ("learning_rate", falling, "learning_rate.function.share was 0.5 .* and is 0.25 now"),
        (
            "early_stopping",
            lambda beta: make_scorer(fbeta_score, beta=beta, average="macro"),
            "early_stopping.scoring._kwargs was",
        ),
    ],
    ids=["closure", "scorer"],
)
def test_raises_on_another_function_and_resumes_with_the_same(name, make, said, tmp_path):
    path, data = tmp_path / "network.npz", class_data(40)

    def model(share):
        value = make(share)
        is_scorer = name == "early_stopping"
        return quick(BackpropClassifier, **{name: EarlyStopping(value) if is_scorer else value})

    whole = model(0.5).fit(*data)
    killed(model(0.5), data, Checkpoint(path), KillAfter(2))
    assert_same_fit(model(0.5).fit(*data, resume_from=path), whole)
    with pytest.raises(ValueError, match=said):
        model(0.25).fit(*data, resume_from=path)


def test_raises_on_another_kind_of_random_stream(tmp_path):
    path = checkpointed(tmp_path, random_state=np.random.RandomState(np.random.PCG64(3)))
    with pytest.raises(
        ValueError, match="random_state must use the bit generator of the checkpoint, PCG64"
    ):
        quick(BackpropClassifier).fit(*class_data(40), resume_from=path)


def test_raises_on_other_data(tmp_path):
    path, (X, y) = checkpointed(tmp_path), class_data(40)
    for data in ((X + 1, y), (X, y[::-1]), (X[:30], y[:30]), (X[:, :3], y)):
        with pytest.raises(ValueError, match="the checkpoint was written for other data"):
            quick(BackpropClassifier).fit(*data, resume_from=path)
    with pytest.raises(ValueError, match="the checkpoint was written for other data"):
        quick(BackpropClassifier).fit(X, y, np.arange(40), resume_from=path)
    with pytest.raises(
        ValueError, match="by a BackpropClassifier, but this estimator is a BackpropReg"
    ):
        quick(BackpropRegressor).fit(X, y, resume_from=path)
    # Numbers that both dtypes hold are the same, but not what a network makes of them.
    X = np.round(X) + 0.0  # which leaves no negative zeros
    quick(BackpropClassifier).set_callbacks(Checkpoint(path)).fit(X, y)
    quick(BackpropClassifier).fit(X.astype(int), y, resume_from=path)
    with pytest.raises(ValueError, match="the checkpoint was written for other data"):
        quick(BackpropClassifier).fit(X.astype(np.float32), y, resume_from=path)


def test_resumes_with_the_same_validation_rows_only(tmp_path):
    path, (X, y) = tmp_path / "network.npz", class_data(40)
    own = {"X_val": X[:9], "y_val": y[:9]}
    model, whole = (quick(BackpropClassifier, early_stopping=True) for _ in range(2))
    killed(model, (X, y), Checkpoint(path), KillAfter(2), **own)
    assert_same_fit(model.fit(X, y, resume_from=path, **own), whole.fit(X, y, **own))
    weighted = own | {"sample_weight_val": np.arange(9)}
    for others in ({}, {"X_val": X[9:18], "y_val": y[9:18]}, weighted):
        with pytest.raises(ValueError, match="the checkpoint was written for other data.*X_val"):
            model.fit(X, y, resume_from=path, **others)


def test_fingerprint_of_sparse_data(tmp_path):
    path, (X, y) = tmp_path / "network.npz", class_data(40)
    X = csr_array(np.where(X > 1, X, 0))
    quick(BackpropClassifier).set_callbacks(Checkpoint(path)).fit(X, y)
    quick(BackpropClassifier).fit(csc_array(X), y, resume_from=path)
    X.data[3] += 1
    with pytest.raises(ValueError, match="the checkpoint was written for other data"):
        quick(BackpropClassifier).fit(X, y, resume_from=path)
    wide = csr_array((np.ones(3), ([0, 1, 2], [0, 1, 10**6 - 1])), shape=(1_000, 10**6))
    watched, y = ValidationData(Dataset(wide, np.arange(1_000)), None, None), np.zeros(1_000)
    task = SimpleNamespace(table=Dataset(wide, y), validation_data=watched, dtype=np.dtype(float))
    assert peak_of(data_fingerprint, task) < 2**20


@pytest.mark.long
def test_large_array_parameters_are_compared_completely(tmp_path):
    path, (X, y) = tmp_path / "network.npz", class_data(40, 2)
    weights = [np.zeros((2, 600_000), np.float32), np.zeros((600_000, 3), np.float32)]
    weights[0][1, 300_000] = 1
    biases = [np.zeros(600_000, np.float32), np.zeros(3, np.float32)]
    settings = {"hidden_layer_sizes": (600_000,), "max_iter": 1, "dtype": "float32"}
    model = quick(BackpropClassifier, init=(weights, biases), **settings)
    model.set_callbacks(Checkpoint(path)).fit(X, y)
    again = quick(BackpropClassifier, init=copy.deepcopy((weights, biases)), **settings)
    again.fit(X, y, resume_from=path)
    again.init[0][0][1, 300_000] = 2
    with pytest.raises(ValueError, match=r"init.coefs\[0\] was") as info:
        again.fit(X, y, resume_from=path)
    assert len(str(info.value)) < 1_000


def test_raises_on_files_that_are_no_checkpoints(tmp_path):
    data, whole = class_data(40), checkpointed(tmp_path).read_bytes()
    path = tmp_path / "other.npz"
    for model in (quick(BackpropClassifier), TabularClassifier(2, max_iter=1)):
        for kind, no_file in ((FileNotFoundError, path), (OSError, tmp_path)):
            name = re.escape(repr(str(no_file)))
            says = f"resume_from={name} cannot be read: .*fit without resume_from"
            with pytest.raises(kind, match=says):
                model.fit(*data, resume_from=no_file)
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            quick(BackpropClassifier).fit(*data, resume_from=str(path))
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        quick(BackpropClassifier).fit(*data, resume_from=path)
    with np.load(tmp_path / "network.npz") as file:
        np.savez(path, **{**file, "header/format": np.array("skbackprop checkpoint, version 99")})
    with pytest.raises(ValueError, match="version 99.*Resume with the version that wrote it"):
        quick(BackpropClassifier).fit(*data, resume_from=path)


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"early_stopping": True, "dropout": 0.2, "average": "polyak"},
        {"solver": "lbfgs"},
        {"n_estimators": 2, "learning_rate": "plateau", "solver": "sgd", "warm_start": True},
    ],
    ids=str,
)
def test_raises_on_each_altered_array(settings, tmp_path):
    path, data = checkpointed(tmp_path, **settings), class_data(40)
    with np.load(path) as file:
        arrays = dict(file)
    ways = cycle(
        [
            lambda array: np.stack([array, array]),
            lambda array: np.zeros_like(array) if array.any() else np.ones_like(array),
            lambda array: array.reshape(-1)[:-1],
            lambda array: np.asarray("a word"),
            lambda array: np.ones(3, dtype=np.uint8),
        ]
    )
    for name, array in arrays.items():
        others = {other: kept for other, kept in arrays.items() if other != name}
        for altered in (others, others | {name: next(ways)(array) if array.size else np.ones(2)}):
            np.savez(path, **altered)
            with pytest.raises(ValueError, match="not a readable checkpoint|has the format"):
                quick(BackpropClassifier, **settings).fit(*data, resume_from=path)
    np.savez(path, **arrays, **{"checkpoints/0/more": np.zeros(3)})
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        quick(BackpropClassifier, **settings).fit(*data, resume_from=path)


@pytest.mark.long
def test_flipped_bits_are_harmless_or_raise(tmp_path):
    path, data = checkpointed(tmp_path, dropout=0.2), class_data(40)
    content, rng = path.read_bytes(), np.random.RandomState(0)
    whole = quick(BackpropClassifier, dropout=0.2).fit(*data)
    for byte in rng.randint(len(content) // 2, len(content), size=100):
        flipped = bytearray(content)
        flipped[byte] ^= 1 << rng.randint(8)
        path.write_bytes(flipped)
        resumed = whole
        with suppress(ValueError):
            resumed = quick(BackpropClassifier, dropout=0.2).fit(*data, resume_from=path)
        assert_same_fit(resumed, whole)


def test_raises_where_a_checkpoint_is_not_possible(tmp_path):
    data, path = class_data(40), tmp_path / "network.npz"
    for every in (0, -1, 1.5, "1", True):
        with pytest.raises(ValueError, match="every of Checkpoint must be an int of at least 1"):
            Checkpoint(path, every)
    for no_path in ("", 5, None, b"network.npz"):
        with pytest.raises(ValueError, match="path of Checkpoint must be the path of a file"):
            Checkpoint(no_path)
    checkpoint = Checkpoint(path)
    assert repr(checkpoint) == f"Checkpoint({str(path)!r}, every=1)"
    with pytest.raises(
        TypeError, match="network, got a LogisticRegression. Call set_callbacks on the"
    ):
        LogisticRegression().set_callbacks(checkpoint).fit(*data)
    with pytest.raises(FileNotFoundError, match="does not exist. Create it"):
        quick(BackpropClassifier).set_callbacks(Checkpoint(path / "a" / "b")).fit(*data)
    model = quick(BackpropClassifier, solver="lbfgs", n_estimators=2).set_callbacks(checkpoint)
    with pytest.raises(ValueError, match="several networks with L-BFGS"):
        model.fit(*data)
    model = quick(BackpropClassifier).set_callbacks(checkpoint)
    search = GridSearchCV(model, {"alpha": [0.1, 0.2]}, cv=2, error_score="raise")
    with pytest.raises(ValueError, match="a search fits many networks"):
        search.fit(*data)
    assert not list(tmp_path.iterdir())


class FitsAnother(SilentCallback):
    """Fits another network with the same callback while one is fitted."""

    def __init__(self, *callbacks):
        self.callbacks, self.error = callbacks, None

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "fit":
            try:
                quick(BackpropClassifier).set_callbacks(*self.callbacks).fit(*class_data(40))
            except ValueError as error:
                self.error = error


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda checkpoint: checkpoint])
def test_raises_on_a_second_fit_at_the_same_time(copied, tmp_path):
    path, numbers = tmp_path / "network.npz", Numbers()
    checkpoint = Checkpoint(path)
    other = FitsAnother(copied(checkpoint), numbers)
    model = quick(BackpropClassifier).set_callbacks(checkpoint, other)
    whole = model.fit(*class_data(40))
    assert "is writing to the file of Checkpoint" in str(other.error)
    assert not numbers.found
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert_same_fit(quick(BackpropClassifier).fit(*class_data(40), resume_from=path), whole)
    # One after the other is fine.
    other.callbacks = ()
    model.fit(*class_data(40))


class WaitsForRefusal(SilentCallback):
    """Lets a fit wait, once it has begun, until another one has been refused."""

    def __init__(self, path):
        self.path = path

    def teardown(self, estimator, context):
        self.path.touch()

    def on_fit_task_begin(self, estimator, context):
        limit = time.monotonic() + 30
        while not self.path.exists() and time.monotonic() < limit:
            time.sleep(0.01)


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.long)])
def test_raises_on_parallel_fits_of_cross_validation(backend, tmp_path):
    waits = WaitsForRefusal(tmp_path / "refused")
    model = quick(BackpropClassifier).set_callbacks(waits, Checkpoint(tmp_path / "network.npz"))
    with parallel_backend(backend), pytest.raises(ValueError, match="Another fit, in"):
        cross_val_score(model, *class_data(40), cv=2, n_jobs=2, error_score="raise")


def test_raises_on_an_unwritable_path_before_training(tmp_path):
    numbers = Numbers()
    model = quick(BackpropClassifier).set_callbacks(Checkpoint(tmp_path), numbers)
    with pytest.raises(OSError, match="Checkpoint cannot write to its path"):
        model.fit(*class_data(40))
    assert not numbers.found
    assert not list(tmp_path.iterdir())


def test_relative_paths_are_resolved_at_construction(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = Checkpoint("network.npz")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    quick(BackpropClassifier).set_callbacks(checkpoint).fit(*class_data(40))
    assert (tmp_path / "network.npz").exists()


# --------------------------------------------------------------------------- a process killed


def trained(path, every, begins=None):
    """Return a network whose training goes on from the file, if there is one."""
    X, y = load_digits(return_X_y=True)
    model = BackpropClassifier(
        (40,), early_stopping=True, n_estimators=2, max_iter=40, n_iter_no_change=30, random_state=0
    )
    if every:
        model.set_callbacks(Checkpoint(path, every))
    if begins:
        begins.set()
    with threadpool_limits(1):
        return model.fit(X, y, resume_from=path if path.exists() else None)


@pytest.mark.long
def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    path, rng, n_kills = tmp_path / "network.npz", np.random.RandomState(0), 0
    start = time.perf_counter()
    whole = trained(tmp_path / "none.npz", every=0)
    seconds, context = time.perf_counter() - start, forks()
    while n_kills < 4:
        begins = context.Event()
        process = context.Process(target=trained, args=(path, 2, begins))
        process.start()
        assert begins.wait(100)
        time.sleep(rng.uniform(0, seconds))
        if process.is_alive():
            n_kills += 1
        else:  # it has trained to the end: the next begins anew
            path.unlink()
        process.kill()
        process.join()
    assert_same_fit(trained(path, every=2), whole)
