"""LSTM, GRU and RNN: one matrix product for all steps, then one kernel over the sequence.

x @ W + b is an ordinary product of the whole sequence, for both directions at once, and the
recurrence a kernel that carries its state from step to step (`targets/rules/recurrent.py`).
Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, onnx__GRU.html, onnx__RNN.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tvm import relax

from tilewright.compiler.importer.graph import text
from tilewright.compiler.lower import OPAQUE, RULE, SCHEDULED
from tilewright.errors import ModelError, UnsupportedModel
from tilewright.ops import RecurrentSpec, Step
from tilewright.ops.recurrent import GATES
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.shapes import shape_of
from tilewright.targets.rules import recurrent

# ONNX's name -> ours, the names of its parameters, and their defaults.
_ACTIVATIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Affine": ("affine", (("alpha", 1.0), ("beta", 0.0))),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Relu": ("relu", ()),
    "ScaledTanh": ("scaled_tanh", (("alpha", 1.0), ("beta", 1.0))),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
}
_DEFAULT_ACTIVATIONS = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
CELLS = tuple(GATES)


def convert(
    cell: str,
    lanes: int,
    bb: relax.BlockBuilder,
    inputs: list,
    attrs: dict[str, Any],
    opset: int,
) -> relax.Expr:
    """All outputs of the node: Y, Y_h and, of an LSTM, Y_c.

    `lanes` is the length of the target's vectors. Raises UnsupportedModel for what is not float32.
    """
    return _Layer(bb, cell, inputs, attrs, lanes).whole()


class _Layer:
    def __init__(
        self, bb: relax.BlockBuilder, cell: str, inputs: list, attrs: dict[str, Any], lanes: int
    ) -> None:
        self._bb, self._cell, self._attrs, self._lanes = bb, cell, attrs, lanes
        given = [*inputs, *[None] * 8]
        self._x, self._w, self._r, self._b = given[:4]
        self._lengths, self._h0 = given[4:6]
        self._c0, self._p = given[6:8] if cell == "LSTM" else (None, None)
        kind = str(self._x.ty.dtype)
        if kind != "float32":
            raise UnsupportedModel(f"{cell} in {kind}", expected="float32")
        if self._x.ty.ndim != 3:
            raise ModelError(
                f"X has {self._x.ty.ndim} axes", expected="3: sequence, batch and inputs"
            )
        self._batch_first = bool(attrs.get("layout", 0))
        if self._batch_first:
            self._x = self._emit(relax.op.permute_dims(self._x, [1, 0, 2]))
        self._sequence, self._batch, _ = shape_of(self._x)
        self._sizes = list(self._x.ty.shape.values)
        self._directions = _DIRECTIONS.get(text(attrs.get("direction", "forward")))
        if self._directions is None:
            raise ModelError(
                f"the direction is {text(attrs['direction'])!r}",
                expected=f"one of: {', '.join(_DIRECTIONS)}",
            )
        self._hidden = self._checked_size()

    def _checked_size(self) -> int:
        """The hidden size; onnx does not compare it with the shapes of the weights."""
        w, r = shape_of(self._w), shape_of(self._r)
        hidden = int(self._attrs.get("hidden_size") or r[2])
        count, rows = len(self._directions), GATES[self._cell] * hidden
        for name, shape, wanted in (("W", w, (count, rows)), ("R", r, (count, rows, hidden))):
            if len(shape) != 3 or shape[: len(wanted)] != wanted:
                raise ModelError(
                    f"{name} has shape {list(shape)}",
                    expected=f"{list(wanted)} to begin with, for a hidden size of {hidden}",
                )
        return hidden

    def whole(self) -> relax.Expr:
        count = len(self._directions)
        activations = list(self._activations(count))
        if len(set(activations)) == 1:
            results = self._layer(0, count, activations[0])
        else:
            found = [self._layer(n, n + 1, own) for n, own in enumerate(activations)]
            results = [
                self._emit(relax.op.concat(list(values), 1 if place == 0 else 0))
                for place, values in enumerate(zip(*found, strict=True))
            ]
        if self._batch_first:
            orders = [[2, 0, 1, 3], *[[1, 0, 2]] * (len(results) - 1)]
            results = [
                self._emit(relax.op.permute_dims(value, order))
                for value, order in zip(results, orders, strict=True)
            ]
        return relax.Tuple(results)

    def _emit(self, value: relax.Expr) -> relax.Var:
        return self._bb.emit(value)

    def _layer(self, begin: int, end: int, activations: tuple[Step, ...]) -> list[relax.Expr]:
        """Y [sequence, directions, batch, hidden], and the last states, of some directions."""
        n, gates = self._hidden, GATES[self._cell]
        late = self._cell == "GRU" and bool(self._attrs.get("linear_before_reset", 0))
        spec = RecurrentSpec(
            dtype="float32",
            cell=self._cell,
            sequence=self._sequence,
            batch=self._batch,
            hidden=n,
            activations=activations,
            clip=self._attrs.get("clip"),
            directions=self._directions[begin:end],
            peephole=self._p is not None,
            input_forget=bool(self._attrs.get("input_forget", 0)),
            linear_before_reset=late,
            lengths=self._lengths is not None,
        )

        def own(value: relax.Expr) -> relax.Expr:
            """What belongs to the directions, the first axis."""
            if end - begin == len(self._directions):
                return value
            return self._cut(value, 0, begin, end)

        rows = (end - begin) * gates * n
        w = self._emit(relax.op.reshape(own(self._w), (rows, -1)))
        x = self._emit(relax.op.matmul(self._x, self._emit(relax.op.permute_dims(w, [1, 0]))))
        values = {"r": self._reordered(own(self._r), recurrent.order(spec, self._lanes))}
        if self._b is not None:
            b = own(self._b)
            added, recurrent_bias = (
                self._cut(b, 1, side * gates * n, (side + 1) * gates * n) for side in (0, 1)
            )
            if late:
                # The bias of the third gate's product is reset with it.
                values["rb"] = self._cut(recurrent_bias, 1, 2 * n, 3 * n)
                zeros = constant(np.zeros((end - begin, n), "float32"))
                recurrent_bias = self._joined(self._cut(recurrent_bias, 1, 0, 2 * n), zeros)
            bias = self._emit(relax.op.reshape(self._sum(added, recurrent_bias), (rows,)))
            x = self._emit(relax.op.add(x, bias))
        elif late:
            values["rb"] = constant(np.zeros((end - begin, n), "float32"))
        values["x"] = x
        if self._p is not None:
            values["p"] = own(self._p)
        values["h0"] = own(self._state(self._h0))
        if self._cell == "LSTM":
            values["c0"] = own(self._state(self._c0))
        if self._lengths is not None:
            values["lengths"] = self._lengths
        return self._call(spec, values)

    def _call(self, spec: RecurrentSpec, values: dict[str, relax.Expr]) -> list[relax.Expr]:
        function = recurrent.kernel("recurrent", spec, self._lanes)
        marks = {"op_pattern": OPAQUE, SCHEDULED: True, RULE: "recurrent"}
        name = spec.cell.lower()
        made = self._bb.add_func(function.with_attrs(marks).without_attr("global_symbol"), name)
        sequence, batch, _ = self._sizes
        last = [len(spec.directions), batch, self._hidden]
        shapes = [[sequence, *last], *[last] * (len(recurrent.results(spec)) - 1)]
        kinds = [relax.TensorType(shape, "float32") for shape in shapes]
        arguments = [values[key] for key in recurrent.parameters(spec)]
        found = self._emit(relax.call_tir(made, arguments, kinds))
        return [self._emit(relax.TupleGetItem(found, number)) for number in range(len(kinds))]

    # What is known is arranged here: of a run a large r would take more time than the layer.

    def _reordered(self, r: relax.Expr, places: np.ndarray) -> relax.Expr:
        """Of each direction, the numbers of r at `places`."""
        if is_constant(r):
            array = array_of(r)
            return constant(array.reshape(len(array), -1)[:, places])
        flat = self._emit(relax.op.reshape(r, (r.ty.shape[0], -1)))
        return self._emit(relax.op.take(flat, relax.const(places, "int64"), 1))

    def _cut(self, value: relax.Expr, axis: int, begin: int, end: int) -> relax.Expr:
        if is_constant(value):
            return constant(array_of(value).take(range(begin, end), axis))
        return self._emit(relax.op.strided_slice(value, [axis], [begin], [end]))

    def _joined(self, *values: relax.Expr) -> relax.Expr:
        if all(map(is_constant, values)):
            return constant(np.concatenate([array_of(value) for value in values], 1))
        return self._emit(relax.op.concat(list(values), 1))

    def _sum(self, one: relax.Expr, other: relax.Expr) -> relax.Expr:
        if is_constant(one) and is_constant(other):
            return constant(array_of(one) + array_of(other))
        return self._emit(relax.op.add(one, other))

    def _state(self, value: relax.Expr | None) -> relax.Expr:
        """The first state, [directions, batch, hidden]; zeros where none is given."""
        if value is None and isinstance(self._batch, int):
            return constant(np.zeros((len(self._directions), self._batch, self._hidden), "float32"))
        if value is None:
            shape = relax.ShapeExpr([len(self._directions), self._sizes[1], self._hidden])
            return self._emit(relax.op.zeros(shape, "float32"))
        if self._batch_first:
            return self._emit(relax.op.permute_dims(value, [1, 0, 2]))
        return value

    def _activations(self, directions: int) -> Iterator[tuple[Step, ...]]:
        """For each direction, its activations as the kernel takes them."""
        default = _DEFAULT_ACTIVATIONS[self._cell]
        names = [text(name) for name in self._attrs.get("activations", ())]
        names = names or list(default) * directions
        if len(names) != len(default) * directions:
            raise ModelError(
                f"{len(names)} activations", expected=f"{len(default)} for each direction"
            )
        numbers = {key: iter(self._attrs.get(f"activation_{key}", ())) for key in ("alpha", "beta")}
        steps = [_step(name, numbers) for name in names]
        for number in range(directions):
            own = tuple(steps[number * len(default) : (number + 1) * len(default)])
            # Both of a GRU's first gates have the first one.
            yield (own[0], *own) if self._cell == "GRU" else own


def _step(name: str, numbers: dict[str, Iterator[float]]) -> Step:
    known = {key.lower(): row for key, row in _ACTIVATIONS.items()}.get(name.lower())
    if known is None:
        raise UnsupportedModel(
            f"the activation {name}", expected=f"one of: {', '.join(_ACTIVATIONS)}"
        )
    ours, parameters = known
    return Step(ours, tuple(float(next(numbers[key], default)) for key, default in parameters))
