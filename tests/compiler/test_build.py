from __future__ import annotations

import functools
import re
import subprocess

import numpy as np
import onnx
import pytest
from onnx import helper

from tests import models
from tests.compiling import compile_here
from tilewright.compiler import build, runtime
from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.convert.sizes import stock
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.errors import UnsupportedModel


def test_kernels_are_listed_in_the_order_of_the_calls(tmp_path):
    work = compile_here(models.linear(), tmp_path, until="legalize", opt_level=0)
    assert build.called_kernels(work.mod) == ["matmul", "add", "relu"]


def test_results_that_may_be_an_input_or_a_weight(tmp_path):
    work = compile_here(models.returns_input_and_weight(), tmp_path)
    assert [row["owned"] for row in work.interface["outputs"]] == [False, False, True]
    # The memory of a reshaped input is the input's.
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    x, y = models.value("x", (64, 32)), models.value("y", (32, 64))
    work = compile_here(models.model(nodes, [x], [y], {"shape": np.array([32, 64])}), tmp_path)
    module = runtime.load(work.library)
    given = np.zeros((64, 32), np.float32)
    module(given).fill(1)
    assert not given.any()


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


def test_a_shape_known_only_at_run_time_is_refused_with_the_node(tmp_path, monkeypatch):
    # Our own converter names the sizes; TVM's leaves an operator that has no kernel.
    theirs = functools.partial(stock, "ConstantOfShape")
    monkeypatch.setitem(table._OURS, ("", "ConstantOfShape"), theirs)
    proto = models.model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"], name="fill")],
        inputs=[models.value("s", (2,), onnx.TensorProto.INT64)],
        outputs=[models.value("y", (None, None))],
    )
    with pytest.raises(UnsupportedModel, match="only known at run time") as caught:
        compile_here(proto, tmp_path)
    assert "fill (ConstantOfShape)" in caught.value.where
    assert "constant" in caught.value.hint
