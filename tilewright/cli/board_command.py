"""tilewright board: machines that measure for a session elsewhere."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from tilewright.cli import console, flags
from tilewright.cli.report import Report
from tilewright.devices.where import BOARD_PORT, TRACKER_PORT, Where, address_value
from tilewright.errors import OptionError

LOOPBACK = "127.0.0.1"

_host = click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="Where to listen. Loopback is reached through an SSH tunnel only.",
)


def _key(**settings: Any) -> Any:
    return click.option("--key", metavar="KEY", help="A word that both sides know.", **settings)


@click.group("board")
def command() -> None:
    """Let machines measure for a session elsewhere (docs/tuning.md), or run bundles there."""


@command.command("serve")
@_key(required=True)
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=BOARD_PORT, show_default=True)
@click.option("--tracker", metavar="HOST:PORT", help="Report to this tracker.")
@flags.everywhere
def serve(key: str, host: str, port: int, tracker: str | None, level: int, seed: int) -> int:
    """Measure for others on this machine, until Ctrl-C."""
    from tilewright.devices import server

    _warn(host, level)
    report_to = address_value(tracker, TRACKER_PORT) if tracker else None
    started = server.start(key, (host, port), report_to)
    reached = f"--tracker {tracker}" if tracker else f"--board {host}:{started.port}"
    hint = f"on the other side: tilewright tune MODEL.onnx {reached} --key {key}"
    return _until_interrupted(started, host, hint, level)


@command.command("tracker")
@_host
@click.option("--port", type=click.IntRange(1, 65535), default=TRACKER_PORT, show_default=True)
@flags.everywhere
def tracker(host: str, port: int, level: int, seed: int) -> int:
    """Know which boards there are, until Ctrl-C."""
    from tilewright.devices import server

    _warn(host, level)
    started = server.start_tracker((host, port))
    hint = f"on each board: tilewright board serve --tracker {host}:{started.port} --key KEY"
    return _until_interrupted(started, host, hint, level)


@command.command("run")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="BUNDLE")
@click.argument("host", metavar="USER@HOST")
@click.option("--bench", is_flag=True, help="Measure for five seconds.")
@flags.threads
@flags.everywhere
def run(bundle: Path, host: str, bench: bool, threads: int | None, level: int, seed: int) -> int:
    """Copy BUNDLE to a board over SSH and let it test itself there.

    HOST may be a name of ~/.ssh/config. Nothing stays on the board.
    """
    from tilewright.devices import ssh

    words = ["--selftest", *(["--bench"] if bench else [])]
    return ssh.run_bundle(bundle, host, [*words, *(["--threads", str(threads)] if threads else [])])


@command.command("check")
@click.argument("address", required=False, metavar="[HOST:PORT]")
@_key()
@flags.reporting
@flags.everywhere
def check(
    address: str | None,
    key: str | None,
    json_to: str | None,
    html_to: Any,
    level: int,
    seed: int,
) -> int:
    """Show what a board is, over its connection; without HOST:PORT, what this machine would say."""
    if address is None:
        from tilewright.devices.facts import facts

        found = facts()
    elif key is None:
        raise OptionError("a board answers to its key only", where=address, expected="--key KEY")
    else:
        from tilewright.devices import remote

        found = remote.facts_of(Where(address_value(address, BOARD_PORT), key))
    report = Report(f"board {address or 'here'}", found)
    report.table(
        "",
        ["what", "found"],
        [
            [name, " ".join(map(str, value)) if isinstance(value, list) else str(value)]
            for name, value in found.items()
        ],
    )
    report.emit(json_to, html_to)
    return 0


def _warn(host: str, level: int) -> None:
    if host != LOOPBACK:
        console.say(
            f"warning: whoever reaches {host} and knows the key can run anything on this machine, "
            "and nothing is encrypted; --host 127.0.0.1 and an SSH tunnel are safe",
            level,
        )


def _until_interrupted(started: Any, host: str, hint: str, level: int) -> int:
    """Say that it listens, and wait for Ctrl-C or for SIGTERM, with which service managers end it.

    Either may come as soon as it is said.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        console.say(f"listening on {host}:{started.port}; Ctrl-C ends it", level)
        console.say(hint, level)
        signal.pause()
    except KeyboardInterrupt:
        return 0
    finally:
        started.terminate()
