from __future__ import annotations

from tilewright.ops import ConvSpec
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.tir import index
from tilewright.targets.rules.winograd_tiles import Tiling, spread


def test_tiles_cover_the_result():
    spec = ConvSpec("float32", (3, 8, 7, 14), (8, 8, 3, 3), (1, 1), (1,) * 4, (1, 1))
    tiling = Tiling(Geometry(spec), 4)
    assert (tiling.grid, tiling.tiles, tiling.edge, tiling.matrices) == ((2, 4), 24, 6, 36)


def test_an_open_batch_repeats_the_tiles_of_one_image():
    spec = ConvSpec("float32", ("n", 8, 7, 14), (8, 8, 3, 3), (1, 1), (1,) * 4, (1, 1))
    tiling = Tiling(Geometry(spec), 4)
    assert (tiling.tiles, tiling.shape(8)) == (8, ("n", 36, 80))
    rows = [int(tiling.row(index(tile), 8)) for tile in (0, 1, 7, 8)]
    assert rows == [0, 8, 56, 36 * 80]


def test_matrices_begin_in_different_sets_of_a_cache():
    for length in (1, 16, 17, 1024, 4096, 12544):
        stride = spread(length)
        assert stride >= length
        # 64 sets of lines of 64 bytes: 36 matrices fall into 36 of them.
        assert len({i * stride * 4 // 64 % 64 for i in range(36)}) == 36
