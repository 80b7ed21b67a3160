"""Mutations of the bytes of a file, and of the files beside it."""

from __future__ import annotations

import random

from onnx import TensorProto

from tools.mutate.case import Case, Mutation


def _bytes_of(case: Case) -> bytearray:
    return bytearray(case.model.SerializeToString())


def _flip_bits(case: Case, rng: random.Random) -> None:
    data = _bytes_of(case)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    case.data = bytes(data)


def _truncate(case: Case, rng: random.Random) -> None:
    data = _bytes_of(case)
    case.data = bytes(data[: rng.randrange(len(data))])


def _overwrite(case: Case, rng: random.Random) -> None:
    data = _bytes_of(case)
    start, length = rng.randrange(len(data)), rng.choice((1, 4, 16, 100))
    data[start : start + length] = rng.randbytes(length)
    case.data = bytes(data)


def _insert(case: Case, rng: random.Random) -> None:
    data = _bytes_of(case)
    at = rng.randrange(len(data))
    case.data = bytes(data[:at] + rng.randbytes(rng.choice((1, 7, 300))) + data[at:])


def _repeat_part(case: Case, rng: random.Random) -> None:
    data = _bytes_of(case)
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    case.data = bytes(data[:b] + data[a:])


def _twice(case: Case, rng: random.Random) -> None:
    # Protobuf takes the sum of two messages for one: every node and weight is there twice.
    case.data = bytes(_bytes_of(case) * 2)


def _not_text(case: Case, rng: random.Random) -> bool:
    names = [node.name.encode() for node in case.graph.node if len(node.name) > 2]
    data, name = bytes(_bytes_of(case)), rng.choice(names)
    case.data = data.replace(name, b"\xff\xfe" + name[2:])
    return case.data != data


def _outside(case: Case) -> list[TensorProto]:
    return [t for t in case.graph.initializer if t.data_location == TensorProto.EXTERNAL]


def _entry(case: Case, rng: random.Random, key: str, *values: str) -> bool:
    for tensor in _outside(case):
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = rng.choice(values)
    return bool(_outside(case))


def _other_place(case: Case, rng: random.Random) -> bool:
    places = ("../weights.bin", "/etc/passwd", "/dev/zero", ".", "", "a/../../x", "w\0.bin")
    return _entry(case, rng, "location", *places, "gone.bin", "é" * 200, "model.onnx", "~/x")


def _other_offset(case: Case, rng: random.Random) -> bool:
    far = str(1 << 62), "9" * 30, "9" * 6000
    return _entry(case, rng, "offset", "-1", "100000", *far, "1e3", "", "²", "3")


def _other_length(case: Case, rng: random.Random) -> bool:
    return _entry(case, rng, "length", "-1", "0", "7", str(1 << 62), "x", "", "٣")


def _short_file(case: Case, rng: random.Random) -> bool:
    for name, data in case.files.items():
        case.files[name] = data[: rng.randrange(len(data))]
    return bool(case.files)


def _no_file(case: Case, rng: random.Random) -> bool:
    had = bool(case.files)
    case.files.clear()
    return had


def _outside_and_absent(case: Case, rng: random.Random) -> bool:
    if not case.graph.initializer:
        return False
    rng.choice(case.graph.initializer).data_location = TensorProto.EXTERNAL
    return True


FILES = (
    Mutation("flip_bits", "a bad disk or a bad copy", _flip_bits),
    Mutation("truncate", "a download that broke off", _truncate),
    Mutation("overwrite", "a block of another file", _overwrite),
    Mutation("insert", "bytes that a text mode added", _insert),
    Mutation("repeat_part", "a download that was resumed at the wrong place", _repeat_part),
    Mutation("twice", "a file appended to itself", _twice),
    Mutation("not_text", "names that are not UTF-8", _not_text),
    Mutation("external_location", "external data that lies elsewhere, or nowhere", _other_place),
    Mutation("external_offset", "external data past the end", _other_offset),
    Mutation("external_length", "external data of another length", _other_length),
    Mutation("external_short", "a data file that was cut", _short_file),
    Mutation("external_gone", "a data file that was not copied", _no_file),
    Mutation("external_nowhere", "external data without a location", _outside_and_absent),
)
