"""Mistakes of users: a type checker finds one in each marked line."""

import numpy as np

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.callbacks import OptunaPruningCallback
from skbackprop.optimizers import AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.tabular import TableEncoder

X, y = np.zeros((10, 2)), np.zeros(10)

BackpropClassifier(activation="gleu")  # wrong
BackpropClassifier(activation=["relu", "gleu"])  # wrong
BackpropClassifier(activation=AdamW())  # wrong
BackpropClassifier(loss="huber")  # wrong
BackpropClassifier(solver="adamm")  # wrong
BackpropClassifier(solver=AdamW)  # wrong
BackpropClassifier(learning_rate="cosin")  # wrong
BackpropClassifier(class_weight="balance")  # wrong
BackpropClassifier(normalization="bach")  # wrong
BackpropClassifier(average="mean")  # wrong
BackpropClassifier(init="he")  # wrong
BackpropClassifier(batch_size="all")  # wrong
BackpropClassifier(dtype="float16")  # wrong
BackpropClassifier(dropout="0.1")  # wrong
BackpropClassifier(hidden_layer_sizes="100")  # wrong
BackpropClassifier(max_iter=0.5)  # wrong
BackpropClassifier(activaton="relu")  # wrong
BackpropRegressor(loss="log_loss")  # wrong
BackpropAutoencoder(loss="huber")  # wrong
ConformalRegressor(BackpropRegressor(), conformity_score="quantiles")  # wrong
ConformalClassifier(BackpropClassifier(), conformity_score="apps")  # wrong
TabularRegressor(loss="huuber")  # wrong
TabularClassifier(blend="bosting")  # wrong
TableEncoder(encoding="onehot")  # wrong
TableEncoder(column_kinds={"note": "words"})  # wrong
OptunaPruningCallback(None, monitor="accuracy")  # wrong
BackpropClassifier().fit(X)  # wrong
BackpropClassifier().fit(None, y)  # wrong
BackpropClassifier().fit(X, y).input_gradient(X, of="probabilty")  # wrong
BackpropRegressor().fit(X, y, X_vall=X)  # wrong
LinearWarmup("cosin")  # wrong
mean, std = BackpropRegressor().predict(X, return_std="yes")  # wrong
shape = BackpropClassifier().fit(X, y).coefs_.shape  # wrong
