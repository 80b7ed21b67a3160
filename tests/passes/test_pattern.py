from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from tests.passes.graphs import module
from tilewright.errors import OptionError
from tilewright.passes.pattern import (
    Any,
    Both,
    Constant,
    Either,
    Fields,
    Graph,
    Item,
    Match,
    Number,
    Op,
    Pattern,
    Tagged,
    maybe,
)

X = (2, 4)
const, op = relax.const, relax.op


def _ways(pattern: Pattern, build, **shapes) -> list[Match]:
    """Every match of `pattern` at the result of `build`."""
    main = module(build, **(shapes or {"x": X, "y": X}))["main"]
    root = main.body.blocks[-1].bindings[-1].var
    return list(pattern.match(root, Graph(main)))


def _covered(match: Match) -> int:
    return len(match.covered)


def test_an_operator_met_twice_matches_once():
    """x * sigmoid(x) with x a square of which there are two ways."""
    square = Op("relax.multiply", Tagged(Any("a"), "side", "left"), Any("b"), name="square")

    def silu(bb, x, y):
        z = bb.emit(op.multiply(x, y))
        return bb.emit(op.multiply(z, bb.emit(op.sigmoid(z))))

    pattern = Op("relax.multiply", square, Op("relax.sigmoid", square))
    assert len(_ways(pattern, silu)) == 2
    other = Op("relax.multiply", square, Op("relax.exp", square))
    assert not _ways(other, silu)


def test_matches_an_operator_with_its_arguments():
    (found,) = _ways(
        Op("relax.subtract", Any("a"), Any("b")), lambda bb, x, y: bb.emit(op.subtract(x, y))
    )
    assert found["a"].name == "x" and found["b"].name == "y" and _covered(found) == 1


@pytest.mark.parametrize(
    ("name", "meant"), [("relax.tanhh", "relax.tanh"), ("Tanh", "relax.tanh"), ("relax.nn.zz", "")]
)
def test_an_operator_that_relax_does_not_have_is_refused(name, meant):
    """It would match nothing, and nobody would say why."""
    with pytest.raises(OptionError, match=f"Relax has no operator '{name}'") as info:
        Op(("relax.exp", name))
    assert f"such as {meant or 'relax.nn.relu'}" in info.value.expected


def test_an_argument_that_is_no_pattern_is_refused():
    with pytest.raises(OptionError, match=r"argument of Op.* is 2\.0"):
        Op("relax.multiply", Any(), 2.0)


def test_any_of_several_operators():
    either = Op(("relax.exp", "relax.log"), Any())
    assert _ways(either, lambda bb, x, y: bb.emit(op.log(x)))
    assert not _ways(either, lambda bb, x, y: bb.emit(op.tanh(x)))


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "minimum"])
def test_tries_both_orders_of_what_commutes(name):
    pattern = Op(f"relax.{name}", Op("relax.exp", Any("x")), Any("other"))
    call = getattr(op, name)
    assert _ways(pattern, lambda bb, x, y: bb.emit(call(bb.emit(op.exp(x)), y)))
    assert _ways(pattern, lambda bb, x, y: bb.emit(call(y, bb.emit(op.exp(x)))))


@pytest.mark.parametrize("name", ["subtract", "divide", "power"])
def test_keeps_the_order_of_what_does_not_commute(name):
    pattern = Op(f"relax.{name}", Op("relax.exp", Any()), Any())
    call = getattr(op, name)
    assert _ways(pattern, lambda bb, x, y: bb.emit(call(bb.emit(op.exp(x)), y)))
    assert not _ways(pattern, lambda bb, x, y: bb.emit(call(y, bb.emit(op.exp(x)))))


def test_the_same_name_is_the_same_value():
    square = Op("relax.multiply", Any("x"), Any("x"))
    assert _ways(square, lambda bb, x, y: bb.emit(op.multiply(x, x)))
    assert not _ways(square, lambda bb, x, y: bb.emit(op.multiply(x, y)))


def test_goes_back_when_a_first_choice_leads_nowhere():
    """The first order makes a = exp(x), and the second use of a then fails: the other order."""
    pattern = Op("relax.subtract", Op("relax.add", Any("a"), Any("b")), Any("a"))
    found = _ways(pattern, lambda bb, x, y: bb.emit(op.subtract(bb.emit(op.add(y, x)), x)))
    assert [(m["a"].name, m["b"].name) for m in found] == [("x", "y")]


def test_goes_back_into_an_alternative():
    """`maybe` takes the tanh first; only without it does the name fit."""
    inner = maybe(lambda v: Op("relax.tanh", v), Any("t"))
    pattern = Op("relax.add", inner, Op("relax.exp", Any("t")))

    def build(bb, x, y):
        t = bb.emit(op.tanh(x))
        return bb.emit(op.add(t, bb.emit(op.exp(t))))

    (found,) = _ways(pattern, build)
    assert found["t"].name == "lv" and _covered(found) == 2


def test_alternatives_come_in_order():
    pattern = Either(
        Tagged(Op("relax.exp", Op("relax.tanh", Any())), "which", "long"),
        Tagged(Op("relax.exp", Any()), "which", "short"),
    )
    found = _ways(pattern, lambda bb, x, y: bb.emit(op.exp(bb.emit(op.tanh(x)))))
    assert [m["which"] for m in found] == ["long", "short"]
    assert [_covered(m) for m in found] == [2, 1]


def test_all_of_several_stand_at_one_value():
    made = Both(Any("made"), Op("relax.exp", Any("x")))
    pattern = Op("relax.add", Op("relax.tanh", Any("made")), made)

    def build(bb, x, y):
        once = bb.emit(op.exp(x))
        return bb.emit(op.add(bb.emit(op.tanh(once)), once))

    (found,) = _ways(pattern, build)
    assert found["made"].name == "lv" and found["x"].name == "x"

    def apart(bb, x, y):
        return bb.emit(op.add(bb.emit(op.tanh(bb.emit(op.exp(x)))), bb.emit(op.exp(y))))

    assert not _ways(pattern, apart)


def test_patterns_say_at_what_they_may_match():
    """None is anything; what a pattern does not name it is never asked about."""
    exp, tanh = Op("relax.exp", Any()), Op("relax.tanh", Any())
    assert Any().kinds() is None and Either(exp, Any()).kinds() is None
    assert Either(exp, tanh).kinds() == {"relax.exp", "relax.tanh"}
    assert Both(Any("x"), Either(exp, tanh), exp).kinds() == {"relax.exp"}
    assert Tagged(Item(exp, 0), "n", 1).kinds() == {"field"}
    assert Either(Constant("c"), Fields(exp)).kinds() == {"constant", "tuple"}


def test_a_tag_is_set_once():
    tagged = Tagged(Op("relax.exp", Tagged(Op("relax.exp", Any()), "n", "in")), "n", "out")
    build = lambda bb, x, y: bb.emit(op.exp(bb.emit(op.exp(x))))  # noqa: E731
    assert [m["n"] for m in _ways(tagged, build)] == ["out"]
    assert not _ways(Tagged(Op("relax.tanh", Any()), "n", "a"), build)


def test_looks_through_names():
    kind = relax.TensorType(X, "float32")
    x, out = relax.Var("x", kind), relax.Var("out", kind)
    first, other = relax.DataflowVar("first", kind), relax.DataflowVar("other", kind)
    bindings = [(first, op.exp(x)), (other, first), (out, op.tanh(other))]
    block = relax.DataflowBlock([relax.VarBinding(var, value) for var, value in bindings])
    main = relax.Function([x], relax.SeqExpr([block], out), kind)
    (found,) = Op("relax.tanh", Op("relax.exp", Any("x"), name="exp")).match(out, Graph(main))
    assert found["exp"].same_as(first), "the name stands for what is bound, not for its other name"


def test_constants():
    three, many = const(np.full((2, 1), 3, np.float32)), const(np.float32([1, 2, 3, 4]))

    def with_(value):
        return lambda bb, x, y: bb.emit(op.add(x, value))

    for pattern, yes, no in (
        (Constant("c"), three, None),
        (Constant(value=3), three, many),
        (Constant(value=3), const(3.002), const(3.004)),
        (Constant(single=True), const(np.float32([[7]])), many),
        (Constant(within=(0, 1)), const(np.float32([1])), const(np.float32([1.1]))),
        (Constant(within=(0, 9)), const(np.float32([7])), many),
        (Constant(vector=True), many, const(np.arange(8, dtype=np.float32).reshape(2, 4))),
    ):
        assert _ways(Op("relax.add", Any(), pattern), with_(yes))
        if no is not None:
            assert not _ways(Op("relax.add", Any(), pattern), with_(no))
    assert not _ways(Op("relax.exp", Constant()), lambda bb, x, y: bb.emit(op.exp(x)))


def test_numbers_among_the_arguments():
    build = lambda bb, x, y: bb.emit(op.clip(x, 0, 6))  # noqa: E731
    assert _ways(Op("relax.clip", Any(), Number(0), Number(6)), build)
    assert not _ways(Op("relax.clip", Any(), Number(0), Number(5)), build)
    assert not _ways(Op("relax.clip", Number(0)), build)
    (found,) = _ways(Op("relax.clip", Any(), Number(name="low"), Number(name="high")), build)
    assert (found["low"].value, found["high"].value) == (0, 6)


def test_arguments_not_given_may_be_anything():
    assert _ways(Op("relax.clip"), lambda bb, x, y: bb.emit(op.clip(x, 0, 6)))
    assert not _ways(Op("relax.exp", Any(), Any()), lambda bb, x, y: bb.emit(op.exp(x)))


def test_fields_of_a_tuple():
    build = lambda bb, x, y: bb.emit(op.concat([x, y], axis=0))  # noqa: E731
    (found,) = _ways(Op("relax.concat", Fields(Any("a"), Any("b"))), build)
    assert (found["a"].name, found["b"].name) == ("x", "y")
    assert not _ways(Op("relax.concat", Fields(Any())), build)
    assert not _ways(Op("relax.concat", Fields(Any("a"), Any("a"))), build)


def test_one_field_of_a_tuple():
    def build(bb, x, y):
        halves = bb.emit(op.split(x, 2, axis=1))
        return bb.emit(relax.TupleGetItem(halves, 1))

    (found,) = _ways(Item(Op("relax.split", Any("x")), 1), build)
    assert found["x"].name == "x" and _covered(found) == 2
    assert not _ways(Item(Op("relax.split", Any()), 0), build)


def test_a_value_used_twice_is_covered_once():
    shared = Op("relax.exp", Any("x"))

    def build(bb, x, y):
        e = bb.emit(op.exp(x))
        return bb.emit(op.multiply(e, e))

    found = _ways(Op("relax.multiply", shared, shared), build)
    assert {_covered(m) for m in found} == {2}


def test_what_was_not_matched_is_none():
    (found,) = _ways(Op("relax.exp", Any("x")), lambda bb, x, y: bb.emit(op.exp(x)))
    assert found.get("x").name == "x" and found.get("bias") is None
    with pytest.raises(KeyError):
        found["bias"]
