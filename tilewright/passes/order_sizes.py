"""What has a computed size comes after the size: TVM's fusion does not know.

Before   y = call_tir(range, (), out_ty=[n]);  m = call_tir(count, (x));  match_cast(m, [n])
After    m = call_tir(count, (x));  match_cast(m, [n]);  y = call_tir(range, (), out_ty=[n])

FuseOps puts each group of operators where its last one was, by the values that they read alone.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax, tirx

from tilewright.passes.graphs import graphs


@tvm.transform.module_pass(opt_level=0)
def order_sizes(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Order the dataflow blocks of each graph by sizes, too."""
    changed = {name: made for name in graphs(mod) if (made := _reordered(mod[name])) is not None}
    if not changed:
        return mod
    mod = mod.clone()
    for name, made in changed.items():
        mod.update_func(mod.get_global_var(name), made)
    return relax.transform.Normalize()(mod)


def _reordered(graph: relax.Function) -> relax.Function | None:
    """`graph` in another order; None where it may stay as it is."""
    old = graph.body.blocks
    given = set().union(*(_sizes(parameter.ty) for parameter in graph.params))
    ordered = [
        _ordered(block.bindings, given)
        if isinstance(block, relax.DataflowBlock)
        else block.bindings
        for block in old
    ]
    if all(
        one.same_as(other)
        for bindings, block in zip(ordered, old, strict=True)
        for one, other in zip(bindings, block.bindings, strict=True)
    ):
        return None
    blocks = [type(block)(bindings) for block, bindings in zip(old, ordered, strict=True)]
    body = relax.SeqExpr(blocks, graph.body.body)
    return relax.Function(graph.params, body, graph.ret_ty, graph.is_pure, graph.attrs)


def _ordered(bindings: list[relax.Binding], given: set[tirx.Var]) -> list[relax.Binding]:
    """The same bindings, in their order but for those that come before what they need.

    The parameters have the sizes `given`.
    """
    made = {binding.var: number for number, binding in enumerate(bindings)}
    sizes: dict[tirx.Var, int] = {}
    for number, binding in enumerate(bindings):
        if isinstance(binding, relax.MatchCast):
            for size in _named(binding) - given:
                sizes.setdefault(size, number)
    needs = [
        sorted(
            {made[v] for v in relax.analysis.free_vars(b.value) if v in made}
            | {sizes[size] for size in _needed(b) if size in sizes and sizes[size] != number}
        )
        for number, b in enumerate(bindings)
    ]
    order: dict[int, None] = {}
    # A stack, for chains may be longer than Python's recursion.
    stack = list(range(len(bindings)))[::-1]
    while stack:
        number = stack[-1]
        missing = [need for need in needs[number] if need not in order]
        if number not in order and missing:
            stack += missing[::-1]
            continue
        order[stack.pop()] = None
    return [bindings[number] for number in order]


def _named(binding: relax.MatchCast) -> set[tirx.Var]:
    """The sizes that a MatchCast gives names to; an expression among them is checked only."""
    shape = binding.ty.values if isinstance(binding.ty, relax.ShapeType) else binding.ty.shape
    return {size for size in shape if isinstance(size, tirx.Var)}


def _needed(binding: relax.Binding) -> set[tirx.Var]:
    """The sizes that a binding reads; of a MatchCast not those that it is the first to name."""
    if isinstance(binding, relax.MatchCast):
        return _sizes(binding.value.ty) | _sizes(binding.ty)
    return _sizes(binding.value) | _sizes(binding.var.ty)


def _sizes(node: object) -> set[tirx.Var]:
    found: set[tirx.Var] = set()
    tvm_ffi.structural_walk(node, (tirx.Var, found.add))
    return found
