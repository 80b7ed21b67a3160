"""Scaled dot product attention."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Dim, Shape, Spec, check_sizes

# How a mask takes part: it is added to the scores, or it says where they are kept or dropped.
MASKS = ("none", "add", "where_keep", "where_drop")

# One rearrangement without arithmetic, and its parameters: ("reshape", (1, 197, 3, 64)).
# "slice" has four per axis: the axis, begin, end, stride.
View = tuple[str, tuple[Dim, ...]]


@dataclass(frozen=True)
class Operand:
    """Where q, k or v comes from: an argument of the group and the views that lead to the product.

    Operands with the same `source` number read the same argument: a joint projection, of which
    each takes a slice. `shape` is the argument's.
    """

    source: int
    shape: Shape
    views: tuple[View, ...]


@dataclass(frozen=True)
class AttentionSpec(Spec):
    """y = softmax(mask(cap(q k^T * scale) + bias)) v per head (Vaswani et al. 2017, section 3.2.1).

    Sizes are those of the score matrix: `batch` x `heads` x `queries` x `keys`; `head_size` is
    the length of a query, `value_size` of a value. `kv_heads` < `heads` is grouped-query
    attention. `scale` is the product of all factors, to 7 digits. `softcap` > 0 caps the scaled
    scores s: softcap * tanh(s / softcap) (Gemma Team 2024, "Gemma 2", section 2).

    `bias` is the shape of what is added before the mask, None for nothing. `mask` is one of
    MASKS, `mask_shape` its shape; one axis more than the scores have splits the batch into
    images and windows (Liu et al. 2021, "Swin", section 3.2). `fill` is the score of what a
    `where` drops or a causal mask hides; `causal` says that the mask is a constant that hides
    exactly the keys after each query. `guarded` says that rows of NaN (all masked) become 0.

    `q`, `k`, `v` say how the operands are read, `y` the views of the result.
    """

    batch: Dim
    heads: Dim
    kv_heads: Dim
    queries: Dim
    keys: Dim
    head_size: Dim
    value_size: Dim
    q: Operand
    k: Operand
    v: Operand
    y: tuple[View, ...] = ()
    scale: float = 1.0
    softcap: float = 0.0
    bias: Shape | None = None
    mask: str = "none"
    mask_shape: Shape | None = None
    fill: float | None = None
    causal: bool = False
    guarded: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, queries=self.queries, keys=self.keys, head_size=self.head_size)
        known = isinstance(self.heads, int) and isinstance(self.kv_heads, int)
        if known and self.heads % max(1, self.kv_heads):
            raise ValueError(f"Attention: {self.heads} heads share {self.kv_heads} keys")
        if self.mask not in MASKS:
            raise ValueError(f"Attention: mask is {self.mask!r}, want one of {', '.join(MASKS)}")
        if (self.mask == "none") != (self.mask_shape is None):
            raise ValueError(f"Attention: mask is {self.mask!r}, its shape {self.mask_shape}")

    @property
    def joint(self) -> bool:
        """Whether operands share a source: heads split from a joint projection."""
        return len({self.q.source, self.k.source, self.v.source}) < 3
