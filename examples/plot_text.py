"""
Text: a network or logistic regression?
=======================================

Which library is a docstring from: NumPy, SciPy, scikit-learn, pandas or the standard library? Each
docstring is a bag of words, weighted by TF-IDF: thousands of columns, nearly all of them zero. Both
models accept the sparse matrix directly.

Logistic regression is as good or better here, and faster. With thousands of columns classes are
linearly separable, so a network has nothing to add. For bags of words start with
`LogisticRegression`. On the page about tokens, the order of words matters, and networks gain.
"""

import importlib
import inspect
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropClassifier

MODULES = {
    "numpy": ["numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.polynomial"],
    "scipy": ["scipy.stats", "scipy.linalg", "scipy.optimize", "scipy.signal", "scipy.special"],
    "sklearn": ["sklearn.metrics", "sklearn.linear_model", "sklearn.datasets", "sklearn.utils"],
    "python": ["os", "collections", "itertools", "logging", "asyncio", "subprocess", "pathlib"],
}


def docstrings(name):
    """Yield the docstrings of a module's functions and classes, and of the methods of these."""
    module = importlib.import_module(name)
    for part in vars(module).values():
        if callable(part) and getattr(part, "__doc__", None):
            yield inspect.cleandoc(str(part.__doc__))
            if inspect.isclass(part):
                methods = vars(part).values()
                yield from (str(m.__doc__) for m in methods if inspect.isfunction(m) and m.__doc__)


# Keep the beginnings only, and remove the names of the libraries.
found = {}
for label, names in MODULES.items():
    for text in (text for name in names for text in docstrings(name)):
        for library in MODULES:
            text = text.replace(library, "")
        if len(text) > 40:
            found[text[:300]] = label
texts, labels = list(found), list(found.values())
texts, texts_test, y, y_test = train_test_split(
    texts, labels, test_size=0.4, stratify=labels, random_state=0
)
print(f"{len(texts)} training docstrings, {len(texts_test)} test docstrings")

MODELS = {
    "LogisticRegression": (LogisticRegression(C=10.0, max_iter=1000), "#D55E00"),
    "BackpropClassifier": (
        BackpropClassifier(
            (64,), dropout=0.2, max_iter=40, n_iter_no_change=np.inf, random_state=0
        ),
        "#0072B2",
    ),
}
sizes = np.geomspace(100, len(texts), 5).astype(int)
figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
for name, (model, color) in MODELS.items():
    scores = []
    for size in sizes:
        start = time.perf_counter()
        pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), model)
        pipeline.fit(texts[:size], y[:size])
        scores.append(pipeline.score(texts_test, y_test))
    print(f"{name}: accuracy {scores[-1]:.3f}, the last fit {time.perf_counter() - start:.1f} s")
    axes.plot(sizes, scores, "o-", color=color, label=name)
axes.set(xlabel="docstrings to learn from", ylabel="accuracy", xscale="log")
axes.set_title("Which library is a docstring from?")
axes.legend()
plt.show()
