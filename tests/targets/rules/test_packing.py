from __future__ import annotations

import numpy as np
import pytest

from tilewright.targets.rules.packing import pack_columns, packed_columns, padded_columns


def test_panels_of_columns():
    b = np.arange(2 * 11, dtype="float32").reshape(2, 11)
    packed = pack_columns(b, wide=4, unit=2)
    assert packed[:8].reshape(2, 4).tolist() == b[:, :4].tolist()
    assert packed[8:16].reshape(2, 4).tolist() == b[:, 4:8].tolist()
    # Three columns are left: two vectors of two, the last element nobody's.
    rest = packed[16:].reshape(2, 4)
    assert rest[:, :3].tolist() == b[:, 8:].tolist() and not rest[:, 3].any()


def test_lines_of_columns_run_down_by_themselves():
    b = np.arange(3 * 11).reshape(3, 11)
    packed = pack_columns(b, wide=8, unit=4, line=4)
    assert packed.size == packed_columns(b.shape, 8, 4, lambda: b, 4).shape[0] == 3 * 12
    lines = packed.reshape(3, 3, 4)
    np.testing.assert_array_equal(np.concatenate(lines, axis=1)[:, :11], b)
    assert not lines[2][:, 3].any()


def test_a_value_per_column():
    assert padded_columns(np.float32([1, 2, 3]), 3, 4).make().tolist() == [1, 2, 3, 0, 0, 0]
    assert padded_columns(np.full((1, 1), 5, "float32"), 3, 4).make().tolist() == [5, 5, 5, 0, 0, 0]


@pytest.mark.parametrize("n", [1, 4, 7, 8])
def test_the_shape_is_known_before_weights_are_packed(n):
    b = np.arange(3 * 5 * n, dtype="float32").reshape(3, 5, n)
    packed = packed_columns(b.shape, 4, 2, lambda: b)
    made = packed.make()
    assert made.shape == packed.shape and made.size == packed.size
    # Each matrix by itself.
    assert all((made[i] == pack_columns(b[i], 4, 2)).all() for i in range(3))
