from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import tilewright
from tests import models
from tests.net import Net
from tilewright.verification import strategies
from tilewright.verification.strategies import FLOAT_KINDS, Example, examples_for, size_between

ROWS = [
    {"name": "image", "dtype": "float32", "shape": ["n", 3, "h", "h"]},
    {"name": "ids", "dtype": "int64", "shape": ["n", "t"], "below": 10},
    {"name": "mask", "dtype": "int32", "shape": ["n", "t"], "below": 2},
    {"name": "flag", "dtype": "bool", "shape": []},
    {"name": "small", "dtype": "bfloat16", "shape": [2]},
]
DIMS = {"n": [1, 2**31 - 1], "h": [1, 2**31 - 1], "t": [0, 40]}


@given(examples_for(ROWS, DIMS))
@settings(max_examples=60)
def test_every_example_fits_its_inputs(example):
    arrays = example.arrays(ROWS)
    n, h, t = (example.dims[name] for name in "nht")
    assert arrays["image"].shape == (n, 3, h, h) and arrays["image"].dtype == np.float32
    assert arrays["ids"].shape == (n, t) == arrays["mask"].shape
    assert arrays["flag"].shape == () and arrays["small"].dtype.name == "bfloat16"
    assert arrays["ids"].min(initial=0) >= 0 and arrays["ids"].max(initial=0) < 10
    assert set(np.unique(arrays["mask"])) <= {0, 1}
    assert t == 0 or (arrays["mask"][:, 0] == 1).all(), "no row of a mask is all zero"
    assert 0 <= t <= 40 and n >= 1
    assert all(array.size <= 4 * strategies.MOST_ELEMENTS for array in arrays.values())
    assert np.isfinite(arrays["image"]).all()


@pytest.mark.parametrize("most, wanted", [(2**31 - 1, 4), (48, 48)])
def test_images_come_in_batches(most, wanted):
    rows = [{"name": "image", "shape": ["n", 3, 224, 224], "dtype": "float32"}]
    drawn = examples_for(rows, {"n": [1, most]})
    assert find(drawn, lambda example: example.dims["n"] == wanted).dims["n"] == wanted


def test_examples_say_the_same_twice():
    example = Example((("n", 2), ("h", 5), ("t", 3)), "normal", 7)
    first, second = example.arrays(ROWS), example.arrays(ROWS)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_shrinks_to_the_least_sizes_and_the_simplest_values():
    found = find(examples_for(ROWS, DIMS), lambda example: example.dims["h"] >= 5)
    assert found == Example((("n", 1), ("h", 5), ("t", 0)), "ones", 0)


@given(st.integers(0, 40), st.integers(0, 500), st.data())
def test_sizes_stay_inside_their_bounds(low, more, data):
    assert low <= data.draw(size_between(low, low + more)) <= low + more


@pytest.mark.parametrize("size", [0, 1, 9, 17, 97, 224, 300])
def test_odd_round_and_last_sizes_come(size):
    assert find(size_between(0, 300), lambda drawn: drawn == size) == size


def test_kinds_are_of_their_kind():
    rng = np.random.default_rng(0)
    arrays = {name: make(rng, (40, 50)) for name, make in FLOAT_KINDS.items()}
    least = float(np.finfo(np.float32).tiny)
    assert 0 < np.abs(arrays["denormal"]).max() < least < np.abs(arrays["tiny"]).max() < 1e-15
    assert np.abs(arrays["large"]).max() > 1e3
    assert (arrays["sparse"] == 0).mean() > 0.8
    assert arrays["uniform"].min() >= 0 and arrays["uniform"].max() < 1


def test_inputs_of_a_file_a_proto_and_a_module(model_file, tmp_path):
    proto = models.linear("n")
    module = tilewright.compile(proto, check=False).load()
    for model in (model_file(proto), proto, module):
        seen = set()

        @given(strategies.inputs_for(model, {"n": (2, 5)}))
        @settings(max_examples=20)
        def check(inputs):
            assert set(inputs) == {"x"} and inputs["x"].shape[1] == 64
            seen.add(len(inputs["x"]))  # noqa: B023 - called before the next round

        check()
        assert len(seen) > 2 and seen <= {2, 3, 4, 5}


def test_ids_stay_below_the_rows_of_their_table():
    net = Net()
    proto = net.model(net.Gather(net.weight(7, 4), net.input("ids", ["n"])))

    @given(strategies.inputs_for(proto))
    @settings(max_examples=20)
    def check(inputs):
        assert inputs["ids"].max(initial=0) < 7

    check()
