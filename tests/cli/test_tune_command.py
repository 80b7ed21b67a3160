from __future__ import annotations

import json

import pytest

from tests import models
from tests.command_line import command, refused
from tests.net import Net
from tilewright.cli.tune_command import share_value, task_rows
from tilewright.errors import OptionError


def test_shares():
    assert share_value("1%") == share_value("0.01") == 0.01
    with pytest.raises(OptionError, match="cannot read --min-gain"):
        share_value("much")


def test_a_session_from_start_to_library(here, model_file, capsys):
    path = model_file(models.linear(), "net.onnx")
    assert command("tune", path, "--trials", "2", "--threads", "1", "--db", "r.jsonl") == 0
    out, err = capsys.readouterr()
    assert "linear_0" in out and "records in r.jsonl" in out and "fuse" in err
    assert command("compile", path, "--db", "r.jsonl", "-q") == 0


def test_groups_that_are_no_tasks_are_listed(here, tmp_path, capsys):
    net = Net(x=(4, 8), z=(4, 16))
    silu = net.Mul("x", net.Sigmoid("x"))
    path = tmp_path / "net.onnx"
    model = net.model(silu, net.Gemm("z", net.weight(16, 8)))
    path.write_bytes(model.SerializeToString())
    assert command("tune", path, "--trials", "1", "--threads", "1", "--db", "r.jsonl", "-q") == 0
    assert "no rule takes it" in capsys.readouterr().out


def test_json(here, model_file, capsys):
    flags = ("--trials", "1", "--threads", "1", "--db", "r.jsonl", "-q", "--json")
    assert command("tune", model_file(models.linear()), *flags) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 1 and found["tasks"][0]["nodes"]


def test_tasks_with_most_time_come_first():
    row = {"task": "a", "nodes": ["n", "m"], "times": 1, "default_seconds": 1e-3}
    row |= {"best_seconds": 1e-3, "least_seconds": 5e-4, "trials": 3, "misranked": 0.25}
    rows = task_rows([row, {**row, "task": "b", "times": 3, "best_seconds": 8e-4}])
    assert [cells[0] for cells in rows] == ["b", "a"]
    assert rows[0][1] == "75.0%" and rows[0][7] == "+25.0%" and rows[1][7] == "+0.0%"
    assert rows[0][6] == "25%"


@pytest.mark.parametrize(
    "words, says",
    [
        (["--key", "lab"], "which boards?"),
        (["--board", "pi", "--tracker", "lab"], "both a board and a tracker"),
        (["--board", "pi"], "--key KEY"),
        (["--board", "pi:port", "--key", "lab"], "cannot read the address"),
    ],
)
def test_boards_that_are_not_clear(model_file, words, says):
    refused(OptionError, "tune", model_file, *words, says=[says])
