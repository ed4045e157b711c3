"""Encoders of tables, and tabular estimators, on rows of numbers with missing ones among them."""

import numpy as np
import pandas as pd
import pytest
import skl2onnx
from c_runs import CC, outputs_of_c
from onnxruntime import InferenceSession
from sklearn.pipeline import make_pipeline
from test_onnx import outputs_of

from cases import SHORT, is_close
from skbackprop import BackpropClassifier, TabularClassifier, TabularRegressor
from skbackprop.export import register_converters, to_c, to_onnx
from skbackprop.losses import Quantile
from skbackprop.tables import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder

RNG = np.random.default_rng(0)
N = 200
TABLE = np.column_stack(
    [
        RNG.normal(size=N) * 10 + 200,
        RNG.integers(0, 5, N),
        RNG.normal(size=N) ** 3,
        RNG.integers(0, 2, N),
        RNG.integers(0, 60, N),
        np.full(N, 7.0),
    ]
)
TABLE[RNG.random(TABLE.shape) < 0.05] = np.nan
LABELS = (np.nan_to_num(TABLE[:, 2]) > 0).astype(int) + (np.nan_to_num(TABLE[:, 1]) > 2)
NUMBERS = np.nan_to_num(TABLE[:, 2]) + np.nan_to_num(TABLE[:, 1])
# Rows to come, with levels that were never seen and numbers that are far away.
ROWS = TABLE.copy()
ROWS[:4, 1], ROWS[4:8, 4], ROWS[8, 0], ROWS[9, 2] = 99, 1000, 1e30, -1e30
ROWS = ROWS.astype(np.float32)


@pytest.mark.parametrize(
    "encoder",
    [
        TableEncoder([1, 4]),
        TableEncoder([1, 4], encoding="codes"),
        TableEncoder([1, 4], max_levels=4, random_state=0),
        TableEncoder([1, 3, 4], min_frequency=1, max_levels=None),
        TableEncoder(),
    ],
    ids=str,
)
def test_encoders_of_tables(encoder):
    encoder = encoder.fit(TABLE, LABELS)
    (encoded,) = outputs_of(to_onnx(encoder), ROWS).values()
    assert is_close(encoded, encoder.transform(ROWS))


@pytest.mark.parametrize(
    "encoder", [PiecewiseLinearEncoder(4), PeriodicFeatures(3, random_state=0)], ids=str
)
def test_encoders_of_numbers(encoder):
    X = np.nan_to_num(TABLE)
    rows = X[::2].astype(np.float32) + np.float32(0.25)
    (encoded,) = outputs_of(to_onnx(encoder.fit(X / 10)), rows / 10).values()
    assert is_close(encoded, encoder.transform(rows / 10))


@pytest.mark.parametrize("labels", [LABELS, LABELS > 1, np.zeros(N), np.array(list("abc"))[LABELS]])
@pytest.mark.parametrize("categorical_features", [[1, 4], None])
def test_classifiers_of_tables(labels, categorical_features):
    settings = {"categorical_features": categorical_features, "max_iter": 2, "random_state": 0}
    estimator = TabularClassifier(2, **settings).fit(TABLE, labels)
    found = outputs_of(to_onnx(estimator), ROWS)
    assert found["label"].tolist() == estimator.predict(ROWS).tolist()
    assert is_close(found["probabilities"], estimator.predict_proba(ROWS))


@pytest.mark.parametrize(
    "settings",
    [{"n_members": 3}, {"loss": "gaussian", "clip": False}, {"loss": Quantile([0.1, 0.9])}],
)
def test_regressors_of_tables(settings):
    settings = {"n_members": 2, "max_iter": 2, "random_state": 0} | settings
    estimator = TabularRegressor(**settings).fit(TABLE, NUMBERS)
    (found,) = outputs_of(to_onnx(estimator), ROWS).values()
    predicted = estimator.predict(ROWS)
    assert is_close(found, predicted.reshape(found.shape))


def test_other_estimators_that_are_blended_in():
    settings = {"blend": "boosting", "max_iter": 2, "random_state": 0}
    with pytest.raises(TypeError, match="Fit it with blend=None"):
        to_onnx(TabularRegressor(2, **settings).fit(TABLE, NUMBERS))


def test_tables_of_constants():
    estimator = TabularRegressor(2, max_iter=1, random_state=0).fit(
        np.ones((20, 2)), np.arange(20.0)
    )
    (found,) = outputs_of(to_onnx(estimator), np.array([[1, np.nan]])).values()
    assert is_close(found[:, 0], estimator.predict([[1, np.nan]]))


def test_converters_of_skl2onnx():
    register_converters()
    network = BackpropClassifier((5,), **SHORT)
    models = [
        make_pipeline(TableEncoder([1, 4]), network).fit(TABLE, LABELS),
        TabularClassifier(2, max_iter=1, random_state=0).fit(TABLE, LABELS),
    ]
    for model in models:
        proto = skl2onnx.to_onnx(model, ROWS[:1], options={"zipmap": False})
        label, probabilities = InferenceSession(proto.SerializeToString()).run(None, {"X": ROWS})
        assert label.tolist() == model.predict(ROWS).tolist()
        assert is_close(probabilities, model.predict_proba(ROWS))


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_programs_in_c(tmp_path):
    waves, bins = PeriodicFeatures(2, random_state=0), PiecewiseLinearEncoder(3)
    transformers = [[TableEncoder([1, 4], max_levels=4)], [TableEncoder(), waves, bins]]
    pipelines = [
        make_pipeline(*each, BackpropClassifier((5,), **SHORT)).fit(TABLE, LABELS)
        for each in transformers
    ]
    programs = [(to_c(each, prefix=f"p{i}"), ROWS, [3]) for i, each in enumerate(pipelines)]
    for (label, probabilities), each in zip(
        outputs_of_c(programs, tmp_path), pipelines, strict=True
    ):
        assert label[:, 0].tolist() == each.predict(ROWS).tolist()
        assert is_close(probabilities, each.predict_proba(ROWS))


def test_levels_that_are_no_numbers_are_an_error_that_says_what_to_do():
    table = pd.DataFrame({"age": TABLE[:, 0], "city": np.array(["Bern", "Oslo"])[LABELS // 2]})
    with pytest.raises(TypeError, match=r"Column 'city' has levels such as 'Bern'.*Ordinal"):
        to_onnx(TableEncoder().fit(table))
    with pytest.raises(ValueError, match="no outputs to export"):
        to_onnx(TableEncoder().fit(np.ones((3, 2))))
    alike = TableEncoder([0], min_frequency=1).fit(np.array([[1.0, 2], [1 + 1e-12, 3], [2, 4]]))
    with pytest.raises(ValueError, match="Column 0 has levels that single precision does not tell"):
        to_c(alike)
