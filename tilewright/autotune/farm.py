"""Devices that measure at the same time: each takes the next choice when it is done with its last.

    choices  [c5 c6 c7 ...]      device 1: default, c1, c4 ...
                                 device 2: default, c2, c3 ...

A device that is lost is left out from then on, and its choice goes back to the queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from tilewright.devices.device import Device, DeviceLost
from tilewright.devices.duel import MOST_ROUNDS, Duel
from tilewright.devices.local import LocalDevice
from tilewright.devices.process import TrialFailed
from tilewright.devices.remote import RemoteDevice, free_devices, no_answer
from tilewright.devices.where import Where
from tilewright.errors import CompileError, OptionError, TargetError
from tilewright.targets import Target

# A choice that so many devices were lost with is at fault, and not the devices.
MOST_LOST = 2
# How long a board may take to say that it is free again.
FREE_SECONDS = 5.0

Answer = TypeVar("Answer")


def open_devices(where: dict[str, Any] | None, target: Target, threads: int) -> list[Device]:
    """This machine, or the boards of `where` (a `Where` as JSON values).

    Raises OptionError when none answers, TargetError when one cannot run code for `target`.
    """
    if where is None:
        return [LocalDevice(threads)]
    place = Where.from_dict(where)
    count = 1
    if place.tracked:
        count = min(_free(place), place.most or 1 << 30)
        if count == 0:
            raise OptionError(
                f"no board with the key {place.key} is free",
                where=str(place),
                hint=f"on each: tilewright board serve --key {place.key} --tracker {place}",
            )
    return [_connected(place, target, threads) for _ in range(count)]


def _free(place: Where) -> int:
    """How many boards are free; a board that somebody just left is so after a moment."""
    end = time.monotonic() + FREE_SECONDS
    while (count := free_devices(place)) == 0 and time.monotonic() < end:
        time.sleep(0.5)
    return count


def _connected(place: Where, target: Target, threads: int) -> RemoteDevice:
    try:
        device = RemoteDevice(place, threads)
    except DeviceLost as error:
        raise no_answer(place, error) from error
    missing = target.missing_on(frozenset(device.facts["features"]))
    if missing:
        raise TargetError(
            f"{device.name} cannot run code for {target.name}",
            where=device.facts["cpu"],
            expected=f"a CPU with {', '.join(missing)}",
        )
    for name in ("tilewright", "apache-tvm"):
        if device.facts[name] != version(name):
            raise OptionError(
                f"{device.name} has {name} {device.facts[name]}",
                expected=f"{version(name)}, as here",
                hint="install the same tilewright on both",
            )
    return device


class Farm:
    """Devices of one kind; `say` is told which is lost, and why."""

    def __init__(self, devices: Sequence[Device], say: Callable[[str], None]) -> None:
        self.devices, self._say = list(devices), say

    def ask(self, question: Callable[[Device], Answer]) -> Answer:
        """The answer of one device; of the next where one is lost.

        Raises CompileError when none is left.
        """
        while self.devices:
            device = self.devices[0]
            try:
                return question(device)
            except DeviceLost as error:
                self._lose(device, error)
        raise CompileError(
            "no device is left to measure on",
            hint="the trials so far are kept: the same command goes on",
        )

    def duels(self, task: Path, choices: Sequence[str]) -> Iterator[tuple[str, Duel | TrialFailed]]:
        """Measure `choices` of `task` on all devices; each with its result as soon as it is there.

        A device waits until its result has been dealt with: on this machine that would disturb the
        next. Raises CompileError when no device is left.
        """
        waiting, losses = deque(choices), Counter[str]()
        while waiting:
            self.ask(lambda _device: None)
            said: queue.SimpleQueue[_Done | _Loss | None] = queue.SimpleQueue()
            threads = [_started(device, task, waiting, said) for device in self.devices]
            working = len(threads)
            try:
                while working:
                    news = said.get()
                    if news is None:
                        working -= 1
                    elif isinstance(news, _Done):
                        with news:
                            yield news.choice, news.found
                    else:
                        self._lose(news.device, news.error)
                        losses[news.choice] += 1
                        if news.choice and losses[news.choice] < MOST_LOST:
                            waiting.append(news.choice)
                        elif news.choice:
                            yield news.choice, TrialFailed(f"{MOST_LOST} devices were lost with it")
            finally:
                if working:  # Nobody listens any more.
                    waiting.clear()
                while working:
                    news = said.get()
                    if news is None:
                        working -= 1
                    elif isinstance(news, _Done):
                        news.taken.set()
                for thread in threads:
                    thread.join()

    def close(self) -> None:
        """Let all devices go."""
        for device in self.devices:
            device.close()

    def _lose(self, device: Device, error: Exception) -> None:
        self.devices.remove(device)
        device.close()
        self._say(f"lost: {error}; {len(self.devices)} devices are left")


@dataclass(frozen=True)
class _Done:
    """A result, and whether it has been dealt with; a `with` says so at its end."""

    choice: str
    found: Duel | TrialFailed
    taken: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_exc: object) -> None:
        self.taken.set()


@dataclass(frozen=True)
class _Loss:
    device: Device
    choice: str | None
    error: Exception


def _started(
    device: Device, task: Path, waiting: deque[str], said: queue.SimpleQueue
) -> threading.Thread:
    thread = threading.Thread(target=_work, args=(device, task, waiting, said))
    thread.start()
    return thread


def _work(device: Device, task: Path, waiting: deque[str], said: queue.SimpleQueue) -> None:
    """A device's thread: says what it has done, or a loss; None in the end."""
    choice: str | None = None
    try:
        device.begin(task)
        while waiting:
            try:
                choice = waiting.popleft()
            except IndexError:
                break  # Another device took the last.
            try:
                found: Duel | TrialFailed = device.duel(task, choice, MOST_ROUNDS)
            except TrialFailed as error:
                found = error
            done = _Done(choice, found)
            choice = None
            said.put(done)
            done.taken.wait()
        device.end()
    except Exception as error:  # Whatever it is: its choice must not be lost with it.
        said.put(_Loss(device, choice, error))
    finally:
        said.put(None)
