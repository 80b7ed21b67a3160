"""exp, log, tanh and their kin as polynomials in TIR, for float32 vectors of any length.

Before   y[0:8] = T.exp(x[0:8])       # LLVM: eight calls of expf, one a lane
After    y[0:8] = T.Let(p * 2**n, where={n: round(x * log2(e)), p: polynomial(x - n * ln(2))})

Multiplications, additions, comparisons and shifts of integers only: no branch, no table, no call.
Scalars become the same code, and LLVM can then vectorise the loop around them.

Greatest error in units in the last place (ULP) of the exact result, with FMA and without, found
over every fifth float32 between 2^-10 and 104 on both sides of 0. A sample of all of float32
holds it in tests/targets/rules/test_vector_math.py.

    exp, exp_nonpositive    1.2        tanh            3.9
    expm1                   1.7        erf             3.9
    log                     0.9        sigmoid         2.5, x > -87: 0 from -88.7 on
    log1p                   1.6
    elu, alpha = 1          1.7        softplus        2.6
    silu, x > -87           3.3        mish, x > -87   4.8

gelu and gelu_tanh are within 1.6e-7 max(1, |x|) and, for x > -1, within 4.9 and 3.2 ULP. Further
down gelu loses relative accuracy as any 1 + erf(x) does: below -5.2 nothing is left of it.

NaN gives NaN, and an infinity the limit, but for -inf in silu, mish and both gelu: there they are
-inf times 0, which is NaN, as in ONNX Runtime. tanh and erf keep the sign of 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tvm import tirx

# Coefficients, constant term first, as tools/fit_polynomials.py prints them.
_EXP = (0.5, 0.16666533, 0.04166722, 0.008367582, 0.0013865443)
_LOG = (
    *(0.3333333, -0.2500082, 0.20001242, -0.16623409),
    *(0.1420158, -0.1315961, 0.12762217, -0.07636439),
)
_LOG1P = (
    *(1.0, -0.4999993, 0.33330464, -0.2495802, 0.19692121),
    *(-0.15344977, 0.10661371, -0.057460487, 0.02008847, -0.0032910798),
)
_TANH = (0.84375, 0.06083309, -0.00054700935, -3.0747473e-05, -1.0831166e-07)
_TANH_BELOW = (1.0, 0.46716008, 0.0258843, 0.00032883667, 7.7880776e-07)
_ERF = (0.87837917, 0.0646417, 0.024209084, 1.5769767e-05, -5.307739e-06, -7.4643226e-06)
_ERF_BELOW = (1.0, 0.50179654, 0.11397464, 0.01493991, 0.0011584712, 3.8055103e-05)

# ln(2) in two parts: n * _LN2_HIGH is exact for the n met here (Cody and Waite 1980).
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2) - _LN2_HIGH
# 1.5 * 2^23: a float of this size has no fraction, so that adding it rounds to an integer, which
# then stands in the low bits. Conversion to an integer would be undefined for NaN.
_ROUND = 12582912.0
_MANTISSA_BITS = 23
_MANTISSA = (1 << _MANTISSA_BITS) - 1
_BIAS = 127
_SQRT_HALF_BITS = 0x3F3504F3
_SMALLEST_NORMAL = 2.0**-126
# Below, exp is 0 and expm1 is -1; above, both are infinite.
_EXP_LEAST, _EXP_MOST, _EXPM1_LEAST = -104.0, 89.0, -20.0
# 2^n has an exponent between them: at the least x it is that of infinity.
_SIGMOID_LEAST, _SIGMOID_MOST = -89.0, 87.0
# From here on tanh and erf are 1.
_TANH_MOST, _ERF_MOST = 9.02, 3.925

Expr = tirx.Expr


class Lets:
    """Values computed once, for all the code that follows: `let` calls in order, then `body`."""

    def __init__(self) -> None:
        self._bound: list[tuple[tirx.Var, Expr]] = []

    def __call__(self, value: Expr, name: str) -> tirx.Var:
        """A variable that holds `value`."""
        var = tirx.Var(name, value.ty)
        self._bound.append((var, value))
        return var

    def body(self, result: Expr) -> Expr:
        """`result`, within all that was bound."""
        for var, value in reversed(self._bound):
            result = tirx.Let(var, value, result)
        return result


def like(x: Expr, value: float) -> Expr:
    """`value` in every lane of something with the type of `x`, float32."""
    scalar, lanes = tirx.const(value, "float32"), x.ty.dtype.lanes
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def exp(x: Expr) -> Expr:
    """The exponential function; subnormal results are not flushed."""
    let = Lets()
    r, n = _reduced(let, tirx.min(_EXP_MOST, tirx.max(_EXP_LEAST, x)), 2 * _BIAS)
    # 2^n in two factors: neither leaves the normal numbers where 2^n does.
    half = let(n >> 1, "half")
    return let.body(_exp_near_zero(r) * _power(half) * _power(n - half))


def exp_nonpositive(x: Expr) -> Expr:
    """exp(x) for x <= 0 or NaN, with less work: softmax and sigmoid need no more."""
    let = Lets()
    r, n = _reduced(let, tirx.max(_EXP_LEAST, x), _BIAS + 64)
    # The power is 2^64 too large, and so normal; only the last product may become subnormal.
    return let.body(_exp_near_zero(r) * _power(n) * 2.0**-64)


def expm1(x: Expr) -> Expr:
    """exp(x) - 1, without cancellation near 0; of -0 it is 0."""
    let = Lets()
    r, n = _reduced(let, tirx.min(_EXP_MOST, tirx.max(_EXPM1_LEAST, x)), _BIAS - 1)
    # 2^n (exp(r) - 1) + (2^n - 1), at half its size: 2^128 would overflow too early.
    power = let(_power(n), "power")
    near_zero = r + r * r * _polynomial(r, _EXP)
    return let.body((power * near_zero + (power - 0.5)) * 2.0)


def log(x: Expr) -> Expr:
    """The natural logarithm; of 0 it is -inf, of negative numbers NaN."""
    let = Lets()
    x = let(x, "x")
    small = x < _SMALLEST_NORMAL
    normal = tirx.Select(small, x * 2.0**_MANTISSA_BITS, x)
    # x = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2). For negative x the subtraction
    # overflows, which LLVM leaves undefined: the last line does not select what follows from it.
    bits = let(_bits(normal) - _SQRT_HALF_BITS, "bits")
    scaled = tirx.Select(small, like(x, -_MANTISSA_BITS), like(x, 0.0))
    e = let((bits >> _MANTISSA_BITS).astype(x.ty.dtype) + scaled, "e")
    f = let(_float((bits & _MANTISSA) + _SQRT_HALF_BITS) - 1.0, "f")
    square = let(f * f, "square")
    low = f * square * _polynomial(f, _LOG) + e * _LN2_LOW - 0.5 * square
    result = f + low + e * _LN2_HIGH
    infinity, nan = like(x, math.inf), like(x, math.nan)
    inside = tirx.Select(x < math.inf, result, infinity)
    return let.body(tirx.Select(x > 0.0, inside, tirx.Select(x.equal(0.0), -infinity, nan + x)))


def log1p(x: Expr) -> Expr:
    """The logarithm of 1 + x, without what the sum loses of a small x."""
    let = Lets()
    x = let(x, "x")
    whole = let(x + 1.0, "whole")
    # What rounding took from the sum, times the slope of the logarithm there (Higham 2002, 1.14.1).
    lost = (x - (whole - 1.0)) / whole
    inside = tirx.all(whole > 0.0, whole < math.inf)
    return let.body(log(whole) + tirx.Select(inside, lost, like(x, 0.0)))


def tanh(x: Expr) -> Expr:
    """The hyperbolic tangent; exactly 1 or -1 from |x| = 9.02 on, and never beyond."""
    return _odd_rational(x, _TANH_MOST, 0.15625, _TANH, _TANH_BELOW)


def erf(x: Expr) -> Expr:
    """The error function; exactly 1 or -1 from |x| = 3.925 on, and never beyond."""
    return _odd_rational(x, _ERF_MOST, 0.25, _ERF, _ERF_BELOW)


def sigmoid(x: Expr) -> Expr:
    """The logistic function 1 / (1 + exp(-x)), as accurate below 0 as above; 0 from -88.7 on."""
    let = Lets()
    return let.body(like(x, 1.0) / _one_and_exp(let, x))


def silu(x: Expr) -> Expr:
    """SiLU, also called swish: x sigmoid(x)."""
    let = Lets()
    x = let(x, "x")
    return let.body(x / _one_and_exp(let, x))


def gelu(x: Expr) -> Expr:
    """GELU: x (1 + erf(x / sqrt(2))) / 2 (Hendrycks and Gimpel 2016)."""
    let = Lets()
    x = let(x, "x")
    half = let(x * 0.5, "half")
    return let.body(half * erf(x * math.sqrt(0.5)) + half)


def gelu_tanh(x: Expr) -> Expr:
    """GELU through tanh: its (1 + tanh(u)) / 2 is sigmoid(2 u), without cancellation below 0."""
    let = Lets()
    x = let(x, "x")
    scale = 2.0 * math.sqrt(2.0 / math.pi)
    return let.body(x * sigmoid(x * (scale * 0.044715 * (x * x) + scale)))


def softplus(x: Expr) -> Expr:
    """The logarithm of 1 + exp(x)."""
    let = Lets()
    x, z = _with_decay(let, x)
    return let.body(tirx.max(0.0, x) + z * _polynomial(z, _LOG1P))


def mish(x: Expr) -> Expr:
    """Mish: x tanh(softplus(x)) as a quotient in exp(-|x|), without logarithm (Misra 2019)."""
    let = Lets()
    x, z = _with_decay(let, x)
    # tanh(log(1 + w)) = (w^2 + 2 w) / (w^2 + 2 w + 2), for w = exp(x) or divided by its square.
    negative = x < 0.0
    above = let(tirx.Select(negative, z * (z + 2.0), 2.0 * z + 1.0), "above")
    return let.body(x * (above / (above + 2.0 * tirx.Select(negative, like(x, 1.0), z * z))))


def elu(x: Expr, alpha: float) -> Expr:
    """ELU: x above 0, alpha (exp(x) - 1) below (Clevert et al. 2015)."""
    let = Lets()
    x = let(x, "x")
    return let.body(tirx.Select(x > 0.0, x, alpha * expm1(x)))


def _one_and_exp(let: Lets, x: Expr) -> Expr:
    """1 + exp(-x), infinite where exp(-x) is; all of exp(x) for x > 87 is lost beside the 1."""
    x = let(tirx.min(_SIGMOID_MOST, tirx.max(_SIGMOID_LEAST, x)), "x")
    # As in `_reduced` for -x, which LLVM would not negate for nothing.
    rounded = let(x * -math.log2(math.e) + (_ROUND + _BIAS), "rounded")
    n = let(rounded - (_ROUND + _BIAS), "n")
    r = let(n * -_LN2_HIGH - x - n * _LN2_LOW, "r")
    n = _bits(rounded)
    return _exp_near_zero(r) * _power(n) + 1.0


def _reduced(let: Lets, x: Expr, bias: int) -> tuple[Expr, Expr]:
    """Find x = n ln(2) + r, with an integer n and |r| little over ln(2) / 2; gives r, n + bias."""
    x = let(x, "x")
    # `bias` goes into the number that rounds, and so into the bits that are shifted.
    rounded = let(x * math.log2(math.e) + (_ROUND + bias), "rounded")
    n = let(rounded - (_ROUND + bias), "n")
    return let(x - n * _LN2_HIGH - n * _LN2_LOW, "r"), let(_bits(rounded), "bits")


def _power(n: Expr) -> Expr:
    """2^(n - 127), from the low bits of n."""
    return _float(n << _MANTISSA_BITS)


def _exp_near_zero(r: Expr) -> Expr:
    return (_polynomial(r, _EXP) * r + 1.0) * r + 1.0


def _with_decay(let: Lets, x: Expr) -> tuple[Expr, Expr]:
    """Bind x and exp(-|x|)."""
    x = let(x, "x")
    return x, let(exp_nonpositive(-tirx.abs(x)), "z")


def _odd_rational(
    x: Expr, most: float, tail: float, above: Sequence[float], below: Sequence[float]
) -> Expr:
    """Evaluate x (tail + P(x^2) / Q(x^2)) for |x| up to `most`, where it is 1 or -1."""
    let = Lets()
    x = let(x, "x")
    square = let(tirx.min(most * most, x * x), "square")
    slope = tail + _polynomial(square, above) / _polynomial(square, below)
    return let.body(tirx.min(1.0, tirx.max(-1.0, x * slope)))


def _polynomial(x: Expr, coefficients: Sequence[float]) -> Expr:
    """Horner's scheme: one fused multiply-add for each coefficient; `x` is a variable."""
    *rest, total = coefficients
    for coefficient in reversed(rest):
        total = total * x + coefficient
    return total


def _bits(x: Expr) -> Expr:
    return tirx.reinterpret(_with_lanes("int32", x), x)


def _float(bits: Expr) -> Expr:
    return tirx.reinterpret(_with_lanes("float32", bits), bits)


def _with_lanes(dtype: str, x: Expr) -> str:
    lanes = x.ty.dtype.lanes
    return dtype if lanes == 1 else f"{dtype}x{lanes}"
