"""Matrix products with constant weights: linear layers, and two of them as an MLP.

    out[m, n] = epilogue(sum over k of x[m, k] * w[k, n])

x is read as it lies; w is packed into panels at compile time.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import tirx

from tilewright.ops import GemmSpec, MlpSpec, Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules.blocking import Blocking, default_blocking
from tilewright.targets.rules.contraction import Product, contraction
from tilewright.targets.rules.epilogue import Epilogue, operands_of
from tilewright.targets.rules.packing import packed_columns
from tilewright.targets.rules.pool import mean_launch
from tilewright.targets.rules.register_tile import (
    BY_ELEMENT,
    LINE_FLOATS,
    MOST_ROWS,
    SET_SPAN,
    STREAMS,
    Reduction,
    lanes_of,
)
from tilewright.targets.rules.rule import Given, GroupCall, Launch, Lowered, Rule
from tilewright.targets.rules.tir import Index, index
from tilewright.targets.rules.weighted import WeightedKernel
from tilewright.targets.target import Target


def linear(
    name: str,
    x: Given | int,
    x_shape: Shape,
    w: np.ndarray,
    steps: tuple[Step, ...],
    arrays: tuple[np.ndarray | Given | int, ...],
    target: Target,
    out_shape: Shape | None = None,
) -> Launch:
    """One product: `arrays` are the operands of `steps` that read one, in order.

    Arrays are packed here; others have the result's shape.
    """
    depth, n = w.shape
    lanes, rows = lanes_of(target), x_shape[:-1]
    known = all(isinstance(size, int) for size in rows)
    blocking = default_blocking(name, math.prod(rows) if known else None, n, depth, target, runs=1)
    wide = blocking.vectors * lanes
    lines = known and wide % LINE_FLOATS == 0 and _by_lines(math.prod(rows), w, blocking, target)
    unit, line = (LINE_FLOATS, LINE_FLOATS) if lines else (lanes, 0)
    packed = packed_columns(w.shape, wide, unit, lambda: w, line)
    k = WeightedKernel(name, x_shape, packed, out_shape or (*rows, n), steps, arrays, lanes)
    m: Index = 1
    for size in rows:
        m = m * k.kernel.size(size)
    product = Product(
        m=m,
        n=n,
        a=k.x,
        row=lambda r: r * depth,
        reduction=Reduction(1, depth),
        b=k.w,
        row_step=depth,
        lines=lines,
        begin=k.begin,
    )

    def store(row: Index, column: Index, width: int, value: tirx.Expr) -> tirx.Stmt:
        return k.store(index(row) * n + column, column, width, value)

    return k.launch(contraction(product, blocking, store, target), x)


def _by_lines(m: int, w: np.ndarray, blocking: Blocking, target: Target) -> bool:
    """Whether w is read once, by one tile and from memory: then in several streams.

    Rows of x that share a set of L1 leave no way of it for them. NEON's loads reach 64 KB from a
    register: lines further apart would take an addition each.
    """
    if m > blocking.rows or w.nbytes <= target.l2_bytes or lanes_of(target) == BY_ELEMENT:
        return False
    return m + STREAMS <= MOST_ROWS or w.shape[0] * w.itemsize % SET_SPAN != 0


def _refuses_linear(call: GroupCall, target: Target) -> str | None:
    spec: GemmSpec = call.spec
    if not spec.constant_weights or len(spec.w) != 2:
        return "the weights are computed at run time, or have a batch"
    if spec.pooled and not isinstance(spec.x[1], int):
        return "it pools, and its channels are open"
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    return Epilogue.refuses(spec.epilogue, -1)


def _lower_linear(call: GroupCall, target: Target) -> Lowered:
    spec: GemmSpec = call.spec
    operands = operands_of(spec.epilogue, call)
    w = call.get("w").array
    if spec.pooled:
        mean = mean_launch(f"{call.name}_mean", spec.x, target)
        head = linear(call.name, 0, spec.x[:2], w, spec.epilogue, operands, target)
        return Lowered((mean, head))
    x = Given("x")
    return Lowered(
        (linear(call.name, x, spec.x, w, spec.epilogue, operands, target, call.result.shape),)
    )


def _refuses_mlp(call: GroupCall, target: Target) -> str | None:
    spec: MlpSpec = call.spec
    steps = [step for step in spec.epilogue if step.name != "transpose"]
    placed = [step.parameters for step in spec.epilogue if step.name == "transpose"]
    rank = len(spec.x)
    if placed and placed[0] != (0, rank - 1, *range(1, rank - 1)):
        return f"the result is transposed by {placed[0]}"
    if any(call.get(role) is None or call.get(role).array is None for role in ("w1", "w2")):
        return "the weights are computed at run time"
    if spec.dtype != "float32":
        return f"dtype {spec.dtype}"
    return Epilogue.refuses((spec.activation, *steps), None)


def _lower_mlp(call: GroupCall, target: Target) -> Lowered:
    spec: MlpSpec = call.spec
    x = Given("x")
    hidden = (*spec.x[:-1], spec.hidden)
    (w1, b1), (w3, b3) = _hidden_factors(call)
    first = (Step("bias"),) if spec.hidden_bias else ()
    if spec.gated:
        gate_steps = (Step("bias"),) if spec.gate_bias else ()
        gate = linear(f"{call.name}_gate", x, spec.x, w3, gate_steps, b3, target)
        steps = (*first, spec.activation, Step("gate"))
        inner = [gate, linear(f"{call.name}_up", x, spec.x, w1, steps, (*b1, 0), target)]
    else:
        steps = (*first, spec.activation)
        inner = [linear(f"{call.name}_up", x, spec.x, w1, steps, b1, target)]
    placed = any(step.name == "transpose" for step in spec.epilogue)
    steps = tuple(step for step in spec.epilogue if step.name != "transpose")
    operands = operands_of(steps, call, "b2")
    operands = tuple(
        Given(o.role, channels_last=placed) if isinstance(o, Given) else o for o in operands
    )
    down = linear(call.name, len(inner) - 1, hidden, call.get("w2").array, steps, operands, target)
    return Lowered((*inner, down), channels_last=placed)


def _hidden_factors(call: GroupCall) -> list[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Weights and bias, if any, of what is activated and of the gate, if any.

    Where one product makes both, each is half of its columns.
    """
    spec: MlpSpec = call.spec
    known = {role: call.get(role) for role in ("w1", "b1", "w3", "b3")}
    w1, b1, w3, b3 = (part.array if part is not None else None for part in known.values())
    pairs = [(w1, b1), (w3, b3)]
    if spec.activated_half is not None:
        halves = [slice(0, spec.hidden), slice(spec.hidden, None)]
        pairs = [(w1[..., half], b1 if b1 is None else b1[..., half]) for half in halves]
        pairs = pairs if spec.activated_half == 0 else pairs[::-1]
    return [(w, () if b is None else (b,)) for w, b in pairs]


LINEAR = Rule("linear", GemmSpec, _refuses_linear, _lower_linear)
MLP = Rule("mlp", MlpSpec, _refuses_mlp, _lower_mlp)
