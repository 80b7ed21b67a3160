"""Mutations of names: of nodes, tensors, dimensions, graphs."""

from __future__ import annotations

import random

from onnx import TensorProto, helper

from tools.mutate.case import Case, Mutation, all_nodes, rename, tensors

ODD = (
    "é Größe 形状 🙂",
    "../../etc/passwd",
    "/absolute/path",
    "a\"b'c",
    "two\nlines",
    "nul\0byte",
    "[/red]",
    "%s%n{0}{x}",
    "x" * 100_000,
    " ",
    "main",
    "lambda",
    "float32",
    "a.b:0",
    "-O3",
    "\u202ereversed",
    "0",
)


def _node_name(case: Case, rng: random.Random) -> None:
    rng.choice(all_nodes(case.graph)).name = rng.choice((*ODD, ""))


def _tensor_name(case: Case, rng: random.Random) -> None:
    rename(case.graph, rng.choice(tensors(case.graph)), rng.choice(ODD))


def _input_name(case: Case, rng: random.Random) -> None:
    rename(case.graph, rng.choice(case.graph.input).name, rng.choice(ODD))


def _output_name(case: Case, rng: random.Random) -> None:
    rename(case.graph, rng.choice(case.graph.output).name, rng.choice(ODD))


def _weight_name(case: Case, rng: random.Random) -> bool:
    if not case.graph.initializer:
        return False
    rename(case.graph, rng.choice(case.graph.initializer).name, rng.choice((*ODD, "")))
    return True


def _dimension_name(case: Case, rng: random.Random) -> None:
    value = rng.choice(case.graph.input)
    dims = value.type.tensor_type.shape.dim or [value.type.tensor_type.shape.dim.add()]
    names = "?", "-1", "2*n", "n+1", "1e9", "99999999999999999999", "²", "0"
    rng.choice(dims).dim_param = rng.choice((*ODD, *names))


def _same_node_names(case: Case, rng: random.Random) -> None:
    for node in all_nodes(case.graph):
        node.name = "same"


def _no_node_names(case: Case, rng: random.Random) -> None:
    for node in all_nodes(case.graph):
        node.name = ""


def _graph_name(case: Case, rng: random.Random) -> None:
    case.graph.name = rng.choice((*ODD, ""))


def _almost_equal(case: Case, rng: random.Random) -> bool:
    names = [value.name for value in case.graph.input]
    if len(names) < 2:
        case.graph.input.append(helper.make_tensor_value_info("spare", TensorProto.FLOAT, [1]))
        names.append("spare")
    # One identifier for both, where a compiler replaces what is no letter.
    for name, new in zip(names, ("a.b", "a_b"), strict=False):
        rename(case.graph, name, new)
    return True


def _empty_output(case: Case, rng: random.Random) -> None:
    rng.choice(all_nodes(case.graph)).output[0] = ""


def _empty_input(case: Case, rng: random.Random) -> None:
    rng.choice([node for node in all_nodes(case.graph) if node.input]).input[0] = ""


def _two_makers(case: Case, rng: random.Random) -> None:
    node = case.graph.node.add()
    node.CopyFrom(rng.choice(case.graph.node[:-1]))


def _output_is_input(case: Case, rng: random.Random) -> None:
    rng.choice(case.graph.node).output[0] = rng.choice(case.graph.input).name


def _weight_is_made(case: Case, rng: random.Random) -> bool:
    if not case.graph.initializer:
        return False
    rng.choice(case.graph.initializer).name = rng.choice(tensors(case.graph))
    return True


def _weights_alike(case: Case, rng: random.Random) -> bool:
    weights = list(case.graph.initializer)
    if len(weights) < 2:
        return False
    weights[0].name = weights[1].name
    return True


def _inputs_alike(case: Case, rng: random.Random) -> None:
    value = rng.choice(case.graph.input)
    case.graph.input.add().CopyFrom(value)


def _outputs_alike(case: Case, rng: random.Random) -> None:
    value = rng.choice(case.graph.output)
    case.graph.output.add().CopyFrom(value)


def _twice_in_a_node(case: Case, rng: random.Random) -> None:
    node = rng.choice(case.graph.node)
    node.output.append(node.output[0])


def _shadowed(case: Case, rng: random.Random) -> bool:
    inner = [node for node in all_nodes(case.graph) if node not in case.graph.node]
    if not inner:
        return False
    outer = [*tensors(case.graph), *(value.name for value in case.graph.input)]
    rng.choice(inner).output[0] = rng.choice(outer)
    return True


NAMES = (
    Mutation("node_name", "names of nodes that no shell, page or file system expects", _node_name),
    Mutation("tensor_name", "the same for tensors", _tensor_name),
    Mutation("input_name", "and for inputs, which a caller writes", _input_name),
    Mutation("output_name", "and for outputs", _output_name),
    Mutation("weight_name", "and for initialisers", _weight_name),
    Mutation("dimension_name", "dimensions called like numbers or expressions", _dimension_name),
    Mutation("same_node_names", "an exporter that calls every node the same", _same_node_names),
    Mutation("no_node_names", "names are optional", _no_node_names),
    Mutation("graph_name", "an odd or missing name of the graph", _graph_name),
    Mutation("almost_equal", "inputs that are one identifier", _almost_equal),
    Mutation("empty_output", "a result without a name", _empty_output),
    Mutation("empty_input", "an operand that is left out", _empty_input),
    Mutation("two_makers", "a node that is there twice", _two_makers),
    Mutation("output_is_input", "a node that makes an input", _output_is_input),
    Mutation("weight_is_made", "an initialiser that a node makes", _weight_is_made),
    Mutation("weights_alike", "two initialisers of one name", _weights_alike),
    Mutation("inputs_alike", "an input listed twice", _inputs_alike),
    Mutation("outputs_alike", "an output listed twice", _outputs_alike),
    Mutation("twice_in_a_node", "a node with two results of one name", _twice_in_a_node),
    Mutation("shadowed", "a branch or body that makes what is outside it", _shadowed),
)
