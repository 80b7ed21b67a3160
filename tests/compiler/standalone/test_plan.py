from __future__ import annotations

import pytest
import tvm
from tvm import relax

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.compiler.pipeline import MEMORY_PLAN
from tilewright.compiler.standalone.plan import BLOCK, INPUT, OUTPUT, WEIGHT, plan_of
from tilewright.errors import UnsupportedModel


def _plan(proto, folder, **fields):
    return compile_here(proto, folder, until="plan", standalone="model", **fields).tables


def test_a_static_chain(tmp_path):
    plan = _plan(models.mlp_block(), tmp_path)
    kinds = [tensor.place.kind for tensor in plan.tensors]
    assert kinds[:2] == [INPUT, OUTPUT] and WEIGHT in kinds
    assert plan.dims == () and all(size.isdigit() for size in plan.sizes)
    assert plan.steps[-1].arguments[-1] == ("tensor", 1), "the last kernel writes the output itself"
    assert plan.sources == [None]


def test_blocks_are_shared_by_tensors_that_do_not_live_together(tmp_path):
    net = Net(x=(64, 64))
    x = "x"
    for _ in range(6):
        x = net.MatMul(net.Softmax(x, axis=0), net.weight(64, 64))
    plan = _plan(net.model(x), tmp_path)
    tensors = [tensor for tensor in plan.tensors if tensor.place.kind == BLOCK]
    assert len(plan.blocks) <= 3 < len(tensors)


def test_open_sizes_are_expressions_of_the_dimensions(tmp_path):
    plan = _plan(models.linear("n"), tmp_path)
    assert plan.dims == ("n",) and "dims[0]" in plan.sizes


def test_a_result_that_no_kernel_writes_is_copied(tmp_path):
    net = Net(x=(2, 6))
    plan = _plan(net.model(net.Reshape("x", net.ints(3, 4)), net.Relu("x")), tmp_path)
    assert plan.sources[0] is not None and plan.tensors[plan.sources[0]].place.kind == INPUT
    assert plan.sources[1] is None


def test_what_needs_the_vm_is_refused(tmp_path):
    net = Net(x=(4, 4))
    with pytest.raises(UnsupportedModel) as info:
        _plan(net.model(net.NonZero("x")), tmp_path)
    assert "--standalone" in info.value.hint


def test_a_kernel_that_calls_tvms_runtime_is_refused():
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4, 16), "float32"))
    with builder.function("main", [x]):
        builder.emit_func_output(builder.emit(relax.op.sort(x)))
    passes = (relax.backend.DispatchSortScan(), relax.transform.LegalizeOps(), *MEMORY_PLAN)
    with tvm.target.Target("llvm"):
        mod = tvm.transform.Sequential(passes)(builder.get())
    with pytest.raises(UnsupportedModel, match=r"cannot do this: tvm\.contrib\.sort"):
        plan_of(mod, [], 1, [])


def test_groups_that_stay_graphs_are_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="a call of the graph norm_0"):
        _plan(models.mlp_block(), tmp_path, only=("simplify",))
