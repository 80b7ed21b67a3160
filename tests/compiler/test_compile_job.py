from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from tests import models
from tilewright.compiler.compile_job import compile_job
from tilewright.options import CompileOptions
from tilewright.targets import CATALOG, resolve


@pytest.fixture(autouse=True)
def recursion_limit():
    limit = sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)


def _job(path, folder, target, options=None, dump=None):
    return json.loads(
        json.dumps(
            {
                "path": str(path),
                "target": resolve(target).to_dict(),
                "options": (options or CompileOptions()).to_dict(),
                "shapes": {},
                "folder": str(folder),
                "dump": dump,
                "cache": True,
                "choices": {},
                "fusions": None,
                "faults": None,
            }
        )
    )


@pytest.mark.parametrize("name", ["native", *[row.name for row in CATALOG]])
def test_compiles_for_every_target(name, model_file, tmp_path):
    job = _job(model_file(models.linear()), tmp_path, name, CompileOptions())
    result = compile_job(job, lambda *_args, **_fields: None)
    assert Path(result["library"]).is_file()
    assert result["manifest"]["needs"]["features"] == list(resolve(name).features)
    json.dumps(result)


def test_reports_each_step(model_file, tmp_path):
    seen = []
    job = _job(model_file(models.linear()), tmp_path, "native", CompileOptions(opt_level=0))
    compile_job(job, lambda kind, **fields: seen.append((kind, fields["step"])))
    assert seen[:2] == [("start", "load"), ("done", "load")]
    assert ("start", "fuse_ops") not in seen and seen[-1] == ("done", "link")


def test_a_long_chain_is_no_recursion_error(model_file, tmp_path):
    from onnx import helper

    names = ["x", *(f"t{i}" for i in range(699)), "y"]
    nodes = [helper.make_node("Sigmoid", [a], [b]) for a, b in itertools.pairwise(names)]
    proto = models.model(nodes, [models.value("x", (4,))], [models.value("y", (4,))])
    compile_job(_job(model_file(proto), tmp_path, "native"), lambda *_a, **_f: None)
