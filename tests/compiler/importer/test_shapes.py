"""What is bound; what is refused stands in tests/bad_input/."""

from __future__ import annotations

import pytest
from onnx import helper

from tests import models
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.errors import ModelError, OptionError


def _model(model_file, *inputs):
    node = helper.make_node("Sum", [f"x{n}" for n in range(len(inputs))], ["y"])
    values = [models.value(f"x{n}", shape) for n, shape in enumerate(inputs)]
    return load(model_file(models.model([node], values, [models.value("y", ("?", "?"))])))


def _dims(model):
    return [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in model.inputs()
    ]


def test_a_shape_binds_its_names_everywhere(model_file):
    model = _model(model_file, ("n", 3), ("n", 1))
    assert shapes.apply(model, {"x0": (5, 3)}, {}) == {}
    assert [d.dim_value for v in model.inputs() for d in v.type.tensor_type.shape.dim] == [
        *(5, 3, 5, 1)
    ]


def test_a_size_binds_and_a_range_bounds(model_file):
    model = _model(model_file, ("n", "m"))
    assert shapes.apply(model, {}, {"n": 4, "m": (1, 9)}) == {"m": (1, 9)}


def test_what_nobody_bounds_gets_the_default(model_file):
    model = _model(model_file, ("n", 3))
    assert shapes.apply(model, {}, {}) == {"n": shapes.DEFAULT_BOUNDS}


def test_unnamed_dimensions_get_names_of_their_own(model_file):
    model = _model(model_file, (None, "?"), (-1, 3))
    shapes.apply(model, {}, {})
    assert shapes.open_dimensions(model) == ["x0_d0", "x0_d1", "x1_d0"]


def test_zero_is_a_size(model_file):
    model = _model(model_file, (0, 3))
    assert shapes.apply(model, {}, {}) == {} and _dims(model) == [[0, 3]]


def test_agreeing_flags_are_no_contradiction(model_file):
    model = _model(model_file, ("n", 3), ("n", 3))
    assert shapes.apply(model, {"x0": (5, 3), "x1": (5, 3)}, {"n": 5}) == {}


def test_two_shapes_that_disagree_on_a_name(model_file):
    with pytest.raises(OptionError, match="gives 6 where the model needs 5"):
        shapes.apply(_model(model_file, ("n", 3), ("n", 3)), {"x0": (5, 3), "x1": (6, 3)}, {})


def test_stale_shapes_inside_the_file_are_dropped(model_file):
    model = _model(model_file, ("n", 3))
    model.graph.value_info.append(models.value("y", (1, 3)))
    shapes.apply(model, {"x0": (5, 3)}, {})
    assert not model.graph.value_info
    assert not model.graph.output[0].type.tensor_type.HasField("shape")


def test_names_that_are_no_identifiers_become_some(model_file):
    """TVM would read them as expressions."""
    model = _model(model_file, ("2*n", "/a/b"), ("2*n", "2_n"), ("1e9", "lambda"), ("p.D.0", "_n"))
    shapes.apply(model, {}, {"dim_2_n": 3})
    assert _dims(model) == [
        *([3, "a_b"], [3, "dim_2_n_"], ["dim_1e9", "lambda_"]),
        ["p.D.0", "_n"],
    ]


@pytest.mark.parametrize("text", ["99999999999999999999", "9" * 5000])
def test_a_size_that_is_a_name_has_a_limit(text, model_file):
    with pytest.raises(ModelError, match="a dimension is called 9999"):
        shapes.apply(_model(model_file, (text, 2)), {}, {})
