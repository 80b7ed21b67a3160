"""Hypothesis strategies: the inputs of a model, and whole models (`graphs`, `models`).

    from hypothesis import given
    from tilewright.verification import strategies

    @given(strategies.inputs_for("model.onnx"))
    def test_it(inputs):
        ...

Inputs are sizes of open dimensions, and values. Sizes shrink to the least, values to ones. Values
come from a seed and a kind, not element by element: an image of 150,000 numbers is drawn as fast as
one number, and shrinks as fast.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from tilewright.compiler.importer.shapes import DEFAULT_BOUNDS
from tilewright.compiler.small_types import numpy_type
from tilewright.verification.graphs import graphs as graphs
from tilewright.verification.graphs import models as models

if TYPE_CHECKING:
    import onnx

    from tilewright.compiler.runtime import Module

Values = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

# Simplest first: this is the order that shrinking goes back in.
FLOAT_KINDS: dict[str, Values] = {
    "ones": lambda rng, shape: np.ones(shape),
    "uniform": lambda rng, shape: rng.random(shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
    # Rows that are all zero: norms divide by their epsilon.
    "sparse": lambda rng, shape: rng.standard_normal(shape) * (rng.random(shape) < 0.1),
    # What saturates an activation and makes a softmax pick one.
    "large": lambda rng, shape: rng.standard_normal(shape) * 1e3,
    "tiny": lambda rng, shape: rng.standard_normal(shape) * 1e-20,
    # Below the smallest normal number of float32.
    "denormal": lambda rng, shape: rng.standard_normal(shape) * 1e-40,
}
# Sizes that tiles of 4, 6, 8 and 16 do not divide.
_ODD = (1, 2, 3, 5, 7, 9, 11, 13, 17, 23, 31, 47, 61, 97)
# Images go through strides: a network that halves five times asks for multiples of 32.
_ROUND = (4, 8, 16, 32, 64, 96, 128, 160, 224, 256, 320)
# What an unbounded dimension may come to, as elements of an input; an index into a table counts
# as the row that it selects. Of images there are a few nevertheless, and what has a bound may come
# to as many times more.
MOST_ELEMENTS = 1 << 18
_FEW, _BOUNDED = 4, 32
_ROW = 512
# Enough for any number of examples, and few enough to try the smaller ones when shrinking.
_SEEDS = 256


@dataclass(frozen=True, order=True)
class Example:
    """One input of a model, as its interface describes it: few words instead of many numbers."""

    sizes: tuple[tuple[str, int], ...]
    kind: str
    seed: int

    @property
    def dims(self) -> dict[str, int]:
        """The sizes by name of the dimension."""
        return dict(self.sizes)

    def arrays(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """The arrays for the input rows of a manifest.

        Floats as `kind` says; integers that are compared with numbers (`among`) one of them;
        those that select rows of a table (`below`) anything below its size; masks of 0 and 1, the
        first of each row 1.
        """
        rng = np.random.default_rng(self.seed)
        return {row["name"]: self._array(rng, row) for row in rows}

    def _array(self, rng: np.random.Generator, row: Mapping[str, Any]) -> np.ndarray:
        shape = shape_of(row, self.dims)
        dtype = numpy_type(row["dtype"])
        if "among" in row:
            array = rng.choice(row["among"], shape)
        elif dtype.kind in "iub":
            below = 2 if dtype.kind == "b" else row.get("below", 2)
            array = _mask(rng, self.kind, shape) if below == 2 else rng.integers(0, below, shape)
        else:
            array = FLOAT_KINDS[self.kind](rng, shape)
        return np.asarray(array).astype(dtype)


def _mask(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """All ones; from "normal" on as texts of several lengths have it; or any, from "sparse" on."""
    if kind in ("ones", "uniform") or not shape:
        return np.ones(shape)
    if kind == "normal":
        lengths = rng.integers(1, shape[-1] + 1, (*shape[:-1], 1)) if shape[-1] else 0
        return np.broadcast_to(np.arange(shape[-1]) < lengths, shape)
    mask = rng.integers(0, 2, shape)
    mask[..., :1] = 1
    return mask


def shape_of(row: Mapping[str, Any], dims: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a manifest's row for open dimensions of sizes `dims`."""
    return tuple(dims[size] if isinstance(size, str) else size for size in row["shape"])


def size_between(low: int, high: int) -> st.SearchStrategy[int]:
    """A size in low..high: few, odd and prime ones, round ones; where it ends soon, any of them."""
    few = st.integers(low, min(high, low + 8))
    listed = {size for size in (*_ODD, *_ROUND) if low <= size <= high}
    if high > _ROUND[-1]:
        return few | st.sampled_from(sorted(listed)) if listed else few
    return few | st.sampled_from(sorted(listed | {high})) | st.integers(low, high)


@st.composite
def examples_for(
    draw: st.DrawFn, rows: Sequence[Mapping[str, Any]], dims: Mapping[str, Sequence[int]]
) -> Example:
    """An Example for the input rows of a manifest, whose open dimensions have bounds `dims`."""
    sizes: dict[str, int] = {}
    for name, (low, high) in dims.items():
        known = {**{k: limits[0] for k, limits in dims.items()}, **sizes}
        bounded = high < DEFAULT_BOUNDS[1]
        room = _room(name, rows, known, MOST_ELEMENTS * (_BOUNDED if bounded else 1))
        most = min(high, room if bounded else max(room, _FEW))
        sizes[name] = draw(size_between(low, max(low, most)), label=name)
    kind = draw(st.sampled_from(list(FLOAT_KINDS)), label="kind of values")
    return Example(tuple(sizes.items()), kind, draw(st.integers(0, _SEEDS - 1), label="seed"))


def _room(name: str, rows: Sequence[Mapping[str, Any]], dims: Mapping[str, int], most: int) -> int:
    """The largest size of dimension `name` with which every input has `most` elements or less."""
    room = most
    for row in rows:
        if name in row["shape"]:
            others = [size for size in row["shape"] if size != name]
            elements = np.prod([dims.get(size, size) for size in others], initial=1.0)
            elements *= _ROW if row.get("below", 2) > 2 else 1
            power = 1 / row["shape"].count(name)
            room = min(room, int((most / max(1.0, elements)) ** power))
    return room


def inputs_for(
    model: str | Path | onnx.ModelProto | Module,
    dims: Mapping[str, tuple[int, int]] | None = None,
) -> st.SearchStrategy[dict[str, np.ndarray]]:
    """Inputs of a model by name: shapes from its open dimensions, values that fit each tensor.

    `model` is an ONNX file, a ModelProto, or a loaded module. `dims` bounds open dimensions, both
    ends included; those of a module are its own.
    """
    rows, bounds = interface_of(model, dims or {})
    return examples_for(rows, bounds).map(lambda example: example.arrays(rows))


def interface_of(
    model: str | Path | onnx.ModelProto | Module, dims: Mapping[str, tuple[int, int]]
) -> tuple[list[dict[str, Any]], dict[str, Sequence[int]]]:
    """Input rows as in a manifest, and the bounds of the open dimensions."""
    if hasattr(model, "manifest"):
        return model.manifest["inputs"], {**model.manifest["dims"], **dims}
    from tilewright.compiler.importer import shapes
    from tilewright.compiler.importer.input_values import input_rows
    from tilewright.compiler.importer.load import load

    if isinstance(model, (str, Path)):
        loaded = load(model)
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model.SerializeToString())
            loaded = load(path)
    bounds = shapes.apply(loaded, {}, dims)
    return input_rows(loaded), bounds
