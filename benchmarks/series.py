"""Time series: one convolutional architecture for all, beside a dense network and neighbors.

The architecture has three convolutions with batch normalization and the mean over all steps, as a
fully convolutional network does (Wang, Yan & Oates 2017, section II.B), with a quarter of its
filters and every second step. All networks are ensembles of three. Neighbors are those of dynamic
time warping within a tenth of the steps (Sakoe & Chiba 1978). The data are read from the files of
the package aeon, with the archive's splits.
"""

import math
import time
import warnings
from collections.abc import Iterator
from importlib.resources import files
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from benchmarks._report import argument_parser, as_time, print_setting, print_table
from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.layers import Activation, BatchNormalization, Conv1D, GlobalAveragePool1D, Layer

PACKAGE = "aeon==1.6.0"  # its requirements are not needed for its data
NAMES = (
    "GunPoint",
    "ArrowHead",
    "ACSF1",
    "BasicMotions",
    "PickupGestureWiimoteZ",
    "Covid3Month",
)
REGRESSIONS = ("Covid3Month",)
# Accuracies of the same splits (Ismail Fawaz et al. 2019; Dempster, Petitjean & Webb 2020).
PUBLISHED = {
    "GunPoint": "MLP 0.93, FCN 1.00, ROCKET 1.00",
    "ArrowHead": "MLP 0.78, FCN 0.84, ROCKET 0.81",
}
FILTERS = (32, 64, 32)
WINDOW = 0.1
BATCH_SIZE = 16
N_STEPS = 1_050


class Series(NamedTuple):
    """Rows of shape (steps, channels), with NaN after the end of shorter ones, and targets."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(name: str) -> Series:
    """Return a data set, with the mean and the deviation of the training rows' channels 0 and 1."""
    parts = [_read(name, part) for part in ("TRAIN", "TEST")]
    n_steps = max(len(channel) for rows, _ in parts for row in rows for channel in row)
    X, X_test = (np.full((len(rows), n_steps, len(rows[0])), np.nan) for rows, _ in parts)
    for padded, (rows, _) in zip((X, X_test), parts, strict=True):
        for row, channels in enumerate(rows):
            for channel, values in enumerate(channels):
                padded[row, : len(values), channel] = values
    center, scale = np.nanmean(X, axis=(0, 1)), np.nanstd(X, axis=(0, 1))
    X, X_test = (((part - center) / scale).astype(np.float32) for part in (X, X_test))
    return Series(X, parts[0][1], X_test, parts[1][1])


def _read(name: str, part: str) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Return rows of channels, and targets, of a file in the archive's format."""
    text = (files("aeon") / "datasets" / "data" / name / f"{name}_{part}.ts").read_text()
    lines = text.lower().partition("@data")[2].split()
    rows, targets = [], []
    for line in lines:
        *channels, target = line.split(":")
        values = [[math.nan if v == "?" else float(v) for v in c.split(",")] for c in channels]
        rows.append([np.array(channel)[~np.isnan(channel)] for channel in values])
        targets.append(target)
    return rows, np.array(targets, float if name in REGRESSIONS else str)


def synthetic(n_rows: int = 12) -> Series:
    """Return short waves of two frequencies and different length."""
    rng, y = np.random.default_rng(0), np.arange(n_rows) % 2
    X = np.sin(np.arange(30) * (0.3 + 0.4 * y[:, None]) + rng.normal(size=(n_rows, 1)))
    X[::3, 25:] = np.nan
    X = X[..., None].astype(np.float32)
    return Series(X, y, X, y)


# --------------------------------------------------------------------------- the contenders


def convolutions() -> list[Layer]:
    layers: list[Layer] = []
    for n_filters, size, stride in zip(FILTERS, (8, 5, 3), (2, 1, 1), strict=True):
        convolution = Conv1D(n_filters, size, stride, padding="same", use_bias=False)
        layers += [convolution, BatchNormalization(), Activation("relu")]
    return [*layers, GlobalAveragePool1D()]


def train(data: Series, hidden: tuple[int, ...], layers: list[Layer], n_steps: int) -> np.ndarray:
    """Return the predictions of an ensemble of networks for the test rows."""
    is_regression = data.y.dtype.kind == "f"
    batch_size = min(BATCH_SIZE, len(data.X))
    model = (BackpropRegressor if is_regression else BackpropClassifier)(
        hidden,
        layers=layers or None,
        n_estimators=3,
        batch_size=batch_size,
        learning_rate="cosine",
        learning_rate_init=2e-3,
        max_iter=math.ceil(n_steps / math.ceil(len(data.X) / batch_size)),
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=0,
    )
    with warnings.catch_warnings():
        # The number of epochs is the setting.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(data.X, data.y).predict(data.X_test)


def predict_by_convolutions(data: Series, n_steps: int) -> np.ndarray:
    return train(data, (), convolutions(), n_steps)


def predict_by_dense_network(data: Series, n_steps: int) -> np.ndarray:
    X, X_test = (np.nan_to_num(part).reshape(len(part), -1) for part in (data.X, data.X_test))
    return train(Series(X, data.y, X_test, data.y_test), (128, 128), [], n_steps)


def predict_by_neighbors(data: Series, n_steps: int) -> np.ndarray:
    return data.y[warping_distances(data.X_test, data.X).argmin(axis=1)]


def warping_distances(A: np.ndarray, B: np.ndarray, window: float = WINDOW) -> np.ndarray:
    """Return the distances of dynamic time warping between all rows of A and of B.

    D[i, j] = |a_i - b_j|^2 + min(D[i - 1, j], D[i, j - 1], D[i - 1, j - 1]) for |i - j| within the
    window, which is as wide as the largest difference of lengths at least, is computed for all
    pairs of rows at once, one antidiagonal i + j after the other.
    """
    lengths = [(~np.isnan(part[:, :, 0])).sum(axis=1) for part in (A, B)]
    n_steps, n_pairs = A.shape[1], (len(A), len(B))
    differences = np.abs(lengths[0][:, None] - lengths[1])
    width = max(math.ceil(window * n_steps), int(differences.max()))
    A, B = (np.nan_to_num(part).transpose(2, 1, 0) for part in (A, B))
    last = lengths[0][:, None] + lengths[1] - 2
    found = np.empty(n_pairs, np.float32)
    # By i: the values of the antidiagonal before the last one, and of the last one.
    older, old, new = np.full((3, n_steps + 2, *n_pairs), np.inf, np.float32)
    older[0] = 0
    for diagonal in range(2 * n_steps - 1):
        low = max(0, diagonal - n_steps + 1, (diagonal - width + 1) // 2)
        stop = min(n_steps - 1, diagonal, (diagonal + width) // 2) + 1
        i, j = slice(low, stop), diagonal - np.arange(low, stop)
        cost = sum((a[i, :, None] - b[j, None]) ** 2 for a, b in zip(A, B, strict=True))
        nearest = np.minimum(np.minimum(old[i], old[low + 1 : stop + 1]), older[i])
        np.add(cost, nearest, out=new[low + 1 : stop + 1])
        new[[low, stop + 1]] = np.inf
        rows, columns = np.nonzero(last == diagonal)
        found[rows, columns] = new[lengths[0][rows], rows, columns]
        older, old, new = old, new, older
    return found


def predict_by_minirocket(data: Series, n_steps: int) -> np.ndarray:
    from aeon.classification.convolution_based import MiniRocketClassifier
    from aeon.regression.convolution_based import MiniRocketRegressor

    kind = MiniRocketRegressor if data.y.dtype.kind == "f" else MiniRocketClassifier
    X, X_test = (np.nan_to_num(part).transpose(0, 2, 1) for part in (data.X, data.X_test))
    predictions: np.ndarray = kind(random_state=0).fit(X, data.y).predict(X_test)
    return predictions


CONTENDERS = {
    "convolutions": predict_by_convolutions,
    "dense": predict_by_dense_network,
    "1-NN DTW": predict_by_neighbors,
}
if find_spec("aeon") and find_spec("numba"):  # all that aeon depends on is installed
    CONTENDERS["MiniRocket"] = predict_by_minirocket


# ------------------------------------------------------------------------------- the table


def row_of(name: str, data: Series, smoke: bool) -> list[str]:
    n_steps, n_channels = data.X.shape[1:]
    cells = [f"{name}: {len(data.X)} and {len(data.X_test)} rows of {n_steps} x {n_channels}"]
    for predict in CONTENDERS.values():
        start = time.process_time()
        predicted = predict(data, 2 if smoke else N_STEPS)
        seconds = time.process_time() - start
        score = np.mean(predicted == data.y_test)
        if name in REGRESSIONS:
            score = np.sqrt(np.mean((predicted - data.y_test) ** 2))
        cells.append(f"{score:.4f} ({as_time(seconds)})")
    return [*cells, PUBLISHED.get(name, "-")]


def report(smoke: bool, only: str = "") -> None:
    """Print the table, of the data sets whose names contain `only`."""
    title = "Accuracy on the test rows (for Covid3Month: root mean squared error), processor time"
    if not smoke and find_spec("aeon") is None:
        print(f"\n{title}: left out.\nIt needs: pip install --no-deps {PACKAGE}")
        return

    def rows() -> Iterator[list[str]]:
        for name in ("waves",) if smoke else NAMES:
            if only in name:
                yield row_of(name, synthetic() if smoke else load(name), smoke)

    print_table(f"{title}:", ["series", *CONTENDERS, "published"], rows())


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="only the data sets whose names contain this")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.only)
