"""tilewright db: look at tuning records, and keep them in order."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import click

from tilewright.autotune.records import Database, Record, default_path, summary
from tilewright.cli import flags
from tilewright.cli.report import Report, seconds_text
from tilewright.errors import OptionError


@click.group("db")
def command() -> None:
    """Look at tuning records, and keep them in order."""


def _database(db: Path | None) -> Database:
    path = db or default_path()
    if not path.is_file():
        raise OptionError(
            "there are no tuning records",
            where=str(path),
            expected="a file written by `tilewright tune`",
            hint="--db FILE names another",
        )
    return Database(path)


@command.command("stats")
@flags.database
@flags.reporting
@flags.everywhere
def stats(db: Path | None, json_to: str | None, html_to: Path | None, level: int, seed: int) -> int:
    """How many records there are, of what, and what they gained."""
    database = _database(db)
    records, problems = database.read()
    rows = summary(records)
    data = {"file": str(database.path), "records": len(records), "tasks": rows}
    report = Report("tuning records", {**data, "damaged": len(problems)})
    targets = Counter((row["target"], row["threads"]) for row in rows)
    report.table(
        "",
        ["target", "threads", "tasks", "tuned", "trials", "failed"],
        [
            [
                target,
                threads,
                count,
                _count(rows, target, threads, lambda row: row["rule"] is not None),
                _count(rows, target, threads, lambda row: row["trials"]),
                _count(rows, target, threads, lambda row: row["failures"]),
            ]
            for (target, threads), count in targets.items()
        ],
    )
    report.lines.append(f"{database.path}: {len(records)} records, {len(problems)} damaged lines")
    report.emit(json_to, html_to)
    return 0


def _count(rows: list[dict[str, Any]], target: str, threads: int, number: Any) -> int:
    own = [row for row in rows if (row["target"], row["threads"]) == (target, threads)]
    return sum(int(number(row)) for row in own)


@command.command("show")
@click.argument("text", required=False, metavar="[TEXT]")
@flags.database
@flags.reporting
@flags.everywhere
def show(
    text: str | None,
    db: Path | None,
    json_to: str | None,
    html_to: Path | None,
    level: int,
    seed: int,
) -> int:
    """The tasks whose spec has TEXT in it, and the choice that won each."""
    rows = [row for row in summary(_database(db).read()[0]) if text is None or text in row["spec"]]
    report = Report("tuning records", {"tasks": rows})
    report.table(
        "",
        ["spec", "threads", "trials", "rule", "knobs", "time", "gain"],
        [
            [
                row["spec"],
                row["threads"],
                row["trials"],
                row["rule"] or "",
                json.dumps(row["knobs"]) if row["rule"] else "",
                seconds_text(row["seconds"]) if row["rule"] else "",
                f"{row['gain'] - 1:+.1%}" if row["rule"] else "",
            ]
            for row in rows
        ],
    )
    report.emit(json_to, html_to)
    return 0


@command.command("merge")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@flags.database
@flags.everywhere
def merge(files: tuple[Path, ...], db: Path | None, level: int, seed: int) -> int:
    """Add the records of FILES that are not there yet."""
    database = Database(db or default_path())
    known = {record.line() for record in database.read()[0]}
    for file in files:
        records, problems = Database(file).read()
        new = [record for record in records if record.line() not in known]
        database.append(new)
        known |= {record.line() for record in new}
        click.echo(f"{file}: {len(new)} of {len(records)} records added, {len(problems)} damaged")
    return 0


@command.command("prune")
@flags.database
@flags.everywhere
def prune(db: Path | None, level: int, seed: int) -> int:
    """Keep of each task the newest confirmed record and its trials, each once; drop the rest."""
    database = _database(db)
    records, problems = database.read()
    kept: dict[tuple, Record] = {}
    for record in records:
        kept[(*record.task, record.confirmed, None if record.confirmed else record.choice)] = record
    database.rewrite(kept.values())
    click.echo(
        f"{database.path}: {len(kept)} records kept, {len(records) - len(kept)} older ones and "
        f"{len(problems)} damaged lines dropped"
    )
    return 0


@command.command("doctor")
@flags.database
@flags.everywhere
def doctor(db: Path | None, level: int, seed: int) -> int:
    """Say which lines are damaged, and why. Exit code 1 when there are any."""
    database = _database(db)
    records, problems = database.read()
    for problem in problems:
        click.echo(f"{database.path}:{problem.line}: {problem.reason}")
    click.echo(f"{len(records)} good records, {len(problems)} damaged lines")
    if problems:
        click.echo("they are passed over; `tilewright db prune` drops them", err=True)
    return 1 if problems else 0


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@flags.database
@flags.everywhere
def export(file: Path, db: Path | None, level: int, seed: int) -> int:
    """Write the confirmed records to FILE: what compilations elsewhere need."""
    records, _ = _database(db).read()
    confirmed = [record for record in records if record.confirmed]
    Database(file).rewrite(confirmed)
    click.echo(f"{file}: {len(confirmed)} records")
    return 0
