"""Attention against float64: operands from joint projections, every kind of mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.targets.rules.lowering import AVX2, run_group
from tilewright.ops import AttentionSpec
from tilewright.ops.attention import Operand, View
from tilewright.targets import Target
from tilewright.targets.catalog import CATALOG
from tilewright.targets.rules.rule import Argument, GroupCall

SPLIT = (0, 2, 1, 3)


def spec_of(
    sizes: tuple[int, ...], operands: tuple[Operand, ...], y: tuple[View, ...], fields: dict
) -> AttentionSpec:
    """`sizes`: batch, heads, heads of keys, queries, keys, size of a head, of a value."""
    scale = sizes[5] ** -0.5
    spec = AttentionSpec("float32", *sizes, *operands, y, scale)
    return replace(spec, **fields)


def _joint(batch: int, heads: int, tokens: int, size: int, **fields: object) -> AttentionSpec:
    """Self-attention whose q, k, v are slices of one projection, with heads merged again."""
    width = heads * size
    shape = (batch, tokens, 3 * width)

    def operand(number: int, order: tuple[int, ...]) -> Operand:
        cut = ("slice", (2, number * width, (number + 1) * width, 1))
        split = ("reshape", (batch, tokens, heads, size))
        return Operand(0, shape, (cut, split, ("transpose", order)))

    operands = (operand(0, SPLIT), operand(1, (0, 2, 3, 1)), operand(2, SPLIT))
    y = (("transpose", SPLIT), ("reshape", (batch, tokens, width)))
    return spec_of((batch, heads, heads, tokens, tokens, size, size), operands, y, fields)


def cross(
    lead: tuple[int, int, int], queries: int, keys: int, sizes: tuple[int, int], **fields: object
) -> AttentionSpec:
    """q, k, v with their own arrays; `lead` is batch, heads, heads of keys."""
    batch, heads, shared = lead
    size, value_size = sizes

    def repeated(width: int) -> tuple[View, ...]:
        if shared == heads:
            return ()
        return (
            ("reshape", (batch, shared, 1, keys, width)),
            ("expand", (batch, shared, heads // shared, keys, width)),
            ("reshape", (batch, heads, keys, width)),
        )

    turned = ("transpose", (0, 1, 3, 2))
    operands = (
        Operand(0, (batch, heads, queries, size), ()),
        Operand(1, (batch, shared, keys, size), (*repeated(size), turned)),
        Operand(2, (batch, shared, keys, value_size), repeated(value_size)),
    )
    return spec_of((*lead, queries, keys, size, value_size), operands, (), fields)


def _viewed(x: np.ndarray, views: tuple[View, ...]) -> np.ndarray:
    for name, numbers in views:
        if name == "reshape":
            x = x.reshape(numbers)
        elif name == "transpose":
            x = x.transpose(numbers)
        elif name == "expand":
            x = np.broadcast_to(x, numbers)
        else:
            for axis, *cut in zip(*[iter(numbers)] * 4, strict=True):
                x = x[(slice(None),) * axis + (slice(*cut),)]
    return x


def _exact(spec: AttentionSpec, arrays: dict[str, np.ndarray]) -> np.ndarray:
    def of(role: str) -> np.ndarray:
        operand = getattr(spec, role)
        name = "qkv"[operand.source]
        return _viewed(arrays[name].astype(np.float64), operand.views)

    s = of("q") @ of("k") * spec.scale
    if spec.softcap:
        s = spec.softcap * np.tanh(s / spec.softcap)
    if spec.bias is not None:
        s = s + arrays["bias"]
    if spec.mask != "none":
        mask = arrays["mask"]
        whole = s.shape
        if mask.ndim == 5:
            s = s.reshape(-1, mask.shape[1], *whole[1:])
        s = {
            "add": lambda: s + mask,
            "where_keep": lambda: np.where(mask, s, spec.fill),
            "where_drop": lambda: np.where(mask, spec.fill, s),
        }[spec.mask]()
        s = s.reshape(whole)
    with np.errstate(invalid="ignore"):
        e = np.exp(s - s.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    if spec.guarded:
        p = np.where(np.isnan(p), 0, p)
    return _viewed(p @ of("v"), spec.y)


def _arrays(spec: AttentionSpec, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    operands = {operand.source: operand for operand in (spec.q, spec.k, spec.v)}
    arrays = {
        "qkv"[source]: rng.standard_normal(operand.shape, np.float32)
        for source, operand in sorted(operands.items())
    }
    if spec.bias is not None:
        arrays["bias"] = rng.standard_normal(spec.bias, np.float32)
    if spec.mask != "none":
        arrays["mask"] = rng.random(spec.mask_shape) < 0.5
        if spec.mask == "add":
            arrays["mask"] = np.where(arrays["mask"], np.float32(0), np.float32(-np.inf))
    return arrays


def check(
    spec: AttentionSpec,
    arrays: dict[str, np.ndarray] | None = None,
    constants: tuple[str, ...] = (),
    target: Target = AVX2,
) -> np.ndarray:
    arrays = arrays or _arrays(spec)
    exact = _exact(spec, arrays)
    arguments = tuple(
        Argument(a.shape, str(a.dtype), a if role in constants else None)
        for role, a in arrays.items()
    )
    # q, k and v may be one argument.
    places = {"k": 0, "v": 0} | {role: place for place, role in enumerate(arrays)}
    result = Argument(exact.shape, "float32")
    name, y = run_group(GroupCall("group", spec, arguments, places, result), arrays, target)
    assert name == "attention"
    # A few roundings of the largest score, which the exponential passes on.
    np.testing.assert_allclose(y, exact, rtol=2e-5, atol=4e-6)
    return y


@settings(max_examples=examples(9), deadline=None)
@given(
    batch=st.integers(1, 3),
    heads=st.integers(1, 3),
    tokens=st.integers(1, 45),
    size=st.sampled_from((1, 3, 8, 17, 32)),
)
def test_slices_of_a_projection(batch, heads, tokens, size):
    check(_joint(batch, heads, tokens, size))


def test_every_vector_width():
    for target in CATALOG:
        if target.name in ("x86-64", "x86-64-avx", "x86-64-avx2"):
            check(_joint(1, 2, 37, 16), target=target)


@settings(max_examples=examples(8), deadline=None)
@given(
    queries=st.integers(1, 40),
    keys=st.integers(1, 40),
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 40)),
    shared=st.sampled_from((1, 2, 4)),
)
def test_cross_attention_with_shared_keys(queries, keys, sizes, shared):
    check(cross((2, 4, shared), queries, keys, sizes))


def test_several_blocks_of_keys_and_stretches_of_queries():
    """More keys than a block has, and more queries than a piece."""
    check(cross((1, 1, 1), 301, 557, (16, 24)))


MASKS = {
    "keys": (2, 1, 1, 21),
    "queries": (1, 1, 19, 1),
    "both": (1, 1, 19, 21),
    "all": (2, 3, 19, 21),
    "two axes": (19, 21),
    "windows": (1, 2, 1, 19, 21),
}


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("mask", ["add", "where_keep", "where_drop"])
def test_masks(mask, shape, constant):
    fill = None if mask == "add" else -1e4
    spec = cross((2, 3, 3), 19, 21, (8, 8), mask=mask, mask_shape=shape, fill=fill, guarded=True)
    check(spec, constants=("mask",) if constant else ())


def test_bias_before_the_mask_and_cap():
    spec = cross((2, 3, 3), 19, 21, (8, 8), mask="add", mask_shape=(2, 1, 1, 21), guarded=True)
    check(replace(spec, bias=(1, 3, 19, 21), softcap=2.0))


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("keys", [21, 600])
def test_rows_without_keys_are_nan_or_0(keys, guarded):
    spec = cross((1, 1, 1), 9, keys, (8, 8), mask="add", mask_shape=(1, 1, 9, keys))
    arrays = _arrays(spec)
    arrays["mask"][:, :, 3] = -np.inf
    # Hidden in the first blocks only: what comes later must not suffer.
    arrays["mask"][:, :, 4, :-2] = -np.inf
    arrays["mask"][:, :, 4, -2:] = 0
    y = check(replace(spec, guarded=guarded), arrays)
    assert np.isfinite(np.delete(y, 3, axis=2)).all()
    assert (y[:, :, 3] == 0).all() if guarded else np.isnan(y[:, :, 3]).all()


@pytest.mark.parametrize("queries, keys", [(37, 37), (300, 300), (5, 29), (600, 290)])
def test_causal_mask_is_not_read(queries, keys):
    shape = (queries, keys)
    mask = np.where(np.tri(*shape, dtype=bool), np.float32(0), np.float32(-np.inf))
    spec = cross((1, 2, 2), *shape, (8, 8), mask="add", mask_shape=shape)
    arrays = _arrays(spec) | {"mask": mask}
    spec = replace(spec, causal=True, fill=-np.inf)
    exact = _exact(spec, arrays)
    check(spec, arrays | {"mask": mask}, constants=("mask",))
    assert np.isfinite(exact).all()


def test_nan_stays_in_its_row():
    spec = _joint(1, 1, 21, 8)
    arrays = _arrays(spec)
    arrays["q"][0, 3, :8] = np.nan
    y = check(spec, arrays)
    assert np.isnan(y[0, 3]).all()
    assert np.isfinite(np.delete(y, 3, axis=1)).all()
