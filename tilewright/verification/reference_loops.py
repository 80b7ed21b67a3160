"""Loop and Scan as ONNX has them, for the model in double precision (reference.py).

Of what the steps give, onnx's own Loop joins the first axes where it should make a new one, and it
takes no step without a condition; its Scan knows one direction and one axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class Loop(OpRun):
    """Steps while there are fewer than the limit and the condition holds."""

    op_domain = ""

    def need_context(self) -> bool:
        """The body sees what is around the loop."""
        return True

    def _run(
        self,
        limit: np.ndarray | None,
        condition: np.ndarray | None = None,
        *states: np.ndarray,
        context: Mapping[str, np.ndarray] | None = None,
        attributes: Any = None,
        bindings: Any = None,
        **_body: Any,
    ) -> tuple[np.ndarray, ...]:
        names, count = self.body.input_names, len(states)
        goes_on, number = condition is None or bool(condition), 0
        given: list[Sequence[np.ndarray]] = []
        while goes_on and (limit is None or number < limit):
            inputs = [np.array(number, np.int64), np.array(True), *states]
            made = self._run_body(
                {**(context or {}), **dict(zip(names, inputs, strict=True))},
                attributes=attributes,
                bindings=bindings,
            )
            goes_on, number = bool(made[0]), number + 1
            states = tuple(made[1 : 1 + count])
            given.append(made[1 + count :])
        stacks = len(self.body.output_names) - 1 - count
        return (*states, *(_stacked([parts[n] for parts in given], 0) for n in range(stacks)))


class Scan(OpRun):
    """A step for each place along an axis of its inputs."""

    op_domain = ""

    def need_context(self) -> bool:
        """The body sees what is around the loop."""
        return True

    def _run(
        self,
        *inputs: np.ndarray,
        context: Mapping[str, np.ndarray] | None = None,
        bindings: Any = None,
        **_attributes: Any,
    ) -> tuple[np.ndarray, ...]:
        count = len(inputs) - self.num_scan_inputs
        states, scanned = inputs[:count], inputs[count:]
        axes = self.scan_input_axes or [0] * len(scanned)
        back = self.scan_input_directions or [0] * len(scanned)
        places = [np.moveaxis(x, axis, 0) for x, axis in zip(scanned, axes, strict=True)]
        places = [x[::-1] if turned else x for x, turned in zip(places, back, strict=True)]
        given: list[Sequence[np.ndarray]] = []
        for slices in zip(*places, strict=True):
            named = zip(self.body.input_names, (*states, *slices), strict=True)
            made = self._run_body({**(context or {}), **dict(named)}, bindings=bindings)
            states = tuple(made[:count])
            given.append(made[count:])
        stacks = len(self.body.output_names) - count
        axes = self.scan_output_axes or [0] * stacks
        back = self.scan_output_directions or [0] * stacks
        each = [[parts[n] for parts in given] for n in range(stacks)]
        turned = [parts[::-1] if turn else parts for parts, turn in zip(each, back, strict=True)]
        return (*states, *map(_stacked, turned, axes))


def _stacked(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    if not parts:
        raise ValueError("a loop without a step does not say what its steps would give")
    return np.stack(parts, axis)
