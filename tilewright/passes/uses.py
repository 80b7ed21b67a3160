"""Who reads a value: what every fusion must know before it swallows one."""

from __future__ import annotations

from collections import Counter, defaultdict

from tvm import relax

# Stands for the function's result among the readers of a variable.
RESULT = "result"


def readers_of(function: relax.Function) -> dict[relax.Var, set[relax.Var | str]]:
    """For each variable of `function`, the variables bound to what reads it, and RESULT."""
    readers: dict[relax.Var, set[relax.Var | str]] = defaultdict(set)
    for block in function.body.blocks:
        for binding in block.bindings:
            for var in relax.analysis.all_vars(binding.value):
                readers[var].add(binding.var)
    for var in relax.analysis.all_vars(function.body.body):
        readers[var].add(RESULT)
    return readers


def count_readers(function: relax.Function) -> Counter[relax.Var]:
    """For each variable of `function`, how many bindings read it; the result is a reader too."""
    return Counter({var: len(found) for var, found in readers_of(function).items()})
