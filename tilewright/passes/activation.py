"""Activations written as several operators that follow nothing a group could start from.

Before   y = x * sigmoid(x)
After    y = activation(x)
"""

from __future__ import annotations

from tilewright.ops import ActivationSpec
from tilewright.passes.activations import activation, step_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.pattern import Any, Graph, Match, Pattern
from tilewright.passes.relax_constants import is_constant
from tilewright.passes.shapes import shape_of


def pattern() -> Pattern:
    """Any activation of anything."""
    return activation(Any("x"))


def accept(match: Match, graph: Graph) -> ActivationSpec | Decline:
    """An ActivationSpec."""
    shape = shape_of(match["x"])
    if is_constant(graph.bound(match["x"])[1]):
        return Decline("the input is a constant", at=match["x"], near=False)
    if shape is None:
        return Decline("the input's shape is not known", at=match["x"], mend="use --shape")
    return ActivationSpec(str(match["x"].ty.dtype), step_of(match, graph), shape)


ACTIVATION = Fusion("activation", pattern(), accept, at_least=2)
