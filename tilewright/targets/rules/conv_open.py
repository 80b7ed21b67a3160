"""Convolutions whose spatial sizes are open, channels last.

groups = 1     x copied with zeros around it; a product whose rows are windows (conv.py)
depthwise      for outputs in a row, for vectors of channels: the taps that are inside the input
transposed     where windows do not overlap: a product for each place in the window

As the rules for known sizes do it, but for what those know of the ends of rows: here it is computed
where a row begins. Outputs whose windows are inside need no comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import ConvSpec, Step
from tilewright.ops.spec import Dim
from tilewright.targets.rules import conv
from tilewright.targets.rules.blocking import default_blocking
from tilewright.targets.rules.contraction import Product, contraction
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.register_tile import Reduction, lanes_of
from tilewright.targets.rules.rule import (
    Extent,
    Given,
    GroupCall,
    Launch,
    Lowered,
    Packed,
    PaddedSize,
    Rule,
)
from tilewright.targets.rules.tir import (
    Flat,
    Index,
    Kernel,
    branch,
    copy,
    fill,
    index,
    local,
    loop,
    opaque,
    pieces,
    seq,
)
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target

# Outputs side by side and vectors of channels in a tile of a depthwise convolution.
POSITIONS, VECTORS = 4, 2


@dataclass(frozen=True)
class _Plan:
    """What is known of a convolution: two spatial axes always, a 1-D one has one row."""

    batch: Dim
    size: tuple[Dim, Dim]
    out: tuple[Dim, Dim]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    begins: tuple[int, int]
    ends: tuple[int, int]
    channels: int
    out_channels: int
    flat: bool

    def shape(self, sizes: tuple[Extent, ...], channels: int) -> tuple[Extent, ...]:
        """A tensor of `sizes`, channels last, as the model has its axes."""
        return (self.batch, *(sizes[1:] if self.flat else sizes), channels)


def _plan(spec: ConvSpec, result: tuple[Dim, ...]) -> _Plan:
    flat = len(spec.x) == 3

    def two(values: tuple, first: Dim) -> tuple:
        return (first, *values) if flat else tuple(values)

    half = len(spec.padding) // 2
    return _Plan(
        spec.x[0],
        two(spec.x[2:], 1),
        two(result[2:], 1),
        two(spec.w[2:], 1),
        two(spec.strides, 1),
        two(spec.dilation, 1),
        two(spec.padding[:half], 0),
        two(spec.padding[half:], 0),
        spec.x[1],
        result[1],
        flat,
    )


def _padded(name: str, p: _Plan, target: Target) -> tuple[Launch, tuple[Dim, Dim]]:
    """X with zeros around it, and what its sizes are called."""
    lanes = lanes_of(target)
    sizes = tuple(
        n + before + after if isinstance(n, int) else PaddedSize(n, before + after)
        for n, before, after in zip(p.size, p.begins, p.ends, strict=True)
    )
    names = tuple(
        n if isinstance(n, int) else f"padded {axis}"
        for n, axis in zip(sizes, ("h", "w"), strict=True)
    )
    kernel = Kernel(name)
    x = kernel.param(p.shape(p.size, p.channels), "float32", "x")
    y = kernel.param(p.shape(names, p.channels), "float32", "y")
    (height, width), (tall, wide) = map(kernel.size, p.size), map(kernel.size, names)
    left, right = p.begins[1] * p.channels, p.ends[1] * p.channels

    def line(at: tirx.Expr) -> Stmt:
        image, h = tirx.floordiv(at, tall), tirx.floormod(at, tall) - p.begins[0]
        begin, source = at * wide * p.channels, (image * height + h) * width * p.channels

        row = seq(
            [
                *([fill(y, begin, left, lanes)] if left else []),
                _copied(y, begin + left, x, source, width * p.channels, lanes),
                *([fill(y, begin + left + width * p.channels, right, lanes)] if right else []),
            ]
        )
        empty = loop(wide, lambda c: fill(y, begin + c * p.channels, p.channels, lanes), "column")
        return branch(tirx.all(h >= 0, h < height), row, empty) if sum(_ends(p, 0)) else row

    body = loop(kernel.size(p.batch) * tall, line, "line", parallel=True)
    source = Given("x", channels_last=True)
    shape = p.shape(sizes, p.channels)
    return Launch(kernel.finish(body), (source,), shape, "float32"), names


def _copied(y: Flat, at: Index, x: Flat, source: Index, length: Index, lanes: int) -> Stmt:
    """y[at ...] = x[source ...], for a length that may be open."""
    if isinstance(length, int):
        return copy(y, at, x, source, length, lanes)
    full = tirx.floordiv(length, lanes)

    def move(i: Index, n: int) -> Stmt:
        return y.store(at + i, x.load(source + i, n), n)

    return seq(
        [
            loop(full, lambda i: move(i * lanes, lanes), "i"),
            loop(length - full * lanes, lambda i: move(full * lanes + i, 1), "i"),
        ]
    )


def _ends(p: _Plan, axis: int) -> tuple[int, int]:
    return p.begins[axis], p.ends[axis]


def _product(
    name: str,
    x: Given | int,
    size: tuple[Dim, Dim],
    p: _Plan,
    w: np.ndarray,
    shape: tuple[Dim, ...],
    steps: tuple[Step, ...],
    arrays: tuple,
    target: Target,
) -> Launch:
    """The convolution of an x of `size` that needs no padding, as a product over its windows."""
    (kh, kw), c, n, lanes = p.kernel, p.channels, p.out_channels, lanes_of(target)
    (sh, sw), (dh, dw), depth = p.strides, p.dilation, kh * kw * c
    runs = 1 if kh == kw == 1 else kh if dw == 1 else kh * kw
    blocking = default_blocking(name, None, n, depth, target, runs)

    def columns() -> np.ndarray:
        return w.reshape(n, c, kh, kw).transpose(2, 3, 1, 0).reshape(depth, n)

    packed = packed_columns((depth, n), blocking.vectors * lanes, lanes, columns)
    k = WeightedKernel(name, p.shape(size, c), packed, shape, steps, arrays, lanes)
    (tall, wide), (oh, ow) = map(k.kernel.size, size), map(k.kernel.size, p.out)
    plain = (kh, kw, sh, sw) == (1, 1, 1, 1)

    def window(position: Index) -> Index:
        if plain:
            return position * c
        line, column = tirx.floordiv(position, ow), tirx.floormod(position, ow)
        image, h = tirx.floordiv(line, oh), tirx.floormod(line, oh)
        return ((image * tall + h * sh) * wide + column * sw) * c

    def side_by_side(first: Index, count: int) -> list[Index]:
        """Windows from `first` on, of which at most one begins a line, for `count` up to `ow`."""
        line, column = tirx.floordiv(first, ow), tirx.floormod(first, ow)
        h = tirx.floormod(line, oh)
        # From behind a line's end to the next line, and at the last one to the next image.
        more = tirx.Select(h + 1 >= oh, (tall - oh * sh) * wide * c, index(0))
        jump = (sh * wide - ow * sw) * c + more
        begin = window(first)
        return [
            begin + r * sw * c + tirx.Select(column + r >= ow, jump, index(0)) for r in range(count)
        ]

    def offset(j: tirx.Expr) -> Index:
        if dw == 1:
            return j * (dh * wide * c)
        return (tirx.floordiv(j, kw) * (dh * wide) + tirx.floormod(j, kw) * dw) * c

    product = Product(
        m=k.kernel.size(p.batch) * oh * ow,
        n=n,
        a=k.x,
        row=window,
        reduction=Reduction(runs, depth // runs, offset if runs > 1 else lambda j: 0),
        b=k.w,
        row_step=c if plain else 0,
        begin=k.begin,
    )

    def store(row: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
        return k.store(index(row) * n + column, column, width, value)

    if plain or blocking.rows == 1:
        nest = contraction(product, blocking, store, target)
    else:
        # Dividing for each row of a tile costs a fifth of the time.
        quick = contraction(replace(product, neighbours=side_by_side), blocking, store, target)
        narrow = contraction(product, replace(blocking, rows=1), store, target)
        nest = branch(index(ow) >= blocking.rows, quick, narrow)
    return k.launch(nest, x)


def _spread(
    name: str,
    x: Given,
    p: _Plan,
    w: np.ndarray,
    shape: tuple[Dim, ...],
    steps: tuple[Step, ...],
    arrays: tuple,
    target: Target,
) -> Launch:
    """A transposed convolution whose kernel is its stride; `w` is [in, out, *kernel]."""
    (kh, kw), c, n, lanes = p.kernel, p.channels, p.out_channels, lanes_of(target)
    blocking = default_blocking(name, None, n, c, target, runs=1)
    places = [(a, b) for a in range(kh) for b in range(kw)]
    taps = w.reshape(c, n, kh, kw)
    each = [
        packed_columns((c, n), blocking.vectors * lanes, lanes, lambda a=a, b=b: taps[:, :, a, b])
        for a, b in places
    ]
    whole = Packed((len(each), *each[0].shape), lambda: np.stack([part.make() for part in each]))
    k = WeightedKernel(name, p.shape(p.size, c), whole, shape, steps, arrays, lanes)
    height, width = map(k.kernel.size, p.size)

    def product(number_of: int, a: int, b: int) -> Stmt:
        def store(row: Index, column: Index, size: int, value: tirx.Expr) -> Stmt:
            line, at = tirx.floordiv(index(row), width), tirx.floormod(index(row), width)
            place = (line * kh + a) * (width * kw) + at * kw + b
            return k.store(place * n + column, column, size, value)

        made = Product(
            m=k.kernel.size(p.batch) * height * width,
            n=n,
            a=k.x,
            row=lambda r: r * c,
            reduction=Reduction(1, c),
            b=k.w,
            b_base=number_of * each[0].size,
            row_step=c,
            begin=k.begin,
        )
        return contraction(made, blocking, store, target)

    return k.launch(seq(product(i, a, b) for i, (a, b) in enumerate(places)), x)


class _Depthwise:
    """The loop nest of a depthwise convolution."""

    def __init__(self, p: _Plan, k: WeightedKernel, lanes: int) -> None:
        self._p, self._k, self._lanes = p, k, lanes
        self._height, self._width = map(k.kernel.size, p.size)
        self._lines, self._columns = map(k.kernel.size, p.out)

    def whole(self) -> Stmt:
        """Pieces are a few channels of a line: late layers have few lines, and many channels."""
        p, wide = self._p, VECTORS * self._lanes
        full, rest = divmod(p.channels, wide)
        spans = full + bool(rest)

        def piece(number: tirx.Expr) -> Stmt:
            at, place = tirx.floordiv(number, spans), tirx.floormod(number, spans)
            image, h = tirx.floordiv(at, self._lines), tirx.floormod(at, self._lines)
            return opaque(
                image, "image", lambda i: opaque(h, "h", lambda h: channels(at, i, h, place))
            )

        def channels(at: tirx.Expr, image: tirx.Expr, h: tirx.Expr, place: tirx.Expr) -> Stmt:
            whole = opaque(place * wide, "first", lambda f: self._line(at, image, h, f, wide))
            if not rest:
                return whole
            tail = self._line(at, image, h, index(full * wide), rest)
            return branch(place < full, whole, tail) if full else tail

        pieces = self._k.kernel.size(p.batch) * self._lines * spans
        return loop(pieces, piece, "piece", parallel=True)

    def _line(
        self, at: tirx.Expr, image: tirx.Expr, h: tirx.Expr, first: Index, width: int
    ) -> Stmt:
        """Line `h` of an image, line `at` of all, in `width` channels from `first` on."""
        p, columns = self._p, self._columns
        stride, span = p.strides[1], (p.kernel[1] - 1) * p.dilation[1] + 1
        # From `low` on a window begins inside; from `high` on it ends outside.
        low = tirx.min(-(-p.begins[1] // stride), columns)
        high = tirx.floordiv(self._width + p.begins[1] - span, stride) + 1
        high = tirx.max(tirx.min(high, columns), low)

        def tiles(begin: tirx.Expr, count: Index, positions: int, *, checked: bool) -> Stmt:
            return loop(
                count,
                lambda n: opaque(
                    begin + n * positions,
                    "column",
                    lambda c: self._tile(
                        at, image, h, c, (first, width), positions, checked=checked
                    ),
                ),
                "tile",
            )

        many = tirx.floordiv(high - low, POSITIONS)
        after = low + many * POSITIONS
        return seq(
            [
                tiles(index(0), low, 1, checked=True),
                tiles(low, many, POSITIONS, checked=False),
                tiles(after, high - after, 1, checked=False),
                tiles(high, columns - high, 1, checked=True),
            ]
        )

    def _tile(
        self,
        at: tirx.Expr,
        image: tirx.Expr,
        h: tirx.Expr,
        column: tirx.Expr,
        span: tuple[Index, int],
        positions: int,
        *,
        checked: bool,
    ) -> Stmt:
        p, (first, width) = self._p, span
        parts = pieces(width, self._lanes)
        acc, made = local(positions * width, "float32", "acc")
        spots = [(n, a, lanes) for n in range(positions) for a, lanes in parts]
        begun = [acc.store(n * width + a, self._k.begin(first + a, m), m) for n, a, m in spots]

        def tap(kh: tirx.Expr, row: tirx.Expr, kw: int) -> Stmt:
            w0 = column * p.strides[1] - p.begins[1] + kw * p.dilation[1]
            taps = (kh * p.kernel[1] + kw) * p.channels + first
            done = []
            for n, a, lanes in spots:
                place = (row + w0 + n * p.strides[1]) * p.channels + first + a
                term = self._k.x.load(place, lanes) * self._k.w.load(taps + a, lanes)
                here = n * width + a
                done.append(acc.store(here, acc.load(here, lanes) + term, lanes))
            inside = tirx.all(w0 >= 0, w0 < self._width)
            return branch(inside, seq(done)) if checked else seq(done)

        def taps_of(kh: tirx.Expr) -> Stmt:
            line = h * p.strides[0] - p.begins[0] + kh * p.dilation[0]
            row = (image * self._height + line) * self._width
            inside = seq(tap(kh, row, kw) for kw in range(p.kernel[1]))
            return branch(tirx.all(line >= 0, line < self._height), inside)

        stores = []
        for n, a, lanes in spots:
            place = (at * self._columns + column + n) * p.channels + first + a
            stores.append(self._k.store(place, first + a, lanes, acc.load(n * width + a, lanes)))
        return seq([made, *begun, loop(p.kernel[0], taps_of, "kh"), *stores])


def refuses(call: GroupCall) -> str | None:
    """Why there is no kernel for a convolution; None where there is."""
    spec: ConvSpec = call.spec
    if all(isinstance(size, int) for size in spec.x[2:]):
        return "its spatial sizes are known"
    if spec.transposed and not _is_spread(spec):
        return "it is transposed, and its windows overlap or are cut"
    if reason := conv.refuses_kind(replace(spec, transposed=False)):
        return reason
    if any(step.name == "max_pool" for step in spec.epilogue):
        return "it pools over open sizes"
    if spec.groups > 1 and not (spec.depthwise and spec.w[0] == spec.x[1]):
        return "its groups are neither one nor a channel each"
    known = {size for argument in (*call.arguments, call.result) for size in argument.shape}
    if missing := [n for n in (*spec.x, *call.result.shape) if n not in known]:
        return f"no argument has the size {missing[0]}"
    return None


def _refuses(call: GroupCall, target: Target) -> str | None:
    return refuses(call)


def _is_spread(spec: ConvSpec) -> bool:
    """Whether each input of a transposed convolution makes outputs of its own."""
    plain = not any((*spec.padding, *spec.output_padding)) and set(spec.dilation) == {1}
    return plain and spec.groups == 1 and tuple(spec.w[2:]) == tuple(spec.strides)


def _lower(call: GroupCall, target: Target) -> Lowered:
    spec: ConvSpec = call.spec
    p, w = _plan(spec, call.result.shape), call.get("w").array
    shape = (call.result.shape[0], *call.result.shape[2:], p.out_channels)
    arrays, lanes = conv.operands(call), lanes_of(target)
    x: Given | int = Given("x", channels_last=True)
    if spec.transposed:
        made = _spread(call.name, x, p, w, shape, spec.epilogue, arrays, target)
        return Lowered((made,), channels_last=True)
    if spec.groups > 1:
        taps = Packed((p.kernel[0] * p.kernel[1], p.channels), lambda: w.reshape(p.channels, -1).T)
        given = p.shape(p.size, p.channels)
        k = WeightedKernel(call.name, given, taps, shape, spec.epilogue, arrays, lanes)
        nest = _Depthwise(p, k, lanes).whole()
        return Lowered((k.launch(nest, x),), channels_last=True)
    launches, size = [], p.size
    if any((*p.begins, *p.ends)):
        launch, size = _padded(f"{call.name}_pad", p, target)
        launches.append(launch)
        x = 0
    launches.append(_product(call.name, x, size, p, w, shape, spec.epilogue, arrays, target))
    return Lowered(tuple(launches), channels_last=True)


CONV_OPEN = Rule("conv_open", ConvSpec, _refuses, _lower)
