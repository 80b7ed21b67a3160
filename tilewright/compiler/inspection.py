"""Looks at what was linked for another machine: what it needs must be what the machine has.

A wrong library is found here, by the one who compiles it, and not there as an illegal instruction
or as a message of the loader.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.sections import Section, SymbolTableSection

from tilewright.errors import CompileError
from tilewright.targets import Target

# Instructions, as Capstone writes them, that a feature brings (Arm DDI 0487, C4.1; DDI 0406C,
# A8.8). None: no target has it.
_ATOMIC = "ld(add|clr|eor|set|[su]max|[su]min)|st(add|clr|eor|set|[su]max|[su]min)|swp|casp?"
_BRINGS: dict[str, tuple[tuple[str | None, str], ...]] = {
    "aarch64": (
        ("neon", r"\w+ .*\bv\d+\.\d*[bhsd]\b"),
        ("crc", r"crc32"),
        ("aes", r"aes|pmull2? .*\.1q"),
        ("sha2", r"sha(1|256)"),
        (None, r"sha512|eor3|rax1|xar|bcax|sm[34]|smstart|smstop|pac|aut"),
        ("lse", rf"({_ATOMIC})(a|l|al)?[bh]? "),
        ("rdm", r"sqrdml[as]h"),
        ("rcpc", r"ldapu?r"),
        ("fp16fml", r"fml[as]l2?\b"),
        ("fullfp16", r"f(?!cvt|mov|ml[as]l)\w+ .*(\.[48]h\b|\bh\d+)"),
        ("dotprod", r"[su]dot .*\bv\d"),
        ("i8mm", r"(us|su)dot|(s|u|us)mmla"),
        ("bf16", r"bf(dot|mmla|mlal|cvt)"),
        ("sve", r"\w+ .*\b(z\d+\.|p\d+[./])"),
    ),
    "armv7": (
        ("vfp4", r"vf(n?m[as])"),
        ("hwdiv-arm", r"[su]div"),
        (None, r"v(max|min)nm|vsel|vcvt[anpm]\.|vrint|lda|stl(?!d)|crc32|aes|sha(1|256)"),
    ),
}
# Symbols that say what follows is code (Arm's ELF specifications, "mapping symbols").
_CODE = {"aarch64": "$x", "armv7": "$a"}
_WORD = 4


def inspect(
    library: Path,
    objects: Sequence[Path],
    target: Target,
    glibc: str | None,
    private: Iterable[str],
) -> str:
    """What was found, in a few words. Raises CompileError when the library would not run.

    `objects` were linked into it; `private` are texts, such as folders of this machine, that
    must not be in it.
    """
    with library.open("rb") as file:
        elf = ELFFile(file)
        if elf["e_machine"] != target.machine.elf:
            raise _wrong(library, f"is for {elf['e_machine']}", target.machine.elf)
        needed = _glibc(elf)
    if glibc and needed > _version(glibc):
        raise _wrong(library, f"needs glibc {'.'.join(map(str, needed))}", f"glibc {glibc}")
    content = library.read_bytes()
    if found := [text for text in private if text.encode() in content]:
        raise _wrong(library, f"names {found[0]}", "nothing of the machine that compiles")
    said = [target.machine.name, f"glibc {glibc}" if glibc else "", "no paths of this machine"]
    return ", ".join([*filter(None, said), _instructions(objects, target)])


def _glibc(elf: ELFFile) -> tuple[int, ...]:
    """The newest version of glibc that a symbol asks for."""
    sections = [s for s in elf.iter_sections() if isinstance(s, GNUVerNeedSection)]
    names = [entry.name for s in sections for _, entries in s.iter_versions() for entry in entries]
    found = [_version(name.removeprefix("GLIBC_")) for name in names if name.startswith("GLIBC_2")]
    return max(found, default=(0,))


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _instructions(objects: Sequence[Path], target: Target) -> str:
    """Whether every instruction is one of the target's, where that can be told."""
    brings = _BRINGS.get(target.machine.name)
    if brings is None:
        return "instructions not looked at"
    if importlib.util.find_spec("capstone") is None:
        return "instructions not looked at (pip install 'tilewright[cross]')"
    words = np.unique(np.concatenate([np.empty(0, "<u4"), *map(_words, objects)]))
    lacks = [re.compile(pattern) for name, pattern in brings if name not in target.features]
    for text in _written(words, target.machine.name):
        if any(pattern.match(text) for pattern in lacks):
            raise _wrong(Path("the code"), f"has the instruction {text}", f"one of {target.name}")
    return f"{len(words)} different instructions, all of {target.name}"


def _words(path: Path) -> np.ndarray:
    """The instructions in an object file, as numbers."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        code = _CODE.get("aarch64" if elf["e_machine"] == "EM_AARCH64" else "armv7", "$x")
        tables = [s for s in elf.iter_sections() if isinstance(s, SymbolTableSection)]
        marks: dict[int, list[tuple[int, bool]]] = {}
        for symbol in (symbol for table in tables for symbol in table.iter_symbols()):
            if re.match(r"\$[xadt](\.|$)", symbol.name):
                row = (symbol["st_value"], symbol.name.startswith(code))
                marks.setdefault(symbol["st_shndx"], []).append(row)
        # Compilers leave the mark of a section that is nothing but code out.
        parts = [
            part
            for number, section in enumerate(elf.iter_sections())
            for part in _code(section, sorted(marks.get(number, [(0, True)])))
        ]
    return np.frombuffer(b"".join(parts), "<u4")


def _code(section: Section, marks: list[tuple[int, bool]]) -> Iterator[bytes]:
    """The parts of a section that are code."""
    if section["sh_type"] != "SHT_PROGBITS" or not section["sh_flags"] & 4:  # SHF_EXECINSTR
        return
    data = section.data()
    ends = [at for at, _ in marks[1:]] + [len(data)]
    for (start, is_code), end in zip(marks, ends, strict=True):
        if is_code:
            yield data[start : start + (end - start) // _WORD * _WORD]


def _written(words: np.ndarray, machine: str) -> Iterator[str]:
    """Each instruction as text."""
    import capstone

    kinds = {
        "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
        "armv7": (capstone.CS_ARCH_ARM, capstone.CS_MODE_ARM | capstone.CS_MODE_V8),
    }
    reader = capstone.Cs(*kinds[machine])
    reader.skipdata = True
    for _at, _size, mnemonic, operands in reader.disasm_lite(words.tobytes(), 0):
        yield f"{mnemonic} {operands}"


def _wrong(library: Path, what: str, expected: str) -> CompileError:
    return CompileError(
        f"what was linked would not run there: it {what}",
        where=library.name,
        expected=expected,
        hint="a fault of ours: please report it with the model and the target",
    )
