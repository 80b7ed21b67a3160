from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, parser

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.errors import InputError, ModelError, OptionError
from tilewright.verification.budget import unit_roundoff
from tilewright.verification.engines import Engines, Refused


def _engines(proto, reference, tmp_path, *, exact=True) -> Engines:
    path = tmp_path / "m.onnx"
    path.write_bytes(reference.SerializeToString())
    library = compile_here(proto, tmp_path).library
    job = {"library": str(library), "model": str(path), "shapes": {}, "dims": {}, "threads": 1}
    return Engines(job, exact=exact)


def test_the_truth_is_asked_for_only_when_it_is_needed(tmp_path, monkeypatch):
    proto = models.linear()
    engines = _engines(proto, proto, tmp_path)
    asked = []
    stock = engines._truth_of
    monkeypatch.setattr(engines, "_truth_of", lambda *given: asked.append(1) or stock(*given))
    feed = {"x": models.weight("x", (2, 64))}
    (first,) = engines.compare(feed, {}, engines.run(feed))
    (second,) = engines.compare(feed, {}, engines.run(feed))
    assert first.passed and first.truth is not None
    assert second.passed and len(asked) == 1


def test_a_difference_of_nearly_equal_numbers_moves_by_more_than_a_rounding(tmp_path):
    proto = models.binary("Sub")
    engines = _engines(proto, proto, tmp_path)
    (a, b), (shape, _) = zip(*((i.name, i.shape) for i in engines.module.inputs), strict=True)
    ones = np.ones(shape, np.float32)
    for near, least, most in ((2.0, 1.0, 5.0), (1.001, 500.0, 2100.0)):
        feed = {a: ones * np.float32(near), b: ones}
        truth = engines._truth(feed)
        (spec,) = engines.module.outputs
        moved = engines._moved(feed, truth, [truth[spec.name]], spec.name)
        assert least <= moved / unit_roundoff(np.float32) <= most


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_little_but_rounding_errors_agrees(dtype, tmp_path):
    """The mean of what is left when a mean is taken away: 0, but for rounding."""
    net = Net(opset=18)
    net.input("x", (9, 11), helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    rest = net.Sub("x", net.ReduceMean("x", net.ints(1)))
    proto = net.model(net.ReduceMean(rest, net.ints(1), keepdims=0))
    engines = _engines(proto, proto, tmp_path)
    for seed in range(8):
        feed = {"x": np.random.default_rng(seed).standard_normal((9, 11)).astype(dtype)}
        ours, theirs = engines.run(feed)
        (verdict,) = engines.compare(feed, {}, (ours, theirs))
        assert verdict.passed
        (wrong,) = engines.compare(feed, {}, ((ours[0] + dtype(1e-3),), theirs))
        assert not wrong.passed


def test_winograd_may_err_twice_as_much(tmp_path):
    proto = models.conv_net(size=24, channels=32)
    engines = _engines(proto, proto, tmp_path)
    assert engines._tolerance.factor == 8
    assert _engines(models.linear(), models.linear(), tmp_path)._tolerance.factor == 4


def test_a_library_that_fails_is_a_verdict(tmp_path, monkeypatch):
    engines = _engines(models.linear(), models.linear(), tmp_path)

    def broken(_inputs):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(type(engines.module), "__call__", lambda _self, feed: broken(feed))
    feed = {"x": models.weight("x", (2, 64))}
    (verdict,) = engines.compare(feed, {}, engines.run(feed))
    assert not verdict.passed and "our library fails: out of luck" in verdict.problem


def test_says_when_the_library_is_of_another_file(tmp_path):
    engines = _engines(models.unary("Relu"), models.unary("Neg"), tmp_path)
    assert "compiled from another file" in engines.subject


def test_another_interface_is_refused(tmp_path):
    with pytest.raises(OptionError, match="has inputs a, b"):
        _engines(models.unary(), models.binary(), tmp_path)


def test_what_an_engine_refuses_is_said(tmp_path, monkeypatch):
    """A model of even sizes."""
    proto = models.model(
        [helper.make_node("Reshape", ["x", "s"], ["y"])],
        [models.value("x", ("n",))],
        [models.value("y", (2, None))],
        {"s": np.array([2, -1])},
    )
    engines = _engines(proto, proto, tmp_path)
    with pytest.raises(Refused) as info:
        engines.run({"x": np.ones(3, np.float32)})
    assert not info.value.ours
    with pytest.raises(InputError):
        engines.run({"x": np.ones((2, 2), np.float32)})

    def refuse(_self, _feed):
        raise InputError("not these")

    monkeypatch.setattr(type(engines.module), "__call__", refuse)
    with pytest.raises(Refused, match="not these") as info:
        engines.run({"x": np.ones(4, np.float32)})
    assert info.value.ours


def test_of_random_numbers_type_and_shape_are_compared(tmp_path):
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
        helper.make_node("Neg", ["x"], ["z"]),
    ]
    values = [models.value(name, (2, 3)) for name in "xyz"]
    proto = models.model(nodes, values[:1], values[1:])
    engines = _engines(proto, proto, tmp_path)
    feed = {"x": models.weight("x", (2, 3))}
    ours, theirs = engines.run(feed)
    found = {verdict.name: verdict for verdict in engines.compare(feed, {}, (ours, theirs))}
    assert found["y"].passed and "random" in found["y"].note
    assert found["z"].passed and found["z"].note is None
    other = (ours[0][:1], ours[1])
    found = {verdict.name: verdict for verdict in engines.compare(feed, {}, (other, theirs))}
    assert not found["y"].passed


def test_a_loop_that_does_not_end_is_stopped(tmp_path, monkeypatch):
    proto = parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 17]>
        g (int64 most, bool go_on, float[4] x) => (float[4] y) {
          y = Loop <body = b (int64 i, bool on, float[4] old) => (bool again, float[4] new) {
            again = Identity(on)
            new = Mul(old, old)
          }> (most, go_on, x)
        }"""
    )
    engines = _engines(proto, proto, tmp_path)
    feed = {"go_on": np.array(True), "x": np.ones(4, np.float32)}
    ours, _ = engines.run({"most": np.array(3), **feed})
    assert ours[0].tolist() == [1.0] * 4
    monkeypatch.setattr("tilewright.verification.engines.MOST_SECONDS", 0.5)
    with pytest.raises(ModelError, match="does not end within"):
        engines.run({"most": np.array(2**40), **feed})
