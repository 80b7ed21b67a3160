from __future__ import annotations

from tests import models
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import STEPS, normalise


def test_counts_nodes_before_and_after(model_file):
    from onnx import helper

    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["x", "s"], ["y"]),
    ]
    proto = models.model(nodes, [models.value("x", (2, 3))], [models.value("y", (2, 3))])
    done = normalise(load(model_file(proto)))
    assert (done.nodes_before, done.nodes_after) == (2, 1)


def test_is_done_after_one_round(model_file):
    model = load(model_file(models.conv_net()))
    normalise(model)
    text = model.proto.SerializeToString(deterministic=True)
    normalise(model)
    assert model.proto.SerializeToString(deterministic=True) == text


def test_steps_have_names_of_their_own_and_reasons():
    assert len({name for name, _, _ in STEPS}) == len(STEPS)
    assert all(why for _, _, why in STEPS)
