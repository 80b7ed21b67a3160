"""Readable ONNX models that are not valid, or that we cannot compile."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.command_line import refused
from tests.net import Net
from tilewright.errors import ModelError, UnsupportedModel


def _broken(change) -> onnx.ModelProto:
    proto = models.linear()
    change(proto)
    return proto


def _without_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def _without_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def _undefined_tensor(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input[1] = "nowhere"


def _twice_defined(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "xw"


def _attribute_of_a_function(proto: onnx.ModelProto) -> None:
    entry = proto.graph.node[0].attribute.add()
    entry.name, entry.type, entry.ref_attr_name = "alpha", onnx.AttributeProto.FLOAT, "beta"


def _resize_by_nan() -> onnx.ModelProto:
    net = Net(opset=19, x=(1, 1, 4, 4))
    return net.model(net.Resize("x", "", net.const([1, 1, np.nan, 2]), mode="linear"))


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def _wrong_shapes(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 63


def _nan_weight(proto: onnx.ModelProto) -> None:
    array = models.weight("w", (64, 32))
    array[5, 7] = np.nan
    proto.graph.initializer[0].raw_data = array.tobytes()


def _short_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def _negative_dimension(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -64


def _nameless_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].name = ""


def _unknown_rank(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def _sequence_input(proto: onnx.ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (2, 3)))
    proto.graph.input.append(helper.make_value_info("many", kind))


def _sequence_output(proto: onnx.ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (2, 32)))
    proto.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["many"]))
    proto.graph.output.append(helper.make_value_info("many", kind))


def _sparse_weight(proto: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [3])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def _recursive_function(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Again", ["a"], ["b"], domain="own")
    proto.functions.append(
        helper.make_function("own", "Again", ["a"], ["b"], [node], [helper.make_opsetid("own", 1)])
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[2].op_type, proto.graph.node[2].domain = "Again", "own"


BAD_GRAPHS = {
    "no_nodes": (_broken(_without_nodes), ModelError, ["no nodes", "at least one"]),
    "no_outputs": (_broken(_without_outputs), ModelError, ["no outputs", "at least one"]),
    "undefined_tensor": (_broken(_undefined_tensor), ModelError, ["not valid ONNX", "nowhere"]),
    "defined_twice": (_broken(_twice_defined), ModelError, ["not valid ONNX", "xw"]),
    "attribute_of_a_function": (
        _broken(_attribute_of_a_function),
        ModelError,
        ["stands for one of a function's", "'alpha'"],
    ),
    "scales_that_are_none": (_resize_by_nan(), UnsupportedModel, ["the scales 1, 1, nan, 2"]),
    "cycle": (_broken(_cycle), ModelError, ["not valid ONNX", "sorted"]),
    "shapes_clash": (_broken(_wrong_shapes), ModelError, ["shapes or types do not fit", "product"]),
    "nan_weight": (
        _broken(_nan_weight),
        ModelError,
        ["1 of 2048 weights are NaN", "'w'", "[5, 7]"],
    ),
    "short_weight": (_broken(_short_weight), ModelError, ["do not fit", "'w'", "[64, 32]"]),
    "negative_dimension": (_broken(_negative_dimension), ModelError, ["[-64, 32]", "'w'"]),
    "nameless_weight": (_broken(_nameless_weight), ModelError, ["no name"]),
    "unknown_rank": (
        _broken(_unknown_rank),
        UnsupportedModel,
        ["input 'x' has no rank", "export the model with input shapes"],
    ),
    "sequence_input": (
        _broken(_sequence_input),
        UnsupportedModel,
        ["input 'many'", "sequence", "expected: tensors"],
    ),
    "sequence_output": (
        _broken(_sequence_output),
        UnsupportedModel,
        ["output 'many' is a sequence_type", "expected: tensors"],
    ),
    "sparse_weight": (_broken(_sparse_weight), UnsupportedModel, ["sparse initialisers"]),
    "recursive_function": (_broken(_recursive_function), ModelError, ["Again"]),
    "strings": (
        models.unary("Identity", kind=TensorProto.STRING),
        UnsupportedModel,
        ["tensors of type string", "input 'x'"],
    ),
    "no_element_type": (
        _broken(lambda proto: proto.graph.input[0].type.tensor_type.ClearField("elem_type")),
        ModelError,
        ["not valid ONNX", "elem_type"],
    ),
}


@pytest.mark.parametrize("case", BAD_GRAPHS)
def test_refuses_the_graph(case, model_file, nothing_left):
    proto, kind, says = BAD_GRAPHS[case]
    refused(kind, "compile", model_file(proto), "-q", says=says)


def test_lists_all_unsupported_operators_with_their_nodes(model_file, nothing_left):
    text = refused(
        UnsupportedModel,
        "compile",
        model_file(models.unsupported()),
        says=[
            "3 operators cannot be compiled",
            "my.domain.Add (1): foreign_add",
            "my.domain.Fancy (2): fancy_1",
            "fancy_2",
            f"{models.UNCONVERTED} (1): counts",
        ],
    )
    assert "docs/operators.md" in text


def test_an_add_of_a_foreign_domain_is_no_add(model_file, nothing_left):
    proto = models.binary("Add")
    proto.graph.node[0].domain = "my.domain"
    proto.opset_import.append(helper.make_opsetid("my.domain", 1))
    refused(
        UnsupportedModel,
        "compile",
        model_file(proto),
        says=["1 operator cannot", "my.domain.Add (1): the_add"],
    )


def test_a_converter_that_gives_up_names_the_node(model_file, nothing_left):
    proto = models.model(
        [helper.make_node("Tile", ["x", "s"], ["y"], name="to_what")],
        [models.value("x", (2, 3)), models.value("s", ("rank",), models.INT64)],
        [models.value("y", (None, None))],
    )
    refused(UnsupportedModel, "compile", model_file(proto), says=["to_what (Tile)", "s: "])
