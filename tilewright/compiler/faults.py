"""Plant a fault in a compilation, by name: how tests know that a localiser finds what is wrong.

    gelu = Fault("rule", "linear", lambda lowered: with_another_constant(lowered))
    tilewright.verify("model.onnx", localize=True, faults=[gelu])

What `change` takes and gives depends on the kind:

| kind | name | change |
|---|---|---|
| stage | a stage of the pipeline | the module that it leaves behind |
| fusion | a fusion | the spec of each match that it accepts |
| rule | a rule | what it lowers each group to |
| record | a rule that a tuning record chooses | what it lowers to with that record |
| kernel | a kernel, as in the manifest; `*` is any text | its PrimFunc, with its loop nest |

A fault goes with what it is planted in: where the stage, fusion, rule or record is switched off,
nothing is changed. One of a kernel goes with whoever writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from tvm import tirx

from tilewright.compiler.lower import RULE
from tilewright.errors import OptionError
from tilewright.passes.fusion import Decline, Fusion
from tilewright.targets.rules.rule import Lowered, Rule

if TYPE_CHECKING:
    import tvm

    from tilewright.compiler.pipeline import Work

KINDS = ("stage", "fusion", "rule", "record", "kernel")


@dataclass(frozen=True)
class Fault:
    """A fault of a kind of KINDS, in what is called `name`; `change` makes it wrong.

    `by`: of a kernel, the rule that must have written it ("fallback" for the schedule of what no
    rule has written); None for any. `change` is pickled by value, into the compiler's process.
    """

    kind: str
    name: str
    change: Callable[[Any], Any]
    by: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(
                f"there is no fault of kind {self.kind!r}", expected=f"one of: {', '.join(KINDS)}"
            )


def _of(faults: Sequence[Fault], kind: str, name: str) -> list[Fault]:
    return [fault for fault in faults if fault.kind == kind and fault.name == name]


def check_faults(faults: Sequence[Fault], names: dict[str, Sequence[str]]) -> None:
    """Raise OptionError when a fault is planted in what is not in `names`, by kind."""
    for fault in faults:
        known = names.get(fault.kind)
        if known is not None and fault.name not in known:
            raise OptionError(
                f"there is no {fault.kind} called {fault.name!r} to plant a fault in",
                expected=f"one of: {', '.join(known)}",
            )


def faulty_fusion(fusion: Fusion, faults: Sequence[Fault]) -> Fusion:
    """`fusion`, or one that gives another spec than it should."""
    chosen = _of(faults, "fusion", fusion.name)
    if not chosen:
        return fusion

    def accept(*arguments: Any) -> Any:
        answer = fusion.accept(*arguments)
        for fault in chosen:
            answer = answer if isinstance(answer, Decline) else fault.change(answer)
        return answer

    return replace(fusion, accept=accept)


def faulty_rule(rule: Rule, faults: Sequence[Fault]) -> Rule:
    """`rule`, or one that lowers to other kernels than it should."""
    chosen = _of(faults, "rule", rule.name)
    if not chosen:
        return rule

    def lower(*arguments: Any) -> Lowered:
        lowered = rule.lower(*arguments)
        for fault in chosen:
            lowered = fault.change(lowered)
        return lowered

    return replace(rule, lower=lower)


def faulty_record(lowered: Lowered, rule: str, faults: Sequence[Fault]) -> Lowered:
    """What a tuning record that chooses `rule` made of a group, or something else."""
    for fault in _of(faults, "record", rule):
        lowered = fault.change(lowered)
    return lowered


def after_stage(work: Work, stage: str) -> None:
    """Change what `stage` left behind, as the faults of `work` say."""
    for fault in _of(work.faults, "stage", stage):
        work.mod = fault.change(work.mod)
    if stage in ("lower", "schedule"):
        kernels = [fault for fault in work.faults if fault.kind == "kernel"]
        work.mod = _with_faulty_kernels(work.mod, kernels, by_rules=stage == "lower")


def _with_faulty_kernels(
    mod: tvm.IRModule, faults: Sequence[Fault], *, by_rules: bool
) -> tvm.IRModule:
    """`mod` with the kernels of rules changed, or with those that no rule has written."""
    for fault in faults:
        for var, function in list(mod.functions_items()):
            if not isinstance(function, tirx.PrimFunc) or not fnmatch(var.name_hint, fault.name):
                continue
            rule = function.attrs.get(RULE)
            if (rule is not None) == by_rules and fault.by in (None, rule or "fallback"):
                mod = mod.clone()
                mod.update_func(var, fault.change(function))
    return mod
