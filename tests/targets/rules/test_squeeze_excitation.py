from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.compiling import module_of
from tests.examples import examples
from tests.net import Net
from tests.targets.rules.convolutions import floats, reference
from tests.targets.rules.lowering import AVX2, close, group, run, run_group, run_open
from tilewright.ops import ConvSpec, SqueezeExcitationSpec, Step
from tilewright.targets.rules.squeeze_excitation import SQUEEZE_EXCITATION

CHANNELS, SQUEEZED = 20, 6
PARTS = ((SQUEEZED, CHANNELS, 1, 1), (1, SQUEEZED, 1, 1), (CHANNELS, SQUEEZED, 1, 1))


def _scaled(x: np.ndarray, w1, b1, w2, b2) -> np.ndarray:
    """What the group computes of float64 x, before the projection."""
    inner = np.maximum(x.mean((2, 3)) @ w1[:, :, 0, 0].T + b1.reshape(-1), 0)
    gate = 1 / (1 + np.exp(-(inner @ w2[:, :, 0, 0].T + b2.reshape(-1))))
    return x * gate[:, :, None, None]


def _layers(seed: int = 1) -> dict[str, np.ndarray]:
    arrays = floats(seed, *PARTS, (1, CHANNELS, 1, 1))
    return dict(zip(("w1", "b1", "w2", "b2"), arrays, strict=True))


def _spec(x: tuple[int, ...], projection: ConvSpec | None, *before: ConvSpec):
    return SqueezeExcitationSpec(
        "float32", x, SQUEEZED, (True, True), Step("relu"), Step("sigmoid"), projection, before
    )


def _projection(x: tuple[int, ...], out: int) -> ConvSpec:
    return ConvSpec("float32", x, (out, CHANNELS, 1, 1), (1, 1), (0,) * 4, (1, 1))


def _opened(spec: SqueezeExcitationSpec) -> SqueezeExcitationSpec:
    """The same with an open batch."""
    projection, *before = (
        part and replace(part, x=("n", *part.x[1:])) for part in (spec.projection, *spec.before)
    )
    return replace(spec, x=("n", *spec.x[1:]), projection=projection, before=tuple(before))


def _check(spec: SqueezeExcitationSpec, exact: np.ndarray, terms: int, x, **arrays) -> None:
    """For all images of x, and one compilation for some of them."""
    name, y = run(spec, exact.shape, x=x, **arrays)
    assert name == "squeeze_excitation"
    close(y, exact, terms)
    each = [{"x": x[:n], **arrays} for n in range(1, len(x) + 1)]
    _, results = run_open(_opened(spec), ("n", *exact.shape[1:]), each)
    for y in results:
        close(y, exact[: len(y)], terms)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("out", [None, 11, 47])
def test_scales_x_or_the_weights(batch, out):
    """With 30 positions, weights of 11 columns are fewer than x, those of 47 are not."""
    layers = _layers()
    x, w = floats(2, (batch, CHANNELS, 5, 6), (out or 1, CHANNELS, 1, 1))
    exact, projection = _scaled(x.astype("f8"), **layers), None
    if out:
        projection, layers = _projection(x.shape, out), {**layers, "w": w}
        exact = reference(exact, w, projection)
    _check(_spec(x.shape, projection), exact, CHANNELS, x, **layers)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("expands", [False, True])
def test_an_inverted_residual_block(batch, expands):
    layers = _layers()
    into = 7 if expands else CHANNELS
    x, expansion_w, depthwise_w, depthwise_bias, w = floats(
        3,
        (batch, into, 9, 11),
        (CHANNELS, into, 1, 1),
        (CHANNELS, 1, 3, 3),
        (1, CHANNELS, 1, 1),
        (into, CHANNELS, 1, 1),
    )
    steps = (Step("bias"), Step("silu"))
    filters = ConvSpec(
        *("float32", (batch, CHANNELS, 9, 11), depthwise_w.shape, (2, 1), (1,) * 4, (1, 1)),
        groups=CHANNELS,
        epilogue=steps,
    )
    expansion = ConvSpec("float32", x.shape, expansion_w.shape, (1, 1), (0,) * 4, (1, 1))
    arrays = {"depthwise_w": depthwise_w, "depthwise_bias": depthwise_bias, **layers, "w": w}
    before, wide = (filters,), x
    if expands:
        before, arrays = (expansion, filters), {"expansion_w": expansion_w, **arrays}
        wide = reference(x, expansion_w, expansion)
    made = reference(wide, depthwise_w, filters) + depthwise_bias
    made = made / (1 + np.exp(-made))
    projection = _projection(made.shape, into)
    exact = reference(_scaled(made, **layers), w, projection)
    terms = 9 * into * CHANNELS if expands else 9 * CHANNELS
    _check(_spec(made.shape, projection, *before), exact, terms, x, **arrays)


@settings(max_examples=examples(6), deadline=None)
@given(
    channels=st.integers(1, 40),
    squeezed=st.integers(1, 12),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    out=st.integers(1, 40),
)
def test_any_sizes(channels, squeezed, size, out):
    names = ("w1", "b1", "w2", "b2")
    shapes = ((squeezed, channels, 1, 1), (1, squeezed, 1, 1), (channels, squeezed, 1, 1))
    layers = dict(zip(names, floats(5, *shapes, (1, channels, 1, 1)), strict=True))
    x, w = floats(6, (1, channels, *size), (out, channels, 1, 1))
    projection = ConvSpec("float32", x.shape, w.shape, (1, 1), (0,) * 4, (1, 1))
    both = (True, True)
    spec = SqueezeExcitationSpec(
        "float32", x.shape, squeezed, both, Step("relu"), Step("sigmoid"), projection
    )
    exact = reference(_scaled(x.astype("f8"), **layers), w, projection)
    name, y = run(spec, exact.shape, x=x, **layers, w=w)
    assert name == "squeeze_excitation"
    close(y, exact, channels)


def test_the_tensor_is_read_once():
    """A depthwise convolution, its mean, two layers, the weights, the projection: no other pass."""
    x, w, depthwise_w = floats(4, (1, CHANNELS, 9, 9), (8, CHANNELS, 1, 1), (CHANNELS, 1, 3, 3))
    filters = ConvSpec("float32", x.shape, depthwise_w.shape, (1, 1), (1,) * 4, (1, 1), CHANNELS)
    spec = _spec(x.shape, _projection(x.shape, 8), filters)
    arrays = {"x": x, "depthwise_w": depthwise_w, **_layers(), "w": w}
    call = group(spec, (1, 8, 9, 9), **arrays)
    launches = SQUEEZE_EXCITATION.lower(call, AVX2).launches
    names = [str(launch.kernel.attrs["global_symbol"]) for launch in launches]
    assert names == [
        f"group_{n}" for n in ("depthwise", "mean", "layer", "layer2", "weights", "projection")
    ]
    name, _ = run_group(call, arrays)
    assert name == "squeeze_excitation"


def test_refuses_open_channels():
    x = ("n", "c", 5, 6)
    assert "channels are open" in SQUEEZE_EXCITATION.refuses(
        group(_spec(x, None), x, **_layers()), AVX2
    )


def test_open_positions(tmp_path):
    net = Net(x=("n", CHANNELS, "h", "w"))
    layers = _layers()
    w1, b1, w2, b2 = (net.const(layers[name]) for name in ("w1", "b1", "w2", "b2"))
    inner = net.Relu(net.Add(net.Conv(net.GlobalAveragePool("x"), w1), b1))
    model = net.model(net.Mul("x", net.Sigmoid(net.Add(net.Conv(inner, w2), b2))))
    module = module_of(model, tmp_path, threads=2)
    assert "squeeze_excitation" in {kernel["rule"] for kernel in module.manifest["kernels"]}
    for shape in ((1, CHANNELS, 1, 1), (3, CHANNELS, 9, 7), (2, CHANNELS, 40, 81)):
        (x,) = floats(4, shape)
        close(module(x), _scaled(x.astype("f8"), **layers), CHANNELS)
