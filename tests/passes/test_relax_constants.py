from __future__ import annotations

import numpy as np
from tvm import relax

from tilewright.passes.relax_constants import array_of, constant, is_constant


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
