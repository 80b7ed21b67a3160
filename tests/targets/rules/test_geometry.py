from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.sym import Analyzer

from tests.targets.rules.convolutions import conv_specs, floats, reference
from tilewright.ops import ConvSpec
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.tir import index


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


@settings(deadline=None)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    count=st.integers(1, 8),
)
def test_neighbours_begin_where_each_begins(batch, size, kernel, strides, count):
    """Across the ends of lines and of images."""
    spec = ConvSpec("float32", (batch, 5, *size), (3, 5, *kernel), strides, (0,) * 4, (1, 1))
    g = Geometry(spec)
    for position in range(g.positions - count + 1):
        found = [_value(at) for at in g.windows(index(position), count)]
        assert found == [_value(g.window(index(position + r))) for r in range(count)]


def _value(at) -> int:
    return int(Analyzer().simplify(at))
