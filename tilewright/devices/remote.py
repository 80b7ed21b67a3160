"""A board as a device: programs are sent to it over TVM's RPC and measured there.

The connection lives in a process of its own: what TVM's RPC does when a board is unplugged (it
waits, raises or aborts) then ends that process and no more, and here it is a DeviceLost.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from tilewright.analysis.roofline import Roofline
from tilewright.devices.device import DEFAULT, DeviceLost
from tilewright.devices.duel import Duel
from tilewright.devices.process import Process, Send, TrialFailed
from tilewright.devices.server import CALL
from tilewright.devices.where import Where
from tilewright.errors import OptionError

CONNECT_SECONDS = 15.0
# To send what a task needs and run it: a slow board on a slow line.
ANSWER_SECONDS = 300.0
_PACKED = "packed.zip"


class RemoteDevice:
    """A board, by the address of its server or as one of those that a tracker knows."""

    elsewhere = True

    def __init__(self, where: Where, threads: int) -> None:
        """Connect, to one of several where a tracker knows them.

        Raises DeviceLost when nobody answers to the key there.
        """
        self.name = f"{where.key} at {where}"
        self._process = Process(lambda send, commands: _talk(where, send, commands))
        self.facts = self._answer(CONNECT_SECONDS)
        self.name = f"{self.facts['node']} ({where.key})"
        self._ask(do="threads", threads=threads)
        self._sent: set[Path] = set()

    def begin(self, task: Path) -> list[float]:
        """See `Device.begin`."""
        if task not in self._sent:
            self._send(task.name, [file for file in task.iterdir() if file.is_file()])
            self._send(f"{task.name}/{DEFAULT}", (task / DEFAULT).iterdir())
            self._sent.add(task)
        return self._ask(do="begin", task=task.name)["times"]

    def duel(self, task: Path, choice: str, rounds: int) -> Duel:
        """See `Device.duel`."""
        folder = f"{task.name}/{choice}"
        self._send(folder, (task / choice).iterdir())
        try:
            found = self._ask(do="duel", task=task.name, choice=choice, rounds=rounds)
        finally:
            if not self._process.ended:
                self._ask(do="remove", folder=folder)
        seconds, ratios = tuple(found["seconds"]), tuple(found["ratios"])
        return Duel(seconds, found["default_seconds"], ratios)

    def end(self) -> None:
        """See `Device.end`."""
        self._ask(do="end")

    def roofline(self) -> Roofline:
        """See `Device.roofline`."""
        return Roofline.from_dict(self._ask(do="roofline"))

    def compare(self, before: Path, after: Path, seed: int) -> dict[str, Any]:
        """See `Device.compare`."""
        bundle = after.is_dir()
        for name, path in (("before", before), ("after", after)):
            self._send(name, path.iterdir() if path.is_dir() else [path])
        sent = {"before": f"before/{before.name}"}
        sent["after"] = "after" if bundle else f"after/{after.name}"
        return self._ask(do="compare", **sent, seed=seed)

    def close(self) -> None:
        """See `Device.close`."""
        self._process.close()

    def _send(self, to: str, files: Iterable[Path]) -> None:
        """Put copies of `files` into the board's folder `to`."""
        self._ask(send=[str(file) for file in sorted(files)], to=to)

    def _ask(self, **job: Any) -> dict[str, Any]:
        self._process.tell(**job)
        return self._answer(ANSWER_SECONDS)

    def _answer(self, seconds: float) -> dict[str, Any]:
        try:
            said = self._process.answer(seconds)
        except TrialFailed as error:
            raise DeviceLost(f"{self.name}: {error}") from error
        if "lost" in said:
            self._process.close()
            raise DeviceLost(f"{self.name}: {said['lost']}")
        if "trial" in said:
            raise TrialFailed(said["trial"])
        return said


def _talk(where: Where, send: Send, commands: Iterable[dict[str, Any]]) -> None:
    """The process with the connection: hands questions on, and answers back."""
    session = _connected(where)
    call = session.get_function(CALL)
    send(**json.loads(call(json.dumps({"do": "facts"}))))
    for job in commands:
        if "send" in job:
            session.upload(_packed(map(Path, job["send"])), _PACKED)
            job = {"do": "unpack", "packed": _PACKED, "folder": job["to"]}
        said = json.loads(call(json.dumps(job)))
        # "failure" is what ends this process: of a trial, it must not.
        send(**({"trial": said["failure"]} if "failure" in said else said))


def _connected(where: Where) -> Any:
    """TVM's session with a board. Raises TrialFailed where there is none."""
    from tvm import rpc

    try:
        if where.tracked:
            return rpc.connect_tracker(*where.address).request(where.key, max_retry=1)
        return rpc.connect(*where.address, where.key)
    except Exception as error:
        # TVM has no class of its own for it, and says which check of its source failed.
        said = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise TrialFailed(said.rpartition("is false: ")[2]) from error


def _packed(files: Iterable[Path]) -> bytearray:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        for path in files:
            file.write(path, path.name)
    return bytearray(packed.getbuffer())


def facts_of(where: Where) -> dict[str, Any]:
    """What a board says of itself. Raises OptionError when none answers."""
    try:
        device = RemoteDevice(where, 1)
    except DeviceLost as error:
        raise no_answer(where, error) from error
    device.close()
    return device.facts


def no_answer(where: Where, error: DeviceLost) -> OptionError:
    """What a user is told of a board that does not answer."""
    return OptionError(
        f"the board does not answer: {error}",
        where=str(where),
        hint=f"there: tilewright board serve --key {where.key}; and the same key here",
    )


def free_devices(where: Where) -> int:
    """How many boards wait at a tracker. Raises OptionError when no tracker answers."""
    process = Process(lambda send, _commands: send(**_summary(where)))
    try:
        said = process.answer(CONNECT_SECONDS)
    except TrialFailed as error:
        raise OptionError(
            f"no tracker answers: {error}",
            where=str(where),
            hint="`tilewright board tracker` starts one",
        ) from error
    finally:
        process.close()
    return int(said["queue_info"].get(where.key, {}).get("free", 0))


def _summary(where: Where) -> dict[str, Any]:
    from tvm import rpc

    return rpc.connect_tracker(*where.address).summary()
