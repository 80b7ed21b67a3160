"""The memory of a run, off the compiler's own plan: blocks that tensors have one after another.

a = conv(x)      block 0, 3.2 MB
b = relu(a)      block 1, 3.2 MB
c = conv(b)      block 0 again
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.sym import Analyzer

from tilewright.compiler.pipeline import MEMORY_PLAN, Work


@dataclass(frozen=True)
class MemoryPlan:
    """Blocks that are planned, by their sizes in bytes, and tensors that are allocated one by one.

    The latter are results, which outlive the run.
    """

    blocks: Sequence[tirx.Expr]
    tensors: Sequence[relax.TensorType]

    def bytes_at(self, sizes: Mapping[str, int]) -> int:
        """All of it together, with open dimensions of `sizes`."""
        blocks = sum(value_at(size, sizes) for size in self.blocks)
        return blocks + sum(bytes_of(kind, sizes) for kind in self.tensors)


def memory_plan(work: Work) -> MemoryPlan:
    """The plan for a work whose next stage is `plan`; leaves it as it is."""
    with work.tvm_target:
        main = tvm.transform.Sequential(MEMORY_PLAN)(work.mod)["main"]
    blocks, tensors = [], []
    for binding in (binding for block in main.body.blocks for binding in block.bindings):
        name = getattr(getattr(binding.value, "op", None), "name", "")
        if name == "relax.memory.alloc_storage":
            blocks.append(binding.value.args[0].values[0])
        elif name == "relax.builtin.alloc_tensor":
            tensors.append(binding.var.ty)
    return MemoryPlan(blocks, tensors)


def value_at(size: tirx.Expr, sizes: Mapping[str, int]) -> int:
    """A size with open dimensions filled in; what a model computes on the way counts as 1."""
    analyzer = Analyzer()
    for var in tirx.analysis.undefined_vars(size):
        analyzer.bind(var, tirx.IntImm("int64", sizes.get(var.name, 1)), allow_override=True)
    return int(analyzer.simplify(size))


def bytes_of(kind: relax.TensorType, sizes: Mapping[str, int]) -> int:
    """Bytes of a tensor; 0 where its rank or its shape is unknown."""
    if not isinstance(kind.shape, relax.ShapeExpr):
        return 0
    count = math.prod(value_at(size, sizes) for size in kind.shape.values)
    return count * np.dtype(str(kind.dtype)).itemsize
