from __future__ import annotations

import importlib

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.net import Net, answers_each
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise

make = helper.make_node
X = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)


def _running_sum() -> object:
    """s, x -> s + x, (s + x) * w with an initialiser of the body's own."""
    nodes = [make("Add", ["s", "x"], ["t"]), make("Mul", ["t", "w"], ["o"])]
    weights = [helper.make_tensor("w", models.FLOAT, [1], [2.0])]
    inputs = [models.value(name, (3,)) for name in "sx"]
    outputs = [models.value(name, (3,)) for name in "to"]
    return helper.make_graph(nodes, "body", inputs, outputs, weights)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("back", [0, 1])
def test_scan(opset, back, tmp_path):
    net = Net(opset=opset, start=(3,), x=X.shape)
    made = net.add(
        *("Scan", "start", "x"),
        outputs=2,
        body=_running_sum(),
        num_scan_inputs=1,
        scan_input_directions=[back],
        scan_output_directions=[1 - back],
    )
    given = {"start": np.float32([1, 2, 3]), "x": X}
    answers_each(net.model(*made), tmp_path, given)


def test_scan_along_other_axes(tmp_path):
    net = Net(start=(3,), x=(3, 5))
    made = net.add(
        *("Scan", "start", "x"),
        outputs=2,
        body=_running_sum(),
        num_scan_inputs=1,
        scan_input_axes=[-1],
        scan_output_axes=[1],
    )
    answers_each(net.model(*made), tmp_path, {"start": np.zeros(3, np.float32), "x": X.T.copy()})


def _counting(condition: str = "c") -> object:
    """number, c, s -> c, s + number * y, s; y is from outside."""
    nodes = [
        make("Identity", ["c"], ["c2"]) if condition == "c" else make("Not", ["c"], ["c2"]),
        make("Cast", ["number"], ["n"], to=models.FLOAT),
        make("Mul", ["n", "x"], ["m"]),
        make("Add", ["s", "m"], ["t"]),
    ]
    inputs = [
        models.value("number", (), models.INT64),
        models.value("c", (), TensorProto.BOOL),
        models.value("s", (5, 3)),
    ]
    outputs = [
        models.value("c2", (), TensorProto.BOOL),
        models.value("t", (5, 3)),
        models.value("m", (5, 3)),
    ]
    return helper.make_graph(nodes, "body", inputs, outputs)


@pytest.mark.parametrize("condition", [True, False])
def test_loop(condition, tmp_path):
    net = Net(x=X.shape)
    first = net.const(True, bool) if condition else ""
    made = net.add("Loop", net.const(4, np.int64), first, "x", outputs=2, body=_counting())
    answers_each(net.model(*made), tmp_path, {"x": X})


def _normalised(proto, model_file) -> list[str]:
    model = load(model_file(proto))
    normalise(model)
    return [node.op_type for node in model.graph.node]


def test_a_condition_that_changes_is_left(model_file):
    net = Net(x=X.shape)
    made = net.add("Loop", net.const(4, np.int64), "", "x", outputs=2, body=_counting("not"))
    assert "Loop" in _normalised(net.model(*made), model_file)


def test_a_number_of_steps_that_is_computed_is_left(model_file):
    net = Net(x=X.shape)
    net.input("count", ())
    made = net.add("Loop", "count", "", "x", outputs=2, body=_counting())
    assert "Loop" in _normalised(net.model(*made), model_file)


def test_long_loops_are_left(model_file, monkeypatch):
    net = Net(start=(3,), x=X.shape)
    made = net.add("Scan", "start", "x", outputs=2, body=_running_sum(), num_scan_inputs=1)
    proto = net.model(*made)
    assert "Scan" not in _normalised(proto, model_file)
    # The package has a function of the module's name.
    module = importlib.import_module("tilewright.compiler.importer.normalise.unroll")
    monkeypatch.setattr(module, "MOST_STEPS", 4)
    assert "Scan" in _normalised(proto, model_file)
    model = load(model_file(proto))
    module.unroll(model)
    # What is left alone has given nothing to the graph.
    assert list(model.constants()) == []


def test_a_loop_that_is_one_node_is_a_change(tmp_path):
    inputs = [models.value(name, (3,)) for name in "sx"]
    outputs = [models.value(name, (3,)) for name in "t"]
    body = helper.make_graph([make("Add", ["s", "x"], ["t"])], "body", inputs, outputs)
    net = Net(start=(3,), x=(1, 3))
    proto = net.model(net.add("Scan", "start", "x", body=body, num_scan_inputs=1))
    answers_each(proto, tmp_path, {"start": np.ones(3, np.float32), "x": X[:1]})


@pytest.mark.parametrize("rows", [2, 3])
def test_the_branch_that_is_taken(rows, model_file, tmp_path):
    """Its results are two, what it makes is called as in the other one, and it reads `scale`."""

    def branch(operator: str, name: str):
        nodes = [make(operator, ["x", "scale"], ["t"]), make("Neg", ["t"], ["u"])]
        outputs = [models.value(value, (rows,)) for value in ("t", "u")]
        return helper.make_graph(nodes, name, [], outputs)

    net = Net(x=(rows,))
    net.input("scale", (rows,), models.FLOAT)
    known = net.Equal(net.Size("x"), net.const(3, np.int64))
    made = net.add(
        *("If", known),
        outputs=2,
        then_branch=branch("Mul", "yes"),
        else_branch=branch("Sub", "no"),
    )
    proto = net.model(*made)
    model = load(model_file(proto))
    normalise(model)
    assert model.graph.node[0].op_type == ("Mul" if rows == 3 else "Sub")
    x = np.arange(rows, dtype=np.float32)
    answers_each(proto, tmp_path, {"x": x, "scale": x + 2})


def test_loops_in_loops_multiply(model_file):
    inner = make("Add", ["old0", "old0"], ["new0"])
    for n in range(3):
        body = helper.make_graph(
            [make("Identity", [f"go{n}"], [f"on{n}"]), inner],
            "body",
            [
                models.value(f"i{n}", (), models.INT64),
                models.value(f"go{n}", (), TensorProto.BOOL),
                models.value(f"old{n}", (3,)),
            ],
            [models.value(f"on{n}", (), TensorProto.BOOL), models.value(f"new{n}", (3,))],
        )
        inner = make("Loop", ["many", "keep", f"old{n + 1}"], [f"new{n + 1}"], body=body)
    weights = {"many": np.int64(200), "keep": np.bool_(True)}
    inner.input[2] = "x"
    proto = models.model([inner], [models.value("x", (3,))], [models.value("new3", (3,))], weights)
    model = load(model_file(proto))
    normalise(model)
    assert [node.op_type for node in model.graph.node] == ["Loop"]
