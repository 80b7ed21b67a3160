from __future__ import annotations

import pytest

from tests.net import Net, keeps_numbers
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise.split_wide import WIDEST, split_wide


def _wide(operator: str, count: int):
    net = Net(x=(2, 3))
    parts = [net.Mul("x", float(n)) for n in range(count)]
    return net.model(
        getattr(net, operator)(*parts, **({"axis": 1} if operator == "Concat" else {}))
    )


@pytest.mark.parametrize("operator", ["Concat", "Sum", "Max"])
def test_many_operands_become_a_tree_with_the_same_numbers(operator, model_file, tmp_path):
    count = 2 * WIDEST + 1
    proto = _wide(operator, count)
    model = load(model_file(proto))
    split_wide(model)
    made = [node for node in model.graph.node if node.op_type == operator]
    assert [len(node.input) for node in made] == [WIDEST, WIDEST, 1, 3]
    assert made[-1].output[0] == proto.graph.output[0].name
    keeps_numbers(proto, tmp_path)


def test_more_than_one_level(model_file):
    model = load(model_file(_wide("Sum", WIDEST * WIDEST + 1)))
    split_wide(model)
    assert max(len(node.input) for node in model.graph.node) == WIDEST
    assert list(model.terms.values()) == [(WIDEST * WIDEST + 1) ** 2]


def test_few_operands_are_left_alone(model_file):
    model = load(model_file(_wide("Concat", WIDEST)))
    before = model.proto.SerializeToString()
    split_wide(model)
    assert model.proto.SerializeToString() == before
