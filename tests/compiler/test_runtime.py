from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests import models
from tests.command_line import ROOT
from tests.compiling import compile_here, module_of, reference
from tests.net import Net
from tilewright.compiler import runtime
from tilewright.compiler.importer.load import load
from tilewright.errors import ArtifactError, InputError
from tilewright.verification.reference import DoubleReference

RNG = np.random.default_rng(3)


def _floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def linear(linear_library) -> runtime.Module:
    return runtime.load(linear_library, threads=1)


@pytest.fixture(scope="module")
def expected():
    proto = models.linear()
    return lambda x: reference(proto, {"x": np.ascontiguousarray(x)})[0]


def _close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6)


# --- What goes in -------------------------------------------------------------------------


def test_takes_inputs_by_position_and_by_name(linear, expected):
    x = _floats(2, 64)
    _close(linear(x), expected(x))
    _close(linear({"x": x}), expected(x))


class _Unaligned:
    """Views of the same numbers that a kernel cannot read in place."""

    @staticmethod
    def shifted(x: np.ndarray) -> np.ndarray:
        room = np.empty(x.nbytes + 1, np.uint8)[1:]
        view = room.view(np.uint8)[: x.nbytes].view(x.dtype).reshape(x.shape)
        view[...] = x
        return view

    @staticmethod
    def transposed(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.T).T

    @staticmethod
    def strided(x: np.ndarray) -> np.ndarray:
        wide = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
        wide[:, ::2] = x
        return wide[:, ::2]

    @staticmethod
    def reversed(x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]

    @staticmethod
    def read_only(x: np.ndarray) -> np.ndarray:
        copy = x.copy()
        copy.setflags(write=False)
        return copy

    @staticmethod
    def broadcast(x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x[:1], x.shape)


@pytest.mark.parametrize("view", [name for name in vars(_Unaligned) if name[0] != "_"])
def test_takes_any_layout_and_leaves_it_alone(view, linear, expected):
    x = getattr(_Unaligned, view)(_floats(2, 64))
    before = x.copy()
    _close(linear(x), expected(x))
    assert (x == before).all()


@pytest.mark.parametrize("offset", range(0, 68, 4))
def test_takes_any_address(offset, linear, expected):
    x = np.frombuffer(bytearray(2 * 64 * 4 + 68), np.float32, 128, offset).reshape(2, 64)
    x[...] = _floats(2, 64)
    _close(linear(x), expected(x))


def test_takes_foreign_byte_order_as_a_wrong_type(linear):
    with pytest.raises(InputError, match="float32"):
        linear(_floats(2, 64).astype(">f4"))


class _Foreign:
    """An array of another library: nothing but DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **settings: object) -> object:
        return self._array.__dlpack__(**settings)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_takes_anything_with_dlpack(linear, expected):
    import tvm_ffi

    x = _floats(2, 64)
    _close(linear(_Foreign(x)), expected(x))
    _close(linear(tvm_ffi.from_dlpack(x)), expected(x))


def test_takes_nested_lists_of_the_right_type(folder):
    module = module_of(models.binary(kind=TensorProto.INT64), folder)
    assert module([[1, 2, 3]] * 2, [[1, 1, 1]] * 2).tolist() == [[2, 3, 4]] * 2


def test_scalars(folder):
    module = module_of(models.binary("Mul", ()), folder)
    y = module(np.array(3, np.float32), np.float32(4))
    assert y.shape == () and y == 12


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_arrays(shape, folder):
    module = module_of(models.unary("Exp", shape), folder)
    assert module(np.zeros(shape, np.float32)).shape == shape


def test_a_sum_over_nothing_is_zero(folder):
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    proto = models.model(
        nodes, [models.value("a", (2, 0)), models.value("b", (0, 3))], [models.value("y", (2, 3))]
    )
    module = module_of(proto, folder)
    y = module(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32))
    assert y.tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    "kind",
    [
        *(TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64),
        *(TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
        *(TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE),
    ],
    ids=TensorProto.DataType.Name,
)
def test_number_types(kind, folder):
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    a, b = np.arange(6).reshape(2, 3).astype(dtype), np.array([[1, 2, 3], [4, 2, 6]], dtype)
    y = module_of(models.binary("Mul", kind=kind), folder)(a, b)
    assert y.dtype == dtype and (y == a * b).all()


def test_booleans(folder):
    a, b = np.array([[True, False, True]] * 2), np.array([[True] * 3, [False] * 3])
    y = module_of(models.binary("And", kind=TensorProto.BOOL), folder)(a, b)
    assert y.dtype == bool and (y == (a & b)).all()


# --- What comes out -----------------------------------------------------------------------


def test_outputs_own_their_memory(folder):
    module = module_of(models.returns_input_and_weight(), folder)
    x = _floats(64, 32)
    kept = x.copy()
    same, weight, total = module(x)
    assert (same == kept).all() and np.allclose(total, x + weight)
    first = weight.copy()
    assert weight.ctypes.data not in module.weight_addresses
    for array in (same, weight, total):
        array.fill(7)  # Weights lie in read-only memory: writing there would be a crash.
    assert (x == kept).all()
    _, again, total = module(x)
    assert (again == first).all() and np.allclose(total, kept + first)


def test_an_output_outlives_its_module_and_later_calls(folder):
    module = module_of(models.linear(), folder)
    y = module(np.ones((2, 64), np.float32))
    kept = y.copy()
    for _ in range(5):
        module(_floats(2, 64))
    del module
    assert (y == kept).all()


def test_an_output_that_is_the_input(folder):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    proto = models.model(
        nodes, [models.value("x", (2, 3))], [models.value("x", (2, 3)), models.value("y", (2, 3))]
    )
    x = _floats(2, 3)
    same, y = module_of(proto, folder)(x)
    assert (same == x).all() and not np.shares_memory(same, x)
    assert (y == np.maximum(x, 0)).all()


@pytest.mark.parametrize("inline", [True, False])
def test_outputs_that_are_constants(inline, folder):
    w = np.float32([1, 2]) if inline else _floats(64, 32)
    proto = models.model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [models.value("x", (2,))],
        [models.value("w", w.shape), models.value("y", (2,))],
        {"w": w},
    )
    found, _ = module_of(proto, folder)(_floats(2))
    assert (found == w).all()


@pytest.mark.parametrize("rows", [3, "n"])
def test_an_output_that_is_a_shape(rows, folder):
    module = module_of(models.unary("Shape", (rows, 4), out=TensorProto.INT64), folder)
    assert module(_floats(3, 4)).tolist() == [3, 4]


def test_a_model_without_inputs(folder):
    w = _floats(64, 32)
    proto = models.model(
        [helper.make_node("Relu", ["w"], ["y"])], [], [models.value("y", (64, 32))], {"w": w}
    )
    assert (module_of(proto, folder)() == np.maximum(w, 0)).all()


@pytest.mark.parametrize("names", [("in put/0", "x.y:0"), ("a/b", "a.b"), ("größe", "1st")])
def test_names_are_kept_as_they_are(names, folder):
    proto = models.model(
        [helper.make_node("Sub", list(names), ["out put/1.z"], name="a b/c")],
        [models.value(name, (2, 3)) for name in names],
        [models.value("out put/1.z", (2, 3))],
    )
    module = module_of(proto, folder)
    assert tuple(spec.name for spec in module.inputs) == names
    assert module.outputs[0].name == "out put/1.z"
    a, b = _floats(2, 3), _floats(2, 3)
    assert (module({names[1]: b, names[0]: a}) == a - b).all()


def test_a_model_says_what_it_is(linear):
    assert repr(linear).endswith(": (x: float32[2, 64]) -> (y: float32[2, 32])>")
    assert str(runtime.TensorSpec("y", "float32", None)) == "y: float32[?]"


# --- Open dimensions ----------------------------------------------------------------------


def test_one_library_serves_every_batch(folder, expected):
    module = module_of(models.linear("n"), folder)
    for batch in (1, 2, 3, 7, 64, 129):
        x = _floats(batch, 64)
        _close(module(x), reference(models.linear("n"), {"x": x})[0])


def test_bounds_are_enforced(folder):
    module = module_of(models.linear("n"), folder, dims={"n": (2, 4)})
    for batch in (2, 4):
        assert module(_floats(batch, 64)).shape == (batch, 32)
    for batch in (0, 1, 5):
        with pytest.raises(InputError, match=rf"\[{batch}, 64\]") as info:
            module(_floats(batch, 64))
        assert "n in 2..4" in info.value.expected


def test_an_empty_batch_when_the_bounds_allow_it(folder):
    module = module_of(models.linear("n"), folder, dims={"n": (0, 4)})
    assert module(_floats(0, 64)).shape == (0, 32)


def test_one_name_is_one_size(folder):
    module = module_of(models.binary("Add", ("n", 3)), folder)
    assert module(_floats(4, 3), _floats(4, 3)).shape == (4, 3)
    with pytest.raises(InputError, match="'b' has shape") as info:
        module(_floats(4, 3), _floats(5, 3))
    assert "here n=4" in info.value.expected


def test_unnamed_dimensions_are_not_one(folder):
    proto = models.model(
        [helper.make_node("MatMul", ["a", "b"], ["y"])],
        [models.value("a", (None, 4)), models.value("b", (4, None))],
        [models.value("y", (None, None))],
    )
    a, b = _floats(3, 4), _floats(4, 5)
    _close(module_of(proto, folder)(a, b), a @ b)


# --- Threads and processes ----------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_several_callers_at_once_get_their_own_answers(threads, linear_library, expected):
    module = runtime.load(linear_library, threads)
    inputs = [_floats(2, 64) for _ in range(4)]
    wanted = [expected(x) for x in inputs]
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(150):
                y = module(inputs[number])
                if not np.allclose(y, wanted[number], rtol=2e-5, atol=1e-6):
                    wrong.append(y)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=[n]) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_the_number_of_threads_does_not_change_the_answer(tmp_path):
    library = compile_here(models.conv_net(size=32), tmp_path).library
    x = _floats(1, 3, 32, 32)
    one, two = (runtime.load(library, threads)(x) for threads in (1, 2))
    assert (one == two).all()


def test_threads_of_the_compilation_are_the_default(tmp_path):
    library = compile_here(models.linear(), tmp_path, threads=3).library
    assert runtime.load(library).threads == 3
    assert runtime.load(library, threads=1).threads == 1


def test_recompiling_to_the_same_path_gives_the_new_model(tmp_path):
    path = tmp_path / "model.so"
    x = np.float32([[-1, 0.5, 2]] * 2)
    answers = []
    for op in ("Relu", "Neg"):
        shutil.copyfile(compile_here(models.unary(op), tmp_path).library, tmp_path / "new")
        os.replace(tmp_path / "new", path)
        answers.append(runtime.load(path)(x))
    assert (answers[0] == np.maximum(x, 0)).all() and (answers[1] == -x).all()


def test_two_models_live_side_by_side(folder):
    a, b = module_of(models.unary("Relu"), folder), module_of(models.unary("Neg"), folder)
    x = _floats(2, 3)
    assert (a(x) == np.maximum(x, 0)).all() and (b(x) == -x).all() and (a(-x) == -b(a(-x))).all()


FRESH = """
import json, os, sys
import numpy as np
import tilewright
before = sorted(os.sched_getaffinity(0))
model = tilewright.load(sys.argv[1], threads=2)
x = np.ones((1, 3, 64, 64), np.float32)
y = [model(x).tolist() for _ in range(3)]
tasks = [sorted(os.sched_getaffinity(int(t))) for t in os.listdir("/proc/self/task")]
heavy = [n for n in ("tvm", "onnx", "onnxruntime") if n in sys.modules]
print(json.dumps({"before": before, "after": sorted(os.sched_getaffinity(0)),
                  "tasks": tasks, "heavy": heavy, "y": y}))
"""


def _fresh(library, *prefix: str) -> dict:
    done = subprocess.run(
        [*prefix, sys.executable, "-c", FRESH, str(library)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def conv_library(folder):
    return compile_here(models.conv_net(size=64), folder).library


def test_sorting_needs_the_runtime_alone(folder):
    net = Net(x=(1, 3, 64, 64))
    values, _places = net.add("TopK", "x", net.ints(2), outputs=2)
    library = compile_here(net.model(values), folder).library
    assert not _fresh(library)["heavy"]


def test_loading_needs_the_runtime_alone(conv_library, model_file):
    found = _fresh(conv_library)
    assert found["heavy"] == []
    # Of ones ONNX Runtime's mean is off by more than this: it adds the same number again and again.
    exact = DoubleReference(load(model_file(models.conv_net(size=64))))
    wanted = exact({"x": np.ones((1, 3, 64, 64), np.float32)})["y"].astype(np.float32)
    _close(np.float32(found["y"][0]), wanted)


def test_the_affinity_of_the_process_is_left_alone(conv_library):
    cpu = min(os.sched_getaffinity(0))
    found = _fresh(conv_library, "taskset", "-c", str(cpu))
    assert found["before"] == found["after"] == [cpu]
    assert all(cpus == [cpu] for cpus in found["tasks"]), "a worker left the set"


def test_a_library_that_cannot_be_mapped_is_an_artifact_error(linear_library, tmp_path):
    data = bytearray(linear_library.read_bytes())
    data[16] = 2  # ET_EXEC: the sections are readable, the loader refuses it.
    path = tmp_path / "program.so"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"program\.so") as info:
        runtime.load(path)
    assert "tilewright-" not in str(info.value)
