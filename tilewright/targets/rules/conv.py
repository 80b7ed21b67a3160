"""Convolutions, channels last, as products whose rows are windows of the input.

    out[n, oh, ow, :] = sum over kh, (kw, ic) of x[n, oh s + kh, ow s + kw, ic] * w[kh, (kw, ic), :]

For one kh the elements of a window lie side by side in memory, so a row of the product is a few
stretches of x: nothing is copied (no im2col). A 1x1 convolution is one stretch, a matrix product.
Where the convolution pads, x is copied once into a larger array with zeros around it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules import conv_grouped, conv_narrow_groups, depthwise, pool
from tilewright.targets.rules.blocking import Blocking, default_blocking
from tilewright.targets.rules.borders import padded
from tilewright.targets.rules.contraction import Product, contraction
from tilewright.targets.rules.epilogue import Epilogue, operands_of
from tilewright.targets.rules.geometry import Geometry
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Names, Packed, Rule
from tilewright.targets.rules.tir import Index, index
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target


def blocking_of(name: str, g: Geometry, target: Target) -> Blocking:
    """The knobs of a convolution as a product over its windows."""
    depth = g.kernel[0] * g.kernel[1] * g.channels
    runs = _windows(g).runs
    return default_blocking(name, g.positions, g.out_channels, depth, target, runs)


def _windows(g: Geometry) -> Reduction:
    """What is summed over, seen from where a window begins."""
    (kh, kw), (dh, dw), wide, c = g.kernel, g.dilation, g.padded[1], g.channels
    if dw == 1:
        return Reduction(kh, kw * c, lambda j: j * (dh * wide * c))
    return Reduction(
        kh * kw,
        c,
        lambda j: (tirx.floordiv(j, kw) * (dh * wide) + tirx.floormod(j, kw) * dw) * c,
    )


def product(
    name: str,
    x: Given | int,
    g: Geometry,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
    scaled: Callable[[Packed, int], int] | None = None,
) -> Launch:
    """The convolution of an x that needs no padding, as a product over its windows.

    `scaled` gives the number of the result that holds the packed weights times something; panels
    are as wide as its second argument says.
    """
    (kh, kw), c, n, m = g.kernel, g.channels, g.out_channels, g.positions
    lanes = lanes_of(target)
    blocking = blocking_of(name, g, target)
    depth, wide = kh * kw * c, blocking.vectors * lanes

    def columns() -> np.ndarray:
        return w.reshape(n, c, kh, kw).transpose(2, 3, 1, 0).reshape(depth, n)

    packed = packed_columns((depth, n), wide, lanes, columns)
    k = WeightedKernel(name, g.x_padded, packed, g.y_last, steps, arrays, lanes)

    def store(r: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
        return k.store(index(r) * n + column, column, width, value)

    product = Product(
        m=m,
        n=n,
        a=k.x,
        row=g.window,
        reduction=_windows(g),
        b=k.w,
        row_step=g.strides[1] * c,
        repeats=k.kernel.size(g.repeats),
        neighbours=g.windows,
        begin=k.begin,
    )
    nest = contraction(product, blocking, store, target)
    source = None if scaled is None else scaled(packed, wide)
    return k.launch(nest, x, source)


def convolution(
    names: Names,
    spec: ConvSpec,
    x: Given | int,
    w: np.ndarray,
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
    first: int = 0,
    what: str = "conv",
) -> tuple[Launch, ...]:
    """Everything of `spec`: padding, product, pool.

    `first` is the number of the first result, and `what` the convolution's part in its group.
    """
    g = Geometry(spec)
    steps, pools = split(spec.epilogue)
    launches: list[Launch] = []

    def add(launch: Launch) -> int:
        launches.append(launch)
        return first + len(launches) - 1

    if spec.depthwise and g.out_channels == g.channels:
        y = add(depthwise.launch(names.next(what), x, g, w, steps, arrays, target))
    elif g.groups > 1 and conv_narrow_groups.is_narrow(g, target):
        y = add(conv_narrow_groups.product(names.next(what), x, g, w, steps, arrays, target))
    else:
        if g.pads:
            x = add(padded(names.next("pad"), x, g.x_last, g.bordered, target))
        nest = product if spec.groups == 1 else conv_grouped.product
        y = add(nest(names.next(what), x, g, w, steps, arrays, target))
    return (*launches, *pooled(names, y, g.y_last, pools, target))


def split(steps: tuple[Step, ...]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps that are done in the store, and the pools after them."""
    pools = tuple(step for step in steps if step.name == "max_pool")
    return tuple(step for step in steps if step not in pools), pools


def pooled(
    names: Names, y: int, shape: Shape, pools: tuple[Step, ...], target: Target
) -> tuple[Launch, ...]:
    """The pools over a convolution's result of `shape`, which launch `y` makes."""
    return tuple(pool.max_launch(names.next("pool"), y, shape, step, target) for step in pools)


def refuses(spec: ConvSpec, most_axes: int = 2) -> str | None:
    """Why there is no kernel for `spec`; None where there is."""
    if not all(isinstance(size, int) for size in spec.x[2:]):
        return "its spatial sizes are open"
    return refuses_kind(spec, most_axes)


def refuses_kind(spec: ConvSpec, most_axes: int = 2) -> str | None:
    """Why there is no kernel for such a convolution, whatever its spatial sizes."""
    axes = len(spec.x) - 2
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    if spec.transposed:
        return "it is transposed"
    if axes > most_axes:
        return f"it has {axes} spatial axes"
    if not isinstance(spec.x[1], int):
        return "its channels are open"
    if axes != 2 and any(step.name == "max_pool" for step in spec.epilogue):
        return f"it pools, over {axes} axis" if axes == 1 else f"it pools, over {axes} axes"
    return Epilogue.refuses(split(spec.epilogue)[0], 1 - len(spec.x))


def _refuses(call: GroupCall, target: Target) -> str | None:
    return refuses(call.spec)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    x, w, names = Given("x", channels_last=True), call.get("w").array, Names(call.name)
    launches = convolution(names, spec, x, w, operands(call), target)
    return Lowered(launches, channels_last=True)


def operands(call: GroupCall) -> tuple[np.ndarray | Given, ...]:
    """The operands of the steps, channels last."""
    return channels_last(operands_of(call.spec.epilogue, call))


def channels_last(arrays: tuple[np.ndarray | Given | int, ...]) -> tuple:
    """The operands of a convolution's steps: residuals have their channels last."""
    return tuple(
        Given(array.role, channels_last=True) if isinstance(array, Given) else array
        for array in arrays
    )


CONV = Rule("conv", ConvSpec, _refuses, _lower)
