"""Write an ONNX model line by line, and look at what fusion makes of it.

net = Net(x=(1, 8, 6, 6))
y = net.Relu(net.Conv("x", net.weight(4, 8, 3, 3)))
assert groups(fused(net.model(y), tmp_path)) == ["conv_block relu"]
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests import models
from tests.compiling import compile_here, module_of, reference, session
from tilewright.compiler import pipeline, runtime
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.verification.budget import output_budgets
from tilewright.verification.inputs import random_inputs, sizes_to_try
from tilewright.verification.tolerance import FACTOR, Tolerance

CONTRIB = "com.microsoft"
_numbers = itertools.count()


class Net:
    """A graph under construction: `net.Op(inputs, attributes)` adds a node and names its output."""

    def __init__(self, opset: int = 17, **inputs: models.Shape) -> None:
        self._opset = opset
        self.shape = next(iter(inputs.values()), ())
        self._inputs = [models.value(name, shape) for name, shape in inputs.items()]
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}

    def input(self, name: str, shape: models.Shape, kind: int = models.INT64) -> str:
        self._inputs.append(models.value(name, shape, kind))
        return name

    def weight(self, *shape: int, near: float = 0.0) -> str:
        name = f"w{len(self._weights)}"
        drawn = models.weight(name, shape, seed=len(self._weights))
        self._weights[name] = np.float32(near + 0.2 * drawn if near else drawn)
        return name

    def const(self, value: object, dtype: str | type = np.float32) -> str:
        name = f"c{len(self._weights)}"
        self._weights[name] = np.asarray(value, dtype)
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def add(self, op: str, *inputs: str | float, outputs: int = 1, domain: str = "", **attrs):
        """A node; numbers among its inputs become scalar constants."""
        given = [x if isinstance(x, str) else self.const(x) for x in inputs]
        number = len(self._nodes)
        names = [f"{op.lower()}{number}"] + [f"{op.lower()}{number}_{i}" for i in range(1, outputs)]
        node = helper.make_node(op, given, names, name=f"n_{names[0]}", domain=domain, **attrs)
        self._nodes.append(node)
        return names[0] if outputs == 1 else names

    def unconverted(self, x: str) -> str:
        """What an operator without a converter makes of float32 [n, m]: float32 [n, 3]."""
        whole = self.add("Cast", x, to=models.INT64)
        return self.add(models.UNCONVERTED, whole, **models.COUNTS)

    def __getattr__(self, op: str) -> Callable:
        if not op[0].isupper():
            raise AttributeError(op)
        return lambda *inputs, **attrs: self.add(op, *inputs, **attrs)

    @property
    def made(self) -> list[str]:
        """The first output of each node so far."""
        return [node.output[0] for node in self._nodes]

    def model(self, *outputs: str) -> onnx.ModelProto:
        used = {name for node in self._nodes for name in node.input}
        graph = helper.make_graph(
            self._nodes,
            "net",
            self._inputs,
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(a, n) for n, a in self._weights.items() if n in used],
        )
        opsets = [helper.make_opsetid("", self._opset), helper.make_opsetid(CONTRIB, 1)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True)
        known = {v.name: v.type for v in (*inferred.graph.output, *inferred.graph.value_info)}
        for output in made.graph.output:
            kind = known[output.name]
            if not kind.tensor_type.HasField("shape"):
                # ONNX knows nothing of ONNX Runtime's own operators.
                found = next(o for o in session(made).get_outputs() if o.name == output.name)
                kind = helper.make_tensor_type_proto(models.FLOAT, found.shape)
            output.type.CopyFrom(kind)
        return made


def fused(proto: onnx.ModelProto, folder: Path, **fields: object) -> pipeline.Work:
    """The stages up to `fuse`."""
    return compile_here(proto, folder, until="fuse", **fields)


def groups(work: pipeline.Work) -> list[str]:
    """Each group in order: the fusion's name, and the words of its function and epilogue."""
    shown = []
    for group in work.fusions.groups:
        function = getattr(group.spec, "function", None)
        words = [getattr(group.spec, "method", None), *([function.name] if function else [])]
        words += [step.name for step in getattr(group.spec, "epilogue", ())]
        shown.append(" ".join([group.fusion, *filter(None, words)]))
    return shown


def names(work: pipeline.Work) -> list[str]:
    """The fusion of each group, in order."""
    return [group.fusion for group in work.fusions.groups]


def declined(work: pipeline.Work, fusion: str) -> set[str]:
    """The reasons that `fusion` gave."""
    return {miss.reason for miss in work.fusions.near_misses if miss.fusion == fusion}


def numbers_of(
    library: Path, proto: onnx.ModelProto, given: Mapping[str, np.ndarray] | None = None
) -> None:
    """Assert that the compiled `proto` answers as ONNX Runtime does, within the error budget."""
    module = runtime.load(library, 1)
    model = load(library.with_name("model.onnx"))
    normalise(model)
    for seed, dims in enumerate(sizes_to_try(module.manifest["dims"])):
        inputs = {**random_inputs(module.manifest["inputs"], dims, seed), **(given or {})}
        budgets = output_budgets(model, dims)
        ours = module(inputs)
        ours = ours if isinstance(ours, tuple) else (ours,)
        for spec, y, expected in zip(module.outputs, ours, reference(proto, inputs), strict=True):
            tolerance = Tolerance(FACTOR)
            verdict = tolerance.without_truth(spec.name, y, expected, budgets[spec.name])
            assert verdict.passed, verdict


def keeps_numbers(
    proto: onnx.ModelProto,
    folder: Path,
    given: Mapping[str, np.ndarray] | None = None,
    **fields: object,
) -> pipeline.Work:
    """Compile `proto` here, compare it with ONNX Runtime, and hand the work back."""
    work = compile_here(proto, folder, **fields)
    numbers_of(work.library, proto, given)
    return work


def outside_groups(work: pipeline.Work) -> list[str]:
    """The kernels that belong to no group, but for transposes between orders of the channels."""
    ours = tuple(group.kernel for group in work.fusions.groups)
    return [name for name in work.kernels if not name.startswith((*ours, "transpose"))]


def answers_each(
    proto: onnx.ModelProto,
    folder: Path,
    *each: Mapping[str, np.ndarray],
    tolerance: float = 1e-5,
    **fields: object,
) -> None:
    """Compile `proto` once and assert that it answers as ONNX Runtime does to each of `each`."""
    module = module_of(proto, folder, **fields)
    for values in each:
        given = {name: np.asarray(value) for name, value in values.items()}
        ours = module(given)
        ours = ours if isinstance(ours, tuple) else (ours,)
        for y, expected in zip(ours, reference(proto, given), strict=True):
            assert y.dtype == expected.dtype and y.shape == expected.shape
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
