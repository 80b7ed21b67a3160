"""Which functions of a module hold the model's operators: `main`, and one for each loop's body.

Passes look at each of them as if it were a model of its own.
"""

from __future__ import annotations

import tvm
from tvm import relax

MAIN = "main"


def graphs(mod: tvm.IRModule) -> list[str]:
    """The names of the functions that are neither kernels nor groups of operators; `main` first."""
    names = {
        var.name_hint
        for var, function in mod.functions_items()
        if isinstance(function, relax.Function)
        and not (function.attrs and function.attrs.get("Primitive"))
    }
    return [MAIN, *sorted(names - {MAIN})]
