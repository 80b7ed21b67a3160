from __future__ import annotations

import copy

import pytest

from tests.net import Net
from tilewright import analyze
from tilewright.cli.fusion_tables import add_comparison, add_fusions
from tilewright.cli.report import Report


@pytest.fixture
def fusion(here):
    net = Net(x=(4, 8), w=(8, 3))
    hidden = net.Relu(net.Add(net.MatMul("x", net.weight(8, 8)), net.weight(8)))
    shared = net.Sigmoid("w")
    proto = net.model(net.Softmax(hidden), net.Mul("w", shared), shared)
    return analyze(proto, "x86-64-avx2")


def _tables(report: Report) -> dict[str, list]:
    return {title: rows for title, _, rows in report.tables}


def test_shows_everything_in_tables(fusion):
    report = Report("title", {})
    add_fusions(report, fusion, max_nodes=5)
    tables = _tables(report)
    totals = dict(tables["fusion"])
    assert totals["operators"] == "6 -> 4"
    assert totals["in fused groups"].startswith("50.0% of operators")
    assert tables["patterns"][0][:3] == ["linear", "1", "3.0"]
    assert [row[0] for row in tables["groups"]] == ["linear_0", "softmax_1"]
    assert {row[0].split()[-1] for row in tables["operators that stand alone"]} == {
        "(Softmax)",
        "(Sigmoid)",
        "(Mul)",
    }
    (miss,) = tables["near misses"]
    assert miss[1] == "activation" and "has a second reader" in miss[2] and miss[3]
    assert "linear_0" in report.drawing and ".  n_softmax" in report.drawing


def test_the_drawing_can_be_left_out(fusion):
    report = Report("title", {})
    add_fusions(report, fusion, max_nodes=0)
    assert not report.drawing


def test_empty_tables_are_left_out(fusion):
    report = Report("title", {})
    add_fusions(report, {**fusion, "leftovers": [], "near_misses": []}, max_nodes=0)
    assert not {"near misses", "operators that stand alone"} & set(_tables(report))


def test_compares_two_reports(fusion):
    other = copy.deepcopy(fusion)
    other.update(model="other.onnx", operators_after=5, patterns=[])
    report = Report("title", {})
    add_comparison(report, fusion, other)
    (rows,) = _tables(report).values()
    found = {row[0]: row[1:] for row in rows}
    assert found["after"] == ["4", "5"] and found["linear groups"] == ["1", "0"]
    assert found["operators in groups"] == ["50.0%", "50.0%"]


@pytest.mark.parametrize("missing", [0, 1])
def test_says_when_there_is_nothing_to_compare(missing, fusion):
    report = Report("title", {})
    sides = [fusion, fusion]
    sides[missing] = None
    add_comparison(report, *sides)
    assert report.tables == [] and "nothing to compare" in report.lines[-1]
