"""Put polynomials in the place of TVM's exp, log, tanh, erf and sigmoid, in any kernel.

Before   y[i] = T.tanh(x[i])          # a libm call for each element
After    y[i] = T.Let(T.min(1, T.max(-1, x * slope)), where={x: x[i], square: ..., ...})

The logarithm of 1 + x is a function of its own, and whole powers are products. Whether a value is
NaN is read from its bits, and the larger of two that keeps NaN is one intrinsic: of calls LLVM
makes no vectors. For kernels that TVM's own lowering wrote; rules of ours call `vector_math`
themselves. Leaves calls in types other than float32 alone, but for powers, and functions that are
not in the table.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import tirx

from tilewright.targets.rules import vector_math

# The largest exponent whose power is written as products: three squares and as many products.
MOST_POWER = 8

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
    function = tvm_ffi.structural_map(function, (tirx.Select, _keep_nan))
    return tvm_ffi.structural_map(function, (tvm.ir.Call, _expand))


def _keep_nan(chosen: tirx.Select) -> tirx.Expr:
    """The larger or smaller of two, NaN where one is: LLVM has an intrinsic for that.

    Of the choice it makes stores with a mask, which a Zen 3 takes for a subroutine.
    """
    asked, picked = chosen.condition, chosen.false_value
    kind = _EXTREMES.get(type(picked))
    if kind is None or getattr(getattr(asked, "op", None), "name", "") != "tirx.isnan":
        return chosen
    same = tvm_ffi.structural_equal
    if not all(same(asked.args[0], one) for one in (chosen.true_value, picked.a)):
        return chosen
    if str(picked.ty.dtype) not in ("float32", "float64"):
        return chosen
    return tirx.call_llvm_pure_intrin(str(picked.ty.dtype), kind, picked.a, picked.b)


_EXTREMES = {tirx.Max: "llvm.maximum", tirx.Min: "llvm.minimum"}


def _expand(call: tvm.ir.Call) -> tirx.Expr:
    name = getattr(call.op, "name", "")
    if name == "tirx.isnan" and str(call.args[0].ty.dtype) == "float32":
        return _is_nan(call.args[0])
    if name == "tirx.pow" and (whole := _whole(call.args[1])) is not None:
        return _product(call.args[0], whole)
    expansion = _EXPANSIONS.get(name)
    if expansion is None or not str(call.ty.dtype).startswith("float32"):
        return call
    if expansion is vector_math.log and (small := _beside_one(call.args[0])) is not None:
        return vector_math.log1p(small)
    return expansion(*call.args)


def _whole(exponent: tirx.Expr) -> int | None:
    """An exponent that is a whole number, of which a few multiplications are the power."""
    value = exponent.value if isinstance(exponent, tirx.FloatImm) else 0
    return int(value) if value in range(2, MOST_POWER + 1) else None


def _product(base: tirx.Expr, exponent: int) -> tirx.Expr:
    """`base` times itself: squares of squares, and of them those that `exponent` has in it."""
    let = vector_math.Lets()
    square, result = let(base, "base"), None
    while True:
        exponent, odd = divmod(exponent, 2)
        if odd:
            result = square if result is None else let(result * square, "power")
        if not exponent:
            return let.body(result)
        square = let(square * square, "square")


def _is_nan(x: tirx.Expr) -> tirx.Expr:
    """Whether the exponent is full and the fraction is not 0 (IEEE 754-2019, section 3.4)."""
    without_sign, infinity = (tirx.IntImm("int32", bits) for bits in (0x7FFFFFFF, 0x7F800000))
    return (tirx.reinterpret("int32", x) & without_sign) > infinity


def _beside_one(x: tirx.Expr) -> tirx.Expr | None:
    """Of a sum with 1, the other operand: a softplus below 0 is no more than that."""
    if isinstance(x, tirx.Add):
        for one, other in ((x.a, x.b), (x.b, x.a)):
            one = one.value if isinstance(one, tirx.Broadcast) else one
            if isinstance(one, tirx.FloatImm) and one.value == 1.0:
                return other
    return None
