"""Words for writing loop nests as TIR: loops, flat views of buffers, vector loads and stores.

A rule writes its loop nest with these, tile by tile, instead of deriving it with schedule
primitives: what is unrolled is unrolled here, what is a vector is a vector here, and what LLVM
gets is what one reads.
"""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import tvm
from tvm import tirx
from tvm.ir import StringImm
from tvm.s_tir import SBlock, SBlockRealize
from tvm.tirx import (
    AllocBuffer,
    BufferLoad,
    BufferStore,
    DeclBuffer,
    For,
    ForKind,
    PrimFunc,
    SeqStmt,
    Stmt,
    decl_buffer,
)

INDEX = "int32"
# A parallel launch costs a few microseconds: multiply-adds, and elements moved, that take as long.
FEWEST_PRODUCTS = 256 * 1024
FEWEST_ELEMENTS = 16 * 1024
Index = int | tirx.Expr


_outlined: contextvars.ContextVar[bool] = contextvars.ContextVar("outlined", default=False)


@contextlib.contextmanager
def outlined() -> Iterator[None]:
    """Make kernels without their loops: what a rule asks for and notes is known before.

    A search lowers a choice to see what it is; the loops take most of the time.
    """
    token = _outlined.set(True)
    try:
        yield
    finally:
        _outlined.reset(token)


def index(value: Index) -> tirx.Expr:
    """`value` as an index expression."""
    return tirx.IntImm(INDEX, value) if isinstance(value, int) else value


def seq(steps: Iterable[Stmt]) -> Stmt:
    """One statement after the other."""
    flat = list(steps)
    return flat[0] if len(flat) == 1 else SeqStmt(flat)


def loop(
    extent: Index, body: Callable[[tirx.Var], Stmt], name: str, *, parallel: bool = False
) -> Stmt:
    """`for name in range(extent)`; a loop that runs once is its body, in place."""
    if _outlined.get():
        return tirx.Evaluate(index(0))
    if isinstance(extent, int) and extent == 1:
        return body(index(0))
    var = tirx.Var(name, INDEX)
    kind = ForKind.PARALLEL if parallel else ForKind.SERIAL
    return For(var, index(0), index(extent), kind, body(var))


def ceil_div(a: Index, b: int) -> Index:
    """The quotient a / b, rounded up."""
    return -(-a // b) if isinstance(a, int) else tirx.floordiv(a + (b - 1), b)


def digits(number: Index, sizes: Sequence[int]) -> list[Index]:
    """`number` in places of `sizes`, the last of which counts fastest; before them what is left."""
    found: list[Index] = []
    for size in reversed(sizes):
        found.append(tirx.floormod(number, size))
        number = tirx.floordiv(number, size)
    return [number, *reversed(found)]


def worth_threads(work: Index, least: int) -> bool:
    """Whether `work` is enough to pay for waking other threads; open sizes are taken to be."""
    return not isinstance(work, int) or work >= least


def bind(value: Index, name: str, body: Callable[[tirx.Expr], Stmt]) -> Stmt:
    """`name = value`, computed once, for the statements of `body`."""
    if isinstance(value, int):
        return body(index(value))
    var = tirx.Var(name, INDEX)
    return seq([tirx.Bind(var, value), body(var)])


def opaque(value: Index, name: str, body: Callable[[tirx.Expr], Stmt]) -> Stmt:
    """As `bind`, for a value whose definition TVM shall not look into.

    Its code generation writes every address out down to the sizes, to see how it is aligned; with
    divisions by open sizes in it that takes seconds.
    """
    if isinstance(value, int):
        return body(index(value))
    place, made = local(1, INDEX, name)
    return seq([made, place.store(0, value), body(place.load(0))])


def bind_all(
    values: Sequence[Index],
    names: Sequence[str],
    body: Callable[[list[tirx.Expr]], Stmt],
    one: Callable[[Index, str, Callable[[tirx.Expr], Stmt]], Stmt] = bind,
) -> Stmt:
    """`body` with every value computed once, under its name; each of them as `one` does."""

    def rest(done: list[tirx.Expr]) -> Stmt:
        if len(done) == len(values):
            return body(done)
        return one(values[len(done)], names[len(done)], lambda known: rest([*done, known]))

    return rest([])


def opaque_all(values: Sequence[Index], name: str, body: Callable[[list[tirx.Expr]], Stmt]) -> Stmt:
    """`body` with every value computed once, as `opaque` does."""
    return bind_all(values, [f"{name}{n}" for n in range(len(values))], body, opaque)


def branch(condition: tirx.Expr, then: Stmt, otherwise: Stmt | None = None) -> Stmt:
    """`then` where `condition` holds, else `otherwise`."""
    return tirx.IfThenElse(condition, then, otherwise)


def demand(condition: tirx.Expr, message: str) -> Stmt:
    """A run ends in an error that says `message` unless `condition` holds."""
    parts = [StringImm(message)]
    return tirx.AssertStmt(condition, StringImm("ValueError"), parts)


class Flat:
    """A buffer seen as one row of elements, read and written in vectors of any length."""

    def __init__(self, buffer: tirx.Buffer) -> None:
        self.buffer = buffer

    @property
    def size(self) -> int:
        """How many elements it has; all sizes must be known."""
        return math.prod(int(size) for size in self.buffer.shape)

    def load(self, offset: Index, lanes: int = 1) -> tirx.Expr:
        """`lanes` elements from `offset` on."""
        return BufferLoad(self.buffer, [_place(offset, lanes)])

    def splat(self, offset: Index, lanes: int) -> tirx.Expr:
        """One element, in every lane."""
        value = BufferLoad(self.buffer, [index(offset)])
        return value if lanes == 1 else tirx.Broadcast(value, lanes)

    def prefetch(self, offset: Index) -> Stmt:
        """Ask for the cache line of an element that will be read soon."""
        element = BufferLoad(self.buffer, [index(offset)])
        reads, keeps, data = 0, 3, 1  # As LLVM's llvm.prefetch has them.
        return tirx.Evaluate(
            tirx.call_intrin("void", "tirx.prefetch", tirx.address_of(element), reads, keeps, data)
        )

    def store(self, offset: Index, value: tirx.Expr, lanes: int = 1) -> Stmt:
        """Write `lanes` elements from `offset` on."""
        return BufferStore(self.buffer, value, [_place(offset, lanes)])


def _place(offset: Index, lanes: int) -> tirx.Expr:
    return index(offset) if lanes == 1 else tirx.Ramp(index(offset), index(1), lanes)


def local(size: int, dtype: str, name: str) -> tuple[Flat, Stmt]:
    """A small buffer of one thread (registers, where every index is a number)."""
    buffer = decl_buffer((size,), dtype, name, scope="local")
    return Flat(buffer), AllocBuffer(buffer)


def workspace(size: int, dtype: str, name: str) -> tuple[Flat, Stmt]:
    """A buffer of one thread in memory: the runtime keeps it from one call to the next."""
    buffer = decl_buffer((size,), dtype, name)
    return Flat(buffer), AllocBuffer(buffer)


def number(value: float, dtype: str, lanes: int = 1) -> tirx.Expr:
    """A constant, in every lane."""
    scalar = tirx.const(value, dtype)
    return scalar if lanes == 1 else tirx.Broadcast(scalar, lanes)


def pieces(length: int, lanes: int) -> list[tuple[int, int]]:
    """Vectors (start, lanes) that cover `length` elements: full ones, then powers of two."""
    found, start = [], 0
    while start < length:
        size = lanes
        while size > length - start:
            size //= 2
        found.append((start, size))
        start += size
    return found


def copy(y: Flat, at: Index, x: Flat, source: Index, length: int, lanes: int) -> Stmt:
    """y[at ...] = x[source ...], `length` elements in vectors."""
    return by_vectors(length, lanes, lambda i, n: y.store(at + i, x.load(source + i, n), n))


def fill(y: Flat, at: Index, length: int, lanes: int, value: float = 0.0) -> Stmt:
    """y[at ...] = value, `length` elements in vectors."""
    dtype = str(y.buffer.dtype)
    return by_vectors(length, lanes, lambda i, n: y.store(at + i, number(value, dtype, n), n))


def by_vectors(length: int, lanes: int, move: Callable[[Index, int], Stmt]) -> Stmt:
    """`move(start, lanes)` for the whole vectors of `length` elements, then for what is left."""
    full, rest = divmod(length, lanes)
    steps = [loop(full, lambda i: move(i * lanes, lanes), "i")] if full else []
    return seq([*steps, *(move(full * lanes + at, n) for at, n in pieces(rest, lanes))])


class Kernel:
    """A PrimFunc in the making: parameters in order, the result last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._params: list[tirx.Buffer] = []
        self._views: list[Stmt] = []
        self._sizes: dict[str, tirx.Var] = {}

    def param(self, shape: Sequence[int | str], dtype: str, name: str) -> Flat:
        """One more parameter; a size given as text is bound when the kernel is called."""
        sizes = [self.size(s) for s in shape]
        buffer = decl_buffer(sizes, dtype, name)
        length = index(1)
        for size in sizes:
            length = length * index(size)
        flat = decl_buffer((length,), dtype, f"{name}_flat")
        self._params.append(buffer)
        self._views.append(DeclBuffer(flat, data=buffer.data))
        return Flat(flat)

    def size(self, size: int | str) -> Index:
        """A size as an index; the same text is the same variable."""
        if isinstance(size, int):
            return size
        return self._sizes.setdefault(size, tirx.Var(f"n{len(self._sizes)}", INDEX))

    def finish(self, body: Stmt) -> PrimFunc:
        """The function whose body is `body`."""
        # Relax looks for a block at the root of every kernel.
        block = SBlock([], [], [], "root", seq([*self._views, body]))
        function = PrimFunc(self._params, SBlockRealize([], True, block))
        # No two arguments overlap: the memory plan gives every value its own place.
        return function.with_attrs({"tirx.noalias": True, "global_symbol": self.name})


def module_of(kernels: Sequence[PrimFunc]) -> tvm.IRModule:
    """The kernels as a module, each under its own name."""
    return tvm.IRModule({str(k.attrs["global_symbol"]): k for k in kernels})
