from __future__ import annotations

import re
import subprocess
import tempfile

from tests import models
from tests.compiling import compile_here
from tilewright.compiler import build
from tilewright.compiler.kernel_cache import KernelCache


def test_kernels_are_listed_in_the_order_of_the_calls(tmp_path):
    work = compile_here(models.linear(), tmp_path, until="legalize", opt_level=0)
    assert build.called_kernels(work.mod) == ["matmul", "add", "relu"]


def test_the_folder_holds_no_weights_twice(tmp_path):
    work = compile_here(models.linear(), tmp_path)
    assert not (work.folder / "weights.bin").exists()


def test_a_library_is_the_same_whoever_compiles_it_where(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "another").mkdir()
    first, second = (
        compile_here(
            models.conv_net(), place, cache=KernelCache(place / "kernels")
        ).library.read_bytes()
        for place in (tmp_path / "a", tmp_path / "another")
    )
    assert first == second
    assert str(tmp_path).encode() not in first


def test_a_library_needs_libc_and_libm_alone(tmp_path):
    library = compile_here(models.conv_net(), tmp_path).library
    shown = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True)
    needed = re.findall(r"NEEDED.*\[(\w+)", shown.stdout)
    # ld is the loader itself, which holds the variables that each thread has for itself.
    assert set(needed) <= {"libc", "libm", "libgcc_s", "ld"}


def test_shows_what_each_stage_left(tmp_path):
    shown = {}
    for stage in ("load", "import", "codegen", "link"):
        work = compile_here(models.linear(), tmp_path, until=stage)
        shown[stage] = build.shown_ir(work, stage)
    assert "MatMul" in shown["load"]
    assert "R.matmul" in shown["import"]
    assert ".text" in shown["codegen"] and "__tvm_ffi_linear_0:" in shown["codegen"]
    assert "'sha256'" in shown["link"]


def test_no_process_is_forked_before_temporary_files_have_names(tmp_path, monkeypatch):
    seen, stock = [], build.compile_kernels

    def compiled(*given):
        seen.append(tempfile._name_sequence is not None)
        return stock(*given)

    monkeypatch.setattr(tempfile, "_name_sequence", None)
    monkeypatch.setattr(build, "compile_kernels", compiled)
    compile_here(models.linear(), tmp_path)
    assert seen == [True]
