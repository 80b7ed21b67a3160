from __future__ import annotations

import json

import pytest

from tests import models
from tests.compiling import compile_here
from tests.net import Net
from tilewright.compiler import manifest
from tilewright.compiler.importer.graph import label


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    return compile_here(models.mlp_block("tokens"), folder, dims={"tokens": (1, 64)}).manifest


def test_is_json(made):
    assert json.loads(json.dumps(made)) == made


def test_says_what_goes_in_and_comes_out(made):
    assert made["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, "tokens", 32]}]
    (output,) = made["outputs"]
    assert output == {"name": "y", "dtype": "float32", "shape": [1, "tokens", 32], "owned": True}
    assert made["dims"] == {"tokens": [1, 64]}


def test_says_from_what_and_with_what_it_was_made(made):
    assert made["model"]["file"] == "model.onnx" and made["model"]["opset"] == 17
    assert made["model"]["nodes"] == 10 and len(made["model"]["sha256"]) == 64
    assert set(made["versions"]) == set(manifest.VERSIONED)
    assert made["options"]["opt_level"] == 3


def test_an_integer_input_says_what_it_indexes(tmp_path):
    import numpy as np
    from onnx import helper

    proto = models.model(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [models.value("ids", (4,), models.INT64)],
        [models.value("y", (4, 3))],
        {"table": np.zeros((7, 3), np.float32)},
    )
    work = compile_here(proto, tmp_path, until="import")
    assert work.interface["inputs"][0]["below"] == 7


def test_counts_the_kernels(made):
    assert [row["name"] for row in made["kernels"]] == ["norm_0", "mlp_1_up", "mlp_1"]
    calls = [row["calls"] for row in made["kernels"]]
    assert calls == sorted(calls, reverse=True)


def test_names_the_fusion_the_spec_and_the_nodes_of_each_kernel(made):
    norm, *both, mlp = made["kernels"]
    # The two kernels of one group are of the same fusion, spec and nodes.
    keys = ("fusion", "spec", "nodes", "rule")
    assert [{key: row[key] for key in keys} for row in both] == [{key: mlp[key] for key in keys}]
    assert norm["rule"] == "norm" and mlp["rule"] == "mlp"
    assert (norm["fusion"], norm["spec"]["kind"]) == ("norm", "Norm")
    assert norm["spec"]["x"] == [1, "tokens", 32]
    ((*_, last),) = norm["nodes"]
    assert (mlp["fusion"], mlp["spec"]["kind"]) == ("mlp", "Mlp")
    assert len(mlp["nodes"]) == 1 and last not in mlp["nodes"][0]
    nodes = {node for row in made["kernels"] for call in row["nodes"] for node in call}
    assert nodes == {label(node) for node in models.mlp_block("tokens").graph.node}


def test_a_kernel_that_runs_twice_has_the_nodes_of_both_calls(tmp_path):
    net = Net(x=(4, 8))
    once = net.Add(net.Relu(net.MatMul("x", net.weight(8, 8))), net.weight(4, 1))
    model = net.model(net.Relu(net.MatMul(once, net.weight(8, 8))))
    rows = {row["name"]: row for row in compile_here(model, tmp_path).manifest["kernels"]}
    (linear,) = [row for row in rows.values() if row["fusion"] == "linear"]
    assert linear["calls"] == 2 and linear["flops"] == 2 * 4 * 8 * 8 + 4 * 8
    first, second = linear["nodes"]
    assert [name.split()[-1] for name in first] == ["(MatMul)", "(Relu)"] and first != second
    (own,) = [row for row in rows.values() if row["fusion"] != "linear"]
    assert (own["fusion"], own["spec"], own["nodes"]) == (None, None, [])
