"""The functions that repeat a step: how they are built, and how often they run it."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tilewright.compiler.importer.convert.repeat import Step, repeat, sized
from tilewright.errors import UnsupportedModel

F32 = "float32"


def _built(step, states: dict[str, tuple]) -> tuple[tvm.IRModule, list[relax.Expr]]:
    """The module of a function that repeats `step`, and the last states."""
    bb = relax.BlockBuilder()
    steps = relax.Var("steps", relax.TensorType([], "int64"))
    x = relax.Var("x", relax.TensorType([tvm.tirx.Var("n", "int64"), 3], F32))
    params = {name: relax.Var(name, relax.TensorType(shape, F32)) for name, shape in states.items()}
    with bb.function("main", [steps, x, *params.values()]):
        with bb.dataflow():
            done = repeat(
                bb,
                steps,
                None,
                [*params.items()],
                lambda number, old: step(bb, x, number, old),
                in_dataflow=True,
            )
            stacks = [done.stacked(n) for n in range(len(done.buffers))]
            made = bb.emit_output(relax.Tuple([*done.states, *stacks]))
        bb.emit_func_output(made)
    return bb.get(), done.states


def _numbers(mod: tvm.IRModule, *arrays: np.ndarray) -> list[np.ndarray]:
    vm = relax.VirtualMachine(tvm.compile(mod, "llvm"), tvm.cpu())
    return [part.numpy() for part in vm["main"](*map(tvm.runtime.tensor, arrays))]


def _adds(bb, x, number, old):
    (state,) = old
    row = bb.emit(relax.op.sum(x, 0))
    return Step(None, [bb.emit(relax.op.add(state, row))], [("row", state)])


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 47, 48, 49, 112, 3000])
def test_takes_as_many_steps_as_there_are(count):
    x, start = np.ones((2, 3), np.float32), np.zeros(3, np.float32)
    mod, _ = _built(_adds, {"state": (3,)})
    last, rows = _numbers(mod, np.array(count), x, start)
    np.testing.assert_array_equal(last, np.full(3, 2 * count))
    np.testing.assert_array_equal(rows, 2.0 * np.arange(count)[:, None] * np.ones(3))


def test_values_and_sizes_from_around_become_parameters():
    mod, _ = _built(_adds, {"state": (3,)})
    step = mod["loop_step"]
    assert [param.name for param in step.params[3:]] == ["x", "steps", "sizes"]
    assert not relax.analysis.free_vars(step)
    assert not relax.analysis.free_symbolic_vars(step)
    relax.analysis.well_formed(mod)


def test_a_size_that_changes_is_open():
    def doubles(bb, x, number, old):
        (state,) = old
        return Step(None, [bb.emit(relax.op.concat([state, state]))], [])

    mod, (last,) = _built(doubles, {"state": (1, 3)})
    assert isinstance(last.ty.shape[0], tvm.tirx.Var) and int(last.ty.shape[1]) == 3
    x, start = np.ones((2, 3), np.float32), np.float32([[1, 2, 3]])
    assert _numbers(mod, np.array(5), x, start)[0].tolist() == [[1, 2, 3]] * 32


def test_sizes_that_stay_are_known():
    _, (last,) = _built(_adds, {"state": (3,)})
    assert [int(size) for size in last.ty.shape] == [3]


def test_refuses_another_type():
    def casts(bb, x, number, old):
        return Step(None, [bb.emit(relax.op.astype(old[0], "float16"))], [])

    with pytest.raises(UnsupportedModel, match=r"'state' changes its type .* float32 .* float16"):
        _built(casts, {"state": (3,)})


def test_refuses_rows_of_different_sizes():
    def grows(bb, x, number, old):
        (state,) = old
        return Step(None, [bb.emit(relax.op.concat([state, state]))], [("row", state)])

    with pytest.raises(UnsupportedModel, match="'row' need not have one size"):
        _built(grows, {"state": (1, 3)})


def test_sized_names_sizes_that_are_not_known():
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(dtype=F32, ndim=2))
    with bb.function("main", [x]):
        with bb.dataflow():
            made = sized(bb, x)
            assert len(made.ty.shape) == 2 and sized(bb, made).same_as(made)
            result = bb.emit_output(made)
        bb.emit_func_output(result)
