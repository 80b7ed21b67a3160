from __future__ import annotations

import pytest
from onnx import TensorProto

from tests import models
from tests.net import Net
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.small_values import small_values


def test_models_without_small_types_are_not_looked_into(model_file, monkeypatch):
    monkeypatch.setattr("tilewright.compiler.importer.small_values.infer_dtypes", None)
    assert small_values(load(model_file(models.mlp_block()))) == {}


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.INT4])
def test_inputs_and_what_has_their_type(kind, model_file):
    net = Net(opset=23)
    net.input("x", (4,), kind)
    y = net.Reshape("x", net.ints(2, 2))
    name = TensorProto.DataType.Name(kind).lower()
    found = small_values(load(model_file(net.model(net.Cast(y, to=models.FLOAT)))))
    assert found == {"x": name, y: name}


def test_a_cast_alone_says_so(model_file):
    net = Net(opset=23, x=(4,))
    y = net.Cast("x", to=TensorProto.FLOAT8E5M2)
    assert small_values(load(model_file(net.model(y)))) == {y: "float8_e5m2"}
