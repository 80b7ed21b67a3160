"""The command line: one module per command, each parses, calls the front door and prints.

Exit codes: 0 good, 1 the model failed a check, 2 could not run. Results go to stdout,
progress and errors to stderr.
"""

from __future__ import annotations

import importlib
import sys

import click

# Imported when used: `tilewright --help` must not wait for numpy.
COMMANDS = {
    "preflight": "Say whether a model will compile, and what it will take.",
    "compile": "Compile an ONNX model to a native library and check it.",
    "run": "Run a compiled model.",
    "verify": "Compare a model, artifact or bundle with its reference.",
    "bench": "Measure latency beside ONNX Runtime's, in one run.",
    "profile": "Show where the time of a run goes, kernel by kernel.",
    "tune": "Search for the fastest kernels by measuring them; keep what wins.",
    "board": "Let machines measure for a session elsewhere.",
    "db": "Look at tuning records, and keep them in order.",
    "inspect": "Show what is in a model or an artifact.",
    "targets": "List what can be compiled for, and what this machine is.",
    "doctor": "Check the installation; say how to mend what is missing.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"tilewright.cli.{name}_command").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        from tilewright import __version__

        click.echo(f"tilewright {__version__}")
        ctx.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version and stop.",
)
def cli() -> None:
    """Compile ONNX models to native libraries, with proof that the numbers are right.

    Start with:  tilewright compile model.onnx -o model.so
    """


def main() -> None:
    """Entry point of the `tilewright` script."""
    from tilewright.cli import console

    sys.exit(console.run(cli))
