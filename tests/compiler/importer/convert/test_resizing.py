from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.net import Net, answers_each, fused, keeps_numbers
from tests.passes.graphs import calls
from tilewright.compiler.importer.convert.resizing import resize
from tilewright.errors import UnsupportedModel

X = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(np.float32)
SIZES = ([1, 2, 10, 12], [1, 2, 3, 4], [1, 2, 7, 6])
SCALES = ([1, 1, 2.0, 3.0], [1, 1, 0.6, 0.5], [1, 1, 1.5, 1.0])


def _model(by: str, x=X.shape, opset: int = 18, **attrs):
    net = Net(opset=opset, x=x)
    count = len(attrs.get("axes", range(4)))
    net.input(by, (count,), 7 if by == "sizes" else 1)
    given = ["x", "", "", by] if by == "sizes" else ["x", "", by]
    return net.model(net.add("Resize", *given, **attrs))


def _given(by: str, each) -> list[dict[str, np.ndarray]]:
    dtype = np.int64 if by == "sizes" else np.float32
    return [{"x": X, by: np.array(values, dtype)} for values in each]


MODES = pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
CORNERS = {"coordinate_transformation_mode": "align_corners"}
TRANSFORMS = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")


@MODES
@pytest.mark.parametrize("how", TRANSFORMS)
def test_sizes_that_are_computed(mode, how, tmp_path):
    proto = _model("sizes", mode=mode, coordinate_transformation_mode=how)
    answers_each(proto, tmp_path, *_given("sizes", SIZES), tolerance=1e-4)


@MODES
@pytest.mark.parametrize("x", [X.shape, (1, 2, "h", "w")])
def test_scales_that_are_computed(mode, x, tmp_path):
    proto = _model("scales", x, mode=mode)
    answers_each(proto, tmp_path, *_given("scales", SCALES), tolerance=1e-4)


@pytest.mark.parametrize("how", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
def test_which_neighbour_is_nearest(how, tmp_path):
    proto = _model("sizes", nearest_mode=how, coordinate_transformation_mode="asymmetric")
    answers_each(proto, tmp_path, *_given("sizes", SIZES))


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(mode, tmp_path):
    proto = _model("sizes", mode=mode, antialias=1)
    answers_each(proto, tmp_path, *_given("sizes", SIZES[1:2]), tolerance=1e-4)


def test_what_is_outside_may_not_count(tmp_path):
    proto = _model("sizes", mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    answers_each(proto, tmp_path, *_given("sizes", SIZES), tolerance=1e-4)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_the_shape_of_a_picture_is_kept(policy, tmp_path):
    proto = _model("sizes", axes=[2, 3], keep_aspect_ratio_policy=policy)
    answers_each(proto, tmp_path, *_given("sizes", ([10, 10], [3, 7])))


def test_a_region(tmp_path):
    net = Net(opset=18, x=X.shape)
    net.input("roi", (8,), 1)
    net.input("sizes", (4,))
    attrs = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    proto = net.model(net.add("Resize", "x", "roi", "", "sizes", extrapolation_value=7.0, **attrs))
    regions = ([0, 0, 0.2, 0.1, 1, 1, 0.8, 0.7], [0, 0, -0.3, 0.45, 1, 1, 0.5, 1.4])
    sizes = ([1, 2, 3, 4], [1, 2, 8, 5])
    given = [
        {"x": X, "roi": np.float32(roi), "sizes": np.array(size)}
        for roi, size in itertools.product(regions, sizes)
    ]
    answers_each(proto, tmp_path, *given, tolerance=1e-4)


def _constant(by: str, values, x=X.shape, opset: int = 18, **attrs):
    net = Net(opset=opset, x=x)
    dtype = np.int64 if by == "sizes" else np.float32
    given = net.const(values, dtype)
    return net.model(net.Resize("x", "", *([given] if by == "scales" else ["", given]), **attrs))


@pytest.mark.parametrize(
    "by, values, attrs",
    [
        ("scales", [1, 1, 0.6, 0.55], {"mode": "linear"}),
        ("scales", [1, 1, 0.6, 0.55], {"mode": "cubic"}),
        ("scales", [1.5, 1], {"axes": [2, 3]}),
        ("scales", [0.6, 2], {"axes": [3, -2], "mode": "linear"}),
        ("scales", [1, 2, 1, 1], {"mode": "linear"}),
        ("scales", [1, 1, 2.0, 2.5], {"coordinate_transformation_mode": "half_pixel_symmetric"}),
        ("scales", [1, 1, 0.2, 0.3], {"coordinate_transformation_mode": "align_corners"}),
        ("sizes", [3, 7], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}),
        ("sizes", [3, 7], {"axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}),
        ("sizes", [1, 2, 3, 4], {"mode": "linear", "antialias": 1}),
        ("sizes", [1, 2, 7, 4], {"mode": "cubic", "antialias": 1}),
        ("sizes", [1, 2, 7, 4], {"mode": "cubic", "exclude_outside": 1}),
        ("sizes", [1, 2, 7, 13], {"nearest_mode": "ceil"}),
    ],
)
def test_constants_that_tvm_ignores(by, values, attrs, tmp_path):
    answers_each(_constant(by, values, **attrs), tmp_path, {"x": X}, tolerance=1e-4)


@pytest.mark.parametrize("x", [X.shape, (1, 2, "h", "w")])
@pytest.mark.parametrize(
    "by, values, attrs",
    [
        ("scales", [1, 1, 2, 2], {"coordinate_transformation_mode": "asymmetric"}),
        ("scales", [1, 1, 3, 2], {}),
        ("scales", [1, 1, 2, 2], {"mode": "linear"}),
        ("sizes", [1, 2, 13, 11], {"mode": "linear"}),
        ("sizes", [1, 2, 3, 11], {"mode": "cubic"}),
        (
            "sizes",
            [1, 2, 9, 4],
            {"mode": "linear", **CORNERS},
        ),
    ],
)
def test_what_is_common_is_one_operator(by, values, attrs, x, tmp_path):
    attrs = {"nearest_mode": "floor", **attrs}
    proto = _constant(by, values, x, **attrs)
    common = "sizes" not in by or x == X.shape
    assert (calls(fused(proto, tmp_path).mod) == ["relax.image.resize2d"]) == common
    answers_each(proto, tmp_path, {"x": X}, tolerance=1e-4)


@pytest.mark.parametrize("how", ["asymmetric", "half_pixel"])
@pytest.mark.parametrize("shape", [(1, 2, "s"), (1, 2, "h", "w"), (1, 1, "d", "h", "w")])
def test_between_neighbours_of_open_sizes(shape, how, tmp_path):
    net = Net(opset=18, x=shape)
    scales = net.const([1, 1, 2, 3, 2][: len(shape)])
    way = {"mode": "linear", "coordinate_transformation_mode": how}
    keeps_numbers(net.model(net.Resize("x", "", scales, **way)), tmp_path)


@pytest.mark.parametrize("shape", [(1, 3, 7), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_other_ranks(shape, mode, tmp_path):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    proto = _constant("scales", [1, 1, *[2] * (len(shape) - 2)], shape, mode=mode)
    answers_each(proto, tmp_path, {"x": x}, tolerance=1e-4)


def test_the_size_of_another_open_value(tmp_path):
    net = Net(opset=18, x=(1, 2, "h", "w"))
    net.input("other", (1, 2, "a", "b"), 1)
    y = net.Resize("x", "", "", net.Shape("other"), mode="linear")
    other = np.ones((1, 2, 9, 4), np.float32)
    answers_each(net.model(net.Add(y, "other")), tmp_path, {"x": X, "other": other}, tolerance=1e-4)


@pytest.mark.parametrize("operator, opset", [("Upsample", 9), ("Upsample", 7), ("Resize", 10)])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_before_there_was_a_choice(operator, opset, mode, tmp_path):
    scales = [1.0, 1.0, 2.0, 1.5]
    net = Net(opset=opset, x=X.shape)
    if opset == 7:
        proto = net.model(net.add(operator, "x", scales=scales, mode=mode))
    else:
        proto = net.model(net.add(operator, "x", net.const(scales), mode=mode))
    answers_each(proto, tmp_path, {"x": X}, tolerance=1e-4)
    if operator == "Resize" and mode == "nearest":
        net = Net(opset=opset, x=X.shape)
        proto = net.model(net.Resize("x", net.const([1, 1, 0.6, 0.5]), mode=mode))
        answers_each(proto, tmp_path, {"x": X})


def test_an_unknown_mode_is_refused():
    from tvm import relax

    x = relax.Var("x", relax.TensorType((1, 4), "float32"))
    with pytest.raises(UnsupportedModel, match="the mode spline"):
        resize(relax.BlockBuilder(), [x], {"mode": b"spline"}, 18)


def test_corners_beside_an_axis_of_one(tmp_path):
    net = Net(opset=19, x=(3, 2, 2, 1))
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    proto = net.model(net.Resize("x", "", "", net.ints(3, 2, 3, 1), **how))
    answers_each(proto, tmp_path, {"x": np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)})


def test_an_open_row_doubled_without_an_offset(tmp_path):
    net = Net(opset=19, x=(1, 2, 4, "w"))
    how = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    proto = net.model(net.Resize("x", "", net.const([1, 1, 2, 2]), **how))
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 5)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x}, {"x": x[..., :1]})


@pytest.mark.parametrize(
    "shape, scales", [((2, 5, "w"), [1, 1, 1]), ((1, 4, 8, "w"), [1, 1, 2, 1])]
)
def test_an_open_row_that_stays_without_an_offset(shape, scales, tmp_path):
    net = Net(opset=19, x=shape)
    how = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    proto = net.model(net.Resize("x", "", net.const(scales), **how))
    x = np.random.default_rng(0).standard_normal((*shape[:-1], 7)).astype(np.float32)
    answers_each(proto, tmp_path, {"x": x}, {"x": x[..., :1]})
