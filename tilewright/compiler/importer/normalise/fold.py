"""Compute at compile time what does not depend on the inputs.

Before   s = Shape(x: [1, 197, 192]);  y = Reshape(x, Concat(Gather(s, 0), [-1]))
After    y = Reshape(x, [1, -1])

Each round infers shapes with onnx, then evaluates nodes whose inputs are constants; a shape
that becomes constant lets the next round infer more. Values come from onnx's own reference
evaluator. What would grow is left alone: a weight written as Expand of one number must not
become a gigabyte in the library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tilewright.compiler.importer.graph import RANDOM, all_graphs, attribute, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import ModelError

Shape = tuple[int | str | None, ...]

MAX_ROUNDS = 32
MAX_GROWTH_BYTES = 1 << 20

# Different at every run, or kept for what a converter does with them.
NEVER_FOLDED = RANDOM | {"Dropout", "DequantizeLinear"}


# The evaluator's own loops over windows are in Python: minutes for a large one.
_WINDOWS = (
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "QLinearConv",
    "AveragePool",
    "MaxPool",
    "LpPool",
)
_MOST_WINDOW_TERMS = 1 << 24


def fold_constants(model: OnnxModel) -> None:
    """Fold until nothing changes. Raises ModelError when the shapes contradict each other."""
    _check_shapes(model)
    # Many small steps must not add up: a constant doubled thirty times is a gigabyte.
    most = max(MAX_GROWTH_BYTES, 2 * sum(a.nbytes for a in model.constants().values()))
    for _ in range(MAX_ROUNDS):
        shapes = infer_shapes(model)
        if not _fold_once(model, shapes, most):
            break


def _check_shapes(model: OnnxModel) -> None:
    """Strict inference, without value propagation: that refuses valid dynamic models.

    (onnx takes the 1-d result of Unsqueeze on a scalar constant for 2-d there.)
    """
    try:
        onnx.shape_inference.infer_shapes(model.with_weight_types(), strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        first = re.split(r" (?=\(op_type:)", " ".join(str(error).split()))
        raise ModelError(
            f"shapes or types do not fit: {first[min(1, len(first) - 1)]}",
            where=str(model.path),
            hint="check --shape and --dim, or export the model again",
        ) from error


def infer_shapes(model: OnnxModel, sizes: Mapping[str, int] | None = None) -> dict[str, Shape]:
    """Shape of every tensor whose rank is known; a dimension is a size, a name, or None.

    With `sizes` the open dimensions of the inputs have those: sizes that are computed on the way
    are then known too.
    """
    shown = _with_sizes(model, sizes)
    plain = onnx.shape_inference.infer_shapes(shown)
    shapes = _shapes_of(plain.graph)
    if not _makes_long_vectors(shown.graph, shapes):
        shapes = _shapes_of(onnx.shape_inference.infer_shapes(shown, data_prop=True).graph)
    return {**shapes, **{name: array.shape for name, array in model.constants().items()}}


def inner_shapes(model: OnnxModel, sizes: Mapping[str, int]) -> dict[str, Shape]:
    """Shapes of what branches and loop bodies make; of those of one name, those of the last."""
    if not any(map(subgraphs, model.graph.node)):
        return {}
    inferred = onnx.shape_inference.infer_shapes(_with_sizes(model, sizes)).graph
    _, *inner = all_graphs(inferred)
    return {name: shape for graph in inner for name, shape in _shapes_of(graph).items()}


def _with_sizes(model: OnnxModel, sizes: Mapping[str, int] | None) -> onnx.ModelProto:
    shown = model.with_weight_types()
    del shown.graph.value_info[:]
    for value in shown.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if sizes and dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    return shown


def _shapes_of(graph: onnx.GraphProto) -> dict[str, Shape]:
    return {
        value.name: tuple(_dimension(dim) for dim in value.type.tensor_type.shape.dim)
        for value in [*graph.input, *graph.value_info, *graph.output]
        if value.type.tensor_type.HasField("shape")
    }


# The longest vector that onnx may take for a shape. It notes something for each element, so that a
# few Concats of a long one with itself, even of floats, fill all memory.
_LONGEST_SHAPE = 1 << 20
_MAKE_VECTORS = ("Concat", "Range")


def _makes_long_vectors(graph: onnx.GraphProto, shapes: Mapping[str, Shape]) -> bool:
    makers = [node for node in graph.node if node.op_type in _MAKE_VECTORS]
    made = [shapes.get(name) for node in makers for name in node.output]
    sizes = [shape[0] for shape in made if shape and len(shape) == 1]
    return any(isinstance(size, int) and size > _LONGEST_SHAPE for size in sizes)


def infer_dtypes(model: OnnxModel) -> dict[str, np.dtype]:
    """Data type of every tensor where it is known."""
    graph = onnx.shape_inference.infer_shapes(model.with_weight_types()).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in [*graph.input, *graph.value_info, *graph.output]
    }
    dtypes = {name: helper.tensor_dtype_to_np_dtype(kind) for name, kind in kinds.items() if kind}
    return {**dtypes, **{name: array.dtype for name, array in model.constants().items()}}


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value
    return dim.dim_param or None


def _fold_once(model: OnnxModel, shapes: dict[str, Shape], most: int) -> bool:
    graph = model.graph
    constants = model.constants()
    outputs = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        values = None
        if not outputs.intersection(node.output):
            values = _evaluate(model, node, constants, shapes, most)
        if values is None:
            kept.append(node)
        if any(value.dtype.kind == "f" for value in (values or {}).values()):
            model.folded.append(node)
            read = {name: constants[name] for name in node.input if name in constants}
            model.folded_shapes |= {name: a.shape for name, a in {**read, **values}.items()}
        for name, value in (values or {}).items():
            constants[name] = value
            model.add_constant(name, value)
    changed = len(kept) < len(graph.node)
    del graph.node[:]
    graph.node.extend(kept)
    return changed


def _evaluate(
    model: OnnxModel,
    node: onnx.NodeProto,
    constants: dict[str, np.ndarray],
    shapes: dict[str, Shape],
    most: int,
) -> dict[str, np.ndarray] | None:
    if node.domain not in ("", "ai.onnx") or node.op_type in NEVER_FOLDED or subgraphs(node):
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_of(node, shapes)
    names = [name for name in node.input if name]
    if not all(name in constants for name in names):
        return None
    if node.op_type != "Constant" and not _stays_small(node, constants, shapes, most):
        return None
    feeds = {name: constants[name] for name in names}
    if node.op_type in _WINDOWS and math.prod(a.size for a in feeds.values()) > _MOST_WINDOW_TERMS:
        return None
    try:
        values = _reference(model, node).run(None, feeds)
    except Exception:
        # The evaluator does not know every operator; the node is then computed at run time.
        return None
    if not all(isinstance(value, np.ndarray | np.generic) for value in values):
        return None
    return {name: np.asarray(v) for name, v in zip(node.output, values, strict=False) if name}


def _shape_of(node: onnx.NodeProto, shapes: dict[str, Shape]) -> dict[str, np.ndarray] | None:
    shape = shapes.get(node.input[0])
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    if node.op_type == "Size":
        return {node.output[0]: np.asarray(int(np.prod(shape)), np.int64)}
    start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
    return {node.output[0]: np.asarray(shape[start:end], np.int64)}


def _stays_small(
    node: onnx.NodeProto,
    constants: dict[str, np.ndarray],
    shapes: dict[str, Shape],
    most: int,
) -> bool:
    """Whether the results are known to be no larger than what they are computed from.

    `most` bounds them, in bytes, however large that is.
    """
    before = sum(constants[name].nbytes for name in node.input if name)
    after = 0
    for name in filter(None, node.output):
        shape = shapes.get(name)
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return False
        after += 8 * int(np.prod(shape, dtype=np.float64))
    return after <= min(most, max(2 * before, MAX_GROWTH_BYTES))


def _reference(model: OnnxModel, node: onnx.NodeProto) -> ReferenceEvaluator:
    unknown = onnx.TypeProto()
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_value_info(name, unknown) for name in dict.fromkeys(node.input) if name],
        [helper.make_value_info(name, unknown) for name in node.output if name],
    )
    opset = helper.make_opsetid("", model.opset())
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[opset]))
