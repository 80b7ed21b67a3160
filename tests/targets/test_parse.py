from __future__ import annotations

import dataclasses

import pytest

from tilewright.errors import TargetError
from tilewright.targets import CATALOG, host, parse, resolve


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_a_row_is_found_by_its_name(row):
    assert resolve(row.name) is row
    assert resolve(row) is row


@pytest.mark.parametrize(
    "name, near",
    [("x86-64-avx52", "x86-64-avx512"), ("X86-64-AVX2", None), ("x86_64_avx2", "x86-64-avx2")],
)
def test_a_name_that_is_nearly_right_gets_the_right_one(name, near):
    with pytest.raises(TargetError) as info:
        resolve(name)
    if near:
        assert near in info.value.hint
    assert "native, or one of: x86-64," in info.value.expected


def test_the_old_form_of_tvm():
    row = resolve("llvm -mcpu=x86-64-v3 -mattr=+avx512f,-fma -num-cores=6")
    base = resolve("x86-64-avx2")
    assert row.mcpu == base.mcpu and row.cores == 6 and row.l2_bytes == base.l2_bytes
    assert set(row.features) == {*base.features, "avx512f"} - {"fma"}
    assert row.vector_bits == 512 and "changed by" in row.source


def test_llvm_alone_is_the_oldest_cpu():
    assert resolve("llvm").features == ()
    assert resolve("llvm -mtriple=x86_64-pc-linux-musl").triple == "x86_64-pc-linux-musl"


_HERE = host.detect()


def _machine(**fields) -> host.Host:
    return dataclasses.replace(_HERE, **fields)


def test_native_is_what_was_detected(monkeypatch):
    here = _machine(vendor="Nobody", features=frozenset(resolve("x86-64-avx2").features))
    monkeypatch.setattr(host, "detect", lambda: here)
    row = resolve("native")
    assert set(row.features) == here.features and "x86-64-avx2" in row.title
    assert row.missing_on("x86_64", here.features) == []


def test_native_has_no_feature_that_a_virtual_machine_masks(monkeypatch):
    known = next(row for row in CATALOG if row.family_models and "avx512f" in row.features)
    vendor, family, model = known.family_models[0]
    masked = _machine(
        vendor=vendor,
        family=family,
        model=model,
        features=frozenset(resolve("x86-64-avx").features),
    )
    monkeypatch.setattr(host, "detect", lambda: masked)
    row = resolve("native")
    assert "avx512f" not in row.features and f"as {known.name}" in row.title


def test_a_cpu_with_nothing_is_still_x86_64(monkeypatch):
    monkeypatch.setattr(host, "detect", lambda: _machine(vendor="?", features=frozenset()))
    assert resolve("native").features == ()


def test_another_architecture_is_refused(monkeypatch):
    monkeypatch.setattr(host, "detect", lambda: _machine(machine="sparc64"))
    with pytest.raises(TargetError, match="this machine is sparc64"):
        parse.native()


@pytest.mark.parametrize("name", ["rpi4", "rpi5", "rpi3-32"])
def test_native_on_a_board_is_the_board(name, monkeypatch):
    board = resolve(name)
    vendor, family, model = board.family_models[0]
    here = _machine(
        machine={"armv7": "armv7l"}.get(board.machine.name, board.machine.name),
        vendor=vendor,
        family=family,
        model=model,
        features=frozenset(board.features),
    )
    monkeypatch.setattr(host, "detect", lambda: here)
    row = resolve("native")
    assert (row.mcpu, row.triple, set(row.features)) == (
        *(board.mcpu, board.triple),
        set(board.features),
    )


def test_an_unknown_arm_core_is_the_generic_one(monkeypatch):
    here = _machine(machine="aarch64", vendor="?", features=frozenset(resolve("rpi5").features))
    monkeypatch.setattr(host, "detect", lambda: here)
    row = resolve("native")
    assert "as aarch64" in row.title and "dotprod" in row.features
