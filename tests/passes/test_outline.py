from __future__ import annotations

import json

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.passes.graphs import module, run
from tilewright.passes.legalize import legalize
from tilewright.passes.outline import SPEC_ATTRIBUTE, outline

X = (2, 4)
const, op = relax.const, relax.op
W = const(np.ones((4, 3), np.float32))
SPEC = {"kind": "Test"}


def _outlined(before: tvm.IRModule, *names: str, name: str = "group"):
    bindings = [b for block in before["main"].body.blocks for b in block.bindings]
    members = [b.var for b in bindings if b.var.name in names]
    after, function, arguments = outline(before, "main", name, members, SPEC)
    return relax.transform.Normalize()(after), function, arguments


def _group(build, **shapes) -> relax.Function:
    """The function `build(bb, *args)` would be as a group."""
    function = module(build, **shapes)["main"].without_attr("global_symbol")
    attributes = {"Primitive": True, SPEC_ATTRIBUTE: json.dumps(SPEC)}
    return function.with_attrs(attributes)


def test_moves_bindings_into_a_function():
    def build(bb, x):
        y = bb.emit(op.matmul(x, W), "product")
        z = bb.emit(op.nn.relu(y), "active")
        return bb.emit(op.tanh(z), "rest")

    after, name, arguments = _outlined(module(build, x=X), "product", "active")
    assert name == "group" and [a.same_as(W) for a in arguments] == [False, True]

    def inside(bb, arg0, arg1):
        return bb.emit(op.nn.relu(bb.emit(op.matmul(arg0, arg1))))

    tvm.ir.assert_structural_equal(after["group"], _group(inside, arg0=X, arg1=(4, 3)))
    calls = [b.value for block in after["main"].body.blocks for b in block.bindings]
    assert len(calls) == 2 and calls[0].op.name_hint == "group"
    assert calls[0].args[1].same_as(W) and calls[1].op.name == "relax.tanh"


def test_scalars_stay_inside_and_other_constants_become_arguments():
    mask = const(np.ones(X, bool))

    def build(bb, x):
        y = bb.emit(op.add(x, const(2.0)), "sum")
        return bb.emit(op.where(mask, y, const(0.0)), "chosen")

    after, _, arguments = _outlined(module(build, x=X), "sum", "gv")
    assert [a.ty.ndim for a in arguments] == [2, 2, 0], "x, the mask, and the scalar of `where`"
    text = after["group"].script()
    assert "R.add(arg0, R.const(2.0" in text and "R.where(arg1" in text


@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "divide", "power", "maximum", "minimum"]
)
def test_every_operator_with_a_scalar_can_be_a_kernel(name):
    before = module(lambda bb, x: bb.emit(getattr(op, name)(x, const(2.0))), x=X)
    after, _, _ = _outlined(before, "gv")
    kernels = relax.transform.FuseTIR()(legalize()(after))
    x = np.random.default_rng(0).uniform(0.5, 3, X).astype(np.float32)
    np.testing.assert_allclose(run(kernels, x), run(before, x), rtol=1e-6)


def test_a_constant_read_twice_is_one_argument():
    c = const(np.ones(4, np.float32))

    def build(bb, x):
        return bb.emit(op.multiply(bb.emit(op.add(x, c), "sum"), c))

    _, _, arguments = _outlined(module(build, x=X), "sum", "gv")
    assert len(arguments) == 2


def test_tuples_in_place_are_taken_apart():
    def build(bb, x):
        return bb.emit(op.concat([bb.emit(op.exp(x), "e"), x], axis=0))

    after, _, arguments = _outlined(module(build, x=X), "e", "gv")
    assert len(arguments) == 1 and run(legalize()(after), np.zeros(X, np.float32)).shape == (4, 4)


def test_equal_groups_share_a_function():
    def build(bb, x):
        y = bb.emit(op.tanh(bb.emit(op.exp(x), "a")), "b")
        return bb.emit(op.tanh(bb.emit(op.exp(y), "c")), "d")

    mod, first, _ = _outlined(module(build, x=X), "a", "b", name="one")
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    members = [b.var for b in bindings if b.var.name in ("c", "gv")]
    mod, second, _ = outline(mod, "main", "two", members, SPEC)
    assert first == second == "one" and len(mod.functions) == 2


def test_another_spec_is_another_function():
    def build(bb, x):
        return bb.emit(op.exp(bb.emit(op.exp(x), "a")))

    mod, first, _ = _outlined(module(build, x=X), "a", name="one")
    bindings = [b for block in mod["main"].body.blocks for b in block.bindings]
    _, second, _ = outline(mod, "main", "two", [bindings[-1].var], {"kind": "Other"})
    assert (first, second) == ("one", "two")


def test_open_sizes_stay_open():
    n = tvm.tirx.Var("n", "int64")

    def build(bb, x):
        y = bb.emit(op.reshape(x, (n * 2, 2)), "wide")
        return bb.emit(op.nn.relu(y))

    after, _, _ = _outlined(module(build, x=(n, 4)), "wide", "gv")
    assert run(legalize()(after), np.ones((3, 4), np.float32)).shape == (6, 2)


def test_sizes_that_no_argument_tells_are_handed_over():
    """Of b * s rows a function could tell neither b nor s, and its result would lose its shape."""
    b, s = (tvm.tirx.Var(name, "int64") for name in "bs")

    def build(bb, x):
        rows = bb.emit(op.exp(bb.emit(op.reshape(x, (b * s, 4)), "rows")), "e")
        return bb.emit(op.tanh(rows))

    after, _, arguments = _outlined(module(build, x=(b, s, 4)), "e", "gv")
    assert len(arguments) == 1, "the tensors; sizes are no data"
    x = np.ones((2, 3, 4), np.float32)
    np.testing.assert_allclose(run(legalize()(after), x), np.tanh(np.exp(x)).reshape(6, 4), 1e-6)
