"""Loops of the reference in double precision, beside ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.compiler.importer.convert.test_loops import COUNTED, SCAN, text_model
from tests.compiling import reference
from tilewright.compiler.importer.load import load
from tilewright.verification.reference import DoubleReference, NoReference


def _agrees(proto: onnx.ModelProto, model_file, **given: np.ndarray) -> None:
    found = DoubleReference(load(model_file(proto)))(given)
    for value, expected in zip(proto.graph.output, reference(proto, given), strict=True):
        assert found[value.name].shape == expected.shape
        np.testing.assert_allclose(found[value.name], expected, rtol=1e-5, atol=1e-6)


def _values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_what_steps_give_has_an_axis_of_its_own(model_file):
    given = {"m": np.array(5), "c": np.array(True), "x": _values(3, 4)}
    _agrees(text_model(COUNTED), model_file, **given)


def test_a_loop_without_a_limit_or_a_condition(model_file):
    body = """<body = b (int64 i, bool ci, float s) => (bool co, float t) {
        t = Add(s, x)
        co = Less(t, end)
      }>"""
    for inputs in ("(, more, x)", "(m, , x)"):
        ends = "float x, int64 m, bool more, float end"
        text = f"g ({ends}) => (float y) {{ y = Loop {body} {inputs} }}"
        given = {"x": np.array(2, np.float32), "m": np.array(4), "more": np.array(True)}
        for end in (1, 100):
            _agrees(text_model(text), model_file, **given, end=np.array(end, np.float32))


@pytest.mark.parametrize(("inputs", "outputs"), [("0, 0", "0, 0"), ("1, 0", "0, 1")])
def test_directions_and_axes_of_a_scan(model_file, inputs, outputs):
    proto = text_model(SCAN.replace("INPUTS", inputs).replace("OUTPUTS", outputs))
    _agrees(proto, model_file, x=_values(5, 3), s=_values(3), rows=_values(1, 5))


def test_a_loop_without_a_step_has_no_reference(model_file):
    evaluate = DoubleReference(load(model_file(text_model(COUNTED))))
    with pytest.raises(NoReference, match="without a step"):
        evaluate({"m": np.array(0), "c": np.array(True), "x": _values(3, 4)})
