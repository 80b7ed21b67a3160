"""Which of ONNX's own backend tests compile, run and agree: the ledger of what is supported.

    python -m benchmarks.conformance [--const-inputs] [--match TEXT ...] [--sample N] [--skip N]
                                     [--compare]

Every test that the onnx package brings, but for those of the training domain: single operators,
their expansions into other operators, small models of PyTorch's and the light networks. Each is
compiled and run in a process of its own, for a minute at most; results must have the right dtype
and shape and be within rtol 1e-3 and atol 1e-5, or what the test names itself. With --const-inputs,
inputs that say shapes (axes, pads, sizes, repeats, trip counts) are constants, as exporters write
them.

Writes benchmarks/conformance.json: "pass", or why not, for each test, every hundred tests; after a
run that was stopped, --skip goes on behind what it had done. --compare writes nothing and fails
where a result differs from the ledger.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from tilewright.compiler.artifact import replacing
from tilewright.devices.process import Process, Send, TrialFailed
from tilewright.errors import TilewrightError

LEDGER = Path(__file__).with_name("conformance.json")
PASS = "pass"
AS_IS, CONST = "runtime inputs", "constant shape inputs"
SECONDS = 60.0
SAVED_EVERY = 100
RTOL, ATOL = 1e-3, 1e-5
BFLOAT16_RTOL = 2.0**-6  # As onnx's own runner.
TRAINING = "ai.onnx.preview.training"
# Inputs that say a shape, a place or a count, by operator.
SHAPE_LIKE: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "Loop": (0, 1),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "NonMaxSuppression": (2,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (2, 3),
    "STFT": (1, 3),
    "SequenceAt": (1,),
    "SequenceErase": (1,),
    "SequenceInsert": (2,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "SplitToSequence": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
# The later ReduceSum, ReduceMean and so on take their axes as an input.
_REDUCE_AXES = (1,)


@dataclass(frozen=True)
class Case:
    """A test: a model, and inputs with the outputs that it should give."""

    name: str
    model: onnx.ModelProto
    data: list[tuple[list[Any], list[Any]]]
    rtol: float
    atol: float


def main(words: Sequence[str] | None = None) -> int:
    """Run the tests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--const-inputs", action="store_true", help="shape-like inputs known")
    parser.add_argument("--match", nargs="+", default=[], help="tests with one of these texts")
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="one test of N")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--compare", action="store_true", help="with the ledger; write nothing")
    arguments = parser.parse_args(words)
    mode = CONST if arguments.const_inputs else AS_IS
    cases = [
        case
        for case in itertools.islice(all_cases(), arguments.skip, None, arguments.sample)
        if not arguments.match or any(text in case.name for text in arguments.match)
    ]
    ledger = json.loads(LEDGER.read_text()) if LEDGER.is_file() else {}
    known = ledger.get(mode, {})
    results: dict[str, str] = {}
    for name, result in run_all(cases, arguments.const_inputs, arguments.jobs):
        results[name] = result
        if len(results) % SAVED_EVERY == 0:
            passed = sum(result == PASS for result in results.values())
            print(f"{passed} of {len(results)} pass, of {len(cases)}", file=sys.stderr)
            if not arguments.compare:
                _save(ledger, mode, results)
    passed = sum(result == PASS for result in results.values())
    print(f"{mode}: {passed} of {len(results)} pass")
    if arguments.compare:
        return report_changes(known, results)
    for reason, count in Counter(_kind(r) for r in results.values() if r != PASS).most_common(25):
        print(f"{count:5d}  {reason}")
    _save(ledger, mode, results)
    return 0


def _save(ledger: dict[str, dict[str, str]], mode: str, results: dict[str, str]) -> None:
    """Write `results` over what `ledger` has of the same tests, whole or not at all."""
    ledger[mode] = dict(sorted({**ledger.get(mode, {}), **results}.items()))
    with replacing(LEDGER) as temporary:
        temporary.write_text(json.dumps(ledger, indent=0) + "\n")


def report_changes(known: dict[str, str], found: dict[str, str]) -> int:
    """Print each test that passes or fails against the ledger; 1 where there is one."""
    changed = [name for name in found if (found[name] == PASS) != (known.get(name) == PASS)]
    for name in changed:
        print(f"{name}: the ledger says {known.get(name, 'nothing')!r}, now {found[name]!r}")
    return 1 if changed else 0


def _kind(reason: str) -> str:
    """A reason without what differs from test to test."""
    return " ".join(reason.split()[:8])


# The tests


def all_cases() -> Iterator[Case]:
    """All tests of the onnx package but for those of the training domain."""
    from onnx.backend.test.loader import load_model_tests

    for kind in ("node", "simple", "pytorch-converted", "pytorch-operator", "real"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Overflows on purpose, while test data are made.
            tests = load_model_tests(kind=kind)
        for test in tests:
            case = _light(test) if kind == "real" else _case(kind, test)
            if all(opset.domain != TRAINING for opset in case.model.opset_import):
                yield case


def _case(kind: str, test: Any) -> Case:
    name = f"{kind}/{test.name}"
    if test.model is not None:
        data = [tuple([*map(_array, side)] for side in sides) for sides in test.data_sets]
        return Case(name, test.model, data, test.rtol, test.atol)
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")
    data = []
    for place in sorted(folder.glob("test_data_set_*")):
        sides = []
        for side, values in (("input", model.graph.input), ("output", model.graph.output)):
            files = sorted(place.glob(f"{side}_*.pb"), key=lambda f: int(f.stem.split("_")[1]))
            sides.append([_read(f, v.type) for f, v in zip(files, values, strict=False)])
        data.append((sides[0], sides[1]))
    return Case(name, model, data, test.rtol, test.atol)


def _array(value: Any) -> Any:
    """Some tests have tensors as messages."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def _read(file: Path, kind: onnx.TypeProto) -> Any:
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(file.read_bytes()))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(file.read_bytes()))
    return numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))


def _light(test: Any) -> Case:
    """A network with weights that are made up; its input is what onnx's own runner makes."""
    from onnx.backend.test.loader import DATA_DIR

    file = Path(DATA_DIR) / "light" / f"light_{test.model_name}.onnx"
    model = onnx.load(file)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        if value.name not in weights:
            shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
            count = int(np.prod(shape))
            inputs.append((np.arange(count).reshape(shape) / count).astype(np.float32))
    output = _read(file.with_name(f"{file.stem}_output_0.pb"), model.graph.output[0].type)
    return Case(f"light/{test.name}", model, [(inputs, [output])], test.rtol, test.atol)


def with_constants(case: Case) -> Case:
    """The test with its shape-like inputs as constants; as it is where their values vary."""
    if len(case.data) != 1:
        return case
    model = onnx.ModelProto.FromString(case.model.SerializeToString())
    wanted = set()
    for node in model.graph.node:
        places = _REDUCE_AXES if node.op_type.startswith("Reduce") else ()
        for place in SHAPE_LIKE.get(node.op_type, places):
            if place < len(node.input):
                wanted.add(node.input[place])
    weights = {tensor.name for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    kept_values, kept = [], []
    ((inputs, outputs),) = case.data
    for value, array in zip(values, inputs, strict=False):
        if value.name in wanted and isinstance(array, np.ndarray):
            model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        else:
            kept_values.append(value)
            kept.append(array)
    old = [value for value in model.graph.input if value.name in weights]
    del model.graph.input[:]
    model.graph.input.extend([*kept_values, *old])
    return Case(case.name, model, [(kept, outputs)], case.rtol, case.atol)


# Running them


def run_all(cases: Sequence[Case], constants: bool, jobs: int) -> Iterator[tuple[str, str]]:
    """Names with results, from `jobs` processes that each run a share of the tests."""
    # What all of them need is imported once, before the copies are made.
    import tilewright.compiler.pipeline
    import tilewright.compiler.runtime  # noqa: F401

    def share(number: int) -> Process:
        def work(send: Send, _commands: Any) -> None:
            for case in cases[number::jobs]:
                send(name=case.name, result=run(case, constants))
            send(name=None)

        return Process(work)

    workers = [share(number) for number in range(jobs)]
    while workers:
        for worker in list(workers):
            said = worker.answer(2 * SECONDS)
            if said["name"] is None:
                workers.remove(worker)
                worker.close()
            else:
                yield said["name"], said["result"]


def run(case: Case, constants: bool) -> str:
    """PASS, or why it does not."""
    process = Process(lambda send, _commands: send(result=_attempt(case, constants)))
    try:
        return process.answer(SECONDS)["result"]
    except TrialFailed as error:
        return str(error)
    finally:
        process.close()


def _attempt(case: Case, constants: bool) -> str:
    from tilewright.compiler import pipeline, runtime
    from tilewright.options import CompileOptions
    from tilewright.targets import resolve

    if constants:
        case = with_constants(case)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        path = folder / "model.onnx"
        path.write_bytes(case.model.SerializeToString())
        work = pipeline.Work(path, resolve("native"), CompileOptions(), {}, folder)
        steps = ["start"]
        try:
            pipeline.run(work, lambda stage: steps.append(stage.name), lambda *_done: None)
            steps.append("load")
            module = runtime.load(work.library, threads=1)
            steps.append("run")
            for inputs, outputs in case.data:
                found = module(*inputs)
                _compare(found if isinstance(found, tuple) else (found,), outputs, case)
        except TilewrightError as error:
            # Where the model lay for the moment says nothing, and differs from run to run.
            said = " ".join(str(error).replace(f"{folder}/", "").split())
            return f"{steps[-1]}: {said}"[:300]
        except AssertionError as error:
            return f"{steps[-1]}: {_difference(str(error))}"[:300]
        except Exception as error:
            said = str(error).strip().splitlines() or [""]
            return f"{steps[-1]}: {type(error).__name__}: {said[-1]}"[:300]
    return PASS


def _difference(text: str) -> str:
    """The line of an assertion that says what differs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "ismatch" in line or "location" in line]
    return (telling or lines or ["it differs"])[0]


def _compare(found: Sequence[Any], wanted: Sequence[Any], case: Case) -> None:
    assert len(found) == len(wanted), f"{len(found)} outputs, expected {len(wanted)}"
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        assert isinstance(theirs, np.ndarray | np.generic), f"output {number} is no tensor"
        theirs = np.asarray(theirs)
        assert ours.dtype == theirs.dtype, f"output {number} is {ours.dtype}, not {theirs.dtype}"
        assert ours.shape == theirs.shape, f"output {number} is {ours.shape}, not {theirs.shape}"
        rtol = max(RTOL, case.rtol, BFLOAT16_RTOL if theirs.dtype.name == "bfloat16" else 0.0)
        if theirs.dtype.kind not in "fiubc":
            # Types that numpy borrows: exact in a wider one of its own.
            ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        np.testing.assert_allclose(
            ours, theirs, rtol, max(ATOL, case.atol), err_msg=f"output {number}"
        )


if __name__ == "__main__":
    sys.exit(main())
