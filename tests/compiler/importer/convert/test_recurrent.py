from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.examples import examples
from tilewright.compiler import runtime
from tilewright.errors import ModelError, UnsupportedModel
from tilewright.ops.recurrent import GATES

RESULTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h"), "RNN": ("Y", "Y_h")}


def _model(
    cell: str,
    sequence: int | str = 4,
    batch: int | str = 2,
    size: int = 5,
    hidden: int = 6,
    given: tuple[str, ...] = ("B",),
    **attributes: object,
) -> onnx.ModelProto:
    """`given` are the optional inputs: B, lengths, h0, c0, P."""
    gates = GATES[cell]
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    random = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        # With larger ones a layer amplifies every rounding error from step to step.
        return (random.standard_normal(shape) / max(2.5, hidden**0.5)).astype(np.float32)

    weights = {
        "W": weight(directions, gates * hidden, size),
        "R": weight(directions, gates * hidden, hidden),
        "B": weight(directions, 2 * gates * hidden),
        "P": weight(directions, 3 * hidden),
    }
    order = ["X", "W", "R", "B", "lengths", "h0", "c0", "P"][: 8 if cell == "LSTM" else 6]
    always = ("X", "W", "R")
    names = [name if name in always or name in given else "" for name in order]
    x_shape, state = (sequence, batch, size), (directions, batch, hidden)
    y_shape = (sequence, directions, batch, hidden)
    if attributes.get("layout"):
        x_shape, state = (batch, sequence, size), (batch, directions, hidden)
        y_shape = (batch, sequence, directions, hidden)
    inputs = [models.value("X", x_shape)]
    for name in order[4:7]:
        if name in given:
            whole = name == "lengths"
            kind = onnx.TensorProto.INT32 if whole else models.FLOAT
            inputs.append(models.value(name, (batch,) if whole else state, kind))
    node = helper.make_node(
        cell, names, list(RESULTS[cell]), name="cell", hidden_size=hidden, **attributes
    )
    shapes = [y_shape, state, state]
    outputs = [models.value(n, s) for n, s in zip(RESULTS[cell], shapes, strict=False)]
    used = {name: value for name, value in weights.items() if name in names}
    return models.model([node], inputs, outputs, used)


def _feed(proto: onnx.ModelProto, sizes: dict[str, int], lengths=None) -> dict[str, np.ndarray]:
    random, feed = np.random.default_rng(1), {}
    filled = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in filled:
            continue
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value or sizes[dim.dim_param] for dim in dims]
        feed[value.name] = random.standard_normal(shape).astype(np.float32)
        if value.name == "lengths":
            feed["lengths"] = np.asarray(lengths, np.int32)
    return feed


def _agrees(module, proto: onnx.ModelProto, feed: dict[str, np.ndarray], wanted=None) -> None:
    wanted = reference(proto, feed) if wanted is None else wanted
    for ours, theirs in zip(module(feed), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@st.composite
def _layers(draw):
    cell = draw(st.sampled_from(sorted(GATES)))
    optional = ["B", "lengths", "h0"] + (["c0", "P"] if cell == "LSTM" else [])
    sizes = {name: draw(st.integers(1, 7)) for name in ("sequence", "batch", "size")}
    attributes = {"direction": draw(st.sampled_from(["forward", "reverse", "bidirectional"]))}
    if cell == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        attributes["clip"] = 0.5
    chosen = tuple(draw(st.lists(st.sampled_from(optional), unique=True)))
    hidden = draw(st.sampled_from([1, 5, 8, 13, 32, 40]))
    lengths = [draw(st.integers(1, sizes["sequence"])) for _ in range(sizes["batch"])]
    return {"cell": cell, **sizes, "hidden": hidden, "given": chosen, **attributes}, lengths


@settings(max_examples=examples(14), deadline=None)
@given(layer=_layers())
def test_any_layer(tmp_path_factory, layer):
    settings_of, lengths = layer
    proto = _model(**settings_of)
    module = module_of(proto, tmp_path_factory.mktemp("layer"))
    _agrees(module, proto, _feed(proto, {}, lengths))


@pytest.mark.parametrize("batch", [1, "rows"])
@pytest.mark.parametrize("cell", sorted(GATES))
def test_threads_share_the_steps_of_a_large_layer(tmp_path, cell, batch):
    proto = _model(cell, sequence=5, batch=batch, size=7, hidden=264)
    library = compile_here(proto, tmp_path).library
    for threads, rows in ((1, 1), (2, 1), (2, 3)):
        sizes = {"rows": rows} if batch == "rows" else {}
        _agrees(runtime.load(library, threads=threads), proto, _feed(proto, sizes))


@pytest.mark.parametrize("attributes", [{}, {"linear_before_reset": 1}])
def test_known_weights_are_arranged_when_it_is_compiled(tmp_path, attributes):
    proto = _model("GRU", hidden=32, batch=1, **attributes)
    kernels = module_of(proto, tmp_path).manifest["kernels"]
    assert sorted(kernel["rule"] for kernel in kernels) == ["linear", "recurrent"], kernels


@pytest.mark.parametrize("cell", sorted(GATES))
def test_open_sequences_and_batches(tmp_path, cell):
    proto = _model(cell, "steps", "rows", hidden=17, given=("B", "h0"), direction="bidirectional")
    module = runtime.load(compile_here(proto, tmp_path).library, threads=2)
    for sizes in ({"steps": 1, "rows": 1}, {"steps": 9, "rows": 4}, {"steps": 3, "rows": 7}):
        _agrees(module, proto, _feed(proto, sizes))


@pytest.mark.parametrize("cell", sorted(GATES))
def test_batches_that_come_first(tmp_path, cell):
    proto = _model(cell, given=("B", "h0"), layout=1, direction="bidirectional")
    feed = _feed(proto, {})
    # ONNX Runtime has no such layout; onnx's own evaluator none in two directions.
    turned = _model(cell, given=("B", "h0"), direction="bidirectional")
    fed = {"X": feed["X"].transpose(1, 0, 2), "h0": feed["h0"].transpose(1, 0, 2)}
    y, *last = reference(turned, {name: np.ascontiguousarray(v) for name, v in fed.items()})
    wanted = [y.transpose(2, 0, 1, 3), *(value.transpose(1, 0, 2) for value in last)]
    _agrees(module_of(proto, tmp_path), proto, feed, wanted)


@pytest.mark.parametrize(
    "names",
    [
        ["Relu", "Tanh", "Softsign"],
        ["HardSigmoid", "LeakyRelu", "Affine"],
        ["Sigmoid", "Elu", "ScaledTanh"],
    ],
)
def test_activations(tmp_path, names):
    alphas = [0.3] * sum(
        name in ("HardSigmoid", "LeakyRelu", "Affine", "Elu", "ScaledTanh") for name in names
    )
    betas = [0.6] * sum(name in ("HardSigmoid", "Affine", "ScaledTanh") for name in names)
    extra = {"activation_alpha": alphas, "activation_beta": betas} if alphas else {}
    proto = _model("LSTM", activations=names, **extra)
    _agrees(module_of(proto, tmp_path), proto, _feed(proto, {}))


def test_coupled_gates(tmp_path):
    proto = _model("LSTM", input_forget=1)
    _agrees(module_of(proto, tmp_path), proto, _feed(proto, {}))


def test_one_of_the_results(tmp_path):
    proto = _model("LSTM")
    del proto.graph.output[0]
    proto.graph.node[0].output[0] = ""
    _agrees(module_of(proto, tmp_path), proto, _feed(proto, {}))


def test_what_no_kernel_is_for(tmp_path):
    with pytest.raises(UnsupportedModel, match="the activation Cube"):
        compile_here(_model("RNN", activations=["Cube"]), tmp_path)


def test_the_evaluator_of_onnx_agrees(tmp_path):
    proto = _model("GRU", linear_before_reset=1)
    feed = _feed(proto, {})
    _agrees(module_of(proto, tmp_path), proto, feed, ReferenceEvaluator(proto).run(None, feed))


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"direction": "sideways"}, "the direction is 'sideways'"),
        ({"hidden_size": 5}, r"W has shape \[1, 24, 5\]"),
        ({"activations": ["Tanh"]}, "1 activations"),
    ],
)
def test_what_does_not_fit(wrong, says, tmp_path):
    with pytest.raises(ModelError, match=says) as info:
        proto = _model("LSTM")
        proto.graph.node[0].attribute.extend(helper.make_attribute(*w) for w in wrong.items())
        if "hidden_size" in wrong:
            del proto.graph.node[0].attribute[0]
        compile_here(proto, tmp_path, until="import")
    assert "(LSTM)" in info.value.where and info.value.expected
