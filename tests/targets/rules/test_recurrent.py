from __future__ import annotations

import numpy as np
import pytest

from tilewright.ops import RecurrentSpec, Step
from tilewright.targets.rules.recurrent import kernel, order, parameters, results, rows_of

LSTM = RecurrentSpec("float32", "LSTM", "n", 2, 20, (Step("sigmoid"), Step("tanh"), Step("tanh")))
GATED = (Step("sigmoid"), Step("sigmoid"), Step("tanh"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, ["x", "r", "h0", "c0", "y", "yh", "yc"]),
        ({"peephole": True}, ["x", "r", "p", "h0", "c0", "y", "yh", "yc"]),
        ({"lengths": True}, ["x", "r", "h0", "c0", "lengths", "y", "yh", "yc"]),
        ({"cell": "GRU", "activations": GATED}, ["x", "r", "h0", "y", "yh"]),
        (
            {"cell": "GRU", "activations": GATED, "linear_before_reset": True},
            ["x", "r", "rb", "h0", "y", "yh"],
        ),
        ({"cell": "RNN", "activations": (Step("tanh"),)}, ["x", "r", "h0", "y", "yh"]),
    ],
)
def test_parameters_are_in_their_order(changes, names):
    spec = RecurrentSpec(**{**LSTM.__dict__, **changes})
    made = kernel("k", spec, lanes=8)
    assert [str(p.name) for p in made.params] == names
    assert [*parameters(spec), *(name for name, _ in results(spec))] == names


def test_few_rows_are_one_block():
    assert "T.parallel" not in str(kernel("k", LSTM, lanes=8))


def test_threads_share_the_steps_of_a_large_layer():
    large = RecurrentSpec(**{**LSTM.__dict__, "batch": 1, "hidden": 256})
    text = str(kernel("k", large, lanes=8))
    assert text.count("T.parallel") == 1 and text.index("for t in") < text.index("T.parallel")


def test_blocks_of_rows_leave_little_to_be_computed_twice():
    rows = [rows_of(RecurrentSpec(**{**LSTM.__dict__, "batch": batch})) for batch in range(1, 9)]
    assert rows == [1, 2, 3, 2, 3, 3, 3, 3]


def test_open_batches_are_rows_of_their_own():
    spec = RecurrentSpec(**{**LSTM.__dict__, "batch": "b"})
    assert "T.parallel" in str(kernel("k", spec, lanes=8))


def test_directions_are_blocks_of_one_loop():
    both = RecurrentSpec(**{**LSTM.__dict__, "directions": (False, True)})
    text = str(kernel("k", both, lanes=8))
    assert text.count("T.parallel(2)") == 1


@pytest.mark.parametrize("hidden", [3, 8, 20, 64])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_weights_lie_in_the_order_in_which_they_are_read(cell, hidden):
    spec = RecurrentSpec(**{**LSTM.__dict__, "cell": cell, "hidden": hidden, "batch": 1})
    places = order(spec, lanes=8)
    assert sorted(places) == list(range(spec.gates * hidden * hidden))
    gate, unit, k = places // hidden**2, places // hidden % hidden, places % hidden
    assert (k[0], unit[0]) == (0, 0) and k[-1] == hidden - 1
    # A GRU's third gate has a product of its own, behind those of the others.
    products = gate == 2 if cell == "GRU" else np.zeros_like(gate)
    assert (np.diff(products.astype(int)) >= 0).all()
