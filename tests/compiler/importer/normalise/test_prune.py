from __future__ import annotations

import numpy as np
from onnx import helper

from tests import models
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.prune import prune

make = helper.make_node


def test_removes_what_no_output_needs(model_file):
    proto = models.linear()
    proto.graph.node.append(make("Exp", ["xw"], ["unread"]))
    proto.graph.initializer.extend(
        models.model([], [], [], {"small": np.ones(2), "large": np.ones(999)}).graph.initializer
    )
    model = load(model_file(proto))
    assert "large" in model.weights
    prune(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add", "Relu"]
    assert set(model.constants()) == {"w", "b"}


def test_inputs_stay_they_are_the_interface(model_file):
    proto = models.linear()
    proto.graph.input.append(models.value("unread", (2,)))
    model = load(model_file(proto))
    prune(model)
    assert [value.name for value in model.inputs()] == ["x", "unread"]


def test_what_a_branch_reads_stays(model_file):
    def branch(name, read):
        return helper.make_graph(
            [make("Neg", [read], [f"{name}_y"])], name, [], [models.value(f"{name}_y", (64, 32))]
        )

    nodes = [
        make("Exp", ["w"], ["kept"]),
        make("If", ["c"], ["y"], then_branch=branch("yes", "kept"), else_branch=branch("no", "w")),
    ]
    proto = models.model(
        nodes,
        [models.value("c", (), 9)],
        [models.value("y", (64, 32))],
        {"w": models.weight("w", (64, 32))},
    )
    model = load(model_file(proto))
    prune(model)
    assert [node.op_type for node in model.graph.node] == ["Exp", "If"] and "w" in model.weights
