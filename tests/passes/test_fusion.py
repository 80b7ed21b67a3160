from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import tvm
from tvm import relax

from tests.passes.graphs import module, run
from tilewright.errors import OptionError
from tilewright.passes import fusion
from tilewright.passes.fusion import Decline, Fusion, check_list, fuse
from tilewright.passes.legalize import legalize
from tilewright.passes.pattern import Any, Constant, Either, Item, Op, Pattern
from tilewright.passes.shapes import shape_of

X = (2, 4)
op = relax.op


@dataclass(frozen=True)
class _Spec:
    name: str = "spec"

    def to_dict(self) -> dict:
        return {"kind": self.name}


def _fusion(name: str, pattern: Pattern, accept=None) -> Fusion:
    return Fusion(name, pattern, accept or (lambda match, graph: _Spec(name)))


EXP = Op("relax.exp", Any("x"), name="exp")
TANH_EXP = Op("relax.tanh", EXP)
LONG, SHORT = _fusion("long", TANH_EXP), _fusion("short", EXP)


def _chain(bb, x):
    return bb.emit(op.tanh(bb.emit(op.exp(x), "e")), "t")


def _fused(build, *fusions: Fusion, **shapes):
    mod, report = fuse(module(build, **(shapes or {"x": X})), fusions)
    return mod, report, [(g.fusion, g.members) for g in report.groups]


def _shapes(group) -> list:
    return [shape_of(relax.Var("t", kind)) for kind in group.tensors]


def test_the_first_in_the_list_wins():
    assert _fused(_chain, LONG, SHORT)[2] == [("long", ("e", "gv"))]
    assert _fused(_chain, SHORT, LONG)[2] == [("short", ("e",))]


def test_later_values_first():
    """Of three exponentials in a row, pairs are made from the end."""
    pair = _fusion("pair", Op("relax.exp", Op("relax.exp", Any())))

    def build(bb, x):
        a = bb.emit(op.exp(x), "a")
        b = bb.emit(op.exp(a), "b")
        return bb.emit(op.exp(b), "c")

    assert _fused(build, pair)[2] == [("pair", ("b", "gv"))]


def test_a_value_belongs_to_one_group():
    def build(bb, x):
        e = bb.emit(op.exp(x), "e")
        return bb.emit(op.add(bb.emit(op.tanh(e), "t"), bb.emit(op.sigmoid(e), "s")))

    both = _fusion("both", Op("relax.add", Op("relax.tanh", EXP), Op("relax.sigmoid", EXP)))
    one = _fusion("one", Either(TANH_EXP, EXP))
    assert _fused(build, both, one)[2] == [("both", ("e", "t", "s", "gv"))]
    assert _fused(build, one, both)[2] == [("one", ("e",))]


def test_the_next_way_is_tried_when_one_is_declined():
    def accept(match, graph):
        return Decline("too long", at=match["exp"]) if len(match.covered) > 1 else _Spec()

    picky = _fusion("picky", Either(Op("relax.tanh", EXP), Op("relax.tanh", Any("exp"))), accept)
    assert _fused(_chain, picky)[2] == [("picky", ("gv",))]


def test_a_second_reader_declines_with_its_name():
    def build(bb, x):
        e = bb.emit(op.exp(x), "e")
        return bb.emit(op.add(bb.emit(op.tanh(e), "t"), bb.emit(op.sigmoid(e), "other")))

    _, report, groups = _fused(build, LONG)
    (miss,) = report.near_misses
    assert groups == [] and (miss.fusion, miss.root, miss.at) == ("long", "t", "e")
    assert miss.reason == "e has a second reader, other" and "compute it twice" in miss.mend


def test_an_output_is_not_swallowed():
    def build(bb, x):
        e = bb.emit(op.exp(x), "e")
        return relax.Tuple([bb.emit(op.tanh(e), "t"), e])

    mod, report, groups = _fused(build, LONG)
    assert groups == [] and report.near_misses[0].reason.startswith("e has a second reader")
    assert len(mod.functions) == 1


def test_near_misses_say_where_and_what_would_do():
    no = _fusion("no", TANH_EXP, lambda m, g: Decline("not today", at=m["exp"], mend="tomorrow"))
    _, report, _ = _fused(_chain, no)
    (miss,) = report.near_misses
    assert (miss.fusion, miss.root, miss.at) == ("no", "gv", "e")
    assert (miss.reason, miss.mend) == ("not today", "tomorrow")


def test_a_miss_says_who_took_the_value_instead():
    no = _fusion("no", TANH_EXP, lambda m, g: Decline("not today", at=m["exp"]))
    assert [m.taken_by for m in _fused(_chain, no, LONG)[1].near_misses] == ["long"]
    assert [m.taken_by for m in _fused(_chain, no, SHORT)[1].near_misses] == [None]


def test_reasons_call_values_what_the_user_calls_them():
    def build(bb, x):
        e = bb.emit(op.exp(x), "e")
        return bb.emit(op.add(bb.emit(op.tanh(e), "t"), bb.emit(op.sigmoid(e), "other")))

    names = {"e": ("node_exp (Exp)",), "other": ("node_gate (Sigmoid)",)}
    _, report = fuse(module(build, x=X), [LONG], names)
    (miss,) = report.near_misses
    assert miss.reason == "node_exp (Exp) has a second reader, node_gate (Sigmoid)"


def test_arguments_have_the_names_of_the_pattern():
    scaled = Op("relax.multiply", EXP, Constant("scale"))

    def build(bb, x):
        return bb.emit(op.multiply(relax.const(np.full(4, 2, "float32")), bb.emit(op.exp(x))))

    (group,) = _fused(build, _fusion("scaled", scaled))[1].groups
    assert sorted(group.roles) == ["scale", "x"]
    assert _shapes(group)[group.roles["scale"]] == (4,) and _shapes(group)[-1] == X


def test_what_is_not_even_near_is_not_reported():
    def accept(match, graph):
        return Decline("another thing", at=match["exp"], near=False)

    def build(bb, x):
        e = bb.emit(op.exp(x), "e")
        return bb.emit(op.add(bb.emit(op.tanh(e), "t"), bb.emit(op.sigmoid(e), "other")))

    assert _fused(_chain, _fusion("far", TANH_EXP, accept))[1].near_misses == []
    assert _fused(build, _fusion("far", TANH_EXP, accept))[1].near_misses == [], "nor what leaks"


def test_the_first_reason_is_kept():
    def accept(match, graph):
        return Decline(f"{len(match.covered)} values", at=match["exp"])

    picky = _fusion("picky", Either(TANH_EXP, Op("relax.tanh", Any("exp"))), accept)
    assert [m.reason for m in _fused(_chain, picky)[1].near_misses] == ["2 values"]


def test_equal_groups_share_a_kernel_and_have_names_of_their_own():
    def build(bb, x):
        return bb.emit(op.tanh(bb.emit(op.exp(_chain(bb, x)))))

    mod, report, _ = _fused(build, LONG)
    assert [g.function for g in report.groups] == ["long_0", "long_1"]
    assert [g.kernel for g in report.groups] == ["long_0", "long_0"]
    assert {v.name_hint for v in mod.get_global_vars()} == {"main", "long_0"}


def test_groups_come_in_the_order_of_the_graph():
    def build(bb, x):
        return bb.emit(op.tanh(bb.emit(op.exp(bb.emit(op.exp(x), "first")))))

    _, report, groups = _fused(build, LONG, SHORT)
    assert [name for name, _ in groups] == ["short", "long"]
    assert [g.function for g in report.groups] == ["short_0", "long_1"]
    assert _shapes(report.groups[1]) == [X, X]


def test_open_sizes_are_named_in_the_report():
    n = tvm.tirx.Var("n", "int64")
    mod, report, _ = _fused(_chain, LONG, x=(n, 4))
    assert _shapes(report.groups[0]) == [("n", 4)] * 2
    x = np.ones((3, 4), np.float32)
    np.testing.assert_allclose(run(legalize()(mod), x), np.tanh(np.exp(x)), rtol=1e-6)


def test_only_so_many_ways_are_tried(monkeypatch):
    tried = []

    def accept(match, graph):
        tried.append(match)
        return Decline("no", at=match["x"])

    many = _fusion("many", Either(*[EXP] * 50), accept)
    monkeypatch.setattr(fusion, "MAX_WAYS", 7)
    _fused(_chain, many)
    assert len(tried) == 7


def test_nothing_to_fuse_changes_nothing():
    before = module(_chain, x=X)
    after, report = fuse(before, ())
    tvm.ir.assert_structural_equal(after, before)
    assert report.groups == [] and report.near_misses == []


def test_a_group_of_fewer_values_is_left_alone():
    """No group and no near miss: alone, the operator is for another fusion or for TVM."""
    pair = Fusion("pair", Either(TANH_EXP, EXP), lambda match, graph: _Spec(), at_least=2)
    assert _fused(_chain, pair)[2] == [("pair", ("e", "gv"))]
    _, report, groups = _fused(lambda bb, x: bb.emit(op.exp(x)), pair)
    assert groups == [] and report.near_misses == []


@pytest.mark.parametrize("name", ["", "SoftCap", "soft-cap", "2d", "_x", "soft cap", None])
def test_a_name_is_a_name_of_kernels(name):
    with pytest.raises(OptionError, match="a fusion cannot be called") as info:
        Fusion(name, EXP, print)
    assert "'soft_cap'" in info.value.expected


BAD_FIELDS = {
    "pattern": {"pattern": "relax.exp"},
    "accept": {"accept": None},
    "at_least": {"at_least": 0},
}


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_a_field_of_the_wrong_kind_is_refused_by_name(field):
    fields = {"name": "mine", "pattern": EXP, "accept": print, **BAD_FIELDS[field]}
    with pytest.raises(OptionError, match=f"fusion 'mine': {field} is "):
        Fusion(**fields)


BAD_LISTS = {
    "one_fusion": (SHORT, ["fusions is Fusion(name='short'", "a list or a tuple"]),
    "nested": (((SHORT,), LONG), ["entry 1 of fusions is (Fusion(", "takes a star"]),
    "no_fusion": ([LONG, EXP], ["entry 2 of fusions is <", "expected: a Fusion"]),
    "twice": ([LONG, SHORT, LONG], ["two fusions are called 'long'", "entry 3"]),
    "reserved": ([LONG, _fusion("clean_up", EXP)], ["'clean_up'", "entry 2", "fuse_ops"]),
}


@pytest.mark.parametrize("case", BAD_LISTS)
def test_a_list_that_is_none_is_refused(case):
    given, says = BAD_LISTS[case]
    with pytest.raises(OptionError) as info:
        check_list(given, reserved=("clean_up", "fuse_ops"))
    for part in says:
        assert part in str(info.value)


def test_a_good_list_is_left_alone():
    check_list((LONG, SHORT), reserved=("fuse_ops",))


def _halves(bb, x):
    return bb.emit(op.exp(bb.emit(relax.TupleGetItem(bb.emit(op.split(x, 2, 1), "both"), 0), "a")))


def test_a_group_gives_one_tensor():
    _, report, groups = _fused(_halves, _fusion("halves", Op("relax.split")))
    assert groups == []
    assert report.near_misses[0].reason == "both is a tuple, and a group takes and gives tensors"


def test_a_group_takes_no_tuple():
    _, report, groups = _fused(_halves, _fusion("half", Op("relax.exp", Item(Any("pair"), 0))))
    assert groups == [] and "both is a tuple" in report.near_misses[0].reason
    whole = _fusion("half", Op("relax.exp", Item(Op("relax.split"), 0)))
    assert _fused(_halves, whole)[2] == [("half", ("both", "a", "gv"))]
