"""Merge linear layers of the same value that feed one attention into one matrix product.

Before   q = x @ wq + bq;  k = x @ wk;  v = x @ wv + bv;      y = attention(q, k, v)
After    p = x @ [wq wk wv] + [bq 0 bv];  q, k, v = slices of p;  y = attention(q, k, v)

Also k and v alone (cross attention), layers of different widths (grouped queries), and layers
whose heads go through a rotary embedding first. x is read once instead of three times. Leaves
layers alone whose weights are computed at run time or have a batch, whose bias is not one value
per column, whose dtype differs, that something else reads too, or whose x differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from tilewright.passes.fusion import Fusion, choose
from tilewright.passes.graphs import graphs
from tilewright.passes.linear import product
from tilewright.passes.pattern import Any, Graph
from tilewright.passes.relax_constants import array_of, constant
from tilewright.passes.rotary import ROTARY
from tilewright.passes.shapes import is_per_channel, shape_of
from tilewright.passes.uses import readers_of

_VIEWS = ("relax.reshape", "relax.permute_dims")
_LINEAR = product(Any("x"), "w", "b", name="product")


@dataclass(frozen=True)
class _Projection:
    """`result` = `x` @ `weights` + `bias`; `product` is the same variable without a bias."""

    x: relax.Expr
    product: relax.Var
    result: relax.Var
    weights: np.ndarray
    bias: np.ndarray | None

    @property
    def columns(self) -> int:
        return self.weights.shape[1]


def merge_projections(
    mod: tvm.IRModule, attention: Fusion
) -> tuple[tvm.IRModule, dict[str, tuple[str, ...]]]:
    """`mod` with the projections of each match of `attention` merged.

    Its values are called "q", "k" and "v". The second result tells of which variables each new
    variable does the work, by name.
    """
    merged: dict[str, tuple[str, ...]] = {}
    for graph in graphs(mod):
        made = _merged(mod[graph], attention, merged)
        if made is not None:
            mod = mod.clone()
            mod.update_func(mod.get_global_var(graph), made)
    return (relax.transform.Normalize()(mod) if merged else mod), merged


def _merged(
    graph: relax.Function, attention: Fusion, merged: dict[str, tuple[str, ...]]
) -> relax.Function | None:
    """`graph` with its projections merged, which `merged` then tells of; None without any."""
    joints: list[list[_Projection]] = list(_joints(graph, attention))
    if not joints:
        return None
    before: dict[relax.Var, list[relax.VarBinding]] = {}
    gone: set[relax.Var] = set()
    for parts in joints:
        bindings = _joint_bindings(parts, merged)
        # Their x is known where the first of the products stands.
        members = {var for part in parts for var in (part.product, part.result)}
        first = next(
            b.var for block in graph.body.blocks for b in block.bindings if b.var in members
        )
        before[first] = bindings
        gone |= members
        for part, cut in zip(parts, _slices(parts, bindings[-1].var), strict=True):
            before.setdefault(part.result, []).append(cut)
    return _rewritten(graph, before, gone)


def _joints(main: relax.Function, attention: Fusion) -> Iterator[list[_Projection]]:
    """Groups of two or more projections of one value, for each match of `attention`."""
    graph, readers = Graph(main), readers_of(main)
    block_of = {b.var: n for n, block in enumerate(main.body.blocks) for b in block.bindings}
    taken: set[relax.Var] = set()
    chosen, _misses = choose(main, [attention])
    for choice in chosen:
        groups: dict[tuple, list[_Projection]] = {}
        for name in ("q", "k", "v"):
            value = choice.match.get(name)
            found = None if value is None else _projection(_before_heads(value, graph), graph)
            if found is None or found.result in taken:
                continue
            if any(len(readers[var]) != 1 for var in (found.product, found.result)):
                continue
            taken.add(found.result)
            where = (block_of[found.product], block_of[found.result])
            key = (found.x, found.weights.dtype.str, found.weights.shape[0], where)
            groups.setdefault(key, []).append(found)
        yield from (parts for parts in groups.values() if len(parts) > 1)


def _before_heads(value: relax.Expr, graph: Graph) -> relax.Expr:
    """What the heads of `value` were split from, before a rotary embedding."""
    turned = next(ROTARY.pattern.match(value, graph), None)
    value = value if turned is None else turned["x"]
    while getattr(getattr(graph.bound(value)[1], "op", None), "name", None) in _VIEWS:
        value = graph.bound(value)[1].args[0]
    return value


def _projection(value: relax.Expr, graph: Graph) -> _Projection | None:
    result, _ = graph.bound(value)
    match = next(_LINEAR.match(value, graph), None)
    if match is None or result is None or shape_of(match["product"]) is None:
        return None
    weights, shape = array_of(match["w"]), shape_of(match["product"])
    if weights.ndim != 2 or len(shape) < 2:
        return None
    bias = match.get("b")
    if bias is not None:
        if not is_per_channel(bias, len(shape) - 1, shape[-1], len(shape)):
            return None
        bias = np.broadcast_to(array_of(bias).reshape(-1), shape[-1:])
    source, found = graph.bound(match["x"])
    return _Projection(found if source is None else source, match["product"], result, weights, bias)


def _joint_bindings(
    parts: list[_Projection], merged: dict[str, tuple[str, ...]]
) -> list[relax.VarBinding]:
    """The joint product, and its bias where a part has one."""
    name = f"{parts[0].product.name}_joint"
    weights = np.concatenate([part.weights for part in parts], axis=1)
    kind, ty = type(parts[0].product), _type(parts[0], weights.shape[1])
    joint = kind(name, ty)
    merged[name] = tuple(part.product.name for part in parts)
    bindings = [relax.VarBinding(joint, relax.op.matmul(parts[0].x, constant(weights)))]
    added = [part for part in parts if part.bias is not None]
    if added:
        zeros = [np.zeros(part.columns, weights.dtype) for part in parts]
        rows = [z if p.bias is None else p.bias for p, z in zip(parts, zeros, strict=True)]
        biased = kind(f"{name}_bias", ty)
        merged[biased.name] = tuple(part.result.name for part in added)
        bias = constant(np.concatenate(rows), str(weights.dtype))
        bindings.append(relax.VarBinding(biased, relax.op.add(joint, bias)))
    return bindings


def _slices(parts: list[_Projection], joint: relax.Var) -> list[relax.VarBinding]:
    """The columns of each part under its old variable."""
    cuts, begin = [], 0
    axis = len(shape_of(joint)) - 1
    for part in parts:
        end = begin + part.columns
        value = relax.op.strided_slice(joint, [axis], [begin], [end], [1])
        cuts.append(relax.VarBinding(part.result, value))
        begin = end
    return cuts


def _type(part: _Projection, columns: int) -> relax.TensorType:
    ty = part.product.ty
    return relax.TensorType([*list(ty.shape)[:-1], columns], ty.dtype)


def _rewritten(
    main: relax.Function, before: dict[relax.Var, list[relax.VarBinding]], gone: set[relax.Var]
) -> relax.Function:
    blocks = []
    for block in main.body.blocks:
        kept = []
        for binding in block.bindings:
            kept += before.get(binding.var, [])
            if binding.var not in gone:
                kept.append(binding)
        kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
        blocks.append(kind(kept))
    body = relax.SeqExpr(blocks, main.body.body)
    return relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
