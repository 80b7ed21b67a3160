"""Operators on quantised tensors become the same operators on floats between (de)quantisations.

Before   y = QLinearConv(x, xs, xz, w, ws, wz, ys, yz, b)
After    y = QuantizeLinear(Conv(DequantizeLinear(x, xs, xz), DequantizeLinear(w, ws, wz), b'))

The sums of ConvInteger are right as long as they stay far below 2^24.
Source: https://onnx.ai/onnx/operators/onnx__QLinearConv.html
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from tilewright.compiler.importer.graph import domain_of
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape, infer_shapes


def float_quantised_operators(model: OnnxModel) -> None:
    """Replace them in the main graph."""
    rules = [FLOATED.get(n.op_type) if domain_of(n) == "" else None for n in model.graph.node]
    if not any(rules):
        return
    shapes = infer_shapes(model)
    nodes: list[onnx.NodeProto] = []
    for node, rule in zip(model.graph.node, rules, strict=True):
        nodes += rule(_Rewriting(model, node, shapes)) if rule else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Rewriting:
    """The nodes that take the place of `node`, called after it."""

    def __init__(self, model: OnnxModel, node: onnx.NodeProto, shapes: dict[str, Shape]) -> None:
        self.node, self._model, self._shapes = node, model, shapes
        self.nodes: list[onnx.NodeProto] = []
        self._base = node.name or node.output[0]

    def input(self, place: int) -> str:
        """The name of an input; empty where it is not given."""
        return self.node.input[place] if place < len(self.node.input) else ""

    def add(self, operator: str, what: str, *inputs: str, result: str = "", **attrs: object) -> str:
        """One node; the name of its result."""
        made = result or f"{self.node.output[0]}/{what}"
        name = f"{self._base}/{what}"
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        self.nodes.append(helper.make_node(operator, given, [made], name=name, **attrs))
        return made

    def floats(self, what: str, place: int, scale: int, zero: int, axis: int) -> str:
        """An input as floats; `axis` is that of its scales where they are several."""
        # In float16 products of large sums would be rounded once more.
        whole = self.add("Cast", f"{what}_scale", self.input(scale), to=onnx.TensorProto.FLOAT)
        names = (self.input(place), whole, self.input(zero))
        return self.add("DequantizeLinear", what, *names, axis=axis)

    def whole(self, what: str, place: int, zero: int) -> str:
        """An input less its zero point, or those of its first axis, as floats."""
        kind = onnx.TensorProto.FLOAT
        x = self.add("Cast", what, self.input(place), to=kind)
        if not self.input(zero):
            return x
        point = self.add("Cast", f"{what}_zero", self.input(zero), to=kind)
        if len(self._shapes.get(self.input(zero), ())) == 1:
            rank = len(self._shapes[self.input(place)])
            shape = f"{self.node.output[0]}/{what}_zero_shape"
            self._model.add_constant(shape, np.array([-1] + [1] * (rank - 1)))
            point = self.add("Reshape", f"{what}_zeros", point, shape)
        return self.add("Sub", f"{what}_from_zero", x, point)

    def attributes(self) -> dict[str, object]:
        """Those of the node."""
        return {entry.name: helper.get_attribute_value(entry) for entry in self.node.attribute}


def _matmul(to: _Rewriting) -> list[onnx.NodeProto]:
    a = to.floats("a", 0, 1, 2, axis=-2)
    b = to.floats("b", 3, 4, 5, axis=-1)
    y = to.add("MatMul", "product", a, b)
    to.add("QuantizeLinear", "quantised", y, to.input(6), to.input(7), result=to.node.output[0])
    return to.nodes


def _conv(to: _Rewriting) -> list[onnx.NodeProto]:
    x, w = to.floats("x", 0, 1, 2, axis=1), to.floats("w", 3, 4, 5, axis=0)
    bias = ""
    if to.input(8):
        # Its unit is the product of both scales.
        scale = to.add("Mul", "bias_scale", *(f"{to.node.output[0]}/{n}_scale" for n in "xw"))
        whole = to.add("Cast", "bias", to.input(8), to=onnx.TensorProto.FLOAT)
        bias = to.add("Mul", "scaled_bias", whole, scale)
    y = to.add("Conv", "convolution", x, w, bias, **to.attributes())
    to.add("QuantizeLinear", "quantised", y, to.input(6), to.input(7), result=to.node.output[0])
    return to.nodes


def _conv_integer(to: _Rewriting) -> list[onnx.NodeProto]:
    x, w = to.whole("x", 0, 2), to.whole("w", 1, 3)
    y = to.add("Conv", "convolution", x, w, **to.attributes())
    # Winograd's sums are not whole.
    y = to.add("Round", "whole", y)
    to.add("Cast", "sums", y, to=onnx.TensorProto.INT32, result=to.node.output[0])
    return to.nodes


FLOATED: dict[str, Callable[[_Rewriting], list[onnx.NodeProto]]] = {
    "ConvInteger": _conv_integer,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
}
