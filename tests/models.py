"""Small ONNX models, built in memory: one function each, weights seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Shape = Sequence[int | str | None]

# An operator of ONNX's without a converter, and its attributes for three results a row.
UNCONVERTED = "TfIdfVectorizer"
COUNTS = {
    "mode": "TF",
    "min_gram_length": 1,
    "max_gram_length": 1,
    "max_skip_count": 0,
    "ngram_counts": [0],
    "ngram_indexes": [0, 1, 2],
    "pool_int64s": [5, 6, 7],
}


def value(name: str, shape: Shape | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weight(name: str, shape: Sequence[int], seed: int = 0, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng([seed, sum(name.encode())])
    return (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(dtype)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    ir_version: int = 9,
    name: str = "small",
    opsets: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, key) for key, array in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), name, list(inputs), list(outputs), tensors)
    imports = [helper.make_opsetid("", opset), *opsets]
    made = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
    if all(output.type.tensor_type.HasField("shape") for output in outputs):
        return made
    inferred = onnx.shape_inference.infer_shapes(made).graph.output
    del made.graph.output[:]
    made.graph.output.extend(inferred)
    return made


def unary(
    op: str = "Relu", shape: Shape = (2, 3), kind: int = FLOAT, out: int | None = None, **attrs
) -> onnx.ModelProto:
    """y = op(x)"""
    node = helper.make_node(op, ["x"], ["y"], name=f"the_{op.lower()}", **attrs)
    return model([node], [value("x", shape, kind)], [value("y", None, out or kind)])


def binary(
    op: str = "Add", shape: Shape = (2, 3), kind: int = FLOAT, out: int | None = None
) -> onnx.ModelProto:
    """y = op(a, b)"""
    node = helper.make_node(op, ["a", "b"], ["y"], name=f"the_{op.lower()}")
    return model(
        [node], [value("a", shape, kind), value("b", shape, kind)], [value("y", None, out or kind)]
    )


def linear(batch: int | str = 2, inner: int = 64, columns: int = 32) -> onnx.ModelProto:
    """y = relu(x @ w + b), with a weight large enough to leave the graph"""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="product"),
        helper.make_node("Add", ["xw", "b"], ["sum"], name="bias"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    weights = {"w": weight("w", (inner, columns)), "b": weight("b", (columns,))}
    return model(nodes, [value("x", (batch, inner))], [value("y", (batch, columns))], weights)


def conv_net(size: int = 8, channels: int = 8) -> onnx.ModelProto:
    """Two convolutions with batch normalisation and a skip, a pool, a classifier, a softmax"""
    weights, nodes = {}, []
    x, inputs = "x", 3
    for i in range(2):
        weights[f"w{i}"] = weight(f"w{i}", (channels, inputs, 3, 3), seed=i)
        rng = np.random.default_rng(i)
        for part in ("gamma", "beta", "mean", "var"):
            weights[f"{part}{i}"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)
        nodes += [
            helper.make_node("Conv", [x, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]),
            helper.make_node(
                "BatchNormalization",
                [f"c{i}", f"gamma{i}", f"beta{i}", f"mean{i}", f"var{i}"],
                [f"n{i}"],
                name=f"norm{i}",
            ),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"], name=f"relu{i}"),
        ]
        x, inputs = f"r{i}", channels
    weights["v"], weights["d"] = weight("v", (5, channels)), weight("d", (5,))
    nodes += [
        helper.make_node("Add", ["r0", "r1"], ["skip"], name="skip"),
        helper.make_node("GlobalAveragePool", ["skip"], ["pool"], name="pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "v", "d"], ["logits"], name="classifier", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], name="softmax"),
    ]
    return model(nodes, [value("x", (1, 3, size, size))], [value("y", (1, 5))], weights)


def mlp_block(rows: int | str = 6, width: int = 32) -> onnx.ModelProto:
    """x + (gelu(norm(x) @ w1 + b1) @ w2): the second half of a transformer layer"""
    weights = {
        "scale": weight("scale", (width,)) + 1,
        "shift": weight("shift", (width,)),
        "w1": weight("w1", (width, 4 * width)),
        "b1": weight("b1", (4 * width,)),
        "w2": weight("w2", (4 * width, width)),
        "half": np.float32(0.5),
        "one": np.float32(1.0),
        "root": np.float32(np.sqrt(0.5)),
    }
    make = helper.make_node
    nodes = [
        make("LayerNormalization", ["x", "scale", "shift"], ["n"], name="norm", axis=-1),
        make("MatMul", ["n", "w1"], ["m"], name="up"),
        make("Add", ["m", "b1"], ["h"], name="up_bias"),
        make("Mul", ["h", "root"], ["h_root"], name="gelu_scale"),
        make("Erf", ["h_root"], ["erf"], name="gelu_erf"),
        make("Add", ["erf", "one"], ["erf_one"], name="gelu_one"),
        make("Mul", ["h", "erf_one"], ["twice"], name="gelu_product"),
        make("Mul", ["twice", "half"], ["g"], name="gelu_half"),
        make("MatMul", ["g", "w2"], ["down"], name="down"),
        make("Add", ["x", "down"], ["y"], name="residual"),
    ]
    return model(nodes, [value("x", (1, rows, width))], [value("y", (1, rows, width))], weights)


def returns_input_and_weight() -> onnx.ModelProto:
    """Outputs: the input unchanged, a weight unchanged, and something computed"""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"], name="same"),
        helper.make_node("Identity", ["w"], ["weight"], name="weight"),
        helper.make_node("Add", ["x", "w"], ["sum"], name="sum"),
    ]
    shape = (64, 32)
    return model(
        nodes,
        [value("x", shape)],
        [value("same", shape), value("weight", shape), value("sum", shape)],
        {"w": weight("w", shape)},
    )


def unconverted(x: str, y: str, name: str = "") -> onnx.NodeProto:
    """An operator without a converter: from int64 [n, m] to float32 [n, 3]"""
    return helper.make_node(UNCONVERTED, [x], [y], name=name, **COUNTS)


def unsupported() -> onnx.ModelProto:
    """Three operators without a converter, two of them in a domain of their own"""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["a"], name="foreign_add", domain="my.domain"),
        helper.make_node("Fancy", ["a"], ["b"], name="fancy_1", domain="my.domain"),
        helper.make_node("Fancy", ["b"], ["c"], name="fancy_2", domain="my.domain"),
        unconverted("c", "y", name="counts"),
    ]
    opsets = [helper.make_opsetid("my.domain", 1)]
    return model(nodes, [value("x", (3, 3))], [value("y", (3, 3))], opsets=opsets)
