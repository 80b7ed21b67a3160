"""The rows: every target that can be named, with the source of its figures.

Generic rows carry the smallest caches among the CPUs they cover, so that a schedule
derived from them fits everywhere. Bytes per cycle from memory are single-core streaming
bandwidths over the clock as published for STREAM-like loops (Agner Fog; chipsandcheese.com),
rounded: they only tell compute-bound from bandwidth-bound.
"""

from __future__ import annotations

from tilewright.targets import isa
from tilewright.targets.boards import BOARDS
from tilewright.targets.target import KIB, MIB, Target

_LINUX = "x86_64-unknown-linux-gnu"
_PSABI = "x86-64 psABI levels; caches: smallest of the level's mainstream cores (Agner Fog, 2024)"

CATALOG: tuple[Target, ...] = (
    Target(
        name="x86-64",
        title="any 64-bit x86 (SSE2)",
        triple=_LINUX,
        mcpu="x86-64",
        features=(),
        fma_ports=0,
        l1d_bytes=32 * KIB,
        l2_bytes=256 * KIB,
        l3_bytes=0,
        cores=2,
        dram_bytes_per_cycle=4.0,
        source=_PSABI,
    ),
    Target(
        name="x86-64-avx",
        title="x86 with AVX (2011 and later)",
        triple=_LINUX,
        mcpu="sandybridge",
        features=isa.AVX,
        fma_ports=0,
        l1d_bytes=32 * KIB,
        l2_bytes=256 * KIB,
        l3_bytes=0,
        cores=2,
        dram_bytes_per_cycle=4.0,
        source=_PSABI,
    ),
    Target(
        name="x86-64-avx2",
        title="x86 with AVX2 and FMA (2013 and later)",
        triple=_LINUX,
        mcpu="x86-64-v3",
        features=isa.X86_64_V3,
        fma_ports=2,
        l1d_bytes=32 * KIB,
        l2_bytes=256 * KIB,
        l3_bytes=0,
        cores=2,
        dram_bytes_per_cycle=4.0,
        source=_PSABI,
    ),
    Target(
        name="x86-64-avx512",
        title="x86 with AVX-512 F, BW, CD, DQ, VL",
        triple=_LINUX,
        mcpu="x86-64-v4",
        features=isa.X86_64_V4,
        fma_ports=1,
        l1d_bytes=32 * KIB,
        l2_bytes=1 * MIB,
        l3_bytes=0,
        cores=2,
        dram_bytes_per_cycle=4.0,
        source=_PSABI,
    ),
    Target(
        name="x86-64-avx512vnni",
        title="x86 with AVX-512 and VNNI (Cascade Lake and later)",
        triple=_LINUX,
        mcpu="cascadelake",
        features=(*isa.SKYLAKE_X, "avx512vnni"),
        fma_ports=2,
        l1d_bytes=32 * KIB,
        l2_bytes=1 * MIB,
        l3_bytes=0,
        cores=2,
        dram_bytes_per_cycle=4.0,
        source="Intel Optimization Reference Manual (248966), section 2.6",
    ),
    Target(
        name="zen3",
        title="AMD Zen 3 (EPYC 7003, Ryzen 5000)",
        triple=_LINUX,
        mcpu="znver3",
        features=isa.ZEN3,
        fma_ports=2,
        l1d_bytes=32 * KIB,
        l2_bytes=512 * KIB,
        l3_bytes=32 * MIB,
        cores=8,
        dram_bytes_per_cycle=7.0,
        source="AMD Software Optimization Guide for Family 19h (56665), sections 2.6 and 2.11",
        family_models=tuple(
            ("AuthenticAMD", 0x19, model)
            for model in (*range(0x10), *range(0x20, 0x30), *range(0x40, 0x60))
        ),
    ),
    Target(
        name="zen4",
        title="AMD Zen 4 (EPYC 9004, Ryzen 7000)",
        triple=_LINUX,
        mcpu="znver4",
        features=isa.ZEN4,
        # 512-bit operations take two passes through the 256-bit pipes.
        fma_ports=1,
        l1d_bytes=32 * KIB,
        l2_bytes=1 * MIB,
        l3_bytes=32 * MIB,
        cores=8,
        dram_bytes_per_cycle=8.0,
        source="AMD Software Optimization Guide for Zen 4 (57647), sections 2.6 and 2.11",
        family_models=tuple(
            ("AuthenticAMD", 0x19, model)
            for model in (*range(0x10, 0x20), *range(0x60, 0x80), *range(0xA0, 0xB0))
        ),
    ),
    Target(
        name="skylake-x",
        title="Intel Skylake server and X (AVX-512)",
        triple=_LINUX,
        mcpu="skylake-avx512",
        features=isa.SKYLAKE_X,
        fma_ports=2,
        l1d_bytes=32 * KIB,
        l2_bytes=1 * MIB,
        # 1.375 MiB a core and not inclusive.
        l3_bytes=11 * MIB,
        cores=8,
        dram_bytes_per_cycle=4.0,
        source="Intel Optimization Reference Manual (248966), section 2.6",
        family_models=(("GenuineIntel", 6, 0x55),),
    ),
    Target(
        name="ice-lake",
        title="Intel Ice Lake server",
        triple=_LINUX,
        mcpu="icelake-server",
        features=isa.ICE_LAKE,
        fma_ports=2,
        l1d_bytes=48 * KIB,
        l2_bytes=1280 * KIB,
        l3_bytes=12 * MIB,
        cores=8,
        dram_bytes_per_cycle=5.0,
        source="Intel Optimization Reference Manual (248966), section 2.5",
        family_models=(("GenuineIntel", 6, 0x6A), ("GenuineIntel", 6, 0x6C)),
    ),
    Target(
        name="sapphire-rapids",
        title="Intel Sapphire Rapids and Emerald Rapids",
        triple=_LINUX,
        mcpu="sapphirerapids",
        features=isa.SAPPHIRE_RAPIDS,
        fma_ports=2,
        l1d_bytes=48 * KIB,
        l2_bytes=2 * MIB,
        l3_bytes=15 * MIB,
        cores=8,
        dram_bytes_per_cycle=5.0,
        source="Intel Optimization Reference Manual (248966), section 2.3",
        family_models=(("GenuineIntel", 6, 0x8F), ("GenuineIntel", 6, 0xCF)),
    ),
    *BOARDS,
)
