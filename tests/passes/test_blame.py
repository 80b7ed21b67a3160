from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.passes.graphs import module
from tilewright.errors import FusionError
from tilewright.ops import Spec
from tilewright.passes.attention import ATTENTION
from tilewright.passes.blame import blame_group, blaming, is_ours
from tilewright.passes.fusion import Fusion, fuse
from tilewright.passes.legalize import LOWERINGS, legalize
from tilewright.passes.pattern import Any, Op

X = (2, 4)
TANH_EXP = Op("relax.tanh", Op("relax.exp", Any("x")))
ORIGINS = {"e": ("raise (Exp)",), "gv": ("squash (Tanh)",)}


@dataclass(frozen=True)
class _Spec(Spec):
    size: object = 1


class _Odd:
    def to_dict(self) -> dict:
        raise NotImplementedError("to_dict is not ready")


def _chain(bb, x):
    return bb.emit(relax.op.tanh(bb.emit(relax.op.exp(x), "e")), "t")


def _refused(accept) -> str:
    with pytest.raises(FusionError) as info:
        fuse(module(_chain, x=X), [Fusion("mine", TANH_EXP, accept)], ORIGINS)
    return str(info.value)


def _nothing(match, graph):
    match["x"]


def _divides(match, graph):
    return _Spec("float32", _helper(0))


def _helper(number):
    return 1 / number


def _shorter(match):
    return _Spec("float32")


ANSWERS = {
    "nothing": (_nothing, ["accept answered None", "neither a Spec nor a Decline", "in `return`"]),
    "text": (lambda match, graph: "no", ["accept answered 'no'", "Decline with the reason"]),
    "class": (lambda match, graph: _Spec, ["accept answered <class", "frozen dataclass"]),
    "numpy_field": (
        lambda match, graph: _Spec("float32", np.float32(1)),
        ["_Spec.size = ", "cannot be stored", "float32 is not JSON", "`.item()`"],
    ),
    "to_dict_of_another_kind": (
        lambda match, graph: _Odd(),
        ["_Odd cannot be stored: to_dict is not ready", "Decline with the reason"],
    ),
    "raises_in_a_helper": (
        _divides,
        ["failed: ZeroDivisionError: division by zero", "in _helper: return 1 / number"],
    ),
    "wrong_arguments": (_shorter, ["failed: TypeError", "takes 1 positional argument but 2"]),
    "unknown_name": (lambda match, graph: match["y"], ["failed: KeyError: 'y'", "in <lambda>"]),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_names_the_fusion_the_value_the_node_and_the_line(case):
    accept, says = ANSWERS[case]
    text = _refused(accept)
    for part in ("fusion 'mine'", "at gv, node squash (Tanh)", "test_blame.py, line ", *says):
        assert part in text, text


def test_the_line_is_that_of_the_users_own_file():
    """Not one of numpy's, where the exception was raised."""

    def accept(match, graph):
        return np.zeros(3).reshape(2, 2)

    assert "in accept: return np.zeros(3).reshape(2, 2)" in _refused(accept)


def test_a_value_without_a_node_is_named_alone():
    mine = Fusion("mine", TANH_EXP, _nothing)
    with pytest.raises(FusionError) as info, blaming(mine, "lv7", ORIGINS):
        raise ValueError("odd")
    assert "at lv7; " in info.value.where


def test_errors_of_our_own_fusions_stay_as_they_are():
    assert is_ours(ATTENTION) and not is_ours(Fusion("mine", TANH_EXP, _nothing))
    with pytest.raises(ZeroDivisionError), blaming(ATTENTION, "gv", {}):
        _helper(0)


def _groups(build, pattern: Op):
    accept = lambda match, graph: _Spec("float32")  # noqa: E731
    return fuse(module(build, x=X), [Fusion("mine", pattern, accept)])


FUSE_TIR = (
    relax.transform.AnnotateTIROpPattern(),
    relax.transform.FuseOps(),
    relax.transform.FuseTIR(),
)


def test_finds_the_group_that_has_no_kernel():
    def build(bb, x):
        return bb.emit(relax.op.exp(bb.emit(relax.op.cumsum(_chain(bb, x), 1), "running")))

    pattern = Op("relax.exp", Op(("relax.cumsum", "relax.tanh")))
    mod, report = _groups(build, pattern)
    # Without the pass that knows scans.
    mod = relax.transform.LegalizeOps(LOWERINGS)(mod)
    origins = {"running": ("total (CumSum)",)}
    with pytest.raises(tvm.error.InternalError):
        tvm.transform.Sequential(FUSE_TIR)(mod)
    with pytest.raises(FusionError) as info:
        blame_group(mod, FUSE_TIR, report.groups, origins)
    text = str(info.value)
    for part in ("fusion 'mine' covers", "mine_0: total (CumSum);", "R.cumsum", "Any(...)"):
        assert part in text


def test_blames_no_group_that_can_be_lowered():
    mod, report = _groups(_chain, TANH_EXP)
    assert report.groups
    blame_group(legalize()(mod), FUSE_TIR, report.groups, {})
