"""Strides against numpy: the place of every element of a view."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tilewright.targets.rules.strides import Strided, placed, strided

JOINT = (
    ("reshape", (2, 5, 3, 2, 4)),
    ("transpose", (2, 0, 3, 1, 4)),
    ("slice", (0, 1, 2, 1)),
    ("reshape", (2, 2, 5, 4)),
)
SHARED = (("reshape", (2, 1, 5, 4)), ("expand", (2, 3, 5, 4)), ("reshape", (1, 6, 5, 4)))
EVERY_OTHER = (("slice", (0, 1, 9, 2, 1, 0, 6, 3)),)


def _places(view: Strided) -> np.ndarray:
    places = [
        view.offset + sum(int(view.place(axis, at)) for axis, at in enumerate(ats))
        for ats in itertools.product(*map(range, view.shape))
    ]
    return np.reshape(places, view.shape)


def _viewed(x: np.ndarray, views: tuple) -> np.ndarray:
    for name, numbers in views:
        if name == "slice":
            for axis, *cut in zip(*[iter(numbers)] * 4, strict=True):
                x = x[(slice(None),) * axis + (slice(*cut),)]
        else:
            expand = np.broadcast_to
            x = {"reshape": np.reshape, "transpose": np.transpose, "expand": expand}[name](
                x, numbers
            )
    return x


@pytest.mark.parametrize(
    "shape, views",
    [((2, 5, 24), JOINT), ((2, 5, 4), SHARED), ((9, 6), EVERY_OTHER), ((3, 4), ())],
)
def test_elements_are_where_numpy_has_them(shape, views):
    x = np.arange(np.prod(shape)).reshape(shape)
    assert (_places(strided(shape, views, 0)) == _viewed(x, views)).all()


def test_result_of_merged_heads():
    views = (("transpose", (0, 2, 1, 3)), ("reshape", (2, 5, 12)))
    weighted = np.arange(2 * 3 * 5 * 4).reshape(2, 3, 5, 4)
    y = np.empty(weighted.size, int)
    y[_places(placed(weighted.shape, views, 4))] = weighted
    assert (y == _viewed(weighted, views).reshape(-1)).all()


def test_missing_axes_are_in_front():
    assert strided((3, 4), (), 4).shape == (1, 1, 3, 4)


def test_an_axis_of_several_strides_has_no_stride():
    view = strided((2, 3, 4), (("transpose", (1, 0, 2)), ("reshape", (6, 4))), 2)
    assert [view.stride(0), view.stride(1)] == [None, 1]


@pytest.mark.parametrize(
    "views",
    [
        (("transpose", (1, 0)), ("reshape", (3, 4))),
        (("transpose", (1, 0)), ("reshape", (12,)), ("slice", (0, 1, 5, 1))),
    ],
)
def test_refuses_what_has_no_strides(views):
    with pytest.raises(ValueError, match="axis"):
        strided((3, 4), views, 0)
