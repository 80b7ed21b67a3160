"""Our kernels one by one: rate, share of what the machine could do, and ONNX Runtime's beside them.

    python -m benchmarks.kernels [--networks NAME ...] [--threads 1 2] [--seconds 1] [--resume]

Each operator of benchmarks/operators.py becomes a model of its own, with a bias, and is compiled
through the front door. Ours is the time of the kernels that the operator became, padding included,
as `tilewright profile` takes it; theirs that of the node, from ONNX Runtime's own profile. Both
run in turns in one process, in turns with the peak too; all figures are medians, but for the
bandwidths, each of which is the best of several runs in that process.

A kernel is compute-bound when its operations over the peak take longer than its bytes over the
bandwidth of the level that holds them; operations are those of the kernel itself (Winograd has
fewer than the direct algorithm, whose rate stands beside it). `tails` are sizes that no tile
divides, each with the rate of a neighbour; they are in no other sum. Writes results/kernels.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table

import tilewright
from benchmarks import machine, turns
from benchmarks.operators import NETWORKS, TAILS, Conv, Operator
from tilewright.analysis import roofline
from tilewright.analysis.latency import BLOCK_SECONDS, timed_block
from tilewright.analysis.profile import Clock
from tilewright.compiler import child, runtime
from tilewright.compiler.child import Emit
from tilewright.targets import resolve

MIN_ROUNDS = 5
NAME = "kernels"

Rows = dict[str, dict[str, Any]]


def main(words: Sequence[str] | None = None) -> int:
    """Sweep the networks named on the command line, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1.0, help="per operator and threads")
    parser.add_argument("--resume", action="store_true", help="leave out what is measured already")
    parser.add_argument("--output", default=NAME, help="name of the results file")
    arguments = parser.parse_args(words)
    path = machine.RESULTS / f"{arguments.output}.json"
    known = arguments.resume and path.is_file()
    rows: Rows = json.loads(path.read_text())["operators"] if known else {}
    for network in arguments.networks:
        for operator in NETWORKS[network]:
            name = f"{network}: {operator}"
            if name not in rows:
                rows[name] = measure(operator, arguments.threads, arguments.seconds)
                print(f"{name}: {_short(rows[name])}", file=sys.stderr)
        machine.write(
            arguments.output,
            {
                "seconds": arguments.seconds,
                "operators": rows,
                "summary": summary(rows),
                "tails": tails(rows),
            },
        )
    print_table(rows)
    print(f"raw figures in {path}")
    return 0


def measure(operator: Operator, threads: Sequence[int], seconds: float) -> dict[str, Any]:
    """Times and rates of one operator for each number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        model, library = Path(folder) / "operator.onnx", Path(folder) / "operator.so"
        model.write_bytes(model_of(operator).SerializeToString())
        artifact = tilewright.compile(model, check=False, db=False)
        artifact.save(library)
        job = {"model": str(model), "library": str(library), "seconds": seconds, "folder": folder}
        job["shape"] = shape_of(operator)
        runs = {}
        for number in threads:
            found = child.call("benchmarks.kernels:kernel_job", {**job, "threads": number})
            runs[str(number)] = _rated(operator, artifact.manifest["kernels"], found)
    return {"count": operator.count, "flops": operator.flops, "bytes": operator.bytes, "runs": runs}


def model_of(operator: Operator) -> onnx.ModelProto:
    """A model with the operator, its bias and nothing else; weights seeded."""
    rng = np.random.default_rng(0)
    if isinstance(operator, Conv):
        x, taps = shape_of(operator), operator.kernel
        w = [operator.filters, operator.channels // operator.groups, taps, taps]
        pads, strides = [taps // 2] * 4, [operator.stride] * 2
        node = helper.make_node(
            *("Conv", ["x", "w", "b"], ["y"]), pads=pads, strides=strides, group=operator.groups
        )
        bias, y = operator.filters, [1, operator.filters, operator.out, operator.out]
    else:
        m = "m" if operator.open else operator.m
        x, w, y = [m, operator.k], [operator.k, operator.n], [m, operator.n]
        node, bias = helper.make_node("Gemm", ["x", "w", "b"], ["y"]), operator.n
    arrays = {"w": rng.standard_normal(w), "b": rng.standard_normal(bias)}
    tensors = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, x)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, y)
    graph = helper.make_graph([node], "operator", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def shape_of(operator: Operator) -> list[int]:
    """The shape of its input."""
    if isinstance(operator, Conv):
        return [1, operator.channels, operator.size, operator.size]
    return [operator.m, operator.k]


def kernel_job(job: dict[str, Any], _emit: Emit) -> dict[str, Any]:
    """Both engines in turns with a clock on their kernels, in a process of its own."""
    import onnxruntime

    threads, block = job["threads"], BLOCK_SECONDS if job["threads"] > 1 else 0.0
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.enable_profiling, options.profile_file_prefix = True, f"{job['folder']}/ort"
    session = onnxruntime.InferenceSession(
        job["model"], options, providers=["CPUExecutionProvider"]
    )
    ours = runtime.load(job["library"], threads)
    clock = Clock({row["name"] for row in ours.manifest["kernels"]})
    inputs = {"x": np.random.default_rng(1).standard_normal(job["shape"]).astype(np.float32)}
    ours.watch(clock.look)
    ours(inputs)
    ours.watch(clock.tick)
    times: dict[str, list[float]] = {name: [] for name in clock.sizes}

    def call_ours(given: Any) -> None:
        clock.start()
        ours(given)
        for name, seconds in clock.seconds().items():
            times[name].append(seconds)

    probe, peaks = roofline.fma_probe(resolve("native"), threads), []
    begin = time.perf_counter()
    rounds = 0
    while time.perf_counter() - begin < job["seconds"] or rounds < MIN_ROUNDS:
        peaks.append(probe())
        timed_block(call_ours, inputs, block)
        timed_block(lambda given: session.run(None, given), inputs, block)
        rounds += 1
    theirs = _node_times(Path(session.end_profiling()))
    return {
        "rounds": rounds,
        "kernels": {name: turns.spread(found[1:]) for name, found in times.items()},
        "onnxruntime": turns.spread(theirs[1:]),
        "roofline": {
            **roofline.measure(resolve("native"), threads).to_dict(),
            "peak": float(np.median(peaks)),
        },
    }


def _node_times(profile: Path) -> list[float]:
    """Seconds of the operator's node in each run; re-orderings around it are other nodes."""
    wanted = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul")
    return [
        event["dur"] * 1e-6
        for event in json.loads(profile.read_text())
        if event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"]["op_name"] in wanted
    ]


def _rated(
    operator: Operator, kernels: list[dict[str, Any]], found: dict[str, Any]
) -> dict[str, Any]:
    """Rates and shares of what `kernel_job` measured."""
    machine_here = roofline.Roofline.from_dict(found["roofline"])
    # Kernels of no group are transposes to and from our layout, of which a network has one or two.
    own = [row for row in kernels if row["fusion"] is not None]
    seconds = sum(found["kernels"][row["name"]]["median"] for row in own)
    counted = [row["flops"] for row in own]
    # Of open sizes nobody knows the work before: it is that of the operator then.
    work = operator.flops if None in counted else sum(row["flops"] * row["calls"] for row in own)
    least, bound = machine_here.least_seconds(work, operator.bytes)
    return {
        "seconds": seconds,
        "rules": sorted({row["rule"] for row in own}),
        "kernel_flops": work,
        "flops_per_second": work / seconds,
        "direct_flops_per_second": operator.flops / seconds,
        "bytes_per_second": operator.bytes / seconds,
        "bound": bound,
        "least_seconds": least,
        "share": least / seconds,
        "onnxruntime": found["onnxruntime"],
        "ratio": found["onnxruntime"]["median"] / seconds,
        "kernels": found["kernels"],
        "roofline": found["roofline"],
    }


def summary(rows: Rows) -> dict[str, dict[str, Any]]:
    """For each number of threads: compute-bound kernels by their time, the others, the least."""
    found: dict[str, dict[str, Any]] = {}
    for number in sorted({n for row in rows.values() for n in row["runs"]}, key=int):
        swept = {n: row for n, row in rows.items() if not n.startswith("tails: ")}
        runs = {name: row["runs"][number] for name, row in swept.items()}
        found[number] = {}
        for kind in ("compute", "memory"):
            limited = kind == "compute"
            chosen = {n: r for n, r in runs.items() if (r["bound"] == "compute") == limited}
            if not chosen:
                continue
            weights = {name: rows[name]["count"] for name in chosen}
            total = sum(weights[name] * run["seconds"] for name, run in chosen.items())
            least = sum(weights[name] * run["least_seconds"] for name, run in chosen.items())
            worst = min(chosen, key=lambda name: chosen[name]["share"])
            found[number][kind] = {
                "kernels": len(chosen),
                "weighted_share": least / total,
                "least_share": chosen[worst]["share"],
                "least_kernel": worst,
                "slower_than_onnxruntime": sorted(n for n, r in chosen.items() if r["ratio"] < 1),
            }
    return found


def tails(rows: Rows) -> dict[str, dict[str, float]]:
    """Rate of each size that no tile divides, over that of its neighbour which tiles divide."""
    found: dict[str, dict[str, float]] = {}
    for odd, even in TAILS:
        one, other = (rows.get(f"tails: {operator}") for operator in (odd, even))
        for number in one["runs"] if one and other else ():
            rates = [row["runs"][number]["direct_flops_per_second"] for row in (one, other)]
            found.setdefault(number, {})[f"{odd} / {even}"] = rates[0] / rates[1]
    return found


def print_table(rows: Rows) -> None:
    """One line for each operator and number of threads, then the sums."""
    table = Table(box=box.SIMPLE_HEAD)
    titles = ("operator", "count", "threads", "rule", "us", "GF/s", "direct", "GB/s", "bound")
    for title in (*titles, "share", "ORT us", "ORT/ours"):
        table.add_column(title, justify="left" if title == "operator" else "right")
    for name, row in rows.items():
        for number, run in row["runs"].items():
            table.add_row(
                *(name, str(row["count"]), number, ", ".join(run["rules"])),
                f"{run['seconds'] * 1e6:.1f}",
                f"{run['flops_per_second'] / 1e9:.1f}",
                f"{run['direct_flops_per_second'] / 1e9:.1f}",
                f"{run['bytes_per_second'] / 1e9:.1f}",
                run["bound"],
                f"{run['share']:.0%}",
                f"{run['onnxruntime']['median'] * 1e6:.1f}",
                f"{run['ratio']:.2f}",
            )
    Console(width=170).print(table)
    for number, kinds in summary(rows).items():
        for kind, found in kinds.items():
            print(
                f"{number} threads, {found['kernels']} {kind}-bound: {found['weighted_share']:.1%} "
                f"of the roof by time, least {found['least_share']:.0%} ({found['least_kernel']}), "
                f"{len(found['slower_than_onnxruntime'])} slower than ONNX Runtime's"
            )

    for number, found in tails(rows).items():
        for pair, ratio in found.items():
            print(f"{number} threads, {pair}: {ratio:.0%} of the rate")


def _short(row: dict[str, Any]) -> str:
    return ", ".join(
        f"{number} threads {run['share']:.0%} of {run['bound']}, ORT/ours {run['ratio']:.2f}"
        for number, run in row["runs"].items()
    )


if __name__ == "__main__":
    sys.exit(main())
