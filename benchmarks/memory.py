"""Memory that `fit` and prediction add to the data, at its peak, as a share of X's size.

NumPy reports its arrays to `tracemalloc`, which sees their peak exactly. The result that a
prediction returns is not counted: it has to be there.
"""

import gc
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks import _data
from benchmarks._contenders import OURS, SKLEARN
from benchmarks._report import argument_parser, print_setting, print_table, verdict
from skbackprop import BackpropClassifier

GOAL = 0.25
MIB = 2**20

FITS = {
    "`fit`": {"max_iter": 1},
    "`fit`, early stopping": {"max_iter": 1, "early_stopping": True},
    "`fit`, lbfgs": {"max_iter": 2, "solver": "lbfgs"},
}
PREDICTIONS = ("predict", "predict_proba")


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the most memory that `work` held at a time, less what its result holds."""
    gc.collect()
    tracemalloc.start()
    try:
        result = work()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak - getattr(result, "nbytes", 0)


def peaks(kind: type, X, y) -> dict[str, int]:
    """Return the peak of each kind of fit and prediction."""
    found = {}
    with warnings.catch_warnings():
        # That one epoch does not converge is no news here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for name, parameters in FITS.items():
            model = kind((100,), random_state=0, **parameters)
            found[name] = peak_bytes(partial(model.fit, X, y))
    for name in PREDICTIONS:
        found[f"`{name}`"] = peak_bytes(partial(getattr(model, name), X))
    return found


def report(smoke: bool) -> None:
    n_rows = 2_000 if smoke else 1_000_000
    X, y = _data.dense(n_rows, 50, 2, "float32")
    ours, sklearn = peaks(BackpropClassifier, X, y), peaks(MLPClassifier, X, y)
    rows = [
        [
            name,
            f"{ours[name] / MIB:.1f} MiB",
            f"{sklearn[name] / MIB:.1f} MiB",
            f"{ours[name] / X.nbytes:.2f}",
            f"{sklearn[name] / X.nbytes:.2f}",
            f"{GOAL:.2f}",
            verdict(ours[name] <= GOAL * X.nbytes, smoke),
        ]
        for name in ours
    ]
    print_table(
        f"Memory added to {n_rows:,} x 50 float32 rows ({X.nbytes / MIB:.0f} MiB), 100 units:",
        ["work", OURS, SKLEARN, f"{OURS} / X", f"{SKLEARN} / X", "goal", "verdict"],
        rows,
    )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
