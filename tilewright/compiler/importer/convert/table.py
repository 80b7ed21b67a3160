"""Which operator is converted by whom: our own converters first, then TVM's.

TVM's importer looks operators up by name alone, so that `my.domain::Add` would become Add;
here a name counts only in its own domain.
"""

from __future__ import annotations

import functools
from collections import defaultdict

import onnx
from tvm.relax.frontend.onnx import onnx_frontend

from tilewright.compiler.importer.convert import (
    activation,
    drawing,
    einsum,
    elementwise,
    indexing,
    matrices,
    non_max_suppression,
    normalisation,
    padding,
    recurrent,
    reduction,
    reshaping,
    resizing,
    same_padding,
    sampling,
    scanning,
    selection,
    signal,
    small,
    top_k,
    unique,
)
from tilewright.compiler.importer.convert.sizes import Converter, where_computed
from tilewright.compiler.importer.graph import all_nodes, domain_of, label, qualified, subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import UnsupportedModel

_OURS: dict[tuple[str, str], Converter] = {
    ("", "AffineGrid"): sampling.affine_grid,
    ("", "AveragePool"): same_padding.same_padded("AveragePool"),
    ("", "Celu"): activation.celu,
    ("", "Clip"): elementwise.clip,
    ("", "Col2Im"): sampling.col2im,
    ("", "Compress"): selection.compress,
    ("", "Constant"): reshaping.constant,
    ("", "ConstantOfShape"): where_computed("ConstantOfShape", (0,), reshaping.constant_of_shape),
    ("", "Conv"): same_padding.same_padded("Conv"),
    ("", "CumProd"): scanning.cum_prod,
    ("", "CumSum"): scanning.cum_sum,
    ("", "DFT"): signal.dft,
    ("", "DeformConv"): sampling.deform_conv,
    ("", "Det"): matrices.det,
    ("", "Einsum"): einsum.einsum,
    ("", "EyeLike"): indexing.eye_like,
    ("", "Elu"): activation.elu,
    ("", "Expand"): reshaping.expand,
    ("", "Gather"): indexing.gather,
    ("", "HardSigmoid"): elementwise.hard_sigmoid,
    ("", "InstanceNormalization"): normalisation.instance_normalization,
    ("", "IsInf"): elementwise.is_inf,
    ("", "LayerNormalization"): normalisation.layer_normalization,
    ("", "LpNormalization"): normalisation.lp_normalization,
    ("", "LpPool"): same_padding.same_padded("LpPool"),
    ("", "Max"): elementwise.extreme("Max"),
    ("", "Min"): elementwise.extreme("Min"),
    ("", "MaxPool"): same_padding.same_padded("MaxPool"),
    ("", "MelWeightMatrix"): signal.mel_weight_matrix,
    ("", "NonMaxSuppression"): non_max_suppression.non_max_suppression,
    ("", "NonZero"): selection.nonzero,
    ("", "OneHot"): indexing.one_hot,
    ("", "OptionalHasElement"): reshaping.optional_has_element,
    ("", "PRelu"): activation.prelu,
    ("", "Pad"): where_computed("Pad", (1, 2, 3), padding.pad),
    ("", "Pow"): elementwise.power,
    ("", "Range"): indexing.range_,
    ("", "Reshape"): reshaping.reshape,
    ("", "Resize"): resizing.resize,
    ("", "ReverseSequence"): indexing.reverse_sequence,
    ("", "Squeeze"): reshaping.squeeze,
    ("", "STFT"): signal.stft,
    ("", "Selu"): activation.selu,
    ("", "Slice"): indexing.slice_,
    ("", "Split"): indexing.split,
    ("", "Swish"): activation.swish,
    ("", "TensorScatter"): indexing.tensor_scatter,
    ("", "TopK"): top_k.top_k,
    ("", "Unique"): unique.unique,
    ("", "Unsqueeze"): where_computed("Unsqueeze", (1,), reshaping.unsqueeze),
    ("", "Upsample"): resizing.upsample,
    **{("", name): reduction.reduce(name) for name in reduction.OPERATORS},
    **drawing.CONVERTERS,
    ("com.microsoft", "Gelu"): activation.gelu,
    ("com.microsoft", "QuickGelu"): activation.quick_gelu,
}


def converters(lanes: int) -> dict[tuple[str, str], Converter]:
    """Our own, by domain and operator; `lanes` float32 numbers are a vector of the target."""
    cells = {("", c): functools.partial(recurrent.convert, c, lanes) for c in recurrent.CELLS}
    return {**_OURS, **cells}


# What the importer converts itself: graphs lie inside, whose nodes see what is around them.
WITH_GRAPHS = ("If", "Loop", "Scan")
OURS = frozenset(converters(lanes=1)) | {("", name) for name in (*small.CONVERTERS, *WITH_GRAPHS)}

# TVM's converters for ONNX Runtime's own operators.
_TVM_CONTRIB = ("BiasGelu", "EmbedLayerNormalization", "FastGelu", "SkipLayerNormalization")
# In TVM's map under this name stands the converter of com.microsoft::Attention; both operators of
# this name are gone by now (`normalise.decompose_attention`).
_TVM_MISNAMED = ("Attention",)


def is_supported(node: onnx.NodeProto) -> bool:
    """Whether there is a converter for the node's operator (not: for all its attributes)."""
    key = (domain_of(node), node.op_type)
    if key in OURS:
        return True
    if key[0] == "com.microsoft":
        return node.op_type in _TVM_CONTRIB
    if key[0] != "" or node.op_type in (*_TVM_CONTRIB, *_TVM_MISNAMED):
        return False
    return node.op_type in onnx_frontend._get_convert_map()


def is_convertible(node: onnx.NodeProto) -> bool:
    """Whether the node and all nodes of its graphs are supported."""
    inside = (child for graph in subgraphs(node) for child in all_nodes(graph))
    return is_supported(node) and all(map(is_supported, inside))


def unsupported(model: OnnxModel) -> dict[tuple[str, str], list[onnx.NodeProto]]:
    """The nodes without a converter, by domain and operator; those of branches included."""
    missing: dict[tuple[str, str], list[onnx.NodeProto]] = defaultdict(list)
    for node in all_nodes(model.graph):
        if not is_supported(node):
            missing[domain_of(node), node.op_type].append(node)
    return missing


def check_supported(model: OnnxModel) -> None:
    """Raise one UnsupportedModel that lists every operator without a converter, with its nodes."""
    if missing := unsupported(model):
        names = {key: [label(node) for node in nodes] for key, nodes in sorted(missing.items())}
        rows = [
            f"{qualified(*key)} ({len(nodes)}): {', '.join(nodes[:3])}{', ...' * (len(nodes) > 3)}"
            for key, nodes in names.items()
        ]
        count = len(missing)
        raise UnsupportedModel(
            f"{count} operator{'s' if count > 1 else ''} cannot be compiled yet",
            where="\n    ".join(["nodes", *rows]),
            expected="operators listed in docs/operators.md",
            hint="export the model without these operators, or report it",
        )
