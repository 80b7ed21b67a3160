"""A planned `main` as tables: tensors with their places, and kernels in the order of their calls.

What TVM's VM would do for each call (make tensors, look kernels up, compute sizes) is done here,
once: what is left for a run is to call kernels one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, tirx

from tilewright.compiler.standalone.expressions import NEEDS_VM, c_expression
from tilewright.errors import UnsupportedModel

# The places of runtime.h.
INPUT, OUTPUT, WEIGHT, BLOCK = "INPUT", "OUTPUT", "WEIGHT", "BLOCK"


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `offset` bytes into an input, output, block, or into the weights."""

    kind: str
    index: int = 0
    offset: int = 0


@dataclass(frozen=True)
class Tensor:
    """A tensor; `sizes` are numbers of the plan's sizes."""

    place: Place
    dtype: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A call of `kernel`; each argument is ("tensor", number) or ("size", number)."""

    kernel: str
    arguments: tuple[tuple[str, int], ...]


@dataclass
class Plan:
    """Tables of one model. `sizes` are C expressions of `dims`, the sizes of the open dimensions.

    Tensors start with the inputs, then the outputs. `blocks` are sizes, the bytes of each block of
    the workspace; `checks` pairs of sizes that must be the same; `sources` names for each output
    the tensor that is copied to it, or None where a kernel writes it.
    """

    dims: tuple[str, ...]
    inputs: int
    sizes: list[str] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    checks: list[tuple[int, int]] = field(default_factory=list)
    sources: list[int | None] = field(default_factory=list)


def plan_of(mod: tvm.IRModule, dims: Sequence[str], inputs: int, weights: Sequence[int]) -> Plan:
    """The tables of `main` of `mod`, whose memory is planned.

    Its parameters are `inputs` inputs and then weights, `weights` bytes into the weights' section
    each. Raises UnsupportedModel where only a run tells what is to be called or how large it is.
    """
    return _Planner(mod, dims, inputs, weights).plan


class _Planner:
    def __init__(
        self, mod: tvm.IRModule, dims: Sequence[str], inputs: int, weights: Sequence[int]
    ) -> None:
        main = mod["main"]
        self._mod = mod
        self._kernels: set[str] = set()
        self.plan = Plan(tuple(dims), inputs)
        self._slots: dict[str, int] = {}
        self._names = {name: f"dims[{number}]" for number, name in enumerate(dims)}
        # What each variable stands for: the number of a tensor, or several; blocks by number.
        self._values: dict[relax.Var, Any] = {}
        self._blocks: dict[relax.Var, int] = {}
        self._bindings = {b.var: b.value for block in main.body.blocks for b in block.bindings}
        self._results = self._flat(main.body.body)
        for number, param in enumerate(main.params[:inputs]):
            self._values[param] = self._tensor(param.ty, Place(INPUT, number))
        self._reserve_outputs()
        for param, offset in zip(main.params[inputs:], weights, strict=True):
            self._values[param] = self._tensor(param.ty, Place(WEIGHT, 0, offset))
        for block in main.body.blocks:
            for binding in block.bindings:
                self._bind(binding)
        self._find_sources()

    def _reserve_outputs(self) -> None:
        """A tensor for each output; what a kernel writes alone is written there."""
        self._written: dict[relax.Var, int] = {}
        for number, result in enumerate(self._results):
            tensor = self._tensor(result.ty, Place(OUTPUT, number))
            self.plan.sources.append(None)
            if _is_call(self._bindings.get(result), "relax.builtin.alloc_tensor"):
                self._written.setdefault(result, tensor)

    def _flat(self, result: relax.Expr) -> list[relax.Var]:
        """The variables that `main` returns, each as the first that it is another name of."""
        value = self._bindings.get(result, result) if isinstance(result, relax.Var) else result
        if isinstance(value, relax.Tuple):
            return [var for part in value.fields for var in self._flat(part)]
        if isinstance(value, relax.TupleGetItem):
            parts = self._flat(value.tuple_value)
            if value.index >= len(parts):
                raise _needs_vm(result, "results that are one value")
            return [parts[value.index]]
        if isinstance(value, relax.Var) and value is not result:
            return self._flat(value)
        return [result]

    def _find_sources(self) -> None:
        """What is copied to outputs that no kernel writes."""
        for number, result in enumerate(self._results):
            output = self.plan.inputs + number
            if self._written.get(result) != output:
                self.plan.sources[number] = self._values[result]

    def _bind(self, binding: Any) -> None:
        var, value = binding.var, binding.value
        if isinstance(binding, relax.MatchCast):
            self._match(binding)
        elif isinstance(value, relax.Var):
            self._alias(var, value)
        elif isinstance(value, relax.Tuple):
            self._values[var] = [self._values[part] for part in value.fields]
        elif isinstance(value, relax.TupleGetItem):
            self._values[var] = self._values[value.tuple_value][value.index]
        elif isinstance(value, relax.Call):
            self._call(var, value)
        else:
            raise _needs_vm(var, type(value).__name__)

    def _alias(self, var: relax.Var, value: relax.Var) -> None:
        if value in self._blocks:
            self._blocks[var] = self._blocks[value]
        else:
            self._values[var] = self._values[value]

    def _match(self, binding: relax.MatchCast) -> None:
        """Sizes that were known in two ways must be the same; a view of those that are declared."""
        known = self.plan.tensors[self._values[binding.value]]
        declared = self._sizes(binding.var.ty.shape, binding.var)
        pairs = [(a, b) for a, b in zip(known.sizes, declared, strict=True) if a != b]
        self.plan.checks += [pair for pair in pairs if pair not in self.plan.checks]
        self._values[binding.var] = self._values[binding.value]

    def _call(self, var: relax.Var, call: relax.Call) -> None:
        if isinstance(call.op, tvm.ir.GlobalVar):
            kernel = call.op.name_hint
            self._check_kernel(kernel, var)
            arguments = [part for arg in call.args for part in self._arguments(arg, var)]
            self.plan.steps.append(Step(kernel, tuple(arguments)))
            return
        take = _OPERATIONS.get(getattr(call.op, "name", ""))
        if take is None:
            raise _needs_vm(var, getattr(call.op, "name", str(call.op)))
        take(self, var, call)

    def _check_kernel(self, kernel: str, var: relax.Var) -> None:
        """What is called must be code that needs nobody."""
        if kernel in self._kernels:
            return
        function = self._mod[kernel]
        if isinstance(function, relax.Function):
            raise _needs_vm(var, f"a call of the graph {kernel}")
        if asked := _asked_of_tvm(function):
            raise _needs_vm(var, asked)
        self._kernels.add(kernel)

    def _arguments(self, arg: relax.Expr, var: relax.Var) -> list[tuple[str, int]]:
        if isinstance(arg, relax.ShapeExpr):
            return [("size", self._size(size, var)) for size in arg.values]
        if isinstance(arg, relax.Var) and arg in self._values:
            value = self._values[arg]
            return [
                ("tensor", number) for number in (value if isinstance(value, list) else [value])
            ]
        if not isinstance(arg, relax.Call):
            return [("size", self._size(arg, var))]
        raise _needs_vm(var, type(arg).__name__)

    def _allocate_block(self, var: relax.Var, call: relax.Call) -> None:
        self._blocks[var] = len(self.plan.blocks)
        self.plan.blocks.append(self._size(call.args[0].values[0], var))

    def _allocate_in_block(self, var: relax.Var, call: relax.Call) -> None:
        offset = call.args[1]
        place = Place(BLOCK, self._blocks[call.args[0]], int(getattr(offset, "value", offset)))
        self._values[var] = self._tensor(var.ty, place)

    def _allocate_result(self, var: relax.Var, _call: relax.Call) -> None:
        """Memory that nothing else shares: that of an output, else a block of its own."""
        if var in self._written:
            self._values[var] = self._written[var]
            return
        width = tvm.DataType(str(var.ty.dtype)).bits
        sizes = [c_expression(size, self._names, var.name) for size in var.ty.shape.values]
        count = " * ".join(f"({size})" for size in sizes) or "1"
        self.plan.blocks.append(self._slot(f"({count}) * {max(1, width // 8)}"))
        self._values[var] = self._tensor(var.ty, Place(BLOCK, len(self.plan.blocks) - 1))

    def _view(self, var: relax.Var, call: relax.Call) -> None:
        viewed = self._values[call.args[0]]
        place = self.plan.tensors[viewed].place
        self._values[var] = self._tensor(var.ty, place)

    def _tensor(self, kind: relax.TensorType, place: Place) -> int:
        if not isinstance(kind, relax.TensorType) or not isinstance(kind.shape, relax.ShapeExpr):
            raise _needs_vm(None, f"a value of type {kind}")
        sizes = self._sizes(kind.shape, None)
        self.plan.tensors.append(Tensor(place, str(kind.dtype), sizes))
        return len(self.plan.tensors) - 1

    def _sizes(self, shape: relax.ShapeExpr, var: relax.Var | None) -> tuple[int, ...]:
        return tuple(self._size(size, var) for size in shape.values)

    def _size(self, size: Any, var: relax.Var | None) -> int:
        return self._slot(c_expression(size, self._names, var.name if var is not None else "main"))

    def _slot(self, expression: str) -> int:
        if expression not in self._slots:
            self._slots[expression] = len(self.plan.sizes)
            self.plan.sizes.append(expression)
        return self._slots[expression]


_OPERATIONS: dict[str, Callable[[_Planner, relax.Var, relax.Call], None]] = {
    "relax.memory.alloc_storage": _Planner._allocate_block,
    "relax.memory.alloc_tensor": _Planner._allocate_in_block,
    "relax.builtin.alloc_tensor": _Planner._allocate_result,
    "relax.reshape": _Planner._view,
}


def _asked_of_tvm(function: tirx.PrimFunc) -> str | None:
    """The first function of TVM's runtime that a kernel calls by its name, such as a sort."""
    found: list[str] = []

    def visit(call: tvm.ir.Call) -> None:
        if getattr(call.op, "name", "") in _PACKED_CALLS:
            found.append(str(getattr(call.args[0], "value", call.args[0])))

    tvm_ffi.structural_walk(function.body, (tvm.ir.Call, visit))
    return found[0] if found else None


_PACKED_CALLS = ("tirx.tvm_call_packed", "tirx.tvm_call_cpacked")


def _is_call(value: Any, name: str) -> bool:
    return isinstance(value, relax.Call) and getattr(value.op, "name", "") == name


def _needs_vm(var: relax.Var | None, what: str) -> UnsupportedModel:
    return UnsupportedModel(
        f"a library without TVM's runtime cannot do this: {what}",
        where=f"value {var.name}" if var is not None else None,
        expected="a fixed order of kernels whose sizes follow from those of the inputs",
        hint=NEEDS_VM,
    )
