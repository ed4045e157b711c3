"""Programs of random expressions: whatever shares memory, values are those of NumPy."""

import numpy as np
import pytest
from c_runs import CC, outputs_of_c

from skbackprop.export import expressions as ex
from skbackprop.export.c_program import written
from skbackprop.export.memory import Plan
from skbackprop.export.models import Model, Output

N_FEATURES = 3


def drawn(rng, n_members, n_steps=14):
    """Return a model whose outputs are drawn: each value is made of some before it."""
    row = ex.row(N_FEATURES)
    values = [row]
    for _ in range(n_steps):
        x = values[rng.integers(len(values))]
        values.append(np.tanh(_made_of(rng, x, values, n_members)))
    last = [ex.mean_of_members(values[rng.integers(1, len(values))]) for _ in range(3)]
    last += [ex.spread_of_members(values[-1]), ex.members_side_by_side(values[-2])]
    outputs = tuple(Output(f"y{i}", value) for i, value in enumerate(last))
    return Model("Drawn", row, outputs)


def _made_of(rng, x, values, n_members):
    others = [
        each
        for each in values
        if each.width in (1, x.width) and (each.n_members == 1 or x.n_members == each.n_members)
    ]
    other = others[rng.integers(len(others))]
    alike = [each for each in values if each.n_members == x.n_members]
    own = rng.normal(
        size=(rng.choice([x.n_members, n_members]) if x.n_members == 1 else n_members, x.width)
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
        return ex.total(x)
    if kind == 5:
        return ex.softmax(x)
    if kind == 6:
        return ex.columns(x, rng.integers(x.width, size=rng.integers(1, 5)))
    if kind == 7:
        return ex.side_by_side([x, alike[rng.integers(len(alike))]])
    if kind == 8 and x.n_members == 1:
        blocks = ex.columns(x, np.arange(6) % x.width)
        return ex.block_maps(blocks, rng.normal(size=(len(own), 3, 2, 2)))
    if kind == 9:
        return ex.filled(np.log(x), 0.5) + np.equal(x, x) * np.isnan(np.sqrt(x))
    if kind == 10:
        whole = np.maximum(ex.columns(x, [0]) * 1e9, -1.0)  # mostly no number of a row
        return ex.looked_up(np.minimum(whole, 2.0), rng.normal(size=(len(own), 3, 2)))
    return ex.mean_of_members(x)


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_random_programs(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, N_FEATURES)).astype(np.float32)
    models = [drawn(rng, n_members) for n_members in (1, 2, 3) for _ in range(6)]
    programs = []
    for i, model in enumerate(models):
        program = written(model, f"p{i}")
        programs.append((program, X, [output.expression.width for output in model.outputs]))
    for model, found in zip(models, outputs_of_c(programs, tmp_path), strict=True):
        values = ex.evaluate(model.expressions, X)
        for output, own in zip(model.outputs, found, strict=True):
            assert np.allclose(own, values[output.expression], atol=1e-5)


def test_values_are_computed_after_what_they_are_made_of():
    rng = np.random.default_rng(1)
    for _ in range(20):
        plan = Plan(drawn(rng, 3).expressions)
        kept = [each for section in plan.sections for each in section.kept]
        times = {each: time for time, each in enumerate(kept)}
        for root, group in plan.groups.items():
            assert group[-1] is root
            for used in (used for each in group for used in each.inputs):
                assert used not in times or times[used] < times[root]


def test_one_loop_for_functions_of_single_numbers():
    z = ex.dense(ex.row(3), np.ones((1, 3, 4)))
    plan = Plan([z * ex.constant(2.0) + np.tanh(z)])
    assert [len(group) for group in plan.groups.values()] == [1, 3]
    assert [buffer.size for buffer in plan.buffers] == [4]  # in the place of what they are made of
