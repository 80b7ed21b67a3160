from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import te, tirx

from tilewright.compiler.importer.convert.interpolation import Axis, Interpolation
from tilewright.errors import UnsupportedModel


def _along(x: np.ndarray, after: int, mode: str, how: str = "half_pixel", **attrs) -> np.ndarray:
    source = te.placeholder(x.shape, "float32")
    scale = tirx.const(after / len(x), "float64")
    axis = Axis(0, source.shape[0], after, lambda: scale, None)
    y = Interpolation(mode, how, attrs).along(source, axis, tirx.const(0, "int64"))
    run = tvm.compile(te.create_prim_func([source, y]), "llvm")
    result = tvm.runtime.tensor(np.zeros(after, np.float32))
    run(tvm.runtime.tensor(x), result)
    return result.numpy()


def test_a_line_stays_a_line():
    """Far from its ends, and for the cubic with the coefficient of Keys."""
    x = np.arange(7, dtype=np.float32)
    positions = (np.arange(21) + 0.5) / 3 - 0.5
    inner = slice(7, 14)
    for mode in ("linear", "cubic"):
        np.testing.assert_allclose(
            _along(x, 21, mode, cubic_coeff_a=-0.5)[inner], positions[inner], atol=1e-5
        )


def test_half_way_is_rounded_as_asked():
    x = np.float32([0, 1, 2, 3])
    how = "asymmetric"
    down = _along(x, 8, "nearest", how, nearest_mode="round_prefer_floor")
    up = _along(x, 8, "nearest", how, nearest_mode="round_prefer_ceil")
    assert down.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert up.tolist() == [0, 1, 1, 2, 2, 3, 3, 3]


def test_an_unknown_place_is_refused():
    with pytest.raises(UnsupportedModel, match="coordinate_transformation_mode sideways"):
        _along(np.zeros(3, np.float32), 5, "linear", "sideways")
