from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm

from tests import models
from tests.command_line import ROOT
from tests.compiling import compile_here, reference
from tilewright import targets
from tilewright.compiler import build, kernels, runtime
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.targets import resolve


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "kernels"


@pytest.fixture
def again():
    """What is read once a process is read again before and after a test."""
    kernels._compiler.cache_clear()
    yield
    kernels._compiler.cache_clear()


def _compiled(proto, tmp_path, folder, **fields):
    return compile_here(proto, tmp_path, cache=KernelCache(folder), **fields)


def _cached(work) -> int:
    return len(work.objects.cached)


def _one(tmp_path, **fields):
    """A kernel, and the target as TVM has it."""
    work = compile_here(models.linear(), tmp_path, until="plan", **fields)
    return next(iter(kernels.kernels_of(work.mod).values())), work.tvm_target


# Of the C that is in every library.
C_OBJECTS = ("pool.c", "runtime.c")


def test_the_second_time_every_kernel_is_there(tmp_path, folder):
    first = _compiled(models.conv_net(), tmp_path, folder)
    second = _compiled(models.conv_net(), tmp_path, folder)
    assert _cached(first) == 0
    kept = [path.name for path in folder.iterdir()]
    assert _cached(second) == len(second.objects.symbols) == len(kept) - len(C_OBJECTS)
    assert len([name for name in kept if name.startswith("c-")]) == len(C_OBJECTS)
    assert first.library.read_bytes() == second.library.read_bytes()


def test_what_comes_from_the_cache_gives_the_right_numbers(tmp_path, folder):
    proto = models.conv_net()
    _compiled(proto, tmp_path, folder)
    library = _compiled(proto, tmp_path, folder).library
    module = runtime.load(library, 1)
    x = np.random.default_rng(0).standard_normal(module.inputs[0].shape).astype(np.float32)
    expected = reference(proto, {module.inputs[0].name: x})[0]
    np.testing.assert_allclose(module(x), expected, rtol=1e-4, atol=1e-5)


def test_another_name_is_the_same_kernel(tmp_path):
    function, target = _one(tmp_path)
    renamed = function.with_attr("global_symbol", "another").with_attr(kernels.GROUP, "another")
    assert kernels.kernel_key(renamed, target) == kernels.kernel_key(function, target)


def test_other_code_is_another_kernel(tmp_path):
    function, target = _one(tmp_path)
    other = function.with_attr("tirx.noalias", tvm.tirx.IntImm("bool", 0))
    assert kernels.kernel_key(other, target) != kernels.kernel_key(function, target)


def test_a_key_is_the_same_in_every_process(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models.conv_net().SerializeToString())
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.compiling import compile_here\n"
        "from tilewright.compiler import kernels\n"
        "work = compile_here(Path(sys.argv[1]), Path(sys.argv[2]), until='plan')\n"
        "found = kernels.kernels_of(work.mod).values()\n"
        "print(sorted(kernels.kernel_key(f, work.tvm_target) for f in found))"
    )
    shown = []
    for seed in ("1", "2"):
        (tmp_path / seed).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        shown.append(done.stdout)
    assert shown[0] == shown[1]


def test_another_target_is_another_kernel(tmp_path):
    function, target = _one(tmp_path)
    other = tvm.target.Target(resolve("x86-64").tvm_config())
    assert kernels.kernel_key(function, target) != kernels.kernel_key(function, other)


@pytest.mark.parametrize("changed", ["tilewright", "apache-tvm"])
def test_another_version_is_another_kernel(changed, tmp_path, monkeypatch, again):
    key = kernels.kernel_key(*_one(tmp_path))
    versions = kernels.version
    monkeypatch.setattr(
        kernels, "version", lambda name: "99" if name == changed else versions(name)
    )
    kernels._compiler.cache_clear()
    assert kernels.kernel_key(*_one(tmp_path)) != key


def test_another_llvm_is_another_kernel(tmp_path, monkeypatch, again):
    key = kernels.kernel_key(*_one(tmp_path))
    monkeypatch.setattr(tvm.target.codegen, "llvm_version_major", lambda: 99)
    kernels._compiler.cache_clear()
    assert kernels.kernel_key(*_one(tmp_path)) != key


def test_a_change_to_a_pass_after_the_key_is_another_kernel(tmp_path):
    source = Path(targets.__file__).parent / "rules" / "registers.py"
    (tmp_path / "rules").mkdir()
    copy = tmp_path / "rules" / "registers.py"
    copy.write_bytes(source.read_bytes())
    before = kernels.source_digest(tmp_path)
    copy.write_bytes(source.read_bytes() + b"# changed\n")
    assert kernels.source_digest(tmp_path) != before
    assert kernels.source_digest(source.parents[1]) in kernels._compiler()


def test_a_damaged_object_is_compiled_again(tmp_path, folder):
    first = _compiled(models.linear(), tmp_path, folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    second = _compiled(models.linear(), tmp_path, folder)
    assert _cached(second) == 0
    assert first.library.read_bytes() == second.library.read_bytes()
    assert _cached(_compiled(models.linear(), tmp_path, folder)) > 0


def test_compiles_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "file").write_text("in the way")
    work = _compiled(models.linear(), tmp_path, tmp_path / "file" / "kernels")
    assert work.library.is_file()


def test_compiles_without_a_cache(tmp_path):
    work = compile_here(models.linear(), tmp_path, until="plan")
    (tmp_path / "objects").mkdir()
    found = kernels.kernels_of(work.mod)
    made = kernels.compile_kernels(found, work.tvm_target, tmp_path / "objects", None)
    assert made.cached == frozenset()
    assert all(path.is_file() for path in made.files)


def test_as_many_processes_as_may_run_take_the_kernels_between_them(tmp_path, monkeypatch):
    work = compile_here(models.conv_net(), tmp_path, until="plan")
    found = kernels.kernels_of(work.mod)
    objects = []
    for threads in (1, 3):
        monkeypatch.setattr(kernels.host, "default_threads", lambda threads=threads: threads)
        folder = tmp_path / str(threads)
        folder.mkdir()
        made = kernels.compile_kernels(found, work.tvm_target, folder, None)
        objects.append([path.read_bytes() for path in made.files])
    assert objects[0] == objects[1]


def test_a_kernel_that_crashes_the_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "built", lambda *_a: os.kill(os.getpid(), signal.SIGSEGV))
    work = compile_here(models.linear(), tmp_path, until="plan")
    name = next(iter(kernels.kernels_of(work.mod)))
    work.cache = None
    with pytest.raises(RuntimeError, match=rf"^kernel {name}: SIGSEGV, inside native code$"):
        build.generate_code(work)


def test_a_kernel_that_does_not_compile_is_named_with_the_reason(tmp_path, monkeypatch):
    def fail(*_arguments):
        raise ValueError("no such instruction")

    monkeypatch.setattr(kernels, "built", fail)
    work = compile_here(models.linear(), tmp_path, until="plan")
    name = next(iter(kernels.kernels_of(work.mod)))
    work.cache = None
    with pytest.raises(RuntimeError, match=rf"kernel {name}: ValueError: no such instruction$"):
        build.generate_code(work)
