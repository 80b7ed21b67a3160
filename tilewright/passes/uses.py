"""Who reads a value: what every fusion must know before it swallows one."""

from __future__ import annotations

from collections import Counter

from tvm import relax


def count_readers(function: relax.Function) -> Counter[relax.Var]:
    """For each variable of `function`, how many bindings read it; the result is a reader too."""
    readers: Counter[relax.Var] = Counter()
    for block in function.body.blocks:
        for binding in block.bindings:
            readers.update(set(relax.analysis.all_vars(binding.value)))
    readers.update(set(relax.analysis.all_vars(function.body.body)))
    return readers
