"""What is accepted; what is refused stands in tests/bad_input/."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.compiling import module_of
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import INLINE_BYTES


def test_large_weights_leave_the_graph_and_small_ones_stay(model_file):
    model = load(model_file(models.linear()))
    assert set(model.weights) == {"w"} and model.weights["w"].nbytes > INLINE_BYTES
    assert [tensor.name for tensor in model.graph.initializer] == ["b"]
    assert [value.name for value in model.inputs()] == ["x"]


def test_infinite_weights_are_allowed(model_file):
    proto = models.linear()
    array = models.weight("w", (64, 32))
    array[0, 0], array[1, 1] = np.inf, -np.inf
    proto.graph.initializer[0].raw_data = array.tobytes()
    assert np.isinf(load(model_file(proto)).weights["w"]).sum() == 2


def test_initialisers_that_are_listed_as_inputs_too(model_file, tmp_path):
    """As exporters wrote before IR version 4."""
    proto = models.linear()
    proto.graph.input.append(models.value("w", (64, 32)))
    proto.graph.input.append(models.value("b", (32,)))
    proto.ir_version = 3
    path = model_file(proto)
    assert [value.name for value in load(path).inputs()] == ["x"]
    assert len(module_of(path, tmp_path).inputs) == 1


def test_a_listed_initialiser_that_folding_takes_is_no_input(tmp_path):
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
    ]
    inputs = [models.value("x", (2, 4)), models.value("w", (3, 4))]
    weights = {"w": models.weight("w", (3, 4))}
    proto = models.model(nodes, inputs, [models.value("y", (2, 3))], weights)
    proto.ir_version = 3
    assert [spec.name for spec in module_of(proto, tmp_path).inputs] == ["x"]


def test_external_weights_of_any_size_give_the_same_model(tmp_path):
    proto = models.linear()
    onnx.save_model(proto, tmp_path / "inside.onnx")
    onnx.save_model(
        models.linear(),
        tmp_path / "outside.onnx",
        save_as_external_data=True,
        location="d.bin",
        size_threshold=0,
    )
    inside, outside = (load(tmp_path / f"{name}.onnx") for name in ("inside", "outside"))
    for name, array in inside.constants().items():
        assert (outside.constants()[name] == array).all()


def test_the_digest_covers_external_data(tmp_path):
    digests = set()
    for seed in (0, 1):
        proto = models.linear()
        proto.graph.initializer[0].raw_data = models.weight("w", (64, 32), seed).tobytes()
        folder = tmp_path / str(seed)
        folder.mkdir()
        onnx.save_model(
            proto,
            folder / "m.onnx",
            save_as_external_data=True,
            location="d.bin",
            size_threshold=1024,
        )
        digests.add(load(folder / "m.onnx").sha256)
    assert len(digests) == 2


@pytest.mark.parametrize("kind", [TensorProto.BOOL, TensorProto.INT64, TensorProto.DOUBLE])
def test_weights_written_as_numbers_not_as_bytes(kind, model_file):
    tensor = helper.make_tensor("w", kind, (3,), [1, 0, 1])
    proto = models.model(
        [helper.make_node("Identity", ["w"], ["y"]), helper.make_node("Relu", ["x"], ["z"])],
        [models.value("x", (2,))],
        [models.value("y", (3,), kind), models.value("z", (2,))],
    )
    proto.graph.initializer.append(tensor)
    assert load(model_file(proto)).constants()["w"].tolist() == [1, 0, 1]
