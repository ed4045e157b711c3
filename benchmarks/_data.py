"""The data of all benchmarks: random numbers and labels, for speed does not depend on sense."""

import numpy as np
from scipy import sparse


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
        rng=np.random.default_rng(0),
    )
    return X, labels(n_rows, n_classes)
