"""Converters of what draws random numbers: RandomNormal, RandomUniform, Bernoulli, Multinomial,
and Dropout in training mode.

Element n of a result is a function of n and a key, so that neither threads nor tiles change it.
Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel Random Numbers: As Easy as 1, 2, 3", whose
Philox-2x32-10 it is; normal numbers by Box and Muller 1958, "A Note on the Generation of Random
Normal Deviates".

A `seed` gives the same numbers at every run, as the other operators do. Without one the key is
another at every run: the library's own (compiler/pool.c). The numbers are those of no other
runtime.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from tvm import relax, te, tirx
from tvm.ir import GenericConst

from tilewright.compiler.importer.convert.sizes import Converter, Size, kernel, stock
from tilewright.errors import UnsupportedModel
from tilewright.targets.rules.vector_math import Lets

# What pool.c has: 64 bits that look like chance, others at every call.
RANDOM_BITS = "tilewright_random_bits"
_FLOATS = ("float16", "float32", "float64")
# Philox's multiplier, and what each round adds to the key.
_MULTIPLIER, _STEP, _ROUNDS = 0xD256D193, 0x9E3779B9, 10
_HALF = (1 << 32) - 1
# The increment and the factors of SplitMix64: Steele, Lea and Flood 2014, "Fast Splittable
# Pseudorandom Number Generators".
_GOLDEN, _FACTORS = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = (1 << 64) - 1

# Two uniform numbers from 0 up to 1, float32 or float64 -> an element.
Draw = Callable[[Lets, tirx.Expr, tirx.Expr], tirx.Expr]


def random_normal(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """RandomNormal and RandomNormalLike."""
    mean, scale = attrs.get("mean", 0.0), attrs.get("scale", 1.0)

    def normal(let: Lets, one: tirx.Expr, other: tirx.Expr) -> tirx.Expr:
        # From above 0, whose logarithm there is none of, up to 1.
        radius = tirx.sqrt(-2.0 * tirx.log(1.0 - one))
        return mean + scale * radius * _cos_of_turns(let, other)

    return _drawn(bb, inputs, attrs, normal)


def random_uniform(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """RandomUniform and RandomUniformLike."""
    low, high = attrs.get("low", 0.0), attrs.get("high", 1.0)

    def between(let: Lets, one: tirx.Expr, other: tirx.Expr) -> tirx.Expr:
        return low + (high - low) * one

    return _drawn(bb, inputs, attrs, between)


def bernoulli(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """1 with the probability that an element says, else 0."""
    (x,) = inputs
    dtype = _dtype_of(attrs, str(x.ty.dtype))

    def compute(x: te.Tensor, key: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Expr) -> tirx.Expr:
            return (_uniform(key, _flat(at, x.shape)) < x[at].astype("float32")).astype(dtype)

        return te.compute(x.shape, element, name="bernoulli")

    return kernel(bb, compute, x, _key(bb, attrs), name="bernoulli")


def multinomial(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """Classes drawn from unnormalised logarithms of probabilities, `sample_size` of each row."""
    (x,) = inputs
    dtype, count = _dtype_of(attrs, "int32"), int(attrs.get("sample_size", 1))
    shares = bb.emit(relax.op.nn.softmax(relax.op.astype(x, "float32"), -1))
    until = bb.emit(relax.op.cumsum(shares, -1))

    def compute(until: te.Tensor, key: te.Tensor) -> te.Tensor:
        rows, classes = until.shape
        drawn = te.compute((rows, count), lambda row, n: _uniform(key, row * count + n))
        each = te.reduce_axis((0, classes), "class")

        def element(row: tirx.Expr, n: tirx.Expr) -> tirx.Expr:
            # Rounding may end below 1.
            passed = tirx.all(each < classes - 1, until[row, each] <= drawn[row, n])
            return te.sum(passed.astype(dtype), axis=each)

        return te.compute((rows, count), element, name="multinomial")

    return kernel(bb, compute, until, _key(bb, attrs), name="multinomial")


def dropout(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
    """In training mode the share `ratio` of x becomes 0, and the rest grows to make up for it.

    The mask says what is kept: without training all (ONNX operator Dropout, since version 12).
    """
    x, ratio, training = [*inputs, None, None][:3]
    if opset < 12:
        return stock("Dropout", bb, inputs, attrs, opset)
    if training is None or _is_zero(training) or (ratio is not None and _is_zero(ratio)):
        return relax.Tuple([x, relax.op.ones_like(x, "bool")])
    if ratio is None:
        ratio = relax.const(0.5, "float32")

    def compute(
        x: te.Tensor, ratio: te.Tensor, training: te.Tensor, key: te.Tensor
    ) -> list[te.Tensor]:
        wide = "float64" if str(x.dtype) == "float64" else "float32"
        share = lambda dtype: ratio().astype(dtype)  # noqa: E731

        def is_kept(*at: tirx.Expr) -> tirx.Expr:
            kept = _uniform(key, _flat(at, x.shape)) >= share("float32")
            return tirx.any(tirx.Not(training()), kept)

        kept = te.compute(x.shape, is_kept, name="kept")

        def element(*at: tirx.Expr) -> tirx.Expr:
            factor = tirx.Select(training(), 1.0 / (1.0 - share(wide)), tirx.const(1.0, wide))
            # A product, which keeps NaN, as ONNX defines it.
            return (x[at].astype(wide) * factor * kept[at].astype(wide)).astype(x.dtype)

        return [te.compute(x.shape, element, name="dropout"), kept]

    return kernel(bb, compute, x, ratio, training, _key(bb, attrs), name="dropout")


def _is_zero(value: relax.Expr) -> bool:
    return isinstance(value, GenericConst) and not value.value.numpy().any()


def _drawn(bb: relax.BlockBuilder, inputs: list, attrs: dict, draw: Draw) -> relax.Expr:
    """A tensor of numbers as `draw` makes them of two uniform ones."""
    like = inputs[0] if inputs else None
    dtype = _dtype_of(attrs, str(like.ty.dtype) if like is not None else "float32")
    if dtype not in _FLOATS:
        raise UnsupportedModel(f"random numbers of type {dtype}", expected=", ".join(_FLOATS))
    uniforms = _two_float64 if dtype == "float64" else _two_float32

    def compute(shape: Sequence[Size], key: te.Tensor) -> te.Tensor:
        def element(*at: tirx.Expr) -> tirx.Expr:
            let = Lets()
            one, other = uniforms(let, key, _flat(at, shape))
            return let.body(draw(let, one, other).astype(dtype))

        return te.compute(shape, element, name="random")

    key = _key(bb, attrs)
    if like is None:
        shape = [int(size) for size in attrs["shape"]]
        return kernel(bb, lambda key: compute(shape, key), key, name="random")
    return kernel(bb, lambda x, key: compute(list(x.shape), key), like, key, name="random")


def _dtype_of(attrs: dict, default: str) -> str:
    if "dtype" not in attrs:
        return default
    return onnx.helper.tensor_dtype_to_np_dtype(attrs["dtype"]).name


def _key(bb: relax.BlockBuilder, attrs: dict) -> relax.Expr:
    """The key of a node: two numbers, uint64."""
    if "seed" in attrs:
        # An integer in Dropout, else a float.
        seed = attrs["seed"]
        (bits,) = (seed,) if isinstance(seed, int) else struct.unpack("<I", struct.pack("<f", seed))
        return relax.const(np.array(key_of_seed(bits), np.uint64))

    # Unlike any other node's: of two equal calls, a later pass would keep one.
    node = np.array([zlib.crc32(attrs["tvm_custom"]["result"].encode())], np.uint64)

    def compute(node: te.Tensor) -> te.Tensor:
        return te.compute((2,), lambda n: tirx.call_extern("uint64", RANDOM_BITS) ^ node[0])

    return kernel(bb, compute, relax.const(node), name="random_key")


def key_of_seed(seed: int) -> list[int]:
    """The first two numbers of SplitMix64."""
    key = []
    for n in (1, 2):
        z = (seed + n * _GOLDEN) & _WORD
        for shift, factor in zip((30, 27), _FACTORS, strict=True):
            z = ((z ^ (z >> shift)) * factor) & _WORD
        key.append(z ^ (z >> 31))
    return key


def _word(number: int) -> tirx.Expr:
    return tirx.const(number, "uint64")


def _flat(at: Sequence[tirx.Expr], shape: Sequence[Size]) -> tirx.Expr:
    """The number of an element, uint64."""
    number: tirx.Expr = tirx.const(0, "int64")
    for n, size in zip(at, shape, strict=True):
        number = number * size + n
    return number.astype("uint64")


def _uniform(key: te.Tensor, number: tirx.Expr) -> tirx.Expr:
    """An element's number from 0 up to 1, float32."""
    let = Lets()
    return let.body(_two_float32(let, key, number)[0])


def _two_float32(let: Lets, key: te.Tensor, number: tirx.Expr) -> list[tirx.Expr]:
    # There are vectors of int32 that become float32, not of uint64.
    bits = [(half >> _word(8)).astype("int32") for half in _philox(let, key, number)]
    return [let(n.astype("float32") * 2.0**-24, "uniform") for n in bits]


def _two_float64(let: Lets, key: te.Tensor, number: tirx.Expr) -> list[tirx.Expr]:
    drawn = []
    for n in range(2):
        high, low = _philox(let, key, number * _word(2) + _word(n))
        bits = ((high << _word(32)) | low) >> _word(11)
        drawn.append(let(bits.astype("int64").astype("float64") * 2.0**-53, "uniform"))
    return drawn


def _philox(let: Lets, key: te.Tensor, number: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
    """Philox-2x32-10 of a number: twice 32 random bits, each in a uint64.

    It suits TVM, which tells LLVM that no sum and no product wraps around: none of these does.
    """
    counter = let(number ^ key[1], "counter")
    low, high = let(counter & _word(_HALF), "low"), let(counter >> _word(32), "high")
    for n in range(_ROUNDS):
        product = let(low * _word(_MULTIPLIER), "product")
        mixed = ((key[0] >> _word(32)) + _word(n * _STEP)) & _word(_HALF)
        low, high = (
            let((product >> _word(32)) ^ mixed ^ high, "low"),
            let(product & _word(_HALF), "high"),
        )
    return low, high


def _cos_of_turns(let: Lets, turns: tirx.Expr) -> tirx.Expr:
    """cos(2 pi x) for x from 0 to 1."""
    if str(turns.ty.dtype) == "float64":
        return tirx.cos(2 * math.pi * turns)
    # sin(y) for y within a quarter turn: what Taylor's series lacks is below 1e-9.
    y = let((tirx.abs(turns - 0.5) - 0.25) * (2 * math.pi), "angle")
    square = let(y * y, "square")
    series: tirx.Expr = tirx.const(1 / math.factorial(13), "float32")
    for power in (11, 9, 7, 5, 3, 1):
        sign = -1 if power % 4 == 3 else 1
        series = series * square + sign / math.factorial(power)
    return y * series


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Bernoulli"): bernoulli,
    ("", "Dropout"): dropout,
    ("", "Multinomial"): multinomial,
    ("", "RandomNormal"): random_normal,
    ("", "RandomNormalLike"): random_normal,
    ("", "RandomUniform"): random_uniform,
    ("", "RandomUniformLike"): random_uniform,
}
