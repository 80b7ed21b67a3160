"""Replace calls of the model's own functions by their bodies."""

from __future__ import annotations

from collections.abc import Iterable

import onnx.inliner

from tilewright.compiler.importer.graph import subgraphs
from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import ModelError, UnsupportedModel

# A model of this many takes minutes; none that is known has a tenth of them.
MOST_NODES = 100_000


def inline_functions(model: OnnxModel) -> None:
    """Inline every model-local function; a function that calls itself is an error."""
    if not model.proto.functions:
        return
    _check_size(model)
    try:
        model.proto = onnx.inliner.inline_local_functions(model.proto, convert_version=False)
    except Exception as error:
        raise ModelError(
            f"the model's functions cannot be inlined: {' '.join(str(error).split())}",
            where=f"functions {_names(model)}",
            expected="calls with the inputs and outputs that the functions have",
            hint="export the model again, or without functions",
        ) from error


def _check_size(model: OnnxModel) -> None:
    """Count the nodes that inlining would leave: functions that call others twice are many."""
    bodies = {(f.domain, f.name): f for f in model.proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            total += 1 + sum(size(graph.node) for graph in subgraphs(node))
            key = (node.domain, node.op_type)
            if key in bodies:
                if key not in sizes:
                    # Until it is known: one that calls itself is for the inliner to refuse.
                    sizes[key] = 0
                    sizes[key] = size(bodies[key].node)
                total += sizes[key]
        return total

    if (total := size(model.graph.node)) > MOST_NODES:
        raise UnsupportedModel(
            f"{total} nodes are left when the model's functions are inlined",
            where=f"functions {_names(model)}",
            expected=f"at most {MOST_NODES}",
            hint="functions that call each other many times grow fast: export without functions",
        )


def _names(model: OnnxModel) -> str:
    names = [function.name for function in model.proto.functions]
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
