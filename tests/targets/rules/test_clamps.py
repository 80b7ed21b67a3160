from __future__ import annotations

import pytest
from tvm import tirx

from tests.targets.rules.machine_code import instructions
from tilewright.targets.rules.tir import Kernel, loop, number


def _clamped(low: float | None = 0.0, dtype: str = "float32") -> tirx.PrimFunc:
    """y = min(6, max(low, x)), of two values where low is None."""
    kernel = Kernel("main")
    x, z, y = (kernel.param((64,), dtype, name) for name in "xzy")

    def four(i):
        value = x.load(i * 4, 4)
        least = z.load(i * 4, 4) if low is None else number(low, dtype, 4)
        return y.store(i * 4, tirx.min(number(6.0, dtype, 4), tirx.max(least, value)), 4)

    return kernel.finish(loop(16, four, "i"))


def _names(function: tirx.PrimFunc, target: str) -> set[str]:
    return {line.split("\t")[0] for line in instructions(function, target)}


@pytest.mark.parametrize("target", ["rpi3", "rpi4", "graviton3"])
def test_a_clamp_is_one_instruction_for_each_end(target):
    names = _names(_clamped(), target)
    assert {"fmax", "fmin"} <= names and not {"fcmgt", "fcmlt", "fcmge", "bit", "bic"} & names


def test_of_two_values_the_order_says_which_nan_is_lost():
    names = _names(_clamped(None), "rpi4")
    assert "fmin" in names and "fmax" not in names


def test_other_types_are_as_they_were():
    assert not {"fmax", "fmin"} & _names(_clamped(dtype="float64"), "rpi4")


def test_x86_compares_and_selects_at_once():
    assert {"vmaxps", "vminps"} <= _names(_clamped(), "x86-64-avx2")
