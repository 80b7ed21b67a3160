"""tilewright doctor"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tilewright.cli import flags
from tilewright.cli.report import Report


@click.command("doctor")
@flags.reporting
@flags.everywhere
def command(json_to: str | None, html_to: Path | None, **_everywhere: Any) -> int:
    """Check the installation. Exit code 2 when something that is needed is missing."""
    from tilewright.analysis.doctor import examine

    findings = examine()
    good = all(f.good or not f.needed for f in findings)
    data = {"good": good, "findings": [f.to_dict() for f in findings]}
    report = Report("doctor", data)
    rows = [
        [f.name, "ok" if f.good else ("MISSING" if f.needed else "absent"), f.found, f.mend or ""]
        for f in findings
    ]
    report.table("", ["what", "state", "found", "how to mend it"], rows)
    report.lines.append("all that is needed is here" if good else "something needed is missing")
    report.emit(json_to, html_to)
    return 0 if good else 2
