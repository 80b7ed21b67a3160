from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from tests import models
from tests.command_line import run_job_here
from tests.net import CONTRIB, Net
from tilewright.errors import ModelError, OptionError
from tilewright.options import CompileOptions
from tilewright.targets import resolve

JOB = "tilewright.analysis.preflight_job:preflight_job"
make = helper.make_node


@pytest.fixture
def preflight(model_file):
    def facts(proto, *, shapes=None, events=None, **options):
        job = {
            "path": str(model_file(proto)),
            "target": resolve("native").to_dict(),
            "options": CompileOptions(**options).to_dict(),
            "shapes": shapes or {},
            "fusions": None,
        }
        return run_job_here(JOB, job, None if events is None else events.append)

    return facts


def _operators(facts):
    return {
        (row["domain"], row["operator"]): (row["version"], row["converted_by"])
        for row in facts["operators"]
    }


def _whats(facts):
    return {finding["operator"]: finding["what"] for finding in facts["findings"]}


def test_what_a_model_that_compiles_will_take(preflight):
    facts = preflight(models.linear())
    assert facts["compiles"] and facts["findings"] == [] and facts["unchecked"] == []
    assert _operators(facts) == {
        ("ai.onnx", "Add"): (14, "TVM"),
        ("ai.onnx", "MatMul"): (13, "TVM"),
        ("ai.onnx", "Relu"): (14, "TVM"),
    }
    assert facts["operators"][1]["nodes"] == ["product (MatMul)"]
    assert facts["parameters"] == 64 * 32 + 32 and facts["weight_bytes"] == 4 * facts["parameters"]
    (row,) = facts["estimates"]
    assert row["flops"] == 2 * 64 * 32 * 2 + 2 * 64 and row["sizes"] == {}
    # One kernel, whose result alone is allocated.
    assert row["activation_bytes"] == 4 * 2 * 32
    assert (facts["kernels"], facts["groups"]) == (1, 1)
    assert facts["outputs"] == [{"name": "y", "dtype": "float32", "shape": [2, 32]}]
    assert facts["dimensions"] == [] and facts["external"] == [] and facts["computed_shapes"] == []


def test_options_are_those_of_the_compilation(preflight):
    events = []
    facts = preflight(models.linear(), opt_level=1, events=events)
    assert facts["compiles"] and (facts["kernels"], facts["groups"]) == (3, 0)
    steps = [event["step"] for event in events if event["event"] == "start"]
    assert steps[:3] == ["load", "normalise", "import"] and "fuse" not in steps


def test_each_operator_without_a_converter_with_all_its_nodes(preflight):
    facts = preflight(models.unsupported())
    assert not facts["compiles"] and facts["kernels"] is None
    assert facts["estimates"][0]["activation_bytes"] is None
    assert {f["operator"]: f["nodes"] for f in facts["findings"]} == {
        models.UNCONVERTED: [f"counts ({models.UNCONVERTED})"],
        "my.domain.Add": ["foreign_add (my.domain.Add)"],
        "my.domain.Fancy": ["fancy_1 (my.domain.Fancy)", "fancy_2 (my.domain.Fancy)"],
    }
    assert "my.domain are not known" in _whats(facts)["my.domain.Fancy"]
    assert _operators(facts)["my.domain", "Fancy"] == (1, "not yet")
    assert [row["refused"] for row in facts["operators"]] == [1, 1, 2]


def _branches(**nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    graphs = {
        f"{name}_branch": helper.make_graph(
            inside, name, [], [models.value(inside[-1].output[0], None)]
        )
        for name, inside in nodes.items()
    }
    inputs = [models.value("c", (), onnx.TensorProto.BOOL), models.value("x", (3, 3))]
    proto = models.model(
        [make("If", ["c"], ["y"], name="choose", **graphs)], inputs, [models.value("y", None)]
    )
    proto.graph.output[0].type.tensor_type.shape.SetInParent()
    return proto


def test_branches_are_looked_into(preflight):
    cast = make("Cast", ["x"], ["whole"], to=models.INT64)
    branches = {
        "then": [cast, models.unconverted("whole", "then_y", name="in_then")],
        "else": [make("ReduceSum", ["x"], ["else_y"], name="in_else")],
    }
    facts = preflight(_branches(**branches))
    inside = f"in_then ({models.UNCONVERTED})"
    assert [f["nodes"] for f in facts["findings"]] == [[inside]]
    nodes = {row["operator"]: row["nodes"] for row in facts["operators"]}
    assert nodes[models.UNCONVERTED] == [f"{inside} in choose (If)"] and "ReduceSum" in nodes


def test_functions_are_looked_into(preflight):
    body = [
        make("Relu", ["a"], ["t"], name="inner"),
        make("Cast", ["t"], ["whole"], to=models.INT64),
        models.unconverted("whole", "b", name="counts"),
    ]
    function = helper.make_function(
        "mine", "Both", ["a"], ["b"], body, [helper.make_opsetid("", 17)]
    )
    call = make("Both", ["x"], ["y"], name="call", domain="mine")
    proto = models.model(
        [call],
        [models.value("x", (3, 3))],
        [models.value("y", (3, 3))],
        opsets=[helper.make_opsetid("mine", 3)],
    )
    proto.functions.append(function)
    facts = preflight(proto)
    found = _operators(facts)
    assert found["mine", "Both"] == (3, "the model's own function")
    assert found["ai.onnx", "Relu"] == (14, "TVM")
    assert found["ai.onnx", models.UNCONVERTED][1] == "not yet"
    (finding,) = facts["findings"]
    assert finding["operator"] == models.UNCONVERTED and len(finding["nodes"]) == 1
    rows = {row["operator"]: row["nodes"] for row in facts["operators"]}
    assert rows[models.UNCONVERTED] == [f"counts ({models.UNCONVERTED}) in function Both"]


def test_what_is_computed_at_compile_time_needs_no_converter(preflight):
    net = Net(x=(3, 3))
    spare = net.Det(net.const(np.eye(3)))
    facts = preflight(net.model(net.Add("x", spare)))
    assert facts["compiles"] and _operators(facts)["ai.onnx", "Det"] == (11, "compile time")


def test_operators_by_their_definition(preflight):
    net = Net(x=(3, 5))
    net.input("target", (3,))
    facts = preflight(net.model(net.NegativeLogLikelihoodLoss("x", "target")))
    assert facts["compiles"]
    assert _operators(facts)["ai.onnx", "NegativeLogLikelihoodLoss"] == (13, "definition")


def _cell(net: Net, x: str, size: int) -> str:
    """A recurrent cell with an activation that there is no kernel for; [sequence, batch, 2]"""
    weights = net.weight(1, 8, size), net.weight(1, 8, 2)
    y = net.LSTM(x, *weights, hidden_size=2, activations=["Cube", "Tanh", "Tanh"])
    return net.Squeeze(y, net.ints(1))


def test_all_refusals_of_converters(preflight):
    """The second is behind the first, and the third behind an operator without a converter."""
    net = Net(x=("n", 2, 4, 4))
    first = _cell(net, net.Reshape(net.Relu("x"), net.ints(-1, 2, 16)), 16)
    second = _cell(net, first, 2)
    third = _cell(net, net.Reshape(net.unconverted(net.Flatten("x")), net.ints(-1, 2, 1)), 1)
    facts = preflight(net.model(second, third))
    found = [(f["operator"], f["nodes"][0].split("_")[1]) for f in facts["findings"]]
    assert [operator for operator, _ in found] == [models.UNCONVERTED, "LSTM", "LSTM", "LSTM"]
    assert len({node for _, node in found}) == 4
    assert {f["what"] for f in facts["findings"][1:]} == {"the activation Cube"}
    assert facts["findings"][1]["where"].startswith("node n_lstm")
    by = {row["operator"]: row for row in facts["operators"]}
    assert by["LSTM"]["converted_by"] == "Tilewright" and by["LSTM"]["refused"] == 3
    assert by["Relu"]["refused"] == 0 and facts["unchecked"] == []
    # Nothing would help: the activation is not about sizes.
    assert (
        facts["dimensions"][0]["fixed"] is None and "not known" in facts["dimensions"][0]["needs"]
    )


def test_fixed_sizes_that_help_a_converter(preflight):
    net = Net(x=("n", 6))
    net.input("shape", ("k",))
    proto = net.model(net.Flatten(net.Reshape("x", "shape")))
    facts = preflight(proto)
    assert facts["findings"][0]["nodes"] == ["n_reshape0 (Reshape)"]
    rows = {row["name"]: row["fixed"] for row in facts["dimensions"]}
    assert rows == {"n": None, "k": 8}


def test_what_is_behind_an_unknown_type_is_said_to_be_unchecked(preflight):
    nodes = [
        make("Fancy", ["x"], ["a"], name="fancy", domain="my.domain"),
        make("Relu", ["a"], ["b"], name="behind"),
        make("Relu", ["x"], ["c"], name="beside"),
    ]
    opsets = [helper.make_opsetid("my.domain", 1)]
    outputs = [models.value("b", (3,)), models.value("c", (3,))]
    facts = preflight(models.model(nodes, [models.value("x", (3,))], outputs, opsets=opsets))
    assert facts["unchecked"] == ["behind (Relu)"]


def test_what_normalisation_refuses_comes_with_its_reason(preflight):
    net = Net(opset=23, **dict.fromkeys("qkv", (2, 5, 24)), old=(2, 4, 3, 6))
    given = ("q", "k", "v", "", "", "", "old", "old")
    y, *_ = net.add("MultiHeadAttention", *given, outputs=3, domain=CONTRIB, num_heads=4)
    facts = preflight(net.model(y))
    (finding,) = facts["findings"]
    assert finding["operator"] == "com.microsoft.MultiHeadAttention"
    assert "past_key" in finding["what"] and finding["nodes"] == [f"n_{y} ({finding['operator']})"]


def test_what_only_a_rule_of_ours_has_a_kernel_for_compiles(preflight):
    """TVM writes no kernel for a normalisation over several axes with a scale of as many."""
    net = Net(opset=23, x=(3, 4))
    proto = net.model(net.RMSNormalization("x", net.weight(3, 4), axis=0))
    events = []
    assert preflight(proto, events=events)["compiles"]
    assert "lower" in [event["step"] for event in events]
    facts = preflight(proto, disable=("lower",))
    assert facts["findings"][0]["stage"] == "legalize"
    assert facts["findings"][0]["what"].startswith("the compiler fails: ")


def test_open_dimensions_and_what_they_need(preflight):
    facts = preflight(models.linear("n"))
    (row,) = facts["dimensions"]
    assert (row["name"], row["low"], row["high"], row["inputs"]) == ("n", 1, None, ["x"])
    assert row["needs"].startswith("nothing; with bounds, --dim n=")
    small, large = facts["estimates"]
    assert (small["sizes"], large["sizes"]) == ({"n": 1}, {"n": 64})
    assert large["flops"] == 64 * small["flops"]
    assert large["activation_bytes"] == 64 * small["activation_bytes"] == 64 * 4 * 32
    facts = preflight(models.linear("n"), dims={"n": (2, 5)})
    assert facts["dimensions"][0]["needs"] == "nothing" and facts["dimensions"][0]["high"] == 5
    assert [row["sizes"]["n"] for row in facts["estimates"]] == [2, 5]
    assert preflight(models.linear("n"), shapes={"x": [3, 64]})["dimensions"] == []
    with pytest.raises(OptionError, match="does not have: 'm'"):
        preflight(models.linear("n"), dims={"m": 4})


def _computed_pads(count: int | str) -> onnx.ModelProto:
    """How much is padded is an input, which is compiled where it is known how long that is."""
    return models.model(
        [make("Pad", ["x", "pads"], ["y"], name="pad")],
        [models.value("x", ("m", 2, 2, 2)), models.value("pads", (count,), models.INT64)],
        [models.value("y", ("a", "b", "c", "d"))],
    )


def test_fixed_sizes_that_would_help_are_found(preflight):
    facts = preflight(_computed_pads("count"))
    (finding,) = facts["findings"]
    assert finding["operator"] == "Pad" and "how many" in finding["what"]
    rows = {row["name"]: row for row in facts["dimensions"]}
    assert rows["count"]["fixed"] == 8 and "--dim count=8" in rows["count"]["needs"]
    assert rows["m"]["fixed"] is None and rows["m"]["needs"].startswith("nothing")
    assert preflight(_computed_pads("count"), dims={"count": 8})["compiles"]


def test_loops_compile_whose_steps_only_a_run_counts(preflight):
    body = helper.make_graph(
        [make("Add", ["s", "row"], ["t"], name="add"), make("Identity", ["t"], ["o"], name="id")],
        "body",
        [models.value("s", ("m",)), models.value("row", ("m",))],
        [models.value("t", ("m",)), models.value("o", ("m",))],
    )
    scan = make("Scan", ["s0", "x"], ["y", "all"], name="scan", body=body, num_scan_inputs=1)
    facts = preflight(
        models.model(
            [scan],
            [models.value("s0", ("m",)), models.value("x", ("steps", "m"))],
            [models.value("y", ("m",)), models.value("all", ("steps", "m"))],
        )
    )
    assert facts["compiles"] and not facts["findings"]
    assert [row["shape"] for row in facts["outputs"]] == [["m"], ["steps", "m"]]
    assert facts["kernels"] > 0


def test_sizes_that_only_a_run_tells(preflight):
    net = Net(x=("n",))
    count = net.input("count", ())
    rows = net.Range(net.const(0, np.int64), count, net.const(1, np.int64))
    facts = preflight(net.model(net.Relu("x"), net.Mul(rows, rows)))
    assert facts["compiles"]
    assert [row["node"] for row in facts["computed_shapes"]] == ["n_range0 (Range)"]


def test_external_data(preflight, model_file):
    proto = models.linear()
    path = model_file(proto)
    onnx.save_model(
        proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    written = onnx.load(path, load_external_data=False)
    facts = preflight(written)
    assert facts["external"] == [{"file": "weights.bin", "bytes": 4 * (64 * 32 + 32)}]
    (path.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match="external data is missing"):
        preflight(written)


def test_a_file_that_is_not_understood_is_a_finding_and_a_broken_one_an_error(preflight):
    proto = models.linear()
    proto.opset_import[0].version = 999
    facts = preflight(proto)
    assert set(facts) == {"path", "target", "compiles", "findings", "unchecked"}
    assert not facts["compiles"] and facts["findings"][0]["stage"] == "load"
    assert facts["findings"][0]["what"] == "operator set version 999"
    with pytest.raises(ModelError, match="not an ONNX model"):
        preflight(b"no model")
