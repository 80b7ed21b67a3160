from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from tests import models
from tests.compiling import module_of, reference


def test_a_branch_that_sizes_rule_out_is_an_error_when_it_is_taken(tmp_path):
    def branch(name, length):
        node = helper.make_node("MaxPool", ["x"], [name], kernel_shape=[length])
        return helper.make_graph([node], name, [], [models.value(name, (1, 1, None))])

    node = helper.make_node(
        "If", ["c"], ["y"], "by_rate", then_branch=branch("yes", 4), else_branch=branch("no", 9)
    )
    proto = models.model(
        [node],
        [models.value("rate", (), models.INT64), models.value("x", (1, 1, 8))],
        [models.value("y", (1, 1, "n"))],
        {"wide": np.array(16000)},
    )
    proto.graph.node.insert(0, helper.make_node("Equal", ["rate", "wide"], ["c"]))
    module = module_of(proto, tmp_path)
    given = {"rate": np.array(16000), "x": np.arange(8, dtype=np.float32).reshape(1, 1, 8)}
    np.testing.assert_array_equal(module(given), reference(proto, given)[0])
    with pytest.raises(Exception, match=r"by_rate.*takes its else_branch, which could not be"):
        module({**given, "rate": np.array(8000)})
