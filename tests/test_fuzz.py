"""`python -m tools.fuzz`: which graphs are drawn, and what is written down about them."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tools.fuzz.__main__ import Run, without_folders
from tools.fuzz.drawing import Drawing


def _arguments(folder, **fields) -> SimpleNamespace:
    given = {
        "seed": 1,
        "ops": ["Relu", "Softmax"],
        "least": 3,
        "most": 8,
        "count": 6,
        "level": 2,
        "disable": None,
        "minutes": None,
        "keep": None,
        "reduce": 0.0,
        "json": folder / "counts.json",
    }
    return SimpleNamespace(**given | fields)


def _answering(run: Run, status: str) -> Run:
    run._child = SimpleNamespace(
        attempt=lambda model, seed: ({"status": status, "cause": "of 5", "seconds": 1.0}, None)
    )
    return run


def test_a_graph_has_a_number_and_as_many_nodes_as_asked_for():
    once, again = Drawing(3, None, 3, 30), Drawing(3, None, 3, 30)
    graphs = [once.graph(number) for number in range(40)]
    drawn = [graph for graph in graphs if graph is not None]
    assert len(drawn) > 20 and all(3 <= len(graph.graph.node) <= 30 for graph in drawn)
    assert len({graph.SerializeToString() for graph in drawn}) == len(drawn)
    assert again.graph(7) == graphs[7]


def test_a_run_goes_on_where_another_ended(tmp_path):
    _answering(Run(_arguments(tmp_path, count=4)), "agree").go_on()
    first = json.loads((tmp_path / "counts.json").read_text())
    assert first["counts"] == {"agree": 4} and first["next"] >= 4

    _answering(Run(_arguments(tmp_path)), "HANG").go_on()
    both = json.loads((tmp_path / "counts.json").read_text())
    assert both["counts"] == {"agree": 4, "HANG": 2} and both["seconds"] == 6.0
    (row,) = both["causes"].values()
    assert row["count"] == 2 and len(row["graphs"]) == 2 and min(row["graphs"]) >= first["next"]
    with pytest.raises(SystemExit, match="has graphs of"):
        Run(_arguments(tmp_path, seed=2))


def test_what_was_bad_is_tried_again(tmp_path):
    _answering(Run(_arguments(tmp_path, count=2)), "CRASH").go_on()
    _answering(Run(_arguments(tmp_path)), "agree").again()
    shown = json.loads((tmp_path / "counts.json").read_text())
    assert shown["counts"] == {"CRASH": 2}
    assert [row["now"] for row in shown["causes"].values()] == [{"agree": 2}]


def test_causes_name_no_folder_of_the_machine():
    said = 'step lower: File "/home/me/.venv/lib/site-packages/tvm/tirx/build.py", line 1 | "a/b"'
    assert without_folders(said) == 'step lower: File "tvm/tirx/build.py", line 1 | "a/b"'
