"""A board's side: TVM's RPC server, which here knows one function more.

`CALL` takes what `remote.py` asks as JSON and answers in JSON. The programs come as zip files into
the folder that the server keeps for each connection; they run as they would on one's own machine
(`local.py`), in processes of their own, so that no crash of theirs ends the server.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tilewright.devices.device import Device, DeviceLost
from tilewright.devices.facts import facts
from tilewright.devices.local import LocalDevice
from tilewright.devices.process import TrialFailed
from tilewright.errors import OptionError

CALL = "tilewright.device.call"
# How many ports are tried.
PORTS = 100
MakeDevice = Callable[[int], Device]


def start(
    key: str,
    address: tuple[str, int],
    tracker: tuple[str, int] | None = None,
    make_device: MakeDevice = LocalDevice,
) -> Any:
    """Start a server in a process of its own; returns TVM's Server, with `port` and `terminate`.

    The first free of a hundred ports from that of `address` on is taken. `make_device` gets the
    number of threads.
    """
    from tvm import rpc

    name, port = address
    and_ours = functools.partial(register, make_device)
    _check_ours(name)
    return rpc.Server(
        name,
        port,
        port + PORTS,
        key=key,
        tracker_addr=tracker,
        silent=True,
        server_init_callback=and_ours,
    )


def start_tracker(address: tuple[str, int]) -> Any:
    """Start TVM's tracker in a process of its own; returns it, with `port` and `terminate`."""
    try:
        from tvm.rpc.tracker import Tracker
    except ImportError as error:
        raise OptionError(
            "a tracker needs the package tornado", hint="pip install 'tilewright[farm]'"
        ) from error
    name, port = address
    _check_ours(name)
    return Tracker(name, port, port + PORTS, silent=True)


def _check_ours(host: str) -> None:
    """Raise OptionError unless one may listen at `host`: TVM would say it less clearly."""
    try:
        with socket.create_server((host, 0)):
            pass
    except OSError as error:
        raise OptionError(
            f"cannot listen at {host}: {error.strerror or error}",
            expected="an address of this machine: --host 127.0.0.1, or 0.0.0.0 for all of them",
        ) from error


def register(make_device: MakeDevice = LocalDevice) -> None:
    """Let the RPC server of this process answer `CALL`."""
    import tvm_ffi

    answerer = _Answerer(make_device)
    tvm_ffi.register_global_func(CALL, answerer, override=True)


class _Answerer:
    """Answers one connection, whose process is a copy of the server's."""

    def __init__(self, make_device: MakeDevice) -> None:
        self._make, self._device = make_device, None

    def __call__(self, text: str) -> str:
        job = json.loads(text)
        try:
            return json.dumps(getattr(self, f"_{job.pop('do')}")(**job))
        except TrialFailed as error:
            return json.dumps({"failure": str(error)})
        except DeviceLost as error:
            return json.dumps({"lost": str(error)})
        except Exception as error:
            return json.dumps({"lost": f"{type(error).__name__}: {error}"})

    def _facts(self) -> dict[str, Any]:
        return facts()

    def _threads(self, threads: int) -> dict[str, Any]:
        self._device = self._make(threads)
        return {}

    def _unpack(self, packed: str, folder: str) -> dict[str, Any]:
        with zipfile.ZipFile(packed) as file:
            file.extractall(folder)
        Path(packed).unlink()
        return {}

    def _remove(self, folder: str) -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        return {}

    def _begin(self, task: str) -> dict[str, Any]:
        return {"times": self._device.begin(Path(task))}

    def _duel(self, task: str, choice: str, rounds: int) -> dict[str, Any]:
        return dataclasses.asdict(self._device.duel(Path(task), choice, rounds))

    def _end(self) -> dict[str, Any]:
        self._device.end()
        return {}

    def _roofline(self) -> dict[str, Any]:
        return self._device.roofline().to_dict()

    def _compare(self, before: str, after: str, seed: int) -> dict[str, Any]:
        return self._device.compare(Path(before), Path(after), seed)
