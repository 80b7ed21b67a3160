from __future__ import annotations

from onnx import helper

from tests import models
from tests.net import Net
from tilewright.analysis.operators import COMPILE_TIME, made_by, operators_of
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise


def _rows(path, missing=(), refused=()):
    model = load(path)
    operators = operators_of(model)
    normalise(model)
    made = made_by(model)
    return {op.name: op.row(made, missing, set(refused), model.opset()) for op in operators}


def test_one_row_for_each_operator_with_its_version(model_file):
    rows = _rows(model_file(models.conv_net()))
    assert list(rows) == sorted(rows)
    conv = rows["Conv"]
    assert (conv["domain"], conv["version"], conv["gone"]) == ("ai.onnx", 11, 0)
    assert conv["nodes"] == ["conv0 (Conv)", "conv1 (Conv)"]


def test_what_normalisation_has_left_nothing_of(model_file):
    net = Net(x=(3, 4))
    sizes = net.Shape("x")
    twice = net.Add(net.Add("x", "x"), net.Add(net.const([1.0]), net.const([2.0])))
    rows = _rows(model_file(net.model(net.Reshape(twice, sizes))))
    assert rows["Shape"]["converted_by"] == COMPILE_TIME and rows["Shape"]["gone"] == 1
    assert rows["Add"]["converted_by"] == "TVM" and rows["Add"]["gone"] == 1


def test_refused_nodes_are_counted(model_file):
    rows = _rows(model_file(models.conv_net()), refused=["conv1 (Conv)"])
    assert rows["Conv"]["refused"] == 1 and rows["Relu"]["refused"] == 0
    rows = _rows(model_file(models.conv_net()), missing=[("", "Relu")])
    assert rows["Relu"]["converted_by"] == "not yet"


def test_loops_in_branches_say_where_they_stand(model_file):
    value = models.value
    body = helper.make_graph(
        [helper.make_node("Neg", ["s"], ["t"], name="inner")],
        "body",
        [value("i", (), 7), value("go", (), 9), value("s", (3,))],
        [value("go", (), 9), value("t", (3,))],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["l"], name="loop", body=body)
    other = helper.make_node("Abs", ["x"], ["o"], name="other")
    then = helper.make_graph([loop], "then", [], [value("l", (3,))])
    otherwise = helper.make_graph([other], "otherwise", [], [value("o", (3,))])
    choose = helper.make_node(
        "If", ["c"], ["y"], name="choose", then_branch=then, else_branch=otherwise
    )
    inputs = [value("c", (), 9), value("count", (), 7), value("x", (3,))]
    path = model_file(models.model([choose], inputs, [value("y", (3,))]))
    nodes = {op.name: op.row(set(), (), set(), 17)["nodes"] for op in operators_of(load(path))}
    assert nodes["Loop"] == ["loop (Loop) in choose (If)"]
    assert nodes["Neg"] == ["inner (Neg) in choose (If)"]
    assert nodes["If"] == ["choose (If)"]
