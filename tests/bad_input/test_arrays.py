"""Arrays that do not fit the model, in Python and through `--input`."""

from __future__ import annotations

import numpy as np
import pytest

import tilewright
from tests.command_line import refused
from tilewright.compiler import runtime
from tilewright.errors import InputError, OptionError

X = np.zeros((2, 64), np.float32)

BAD_ARRAYS = {
    "dtype": ((X.astype(np.float64),), ["'x' is float64", "float32", "array.astype('float32')"]),
    "integers": (([[1, 2]],), ["'x' is int64"]),
    "shape": ((X[:, :63],), ["[2, 63]", "[2, 64]", "hint: "]),
    "rank": ((X[None],), ["[1, 2, 64]"]),
    "no_rank": ((np.float32(1),), ["has shape []"]),
    "none": ((), ["0 inputs given", "x: float32[2, 64]"]),
    "too_many": ((X, X), ["2 inputs given"]),
    "name": (({"y": X},), ["missing: x; unknown: y"]),
    "extra_name": (({"x": X, "y": X},), ["unknown: y"]),
    "nothing_named": (({},), ["missing: x"]),
    "object": ((None,), ["'x' is object"]),
}


@pytest.fixture(scope="module")
def linear(linear_library) -> runtime.Module:
    return tilewright.load(linear_library)


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_refuses_the_arrays(case, linear):
    arrays, says = BAD_ARRAYS[case]
    with pytest.raises(InputError) as info:
        linear(*arrays)
    for part in says:
        assert part in str(info.value)
    assert linear(X).shape == (2, 32), "the module still works afterwards"


def test_refuses_no_threads(linear_library):
    with pytest.raises(OptionError, match="0 threads"):
        tilewright.load(linear_library, threads=0)


BAD_INPUT_FLAGS = {
    "unknown_name": ("z=x.npy", InputError, ["gives z", "inputs of the model: x"]),
    "text_file": ("x=x.txt", OptionError, ["--input", "NAME=FILE.npy"]),
    "nameless": ("x.npy", OptionError, ["does not say which input", "NAME="]),
    "archive_by_name": ("x=x.npz", OptionError, ["several arrays"]),
    "missing_file": ("x=gone.npy", InputError, ["cannot read the array", "gone.npy"]),
    "not_numpy": ("x=bad.npy", InputError, ["cannot read the array", "bad.npy"]),
    "pickle": ("x=pickle.npy", InputError, ["cannot read the array", "pickle.npy"]),
    "other_names": ("other.npz", InputError, ["gives q"]),
    "nothing": ("empty.npz", InputError, ["no value for x", "--input random"]),
    "wrong_dtype": ("x=double.npy", InputError, ["'x' is float64"]),
}


@pytest.mark.parametrize("case", BAD_INPUT_FLAGS)
def test_refuses_the_input_flag(case, linear_library, here, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    np.save(given / "x.npy", X)
    np.save(given / "double.npy", X.astype(np.float64))
    np.savez(given / "x.npz", x=X)
    np.savez(given / "other.npz", q=X)
    np.savez(given / "empty.npz")
    np.save(given / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (given / "bad.npy").write_text("no array")
    flag, kind, says = BAD_INPUT_FLAGS[case]
    name, equals, file = flag.rpartition("=")
    refused(
        kind,
        "run",
        linear_library,
        "-o",
        "out.npz",
        "--input",
        f"{name}{equals}{given / file}",
        says=says,
    )
    assert list(here.iterdir()) == []


def test_run_refuses_a_dimension_the_model_does_not_have(linear_library, nothing_left):
    refused(
        OptionError, "run", linear_library, "--dim", "n=3", says=["'n'", "the library is static"]
    )


def test_run_refuses_an_output_that_is_no_npz(linear_library, nothing_left):
    refused(OptionError, "run", linear_library, "-o", "out.txt", says=["ends in .npz"])
