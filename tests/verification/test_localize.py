from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

import tilewright
from tests import models
from tests.net import Net
from tests.planted import (
    cut_short,
    doubled_constant,
    each_kernel,
    first_argument,
    negated,
    with_calls,
    with_constant,
    without_max,
    zeros_for,
)
from tilewright.autotune.records import Database, Record, fingerprint, now, versions
from tilewright.compiler.faults import Fault
from tilewright.options import CompileOptions
from tilewright.targets import resolve


def _perceptron() -> onnx.ModelProto:
    """Two linear layers with a relu, and one that begins with a transpose of a square"""
    net = Net(x=(16, 16))
    first = net.Relu(net.Add(net.MatMul("x", net.weight(16, 21)), net.weight(21)))
    second = net.Relu(net.Add(net.MatMul(first, net.weight(21, 16)), net.weight(16)))
    return net.model(net.Sigmoid(net.MatMul(net.Transpose(second, perm=[1, 0]), first)))


def _attention() -> onnx.ModelProto:
    """One attention with a mask, its projections and a norm"""
    net = Net(x=(2, 6, 16), mask=(2, 1, 6, 6))
    x = net.LayerNormalization("x", net.weight(16, near=1), net.weight(16), axis=-1)

    def heads(perm):
        made = net.Add(net.MatMul(x, net.weight(16, 16)), net.weight(16))
        return net.Transpose(net.Reshape(made, net.ints(2, 6, 4, 4)), perm=perm)

    q, k, v = heads([0, 2, 1, 3]), heads([0, 2, 3, 1]), heads([0, 2, 1, 3])
    scores = net.Add(net.Mul(net.MatMul(q, k), 0.5), "mask")
    mixed = net.Transpose(net.MatMul(net.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    merged = net.Reshape(mixed, net.ints(2, 6, 16))
    return net.model(net.Add(net.MatMul(merged, net.weight(16, 16)), "x"))


def _sums() -> onnx.ModelProto:
    """What no fusion takes"""
    net = Net(x=(4, 6, 8))
    means = net.ReduceMean(net.Abs("x"), axes=[1], keepdims=0)
    return net.model(net.CumSum(net.Sub(means, 0.5), net.const(1, np.int64)))


@dataclass(frozen=True)
class Case:
    """A fault, and what it has to be traced to: node that makes the tensor, kind, name."""

    net: Callable[[], onnx.ModelProto]
    fault: Fault
    node: str
    kind: str
    name: str
    # In the minimal model at most.
    nodes: int = 3


CASES = {
    "wrong epilogue": Case(
        _perceptron, Fault("rule", "linear", each_kernel(without_max)), "Relu", "rule", "linear"
    ),
    "bad tile tail": Case(
        _perceptron, Fault("rule", "linear", each_kernel(cut_short)), "Relu", "rule", "linear"
    ),
    "dropped transpose": Case(
        _perceptron,
        Fault("stage", "clean_up", with_calls("relax.permute_dims", first_argument)),
        "Sigmoid",
        "stage",
        "clean_up",
    ),
    "wrong record": Case(
        _perceptron,
        Fault("record", "linear", each_kernel(negated)),
        "Relu",
        "record",
        "a tuning record",
    ),
    "missing mask": Case(
        _attention,
        Fault("rule", "attention", zeros_for("mask", (2, 1, 6, 6))),
        "Reshape",
        "rule",
        "attention",
        nodes=13,
    ),
    "wrong epsilon": Case(
        _attention,
        Fault("rule", "norm", each_kernel(with_constant(1e-5, 1e-1))),
        "LayerNormalization",
        "rule",
        "norm",
    ),
    "wrong constant in GELU": Case(
        models.mlp_block,
        Fault("rule", "mlp", each_kernel(with_constant(0.5, 0.45))),
        "Add",
        "rule",
        "mlp",
        nodes=9,
    ),
    "wrong bias folded": Case(
        models.conv_net,
        Fault("stage", "fold_batch_norm", with_calls("relax.add", doubled_constant)),
        "Relu",
        "stage",
        "fold_batch_norm",
    ),
    "wrong convolution": Case(
        models.conv_net, Fault("rule", "conv", each_kernel(negated)), "Relu", "rule", "conv"
    ),
    "wrong softmax": Case(
        models.conv_net,
        Fault("rule", "softmax", each_kernel(negated)),
        "Softmax",
        "rule",
        "softmax",
    ),
    "wrong schedule": Case(
        _sums, Fault("kernel", "*", negated, by="fallback"), "Abs", "stage", "schedule"
    ),
    "wrong converter": Case(
        _sums,
        Fault("stage", "import", with_calls("relax.subtract", doubled_constant)),
        "Sub",
        "required stages",
        "import or legalize",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_traced_to_its_tensor_and_its_culprit(name, here, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(here / "data"))
    case = CASES[name]
    (here / "m.onnx").write_bytes(case.net().SerializeToString())
    db = here / "records.jsonl" if case.kind == "record" else False
    if db:
        _write_records(db)
    events = []
    proof = tilewright.verify(
        here / "m.onnx",
        inputs=["random"],
        options=CompileOptions(threads=1),
        threads=1,
        db=db,
        localize=True,
        faults=[case.fault],
        failures=here / "failures",
        progress=events.append,
    )
    assert proof.failure is not None
    cause = proof.cause
    text = cause["text"]
    assert (cause["culprit"]["kind"], cause["culprit"]["name"]) == (case.kind, case.name), text
    tensor = cause["tensor"]
    assert tensor["nodes"][-1].endswith(f"({case.node})"), text
    assert tensor["error"] is None or tensor["error"] > 10 * tensor["allowed"]
    for part in (tensor["tensor"], tensor["kernel"], cause["culprit"]["reason"]):
        assert part in text
    assert any(event.get("step", "").startswith("localize: ") for event in events)
    # What is left of the model is less than it was, and fails by itself.
    minimal = Path(cause["minimal"]["folder"])
    assert minimal.parent == Path(proof.failure["folder"])
    left = onnx.load(minimal / "minimal.onnx")
    onnx.checker.check_model(left)
    assert len(left.graph.node) == cause["minimal"]["nodes"] <= case.nodes, text
    with np.load(minimal / "inputs.npz") as inputs:
        assert set(inputs) == {value.name for value in left.graph.input}


def _write_records(path):
    """A record for each of the linear layers, with knobs that it has by default."""
    from tilewright.ops import GemmSpec, Step

    steps = (Step("bias"), Step("relu"))
    target = resolve("native")
    specs = [
        GemmSpec("float32", x=(16, 16), w=(16, 21), constant_weights=True, epilogue=steps),
        GemmSpec("float32", x=(16, 21), w=(21, 16), constant_weights=True, epilogue=steps),
    ]
    Database(path).append(
        Record(
            spec.key(),
            fingerprint(target),
            1,
            "linear",
            {},
            seconds=(1e-6, 1e-6, 1e-6),
            default_seconds=2e-6,
            confirmed=True,
            date=now(),
            versions=versions(),
        )
        for spec in specs
    )
