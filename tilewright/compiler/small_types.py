"""Types that kernels have no name for: what stands for them where arrays come in and go out.

    bfloat16, float8, float4       their bits, as uint16 or uint8
    int4, uint4, int2, uint2       their values, as int8 or uint8

In between, the former are computed with in float32 and the latter as int8 or uint8. numpy knows
these types from the package ml_dtypes, which has each in whole bytes.
"""

from __future__ import annotations

import numpy as np

BITS = {
    "bfloat16": "uint16",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
    "float4_e2m1fn": "uint8",
}
VALUES = {"int4": "int8", "uint4": "uint8", "int2": "int8", "uint2": "uint8"}
# What stands for each of them in a library's interface.
STORED = {**BITS, **VALUES}


def numpy_type(name: str) -> np.dtype:
    """The type called `name`, small or not."""
    if name not in STORED:
        return np.dtype(name)
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))


def stored(array: np.ndarray) -> np.ndarray:
    """What stands for an array of a small type; an array of another type as it is."""
    name = array.dtype.name
    return array.view(BITS[name]) if name in BITS else array.astype(VALUES.get(name, name))


def restored(array: np.ndarray, name: str) -> np.ndarray:
    """The array of type `name` that `array` stands for."""
    if name in BITS:
        return array.view(numpy_type(name))
    return array.astype(numpy_type(name)) if name in VALUES else array


def computed_name(name: str) -> str:
    """The type that numbers of the type `name` are computed with in."""
    return "float32" if name in BITS else VALUES.get(name, name)


def computed(array: np.ndarray) -> np.ndarray:
    """The numbers of an array in the type that is computed with."""
    return array.astype(computed_name(array.dtype.name))
