from __future__ import annotations

from tilewright.analysis.drawing import WIDTH, draw, steps


def _group(
    name: str, *nodes: str, operators: int = 2, epilogue: tuple = ("bias", "clip(0, 6)")
) -> dict:
    return {
        "name": name,
        "nodes": list(nodes),
        "operators": operators,
        "spec": {"epilogue": list(epilogue)},
        "bound": "compute",
        "intensity_after": 12.14,
    }


REPORT = {
    "order": ["a (Conv)", "b (Relu)", "c (Softmax)", "d (MatMul)", "e (Add)"],
    "groups": [
        _group("conv_block_0", "a (Conv)", "b (Relu)"),
        _group("linear_1", "d (MatMul)", "e (Add)", epilogue=()),
    ],
    "leftovers": [{"node": "c (Softmax)"}],
}


def test_draws_boxes_and_lines_in_order():
    lines = draw(REPORT).splitlines()
    assert lines[0].startswith("+-- conv_block_0  bias, clip(0, 6) ---")
    assert lines[0].endswith("- compute, 12.1 FLOP/B") and len(lines[0]) == WIDTH
    assert lines[1:3] == ["|  a (Conv)", "|  b (Relu)"]
    assert lines[3] == "+" + "-" * (WIDTH - 1)
    assert lines[4] == ".  c (Softmax)"
    assert lines[5].startswith("+-- linear_1 ---") and len(lines) == 9


def test_names_what_a_spec_names():
    assert steps({"kind": "Rotary", "x": [1]}) == ""
    assert steps({"function": "elu(0.3)"}) == "elu(0.3)"
    assert steps({"activation": "silu", "gate": "sigmoid"}) == "silu, sigmoid"
    assert steps({"method": "rms", "epilogue": ["bias"]}) == "rms, bias"


def test_stops_after_so_many():
    lines = draw(REPORT, max_nodes=2).splitlines()
    assert lines[-1] == "... 1 more (--max-nodes 3)" and lines[-2] == ".  c (Softmax)"
    assert "more" not in draw(REPORT, max_nodes=3)


def test_a_group_of_one_is_a_line():
    report = {
        "order": ["a (Conv)"],
        "groups": [_group("conv_block_0", "a (Conv)", operators=1)],
        "leftovers": [{"node": "a (Conv)"}],
    }
    assert draw(report) == ".  a (Conv)"


def test_a_long_name_keeps_its_rule():
    report = {"order": [], "leftovers": [], "groups": [_group("x" * 90, "a", epilogue=())]}
    assert "xx -- compute" in draw(report).splitlines()[0]
