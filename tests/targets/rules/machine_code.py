"""Kernels built for a target, and the instructions that came out."""

from __future__ import annotations

import tvm
from tvm import tirx

from tilewright.targets import resolve
from tilewright.targets.rules.registers import PIPELINE


def built(function: tirx.PrimFunc, target: str) -> tvm.runtime.Module:
    """`function` in machine code for the target of that name, as `main`."""
    config = tvm.target.Target(resolve(target).tvm_config())
    mod = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    return tvm.tirx.build(mod, target=config, pipeline=PIPELINE)


def instructions(function: tirx.PrimFunc, target: str) -> list[str]:
    """The lines of the assembly that are instructions, without indentation."""
    lines = built(function, target).inspect_source("asm").splitlines()
    return [li.strip() for li in lines if li.startswith("\t") and not li.startswith("\t.")]
