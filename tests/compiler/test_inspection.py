from __future__ import annotations

import shutil

import pytest

from tests import models
from tests.compiling import compile_here
from tilewright.compiler.inspection import inspect
from tilewright.errors import CompileError
from tilewright.targets import resolve


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rpi5")
    return compile_here(models.conv_net(), folder, target="rpi5", standalone="model")


@pytest.fixture(scope="module")
def objects(work):
    return [work.parts[0], *work.objects.files]


def test_what_is_good_is_said(work, objects):
    said = inspect(work.library, objects, resolve("rpi5"), "2.17", ["/no/such/folder"])
    assert said.startswith("aarch64, glibc 2.17, no paths of this machine, ")
    assert said.endswith("different instructions, all of rpi5")


@pytest.mark.parametrize(
    "target, glibc, private, says",
    [
        ("armv7", "2.17", [], "is for EM_AARCH64"),
        ("rpi5", "2.10", [], "needs glibc 2.17"),
        ("rpi5", "2.17", ["model_run"], "names model_run"),
    ],
)
def test_what_would_not_run_is_found(target, glibc, private, says, work, objects):
    with pytest.raises(CompileError, match=says):
        inspect(work.library, objects, resolve(target), glibc, private)


@pytest.mark.parametrize(
    "code",
    [
        *("sdot v0.4s, v1.16b, v2.16b", "ldadd w0, w1, [x2]", "fadd v0.8h, v1.8h, v2.8h"),
        *("sqrdmlah v0.4s, v1.4s, v2.4s", "aese v0.16b, v1.16b", "casal w0, w1, [x2]"),
        *("fadd h0, h1, h2", "ldapr w0, [x1]", "sha256h q0, q1, v2.4s"),
    ],
)
def test_an_instruction_that_a_board_lacks_is_found(code, work, objects, tmp_path):
    shutil.copy(work.library, tmp_path / "a.so")
    source = tmp_path / "a.S"
    source.write_text(f".arch armv8.3-a+dotprod+fp16+aes+sha2\n.text\n{code}\n")
    work.tools.assemble(source, tmp_path / "a.o")
    found = [*objects, tmp_path / "a.o"]
    assert inspect(tmp_path / "a.so", found, resolve("rpi5"), "2.17", [])
    with pytest.raises(CompileError, match=f"has the instruction {code.split()[0]}"):
        inspect(tmp_path / "a.so", found, resolve("rpi4"), "2.17", [])


@pytest.mark.parametrize(
    "code, has",
    [
        *(("vmaxnm.f32 q0, q1, q2", True), ("crc32b r0, r1, r2", True), ("lda r0, [r1]", True)),
        *(("vfma.f32 q0, q1, q2", False), ("sdiv r0, r1, r2", False), ("stld: nop", False)),
    ],
)
def test_a_32_bit_board_has_no_instruction_of_armv8(code, has, tmp_path):
    board = resolve("rpi3-32")
    work = compile_here(models.linear(), tmp_path, target=board, standalone="model")
    source = tmp_path / "a.S"
    source.write_text(f".arch armv8-a\n.arch_extension crc\n.fpu neon-fp-armv8\n.text\n{code}\n")
    work.tools.assemble(source, tmp_path / "a.o")
    found = [*work.objects.files, tmp_path / "a.o"]
    if not has:
        assert "all of rpi3-32" in inspect(work.library, found, board, "2.17", [])
        return
    with pytest.raises(CompileError, match="has the instruction"):
        inspect(work.library, found, board, "2.17", [])


def test_data_between_code_is_no_instruction(work, objects, tmp_path):
    source = tmp_path / "a.S"
    # The word of an SDOT, as data.
    source.write_text(".text\nret\n.word 0x4e829420\n")
    work.tools.assemble(source, tmp_path / "a.o")
    inspect(work.library, [*objects, tmp_path / "a.o"], resolve("rpi4"), "2.17", [])
