from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import Phase, find, given, settings

from tests.compiling import session
from tests.examples import examples
from tilewright.compiler.kernel_cache import default_folder
from tilewright.verification import strategies
from tilewright.verification.graph_builder import Builder, Value
from tilewright.verification.graphs import OPERATORS, graphs
from tilewright.verification.inputs import random_inputs, sizes_to_try
from tilewright.verification.strategies import interface_of
from tools.fuzz.worker import attempt


def _is_legal(model: onnx.ModelProto) -> None:
    """Assert that onnx and ONNX Runtime take it, at the least sizes and at others."""
    onnx.checker.check_model(model, full_check=True)
    runs = session(model, optimise=False)
    rows, dims = interface_of(model, {})
    for seed, sizes in enumerate(sizes_to_try(dims)):
        results = runs.run(None, random_inputs(rows, sizes, seed))
        for value, array in zip(model.graph.output, results, strict=True):
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            assert array.dtype == kind and array.ndim == len(value.type.tensor_type.shape.dim)
            assert not np.isnan(array).any() if array.dtype.kind == "f" else True


@given(strategies.graphs())
@settings(max_examples=examples(20))
def test_graphs_are_legal(model):
    _is_legal(model)


@given(strategies.models())
@settings(max_examples=examples(10))
def test_models_are_legal(model):
    _is_legal(model)


@pytest.mark.parametrize("name", OPERATORS)
def test_each_row_alone_is_legal(name):
    seen = set()

    @given(graphs([name], least=1, most=2))
    @settings(max_examples=examples(2))
    def check(model):
        seen.update(node.op_type for node in model.graph.node)
        _is_legal(model)

    check()
    assert not name[0].isupper() or name in seen


def _nodes(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_shrinks_to_few_nodes():
    found = find(
        graphs(["Transpose", "Softmax", "MatMul"], least=1, most=6),
        lambda model: "MatMul" in _nodes(model),
        settings=settings(max_examples=50),
    )
    assert "MatMul" in _nodes(found) and len(_nodes(found)) <= 3


def test_what_makes_compilers_stumble_comes():
    def has_several_outputs_and_sizes(model):
        sizes = {d.dim_param for v in model.graph.input for d in v.type.tensor_type.shape.dim}
        return len(model.graph.output) > 2 and len(sizes - {""}) > 1

    def has_a_dead_end(model):
        taken = {name for node in model.graph.node for name in node.input}
        taken |= {value.name for value in model.graph.output}
        return any(not taken & set(node.output) for node in model.graph.node)

    for wanted in (has_several_outputs_and_sizes, has_a_dead_end):
        find(graphs(), wanted, settings=settings(max_examples=400, phases=[Phase.generate]))


def test_only_the_named_operators_are_drawn():
    @given(graphs(["Conv", "Concat"]))
    @settings(max_examples=examples(8))
    def check(model):
        other = set(_nodes(model)) - {"Conv", "Concat", "BatchNormalization"}
        assert not other & {"Transpose", "MatMul", "Softmax", "ReduceSum"}

    check()
    with pytest.raises(ValueError, match="no operator Convolution; there are Relu, "):
        find(graphs(["Convolution"]), lambda model: True)


def test_an_illegal_node_is_refused_when_it_is_added():
    net = Builder(0)
    x = net.input(("n", 4))
    with pytest.raises(onnx.shape_inference.InferenceError):
        net.add("MatMul", x, net.weight("float32", 3, 2))
    assert len(net) == 0


def test_an_open_size_keeps_its_name_and_a_computed_one_gets_its_own():
    net = Builder(0)
    x = net.input(("n", 4, 6))
    y = net.add("Relu", x)
    z = net.add("Reshape", y, net.ints(-1, 6))
    assert y.shape == ("n", 4, 6) and z.shape == ("computed1", 6)
    assert net.add("Reshape", y, net.ints(-1, 3)).shape == ("computed2", 3)
    assert isinstance(z, Value) and z.elements == 8 * 6
    (shape,) = [value.type.tensor_type.shape for value in net.model([z]).graph.output]
    assert [size.dim_param for size in shape.dim] == ["", ""]


@given(strategies.graphs(least=2, most=12))
# A failure is shown as it was drawn: `python -m tools.fuzz` reduces graphs in less time.
@settings(max_examples=examples(10), phases=[Phase.generate])
def test_compiled_graphs_agree_with_onnxruntime(tmp_path_factory, model):
    _agrees(model, tmp_path_factory.mktemp("graph"))


@given(strategies.models())
@settings(max_examples=examples(4), phases=[Phase.generate])
def test_compiled_models_agree_with_onnxruntime(tmp_path_factory, model):
    _agrees(model, tmp_path_factory.mktemp("model"))


def _agrees(model, folder):
    """As `python -m tools.fuzz` has it: within a few times ONNX Runtime's own error."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    job = {"model": str(path), "folder": str(folder), "cache": str(default_folder()), "seed": 0}
    found = attempt({**job, "options": {}})
    assert found["status"] in ("agree", "refused", "reference refuses"), found
