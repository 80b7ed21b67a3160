"""Inputs to try a model on: random where nobody gives any, seeded, and legal for the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler.small_types import numpy_type
from tilewright.errors import InputError, OptionError, UnsupportedModel

# Of an input that is drawn at random: an image of 4096 x 4096 in colour has half of them. Both
# engines' results, in double precision, and what lies between, are several times as large.
MOST_ELEMENTS = 100_000_000

# A symbolic dimension without an upper bound is tried at its lower bound and at this much more.
TYPICAL_SIZE = 8
# What most networks can halve as often as they want to, and the length of a short text.
_USUAL = 64


def random_inputs(
    rows: list[dict[str, Any]], dims: Mapping[str, int], seed: int
) -> dict[str, np.ndarray]:
    """An array for each input row of a manifest.

    Floats are standard normal; integers are any of the row's `among`, or else uniform below its
    `below` (a table's rows, or 2 for masks) and start with a 1, so that no mask is all zero;
    booleans are fair.
    """
    rng = np.random.default_rng(seed)
    arrays = {}
    for row in rows:
        shape = [dims[size] if isinstance(size, str) else size for size in row["shape"]]
        if math.prod(shape) > MOST_ELEMENTS:
            raise UnsupportedModel(
                f"random values of shape {shape}, which are {math.prod(shape):.2g}",
                where=f"input {row['name']!r}",
                expected=f"at most {MOST_ELEMENTS}: several copies have to fit into memory",
                hint="give smaller sizes with --shape and --dim, or values with --input; "
                "--no-verify compiles without the check",
            )
        dtype = numpy_type(row["dtype"])
        if "among" in row:
            array = rng.choice(row["among"], shape)
        elif dtype.kind in "iu":
            array = rng.integers(0, row.get("below", 2), shape)
            array.reshape(-1)[:1] = min(1, row.get("below", 2) - 1)
        elif dtype.kind == "b":
            array = rng.integers(0, 2, shape)
        else:
            array = rng.standard_normal(shape)
        arrays[row["name"]] = array.astype(dtype)
    return arrays


def sizes_to_try(dims: Mapping[str, list[int]]) -> list[dict[str, int]]:
    """Values for the symbolic dimensions: all at their least, then each at a size of its own."""
    if not dims:
        return [{}]
    least = {name: max(1, low) for name, (low, _) in dims.items()}
    larger = {
        name: min(high, least[name] + TYPICAL_SIZE + 3 * place)
        for place, (name, (_, high)) in enumerate(dims.items())
    }
    return [least, larger] if larger != least else [least]


def round_sizes(dims: Mapping[str, list[int]]) -> list[dict[str, int]]:
    """Values that most networks can halve as often as they want to."""
    return [
        {name: min(high, max(low, size)) for name, (low, high) in dims.items()}
        for size in (32, 64)
        if dims
    ]


def usual_sizes(manifest: dict[str, Any]) -> dict[str, int]:
    """Values as a model is usually run with: a batch of one, and sizes that halve well."""
    batches = {row["shape"][0] for row in manifest["inputs"] if row["shape"]}
    return {
        name: min(high, max(low, 1 if name in batches else _USUAL))
        for name, (low, high) in manifest["dims"].items()
    }


def complete_inputs(
    manifest: dict[str, Any], given: dict[str, np.ndarray], sizes: Mapping[str, int], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """All inputs, `given` ones first and the rest at random; and the sizes they have."""
    dims = bind_dimensions(manifest["inputs"], given, sizes)
    return {**random_inputs(manifest["inputs"], dims, seed), **given}, dims


def read_inputs(specs: list[str], rows: list[dict[str, Any]]) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays named by `--input` values, and whether `random` fills the rest.

    A value is `NAME=FILE.npy`, `FILE.npz` (arrays by input name) or `random`.
    """
    arrays: dict[str, np.ndarray] = {}
    fill = not specs
    names = [row["name"] for row in rows]
    for spec in specs:
        if spec == "random":
            fill = True
            continue
        name, equals, file = spec.rpartition("=")
        path = Path(file if equals else spec)
        loaded = _load(path)
        found = {name: loaded} if equals else loaded
        if isinstance(found, np.ndarray):
            raise OptionError(
                f"--input {spec} does not say which input it is for",
                expected=f"NAME={path} with NAME one of: {', '.join(names)}",
            )
        if equals and not isinstance(loaded, np.ndarray):
            raise OptionError(f"--input {spec}: an .npz holds several arrays", expected="a .npy")
        if unknown := [key for key in found if key not in names]:
            raise InputError(
                f"--input {spec} gives {', '.join(unknown)}",
                expected=f"inputs of the model: {', '.join(names)}",
            )
        arrays.update(found)
    missing = [name for name in names if name not in arrays]
    if missing and not fill:
        raise InputError(
            f"no value for {', '.join(missing)}",
            expected="every input",
            hint="add --input random to fill what is left open",
        )
    return arrays, fill


def _load(path: Path) -> Any:
    if path.suffix not in (".npy", ".npz"):
        raise OptionError(f"--input {path}", expected="NAME=FILE.npy, FILE.npz or the word random")
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the array: {error}", where=str(path)) from error


def bind_dimensions(
    rows: list[dict[str, Any]], arrays: Mapping[str, np.ndarray], sizes: Mapping[str, int]
) -> dict[str, int]:
    """Sizes of the symbolic dimensions: those the given arrays have, else `sizes`."""
    bound = dict(sizes)
    for row in rows:
        array = arrays.get(row["name"])
        if array is not None and array.ndim == len(row["shape"]):
            for size, name in zip(array.shape, row["shape"], strict=True):
                if isinstance(name, str):
                    bound[name] = size
    return bound
