from __future__ import annotations

import fcntl
import threading
import time

import pytest

from tilewright.autotune.lock import locked
from tilewright.devices.process import Process


def _free(path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_one_at_a_time(tmp_path):
    path, seen = tmp_path / "lock", []

    def work(number):
        with locked(path):
            seen.append(number)
            time.sleep(0.02)
            seen.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen[::2] == seen[1::2] and sorted(seen[::2]) == [0, 1, 2, 3]


def test_it_is_let_go_whatever_happens(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(ValueError), locked(path):
        assert not _free(path)
        raise ValueError
    assert _free(path)


def test_a_process_that_was_forked_meanwhile_does_not_keep_it(tmp_path):
    path = tmp_path / "lock"
    with locked(path):
        process = Process(lambda send, commands: next(iter(commands)))
    try:
        assert _free(path)
    finally:
        process.close()


def test_a_process_that_dies_lets_go(tmp_path):
    path = tmp_path / "lock"

    def work(send, commands):
        with locked(path):
            send(held=True)
            next(iter(commands))

    process = Process(work)
    process.answer(30)
    assert not _free(path)
    process.close()
    assert _free(path)


def test_without_a_folder_there_is_no_lock(tmp_path):
    with pytest.raises(OSError), locked(tmp_path / "missing" / "lock"):
        pass
