from __future__ import annotations

import numpy as np
from onnx import helper

from tests import models
from tilewright.compiler.importer.graph import (
    all_graphs,
    attribute,
    domain_of,
    is_random,
    label,
    random_tensors,
    reads,
    subgraphs,
    text,
)


def _branch(name: str, read: str):
    node = helper.make_node("Neg", [read], [f"{name}_y"])
    return helper.make_graph([node], name, [], [models.value(f"{name}_y", (2,))])


CHOICE = helper.make_node(
    "If", ["c"], ["y"], then_branch=_branch("yes", "a"), else_branch=_branch("no", "b")
)


def test_finds_graphs_inside_nodes():
    graph = helper.make_graph([CHOICE], "main", [], [])
    assert [g.name for g in all_graphs(graph)] == ["main", "no", "yes"] or [
        g.name for g in all_graphs(graph)
    ] == ["main", "yes", "no"]
    assert len(subgraphs(CHOICE)) == 2 and subgraphs(helper.make_node("Neg", ["a"], ["b"])) == []


def test_a_node_reads_what_its_branches_take_from_outside():
    assert reads(CHOICE) == {"c", "a", "b"}
    assert reads(helper.make_node("Clip", ["x", "", "high"], ["y"])) == {"x", "high"}


def test_the_default_domain_has_one_spelling():
    domains = ("", "ai.onnx", "com.microsoft")
    found = [domain_of(helper.make_node("Add", [], [], domain=domain)) for domain in domains]
    assert found == ["", "", "com.microsoft"]


def test_a_label_names_node_and_operator():
    make = helper.make_node
    assert label(make("Relu", ["x"], ["y"], name="/a/Relu")) == "/a/Relu (Relu)"
    assert label(make("Relu", ["x"], ["y"])) == "y (Relu)"
    assert label(make("Gelu", ["x"], ["y"], domain="com.microsoft")) == "y (com.microsoft.Gelu)"
    assert label(make("Relu", [], [], domain="ai.onnx")) == "(no name) (Relu)"


def test_an_attribute_or_its_default():
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=2)
    assert attribute(node, "axis", 0) == 2 and attribute(node, "other", 7) == 7


def test_bytes_that_are_no_text_are_no_reason_to_fail():
    assert text(b"forward") == "forward" and text(3) == 3
    assert text(b"\xffx") == "\\xffx"


def test_what_depends_on_random_numbers():
    make = helper.make_node
    inner = helper.make_graph([make("Bernoulli", ["a"], ["y"])], "inner", [], [])
    nodes = [
        make("Neg", ["x"], ["a"]),
        make("RandomNormal", [], ["b"], shape=[2]),
        make("Add", ["a", "b"], ["c"]),
        make("If", ["x"], ["d"], then_branch=inner, else_branch=inner),
        make("Neg", ["a"], ["e"]),
    ]
    assert random_tensors(helper.make_graph(nodes, "main", [], []), {}) == {"b", "c", "d"}


def test_dropout_is_random_unless_it_is_known_not_to_train():
    make = helper.make_node
    known = {"yes": np.array(True), "no": np.array(False)}
    for training, expected in ((), False), (("no",), False), (("yes",), True), (("x",), True):
        node = make("Dropout", ["x", "", *training], ["y"])
        assert is_random(node, known) == expected
    assert not is_random(make("Bernoulli", ["x"], ["y"], domain="mine"), known)
