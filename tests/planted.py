"""Faults to plant (tilewright.compiler.faults): what is wrong with a kernel, a spec or a module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.targets.rules.rule import Given, Lowered, Packed


def negated(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Stores the negative of whatever number it stored; a place in memory stays what it is."""

    def change(node: Any) -> Any:
        if not str(node.buffer.dtype).startswith("float"):
            return node
        return tirx.BufferStore(node.buffer, -node.value, node.indices)

    return tvm_ffi.structural_map(function, (tirx.BufferStore, change))


def without_max(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The larger of two values is the second one: a relu does nothing."""
    return tvm_ffi.structural_map(function, (tirx.Max, lambda node: node.b))


def with_constant(old: float, new: float) -> Callable[[tirx.PrimFunc], tirx.PrimFunc]:
    """Another number where `old` stands."""

    def change(function: tirx.PrimFunc) -> tirx.PrimFunc:
        def number(node: Any) -> Any:
            near = abs(node.value - old) <= 1e-6 * abs(old)
            return tirx.FloatImm(str(node.ty.dtype), new) if near else node

        return tvm_ffi.structural_map(function, (tirx.FloatImm, number))

    return change


def cut_short(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """The innermost loops leave out their last turn: what is stored there is what was there."""

    def shorter(loop: Any) -> Any:
        inner = isinstance(loop.body, tirx.For)
        extent = loop.extent.value if isinstance(loop.extent, tirx.IntImm) else 0
        if inner or extent < 2:
            return loop
        return tirx.For(loop.loop_var, loop.min, extent - 1, loop.kind, loop.body)

    return tvm_ffi.structural_map(function, (tirx.For, shorter))


def each_kernel(change: Callable[[tirx.PrimFunc], tirx.PrimFunc]) -> Callable[[Lowered], Lowered]:
    """What a rule lowers to, each of its kernels changed."""

    def lower(lowered: Lowered) -> Lowered:
        launches = (replace(launch, kernel=change(launch.kernel)) for launch in lowered.launches)
        return replace(lowered, launches=tuple(launches))

    return lower


def zeros_for(role: str, shape: tuple[int, ...]) -> Callable[[Lowered], Lowered]:
    """The kernels read zeros where they should read an argument of the group."""
    packed = Packed(shape, lambda: np.zeros(shape, np.float32))

    def lower(lowered: Lowered) -> Lowered:
        launches = (
            replace(
                launch,
                inputs=tuple(
                    packed if isinstance(source, Given) and source.role == role else source
                    for source in launch.inputs
                ),
            )
            for launch in lowered.launches
        )
        return replace(lowered, launches=tuple(launches))

    return lower


def without_steps(name: str) -> Callable[[Any], Any]:
    """A spec whose epilogue lacks a step."""

    def change(spec: Any) -> Any:
        return replace(spec, epilogue=tuple(step for step in spec.epilogue if step.name != name))

    return change


def with_calls(
    operator: str, change: Callable[[relax.Call], relax.Expr]
) -> Callable[[tvm.IRModule], tvm.IRModule]:
    """A module with each call of `operator` in `main` changed."""

    def rewrite(mod: tvm.IRModule) -> tvm.IRModule:
        @mutator
        class Changed(PyExprMutator):
            def visit_call_(self, op):
                call = self.visit_expr_post_order(op)
                return change(call) if getattr(call.op, "name", "") == operator else call

        mod = mod.clone()
        mod["main"] = Changed(mod).visit_expr(mod["main"])
        return mod

    return rewrite


def first_argument(call: relax.Call) -> relax.Expr:
    """The operator does nothing."""
    return call.args[0]


def doubled_constant(call: relax.Call) -> relax.Expr:
    """Twice the constant operands."""
    args = [constant(2 * array_of(a)) if is_constant(a) else a for a in call.args]
    return relax.Call(call.op, args, call.attrs, call.ty_args)
