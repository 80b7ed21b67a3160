from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, answers_each

X = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
MODES = pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])


def _model(x=X.shape, axes: int | None = None, value: bool = False, mode: str = "constant"):
    net = Net(opset=19, x=x)
    net.input("pads", (4 if axes is None else 2 * axes,))
    names = ["x", "pads"]
    if value:
        net.input("value", (), 1)
    if value or axes is not None:
        names.append("value" if value else "")
    if axes is not None:
        names.append(net.input("axes", (axes,)))
    return net.model(net.add("Pad", *names, mode=mode))


@MODES
@pytest.mark.parametrize("x", [X.shape, ("a", "b")])
def test_pads_that_are_computed(mode, x, tmp_path):
    each = ([1, 2, 0, 1], [0, 0, 0, 0], [2, 3, 2, 3], [2, 0, 1, 3])
    answers_each(
        _model(x, mode=mode), tmp_path, *({"x": X, "pads": np.array(pads)} for pads in each)
    )


def test_what_is_padded_with_may_be_computed(tmp_path):
    given = [{"x": X, "pads": np.array([1, 0, 0, 2]), "value": np.float32(v)} for v in (3, -1)]
    answers_each(_model(value=True), tmp_path, *given)


def test_negative_pads_take_away(tmp_path):
    each = ([-1, 0, 0, -2], [-1, 2, 1, -1])
    answers_each(_model(), tmp_path, *({"x": X, "pads": np.array(pads)} for pads in each))


@MODES
def test_axes_that_are_computed(mode, tmp_path):
    each = [{"x": X, "pads": np.array([2, 1]), "axes": np.array([axis])} for axis in (0, 1, -1)]
    answers_each(_model(axes=1, mode=mode), tmp_path, *each)
