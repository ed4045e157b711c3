"""Write the corpus of this version, which all later versions must load: `make corpus`.

The files go to a folder named after the version, with the predictions for a few rows. Until a
version is released, its files are rewritten when the format changes; after that they stay.
"""

import json
import shutil
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRegressor,
    ConformalRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.activations import LeakyRelu
from skbackprop.inspection import BackpropFeatures
from skbackprop.layers import CategoricalEmbedding
from skbackprop.losses import Quantile
from skbackprop.persistence import save
from skbackprop.schedules import CosineDecay, LinearWarmup
from skbackprop.tabular import PiecewiseLinearEncoder, TableEncoder
from skbackprop.tabular._training_cycles import EnsembleSettings

CORPUS = Path(__file__).parent / "corpus"

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).round(2)
CLASSES = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
WORDS = np.array(["low", "mid", "high"])[CLASSES]
NUMBERS = np.exp(X[:, 0]) + 0.1
CODES = np.column_stack([X[:, :2], CLASSES])
TABLE = pd.DataFrame(
    {
        "size": np.where(X[:, 1] > 1, np.nan, X[:, 0]),
        "kind": np.array(["x", "y", None], dtype=object)[CLASSES],
        "place": [f"level {row % 12}" for row in range(len(X))],
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(37 * np.arange(len(X)), unit="D"),
        "took": pd.to_timedelta(X[:, 0].round(1), unit="h"),
        "note": [f"note of row {row}" for row in range(len(X))],
        "price": [f"{1000 + row:,}" for row in range(len(X))],
    }
)
SHORT = {"max_iter": 3, "random_state": 0}
# The default networks of tabular estimators have hundreds of units, which make large files.
FEW_UNITS = [EnsembleSettings(embeds, (3,), 0.1, 0.1, 256, 0.01) for embeds in (True, False)]


def _warm():
    network = BackpropClassifier(
        (4, 3),
        activation=["silu", LeakyRelu(0.2)],
        normalization="layer",
        dropout=0.2,
        learning_rate=LinearWarmup(CosineDecay(), 0.1),
        solver="adamw",
        warm_start=True,
        early_stopping=True,
        **SHORT,
    )
    return network.fit(X, WORDS)


def _ensemble():
    network = BackpropRegressor(
        (4,),
        n_estimators=3,
        loss="gaussian",
        normalization="batch",
        average="ema",
        scale_target=True,
        early_stopping=EarlyStopping("loss", "folds"),
        **SHORT,
    )
    return network.fit(X, NUMBERS)


def _in_pieces():
    network = BackpropClassifier((3,), loss="focal", solver="sgd", class_weight={0: 2.0}, **SHORT)
    for rows in (slice(20), slice(20, None)):
        network.partial_fit(X[rows], CLASSES[rows], classes=[0, 1, 2])
    return network


def _table(kind, y, **settings):
    with mock.patch.object(kind, "_configurations", FEW_UNITS):
        return kind(n_estimators=2, max_iter=2, random_state=0, **settings).fit(TABLE, y)


def _search(kind, **settings):
    return kind(BackpropClassifier((3,), **SHORT), {"alpha": [0.1, 1.0]}, cv=2, **settings)


# For each model a function that fits it, and the rows to predict.
MODELS = {
    "warm": (_warm, X),
    "ensemble": (_ensemble, X),
    "pieces": (_in_pieces, X),
    "multilabel": (lambda: BackpropClassifier((3,), **SHORT).fit(X, (X > 0).astype(int)), X),
    "quantiles": (
        lambda: BackpropRegressor((3,), loss=Quantile([0.1, 0.9]), solver="lbfgs", **SHORT).fit(
            X, NUMBERS
        ),
        X,
    ),
    "embedded": (
        lambda: BackpropRegressor(
            (3,), layers=[CategoricalEmbedding({2: 3}, n_units=2), "periodic"], **SHORT
        ).fit(CODES, NUMBERS),
        CODES,
    ),
    "autoencoder": (lambda: BackpropAutoencoder(2, **SHORT).fit(X), X),
    "variational": (lambda: BackpropAutoencoder(2, variational=True, **SHORT).fit(X), X),
    "features": (lambda: BackpropFeatures(BackpropClassifier((3,), **SHORT)).fit(X, CLASSES), X),
    "conformal": (
        lambda: ConformalRegressor(
            make_pipeline(StandardScaler(), BackpropRegressor((3,), **SHORT)), random_state=0
        ).fit(X, NUMBERS),
        X,
    ),
    "search": (lambda: _search(BackpropGridSearchCV, scoring="accuracy").fit(X, WORDS), X),
    "halving": (lambda: _search(BackpropHalvingGridSearchCV, min_resources=1).fit(X, CLASSES), X),
    "encoders": (
        lambda: make_pipeline(
            TableEncoder(max_categories=4, random_state=0),
            PiecewiseLinearEncoder(3),
            BackpropClassifier((3,), **SHORT),
        ).fit(TABLE, WORDS),
        TABLE,
    ),
    "table_of_classes": (
        lambda: _table(TabularClassifier, WORDS, blend=[LogisticRegression()]),
        TABLE,
    ),
    "table_of_numbers": (lambda: _table(TabularRegressor, NUMBERS, blend=[Ridge()]), TABLE),
    "table_with_boosting": (
        lambda: _table(
            TabularRegressor,
            NUMBERS,
            blend=[HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=3)],
        ),
        TABLE,
    ),
}


def predictions_of(model, X):
    """Return the predictions of a model by method, as lists."""
    methods = ["predict", "predict_proba", "transform", "predict_interval"]
    found = {name: getattr(model, name)(X) for name in methods if hasattr(model, name)}
    return {
        name: [each.tolist() for each in values] if type(values) is list else values.tolist()
        for name, values in found.items()
    }


def rows_of(X, n_rows=6):
    """Return the first rows of the data to predict."""
    return X[:n_rows]


def main():
    """Replace all files of this version."""
    folder = CORPUS / skbackprop.__version__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    expected = {}
    for name, (make, X) in MODELS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about convergence
            model = make()
        save(model, folder / f"{name}.skops")
        expected[name] = predictions_of(model, rows_of(X))
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{len(expected)} models, {size / 1024:.0f} KiB in {folder}")


if __name__ == "__main__":
    main()
