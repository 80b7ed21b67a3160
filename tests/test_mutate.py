"""The mutator: what it makes is what it says, and a sample of it is refused clearly.

`python -m tools.mutate` compiles what comes out; here nothing is compiled.
"""

from __future__ import annotations

import json

import pytest

from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import TilewrightError
from tilewright.verification import engines
from tools.mutate import __main__ as command
from tools.mutate import run, worker
from tools.mutate.models import MODELS
from tools.mutate.mutations import MUTATIONS, mutant
from tools.mutate.sizes import SIZES

NUMBERS = {mutation.name: number for number, mutation in enumerate(MUTATIONS)}
# What is large takes seconds even to be refused; tests of the modules that refuse it are quicker.
QUICK = [name for name in NUMBERS if name not in {mutation.name for mutation in SIZES}]


def test_every_mutation_has_a_name_of_its_own_and_a_reason():
    assert len(NUMBERS) == len(MUTATIONS) > 100
    assert all(mutation.why and not mutation.why.endswith(".") for mutation in MUTATIONS)


def test_the_same_seed_makes_the_same_mutants(tmp_path):
    for number in NUMBERS.values():
        one, two = (mutant(7, number)[2].write(tmp_path).read_bytes() for _ in range(2))
        assert one == two


@pytest.mark.parametrize("name", NUMBERS)
def test_a_mutation_changes_the_model(name, tmp_path):
    changed = 0
    for seed in range(3):
        mutation, model, case = mutant(seed, NUMBERS[name])
        assert mutation.name == name
        before, after = tmp_path / f"before{seed}", tmp_path / f"after{seed}"
        for folder, each in ((before, MODELS[model]()), (after, case)):
            folder.mkdir()
            each.write(folder)
        files = [{f.name: f.read_bytes() for f in d.iterdir()} for d in (before, after)]
        changed += files[0] != files[1]
    assert changed


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_understood_or_refused_clearly(name, tmp_path):
    path = mutant(0, NUMBERS[name])[2].write(tmp_path)
    try:
        model = load(path)
        shapes.apply(model, {}, {})
        normalise(model)
    except TilewrightError as error:
        assert run.classify(error.to_dict()) == "clear", error


def test_outcomes_are_told_apart():
    clear = {"kind": "ModelError", "what": "w", "where": "here", "expected": None, "hint": "h"}
    assert run.classify({}) == "right" and run.classify(clear) == "clear"
    for lacking in ("what", "where", "hint"):
        assert run.classify({**clear, lacking: None}) == "unclear"
    assert run.classify({**clear, "kind": "CompileError"}) == "unclear"
    assert run.classify({"traceback": "Traceback ..."}) == "unclear"
    for agrees, result in ((True, "reference"), (False, "wrong")):
        assert run.classify({"kind": "CheckFailed", "agrees_unoptimised": agrees}) == result
    assert set(run.PASSES) == {"right", "clear", "reference"}


def test_a_second_opinion_where_the_reference_is_wrong(tmp_path, monkeypatch):
    """ONNX Runtime's optimisations take scales along axis 1 for scales of the outputs."""
    monkeypatch.setattr(engines, "open_session", engines.open_session)
    case = MODELS["quantised"]()
    del case.graph.node[2].attribute[:]
    path = str(case.write(tmp_path))
    error = worker.outcome([path, "-o", str(tmp_path / "model.so"), "--no-db", "-q"])
    assert error["kind"] == "CheckFailed" and error["agrees_unoptimised"]
    assert worker.outcome([str(tmp_path / "gone.onnx")])["kind"] == "ModelError"


def test_a_process_that_takes_too_much_is_ended(tmp_path):
    path = MODELS["branches"]().write(tmp_path)
    assert run.run(path, seconds=0.2).result == "hang"
    ended = run.run(path, limit=1 << 20)
    assert ended.result == "memory" and ended.peak_bytes > 1 << 20


def test_the_command_counts_and_keeps_what_fails(tmp_path, monkeypatch, capsys):
    truncated, cycle = NUMBERS["truncate"], NUMBERS["cycle"]
    report = tmp_path / "report.json"
    words = ["--json", str(report), "--keep", str(tmp_path / "kept")]
    assert command.main([*words, "--numbers", str(truncated)]) == 0
    found = json.loads(report.read_text())
    assert found["counts"]["clear"] == 1 and found["largest_bytes"] > 1 << 20
    assert found["mutants"][0]["mutation"] == "truncate"
    monkeypatch.setattr(
        command, "run", lambda path: run.Outcome("crash", 1.0, 1.0, 5, {"what": "x"})
    )
    assert command.main([*words, "--numbers", str(cycle)]) == 1
    assert "1 crash" in capsys.readouterr().out
    assert (tmp_path / "kept" / f"{cycle}_cycle" / "model.onnx").is_file()


def test_numbers_are_drawn_from_the_seed():
    drawn = {mutant(seed, NUMBERS["flip_bits"])[2].data for seed in range(5)}
    assert len(drawn) == 5
