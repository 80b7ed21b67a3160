"""Mutations of attributes: missing, of another type, out of range."""

from __future__ import annotations

import random

from onnx import AttributeProto, NodeProto, TensorProto, helper

from tools.mutate.case import Case, Mutation, all_nodes

NUMBERS = (0, -1, 1, 2, 3, -5, 7, 100, 1 << 31, (1 << 63) - 1, -(1 << 63))
LISTS = (
    *([], [0], [0, 0], [-1, -1], [1, 1, 1], [0, 0, 0, 0], [3, 2, 1, 0], [0, 0, 1, 2]),
    *([1 << 40] * 2, [1 << 31] * 4, [-3] * 4, [9, 9], [100] * 2, [2] * 40, [(1 << 63) - 1] * 2),
)


def _pick(
    case: Case, rng: random.Random, kind: int | None = None
) -> tuple[NodeProto, AttributeProto] | None:
    found = [
        (node, entry)
        for node in all_nodes(case.graph)
        for entry in node.attribute
        if kind is None or entry.type == kind
    ]
    return rng.choice(found) if found else None


def _drop(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng)) is not None:
        found[0].attribute.remove(found[1])
    return found is not None


def _number(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng, AttributeProto.INT)) is not None:
        found[1].i = rng.choice(NUMBERS)
    return found is not None


def _numbers(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng, AttributeProto.INTS)) is not None:
        entry = found[1]
        if rng.random() < 0.5:
            entry.ints[rng.randrange(len(entry.ints))] = rng.choice(NUMBERS)
        else:
            entry.ints[:] = rng.choice(LISTS)
    return found is not None


def _float(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng, AttributeProto.FLOAT)) is not None:
        found[1].f = rng.choice((float("nan"), float("inf"), -1.0, 0.0, 3e38, -1e-30))
    return found is not None


def _text(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng, AttributeProto.STRING)) is not None:
        found[1].s = rng.choice((b"", b"nothing", b"\xff\xfe", b"x" * 10_000, b"[/b]"))
    return found is not None


def _other_type(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng)) is None:
        return False
    values = 1, [1, 2], 0.5, [0.5], "text", ["a", "b"], [], helper.make_tensor("t", 1, [1], [2.0])
    name = found[1].name
    kind = {"attr_type": AttributeProto.INTS} if (value := rng.choice(values)) == [] else {}
    found[1].CopyFrom(helper.make_attribute(name, value, **kind))
    return True


def _type_lies(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng)) is not None:
        found[1].type = rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 14))
    return found is not None


def _unknown(case: Case, rng: random.Random) -> None:
    entry = helper.make_attribute(rng.choice(("nothing", "", "é", "axis")), 1)
    rng.choice(all_nodes(case.graph)).attribute.append(entry)


def _twice(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng)) is not None:
        found[0].attribute.add().CopyFrom(found[1])
    return found is not None


def _reference(case: Case, rng: random.Random) -> bool:
    if (found := _pick(case, rng)) is not None:
        found[1].ref_attr_name = "by"
    return found is not None


def _conv(case: Case, rng: random.Random) -> bool:
    """A convolution or pool with attributes that fit it by number, not by value."""
    names = "Conv", "ConvTranspose", "MaxPool", "AveragePool"
    nodes = [node for node in case.graph.node if node.op_type in names]
    if not nodes:
        return False
    node = rng.choice(nodes)
    far = 1 << 33
    windows = {
        "strides": ([0, 0], [-1, -1], [1, 0], [far, far], [1 << 62, 1]),
        "dilations": ([0, 0], [-1, -1], [far, far], [1 << 62, 1]),
        "pads": ([-1] * 4, [-100] * 4, [1 << 20] * 4, [far] * 4, [1 << 62] * 4, [1, 1]),
        "kernel_shape": ([0, 0], [-1, -1], [100, 100], [far, far], [1], [5, 5, 5]),
        "group": (0, -1, 3, 1000, far),
        "auto_pad": ("SAME_UPPER", "VALID", "nothing", ""),
        "output_padding": ([1, 1], [5, 5], [-1, -1], [far, far]),
        "output_shape": ([0, 0], [1, 1], [far, far], [50, 50], [-3, -3]),
        "ceil_mode": (1, 7, -1),
        "storage_order": (1, 5),
    }
    name = rng.choice(list(windows))
    for entry in [entry for entry in node.attribute if entry.name == name]:
        node.attribute.remove(entry)
    node.attribute.append(helper.make_attribute(name, rng.choice(windows[name])))
    return True


# An operator that reads `x`, with attributes and constants that its inputs do not allow.
_ODD_NODES: tuple[tuple[str, dict, tuple[tuple[int, ...], ...]], ...] = (
    ("Transpose", {"perm": [0, 0]}, ()),
    ("Transpose", {"perm": [5, 1, 0]}, ()),
    ("Softmax", {"axis": 9}, ()),
    ("Concat", {"axis": -9}, ()),
    ("Flatten", {"axis": 77}, ()),
    ("Gather", {"axis": 0}, ((1_000_000,),)),
    ("Gather", {"axis": 0}, ((-100,),)),
    ("Reshape", {}, ((-1, -1),)),
    ("Reshape", {}, ((7, -1),)),
    ("Reshape", {}, ((-5,),)),
    ("Reshape", {}, ((0,) * 9,)),
    ("Reshape", {}, ((1 << 32, 1 << 32, 0),)),
    ("Unsqueeze", {}, ((0, 0),)),
    ("Unsqueeze", {}, ((50,),)),
    ("Squeeze", {}, ((0, 1, 2, 3),)),
    ("Squeeze", {}, ((-60,),)),
    ("ReduceSum", {}, ((9,),)),
    ("ReduceMean", {"axes": [0, 0]}, ()),
    ("ReduceMax", {"axes": [44]}, ()),
    ("Slice", {}, ((0,), (5,), (0,), (0,))),
    ("Slice", {}, ((-(1 << 63),), ((1 << 63) - 1,), (0,), (1,))),
    ("Slice", {}, (((1 << 63) - 1,), (-(1 << 63),), (0,), (-1,))),
    ("Slice", {}, ((1,), (2,), (0,), (-(1 << 63),))),
    ("Slice", {}, ((1, 2), (2,), (0,), (1,))),
    ("Slice", {}, ((1,), (2,), (30,), (1,))),
    ("Split", {"axis": 0}, ((100, -99),)),
    ("Split", {"axis": 0}, ((0,) * 1000,)),
    ("TopK", {}, ((1_000_000,),)),
    ("TopK", {}, ((-1,),)),
    ("TopK", {"axis": 12}, ((1,),)),
    ("CumSum", {}, ((12,),)),
    ("Tile", {}, ((-1, -1),)),
    ("Tile", {}, ((0, 0, 0),)),
    ("Expand", {}, ((3, 0, 7, 7),)),
    ("Expand", {}, ((-4, -4),)),
    ("Pad", {}, ((-100, -100, -100, -100),)),
    ("Pad", {"mode": "reflect"}, ((100,) * 4,)),
    ("DepthToSpace", {"blocksize": 0}, ()),
    ("DepthToSpace", {"blocksize": -2}, ()),
    ("SpaceToDepth", {"blocksize": 1 << 40}, ()),
    ("Cast", {"to": 0}, ()),
    ("Cast", {"to": 999}, ()),
    ("Cast", {"to": TensorProto.STRING}, ()),
    ("Cast", {"to": TensorProto.COMPLEX128}, ()),
    ("LRN", {"size": 0}, ()),
    ("LRN", {"size": -3}, ()),
    ("ArgMax", {"axis": 30}, ()),
    ("LpNormalization", {"p": 9}, ()),
    ("GatherElements", {"axis": 8}, ((3,),)),
    ("GatherND", {"batch_dims": 9}, ((3,),)),
    ("OneHot", {}, ((-1,), (0, 1))),
    ("Einsum", {"equation": "ab->"}, ()),
    ("Einsum", {"equation": "->->,,"}, ()),
    ("Einsum", {"equation": ""}, ()),
    ("Trilu", {"upper": 1}, (((1 << 63) - 1,),)),
    ("GroupNormalization", {"num_groups": 0}, ()),
    ("MeanVarianceNormalization", {"axes": [9]}, ()),
    ("Clip", {}, ((5,), (1,))),
    ("Mod", {}, ((0,),)),
    ("Constant", {}, ()),
    ("Constant", {"value_int": 1, "value_float": 1.0}, ()),
    ("EyeLike", {"k": 1 << 40}, ()),
    ("RandomNormal", {"shape": [2, -2]}, ()),
    ("Shape", {"start": 90, "end": -90}, ()),
)


def _odd_node(case: Case, rng: random.Random) -> None:
    operator, attributes, constants = rng.choice(_ODD_NODES)
    names = []
    for number, values in enumerate(constants):
        names.append(f"odd{number}")
        case.graph.initializer.append(
            helper.make_tensor(names[-1], TensorProto.INT64, [len(values)], values)
        )
    source = rng.choice([*case.graph.input, *case.graph.output]).name
    inputs = [] if operator in ("Constant", "RandomNormal") else [source, *names]
    case.graph.node.append(helper.make_node(operator, inputs, ["odd"], name="odd", **attributes))
    case.add_output("odd")


ATTRIBUTES = (
    Mutation("drop_attribute", "an attribute that is required, or has another default", _drop),
    Mutation("attribute_number", "an axis, a count or a flag out of range", _number),
    Mutation("attribute_numbers", "axes, pads, strides of other length and value", _numbers),
    Mutation("attribute_float", "an epsilon or factor that is no number", _float),
    Mutation("attribute_text", "a mode that does not exist", _text),
    Mutation("attribute_type", "an attribute of another type", _other_type),
    Mutation("attribute_type_lies", "an attribute whose type and value differ", _type_lies),
    Mutation("unknown_attribute", "an attribute that the operator does not have", _unknown),
    Mutation("attribute_twice", "an attribute given twice", _twice),
    Mutation("attribute_reference", "a reference outside of a function", _reference),
    Mutation("window", "strides, pads, kernels, groups that do not fit", _conv),
    Mutation("odd_node", "an operator that is told what it cannot do", _odd_node),
    Mutation("odd_node_too", "another: there are many ways", _odd_node),
    Mutation("odd_node_again", "and another", _odd_node),
)
