from __future__ import annotations

import numpy as np

from tilewright.ops import Step
from tilewright.targets.rules.rule import Given, Packed
from tilewright.targets.rules.tir import number
from tilewright.targets.rules.weighted import WeightedKernel

SHAPE = ("n", 12)
WEIGHTS = Packed((2, 32), lambda: np.ones((2, 32), np.float32))


def _made(steps=(), arrays=()):
    return WeightedKernel("kernel", ("n", 4), WEIGHTS, SHAPE, steps, arrays, lanes=8)


def test_parameters_are_in_their_order():
    steps = (Step("bias"), Step("residual"))
    bias = np.arange(12, dtype=np.float32)
    made = _made(steps, (bias, Given("r")))
    launch = made.launch(made.store(0, 0, 8, number(1.0, "float32", 8)), Given("x"), also=((3,),))
    names = [param.name for param in launch.kernel.params]
    assert [name[0] for name in names] == ["x", "w", "c", "r", "y"]
    x, w, c, r = launch.inputs
    assert x == Given("x") and w is WEIGHTS and r == Given("r")
    # A vector may begin at the last column.
    assert c.shape == (19,) and (c.make()[:12] == bias).all()
    assert launch.shape == SHAPE and launch.also == ((3,),)


def test_weights_may_be_the_result_of_another_launch():
    made = _made()
    launch = made.launch(made.store(0, 0, 8, number(1.0, "float32", 8)), 0, weights=1)
    assert launch.inputs == (0, 1)


def test_steps_are_in_the_store():
    plain = _made()
    clipped = _made((Step("relu"),))
    texts = [str(k.store(0, 0, 8, number(-1.0, "float32", 8))) for k in (plain, clipped)]
    assert "max" not in texts[0] and "max" in texts[1]
