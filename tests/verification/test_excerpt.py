from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests import models
from tilewright.compiler.importer.load import load
from tilewright.verification.divergence import Graph
from tilewright.verification.excerpt import Excerpts
from tilewright.verification.reference import DoubleReference


@pytest.fixture
def cutter(model_file):
    """Excerpts of a convolution network, its graph, and its tensors."""
    model = load(model_file(models.conv_net()))
    graph = Graph(tuple(model.graph.node), ("x",))
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    truth = DoubleReference(model)({"x": x})
    return Excerpts(model, graph, truth), graph, truth


def test_an_excerpt_computes_what_the_model_does(cutter):
    excerpts, graph, truth = cutter
    cut, nodes = graph.behind("r1", {"r0"})
    made = excerpts.of(nodes, sorted(cut), ["r1"])
    onnx.checker.check_model(made.proto, full_check=True)
    assert [node.name for node in made.proto.graph.node] == ["conv1", "norm1", "relu1"]
    assert set(made.inputs) == {"r0"} and made.inputs["r0"].dtype == np.float32
    (result,) = ReferenceEvaluator(made.proto).run(None, dict(made.inputs))
    np.testing.assert_allclose(result, truth["r1"], atol=1e-5)
    np.testing.assert_array_equal(made.truth["r1"], truth["r1"])


def test_excerpts_grow_by_neighbours_until_they_are_the_model(cutter):
    excerpts, graph, _ = cutter
    cut, nodes = graph.behind("r1", {"r0"})
    sizes = []
    for made in excerpts.around(nodes, sorted(cut), "r1", nodes[1:]):
        onnx.checker.check_model(made.proto, full_check=True)
        inside = {name for node in made.proto.graph.node for name in node.output}
        assert "r1" in inside and not inside & set(made.inputs)
        sizes.append(len(made.proto.graph.node))
    assert sizes == sorted(set(sizes)) and sizes[:2] == [2, 3] and len(sizes) > 3
