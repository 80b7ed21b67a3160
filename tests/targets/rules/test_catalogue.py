from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from tests import models
from tests.compiling import module_of, reference
from tests.net import Net
from tests.targets.rules.convolutions import floats
from tests.targets.rules.lowering import AVX2, group
from tests.targets.rules.machine_code import instructions
from tilewright.ops import ActivationSpec, ConvSpec, GemmSpec, NormSpec, SoftmaxSpec, Step
from tilewright.targets import resolve
from tilewright.targets.rules.catalogue import RULES, lower
from tilewright.targets.rules.rule import GroupCall
from tilewright.verification.inputs import random_inputs


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


# NaN and infinities, as ONNX Runtime has them, through every rule.

SPECIAL = (np.nan, np.inf, -np.inf)


def _convolution(x: models.Shape, *w: int, op: str = "Conv", **attrs: object) -> onnx.ModelProto:
    net = Net(x=x)
    bias = net.weight(w[1] * attrs.get("group", 1) if op == "ConvTranspose" else w[0])
    return net.model(net.Relu(net.add(op, "x", net.weight(*w), bias, **attrs)))


def _product(*rows: int, layers: int = 1) -> onnx.ModelProto:
    net = Net(x=(*rows, 24))
    y = "x"
    for n in range(layers):
        y = net.Add(net.MatMul(y, net.weight(24, 24)), net.weight(24))
        y = y if n + 1 == layers else net.Tanh(y)
    return net.model(y)


def _of_values(rows: int) -> onnx.ModelProto:
    net = Net(x=(2, rows, 24))
    net.input("z", (2, 24, 20), models.FLOAT)
    return net.model(net.MatMul("x", "z"))


def _chain() -> onnx.ModelProto:
    net = Net(x=(1, 16, 9, 9))
    y = net.Relu(net.Conv("x", net.weight(32, 16, 1, 1), net.weight(32)))
    y = net.Conv(y, net.weight(32, 1, 3, 3), net.weight(32), group=32, pads=[1] * 4)
    return net.model(net.Relu(y))


def _beside() -> onnx.ModelProto:
    net = Net(x=(1, 16, 9, 9))
    y = net.Relu(net.Conv("x", net.weight(8, 16, 1, 1), net.weight(8)))
    parts = [
        net.Relu(net.Conv(y, net.weight(16, 8, k, k), net.weight(16), pads=[k // 2] * 4))
        for k in (1, 3)
    ]
    return net.model(net.Concat(*parts, axis=1))


def _squeezed() -> onnx.ModelProto:
    net = Net(x=(1, 16, 7, 7))
    y = net.Relu(net.Conv("x", net.weight(16, 1, 3, 3), net.weight(16), group=16, pads=[1] * 4))
    gate = net.Relu(net.Conv(net.GlobalAveragePool(y), net.weight(4, 16, 1, 1), net.weight(4)))
    gate = net.Sigmoid(net.Conv(gate, net.weight(16, 4, 1, 1), net.weight(16)))
    return net.model(net.Conv(net.Mul(y, gate), net.weight(8, 16, 1, 1), net.weight(8)))


def _attention() -> onnx.ModelProto:
    net = Net(x=(1, 2, 9, 16))
    scores = net.Mul(net.MatMul("x", net.Transpose("x", perm=[0, 1, 3, 2])), 0.25)
    return net.model(net.MatMul(net.Softmax(scores, axis=-1), "x"))


def _norm() -> onnx.ModelProto:
    net = Net(x=(4, 48))
    return net.model(net.LayerNormalization("x", net.weight(48, near=1.0), net.weight(48), axis=-1))


# What is compiled, and the rule that takes it.
MODELS = {
    "rows": ("linear", lambda: _product(9)),
    "one row": ("linear", lambda: _product(1)),
    "layers": ("mlp", lambda: _product(9, layers=2)),
    "values": ("matmul", lambda: _of_values(9)),
    "few rows": ("matmul", lambda: _of_values(2)),
    "windows": ("conv", lambda: _convolution((2, 5, 9, 9), 8, 5, 3, 3, strides=[2, 2])),
    "points": ("conv", lambda: _convolution((1, 16, 7, 7), 24, 16, 1, 1)),
    "dilated": ("conv", lambda: _convolution((1, 8, 9, 9), 8, 8, 3, 3, dilations=[2, 2])),
    "depthwise": (
        "conv",
        lambda: _convolution((1, 16, 9, 9), 16, 1, 3, 3, group=16, pads=[1] * 4),
    ),
    "groups": ("conv", lambda: _convolution((1, 32, 9, 9), 32, 16, 3, 3, group=2)),
    "narrow groups": ("conv", lambda: _convolution((1, 32, 9, 9), 32, 4, 3, 3, group=8)),
    "open": ("conv_open", lambda: _convolution((1, 8, "h", "w"), 8, 8, 5, 5, pads=[2] * 4)),
    "transposed": (
        "conv_transposed",
        lambda: _convolution((1, 8, 5, 5), 8, 6, 2, 2, op="ConvTranspose", strides=[2, 2]),
    ),
    "volume": ("conv_volume", lambda: _convolution((1, 4, 5, 5, 5), 8, 4, 3, 3, 3)),
    "chain": ("conv_chain", _chain),
    "beside": ("conv_concat", _beside),
    "squeezed": ("squeeze_excitation", _squeezed),
    "attention": ("attention", _attention),
    "norm": ("norm", _norm),
}


@pytest.mark.parametrize("kind", MODELS)
def test_nan_and_infinities_are_where_onnx_runtime_has_them(kind, tmp_path):
    rule, make = MODELS[kind]
    proto = make()
    module = module_of(proto, tmp_path)
    assert rule in {kernel["rule"] for kernel in module.manifest["kernels"]}
    given = random_inputs(module.manifest["inputs"], dict.fromkeys(module.manifest["dims"], 9), 0)
    for value in SPECIAL:
        x = given["x"].copy()
        x.reshape(-1)[x.size // 2] = value
        feed = {**given, "x": x}
        (exact,) = reference(proto, feed)
        np.testing.assert_allclose(module(feed), exact, rtol=2e-4, atol=2e-4)
