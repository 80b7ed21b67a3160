"""Standalone libraries against ONNX Runtime, through Python."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.net import Net
from tilewright.compiler import runtime
from tilewright.compiler.standalone.machine import aligned
from tilewright.errors import InputError


def _drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _agree(proto, module, **inputs):
    found = module(inputs)
    found = found if isinstance(found, tuple) else (found,)
    for ours, theirs in zip(found, reference(proto, inputs), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [8, 13])
def test_a_network(size, threads, tmp_path):
    proto = models.conv_net(size=size)
    module = module_of(proto, tmp_path, threads, standalone="model")
    for _ in range(2):
        _agree(proto, module, x=_drawn(*module.inputs[0].shape))


def test_one_library_at_every_size(tmp_path):
    proto = models.linear("n")
    module = module_of(proto, tmp_path, standalone="model")
    for rows in (1, 7, 128, 3, 1):
        _agree(proto, module, x=_drawn(rows, 64))


def test_views_inputs_and_weights_as_results(tmp_path):
    proto = models.returns_input_and_weight()
    module = module_of(proto, tmp_path, standalone="model")
    _agree(proto, module, x=_drawn(*module.inputs[0].shape))
    net = Net(x=(2, 6), n=(3,))
    proto = net.model(net.Reshape("x", net.ints(3, 4)), net.Relu("n"), "n")
    _agree(proto, module_of(proto, tmp_path, standalone="m"), x=_drawn(2, 6), n=_drawn(3))


def test_results_are_the_callers(tmp_path):
    module = module_of(models.linear(), tmp_path, standalone="model")
    first = module(_drawn(2, 64))
    kept = first.copy()
    module(2 * _drawn(2, 64))
    np.testing.assert_array_equal(first, kept)


def test_inputs_on_any_boundary(tmp_path):
    proto = models.linear()
    module = module_of(proto, tmp_path, standalone="model")
    memory = aligned((2 * 64 + 1,), np.dtype(np.float32))
    for start in (0, 1):
        x = memory[start : start + 128].reshape(2, 64)
        x[...] = _drawn(2, 64)
        _agree(proto, module, x=x)


def test_several_threads_call_one_module(tmp_path):
    proto = models.linear("n")
    module = module_of(proto, tmp_path, standalone="model")
    wrong = []

    def work(rows):
        x = _drawn(rows, 64)
        (wanted,) = reference(proto, {"x": x})
        for _ in range(20):
            if not np.allclose(module(x), wanted, rtol=1e-4, atol=1e-5):
                wrong.append(rows)

    callers = [threading.Thread(target=work, args=(rows,)) for rows in (1, 5, 64)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_beside_a_library_of_tvms_runtime(tmp_path):
    proto = models.conv_net()
    both = [module_of(proto, tmp_path, 2, disable=left_out) for left_out in (("tables",), ())]
    assert [module.manifest["functions"] for module in both] == [None, "model"]
    x = _drawn(*both[0].inputs[0].shape)
    np.testing.assert_array_equal(both[0](x), both[1](x))


def test_sizes_out_of_bounds_and_sizes_that_do_not_fit(tmp_path):
    module = module_of(models.linear("n"), tmp_path, standalone="m", dims={"n": (1, 4)})
    with pytest.raises(InputError, match=r"shape \[5, 64\]"):
        module(_drawn(5, 64))
    net = Net(x=(1, 8, "h", "w"))
    pooled = net.MaxPool("x", kernel_shape=[2, 2], strides=[2, 2])
    flat = net.Flatten(net.GlobalAveragePool(pooled))
    proto = net.model(net.Gemm(flat, net.weight(8, 5), net.weight(5)))
    module = module_of(proto, tmp_path, standalone="m")
    _agree(proto, module, x=_drawn(1, 8, 6, 5))
    with pytest.raises(InputError, match="leave nothing to take a mean of") as info:
        module(_drawn(1, 8, 1, 1))
    assert "larger sizes" in str(info.value)
    _agree(proto, module, x=_drawn(1, 8, 4, 4))


def test_modules_come_and_go(tmp_path):
    library = compile_here(models.linear(), tmp_path, standalone="model").library
    for _ in range(30):
        runtime.load(library, 1)(_drawn(2, 64))
        gc.collect()


def test_what_a_watcher_raises_reaches_the_caller(tmp_path):
    module = module_of(models.mlp_block(), tmp_path)
    seen = []

    def watcher(_function, kernel, before, _result, *_arguments):
        seen.append(kernel)
        raise KeyError(kernel)

    x = _drawn(*module.inputs[0].shape)
    module.watch(watcher)
    for calls in (1, 2):
        with pytest.raises(KeyError) as info:
            module(x)
        assert info.value.args == (seen[-1],)
        assert len(seen) == calls, "nothing is watched after it raised"


def test_dimensions_have_the_order_of_the_model(tmp_path):
    net = Net(x=("rows", "columns"))
    proto = net.model(net.MatMul("x", net.Transpose("x", perm=[1, 0])), net.Neg("x"))
    _agree(proto, module_of(proto, tmp_path), x=_drawn(3, 5))
