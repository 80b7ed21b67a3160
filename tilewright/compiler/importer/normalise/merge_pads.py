"""Move zeros that a Pad adds into the padding of the convolution or pool that reads them.

Before   y = Conv(Pad(x, 1 on each side of height and width), w)
After    y = Conv(x, w, pads=[1, 1, 1, 1])

Average pools count these zeros, as they did before. Declines for other values and modes, for
axes that are not spatial, for negative pads, and for a reader that pads by `auto_pad`; also for
a pool that does not count its own padding, rounds its size up, or has no larger window than
the padding. Max pools stay as they are: their padding is minus infinity. A Pad that adds
nothing becomes an Identity.
"""

from __future__ import annotations

import onnx
from onnx import helper

from tilewright.compiler.importer.graph import attribute
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import infer_shapes


def merge_pads(model: OnnxModel) -> None:
    """Merge every Pad that can be, in place; those without readers are left to `prune`."""
    pads = [node for node in model.graph.node if node.op_type == "Pad" and node.domain == ""]
    if not pads:
        return
    shapes = infer_shapes(model)
    zeros: dict[str, tuple[str, list[int]]] = {}
    for node in pads:
        rank = len(shapes.get(node.input[0], ()))
        sizes = _sizes(node, model, rank)
        if sizes is not None and not any(sizes):
            node.CopyFrom(helper.make_node("Identity", node.input[:1], node.output, node.name))
        elif sizes is not None and _adds_zeros(node, model) and min(sizes) >= 0:
            zeros[node.output[0]] = (node.input[0], sizes)
    for node in model.graph.node:
        while node.input and node.input[0] in zeros and node.domain == "":
            source, sizes = zeros[node.input[0]]
            if not _merged(node, sizes):
                break
            node.input[0] = source


def _sizes(node: onnx.NodeProto, model: OnnxModel, rank: int) -> list[int] | None:
    """How much is added at the begin of each axis, then at the end of each; None if unknown."""
    constants = model.constants()
    given = attribute(node, "pads")
    if given is None and len(node.input) > 1:
        given = constants.get(node.input[1])
    if given is None or not rank:
        return None
    axes = list(range(rank))
    if len(node.input) > 3 and node.input[3]:
        if node.input[3] not in constants:
            return None
        axes = [int(axis) % rank for axis in constants[node.input[3]]]
    sizes = [0] * (2 * rank)
    for at, axis in enumerate(axes):
        sizes[axis], sizes[rank + axis] = int(given[at]), int(given[len(axes) + at])
    return sizes


def _adds_zeros(node: onnx.NodeProto, model: OnnxModel) -> bool:
    if attribute(node, "mode", b"constant") != b"constant":
        return False
    if len(node.input) > 2 and node.input[2]:
        value = model.constants().get(node.input[2])
        return value is not None and not value.any()
    return not attribute(node, "value", 0.0)


def _merged(node: onnx.NodeProto, sizes: list[int]) -> bool:
    """Whether `node` does the padding from now on: `sizes` is added to its own."""
    rank = len(sizes) // 2
    if node.op_type not in ("Conv", "AveragePool") or any((*sizes[:2], *sizes[rank : rank + 2])):
        return False
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return False
    added = [*sizes[2:rank], *sizes[rank + 2 :]]
    own = attribute(node, "pads", [0] * len(added))
    total = [a + b for a, b in zip(added, own, strict=True)]
    changed = {"pads": total}
    if node.op_type == "AveragePool":
        counts_zeros = not any(own) or attribute(node, "count_include_pad", 0)
        window = [*attribute(node, "kernel_shape")] * 2
        fits = all(size < most for size, most in zip(total, window, strict=True))
        if not counts_zeros or not fits or attribute(node, "ceil_mode", 0):
            return False
        changed["count_include_pad"] = 1
    kept = [a for a in node.attribute if a.name not in (*changed, "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in changed.items())])
    return True
