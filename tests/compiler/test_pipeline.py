from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here, module_of, reference
from tests.net import Net, keeps_numbers
from tilewright.compiler import pipeline
from tilewright.compiler.steps import OPTIONAL_STEPS, RULE_STEPS
from tilewright.options import CompileOptions


def _names(**fields) -> list[str]:
    return [stage.name for stage in pipeline.chosen_stages(CompileOptions(**fields))]


def test_the_highest_level_runs_all():
    assert _names() == [stage.name for stage in pipeline.STAGES]


def test_a_level_leaves_out_what_belongs_to_a_higher_one():
    assert set(_names()) - set(_names(opt_level=0)) == {
        *pipeline.OPTIONAL_STAGES,
        "fuse",
    } - {"schedule"}
    assert "fuse_ops" not in _names(opt_level=1) and "clean_up" in _names(opt_level=1)


def test_names_switch_steps_off_or_alone_on():
    assert "clean_up" not in _names(disable=("clean_up",))
    assert set(_names(only=("fuse_ops",))) & set(OPTIONAL_STEPS) == {"fuse_ops"}
    assert "fuse_ops" not in _names(only=("fuse_ops",), disable=("fuse_ops",))


@pytest.mark.parametrize("net", [models.conv_net, models.mlp_block])
@pytest.mark.parametrize(
    "fields",
    [{"opt_level": level} for level in range(4)]
    + [{"disable": (name,)} for name in OPTIONAL_STEPS]
    + [{"only": (name,)} for name in OPTIONAL_STEPS if name not in RULE_STEPS],
    ids=str,
)
def test_every_choice_of_steps_gives_the_same_numbers(net, fields, tmp_path):
    proto = net()
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = module_of(proto, tmp_path, **fields)(x)
    np.testing.assert_allclose(y, reference(proto, {"x": x})[0], rtol=1e-4, atol=2e-6)


def test_each_stage_is_reported_timed_and_dumped(tmp_path, model_file):
    dump, started, done = tmp_path / "dump", [], []
    dump.mkdir()
    place = tmp_path / "place"
    place.mkdir()
    from tilewright.targets import resolve

    work = pipeline.Work(
        model_file(models.linear()), resolve("native"), CompileOptions(), {}, place
    )
    pipeline.run(work, started.append, lambda *row: done.append(row), dump)
    assert started == [row[0] for row in done] == list(pipeline.STAGES)
    assert all(seconds >= 0 and note for _, seconds, note in done)
    assert sorted(p.name for p in dump.iterdir()) == [
        f"{n:02d}-{stage.name}.txt" for n, stage in enumerate(started, start=1)
    ]


def test_weights_are_held_once(tmp_path):
    work = compile_here(models.linear(), tmp_path, until="import")
    assert work.model.weights == {}


def test_a_bound_reaches_the_planner(tmp_path):
    work = compile_here(models.linear("n"), tmp_path, until="import", dims={"n": (1, 9)})
    assert dict(work.mod["main"].attrs["tir_var_upper_bound"]) == {"n": 9}


def test_fusion_makes_fewer_kernels(tmp_path):
    plain, fused = (
        len(compile_here(models.mlp_block(), tmp_path, opt_level=level).kernels) for level in (1, 2)
    )
    assert fused < plain


@pytest.mark.parametrize("why", ["tables are switched off", "a size that C cannot be told"])
def test_the_plan_says_why_tvms_vm_runs_a_model(why, tmp_path, model_file):
    from tilewright.targets import resolve

    net, notes = Net(x=(4, 4)), {}
    unknown = net.model(net.NonZero("x")) if why.startswith("a size") else models.linear()
    options = CompileOptions(disable=("tables",) if why == "tables are switched off" else ())
    work = pipeline.Work(model_file(unknown), resolve("native"), options, {}, tmp_path)
    pipeline.run(work, lambda stage: None, lambda stage, _, note: notes.update({stage.name: note}))
    assert notes["plan"].startswith("TVM's VM runs it: ") and why in notes["plan"]


def test_reshapes_of_sizes_that_tvm_cannot_analyse(tmp_path):
    net = Net(opset=20, x=(1, 4, 8, "n"))
    y = net.Pad("x", net.ints(0, 1, 1, 2, 0, 1, 1, 2))
    proto = net.model(net.Unsqueeze(y, net.ints(-4)), net.Unsqueeze(y, net.ints(2)))
    keeps_numbers(proto, tmp_path)
