from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import models
from tests.net import Net, answers_each
from tilewright.compiler.importer.graph import subgraphs
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.hoist import hoist_constants


def _branch(name: str, pad: int, result: str):
    """Pads by a constant that it computes itself, under names that the other branch has too."""
    constant = numpy_helper.from_array(np.int64([0, pad]))
    nodes = [
        helper.make_node("Constant", [], ["p"], value=constant),
        helper.make_node("Concat", ["p", "more"], ["q"], axis=0),
        helper.make_node("Pad", ["x", "q"], [result]),
    ]
    more = numpy_helper.from_array(np.int64([0, 2 - pad]), "more")
    return helper.make_graph(nodes, name, [], [models.value(result, (2, 5))], [more])


def _model():
    net = Net(opset=18, x=(2, 3))
    net.input("c", (), TensorProto.BOOL)
    y = net.If("c", then_branch=_branch("yes", 0, "a"), else_branch=_branch("no", 1, "b"))
    return net.model(y)


def test_what_is_constant_leaves_the_branches(model_file):
    model = load(model_file(_model()))
    hoist_constants(model)
    (node,) = model.graph.node
    left = {graph.name: list(graph.node) for graph in subgraphs(node)}
    assert [[n.op_type for n in nodes] for nodes in left.values()] == [["Pad"], ["Pad"]]
    pads = {name: model.constants()[n.input[1]].tolist() for name, (n,) in left.items()}
    assert pads == {"yes": [0, 0, 0, 2], "no": [0, 1, 0, 1]}


@pytest.mark.parametrize("way", [True, False])
def test_the_numbers_stay(way, tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    answers_each(_model(), tmp_path, {"x": x, "c": np.array(way)})


def test_a_constant_result_stays_in_its_branch(model_file):
    value = numpy_helper.from_array(np.float32([1, 2]))
    branches = {
        key: helper.make_graph(
            [helper.make_node("Constant", [], [key], value=value)],
            key,
            [],
            [models.value(key, (2,))],
        )
        for key in ("then_branch", "else_branch")
    }
    net = Net(x=(2,))
    net.input("c", (), TensorProto.BOOL)
    model = load(model_file(net.model(net.Add(net.If("c", **branches), "x"))))
    hoist_constants(model)
    assert [[n.op_type for n in g.node] for g in subgraphs(model.graph.node[0])] == [
        ["Constant"]
    ] * 2
