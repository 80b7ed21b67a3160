from __future__ import annotations

from hypothesis import given

from tests.targets.rules.convolutions import conv_specs, floats, reference
from tilewright.ops import ConvSpec
from tilewright.targets.rules.geometry import Geometry


@given(spec=conv_specs(depthwise=False))
def test_output_sizes(spec):
    x, w = floats(0, spec.x, spec.w)
    batch, channels, *positions = reference(x, w, spec).shape
    assert Geometry(spec).y_last == (batch, *positions, channels)


def test_an_open_batch_is_one_image_repeated():
    g = Geometry(ConvSpec("float32", ("n", 6, 9, 9), (4, 6, 3, 3), (1, 1), (1,) * 4, (1, 1)))
    assert (g.images, g.repeats, g.positions) == (1, "n", 81)
    assert (g.x_padded, g.y_last) == (("n", 11, 11, 6), ("n", 9, 9, 4))


def test_one_axis_is_one_row():
    g = Geometry(ConvSpec("float32", (2, 6, 21), (9, 6, 3), (2,), (1, 0), (1,)))
    assert (g.size, g.kernel, g.padded, g.out) == ((1, 21), (1, 3), (1, 22), (1, 10))
    assert (g.x_last, g.y_last, g.pads) == ((2, 21, 6), (2, 10, 9), True)
