from __future__ import annotations

import re
from pathlib import Path

import pytest

import tilewright
from tests import models
from tests.command_line import command
from tests.compiling import compile_here
from tilewright.cli.compile_command import tuned_text
from tilewright.compiler import child, sections
from tilewright.errors import CheckFailed


def test_writes_the_library_named_after_the_model_here(here, model_file, capsys):
    assert command("compile", model_file(models.linear(), "net.v2.onnx")) == 0
    assert [p.name for p in here.iterdir()] == ["net.v2.so"]
    out, err = capsys.readouterr()
    assert out.startswith("net.v2.so  ") and "link" in err and "verify" in err
    tilewright.load(here / "net.v2.so")


def test_writes_where_it_is_told_and_a_bundle_beside(here, model_file):
    path = model_file(models.linear())
    assert command("compile", path, "-o", "a.so", "--bundle", "b", "-q") == 0
    assert sorted(p.name for p in here.iterdir()) == ["a.so", "b"]
    assert (here / "b" / "model.so").read_bytes() == (here / "a.so").read_bytes()


def test_a_bundle_alone_is_all_that_is_written(here, model_file):
    assert command("compile", model_file(models.linear()), "--bundle", "b", "-q") == 0
    assert [p.name for p in here.iterdir()] == ["b"]


def test_quiet_prints_results_only(here, model_file, capsys):
    command("compile", model_file(models.linear()), "-q")
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and err == ""


def test_verbose_says_why(here, model_file, capsys):
    command("compile", model_file(models.linear()), "-v", "--no-verify")
    err = capsys.readouterr().err
    assert "ONNX to Relax" in err and "not checked: the check was switched off" in err


def test_says_what_came_from_the_cache_unless_there_is_none(here, model_file, capsys):
    path = model_file(models.linear())
    said = []
    for flags in ((), (), ("--no-cache",)):
        command("compile", path, "--no-verify", *flags)
        said.append(re.search(r"(\d+) kernels, (\d+) from the cache", capsys.readouterr().err))
    assert said[1][1] == said[1][2] != "0"
    assert said[2][2] == "0"


def test_flags_reach_the_artifact(here, model_file):
    command(
        *("compile", model_file(models.linear("n")), "-q", "--no-verify", "-O", "1"),
        *("-t", "x86-64-avx", "--dim", "n=2..8", "--threads", "3", "--disable", "clean_up"),
        *("--seed", "5"),
    )
    manifest = sections.read_manifest(here / "model.so")
    assert manifest["target"]["name"] == "x86-64-avx" and manifest["dims"] == {"n": [2, 8]}
    assert manifest["threads"] == 3 and manifest["options"]["opt_level"] == 1
    assert manifest["options"]["disable"] == ["clean_up"] and manifest["options"]["seed"] == 5


def test_wrong_numbers_are_exit_code_1_and_no_file(here, model_file, monkeypatch):
    wrong = compile_here(models.unary("Neg"), here.parent).library
    stock = child.call

    def swap(function, job, *args, **fields):
        job = {**job, "library": str(wrong)} if function.endswith(":check_job") else job
        return stock(function, job, *args, **fields)

    monkeypatch.setattr(child, "call", swap)
    with pytest.raises(CheckFailed) as info:
        command("compile", model_file(models.unary("Relu")), "-q")
    assert info.value.exit_code == 1 and list(here.iterdir()) == []


def test_the_dump_holds_the_stages(here, model_file):
    command("compile", model_file(models.linear()), "-q", "--no-verify", "--dump", "d")
    assert len(list((here / "d").iterdir())) > 10


def _kernel(group, flops, rule="conv"):
    return {"group": group, "flops": flops, "calls": 2, "rule": rule}


def test_how_much_is_tuned():
    kernels = [_kernel("a", 60), _kernel("a", 20), _kernel("b", 20), _kernel("c", 900, "fallback")]
    tuning = {"groups": 2, "tuned": ["a"], "unfit": {}}
    manifest = {"kernels": kernels, "tuning": tuning}
    said = tuned_text(manifest, Path("m.onnx"), verbose=False)
    assert said == (
        "1 of 2 groups tuned, 80% of the operations; `tilewright tune m.onnx` tunes the others"
    )
    said = tuned_text(manifest, Path("m.onnx"), verbose=True)
    assert said.endswith("not tuned: b, 20.0%: tilewright tune m.onnx --tasks b")
    assert tuned_text({**manifest, "tuning": {**tuning, "tuned": []}}, Path("m"), False) == ""
