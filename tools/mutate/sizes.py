"""Mutations that ask for much: memory, time, depth."""

from __future__ import annotations

import random

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tools.mutate.case import Case, Mutation

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
HUGE = ((1 << 20, 1 << 20), (1 << 16, 1 << 15), (1 << 40,), (1 << 31, 1 << 31, 4), (50_000, 50_000))
make = helper.make_node


def _constant(case: Case, name: str, values: object, dtype: type = np.int64) -> str:
    case.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
    return name


def _source(case: Case) -> str:
    """A float of the model; None of the models lacks one."""
    return next(v.name for v in case.graph.output if v.type.tensor_type.elem_type == FLOAT)


def _expression(case: Case, rng: random.Random, *nodes: object, reduced: bool = False) -> None:
    """Add `nodes`, whose last gives "huge"; sometimes only its mean is asked for."""
    case.graph.node.extend(nodes)
    if reduced or rng.random() < 0.5:
        case.graph.node.append(make("ReduceMean", ["huge"], ["mean"], name="mean_of_it"))
        case.add_output("mean")
    else:
        case.add_output("huge")


def _constant_of_shape(case: Case, rng: random.Random) -> None:
    to = _constant(case, "to", rng.choice(HUGE))
    _expression(case, rng, make("ConstantOfShape", [to], ["huge"], name="huge_constant"))


def _expand(case: Case, rng: random.Random) -> None:
    one, to = _constant(case, "one", [1.5], np.float32), _constant(case, "to", rng.choice(HUGE))
    _expression(case, rng, make("Expand", [one, to], ["huge"], name="huge_expand"))


def _tile(case: Case, rng: random.Random) -> None:
    flat = _constant(case, "flat", [-1])
    many = _constant(case, "many", [rng.choice((1 << 27, 1 << 33, 1 << 62))])
    nodes = make("Reshape", [_source(case), flat], ["line"]), make("Tile", ["line", many], ["huge"])
    _expression(case, rng, *nodes)


def _range(case: Case, rng: random.Random) -> None:
    kind = rng.choice((np.int64, np.float32))
    start, limit = _constant(case, "start", 0, kind), _constant(case, "limit", 4e9, kind)
    delta = _constant(case, "delta", rng.choice((1, 1, 0, -1)), kind)
    cast = make("Cast", ["range"], ["huge"], to=FLOAT)
    _expression(case, rng, make("Range", [start, limit, delta], ["range"], name="huge_range"), cast)


def _pad(case: Case, rng: random.Random) -> None:
    flat, many = _constant(case, "flat", [-1]), _constant(case, "many", [1 << 20, 1 << 33])
    nodes = make("Reshape", [_source(case), flat], ["line"]), make("Pad", ["line", many], ["huge"])
    _expression(case, rng, *nodes)


def _resize(case: Case, rng: random.Random) -> None:
    to = _constant(case, "to", [1, 1, 1, -1])
    scales = _constant(
        case, "scales", [1, 1, rng.choice((1e9, 1e5, 1e30, np.nan)), 1e5], np.float32
    )
    nodes = (
        make("Reshape", [_source(case), to], ["picture"]),
        make("Resize", ["picture", "", scales], ["huge"], name="huge_resize"),
    )
    _expression(case, rng, *nodes)


def _one_hot(case: Case, rng: random.Random) -> None:
    many = _constant(case, "many", [rng.choice((1 << 31, 1 << 60))])
    places, pair = _constant(case, "places", [0, 1]), _constant(case, "pair", [0, 1], np.float32)
    _expression(case, rng, make("OneHot", [places, many, pair], ["huge"], name="huge_one_hot"))


def _outer(case: Case, rng: random.Random) -> None:
    line, column = _constant(case, "line", [1, -1]), _constant(case, "column", [-1, 1])
    many = _constant(case, "many", [1, 1 << 16])
    nodes = (
        make("Reshape", [_source(case), line], ["row"]),
        make("Tile", ["row", many], ["long"]),
        make("Reshape", ["long", column], ["tall"]),
        make("MatMul", ["tall", "long"], ["huge"], name="huge_product"),
    )
    _expression(case, rng, *nodes, reduced=True)


def _doubling(case: Case, rng: random.Random) -> None:
    """Thirty Concats of a value with itself: each is small, the last has a thousand million."""
    flat, name = _constant(case, "flat", [-1]), "d0"
    case.graph.node.append(make("Reshape", [_source(case), flat], [name]))
    for step in range(rng.choice((30, 45, 70))):
        case.graph.node.append(make("Concat", [name, name], [f"d{step + 1}"], axis=0))
        name = f"d{step + 1}"
    _expression(case, rng, make("Identity", [name], ["huge"]))


def _folded(case: Case, rng: random.Random) -> None:
    """The same with constants, which a compiler computes."""
    name = _constant(case, "d0", [1.0] * 1000, np.float32)
    for step in range(rng.choice((25, 60))):
        case.graph.node.append(make("Concat", [name, name], [f"d{step + 1}"], axis=0))
        name = f"d{step + 1}"
    _expression(case, rng, make("Identity", [name], ["huge"]))


def _slow_fold(case: Case, rng: random.Random) -> None:
    """Constants that take long to compute: they are not large."""
    a = _constant(case, "a", np.ones((512, 512)), np.float32)
    name = a
    for step in range(300):
        case.graph.node.append(make("MatMul", [a, name], [f"p{step}"]))
        name = f"p{step}"
    _expression(case, rng, make("Identity", [name], ["huge"]), reduced=True)


def _slow_conv(case: Case, rng: random.Random) -> None:
    image = _constant(case, "image", np.ones((1, 8, 64, 64)), np.float32)
    weight = _constant(case, "weight", np.ones((8, 8, 33, 33)), np.float32)
    node = make("Conv", [image, weight], ["huge"], name="slow_constant", pads=[16] * 4)
    _expression(case, rng, node, reduced=True)


def _loop(case: Case, rng: random.Random) -> None:
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [make("Identity", ["go_on"], ["goes_on"]), make("Add", ["old_x", "old_x"], ["new_x"])],
        "body",
        [value("i_th", INT64, []), value("go_on", BOOL, []), value("old_x", FLOAT, None)],
        [value("goes_on", BOOL, []), value("new_x", FLOAT, None)],
    )
    many = _constant(case, "many", rng.choice((10**12, (1 << 63) - 1, -1, 0, 255)))
    keep = _constant(case, "keep_on", True, bool)
    count = rng.choice((many, many, ""))  # Without a count it goes on until the condition ends.
    node = make("Loop", [count, keep, _source(case)], ["huge"], name="endless", body=body)
    _expression(case, rng, node)


def _nested_loops(case: Case, rng: random.Random) -> None:
    many, keep = _constant(case, "many", 200), _constant(case, "keep_on", True, bool)
    inner = make("Add", ["old0", "old0"], ["new0"])
    for depth in range(rng.choice((3, 20))):
        go, on, old = f"go{depth}", f"on{depth}", f"old{depth}"
        body = helper.make_graph(
            [make("Identity", [go], [on]), inner],
            "body",
            [
                helper.make_tensor_value_info(f"i{depth}", INT64, []),
                helper.make_tensor_value_info(go, BOOL, []),
                helper.make_tensor_value_info(old, FLOAT, None),
            ],
            [
                helper.make_tensor_value_info(on, BOOL, []),
                helper.make_tensor_value_info(f"new{depth}", FLOAT, None),
            ],
        )
        given, made = f"old{depth + 1}", f"new{depth + 1}"
        inner = make("Loop", [many, keep, given], [made], name=f"loop{depth}", body=body)
    inner.input[2], inner.output[0] = _source(case), "huge"
    _expression(case, rng, inner)


def _field(number: int, data: bytes) -> bytes:
    """A field of a protobuf message: text, or a message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _nested_ifs(case: Case, rng: random.Random) -> None:
    """Written as bytes: protobuf's own Python cannot make what is nested deeper than 100."""
    source = _source(case)
    names = [v.name for v in case.graph.input if v.type.tensor_type.elem_type == BOOL]
    choice = next((name for name in names if name == "choice"), "pick")
    if choice == "pick":
        case.graph.input.append(helper.make_tensor_value_info("pick", BOOL, []))
    case.add_output("deep", like=source)
    value = case.graph.output[-1].SerializeToString()
    ends = _field(2, b"branch") + _field(12, value)
    other = _field(1, make("Tanh", [source], ["deep"]).SerializeToString()) + ends
    node = make("Relu", [source], ["deep"]).SerializeToString()
    for level in range(rng.choice((5, 20, 60, 200, 2000))):
        branches = b""
        for key, branch in (("then_branch", _field(1, node) + ends), ("else_branch", other)):
            entry = _field(1, key.encode()) + _field(6, branch) + b"\xa0\x01\x05"
            branches += _field(5, entry)
        node = make("If", [choice], ["deep"], name=f"if{level}").SerializeToString() + branches
    # A message that comes twice is the sum of both.
    case.data = case.model.SerializeToString() + _field(7, _field(1, node))


def _calls(case: Case, rng: random.Random) -> None:
    """Functions that call each other twice: two to the power of their number."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("many", 1)]
    depth = rng.choice((12, 24, 40))
    for level in range(depth):
        inner = "Relu" if level == 0 else f"f{level - 1}"
        domain = "" if level == 0 else "many"
        nodes = [
            make(inner, ["x"], ["y"], domain=domain),
            make(inner, ["y"], ["deep"], domain=domain),
        ]
        function = helper.make_function("many", f"f{level}", ["x"], ["deep"], nodes, imports)
        case.model.functions.append(function)
    case.model.opset_import.append(helper.make_opsetid("many", 1))
    case.graph.node.append(make(f"f{depth - 1}", [_source(case)], ["huge"], domain="many"))
    case.add_output("huge", like=_source(case))


def _long_chain(case: Case, rng: random.Random) -> None:
    name = _source(case)
    operators = rng.choice((("Sigmoid",), ("Neg", "Abs"), ("Tanh", "Sin", "Erf")))
    for step in range(rng.choice((500, 5000))):
        operator = operators[step % len(operators)]
        case.graph.node.append(make(operator, [name], [f"s{step}"], name=f"step{step}"))
        name = f"s{step}"
    case.add_output(name, like=_source(case))


def _wide(case: Case, rng: random.Random) -> None:
    source, count = _source(case), rng.choice((300, 3000))
    for step in range(count):
        case.graph.node.append(make("Sigmoid", [source], [f"s{step}"], name=f"wide{step}"))
    operator = rng.choice(("Concat", "Sum", "Max"))
    axis = {"axis": 0} if operator == "Concat" else {}
    case.graph.node.append(make(operator, [f"s{n}" for n in range(count)], ["all"], **axis))
    case.add_output("all", like=source)


def _many_outputs(case: Case, rng: random.Random) -> None:
    source = _source(case)
    for step in range(rng.choice((100, 1000))):
        case.graph.node.append(make("Relu", [source], [f"s{step}"], name=f"out{step}"))
        case.add_output(f"s{step}", like=source)


SIZES = (
    Mutation("huge_constant", "ConstantOfShape of more than there is", _constant_of_shape),
    Mutation("huge_expand", "a number expanded to more than there is", _expand),
    Mutation("huge_tile", "a value repeated too often", _tile),
    Mutation("huge_range", "a Range that is too long, or never ends", _range),
    Mutation("huge_pad", "more padding than there is memory", _pad),
    Mutation("huge_resize", "a picture made too large", _resize),
    Mutation("huge_one_hot", "a depth that is absurd", _one_hot),
    Mutation("huge_product", "a product of two long vectors", _outer),
    Mutation("doubling", "many small steps to something huge", _doubling),
    Mutation("folded", "the same, with what a compiler computes", _folded),
    Mutation("slow_fold", "constants that take long to compute", _slow_fold),
    Mutation("slow_convolution", "another", _slow_conv),
    Mutation("endless_loop", "a loop with absurdly many steps, or no end", _loop),
    Mutation("nested_loops", "loops in loops", _nested_loops),
    Mutation("nested_ifs", "branches in branches", _nested_ifs),
    Mutation("calls", "functions that call each other twice", _calls),
    Mutation("long_chain", "thousands of operators in a row", _long_chain),
    Mutation("wide", "thousands of operands", _wide),
    Mutation("many_outputs", "a thousand outputs", _many_outputs),
)
