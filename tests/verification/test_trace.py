from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import module_of
from tilewright.verification.trace import trace


@pytest.mark.parametrize("left_out", [(), ("tables",)], ids=["tables", "bytecode"])
def test_every_call_is_noted_with_what_it_read_and_made(left_out, tmp_path):
    module = module_of(models.conv_net(), tmp_path, disable=left_out)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = trace(module, {"x": x})
    rows = module.manifest["kernels"]
    assert len(found.calls) == sum(row["calls"] for row in rows)
    assert [call.number for call in found.calls] == list(range(len(found.calls)))
    assert {call.kernel for call in found.calls} == {row["name"] for row in rows}
    last = found.calls[found.makers["y"]]
    assert last.kernel.startswith("softmax")
    np.testing.assert_array_equal(last.results[0], found.outputs["y"])
    np.testing.assert_array_equal(found.outputs["y"], module(x))
    # What a call reads was made before it, but for the input.
    assert all(number < call.number for call in found.calls for number in call.calls)
    assert next(call.number for call in found.calls if "x" in call.inputs) == 0
    assert all(call.calls or call.inputs for call in found.calls)


def test_an_output_that_no_call_makes_has_no_maker(tmp_path):
    module = module_of(models.returns_input_and_weight(), tmp_path)
    inputs = {
        spec.name: np.ones([int(size) for size in spec.shape], spec.dtype) for spec in module.inputs
    }
    found = trace(module, inputs)
    assert set(found.outputs) == {spec.name for spec in module.outputs}
    assert set(found.makers) <= set(found.outputs)
    assert len(found.makers) < len(found.outputs)
