"""tilewright run ARTIFACT"""

from __future__ import annotations

from pathlib import Path

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report, seconds_text, threads_text


@click.command("run")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="ARTIFACT|BUNDLE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="OUT.npz", help="Write the outputs."
)
@click.option("--dim", "dim", multiple=True, metavar="NAME=128", help="Size of an open dimension.")
@flags.inputs
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    artifact: Path,
    output: Path | None,
    dim: tuple[str, ...],
    inputs: tuple[str, ...],
    threads: int | None,
    seed: int,
    json_to: str | None,
    html_to: Path | None,
    level: int,
) -> int:
    """Run a compiled model once and summarise its outputs.

    Without --input, inputs are random.
    """
    from tilewright.compiler import child
    from tilewright.compiler.artifact import check_writable, library_of
    from tilewright.errors import OptionError

    if output is not None:
        if output.suffix != ".npz":
            raise OptionError(f"-o {output}", expected="a file that ends in .npz")
        check_writable(output)
    sizes = dict(map(flags.dim_value, dim))
    if bounds := [name for name, size in sizes.items() if not isinstance(size, int)]:
        raise OptionError(f"--dim {bounds[0]}: a run has one size", expected=f"{bounds[0]}=128")
    job = {
        "library": str(library_of(artifact)),
        "threads": threads,
        "inputs": list(inputs),
        "seed": seed,
        "dims": sizes,
        "output": str(output) if output else None,
    }
    found = console.with_progress(
        level,
        lambda progress: child.call(
            "tilewright.analysis.run_job:run_job", job, progress, doing="running"
        ),
    )
    report = Report(f"run of {artifact.name}", found)
    report.table(
        "",
        ["output", "dtype", "shape", "min", "mean", "max"],
        [
            [o["name"], o["dtype"], o["shape"], *(_number(o[k]) for k in ("min", "mean", "max"))]
            for o in found["outputs"]
        ],
    )
    threads = threads_text(found["threads"])
    report.lines.append(f"first call {seconds_text(found['seconds'])}, {threads}")
    report.emit(json_to, html_to)
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
