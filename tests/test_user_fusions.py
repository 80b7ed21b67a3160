"""Fusions that users write, through the front door and a real child process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

import tilewright
from tests.net import Net
from tilewright import DEFAULT_FUSIONS, CompileOptions
from tilewright.errors import FusionError, OptionError
from tilewright.fusions import Any, Constant, Decline, Fusion, Op, Spec, array_of


@dataclass(frozen=True)
class SoftCapSpec(Spec):
    """y = tanh(x / cap) * cap."""

    cap: float


def _accept(match, graph):
    caps = [float(array_of(match[name])) for name in ("below", "above")]
    if caps[0] != caps[1]:
        return Decline(f"divided by {caps[0]}, multiplied by {caps[1]}", at=match["tanh"])
    return SoftCapSpec(str(match["x"].ty.dtype), cap=caps[0])


MINE = Fusion(
    "soft_cap",
    Op(
        "relax.multiply",
        Op("relax.tanh", Op("relax.divide", Any("x"), Constant("below")), name="tanh"),
        Constant("above"),
    ),
    _accept,
)
ALL = (*DEFAULT_FUSIONS, MINE)


def _model(below: float = 30.0, above: float = 30.0):
    net = Net(x=(4, 8))
    # An operator between the two: `linear` would take the division into its store.
    y = net.Add(net.MatMul("x", net.weight(8, 8)), net.weight(4, 1))
    return net.model(net.Mul(net.Tanh(net.Div(y, below)), above))


def test_compiles_and_is_checked_in_the_child():
    artifact = tilewright.compile(_model(), fusions=ALL)
    assert artifact.check["passed"]
    assert "soft_cap_1" in [row["name"] for row in artifact.manifest["kernels"]]


def test_shows_up_in_the_report():
    report = tilewright.analyze(_model(), fusions=ALL)
    group = report["groups"][1]
    assert group["fusion"] == "soft_cap" and group["operators"] == 3
    assert group["spec"] == {"kind": "SoftCap", "dtype": "float32", "cap": 30.0}


def test_its_reasons_show_up_too(here):
    report = tilewright.analyze(_model(above=20.0), fusions=ALL)
    assert [g["fusion"] for g in report["groups"]] == ["linear"]
    reasons = [m["reason"] for m in report["near_misses"] if m["fusion"] == "soft_cap"]
    assert reasons == ["divided by 30.0, multiplied by 20.0"]


@pytest.mark.parametrize("fields", [{"disable": ("soft_cap",)}, {"only": ("linear",)}], ids=str)
def test_is_switched_off_by_its_name(fields, here):
    report = tilewright.analyze(_model(), options=CompileOptions(**fields), fusions=ALL)
    assert [g["fusion"] for g in report["groups"]] == ["linear"]


def test_its_name_is_not_known_without_it(here):
    options = CompileOptions(disable=("soft_cap",))
    with pytest.raises(OptionError, match="no fusion, rule or optional step called 'soft_cap'"):
        tilewright.analyze(_model(), options=options)


def test_a_list_replaces_the_default(here):
    report = tilewright.analyze(_model(), fusions=(MINE,))
    assert [g["fusion"] for g in report["groups"]] == ["soft_cap"]
    assert tilewright.analyze(_model(), fusions=())["groups"] == []


def _unanswered(match, graph):
    match["x"]


def test_its_mistake_is_not_called_ours():
    """From the child: the fusion, the node and the line in this file; no log, no traceback."""
    with pytest.raises(FusionError) as info:
        tilewright.compile(_model(), fusions=(Fusion("mine", MINE.pattern, _unanswered),))
    text = str(info.value)
    line = _unanswered.__code__.co_firstlineno
    for part in ("'mine'", "None", "(Mul)", f"test_user_fusions.py, line {line}"):
        assert part in text
    assert "of ours" not in text and "log" not in text


def test_what_it_cannot_cover_is_told_with_its_name(here):
    net = Net(x=(4, 8))
    model = net.model(net.Multinomial("x", sample_size=3, seed=1.0))
    running = Fusion("running", Op("relax.cumsum", Op("relax.nn.softmax")), lambda m, g: _SPEC)
    with pytest.raises(FusionError, match="fusion 'running' covers what cannot be") as info:
        tilewright.analyze(model, fusions=(running,))
    assert "(Multinomial)" in info.value.where


_SPEC = SoftCapSpec("float32", 1.0)


def test_a_bad_list_is_refused_before_anything_runs(here, monkeypatch):
    monkeypatch.setattr("tilewright.compiler.child.call", None)
    for fusions, says in (
        (MINE, "a list or a tuple"),
        ((MINE, MINE), "two fusions are called 'soft_cap'"),
        ((Fusion("clean_up", MINE.pattern, _accept),), "as is an optional step"),
    ):
        with pytest.raises(OptionError, match=says):
            tilewright.compile(_model(), fusions=fusions)


def test_what_cannot_travel_is_refused(here):
    lock = threading.Lock()
    stuck = Fusion("stuck", MINE.pattern, lambda match, graph: lock)
    with pytest.raises(OptionError, match="cannot be handed to the compiler's process"):
        tilewright.analyze(_model(), fusions=(stuck,))
