"""What is refused before anything is computed; more stands in tests/bad_input/."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests import models
from tilewright.compiler.importer import check
from tilewright.compiler.importer.load import load
from tilewright.errors import ModelError, UnsupportedModel
from tools.mutate.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_valid_models_pass(name, tmp_path):
    assert load(MODELS[name]().write(tmp_path)).graph.node


@pytest.mark.parametrize("name", [b"product", b"sum", b"net"])
def test_names_that_are_no_text_are_named_by_their_field(name, model_file):
    proto = models.linear()
    proto.graph.name = "net"
    data = proto.SerializeToString()
    assert name in data
    with pytest.raises(ModelError, match=r"graph\..*name is not text|output is not text") as info:
        load(model_file(data.replace(name, b"\xff" * len(name))))
    assert info.value.expected == "UTF-8"


@pytest.mark.parametrize("side", ["input", "output"])
def test_names_that_no_archive_takes_are_refused(side, model_file):
    proto = models.unary("Relu")
    getattr(proto.graph, side)[0].name = getattr(proto.graph.node[0], side)[0] = "n" * 5000
    with pytest.raises(UnsupportedModel, match=f"the name of an {side} has 5000 characters"):
        load(model_file(proto))


def _body(inputs: int, outputs: int):
    values = [models.value(f"v{n}", (2,)) for n in range(max(inputs, outputs))]
    return helper.make_graph([], "body", values[:inputs], values[:outputs])


FIT = {
    "Loop": (helper.make_node("Loop", ["n", "c", "x"], ["y"], body=_body(3, 2)), 17),
    "Scan": (helper.make_node("Scan", ["s", "x"], ["t"], body=_body(2, 1), num_scan_inputs=1), 17),
    "Scan_8": (
        helper.make_node("Scan", ["", "s", "x"], ["t"], body=_body(2, 1), num_scan_inputs=1),
        8,
    ),
}
DO_NOT = {
    "too_few_inputs": helper.make_node("Loop", ["n", "c", "x"], ["y"], body=_body(2, 2)),
    "too_few_outputs": helper.make_node("Loop", ["n", "c", "x"], ["y", "z"], body=_body(3, 2)),
    "no_body": helper.make_node("Loop", ["n", "c", "x"], ["y"]),
    "no_count": helper.make_node("Scan", ["s", "x"], ["t"], body=_body(2, 1)),
    "large_count": helper.make_node("Scan", ["x"], ["t"], body=_body(1, 1), num_scan_inputs=2),
    "one_branch": helper.make_node("If", ["c"], ["y"], then_branch=_body(0, 1)),
    "branch_with_inputs": helper.make_node(
        "If", ["c"], ["y"], then_branch=_body(0, 1), else_branch=_body(1, 1)
    ),
}


@pytest.mark.parametrize("case", FIT)
def test_bodies_that_fit(case):
    node, opset = FIT[case]
    check._check_body(node, opset)


@pytest.mark.parametrize("case", DO_NOT)
def test_bodies_that_do_not_fit_name_the_node(case):
    node = DO_NOT[case]
    with pytest.raises(ModelError, match="does not fit what it runs") as info:
        check._check_body(node, 17)
    assert f"{node.output[0]} ({node.op_type})" in info.value.where and info.value.expected


def test_absurd_sizes_are_refused():
    check.check_elements([1 << 10, "n", 1 << 19], "here")
    with pytest.raises(UnsupportedModel, match=r"4\.3e\+09 elements") as info:
        check.check_elements([1 << 16, "n", np.int64(1 << 16).item()], "node big (Tile)")
    assert info.value.where == "node big (Tile)" and "--dim" in info.value.hint
