from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.compiling import compile_here, module_of
from tests.net import Net, answers_each, keeps_numbers
from tilewright.compiler import runtime
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise

HALF = TensorProto.FLOAT16


def _half_net(**inputs: tuple) -> Net:
    net = Net(opset=20)
    for name, shape in inputs.items():
        net.input(name, shape, HALF)
    return net


def _drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float16)


def test_results_are_rounded_once(tmp_path):
    """What is left of numbers that are nearly the same would show each rounding before."""
    net = _half_net(x=(2, 64))
    y = net.MatMul("x", net.const(_drawn(64, 32), "float16"))
    proto = net.model(net.Sub(net.Mul(y, net.const(1.001, "float16")), y))
    work = compile_here(proto, tmp_path)
    assert {work.manifest[side][0]["dtype"] for side in ("inputs", "outputs")} == {"float16"}
    x = _drawn(2, 64)
    exact = x.astype("f8") @ _drawn(64, 32).astype("f8") * (float(np.float16(1.001)) - 1)
    y = runtime.load(work.library, 1)(x)
    np.testing.assert_allclose(y, exact, rtol=1e-3, atol=1e-5)


def test_a_cast_to_float16_still_rounds(tmp_path):
    net = Net(opset=20, x=(4, 5))
    proto = net.model(net.Cast(net.Neg(net.Cast("x", to=HALF)), to=TensorProto.FLOAT))
    x = np.float32(np.random.default_rng(0).standard_normal((4, 5)))
    y = module_of(proto, tmp_path)(x)
    np.testing.assert_array_equal(y, -x.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("op", ["Atan", "Asin", "Tan", "Sinh", "Erf", "Softplus", "Exp"])
def test_functions_of_float16(op, tmp_path):
    net = _half_net(x=("n", 7))
    keeps_numbers(net.model(net.add(op, "x")), tmp_path, {"x": 0.5 * np.tanh(_drawn(3, 7))})


def test_a_result_that_others_read_and_a_large_weight(tmp_path):
    net = _half_net(x=(2, 3000))
    y = net.Relu(net.Mul("x", net.const(_drawn(3000), "float16")))
    answers_each(net.model(y, net.Neg(y)), tmp_path, {"x": _drawn(2, 3000)}, tolerance=1e-3)


def test_branches(tmp_path):
    def branch(name: str, op: str) -> onnx.GraphProto:
        two = helper.make_tensor(f"{name}_two", HALF, [], [2.0])
        node = helper.make_node(op, ["x", two.name], [f"{name}_y"])
        made = helper.make_tensor_value_info(f"{name}_y", HALF, ["n", 3])
        return helper.make_graph([node], name, [], [made], [two])

    branches = {"then_branch": branch("a", "Mul"), "else_branch": branch("b", "Add")}
    nodes = [helper.make_node("If", ["c"], ["y"], **branches)]
    inputs = [models.value("c", (), TensorProto.BOOL), models.value("x", ("n", 3), HALF)]
    proto = models.model(nodes, inputs, [models.value("y", ("n", 3), HALF)])
    x = _drawn(2, 3)
    for c in (True, False):
        answers_each(proto, tmp_path, {"c": np.array(c), "x": x}, tolerance=1e-3)


def test_a_value_like_another_and_a_constant_of_a_shape(tmp_path):
    net = Net(opset=20, x=(2, 3))
    net.input("z", (2, 3), HALF)
    y = net.CastLike("x", "z")
    zeros = net.ConstantOfShape(net.Shape("z"), value=helper.make_tensor("v", HALF, [1], [0.1]))
    proto = net.model(net.Cast(net.Add(y, zeros), to=TensorProto.FLOAT))
    x = np.float32(np.random.default_rng(0).standard_normal((2, 3)))
    answers_each(proto, tmp_path, {"x": x, "z": _drawn(2, 3)}, tolerance=1e-3)


def test_models_without_float16_and_such_with_bits_stay_as_they_are(model_file):
    net = Net(opset=20, x=(2, 3))
    model = load(model_file(net.model(net.Relu("x"))))
    normalise(model)
    assert [node.op_type for node in model.graph.node] == ["Relu"]
    bits = helper.make_node("BitCast", ["x"], ["y"], to=TensorProto.INT16)
    made = models.value("y", (2,), TensorProto.INT16)
    proto = models.model([bits], [models.value("x", (2,), HALF)], [made], opset=26, ir_version=13)
    model = load(model_file(proto))
    normalise(model)
    assert [node.op_type for node in model.graph.node] == ["BitCast"]
