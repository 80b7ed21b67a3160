from __future__ import annotations

import re

import numpy as np
import pytest

from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, group
from tests.targets.rules.machine_code import instructions
from tilewright.ops import ActivationSpec, ConvSpec, GemmSpec, NormSpec, SoftmaxSpec, Step
from tilewright.targets import resolve
from tilewright.targets.rules.catalogue import RULES, lower
from tilewright.targets.rules.rule import GroupCall


def test_names_are_unique():
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)


def test_the_first_rule_that_does_not_refuse():
    x, w = floats(0, (3, 4), (4, 5))
    rule, lowered = lower(group(GemmSpec("float32", (3, 4), (4, 5), True), (3, 5), x=x, w=w), AVX2)
    assert rule.name == "linear" and lowered.launches[-1].shape == (3, 5)


def test_no_rule_for_a_spec():
    spec = ActivationSpec("float32", Step("relu"), (3,))
    assert lower(group(spec, (3,)), AVX2) == {}


# What kernels of most rules become on targets of every vector width.

# Target: the widest registers of its code, and whether it has fused multiply-adds.
WIDTHS = {
    "x86-64": ("xmm", False),
    "x86-64-avx": ("ymm", False),
    "x86-64-avx2": ("ymm", True),
    "x86-64-avx512": ("zmm", True),
}
REGISTERS = ("xmm", "ymm", "zmm")


def _conv(x: tuple[int, ...], w: tuple[int, ...], groups: int = 1, exact: bool = True) -> GroupCall:
    pads = (w[-1] // 2,) * 4
    spec = ConvSpec("float32", x, w, (1, 1), pads, (1, 1), groups, epilogue=(Step("silu"),))
    a, b = floats(0, x, w)
    call = group(spec, (x[0], w[0], *x[2:]), x=a, w=b)
    return GroupCall(call.name, spec, call.arguments, call.roles, call.result, exact)


def _linear() -> GroupCall:
    x, w = floats(0, (48, 64), (64, 96))
    return group(GemmSpec("float32", x.shape, w.shape, True), (48, 96), x=x, w=w)


def _norm() -> GroupCall:
    x, w = floats(0, (16, 96), (96,))
    spec = NormSpec("float32", "layer", x.shape, (1,), 1e-5, weight=True, bias=False)
    return group(spec, x.shape, x=x, weight=w)


CALLS = {
    "linear": _linear,
    "conv": lambda: _conv((1, 32, 8, 8), (48, 32, 1, 1)),
    "depthwise": lambda: _conv((1, 64, 9, 9), (64, 1, 3, 3), groups=64),
    "winograd": lambda: _conv((1, 64, 28, 28), (64, 64, 3, 3), exact=False),
    "norm": _norm,
    "softmax": lambda: group(SoftmaxSpec("float32", (16, 96), 1), (16, 96), x=np.ones((16, 96))),
}


@pytest.mark.parametrize("target", WIDTHS)
@pytest.mark.parametrize("kind", CALLS)
def test_full_vectors_and_no_others(kind, target):
    rule, lowered = lower(CALLS[kind](), resolve(target))
    assert rule.name == {"depthwise": "conv"}.get(kind, kind)
    code = [line for launch in lowered.launches for line in instructions(launch.kernel, target)]
    widest, fma = WIDTHS[target]
    assert any(widest in line for line in code)
    wider = REGISTERS[REGISTERS.index(widest) + 1 :]
    assert not [line for line in code if any(register in line for register in wider)]
    fused = [line for line in code if re.match(r"vfn?m(add|sub)\d+p", line)]
    assert bool(fused) == fma
    assert not fma or any(widest in line for line in fused)
