from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests import models
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import DTYPES, check_dtype
from tilewright.compiler.small_types import numpy_type, stored
from tilewright.errors import UnsupportedModel


def test_the_opset_of_a_domain(model_file):
    model = load(model_file(models.linear()))
    assert model.opset() == 17 and model.opset("com.microsoft") == 1
    model.proto.opset_import[0].domain = "ai.onnx"
    assert model.opset() == 17


def test_constants_are_all_initialisers(model_file):
    model = load(model_file(models.linear()))
    assert {name: array.shape for name, array in model.constants().items()} == {
        "w": (64, 32),
        "b": (32,),
    }


def test_a_new_constant_stays_in_the_graph_while_it_is_small(model_file):
    model = load(model_file(models.linear()))
    before = set(model.weights)
    model.add_constant("small", np.ones(4, np.float32))
    model.add_constant("large", np.ones(9999, np.float32))
    assert set(model.weights) - before == {"large"}
    assert {t.name for t in model.graph.initializer} >= {"small"}
    assert model.constants()["small"].tolist() == [1.0] * 4


def test_weights_are_shown_as_typed_inputs_without_values(model_file):
    model = load(model_file(models.linear()))
    shown = model.with_weight_types()
    assert [value.name for value in shown.graph.input] == ["x", "w"]
    assert shown.graph.input[1].type.tensor_type.elem_type == models.FLOAT
    assert len(model.graph.input) == 1, "the model itself is left alone"
    assert len(shown.SerializeToString()) < model.weights["w"].nbytes


def test_a_constant_without_dimensions_keeps_none(tmp_path, model_file):
    proto = models.model(
        [helper.make_node("Mul", ["x", "s"], ["y"])],
        [models.value("x", ())],
        [models.value("y", ())],
        {"s": np.float32(3)},
    )
    assert load(model_file(proto)).constants()["s"].shape == ()


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_that_numpy_hands_over(dtype):
    check_dtype(dtype, "input 'x'")
    np.from_dlpack(stored(np.zeros(2, numpy_type(dtype))))


@pytest.mark.parametrize("dtype", ["string", "complex64"])
def test_types_that_do_not_cross(dtype):
    with pytest.raises(UnsupportedModel, match=f"tensors of type {dtype}"):
        check_dtype(dtype, "input 'x'")
