from __future__ import annotations

from tilewright.ops import GemmSpec
from tilewright.targets.rules.rule import Argument, GroupCall, Names, last


def test_an_argument_by_role():
    x = Argument((1, 2), "float32")
    spec = GemmSpec("float32", (1, 2), (2, 2), True)
    call = GroupCall("g", spec, (x,), {"x": 0, "residual": 0}, x)
    assert call.get("x") is call.get("residual") is x and call.get("bias") is None


def test_kernel_names():
    names = Names("conv_block_3")
    given = [names.next("pad"), names.next(), names.next()]
    assert given == ["conv_block_3_pad", "conv_block_3_conv", "conv_block_3_conv2"]


def test_channels_last_shape():
    assert last((1, 3, 8, 9)) == (1, 8, 9, 3) and last((2, "c", "n")) == (2, "n", "c")
