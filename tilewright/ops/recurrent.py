"""What a recurrent layer computes, in one direction or in both."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.ops.spec import Dim, Spec
from tilewright.ops.step import Step

# Gates in ONNX's order: input, output, forget, cell; update, reset, hidden.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True)
class RecurrentSpec(Spec):
    """h[t] from h[t - 1] and x[t] @ W + b, given as [sequence, batch, directions * gates * hidden].

    `activations` are those of the gates, in ONNX's order. `clip` bounds what they get; of
    `directions`, those that are True go from the last step to the first. `peephole`,
    `input_forget` (LSTM) and `linear_before_reset` (GRU) are as ONNX has them; with `lengths` each
    row of the batch ends at a step of its own.
    Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
    """

    cell: str
    sequence: Dim
    batch: Dim
    hidden: int
    activations: tuple[Step, ...]
    clip: float | None = None
    directions: tuple[bool, ...] = (False,)
    peephole: bool = False
    input_forget: bool = False
    linear_before_reset: bool = False
    lengths: bool = False

    @property
    def gates(self) -> int:
        """How many products a step has."""
        return GATES[self.cell]
