"""Which operator is converted by whom: our own converters first, then TVM's.

TVM's importer looks operators up by name alone, so that `my.domain::Add` would become Add;
here a name counts only in its own domain.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterator

import onnx
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from tilewright.compiler.importer.convert import (
    activation,
    elementwise,
    indexing,
    normalisation,
    padding,
    recurrent,
    reduction,
    reshaping,
    resizing,
    scanning,
    small,
)
from tilewright.compiler.importer.convert.sizes import Converter, where_computed
from tilewright.compiler.importer.graph import domain_of, label, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import UnsupportedModel

_OURS: dict[tuple[str, str], Converter] = {
    ("", "Celu"): activation.celu,
    ("", "Clip"): elementwise.clip,
    ("", "Constant"): reshaping.constant,
    ("", "ConstantOfShape"): where_computed("ConstantOfShape", (0,), reshaping.constant_of_shape),
    ("", "CumProd"): scanning.cumulative(relax.op.cumprod),
    ("", "CumSum"): scanning.cumulative(relax.op.cumsum),
    ("", "EyeLike"): indexing.eye_like,
    ("", "Dropout"): elementwise.dropout,
    ("", "Expand"): where_computed("Expand", (1,), reshaping.expand),
    ("", "Gather"): indexing.gather,
    ("", "HardSigmoid"): elementwise.hard_sigmoid,
    ("", "IsInf"): elementwise.is_inf,
    ("", "LpNormalization"): normalisation.lp_normalization,
    ("", "Max"): elementwise.extreme("Max"),
    ("", "Min"): elementwise.extreme("Min"),
    ("", "OneHot"): indexing.one_hot,
    ("", "Pad"): where_computed("Pad", (1, 2, 3), padding.pad),
    ("", "Pow"): elementwise.power,
    ("", "Range"): indexing.range_,
    ("", "Reshape"): where_computed("Reshape", (1,), reshaping.reshape),
    ("", "Resize"): where_computed("Resize", (1, 2, 3), resizing.resize),
    ("", "ReverseSequence"): indexing.reverse_sequence,
    ("", "Split"): where_computed("Split", (1,), indexing.split),
    ("", "Swish"): activation.swish,
    ("", "TopK"): indexing.top_k,
    ("", "Unsqueeze"): where_computed("Unsqueeze", (1,), reshaping.unsqueeze),
    **{("", name): reduction.reduce(name) for name in reduction.OPERATORS},
    ("com.microsoft", "Gelu"): activation.gelu,
    ("com.microsoft", "QuickGelu"): activation.quick_gelu,
}


def converters(lanes: int) -> dict[tuple[str, str], Converter]:
    """Our own, by domain and operator; `lanes` float32 numbers are a vector of the target."""
    cells = {("", c): functools.partial(recurrent.convert, c, lanes) for c in recurrent.CELLS}
    return {**_OURS, **cells}


OURS = frozenset(converters(lanes=1)) | {("", name) for name in small.CONVERTERS}

# TVM's converters for ONNX Runtime's own operators.
_TVM_CONTRIB = ("BiasGelu", "EmbedLayerNormalization", "FastGelu", "SkipLayerNormalization")
# In TVM's map under this name stands the converter of com.microsoft::Attention; both operators of
# this name are gone by now (`normalise.decompose_attention`).
_TVM_MISNAMED = ("Attention",)
# TVM lowers these to functions that live in Python: no library could call them.
_NEED_PYTHON = ("NonZero", "Unique")
_HANDLED_BY_IMPORTER = ("Constant", "If")


def is_supported(node: onnx.NodeProto) -> bool:
    """Whether there is a converter for the node's operator (not: for all its attributes)."""
    key = (domain_of(node), node.op_type)
    if key in OURS:
        return True
    if key[0] == "com.microsoft":
        return node.op_type in _TVM_CONTRIB
    if key[0] != "" or node.op_type in (*_TVM_CONTRIB, *_TVM_MISNAMED, *_NEED_PYTHON):
        return False
    return node.op_type in _HANDLED_BY_IMPORTER or node.op_type in onnx_frontend._get_convert_map()


def check_supported(model: OnnxModel) -> None:
    """Raise one UnsupportedModel that lists every operator without a converter, with its nodes."""
    missing: dict[str, list[str]] = defaultdict(list)
    for node in _all_nodes(model.graph):
        if not is_supported(node):
            name = f"{domain_of(node)}.{node.op_type}" if domain_of(node) else node.op_type
            missing[name].append(label(node))
    if missing:
        rows = [
            f"{name} ({len(nodes)}): {', '.join(nodes[:3])}{', ...' if len(nodes) > 3 else ''}"
            for name, nodes in sorted(missing.items())
        ]
        count = len(missing)
        raise UnsupportedModel(
            f"{count} operator{'s' if count > 1 else ''} cannot be compiled yet",
            where="\n    ".join(["nodes", *rows]),
            expected="operators listed in docs/operators.md",
            hint="export the model without these operators, or report it",
        )


def _all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from _all_nodes(inner)
