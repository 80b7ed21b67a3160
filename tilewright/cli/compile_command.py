"""tilewright compile MODEL.onnx"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import bytes_text
from tilewright.compiler.standalone.names import PREFIX, check_prefix
from tilewright.options import CompileOptions
from tilewright.targets import host, resolve


@click.command("compile")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="OUT.so",
    help="The library; default MODEL.so, here.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Also write library, manifest, golden data and run.py into DIR.",
)
@click.option(
    "--dump",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the IR after each stage into DIR.",
)
@click.option(
    "--standalone",
    is_flag=True,
    help="Never with TVM's runtime, with a C header; the default for another machine.",
)
@click.option("--glibc", metavar="2.31", help="The oldest glibc to run with.")
@click.option("--musl", is_flag=True, help="Link with musl instead of glibc.")
@click.option("--static", is_flag=True, help="Make the bundle's program one static file (musl).")
@click.option("--cc", metavar="COMMAND", help="The C compiler that links; default: cc, or Zig's.")
@click.option("--no-verify", is_flag=True, help="Skip the check against ONNX Runtime.")
@click.option("--no-cache", is_flag=True, help="Compile every kernel anew.")
@flags.records
@flags.compiling
@flags.threads
@flags.everywhere
def command(
    model: Path,
    output: Path | None,
    bundle: Path | None,
    dump: Path | None,
    standalone: bool,
    glibc: str | None,
    musl: bool,
    static: bool,
    cc: str | None,
    no_verify: bool,
    no_cache: bool,
    db: Path | bool,
    target: str,
    shapes: dict,
    options: CompileOptions,
    threads: int | None,
    level: int,
) -> int:
    """Compile MODEL.onnx to a library for this machine (or -t NAME) and check its numbers.

    Writes MODEL.so into the current folder unless -o or --bundle says otherwise.
    """
    from tilewright import api
    from tilewright.compiler.artifact import check_bundle_folder, check_library_name

    if output is None and bundle is None:
        output = Path(f"{model.stem}.so")
    # Before minutes of work: can the result be written?
    elsewhere = not resolve(target).machine.is_here(host.detect().machine)
    alone = standalone or elsewhere or musl or static
    if output is not None:
        check_library_name(output, standalone=alone)
    if bundle is not None:
        check_bundle_folder(bundle)
    prefix = _prefix(output, bundle) if alone else None
    linking = {"glibc": glibc, "musl": musl, "static": static, "cc": cc}
    options = dataclasses.replace(options, threads=threads, standalone=prefix, **linking)

    def action(progress: console.Progress) -> Any:
        return api.compile(
            model,
            target,
            shapes,
            options,
            check=not no_verify,
            cache=not no_cache,
            db=db,
            dump=dump,
            progress=progress,
        )

    artifact = console.with_progress(level, action)
    for save, path in ((artifact.save, output), (artifact.save_bundle, bundle)):
        if path is not None:
            save(path)
            size = bytes_text(artifact.library.stat().st_size)
            click.echo(f"{path}  {size}  {artifact.manifest['target']['title']}")
    if said := tuned_text(artifact.manifest, model, verbose=level > 0):
        console.say(said, level)
    if said := _not_quite(db, artifact.manifest, target, threads):
        console.say(said, level)
    if artifact.unchecked:
        console.say(f"not checked: {artifact.unchecked}", level)
        if bundle is not None and artifact.expected:
            alone = artifact.manifest["functions"]
            check = f"{bundle}/run --selftest" if alone else f"tilewright verify {bundle}"
            console.say(f"{check} checks it there", level)
    return 0


def _prefix(output: Path | None, bundle: Path | None) -> str:
    """What the functions of a standalone library start with: its name; in a bundle, `model`."""
    if bundle is not None or output is None:
        return PREFIX
    return check_prefix(output.stem.removeprefix("lib").replace("-", "_").replace(".", "_"))


def tuned_text(manifest: dict[str, Any], model: Path, verbose: bool) -> str:
    """How many groups have a record; nothing where none has. `verbose` lists the others."""
    tuning = manifest["tuning"]
    lines = [f"the record of {name} does not fit: {why}" for name, why in tuning["unfit"].items()]
    tuned, groups = set(tuning["tuned"]), tuning["groups"]
    if not tuned:
        return "\n".join(lines)
    work = _work_by_group(manifest)
    whole = sum(work.values()) or 1
    share = sum(flops for name, flops in work.items() if name in tuned) / whole
    others = sorted((n for n in work if n not in tuned), key=lambda name: -work[name])
    said = f"{len(tuned)} of {groups} groups tuned, {share:.0%} of the operations"
    if others:
        said += f"; `tilewright tune {model}` tunes the others"
    lines.append(said)
    if verbose:
        lines += [
            f"  not tuned: {name}, {work[name] / whole:.1%}: tilewright tune {model} --tasks {name}"
            for name in others
        ]
    return "\n".join(lines)


def _work_by_group(manifest: dict[str, Any]) -> dict[str, int]:
    """Operations of a run in each group that a rule took."""
    found: dict[str, int] = {}
    for kernel in manifest["kernels"]:
        if kernel["rule"] != "fallback":
            flops = kernel["calls"] * (kernel["flops"] or 0)
            found[kernel["group"]] = found.get(kernel["group"], 0) + flops
    return found


def _not_quite(db: Path | bool, manifest: dict[str, Any], target: str, threads: int | None) -> str:
    """Which records of the model's groups are for something else; nothing where none is."""
    from tilewright.autotune.records import not_quite

    specs = {json.dumps(kernel["spec"], sort_keys=True) for kernel in manifest["kernels"]}
    found = not_quite(db, specs, resolve(target), threads or host.default_threads())
    return "\n".join(f"{count} records are {why}" for why, count in found.items())
