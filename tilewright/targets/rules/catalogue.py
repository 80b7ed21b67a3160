"""Every rule, in the order in which they are asked: the first that does not refuse lowers."""

from __future__ import annotations

from tilewright.targets.rules import (
    attention,
    composite,
    conv,
    conv_transposed,
    gemm,
    norm,
    softmax,
    squeeze_excitation,
    winograd,
)
from tilewright.targets.rules.rule import GroupCall, Lowered, Rule
from tilewright.targets.target import Target

RULES: tuple[Rule, ...] = (
    squeeze_excitation.SQUEEZE_EXCITATION,
    composite.CHAIN,
    composite.CONCAT,
    winograd.WINOGRAD,  # before conv, which takes every convolution that this one takes
    conv.CONV,
    conv_transposed.CONV_TRANSPOSED,
    gemm.LINEAR,
    gemm.MLP,
    attention.ATTENTION,
    norm.NORM,
    softmax.SOFTMAX,
)


def lower(call: GroupCall, target: Target) -> tuple[Rule, Lowered] | dict[str, str]:
    """The first rule that takes `call` and its kernels; else why each refused, by name."""
    refusals: dict[str, str] = {}
    for rule in RULES:
        if not isinstance(call.spec, rule.spec):
            continue
        reason = rule.refuses(call, target)
        if reason is None:
            return rule, rule.lower(call, target)
        refusals[rule.name] = reason
    return refusals
