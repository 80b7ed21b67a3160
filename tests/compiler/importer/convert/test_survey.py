from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from tests import models
from tests.net import Net
from tilewright.compiler.importer.convert.survey import survey
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import UnsupportedModel


def _survey(path):
    model = load(path)
    normalise(model)
    return survey(model, lanes=8)


def test_a_model_that_converts_has_no_refusals(model_file):
    found = _survey(model_file(models.conv_net()))
    assert found.refusals == {} and found.unchecked == []


def test_goes_on_behind_a_refusal_with_the_sizes_that_onnx_knows(model_file):
    """Both Reshapes read a shape of unknown length; what is between and behind them is fine."""
    net = Net(x=("n", 6))
    net.input("shape", ("k",))
    net.input("other", ("j",))
    one = net.Flatten(net.Reshape("x", "shape"))
    two = net.Relu(net.Flatten(net.Reshape(one, "other")))
    found = _survey(model_file(net.model(two)))
    assert list(found.refusals) == ["n_reshape0 (Reshape)"]
    # Nobody knows how many dimensions the result has: what reads it is not looked at.
    assert found.unchecked[0] == "n_flatten1 (Flatten)" and len(found.unchecked) == 4
    net = Net(x=("n", 2, 3, 3))
    net.input("shape", ("k",))
    counts = net.Relu(net.unconverted(net.Flatten("x")))
    found = _survey(model_file(net.model(counts, net.Flatten(net.Reshape(counts, "shape")))))
    assert list(found.refusals) == ["n_reshape4 (Reshape)"]
    assert found.unchecked == ["n_flatten5 (Flatten)"]


def test_what_is_about_the_whole_model_is_raised(model_file):
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Cast", ["x"], [name], to=TensorProto.BFLOAT16)
        out = models.value(name, (2,), TensorProto.BFLOAT16)
        branches[name] = helper.make_graph([node], name, [], [out])
    net = Net(opset=23, x=(2,))
    net.input("c", (), TensorProto.BOOL)
    y = net.If("c", **branches)
    with pytest.raises(UnsupportedModel, match="bfloat16 beside branches"):
        _survey(model_file(net.model(net.Cast(y, to=TensorProto.FLOAT))))
