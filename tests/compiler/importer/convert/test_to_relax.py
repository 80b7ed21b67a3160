from __future__ import annotations

import types

import numpy as np
import pytest
from onnx import TensorProto, helper
from tvm import relax
from tvm.ir import GenericConst

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.net import Net, answers_each, keeps_numbers
from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.convert.to_relax import to_relax
from tilewright.compiler.importer.load import load
from tilewright.errors import UnsupportedModel


def test_inputs_keep_their_order_and_number(model_file):
    mod = to_relax(load(model_file(models.binary("Sub"))), 8).mod
    assert [str(p) for p in mod["main"].params] == ["a", "b"]


def test_weights_are_constants_of_the_module(model_file):
    mod = to_relax(load(model_file(models.linear())), 8).mod
    assert len(mod["main"].params) == 1 and "GenericConst" in mod.script()


def test_a_refusal_names_the_node_and_its_inputs(tmp_path):
    proto = models.model(
        [helper.make_node("Tile", ["x", "s"], ["y"], name="/head/Tile")],
        [models.value("x", (2, 3)), models.value("s", ("rank",), models.INT64)],
        [models.value("y", (6,))],
    )
    with pytest.raises(UnsupportedModel, match="cannot be converted") as info:
        compile_here(proto, tmp_path, until="import")
    assert "/head/Tile (Tile)" in info.value.where and "x: R.Tensor" in info.value.where
    assert info.value.hint == "fix open dimensions: --dim rank=SIZE"


def test_a_shape_as_result_beside_others(tmp_path):
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Relu", ["x"], ["y"])]
    proto = models.model(
        nodes,
        [models.value("x", ("n", 3))],
        [models.value("s", (2,), models.INT64), models.value("y", ("n", 3))],
    )
    x = np.ones((5, 3), np.float32)
    s, y = module_of(proto, tmp_path)(x)
    assert s.tolist() == [5, 3] and s.dtype == np.int64 and (y == x).all()


@pytest.mark.parametrize("value", [True, False])
def test_a_choice_at_run_time(value, tmp_path):
    def branch(name, op):
        return helper.make_graph(
            [helper.make_node(op, ["x"], [f"{name}_y"])],
            name,
            [],
            [models.value(f"{name}_y", (2, 3))],
        )

    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("yes", "Neg"), else_branch=branch("no", "Exp")
    )
    proto = models.model(
        [node], [models.value("c", (), 9), models.value("x", (2, 3))], [models.value("y", (2, 3))]
    )
    given = {"c": np.array(value), "x": np.float32([[1, 2, 3], [4, 5, 6]])}
    np.testing.assert_allclose(
        module_of(proto, tmp_path)(given), reference(proto, given)[0], rtol=1e-5
    )


def test_small_types_beside_branches_are_refused(tmp_path):
    branches = {}
    for name in ("then_branch", "else_branch"):
        node = helper.make_node("Cast", ["x"], [name], to=TensorProto.BFLOAT16)
        out = models.value(name, (2,), TensorProto.BFLOAT16)
        branches[name] = helper.make_graph([node], name, [], [out])
    net = Net(opset=23, x=(2,))
    net.input("c", (), TensorProto.BOOL)
    with pytest.raises(UnsupportedModel, match="bfloat16 beside branches"):
        compile_here(net.model(net.If("c", **branches)), tmp_path, until="import")


def test_inputs_that_are_not_given_are_none_for_tvms_converters(tmp_path):
    net = Net(opset=18, x=(2, 6))
    parts = net.add("Split", "x", axis=1, num_outputs=2, outputs=2)
    padded = net.Pad("x", net.ints(0, 1, 0, 1))
    keeps_numbers(net.model(*parts, padded), tmp_path)


def test_an_error_of_our_own_stays_what_it_is(tmp_path, monkeypatch):
    """Only what TVM's converters raise is put down to the model."""

    def fails(*_: object) -> None:
        raise KeyError("ours")

    ours = types.FunctionType(fails.__code__, {**globals(), "__name__": "tilewright.x"}, "fails")
    monkeypatch.setitem(table._OURS, ("", "Clip"), ours)
    with pytest.raises(KeyError, match="ours"):
        compile_here(models.unary("Clip"), tmp_path, until="import")
    monkeypatch.setitem(table._OURS, ("", "Clip"), fails)
    with pytest.raises(UnsupportedModel, match="cannot be converted"):
        compile_here(models.unary("Clip"), tmp_path, until="import")


@pytest.mark.parametrize("times", [1 << 33, 1 << 62])
def test_a_tensor_that_is_absurdly_large_names_its_node(times, tmp_path):
    """With an open size ONNX knows nothing of it, but the converter does."""
    net = Net(x=("n",))
    proto = net.model(net.Tile("x", net.ints(times)))
    with pytest.raises(UnsupportedModel, match="a tensor of shape") as info:
        compile_here(proto, tmp_path, until="import")
    assert "(Tile)" in info.value.where


def test_large_constants_are_not_computed_by_converters(tmp_path):
    """TVM's Concat joins constants with numpy: thirty of them would be gigabytes."""
    net = Net(x=(1,))
    y = net.weight(1 << 20)
    for _ in range(5):
        y = net.Concat(y, y, axis=0)
    work = compile_here(net.model(net.Add(y, "x")), tmp_path, until="import")
    sizes: list[int] = []
    relax.analysis.post_order_visit(
        work.mod["main"],
        lambda e: sizes.append(e.value.numpy().size) if isinstance(e, GenericConst) else None,
    )
    assert 1 << 20 <= max(sizes) <= 1 << 22


def test_numbers_that_a_node_leaves_out_are_float32_in_double_precision_too(tmp_path):
    """An epsilon of 1e-5 as Python reads it is off by 3e-8 of itself."""
    net = Net(opset=20)
    net.input("x", (2, 3, 4), TensorProto.DOUBLE)
    ones = net.const(np.ones(3), "float64")
    proto = net.model(net.BatchNormalization("x", ones, ones, ones, net.const([0, 0, 1], "f8")))
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    answers_each(proto, tmp_path, {"x": x}, tolerance=1e-14)
