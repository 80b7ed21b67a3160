from __future__ import annotations

import numpy as np
from onnx import helper

from tests import models
from tests.compiling import module_of
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.inline import inline_functions

make = helper.make_node


def _with_function(name: str):
    body = [make("Neg", ["a"], ["n"]), make("Exp", ["n"], ["b"])]
    proto = models.model(
        [make(name, ["x"], ["t"], domain="own"), make(name, ["t"], ["y"], domain="own")],
        [models.value("x", (2, 3))],
        [models.value("y", (2, 3))],
        opsets=[helper.make_opsetid("own", 1)],
    )
    proto.functions.append(
        helper.make_function("own", name, ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    )
    return proto


def test_calls_become_bodies(model_file):
    model = load(model_file(_with_function("Decay")))
    inline_functions(model)
    assert [node.op_type for node in model.graph.node] == ["Neg", "Exp"] * 2
    assert not model.proto.functions


def test_a_function_named_like_an_operator_is_the_function(tmp_path):
    x = np.float32([[-1, 0, 1]] * 2)
    y = module_of(_with_function("Relu"), tmp_path)(x)
    np.testing.assert_allclose(y, np.exp(-np.exp(-x)), rtol=1e-5)


def test_a_model_without_functions_is_left_alone(model_file):
    model = load(model_file(models.linear()))
    before = model.proto
    inline_functions(model)
    assert model.proto is before
