from __future__ import annotations

import numpy as np
from tvm import relax

from tests.passes.graphs import module
from tilewright.compiler.weights import ALIGNMENT, WeightTable, lift_weights

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def _lifted(*arrays):
    def build(bb, x):
        for array in arrays:
            x = bb.emit(relax.op.add(x, relax.const(array)))
        return x

    return lift_weights(module(build, x=(2, 3)))


def test_constants_become_parameters_after_the_inputs():
    mod, table = _lifted(A, A + 1)
    assert len(mod["main"].params) == 3
    assert "GenericConst" not in mod.script() and "metadata" not in mod.script()
    assert [array.tolist() for array in table.arrays] == [A.tolist(), (A + 1).tolist()]


def test_equal_constants_share_a_parameter():
    _, table = _lifted(A, A.copy(), A.reshape(2, 3) * 2, A)
    assert len(table.arrays) == 2


def test_equal_bytes_of_another_shape_are_another_weight():
    _, table = _lifted(np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))
    assert [array.shape for array in table.arrays] == [(2, 3), (1, 3)]


def test_rows_say_where_each_weight_lies(tmp_path):
    arrays = (np.ones(3, np.float32), np.zeros((0, 4)), np.array(7, np.int64), np.ones(100, bool))
    table = WeightTable(arrays)
    table.write(tmp_path / "w")
    data = (tmp_path / "w").read_bytes()
    assert len(data) == table.size_bytes
    for row, array in zip(table.rows(), arrays, strict=True):
        assert row["offset"] % ALIGNMENT == 0 and row["shape"] == list(array.shape)
        found = data[row["offset"] : row["offset"] + array.nbytes]
        assert found == array.tobytes() and row["dtype"] == str(array.dtype)
