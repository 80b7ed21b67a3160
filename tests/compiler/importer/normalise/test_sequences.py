from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, answers_each
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise

X = np.random.default_rng(3).standard_normal((3, 7, 2)).astype(np.float32)


def _operators(proto, model_file) -> set[str]:
    model = load(model_file(proto))
    normalise(model)
    return {node.op_type for node in model.graph.node}


def _left(operators: set[str]) -> set[str]:
    return {name for name in operators if "Sequence" in name}


@pytest.mark.parametrize("opset", [11, 13])
def test_what_is_put_in_and_taken_out(opset, model_file, tmp_path):
    net = Net(opset=opset, x=X.shape)
    at = lambda place: net.const(place, np.int64)  # noqa: E731
    parts = net.SequenceConstruct("x", net.Neg("x"), net.Abs("x"))
    parts = net.SequenceErase(parts, at(-3))
    parts = net.SequenceInsert(parts, net.Exp("x"), at(-1))
    parts = net.SequenceInsert(parts, net.Mul("x", 2.0))
    results = [net.Relu(net.SequenceAt(parts, at(place))) for place in (0, 1, -2, 3)]
    proto = net.model(*results, net.ConcatFromSequence(parts, axis=-2))
    assert not _left(_operators(proto, model_file))
    answers_each(proto, tmp_path, {"x": X})


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("split", [None, 3, [4, 1, 2]], ids=str)
def test_parts_side_by_side_again(opset, split, model_file, tmp_path):
    net = Net(opset=opset, x=X.shape)
    given = [] if split is None else [net.const(split, np.int64)]
    parts = net.SplitToSequence("x", *given, axis=1)
    first = net.SequenceAt(parts, net.const(0, np.int64))
    whole = net.ConcatFromSequence(parts, axis=1)
    proto = net.model(net.Neg(first), net.Relu(whole))
    assert not _left(_operators(proto, model_file))
    answers_each(proto, tmp_path, {"x": X})


def test_stacked_along_a_new_axis(model_file, tmp_path):
    net = Net(opset=13, x=X.shape)
    parts = net.SplitToSequence("x", axis=2, keepdims=0)
    proto = net.model(net.ConcatFromSequence(parts, axis=0, new_axis=1))
    assert not _left(_operators(proto, model_file))
    answers_each(proto, tmp_path, {"x": X})


def test_how_many_there_are(model_file, tmp_path):
    net = Net(opset=13, x=("n",))
    net.input("sizes", (3,))
    parts = net.SplitToSequence("x", "sizes", axis=0)
    count = net.SequenceLength(parts)
    last = net.SequenceAt(parts, net.const(2, np.int64))
    proto = net.model(net.Add(count, net.const(1, np.int64)), net.Neg(last))
    assert not _left(_operators(proto, model_file))
    x = np.arange(9, dtype=np.float32)
    answers_each(proto, tmp_path, {"x": x, "sizes": np.array([2, 3, 4])})


def test_a_place_that_is_computed_is_left(model_file):
    net = Net(opset=13, x=X.shape)
    net.input("place", ())
    proto = net.model(net.SequenceAt(net.SequenceConstruct("x", net.Neg("x")), "place"))
    assert "SequenceAt" in _operators(proto, model_file)
