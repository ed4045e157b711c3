"""Programs of random expressions: whatever shares memory, values are those of NumPy."""

import numpy as np
import pytest
from c_runs import CC, outputs_of_c

from skbackprop.export import _expressions as ex
from skbackprop.export._buffer_allocation import BufferPlan
from skbackprop.export._model_graph import ModelGraph, ModelOutput
from skbackprop.export.c_export import generate_c

N_FEATURES = 3


def drawn(rng, n_estimators, n_steps=14):
    """Return a model whose outputs are drawn: each value is made of some before it."""
    row = ex.row(N_FEATURES)
    values = [row]
    for _ in range(n_steps):
        x = values[rng.integers(len(values))]
        values.append(np.tanh(_made_of(rng, x, values, n_estimators)))
    last = [ex.mean_over_members(values[rng.integers(1, len(values))]) for _ in range(3)]
    last += [ex.std_over_members(values[-1]), ex.flatten_members(values[-2])]
    outputs = tuple(ModelOutput(f"y{i}", value) for i, value in enumerate(last))
    return ModelGraph("Drawn", row, outputs)


def _made_of(rng, x, values, n_estimators):
    others = [
        each
        for each in values
        if each.width in (1, x.width)
        and (each.n_estimators == 1 or x.n_estimators == each.n_estimators)
    ]
    other = others[rng.integers(len(others))]
    alike = [each for each in values if each.n_estimators == x.n_estimators]
    own = rng.normal(
        size=(
            rng.choice([x.n_estimators, n_estimators]) if x.n_estimators == 1 else n_estimators,
            x.width,
        )
    )
    kind = rng.integers(12)
    if kind == 0:
        return x * other + 0.5
    if kind == 1:
        return np.maximum(x, other) - x
    if kind == 2:
        return x * own + own
    if kind == 3:
        width = rng.integers(1, 5)
        return ex.dense(x, rng.normal(size=(len(own), x.width, width)), own[:, :1].repeat(width, 1))
    if kind == 4:
        return ex.reduce_sum(x)
    if kind == 5:
        return ex.softmax(x)
    if kind == 6:
        return ex.take_columns(x, rng.integers(x.width, size=rng.integers(1, 5)))
    if kind == 7:
        return ex.concat([x, alike[rng.integers(len(alike))]])
    if kind == 8 and x.n_estimators == 1:
        blocks = ex.take_columns(x, np.arange(6) % x.width)
        return ex.block_linear(blocks, rng.normal(size=(len(own), 3, 2, 2)))
    if kind == 9:
        return ex.fill_nan(np.log(x), 0.5) + np.equal(x, x) * np.isnan(np.sqrt(x))
    if kind == 10:
        whole = np.maximum(ex.take_columns(x, [0]) * 1e9, -1.0)  # mostly no number of a row
        return ex.gather(np.minimum(whole, 2.0), rng.normal(size=(len(own), 3, 2)))
    return ex.mean_over_members(x)


@pytest.mark.long
@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_random_programs(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, N_FEATURES)).astype(np.float32)
    models = [drawn(rng, n_estimators) for n_estimators in (1, 2, 3) for _ in range(6)]
    programs = []
    for i, model in enumerate(models):
        program = generate_c(model, f"p{i}")
        programs.append((program, X, [output.expression.width for output in model.outputs]))
    for model, found in zip(models, outputs_of_c(programs, tmp_path), strict=True):
        values = ex.evaluate(model.expressions, X)
        for output, own in zip(model.outputs, found, strict=True):
            assert np.allclose(own, values[output.expression], atol=1e-5)


def test_values_are_computed_after_what_they_are_made_of():
    rng = np.random.default_rng(1)
    for _ in range(20):
        plan = BufferPlan(drawn(rng, 3).expressions)
        kept = [each for section in plan.loop_nests for each in section.stored]
        times = {each: time for time, each in enumerate(kept)}
        for root, group in plan.groups.items():
            assert group[-1] is root
            for used in (used for each in group for used in each.inputs):
                assert used not in times or times[used] < times[root]


def test_one_loop_for_functions_of_single_numbers():
    z = ex.dense(ex.row(3), np.ones((1, 3, 4)))
    plan = BufferPlan([z * ex.constant(2.0) + np.tanh(z)])
    assert [len(group) for group in plan.groups.values()] == [1, 3]
    assert [buffer.size for buffer in plan.buffers] == [4]  # in the place of what they are made of
