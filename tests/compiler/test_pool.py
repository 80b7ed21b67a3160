from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from elftools.elf.elffile import ELFFile

from tests import models
from tests.command_line import ROOT
from tests.compiling import compile_here, reference
from tilewright.compiler import pool, runtime
from tilewright.targets import toolchain

CPUS = os.sched_getaffinity(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pool")


@pytest.fixture(scope="module")
def pool_library(folder):
    """The pool alone, as a library."""
    library = folder / "pool.so"
    toolchain.HOST.link_shared(library, [pool.write_object(folder)])
    return library


@pytest.fixture(scope="module")
def libraries(folder):
    """Two models whose kernels are worth several threads."""
    return [compile_here(models.conv_net(size=size), folder).library for size in (64, 96)]


def _fresh(code: str, *words: object, prefix: tuple[str, ...] = (), **environment: str) -> dict:
    """What `code` prints as JSON, in a process of its own."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if k != "TILEWRIGHT_THREADS"} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- The C part alone ---------------------------------------------------------------------


def _stress(folder: Path, *flags: str) -> Path:
    program = folder / f"stress{len(flags)}"
    if program.exists():
        return program
    sources = [pool.SOURCE, Path(__file__).with_name("pool_stress.c")]
    command = [toolchain.find_c_compiler(), "-std=gnu11", "-O2", "-pthread", *flags]
    done = subprocess.run(
        [*command, "-o", program, *sources, "-lm"], capture_output=True, check=False
    )
    if flags and done.returncode:
        pytest.skip(f"the C compiler does not take {' '.join(flags)}")
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize("callers, launches", [(1, 100_000), (4, 20_000), (40, 1_000)])
def test_launches_of_every_kind_from_several_threads(callers, launches, folder):
    """Random numbers of tasks and threads; failing tasks; launches within tasks."""
    command = [_stress(folder), str(callers), str(launches)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("right\n", "", 0)


def test_a_process_ends_while_others_call(folder):
    for _ in range(10):
        done = subprocess.run([_stress(folder), "3", "endless"], timeout=60, check=False)
        assert done.returncode == 0


@pytest.mark.parametrize("callers", [1, 4, 40])
def test_a_thread_sanitizer_finds_nothing(callers, folder):
    program = _stress(folder, "-fsanitize=thread")
    done = subprocess.run(
        [program, str(callers), str(8000 // callers)], capture_output=True, text=True, check=False
    )
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel's address space layout is not one the sanitizer knows")
    assert (done.stdout, done.stderr, done.returncode) == ("right\n", "", 0)


TASKS = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int32), ctypes.c_void_p)
seen = []
def launch(tasks):
    seen.clear()
    run = kind(lambda task, group, data: seen.append(group[2]) or 0)
    assert library.tilewright_launch(run, None, tasks) == 0
    assert len(seen) == seen[0]
    return seen[0]
found = {"default": launch(0), "given": launch(5)}
library.tilewright_set_threads(3)
found["three"] = launch(0)
library.tilewright_set_threads(0)
found["default again"] = launch(0)
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "threads, prefix, environment",
    [
        (len(CPUS), (), {}),
        (5, (), {"TILEWRIGHT_THREADS": "5"}),
        (len(CPUS), (), {"TILEWRIGHT_THREADS": "many"}),
        (1, ("taskset", "-c", str(min(CPUS))), {}),
    ],
)
def test_the_default_is_what_the_process_may_use(threads, prefix, environment, pool_library):
    tasks = 16 * threads if threads > 1 else 1
    found = _fresh(TASKS, pool_library, prefix=prefix, **environment)
    assert found == {"default": tasks, "given": 5, "three": 48, "default again": tasks}


UNLOAD = """
import _ctypes, ctypes, json, os, sys
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
run = kind(lambda task, group, data: 0)
most = 0
for _ in range(200):
    library = ctypes.CDLL(sys.argv[1])
    library.tilewright_set_threads(4)
    library.tilewright_launch(run, None, 8)
    most = max(most, len(os.listdir("/proc/self/task")))
    _ctypes.dlclose(library._handle)
    mapped = sys.argv[1] in open("/proc/self/maps").read()
print(json.dumps([most, mapped, len(os.listdir("/proc/self/task"))]))
"""


def test_unloading_ends_the_workers(pool_library):
    assert _fresh(UNLOAD, pool_library) == [4, False, 1]


FAILS = """
import ctypes, json, sys
import numpy, tvm, tvm_ffi
module = tvm_ffi.load_module(sys.argv[1])
ctypes.CDLL(sys.argv[1]).tilewright_set_threads(4)
said = []
for _ in range(300):
    try:
        module["probe"](tvm_ffi.from_dlpack(numpy.zeros(64, "float32")))
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
print(json.dumps([len(said), sorted(set(said))]))
"""


def test_an_error_in_a_task_reaches_the_caller(folder):
    """Whichever thread the task ran on: TVM keeps errors per thread."""
    import tvm
    from tvm.script import tirx as T

    @T.prim_func
    def probe(x: T.Buffer((64,), "float32")):
        T.func_attr({"global_symbol": "probe"})
        for i in T.parallel(64):
            assert x[i] > T.float32(1), "x is too small"
            x[i] = T.float32(0)

    path = folder / "fails.so"
    built = tvm.compile(tvm.IRModule({"probe": probe}), target="llvm")
    built.export_library(str(path), addons=[str(pool.write_object(folder))])
    count, said = _fresh(FAILS, path)
    assert count == 300 and len(said) == 1 and "x is too small" in said[0]


# --- In a model ---------------------------------------------------------------------------


def test_the_launch_hook_is_hidden_and_the_rest_is_exported(libraries):
    with libraries[0].open("rb") as file:
        names = {s.name for s in ELFFile(file).get_section_by_name(".dynsym").iter_symbols()}
    assert names >= {pool.LAUNCH, pool.SET_THREADS, pool.SHARE}
    assert "__TVMBackendParallelLaunch" not in names, "TVM's runtime would put its own there"


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_any_number_of_threads_gives_the_answer(threads, libraries):
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32)
    expected = reference(models.conv_net(size=64), {"x": x})[0]
    module = runtime.load(libraries[0], threads)
    for _ in range(20):
        np.testing.assert_allclose(module(x), expected, rtol=2e-5, atol=1e-5)


COUNT = """
import json, os, sys, threading, time
import numpy as np
import tilewright
def tasks():
    return len(os.listdir("/proc/self/task"))
models = [tilewright.load(path, threads=threads) for path in sys.argv[1:] for threads in (1, 2, 3)]
inputs = [np.ones(model.inputs[0].shape, np.float32) for model in models]
found = {"before": tasks()}
models[0](inputs[0])
found["one thread"] = tasks() - found["before"]
wanted = [model(x) for model, x in zip(models, inputs)]
found["wrong"] = 0
def call():
    for _ in range(20):
        for model, x, y in zip(models, inputs, wanted):
            found["wrong"] += not np.array_equal(model(x), y)
callers = [threading.Thread(target=call) for _ in range(4)]
for caller in callers: caller.start()
for caller in callers: caller.join()
# The system may list a thread for a moment after it was joined.
end = time.monotonic() + 10
while tasks() - found["before"] > 2 and time.monotonic() < end: time.sleep(0.01)
found["workers"] = tasks() - found["before"]
print(json.dumps(found))
"""


def test_callers_and_models_share_the_workers(libraries):
    """Two more threads for models of up to three, however many call; TVM's pool stays unused."""
    found = _fresh(COUNT, *libraries)
    found.pop("before")
    assert found == {"one thread": 0, "wrong": 0, "workers": 2}


FORK = """
import json, multiprocessing, os, sys
import numpy as np
import tilewright
model = tilewright.load(sys.argv[1], threads=3)
x = np.ones(model.inputs[0].shape, np.float32)
expected = model(x)
def child(queue):
    before = len(os.listdir("/proc/self/task"))
    same = all(np.array_equal(model(x), expected) for _ in range(20))
    queue.put([same, len(os.listdir("/proc/self/task")) - before])
context = multiprocessing.get_context("fork")
found = []
for _ in range(3):
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=[queue])
    process.start()
    found.append([*queue.get(), process.join(60) or process.exitcode])
found.append(bool(np.array_equal(model(x), expected)))
print(json.dumps(found))
"""


def test_a_forked_child_starts_workers_of_its_own(libraries):
    assert _fresh(FORK, libraries[0]) == [[True, 2, 0]] * 3 + [True]
