"""The smallest part of a graph that fails in the same way: fewer outputs, nodes, inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import onnx
from onnx.utils import Extractor

Fails = Callable[[onnx.ModelProto], bool]


def reduced(model: onnx.ModelProto, fails: Fails, seconds: float) -> onnx.ModelProto:
    """A part of `model` for which `fails` holds; `model` itself where no part does."""
    deadline = time.monotonic() + seconds
    smaller = True
    while smaller and time.monotonic() < deadline:
        smaller = False
        for part in _parts(model):
            if time.monotonic() > deadline:
                break
            if len(part.graph.node) < len(model.graph.node) and fails(part):
                model, smaller = part, True
                break
    return model


def _parts(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """One value of the graph as the only output; then values as inputs in the place of nodes."""
    known = onnx.shape_inference.infer_shapes(model, data_prop=True)
    made = [name for node in known.graph.node for name in node.output if name]
    inputs = [value.name for value in known.graph.input]
    outputs = [value.name for value in known.graph.output]
    typed = {value.name for value in (*known.graph.value_info, *known.graph.output)}
    for name in made:
        yield from _part(known, inputs, [name], typed)
    for name in reversed(made[:-1]):
        if name not in outputs:
            yield from _part(known, [*inputs, name], outputs, typed)


def _part(
    model: onnx.ModelProto, inputs: list[str], outputs: list[str], typed: set[str]
) -> Iterator[onnx.ModelProto]:
    if not {*outputs, *inputs[-1:]} <= {*typed, *(v.name for v in model.graph.input)}:
        return
    part = Extractor(model).extract_model(inputs, outputs)
    taken = {name for node in part.graph.node for name in node.input}
    kept = [value for value in part.graph.input if value.name in taken]
    del part.graph.input[:]
    part.graph.input.extend(kept)
    del part.graph.value_info[:]
    yield part
