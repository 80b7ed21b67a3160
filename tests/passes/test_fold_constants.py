from __future__ import annotations

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.passes.graphs import calls, module, run
from tilewright.passes.fold_constants import fold_constants as fold_constants_pass

W = np.arange(24, dtype=np.float32).reshape(4, 6)
const = relax.const


def fold_constants(mod: tvm.IRModule) -> tvm.IRModule:
    """The pass, without the bindings it leaves dead (`clean_up` in the pipeline)."""
    return relax.transform.DeadCodeElimination()(fold_constants_pass(mod))


REARRANGED = {
    "reshape": (lambda c: relax.op.reshape(c, (6, 4)), W.reshape(6, 4)),
    "expand_dims": (lambda c: relax.op.expand_dims(c, [0, 3]), W.reshape(1, 4, 6, 1)),
    "permute_dims": (lambda c: relax.op.permute_dims(c, [1, 0]), np.ascontiguousarray(W.T)),
    "permute_dims_default": (relax.op.permute_dims, np.ascontiguousarray(W.T)),
    "astype": (lambda c: relax.op.astype(c, "int32"), W.astype(np.int32)),
}


@pytest.mark.parametrize("case", REARRANGED)
def test_folds(case):
    build, value = REARRANGED[case]
    before = module(lambda bb, x: relax.Tuple([x, bb.emit(build(const(W)))]), x=(2,))
    expected = module(lambda bb, x: relax.Tuple([x, const(value)]), x=(2,))
    tvm.ir.assert_structural_equal(fold_constants(before), expected)


def test_folds_squeeze():
    before = module(
        lambda bb, x: bb.emit(relax.op.add(x, bb.emit(relax.op.squeeze(const(W[None]), [0])))),
        x=(4, 6),
    )
    expected = module(lambda bb, x: bb.emit(relax.op.add(x, const(W))), x=(4, 6))
    tvm.ir.assert_structural_equal(fold_constants(before), expected)


def test_folds_a_chain():
    def build(bb, x):
        w = bb.emit(relax.op.permute_dims(const(W), [1, 0]))
        w = bb.emit(relax.op.reshape(w, (2, 12)))
        return bb.emit(relax.op.matmul(x, bb.emit(relax.op.permute_dims(w))))

    before = module(build, x=(3, 12))
    expected = module(
        lambda bb, x: bb.emit(
            relax.op.matmul(x, const(np.ascontiguousarray(W.T.reshape(2, 12).T)))
        ),
        x=(3, 12),
    )
    tvm.ir.assert_structural_equal(fold_constants(before), expected)


@pytest.mark.parametrize("op", [relax.op.exp, relax.op.negative, relax.op.abs])
def test_leaves_arithmetic_on_constants_alone(op):
    before = module(lambda bb, x: bb.emit(relax.op.add(x, bb.emit(op(const(W))))), x=(4, 6))
    tvm.ir.assert_structural_equal(fold_constants(before), before)


def test_leaves_values_that_are_no_constants_alone():
    before = module(
        lambda bb, x: bb.emit(relax.op.permute_dims(bb.emit(relax.op.reshape(x, (6, 4))))),
        x=(4, 6),
    )
    tvm.ir.assert_structural_equal(fold_constants(before), before)


def test_leaves_a_shape_that_is_open_alone():
    n = tvm.tirx.Var("n", "int64")

    def build(bb, x):
        w = bb.emit(relax.op.reshape(const(W), (n, tvm.tirx.IntImm("int64", 24) // n)))
        return relax.Tuple([x, w])

    before = module(build, x=(n,))
    assert calls(fold_constants(before)) == ["relax.reshape"]


def test_a_second_reader_of_the_constant_keeps_it():
    def build(bb, x):
        turned = bb.emit(relax.op.permute_dims(const(W)))
        return bb.emit(relax.op.matmul(bb.emit(relax.op.matmul(x, const(W))), turned))

    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    after = fold_constants(module(build, x=(3, 4)))
    assert calls(after) == ["relax.matmul", "relax.matmul"]
    np.testing.assert_allclose(run(after, x), x @ W @ W.T, rtol=1e-5)
