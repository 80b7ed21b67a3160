from __future__ import annotations

from pathlib import Path

from tests.compiler.importer.convert.test_loops import COUNTED, text_model
from tests.compiling import compile_here
from tests.passes.graphs import module
from tilewright.passes.graphs import MAIN, graphs


def test_main_alone():
    assert graphs(module(lambda bb, x: x, x=(2, 3))) == [MAIN]


def test_bodies_of_loops_but_no_groups(tmp_path: Path):
    mod = compile_here(text_model(COUNTED), tmp_path, until="import").mod
    assert graphs(mod) == [MAIN, "loop", "loop_run", "loop_step"]
    work = compile_here(text_model(COUNTED), tmp_path, until="fuse")
    assert "loop_step" in graphs(work.mod)
    assert not {group.kernel for group in work.fusions.groups} & {*graphs(work.mod)}
