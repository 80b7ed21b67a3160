from __future__ import annotations

import pytest

from tests.compiling import compile_here
from tests.net import Net, groups, keeps_numbers
from tilewright.passes.fusions import DEFAULT_FUSIONS

NAMES = [fusion.name for fusion in DEFAULT_FUSIONS]


def _everything() -> Net:
    """One place for each fusion."""
    net = Net(opset=17, x=(1, 8, 4, 4), t=(1, 5, 8), c=(1, 5, 8), s=(1, 5, 8))
    net.input("ids", (1, 5))
    y = net.GlobalAveragePool("x")
    y = net.Relu(net.Conv(y, net.weight(2, 8, 1, 1), net.weight(2)))
    y = net.Mul("x", net.Sigmoid(net.Conv(y, net.weight(8, 2, 1, 1), net.weight(8))))
    net.Conv(y, net.weight(8, 8, 1, 1))
    net.Relu(net.Conv("x", net.weight(8, 1, 3, 3), net.weight(8), group=8))
    net.Gemm(net.Flatten(net.GlobalAveragePool(net.made[-1])), net.weight(8, 3), net.weight(3))
    net.Conv(net.Conv("x", net.weight(9, 8, 1, 1)), net.weight(9, 1, 3, 3), group=9)
    net.Concat(*[net.Conv("x", net.weight(9, 8, 1, 1)) for _ in range(2)], axis=1)
    net.MatMul(net.Relu(net.MatMul("t", net.weight(8, 9))), net.weight(9, 8))
    halves = [net.Slice("t", net.ints(a), net.ints(a + 4), net.ints(2)) for a in (0, 4)]
    turned = net.Concat(net.Neg(halves[1]), halves[0], axis=-1)
    net.Add(net.Mul("t", "c"), net.Mul(turned, "s"))
    net.Gather(net.weight(7, 8), "ids")
    net.LayerNormalization("c", net.weight(8))
    net.Add(net.MatMul("s", net.weight(8, 3)), net.weight(3))
    net.Mul("c", net.Sigmoid("c"))
    scores = net.Softmax(net.MatMul("t", net.Transpose("c", perm=[0, 2, 1])), axis=-1)
    net.MatMul(scores, "s")
    net.Softmax("s", axis=1)
    return net


@pytest.fixture(scope="module")
def everything():
    net = _everything()
    read = {name for node in net._nodes for name in node.input}
    return net.model(*[name for name in net.made if name not in read])


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


def test_every_fusion_has_its_place(everything, tmp_path):
    work = keeps_numbers(everything, tmp_path)
    assert {g.fusion for g in work.fusions.groups} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_switched_off_and_alone_on(name, everything, tmp_path):
    without = compile_here(everything, tmp_path, until="fuse", disable=(name,))
    assert name not in {g.fusion for g in without.fusions.groups}
    # What makes constants of weights is not among the fusions.
    alone = compile_here(everything, tmp_path, until="fuse", only=(name, "fold_constants"))
    assert {g.fusion for g in alone.fusions.groups} == {name}


def test_none_below_the_second_level(everything, tmp_path):
    assert groups(compile_here(everything, tmp_path, opt_level=1)) == []
