from __future__ import annotations

import numpy as np
import pytest

from tests.compiling import module_of
from tests.net import Net, answers_each
from tilewright.errors import UnsupportedModel

RANDOM = np.random.default_rng(6)


def _values(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("rank", [2, 3])
def test_where_places_go(corners, rank, tmp_path):
    net = Net(opset=20, theta=("n", rank, rank + 1))
    net.input("size", (rank + 2,))
    proto = net.model(net.AffineGrid("theta", "size", align_corners=corners))
    each = ([2, 1, 5, 4, 3], [2, 1, 2, 7, 5])
    given = [{"theta": _values(2, rank, rank + 1), "size": np.array(s[: rank + 2])} for s in each]
    answers_each(proto, tmp_path, *given)


@pytest.mark.parametrize(
    "attrs", [{}, {"strides": [2, 3]}, {"dilations": [2, 1]}, {"pads": [1, 0, 2, 1]}], ids=str
)
@pytest.mark.parametrize("computed", [False, True])
def test_blocks_go_back(attrs, computed, tmp_path):
    image, block = [9, 7], [3, 2]
    strides, dilations = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
    pads = attrs.get("pads", [0] * 4)
    counts = [
        (image[n] + pads[n] + pads[n + 2] - dilations[n] * (block[n] - 1) - 1) // strides[n] + 1
        for n in range(2)
    ]
    x = _values(2, 3 * 6, int(np.prod(counts)))
    net = Net(opset=18, x=x.shape)
    if computed:
        names = net.input("image", (2,)), net.input("block", (2,))
    else:
        names = net.ints(*image), net.ints(*block)
    proto = net.model(net.Col2Im("x", *names, **attrs))
    given = {"image": np.array(image), "block": np.array(block)} if computed else {}
    answers_each(proto, tmp_path, {"x": x, **given})


@pytest.mark.parametrize("groups, offset_groups", [(1, 1), (2, 3)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("attrs", [{}, {"strides": [2, 1], "dilations": [1, 2]}], ids=str)
def test_windows_that_are_bent(groups, offset_groups, masked, attrs, tmp_path):
    (high, wide), (kh, kw), pads = (9, 8), (3, 2), [1, 0, 1, 2]
    (sh, sw), (dh, dw) = attrs.get("strides", [1, 1]), attrs.get("dilations", [1, 1])
    rows = (high + 2 - dh * (kh - 1) - 1) // sh + 1
    columns = (wide + 2 - dw * (kw - 1) - 1) // sw + 1
    net = Net(opset=19, x=(2, 6, high, wide))
    places = offset_groups * kh * kw
    offset = net.input("offset", (2, places * 2, rows, columns), 1)
    w, bias = net.weight(4, 6 // groups, kh, kw), net.weight(4)
    mask = [net.input("mask", (2, places, rows, columns), 1)] if masked else []
    attrs = {"group": groups, "offset_group": offset_groups, "pads": pads, **attrs}
    proto = net.model(net.add("DeformConv", "x", w, offset, bias, *mask, **attrs))
    given = {"x": _values(2, 6, high, wide), "offset": 3 * _values(2, places * 2, rows, columns)}
    if masked:
        given["mask"] = _values(2, places, rows, columns)
    answers_each(proto, tmp_path, given, tolerance=1e-4)


def test_open_channels_are_refused(tmp_path):
    net = Net(opset=19, x=(2, "c", 9, 8))
    offset = net.input("offset", (2, 18, 7, 6), 1)
    proto = net.model(net.DeformConv("x", net.weight(4, 6, 3, 3), offset))
    with pytest.raises(UnsupportedModel, match="how many channels there are"):
        module_of(proto, tmp_path)
