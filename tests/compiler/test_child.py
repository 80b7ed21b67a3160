from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests import models
from tests.command_line import ROOT
from tilewright.compiler import child
from tilewright.errors import CompileError, OutputError, UnsupportedModel

JOBS = "tests.compiler.child_jobs"


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_gives_the_result_and_hands_on_the_events(temporary):
    events = []
    assert child.call(f"{JOBS}:answer", {"question": 21}, events.append) == {"answer": 42}
    assert [(e["event"], e["step"]) for e in events] == [("start", "think"), ("done", "think")]
    assert list(temporary.iterdir()) == []


DEATHS = {
    "segfault": ["crashed in step 'codegen'", "SIGSEGV", "read address 0"],
    "abort": ["crashed in step 'codegen'", "SIGABRT"],
    "leave": ["crashed in step 'link'", "exit code 7"],
    "leave_politely": ["crashed in step 'start'", "exit code 3"],
    "killed": ["crashed in step 'plan'", "SIGKILL", "probably out of memory"],
    "out_of_memory": ["crashed in step 'import'", "probably out of memory"],
    "raises": ["failed in step 'legalize'", "RuntimeError: Check failed: (lanes == 4) is false"],
    "not_json": ["crashed in step 'start'", "exit code 1", "not JSON serializable"],
}


@pytest.mark.parametrize("job", DEATHS)
def test_a_death_is_one_error_that_names_the_step_and_keeps_the_log(job, temporary):
    with pytest.raises(CompileError) as info:
        child.call(f"{JOBS}:{job}", {})
    for part in DEATHS[job]:
        assert part in str(info.value)
    (log,) = temporary.iterdir()
    assert str(log) in info.value.where and log.suffix == ".log"
    assert "report it" in info.value.hint


def test_the_log_holds_the_traceback(temporary):
    with pytest.raises(CompileError):
        child.call(f"{JOBS}:raises", {})
    (log,) = temporary.iterdir()
    assert "child_jobs.py" in log.read_text() and "lanes == 4" in log.read_text()


def test_says_what_it_was_doing(temporary):
    with pytest.raises(CompileError, match="verifying crashed"):
        child.call(f"{JOBS}:leave", {}, doing="verifying")


def test_an_error_of_ours_comes_back_as_it_was(temporary):
    with pytest.raises(UnsupportedModel) as info:
        child.call(f"{JOBS}:raises_ours", {})
    error = info.value
    assert (error.what, error.where, error.expected, error.hint) == ("no", "node a", "b", "c")
    assert list(temporary.iterdir()) == []


def test_a_full_disk_is_no_crash(temporary):
    with pytest.raises(OutputError, match="No space left") as info:
        child.call(f"{JOBS}:disk_full", {})
    assert info.value.where == "/somewhere/weights.bin" and "TMPDIR" in info.value.hint
    assert list(temporary.iterdir()) == []


def test_what_a_library_prints_is_no_answer(temporary):
    assert child.call(f"{JOBS}:garbage", {}) == "true"


def test_jobs_and_results_may_be_larger_than_a_pipe(temporary):
    job = {"size": 1_000_000, "padding": "y" * 1_000_000}
    assert len(child.call(f"{JOBS}:large", job)) == 1_000_000


def test_an_unknown_function_is_an_error_with_a_log(temporary):
    with pytest.raises(CompileError, match="has no attribute 'nothing'"):
        child.call(f"{JOBS}:nothing", {})


def _ends(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def _wait_for(path: Path, seconds: float = 20.0) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.02)
    pytest.fail(f"{path.name} was never written")


def test_a_child_whose_parent_is_killed_ends(tmp_path):
    file = tmp_path / "pid"
    code = (
        "from tilewright.compiler import child\n"
        f"child.call('{JOBS}:sleeps', {{'file': {str(file)!r}}})"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        pid = int(_wait_for(file))
        parent.kill()
    assert _ends(pid), "the child lives on without its parent"


def test_a_child_is_gone_when_the_caller_gives_up(tmp_path, temporary):
    file = tmp_path / "pid"

    def give_up(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.call(f"{JOBS}:sleeps", {"file": str(file)}, give_up)
    assert _ends(int(file.read_text()))
    assert list(temporary.iterdir()) == []


def test_ctrl_c_ends_a_compilation_with_130_and_leaves_nothing(tmp_path, model_file):
    # Two thousand operators: long enough to be interrupted in the middle.
    from onnx import helper

    names = ["x", *(f"t{i}" for i in range(1999)), "y"]
    nodes = [helper.make_node("Sin", [a], [b]) for a, b in itertools.pairwise(names)]
    proto = models.model(nodes, [models.value("x", (4,))], [models.value("y", (4,))])
    place = tmp_path / "place"
    place.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", "from tilewright.cli import main; main()", "compile"),
            str(model_file(proto)),
        ],
        cwd=place,
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "load" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert out == "" and "interrupted" in errors
    assert "Traceback" not in errors
    assert list(place.iterdir()) == []
