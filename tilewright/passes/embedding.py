"""Fuse embedding look-ups with the sums and the normalisation after them.

Before   y = layer_norm(take(words, ids) + take(segments, kinds) + positions)
After    y = embedding(words, ids, segments, kinds, positions)

The sum or the normalisation stays outside when something else reads the value before it.
"""

from __future__ import annotations

from tilewright.ops import EmbeddingSpec
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.norm import native_pattern, native_spec
from tilewright.passes.pattern import Any, Constant, Either, Graph, Match, Op, Pattern, maybe
from tilewright.passes.relax_constants import array_of, shortest
from tilewright.passes.shapes import shape_of


def _lookup(table: str, ids: str) -> Pattern:
    """table[ids], with negative ids counted from the end as ONNX's Gather has it."""
    given = Any(ids)
    from_end = Op("relax.add", given, Constant())
    wrapped = Op("relax.where", Op("relax.less", given, Constant(value=0)), from_end, given)
    return Op("relax.take", Constant(table), Either(wrapped, given), name=f"{table}_rows")


def pattern() -> Pattern:
    """One or two look-ups, a constant added, normalised: as much of it as is there."""
    first = _lookup("table", "ids")
    both = Op("relax.add", first, _lookup("table2", "ids2"))
    rows = Either(both, first)
    placed = Op("relax.add", rows, Constant("position"))
    summed = Either(placed, both)
    normed = native_pattern("relax.nn.layer_norm", Either(placed, rows))
    scale = Constant("scale", single=True)
    return Either(normed, summed, maybe(lambda y: Op("relax.multiply", y, scale), first))


def accept(match: Match, graph: Graph) -> EmbeddingSpec | Decline:
    """An EmbeddingSpec; the tables are two-dimensional and looked up by row."""
    tables = tuple(shape_of(match[name]) for name in ("table", "table2") if name in match.values)
    _, take = graph.bound(match["table_rows"])
    ids = tuple(shape_of(match[name]) for name in ("ids", "ids2") if name in match.values)
    if None in ids:
        return Decline("the shape of the ids is not known", at=match["table_rows"])
    if any(len(table) != 2 for table in tables) or int(take.attrs.axis or 0) != 0:
        return Decline(f"the tables are {tables}, want rows of a matrix", at=match["table_rows"])
    scale, position = match.get("scale"), match.get("position")
    return EmbeddingSpec(
        dtype=str(match["table_rows"].ty.dtype),
        tables=tables,
        ids=ids,
        scale=1.0 if scale is None else shortest(array_of(scale).item()),
        position=None if position is None else shape_of(position),
        norm=None if match.get("norm") is None else native_spec(match["norm"], graph),
    )


EMBEDDING = Fusion("embedding", pattern(), accept)
