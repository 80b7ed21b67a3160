from __future__ import annotations

import importlib

import click
import pytest

from tests.command_line import command, spawn
from tilewright import __version__
from tilewright.cli import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_module_and_help(name, capsys):
    assert importlib.import_module(f"tilewright.cli.{name}_command").command.name == name
    command(name, "--help")
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: ") and name in shown and "--help" in shown


def test_help_lists_every_command(capsys):
    command("--help")
    shown = capsys.readouterr().out
    for name, text in COMMANDS.items():
        assert name in shown and text.split(".")[0][:40] in " ".join(shown.split())


def test_version(capsys):
    command("--version")
    assert capsys.readouterr().out == f"tilewright {__version__}\n"


def test_an_unknown_command_is_refused():
    with pytest.raises(click.UsageError, match="No such command"):
        cli.main(["compyle"], standalone_mode=False)


def test_each_way_to_end_has_its_exit_code(tmp_path):
    assert spawn("--version", cwd=tmp_path).returncode == 0
    done = spawn("compyle", cwd=tmp_path)
    assert done.returncode == 2 and "compyle" in done.stderr and done.stdout == ""


def test_the_same_flag_means_the_same_everywhere():
    seen: dict[str, tuple] = {}
    for name in COMMANDS:
        for param in importlib.import_module(f"tilewright.cli.{name}_command").command.params:
            if isinstance(param, click.Option) and param.opts[0] not in ("-o", "--dim", "--model"):
                facts = (param.help, param.type.name, param.multiple, param.is_flag)
                assert seen.setdefault(param.opts[-1], facts) == facts, (name, param.opts)
