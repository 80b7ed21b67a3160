"""What an ONNX node costs: floating-point operations, and the bytes it must move.

A node reads each of its inputs once, weights included, and writes its outputs once. A multiply-add
of a product, a convolution, an attention or a recurrent cell counts two; anything else counts one
per element of its first input or of its result, whichever has more. Plumbing (views, casts of
shapes) counts nothing: it moves no data when compiled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from tilewright.compiler.importer.graph import attribute, reads, text
from tilewright.compiler.importer.normalise.fold import Shape
from tilewright.verification.budget import reduction_length

PLUMBING = frozenset(
    {
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Identity",
        "Shape",
        "Size",
        "Constant",
        "ConstantOfShape",
        "Range",
        "Cast",
        "CastLike",
        "Transpose",
        "Expand",
        "Dropout",
    }
)
_RECURRENT = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Cost:
    """Operations and bytes of a node, a group or a model."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def intensity(self) -> float:
        """Operations per byte; 0 when nothing is moved."""
        return self.flops / self.bytes if self.bytes else 0.0


def node_cost(
    node: onnx.NodeProto,
    shapes: dict[str, Shape],
    dtypes: dict[str, np.dtype],
    dims: dict[str, int],
) -> Cost:
    """The cost of `node`, with open dimensions of sizes `dims`."""
    if node.op_type in PLUMBING:
        return Cost()
    sized = {name: sizes_of(shapes.get(name), dims) for name in [*reads(node), *node.output]}
    moved = sum(math.prod(s) * _itemsize(dtypes, name) for name, s in sized.items() if name)
    elements = sum(math.prod(sized[name]) for name in node.output if name)
    if (products := _multiply_adds(node, sized, elements)) is not None:
        return Cost(2.0 * products, moved)
    # A reduction or a pool looks at each element it reads, anything else at each it writes.
    given = math.prod(sized.get(node.input[0], ())) if node.input else 0
    return Cost(float(max(elements, given)), moved)


def _multiply_adds(
    node: onnx.NodeProto, sized: Mapping[str, list[int]], elements: int
) -> int | None:
    """Of a node that sums products, whose results have so many elements; None of any other."""
    given = [sized.get(name, []) for name in node.input]
    if node.op_type in ("Conv", "MatMul", "Gemm"):
        return reduction_length(node, sized) * elements
    if node.op_type == "ConvTranspose":
        return math.prod(given[0]) * math.prod(given[1][1:])
    if node.op_type in _RECURRENT:
        # Each step multiplies with the weights of all directions: those of inputs, and of states.
        return math.prod(given[0][:2]) * (math.prod(given[1]) + math.prod(given[2]))
    if node.op_type == "Attention" and len(given[1]) > 1:
        return given[1][-2] * (math.prod(given[0]) + math.prod(sized.get(node.output[0], [])))
    if node.op_type == "Einsum" and len(given) > 1:
        return _einsum(text(attribute(node, "equation")), given, elements)
    return None


def _einsum(equation: str, given: list[list[int]], elements: int) -> int:
    """One per value of all indices; what an ellipsis stands for is among the result's elements."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    plain = [(t, shape) for t, shape in zip(terms, given, strict=False) if len(t) == len(shape)]
    sizes = {index: size for t, shape in plain for index, size in zip(t, shape, strict=True)}
    kept = equation.partition("->")[2]
    if "." in equation:
        return elements * math.prod(n for i, n in sizes.items() if i not in kept)
    return math.prod(sizes.values())


def sizes_of(shape: Shape | None, dims: dict[str, int]) -> list[int]:
    """Sizes as numbers: open dimensions as `dims` has them, unknown ones as 1."""
    return [dims.get(d, 1) if isinstance(d, str) else (1 if d is None else d) for d in shape or ()]


def _itemsize(dtypes: dict[str, np.dtype], name: str) -> int:
    return dtypes.get(name, np.dtype(np.float32)).itemsize


def is_operator(node: onnx.NodeProto) -> bool:
    """Whether the node computes something, as against rearranging names and shapes."""
    return node.op_type not in PLUMBING


def silu_halves(graph: onnx.GraphProto) -> set[str]:
    """Outputs of the Sigmoids that are half of a SiLU: x * Sigmoid(x) is one operator."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    found = set()
    for node in graph.node:
        if node.op_type != "Sigmoid" or node.output[0] in outputs:
            continue
        using = readers.get(node.output[0], [])
        if len(using) == 1 and using[0].op_type == "Mul" and node.input[0] in using[0].input:
            found.add(node.output[0])
    return found
