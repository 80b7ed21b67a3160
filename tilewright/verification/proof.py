"""What a verification found, for people and for programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Proof:
    """The result of a comparison on one or many examples (docs/verification.md).

    `examples` are those that passed, each with `dims` (sizes of the open dimensions), `kind` of
    values, `seed` and `verdicts`, one per output, whose fields are those of
    `tilewright.verification.tolerance.Verdict`. `failure` is the smallest example that did not,
    with the `folder` of its reproduction; None when all passed. `refused` counts the inputs that
    the reference did not take, `limits` those that it did and our library did not. `no_truth` says
    why there was no reference in double precision, and `stopped` why there are fewer examples than
    were asked for. `cause` is what a failure was traced to, where that was asked for
    (`tilewright.verification.localize`).
    """

    subject: str
    reference: str
    examples: tuple[dict[str, Any], ...]
    failure: dict[str, Any] | None = None
    refused: int = 0
    refusal: str | None = None
    limits: int = 0
    limit: str | None = None
    no_truth: str | None = None
    stopped: str | None = None
    seconds: float = 0.0
    cause: dict[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """Whether every output of every example is within its tolerance, and there was one."""
        return self.failure is None and bool(self.examples)

    @property
    def used(self) -> float | None:
        """The largest share of the tolerance that was used; None where it was exceeded."""
        if self.failure is not None:
            return None
        return max((row["used"] for row in self.outputs), default=0.0)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """A row per output: of all examples that passed the worst of each measure."""
        rows: dict[str, dict[str, Any]] = {}
        for example in self.examples:
            for verdict in example["verdicts"]:
                known = rows.setdefault(verdict["name"], {"name": verdict["name"], "examples": 0})
                known["examples"] += 1
                for name, worse in _MEASURES.items():
                    values = [row[name] for row in (known, verdict) if row.get(name) is not None]
                    known[name] = worse(values) if values else None
        return list(rows.values())

    @property
    def notes(self) -> list[str]:
        """What the verdicts remark, each once."""
        found = [v["note"] for example in self.examples for v in example["verdicts"] if v["note"]]
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        made = {"passed": self.passed, "outputs": self.outputs, "notes": self.notes}
        return {**made, **fields, "examples": list(self.examples)}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Proof:
        """The proof that `to_dict` described."""
        fields = {name: data[name] for name in Proof.__dataclass_fields__}
        return Proof(**{**fields, "examples": tuple(data["examples"])})

    def __str__(self) -> str:
        if self.failure is not None:
            return f"{self.subject} DISAGREES with {self.reference}; {failure_text(self.failure)}"
        if not self.examples:
            why = self.limit or self.refusal
            return f"{self.subject}: nothing was compared; every input was refused: {why}"
        number = len(self.examples)
        shapes = len({tuple(example["dims"].items()) for example in self.examples})
        on = f"{number} example{'s' if number > 1 else ''}"
        on += f" of {shapes} shapes" if shapes > 1 else ""
        return f"{self.subject} agrees with {self.reference} on {on}; {used_text(self)}"


# Which of two values of a measure is the worse one.
_MEASURES: dict[str, Callable[[list[float]], float]] = {
    **dict.fromkeys(("error", "theirs", "allowed", "ulps", "used"), max),
    **dict.fromkeys(("cosine", "sqnr"), min),
}


def used_text(proof: Proof) -> str:
    """How much of the tolerance the examples that passed used."""
    used = proof.used or 0.0
    return "under 1% of the tolerance used" if used < 0.01 else f"{used:.0%} of the tolerance used"


def failure_text(failure: dict[str, Any]) -> str:
    """One line on the worst element of a failing example."""
    wrong = [verdict for verdict in failure["verdicts"] if not verdict["passed"]]
    worst = max(wrong, key=lambda v: math.inf if v["used"] is None else v["used"])
    place = f"output {worst['name']!r}"
    values = f"{_shown(worst['ours'])}, reference {_shown(worst['theirs_value'])}"
    if worst["truth"] is not None:
        values += f", in double precision {_shown(worst['truth'])}"
    if worst["worst"]:
        place += f" at {worst['worst']}"
    if worst["problem"]:
        return f"{place}: {worst['problem']}" + (f"; {values}" if worst["worst"] else "")
    return (
        f"{place}: {values}; off by {worst['error']:.2e} of the largest value, "
        f"allowed {worst['allowed']:.2e}"
    )


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.9g}"


def sizes_text(dims: dict[str, int]) -> str:
    """`batch=3, seq=17`."""
    return ", ".join(f"{name}={size}" for name, size in dims.items())
