"""Who is measured: ours, scikit-learn's, the bare matrix products, and torch if installed.

Each contender turns a `Problem` into the function that trains, updates or predicts so many times
over, or into a `Learner`; all do the same mathematics on the same shapes, with their libraries'
default threads.
"""

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks._timing import Run
from skbackprop import BackpropClassifier

OURS, SKLEARN, BARE, TORCH = "skbackprop", "scikit-learn", "bare products", "torch"


@dataclass(frozen=True)
class Problem:
    """A classification problem and the network for it: relu, Adam at its defaults but the rate."""

    X: np.ndarray | sparse.csr_array
    y: np.ndarray
    hidden: tuple[int, ...]
    batch_size: int
    rate: float = 1e-3
    seed: int = 0

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape of each layer's weights; two classes need one output."""
        n_classes = int(self.y.max()) + 1
        n_outputs = 1 if n_classes == 2 else n_classes
        return list(pairwise((self.X.shape[1], *self.hidden, n_outputs)))

    def batches(self) -> list[slice]:
        starts = range(0, self.X.shape[0], self.batch_size)
        return [slice(start, start + self.batch_size) for start in starts]


@dataclass(frozen=True)
class Learner:
    """A network in training: `train` goes on for so many epochs, `predict` returns labels."""

    train: Run
    predict: Callable[[np.ndarray], np.ndarray]


# ------------------------------------------------------------------- the two estimators


class Estimator:
    """Either library's classifier, told never to stop early."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def model(self, problem: Problem, max_iter: int = 1):
        return self.kind(
            problem.hidden,
            batch_size=problem.batch_size,
            learning_rate_init=problem.rate,
            max_iter=max_iter,
            tol=0.0,
            n_iter_no_change=np.inf,
            random_state=problem.seed,
        )

    def epochs(self, problem: Problem) -> Run:
        def run(n_epochs: int) -> None:
            with warnings.catch_warnings():
                # That so few epochs do not converge is no news here.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self.model(problem, n_epochs).fit(problem.X, problem.y)

        return run

    def updates(self, problem: Problem) -> Run:
        model = self.model(problem).partial_fit(problem.X, problem.y, classes=np.unique(problem.y))

        def run(n_calls: int) -> None:
            for _ in range(n_calls):
                model.partial_fit(problem.X, problem.y)

        return run

    def predictions(self, problem: Problem) -> Run:
        model = self.model(problem).partial_fit(problem.X, problem.y, classes=np.unique(problem.y))
        row = problem.X[:1]

        def run(n_calls: int) -> None:
            for _ in range(n_calls):
                model.predict_proba(row)

        return run

    def learner(self, problem: Problem) -> Learner:
        # From a seed, scikit-learn would draw the same order of rows in every call.
        rng = np.random.RandomState(problem.seed)
        model = self.model(problem).set_params(random_state=rng)
        classes = np.unique(problem.y)
        train = _repeat(lambda: model.partial_fit(problem.X, problem.y, classes=classes))
        return Learner(train, model.predict)


# --------------------------------------------------------------------- the bare products


class BareProducts:
    """The matrix products of an epoch and nothing else: what no NumPy program can undercut.

    With `n_estimators` those of a stack of so many networks that see the same rows.
    """

    def __init__(self, n_estimators: int | None = None) -> None:
        self._members = () if n_estimators is None else (n_estimators,)

    def epochs(self, problem: Problem) -> Run:
        one_pass = self._passes(problem)
        inputs = [problem.X[rows] for rows in problem.batches()]
        return _repeat(lambda: [one_pass(x) for x in inputs])

    def updates(self, problem: Problem) -> Run:
        one_pass = self._passes(problem)
        return _repeat(lambda: one_pass(problem.X))

    def predictions(self, problem: Problem) -> Run:
        weights = self._like_weights(problem)
        row = problem.X[:1]
        outputs = [np.empty((1, w.shape[1]), w.dtype) for w in weights]

        def predict() -> None:
            a = row
            for w, out in zip(weights, outputs, strict=True):
                a = np.matmul(a, w, out=out)

        return _repeat(predict)

    def _like_weights(self, problem: Problem) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        shapes = [self._members + shape for shape in problem.shapes]
        # So small that products of products stay ordinary numbers.
        return [(0.1 * rng.standard_normal(s)).astype(problem.X.dtype) for s in shapes]

    def _passes(self, problem: Problem) -> Callable[[object], None]:
        """Return the products of one batch, forward and backward."""
        weights = self._like_weights(problem)
        gradients = [np.empty_like(w) for w in weights]
        rng = np.random.default_rng(0)
        shapes = [(*self._members, problem.batch_size, w.shape[-1]) for w in weights]
        buffers = [rng.standard_normal(s).astype(problem.X.dtype) for s in shapes]

        def one_pass(x) -> None:
            outputs = [buffer[..., : x.shape[0], :] for buffer in buffers]
            layer_inputs = [x, *outputs[:-1]]
            for a, w, out in zip(layer_inputs, weights, outputs, strict=True):
                _product(a, w, out)
            for layer in reversed(range(len(weights))):
                _product(_transposed(layer_inputs[layer]), outputs[layer], gradients[layer])
                if layer > 0:
                    # Of a stack, matmul is slow where a product is but a multiplication.
                    is_outer = self._members and weights[layer].shape[-1] == 1
                    product = np.multiply if is_outer else np.matmul
                    product(outputs[layer], _transposed(weights[layer]), out=outputs[layer - 1])

        return one_pass


def _transposed(a):
    return a.T if a.ndim == 2 else a.swapaxes(-1, -2)


def _product(a, b: np.ndarray, out: np.ndarray) -> None:
    if sparse.issparse(a):
        out[...] = a @ b  # SciPy's products have no `out`
    else:
        np.matmul(a, b, out=out)


def _repeat(work: Callable[[], object]) -> Run:
    def run(n_times: int) -> None:
        for _ in range(n_times):
            work()

    return run


# --------------------------------------------------------------------------------- torch


class Torch:
    """The usual eager loop, with the fused Adam."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def epochs(self, problem: Problem) -> Run | None:
        if sparse.issparse(problem.X):
            return None  # has no rows to take from a sparse matrix
        return lambda n_epochs: self.learner(problem).train(n_epochs)

    def updates(self, problem: Problem) -> Run:
        X, y = self._tensors(problem)
        step = self._steps(problem, self._model(problem))
        return _repeat(lambda: step(X, y))

    def predictions(self, problem: Problem) -> Run:
        model = self._model(problem)
        row = problem.X[:1]

        def predict() -> None:
            with self.torch.inference_mode():
                self.torch.sigmoid(model(self.torch.from_numpy(row))).numpy()

        return _repeat(predict)

    def learner(self, problem: Problem) -> Learner:
        """Return a learner for more than two classes, or for training alone."""
        self.torch.manual_seed(problem.seed)
        X, y = self._tensors(problem)
        model = self._model(problem)
        step = self._steps(problem, model)

        def train_epoch() -> None:
            for rows in self.torch.randperm(len(X)).split(problem.batch_size):
                step(X[rows], y[rows])

        def predict(X: np.ndarray) -> np.ndarray:
            with self.torch.inference_mode():
                return model(self.torch.from_numpy(X)).argmax(1).numpy()

        return Learner(_repeat(train_epoch), predict)

    def _tensors(self, problem: Problem):
        y = self.torch.from_numpy(problem.y)
        if problem.shapes[-1][1] == 1:
            y = y.to(self._dtype(problem))[:, None]
        return self.torch.from_numpy(problem.X), y

    def _dtype(self, problem: Problem):
        return getattr(self.torch, problem.X.dtype.name)

    def _model(self, problem: Problem):
        nn = self.torch.nn
        layers = []
        for fan_in, fan_out in problem.shapes:
            layers += [nn.Linear(fan_in, fan_out, dtype=self._dtype(problem)), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    def _steps(self, problem: Problem, model) -> Callable[[object, object], None]:
        nn = self.torch.nn
        loss = nn.BCEWithLogitsLoss() if problem.shapes[-1][1] == 1 else nn.CrossEntropyLoss()
        optimizer = self.torch.optim.Adam(model.parameters(), problem.rate, fused=True)

        def step(X, y) -> None:
            optimizer.zero_grad()
            loss(model(X), y).backward()
            optimizer.step()

        return step


def contenders() -> dict[str, Estimator | BareProducts | Torch]:
    """Return who can be measured here, by name."""
    present = {
        OURS: Estimator(BackpropClassifier),
        SKLEARN: Estimator(MLPClassifier),
        BARE: BareProducts(),
    }
    if importlib.util.find_spec("torch"):
        present[TORCH] = Torch()
    return present
