"""What a model demands of its inputs, looked at when it runs."""

from __future__ import annotations

from typing import Any

from tvm import relax, te, tirx
from tvm.script.ir_builder import tirx as T

from tilewright.compiler.importer.convert.sequential import sequential


def only_if(
    bb: relax.BlockBuilder,
    condition: relax.Expr,
    wanted: bool,
    message: str,
    values: list[relax.Expr],
) -> list[relax.Expr]:
    """`values`, each of which is there only when the element of `condition` is `wanted`.

    Otherwise a run that needs one of them ends in an error that says `message`.
    """

    def write(condition: Any, x: Any, y: Any) -> None:
        found = condition[0]
        with T.Assert(found if wanted else tirx.Not(found), message, "ValueError"):
            pass
        with T.serial(0, x.shape[0]) as n:
            y[n] = x[n]

    def like(_condition: te.Tensor, x: te.Tensor) -> list:
        return [(x.shape, str(x.dtype))]

    condition = bb.emit(relax.op.reshape(condition, [1]))
    demanded = []
    for value in values:
        flat = bb.emit(relax.op.reshape(value, [-1]))
        (same,) = sequential(bb, write, [condition, flat], like, name="only_if")
        demanded.append(bb.emit(relax.op.reshape(same, value.ty.shape)))
    return demanded
