"""The result of a verification, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VerifyReport:
    """`runs` holds, for each input tried, the sizes of the open dimensions and every output.

    An output's fields are those of `tilewright.verification.compare.OutputCheck`.
    """

    subject: str
    reference: str
    runs: tuple[dict[str, Any], ...]

    @property
    def passed(self) -> bool:
        """Whether every output of every run is within its budget."""
        return all(output["passed"] for run in self.runs for output in run["outputs"])

    @property
    def worst(self) -> dict[str, Any]:
        """The output that used most of its budget."""
        outputs = [output for run in self.runs for output in run["outputs"]]
        return max(outputs, key=lambda o: float("inf") if o["used"] is None else o["used"])

    def worst_line(self) -> str:
        """One line on the worst element: where, both values, and what was allowed."""
        worst = self.worst
        place = f"output {worst['name']!r} at {worst['worst']}"
        if worst["problem"]:
            shown = [
                "not finite" if worst[side] is None else f"{worst[side]:.9g}"
                for side in ("ours", "reference")
            ]
            values = f"; {shown[0]}, reference {shown[1]}" if worst["worst"] else ""
            return f"{place}: {worst['problem']}{values}"
        return (
            f"{place}: {worst['ours']:.9g}, reference {worst['reference']:.9g}; "
            f"off by {worst['error']:.2e} of the largest value, allowed {worst['budget']:.2e}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "passed": self.passed,
            "subject": self.subject,
            "reference": self.reference,
            "runs": list(self.runs),
        }

    @staticmethod
    def from_dict(data: dict[str, Any]) -> VerifyReport:
        """The report that `to_dict` described."""
        return VerifyReport(data["subject"], data["reference"], tuple(data["runs"]))

    def __str__(self) -> str:
        verdict = "agrees with" if self.passed else "DISAGREES with"
        return f"{self.subject} {verdict} {self.reference}; worst: {self.worst_line()}"
