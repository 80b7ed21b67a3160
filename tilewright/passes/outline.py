"""Move some bindings of a graph into a private function of their own.

Before   v1 = conv2d(x, w); v2 = add(v1, b); v3 = relu(v2)
After    v3 = conv_block_0(x, w, b)     with conv_block_0 marked Primitive: one kernel group
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import tvm
from tvm import relax

from tilewright.passes.relax_constants import is_constant

SPEC_ATTRIBUTE = "tilewright.spec"

# Operators that are lowered with a scalar constant written into the kernel. In the others a
# constant must be an argument: a primitive function may not hold tensors.
_FOLDS_SCALARS = frozenset(
    f"relax.{name}" for name in ("add", "subtract", "multiply", "divide", "power")
)


def outline(
    mod: tvm.IRModule,
    graph: str,
    name: str,
    members: Sequence[relax.Var],
    spec: dict,
    operands: Sequence[relax.Expr] = (),
) -> tuple[tvm.IRModule, str, list[relax.Expr]]:
    """`mod` with `members` of `graph`, in order, in a function; its name and tensor arguments.

    The function is called `name`, or as an equal one that is already there. The last member is
    its result; nothing outside may read the others. Constants become arguments, so that weights
    stay outside the code, and single numbers only where `operands` has them; open sizes that no
    argument's shape tells are handed over with them.
    """
    whole = mod[graph]
    inside = {
        binding.var: binding.value
        for block in whole.body.blocks
        for binding in block.bindings
        if binding.var in set(members)
    }
    arguments: list[relax.Expr] = []
    params: list[relax.Var] = []
    local: dict[relax.Var, relax.Expr] = {}
    constants: list[tuple[relax.Expr, relax.Var]] = []

    def inner(expr: relax.Expr) -> relax.Expr:
        if isinstance(expr, relax.Var):
            if expr not in local:
                local[expr] = _new_param(expr, params, arguments)
            return local[expr]
        if is_constant(expr):
            known = next((param for value, param in constants if value.same_as(expr)), None)
            if known is None:
                known = _new_param(expr, params, arguments)
                constants.append((expr, known))
            return known
        if isinstance(expr, relax.Call):
            keep = getattr(expr.op, "name", "") in _FOLDS_SCALARS
            args = [a if keep and _is_number(a, operands) else inner(a) for a in expr.args]
            return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([inner(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(inner(expr.tuple_value), expr.index)
        return expr

    bindings = []
    for var in members:
        value = inner(inside[var])
        kind = relax.Var if var.same_as(members[-1]) else relax.DataflowVar
        local[var] = kind(var.name, var.ty)
        bindings.append(relax.VarBinding(local[var], value))
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], local[members[-1]])
    function = relax.Function(params, body, members[-1].ty, is_pure=True)
    sizes = relax.analysis.free_symbolic_vars(function)
    if sizes:
        # Of an argument of n * 8 values the function could not tell n: it is handed over.
        params.append(relax.Var("sizes", relax.ShapeType(sizes)))
        function = relax.Function(params, body, members[-1].ty, is_pure=True)
    function = function.with_attrs(
        {"Primitive": True, SPEC_ATTRIBUTE: json.dumps(spec, sort_keys=True)}
    )
    mod = mod.clone()
    private = relax.utils.copy_with_new_vars(function)
    builder = relax.BlockBuilder(mod)
    var = builder.add_func(private, name)
    mod = builder.get()
    handed = [*arguments, relax.ShapeExpr(sizes)] if sizes else arguments
    mod.update_func(mod.get_global_var(graph), _with_call(whole, members, var, handed))
    return mod, var.name_hint, arguments


def _is_number(expr: relax.Expr, operands: Sequence[relax.Expr]) -> bool:
    """Whether it is a constant of one number that no rule reads as a tensor."""
    named = any(expr.same_as(operand) for operand in operands)
    return is_constant(expr) and expr.ty.ndim == 0 and not named


def _new_param(expr: relax.Expr, params: list[relax.Var], arguments: list[relax.Expr]) -> relax.Var:
    param = relax.Var(f"arg{len(params)}", expr.ty)
    params.append(param)
    arguments.append(expr)
    return param


def _with_call(
    graph: relax.Function,
    members: Sequence[relax.Var],
    function: relax.GlobalVar,
    arguments: Sequence[relax.Expr],
) -> relax.Function:
    gone, root = set(members[:-1]), members[-1]
    blocks = []
    for block in graph.body.blocks:
        kept = []
        for binding in block.bindings:
            if binding.var in gone:
                continue
            if binding.var.same_as(root):
                binding = relax.VarBinding(root, relax.Call(function, list(arguments)))
            kept.append(binding)
        kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
        blocks.append(kind(kept))
    body = relax.SeqExpr(blocks, graph.body.body)
    return relax.Function(graph.params, body, graph.ret_ty, graph.is_pure, graph.attrs)
