"""Convert a normalised model to a Relax module whose `main` takes the inputs in order."""

from __future__ import annotations

import math
import re
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import onnx
import tvm
from tvm import relax, tirx
from tvm.ir import GenericConst, is_prim_expr
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter
from tvm.sym import Analyzer
from tvm.tirx import IntImm
from tvm.tirx.analysis import undefined_vars

from tilewright.compiler.importer.check import check_elements
from tilewright.compiler.importer.convert import agreeing, loops, small, table
from tilewright.compiler.importer.convert.demand import only_if
from tilewright.compiler.importer.convert.known_values import values_of
from tilewright.compiler.importer.convert.minifloat import decoded, encoded
from tilewright.compiler.importer.graph import attribute, domain_of, label, subgraphs
from tilewright.compiler.importer.model import OnnxModel, check_dtype
from tilewright.compiler.importer.normalise.fold import infer_shapes
from tilewright.compiler.importer.shapes import open_dimensions
from tilewright.compiler.importer.small_values import small_values
from tilewright.compiler.small_types import BITS, STORED, computed
from tilewright.errors import TilewrightError, UnsupportedModel


@dataclass(frozen=True)
class Imported:
    """The Relax module of a model, and what became of its nodes.

    `origins`: for variables by name the ONNX nodes they come from. `left_out`: for nodes by label
    the branch that sizes rule out, and why; a run that takes it ends in an error.
    """

    mod: tvm.IRModule
    origins: dict[str, tuple[str, ...]]
    left_out: dict[str, str]


def to_relax(model: OnnxModel, lanes: int) -> Imported:
    """Convert `model`; `lanes` is how many float32 numbers the target's vectors have.

    Raises UnsupportedModel with every operator that has no converter, or with the first
    node that a converter refuses.
    """
    table.check_supported(model)
    with warnings.catch_warnings():
        # Input names are made into identifiers; the manifest keeps the user's names.
        warnings.simplefilter("ignore")
        importer = Importer(model, lanes)
        mod = importer.from_onnx(model.graph, model.opset())
    origins = importer.origins
    for block in mod["main"].body.blocks:
        for binding in block.bindings:
            # The result of a dataflow block is another name for the last value.
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Var) and value.name in origins:
                origins[binding.var.name] = origins[value.name]
    return Imported(mod, origins, importer.left_out)


def _fixed_shapes(model: OnnxModel) -> dict[str, list[int]]:
    """Shapes of the inputs without an open dimension; TVM takes a size of 0 for one."""
    dims = {value.name: value.type.tensor_type.shape.dim for value in model.inputs()}
    return {
        name: [dim.dim_value for dim in sizes]
        for name, sizes in dims.items()
        if not any(dim.dim_param for dim in sizes)
    }


# Whose converters in TVM take a shape for an int64 vector.
_READ_SHAPES = (
    *("Cast", "CastLike", "Concat", "ConstantOfShape", "Equal", "Expand", "Gather", "Reshape"),
    *("Resize", "Shape", "Slice", "Squeeze", "Where"),
)
# Elements. From here on what only depends on constants is computed at run time.
_MOST_COMPUTED = 1 << 22
_POOLS = ("MaxPool", "AveragePool", "LpPool")


class Importer(ONNXGraphImporter):
    """TVM's importer, with weights from arrays, our converters, and errors that name the node."""

    def __init__(self, model: OnnxModel, lanes: int) -> None:
        self._small = small_values(model)
        branching = [label(node) for node in model.graph.node if subgraphs(node)]
        if self._small and branching:
            raise UnsupportedModel(
                f"tensors of type {next(iter(self._small.values()))} beside branches",
                where=f"node {branching[0]}",
                expected="other types, or a model without If, Loop and Scan",
                hint="export the model in float32",
            )
        inputs = {value.name for value in model.inputs()} & set(self._small)
        # The others' types are what the file says.
        stored = {name: STORED[self._small[name]] for name in inputs}
        super().__init__(shape_dict=_fixed_shapes(model), dtype_dict=stored)
        self._model, self._converters = model, table.converters(lanes)
        self._shapes = infer_shapes(model)
        self._node: onnx.NodeProto | None = None
        # In a branch that data chooses: a scalar of bool, whether it is taken.
        self.taken: relax.Expr | None = None
        self.origins: dict[str, tuple[str, ...]] = {}
        # By node: a branch that cannot be taken, and why.
        self.left_out: dict[str, str] = {}

    def _parse_graph_initializers(self, graph: onnx.GraphProto) -> None:
        for name, array in self._model.constants().items():
            kind = "string" if array.dtype.kind == "O" else array.dtype.name
            check_dtype(kind, f"initialiser {name!r}")
            plain = np.asarray(computed(array), order="C")
            self._nodes[name] = relax.const(tvm.runtime.tensor(plain))

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        """Done before, for all nodes at once: `table.check_supported`."""

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for name in self._inputs:
            check_elements(self._shapes.get(name, ()), f"input {name!r}")
            if self._small.get(name) in BITS:
                self._nodes[name] = decoded(self.bb, self._inputs[name], self._small[name])
        for node in graph.node:
            self.convert_node(node)
        for value in graph.output:
            # TVM keeps the result of Shape as a shape; a caller wants a tensor.
            made = self._nodes.get(value.name)
            if made is not None and isinstance(made.ty, relax.ShapeType):
                self._nodes[value.name] = self.bb.emit(relax.op.shape_to_tensor(made))
            if self._small.get(value.name) in BITS:
                kind = self._small[value.name]
                self._nodes[value.name] = encoded(self.bb, made, kind, saturate=False)

    def convert_node(self, node: onnx.NodeProto) -> None:
        """Convert one node, whose inputs are converted. Raises UnsupportedModel that names it."""
        self._node = node
        try:
            # Before: some converters compute constants.
            for name in node.output:
                check_elements(self._shapes.get(name, ()), f"node {label(node)}")
            changed = {**self._shapes_made_tensors(node), **self._large_made_variables(node)}
            changed = {**self._sizes_agreed_on(node), **changed}
            self._convert(node)
            self._nodes |= changed
            self._name_results(node)
            self._refuse_empty_pool(node)
            self._refuse_huge(node)
        except TilewrightError as error:
            error.where = error.where or f"node {label(node)}"
            raise

    def _convert(self, node: onnx.NodeProto) -> None:
        if domain_of(node) == "" and node.op_type in _WITH_GRAPHS:
            results = _WITH_GRAPHS[node.op_type](self, node)
            self._nodes |= dict(zip(node.output, results, strict=False))
            return
        try:
            super()._construct_nodes(onnx.GraphProto(node=[node]))
        except TilewrightError:
            raise
        except Exception as error:
            if _is_ours(error):
                raise
            raise UnsupportedModel(
                f"the operator cannot be converted: {_first_line(error)}",
                where=f"node {label(node)}, inputs {self._shown_inputs(node)}",
                expected="inputs and attributes that the operator allows",
                hint=self._hint(),
            ) from error

    def choose(self, node: onnx.NodeProto) -> list[relax.Expr]:
        """The branch that is taken, where sizes tell; both, and one's results, where data does."""
        condition = self._nodes[node.input[0]]
        branches = [attribute(node, name) for name in ("then_branch", "else_branch")]
        known = values_of(self.bb, condition)
        if known is not None and all(isinstance(value, IntImm) for value in known):
            return self.inside(branches[0 if int(known[0]) else 1])
        taken = self.bb.emit(relax.op.reshape(condition, []))
        other = self.bb.emit(relax.op.logical_not(taken))
        both = [self._tried(*pair) for pair in zip(branches, (taken, other), strict=True)]
        refusals = [made for made in both if isinstance(made, TilewrightError)]
        if len(refusals) == 2:
            raise refusals[0]
        if refusals:
            first = isinstance(both[1], TilewrightError)
            left_out = "else" if first else "then"
            self.left_out[label(node)] = f"{left_out}_branch: {refusals[0].what}"
            message = f"node {label(node)} takes its {left_out}_branch, which could not be compiled"
            results = both[0] if first else both[1]
            return only_if(self.bb, condition, first, f"{message}: {refusals[0].what}", results)
        for name, one, another in zip(node.output, *both, strict=True):
            _check_alike(name, one, another, self._hint())
        bodies = [relax.SeqExpr([], relax.Tuple(values)) for values in both]
        made = self.bb.emit(relax.If(taken, *bodies))
        return [self.bb.emit(relax.TupleGetItem(made, n)) for n in range(len(node.output))]

    def _tried(
        self, graph: onnx.GraphProto, taken: relax.Expr
    ) -> list[relax.Expr] | TilewrightError:
        """The results of a branch; or why it has none, and then nothing of it stays."""
        self.bb._begin_binding_block()
        try:
            results = self.inside(graph, taken)
        except TilewrightError as refusal:
            self.bb._end_block()
            return refusal
        for binding in self.bb._end_block().bindings:
            self.bb.emit_normalized(binding)
        return results

    def inside(
        self,
        graph: onnx.GraphProto,
        taken: relax.Expr | None = None,
        given: Mapping[str, relax.Expr] = MappingProxyType({}),
    ) -> list[relax.Expr]:
        """The results of a graph inside a node; its nodes see what is around it and its inputs.

        `taken`: whether its results are wanted at all, where data tells.
        """
        outside = self._node, self._nodes, self.taken
        self._nodes = {**self._nodes, **given}
        if taken is not None and self.taken is not None:
            taken = self.bb.emit(relax.op.logical_and(self.taken, taken))
        self.taken = self.taken if taken is None else taken
        try:
            for tensor in graph.initializer:
                self._nodes[tensor.name] = relax.const(self._parse_array(tensor))
            for node in graph.node:
                # A refusal is one of the whole node, also where a survey goes on after it.
                Importer.convert_node(self, node)
            return [self.tensor(value.name) for value in graph.output]
        finally:
            self._node, self._nodes, self.taken = outside

    def tensor(self, name: str) -> relax.Expr:
        """A value that is converted; a shape as a vector, and a size as a scalar."""
        value = self._nodes[name]
        if is_prim_expr(value):
            vector = self.bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr([value])))
            return self.bb.emit(relax.op.reshape(vector, []))
        if isinstance(value.ty, relax.ShapeType):
            return self.bb.emit(relax.op.shape_to_tensor(value))
        return value

    def sizes(self) -> set[tirx.Var]:
        """The open sizes of all values so far."""
        shapes = (getattr(getattr(v, "ty", None), "shape", None) for v in self._nodes.values())
        known = (shape for shape in shapes if isinstance(shape, relax.ShapeExpr))
        return {var for shape in known for size in shape for var in undefined_vars(size)}

    def _shapes_made_tensors(self, node: onnx.NodeProto) -> dict[str, relax.Expr]:
        """Let `node` read tensors where it cannot read the results of Shape; what they were."""
        if node.op_type in _READ_SHAPES:
            return {}
        shapes = {
            name: value
            for name in node.input
            if name and isinstance(getattr(value := self._nodes[name], "ty", None), relax.ShapeType)
        }
        for name, value in shapes.items():
            self._nodes[name] = self.bb.emit(relax.op.shape_to_tensor(value))
        return shapes

    def _sizes_agreed_on(self, node: onnx.NodeProto) -> dict[str, relax.Expr]:
        """Let the inputs of `node` have sizes that fit each other; what they were."""
        names = list(dict.fromkeys(filter(None, node.input)))
        if domain_of(node) or node.op_type not in agreeing.OPERATORS or len(names) < 2:
            return {}
        values = [self._nodes[name] for name in names]
        fitting = agreeing.agreed(self.bb, node.op_type, attribute(node, "axis", 0), values)
        changed = {n: v for n, v, new in zip(names, values, fitting, strict=True) if new is not v}
        self._nodes |= dict(zip(names, fitting, strict=True))
        return changed

    def _large_made_variables(self, node: onnx.NodeProto) -> dict[str, relax.Expr]:
        """Hide large constants where converters would compute a larger one; what they were."""
        names = set(filter(None, node.input))
        large = {n: self._nodes[n] for n in names if isinstance(self._nodes.get(n), GenericConst)}
        sizes = [self._shapes.get(name, (None,)) for name in node.output]
        made = sum(math.prod(shape) for shape in sizes if all(isinstance(n, int) for n in shape))
        if made <= _MOST_COMPUTED or len(large) < len(names):
            return {}
        for name, value in large.items():
            self._nodes[name] = self.bb.emit(value)
        return large

    @property
    def _input_variables(self) -> set[str]:
        return {value.name for value in self._inputs.values() if isinstance(value, relax.Var)}

    def _hint(self) -> str:
        if names := open_dimensions(self._model):
            return f"fix open dimensions: {' '.join(f'--dim {name}=SIZE' for name in names)}"
        return "please report the model if ONNX Runtime runs it"

    def _refuse_empty_pool(self, node: onnx.NodeProto) -> None:
        """A window larger than what it slides over: runtimes disagree on what comes out."""
        shape = getattr(self._nodes[node.output[0]].ty, "shape", None)
        if node.op_type not in _POOLS or shape is None:
            return
        if any(isinstance(size, IntImm) and size.value < 1 for size in shape):
            raise UnsupportedModel(
                f"the pooling window is larger than its input, the result has shape {shape}",
                where=f"node {label(node)}, inputs {self._shown_inputs(node)}",
                expected="at least one whole window",
                hint="give a larger input with --shape or --dim",
            )

    def _refuse_huge(self, node: onnx.NodeProto) -> None:
        """Sizes that only converters know."""
        for name in filter(None, node.output):
            shape = getattr(getattr(self._nodes.get(name), "ty", None), "shape", None)
            if isinstance(shape, relax.ShapeExpr):
                check_elements([_least(size) for size in shape.values], f"node {label(node)}")

    def _name_results(self, node: onnx.NodeProto) -> None:
        """Bind each result to a variable that carries the node's name through the passes."""
        for output in filter(None, node.output):
            value = self._nodes[output]
            if isinstance(value, relax.Var) and value.name not in self.origins:
                # Bound by a converter under a name of TVM's: bind it again, the old one is dead.
                value = self.bb.lookup_binding(value)
            computed = isinstance(value, relax.Call | relax.TupleGetItem)
            if computed and isinstance(value.ty, relax.TensorType):
                hint = re.sub(r"\W+", "_", node.name or output).strip("_")
                named = self.bb.emit(value, hint)
                self._nodes[output] = named
                value = named
            self._claim(value, label(node))

    def _claim(self, value: object, name: str) -> None:
        """Note `name` as the origin of `value` and of what its converter bound on the way."""
        if isinstance(value, relax.Var):
            if value.name in self.origins or value.name in self._input_variables:
                return
            self.origins[value.name] = (name,)
            self._claim(self.bb.lookup_binding(value), name)
        elif isinstance(value, relax.Call):
            for argument in value.args:
                self._claim(argument, name)
        elif isinstance(value, relax.Tuple):
            for field in value.fields:
                self._claim(field, name)
        elif isinstance(value, relax.TupleGetItem):
            self._claim(value.tuple_value, name)

    def _convert_operator(self, op_name: str, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        attrs["tvm_custom"]["result"] = self._node.output[0]
        ours = self._converters.get((domain_of(self._node), op_name))
        if domain_of(self._node) == "" and op_name in small.CONVERTERS:
            kinds = [self._small.get(name) for name in (*self._node.input, *self._node.output)]
            ours = small.CONVERTERS[op_name](kinds, attrs) or ours
        if any(_is_double(value) for value in inputs):
            attrs = {**_defaults(op_name, domain_of(self._node), opset), **attrs}
        if ours is None:
            return super()._convert_operator(op_name, inputs, attrs, opset)
        return self.bb.normalize(ours(self.bb, list(inputs), attrs, opset))

    def _shown_inputs(self, node: onnx.NodeProto) -> str:
        shown = []
        for name in filter(None, node.input):
            value = self._nodes.get(name)
            shown.append(f"{name}: {getattr(value, 'ty', 'unknown')}")
        return "; ".join(shown)[:400] or "none"


def _is_double(value: object) -> bool:
    kind = getattr(value, "ty", None)
    return isinstance(kind, relax.TensorType) and str(kind.dtype) == "float64"


def _defaults(op: str, domain: str, opset: int) -> dict[str, float]:
    """The numbers of attributes that a node leaves out.

    They are float32, also where the operator computes in float64; converters have 0.1 or 1e-5 as
    Python reads them.
    """
    if domain or not onnx.defs.has(op):
        return {}
    schema = onnx.defs.get_schema(op, opset)
    kinds = {name: entry.default_value for name, entry in schema.attributes.items()}
    return {n: v.f for n, v in kinds.items() if v.type == onnx.AttributeProto.FLOAT}


def _check_alike(name: str, one: relax.Expr, other: relax.Expr, hint: str) -> None:
    """Raise UnsupportedModel where the types of a result depend on which branch is taken."""
    kinds = [(value.ty.ndim, str(value.ty.dtype)) for value in (one, other)]
    if kinds[0] != kinds[1]:
        shown = " and ".join(f"{kind} with {rank} axes" for rank, kind in kinds)
        raise UnsupportedModel(
            f"the branches give {name!r} different types: {shown}",
            expected="a condition that the sizes of the inputs tell, or one type",
            hint=hint,
        )


def _least(size: tirx.Expr) -> object:
    """A size where every open one is 1."""
    analyzer = Analyzer()
    for var in undefined_vars(size):
        analyzer.bind(var, IntImm("int64", 1))
    least = analyzer.simplify(size)
    return least.value if isinstance(least, IntImm) else str(least)


def _is_ours(error: Exception) -> bool:
    """Whether `error` was raised by a line of this package: that is no fault of the model."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return frames[-1].f_globals.get("__name__", "").startswith(f"{__package__.split('.')[0]}.")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


_WITH_GRAPHS = {"If": Importer.choose, "Loop": loops.loop, "Scan": loops.scan}
