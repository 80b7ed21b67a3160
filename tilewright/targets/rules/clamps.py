"""Let AArch64 clamp with one instruction what TVM compares and then selects.

Before   T.max(0.0, x)                      fcmlt, bic
After    T.call_llvm("llvm.maximum", ...)   fmax

TVM's larger of two is `a > b ? a : b`: where one is a NaN, the second. FMAX gives the NaN, which is
the same wherever the first is a constant. Source: Arm Architecture Reference Manual for A-profile,
FMAX and FMIN (vector). x86 has MAXPS, which is what TVM says.
"""

from __future__ import annotations

import math

import tvm_ffi
from tvm import tirx

_INTRINSICS = {tirx.Max: "llvm.maximum", tirx.Min: "llvm.minimum"}


def clamp_at_once(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """A kernel for AArch64 with its clamps as intrinsics; any other as it is."""
    target = function.attrs.get("target")
    if target is None or not target.attrs.get("feature.is_aarch64"):
        return function
    return tvm_ffi.structural_map(function, ((tirx.Max, tirx.Min), _clamp))


def _clamp(extreme: tirx.Max | tirx.Min) -> tirx.Expr:
    if not _is_number(extreme.a) or not str(extreme.ty.dtype).startswith("float32"):
        return extreme
    dtype = str(extreme.ty.dtype)
    return tirx.call_llvm_pure_intrin(dtype, _INTRINSICS[type(extreme)], extreme.a, extreme.b)


def _is_number(value: tirx.Expr) -> bool:
    """Whether it is a constant, and no NaN."""
    value = value.value if isinstance(value, tirx.Broadcast) else value
    return isinstance(value, tirx.FloatImm) and not math.isnan(value.value)
