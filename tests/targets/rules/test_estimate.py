from __future__ import annotations

from tests.targets.rules.lowering import AVX2
from tilewright.targets.rules.estimate import product_cycles, stream_cycles
from tilewright.targets.target import KIB


def test_many_rows_are_bound_by_the_multipliers():
    m, n, depth = 6 * 1024, 64, 1024
    peak = 2 * m * n * depth / AVX2.flops_per_cycle
    assert peak < product_cycles(m, n, depth, AVX2) < 1.1 * peak


def test_one_row_is_bound_by_its_weights():
    cycles = product_cycles(1, 1024, 1024, AVX2)
    assert cycles > stream_cycles(1024 * 1024, AVX2) > cycles / 4


def test_few_rows_and_short_sums_cost_more_than_their_share():
    assert product_cycles(2, 64, 512, AVX2) > product_cycles(6, 64, 512, AVX2) / 2
    short, long = (product_cycles(600, 64, depth, AVX2) / depth for depth in (3, 512))
    assert short > 1.5 * long


def test_streams_take_the_time_of_memory():
    assert stream_cycles(KIB, AVX2) == 4 * KIB / AVX2.dram_bytes_per_cycle
