from __future__ import annotations

import dataclasses
import json

import pytest

from tilewright.errors import OptionError
from tilewright.options import CompileOptions

FULL = CompileOptions(
    opt_level=1, dims={"n": 3, "s": (1, 512)}, disable=("a",), only=("b", "c"), threads=2, seed=7
)


@pytest.mark.parametrize("options", [CompileOptions(), FULL])
def test_goes_through_json_and_back(options):
    assert CompileOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_the_digest_depends_on_every_field():
    other = {
        "opt_level": 2,
        "dims": {"n": 4},
        "disable": ("x",),
        "only": ("x",),
        "threads": 9,
        "seed": 8,
        "standalone": "net",
        "glibc": "2.31",
        "cc": "gcc",
        "musl": True,
        "static": True,
    }
    assert set(other) == {field.name for field in dataclasses.fields(CompileOptions)}
    full = dataclasses.replace(FULL, standalone="model")
    digests = {dataclasses.replace(full, **{name: value}).digest() for name, value in other.items()}
    assert len(digests | {full.digest()}) == len(other) + 1


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"musl": True}, "TVM's runtime"),
        ({"static": True}, "TVM's runtime"),
        ({"glibc": "31"}, "--glibc 31"),
        ({"glibc": "2.31", "musl": True, "standalone": "m"}, "2.31 and musl"),
    ],
)
def test_how_to_link_is_checked(fields, says):
    with pytest.raises(OptionError, match=says):
        CompileOptions(**fields)


def test_the_digest_is_the_same_for_equal_options():
    assert CompileOptions(dims={"a": 1, "b": 2}).digest() == (
        CompileOptions(dims={"b": 2, "a": 1}).digest()
    )


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.seed = 3


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"opt_level": 4}, "no optimisation level 4"),
        ({"threads": 0}, "0 threads"),
        ({"dims": {"n": (5, 2)}}, "5..2"),
        ({"dims": {"n": -1}}, "-1..-1"),
    ],
)
def test_checks_itself(fields, says):
    with pytest.raises(OptionError, match=says):
        CompileOptions(**fields)
