"""Rows looked up in tables and added."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.norm import NormSpec
from tilewright.ops.spec import Shape, Spec, check_sizes


@dataclass(frozen=True)
class EmbeddingSpec(Spec):
    """y = norm((sum of table[ids]) * scale + position), where negative ids count from the end.

    `tables` and `ids` are shapes, one per look-up; `position` that of a constant that is added,
    None where there is none. `scale` is a number, 1 where nothing is multiplied; `norm` the
    normalisation of the sum, or None.
    """

    tables: tuple[Shape, ...]
    ids: tuple[Shape, ...]
    scale: float = 1.0
    position: Shape | None = None
    norm: NormSpec | None = None

    def __post_init__(self) -> None:
        if not self.tables:
            raise ValueError("Embedding: no table")
        if len(self.ids) != len(self.tables):
            raise ValueError(f"Embedding: {len(self.tables)} tables, ids {self.ids}")
        for sizes in (*self.tables, *self.ids):
            check_sizes(self, tables_and_ids=sizes)
