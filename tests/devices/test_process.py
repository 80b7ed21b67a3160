from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.processes import alive
from tilewright.devices.process import Process, TrialFailed


def _echo(send, commands):
    send(ready=True)
    for command in commands:
        send(heard=command["text"])


def test_a_process_answers_and_ends():
    process = Process(_echo)
    assert process.answer(5) == {"ready": True}
    process.tell(text="hello")
    assert process.answer(5) == {"heard": "hello"}
    process.close()
    assert not alive(process.pid) and process.ended
    process.close()


def test_a_crash_is_a_failure_with_a_reason():
    process = Process(lambda send, commands: ctypes.string_at(0))
    with pytest.raises(TrialFailed, match="SIGSEGV"):
        process.answer(10)
    process.close()


def test_a_crash_after_a_command():
    def work(send, commands):
        send(ready=True)
        next(commands)
        ctypes.string_at(0)

    process = Process(work)
    process.answer(10)
    for _ in range(2):
        process.tell(go=True)
        with pytest.raises(TrialFailed, match="SIGSEGV"):
            process.answer(10)
    process.close()


def test_what_never_ends_is_ended():
    process = Process(lambda send, commands: time.sleep(600))
    begin = time.monotonic()
    with pytest.raises(TrialFailed, match=r"longer than 0\.3 s"):
        process.answer(0.3)
    assert time.monotonic() - begin < 10 and not alive(process.pid)


def test_an_exception_is_told():
    def work(send, commands):
        raise ValueError("too\nmany rows")

    with pytest.raises(TrialFailed, match="ValueError: many rows"):
        Process(work).answer(10)


def test_a_process_does_not_outlive_its_parent():
    script = (
        "import time; from tilewright.devices.process import Process\n"
        "print(Process(lambda send, commands: time.sleep(600)).pid, flush=True)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 10
    while alive(child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(child)
