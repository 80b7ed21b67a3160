from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tilewright.compiler.importer.input_values import input_rows, integer_limits
from tilewright.compiler.importer.load import load


def _limits(nodes, model_file, kind=models.FLOAT, **tables):
    last = nodes[-1].output[0]
    proto = models.model(
        nodes,
        [models.value("ids", (4,), models.INT64)],
        [models.value(last, None, kind)],
        {name: np.zeros(shape, np.float32) for name, shape in tables.items()},
    )
    return integer_limits(load(model_file(proto)))


def test_an_index_stays_below_the_rows_of_its_table(model_file):
    gather = helper.make_node("Gather", ["t", "ids"], ["y"])
    assert _limits([gather], model_file, t=(1000, 3)) == {"ids": 1000}


def test_the_axis_counts(model_file):
    gather = helper.make_node("Gather", ["t", "ids"], ["y"], axis=1)
    assert _limits([gather], model_file, t=(5, 30)) == {"ids": 30}


def test_the_smallest_of_several_tables(model_file):
    nodes = [
        helper.make_node("Gather", ["t", "ids"], ["a"]),
        helper.make_node("Gather", ["u", "ids"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    assert _limits(nodes, model_file, t=(9, 3), u=(7, 3)) == {"ids": 7}


@pytest.mark.parametrize("op, attrs", [("Cast", {"to": 6}), ("Identity", {})])
def test_looks_through_what_passes_values_on(op, attrs, model_file):
    nodes = [
        helper.make_node(op, ["ids"], ["i"], **attrs),
        helper.make_node("Gather", ["t", "i"], ["y"]),
    ]
    assert _limits(nodes, model_file, t=(11, 3)) == {"ids": 11}


def test_the_number_of_steps_of_a_loop_is_small(model_file):
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [models.value("i", (), models.INT64), models.value("c", (), TensorProto.BOOL)],
        [models.value("d", (), TensorProto.BOOL), models.value("i", (), models.INT64)],
    )
    nodes = [
        helper.make_node("Identity", ["ids"], ["steps"]),
        helper.make_node("Loop", ["steps", ""], ["y"], body=body),
    ]
    assert _limits(nodes, model_file, models.INT64) == {"ids": 20}


def test_any_other_integer_is_a_flag(model_file):
    assert _limits([helper.make_node("Neg", ["ids"], ["y"])], model_file, models.INT64) == {
        "ids": 2
    }


def test_floats_have_no_limit(model_file):
    assert integer_limits(load(model_file(models.unary()))) == {}


@pytest.mark.parametrize(
    "numbers, among", [([16000], [16000, 0]), ([1], None), ([7, 3], [3, 7, 0])]
)
def test_a_number_that_is_compared_with_others_is_one_of_them(numbers, among, model_file):
    nodes = [helper.make_node("Cast", ["rate"], ["r"], to=models.INT64)]
    nodes += [helper.make_node("Equal", [f"n{n}", "r"], [f"is{n}"]) for n in numbers]
    proto = models.model(
        nodes,
        [models.value("rate", (), models.INT64)],
        [models.value(f"is{n}", (), 9) for n in numbers],
        {f"n{n}": np.array(n) for n in numbers},
    )
    (row,) = input_rows(load(model_file(proto)))
    assert row.get("among") == among
