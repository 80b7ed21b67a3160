"""Mutations of how nodes are wired, of functions and of operator sets."""

from __future__ import annotations

import random

import onnx
from onnx import defs, helper

from tools.mutate.case import Case, Mutation, all_nodes, tensors


def _drop_operand(case: Case, rng: random.Random) -> None:
    node = rng.choice([node for node in all_nodes(case.graph) if node.input])
    del node.input[rng.randrange(len(node.input))]


def _drop_all_operands(case: Case, rng: random.Random) -> None:
    del rng.choice(all_nodes(case.graph)).input[:]


def _extra_operand(case: Case, rng: random.Random) -> None:
    node = rng.choice(all_nodes(case.graph))
    node.input.extend([rng.choice(case.graph.input).name] * rng.choice((1, 2, 50)))


def _swap_operands(case: Case, rng: random.Random) -> bool:
    nodes = [node for node in all_nodes(case.graph) if len(node.input) > 1]
    if not nodes:
        return False
    node = rng.choice(nodes)
    node.input[:] = rng.sample(list(node.input), len(node.input))
    return True


def _other_operand(case: Case, rng: random.Random) -> None:
    node = rng.choice([node for node in case.graph.node if node.input])
    made = tensors(case.graph)[: list(case.graph.node).index(node)]
    given = [v.name for v in (*case.graph.input, *case.graph.initializer)]
    node.input[rng.randrange(len(node.input))] = rng.choice([*made, *given])


def _unknown_operand(case: Case, rng: random.Random) -> None:
    node = rng.choice([node for node in all_nodes(case.graph) if node.input])
    node.input[rng.randrange(len(node.input))] = "nowhere"


def _drop_result(case: Case, rng: random.Random) -> None:
    node = rng.choice(all_nodes(case.graph))
    del node.output[rng.randrange(len(node.output)) :]


def _extra_result(case: Case, rng: random.Random) -> None:
    rng.choice(all_nodes(case.graph)).output.extend(f"extra{n}" for n in range(rng.choice((1, 9))))


def _drop_node(case: Case, rng: random.Random) -> None:
    del case.graph.node[rng.randrange(len(case.graph.node))]


def _shuffle(case: Case, rng: random.Random) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in case.graph.node]
    rng.shuffle(nodes)
    del case.graph.node[:]
    case.graph.node.extend(nodes)


def _cycle(case: Case, rng: random.Random) -> None:
    first = rng.choice([node for node in case.graph.node[:-1] if node.input] or case.graph.node)
    first.input[0] = case.graph.node[-1].output[0]


def _own_operand(case: Case, rng: random.Random) -> None:
    node = rng.choice([node for node in case.graph.node if node.input])
    node.input[0] = node.output[0]


def _drop_weight(case: Case, rng: random.Random) -> bool:
    if not case.graph.initializer:
        return False
    del case.graph.initializer[rng.randrange(len(case.graph.initializer))]
    return True


def _drop_input(case: Case, rng: random.Random) -> None:
    del case.graph.input[rng.randrange(len(case.graph.input))]


def _drop_all_inputs(case: Case, rng: random.Random) -> None:
    del case.graph.input[:]


def _unknown_output(case: Case, rng: random.Random) -> None:
    rng.choice(case.graph.output).name = "nowhere"


def _output_is_given(case: Case, rng: random.Random) -> None:
    given = [v.name for v in (*case.graph.input, *case.graph.initializer)]
    rng.choice(case.graph.output).name = rng.choice(given)


def _unknown_operator(case: Case, rng: random.Random) -> None:
    names = "Nothing", "", "relu", "Conv ", "É", "__class__", "If\0"
    rng.choice(all_nodes(case.graph)).op_type = rng.choice(names)


def _other_operator(case: Case, rng: random.Random) -> None:
    names = sorted({s.name for s in defs.get_all_schemas() if s.domain == ""})
    rng.choice(all_nodes(case.graph)).op_type = rng.choice(names)


def _like_operator(case: Case, rng: random.Random) -> None:
    names = "Relu", "Add", "MatMul", "Concat", "Gather", "Conv", "Reshape", "Softmax", "Slice"
    rng.choice(all_nodes(case.graph)).op_type = rng.choice(names)


def _other_domain(case: Case, rng: random.Random) -> None:
    domain = rng.choice(("my.domain", "com.microsoft", "ai.onnx.ml", "local", "AI.ONNX", "\n"))
    rng.choice(all_nodes(case.graph)).domain = domain
    if rng.random() < 0.5:
        case.model.opset_import.append(helper.make_opsetid(domain, 1))


def _no_body(case: Case, rng: random.Random) -> bool:
    nodes = [n for n in case.graph.node if any(a.HasField("g") for a in n.attribute)]
    if not nodes:
        return False
    entry = next(a for a in rng.choice(nodes).attribute if a.HasField("g"))
    kind = rng.choice(("node", "output", "input", "g"))
    if kind == "g":
        entry.ClearField("g")
    else:
        entry.g.ClearField(kind)
    return True


def _other_body(case: Case, rng: random.Random) -> bool:
    graphs = [a.g for n in case.graph.node for a in n.attribute if a.HasField("g")]
    if not graphs:
        return False
    graph, which = rng.choice(graphs), rng.choice(("input", "output"))
    values = getattr(graph, which)
    if values and rng.random() < 0.5:
        del values[rng.randrange(len(values))]
    else:
        values.add().CopyFrom((values or case.graph.input)[0])
    return True


def _recursive(case: Case, rng: random.Random) -> bool:
    if not case.model.functions:
        return False
    first, second = case.model.functions[:2]
    # Of itself, or of the other, which calls it.
    inner = rng.choice((first, second))
    inner.node[0].CopyFrom(
        helper.make_node(second.name, [inner.input[0]], list(inner.node[0].output), domain="local")
    )
    inner.opset_import.append(helper.make_opsetid("local", 1))
    return True


def _no_function(case: Case, rng: random.Random) -> bool:
    if not case.model.functions:
        return False
    del case.model.functions[rng.randrange(len(case.model.functions))]
    return True


def _other_function(case: Case, rng: random.Random) -> bool:
    if not case.model.functions:
        return False
    function = rng.choice(case.model.functions)
    change = rng.choice(("input", "output", "node", "opset_import", "attribute", "name", "domain"))
    if change == "domain":
        function.domain = ""
    elif change == "name":
        function.name = "Relu"
    elif change in ("input", "output") and rng.random() < 0.5:
        getattr(function, change).append("more")
    else:
        function.ClearField(change)
    return True


def _functions_alike(case: Case, rng: random.Random) -> bool:
    if not case.model.functions:
        return False
    case.model.functions.add().CopyFrom(case.model.functions[0])
    return True


def _opset(case: Case, rng: random.Random) -> None:
    numbers = 0, -1, 1, 5, 9, 11, 13, 22, 23, 9999, 1 << 40, -(1 << 63)
    case.model.opset_import[0].version = rng.choice(numbers)


def _no_opset(case: Case, rng: random.Random) -> None:
    case.model.ClearField("opset_import")


def _two_opsets(case: Case, rng: random.Random) -> None:
    domain, version = rng.choice(("", "ai.onnx")), rng.choice((1, 9, 21))
    case.model.opset_import.append(helper.make_opsetid(domain, version))


def _ir_version(case: Case, rng: random.Random) -> None:
    case.model.ir_version = rng.choice((0, -1, 1, 3, 4, 7, 13, 99, (1 << 63) - 1))


def _emptied(case: Case, rng: random.Random) -> None:
    case.model.graph.ClearField(rng.choice(("node", "output", "input", "initializer")))


GRAPHS = (
    Mutation("drop_operand", "a node that lacks an input", _drop_operand),
    Mutation("drop_all_operands", "a node without inputs", _drop_all_operands),
    Mutation("extra_operand", "a node with too many inputs", _extra_operand),
    Mutation("swap_operands", "inputs in another order", _swap_operands),
    Mutation("other_operand", "an input of another type or rank", _other_operand),
    Mutation("unknown_operand", "an input that nothing makes", _unknown_operand),
    Mutation("drop_result", "a node that lacks an output", _drop_result),
    Mutation("extra_result", "a node with too many outputs", _extra_result),
    Mutation("drop_node", "a node that a tool removed", _drop_node),
    Mutation("shuffle", "nodes that read what comes later", _shuffle),
    Mutation("cycle", "a graph that goes round", _cycle),
    Mutation("own_operand", "a node that reads itself", _own_operand),
    Mutation("drop_weight", "an initialiser that a tool removed", _drop_weight),
    Mutation("drop_input", "an input that a tool removed", _drop_input),
    Mutation("drop_all_inputs", "a model without inputs", _drop_all_inputs),
    Mutation("unknown_output", "an output that nothing makes", _unknown_output),
    Mutation("output_is_given", "an output that is an input or an initialiser", _output_is_given),
    Mutation("unknown_operator", "an operator that does not exist", _unknown_operator),
    Mutation("other_operator", "any operator of ONNX in the place of another", _other_operator),
    Mutation("like_operator", "an operator that is common, in the wrong place", _like_operator),
    Mutation("other_domain", "an operator of another domain", _other_domain),
    Mutation("no_body", "If, Loop or Scan with an empty body", _no_body),
    Mutation("other_body", "a body with other inputs or outputs", _other_body),
    Mutation("recursive", "functions that call each other", _recursive),
    Mutation("no_function", "a function that is not there", _no_function),
    Mutation("other_function", "a function that does not fit its calls", _other_function),
    Mutation("functions_alike", "two functions of one name", _functions_alike),
    Mutation("opset", "operator sets that do not exist, or are of another time", _opset),
    Mutation("no_opset", "no operator set at all", _no_opset),
    Mutation("two_opsets", "one domain with two versions", _two_opsets),
    Mutation("ir_version", "versions of the file format", _ir_version),
    Mutation("emptied", "no nodes, no outputs, no inputs, no weights", _emptied),
)
