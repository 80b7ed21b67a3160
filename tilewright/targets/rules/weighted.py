"""What kernels of x and packed weights share: their parameters, and the store with its epilogue.

Parameters are x, the weights, the operands of the steps in their order, y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tvm import tirx
from tvm.tirx import Stmt

from tilewright.ops import Step
from tilewright.ops.spec import Shape
from tilewright.targets.rules.epilogue import Epilogue, epilogue_operands
from tilewright.targets.rules.rule import Given, Launch, Packed
from tilewright.targets.rules.tir import Index, Kernel

Operand = np.ndarray | Given | int


class WeightedKernel:
    """A kernel in the making; `x`, `w` and `y` are its parameters as flat memory.

    `begin(column, lanes)` is what the sums of some columns start from, as `store` expects.
    """

    def __init__(
        self,
        name: str,
        x_shape: Shape,
        weights: Packed | Shape,
        y_shape: Shape,
        steps: tuple[Step, ...],
        arrays: Sequence[Operand],
        lanes: int,
    ) -> None:
        """`weights` is their shape alone where they are not known; `arrays` are the operands of
        `steps`. The columns of y are its last axis.
        """
        kernel = Kernel(name)
        self.x = kernel.param(x_shape, "float32", "x")
        shape = weights.shape if isinstance(weights, Packed) else weights
        self.w = kernel.param(shape, "float32", "w")
        operands, self._inputs = epilogue_operands(kernel, arrays, y_shape[-1], y_shape, lanes)
        self.y = kernel.param(y_shape, "float32", "y")
        self.epilogue = Epilogue(steps, operands)
        self.begin = self.epilogue.begin
        self.kernel = kernel
        self._weights, self._y_shape = weights, y_shape

    def store(self, place: Index, column: Index, width: int, value: tirx.Expr) -> Stmt:
        """Put `width` results of columns from `column` on at `place`, through the epilogue.

        `value` are sums that started from `begin`.
        """
        return self.y.store(place, self.epilogue.finish(value, place, column, width), width)

    def launch(
        self,
        body: Stmt,
        x: Given | int,
        weights: Given | int | None = None,
        also: tuple[Shape, ...] = (),
    ) -> Launch:
        """The call; `also` are more results.

        `weights` says what they are read from where they are not known: an argument, or the number
        of an earlier result.
        """
        w = self._weights if weights is None else weights
        finished = self.kernel.finish(body)
        return Launch(finished, (x, w, *self._inputs), self._y_shape, "float32", also)
