"""Converters of Loop and Scan whose number of steps is only known at run time.

Those of few steps are written out before (`normalise.unroll`).
Source: https://onnx.ai/onnx/operators/onnx__Loop.html, onnx__Scan.html
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import onnx
from tvm import relax, tirx
from tvm.sym import Analyzer
from tvm.tirx.analysis import undefined_vars

from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.compiler.importer.convert.repeat import Step, repeat, sized
from tilewright.compiler.importer.graph import attribute
from tilewright.errors import UnsupportedModel

# The version from which on a Scan has no batch of its own.
_SCAN_WITHOUT_BATCH = 9


class Around(Protocol):
    """What is around a loop: the importer."""

    bb: relax.BlockBuilder
    opset: int
    # Where the node lies in a branch: whether that is taken.
    taken: relax.Expr | None

    def tensor(self, name: str) -> relax.Expr:
        """A value of the model as a tensor."""

    def inside(
        self, graph: onnx.GraphProto, *, given: Mapping[str, relax.Expr]
    ) -> list[relax.Expr]:
        """The results of a graph inside a node, whose inputs are `given`."""

    def sizes(self) -> set[tirx.Var]:
        """The open sizes of all values that a graph inside a node sees."""


def loop(around: Around, node: onnx.NodeProto) -> list[relax.Expr]:
    """The results of a Loop: the last states, then what the steps have given, stacked.

    Raises UnsupportedModel for states that change their type.
    """
    bb, body = around.bb, attribute(node, "body")
    count, condition, *names = [*node.input, ""][: max(2, len(node.input))]
    limit = _scalar(bb, around.tensor(count)) if count else None
    first = _unless_true(bb, around.tensor(condition)) if condition else None
    if around.taken is not None:
        # The loop of a branch that is not taken need not end.
        first = (
            around.taken if first is None else bb.emit(relax.op.logical_and(first, around.taken))
        )
    inputs = [value.name for value in body.input]
    results = [value.name for value in body.output][1 + len(names) :]
    known = around.sizes()

    def step(number: relax.Expr, states: list[relax.Expr]) -> Step:
        true = relax.const(True, "bool")
        own = [_like(bb, body.input[0], number), _like(bb, body.input[1], true)]
        made = around.inside(body, given=dict(zip(inputs, [*own, *states], strict=True)))
        made = _as_declared(bb, body, made, known)
        last, given = made[1 : 1 + len(names)], made[1 + len(names) :]
        return Step(_unless_true(bb, made[0]), last, [*zip(results, given, strict=True)])

    states = [(name, sized(bb, around.tensor(name))) for name in names]
    done = repeat(bb, limit, first, states, step, in_dataflow=_is_straight(body))
    return [*done.states, *(done.stacked(place) for place in range(len(results)))]


def scan(around: Around, node: onnx.NodeProto) -> list[relax.Expr]:
    """The results of a Scan: the last states, then what the steps have given, stacked.

    Raises UnsupportedModel for states that change their type, and for the Scan of version 8.
    """
    if around.opset < _SCAN_WITHOUT_BATCH:
        raise UnsupportedModel(
            "this Scan has a batch and lengths of its own",
            expected=f"Scan as it is since version {_SCAN_WITHOUT_BATCH} of the operator set",
            hint="export the model with a newer operator set",
        )
    bb, body = around.bb, attribute(node, "body")
    count = attribute(node, "num_scan_inputs")
    names, scanned = list(node.input)[:-count], list(node.input)[-count:]
    results = [value.name for value in body.output][len(names) :]
    given_axes = attribute(node, "scan_input_axes", [0] * count)
    back = attribute(node, "scan_input_directions", [0] * count)
    out_axes = attribute(node, "scan_output_axes", [0] * len(results))
    out_back = attribute(node, "scan_output_directions", [0] * len(results))
    parts = [sized(bb, around.tensor(name)) for name in scanned]
    axes = [axis % part.ty.ndim for axis, part in zip(given_axes, parts, strict=True)]
    length = parts[0].ty.shape[axes[0]]
    parts = [_of_length(bb, part, axis, length) for part, axis in zip(parts, axes, strict=True)]
    limit = _scalar(bb, bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr([length]))))
    last = bb.emit(relax.op.subtract(limit, relax.const(1, "int64"))) if any(back) else limit
    inputs, known = [value.name for value in body.input], around.sizes()

    def step(number: relax.Expr, states: list[relax.Expr]) -> Step:
        from_end = bb.emit(relax.op.subtract(last, number)) if any(back) else number
        slices = [
            bb.emit(relax.op.take(part, from_end if back[n] else number, axes[n], mode="clip"))
            for n, part in enumerate(parts)
        ]
        made = around.inside(body, given=dict(zip(inputs, [*states, *slices], strict=True)))
        made = _as_declared(bb, body, made, known)
        given = zip(results, made[len(names) :], strict=True)
        return Step(None, made[: len(names)], [*given])

    states = [(name, sized(bb, around.tensor(name))) for name in names]
    done = repeat(bb, limit, None, states, step, in_dataflow=_is_straight(body))
    each = zip(out_axes, out_back, strict=True)
    stacks = [done.stacked(n, axis, backwards=bool(b)) for n, (axis, b) in enumerate(each)]
    return [*done.states, *stacks]


def _is_straight(body: onnx.GraphProto) -> bool:
    return not any(node.op_type == "If" for node in body.node)


def _scalar(bb: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
    return bb.emit(relax.op.reshape(x, []))


def _unless_true(bb: relax.BlockBuilder, condition: relax.Expr) -> relax.Expr | None:
    """A scalar; None for a condition that is known to be true."""
    known = values_of(bb, condition)
    if known is not None and all(isinstance(v, tirx.IntImm) and int(v) for v in known):
        return None
    return _scalar(bb, condition)


def _like(bb: relax.BlockBuilder, value: onnx.ValueInfoProto, x: relax.Expr) -> relax.Expr:
    """A scalar with as many axes as `value` is declared with: none or one."""
    axes = len(value.type.tensor_type.shape.dim)
    return bb.emit(relax.op.reshape(x, [1])) if axes == 1 else x


def _as_declared(
    bb: relax.BlockBuilder, body: onnx.GraphProto, results: list[relax.Expr], known: set[tirx.Var]
) -> list[relax.Expr]:
    """The results of `body`; sizes that a step computes are those that it declares, if it does.

    Before   o = Slice(x, i, i + 1): [size_0]    declared as [1]
    After    o: [1]                              what is not so fails at run time
    """
    made = []
    for value, result in zip(body.output, map(partial(sized, bb), results), strict=True):
        declared = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        own = list(result.ty.shape)
        sizes = [
            size if number <= 0 or known.issuperset(undefined_vars(size)) else number
            for number, size in zip(declared, own, strict=False)
        ]
        if len(declared) == len(own) and any(a is not b for a, b in zip(sizes, own, strict=True)):
            result = bb.match_cast(result, relax.TensorType(sizes, result.ty.dtype))
        made.append(result)
    return made


def _of_length(bb: relax.BlockBuilder, x: relax.Expr, axis: int, length: tirx.Expr) -> relax.Expr:
    """`x`, whose size along `axis` is `length`: what is not so fails at run time."""
    sizes = list(x.ty.shape)
    if Analyzer().can_prove_equal(sizes[axis], length):
        return x
    sizes[axis] = length
    return bb.match_cast(x, relax.TensorType(sizes, x.ty.dtype))
