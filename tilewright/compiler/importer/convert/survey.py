"""Every refusal of a model's nodes, where a conversion stops at the first.

    y = Fancy(x);  z = Pad(y, mode=unheard_of);  w = Relu(z)      two refusals, Fancy and Pad

What a refused node would have given is stood in for by a variable of the shape that ONNX infers,
so that what comes after is looked at too. Where ONNX does not know the rank (an operator of an
unknown domain), what comes after stays unchecked, and is listed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import onnx
from tvm import relax, tirx

from tilewright.compiler.importer.convert.table import is_convertible
from tilewright.compiler.importer.convert.to_relax import Importer
from tilewright.compiler.importer.graph import label, reads
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.fold import infer_dtypes
from tilewright.errors import TilewrightError


@dataclass
class Survey:
    """Nodes that a converter refuses, by label, and those that could not be looked at."""

    refusals: dict[str, TilewrightError] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)


def survey(model: OnnxModel, lanes: int) -> Survey:
    """Convert what can be of the normalised `model`; operators without a converter are no refusals.

    Raises UnsupportedModel for what concerns the model as a whole.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importer = _Surveyor(model, lanes)
        try:
            importer.from_onnx(model.graph, model.opset())
        except _Done:
            return importer.found
    raise AssertionError("the survey goes over the nodes and ends there")


class _Done(Exception):
    """All nodes have been looked at; a module is not wanted."""


class _Surveyor(Importer):
    def __init__(self, model: OnnxModel, lanes: int) -> None:
        super().__init__(model, lanes)
        self.found = Survey()
        self._dtypes = infer_dtypes(model)
        self._unknown: set[str] = set()
        self._sizes: dict[str, tirx.Var] = {}

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        super()._construct_nodes(onnx.GraphProto(node=graph.node))
        raise _Done

    def convert_node(self, node: onnx.NodeProto) -> None:
        if self._unknown & reads(node):
            self.found.unchecked.append(label(node))
            self._unknown.update(filter(None, node.output))
            return
        if is_convertible(node):
            try:
                super().convert_node(node)
                return
            except TilewrightError as error:
                self.found.refusals[label(node)] = error
        for name in filter(None, node.output):
            self._stand_in(name)

    def _stand_in(self, name: str) -> None:
        if name not in self._shapes or name not in self._dtypes:
            self._unknown.add(name)
            return
        shape = [self._size(size) for size in self._shapes[name]]
        kind = relax.TensorType(shape, str(self._dtypes[name]))
        self._nodes[name] = relax.Var(f"stand_in_{len(self._nodes)}", kind)

    def _size(self, size: int | str | None) -> int | tirx.Var:
        """A size as a shape has it; one of those that ONNX gives a name of its own stays open."""
        if isinstance(size, int):
            return size
        if size is None:
            return tirx.Var("size", "int64")
        if not self._sizes:
            for value in self._inputs.values():
                open_sizes = (n for n in value.ty.shape or () if isinstance(n, tirx.Var))
                self._sizes.update((n.name, n) for n in open_sizes)
        return self._sizes.setdefault(size, tirx.Var(size, "int64"))
