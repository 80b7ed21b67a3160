from __future__ import annotations

import numpy as np

from tilewright.targets.rules.packing import pack_columns, pad_columns


def test_panels_of_columns():
    b = np.arange(2 * 11, dtype="float32").reshape(2, 11)
    packed = pack_columns(b, wide=4, lanes=2)
    assert packed[:8].reshape(2, 4).tolist() == b[:, :4].tolist()
    assert packed[8:16].reshape(2, 4).tolist() == b[:, 4:8].tolist()
    # Three columns are left: two vectors of two, the last element nobody's.
    rest = packed[16:].reshape(2, 4)
    assert rest[:, :3].tolist() == b[:, 8:].tolist() and not rest[:, 3].any()


def test_a_value_per_column():
    assert pad_columns(np.float32([1, 2, 3]), 3, 4).tolist() == [1, 2, 3, 0]
    assert pad_columns(np.full((1, 1), 5, "float32"), 3, 4).tolist() == [5, 5, 5, 0]
