"""Lower every group that a rule takes to the rule's kernels, and keep channels last between them.

Before   v = conv_block_3(x, w, b)                     x, v: [n, c, h, w]
After    v' = call_tir(conv_block_3, (x', packed, b))  x', v': [n, h, w, c]

A value made with its channels last has its usual order too, by a transpose that stays only if
something reads it: an operator that has no form with channels last, or the model's result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.channels_last import rewrite, to_last, to_second
from tilewright.passes.fusion import Group
from tilewright.passes.graphs import graphs
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.shapes import shape_of
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import RULES, Choice, lower
from tilewright.targets.rules.knobs import KnobError
from tilewright.targets.rules.rule import (
    Argument,
    Extent,
    Given,
    GroupCall,
    Lowered,
    Packed,
    PaddedSize,
    Rule,
    WholeVectors,
)

# TVM's own fusion leaves a kernel with this pattern alone, and the fallback schedule one that
# says it has been scheduled.
OPAQUE = 8
SCHEDULED = "tilewright.scheduled"
# The group whose work a kernel does, and the rule that wrote it.
GROUP, RULE = "tilewright.group", "tilewright.rule"


@dataclass
class Report:
    """What came of the groups: how many each rule took, and by group's name why none did.

    `lowered` are the groups that a rule took, `tuned` those of them whose knobs came from a record,
    `unfit` those whose record does not fit what the rules ask for now, with the reason.
    """

    counts: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)
    lowered: set[str] = field(default_factory=set)
    tuned: set[str] = field(default_factory=set)
    unfit: dict[str, str] = field(default_factory=dict)


def lower_groups(
    mod: tvm.IRModule,
    groups: list[Group],
    target: Target,
    exact: bool,
    choices: Mapping[str, Choice] = MappingProxyType({}),
    rules: Sequence[Rule] = RULES,
    recorded: Callable[[Lowered, str], Lowered] = lambda lowered, rule: lowered,
) -> tuple[tvm.IRModule, Report]:
    """`mod` with kernels for groups.

    `exact`: only with algorithms that err as little as a plain sum does. `choices` are rules and
    knobs by the key of a spec; a group without one gets the defaults. `rules` are asked in order;
    `recorded` is handed what a choice made of a group, and the rule's name.
    """
    lowering = _Lowering(mod, groups, target, exact, choices, rules, recorded)
    done = relax.transform.DeadCodeElimination()(lowering.run())
    return relax.transform.CanonicalizeBindings()(done), lowering.report


class _Lowering:
    def __init__(
        self,
        mod: tvm.IRModule,
        groups: list[Group],
        target: Target,
        exact: bool,
        choices: Mapping[str, Choice],
        rules: Sequence[Rule],
        recorded: Callable[[Lowered, str], Lowered],
    ) -> None:
        self._groups: Mapping[str, list[Group]] = {}
        for group in groups:
            self._groups.setdefault(group.kernel, []).append(group)
        self._target, self._exact, self._choices = target, exact, choices
        self._rules, self._recorded = rules, recorded
        # Groups come in one by one: a kernel takes the name of the group that it replaces.
        rest = {v: f for v, f in mod.functions_items() if v.name_hint not in self._groups}
        self._mod = mod
        self._builder = relax.BlockBuilder(tvm.IRModule(rest, mod.attrs))
        self._new: dict[relax.Var, relax.Expr] = {}
        self._last: dict[relax.Var, relax.Expr] = {}
        self._kernels: dict[str, list[tuple[tvm.tirx.PrimFunc, relax.GlobalVar]]] = {}
        self._kept: dict[str, relax.GlobalVar] = {}
        self.report = Report()

    def run(self) -> tvm.IRModule:
        for name in graphs(self._mod):
            if self._groups.keys() & _called(self._mod[name]):
                self._graph(name)
        return self._builder.get()

    def _graph(self, name: str) -> None:
        old, bb = self._mod[name], self._builder
        with bb.function(f"{name}_new", list(old.params), pure=old.is_pure, private=True):
            for block in old.body.blocks:
                if isinstance(block, relax.DataflowBlock):
                    with bb.dataflow():
                        self._block(block)
                else:
                    self._block(block)
            lowered = bb.emit_func_output(self._renewed(old.body.body))
        # Who calls it knows it by its own name; the other one is dead.
        new = bb.get()[lowered]
        new = new.with_attrs(old.attrs) if old.attrs else new
        bb.update_func(self._mod.get_global_var(name), new)

    def _block(self, block: relax.BindingBlock) -> None:
        for binding in block.bindings:
            self._bind(binding)
            var = binding.var
            if isinstance(block, relax.DataflowBlock) and not isinstance(var, relax.DataflowVar):
                self._new[var] = self._builder.emit_output(self._new[var])
        # What a block has made of its values is not seen outside it.
        self._last.clear()

    def _bind(self, binding: relax.Binding) -> None:
        var = binding.var
        value = binding.value
        if isinstance(binding, relax.MatchCast):
            last, shape = self._last.get(value), getattr(binding.ty, "shape", None)
            if last is not None and isinstance(shape, relax.ShapeExpr):
                sizes = [shape.values[axis] for axis in to_last(len(shape.values))]
                kind = relax.TensorType(sizes, binding.ty.dtype)
                self._set_last(var, self._builder.match_cast(last, kind))
                return
            self._new[var] = self._builder.match_cast(self._renewed(value), binding.ty)
            return
        if isinstance(value, relax.Call):
            made = self._group(value, var)
            if made is None and var not in self._new:
                made = self._kept_last(value, var)
            if made is not None:
                self._set_last(var, made)
                return
            if var in self._new:
                return
        if isinstance(value, relax.Var) and value in self._last:
            self._last[var] = self._last[value]
        self._new[var] = self._builder.emit(self._renewed(value), var.name)

    def _set_last(self, var: relax.Var, made: relax.Expr) -> None:
        """`var` is `made`, whose channels are last, and its usual order is a transpose of it."""
        self._last[var] = made
        back = relax.op.permute_dims(made, to_second(made.ty.ndim))
        self._new[var] = self._builder.emit(back, f"{var.name}_second")

    # Operators

    def _kept_last(self, call: relax.Call, var: relax.Var) -> relax.Expr | None:
        """`call` on channels-last operands, where one of them is there already."""
        if not any(v in self._last for v in relax.analysis.free_vars(call)):
            return None
        name = getattr(call.op, "name", "")
        if name == "relax.permute_dims":
            self._transposed(call, var)
            return None
        if name == "relax.reshape":
            return self._flattened(call, var)
        if name == "relax.image.resize2d" and not isinstance(var, relax.DataflowVar):
            # A result of the model: what is turned back is smaller before it.
            return None
        new = rewrite(call, lambda operand: self._channels_last(operand))
        if new is None:
            return None
        if call.ty.ndim == 2:
            # One order alone: what has been reduced over all positions.
            self._new[var] = self._builder.emit(new, var.name)
            return None
        return self._builder.emit(new, f"{var.name}_last")

    def _transposed(self, call: relax.Call, var: relax.Var) -> None:
        """A transpose that moves channels last by hand is the value that is there."""
        x, axes = call.args[0], call.attrs.axes
        known = x in self._last and axes is not None
        if known and [int(a) for a in axes] == to_last(x.ty.ndim):
            self._new[var] = self._last[x]

    def _flattened(self, call: relax.Call, var: relax.Var) -> relax.Expr | None:
        """[n, c, h, w] to [n, c, h * w] leaves channels last where they are."""
        x, shape = call.args[0], shape_of(call)
        old = shape_of(x)
        if x not in self._last or shape is None or len(shape) != 3 or old[:2] != shape[:2]:
            return None
        batch, channels, positions = call.ty.shape.values
        flat = relax.op.reshape(self._last[x], (batch, positions, channels))
        return self._builder.emit(flat, f"{var.name}_last")

    def _channels_last(self, operand: relax.Expr) -> relax.Expr:
        """`operand` with its channels last, transposed where it must be."""
        if isinstance(operand, relax.Var) and operand in self._last:
            return self._last[operand]
        new = self._renewed(operand)
        made = self._builder.emit(relax.op.permute_dims(new, to_last(new.ty.ndim)))
        if isinstance(operand, relax.Var):
            self._last[operand] = made
        return made

    def _renewed(self, expr: relax.Expr) -> relax.Expr:
        """`expr` of the old function in terms of the new one."""
        if isinstance(expr, relax.Var):
            return self._new.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self._renewed(field) for field in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self._renewed(expr.tuple_value), expr.index)
        if isinstance(expr, relax.Call):
            args = [self._renewed(arg) for arg in expr.args]
            return relax.Call(expr.op, args, expr.attrs, expr.ty_args)
        if isinstance(expr, relax.If):
            return _Renamed(self._new).visit_expr(expr)
        return expr

    # Groups

    def _group(self, call: relax.Call, var: relax.Var) -> relax.Expr | None:
        """Launch the kernels of a group; its result where that has its channels last."""
        name = getattr(call.op, "name_hint", None)
        group = next(iter(self._groups.get(name, ())), None)
        if group is None:
            return None
        described = GroupCall(
            name,
            group.spec,
            tuple(map(argument_of, call.args)),
            group.roles,
            argument_of(var),
            self._exact,
        )
        found = self._lowered(described)
        if isinstance(found, dict):
            if name not in self.report.refusals:
                self.report.refusals[name] = found
                self._kept[name] = self._builder.add_func(self._mod[name], name)
            self._new[var] = self._builder.emit(
                relax.Call(self._kept[name], [self._renewed(arg) for arg in call.args]), var.name
            )
            return None
        rule, lowered = found
        self.report.counts[rule.name] += 1
        self.report.lowered.add(name)
        result = self._launch(rule, lowered, call, group)
        if lowered.channels_last:
            return result
        self._new[var] = result
        return None

    def _lowered(self, call: GroupCall) -> tuple[Rule, Lowered] | dict[str, str]:
        choice = self._choices.get(call.spec.key()) if self._choices else None
        if choice is not None:
            try:
                rule, lowered = lower(call, self._target, choice, self._rules)
                self.report.tuned.add(call.name)
                return rule, self._recorded(lowered, rule.name)
            except KnobError as error:
                self.report.unfit[call.name] = str(error)
        return lower(call, self._target, rules=self._rules)

    def _launch(self, rule: Rule, lowered: Lowered, call: relax.Call, group: Group) -> relax.Expr:
        bb = self._builder
        made: list[relax.Expr] = []
        for number, launch in enumerate(lowered.launches):
            final = number == len(lowered.launches) - 1
            title = group.kernel if final else str(launch.kernel.attrs["global_symbol"])
            kernel = self._kernel(group.kernel, rule, title, launch.kernel)
            inputs = []
            for source in launch.inputs:
                if isinstance(source, Packed):
                    inputs.append(constant(np.ascontiguousarray(source.make())))
                elif isinstance(source, Given):
                    operand = call.args[group.roles[source.role]]
                    inputs.append(
                        self._channels_last(operand)
                        if source.channels_last
                        else self._renewed(operand)
                    )
                else:
                    inputs.append(made[source])
            whole = final and not lowered.channels_last
            shapes = (launch.shape, *launch.also)
            kinds = [_type(shape, launch.dtype, (*call.args, call)) for shape in shapes]
            kind = call.ty if whole else kinds[0] if len(kinds) == 1 else kinds
            results = bb.emit(relax.call_tir(kernel, inputs, kind))
            if launch.also:
                made += [bb.emit(relax.TupleGetItem(results, n)) for n in range(len(kinds))]
            else:
                made.append(results)
        return made[-1]

    def _kernel(
        self, group: str, rule: Rule, title: str, function: tvm.tirx.PrimFunc
    ) -> relax.GlobalVar:
        """The kernel called `title` in the module.

        Calls of one group share it where it is the same: a rule may make another of a call whose
        arguments are known at compile time.
        """
        known = self._kernels.setdefault(title, [])
        for other, kernel in known:
            if tvm_ffi.structural_equal(other, function):
                return kernel
        marks = {"op_pattern": OPAQUE, SCHEDULED: True, GROUP: group, RULE: rule.name}
        marked = function.with_attrs(marks).without_attr("global_symbol")
        name = f"{title}_form{len(known)}" if known else title
        known.append((function, self._builder.add_func(marked, name)))
        return known[-1][1]


def _called(graph: relax.Function) -> set[str]:
    """The names of the functions that a graph calls outside branches."""
    values = (binding.value for block in graph.body.blocks for binding in block.bindings)
    return {getattr(v.op, "name_hint", "") for v in values if isinstance(v, relax.Call)}


@mutator
class _Renamed(PyExprMutator):
    """The branches of an If with other names for the values around it."""

    def __init__(self, names: Mapping[relax.Var, relax.Expr]) -> None:
        super().__init__()
        self._names = names

    def visit_var_(self, op: relax.Var) -> relax.Expr:
        return self._names.get(op, op)


def argument_of(expr: relax.Expr) -> Argument:
    """What a rule is told of a value: its type, and its numbers where it is a constant."""
    if not isinstance(expr.ty, relax.TensorType):
        return Argument((), "")  # The sizes that no tensor of the group tells.
    array = array_of(expr) if is_constant(expr) else None
    return Argument(shape_of(expr) or (), str(expr.ty.dtype), array)


def _type(shape: Sequence[Extent], dtype: str, values: Sequence[relax.Expr]) -> relax.TensorType:
    """A tensor's type; a size given as text is that size of one of `values`."""
    sizes = {}
    for value in values:
        if isinstance(getattr(value.ty, "shape", None), relax.ShapeExpr):
            sizes |= dict(zip(shape_of(value), value.ty.shape.values, strict=True))

    def known(size: Extent) -> tvm.tirx.Expr | int:
        if isinstance(size, WholeVectors):
            whole = size.multiple
            return tvm.tirx.floordiv(sizes[size.size] + (whole - 1), whole) * whole
        if isinstance(size, PaddedSize):
            return sizes[size.size] + size.more
        return sizes.get(size, size)

    return relax.TensorType([known(size) for size in shape], dtype)
