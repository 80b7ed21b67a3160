"""Every activation function, by name, and which of them a match found with which numbers."""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from tilewright.ops import Step
from tilewright.ops.step import PARAMETERS
from tilewright.passes import activation_forms as forms
from tilewright.passes.pattern import Either, Graph, Match, Pattern, Tagged
from tilewright.passes.relax_constants import array_of, is_constant, shortest

Form = Callable[[Pattern, str], Pattern]

# Name -> form. Order matters: the first that matches wins, so longer forms come first.
ACTIVATIONS: tuple[tuple[str, Form], ...] = (
    ("gelu", forms.gelu),
    ("gelu_tanh", forms.gelu_tanh),
    ("mish", forms.mish),  # before tanh
    ("hard_swish", forms.hard_swish),  # before hard_sigmoid
    ("hard_sigmoid", forms.hard_sigmoid),  # before clip
    ("silu", forms.silu),  # before sigmoid, and before swish with alpha 1
    ("swish", forms.swish),
    ("softplus", forms.softplus),
    ("selu", forms.selu),
    ("elu", forms.elu),
    ("celu", forms.celu),
    ("softsign", forms.softsign),
    ("leaky_relu", forms.leaky_relu),
    ("prelu", forms.prelu),  # after leaky_relu, which has one slope
    ("thresholded_relu", forms.thresholded_relu),
    ("clip", forms.clip),  # before relu: one may be inside
    ("relu", forms.relu),
    ("sigmoid", forms.sigmoid),
    ("tanh", forms.tanh),
)


def activation(x: Pattern, name: str = "activation") -> Pattern:
    """Any activation of `x`; `step_of` tells which."""
    return Either(*[Tagged(form(x, name), name, word) for word, form in ACTIVATIONS])


def step_of(match: Match, graph: Graph, name: str = "activation") -> Step | None:
    """The activation that `match` found under `name` with its parameters; None without one."""
    word = match.get(name)
    if word is None:
        return None
    return Step(word, tuple(_parameter(match, graph, name, p) for p in PARAMETERS[word]))


def _parameter(match: Match, graph: Graph, name: str, parameter: str) -> float:
    for prefix, undo in (("", float), ("-", lambda v: -v), ("1/", lambda v: 1 / v)):
        value = match.get(f"{name}.{prefix}{parameter}")
        if value is not None:
            return shortest(undo(_read(value, graph, parameter)))
    raise KeyError(f"{match[name]}: no form gives {parameter}")


def _read(value: relax.Expr | float, graph: Graph, parameter: str) -> float:
    """A number from a form, an immediate, a constant of one element, or a call's attribute.

    An axis is counted from the end: a call's attribute, or where a constant is longer than one.
    It is 0 where a slope is the same everywhere.
    """
    if isinstance(value, int | float):
        return value
    if is_constant(value) and parameter == "axis":
        shape = array_of(value).shape
        return next((n - len(shape) for n, size in enumerate(shape) if size != 1), 0)
    if is_constant(value):
        return array_of(value).item()
    _, found = graph.bound(value)
    if not isinstance(found, relax.Call):
        return value.value
    if parameter == "axis":
        if array_of(found.args[1]).size == 1:
            return 0
        return int(found.attrs.axis) % found.ty.ndim - found.ty.ndim
    return getattr(found.attrs, parameter)
