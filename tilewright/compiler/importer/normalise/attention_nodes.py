"""Scaled dot product attention as plain ONNX nodes: what every attention operator becomes.

After    s = MatMul(q, Transpose(k)) * scale;  y = MatMul(Softmax(mask(s)), v)

All of them lie under the name of the node they replace: "layer3/attn" becomes "layer3/attn/scores",
"layer3/attn/softmax" and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from tilewright.compiler.importer.graph import attribute, label
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import Shape
from tilewright.errors import UnsupportedModel


@dataclass
class Expansion:
    """The nodes that replace `node`, as they are written."""

    model: OnnxModel
    node: onnx.NodeProto
    shapes: dict[str, Shape]
    dtypes: dict[str, np.dtype]
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def input(self, place: int) -> str | None:
        """The name of an input, None when it is not given."""
        names = self.node.input
        return names[place] if place < len(names) and names[place] else None

    def attribute(self, name: str, default: object = None) -> object:
        """The value of an attribute, or `default`."""
        return attribute(self.node, name, default)

    @property
    def dtype(self) -> np.dtype:
        """The type of the first input, or of the next one where that is not known."""
        for name in self.node.input:
            if name in self.dtypes:
                return self.dtypes[name]
        raise self.refusal("the inputs' type is not known", "inputs of known types", "inputs")

    def shape(self, value: str, what: str, *ranks: int) -> Shape:
        """The shape of `value`; UnsupportedModel when it is not known or has another rank."""
        shape = self.shapes.get(value)
        if shape is None or len(shape) not in ranks:
            shown = "not known" if shape is None else list(shape)
            wanted = " or ".join(map(str, ranks))
            raise self.refusal(
                f"the shape of {what} is {shown}", f"{wanted} dimensions", f"input {what!r}"
            )
        return shape

    def refusal(
        self, what: str, expected: str, at: str, hint: str | None = None
    ) -> UnsupportedModel:
        """The error to raise for what is not supported; `at` names an input or an attribute."""
        return UnsupportedModel(
            what,
            where=f"node {label(self.node)}, {at}",
            expected=expected,
            hint=hint or "export the model with attention written out as MatMul and Softmax",
        )

    def refuse_given(self, inputs: dict[int, str], outputs: dict[int, str]) -> None:
        """Raise UnsupportedModel for the first of these inputs and outputs that is used."""
        for place, name in inputs.items():
            if self.input(place) is not None:
                raise self.refusal(
                    f"attention with {name}",
                    "attention without a cache or lengths per row",
                    f"input {name!r}",
                    "export the model without key and value caches (use_cache=False)",
                )
        for place, name in outputs.items():
            if place < len(self.node.output) and self.node.output[place]:
                raise self.refusal(
                    f"attention with a second result, {name}", "one result", f"output {name!r}"
                )

    def add(
        self, operator: str, what: str, *inputs: str, result: str | None = None, **attrs
    ) -> str:
        """A node called `what` under the old node's name; its result's name."""
        made = result or f"{self.node.output[0]}/{what}"
        name = f"{self.node.name or self.node.output[0]}/{what}"
        self.nodes.append(helper.make_node(operator, list(inputs), [made], name=name, **attrs))
        return made

    def constant(self, what: str, value: object, dtype: object) -> str:
        """An initialiser."""
        name = f"{self.node.output[0]}/{what}"
        self.model.add_constant(name, np.asarray(value, dtype))
        return name

    def ints(self, what: str, *values: int) -> str:
        """An initialiser of integers: axes, a shape."""
        return self.constant(what, values, np.int64)

    def heads(self, what: str, x: str, count: int, size: int) -> str:
        """[batch, tokens, count * size] to [batch, count, tokens, size]."""
        shape = self.ints(f"{what}_shape", 0, 0, count, size)
        split = self.add("Reshape", f"{what}_split", x, shape)
        return self.add("Transpose", f"{what}_heads", split, perm=[0, 2, 1, 3])

    def causal(self, queries: int | str | None, keys: int | str | None) -> np.ndarray:
        """Which keys each query sees: those up to its own place, [queries, keys]."""
        if not isinstance(queries, int) or not isinstance(keys, int):
            raise self.refusal(
                f"a causal mask for {queries or 'unknown'} queries and {keys or 'unknown'} keys",
                "numbers of queries and keys that are fixed",
                "attributes",
                f"fix the open dimensions with --dim or --shape: {queries or '?'}, {keys or '?'}",
            )
        return np.tril(np.ones((queries, keys), bool))


@dataclass(frozen=True)
class Mask:
    """What happens to the scores before the softmax: `operator` Add or Where, with a `value`.

    Where keeps the scores at which `value` is true, and takes `fill` for the others.
    """

    operator: str
    value: str
    fill: float = 0.0


def attend(
    to: Expansion,
    q: str,
    k: str,
    v: str,
    *,
    scale: float,
    softcap: float = 0.0,
    masks: tuple[Mask, ...] = (),
    guarded: bool = False,
    merged: bool = True,
    precision: int | None = None,
) -> None:
    """Write attention of `q`, `k` and `v`, each [batch, heads, tokens, size].

    The result is [batch, queries, heads * size] when `merged`, else as q. `guarded` makes rows
    in which every key is masked 0 (they would be NaN). The softmax is computed in the type
    `precision` (onnx.TensorProto.DataType), by default that of the inputs.
    """
    dtype = to.dtype
    own = helper.np_dtype_to_tensor_dtype(dtype)
    cast = precision not in (None, own)
    keys = to.add("Transpose", "keys", k, perm=[0, 1, 3, 2])
    s = to.add("MatMul", "scores", q, keys)
    s = to.add("Mul", "scaled", s, to.constant("scale", scale / (softcap or 1.0), dtype))
    if softcap:
        s = to.add("Tanh", "tanh", s)
        s = to.add("Mul", "capped", s, to.constant("softcap", softcap, dtype))
    for number, mask in enumerate(masks):
        if mask.operator == "Add":
            s = to.add("Add", f"masked{number}", s, mask.value)
        else:
            fill = to.constant(f"fill{number}", mask.fill, dtype)
            s = to.add("Where", f"masked{number}", mask.value, s, fill)
    s = to.add("Cast", "precise", s, to=precision) if cast else s
    s = to.add("Softmax", "softmax", s, axis=3)
    s = to.add("Cast", "rounded", s, to=own) if cast else s
    if guarded:
        empty = to.add("IsNaN", "no_keys", s)
        s = to.add("Where", "guarded", empty, to.constant("zero", 0, dtype), s)
    result = to.node.output[0]
    if not merged:
        to.add("MatMul", "weighted", s, v, result=result)
        return
    y = to.add("MatMul", "weighted", s, v)
    y = to.add("Transpose", "turned", y, perm=[0, 2, 1, 3])
    to.add("Reshape", "merged", y, to.ints("merged_shape", 0, 0, -1), result=result)


def goes_beyond(node: onnx.NodeProto) -> bool:
    """Whether an Attention has a cache, lengths per row, further results, or a window."""
    windows = (attribute(node, f"{side}_window_size", -1) for side in ("left", "right"))
    return any(node.input[4:]) or any(node.output[1:]) or any(size >= 0 for size in windows)


def default_scale(size: int) -> float:
    """1 / sqrt(size of a head)."""
    return 1.0 / math.sqrt(size)
