"""What all commands share when they talk to a person: progress, errors, exit codes."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from tilewright.cli import flags
from tilewright.errors import TilewrightError

EXIT_COULD_NOT_RUN = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_terminated: list[int] = []


def run(cli: click.Group) -> int:
    """Run the command line; every way it can end becomes an exit code and a message."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    try:
        result = cli.main(flags.settle_json(sys.argv[1:]), standalone_mode=False)
        return result if isinstance(result, int) else 0
    except TilewrightError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_COULD_NOT_RUN
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; no result was written", err=True)
        return EXIT_TERMINATED if _terminated else EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): that is no failure of ours.
        sys.stderr.close()
        return 0


def _terminate(number: int, _frame: object) -> None:
    """Unwind as for Ctrl-C, so that temporary files and child processes go too."""
    _terminated.append(number)
    raise KeyboardInterrupt


class Progress:
    """One line per step on stderr with its time; a spinner while it runs, on a terminal.

    An instance is a `progress` callback of the front door. `level`: -1 quiet, 0 normal, 1 with
    the reason for each step's place.
    """

    def __init__(self, level: int) -> None:
        self._quiet = level < 0
        self._verbose = level > 0
        self._live = not self._quiet and sys.stderr.isatty()
        self._console: Any = None
        self._spinner: Any = None
        self._started = time.perf_counter()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show an event of a child process."""
        if self._quiet:
            return
        if event["event"] == "start":
            self._started = time.perf_counter()
            self._spin(event["step"])
        elif event["event"] == "at" and self._spinner is not None:
            self._spinner.update(event["step"])
        elif event["event"] == "done":
            seconds = event["seconds"]
            if seconds is None:
                seconds = time.perf_counter() - self._started
            self._stop()
            self._line(event["step"], seconds, event["note"])
            if self._verbose and "why" in event:
                click.echo(f"{'':31}{event['why']}", err=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop()

    def _spin(self, step: str) -> None:
        if not self._live:
            return
        from rich.console import Console
        from rich.status import Status

        self._stop()
        self._console = self._console or Console(stderr=True)
        self._spinner = Status(step, console=self._console)
        self._spinner.start()

    def _stop(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _line(self, step: str, seconds: float, note: str) -> None:
        click.echo(f"  {step:<16} {seconds:7.2f} s  {note}", err=True)


def say(text: str, level: int) -> None:
    """A line on stderr, unless quiet."""
    if level >= 0:
        click.echo(text, err=True)


def with_progress(level: int, action: Callable[[Progress], Any]) -> Any:
    """Call `action` with a Progress that is stopped however the call ends."""
    with Progress(level) as progress:
        return action(progress)
