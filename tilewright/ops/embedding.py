"""Rows looked up in tables and added."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Shape, Spec, check_sizes


@dataclass(frozen=True)
class EmbeddingSpec(Spec):
    """y = sum of table[ids] over `tables` (shapes), plus a constant when `position`.

    `ids` is the shape of the indices; `norm` says that layer normalisation follows in the group.
    """

    tables: tuple[Shape, ...]
    ids: Shape
    position: bool
    norm: bool

    def __post_init__(self) -> None:
        check_sizes(self, ids=self.ids)
        if not self.tables:
            raise ValueError("Embedding: no table")
