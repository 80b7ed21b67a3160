from __future__ import annotations

import pytest
import tvm
from tvm import te

from tests.targets.rules.lowering import AVX2
from tests.targets.rules.machine_code import instructions
from tilewright.targets.rules.any_address import from_any_address
from tilewright.targets.rules.fallback import schedule


def _sum(dtype: str) -> tvm.tirx.PrimFunc:
    x, z = (te.placeholder((64, 96), dtype, name) for name in "xz")
    y = te.compute(x.shape, lambda i, j: x[i, j] + z[i, j], "y")
    return te.create_prim_func([x, z, y]).with_attr("tirx.noalias", True)


@pytest.mark.parametrize("dtype, size", [("float32", 4), ("int8", 1), ("float64", 8)])
def test_parameters_are_aligned_to_their_elements(dtype, size):
    module = from_any_address(tvm.IRModule({"main": _sum(dtype)}))
    assert [param.data_alignment for param in module["main"].params] == [size] * 3


def test_vectors_are_loaded_and_stored_from_anywhere():
    code = instructions(schedule(_sum("float32"), AVX2)[0], AVX2.name)
    moves = [line for line in code if line.startswith("vmov") and "(%rsp" not in line]
    assert any(line.startswith("vmovups") and "ymm" in line for line in moves)
    assert not any(line.startswith("vmovaps") and "ymm" in line for line in moves)
