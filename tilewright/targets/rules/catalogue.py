"""Every rule, in the order in which they are asked: the first that does not refuse lowers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tilewright.targets.rules import (
    attention,
    composite,
    conv,
    conv_open,
    conv_transposed,
    conv_volume,
    gemm,
    matmul,
    norm,
    softmax,
    squeeze_excitation,
    winograd,
)
from tilewright.targets.rules.knobs import Choices, KnobError, choosing
from tilewright.targets.rules.rule import GroupCall, Lowered, Rule
from tilewright.targets.target import Target

RULES: tuple[Rule, ...] = (
    squeeze_excitation.SQUEEZE_EXCITATION,
    composite.CHAIN,
    composite.CONCAT,
    winograd.WINOGRAD,  # before conv, which takes every convolution that this one takes
    conv.CONV,
    conv_open.CONV_OPEN,
    conv_transposed.CONV_TRANSPOSED,
    conv_volume.CONV_VOLUME,
    gemm.LINEAR,
    matmul.MATMUL,  # after linear, which reads x by x where w is known
    gemm.MLP,
    attention.ATTENTION,
    norm.NORM,
    softmax.SOFTMAX,
)


@dataclass(frozen=True)
class Choice:
    """A rule, and the knobs of it that are not to have their default."""

    rule: str
    knobs: Mapping[str, int]


def lower(
    call: GroupCall,
    target: Target,
    choice: Choice | None = None,
    rules: Sequence[Rule] = RULES,
) -> tuple[Rule, Lowered] | dict[str, str]:
    """The first of `rules` that takes `call` and its kernels; else why each refused, by name.

    With `choice`, that rule with those knobs. Raises KnobError where they do not fit.
    """
    if choice is not None:
        return lower_by(choice.rule, call, target, Choices(call.name, choice.knobs), rules)
    refusals: dict[str, str] = {}
    for rule in rules:
        if not isinstance(call.spec, rule.spec):
            continue
        reason = rule.refuses(call, target) or rule.slower(call, target)
        if reason is None:
            return rule, rule.lower(call, target)
        refusals[rule.name] = reason
    return refusals


def lower_by(
    name: str,
    call: GroupCall,
    target: Target,
    choices: Choices,
    rules: Sequence[Rule] = RULES,
) -> tuple[Rule, Lowered]:
    """The rule called `name` and its kernels, with the knobs that `choices` gives.

    Raises KnobError where the rule does not take the group, or the knobs are not those it has.
    """
    rule = next((rule for rule in able(call, target, rules) if rule.name == name), None)
    if rule is None:
        raise KnobError(f"rule {name} does not take it")
    with choosing(choices):
        lowered = rule.lower(call, target)
    if unknown := sorted({*choices.values} - {*choices.asked}):
        raise KnobError(f"rule {name} has no knob {', '.join(unknown)}")
    return rule, lowered


def able(call: GroupCall, target: Target, rules: Sequence[Rule] = RULES) -> list[Rule]:
    """Those of `rules` that have kernels for `call`, fast or not."""
    kinds = (rule for rule in rules if isinstance(call.spec, rule.spec))
    return [rule for rule in kinds if rule.refuses(call, target) is None]
