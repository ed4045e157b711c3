"""C programs say what the estimators say, under gcc's warnings and sanitizers."""

import re
import subprocess

import numpy as np
import pandas as pd
import pytest
from c_runs import CC, STRICT, outputs_of_c
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier
from skbackprop.export import _expressions as ex
from skbackprop.export import to_c
from skbackprop.export._int8_quantization import QuantizedDense
from support import cases, changed
from support.cases import SHORT, X, Y, classes_of, classifier, expected, is_close, model, regressor

needs_gcc = pytest.mark.skipif(CC is None, reason="there is no C compiler")


def in_numbers(estimator, said):
    """Return outputs with the number of each class in place of the class."""
    found = []
    for name, values in said.items():
        if name.startswith("label") and np.ndim(values) == 1:
            values = np.searchsorted(classes_of(estimator, name), values)[:, None]
        found.append(values.reshape(len(values), -1))
    return found


def program_of(i, estimator, X=X, **options):
    """Return what `outputs_of_c` takes, and what it is to return."""
    said = in_numbers(estimator, expected(estimator, X))
    program = to_c(estimator, prefix=f"p{i}", return_std=cases.has_std(estimator), **options)
    is_returned = f"int p{i}_predict" in program.source
    return (program, X, [values.shape[1] for values in said[is_returned:]]), said


# A compiler takes long for many programs: all values of each kind, but not of all at once.
SAMPLES = {
    "activations": [name for name in cases.NAMES if name.startswith("activation")],
    "input layers": [name for name in cases.NAMES if name.startswith("input layers")],
    "losses": [
        *(name for name in cases.NAMES if re.search(r"^(norm|hinge|quant)|^(?!labels).* 2$", name)),
        *(name for name in cases.NAMES if name.startswith("output")),
        "autoencoder",
        "pipeline of networks",
    ],
    "labels": [
        name for name in cases.NAMES if name.startswith(("labels", "feat", "search", "MinMax"))
    ],
}


@needs_gcc
@pytest.mark.long
@pytest.mark.parametrize("sample", SAMPLES)
def test_outputs_are_those_of_the_estimator(sample, tmp_path):
    names = SAMPLES[sample]
    pairs = [program_of(i, model(name), cases.rows_of(name)) for i, name in enumerate(names)]
    found = outputs_of_c([program for program, _ in pairs], tmp_path)
    for name, outputs, (_, said) in zip(names, found, pairs, strict=True):
        for own, values in zip(outputs, said, strict=True):
            assert is_close(own, values), name


@pytest.mark.long
@needs_gcc
def test_optimised_programs_say_the_same(tmp_path):
    """With optimization the compiler sees more, to warn of."""
    estimators = [
        classifier(n_estimators=2),
        model("pipeline of networks"),
        model("labels columns"),
    ]
    pairs = [program_of(i, estimator) for i, estimator in enumerate(estimators)]
    found = outputs_of_c([program for program, _ in pairs], tmp_path, ["-O2"])
    for outputs, (_, said) in zip(found, pairs, strict=True):
        assert all(map(is_close, outputs, said))


@pytest.mark.long
@needs_gcc
def test_large_scores_do_not_overflow(tmp_path):
    far = np.vstack([X * 1e6, np.full((1, 4), 1e30)])
    estimators = [classifier(activation="mish"), classifier(Y > 0, n_estimators=2)]
    programs = [(to_c(each, prefix=f"p{i}"), far, [3 - i]) for i, each in enumerate(estimators)]
    for _, probabilities in outputs_of_c(programs, tmp_path):
        assert np.allclose(probabilities.sum(axis=1), 1)


@pytest.mark.long
@needs_gcc
def test_large_rows_are_normalized(tmp_path):
    estimator, sizes = regressor(normalization="layer"), [1e-30, 1.0, 1e19, 1e30]
    pairs = [program_of(i, estimator, X * size) for i, size in enumerate(sizes)]
    found = outputs_of_c([program for program, _ in pairs], tmp_path)
    for outputs, (_, said) in zip(found, pairs, strict=True):
        assert all(map(is_close, outputs, said))


# ------------------------------------------------------------------------------- the file


def test_programs_do_without_allocation_and_double_precision():
    for name in ("quantiles 2", "activation gelu", "labels strings"):
        code = to_c(model(name)).source.partition("*/")[2]
        assert not re.search(r"alloc|double|#include <(?!math|stddef|stdint)", code)


def test_sizes_are_those_of_the_arrays():
    program = to_c(classifier(), weight_dtype="int8", calibration_data=X)
    sizes = {"float": 4, "int8_t": 1, "int16_t": 2}
    arrays = re.findall(r"^static (const )?(\w+) \w+\[(\d+)\]", program.source, re.MULTILINE)
    for is_const, n_bytes in ((True, program.n_data_bytes), (False, program.n_buffer_bytes)):
        own = (int(n) * sizes[kind] for const, kind, n in arrays if bool(const) == is_const)
        assert sum(own) == n_bytes
    assert repr(program).startswith("CProgram(") and len(repr(program)) < 200


def test_buffers_do_not_grow_with_the_layers():
    two, nine = (to_c(BackpropClassifier((9,) * n, **SHORT).fit(X, Y)) for n in (2, 9))
    assert two.n_buffer_bytes == nine.n_buffer_bytes == 2 * 9 * 4


@needs_gcc
def test_names_of_all_kinds_and_declarations_alone(tmp_path):
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
    said = estimator.predict(pd.DataFrame(np.zeros((1, 4)), columns=names))
    assert run.stdout.decode().splitlines() == [*estimator.classes_, *said]


def test_the_head_says_what_there_is():
    head = to_c(
        classifier(), prefix="iris", weight_dtype="int8", calibration_data=X
    ).source.partition("*/")[0]
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
        ({"prefix": "int"}, "not a keyword, got 'int'"),
        ({"prefix": "a-b"}, "got 'a-b'"),
        ({"prefix": None}, "got None"),
        ({"weight_dtype": "int4"}, "weight_dtype must be .*got 'int4'"),
        ({"weight_dtype": "int8"}, 'weight_dtype="int8" needs calibration_data'),
        ({"calibration_data": X}, 'calibration_data is for weight_dtype="int8"'),
        (int8(X[:, :2]), "calibration_data has 2 features, but the model takes 4"),
        (int8(X * np.nan), "calibration_data contains NaN, but the model does not"),
        (int8(changed(X, 0, np.inf)), "calibration_data contains infinity"),
        (int8(X[:0]), "0 sample"),
        ({"return_std": True}, "return_std=True is for a BackpropRegressor"),
    ],
)
def test_errors_say_what_to_do(options, match):
    with pytest.raises(ValueError, match=match):
        to_c(classifier(), **options)


def test_not_fitted():
    with pytest.raises(NotFittedError):
        to_c(BackpropClassifier())


# ---------------------------------------------------------------------- weights of 8 bits


@pytest.mark.long
@needs_gcc
def test_weights_of_8_bits_do_what_is_said_of_them(tmp_path):
    """Differences are measured with NumPy: the program has them too, but for rounding."""
    estimators = [
        classifier(n_estimators=3, activation="tanh"),
        regressor(normalization="batch", loss="gaussian"),
        make_pipeline(StandardScaler(), BackpropClassifier((7,), **SHORT)).fit(
            X * [1e6, 1, 1, 1], Y
        ),
    ]
    rows = [X, X, X * [1e6, 1, 1, 1]]
    pairs = [
        program_of(i, *each, weight_dtype="int8", calibration_data=each[1])
        for i, each in enumerate(zip(estimators, rows, strict=True))
    ]
    for outputs, (program, said) in zip(
        outputs_of_c([program for program, _ in pairs], tmp_path), pairs, strict=True
    ):
        measured = list(program[0].differences.values())
        for own, values, most in zip(outputs, said, measured, strict=True):
            if values.dtype.kind == "f":
                assert abs(np.abs(own - values).max() - most) < 1e-3
                assert 0 < most < 0.03
            else:
                assert (own != values).mean() == pytest.approx(most, abs=0.02)


@pytest.mark.long
@needs_gcc
def test_inputs_that_are_no_numbers_are_harmless(tmp_path):
    """Of 8 bits, all are cut to what an integer holds; the sanitizer sees to that."""
    far = np.array([[np.nan, np.inf, -np.inf, 1e38], [1e38, -1e38, 0, 0]])
    program = to_c(classifier(), prefix="p0", weight_dtype="int8", calibration_data=X)
    outputs_of_c([(program, far, [3])], tmp_path)


@pytest.mark.long
def test_digits_lose_little_by_8_bits():
    digits, y = load_digits(return_X_y=True)
    network = BackpropClassifier((64, 32), max_iter=30, n_iter_no_change=np.inf, random_state=0)
    pipeline = make_pipeline(StandardScaler(), network).fit(digits, y)
    whole, small = to_c(pipeline), to_c(pipeline, weight_dtype="int8", calibration_data=digits[::5])
    assert small.n_data_bytes < 0.4 * whole.n_data_bytes
    assert small.differences["label"] < 0.01


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("is_shared", [True, False])
def test_rounding_stays_within_its_bounds(n_estimators, is_shared):
    """By half a unit of each input, and by half a unit of each weight."""
    rng = np.random.default_rng(0)
    weights, biases = rng.normal(size=(n_estimators, 6, 3)), rng.normal(size=(n_estimators, 3))
    shape = (20, 6) if is_shared or n_estimators == 1 else (n_estimators, 20, 6)
    x = (rng.normal(size=shape) * [1e5, 1, 1e-5, 1, 0, 1]).astype(np.float32)
    layer = QuantizedDense.from_expression(ex.dense(ex.row(6), weights, biases), x)
    assert layer.limit * 127 * 6 < 2**31
    exact = x @ (weights[0] if n_estimators == 1 else weights) + (
        biases if n_estimators == 1 else biases[:, None]
    )
    units = 1 / layer.inverse[:, None].astype(float)
    by_inputs = (np.abs(weights) * units.swapaxes(1, 2) / 2).sum(axis=1)[:, None]
    by_weights = layer.scales[:, None] * (np.abs(x / units) + 0.5).sum(axis=-1, keepdims=True) / 2
    bound = (by_inputs + by_weights) * 1.01 + 1e-5
    error = np.abs(layer.compute_output(x) - exact)
    assert (error <= (bound[0] if n_estimators == 1 else bound)).all()


def test_an_input_that_the_sample_never_has_counts_all_the_same():
    x = np.array([[0.0, 2.0], [0.0, -1.0]], dtype=np.float32)
    layer = QuantizedDense.from_expression(
        ex.dense(ex.row(2), np.ones((1, 2, 1)), np.zeros((1, 1))), x
    )
    assert layer.compute_output(np.array([[1.0, 1.0]], dtype=np.float32)) == pytest.approx(
        2, rel=0.01
    )
    nothing = QuantizedDense.from_expression(ex.dense(ex.row(2), np.zeros((1, 2, 1))), 0 * x)
    assert layer.compute_output(0 * x).tolist() == nothing.compute_output(x).tolist() == [[0], [0]]


def test_layers_that_are_too_wide_for_32_bits():
    wide = ex.dense(ex.row(2), np.broadcast_to(np.float32(1), (1, 140_000, 1)))
    with pytest.raises(ValueError, match="up to 133144 inputs, and one layer has 140000"):
        QuantizedDense.from_expression(wide, np.ones((1, 140_000)))
