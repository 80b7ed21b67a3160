"""Instruction sets: the features that code may use, by LLVM's names and the Linux kernel's.

Only features that generated code can use are listed. The groups of x86-64 are those of the
psABI micro-architecture levels: https://gitlab.com/x86-psABIs/x86-64-ABI (section 3.1.1). Arm's
are in the Arm Architecture Reference Manual (DDI 0487), part A2; the kernel's names for them in
https://docs.kernel.org/arch/arm64/elf_hwcaps.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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

# The same for AArch64 (the names of HWCAP in /proc/cpuinfo).
AARCH64_FEATURES: dict[str, str] = {
    "fp-armv8": "fp",
    "neon": "asimd",
    "crc": "crc32",
    "aes": "aes",
    "sha2": "sha2",
    "lse": "atomics",
    "rdm": "asimdrdm",
    "rcpc": "lrcpc",
    "fullfp16": "asimdhp",
    "fp16fml": "asimdfhm",
    "dotprod": "asimddp",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
}
# For 32-bit Arm.
ARM_FEATURES: dict[str, str] = {
    "neon": "neon",
    "vfp4": "vfpv4",
    "hwdiv-arm": "idiva",
    "hwdiv": "idivt",
}
# For RISC-V, where /proc/cpuinfo has them as letters of `isa`.
RISCV64_FEATURES: dict[str, str] = {"m": "m", "a": "a", "f": "f", "d": "d", "c": "c", "v": "v"}


# arch/arm64/include/uapi/asm/hwcap.h; those of 32-bit Arm below are in arch/arm's.
_AARCH64_HWCAP = {
    "fp-armv8": (0, 0),
    "neon": (0, 1),
    "aes": (0, 3),
    "sha2": (0, 6),
    "crc": (0, 7),
    "lse": (0, 8),
    "fullfp16": (0, 10),
    "rdm": (0, 12),
    "rcpc": (0, 15),
    "dotprod": (0, 20),
    "sve": (0, 22),
    "fp16fml": (0, 23),
    "sve2": (1, 1),
    "i8mm": (1, 13),
    "bf16": (1, 14),
}


@dataclass(frozen=True)
class Machine:
    """An instruction-set family.

    `name` is the first word of a triple and what `uname -m` says, unless `uname` differs; `elf`
    the e_machine of its files. `features` are LLVM's name and Linux's flag of each. `vectors` are
    (feature that brings them, bits of a register, number of registers), the widest first; None
    where all have them. `hwcap` is where Linux tells a program of a feature: AT_HWCAP (0) or
    AT_HWCAP2 (1), and the bit. `tvm_runtime`: there is a TVM runtime for it. `llvm` is what LLVM
    must know beside triple, CPU and features.
    """

    name: str
    elf: str
    features: Mapping[str, str]
    vectors: tuple[tuple[str | None, int, int], ...]
    hwcap: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    tvm_runtime: bool = False
    uname: tuple[str, ...] = ()
    llvm: Mapping[str, str] = field(default_factory=dict)

    def is_here(self, uname: str) -> bool:
        """Whether a machine that calls itself `uname` is of this family."""
        return uname in (self.uname or (self.name,))


MACHINES: tuple[Machine, ...] = (
    # Intel SDM vol. 1, sections 10.2 and 15.2.
    Machine(
        name="x86_64",
        elf="EM_X86_64",
        features=X86_FEATURES,
        vectors=(("avx512f", 512, 32), ("avx", 256, 16), (None, 128, 16)),
        tvm_runtime=True,
    ),
    # DDI 0487, section B1.2. SVE's registers are used as the NEON registers that they contain.
    Machine(
        name="aarch64",
        elf="EM_AARCH64",
        features=AARCH64_FEATURES,
        vectors=((None, 128, 32),),
        hwcap=_AARCH64_HWCAP,
        tvm_runtime=True,
    ),
    # DDI 0406C, section A2.6: with VFPv3-D32 and NEON, 16 quadwords.
    Machine(
        name="armv7",
        elf="EM_ARM",
        features=ARM_FEATURES,
        vectors=((None, 128, 16),),
        hwcap={"neon": (0, 12), "vfp4": (0, 16), "hwdiv-arm": (0, 17), "hwdiv": (0, 18)},
        uname=("armv7l", "armv8l"),
        llvm={"mfloat-abi": "hard"},
    ),
    # No vectors without "v": a vector of four is four of the 32 floating-point registers.
    Machine(
        name="riscv64",
        elf="EM_RISCV",
        features=RISCV64_FEATURES,
        vectors=((None, 128, 8),),
        hwcap={letter: (0, ord(letter) - ord("a")) for letter in RISCV64_FEATURES},
        llvm={"mabi": "lp64d"},
    ),
)

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

ARMV8 = ("fp-armv8", "neon")
ARMV8_CRC = (*ARMV8, "crc")
_ARMV8_2 = (*ARMV8_CRC, "aes", "sha2", "lse", "rdm", "rcpc", "fullfp16", "dotprod")
CORTEX_A76 = _ARMV8_2
NEOVERSE_N1 = _ARMV8_2
NEOVERSE_V1 = (*_ARMV8_2, "fp16fml", "i8mm", "bf16", "sve")
NEOVERSE_V2 = (*NEOVERSE_V1, "sve2")
ARMV7 = ("neon", "vfp4", "hwdiv-arm", "hwdiv")
RV64GC = ("m", "a", "f", "d", "c")
