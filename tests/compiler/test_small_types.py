from __future__ import annotations

import numpy as np
import pytest

from tilewright.compiler.small_types import BITS, STORED, VALUES, numpy_type, restored, stored
from tilewright.compiler.small_types import computed as computed_with


@pytest.mark.parametrize("name", STORED)
def test_an_array_comes_back_as_it_was(name):
    array = np.array([1.0, 2.0, 1.0]).astype(numpy_type(name))
    kept = stored(array)
    assert kept.dtype.name == STORED[name]
    assert (restored(kept, name) == array).all() and restored(kept, name).dtype == array.dtype


@pytest.mark.parametrize("name", STORED)
def test_what_is_computed_with(name):
    plain = computed_with(np.array([0, 1, 1]).astype(numpy_type(name)))
    assert plain.tolist()[1:] == [1, 1]
    assert plain.dtype.name == ("float32" if name in BITS else VALUES[name])


def test_other_types_are_left_alone():
    array = np.arange(3, dtype=np.int16)
    assert (stored(array) == array).all() and restored(array, "int16") is array
    assert computed_with(array).dtype == np.int16 and numpy_type("int16") == np.int16
