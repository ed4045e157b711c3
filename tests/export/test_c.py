"""C programs give the estimators' outputs, under gcc's warnings and sanitizers."""

import re
import subprocess

import numpy as np
import pandas as pd
import pytest
from c_runs import CC, STRICT, outputs_of_c
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.export import _expressions as ex
from skbackprop.export import c_export, to_c
from skbackprop.export._c_codegen import BufferPlan
from skbackprop.export._model_graph import ModelGraph, ModelOutput
from skbackprop.export.c_export import generate_c
from support import cases, changed
from support.cases import SHORT, X, Y, classifier, expected, is_close, model, regressor

needs_gcc = pytest.mark.skipif(CC is None, reason="there is no C compiler")


def numeric_outputs(estimator, X):
    """Return the expected outputs, with the index of each class in place of the class."""
    found = []
    for name, values in expected(estimator, X).items():
        if name.startswith("label") and np.ndim(values) == 1:
            values = np.searchsorted(estimator.classes_, values)[:, None]
        found.append(values.reshape(len(values), -1))
    return found


def run_programs(models, folder, options=None, **settings):
    """Export pairs of an estimator and rows. Yield each program, its outputs and those expected."""
    programs, all_expected = [], []
    for i, (estimator, rows) in enumerate(models):
        values = numeric_outputs(estimator, rows)
        program = to_c(estimator, prefix=f"p{i}", return_std=cases.has_std(estimator), **settings)
        is_returned = f"int p{i}_predict" in program.source
        programs.append((program, rows, [each.shape[1] for each in values[is_returned:]]))
        all_expected.append(values)
    found = outputs_of_c(programs, folder, *([] if options is None else [options]))
    return zip([program for program, *_ in programs], found, all_expected, strict=True)


# A compiler takes long for many programs: all values of each kind, but not of all at once.
SAMPLES = {
    "activations": r"activation",
    "input layers": r"input layers",
    "losses": r"(norm|hinge|quant|output|autoencoder|pipeline)|(?!labels).* 2$",
    "labels": r"labels|feat|search|MinMax",
}


@needs_gcc
@pytest.mark.long
@pytest.mark.parametrize("pattern", SAMPLES.values(), ids=SAMPLES)
def test_outputs_equal_those_of_the_estimator(pattern, tmp_path):
    names = [name for name in cases.NAMES if re.match(pattern, name)]
    models = [(model(name), cases.rows_of(name)) for name in names]
    for name, (_, found, wanted) in zip(names, run_programs(models, tmp_path), strict=True):
        assert all(map(is_close, found, wanted)), name


@pytest.mark.long
@needs_gcc
def test_optimized_programs_give_the_same(tmp_path):
    """With optimization the compiler finds more to warn about."""
    models = [classifier(n_estimators=2), model("pipeline of networks"), model("labels multilabel")]
    for _, found, wanted in run_programs([(each, X) for each in models], tmp_path, ["-O2"]):
        assert all(map(is_close, found, wanted))


@pytest.mark.long
@needs_gcc
def test_large_inputs_do_not_overflow(tmp_path):
    far = np.vstack([X * 1e6, np.full((1, 4), 1e30)])
    estimators = [classifier(activation="mish"), classifier(Y > 0, n_estimators=2)]
    programs = [(to_c(each, prefix=f"p{i}"), far, [3 - i]) for i, each in enumerate(estimators)]
    # All integers of an 8-bit program stay in range for any input; the sanitizer checks that.
    wild = np.array([[np.nan, np.inf, -np.inf, 1e38], [1e38, -1e38, 0, 0]])
    int8 = to_c(classifier(), prefix="p2", weight_dtype="int8", calibration_data=X)
    for _, probabilities in outputs_of_c([*programs, (int8, wild, [3])], tmp_path)[:2]:
        assert np.allclose(probabilities.sum(axis=1), 1)


@pytest.mark.long
@needs_gcc
def test_layer_normalization_of_rows_of_any_size(tmp_path):
    estimator = regressor(normalization="layer")
    models = [(estimator, X * size) for size in (1e-30, 1.0, 1e19, 1e30)]
    for _, found, wanted in run_programs(models, tmp_path):
        assert all(map(is_close, found, wanted))


# ------------------------------------------------------------------------------- the file


def test_programs_need_no_allocation_and_no_double_precision():
    for name in ("quantiles 2", "activation gelu", "labels strings"):
        code = to_c(model(name)).source.partition("*/")[2]
        assert not re.search(r"alloc|double|#include <(?!math|stddef|stdint)", code)


def test_sizes_equal_those_of_the_arrays_in_the_source():
    program = to_c(classifier(), weight_dtype="int8", calibration_data=X)
    sizes = {"float": 4, "int8_t": 1, "int16_t": 2}
    arrays = re.findall(r"^static (const )?(\w+) \w+\[(\d+)\]", program.source, re.MULTILINE)
    for is_const, n_bytes in ((True, program.n_data_bytes), (False, program.n_buffer_bytes)):
        own = (int(n) * sizes[kind] for const, kind, n in arrays if bool(const) == is_const)
        assert sum(own) == n_bytes
    assert repr(program).startswith("CProgram(") and len(repr(program)) < 200


def test_buffers_do_not_grow_with_the_number_of_layers():
    two, nine = (to_c(BackpropClassifier((9,) * n, **SHORT).fit(X, Y)) for n in (2, 9))
    assert two.n_buffer_bytes == nine.n_buffer_bytes == 2 * 9 * 4


@needs_gcc
def test_feature_names_and_classes_are_escaped(tmp_path):
    names = ["*/ int /*", "a??/", "back\\", "é\nnew"]
    frame = pd.DataFrame(X, columns=names)
    estimator = BackpropClassifier((3,), **SHORT).fit(frame, cases.LABELS["strings"])
    (tmp_path / "net.c").write_text(to_c(estimator, prefix="net").source)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#define NET_DECLARATIONS\n#include "net.c"\n'
        "int main(void) { float x[NET_N_FEATURES] = {0};\n"
        "for (int i = 0; i < 3; ++i) puts(net_classes[i]);\n"
        "puts(net_classes[net_predict(x, 0)]); return 0; }\n"
    )
    command = [CC, *STRICT, "net.c", "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    run = subprocess.run(["./main"], cwd=tmp_path, check=True, capture_output=True)
    label = estimator.predict(pd.DataFrame(np.zeros((1, 4)), columns=names))
    assert run.stdout.decode().splitlines() == [*estimator.classes_, *label]


def test_header_comment():
    program = to_c(classifier(), prefix="iris", weight_dtype="int8", calibration_data=X)
    head = program.source.partition("*/")[0]
    assert "int iris_predict(const float *x, float *probabilities);" in head
    assert "index of the class in iris_classes" in head
    assert "Weights have 8 bits" in head
    assert max(map(len, head.splitlines())) <= 100


def int8(calibration_data):
    return {"weight_dtype": "int8", "calibration_data": calibration_data}


@pytest.mark.parametrize(
    "options, match",
    [
        ({"prefix": "2d"}, "prefix must be a C identifier .*got '2d'"),
        ({"prefix": None}, "got None"),
        ({"weight_dtype": "int4"}, "weight_dtype must be .*got 'int4'"),
        ({"weight_dtype": "int8"}, 'weight_dtype="int8" needs calibration_data'),
        ({"calibration_data": X}, 'calibration_data is only used with weight_dtype="int8"'),
        (int8(X[:, :2]), "calibration_data must have the 4 features of the model, got 2"),
        (int8(X * np.nan), "calibration_data must not contain NaN, because the model does not"),
        (int8(changed(X, 0, np.inf)), "calibration_data contains infinity"),
        ({"return_std": True}, "return_std=True needs a BackpropRegressor"),
    ],
)
def test_raises_on_invalid_arguments(options, match):
    with pytest.raises(ValueError, match=match):
        to_c(classifier(), **options)


def test_raises_on_estimators_without_formulas():
    with pytest.raises(NotFittedError):
        to_c(BackpropClassifier())
    with pytest.raises(TypeError, match="PCA cannot be exported"):
        to_c(make_pipeline(PCA(2), BackpropClassifier((), **SHORT)).fit(X, Y))
    with pytest.raises(TypeError, match=r"KMeans cannot be exported.*to_onnx also exports"):
        to_c(KMeans(2, n_init=1).fit(X))


# ------------------------------------------------------------------- computation and memory


def random_model(rng, n_estimators, n_steps=14):
    """Return a model of random expressions, each of which depends on some before it."""
    row = ex.model_input(3)
    values = [row]
    for _ in range(n_steps):
        x = values[rng.integers(len(values))]
        values.append(np.tanh(random_expression(rng, x, values, n_estimators)))
    last = [ex.mean_over_members(values[rng.integers(1, len(values))]) for _ in range(3)]
    last += [ex.std_over_members(values[-1]), ex.flatten_members(values[-2])]
    outputs = tuple(ModelOutput(f"y{i}", value) for i, value in enumerate(last))
    return ModelGraph("Random", row, outputs)


def random_expression(rng, x, values, n_estimators):
    alike = [each for each in values if each.n_estimators == x.n_estimators]
    others = [
        each
        for each in values
        if each.width in (1, x.width) and each.n_estimators in (1, x.n_estimators)
    ]
    other = others[rng.integers(len(others))]
    n = rng.choice([1, n_estimators]) if x.n_estimators == 1 else n_estimators
    own = rng.normal(size=(n, x.width))
    width = rng.integers(1, 5)
    kind = rng.integers(14)
    if kind == 8 and x.n_estimators == 1:
        blocks = ex.take_columns(x, np.arange(6) % x.width)
        return ex.block_linear(blocks, rng.normal(size=(n, 3, 2, 2)))
    if kind == 10:
        index = np.maximum(ex.take_columns(x, [0]) * 1e9, -1.0)  # mostly not the index of a row
        return ex.gather(np.minimum(index, 2.0), rng.normal(size=(n, 3, 2)))
    if kind > 11:
        return random_image_expression(rng, x, n)
    make = {
        0: lambda: x * other + 0.5,
        1: lambda: np.maximum(x, other) - x,
        2: lambda: x * own + own,
        3: lambda: ex.dense(x, rng.normal(size=(n, x.width, width)), own[:, :1].repeat(width, 1)),
        4: lambda: ex.reduce_sum(x),
        5: lambda: ex.softmax(x),
        6: lambda: ex.take_columns(x, rng.integers(x.width, size=width)),
        7: lambda: ex.concat([x, alike[rng.integers(len(alike))]]),
        9: lambda: ex.fill_nan(np.log(x), 0.5) + np.equal(x, x) * np.isnan(np.sqrt(x)),
    }
    return make.get(kind, lambda: ex.mean_over_members(x))()


def random_image_expression(rng, x, n_estimators):
    """Return an expression of images made of some values of x, as a vector."""
    image = ex.reshape(ex.take_columns(x, np.arange(12) % x.width), (2, 3, 2))
    windows = ex.windows(image, (2, 2), padding=(0, 1, 0, 1))
    y = [
        lambda: ex.dense(windows, rng.normal(size=(n_estimators, 8, 2))),
        lambda: ex.pool(image, "max", (1, 2), (1, 1)) * rng.normal(size=(n_estimators, 2)),
        lambda: ex.softmax(image) - ex.reduce_sum(image) * 0.1,
        lambda: ex.matmul(image, ex.transpose(image, (0, 2, 1))),
        lambda: ex.concat([image, np.tanh(image)]) + rng.normal(size=(n_estimators, 2, 3, 4)),
    ][rng.integers(5)]()
    return ex.reshape(y, (y.width,))


@pytest.mark.long
@needs_gcc
def test_random_programs_equal_numpy_whatever_shares_buffers(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 3)).astype(np.float32)
    models = [random_model(rng, n_estimators) for n_estimators in (1, 2, 3) for _ in range(6)]
    programs = [
        (generate_c(graph, f"p{i}"), X, [output.expression.width for output in graph.outputs])
        for i, graph in enumerate(models)
    ]
    for graph, found in zip(models, outputs_of_c(programs, tmp_path), strict=True):
        values = ex.evaluate(graph.expressions, X)
        for output, own in zip(graph.outputs, found, strict=True):
            assert np.allclose(own, values[output.expression], atol=1e-5)


def test_elementwise_functions_share_a_loop():
    z = ex.dense(ex.model_input(3), np.ones((1, 3, 4)))
    plan = BufferPlan([z * ex.constant(2.0) + np.tanh(z)])
    assert [len(group) for group in plan.groups.values()] == [1, 3]
    assert plan.buffer_sizes == [4]  # in place


# ------------------------------------------------------------------------- 8-bit weights


@pytest.mark.long
@needs_gcc
def test_8_bit_programs_differ_by_the_reported_differences(tmp_path):
    far = X * [1e6, 1, 1, 1]
    pipeline = make_pipeline(StandardScaler(), BackpropClassifier((7,), **SHORT)).fit(far, Y)
    models = [
        (classifier(n_estimators=3, activation="tanh"), X),
        (regressor(normalization="batch", loss="gaussian"), X),
        (pipeline, far),
    ]
    for number, (estimator, rows) in enumerate(models):
        folder = tmp_path / str(number)
        folder.mkdir()
        [(program, found, wanted)] = run_programs([(estimator, rows)], folder, **int8(rows))
        for own, values, most in zip(found, wanted, program.differences.values(), strict=True):
            if values.dtype.kind == "f":
                assert abs(np.abs(own - values).max() - most) < 1e-3
                assert 0 < most < 0.03
            else:
                assert (own != values).mean() == pytest.approx(most, abs=0.02)


@pytest.mark.long
def test_digits_lose_little_by_8_bits():
    digits, y = load_digits(return_X_y=True)
    network = BackpropClassifier((64, 32), max_iter=30, n_iter_no_change=np.inf, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network).fit(digits, y)
    exact, small = to_c(pipeline), to_c(pipeline, **int8(digits[::5]))
    assert small.n_data_bytes < 0.4 * exact.n_data_bytes
    assert small.differences["label"] < 0.01


def compute_int8(weights, biases, sample, x):
    """Return the quantized layer, calibrated on a sample, and its outputs for x."""
    row = ex.model_input(weights.shape[1])
    layer = ex.dense_int8(row, weights, biases, *ex.measure_channels(row, sample))
    return layer, ex.OPERATIONS["dense_int8"](layer, x)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("is_shared", [True, False])
def test_quantization_error_is_bounded(n_estimators, is_shared):
    """By half a unit of each input, and by half a unit of each weight."""
    rng = np.random.default_rng(0)
    weights, biases = rng.normal(size=(n_estimators, 6, 3)), rng.normal(size=(n_estimators, 3))
    shape = (20, 6) if is_shared or n_estimators == 1 else (n_estimators, 20, 6)
    x = (rng.normal(size=shape) * [1e5, 1, 1e-5, 1, 0, 1]).astype(np.float32)
    layer, outputs = compute_int8(weights, biases, x, x)
    inverse, _, scales, _ = layer.arrays
    assert ex.max_rounded_input(6) * 127 * 6 < 2**31
    units = 1 / inverse[:, None].astype(float)
    by_inputs = (np.abs(weights) * units.swapaxes(1, 2) / 2).sum(axis=1)[:, None]
    by_weights = scales[:, None] * (np.abs(x / units) + 0.5).sum(axis=-1, keepdims=True) / 2
    bound = (by_inputs + by_weights) * 1.01 + 1e-5
    assert (np.abs(outputs - (x @ weights + biases[:, None])) <= bound).all()


def test_quantization_of_inputs_that_are_always_zero_in_the_sample():
    sample = np.array([[0.0, 2.0], [0.0, -1.0]], dtype=np.float32)
    ones = np.ones((1, 2), dtype=np.float32)
    _, outputs = compute_int8(np.ones((1, 2, 1)), np.zeros((1, 1)), sample, ones)
    assert outputs == pytest.approx(2, rel=0.01)
    _, outputs = compute_int8(np.zeros((1, 2, 1)), None, 0 * sample, sample)
    assert outputs.tolist() == [[0], [0]]


def test_quantized_inputs_are_clipped_at_twice_the_largest_of_the_sample():
    sample = np.array([[2.0], [-1.0]], dtype=np.float32)
    x = np.array([[2.0], [3.9], [-3.9], [100.0], [-100.0]], dtype=np.float32)
    _, outputs = compute_int8(np.ones((1, 1, 1)), None, sample, x)
    np.testing.assert_allclose(outputs[:, 0], [2, 3.9, -3.9, 4, -4], rtol=0.001)


def test_raises_on_layers_too_wide_for_32_bits():
    wide = np.broadcast_to(np.float32(1), (1, 140_000, 1))
    with pytest.raises(ValueError, match="at most 133144 inputs, .* one layer has 140000"):
        ex.dense_int8(ex.model_input(140_000), wide, None, *np.ones((2, 1, 140_000)))


def test_calibration_in_blocks_of_rows_measures_all_of_them(monkeypatch):
    options = {"prefix": "net", "weight_dtype": "int8", "calibration_data": X}
    whole = to_c(classifier(n_estimators=2), **options)
    monkeypatch.setattr(c_export, "_N_VALUES", 1000)
    by_block = to_c(classifier(n_estimators=2), **options)
    assert by_block.differences == pytest.approx(whole.differences, rel=1e-4)
