"""A target: a frozen row of hardware facts that checks itself.

Rules and passes read these fields and never the name: a new CPU is a new row.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from tilewright.errors import TargetError
from tilewright.targets.isa import MACHINES, Machine

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Target:
    """What the code generator must know about a machine.

    `features` are LLVM names; the code may use these and no others. Cache sizes are bytes
    per core (`l1d_bytes`, `l2_bytes`) or per socket (`l3_bytes`); 0 means unknown.
    `fma_ports` is how many fused multiply-adds of full vector width start per cycle (0: no FMA,
    a multiplication and an addition); `dram_bytes_per_cycle` what one core streams from memory,
    typically. `cores` is a default for schedules, not a limit; `family_models` are the CPUID
    (vendor, family, model) triples that this row describes (of Arm's: ("ARM", architecture, part)
    as /proc/cpuinfo has them), and `source` says where the figures come from.
    """

    name: str
    title: str
    triple: str
    mcpu: str
    features: tuple[str, ...]
    fma_ports: int
    l1d_bytes: int
    l2_bytes: int
    l3_bytes: int
    cores: int
    dram_bytes_per_cycle: float
    source: str
    family_models: tuple[tuple[str, int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        family = self.triple.split("-")[0]
        if family not in [machine.name for machine in MACHINES]:
            raise TargetError(
                f"target {self.name} is for {family}",
                expected=f"a triple of {', '.join(machine.name for machine in MACHINES)}",
                hint="`tilewright targets` lists what can be built for",
            )
        known = self.machine.features
        if unknown := [f for f in self.features if f not in known]:
            raise TargetError(
                f"target {self.name} names unknown features: {', '.join(unknown)}",
                expected=f"some of: {', '.join(known)}",
            )
        for name in ("fma_ports", "l1d_bytes", "l2_bytes", "l3_bytes"):
            if getattr(self, name) < 0:
                raise TargetError(f"target {self.name}: {name} is {getattr(self, name)}")
        if self.dram_bytes_per_cycle <= 0:
            raise TargetError(f"target {self.name}: no memory bandwidth")
        if self.cores < 1:
            raise TargetError(f"target {self.name}: {self.cores} cores", expected="at least 1")

    @property
    def machine(self) -> Machine:
        """The instruction-set family."""
        family = self.triple.split("-")[0]
        return next(machine for machine in MACHINES if machine.name == family)

    @property
    def vector_bits(self) -> int:
        """Width of the widest float vector register, bits."""
        return self._vectors[1]

    @property
    def vector_registers(self) -> int:
        """Number of architectural vector registers."""
        return self._vectors[2]

    @property
    def _vectors(self) -> tuple[str | None, int, int]:
        return next(
            row for row in self.machine.vectors if row[0] is None or row[0] in self.features
        )

    @property
    def flops_per_cycle(self) -> int:
        """Peak float32 operations of one core per cycle."""
        return self.vector_bits // 32 * 2 * max(1, self.fma_ports)

    @property
    def ridge(self) -> float:
        """Operations per byte from which memory no longer limits one core.

        Source: Williams, Waterman and Patterson 2009, "Roofline".
        """
        return self.flops_per_cycle / self.dram_bytes_per_cycle

    def with_musl(self) -> Target:
        """This machine with musl as its C library."""
        return replace(self, triple=self.triple.replace("-gnu", "-musl"))

    def missing_on(self, machine: str, features: frozenset[str]) -> list[str]:
        """What a host that calls itself `machine` and has `features` lacks to run this code."""
        if not self.machine.is_here(machine):
            return [f"the instructions of {self.machine.name}"]
        return [feature for feature in self.features if feature not in features]

    def tvm_config(self) -> dict[str, Any]:
        """The dictionary `tvm.target.Target` takes.

        Every known feature is switched on or off by name, so that a virtual machine that
        masks part of its CPU never meets an instruction it lacks.
        """
        switches = [("+" if f in self.features else "-") + f for f in self.machine.features]
        return {
            "kind": "llvm",
            "mtriple": self.triple,
            "mcpu": self.mcpu,
            "mattr": switches,
            "num-cores": self.cores,
            **self.machine.llvm,
        }

    def to_dict(self) -> dict[str, Any]:
        """All facts as JSON values, for manifests and `tilewright targets NAME --json`."""
        facts = asdict(self)
        facts["features"] = list(self.features)
        facts["family_models"] = [list(triple) for triple in self.family_models]
        return {**facts, "vector_bits": self.vector_bits, "vector_registers": self.vector_registers}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Target:
        """The target that `to_dict` described."""
        facts = {field.name: values[field.name] for field in fields(Target)}
        facts["features"] = tuple(facts["features"])
        facts["family_models"] = tuple(tuple(triple) for triple in facts["family_models"])
        return Target(**facts)
