from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests import models
from tests.compiling import module_of
from tests.net import Net
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import fold

make = helper.make_node


def _folded(nodes, model_file, shape=(2, 3, 4), outputs=("y",), weights=None, kind=models.FLOAT):
    proto = models.model(
        nodes,
        [models.value("x", shape)],
        [models.value(name, None, kind) for name in outputs],
        weights,
    )
    model = load(model_file(proto))
    fold.fold_constants(model)
    return model


def _ops(model):
    return [node.op_type for node in model.graph.node]


def test_folds_the_arithmetic_of_a_reshape(model_file, tmp_path):
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Gather", ["s", "zero"], ["rows"]),
        make("Unsqueeze", ["rows", "zeros"], ["rows1"]),
        make("Concat", ["rows1", "rest"], ["to"], axis=0),
        make("Reshape", ["x", "to"], ["y"]),
    ]
    weights = {"zero": np.int64(0), "zeros": np.array([0]), "rest": np.array([-1])}
    model = _folded(nodes, model_file, weights=weights)
    assert _ops(model) == ["Reshape"]
    assert model.constants()["to"].tolist() == [2, -1]


def test_a_number_stays_a_number_and_does_not_become_a_row(model_file):
    """Its rank matters to whoever reads it in a later round."""
    nodes = [
        make("Size", ["x"], ["n"]),
        make("Cast", ["n"], ["f"], to=models.FLOAT),
        make("Mul", ["x", "f"], ["y"]),
    ]
    model = _folded(nodes, model_file)
    assert _ops(model) == ["Mul"] and model.constants()["f"].shape == ()


def test_folds_what_a_folded_shape_makes_known(model_file):
    nodes = [
        make("Shape", ["x"], ["s"]),
        make("Reshape", ["x", "s"], ["a"]),
        make("Shape", ["a"], ["t"]),
        make("ReduceProd", ["t"], ["n"], keepdims=1),
        make("Reshape", ["x", "n"], ["y"]),
    ]
    model = _folded(nodes, model_file)
    assert "Shape" not in _ops(model) and model.constants()["n"].tolist() == [24]


@pytest.mark.parametrize("start, end, shape", [(1, None, [3, 4]), (0, 2, [2, 3]), (-1, None, [4])])
def test_a_slice_of_a_shape(start, end, shape, model_file):
    attrs = {"start": start} | ({"end": end} if end is not None else {})
    nodes = [make("Shape", ["x"], ["s"], **attrs), make("Cast", ["s"], ["y"], to=models.FLOAT)]
    model = _folded(nodes, model_file)
    assert model.constants()["s"].tolist() == shape


def test_open_shapes_are_left_alone(model_file):
    nodes = [make("Shape", ["x"], ["s"]), make("Reshape", ["x", "s"], ["y"])]
    assert _ops(_folded(nodes, model_file, shape=("n", 3))) == ["Shape", "Reshape"]


def test_outputs_stay_nodes(model_file):
    nodes = [make("Shape", ["x"], ["y"])]
    assert _ops(_folded(nodes, model_file, kind=models.INT64)) == ["Shape"]


def test_what_would_grow_is_left_alone(model_file):
    nodes = [make("Expand", ["one", "size"], ["big"]), make("Add", ["big", "half"], ["y"])]
    nodes.append(make("Relu", ["x"], ["z"]))
    weights = {"one": np.float32([1]), "size": np.array([1 << 20]), "half": np.float32([0.5])}
    assert "Expand" in _ops(_folded(nodes, model_file, outputs=("y", "z"), weights=weights))


@pytest.mark.parametrize("op", ["RandomNormalLike", "Bernoulli"])
def test_chance_is_not_folded(op, model_file):
    nodes = [make(op, ["half"], ["r"]), make("Mul", ["x", "r"], ["y"])]
    assert op in _ops(_folded(nodes, model_file, weights={"half": np.float32([0.5])}))


def test_a_large_constant_node_becomes_a_weight(model_file, tmp_path):
    big = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    nodes = [
        make("Constant", [], ["c"], value=numpy_helper.from_array(big)),
        make("MatMul", ["x", "c"], ["y"]),
    ]
    model = _folded(nodes, model_file, shape=(2, 64))
    assert _ops(model) == ["MatMul"] and (model.weights["c"] == big).all()


def test_foreign_domains_are_not_evaluated(model_file, tmp_path):
    proto = models.model(
        [make("Add", ["a", "a"], ["b"], domain="my.domain"), make("Mul", ["x", "b"], ["y"])],
        [models.value("x", (2,))],
        [models.value("y", (2,))],
        {"a": np.float32([1, 2])},
        opsets=[helper.make_opsetid("my.domain", 1)],
    )
    model = load(model_file(proto))
    fold.fold_constants(model)
    assert _ops(model) == ["Add", "Mul"]


def test_folding_keeps_numbers(model_file, tmp_path):
    nodes = [
        make("Transpose", ["w"], ["t"], perm=[1, 0]),
        make("Mul", ["t", "two"], ["m"]),
        make("Gemm", ["x", "m"], ["y"], transB=1),
    ]
    w = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    proto = models.model(
        nodes,
        [models.value("x", (3, 4))],
        [models.value("y", (3, 5))],
        {"w": w, "two": np.float32(2)},
    )
    x = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(module_of(proto, tmp_path)(x), x @ (2 * w), rtol=1e-5)


def test_infers_shapes_with_names(model_file):
    model = load(model_file(models.linear("n")))
    known = fold.infer_shapes(model)
    assert known["xw"] == ("n", 32) and known["w"] == (64, 32)


def test_sizes_for_open_dimensions_are_carried_through_computed_shapes(model_file):
    net = Net(x=("n", 4))
    rows = net.Gather(net.Shape("x"), net.ints(0))
    y = net.Relu(net.Expand(net.const(1.0), net.Concat(rows, net.Mul(rows, net.ints(2)), axis=0)))
    model = load(model_file(net.model(y)))
    assert not isinstance(fold.infer_shapes(model)[y][1], int)
    assert fold.infer_shapes(model, {"n": 3})[y] == (3, 6)


def test_infers_types_and_knows_those_of_weights(model_file):
    proto = models.model(
        [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Add", ["x", "w"], ["y"])],
        [models.value("x", (2, 3))],
        [models.value("y", (2, 3)), models.value("s", (2,), models.INT64)],
        {"w": np.ones((2, 3), np.float32)},
    )
    found = fold.infer_dtypes(load(model_file(proto)))
    assert {name: str(dtype) for name, dtype in found.items()} == {
        **dict.fromkeys("xyw", "float32"),
        "s": "int64",
    }


def _doubled(times: int) -> list:
    nodes = [make("Concat", [f"d{n}", f"d{n}"], [f"d{n + 1}"], axis=0) for n in range(times)]
    return [*nodes, make("ReduceSum", [f"d{times}"], ["y"]), make("Relu", ["x"], ["z"])]


def test_many_small_steps_do_not_add_up(model_file):
    weights = {"d0": np.ones(1000, np.float32)}
    model = _folded(_doubled(30), model_file, outputs=("y", "z"), weights=weights)
    assert max(array.nbytes for array in model.constants().values()) <= fold.MAX_GROWTH_BYTES


def test_long_vectors_are_no_shapes(model_file):
    """As one, each element of this would be a message of its own: 2^40 of them."""
    nodes = [make("Reshape", ["x", "flat"], ["d0"]), *_doubled(40)]
    proto = models.model(
        nodes,
        [models.value("x", (2, 3))],
        [models.value("y", (1,)), models.value("z", (2, 3))],
        {"flat": np.array([-1])},
    )
    assert fold.infer_shapes(load(model_file(proto)))["d40"] == (6 << 40,)


def test_a_long_range_is_no_shape(model_file):
    nodes = [make("Range", ["zero", "many", "one"], ["r"]), make("ReduceMax", ["r"], ["y"])]
    nodes.append(make("Relu", ["x"], ["z"]))
    weights = {"zero": np.int64(0), "many": np.int64(4e9), "one": np.int64(1)}
    proto = models.model(
        nodes,
        [models.value("x", (2, 3))],
        [models.value("y", (1,), models.INT64), models.value("z", (2, 3))],
        weights,
    )
    assert fold.infer_shapes(load(model_file(proto)))["r"] == (4_000_000_000,)


def test_what_was_computed_is_remembered_where_it_has_rounding_errors(model_file):
    nodes = [
        make("MatMul", ["a", "b"], ["ab"], name="product"),
        make("Shape", ["x"], ["s"]),
        make("Reshape", ["ab", "s"], ["abs"], name="shaped"),
        make("Add", ["x", "abs"], ["y"]),
    ]
    weights = {"a": models.weight("a", (6, 9)), "b": models.weight("b", (9, 4))}
    model = _folded(nodes, model_file, weights=weights)
    assert [node.name for node in model.folded] == ["product", "shaped"]
    assert model.folded_shapes["a"] == (6, 9) and model.folded_shapes["abs"] == (2, 3, 4)
