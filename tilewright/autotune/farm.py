"""Devices that measure at the same time: each takes the next choice when it is done with its last.

    built  ->  choices  [c5 c6 c7 ...]      device 1: default, c1, c4 ...
                                            device 2: default, c2, c3 ...

A device that is lost is left out from then on, and its choice goes back to the queue.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
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

# A choice, and why there is no program of it; None where there is one.
Built = tuple[str, TrialFailed | None]
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
    missing = target.missing_on(device.facts["machine"], frozenset(device.facts["features"]))
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

    @property
    def elsewhere(self) -> bool:
        """Whether what this machine does meanwhile disturbs no measurement."""
        return all(device.elsewhere for device in self.devices)

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

    def duels(self, task: Path, built: Iterable[Built]) -> Iterator[tuple[str, Duel | TrialFailed]]:
        """Measure choices of `task` on all devices; each with its result as soon as it is there.

        The next of `built` is asked for beside the measuring, in a thread. A device waits until its
        result has been dealt with: on this machine that would disturb the next. Raises CompileError
        when no device is left.
        """
        choices, losses = _Choices(), Counter[str]()
        said: _Said = queue.SimpleQueue()
        working = [_thread(said, _feed, built, choices)]
        try:
            while working or choices:
                self.ask(lambda _device: None)
                working += [_thread(said, _work, one, task, choices) for one in self.devices]
                while working:
                    news = said.get()
                    if isinstance(news, _Done):
                        with news:
                            yield news.choice, news.found
                    elif isinstance(news, _Loss):
                        self._lose(news.device, news.error)
                        losses[news.choice] += 1
                        if news.choice and losses[news.choice] < MOST_LOST:
                            choices.put(news.choice)
                        elif news.choice:
                            yield news.choice, TrialFailed(f"{MOST_LOST} devices were lost with it")
                    elif isinstance(news, Exception):
                        raise news
                    else:
                        working.remove(_joined(news))
        finally:
            choices.end(at_once=True)  # Nobody listens any more.
            while working:
                news = said.get()
                if isinstance(news, _Done):
                    news.taken.set()
                elif isinstance(news, threading.Thread):
                    working.remove(_joined(news))

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


# What the threads say: results, losses, an error of ours, and themselves at their end.
_News = _Done | _Loss | Exception | threading.Thread
_Said = queue.SimpleQueue[_News]


class _Choices:
    """The choices that wait for a device."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        # No more will be put; none is taken any more.
        self._ended = self.stopped = False

    def put(self, choice: str) -> None:
        """One more."""
        with self._changed:
            self._waiting.append(choice)
            self._changed.notify()

    def end(self, at_once: bool = False) -> None:
        """No more will be put; with `at_once` those that wait are dropped."""
        with self._changed:
            self._ended, self.stopped = True, at_once
            if at_once:
                self._waiting.clear()
            self._changed.notify_all()

    def take(self) -> str | None:
        """The next one, waited for; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return self._waiting.popleft() if self._waiting else None

    def __bool__(self) -> bool:
        return bool(self._waiting)


def _thread(said: _Said, work: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Starts a thread that does `work(said, *arguments)`; its last news is the thread itself."""

    def run() -> None:
        try:
            work(said, *arguments)
        except Exception as error:
            said.put(error)
        finally:
            said.put(threading.current_thread())

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _joined(thread: threading.Thread) -> threading.Thread:
    thread.join()
    return thread


def _feed(said: _Said, built: Iterable[Built], choices: _Choices) -> None:
    """The thread that waits for choices to be built."""
    try:
        for choice, failure in built:
            if choices.stopped:
                break
            if failure is None:
                choices.put(choice)
            else:
                _tell(said, choice, failure)
    finally:
        choices.end()


def _work(said: _Said, device: Device, task: Path, choices: _Choices) -> None:
    """A device's thread: says what it has done, or a loss."""
    choice: str | None = None
    try:
        device.begin(task)
        while (choice := choices.take()) is not None:
            try:
                found: Duel | TrialFailed = device.duel(task, choice, MOST_ROUNDS)
            except TrialFailed as error:
                found = error
            done, choice = choice, None
            _tell(said, done, found)
        device.end()
    except Exception as error:  # Whatever it is: its choice must not be lost with it.
        said.put(_Loss(device, choice, error))


def _tell(said: _Said, choice: str, found: Duel | TrialFailed) -> None:
    """Say a result, and wait until it has been dealt with."""
    done = _Done(choice, found)
    said.put(done)
    done.taken.wait()
