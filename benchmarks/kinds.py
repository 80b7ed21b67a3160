"""Small graphs of kinds that networks outside the zoo are made of, beside ONNX Runtime.

    python -m benchmarks.kinds [--kinds NAME ...] [--threads 1 2] [--seconds 3]

Each is compiled without tuning; the engines take turns (benchmarks/turns.py). Writes
results/kinds.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine, turns
from benchmarks.latency import OURS, write_inputs
from benchmarks.turns import Engine

THEIRS = "onnxruntime"
OPSET = 18
# That ONNX Runtime reads.
IR_VERSION = 10


class Graph:
    """A graph in the making: nodes whose results are named by their number."""

    def __init__(self, **inputs: tuple[int, ...]) -> None:
        self._inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in inputs.items()
        ]
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        """Drawn so that sums over all axes but the first stay near 1."""
        scale = np.prod(shape[1:] if len(shape) > 2 else shape[:1]) ** -0.5
        return self._constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def numbers(self, *values: int) -> str:
        """A vector of int64."""
        return self._constant(np.array(values))

    def _constant(self, value: np.ndarray) -> str:
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """The name of the node's result, or several."""
        names = [f"y{len(self._nodes)}_{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def model(self, *results: str) -> onnx.ModelProto:
        """The model that gives `results`, floats."""
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in results]
        graph = helper.make_graph(self._nodes, "kind", self._inputs, outputs, self._weights)
        opsets = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        return onnx.shape_inference.infer_shapes(made)


def _layers(rows: int, layers: int = 4, width: int = 960, hidden: int = 4000) -> onnx.ModelProto:
    """Products whose weights no cache holds, as in a decoder that makes `rows` tokens."""
    graph = Graph(x=(rows, width))
    y = "x"
    for _ in range(layers):
        up = graph.node("Relu", graph.node("MatMul", y, graph.weight(width, hidden)))
        y = graph.node("MatMul", up, graph.weight(hidden, width))
    return graph.model(y)


def _halves() -> onnx.ModelProto:
    """The gated MLP of a small vision transformer: one product, cut in two."""
    graph = Graph(x=(1, 257, 192))
    joint = graph.node("MatMul", "x", graph.weight(192, 1024))
    gate, up = graph.node("Split", joint, outputs=2, axis=-1, num_outputs=2)
    active = graph.node("Mul", gate, graph.node("Sigmoid", gate))
    hidden = graph.node("Mul", active, up)
    return graph.model(graph.node("MatMul", hidden, graph.weight(512, 192)))


def _volume() -> onnx.ModelProto:
    graph = Graph(x=(1, 32, 8, 28, 28))
    return graph.model(
        graph.node("Conv", "x", graph.weight(64, 32, 3, 3, 3), pads=[1] * 6, kernel_shape=[3] * 3)
    )


def _of_values(one: tuple[int, ...], other: tuple[int, ...]) -> onnx.ModelProto:
    graph = Graph(x=one, z=other)
    return graph.model(graph.node("MatMul", "x", "z"))


def _einsum() -> onnx.ModelProto:
    graph = Graph(x=(1, 128, 12, 64), z=(1, 128, 12, 64))
    return graph.model(graph.node("Einsum", "x", "z", equation="bqhd,bkhd->bhqk"))


def _image_attention(heads: int, channels: int, side: int) -> onnx.ModelProto:
    """As detectors have it: queries, keys and values of a convolution, values before weights."""
    size, positions = channels // heads, side * side
    graph = Graph(x=(1, channels, side, side))
    joint = graph.node("Conv", "x", graph.weight(3 * channels, channels, 1, 1))
    heads_of = graph.numbers(1, heads, 3 * size, positions)
    parts = graph.node("Reshape", joint, heads_of)
    q, k, v = graph.node("Split", parts, outputs=3, axis=2, num_outputs=3)
    scores = graph.node("MatMul", graph.node("Transpose", q, perm=[0, 1, 3, 2]), k)
    weights = graph.node("Softmax", scores, axis=-1)
    y = graph.node("MatMul", v, graph.node("Transpose", weights, perm=[0, 1, 3, 2]))
    y = graph.node("Reshape", y, graph.numbers(1, channels, side, side))
    return graph.model(graph.node("Conv", y, graph.weight(channels, channels, 1, 1)))


def _column_attention(heads: int, width: int, tokens: int) -> onnx.ModelProto:
    """Tokens as columns, projected by convolutions."""
    size = width // heads
    graph = Graph(x=(1, width, tokens))
    parted = graph.numbers(1, heads, size, tokens)
    q, k, v = (
        graph.node("Reshape", graph.node("Conv", "x", graph.weight(width, width, 1)), parted)
        for _ in range(3)
    )
    turned = [graph.node("Transpose", part, perm=[0, 1, 3, 2]) for part in (q, v)]
    weights = graph.node("Softmax", graph.node("MatMul", turned[0], k), axis=-1)
    y = graph.node("Transpose", graph.node("MatMul", weights, turned[1]), perm=[0, 1, 3, 2])
    return graph.model(graph.node("Reshape", y, graph.numbers(1, width, tokens)))


def _upsampled(how: str) -> onnx.ModelProto:
    graph = Graph(x=(1, 19, 64, 64))
    sizes = graph.numbers(1, 19, 256, 256)
    way = {"mode": "linear", "coordinate_transformation_mode": how}
    return graph.model(graph.node("Resize", "x", "", "", sizes, **way))


def _points() -> onnx.ModelProto:
    graph = Graph(x=(2, 128, 1024))
    features = graph.node("Conv", "x", graph.weight(1024, 128, 1), kernel_shape=[1])
    return graph.model(graph.node("ReduceMax", features, graph.numbers(2), keepdims=0))


def _best() -> onnx.ModelProto:
    graph = Graph(x=(1, 30522))
    values, _places = graph.node("TopK", "x", graph.numbers(5), outputs=2)
    return graph.model(values)


KINDS: dict[str, Callable[[], onnx.ModelProto]] = {
    "one row by weights from memory": lambda: _layers(1),
    "four rows by weights from memory": lambda: _layers(4),
    "gated MLP, halves of one product": _halves,
    "convolution over three axes": _volume,
    "product of two values": lambda: _of_values((1, 512, 512), (1, 512, 512)),
    "products of two values": lambda: _of_values((12, 128, 64), (12, 64, 128)),
    "one row by a value": lambda: _of_values((1, 1, 1024), (1, 1024, 1024)),
    "few rows by values": lambda: _of_values((12, 4, 64), (12, 64, 512)),
    "small products of values": lambda: _of_values((256, 16, 16), (256, 16, 16)),
    "Einsum": _einsum,
    "attention of an image": lambda: _image_attention(4, 256, 20),
    "attention of columns": lambda: _column_attention(12, 768, 128),
    "bilinear resize, half_pixel": lambda: _upsampled("half_pixel"),
    "bilinear resize, align_corners": lambda: _upsampled("align_corners"),
    "maximum over points": _points,
    "TopK of a vocabulary": _best,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure the kinds named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=3.0, help="per kind and threads")
    parser.add_argument("--output", default="kinds", help="name of the results file")
    arguments = parser.parse_args(words)
    rows = {}
    for name in arguments.kinds:
        rows[name] = measure(KINDS[name](), arguments.threads, arguments.seconds)
        machine.write(arguments.output, {"seconds": arguments.seconds, "kinds": rows})
    print_table(rows)
    return 0


def measure(model: onnx.ModelProto, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Both engines on one model, by the number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        path, library, feed = (Path(folder) / name for name in ("m.onnx", "m.so", "feed.npz"))
        onnx.save(model, path)
        tilewright.compile(path, db=False).save(library)
        write_inputs("kind", library, feed)
        engines = [Engine(OURS, OURS, str(library)), Engine(THEIRS, THEIRS, str(path))]
        return {str(n): turns.measure(engines, feed, n, seconds) for n in threads}


def print_table(rows: dict[str, dict[str, Any]]) -> None:
    """One line for each kind and number of threads."""
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("kind", "threads", "ms", "ORT ms", "ORT/ours", "95%"):
        table.add_column(title, justify="left" if title == "kind" else "right")
    for name, row in rows.items():
        for number, run in row.items():
            ratio = run["ratios"][THEIRS]
            medians = [f"{run['engines'][e]['median'] * 1e3:.3f}" for e in (OURS, THEIRS)]
            spread = f"{ratio['low']:.2f} .. {ratio['high']:.2f}"
            table.add_row(name, number, *medians, f"{ratio['median']:.2f}", spread)
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
