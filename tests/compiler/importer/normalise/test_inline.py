from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests import models
from tests.compiling import module_of
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.inline import inline_functions
from tilewright.errors import UnsupportedModel

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


def test_functions_that_multiply_are_refused_before_they_are_inlined(model_file):
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    proto = models.model(
        [make("F39", ["x"], ["y"], domain="own")],
        [models.value("x", (2, 3))],
        [models.value("y", (2, 3))],
        opsets=opsets[1:],
    )
    for n in range(40):
        inner, domain = (f"F{n - 1}", "own") if n else ("Relu", "")
        body = [
            make(inner, ["a"], ["b"], domain=domain),
            make(inner, ["b"], ["c"], domain=domain),
        ]
        proto.functions.append(helper.make_function("own", f"F{n}", ["a"], ["c"], body, opsets))
    model = load(model_file(proto))
    with pytest.raises(UnsupportedModel, match="nodes are left when") as info:
        inline_functions(model)
    assert "F0, F1" in info.value.where and "100000" in info.value.expected
