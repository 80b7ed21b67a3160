"""Which pass, rule, fusion or record makes a failure: they are switched off until it is gone.

What is likely goes first: the record and the rule of the kernel at fault. A rule that is off hands
its groups to the next one, or to TVM's operators, which do not read the fusion's spec; a fusion
that is off leaves no group. So the smallest switch that helps says who it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.compiler.steps import CLEAN_UPS, OPTIONAL_STEPS, RULE_STEPS

# Of a kernel that no rule has written.
FALLBACK = "fallback"
_STEP_OF = {rule: step for step, rule in RULE_STEPS.items()}


@dataclass(frozen=True)
class Switch:
    """What is off in a compilation: optional steps by name, tuning records, or -O2 and more."""

    disable: tuple[str, ...] = ()
    records: bool = True
    level: int | None = None

    def __str__(self) -> str:
        words = [f"--disable {name}" for name in self.disable]
        words += [] if self.records else ["--no-db"]
        words += [] if self.level is None else [f"-O{self.level}"]
        return " ".join(words)


@dataclass(frozen=True)
class Culprit:
    """Who did it.

    `kind` is "record", "rule", "fusion", "stage", "required stages" or "several"; `switch` makes
    the failure go away. `reason` says what led here.
    """

    kind: str
    name: str
    switch: Switch | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values; the switch as flags of the command line."""
        switch = None if self.switch is None else str(self.switch)
        return {"kind": self.kind, "name": self.name, "switch": switch, "reason": self.reason}


@dataclass
class Bisection:
    """Looks for the culprit with `fails`: whether a compilation with a switch still fails.

    None from `fails` says that there was no such library, which is as good as a failure. `tried`
    has what was asked, in order.
    """

    fails: Callable[[Switch], bool | None]
    tried: dict[Switch, bool | None] = field(default_factory=dict)

    def mends(self, *disable: str, records: bool = True, level: int | None = None) -> Switch | None:
        """The switch, if with it nothing fails."""
        switch = Switch(disable, records, level)
        if switch not in self.tried:
            self.tried[switch] = self.fails(switch)
        return switch if self.tried[switch] is False else None

    def culprit(
        self,
        kernel: Mapping[str, Any] | None,
        kernels: Sequence[Mapping[str, Any]],
        tuned: bool,
        normalise: bool,
    ) -> Culprit:
        """Who did it: `kernel` is the manifest's row of the kernel at fault, if one is known.

        `kernels` are all rows, `tuned` says whether records were applied, and `normalise` whether
        the normalised model computes something else than the file says.
        """
        if normalise:
            reason = "the normalised model, in double precision, is another function than the file"
            return Culprit("stage", "normalise", None, reason)
        return (
            self._record(tuned)
            or self._writer(kernel)
            or self._required()
            or self._clean_up()
            or self._fusions(kernel, kernels)
            or self._last()
            or Culprit("several", "more than one step", Switch(level=0), "only all together help")
        )

    def _record(self, tuned: bool) -> Culprit | None:
        switch = self.mends(records=False) if tuned else None
        reason = "the same rules with their defaults are right"
        return switch and Culprit("record", "a tuning record", switch, reason)

    def _writer(self, kernel: Mapping[str, Any] | None) -> Culprit | None:
        if kernel is None:
            return None
        if kernel["rule"] == FALLBACK:
            switch = self.mends("schedule")
            reason = "the same kernel is right without its schedule"
            return switch and Culprit("stage", "schedule", switch, reason)
        return self._rule(kernel["rule"])

    def _rule(self, rule: str) -> Culprit | None:
        switch = self.mends(_STEP_OF[rule])
        reason = "the same group is right where another rule or TVM's operators compute it"
        return switch and Culprit("rule", rule, switch, reason)

    def _required(self) -> Culprit | None:
        if self.mends("schedule", level=0):
            return None
        name, reason = "import or legalize", "it fails with everything optional switched off"
        return Culprit("required stages", name, None, reason)

    def _clean_up(self) -> Culprit | None:
        names = (*CLEAN_UPS, "merge_projections")
        if not self.mends(*names):
            return None
        for name in reversed(names):
            if switch := self.mends(name):
                return Culprit("stage", name, switch, "without it, and with all else, it is right")
        return None

    def _fusions(
        self, kernel: Mapping[str, Any] | None, kernels: Sequence[Mapping[str, Any]]
    ) -> Culprit | None:
        fusions = [row["fusion"] for row in (*([kernel] if kernel else []), *kernels)]
        names = [name for name in dict.fromkeys(fusions) if name]
        if not names or not self.mends(*names):
            return None
        rules = [row["rule"] for row in kernels if row["rule"] in _STEP_OF]
        steps = tuple(_STEP_OF[rule] for rule in dict.fromkeys(rules))
        by_body = bool(steps) and self.mends(*RULE_STEPS)
        if not by_body and (switch := self.mends("lower")):
            reason = "without any rule it fails, and without the stage it does not"
            return Culprit("stage", "lower", switch, reason)
        if by_body:
            for rule in dict.fromkeys(rules):
                if found := self._rule(rule):
                    return found
        for name in names:
            if switch := self.mends(name):
                reason = (
                    "every rule that takes its groups is wrong, and TVM's operators are not"
                    if by_body
                    else "its groups are wrong whoever computes them"
                )
                return Culprit("fusion", name, switch, reason)
        return None

    def _last(self) -> Culprit | None:
        for name in ("fuse_ops", "schedule", "lower"):
            if switch := self.mends(name):
                return Culprit("stage", name, switch, "without it, and with all else, it is right")
        if switch := self.mends(level=1):
            return Culprit("stage", "fuse", switch, "the level that leaves it out is right")
        return None


assert set(_STEP_OF.values()) <= set(OPTIONAL_STEPS)
