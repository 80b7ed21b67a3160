from __future__ import annotations

import random

import pytest

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.autotune.space import Space, _Drawing
from tilewright.autotune.tasks import tasks_of
from tilewright.targets import resolve
from tilewright.targets.rules.catalogue import able, lower, lower_by
from tilewright.targets.rules.knobs import Choices
from tilewright.targets.rules.tir import outlined

TARGET = resolve("x86-64-avx2")


@pytest.fixture
def task(tasks):
    return next(task for task in tasks if task.spec.kind == "Conv")


@pytest.fixture
def space(task):
    return Space(task, TARGET)


def test_the_default_is_what_is_made_without_a_record(task, space):
    default = space.default()
    assert default.choice.knobs == {}
    assert default.choice.rule == lower(task.call, TARGET)[0].name


def test_what_is_drawn_can_be_lowered(task, space):
    source = random.Random(0)
    for _ in range(12):
        candidate = space.anywhere(source)
        choices = Choices(task.call.name, dict(candidate.choice.knobs))
        lower_by(candidate.choice.rule, task.call, TARGET, choices)
        assert candidate.facts["log_products"] > 0 and candidate.score is None


def test_what_is_near_shares_most_knobs(space):
    source = random.Random(0)
    base = space.anywhere(source)
    drawn = [space.near(base, source) for _ in range(24)]
    assert {c.choice.rule for c in drawn} == {base.choice.rule}
    knobs = dict(base.choice.knobs).items()
    shared = [len(set(dict(c.choice.knobs).items()) & set(knobs)) for c in drawn]
    assert max(shared) >= max(1, len(knobs) - 2)


def _other_convolutions():
    net = Net(x=(1, 32, 9, 9))
    y = net.Conv("x", net.weight(64, 4, 3, 3), group=8)
    y = net.ConvTranspose(y, net.weight(64, 48, 3, 3), strides=[2, 2])
    return net.model(net.Conv(y, net.weight(48, 1, 3, 3), group=48))


@pytest.mark.parametrize(
    "proto",
    [models.conv_net(size=16, channels=64), models.mlp_block(), _other_convolutions()],
    ids=["convolutions", "mlp", "other convolutions"],
)
def test_without_loops_the_same_is_asked_for_and_noted(proto, tmp_path):
    work = compile_here(proto, tmp_path, until="fuse")
    source = random.Random(0)
    for task in tasks_of(work)[0]:
        for rule in able(task.call, TARGET):
            for _ in range(6):
                drawing = _Drawing(task.call.name, None, source)
                with outlined():
                    lower_by(rule.name, task.call, TARGET, drawing)
                full = Choices(task.call.name, drawing.drawn)
                lower_by(rule.name, task.call, TARGET, full)
                assert full.asked == drawing.asked and full.facts == drawing.facts
