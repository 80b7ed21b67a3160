from __future__ import annotations

import pytest

from tests import models
from tests.net import Net
from tilewright.analysis.dry_run import dry_run, refusal, timed
from tilewright.compiler import bytecode, pipeline
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.normalise import normalise
from tilewright.errors import OptionError, UnsupportedModel
from tilewright.options import CompileOptions
from tilewright.targets import resolve


def _work(path, **options):
    work = pipeline.Work(path, resolve("native"), CompileOptions(**options), {}, path.parent)
    work.model = load(path)
    work.bounds = shapes.apply(work.model, {}, work.options.dims)
    normalise(work.model)
    return work


def _silent(*_args, **_fields):
    pass


def test_runs_what_may_refuse_and_writes_no_code(model_file):
    events = []
    work = _work(model_file(models.conv_net()))
    run = dry_run(work, lambda kind, **fields: events.append((kind, fields["step"])))
    assert run.failure is None and run.kernels and run.groups and run.memory.bytes_at({})
    started = [step for kind, step in events if kind == "start"]
    expected = [stage.name for stage in pipeline.chosen_stages(work.options)]
    left_out = ("load", "normalise", "lower", "schedule", "codegen", "link")
    assert started == [name for name in expected if name not in left_out]
    assert work.objects is None and work.library is None
    whole = dry_run(_work(work.path), _silent, whole=True)
    assert whole.failure is None and len(whole.kernels) >= len(run.kernels)


def test_a_refusal_ends_it(model_file):
    run = dry_run(_work(model_file(models.unsupported())), _silent)
    assert run.failure.stage == "import" and "3 operators" in run.failure.what
    assert run.kernels == [] and run.memory is None


def test_a_stage_that_fails_is_a_finding(model_file, monkeypatch):
    def broken(_work):
        raise ValueError("no kernel for this")

    stages = [s for s in pipeline.STAGES if s.name != "legalize"]
    failing = pipeline.Stage("legalize", broken, "")
    monkeypatch.setattr(pipeline, "STAGES", (*stages[:3], failing, *stages[3:]))
    run = dry_run(_work(model_file(models.linear())), _silent)
    assert (run.failure.stage, run.failure.what.split(": ")[1:]) == (
        "legalize",
        ["ValueError", "no kernel for this"],
    )


def test_what_the_bytecode_has_no_word_for_is_refused(model_file, monkeypatch):
    def refused(_work):
        raise UnsupportedModel("the result's shape is only known at run time")

    monkeypatch.setattr(bytecode, "bytecode", refused)
    run = dry_run(_work(model_file(models.linear()), disable=("tables",)), _silent)
    assert run.failure.stage == "codegen" and "run time" in run.failure.what


def test_sizes_that_a_model_computes_are_found_where_they_arise(model_file):
    net = Net(x=("n",))
    rows = _range(net)
    run = dry_run(_work(model_file(net.model(net.Add("x", "x"), net.Mul(rows, rows)))), _silent)
    assert [row["node"] for row in run.computed] == ["n_range0 (Range)"]


def _range(net):
    start, step = net.const(0, "int64"), net.const(1, "int64")
    return net.Range(start, net.input("count", ()), step)


def test_what_is_about_flags_or_the_machine_is_raised():
    for error in (OptionError("a flag"), OSError("a disk"), MemoryError()):
        with pytest.raises(type(error)):
            refusal("import", error)


def test_times_are_told():
    events = []
    assert timed(lambda *a, **f: events.append((a, f)), "step", lambda: "note", "why") == "note"
    assert events[0] == (("start",), {"step": "step"})
    assert events[1][1]["note"] == "note" and events[1][1]["seconds"] >= 0
