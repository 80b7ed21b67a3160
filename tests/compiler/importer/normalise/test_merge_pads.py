from __future__ import annotations

import onnx
import pytest

from tests.net import Net, keeps_numbers
from tilewright.compiler.importer.graph import attribute
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.merge_pads import merge_pads
from tilewright.compiler.importer.normalise.prune import prune

SPATIAL = (0, 0, 1, 0, 0, 0, 2, 1)  # Of rows 1 above and 2 below, of columns 1 on the right.
POOL = {"kernel_shape": [3, 3], "strides": [2, 2]}


def _merged(proto: onnx.ModelProto, model_file) -> list[onnx.NodeProto]:
    model = load(model_file(proto))
    merge_pads(model)
    prune(model)
    return list(model.graph.node)


def _net(opset: int = 17) -> Net:
    return Net(opset=opset, x=(1, 4, 7, 6))


def _conv(net: Net, y: str, **attrs: object) -> str:
    return net.Conv(y, net.weight(5, 4, 3, 3), net.weight(5), **attrs)


PADS = {
    "default_value": lambda n: n.Pad("x", n.ints(*SPATIAL)),
    "value": lambda n: n.Pad("x", n.ints(*SPATIAL), 0.0),
    "mode": lambda n: n.Pad("x", n.ints(*SPATIAL), mode="constant"),
    "two": lambda n: n.Pad(n.Pad("x", n.ints(0, 0, 1, 0, 0, 0, 0, 1)), n.ints(*[0] * 6, 2, 0)),
}


@pytest.mark.parametrize("form", PADS)
def test_merges_into_a_convolution(form, model_file, tmp_path):
    net = _net()
    proto = net.model(_conv(net, PADS[form](net), pads=[0, 1, 1, 0]))
    (conv,) = _merged(proto, model_file)
    assert conv.op_type == "Conv" and attribute(conv, "pads") == [1, 1, 3, 1]
    keeps_numbers(proto, tmp_path)


def test_merges_pads_along_some_axes(model_file, tmp_path):
    net = _net(opset=18)
    y = net.Pad("x", net.ints(1, 0, 2, 1), net.const(0.0), net.ints(-2, 3))
    proto = net.model(_conv(net, y, auto_pad="VALID"))
    (conv,) = _merged(proto, model_file)
    assert attribute(conv, "pads") == [1, 0, 2, 1] and attribute(conv, "auto_pad") is None
    keeps_numbers(proto, tmp_path)


def test_merges_pads_of_old_models(model_file, tmp_path):
    net = _net(opset=10)
    proto = net.model(_conv(net, net.Pad("x", pads=SPATIAL)))
    (conv,) = _merged(proto, model_file)
    assert attribute(conv, "pads") == [1, 0, 2, 1]
    keeps_numbers(proto, tmp_path)


@pytest.mark.parametrize("own", [{}, {"pads": [1, 0, 0, 0], "count_include_pad": 1}])
def test_merges_into_an_average_pool_that_counts_the_zeros(own, model_file, tmp_path):
    net = _net()
    y = net.Pad("x", net.ints(0, 0, 1, 0, 0, 0, 2, 1))
    proto = net.model(net.AveragePool(y, **POOL, **own))
    (pool,) = _merged(proto, model_file)
    assert pool.op_type == "AveragePool" and attribute(pool, "count_include_pad") == 1
    keeps_numbers(proto, tmp_path)


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_a_pad_of_nothing_is_gone(mode, model_file, tmp_path):
    net = _net()
    proto = net.model(net.Relu(net.Pad("x", net.ints(*[0] * 8), mode=mode)))
    assert [node.op_type for node in _merged(proto, model_file)] == ["Identity", "Relu"]
    work = keeps_numbers(proto, tmp_path)
    assert len(work.kernels) == 1


def test_each_reader_pads_for_itself(model_file, tmp_path):
    net = _net()
    y = net.Pad("x", net.ints(*SPATIAL))
    proto = net.model(_conv(net, y), net.MaxPool(y, **POOL))
    assert [node.op_type for node in _merged(proto, model_file)] == ["Pad", "Conv", "MaxPool"]
    keeps_numbers(proto, tmp_path)


LEFT_ALONE = {
    "another_value": lambda n: _conv(n, n.Pad("x", n.ints(*SPATIAL), 1.5)),
    "another_mode": lambda n: _conv(n, n.Pad("x", n.ints(*SPATIAL), mode="edge")),
    "channels": lambda n: n.Conv(n.Pad("x", n.ints(0, 1, *[0] * 6)), n.weight(2, 5, 1, 1)),
    "negative": lambda n: _conv(n, n.Pad("x", n.ints(0, 0, 1, -1, 0, 0, 0, 0))),
    "auto_pad": lambda n: _conv(n, n.Pad("x", n.ints(*SPATIAL)), auto_pad="SAME_UPPER"),
    "max_pool": lambda n: n.MaxPool(n.Pad("x", n.ints(*SPATIAL)), **POOL),
    "own_zeros": lambda n: n.AveragePool(
        n.Pad("x", n.ints(*SPATIAL)), **POOL, pads=[1, 1, 0, 0], count_include_pad=0
    ),
    "rounded_up": lambda n: n.AveragePool(n.Pad("x", n.ints(*SPATIAL)), **POOL, ceil_mode=1),
    "small_window": lambda n: n.AveragePool(n.Pad("x", n.ints(*SPATIAL)), kernel_shape=[2, 2]),
    "transposed": lambda n: n.ConvTranspose(n.Pad("x", n.ints(*SPATIAL)), n.weight(4, 2, 2, 2)),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_declines(case, model_file, tmp_path):
    net = _net()
    proto = net.model(LEFT_ALONE[case](net))
    nodes = _merged(proto, model_file)
    assert len(nodes) == 2 and nodes[0].op_type == "Pad"
    # These two ONNX Runtime merges, and fails.
    if case not in ("rounded_up", "small_window"):
        keeps_numbers(proto, tmp_path)


def test_declines_pads_that_are_computed(model_file):
    net = _net()
    net.input("p", (8,))
    y = net.add("Conv", net.Pad("x", "p"), net.weight(5, 4, 3, 3))
    proto = net.model(y)
    assert [node.op_type for node in _merged(proto, model_file)] == ["Pad", "Conv"]
