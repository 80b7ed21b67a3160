from __future__ import annotations

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.analysis.memory import memory_plan


def test_blocks_are_shared_by_tensors_one_after_another(tmp_path):
    net = Net(x=(64, 64))
    y = "x"
    for _ in range(5):
        y = net.MatMul(y, net.weight(64, 64))
    work = compile_here(net.model(y), tmp_path, until="weights")
    plan = memory_plan(work)
    # Five products: four are handed on, in two blocks by turns; the last is the result.
    assert (len(plan.blocks), len(plan.tensors)) == (2, 1)
    assert plan.bytes_at({}) == 3 * 64 * 64 * 4
    assert work.mod["main"].ret_ty.shape is not None, "the work itself is as it was"


def test_open_sizes_are_filled_in_and_bounded_ones_are_planned_at_their_bound(tmp_path):
    net = Net(x=("n", 64))
    y = net.MatMul(net.MatMul("x", net.weight(64, 64)), net.weight(64, 64))
    proto = net.model(y)
    plan = memory_plan(compile_here(proto, tmp_path, until="weights"))
    assert plan.bytes_at({"n": 3}) == 2 * 3 * 64 * 4
    bounded = memory_plan(compile_here(proto, tmp_path, until="weights", dims={"n": (1, 10)}))
    assert bounded.bytes_at({"n": 3}) == (10 + 3) * 64 * 4


def test_one_kernel_needs_its_result_alone(tmp_path):
    plan = memory_plan(compile_here(models.linear(), tmp_path, until="weights"))
    assert plan.bytes_at({}) == 2 * 32 * 4 and not plan.blocks
