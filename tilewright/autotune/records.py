"""Tuning records: one JSON object a line, each with a checksum, in a file that many may append to.

A record is one trial of one choice (a rule and its knobs) for one spec on one target, with its
times, or with the reason why it failed. `confirmed` are those that won the comparison at the end of
a session: `tilewright compile` applies no others.

A line is written by one call while a lock is held, and read alone: what a crash or a full disk
leaves of a line costs that trial and no other.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from tilewright.autotune.lock import locked
from tilewright.compiler.artifact import replacing
from tilewright.errors import OptionError, OutputError
from tilewright.targets import Target

# Changes when the meaning of a record's fields does, or that of knobs of the same name.
FORMAT = 1
_SUM = "sum"


def default_path() -> Path:
    """$XDG_DATA_HOME/tilewright/records.jsonl, by default below ~/.local/share."""
    return platformdirs.user_data_path("tilewright") / "records.jsonl"


@dataclass(frozen=True)
class Record:
    """One trial.

    `spec` is `Spec.key()` and `target` `fingerprint()`. `seconds` are the quartiles of the group's
    kernels on `threads` threads, [25%, median, 75%], and `default_seconds` the median of the
    default choice measured in turns with them; both empty or None where `failure` says why there
    are none. `flops` are its operations, `facts` what the cost model learns from. `date` is ISO
    8601, UTC.
    """

    spec: str
    target: str
    threads: int
    rule: str
    knobs: Mapping[str, int]
    seconds: tuple[float, ...] = ()
    default_seconds: float | None = None
    flops: int | None = None
    failure: str | None = None
    confirmed: bool = False
    facts: Mapping[str, float] = field(default_factory=dict)
    date: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def median(self) -> float:
        """Seconds; infinite where it failed."""
        return self.seconds[1] if self.seconds else float("inf")

    @property
    def task(self) -> tuple[str, str, int]:
        """What it was a trial of."""
        return self.spec, self.target, self.threads

    @property
    def choice(self) -> tuple[str, tuple[tuple[str, int], ...]]:
        """What was tried."""
        return self.rule, tuple(sorted(self.knobs.items()))

    def line(self) -> str:
        """Its line in the file."""
        text = json.dumps(asdict(self), sort_keys=True)
        return json.dumps({**json.loads(text), _SUM: _checksum(text)}, sort_keys=True) + "\n"

    @staticmethod
    def parse(line: str) -> Record:
        """The record of a line; ValueError says what is wrong with it."""
        try:
            fields = json.loads(line)
        except ValueError as error:
            raise ValueError("it is no JSON: cut off, or damaged") from error
        if not isinstance(fields, dict) or _SUM not in fields:
            raise ValueError("it has no checksum")
        given = fields.pop(_SUM)
        if given != _checksum(json.dumps(fields, sort_keys=True)):
            raise ValueError("its checksum does not fit: it was changed, or damaged")
        if fields.get("format") != FORMAT:
            raise ValueError(f"it has format {fields.get('format')}, and this version {FORMAT}")
        try:
            return Record(**{**fields, "seconds": tuple(fields["seconds"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"its fields do not fit: {error}") from error


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint(target: Target) -> str:
    """What of a target decides which choice is fast: a text that a person can read."""
    caches = "/".join(str(size // 1024) for size in (target.l1d_bytes, target.l2_bytes))
    facts = f"{target.vector_bits} bits, {target.vector_registers} registers"
    digest = hashlib.sha256(" ".join(sorted(target.features)).encode()).hexdigest()[:8]
    l3, cores = target.l3_bytes // 1024, target.cores
    return f"{target.mcpu}, {facts}, {caches}/{l3} KiB, {cores} cores, features {digest}"


def versions() -> dict[str, str]:
    """Those that change what a choice becomes."""
    return {name: version(name) for name in ("tilewright", "apache-tvm")}


def now() -> str:
    """The date of a record."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Problem:
    """A line that holds no record, by its number from 1 on."""

    line: int
    reason: str


class Database:
    """The records in the file at `path`, which need not be there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[list[Record], list[Problem]]:
        """All records in the order in which they were written, and the lines that hold none."""
        records, problems = [], []
        try:
            text = self.path.read_bytes().decode(errors="replace")
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise OptionError(
                f"cannot read the records: {error.strerror}", where=str(self.path)
            ) from error
        for number, line in enumerate(text.split("\n"), 1):
            if not line:
                continue
            try:
                records.append(Record.parse(line))
            except ValueError as error:
                problems.append(Problem(number, str(error)))
        return records, problems

    def append(self, records: Iterable[Record]) -> None:
        """Write `records` after all others, each whole or not at all."""
        data = "".join(record.line() for record in records).encode()
        with self._locked(), self.path.open("ab") as file:
            end = file.tell()
            if end and not self._ends_a_line(end):
                data = b"\n" + data  # After what somebody else's crash left of a line.
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.truncate(self.path, end)
                raise self._refused(error) from error

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace all records by `records`."""
        with self._locked(), replacing(self.path) as temporary:
            temporary.write_text("".join(record.line() for record in records))

    def _ends_a_line(self, end: int) -> bool:
        with self.path.open("rb") as file:
            file.seek(end - 1)
            return file.read(1) == b"\n"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # The lock is a file of its own: the records' own file is replaced by `rewrite`.
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.path.with_name(f".{self.path.name}.lock")))
            except OSError as error:
                raise self._refused(error) from error
            yield

    def _refused(self, error: OSError) -> OutputError:
        return OutputError(
            f"cannot write the records: {error.strerror}",
            where=str(self.path),
            hint="check the disk's free space and the folder's permissions, or give another --db",
        )


def best(records: Iterable[Record], target: str, threads: int | None = None) -> dict[str, Record]:
    """The confirmed record of each spec on `target`: the newest, for `threads` if there is one."""
    found: dict[str, Record] = {}
    for record in records:
        if not record.confirmed or record.target != target:
            continue
        known = found.get(record.spec)
        if known is None or known.threads != threads or record.threads == threads:
            found[record.spec] = record
    return found


def not_quite(
    db: str | Path | bool, specs: Collection[str], target: Target, threads: int
) -> dict[str, int]:
    """How many confirmed records of `specs` are not quite for `target` on `threads`, by why.

    Those of other threads are applied all the same where there are no better ones.
    """
    path = default_path() if db is True else Path(db) if db else None
    if path is None or not path.is_file():
        return {}
    found: dict[str, int] = {}
    own = fingerprint(target)
    for record in Database(path).read()[0]:
        if not record.confirmed or record.spec not in specs:
            continue
        if record.target != own:
            why = f"for another target and not applied: {record.target}"
        elif record.threads != threads:
            why = f"measured on {record.threads} threads, not {threads}"
        else:
            continue
        found[why] = found.get(why, 0) + 1
    return found


def confirmed_choices(db: str | Path | bool, target: Target, threads: int) -> dict[str, Any]:
    """Rules and knobs that records of `target` confirm, by the key of a spec, as JSON values.

    `db` is a file, True for the user's own, which need not be there, or False for none.
    """
    path = default_path() if db is True else Path(db) if db else None
    if path is None or (db is True and not path.is_file()):
        return {}
    if not path.is_file():
        raise OptionError(
            "there are no tuning records",
            where=str(path),
            expected="a file written by `tilewright tune`",
            hint=f"tilewright tune MODEL.onnx --db {path}",
        )
    records, _ = Database(path).read()
    found = best(records, fingerprint(target), threads)
    return {
        key: {"rule": record.rule, "knobs": dict(record.knobs)} for key, record in found.items()
    }


def summary(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Of each task, as JSON values: trials, failures, the confirmed choice and its gain."""
    tasks: dict[tuple[str, str, int], list[Record]] = {}
    for record in records:
        tasks.setdefault(record.task, []).append(record)
    rows = []
    for (spec, target, threads), own in tasks.items():
        confirmed = [record for record in own if record.confirmed]
        last = confirmed[-1] if confirmed else None
        trials = [record for record in own if not record.confirmed]
        rows.append(
            {
                "spec": spec,
                "target": target,
                "threads": threads,
                "trials": len(trials),
                "failures": sum(record.failure is not None for record in trials),
                "rule": last and last.rule,
                "knobs": last and dict(last.knobs),
                "seconds": last and last.median,
                "gain": last and last.default_seconds / last.median,
                "date": own[-1].date,
            }
        )
    return rows
