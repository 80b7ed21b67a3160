from __future__ import annotations

import dataclasses
import json

import pytest
import tvm

from tilewright.errors import TargetError
from tilewright.targets import CATALOG, Target, isa, resolve

AVX2 = resolve("x86-64-avx2")


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"triple": "sparc-unknown-linux-gnu"}, "is for sparc"),
        ({"features": ("avx2", "neon")}, "unknown features: neon"),
        ({"l2_bytes": -1}, "l2_bytes is -1"),
        ({"fma_ports": -1}, "fma_ports is -1"),
        ({"cores": 0}, "0 cores"),
    ],
)
def test_a_row_checks_itself(fields, says):
    with pytest.raises(TargetError, match=says):
        dataclasses.replace(AVX2, **fields)


@pytest.mark.parametrize(
    "features, bits, registers",
    [((), 128, 16), (("avx",), 256, 16), (isa.X86_64_V3, 256, 16), (isa.X86_64_V4, 512, 32)],
)
def test_vectors_follow_from_features(features, bits, registers):
    row = dataclasses.replace(AVX2, features=features)
    assert (row.vector_bits, row.vector_registers) == (bits, registers)


def test_what_a_host_lacks_is_named_in_order():
    assert resolve("x86-64-avx512").missing_on("x86_64", frozenset(AVX2.features))[0] == "avx512f"
    assert AVX2.missing_on("x86_64", frozenset(isa.X86_FEATURES)) == []
    assert AVX2.missing_on("aarch64", frozenset()) == ["the instructions of x86_64"]
    pi = resolve("rpi3-32")
    assert [
        bool(pi.missing_on(name, frozenset(pi.features))) for name in ("armv7l", "aarch64")
    ] == [
        False,
        True,
    ]


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_tvm_takes_every_row_and_every_feature_is_switched(row):
    config = row.tvm_config()
    assert tvm.target.Target(config).attrs["mcpu"] == row.mcpu
    assert len(config["mattr"]) == len(row.machine.features)
    assert {s[1:] for s in config["mattr"] if s[0] == "+"} == set(row.features)


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_facts_are_json(row):
    facts = json.loads(json.dumps(row.to_dict()))
    assert facts["vector_bits"] == row.vector_bits
    assert {field.name for field in dataclasses.fields(Target)} <= set(facts)
