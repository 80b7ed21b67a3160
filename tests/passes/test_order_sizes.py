from __future__ import annotations

import tvm
from tvm import relax, tirx

from tilewright.passes.order_sizes import order_sizes


def _names(mod: tvm.IRModule) -> list[str]:
    return [b.var.name for block in mod["main"].body.blocks for b in block.bindings]


def _module() -> tvm.IRModule:
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1,), "int64"))
    size = tirx.Var("n", "int64")
    with bb.function("main", [x]):
        with bb.dataflow():
            shape = bb.emit(relax.op.tensor_to_shape(x), "shape")
            bb.match_cast(shape, relax.ShapeType([size]), "sizes")
            ones = bb.emit(relax.op.ones(relax.ShapeExpr([size]), "float32"), "ones")
            made = bb.emit_output(relax.op.add(ones, ones), "made")
        bb.emit_func_output(made)
    return bb.get()


def _turned(mod: tvm.IRModule) -> tvm.IRModule:
    """What is made before what says how large it is."""
    main = mod["main"]
    (block,) = main.body.blocks
    shape, sizes, ones, made = block.bindings
    turned = relax.DataflowBlock([ones, shape, made, sizes])
    body = relax.SeqExpr([turned], main.body.body)
    made = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    mod = mod.clone()
    mod.update_func(mod.get_global_var("main"), made)
    return mod


def test_sizes_come_first():
    mod = _turned(_module())
    assert _names(mod) == ["ones", "shape", "made", "sizes"]
    assert _names(order_sizes(mod)) == ["shape", "sizes", "ones", "made"]


def test_what_is_in_order_stays_as_it_is():
    mod = _module()
    tvm.ir.assert_structural_equal(order_sizes(mod), mod)


def test_a_size_that_is_only_checked_is_not_named():
    """A cast to an expression of a size needs that size, and says nothing about it."""
    bb = relax.BlockBuilder()
    size = tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((size,), "float32"))
    y = relax.Var("y", relax.TensorType(ndim=1, dtype="float32"))
    with bb.function("main", [x, y]):
        with bb.dataflow():
            double = bb.emit(relax.op.concat([x, x], 0), "double")
            same = bb.match_cast(y, relax.TensorType([size * 2], "float32"), "same")
            made = bb.emit_output(relax.op.add(double, same), "made")
        bb.emit_func_output(made)
    mod = bb.get()
    tvm.ir.assert_structural_equal(order_sizes(mod), mod)
