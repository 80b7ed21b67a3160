"""Fuse two linear layers with the activation between them, gated or not.

Before   y = gelu(x @ w1 + b1) @ w2 + b2 [+ r]       y = (silu(x @ w1) * (x @ w3)) @ w2
After    y = mlp(x, w1, b1, w2, b2[, r])             y = mlp(x, w1, w3, w2)

The two hidden factors may be halves of one product. A transpose and a learnt scale per column may
stand before the residual, as in ConvNeXt. Declines when a bias is not one value per column, the
residual has another shape, or the factors are not the halves of one product. A hidden value that
something else reads keeps the layers apart.
"""

from __future__ import annotations

from tvm import relax

from tilewright.ops import MlpSpec, Step
from tilewright.passes.activations import activation, step_of
from tilewright.passes.epilogue import residual_problem
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.linear import product
from tilewright.passes.pattern import (
    Any,
    Constant,
    Either,
    Graph,
    Item,
    Match,
    Op,
    Pattern,
    Tagged,
    maybe,
)
from tilewright.passes.shapes import cut_of, is_per_channel, shape_of


def _halves(x: Pattern) -> Pattern:
    """One product, cut in two halves: one activated, times the other."""
    joint = product(x, "w1", "b1")
    split = Op("relax.split", joint, name="split")
    parts = [
        Tagged(Op("relax.multiply", activation(Item(split, n)), Item(split, 1 - n)), "half", n)
        for n in (0, 1)
    ]
    active, other = (Op("relax.strided_slice", joint, name=name) for name in ("cut", "other_cut"))
    return Either(*parts, Op("relax.multiply", activation(active), other))


def pattern() -> Pattern:
    """linear, activation [times a second linear of the same input], linear [+ residual]."""
    x = Any("x")
    active = activation(product(x, "w1", "b1"))
    gated = Op("relax.multiply", active, product(x, "w3", "b3", name="gate"))
    # The activation first: SiLU written out is a layer times the sigmoid of the same layer.
    out = product(Either(active, gated, _halves(x)), "w2", "b2", name="out")
    placed = maybe(lambda y: Op("relax.permute_dims", y, name="placed"), out)
    scaled = maybe(lambda y: Op("relax.multiply", y, Constant("layer_scale")), placed)
    return maybe(lambda y: Op("relax.add", y, Any("residual")), scaled)


def accept(match: Match, graph: Graph) -> MlpSpec | Decline:
    """An MlpSpec with the widths of the weights."""
    x, w1, w2, y = (shape_of(match[name]) for name in ("x", "w1", "w2", "out"))
    gate = match.get("w3")
    if x is None or y is None or len(w1) != 2 or len(w2) != 2:
        return Decline("a shape is not known, or the weights have a batch", at=match["out"])
    if gate is not None and shape_of(gate) != w1:
        return Decline(f"the gate's weights are {shape_of(gate)}, want {w1}", at=match["out"])
    half = _activated_half(match, graph, w2[0])
    if isinstance(half, Decline):
        return half
    for bias, width in (("b1", w1[1]), ("b2", w2[1]), ("b3", w1[1])):
        value = match.get(bias)
        if value is not None and not is_per_channel(value, len(x) - 1, width, len(x)):
            return Decline(
                f"bias has shape {shape_of(value)}, want one value per column", at=match["out"]
            )
    residual = match.get("residual")
    placed = match.get("placed")
    result = y if placed is None else shape_of(placed)
    if problem := residual_problem(match, result):
        return Decline(problem, at=match["out"])
    scale = match.get("layer_scale")
    axes = None if placed is None else _permutation(placed, graph)
    column = len(y) - 1 if axes is None else axes.index(len(y) - 1)
    if scale is not None and not is_per_channel(scale, column, w2[1], len(y)):
        return Decline(
            f"the scale has shape {shape_of(scale)}, want one value per column", at=match["out"]
        )
    steps = (
        Step("bias") if match.get("b2") is not None else None,
        Step("transpose", axes) if axes is not None else None,
        Step("layer_scale", (column,)) if scale is not None else None,
        Step("residual") if residual is not None else None,
    )
    return MlpSpec(
        dtype=str(match["out"].ty.dtype),
        x=x,
        hidden=w2[0],
        out=w2[1],
        activation=step_of(match, graph),
        hidden_bias=match.get("b1") is not None,
        gated=gate is not None or half is not None,
        gate_bias=match.get("b3" if half is None else "b1") is not None,
        activated_half=half,
        epilogue=tuple(step for step in steps if step is not None),
    )


def _activated_half(match: Match, graph: Graph, hidden: int) -> int | Decline | None:
    """Which half of one product is activated; None where there are two products or no gate."""
    if match.get("split") is not None:
        _, split = graph.bound(match["split"])
        rank = split.args[0].ty.ndim
        widths = [shape_of(part)[-1] for part in map(relax.Var, ("a", "b"), split.ty.fields)]
        if int(split.attrs.axis) % rank == rank - 1 and widths == [hidden, hidden]:
            return match["half"]
    elif match.get("cut") is not None:
        cut, other = (graph.bound(match[name])[1] for name in ("cut", "other_cut"))
        last = cut.ty.ndim - 1
        starts = [cut_of(part) for part in (cut, other)]
        same = cut.args[0].same_as(other.args[0])
        for half in (0, 1):
            if same and starts == [(last, hidden * half), (last, hidden * (1 - half))]:
                return half
    else:
        return None
    return Decline("the factors are not the two halves of one product", at=match["out"])


def _permutation(placed: relax.Expr, graph: Graph) -> tuple[int, ...]:
    """The axes of a transpose, counted from the front; none given means reversed."""
    _, call = graph.bound(placed)
    rank = call.ty.ndim
    axes = call.attrs.axes
    return tuple(reversed(range(rank))) if axes is None else tuple(int(a) % rank for a in axes)


MLP = Fusion("mlp", pattern(), accept)
