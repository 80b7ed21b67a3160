"""Operators that no converter knows become what ONNX's own definition says they are.

Before   y = MeanVarianceNormalization(x)
After    y = Div(Sub(x, ReduceMean(x)), Add(Sqrt(...), 1e-9))

Many operators are defined by a function body: others that compute the same. A node that comes of
one is called after the node that it replaces.
Source: https://onnx.ai/onnx/repo-docs/IR.html#functions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import defs, helper

from tilewright.compiler.importer.convert.table import is_supported
from tilewright.compiler.importer.graph import domain_of
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.normalise.attention_nodes import goes_beyond
from tilewright.compiler.importer.normalise.fold import infer_dtypes, infer_shapes

# A body may name operators that have one themselves.
MAX_ROUNDS = 6
# Operators that have a converter and are written out all the same: when, and why.
_WRITTEN_OUT: dict[str, Callable[[onnx.NodeProto], bool]] = {
    # The converter has the first result only.
    "LayerNormalization": lambda node: any(node.output[1:]),
    "Attention": goes_beyond,
    # onnx 1.23.2's strict shape inference refuses it.
    "MeanVarianceNormalization": lambda node: True,
}
# These have a step of their own, for most of what they can do: `decompose_attention`.
_ELSEWHERE = ("Attention",)


def expand_functions(model: OnnxModel) -> None:
    """Replace nodes of the main graph until none is left that is unknown and has a body."""
    for _ in range(MAX_ROUNDS):
        if not any(_wanted(node, model) for node in model.graph.node):
            return
        shapes, dtypes = infer_shapes(model), infer_dtypes(model)

        def type_of(name: str, shapes=shapes, dtypes=dtypes) -> onnx.TypeProto:
            if name not in dtypes:
                return onnx.TypeProto()
            kind = helper.np_dtype_to_tensor_dtype(dtypes[name])
            return helper.make_tensor_type_proto(kind, shapes.get(name))

        nodes: list[onnx.NodeProto] = []
        changed = False
        for number, node in enumerate(model.graph.node):
            body = _body(node, model, type_of) if _wanted(node, model) else None
            if body is None:
                nodes.append(node)
                continue
            changed = True
            nodes += _expanded(node, body, _schema(node, model), f"{number}")
            _import_domains(model, body)
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        if not changed:
            return  # What is left has no body for its types.


def _wanted(node: onnx.NodeProto, model: OnnxModel) -> bool:
    standard = domain_of(node) == ""
    written_out = standard and _WRITTEN_OUT.get(node.op_type, lambda _node: False)(node)
    known = is_supported(node) or (standard and node.op_type in _ELSEWHERE)
    if known and not written_out:
        return False
    schema = _schema(node, model)
    return schema is not None and (schema.has_function or schema.has_context_dependent_function)


def _schema(node: onnx.NodeProto, model: OnnxModel) -> defs.OpSchema | None:
    try:
        return defs.get_schema(node.op_type, model.opset(domain_of(node)), domain_of(node))
    except defs.SchemaError:
        return None


def _body(
    node: onnx.NodeProto, model: OnnxModel, type_of: Callable[[str], onnx.TypeProto]
) -> onnx.FunctionProto | None:
    """The newest definition that the model's operator set has."""
    schema, version = _schema(node, model), model.opset(domain_of(node))
    context = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    plain = [v for v in schema.function_opset_versions if v <= version]
    if context:
        types = [type_of(name).SerializeToString() for name in node.input]
        full = onnx.NodeProto()
        full.CopyFrom(node)
        given = {entry.name for entry in node.attribute}
        full.attribute.extend(_defaults(schema, given))
        text = schema.get_context_dependent_function_with_opset_version(
            max(context), full.SerializeToString(), types
        )
    elif plain:
        text = schema.get_function_with_opset_version(max(plain))
    else:
        return None
    return onnx.FunctionProto.FromString(text) if text else None


def _defaults(schema: defs.OpSchema, given: set[str]) -> list[onnx.AttributeProto]:
    return [
        entry.default_value
        for name, entry in schema.attributes.items()
        if name not in given and entry.default_value.name
    ]


def _expanded(
    node: onnx.NodeProto, body: onnx.FunctionProto, schema: defs.OpSchema, mark: str
) -> list[onnx.NodeProto]:
    """The body's nodes, between the values of `node`; their own values are called after `mark`."""
    names = dict(zip(body.input, [*node.input, *[""] * len(body.input)], strict=False))
    # A result that nobody reads has no name outside.
    results = zip(body.output, node.output, strict=False)
    names.update((inner, outer) for inner, outer in results if outer)
    attributes = {entry.name: entry for entry in _defaults(schema, set())}
    attributes.update({entry.name: entry for entry in body.attribute_proto})
    attributes.update({entry.name: entry for entry in node.attribute})
    owner = node.name or next(filter(None, node.output), node.op_type)
    prefix = f"{owner}.{mark}."
    return [_renamed(inner, names, attributes, prefix, owner) for inner in body.node]


def _renamed(
    node: onnx.NodeProto,
    names: Mapping[str, str],
    attributes: Mapping[str, onnx.AttributeProto],
    prefix: str,
    owner: str,
) -> onnx.NodeProto:
    def outside(name: str) -> str:
        return names.get(name, f"{prefix}{name}") if name else ""

    made = onnx.NodeProto()
    made.CopyFrom(node)
    made.name = f"{owner}.{node.name or node.op_type}"
    made.input[:] = map(outside, node.input)
    made.output[:] = map(outside, node.output)
    del made.attribute[:]
    for entry in node.attribute:
        if entry.ref_attr_name:
            # Without one, the inner operator has its own default.
            if entry.ref_attr_name in attributes:
                given = made.attribute.add()
                given.CopyFrom(attributes[entry.ref_attr_name])
                given.name = entry.name
            continue
        kept = made.attribute.add()
        kept.CopyFrom(entry)
        for graph in [kept.g] if entry.HasField("g") else kept.graphs:
            inner = [_renamed(n, names, attributes, prefix, owner) for n in graph.node]
            del graph.node[:]
            graph.node.extend(inner)
            for value in [*graph.input, *graph.output, *graph.initializer, *graph.value_info]:
                value.name = outside(value.name)
    return made


def _import_domains(model: OnnxModel, body: onnx.FunctionProto) -> None:
    """The body's operators may be of a domain that the model has not used."""
    known = {_plain(entry.domain) for entry in model.proto.opset_import}
    missing = [entry for entry in body.opset_import if _plain(entry.domain) not in known]
    model.proto.opset_import.extend(missing)


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
