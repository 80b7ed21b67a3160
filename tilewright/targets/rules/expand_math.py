"""Put polynomials in the place of TVM's exp, log, tanh, erf and sigmoid, in any kernel.

Before   y[i] = T.tanh(x[i])          # a libm call for each element
After    y[i] = T.Let(T.min(1, T.max(-1, x * slope)), where={x: x[i], square: ..., ...})

The logarithm of 1 + x is a function of its own. For kernels that TVM's own lowering wrote; rules of
ours call `vector_math` themselves. Leaves calls in types other than float32 alone, and functions
that are not in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx

from tilewright.targets.rules import vector_math

_EXPANSIONS: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {
    "tirx.exp": vector_math.exp,
    "tirx.log": vector_math.log,
    "tirx.tanh": vector_math.tanh,
    "tirx.erf": vector_math.erf,
    "tirx.sigmoid": vector_math.sigmoid,
}


def expand_math(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Expand the calls in one kernel, scalars and vectors of any length.

    To be run after scheduling, which is about loop nests and needs no arithmetic in its way, and
    before code generation, whose vectoriser takes what comes out as any other arithmetic.
    """
    return tvm_ffi.structural_map(function, (tvm.ir.Call, _expand))


def _expand(call: tvm.ir.Call) -> tirx.Expr:
    expansion = _EXPANSIONS.get(getattr(call.op, "name", ""))
    if expansion is None or not str(call.ty.dtype).startswith("float32"):
        return call
    if expansion is vector_math.log and (small := _beside_one(call.args[0])) is not None:
        return vector_math.log1p(small)
    return expansion(*call.args)


def _beside_one(x: tirx.Expr) -> tirx.Expr | None:
    """Of a sum with 1, the other operand: a softplus below 0 is no more than that."""
    if isinstance(x, tirx.Add):
        for one, other in ((x.a, x.b), (x.b, x.a)):
            one = one.value if isinstance(one, tirx.Broadcast) else one
            if isinstance(one, tirx.FloatImm) and one.value == 1.0:
                return other
    return None
