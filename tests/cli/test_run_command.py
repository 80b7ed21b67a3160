from __future__ import annotations

import json

import numpy as np

from tests import models
from tests.command_line import command
from tests.compiling import compile_here


def test_summarises_the_outputs(here, linear_library, capsys):
    assert command("run", linear_library, "--threads", "1") == 0
    out = capsys.readouterr().out
    assert "float32" in out and "[2, 32]" in out and out.rstrip().endswith("1 thread")


def test_writes_the_outputs_for_given_inputs(here, linear_library):
    np.save("x.npy", np.zeros((2, 64), np.float32))
    assert command("run", linear_library, "-q", "--input", "x=x.npy", "-o", "y.npz") == 0
    found = np.load("y.npz")
    assert list(found) == ["y"] and found["y"].shape == (2, 32)


def test_a_seed_gives_the_same_outputs_again(here, linear_library, capsys):
    seen = []
    for seed in (1, 1, 2):
        command("run", linear_library, "-q", "--json", "--seed", seed)
        seen.append(json.loads(capsys.readouterr().out)["outputs"])
    assert seen[0] == seen[1] != seen[2]


def test_an_open_dimension_takes_a_size(here, tmp_path, capsys):
    library = compile_here(models.linear("n"), tmp_path).library
    command("run", library, "-q", "--dim", "n=7", "--json")
    assert json.loads(capsys.readouterr().out)["outputs"][0]["shape"] == [7, 32]
