"""Hypothesis strategies that draw whole ONNX models, legal by construction.

`graphs` goes from operator to operator, wherever types allow it; `models` stacks blocks as people
build networks. Both shrink to few operators, each the simplest that there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
from hypothesis import strategies as st

from tilewright.verification.graph_builder import Builder, Size, Value
from tilewright.verification.graph_layers import LAYERS, activated
from tilewright.verification.graph_operators import (
    ALONG_AXES,
    ELEMENTWISE,
    Draw,
    Operator,
    between,
    chance,
    one_of,
)
from tilewright.verification.graph_rearranging import REARRANGING

_ROWS = (*ELEMENTWISE, *LAYERS, *REARRANGING, *ALONG_AXES)
OPERATORS: dict[str, Operator] = {row.name: row for row in _ROWS}
_FAMILIES = (ELEMENTWISE, LAYERS, REARRANGING, ALONG_AXES)

_SIZES = (4, 1, 2, 3, 5, 7, 8, 6, 9, 16)
_SEEDS = 1 << 16
# What a graph may begin with.
_SHAPES: tuple[Callable[[Draw], tuple[Size, ...]], ...] = (
    lambda draw: (_batch(draw), one_of(draw, *_SIZES)),
    lambda draw: (_batch(draw), one_of(draw, *_SIZES), *[one_of(draw, 8, 6, 5, 7, 12)] * 2),
    lambda draw: (_batch(draw), one_of(draw, "s", *_SIZES), one_of(draw, *_SIZES)),
    lambda draw: (_batch(draw), one_of(draw, *_SIZES), one_of(draw, "s", 8, 5, 11)),
    lambda draw: (_batch(draw), 4, one_of(draw, "h", 8), one_of(draw, "w", 8)),
    lambda draw: tuple(one_of(draw, *_SIZES[:6]) for _ in range(between(draw, 0, 4))),
)


def _batch(draw: Draw) -> Size:
    return one_of(draw, 1, "n", 2, 3)


@st.composite
def graphs(
    draw: st.DrawFn, ops: Sequence[str] | None = None, *, least: int = 3, most: int = 30
) -> onnx.ModelProto:
    """Models of `least` nodes or more, up to about `most`: a row of OPERATORS may add a few.

    `ops` names the rows of OPERATORS to draw from; all by default. Inputs and results of every type
    and rank, several outputs, open dimensions (`n`, `s`, `h`, `w`, of any size from 1 on), values
    that several nodes take, values that nobody takes.
    """
    families = _chosen(ops)
    net = Builder(draw(st.integers(0, _SEEDS - 1), label="seed"))
    dtype = one_of(draw, *["float32"] * 8, "float16", "float64")
    _begin(draw, net, dtype, [row for family in families for row in family])
    nodes = draw(st.integers(least, most), label="nodes")
    # A row may decline; where all do, the graph is left shorter.
    for _ in range(3 * nodes):
        if len(net) >= nodes:
            break
        if chance(draw) and chance(draw) and chance(draw):
            _another_input(draw, net, dtype)
        _go_on(draw, net, families)
    return net.model(_outputs(draw, net))


def _chosen(ops: Sequence[str] | None) -> list[list[Operator]]:
    unknown = sorted(set(ops or ()) - set(OPERATORS))
    if unknown:
        raise ValueError(f"no operator {', '.join(unknown)}; there are {', '.join(OPERATORS)}")
    families = [[row for row in family if ops is None or row.name in ops] for family in _FAMILIES]
    return [family for family in families if family]


def _begin(draw: Draw, net: Builder, dtype: str, rows: Sequence[Operator]) -> None:
    """A first input that some row takes."""
    shapes = [make(draw) for make in draw(st.permutations(_SHAPES))] + [(1, 4, 8, 8)]
    kinds = [(shape, kind) for kind in (dtype, "float32", "int64", "bool") for shape in shapes]
    trial = (Value("x", kind, shape, exact=True) for shape, kind in kinds)
    fits = next(v for v in trial if any(row.takes(v) for row in rows))
    net.input(fits.shape, fits.dtype)
    if any(row.name == "logical" for row in rows) and fits.dtype == "bool":
        net.input(fits.shape, fits.dtype)


def _another_input(draw: Draw, net: Builder, dtype: str) -> None:
    """Shaped as a value that is there, or as it likes."""
    if chance(draw):
        shape = one_of(draw, *_SHAPES)(draw)
    else:
        known = [v for v in net.values if not any(str(n).startswith("computed") for n in v.shape)]
        shape = one_of(draw, *known).shape
    net.input(shape, one_of(draw, dtype, dtype, dtype, "int64", "bool"))


def _go_on(draw: Draw, net: Builder, families: Sequence[Sequence[Operator]]) -> None:
    """One row more, most often from one of the latest values."""
    latest = net.values[-1:-4:-1] if not chance(draw) else net.values[::-1]
    x = one_of(draw, *latest)
    fitting = [[row for row in family if row.takes(x)] for family in families]
    fitting = [family for family in fitting if family]
    if fitting:
        one_of(draw, *one_of(draw, *fitting)).make(draw, net, x)


def _outputs(draw: Draw, net: Builder) -> list[Value]:
    """The last value, and others: ones that nodes take and ones that none does."""
    made = [value for value in net.values if not net.is_input(value)]
    if not made:
        made = [net.add("Identity", net.values[0])]
    last = made[-1]
    more = draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if chance(draw) else []
    loose = [v for v in made if v.name not in net.readers()] if chance(draw) else []
    return list({value.name: value for value in (last, *more, *loose[:6])}.values())


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """Small networks as people build them: of images, of texts, of sequences, of plain numbers."""
    net = Builder(draw(st.integers(0, _SEEDS - 1), label="seed"))
    y = one_of(draw, _perceptron, _image_network, _transformer, _sequence_network)(draw, net)
    return net.model([y])


def _row(draw: Draw, net: Builder, x: Value, *names: str) -> Value:
    """One of the named rows of OPERATORS, if it takes x."""
    rows = [OPERATORS[name] for name in names if OPERATORS[name].takes(x)]
    if not rows:
        return x
    made = one_of(draw, *rows).make(draw, net, x)
    return made if isinstance(made, Value) else x


def _perceptron(draw: Draw, net: Builder) -> Value:
    y = net.input((_batch(draw), one_of(draw, *_SIZES)))
    for _ in range(between(draw, 1, 4)):
        y = activated(draw, net, _row(draw, net, y, "Gemm", "MatMul"))
    return _row(draw, net, y, "Softmax", "LogSoftmax", "Sigmoid")


def _image_network(draw: Draw, net: Builder) -> Value:
    size = one_of(draw, 16, 8, 12, 17)
    y = net.input((_batch(draw), one_of(draw, 3, 1, 4), size, size))
    for _ in range(between(draw, 1, 5)):
        before = y
        y = _row(draw, net, y, "Conv", "Conv", "squeeze_excitation", "MaxPool", "AveragePool")
        y = _row(draw, net, y, "BatchNormalization") if chance(draw) else y
        y = activated(draw, net, y)
        if chance(draw) and before.shape == y.shape:
            y = net.add("Add", before, y)
        elif chance(draw) and before.shape[2:] == y.shape[2:]:
            y = net.add("Concat", before, y, axis=1)
    if chance(draw):
        return _row(draw, net, y, "ConvTranspose", "Resize", "Sigmoid")
    y = net.add("Flatten", net.add("GlobalAveragePool", y), axis=1)
    return _row(draw, net, y, "Gemm")


def _transformer(draw: Draw, net: Builder) -> Value:
    ids = net.input((_batch(draw), one_of(draw, "s", 5, 8)), "int64")
    y = OPERATORS["embedding"].make(draw, net, ids)
    for _ in range(between(draw, 1, 3)):
        y = _row(draw, net, y, "attention")
        y = _row(draw, net, y, "LayerNormalization", "norm_written_out")
        width, hidden = y.shape[-1], one_of(draw, 4, 8, 16)
        wide = net.add("MatMul", y, net.weight("float32", width, hidden, terms=width))
        wide = activated(draw, net, wide)
        narrow = net.weight("float32", hidden, width, terms=hidden)
        y = net.add("Add", y, net.add("MatMul", wide, narrow))
    return _row(draw, net, y, "MatMul", "ReduceMean")


def _sequence_network(draw: Draw, net: Builder) -> Value:
    y = net.input((one_of(draw, "s", 5, 7), _batch(draw), one_of(draw, *_SIZES)))
    for _ in range(between(draw, 1, 2)):
        y = _row(draw, net, y, "LSTM", "GRU", "RNN")
        if y.rank == 4:
            y = net.add("Squeeze", y, net.ints(1)) if y.shape[1] == 1 else _joined(net, y)
    return _row(draw, net, y, "MatMul")


def _joined(net: Builder, y: Value) -> Value:
    """Both directions of a recurrent layer side by side."""
    turned = net.add("Transpose", y, perm=[0, 2, 1, 3])
    return net.add("Reshape", turned, net.ints(0, 0, 2 * y.shape[3]))
