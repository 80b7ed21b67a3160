"""The program of a bundle: `run`, which checks itself before it runs the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler.small_types import STORED
from tilewright.compiler.standalone.names import PREFIX
from tilewright.targets import Target
from tilewright.targets.toolchain import toolchain_for

FOLDER = Path(__file__).parent / "board"
SOURCES = ("run.c", "files.c", "files.h")
FILES = ("run", *SOURCES, "expected.h", f"{PREFIX}.h")
# What __builtin_cpu_supports of GCC 9 and LLVM 14 knows.
_X86 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "fma", "avx2", "bmi", "bmi2")
_X86_512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16")
_KINDS = {"float16": "h", "bfloat16": "b"}


def write_program(
    folder: Path,
    built: Path,
    manifest: Mapping[str, Any],
    example: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> None:
    """Write `run` and its sources into the bundle `folder`.

    `built` is where the compiler left header and archive; `example` the run whose outputs are
    golden, with what each may differ; `hashes` SHA-256 of the files that `run` checks.
    """
    target = Target.from_dict(manifest["target"])
    options = manifest["options"]
    for name in SOURCES:
        shutil.copyfile(FOLDER / name, folder / name)
    shutil.copyfile(built / f"{PREFIX}.h", folder / f"{PREFIX}.h")
    (folder / "expected.h").write_text(_expected(manifest, target, example, hashes))
    tools = toolchain_for(target, options["glibc"], options["cc"])
    sources = [folder / name for name in SOURCES if name.endswith(".c")]
    if options["static"]:
        tools.link_program(folder / "run", [*sources, built / "model.a"], "-static", "-DLINKED")
    else:
        tools.link_program(folder / "run", sources)
    (folder / "run").chmod(0o755)


def _expected(
    manifest: Mapping[str, Any],
    target: Target,
    example: Mapping[str, Any],
    hashes: Mapping[str, str],
) -> str:
    """`expected.h`: what the model needs, and what its outputs may differ."""
    allowed = {verdict["name"]: verdict["allowed"] for verdict in example["verdicts"]}
    names = [row["name"] for row in manifest["inputs"]]
    dims = [str(example["dims"][name]) for name in manifest["dims"]]
    outputs = [_output(row, allowed[row["name"]]) for row in manifest["outputs"]]
    files = [f"{{{_text(name)}, {_text(digest)}}}" for name, digest in hashes.items()]
    hwcap = target.machine.hwcap
    bits = [(name, *hwcap[name]) for name in target.features if name in hwcap]
    features = [f"{{{_text(name)}, {word}, {bit}}}" for name, word, bit in bits]
    supported = [name for name in target.features if name in (*_X86, *_X86_512)]
    lines = [f"  if (!__builtin_cpu_supports({_text(n)})) return {_text(n)};" for n in supported]
    return _TEMPLATE.format(
        machine=_text(target.machine.name),
        cpu=_text(f"{target.name} ({target.title})"),
        glibc=_text(manifest["needs"]["glibc"] or ""),
        files=_rows(files),
        inputs=_rows([_text(name) for name in names]),
        dims=_rows(dims or ["0"]),
        outputs=_rows(outputs),
        features=_rows(features or ["{0, 0, 0}"]),
        x86="\n".join(lines),
    )


_TEMPLATE = """\
/* What the bundle's model needs and is to answer, written by Tilewright. */
#ifndef EXPECTED_H
#define EXPECTED_H

#include <stdint.h>

#define EXPECTED_MACHINE {machine}
#define EXPECTED_CPU {cpu}
#define EXPECTED_GLIBC {glibc}
#define EXPECTED static const __attribute__((unused))

EXPECTED struct expected_file {{
  const char *name, *sha256;
}} expected_files[] = {{
{files}
}};

/* Inputs in the order of calls, and the sizes of open dimensions. */
EXPECTED char *const expected_inputs[] = {{
{inputs}
}};
EXPECTED int64_t expected_dims[] = {{
{dims}
}};

/* Outputs. Floats ('f'; 'h' binary16, 'b' bfloat16) may differ by `allowed` of the largest. */
EXPECTED struct expected_output {{
  const char *name;
  char kind;
  int width;
  double allowed;
}} expected_outputs[] = {{
{outputs}
}};

/* Bits of AT_HWCAP (word 0) and AT_HWCAP2 (word 1). */
EXPECTED struct expected_feature {{
  const char *name;
  int word, bit;
}} expected_features[] = {{
{features}
}};

#if defined(__x86_64__)
static __attribute__((unused)) const char *expected_x86(void) {{
  __builtin_cpu_init();
{x86}
  return 0;
}}
#endif

#endif
"""


def _output(row: Mapping[str, Any], allowed: float) -> str:
    dtype = np.dtype(STORED.get(row["dtype"], row["dtype"]))
    kind = _KINDS.get(row["dtype"], {"f": "f", "i": "i"}.get(dtype.kind, "u"))
    return f"{{{_text(row['name'])}, '{kind}', {dtype.itemsize}, {allowed or 0.0!r}}}"


def _rows(rows: list[str]) -> str:
    return ",\n".join(f"  {row}" for row in rows)


def _text(text: str) -> str:
    """A C string."""
    return json.dumps(text, ensure_ascii=False).replace("??", "?\\?")
