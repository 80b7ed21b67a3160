"""A bundle on a board that SSH reaches: copied there, run, and removed again.

The system's own `ssh` and `scp` do it, with the names, keys and jump hosts of ~/.ssh/config.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tilewright.compiler.artifact import read_bundle
from tilewright.errors import ArtifactError, OptionError, TargetError, ToolchainError
from tilewright.targets import Target

# What ssh itself ends with when it has no connection.
_NO_CONNECTION = 255
# Never asks: who is asked for a password in the middle of a script waits for ever.
_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=15")


def run_bundle(bundle: Path, host: str, words: Sequence[str]) -> int:
    """Run the program of `bundle` on `host` with the options `words`; its exit code.

    What it prints goes to our own output. Raises ArtifactError for a folder that is no such bundle,
    TargetError where the board is of another kind, OptionError when nobody answers there.
    """
    target = Target.from_dict(read_bundle(bundle)["target"])
    if not (bundle / "run").is_file():
        raise ArtifactError(
            "the bundle has no program",
            where=str(bundle),
            expected="a bundle of a library that runs without TVM",
            hint="the model has what only TVM's runtime runs: copy the folder, and call run.py",
        )
    found = _said(host, "uname -m")
    if not target.machine.is_here(found):
        raise TargetError(
            f"the bundle is for {target.machine.name}",
            where=f"board {host}",
            expected=f"code for {found}, which it is",
            hint="`tilewright targets` lists boards",
        )
    with _folder(host) as folder:
        _copy(bundle, host, folder)
        command = shlex.join([f"{folder}/run", *words])
        return subprocess.run(["ssh", *_OPTIONS, host, command], check=False).returncode


@contextlib.contextmanager
def _folder(host: str) -> Iterator[str]:
    """A new folder on the board, removed at the end."""
    folder = _said(host, "mktemp -d")
    try:
        yield folder
    finally:
        _said(host, shlex.join(["rm", "-rf", folder]))


def _said(host: str, command: str) -> str:
    """What a command on the board prints."""
    return _checked(["ssh", *_OPTIONS, host, command], host)


def _copy(bundle: Path, host: str, folder: str) -> None:
    _checked(["scp", *_OPTIONS, "-q", "-r", f"{bundle}/.", f"{host}:{folder}"], host)


def _checked(command: list[str], host: str) -> str:
    if shutil.which(command[0]) is None:
        raise ToolchainError(
            f"{command[0]} is not installed",
            expected="OpenSSH's client",
            hint="Debian and Ubuntu: apt-get install openssh-client",
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    said = " ".join((done.stderr or done.stdout).split())
    if done.returncode == _NO_CONNECTION:
        raise OptionError(
            f"no connection to {host}: {said}",
            expected="a board that `ssh` reaches with a key, without asking for a password",
            hint=f"try: ssh {host} true; ssh-copy-id {host} installs your key",
        )
    raise OptionError(f"{command[0]} failed on {host} with code {done.returncode}: {said}")
