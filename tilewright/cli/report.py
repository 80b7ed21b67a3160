"""Results as tables: on the terminal, as JSON, as one HTML page. One shape serves all three."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from tilewright import __version__
from tilewright.cli.page import page
from tilewright.compiler.artifact import replacing


@dataclass
class Report:
    """A title, tables of text, and the same facts as JSON values."""

    title: str
    data: dict[str, Any]
    tables: list[tuple[str, list[str], list[list[str]]]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    drawing: str = ""
    # Headings and SVGs, which the page alone shows.
    figures: list[tuple[str, str]] = field(default_factory=list)

    def table(self, title: str, header: list[str], rows: list[list[Any]]) -> None:
        """Add a table; cells become text."""
        self.tables.append((title, header, [[str(cell) for cell in row] for row in rows]))

    def emit(self, json_to: str | None, html_to: Path | None) -> None:
        """Print the report, or its JSON where `json_to` is "-"; write the files asked for."""
        text = json.dumps(self.data, indent=1)
        if json_to not in (None, "-"):
            with replacing(Path(json_to)) as temporary:
                temporary.write_text(text + "\n")
        if html_to is not None:
            with replacing(html_to) as temporary:
                temporary.write_text(self._page())
        click.echo(text if json_to == "-" else self._text(), nl=json_to == "-")

    def _page(self) -> str:
        return page(self.title, self.tables, self.lines, __version__, self.drawing, self.figures)

    def _text(self) -> str:
        out = io.StringIO()
        self._print(out, colour=sys.stdout.isatty())
        return out.getvalue()

    def _print(self, out: io.StringIO, colour: bool) -> None:
        from rich.console import Console

        width = None if colour else 200
        self._print_to(Console(file=out, force_terminal=colour, width=width, highlight=False))

    def _print_to(self, console: Any) -> None:
        from rich import box
        from rich.table import Table

        for title, header, rows in self.tables:
            table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
            for name in header:
                table.add_column(name, overflow="fold")
            for row in rows:
                table.add_row(*[_escaped(cell) for cell in row])
            console.print(table)
        if self.drawing:
            console.print(_escaped(self.drawing), soft_wrap=True)
        for line in self.lines:
            console.print(_escaped(line), soft_wrap=True)


def interface_table(report: Report, inputs: list[dict], outputs: list[dict]) -> None:
    """Add the inputs and outputs of a model."""
    rows = [["input", r["name"], r["dtype"], r["shape"]] for r in inputs]
    rows += [["output", r["name"], r["dtype"], r["shape"]] for r in outputs]
    report.table("interface", ["", "name", "dtype", "shape"], rows)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def bytes_text(size: float) -> str:
    """A size for people: 102.4 MB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"


def threads_text(threads: int) -> str:
    """How many threads, for people: 1 thread."""
    return f"{threads} thread{'s' if threads != 1 else ''}"


def seconds_text(seconds: float) -> str:
    """A time for people: 12.3 ms."""
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= factor:
            return f"{seconds / factor:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"
