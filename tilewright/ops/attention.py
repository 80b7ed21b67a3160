"""Scaled dot product attention."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Dim, Spec, check_sizes


@dataclass(frozen=True)
class AttentionSpec(Spec):
    """softmax(q k^T * scale + mask) v per head (Vaswani et al. 2017, section 3.2.1).

    Sizes are those of the score matrix: `batch` x `heads` x `queries` x `keys`; `head_size` is
    the length of a query, `value_size` of a value. `kv_heads` < `heads` is grouped-query
    attention. `mask` says whether a mask is added or selected; `guarded`, whether rows of NaN
    (all masked) become 0.
    """

    batch: Dim
    heads: Dim
    kv_heads: Dim
    queries: Dim
    keys: Dim
    head_size: Dim
    value_size: Dim
    mask: bool
    guarded: bool

    def __post_init__(self) -> None:
        check_sizes(self, queries=self.queries, keys=self.keys, head_size=self.head_size)
        known = isinstance(self.heads, int) and isinstance(self.kv_heads, int)
        if known and self.heads % max(1, self.kv_heads):
            raise ValueError(f"Attention: {self.heads} heads share {self.kv_heads} keys")
