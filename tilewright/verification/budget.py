"""How far a right answer may be from ONNX Runtime's, derived from the model and not chosen.

A dot product of length K, summed in another order, differs by about sqrt(K) rounding errors
relative to the size of its terms, and errors of consecutive operators add in quadrature
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., sections 2.8 and 3.1;
Higham and Mary 2019 for the sqrt). So an output may be off, relative to its largest value, by

    SAFETY * u * sqrt(sum of K over the longest path to it)

with u the unit roundoff of the coarsest float type on the path and K = 1 for an elementwise
operator. Winograd convolutions (-O3) err two to three times as much as the direct loop nest, which
SAFETY covers (targets/rules/winograd_matrices.py says why it is not more). Integers and booleans
must be equal, NaN and infinities in the same places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx

from tilewright.compiler.importer.graph import attribute, reads, subgraphs
from tilewright.compiler.importer.input_values import MOST_STEPS_DRAWN
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape, infer_shapes, inner_shapes

# Both sides err, cancellation makes some outputs worse than the model's average, and an
# elementwise function has a few ULP of its own. Measured on the development models the
# share used is 2% to 30% (benchmarks/results).
SAFETY = 8.0

_REARRANGES = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice")
_WHOLE_AXES = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
# Operators that read between the elements of a row, with the mode that they have by default.
_PLACES = {
    "Resize": b"nearest",
    "Upsample": b"nearest",
    "GridSample": b"linear",
    "RoiAlign": b"avg",
}
_LAST_AXES = ("LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax")


@dataclass(frozen=True)
class Budget:
    """Allowed error, relative to the larger of `floor` and the output's largest |value|."""

    relative: float
    floor: float = 0.0


def output_budgets(model: OnnxModel, dims: dict[str, int]) -> dict[str, Budget]:
    """The budget of each output, for open dimensions of sizes `dims`."""
    relative = tensor_budgets(model, dims)
    least = SAFETY * coarsest_unit(model)
    return {
        value.name: Budget(
            relative=relative.get(value.name, least), floor=_floor(model.graph, value.name)
        )
        for value in model.graph.output
    }


def tensor_budgets(model: OnnxModel, dims: dict[str, int]) -> dict[str, float]:
    """The allowed error of every tensor that a node makes, relative to its largest |value|."""
    known = {**inner_shapes(model, dims), **model.folded_shapes, **infer_shapes(model, dims)}
    shapes = {name: _sized(shape, dims) for name, shape in known.items()}
    paths: dict[str, float] = {}
    # The reference computes constants in an order of its own, too.
    _measure((*model.folded, *model.graph.node), paths, shapes, model.terms)
    unit = coarsest_unit(model)
    return {name: SAFETY * unit * math.sqrt(max(1.0, path)) for name, path in paths.items()}


def _measure(
    nodes: Iterable[onnx.NodeProto],
    paths: dict[str, float],
    shapes: dict[str, list[int]],
    terms: Mapping[str, int],
) -> None:
    """Note in `paths` the sum of K over the longest path to each result of `nodes`.

    What a branch computes counts for all results of its If: any of them may be taken.
    """
    for node in nodes:
        total = max((paths.get(name, 0.0) for name in reads(node)), default=0.0)
        if node.op_type == "If":
            for graph in subgraphs(node):
                # Values of different branches may have one name.
                seen = dict(paths)
                _measure(graph.node, seen, shapes, terms)
                total = max([total, *(seen.get(value.name, 0.0) for value in graph.output)])
        else:
            total += terms.get(node.output[0]) or reduction_length(node, shapes)
        paths.update(dict.fromkeys(node.output, total))


def _floor(graph: onnx.GraphProto, output: str) -> float:
    """1 for the result of a Sigmoid, else 0.

    ONNX Runtime computes it as 0.5 + x * P(x) / Q(x): its error is a rounding error of 0.5
    however small the result is (MLAS, logistic.cpp).
    """
    for node in reversed(graph.node):
        if output in node.output:
            if node.op_type in _REARRANGES and node.input:
                output = node.input[0]
                continue
            place = list(node.output).index(output)
            inner = subgraphs(node) if node.op_type == "If" else []
            floors = [_floor(branch, branch.output[place].name) for branch in inner]
            return max(floors, default=1.0 if node.op_type == "Sigmoid" else 0.0)
    return 0.0


def reduction_length(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """K: how many terms the operator sums for one element of its result."""
    if node.op_type in ("Loop", "Scan"):
        return _loop_length(node, shapes)
    x = shapes.get(node.input[0], []) if node.input else []
    if node.op_type in ("Conv", "ConvTranspose"):
        weights = shapes.get(node.input[1], [])
        kernel = math.prod(weights[1:]) if node.op_type == "Conv" else math.prod(weights[2:])
        return kernel * (weights[0] if node.op_type == "ConvTranspose" and weights else 1)
    if node.op_type == "MatMul" and x:
        return x[-1]
    if node.op_type == "Gemm" and x:
        return x[0] if attribute(node, "transA", 0) else x[-1]
    if node.op_type in ("LSTM", "GRU", "RNN") and len(x) == 3:
        return x[0] * (x[2] + int(attribute(node, "hidden_size", 1)))
    if node.op_type in _WHOLE_AXES or node.op_type == "InstanceNormalization":
        return math.prod(x[2:])
    if node.op_type in _LAST_AXES and x:
        return math.prod(x[int(attribute(node, "axis", -1)) :])
    if node.op_type.startswith("Reduce") and x:
        result = shapes.get(node.output[0], [])
        return max(1, math.prod(x) // max(1, math.prod(result)))
    if node.op_type in ("Sum", "Mean"):
        return len(node.input)
    if node.op_type in ("AveragePool", "LpPool"):
        return math.prod(attribute(node, "kernel_shape", [1]))
    if node.op_type in _PLACES and attribute(node, "mode", _PLACES[node.op_type]) != b"nearest":
        # A place in a row of n numbers is off by n roundings, and the result by as many times the
        # step between neighbours: as much as a sum of n squared terms.
        return max(x[1:], default=1) ** 2
    if node.op_type == "STFT":
        return 2 * max(shapes.get(node.output[0], [])[2:], default=1)
    if node.op_type in ("CumSum", "DFT", "Einsum", "Attention", "MultiHeadAttention") and x:
        return max(x)
    return 1


def _loop_length(node: onnx.NodeProto, shapes: dict[str, list[int]]) -> int:
    """K of all steps of a loop, one after the other."""
    (body,) = subgraphs(node)
    dims = {value.name: value.type.tensor_type.shape.dim for value in body.input}
    inside = {name: [dim.dim_value or 1 for dim in sizes] for name, sizes in dims.items()}
    terms = sum(reduction_length(child, {**shapes, **inside}) for child in body.node)
    # How often a Loop runs is drawn, and a Scan runs along one of these axes.
    scanned = [size for name in node.input for size in shapes.get(name, [])]
    return terms * (max(scanned, default=1) if node.op_type == "Scan" else MOST_STEPS_DRAWN)


def _sized(shape: Shape, dims: dict[str, int]) -> list[int]:
    return [dims.get(size, 1) if isinstance(size, str) else (size or 1) for size in shape]


def coarsest_unit(model: OnnxModel) -> float:
    """The largest unit roundoff among the float types the model computes in."""
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    kinds |= {tensor.data_type for tensor in model.graph.initializer}
    kinds |= {int(attribute(n, "to", 0)) for n in model.graph.node if n.op_type == "Cast"}
    dtypes = [onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in kinds if kind]
    dtypes += [array.dtype for array in model.weights.values()]
    # A model of integers alone may still make floats, say with ConstantOfShape.
    return max((unit_roundoff(dtype) for dtype in dtypes), default=0) or unit_roundoff(np.float32)


def unit_roundoff(dtype: np.dtype) -> float:
    """Half the distance from 1 to the next number of a float type; 0 for other types."""
    try:
        return float(ml_dtypes.finfo(dtype).eps) / 2
    except (ValueError, TypeError):
        return 0.0
