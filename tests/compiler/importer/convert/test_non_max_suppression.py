from __future__ import annotations

import numpy as np
import pytest

from tests.net import Net, answers_each


def _model(*limits: str, batches=2, classes=3, count=37, **attrs):
    net = Net(opset=11, boxes=(batches, count, 4))
    net.input("scores", (batches, classes, count), 1)
    kinds = {"most": 7, "overlap": 1, "least": 1}
    for name in filter(None, limits):
        net.input(name, (1,), kinds[name])
    return net.model(net.add("NonMaxSuppression", "boxes", "scores", *limits, **attrs))


def _boxes(batches=2, classes=3, count=37) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    corners = random.uniform(0, 4, (batches, count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(-3, 3, corners.shape)], 2)
    # Of equal scores, the first box counts.
    scores = random.integers(0, 20, (batches, classes, count)) / 20
    return {"boxes": np.float32(boxes), "scores": np.float32(scores)}


def _limits(most: int, overlap: float, least: float) -> dict[str, np.ndarray]:
    return {
        "most": np.array([most]),
        "overlap": np.float32([overlap]),
        "least": np.float32([least]),
    }


EACH = ((5, 0.3, 0.5), (100, 0.1, 0.0), (100, 1.0, -1.0), (3, 0.5, 2.0), (0, 0.5, 0.0))


@pytest.mark.parametrize("count", [37, "n"])
def test_limits_that_are_computed(count, tmp_path):
    proto = _model("most", "overlap", "least", count=count)
    answers_each(proto, tmp_path, *({**_boxes(), **_limits(*each)} for each in EACH))


def test_boxes_by_their_centres(tmp_path):
    proto = _model("most", "overlap", "least", center_point_box=1)
    given = _boxes()
    given["boxes"] = np.abs(given["boxes"])
    answers_each(proto, tmp_path, *({**given, **_limits(*each)} for each in EACH))


def test_without_a_least_score_all_boxes_count(tmp_path):
    given = {**_boxes(), "most": np.array([4])}
    given["scores"] -= 0.5
    answers_each(_model("most"), tmp_path, given)


def test_without_limits_nothing_is_selected(tmp_path):
    answers_each(_model(), tmp_path, _boxes())


def test_what_follows_has_as_many_rows(tmp_path):
    """As detectors end: the boxes that were selected."""
    net = Net(opset=13, boxes=(1, 37, 4))
    net.input("scores", (1, 1, 37), 1)
    limits = net.ints(9), net.const([0.2]), net.const([0.3])
    found = net.NonMaxSuppression("boxes", "scores", *limits)
    rows = net.Squeeze(net.Slice(found, net.ints(2), net.ints(3), net.ints(1)), net.ints(1))
    taken = net.Gather("boxes", rows, axis=1)
    answers_each(net.model(net.Mul(taken, 2.0)), tmp_path, _boxes(1, 1))
