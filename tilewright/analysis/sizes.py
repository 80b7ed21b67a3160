"""The sizes that a task with open dimensions is measured at: the ends of the bounds and the middle.

All dimensions grow together. Between the ends the middle is geometric, as costs are.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from tilewright.compiler.importer.shapes import DEFAULT_BOUNDS
from tilewright.ops.spec import Shape

Sizes = Mapping[str, int]

# What is measured of a dimension that nobody bounds: a batch, rather than an image's height.
LARGEST = 64
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def representatives(bounds: Mapping[str, tuple[int, int]]) -> tuple[Sizes, ...]:
    """Sizes of each dimension, by name, from small to large; {} alone where none is open.

    >>> representatives({"seq": (1, 256)})
    ({'seq': 1}, {'seq': 16}, {'seq': 256})
    """
    ends = {name: _ends(low, high) for name, (low, high) in bounds.items()}
    least = {name: low for name, (low, _) in ends.items()}
    middle = {name: round(math.sqrt(low * high)) for name, (low, high) in ends.items()}
    most = {name: high for name, (_, high) in ends.items()}
    distinct = dict.fromkeys(tuple(sizes.items()) for sizes in (least, middle, most))
    return tuple(dict(items) for items in distinct)


def _ends(low: int, high: int) -> tuple[int, int]:
    low = max(1, low)
    return low, max(low, LARGEST) if high == DEFAULT_BOUNDS[1] else high


def evaluated(shape: Shape, sizes: Sizes) -> tuple[int, ...]:
    """A shape with its open sizes filled in.

    Raises ValueError for a size that is no sum, product or quotient of those in `sizes`.
    """
    return tuple(s if isinstance(s, int) else _value(s, sizes) for s in shape)


def _value(text: str, sizes: Sizes) -> int:
    try:
        return _node(ast.parse(text, mode="eval").body, sizes)
    except (SyntaxError, KeyError, ZeroDivisionError) as error:
        raise ValueError(f"the size {text} is not known before the model runs") from error


def _node(node: ast.expr, sizes: Sizes) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return sizes[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_node(node.operand, sizes)
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_node(node.left, sizes), _node(node.right, sizes))
    raise KeyError(ast.dump(node))
