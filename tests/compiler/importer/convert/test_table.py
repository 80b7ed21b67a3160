from __future__ import annotations

import itertools

import pytest
from onnx import helper

from tests import models
from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.load import load
from tilewright.errors import UnsupportedModel

make = helper.make_node


@pytest.mark.parametrize(
    "op, domain, supported",
    [
        ("Add", "", True),
        ("Add", "ai.onnx", True),
        ("Add", "my.domain", False),
        ("Add", "com.microsoft", False),
        ("Clip", "", True),
        ("Clip", "ai.onnx.ml", False),
        ("If", "", True),
        ("Constant", "", True),
        ("FastGelu", "com.microsoft", True),
        ("FastGelu", "", False),
        ("Attention", "com.microsoft", False),
        ("Attention", "", False),
        ("NoSuchThing", "", False),
    ],
)
def test_a_name_counts_in_its_own_domain(op, domain, supported):
    assert table.is_supported(make(op, ["x"], ["y"], domain=domain)) == supported


def test_lists_nodes_inside_branches_too(model_file):
    def branch(name, *nodes):
        return helper.make_graph(nodes, name, [], [models.value(f"{name}_y", None)])

    node = make(
        "If",
        ["c"],
        ["y"],
        then_branch=branch(
            "yes",
            make("Cast", ["x"], ["whole"], to=models.INT64),
            models.unconverted("whole", "yes_y", name="in_yes"),
        ),
        else_branch=branch("no", make("Abs", ["x"], ["no_y"], name="in_no")),
    )
    proto = models.model(
        [node], [models.value("c", (), 9), models.value("x", (3, 3))], [models.value("y", None)]
    )
    proto.graph.output[0].type.tensor_type.shape.SetInParent()
    with pytest.raises(UnsupportedModel) as info:
        table.check_supported(load(model_file(proto)))
    name = models.UNCONVERTED
    assert f"{name} (1): in_yes ({name})" in info.value.where and "Abs" not in info.value.where


def test_many_nodes_are_shortened(model_file):
    names = ["x", *"abcde"]
    nodes = [models.unconverted(a, b) for a, b in itertools.pairwise(names)]
    proto = models.linear()
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    model = load(model_file(models.linear()))
    model.proto = proto
    with pytest.raises(UnsupportedModel) as info:
        table.check_supported(model)
    name = models.UNCONVERTED
    assert f"{name} (5): a ({name}), b ({name}), c ({name}), ..." in info.value.where
