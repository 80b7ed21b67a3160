from __future__ import annotations

import sys

import pytest

from tilewright.cli.tuning_plots import plots


def _row(name, *steps):
    return {
        "task": name,
        "times": 1,
        "default_seconds": 1e-3,
        "steps": [{"seconds": 1.0, "ratio": ratio, "score": score} for ratio, score in steps],
    }


def _found(*rows, importance=None):
    return {"tasks": list(rows), "importance": importance or {}}


def test_each_kind_of_figure():
    row = _row("conv_block_0", (1.1, None), (0.9, 0.3), (None, 0.2), (0.8, 0.7))
    figures = plots(_found(row, importance={"rows": 0.6, "vectors": 0.4}))
    headings = [heading for heading, _ in figures]
    assert headings == ["tuning curves", "expected and measured", "what the cost model looks at"]
    for _, svg in figures:
        assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")


def test_nothing_is_drawn_of_nothing():
    assert plots(_found(_row("a"))) == []
    assert [heading for heading, _ in plots(_found(_row("a", (1.0, None))))] == ["tuning curves"]


def test_the_same_session_gives_the_same_figures(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    row = _row("a", (0.9, 0.1))
    assert plots(_found(row))[0][0] == plots(_found(row))[0][0]


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError):
        plots(_found(_row("a", (0.9, None))))
