from __future__ import annotations

import numpy as np
import pytest

from tilewright.errors import InputError, OptionError, UnsupportedModel
from tilewright.verification.inputs import (
    bind_dimensions,
    complete_inputs,
    random_inputs,
    read_inputs,
    sizes_to_try,
)

ROWS = [
    {"name": "image", "dtype": "float32", "shape": ["n", 3, 8]},
    {"name": "ids", "dtype": "int64", "shape": ["n", 16], "below": 10},
    {"name": "mask", "dtype": "int32", "shape": ["n", 16], "below": 2},
    {"name": "bytes", "dtype": "uint8", "shape": [400]},
    {"name": "flag", "dtype": "bool", "shape": []},
    {"name": "half", "dtype": "float16", "shape": [0, 2]},
]


def test_inputs_have_the_types_and_shapes_asked_for():
    found = random_inputs(ROWS, {"n": 5}, seed=1)
    assert [(n, str(a.dtype), a.shape) for n, a in found.items()] == [
        ("image", "float32", (5, 3, 8)),
        ("ids", "int64", (5, 16)),
        ("mask", "int32", (5, 16)),
        ("bytes", "uint8", (400,)),
        ("flag", "bool", ()),
        ("half", "float16", (0, 2)),
    ]


def test_integers_are_legal_for_what_reads_them():
    for seed in range(20):
        found = random_inputs(ROWS, {"n": 2}, seed)
        assert found["ids"].min() >= 0 and found["ids"].max() < 10
        assert set(np.unique(found["mask"])) <= {0, 1}
        assert found["mask"].reshape(-1)[0] == 1, "a mask of zeros alone divides by zero"


def test_an_integer_that_is_compared_with_numbers_is_one_of_them():
    rows = [{"name": "r", "dtype": "int64", "shape": [], "below": 2, "among": [8000, 16000, 0]}]
    assert {int(random_inputs(rows, {}, seed)["r"]) for seed in range(40)} == {0, 8000, 16000}


def test_a_table_of_one_row_is_indexed_by_zero():
    rows = [{"name": "i", "dtype": "int64", "shape": [4], "below": 1}]
    assert (random_inputs(rows, {}, 0)["i"] == 0).all()


def test_a_seed_gives_the_same_inputs_again_and_another_seed_others():
    a, b, c = (random_inputs(ROWS, {"n": 2}, seed)["image"] for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_floats_are_standard_normal():
    x = random_inputs([{"name": "x", "dtype": "float32", "shape": [20_000]}], {}, 0)["x"]
    assert abs(x.mean()) < 0.03 and abs(x.std() - 1) < 0.03


def test_each_open_dimension_is_tried_at_its_least_and_at_a_size_of_its_own():
    assert sizes_to_try({}) == [{}]
    assert sizes_to_try({"n": [1, 1000], "s": [4, 1000]}) == [{"n": 1, "s": 4}, {"n": 9, "s": 15}]
    assert sizes_to_try({"n": [3, 3]}) == [{"n": 3}]
    assert sizes_to_try({"n": [0, 5]}) == [{"n": 1}, {"n": 5}]


def test_given_arrays_fix_the_dimensions_they_have():
    arrays = {"ids": np.zeros((7, 16), np.int64), "bytes": np.zeros(3)}
    assert bind_dimensions(ROWS, arrays, {"n": 1, "m": 2}) == {"n": 7, "m": 2}
    assert bind_dimensions(ROWS, {"ids": np.zeros(4)}, {"n": 1}) == {"n": 1}


@pytest.fixture
def files(tmp_path):
    np.save(tmp_path / "ids.npy", np.arange(16)[None])
    np.savez(tmp_path / "all.npz", ids=np.arange(16)[None], flag=np.array(True))
    return tmp_path


def test_without_flags_all_is_random(files):
    assert read_inputs([], ROWS) == ({}, True)


def test_reads_one_array_or_an_archive(files):
    one, fill = read_inputs([f"ids={files / 'ids.npy'}", "random"], ROWS)
    assert list(one) == ["ids"] and fill
    several, _ = read_inputs(["random", str(files / "all.npz")], ROWS)
    assert set(several) == {"ids", "flag"} and several["ids"].shape == (1, 16)


def test_what_is_left_open_is_an_error_unless_random_fills_it(files):
    with pytest.raises(InputError, match="no value for image, mask, bytes"):
        read_inputs([str(files / "all.npz")], ROWS)


def test_an_array_needs_a_name(files):
    with pytest.raises(OptionError, match="does not say which input"):
        read_inputs([str(files / "ids.npy")], ROWS)


def test_a_name_may_contain_an_equals_sign(files):
    rows = [{"name": "a=b", "dtype": "int64", "shape": [1, 16]}]
    assert list(read_inputs([f"a=b={files / 'ids.npy'}"], rows)[0]) == ["a=b"]


def test_absurdly_many_values_are_not_drawn():
    rows = [{"name": "a", "dtype": "float32", "shape": ["n", 10_001]}]
    with pytest.raises(UnsupportedModel, match=r"shape \[10000, 10001\]") as info:
        random_inputs(rows, {"n": 10_000}, 0)
    assert "input 'a'" in info.value.where and "--dim" in info.value.hint


def test_given_arrays_come_before_random_ones():
    manifest = {
        "inputs": [
            {"name": "a", "dtype": "float32", "shape": ["n"]},
            {"name": "b", "dtype": "float32", "shape": ["n"]},
        ]
    }
    given = {"b": np.ones(4, np.float32)}
    arrays, dims = complete_inputs(manifest, given, {"n": 1}, 0)
    assert dims == {"n": 4} and arrays["a"].shape == (4,) and arrays["b"] is given["b"]
