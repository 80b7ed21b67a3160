from __future__ import annotations

import numpy as np
from tvm import relax

from tilewright.passes.relax_constants import array_of, constant, is_constant, shortest


def test_a_constant_gives_back_its_array():
    for array in (np.arange(6, dtype=np.int64).reshape(2, 3), np.float32(2), np.zeros((0, 3))):
        made = constant(np.asarray(array))
        assert is_constant(made)
        assert array_of(made).dtype == np.asarray(array).dtype
        assert array_of(made).shape == np.shape(array)
        assert (array_of(made) == array).all()


def test_a_constant_takes_a_type_and_any_layout():
    array = np.arange(6.0).reshape(2, 3).T
    made = constant(array, "float32")
    assert array_of(made).dtype == np.float32 and (array_of(made) == array).all()


def test_a_variable_is_no_constant():
    assert not is_constant(relax.Var("x", relax.TensorType((2,), "float32")))


def test_the_shortest_decimal_of_a_float32():
    assert shortest(float(np.float32(0.2))) == 0.2 and shortest(np.float32(1) / 6) == 0.16666667
    assert shortest(1 / 6) == 0.16666667 and shortest(float("-inf")) == -float("inf")
    assert shortest(2**31 - 1) == 2**31 - 1 and shortest(1e300) == 1e300
