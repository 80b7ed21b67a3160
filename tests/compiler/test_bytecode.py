from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from onnx import helper

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.compiler import runtime
from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.convert.sizes import stock
from tilewright.errors import UnsupportedModel


def test_results_that_may_be_an_input_or_a_weight(tmp_path):
    work = compile_here(models.returns_input_and_weight(), tmp_path, disable=("tables",))
    assert [row["owned"] for row in work.interface["outputs"]] == [False, False, True]
    module = runtime.load(work.library)
    x = np.zeros((64, 32), np.float32)
    same, weight, _total = module(x)
    same.fill(1)
    weight.fill(1)  # Weights lie in read-only memory: writing there would be a crash.
    assert not x.any()


def test_the_memory_of_a_reshaped_input_is_the_inputs(tmp_path):
    net = Net(x=(64, 32))
    proto = net.model(net.Reshape("x", net.ints(32, 64)))
    work = compile_here(proto, tmp_path, disable=("tables",))
    given = np.zeros((64, 32), np.float32)
    runtime.load(work.library)(given).fill(1)
    assert not given.any()


def test_runs_what_only_a_run_tells(tmp_path):
    net = Net(x=(4, 4))
    work = compile_here(net.model(net.NonZero("x")), tmp_path)
    assert work.tables is None and work.manifest["functions"] is None
    x = np.float32(np.eye(4))
    np.testing.assert_array_equal(runtime.load(work.library)(x), np.nonzero(x))


def test_a_shape_known_only_at_run_time_is_refused_with_the_node(tmp_path, monkeypatch):
    # Our own converter names the sizes; TVM's leaves an operator that has no kernel.
    theirs = functools.partial(stock, "ConstantOfShape")
    monkeypatch.setitem(table._OURS, ("", "ConstantOfShape"), theirs)
    proto = models.model(
        [helper.make_node("ConstantOfShape", ["s"], ["y"], name="fill")],
        inputs=[models.value("s", (2,), onnx.TensorProto.INT64)],
        outputs=[models.value("y", (None, None))],
    )
    with pytest.raises(UnsupportedModel, match="only known at run time") as caught:
        compile_here(proto, tmp_path)
    assert "fill (ConstantOfShape)" in caught.value.where
    assert "constant" in caught.value.hint
