"""The pictures of a session's report, drawn by matplotlib where it is installed."""

from __future__ import annotations

import io
import re
from typing import Any

# Lines that can be told apart.
MOST_LINES = 8
MOST_FEATURES = 12
NOT_INSTALLED = "curves need matplotlib: pip install 'tilewright[plots]'"
_SIZE = (9.0, 3.6)


def plots(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Headings and SVGs for what `tilewright.tune` returned; ImportError without matplotlib.

    The best ratio of each task against its trials; what the cost model expected of each choice
    against what was measured; which features its trees split on.
    """
    pairs = (
        ("tuning curves", _curves),
        ("expected and measured", _expected),
        ("what the cost model looks at", _importance),
    )
    drawn = [(heading, draw(found)) for heading, draw in pairs]
    return [(heading, svg) for heading, svg in drawn if svg]


def _curves(found: dict[str, Any]) -> str | None:
    tasks = [row for row in found["tasks"] if row["steps"]]
    tasks.sort(key=lambda row: -row["times"] * row["default_seconds"])
    if not tasks:
        return None
    figure, axes = _figure("trials", "best time / default")
    for row in tasks[:MOST_LINES]:
        best, line = 1.0, [1.0]
        for step in row["steps"]:
            best = min(best, step["ratio"] or best)
            line.append(best)
        axes.step(range(len(line)), line, where="post", label=row["task"])
    axes.legend(fontsize="x-small", loc="upper right")
    return _svg(figure)


def _expected(found: dict[str, Any]) -> str | None:
    figure, axes = _figure("score of the cost model, before the trial", "default / time")
    shown = 0
    for row in found["tasks"]:
        points = [
            (step["score"], 1 / step["ratio"])
            for step in row["steps"]
            if step["score"] is not None and step["ratio"]
        ]
        if points and shown < MOST_LINES:
            axes.scatter(*zip(*points, strict=True), s=8, label=row["task"])
            shown += 1
    if not shown:
        return None
    axes.legend(fontsize="x-small", loc="upper left")
    return _svg(figure)


def _importance(found: dict[str, Any]) -> str | None:
    features = list(found["importance"].items())[:MOST_FEATURES]
    if not features:
        return None
    figure, axes = _figure("share of what the trees gain", "")
    names, shares = zip(*reversed(features), strict=True)
    axes.barh(names, shares)
    axes.tick_params(axis="y", labelsize="x-small")
    return _svg(figure)


def _figure(x: str, y: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def _svg(figure: Any) -> str:
    file = io.StringIO()
    # Without a date, so that the same session gives the same page.
    figure.savefig(file, format="svg", metadata={"Date": None})
    return re.sub(r"^.*?(?=<svg)", "", file.getvalue(), flags=re.DOTALL)
