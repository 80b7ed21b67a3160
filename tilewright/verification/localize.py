"""From a failing example to who did it: `tilewright verify --localize`.

1. One run of the library, every kernel call compared with the model in double precision: the first
   ONNX tensor that is wrong, and the kernel that made it (divergence.py).
2. The model compiled again with one thing switched off at a time: the pass, rule, fusion or record
   without which nothing is wrong (bisect.py).
3. The nodes around that tensor as a model of their own, larger until it fails too (excerpt.py).
4. All of it in one paragraph.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tilewright.compiler import child
from tilewright.compiler.sections import read_manifest
from tilewright.errors import TilewrightError
from tilewright.verification.bisect import Bisection, Switch

# Compiles the model again, or the one at the path: the library.
Recompile = Callable[[Switch, Path | None], Path]
Progress = Callable[[dict[str, Any]], None]

_JOBS = "tilewright.verification.localize_job"


def localize(
    job: Mapping[str, Any],
    failure: Mapping[str, Any],
    inputs: Path,
    recompile: Recompile,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `failure` of a proof comes from, as JSON values (docs/verification.md).

    `job` is what the proof was told, `inputs` the failing example's .npz. The minimal model goes
    into the folder of the failure's reproduction, where there is one.
    """
    with tempfile.TemporaryDirectory(prefix="tilewright-") as name:
        folder = Path(name)
        told = {**job, "failure": failure, "inputs": str(inputs), "folder": name}
        found = child.call(f"{_JOBS}:divergence_job", told, progress, doing="localizing")
        if found["no_truth"]:
            return _nothing(found["no_truth"])
        search = _Search(job, found, recompile, progress)
        bisection = Bisection(lambda switch: search.fails(switch, folder))
        manifest = read_manifest(Path(job["library"]))
        rows, tensor = manifest["kernels"], found["divergence"]
        at_fault = next((r for r in rows if tensor and r["name"] == tensor["kernel"]), None)
        tuned = bool(manifest["tuning"]["tuned"])
        culprit = bisection.culprit(at_fault, rows, tuned, found["normalise"])
        minimal = search.minimal(Path(failure["folder"]) if failure["folder"] else None)
        result = {
            "why_not": None,
            "tensor": tensor,
            "kernels": found["kernels"],
            "culprit": culprit.to_dict(),
            "tried": [
                {"off": str(switch), "fails": fails} for switch, fails in bisection.tried.items()
            ],
            "minimal": minimal,
        }
        return {**result, "text": paragraph(result)}


def _nothing(reason: str) -> dict[str, Any]:
    result = dict.fromkeys(("tensor", "kernels", "culprit", "minimal"))
    text = f"The failure could not be traced: {reason}."
    return {"why_not": reason, **result, "tried": [], "text": text}


class _Search:
    def __init__(
        self,
        job: Mapping[str, Any],
        found: Mapping[str, Any],
        recompile: Recompile,
        progress: Progress | None,
    ) -> None:
        self._threads, self._found = job["threads"], found
        self._recompile, self._progress = recompile, progress

    def fails(self, switch: Switch, folder: Path) -> bool | None:
        """Whether the model fails with `switch`; None when it does not compile or run so."""
        return self._fails(switch, None, folder, self._found["allowed"], str(switch))

    def _fails(
        self, switch: Switch, model: Path | None, folder: Path, allowed: Any, step: str
    ) -> bool | None:
        if self._progress is not None:
            self._progress({"event": "at", "step": f"localize: {step}"})
        try:
            library = self._recompile(switch, model)
            job = {"library": str(library), "folder": str(folder), "allowed": allowed}
            job["threads"] = self._threads
            return bool(child.call(f"{_JOBS}:judge_job", job, doing="localizing")["wrong"])
        except TilewrightError:
            return None

    def minimal(self, reproduction: Path | None) -> dict[str, Any] | None:
        """The smallest excerpt that fails, copied to `reproduction`; None when none does."""
        for piece in self._found["excerpts"]:
            place = Path(piece["folder"])
            step = f"does a model of {piece['nodes']} nodes still fail?"
            if self._fails(Switch(), place / "minimal.onnx", place, piece["allowed"], step):
                kept = None
                if reproduction is not None:
                    kept = reproduction / "minimal"
                    shutil.rmtree(kept, ignore_errors=True)
                    shutil.copytree(place, kept)
                return {"nodes": piece["nodes"], "folder": str(kept) if kept else None}
        return None


def paragraph(found: Mapping[str, Any]) -> str:
    """What was found, in plain words."""
    tensor, culprit, minimal = found["tensor"], found["culprit"], found["minimal"]
    if tensor is None:
        first = (
            f"Each of the {found['kernels']} kernel calls makes what it should, within what "
            "rounding explains, and still an output is off: errors add up."
        )
    else:
        nodes = ", ".join(tensor["nodes"])
        off = (
            "has NaN, infinities or sizes that it should not have"
            if tensor["error"] is None
            else f"is off by {tensor['error']:.1e} of its largest value"
        )
        reads = ", ".join(map(repr, tensor["reads"])) or "constants alone"
        writer = (
            "the fallback schedule has written"
            if tensor["rule"] == "fallback"
            else f"rule {tensor['rule']} has written"
        )
        of = f" for a group of fusion {tensor['fusion']}" if tensor["fusion"] else ""
        first = (
            f"The first tensor that is wrong is {tensor['tensor']!r}: it {off}, while what it is "
            f"computed from ({reads}) is right. It is the result of {nodes}, which kernel "
            f"{tensor['kernel']} computes, whose loop nest {writer}{of}."
        )
        if tensor["between"]:
            between = ", ".join(tensor["between"])
            first += f" Before it come {between}, of which no kernel alone makes the result."
    who = {
        "record": "a tuning record chose it",
        "rule": f"rule {culprit['name']} did it",
        "fusion": f"fusion {culprit['name']} did it",
        "stage": f"stage {culprit['name']} did it",
        "required stages": f"a stage that is always there did it ({culprit['name']})",
        "several": "no single step did it",
    }[culprit["kind"]]
    mend = f"; {culprit['switch']} makes it right" if culprit["switch"] else ""
    second = f"{who[0].upper()}{who[1:]}: {culprit['reason']}{mend}."
    if minimal is None:
        third = "No part of the model fails alone."
    else:
        nodes = f"{minimal['nodes']} node{'s' if minimal['nodes'] > 1 else ''}"
        where = f", and lies in {minimal['folder']}" if minimal["folder"] else ""
        third = f"A model of {nodes} around that tensor fails too{where}."
    return f"{first} {second} {third}"
