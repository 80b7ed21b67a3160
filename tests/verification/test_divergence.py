from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from tilewright.verification.divergence import Graph, distance, first_divergence
from tilewright.verification.trace import Call, Trace

RNG = np.random.default_rng(0)


def _graph() -> Graph:
    """x -> a -> b -> y, with a constant c beside b"""
    make = helper.make_node
    return Graph(
        (
            make("Abs", ["x"], ["a"], name="abs"),
            make("Neg", ["k"], ["c"], name="neg"),
            make("Add", ["a", "c"], ["b"], name="add"),
            make("Relu", ["b"], ["y"], name="relu"),
        ),
        ("x",),
    )


def test_a_graph_knows_what_is_behind_and_after_a_tensor():
    graph = _graph()
    assert graph.varying == {"x", "a", "b", "y"}
    cut, nodes = graph.behind("y", {"a"})
    assert cut == {"a"} and [node.name for node in nodes] == ["add", "relu"]
    cut, nodes = graph.behind("y", {"y"})
    assert cut == {"x"} and len(nodes) == 3, "a tensor is not computed from itself"
    assert graph.after("a") == {"b", "y"} and graph.after("y") == set()


TRUTH = {name: RNG.standard_normal((2, 3, 4, 5)) for name in ("x", "a", "b", "y")}
TRUTH["c"] = np.ones(1)
ALLOWED = dict.fromkeys(TRUTH, 1e-5)


def _row(name, group=None, nodes=()):
    return {"name": name, "group": group or name, "nodes": [list(group) for group in nodes]}


def _first(made, rows, chain=None):
    calls = tuple(
        Call(n, row["name"], (value,), (n - 1,) if n else (), () if n else ("x",))
        for n, (row, value) in enumerate(zip(rows, made, strict=True))
    )
    ran = Trace(calls, {"y": made[-1]}, {"y": len(calls) - 1})
    return first_divergence(ran, _graph(), TRUTH, rows, ALLOWED, ["y"])


def test_the_first_wrong_call_is_found_and_what_is_right_before_it():
    rows = [_row(name) for name in ("one", "two", "three")]
    right = [TRUTH[name].astype(np.float32) for name in ("a", "b", "y")]
    assert _first(right, rows) is None
    found = _first([right[0], right[1] + 1, right[2] + 1], rows)
    assert (found.tensor, found.call.kernel, found.cut) == ("b", "two", ("a",))
    assert [node.name for node in found.nodes] == ["add"] and found.error > 0.1
    found = _first([right[0], right[1], right[2] * np.nan], rows)
    assert (found.tensor, found.error, found.cut) == ("y", np.inf, ("b",))


def test_channels_may_be_last():
    last = np.moveaxis(TRUTH["a"], 1, -1).astype(np.float32)
    wrong = TRUTH["y"].astype(np.float32) + 1
    found = _first([last, wrong], [_row("one"), _row("two")])
    assert (found.tensor, found.cut) == ("y", ("a",))


def test_the_last_kernel_of_a_group_has_to_make_its_last_node():
    # It makes what comes before the last node: as if the group had no epilogue.
    rows = [_row("group", nodes=[("abs (Abs)", "add (Add)")]), _row("end")]
    made = [TRUTH["a"].astype(np.float32), TRUTH["y"].astype(np.float32) + 1]
    found = _first(made, rows)
    assert (found.tensor, found.call.kernel, found.cut) == ("b", "group", ("x",))
    assert [node.name for node in found.nodes] == ["abs", "add"]
    assert found.group == found.nodes


def test_nodes_before_a_group_are_told_from_its_own():
    rows = [_row("group", nodes=[("relu (Relu)",)])]
    found = _first([TRUTH["y"].astype(np.float32) + 1], rows)
    assert (found.cut, [node.name for node in found.group]) == (("x",), ["relu"])
    assert [node.name for node in found.nodes] == ["abs", "add", "relu"]


def test_a_kernel_on_the_way_to_a_tensor_is_not_at_fault():
    # Of half the size: no tensor is.
    half = np.ones((2, 3, 2, 5), np.float32)
    rows = [
        _row("group_part", "group", [("relu (Relu)",)]),
        _row("group", nodes=[("relu (Relu)",)]),
    ]
    found = _first([half, TRUTH["y"].astype(np.float32) + 1], rows)
    assert (found.tensor, found.call.kernel) == ("y", "group")


@given(st.permutations(range(4)))
def test_only_channels_may_move(order):
    moved = TRUTH["a"].transpose(order)
    fine = [[0, 1, 2, 3], [0, 2, 3, 1], [0, 3, 1, 2]]
    assert (distance(moved, TRUTH["a"]) == 0) == (list(order) in fine)


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_what_is_not_finite_must_be_so_in_both(wrong):
    truth = np.array([1.0, 2.0])
    assert distance(np.array([1.0, wrong]), truth) == np.inf
    assert distance(np.array([1.0, wrong]), np.array([1.0, wrong])) == 0
    assert distance(np.array([1.0, 2.0]), np.array([1.0, wrong])) == np.inf
    assert distance(np.ones(3), truth) == np.inf and distance(np.ones(0), np.ones(0)) == 0
