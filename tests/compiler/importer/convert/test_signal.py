from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import module_of
from tests.net import Net, answers_each
from tilewright.compiler.importer.load import load
from tilewright.errors import UnsupportedModel
from tilewright.verification.reference import DoubleReference

RANDOM = np.random.default_rng(7)


def _signal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def _pairs(y: np.ndarray) -> np.ndarray:
    return np.stack([y.real, y.imag], -1)


def _complex(x: np.ndarray) -> np.ndarray:
    return x[..., 0] + 1j * x[..., 1] if x.shape[-1] == 2 else x[..., 0]


def _dft(shape, length=None, opset: int = 20, axis: int = 1, **attrs):
    net = Net(opset=opset, x=shape)
    given = net.const(length, np.int64) if isinstance(length, int) else ""
    if length == "computed":
        given = net.input("length", ())
    if opset < 20:
        return net.model(net.add("DFT", "x", given, axis=axis, **attrs))
    return net.model(net.add("DFT", "x", given, net.const(axis, np.int64), **attrs))


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("length", [None, 5, 13])
def test_a_spectrum(opset, parts, axis, length, tmp_path):
    x = _signal(2, 9, 7, parts)
    y = module_of(_dft(x.shape, length, opset, axis), tmp_path)(x)
    expected = np.fft.fft(_complex(x).astype(complex), length, axis)
    np.testing.assert_allclose(y, _pairs(expected), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 9, 1), (2, "n", 1)])
@pytest.mark.parametrize("length", [None, 6, "computed"])
def test_half_of_it(shape, length, tmp_path):
    x = _signal(2, 9, 1)
    module = module_of(_dft(shape, length, onesided=1), tmp_path)
    for points in (6, 14) if length == "computed" else (length,):
        given = {"x": x, "length": np.array(points)} if length == "computed" else {"x": x}
        expected = np.fft.rfft(x[..., 0].astype(float), points, 1)
        np.testing.assert_allclose(module(given), _pairs(expected), atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 5, 2), (2, "n", 2)])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("length", [None, 7, "computed"])
def test_back_again(shape, onesided, length, tmp_path):
    x = _signal(2, 5, 2)
    module = module_of(_dft(shape, length, inverse=1, onesided=onesided), tmp_path)
    for points in (4, 9) if length == "computed" else (length,):
        given = {"x": x, "length": np.array(points)} if length == "computed" else {"x": x}
        values = _complex(x).astype(complex)
        if onesided:
            expected = np.fft.irfft(values, points, 1)[..., None]
        else:
            expected = _pairs(np.fft.ifft(values, points, 1))
        np.testing.assert_allclose(module(given), expected, atol=1e-5)


@pytest.mark.parametrize("onesided", [0, 1])
def test_along_an_axis_that_is_computed(onesided, tmp_path):
    net = Net(opset=20, x=(4, 5, 3, 1))
    net.input("axis", ())
    x = _signal(4, 5, 3, 1)
    module = module_of(net.model(net.add("DFT", "x", "", "axis", onesided=onesided)), tmp_path)
    for axis in (0, 1, -2):
        transform = np.fft.rfft if onesided else np.fft.fft
        expected = transform(x[..., 0].astype(float), axis=axis if axis >= 0 else axis + 1)
        np.testing.assert_allclose(module(x, np.array(axis)), _pairs(expected), atol=1e-4)


def test_a_half_back_again_needs_a_known_axis(tmp_path):
    net = Net(opset=20, x=(4, 5, 3, 2))
    net.input("axis", ())
    proto = net.model(net.add("DFT", "x", "", "axis", inverse=1, onesided=1))
    with pytest.raises(UnsupportedModel, match="the axis is computed"):
        module_of(proto, tmp_path)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("size", [50, "n"])
@pytest.mark.parametrize("window", [False, True])
def test_frames(onesided, size, window, tmp_path):
    net = Net(opset=17, x=(2, size, 1))
    weights = net.const(np.hanning(16)) if window else ""
    rest = [] if window else [net.const(16, np.int64)]
    step = net.const(5, np.int64)
    proto = net.model(net.add("STFT", "x", step, weights, *rest, onesided=onesided))
    sizes = (50, 43) if size == "n" else (50,)
    answers_each(proto, tmp_path, *({"x": _signal(2, n, 1)} for n in sizes), tolerance=1e-4)


def test_a_signal_without_an_axis_of_parts_is_real(tmp_path):
    """As ONNX Runtime takes it, beside the standard."""
    net = Net(opset=17, x=(2, 60))
    step, weights = net.const(5, np.int64), net.const(np.hanning(16))
    proto = net.model(net.add("STFT", "x", step, weights, onesided=1))
    x = _signal(2, 60, 1)[..., 0]
    answers_each(proto, tmp_path, {"x": x}, tolerance=1e-4)
    name = proto.graph.output[0].name
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    exact = DoubleReference(load(tmp_path / "m.onnx"))({"x": x})[name]
    frames = np.lib.stride_tricks.sliding_window_view(x, 16, axis=1)[:, ::5] * np.hanning(16)
    np.testing.assert_allclose(exact, _pairs(np.fft.rfft(frames)), atol=1e-6)


def test_steps_and_lengths_that_are_computed(tmp_path):
    net = Net(opset=17, x=(1, 40, 1))
    net.input("step", ())
    net.input("length", ())
    proto = net.model(net.STFT("x", "step", "", "length"))
    each = [{"step": np.array(a), "length": np.array(b)} for a, b in ((3, 8), (7, 15))]
    x = _signal(1, 40, 1)
    answers_each(proto, tmp_path, *({"x": x, **given} for given in each), tolerance=1e-4)


def test_mel_frequencies(tmp_path):
    net = Net(opset=17)
    for name in ("bins", "length", "rate"):
        net.input(name, ())
    for name in ("low", "high"):
        net.input(name, (), 1)
    proto = net.model(net.MelWeightMatrix("bins", "length", "rate", "low", "high"))
    each = [(8, 16, 8192, 0, 4096), (13, 256, 16000, 20, 7600)]
    names = ("bins", "length", "rate", "low", "high")
    kinds = (np.int64,) * 3 + (np.float32,) * 2
    given = (
        {name: np.array(v, kind) for name, v, kind in zip(names, values, kinds, strict=True)}
        for values in each
    )
    answers_each(proto, tmp_path, *given)
