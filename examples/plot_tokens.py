"""
Which token comes next?
=======================

In a text's subject, words matter more than their order, and a bag of words is enough. Here the
order matters: given 16 tokens of Python code, which token comes next? The code is Python's standard
library, of which eight modules are held out. All rare names are the token ``<name>``. Numbers,
strings and the ends of lines and blocks have such tokens as well.

- **`Embedding`, `GRU`** reads the tokens in order.
- **`Embedding`, `TransformerBlock`** lets each token attend to the others, with places told by
  `PositionalEncoding`.
- **`Embedding`, `GlobalAveragePool1D`** averages the vectors of tokens: a bag of words.
- **`TfidfVectorizer`, `LogisticRegression`**: a bag of words and of neighboring pairs.
- **`OneHotEncoder`, `LogisticRegression`**: one column for each token at each place.

`GRU` predicts best. The linear model that knows each place is nearly as good, and faster: begin
with it. Bags of words are far behind. The second picture has the vectors that the `Embedding` has
learned: tokens that are used alike are neighbors.
"""

import importlib.util
import textwrap
import time
import tokenize
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skbackprop import BackpropClassifier
from skbackprop.layers import (
    GRU,
    Embedding,
    GlobalAveragePool1D,
    PositionalEncoding,
    TransformerBlock,
)

TRAIN_MODULES = [
    *("argparse", "ast", "calendar", "collections", "configparser", "csv", "dataclasses"),
    *("difflib", "fractions", "functools", "heapq", "inspect", "pathlib", "random", "shutil"),
    *("statistics", "subprocess", "tempfile", "threading", "unittest.case"),
]
TEST_MODULES = [
    *("enum", "http.client", "json.decoder", "logging", "tarfile", "textwrap", "typing"),
    "zipfile",
]
KINDS = {
    tokenize.NUMBER: "<number>",
    tokenize.STRING: "<string>",
    tokenize.NEWLINE: "<newline>",
    tokenize.INDENT: "<indent>",
    tokenize.DEDENT: "<dedent>",
}
N_STEPS = 16


def read_tokens(name):
    """Return the tokens of a module."""
    with tokenize.open(importlib.util.find_spec(name).origin) as file:
        return [
            KINDS.get(token.type, token.string)
            for token in tokenize.generate_tokens(file.readline)
            if token.type in (tokenize.NAME, tokenize.OP, *KINDS)
        ]


def make_rows(names, vocabulary, n, rng):
    """Return rows of 16 tokens, padded by -1 at the start of a module, and the next token."""
    X, y = [], []
    for name in names:
        numbers = [vocabulary.get(token, vocabulary["<name>"]) for token in read_tokens(name)]
        for end in range(1, len(numbers)):
            row = numbers[max(0, end - N_STEPS) : end]
            X.append(row + [-1] * (N_STEPS - len(row)))
            y.append(numbers[end])
    chosen = rng.permutation(len(X))[:n]
    return np.array(X)[chosen], np.array(y)[chosen]


counts = Counter(token for name in TRAIN_MODULES for token in read_tokens(name))
tokens = [token for token, _ in counts.most_common(120)] + ["<name>"]
vocabulary = {token: number for number, token in enumerate(tokens)}
rng = np.random.default_rng(0)
X, y = make_rows(TRAIN_MODULES, vocabulary, 8_000, rng)
X_test, y_test = make_rows(TEST_MODULES, vocabulary, 4_000, rng)
print(f"{len(X)} rows to learn from, {len(X_test)} held out, {len(tokens)} tokens, such as:")
print(textwrap.indent(textwrap.fill(" ".join(tokens[number] for number in X[0]), 72), "    "))
print(f"  followed by {tokens[y[0]]}")


# %%
# Accuracy
# --------


def as_texts(X):
    return [" ".join(tokens[number] for number in row if number >= 0) for row in X]


def network(*layers):
    return BackpropClassifier(
        (),
        layers=[Embedding(len(tokens), 32), *layers],
        learning_rate_init=0.005,
        learning_rate="cosine",
        batch_size=64,
        max_iter=7,
        n_iter_no_change=np.inf,
        random_state=0,
    )


linear = LogisticRegression(tol=0.001, max_iter=1000)
vectorizer = TfidfVectorizer(token_pattern=r"\S+", lowercase=False, ngram_range=(1, 2), min_df=20)
MODELS = {
    "TfidfVectorizer, linear": make_pipeline(vectorizer, clone(linear).set_params(C=10.0)),
    "OneHotEncoder, linear": make_pipeline(OneHotEncoder(handle_unknown="ignore"), linear),
    "Embedding, GlobalAveragePool1D": network(GlobalAveragePool1D()),
    "Embedding, TransformerBlock": network(
        PositionalEncoding(), TransformerBlock(4, 64), GlobalAveragePool1D()
    ),
    "Embedding, GRU": network(GRU(64)),
}

accuracies = {}
print("model                             accuracy   seconds")
for name, model in MODELS.items():
    start = time.perf_counter()
    prepare = as_texts if name.startswith("Tfidf") else np.asarray
    model.fit(prepare(X), y)
    accuracies[name] = model.score(prepare(X_test), y_test)
    print(f"{name:32s}{accuracies[name]:10.3f}{time.perf_counter() - start:10.1f}")

figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
colors = ["#0072B2" if "Embedding" in name else "gray" for name in accuracies]
axes.bar_label(axes.barh(list(accuracies), accuracies.values(), color=colors), fmt=" %.2f")
axes.set(xlabel="accuracy on held-out modules", title="Which token comes next in Python code?")
axes.margins(x=0.1)
plt.show()

# %%
# What has the embedding learned?
# -------------------------------
#
# `embeddings_` has a row of 32 numbers for each token, drawn in the plane of their two principal
# components.

vectors = MODELS["Embedding, GRU"].embeddings_[0]
shown = range(50)  # the most frequent tokens
plane = PCA(2).fit_transform(vectors[shown])
figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
axes.plot(*plane.T, ".", color="lightgray")
for number, place in zip(shown, plane, strict=True):
    axes.annotate(tokens[number], place, ha="center", va="center", fontsize=9)
axes.set(title="Tokens that are used alike are neighbors", xticks=[], yticks=[])
plt.show()
