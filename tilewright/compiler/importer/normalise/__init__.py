"""ONNX to simpler ONNX, before TVM sees it. The order is the tuple below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.decompose_attention import decompose_attention
from tilewright.compiler.importer.normalise.expand_functions import expand_functions
from tilewright.compiler.importer.normalise.fold import fold_constants
from tilewright.compiler.importer.normalise.hoist import hoist_constants
from tilewright.compiler.importer.normalise.inline import inline_functions
from tilewright.compiler.importer.normalise.merge_pads import merge_pads
from tilewright.compiler.importer.normalise.prune import prune
from tilewright.compiler.importer.normalise.quantised_operators import float_quantised_operators
from tilewright.compiler.importer.normalise.sequences import resolve_sequences
from tilewright.compiler.importer.normalise.split_wide import split_wide
from tilewright.compiler.importer.normalise.unroll import unroll
from tilewright.compiler.importer.normalise.widen_half import widen_half

STEPS: tuple[tuple[str, Callable[[OnnxModel], None], str], ...] = (
    ("inline_functions", inline_functions, "first: the other steps look at one flat graph"),
    (
        "expand_functions",
        expand_functions,
        "before folding: bodies compute with shapes, and have constants of their own",
    ),
    (
        "float_quantised_operators",
        float_quantised_operators,
        "before folding: what they write computes with constants",
    ),
    ("fold_constants", fold_constants, "shapes turn into the constants converters ask for"),
    ("hoist_constants", hoist_constants, "folds what it moves; before branches are written out"),
    ("unroll", unroll, "after folding, which knows steps and conditions; folds what it writes"),
    ("split_wide", split_wide, "after unroll, which joins the results of all steps"),
    ("resolve_sequences", resolve_sequences, "after unrolling, which writes out what loops gather"),
    ("merge_pads", merge_pads, "after folding, which makes constants of how much is padded"),
    (
        "decompose_attention",
        decompose_attention,
        "after folding, which turns shapes and Constant nodes into constants; folds what it writes",
    ),
    ("widen_half", widen_half, "after whatever writes nodes, and the constants they read"),
    ("prune", prune, "last: what folding left without readers"),
)


@dataclass(frozen=True)
class Normalised:
    """How many nodes went in and came out."""

    nodes_before: int
    nodes_after: int


def normalise(model: OnnxModel) -> Normalised:
    """Run every step on `model`, in place."""
    before = len(model.graph.node)
    for _name, step, _why in STEPS:
        step(model)
    return Normalised(before, len(model.graph.node))
