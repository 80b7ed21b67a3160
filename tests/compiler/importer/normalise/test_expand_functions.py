from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests import models
from tests.compiling import module_of, reference
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.compiler.importer.normalise.expand_functions import expand_functions

make = helper.make_node


def _model(node: onnx.NodeProto, inputs, outputs, opset: int = 18, constants=None):
    return models.model([node], inputs, outputs, constants, opset=opset)


def _loss(reduction: str) -> onnx.ModelProto:
    node = make("SoftmaxCrossEntropyLoss", ["x", "labels"], ["y"], name="loss", reduction=reduction)
    x, labels = models.value("x", (4, 5)), models.value("labels", (4,), models.INT64)
    shape = (4,) if reduction == "none" else ()
    return _model(node, [x, labels], [models.value("y", shape)])


def test_an_unknown_operator_becomes_its_definition(model_file):
    model = load(model_file(_loss("mean")))
    expand_functions(model)
    kinds = {node.op_type for node in model.graph.node}
    assert "SoftmaxCrossEntropyLoss" not in kinds and len(kinds) > 2
    # What comes of a node is called after it.
    assert all(node.name.startswith("loss.") for node in model.graph.node)
    onnx.checker.check_model(model.proto)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_a_definition_computes_the_same(tmp_path, reduction):
    feed = {
        "x": np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32),
        "labels": np.array([0, 4, 2, 2]),
    }
    proto = _loss(reduction)
    y = module_of(proto, tmp_path)(feed)
    np.testing.assert_allclose(y, reference(proto, feed)[0], rtol=1e-5)


def test_further_results_of_a_normalisation(tmp_path):
    node = make("LayerNormalization", ["x", "w"], ["y", "mean", "scale"], name="norm", axis=-1)
    outputs = [
        models.value("y", (2, 3, 8)),
        *(models.value(n, (2, 3, 1)) for n in ("mean", "scale")),
    ]
    proto = _model(node, [models.value("x", (2, 3, 8))], outputs, 17, {"w": np.ones(8, np.float32)})
    x = np.random.default_rng(0).standard_normal((2, 3, 8)).astype(np.float32)
    for ours, theirs in zip(module_of(proto, tmp_path)(x), reference(proto, {"x": x}), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_normalisation_with_one_result_stays(model_file):
    node = make("LayerNormalization", ["x", "w"], ["y"], name="norm")
    values = [models.value("x", (2, 8))], [models.value("y", (2, 8))]
    model = load(model_file(_model(node, *values, 17, {"w": np.ones(8, np.float32)})))
    expand_functions(model)
    assert [node.op_type for node in model.graph.node] == ["LayerNormalization"]


def test_operators_without_a_definition_stay(model_file):
    node = models.unconverted("x", "y", name="counts")
    x, y = models.value("x", (3, 3), models.INT64), models.value("y", (3, 3))
    model = load(model_file(_model(node, [x], [y])))
    expand_functions(model)
    assert [node.op_type for node in model.graph.node] == [models.UNCONVERTED]


def test_values_of_two_nodes_are_two(model_file):
    nodes = [
        make("MeanVarianceNormalization", ["x"], ["a"], name="same"),
        make("MeanVarianceNormalization", ["a"], ["y"], name="same"),
    ]
    x, y = models.value("x", (1, 2, 3, 4)), models.value("y", (1, 2, 3, 4))
    model = load(model_file(models.model(nodes, [x], [y])))
    normalise(model)
    outputs = [name for node in model.graph.node for name in node.output]
    assert len(outputs) == len(set(outputs))
