from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.cli import flags
from tilewright.errors import OptionError


@pytest.mark.parametrize(
    "text, value",
    [
        ("x=1,3,224,224", ("x", (1, 3, 224, 224))),
        ("x=1x3x8", ("x", (1, 3, 8))),
        ("x=1, 3", ("x", (1, 3))),
        ("x=7", ("x", (7,))),
        ("x=", ("x", ())),
        ("a=b=2,3", ("a=b", (2, 3))),
        ("serving_default/x:0=1,2", ("serving_default/x:0", (1, 2))),
    ],
)
def test_reads_a_shape(text, value):
    assert flags.shape_value(text) == value


@pytest.mark.parametrize("text", ["", "x", "=1,2", "1,2", "x=a", "x=1,", "x=-1", "x=1.5", "x=1,,2"])
def test_refuses_what_is_no_shape(text):
    with pytest.raises(OptionError, match="cannot read --shape"):
        flags.shape_value(text)


@given(st.text(min_size=1), st.lists(st.integers(0, 10**6), min_size=1))
def test_any_name_and_shape_come_back(name, sizes):
    text = f"{name}={','.join(map(str, sizes))}"
    assert flags.shape_value(text) == (name, tuple(sizes))


@pytest.mark.parametrize(
    "text, value",
    [("n=3", ("n", 3)), ("n=1..512", ("n", (1, 512))), ("a=b=2", ("a=b", 2))],
)
def test_reads_a_dimension(text, value):
    assert flags.dim_value(text) == value


@pytest.mark.parametrize("text", ["", "n", "n=", "=3", "n=x", "n=1..", "n=..5", "n=1.5", "n=-1"])
def test_refuses_what_is_no_dimension(text):
    with pytest.raises(OptionError, match="cannot read --dim"):
        flags.dim_value(text)


@pytest.mark.parametrize(
    "given, settled",
    [
        (["inspect", "--json", "m.onnx"], ["inspect", "--json=-", "m.onnx"]),
        (["inspect", "m.onnx", "--json"], ["inspect", "m.onnx", "--json=-"]),
        (["inspect", "--json", "o.json", "m"], ["inspect", "--json", "o.json", "m"]),
        (["inspect", "--json", "-q", "m"], ["inspect", "--json=-", "-q", "m"]),
        (["inspect", "m"], ["inspect", "m"]),
    ],
)
def test_json_does_not_swallow_the_model(given, settled):
    assert flags.settle_json(given) == settled


@pytest.mark.parametrize(
    "text, seconds", [("20m", 1200), ("90", 90), ("90s", 90), ("1.5h", 5400), (" 2 ", 2)]
)
def test_durations(text, seconds):
    assert flags.duration_value(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "20 minutes", "-5", "1d"])
def test_what_is_no_duration(text):
    with pytest.raises(OptionError, match="cannot read --budget"):
        flags.duration_value(text)
