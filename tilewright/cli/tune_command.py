"""tilewright tune MODEL.onnx"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tilewright.autotune.records import default_path
from tilewright.cli import console, flags
from tilewright.cli.report import Report, seconds_text
from tilewright.devices.where import BOARD_PORT, TRACKER_PORT, Where, address_value
from tilewright.errors import OptionError
from tilewright.options import CompileOptions


def share_value(text: str) -> float:
    """`1%` -> 0.01; `0.01` as it is."""
    try:
        number = float(text.removesuffix("%"))
    except ValueError as error:
        raise OptionError(f"cannot read --min-gain {text}", expected="1% or 0.01") from error
    return number / 100 if text.endswith("%") else number


def where_value(
    board: str | None, tracker: str | None, key: str | None, most: int | None
) -> Where | None:
    """The boards that --board or --tracker name; None without them: this machine."""
    given = board or tracker
    if given is None:
        if key or most:
            raise OptionError("which boards?", expected="--board HOST:PORT or --tracker HOST:PORT")
        return None
    if board and tracker:
        raise OptionError("both a board and a tracker", expected="--board or --tracker")
    if key is None:
        raise OptionError("boards answer to their key only", where=given, expected="--key KEY")
    if board:
        return Where(address_value(board, BOARD_PORT), key)
    return Where(address_value(given, TRACKER_PORT), key, tracked=True, most=most)


@click.command("tune")
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@flags.budget(None, "20m without --trials")
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help="How much to try.")
@click.option(
    "--min-gain",
    default="1%",
    show_default=True,
    metavar="1%",
    help="What a task must gain for its record to be kept.",
)
@click.option("--fresh", is_flag=True, help="Do not use what earlier sessions measured.")
@click.option("--tasks", metavar="PATTERN", help="Tune these groups or ONNX nodes only.")
@click.option("--board", metavar="HOST:PORT", help="Measure on this board (`board serve`).")
@click.option("--tracker", metavar="HOST:PORT", help="Measure on the boards of this tracker.")
@click.option("--key", metavar="KEY", help="The word that the boards were started with.")
@click.option("--devices", type=click.IntRange(min=1), metavar="MAX", help="Use so many at most.")
@flags.database
@flags.compiling
@flags.threads
@flags.reporting
@flags.everywhere
def command(
    model: Path,
    budget: str | None,
    trials: int | None,
    min_gain: str,
    fresh: bool,
    tasks: str | None,
    board: str | None,
    tracker: str | None,
    key: str | None,
    devices: int | None,
    db: Path | None,
    target: str,
    shapes: dict,
    options: CompileOptions,
    threads: int | None,
    json_to: str | None,
    html_to: Path | None,
    level: int,
) -> int:
    """Search for the fastest kernels of MODEL.onnx by measuring them on this machine.

    What wins is kept in a file of records, which `tilewright compile` reads. Ctrl-C at any time:
    the same command goes on where it stopped.
    """
    from tilewright import tuning

    seconds = flags.duration_value(budget) if budget else None if trials else 1200.0

    with SessionView(level) as view, _said_where(db, level):
        found = tuning.tune(
            model,
            target,
            shapes,
            options,
            budget=seconds,
            trials=trials,
            min_gain=share_value(min_gain),
            fresh=fresh,
            tasks=tasks,
            db=db,
            threads=threads,
            devices=where_value(board, tracker, key, devices),
            progress=view,
        )
    report = Report(f"tuning of {model.name}", found)
    _add_tasks(report, found)
    _add_summary(report, found, model)
    if html_to is not None:
        _add_plots(report, found)
    report.emit(json_to, html_to)
    return 0


@contextlib.contextmanager
def _said_where(db: Path | None, level: int) -> Iterator[None]:
    """Whoever interrupts a session is told that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        console.say(
            f"the trials so far are in {db or default_path()}: the same command goes on", level
        )
        raise


class SessionView:
    """A session as it goes: a live table on a terminal, else a line for each batch of news."""

    # Without a terminal: a line at most so often, in seconds.
    EVERY = 10.0

    def __init__(self, level: int) -> None:
        self._progress = console.Progress(level)
        self._level = level
        self._rows: dict[str, dict[str, Any]] = {}
        self._live: Any = None
        self._said = 0.0

    def __enter__(self) -> SessionView:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._live is not None:
            self._live.stop()
        self._progress.__exit__()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of the session."""
        kind = event["event"]
        if kind == "tasks":
            self._rows = {row["task"]: row for row in event["rows"]}
            self._show(event)
        elif kind == "trial":
            self._rows[event["row"]["task"]] = event["row"]
            self._show(event)
        elif kind == "note":
            console.say(event["text"], self._level)
        elif self._live is None:
            self._progress(event)

    def _show(self, event: dict[str, Any]) -> None:
        if self._level < 0:
            return
        import sys

        if sys.stderr.isatty():
            self._draw(event)
        elif event["event"] == "trial" and time.monotonic() - self._said > self.EVERY:
            self._said = time.monotonic()
            console.say(self._line(event), self._level)

    def _line(self, event: dict[str, Any]) -> str:
        rows = self._rows.values()
        before = sum(row["times"] * row["default_seconds"] for row in rows)
        after = sum(row["times"] * row["best_seconds"] for row in rows)
        return (
            f"  {event['seconds']:6.0f} s  {event['trials']} trials, {seconds_text(before)} -> "
            f"{seconds_text(after)}; last: {event['row']['task']}"
        )

    def _draw(self, event: dict[str, Any]) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.table import Table

        if self._live is None:
            self._progress.__exit__()
            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)
            self._live.start()
        table = Table(box=None)
        for name in TASK_COLUMNS:
            table.add_column(name)
        for row in task_rows(list(self._rows.values()))[:25]:
            table.add_row(*row)
        parts = [table, self._line(event)] if "trials" in event else [table]
        self._live.update(Group(*parts))


TASK_COLUMNS = (
    *("task", "of the time", "default", "best", "roof", "trials", "misranked", "gain"),
    "ONNX nodes",
)


def task_rows(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Cells of each task, the one with the most time first."""
    whole = sum(row["times"] * row["default_seconds"] for row in rows) or 1.0
    ordered = sorted(rows, key=lambda row: -row["times"] * row["default_seconds"])
    return [
        [
            row["task"],
            f"{row['times'] * row['default_seconds'] / whole:.1%}",
            seconds_text(row["default_seconds"]),
            seconds_text(row["best_seconds"]),
            seconds_text(row["least_seconds"]),
            str(row["trials"]),
            "" if row["misranked"] is None else f"{row['misranked']:.0%}",
            f"{row['default_seconds'] / row['best_seconds'] - 1:+.1%}",
            " ".join(row["nodes"][:1]) + (" ..." if row["nodes"][1:] else ""),
        ]
        for row in ordered
    ]


def _add_tasks(report: Report, found: dict[str, Any]) -> None:
    report.table("tasks", list(TASK_COLUMNS), task_rows(found["tasks"]))
    failures = [
        [row["task"], reason, count]
        for row in found["tasks"]
        for reason, count in row["failures"].items()
    ]
    if failures:
        report.table("failed trials", ["task", "reason", "trials"], failures)
    if found["left"]:
        report.table(
            "left alone", ["group", "reason"], [list(row) for row in found["left"].items()]
        )


def _add_plots(report: Report, found: dict[str, Any]) -> None:
    from tilewright.cli import tuning_plots

    try:
        report.figures = tuning_plots.plots(found)
    except ImportError:
        report.lines.append(tuning_plots.NOT_INSTALLED)


def _devices_text(count: int) -> str:
    return f" of {count} devices" if count > 1 else ""


def _add_summary(report: Report, found: dict[str, Any], model: Path) -> None:
    report.lines.append(
        f"{found['trials']} trials in {found['seconds']:.0f} s on {found['threads']} threads"
        f"{_devices_text(found['devices'])}; records in {found['db']}"
    )
    if "model" not in found:
        report.lines.append("nothing beats the defaults: no record was confirmed")
        return
    whole = found["model"]
    ratio = whole["ratio"]
    report.lines.append(
        f"{model.name}: {seconds_text(whole['before_seconds'])} -> "
        f"{seconds_text(whole['after_seconds'])}, {ratio['median']:.3f} times as fast "
        f"({ratio['low']:.3f} .. {ratio['high']:.3f})"
    )
    if whole["confirmed"]:
        report.lines.append(f"`tilewright compile {model}` uses {len(found['won'])} records now")
    elif whole["right"]:
        report.lines.append("the whole model is not faster: no record was confirmed")
    else:
        report.lines.append("the tuned model disagrees with ONNX Runtime: nothing was confirmed")
