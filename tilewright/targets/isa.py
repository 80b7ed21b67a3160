"""x86-64 instruction-set features: the names LLVM uses, and what the Linux kernel calls them.

Only features that generated code can use are listed. The groups are those of the x86-64
psABI micro-architecture levels: https://gitlab.com/x86-psABIs/x86-64-ABI (section 3.1.1).
"""

from __future__ import annotations

# LLVM's name of a feature -> the flag in /proc/cpuinfo.
X86_FEATURES: dict[str, str] = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "sse4.1": "sse4_1",
    "sse4.2": "sse4_2",
    "popcnt": "popcnt",
    "cx16": "cx16",
    "sahf": "lahf_lm",
    "movbe": "movbe",
    "lzcnt": "abm",
    "bmi": "bmi1",
    "bmi2": "bmi2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512vnni": "avx512_vnni",
    "avx512bf16": "avx512_bf16",
    "avx512fp16": "avx512_fp16",
    "avx512ifma": "avx512ifma",
    "avx512vbmi": "avx512vbmi",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "avx512vpopcntdq": "avx512_vpopcntdq",
    "avxvnni": "avx_vnni",
    "amx-tile": "amx_tile",
    "amx-int8": "amx_int8",
    "amx-bf16": "amx_bf16",
    "sse4a": "sse4a",
    "xop": "xop",
    "fma4": "fma4",
    "gfni": "gfni",
    "vaes": "vaes",
    "vpclmulqdq": "vpclmulqdq",
    "sha": "sha_ni",
    "adx": "adx",
    "prfchw": "3dnowprefetch",
}

X86_64_V2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "sahf")
AVX = (*X86_64_V2, "avx")
X86_64_V3 = (*AVX, "movbe", "lzcnt", "bmi", "bmi2", "f16c", "fma", "avx2")
X86_64_V4 = (*X86_64_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")

# Features of a CPU model beyond its level: 128-bit crypto and bit tricks LLVM may pick up.
_ZEN = ("sse4a", "sha", "adx", "prfchw")
ZEN3 = (*X86_64_V3, *_ZEN, "vaes", "vpclmulqdq")
_AVX512_EXTRAS = (
    "avx512ifma",
    "avx512vbmi",
    "avx512vbmi2",
    "avx512bitalg",
    "avx512vpopcntdq",
    "avx512vnni",
    "gfni",
    "vaes",
    "vpclmulqdq",
)
SKYLAKE_X = (*X86_64_V4, "adx", "prfchw")
ICE_LAKE = (*X86_64_V4, "sha", "adx", "prfchw", *_AVX512_EXTRAS)
SAPPHIRE_RAPIDS = (
    *ICE_LAKE,
    "avx512bf16",
    "avx512fp16",
    "avxvnni",
    "amx-tile",
    "amx-int8",
    "amx-bf16",
)
ZEN4 = (*X86_64_V4, *_ZEN, *_AVX512_EXTRAS, "avx512bf16")
