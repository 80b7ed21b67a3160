"""python -m tilewright.demo: compile a trained text detector, run it, check it, time it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np

import tilewright
from tilewright.cli.console import Progress, run
from tilewright.cli.report import seconds_text
from tilewright.demo import text_regions

HERE = Path(__file__).resolve().parent
MODEL = HERE / "ppocrv4_det.onnx"
PICTURE = HERE / "receipt.png"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Where the library and the marked picture go.",
)
@click.option("--seconds", default=5.0, show_default=True, help="How long to measure.")
def command(out: Path, seconds: float) -> int:
    """Find the text on a receipt with PP-OCRv4's detector, compiled for this machine."""
    try:
        pixels = text_regions.picture(PICTURE)
    except ImportError as error:
        raise tilewright.TilewrightError(
            "the demo needs Pillow", hint="pip install 'tilewright[demo]'"
        ) from error
    x = text_regions.model_input(pixels)
    out.mkdir(parents=True, exist_ok=True)
    library, given = out / "ppocrv4_det.so", out / "receipt.npz"

    click.echo(f"1. Compile {MODEL.name} (PP-OCRv4 text detector, Apache-2.0) for this machine")
    with Progress(0) as progress:
        artifact = tilewright.compile(MODEL, shapes={"x": x.shape}, progress=progress)
    artifact.save(library)
    click.echo(f"   {library}: {library.stat().st_size / 1e6:.1f} MB\n")

    click.echo(f"2. Run it on {PICTURE.name}")
    probability = tilewright.load(library)(x)[0, 0]
    boxes = text_regions.find_boxes(probability)
    click.echo(text_regions.sketch(pixels, boxes))
    marked = out / "receipt-found.png"
    text_regions.draw(pixels, boxes, marked)
    click.echo(f"   {len(boxes)} pieces of text found; drawn into {marked}\n")

    click.echo("3. Check the numbers against ONNX Runtime on this picture")
    np.savez(given, x=x)
    report = tilewright.verify(library, model=MODEL, inputs=[str(given)])
    click.echo(f"   {report}\n")

    click.echo("4. Time it beside ONNX Runtime, same threads, in turns")
    found = tilewright.bench(library, model=MODEL, inputs=[str(given)], seconds=seconds)
    for name, engine in found["engines"].items():
        click.echo(
            f"   {name:<12} {seconds_text(engine['median'])}"
            f"  ({seconds_text(engine['p10'])} .. {seconds_text(engine['p90'])}),"
            f" load {seconds_text(engine['load'])}"
        )
    click.echo(
        f"   ONNX Runtime's time / ours: {found['ratio']['median']:.2f}, {found['threads']} threads"
    )
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(run(command))
