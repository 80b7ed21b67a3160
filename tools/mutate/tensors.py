"""Mutations of types, ranks, shapes and values."""

from __future__ import annotations

import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tools.mutate.case import Case, Mutation

KINDS = (
    *(TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL, TensorProto.DOUBLE),
    *(TensorProto.FLOAT16, TensorProto.COMPLEX64, TensorProto.UINT8, TensorProto.INT32),
    *(TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.INT4, TensorProto.FLOAT),
    *(0, 27, 999, -1, (1 << 31) - 1),
)
SIZES = (0, 1, 2, -1, -7, 1 << 20, 1_000_000_007, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))


def _set_kind(case: Case, rng: random.Random) -> None:
    rng.choice(case.graph.input).type.tensor_type.elem_type = rng.choice(KINDS)


def _all_kinds(case: Case, rng: random.Random) -> None:
    kind = rng.choice((TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32))
    for value in (*case.graph.input, *case.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    for tensor in case.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.HasField("raw_data"):
            dtype = helper.tensor_dtype_to_np_dtype(kind)
            array = numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _size(case: Case, rng: random.Random) -> bool:
    dims = rng.choice(case.graph.input).type.tensor_type.shape.dim
    if not dims:
        return False
    rng.choice(dims).dim_value = rng.choice(SIZES)
    return True


def _all_sizes(case: Case, rng: random.Random) -> None:
    # As in a dump of a graph whose sizes were lost, or of one far too large.
    size = rng.choice((0, 1, 65_536, 1 << 31, -1))
    for value in case.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            dim.dim_value = size


def _open_sizes(case: Case, rng: random.Random) -> None:
    for value in (*case.graph.input, *case.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()


def _rank(case: Case, rng: random.Random) -> None:
    dims = rng.choice(case.graph.input).type.tensor_type.shape.dim
    if dims and rng.random() < 0.5:
        del dims[rng.randrange(len(dims))]
    else:
        for _ in range(rng.choice((1, 3, 60))):
            dims.add().dim_value = rng.choice((1, 2))


def _no_shape(case: Case, rng: random.Random) -> None:
    value = rng.choice((*case.graph.input, *case.graph.output))
    value.type.tensor_type.ClearField("shape")


def _no_type(case: Case, rng: random.Random) -> None:
    rng.choice((*case.graph.input, *case.graph.output)).ClearField("type")


def _no_tensor(case: Case, rng: random.Random) -> None:
    value = rng.choice((*case.graph.input, *case.graph.output))
    inner = onnx.TypeProto()
    inner.CopyFrom(value.type)
    kind = rng.choice(("sequence", "optional", "map", "sparse"))
    value.type.Clear()
    if kind == "sequence":
        value.type.sequence_type.elem_type.CopyFrom(inner)
    elif kind == "optional":
        value.type.optional_type.elem_type.CopyFrom(inner)
    elif kind == "map":
        value.type.map_type.key_type = TensorProto.INT64
        value.type.map_type.value_type.CopyFrom(inner)
    else:
        value.type.sparse_tensor_type.elem_type = TensorProto.FLOAT


def _output_lies(case: Case, rng: random.Random) -> None:
    value = rng.choice(case.graph.output)
    if rng.random() < 0.5:
        value.type.tensor_type.elem_type = rng.choice(KINDS)
    else:
        shape = [rng.choice((1, 3, 7, -1, 1 << 40)) for _ in range(rng.randrange(6))]
        value.type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, shape))


def _middle_lies(case: Case, rng: random.Random) -> None:
    name = rng.choice(rng.choice(case.graph.node).output)
    kind, shape = rng.choice(KINDS[:8]), [rng.choice((1, 3, 7)) for _ in range(rng.randrange(5))]
    case.graph.value_info.append(helper.make_tensor_value_info(name, kind, shape))


def _pick(case: Case, rng: random.Random) -> TensorProto | None:
    return rng.choice(case.graph.initializer) if case.graph.initializer else None


def _weight_kind(case: Case, rng: random.Random) -> bool:
    if (tensor := _pick(case, rng)) is not None:
        tensor.data_type = rng.choice(KINDS)
    return tensor is not None


def _weight_data(case: Case, rng: random.Random) -> bool:
    if (tensor := _pick(case, rng)) is None:
        return False
    array = numpy_helper.to_array(tensor) if not tensor.external_data else np.zeros(3, np.float32)
    raw = array.tobytes()
    tensor.ClearField("raw_data")
    for field in ("float_data", "int32_data", "int64_data"):
        tensor.ClearField(field)
    kind = rng.choice(("none", "short", "long", "odd", "field", "both"))
    if kind in ("short", "long", "odd", "both"):
        cut = {"short": len(raw) // 2, "odd": len(raw) - 1}.get(kind, len(raw))
        tensor.raw_data = raw[:cut] + (raw if kind == "long" else b"")
    if kind in ("field", "both"):
        tensor.double_data.extend([1.0, 2.0])
    return True


def _weight_size(case: Case, rng: random.Random) -> bool:
    if (tensor := _pick(case, rng)) is None:
        return False
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIZES)
    else:
        tensor.dims.append(rng.choice(SIZES))
    return True


def _weight_rank(case: Case, rng: random.Random) -> bool:
    if (tensor := _pick(case, rng)) is None:
        return False
    if rng.random() < 0.5:
        count = int(np.prod(tensor.dims, dtype=np.int64))
        tensor.dims[:] = [count]
    else:
        tensor.dims.extend([1] * rng.choice((1, 3, 70)))
    return True


def _weight_product(case: Case, rng: random.Random) -> bool:
    # Sizes whose product is small again once it has overflowed 64 bits.
    if (tensor := _pick(case, rng)) is None:
        return False
    tensor.dims[:] = rng.choice(([1 << 32, 1 << 32], [1 << 62, 4, 16], [0, 1 << 62], [3 << 62, 4]))
    return True


def _weight_values(case: Case, rng: random.Random) -> bool:
    floats = [t for t in case.graph.initializer if t.raw_data and t.data_type == TensorProto.FLOAT]
    if not floats:
        return False
    tensor = rng.choice(floats)
    array = numpy_helper.to_array(tensor).copy()
    value = rng.choice((np.nan, np.inf, -np.inf, 3e38, 1e-45, 0.0, -0.0))
    if rng.random() < 0.5:
        array[...] = value
    else:
        array.flat[rng.randrange(array.size)] = value
    tensor.raw_data = array.tobytes()
    return True


def _whole_numbers(case: Case, rng: random.Random) -> bool:
    # Shapes, axes, pads, counts: what other operators are told by tensors.
    found = [t for t in case.graph.initializer if t.data_type == TensorProto.INT64]
    if not found:
        return False
    tensor = rng.choice(found)
    array = numpy_helper.to_array(tensor).copy()
    if array.ndim and rng.random() < 0.3:
        array = np.concatenate([array, array]) if rng.random() < 0.5 else array[:-1]
    elif rng.random() < 0.5:
        array[...] = rng.choice(SIZES)
    else:
        array.flat[rng.randrange(array.size)] = rng.choice(SIZES)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True


TENSORS = (
    Mutation("input_type", "an input of another type, or of none that exists", _set_kind),
    Mutation("all_types", "a model in another precision", _all_kinds),
    Mutation("input_size", "an input with a size that is zero, negative or absurd", _size),
    Mutation("input_sizes", "all sizes so", _all_sizes),
    Mutation("open_sizes", "no size is known", _open_sizes),
    Mutation("input_rank", "an input of another rank", _rank),
    Mutation("no_shape", "an input or output without a shape", _no_shape),
    Mutation("no_type", "an input or output without a type", _no_type),
    Mutation("no_tensor", "sequences, maps, optional and sparse values", _no_tensor),
    Mutation("output_lies", "an output that is said to be something else", _output_lies),
    Mutation("middle_lies", "a value between that is said to be something else", _middle_lies),
    Mutation("weight_type", "an initialiser of another type", _weight_kind),
    Mutation("weight_data", "an initialiser with too little or too much data", _weight_data),
    Mutation("weight_size", "an initialiser with another size", _weight_size),
    Mutation("weight_rank", "an initialiser of another rank", _weight_rank),
    Mutation("weight_product", "sizes whose product overflows", _weight_product),
    Mutation("weight_values", "NaN, infinities, huge and tiny numbers", _weight_values),
    Mutation("whole_numbers", "shapes, axes and counts that are absurd", _whole_numbers),
)
