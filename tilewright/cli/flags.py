"""The flags that several commands share: one definition each, as docs/cli.md lists them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tilewright.compiler.steps import OPTIONAL_STEPS
from tilewright.errors import OptionError
from tilewright.options import CompileOptions

Command = Callable[..., Any]
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def shape_value(text: str) -> tuple[str, tuple[int, ...]]:
    """`INPUT=1,3,224,224` -> ("INPUT", (1, 3, 224, 224)). Input names may contain `=`."""
    name, equals, sizes = text.rpartition("=")
    parts = sizes.replace("x", ",").split(",") if sizes else []
    if not equals or not name or not all(part.strip().isdigit() for part in parts):
        raise OptionError(
            f"cannot read --shape {text}", expected="INPUT=1,3,224,224", hint="sizes are integers"
        )
    return name, tuple(int(part) for part in parts)


def dim_value(text: str) -> tuple[str, int | tuple[int, int]]:
    """`NAME=128` -> ("NAME", 128); `NAME=1..512` -> ("NAME", (1, 512))."""
    name, equals, size = text.rpartition("=")
    low, dots, high = size.partition("..")
    if equals and name and low.isdigit() and (high.isdigit() if dots else True):
        return name, (int(low), int(high)) if dots else int(low)
    raise OptionError(f"cannot read --dim {text}", expected="NAME=128 or NAME=1..512")


def duration_value(text: str) -> float:
    """`20m` -> 1200.0 seconds; `90`, `90s`, `1.5h`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise OptionError(f"cannot read --budget {text}", expected="20m, 90s or 1.5h")
    return float(found[1]) * _UNITS[found[2]]


def _flag(*names: str, **settings: Any) -> Callable[[Command], Command]:
    return click.option(*names, **settings)


def everywhere(command: Command) -> Command:
    """-q, -v and --seed, which every command takes; handed on as `level` (-1, 0, 1) and `seed`."""

    @_flag("-q", "--quiet", is_flag=True, help="Print results and errors only.")
    @_flag("-v", "--verbose", is_flag=True, help="Say why each step is there.")
    @_flag(
        "--seed",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Draws random inputs.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        return command(*args, level=-1 if quiet else int(verbose), **kwargs)

    return wrapped


def budget(default: str | None, shown: str | bool = True) -> Callable[[Command], Command]:
    """--budget, handed on as text for `duration_value`; `shown` is what the help says of it."""
    return _flag(
        "--budget",
        metavar="20m",
        default=default,
        show_default=shown,
        help="How long to go on: 90s, 20m, 1h.",
    )


def shapes(command: Command) -> Command:
    """--shape and --dim, handed on as `shapes` and `dims` dictionaries."""

    @_flag("--shape", "shape", multiple=True, metavar="INPUT=1,3,224,224", help="Fix an input.")
    @_flag(
        "--dim",
        "dim",
        multiple=True,
        metavar="NAME=128|1..512",
        help="Fix or bound a symbolic dimension.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, shape: tuple, dim: tuple, **kwargs: Any) -> Any:
        return command(
            *args,
            shapes=dict(shape_value(text) for text in shape),
            dims=dict(dim_value(text) for text in dim),
            **kwargs,
        )

    return wrapped


def compiling(command: Command) -> Command:
    """-t, -O, --disable and --only; handed on as `target` and `options`.

    Takes `seed` over from `everywhere`, which must stand below it, and adds --shape and --dim.
    """

    @_flag(
        "-t",
        "--target",
        default="native",
        show_default=True,
        metavar="NAME",
        help="See `tilewright targets`.",
    )
    @_flag(
        "-O",
        "opt_level",
        type=click.IntRange(0, 3),
        metavar="0..3",
        default=3,
        show_default=True,
        help="Optimisation level.",
    )
    @_flag(
        "--disable",
        multiple=True,
        metavar="NAME",
        help=f"Skip a step: {', '.join(OPTIONAL_STEPS)}.",
    )
    @_flag("--only", multiple=True, metavar="NAME", help="Of these steps, run only NAME.")
    @shapes
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        opt_level: int,
        disable: tuple[str, ...],
        only: tuple[str, ...],
        seed: int,
        dims: dict,
        **kwargs: Any,
    ) -> Any:
        options = CompileOptions(
            opt_level=opt_level, dims=dims, disable=disable, only=only, seed=seed
        )
        return command(*args, options=options, **kwargs)

    return wrapped


def threads(command: Command) -> Command:
    """--threads N."""
    return _flag(
        "--threads",
        type=click.IntRange(min=1),
        help="Threads of a call; default: $TILEWRIGHT_THREADS, or CPU affinity and cgroup quota.",
    )(command)


def inputs(command: Command) -> Command:
    """--input, repeatable."""
    return _flag(
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=FILE.npy|FILE.npz|random",
        help="Input values; `random` fills what is left open.",
    )(command)


def reference(command: Command) -> Command:
    """--model MODEL.onnx."""
    return _flag(
        "--model",
        type=click.Path(path_type=Path),
        metavar="MODEL.onnx",
        help="The reference, when an artifact is given.",
    )(command)


def settle_json(arguments: list[str]) -> list[str]:
    """`--json` takes the next word only when that names a .json file.

    `tilewright inspect --json model.onnx` would otherwise lose its model to the flag, and
    write over it.
    """
    settled = list(arguments)
    for place, word in enumerate(arguments):
        following = arguments[place + 1 : place + 2]
        if word == "--json" and not (following and following[0].endswith(".json")):
            settled[place] = "--json=-"
    return settled


def reporting(command: Command) -> Command:
    """--json [FILE] and --html FILE, handed on as `json_to` ("-" is stdout) and `html_to`."""

    @_flag(
        "--json",
        "json_to",
        is_flag=False,
        flag_value="-",
        default=None,
        metavar="[FILE.json]",
        help="Machine-readable result, to stdout or a file.",
    )
    @_flag(
        "--html",
        "html_to",
        type=click.Path(path_type=Path),
        metavar="FILE.html",
        help="The result as one self-contained page.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, json_to: str | None, html_to: Path | None, **kwargs: Any) -> Any:
        for flag, value, suffix in (("--json", json_to, ".json"), ("--html", html_to, ".html")):
            if value not in (None, "-") and Path(value).suffix != suffix:
                raise OptionError(
                    f"{flag} {value}", expected=f"a file that ends in {suffix}, or {flag} last"
                )
        return command(*args, json_to=json_to, html_to=html_to, **kwargs)

    return wrapped


def database(command: Command) -> Command:
    """--db FILE, handed on as `db`."""
    return _flag(
        "--db",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Tuning records; default: a file of your own.",
    )(command)


def records(command: Command) -> Command:
    """--db and --no-db of what compiles, handed on as `db`: a path, True or False."""

    @database
    @_flag("--no-db", is_flag=True, help="Compile without tuning records.")
    @functools.wraps(command)
    def wrapped(*args: Any, db: Path | None, no_db: bool, **kwargs: Any) -> Any:
        return command(*args, db=False if no_db else db or True, **kwargs)

    return wrapped
