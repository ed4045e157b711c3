"""Tables that are larger than memory: files that are mapped, and files that are read in pieces.

What is fitted to a map, or to the row groups of a Parquet file, must be what is fitted to the same
numbers in memory, to the bit, and must take no memory in proportion to them.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from support import answers, class_data, classes_for, few_epochs, pairs, peak_of, quick, value_data

pytestmark = few_epochs
ROOT = Path(__file__).parents[2]

# ------------------------------------------------------------------------- mapped files


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fits_to_tables_that_are_larger_than_the_memory_allowed(tmp_path):
    """The cases are those of limited.py; that the limit holds is among them."""
    one_thread = dict.fromkeys(["OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"], "1")
    environment = os.environ | one_thread | {"PYTHONPATH": str(ROOT)}
    program = ROOT / "tests" / "estimators" / "limited.py"
    try:
        for how in ("mapped", "loaded"):
            command = [sys.executable, program, tmp_path, how]
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        mapped, loaded = (dict(np.load(tmp_path / f"{how}.npz")) for how in ("mapped", "loaded"))
    finally:
        for table in tmp_path.glob("*.npy"):
            table.unlink()
    assert mapped.pop("no copy of float32") and mapped.pop("no copy of float64")
    assert mapped.keys() == loaded.keys()
    for name, numbers in mapped.items():
        np.testing.assert_array_equal(numbers, loaded[name], err_msg=name)


DTYPES = ["float32", "float64", "float16", ">f4", ">f8", "uint8", "int16", ">i4", "int64", "bool"]


def mapped(path, X, order="C"):
    """Return a table as a map of a file, which can't be written to."""
    table = np.lib.format.open_memmap(path, "w+", X.dtype, X.shape, fortran_order=order == "F")
    table[...] = X
    table.flush()
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize(
    "estimator_class, dtype, order, settings",
    pairs(
        [BackpropClassifier, BackpropRegressor, BackpropAutoencoder],
        *(DTYPES, ["C", "F"], [{}, {"early_stopping": True}, {"solver": "lbfgs"}]),
    ),
)
def test_numbers_of_any_kind_are_as_good_as_floats(
    estimator_class, dtype, order, settings, tmp_path
):
    X, y = (value_data if estimator_class is BackpropRegressor else class_data)(80)
    X = np.abs(X if dtype == "bool" else 3 * X).astype(dtype)
    floats = X.astype("float32" if dtype in ("float32", ">f4") else "float64")
    arguments = () if estimator_class is BackpropAutoencoder else (y,)
    found = []
    for table in (mapped(tmp_path / "table.npy", X, order), X, floats):
        model = quick(estimator_class, **settings).fit(table, *arguments)
        parameters = [*model.coefs_, *model.intercepts_]
        found.append([*parameters, *answers(model, table), model.score(table, *arguments)])
    for of_map, of_array, of_floats in zip(*found, strict=True):
        np.testing.assert_array_equal(of_map, of_floats, strict=True)
        np.testing.assert_array_equal(of_array, of_floats, strict=True)


@pytest.mark.parametrize("dtype", ["float16", ">f4", ">f8"])
@pytest.mark.parametrize("value, named", [(np.nan, "NaN"), (np.inf, "infinity")])
def test_what_is_not_finite_is_found_in_floats_of_any_kind(dtype, value, named):
    X, y = class_data(50)
    X = X.astype(dtype)
    model = quick(BackpropClassifier).fit(X, y)
    X[3, 1] = value
    for call in (lambda: quick(BackpropClassifier).fit(X, y), lambda: model.predict(X)):
        with pytest.raises(ValueError, match=f"Input X contains {named}"):
            call()


def test_sums_that_overflow_are_of_finite_numbers_all_the_same():
    X = np.full((2000, 2), 60_000, dtype="float16")
    X[::2] *= -0.5
    y = np.arange(2000) % 2
    quick(BackpropClassifier, learning_rate_init=1e-8).fit(X, y)


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_fit_of_an_autoencoder_copies_no_rows(dtype, early_stopping):
    """Nor those that are held out, of which it needs the variance."""
    X = np.random.default_rng(0).integers(0, 9, (16_000, 300)).astype(dtype)
    settings = {"hidden_layer_sizes": (), "max_iter": 1, "validation_fraction": 0.9}
    model = BackpropAutoencoder(2, early_stopping=early_stopping, **settings)
    half = X[: len(X) // 2]
    assert peak_of(model.fit, X) - peak_of(model.fit, half) < half.nbytes / 3


# ------------------------------------------------------------------------- Parquet files

FEATURES = ["height", "width", "depth", "count", "is_new"]
SIZES = [20, 60, 7]  # rows of a group: of a frame of 61 the last one may have a single row


def frame_for(estimator_class, n=61):
    """Return columns of several dtypes, and the targets among them."""
    X, y = (class_data if estimator_class is BackpropClassifier else value_data)(n, 5)
    frame = pd.DataFrame(X.astype("float32"), columns=FEATURES)
    frame["count"] = (frame["count"] * 3).round().astype("int32")
    frame["is_new"] = frame["is_new"] > 0
    return frame.assign(target=y)


def file_of(frame, folder, n_rows):
    """Return a Parquet file of a frame, in groups of so many rows."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, folder / "table.parquet", row_group_size=n_rows)
    return pq.ParquetFile(folder / "table.parquet")


@pytest.mark.parametrize(
    "estimator_class, n_rows, container",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        *(SIZES, [None, pa.Table.to_pandas, pl.from_arrow]),
    ),
)
def test_row_groups_train_what_rows_in_memory_train(estimator_class, n_rows, container, tmp_path):
    frame = frame_for(estimator_class)
    file = file_of(frame, tmp_path, n_rows)
    settings, first = {"batch_size": 10}, classes_for(estimator_class)
    by_groups = quick(estimator_class, **settings)
    for i in range(file.num_row_groups):
        group = file.read_row_group(i)
        X, y = group.select(FEATURES), group["target"].to_numpy()
        by_groups.partial_fit(X if container is None else container(X), y, **first)
    by_slices = quick(estimator_class, **settings)
    for start in range(0, len(frame), n_rows):
        part = frame[start : start + n_rows]
        by_slices.partial_fit(part[FEATURES], part["target"], **first)
    assert by_groups.t_ == len(frame)
    assert by_groups.feature_names_in_.tolist() == FEATURES
    assert list(by_groups.loss_curve_) == list(by_slices.loss_curve_)
    for name in ("coefs_", "intercepts_"):
        for found, expected in zip(getattr(by_groups, name), getattr(by_slices, name), strict=True):
            np.testing.assert_array_equal(found, expected)
