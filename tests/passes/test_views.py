from __future__ import annotations

import numpy as np
from tvm import relax

from tests.passes.graphs import module
from tilewright.passes.pattern import Graph
from tilewright.passes.relax_constants import constant
from tilewright.passes.views import way


def _way(build, **shapes: tuple):
    mod = module(build, **shapes)
    main = mod["main"]
    last = main.body.blocks[0].bindings[-1].var
    return way(last, main.params[0], Graph(main))


def test_nothing_lies_between_a_value_and_itself():
    main = module(lambda bb, x: bb.emit(relax.op.negative(x)), x=(2, 3))["main"]
    assert way(main.params[0], main.params[0], Graph(main)) == ((), [])


def test_views_in_order_and_factors():
    def build(bb, x):
        y = bb.emit(relax.op.strided_slice(x, [2], [-8], [2**63 - 1], [1]))
        y = bb.emit(relax.op.multiply(y, constant(np.float32(0.5))))
        y = bb.emit(relax.op.reshape(y, (2, 5, 4, 2)))
        y = bb.emit(relax.op.permute_dims(y, [0, 2, 1, 3]))
        return bb.emit(relax.op.divide(y, constant(np.float32(4))))

    views, factors = _way(build, x=(2, 5, 24))
    assert views == (
        ("slice", (2, 16, 24, 1)),
        ("reshape", (2, 5, 4, 2)),
        ("transpose", (0, 2, 1, 3)),
    )
    assert [float(factor) for factor in factors] == [0.25, 0.5]


def test_a_factor_may_stand_first():
    _, factors = _way(lambda bb, x: bb.emit(relax.op.multiply(constant(np.float32(3)), x)), x=(2,))
    assert [float(factor) for factor in factors] == [3.0]


def test_a_transpose_without_axes_turns_all_around():
    views, _ = _way(lambda bb, x: bb.emit(relax.op.permute_dims(x)), x=(2, 3, 4))
    assert views == (("transpose", (2, 1, 0)),)


def test_repeated_heads_and_added_axes():
    def build(bb, x):
        y = bb.emit(relax.op.expand_dims(x, [1]))
        y = bb.emit(relax.op.broadcast_to(y, (2, 3, 4)))
        return bb.emit(relax.op.squeeze(bb.emit(relax.op.strided_slice(y, [0], [0], [1])), [0]))

    views, _ = _way(build, x=(2, 4))
    assert views == (
        ("reshape", (2, 1, 4)),
        ("expand", (2, 3, 4)),
        ("slice", (0, 0, 1, 1)),
        ("reshape", (3, 4)),
    )
