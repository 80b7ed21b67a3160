"""From what a user types after `-t` to a Target."""

from __future__ import annotations

import dataclasses
import difflib
import os

from tilewright.errors import TargetError
from tilewright.options import CompileOptions
from tilewright.targets import host
from tilewright.targets.catalog import CATALOG
from tilewright.targets.isa import MACHINES
from tilewright.targets.target import Target

_GENERIC_BY_FEATURES = tuple(reversed([t for t in CATALOG if not t.family_models]))


def resolve(name: str | Target) -> Target:
    """The target called `name`: a catalog row, `native`, or TVM's old `llvm -mcpu=...` form.

    Raises TargetError, naming the nearest rows, when there is none.
    """
    if isinstance(name, Target):
        return name
    if name == "native":
        return native()
    if name == "llvm" or name.startswith("llvm "):
        return _from_tvm_string(name)
    for row in CATALOG:
        if row.name == name:
            return row
    names = [row.name for row in CATALOG]
    near = difflib.get_close_matches(name, names, n=3)
    raise TargetError(
        f"no target is called {name!r}",
        expected=f"native, or one of: {', '.join(names)}",
        hint=f"did you mean {' or '.join(near)}?"
        if near
        else "`tilewright targets` shows the rows",
    )


def built_for(name: str | Target, options: CompileOptions) -> Target:
    """The target called `name`, with the C library that `options` ask for."""
    row = resolve(name)
    return row.with_musl() if options.musl or options.static else row


def native() -> Target:
    """This machine. Detected features win over what the CPU's name promises."""
    found = host.detect()
    machine = next((m for m in MACHINES if m.is_here(found.machine)), None)
    if machine is None:
        raise TargetError(
            f"this machine is {found.machine}",
            expected=f"one of {', '.join(m.name for m in MACHINES)}",
        )
    row = _row_of(found)
    return dataclasses.replace(
        row,
        name="native",
        title=f"{found.title} (as {row.name})",
        features=tuple(f for f in machine.features if f in found.features),
        l1d_bytes=found.l1d_bytes or row.l1d_bytes,
        l2_bytes=found.l2_bytes or row.l2_bytes,
        l3_bytes=found.l3_bytes or row.l3_bytes,
        cores=len(os.sched_getaffinity(0)),
        source=f"/proc/cpuinfo and sysfs of this machine; the rest from {row.name}",
        family_models=((found.vendor, found.family, found.model),),
    )


def _row_of(found: host.Host) -> Target:
    """The row of this CPU model, or the richest generic row whose features are all there."""
    for row in CATALOG:
        if (found.vendor, found.family, found.model) in row.family_models:
            return row
    here = (found.machine, found.features)
    for row in _GENERIC_BY_FEATURES:
        if not row.missing_on(*here):
            return row
    raise TargetError(
        f"this {found.machine} has none of the feature sets there are rows for",
        expected="NEON and VFPv4 on 32-bit Arm",
    )


def _from_tvm_string(text: str) -> Target:
    """`llvm -mtriple=... -mcpu=... -mattr=+a,-b -num-cores=N`, as TVM took it before 0.20."""
    options: dict[str, str] = {}
    for word in text.split()[1:]:
        key, equals, value = word.partition("=")
        if not equals or key not in ("-mtriple", "-mcpu", "-mattr", "-num-cores"):
            raise TargetError(
                f"cannot read {word!r} in the target {text!r}",
                expected="-mtriple=, -mcpu=, -mattr= or -num-cores=",
            )
        options[key] = value
    mcpu = options.get("-mcpu", "x86-64")
    row = next((row for row in CATALOG if mcpu in (row.mcpu, row.name)), None)
    if row is None:
        raise TargetError(
            f"no row describes -mcpu={mcpu}",
            where=f"target {text!r}",
            expected=f"one of: {', '.join(row.mcpu for row in CATALOG)}",
            hint="pass -t x86-64-avx2 (or another generic row) instead",
        )
    triple = options.get("-mtriple", row.triple)
    if triple.split("-")[0] != row.machine.name:
        raise TargetError(
            f"-mtriple={triple} and -mcpu={mcpu}",
            where=f"target {text!r}",
            expected=f"a triple of {row.machine.name}, which that CPU is",
            hint="`tilewright targets` lists rows for other machines",
        )
    features = set(row.features)
    for switch in filter(None, options.get("-mattr", "").split(",")):
        if switch[0] not in "+-" or switch[1:] not in row.machine.features:
            raise TargetError(
                f"cannot read {switch!r} in -mattr",
                where=f"target {text!r}",
                expected=f"+ or - before one of: {', '.join(row.machine.features)}",
            )
        (features.add if switch[0] == "+" else features.discard)(switch[1:])
    cores = options.get("-num-cores", str(row.cores))
    if not cores.isdigit():
        raise TargetError(f"-num-cores={cores} is not a number", where=f"target {text!r}")
    return dataclasses.replace(
        row,
        name=text,
        triple=triple,
        features=tuple(f for f in row.machine.features if f in features),
        cores=int(cores),
        source=f"{row.name}, changed by {text!r}",
    )
