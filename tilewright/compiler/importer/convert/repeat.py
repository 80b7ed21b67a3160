"""Loops whose number of steps is only known at run time, as Relax functions.

Before   repeat(step)                    from a state s, while s.goes_on
After    def run(k, s):                  2^k steps: half of them, then the other half
             if k == 0: return step(s)
             half = run(k - 1, s)
             return run(k - 1, half) if half.goes_on else half
         def loop(k, s):                 2^k steps, then twice as many, and so on
             return loop(k + 1, run(k, longer(s))) if s.goes_on else s
         loop(0, s)

A function that called itself once a step would overflow the stack after some two thousand; here
calls lie at most twice as deep as the number of steps has bits. What the steps give one by one is
written into buffers, which `loop` makes long enough before each run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, te, tirx
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.sym import Analyzer
from tvm.tirx.analysis import undefined_vars

from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.compiler.importer.convert.sizes import Size, kernel, sizes_of
from tilewright.compiler.lower import OPAQUE
from tilewright.errors import UnsupportedModel

# The fields of a state before those of the model.
_NUMBER, _GOES_ON, _FIRST = range(3)
# Steps in a row, without halving: what a call costs is as much as a few small kernels.
_FEW = 16
_LARGEST = 1 << 40
# Those of a value in all steps: None is one that changes.
Sizes = list[Size | None]


@dataclass(frozen=True)
class Step:
    """What one step makes: the condition of a next one, the states, and what is stacked.

    The condition is a scalar of bool; None is true. What is stacked has names for errors.
    """

    condition: relax.Expr | None
    states: Sequence[relax.Expr]
    given: Sequence[tuple[str, relax.Expr]]


Body = Callable[[relax.Expr, list[relax.Expr]], Step]


@dataclass(frozen=True)
class Repeated:
    """What a loop makes: the last states, and buffers of what its `count` steps have given."""

    bb: relax.BlockBuilder
    count: Size
    states: list[relax.Expr]
    buffers: list[relax.Expr]

    def stacked(self, place: int, axis: int = 0, *, backwards: bool = False) -> relax.Expr:
        """What the steps have given as result `place`, side by side along a new `axis`."""

        def compute(buffer: te.Tensor, count: Size) -> te.Tensor:
            row = list(buffer.shape[1:])
            new = axis % (len(row) + 1)

            def element(*at: tirx.Var) -> tirx.Expr:
                number = count - 1 - at[new] if backwards else at[new]
                return buffer(number, *at[:new], *at[new + 1 :])

            return te.compute([*row[:new], count, *row[new:]], element, name="stacked")

        return kernel(self.bb, compute, self.buffers[place], self.count, name="stacked")


def repeat(
    bb: relax.BlockBuilder,
    limit: relax.Expr | None,
    condition: relax.Expr | None,
    states: Sequence[tuple[str, relax.Expr]],
    step: Body,
    *,
    in_dataflow: bool,
) -> Repeated:
    """Take steps from `states`, which have names for errors, while there are fewer than `limit`.

    And while their condition holds, before the first one `condition` (a scalar of bool; None is
    true). `limit` is a scalar of int64; None is none. `step` gets its number, of that kind, and the
    states; it emits into a function of its own and may read all values around it. It is called
    again where a state turns out to have another size after a step: that size is then open.
    `in_dataflow`: whether a step is without branches.

    Raises UnsupportedModel where a state changes its type, or what is stacked its size.
    """
    start = [value for _, value in states]
    sizes: list[Sizes] = [list(value.ty.shape) for value in start]
    while True:
        made = _Step(bb, start, sizes, limit, step, in_dataflow=in_dataflow)
        wider = [
            _widened(name, before, have, after)
            for (name, before), have, after in zip(states, sizes, made.states, strict=True)
        ]
        if [*map(_changing, wider)] == [*map(_changing, sizes)]:
            break
        sizes = wider
    first = _goes_on(bb, condition, relax.const(0, "int64"), limit)
    steps, last, buffers = _Loop(bb, made).call(first, start)
    known = None if limit is None else values_of(bb, limit)
    if known is not None and condition is None and made.always:
        count = _at_least_none(*known)
    else:
        (count,) = sizes_of(bb, bb.emit(relax.op.reshape(steps, [1])), "steps")
    return Repeated(bb, count, last, buffers)


def sized(bb: relax.BlockBuilder, value: relax.Expr) -> relax.Expr:
    """`value` with names for its sizes, where Relax has lost them."""
    if isinstance(value.ty.shape, relax.ShapeExpr):
        return value
    sizes = _named([None] * value.ty.ndim, "size")
    return bb.match_cast(value, relax.TensorType(sizes, value.ty.dtype))


def _at_least_none(count: tirx.Expr) -> Size:
    """`count`, or 0 where it is negative: not so that of a tensor's sizes."""
    analyzer = Analyzer()
    for size in undefined_vars(count):
        analyzer.bind(size, tvm.ir.Range(0, _LARGEST))
    return analyzer.simplify(tirx.max(count, tirx.IntImm("int64", 0)))


def _goes_on(
    bb: relax.BlockBuilder,
    condition: relax.Expr | None,
    number: relax.Expr,
    limit: relax.Expr | None,
) -> relax.Expr:
    """Whether step `number` is taken."""
    if limit is None:
        return relax.const(True, "bool") if condition is None else condition
    fewer = bb.emit(relax.op.less(number, limit))
    return fewer if condition is None else bb.emit(relax.op.logical_and(condition, fewer))


def _widened(name: str, before: relax.Expr, sizes: Sizes, after: relax.Expr) -> Sizes:
    """The sizes that a state has in all steps; None for one that changes."""
    old, new = before.ty, after.ty
    if (old.ndim, str(old.dtype)) != (new.ndim, str(new.dtype)):
        raise UnsupportedModel(
            f"{name!r} changes its type from step to step: before it is {old.dtype} with "
            f"{old.ndim} axes, then {new.dtype} with {new.ndim} axes",
            expected="values that keep their type and their number of axes",
            hint="cast or reshape the value before the loop, or at the end of its body",
        )
    made = list(new.shape) if isinstance(new.shape, relax.ShapeExpr) else [None] * new.ndim
    stays = Analyzer().can_prove_equal
    return [
        have if have is not None and size is not None and stays(have, size) else None
        for have, size in zip(sizes, made, strict=True)
    ]


class _Step:
    """The function of one step, while it still reads what is around it.

    `states` are those after it, `rows` the types of what it gives; `around` and `sizes` are the
    values and the sizes from outside. `kept` are the states' sizes, `always` says that its
    condition holds.
    """

    def __init__(
        self,
        bb: relax.BlockBuilder,
        start: Sequence[relax.Expr],
        kept: Sequence[Sizes],
        limit: relax.Expr | None,
        step: Body,
        *,
        in_dataflow: bool,
    ) -> None:
        self.kept = kept
        number = relax.Var("number", _scalar("int64"))
        states = [
            relax.Var(f"state_{n}", relax.TensorType(_named(sizes, f"size_{n}"), value.ty.dtype))
            for n, (value, sizes) in enumerate(zip(start, kept, strict=True))
        ]
        self.params = [number, *states]
        with _block(bb, in_dataflow=in_dataflow) as block:
            made = step(number, states)
            self.states = [bb.emit(value) for value in made.states]
            given = [sized(bb, bb.emit(value)) for _, value in made.given]
            written = [self._written(bb, number, row) for row in given]
            following = bb.emit(relax.op.add(number, relax.const(1, "int64")))
            goes_on = _goes_on(bb, made.condition, following, limit)
            fields = relax.Tuple([following, goes_on, *self.states, *written])
            result = bb.emit_output(fields) if in_dataflow else bb.emit(fields)
        self.body = relax.SeqExpr(block, result)
        self.rows = [value.ty for value in given]
        self.always = made.condition is None
        self.around = relax.analysis.free_vars(relax.Function(self.params, self.body, result.ty))
        self.sizes = self._outer_sizes()
        for (name, _), row in zip(made.given, self.rows, strict=True):
            if {*_sizes(row.shape.values)} - {*self.sizes}:
                raise UnsupportedModel(
                    f"what the steps give as {name!r} need not have one size: {[*row.shape]}",
                    expected="the same sizes in all steps, following from those around the loop",
                    hint="pad or slice it to one size inside the loop's body",
                )

    def _written(self, bb: relax.BlockBuilder, number: relax.Expr, row: relax.Expr) -> relax.Expr:
        """A further parameter, the buffer, with `row` as its row `number`: in place."""
        buffer = relax.Var("buffer", _buffer(row.ty))
        self.params.append(buffer)

        def write(row: te.Tensor, number: te.Tensor, capacity: Size) -> te.Tensor:
            def copy(ins: list, outs: list) -> tirx.Stmt:
                with IRBuilder() as builder:
                    _copy_row(*map(T.buffer_proxy, (*ins, *outs)))
                return builder.get()

            whole = [capacity, *row.shape]
            return te.extern([whole], [row, number], copy, dtype=[row.dtype], name="write_row")

        capacity, *_ = buffer.ty.shape
        names = {"primfunc_name_hint": "write_row", "primfunc_attrs": {"op_pattern": OPAQUE}}
        call = bb.call_te(write, row, number, capacity, **names)
        # The kernel's result is its last parameter, for which it is handed the buffer.
        arguments = relax.Tuple([row, number, buffer])
        return bb.emit(relax.op.call_tir_inplace(call.args[0], arguments, [2], buffer.ty))

    def _outer_sizes(self) -> list[tirx.Var]:
        """Sizes that the step, its states and what it reads have from around the loop."""
        free = relax.analysis.free_symbolic_vars(relax.Function([], self.body, self.body.ty))
        outer = [size for value in self.around for size in _sizes(_shape(value))]
        outer += [size for sizes in self.kept for size in _sizes(sizes)]
        own = {size for param in self.params for size in _sizes(_shape(param))} - {*outer}
        return [size for size in dict.fromkeys([*outer, *free]) if size not in own]


class _Loop:
    """The functions that repeat a step, and the call of the outermost one."""

    def __init__(self, bb: relax.BlockBuilder, step: _Step) -> None:
        self._bb, self._step = bb, step
        # What changes from step to step is not said of a state.
        states = [
            relax.TensorType(dtype=value.ty.dtype, ndim=len(sizes))
            if _changing(sizes)
            else relax.TensorType(sizes, value.ty.dtype)
            for value, sizes in zip(step.states, step.kept, strict=True)
        ]
        buffers = [relax.TensorType(None, row.dtype, ndim=row.ndim + 1) for row in step.rows]
        self._type = relax.TupleType([_scalar("int64"), _scalar("bool"), *states, *buffers])
        self._end = _FIRST + len(states)

    def call(
        self, goes_on: relax.Expr, start: Sequence[relax.Expr]
    ) -> tuple[relax.Expr, list[relax.Expr], list[relax.Expr]]:
        """Emit what takes the steps from the states `start`, if there is a first one.

        How many there were (int64, a scalar), the last states, and the buffers.
        """
        bb, rows = self._bb, self._step.rows
        step = bb.add_func(self._closed(self._step.params, self._step.body), "loop_step")
        run, loop = self._declared("loop_run"), self._declared("loop")
        self._define(run, lambda k, state: self._half_and_half(run, step, k, state))
        self._define(loop, lambda k, state: self._ever_more(loop, run, k, state))
        empty = [bb.emit(relax.op.zeros(_with_rows(0, row), row.dtype)) for row in rows]
        first = relax.Tuple([relax.const(0, "int64"), goes_on, *start, *empty])
        done = bb.emit(self._called(loop, tirx.IntImm("int64", 0), first))
        fields = self._fields(done)
        states = [
            bb.match_cast(field, relax.TensorType(_named(sizes, "size"), field.ty.dtype))
            for field, sizes in zip(fields[_FIRST : self._end], self._step.kept, strict=True)
        ]
        buffers = [
            bb.match_cast(field, _buffer(row))
            for field, row in zip(fields[self._end :], rows, strict=True)
        ]
        return fields[_NUMBER], states, buffers

    def _half_and_half(
        self, run: relax.GlobalVar, step: relax.GlobalVar, k: tirx.Var, state: relax.Var
    ) -> relax.Expr:
        """The body of `run`: 2^k times a few steps, or as many as there are."""
        half, fewer = relax.Var("half", self._type), k - 1
        first = relax.VarBinding(half, self._called(run, fewer, state))
        other = self._if_it_goes_on(half, self._called(run, fewer, half))
        halves = relax.SeqExpr([relax.BindingBlock([first])], other)
        return relax.If(k == 0, self._few(step, state, _FEW), halves)

    def _few(self, step: relax.GlobalVar, state: relax.Var, count: int) -> relax.Expr:
        """`count` steps, or as many as there are; a first one there is."""
        fields = [relax.TupleGetItem(state, n) for n in range(len(self._type.fields))]
        after = relax.Var("after", self._type)
        # That it is taken goes without saying in a step.
        one = relax.VarBinding(after, self._called(step, fields[_NUMBER], *fields[_FIRST:]))
        rest = after
        if count > 1:
            rest = self._if_it_goes_on(after, self._few(step, after, count - 1))
        return relax.SeqExpr([relax.BindingBlock([one])], rest)

    def _if_it_goes_on(self, state: relax.Var, then: relax.Expr) -> relax.Expr:
        return relax.If(relax.TupleGetItem(state, _GOES_ON), then, state)

    def _ever_more(
        self, loop: relax.GlobalVar, run: relax.GlobalVar, k: tirx.Var, state: relax.Var
    ) -> relax.Expr:
        """The body of `loop`: 2^k steps, then twice as many, and so on."""
        bb = self._bb
        with _block(bb, in_dataflow=False) as block:
            fields = self._fields(state)
            longer = [
                _longer(bb, bb.match_cast(buffer, _buffer(row)))
                for buffer, row in zip(fields[self._end :], self._step.rows, strict=True)
            ]
            done = bb.emit(self._called(run, k, relax.Tuple([*fields[: self._end], *longer])))
        rest = relax.SeqExpr(block, self._called(loop, k + 1, done))
        return self._if_it_goes_on(state, rest)

    def _fields(self, state: relax.Expr) -> list[relax.Expr]:
        count = len(self._type.fields)
        return [self._bb.emit(relax.TupleGetItem(state, n)) for n in range(count)]

    def _called(self, function: relax.GlobalVar, *given: relax.Expr) -> relax.Call:
        sizes = relax.ShapeExpr(self._step.sizes)
        return relax.Call(function, [*given, *self._step.around, sizes])

    def _declared(self, name: str) -> relax.GlobalVar:
        """A name for a function that calls itself; until it is defined it does nothing."""
        k, state = tirx.Var("k", "int64"), relax.Var("state", self._type)
        nothing = self._closed([k, state], relax.SeqExpr([], state))
        # The builder gives one name to functions that are equal.
        return self._bb.add_func(nothing.with_attr("declares", name), name)

    def _define(
        self, function: relax.GlobalVar, body: Callable[[tirx.Var, relax.Var], relax.Expr]
    ) -> None:
        k, state = tirx.Var("k", "int64"), relax.Var("state", self._type)
        whole = self._closed([k, state], relax.SeqExpr([], body(k, state)))
        self._bb.update_func(function, whole)

    def _closed(self, params: Sequence[relax.Var], body: relax.SeqExpr) -> relax.Function:
        """A function whose further parameters are the values and sizes from around the loop."""
        around = {value: relax.Var(value.name, value.ty) for value in self._step.around}
        sizes = relax.Var("sizes", relax.ShapeType(self._step.sizes))
        body = _Replaced(around).visit_expr(body)
        function = relax.Function([*params, *around.values(), sizes], body, self._type)
        return self._bb.normalize(relax.utils.copy_with_new_vars(function))


@mutator
class _Replaced(PyExprMutator):
    """Other variables in the place of some."""

    def __init__(self, new: Mapping[relax.Var, relax.Var]) -> None:
        super().__init__()
        self._new = new

    def visit_var_(self, op: relax.Var) -> relax.Expr:
        return self._new[op] if op in self._new else super().visit_var_(op)

    def visit_dataflow_var_(self, op: relax.DataflowVar) -> relax.Expr:
        return self._new[op] if op in self._new else super().visit_dataflow_var_(op)


@contextlib.contextmanager
def _block(bb: relax.BlockBuilder, *, in_dataflow: bool) -> Iterator[list[relax.BindingBlock]]:
    """A block beside the one that is being built; it is in the list afterwards."""
    made: list[relax.BindingBlock] = []
    if in_dataflow:
        bb._begin_dataflow_block()
    else:
        bb._begin_binding_block()
    try:
        yield made
    finally:
        made.append(bb._end_block())


def _longer(bb: relax.BlockBuilder, buffer: relax.Expr) -> relax.Expr:
    """As many rows as all steps up to then give: a few, then three times as many, and so on."""

    def compute(buffer: te.Tensor) -> te.Tensor:
        have, *row = buffer.shape
        zero = tirx.const(0, buffer.dtype)

        def element(number: tirx.Var, *at: tirx.Var) -> tirx.Expr:
            return tirx.if_then_else(number < have, buffer(number, *at), zero)

        return te.compute([have * 2 + _FEW, *row], element, name="longer")

    return kernel(bb, compute, buffer, name="longer")


def _copy_row(row: Any, number: Any, buffer: Any) -> None:
    """Write the loops that put `row` into the buffer."""
    at: list[Any] = []
    with contextlib.ExitStack() as loops:
        for size in row.shape:
            at.append(loops.enter_context(T.serial(0, size)))
        buffer[(number[()], *at)] = row[tuple(at)]


def _scalar(dtype: str) -> relax.TensorType:
    return relax.TensorType([], dtype)


def _with_rows(count: Size, row: relax.TensorType) -> relax.ShapeExpr:
    return relax.ShapeExpr([count, *row.shape])


def _buffer(row: relax.TensorType) -> relax.TensorType:
    return relax.TensorType(_with_rows(tirx.Var("capacity", "int64"), row), row.dtype)


def _changing(sizes: Sizes) -> list[int]:
    """The axes along which a size changes."""
    return [axis for axis, size in enumerate(sizes) if size is None]


def _named(sizes: Sizes, name: str) -> list[Size]:
    """The sizes, with variables for those that change."""
    return [
        tirx.Var(f"{name}_{n}", "int64") if size is None else size for n, size in enumerate(sizes)
    ]


def _shape(value: relax.Expr) -> Sequence[Size]:
    """The sizes in the type of a tensor or a shape, as far as it has some."""
    if isinstance(value.ty, relax.TensorType):
        return value.ty.shape.values if isinstance(value.ty.shape, relax.ShapeExpr) else ()
    return getattr(value.ty, "values", None) or ()


def _sizes(expressions: Iterable[Size | None]) -> list[tirx.Var]:
    known = (size for size in expressions if isinstance(size, tirx.Expr))
    return [var for size in known for var in undefined_vars(size)]
