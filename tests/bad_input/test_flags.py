"""Flags that cannot be read, do not fit the model, or would destroy something."""

from __future__ import annotations

import json

import pytest

from tests import models
from tests.command_line import command, refused, spawn
from tilewright.errors import OptionError, OutputError, TargetError

BAD_FLAGS = {
    "unknown_input": (["--shape", "z=2,64"], OptionError, ["'z'", "one of: x"]),
    "wrong_rank": (["--shape", "x=2,3,64"], OptionError, ["x=2,3,64", "2 sizes for [n,64]"]),
    "fixed_size": (["--shape", "x=2,65"], OptionError, ["gives 65 where the model needs 64"]),
    "unreadable_shape": (["--shape", "x=2,y"], OptionError, ["cannot read --shape x=2,y"]),
    "shape_without_name": (["--shape", "2,64"], OptionError, ["INPUT=1,3,224,224"]),
    "negative_size": (["--shape", "x=-2,64"], OptionError, ["cannot read --shape"]),
    "unknown_dim": (["--dim", "m=3"], OptionError, ["'m'", "one of: n"]),
    "contradiction": (
        ["--shape", "x=2,64", "--dim", "n=3"],
        OptionError,
        ["--dim n=3 contradicts", "makes it 2"],
    ),
    "unreadable_dim": (["--dim", "n=many"], OptionError, ["cannot read --dim n=many"]),
    "half_a_range": (["--dim", "n=3.."], OptionError, ["NAME=128 or NAME=1..512"]),
    "backward_range": (["--dim", "n=9..3"], OptionError, ["9..3", "low <= high"]),
    "target": (["-t", "x86-64-avx52"], TargetError, ["'x86-64-avx52'", "x86-64-avx512"]),
    "strange_target": (["-t", "toaster"], TargetError, ["native, or one of", "targets"]),
    "mcpu": (["-t", "llvm -mcpu=pentium"], TargetError, ["-mcpu=pentium", "x86-64-avx2"]),
    "tvm_flag": (["-t", "llvm -device=arm_cpu"], TargetError, ["-device=arm_cpu", "-mcpu="]),
    "mattr": (["-t", "llvm -mattr=avx2"], TargetError, ["'avx2' in -mattr", "+ or -"]),
    "mattr_unknown": (["-t", "llvm -mattr=+neon"], TargetError, ["'+neon'"]),
    "num_cores": (["-t", "llvm -num-cores=two"], TargetError, ["-num-cores=two"]),
    "no_cores": (["-t", "llvm -num-cores=0"], TargetError, ["0 cores", "at least 1"]),
    "triple": (["-t", "llvm -mtriple=aarch64-linux-gnu"], TargetError, ["aarch64", "x86_64"]),
    "disable": (["--disable", "fuse_opps"], OptionError, ["'fuse_opps'", "fuse_ops"]),
    "only": (["--only", "nothing"], OptionError, ["'nothing'", "fold_constants"]),
    "suffix": (["-o", "model.dll"], OptionError, ["'model.dll'", "ends in .so", "-o model.so"]),
    "no_folder": (["-o", "no/such/model.so"], OutputError, ["does not exist", "mkdir -p"]),
    "proc": (["-o", "/proc/model.so"], OutputError, ["cannot write there", "/proc"]),
    "bundle_folder": (["--bundle", "no/such/bundle"], OutputError, ["does not exist"]),
    "dump_folder": (["--dump", "no/such/dump"], OutputError, ["does not exist"]),
    "unchecked_bundle": (["--bundle", "b", "--no-verify"], OptionError, ["golden", "--no-verify"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_refuses_the_flag(case, model_file, nothing_left):
    flags, kind, says = BAD_FLAGS[case]
    refused(kind, "compile", model_file(models.linear("n")), "-q", *flags, says=says)


def test_refuses_an_output_below_a_file(model_file, tmp_path, nothing_left):
    (tmp_path / "file").write_text("not a folder")
    path = model_file(models.linear())
    refused(OutputError, "compile", path, "-o", tmp_path / "file" / "m.so", says=["does not exist"])


def test_refuses_an_output_that_is_a_folder(model_file, tmp_path, nothing_left):
    (tmp_path / "taken.so").mkdir()
    refused(
        OutputError,
        "compile",
        model_file(models.linear()),
        "-o",
        tmp_path / "taken.so",
        says=["folder"],
    )


def test_a_bundle_does_not_replace_a_folder_of_something_else(model_file, tmp_path, nothing_left):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    refused(
        OutputError,
        "compile",
        model_file(models.linear()),
        "-q",
        "--bundle",
        tmp_path / "thesis",
        says=["something else than a bundle"],
    )
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("flag", ["--json=", "--html="])
def test_a_report_does_not_replace_a_model(flag, model_file, nothing_left):
    path = model_file(models.linear())
    before = path.read_bytes()
    refused(OptionError, "inspect", f"{flag}{path}", path, says=[flag[:-1], "file that ends in"])
    assert path.read_bytes() == before


def test_json_before_the_model_reads_the_model(model_file, nothing_left, capsys):
    path = model_file(models.linear())
    before = path.read_bytes()
    assert command("inspect", "--json", path) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == 3
    assert path.read_bytes() == before


def test_click_refuses_what_it_can_with_exit_code_2(tmp_path):
    done = spawn("compile", "m.onnx", "--threads", "0", cwd=tmp_path)
    assert done.returncode == 2 and "--threads" in done.stderr
    assert "Traceback" not in done.stderr
