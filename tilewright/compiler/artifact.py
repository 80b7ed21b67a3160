"""A finished compilation: the library, its manifest, and the golden data of its check."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.compiler.standalone import program
from tilewright.errors import ArtifactError, OptionError, OutputError

BUNDLE_LIBRARY = "model.so"
BUNDLE_FILES = (BUNDLE_LIBRARY, "golden_inputs.npz", "golden_outputs.npz", "run.py")


@dataclass
class Artifact:
    """What `tilewright.compile` returns; it owns a temporary folder until it is saved.

    `manifest` is a dictionary of JSON values (docs/artifact.md); `check` is the comparison
    with ONNX Runtime, None when it was not made, with `unchecked` saying why. Then `expected` is
    what a comparison elsewhere is to find, where it may be made.
    """

    library: Path
    manifest: dict[str, Any] = field(repr=False)
    check: dict[str, Any] | None = field(default=None, repr=False)
    expected: dict[str, Any] | None = field(default=None, repr=False)
    unchecked: str | None = None
    golden: Path | None = None
    _folder: tempfile.TemporaryDirectory | None = field(default=None, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the library to `path`, whole or not at all.

        The name ends in .so; that of a library compiled as standalone may end in .a, for a static
        one, and its header comes beside it.
        """
        path = Path(path)
        prefix = self.manifest["options"]["standalone"]
        check_library_name(path, standalone=prefix is not None)
        with replacing(path) as temporary:
            shutil.copyfile(self.library.with_suffix(path.suffix), temporary)
            temporary.chmod(0o755)
        if prefix is not None:
            header = f"{prefix}.h"
            with replacing(path.with_name(header)) as temporary:
                shutil.copyfile(self.library.with_name(header), temporary)
        return path

    def save_bundle(self, folder: str | Path) -> Path:
        """Write library, manifest with hashes, golden inputs and outputs, and what runs them.

        That is run.py and, for a library that runs without TVM, a program.
        """
        folder = Path(folder)
        if self.golden is None:
            raise OptionError(
                "a bundle carries golden outputs, and none were made",
                where=str(folder),
                expected=f"a checked compilation; this one was not: {self.unchecked}",
                hint="compile without --no-verify",
            )
        if self.manifest["functions"] not in (None, program.PREFIX):
            raise OptionError(
                f"the bundle's program calls {program.PREFIX}_run",
                where=str(folder),
                expected=f"a library whose functions start with {program.PREFIX}",
                hint=f"CompileOptions(standalone={program.PREFIX!r})",
            )
        with replacing(folder) as temporary:
            temporary.mkdir()
            shutil.copyfile(self.library, temporary / BUNDLE_LIBRARY)
            (temporary / BUNDLE_LIBRARY).chmod(0o755)
            for name in ("golden_inputs.npz", "golden_outputs.npz"):
                shutil.copyfile(self.golden / name, temporary / name)
            shutil.copyfile(Path(__file__).with_name("bundle_run.py"), temporary / "run.py")
            check = self.check or self.expected
            hashes = {name: sha256_of(temporary / name) for name in BUNDLE_FILES}
            if self.manifest["functions"]:
                example = check["examples"][0]
                program.write_program(
                    temporary, self.library.parent, self.manifest, example, hashes
                )
                hashes |= {name: sha256_of(temporary / name) for name in program.FILES}
            manifest = {**self.manifest, "files": hashes, "check": check}
            (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        return folder

    def load(self, threads: int | None = None) -> Any:
        """The model, loaded and ready to call: `tilewright.load` on a copy of its own."""
        from tilewright.compiler import runtime

        return runtime.load(self.library, threads)


def library_of(path: Path) -> Path:
    """The library in a bundle's folder; any other path as it is."""
    return path / BUNDLE_LIBRARY if (path / BUNDLE_LIBRARY).is_file() else path


def check_bundle_folder(folder: Path) -> None:
    """Raise OutputError unless a bundle can be written to `folder`."""
    check_writable(folder)
    if folder.exists() and not folder.is_dir():
        raise OutputError("there is a file of this name", where=str(folder), expected="a folder")
    if folder.is_dir():
        _refuse_foreign_folder(folder)


def check_library_name(path: Path, standalone: bool = False) -> None:
    """Raise OptionError unless `path` is a name a loader accepts, in a folder that is there."""
    if path.suffix not in ((".so", ".a") if standalone else (".so",)):
        raise OptionError(
            f"the library cannot be called {path.name!r}",
            expected="a name that ends in .so" + (" or .a" if standalone else ""),
            hint=f"-o {path.with_suffix('.so')}",
        )
    check_writable(path)


def check_writable(path: Path) -> None:
    """Raise OutputError unless something can be created at `path`."""
    parent = path.resolve().parent
    if not parent.is_dir():
        raise OutputError("the folder does not exist", where=str(parent), hint=f"mkdir -p {parent}")
    if path.is_dir() and path.suffix:
        raise OutputError("there is a folder of this name", where=str(path))
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write there: {error.strerror}", where=str(parent), hint="choose another folder"
        ) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well.

    On any error, a full disk included, nothing is left behind and `path` is as it was.
    """
    check_writable(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if path.is_dir() and not path.is_symlink():
            _refuse_foreign_folder(path)
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"cannot write: {error.strerror}",
            where=str(path),
            hint="check the disk's free space and the folder's permissions",
        ) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _refuse_foreign_folder(path: Path) -> None:
    """Only an older bundle, or an empty folder, may be replaced by a new one."""
    names = {entry.name for entry in path.iterdir()}
    if names - {*BUNDLE_FILES, *program.FILES, "manifest.json"}:
        raise OutputError(
            "the folder holds something else than a bundle",
            where=str(path),
            expected="a new name, an empty folder, or an older bundle",
        )


def read_bundle(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle whose files are all there and unchanged.

    Raises ArtifactError that names the file which is missing or changed.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        hashes = dict(manifest["files"])
        manifest["check"]["examples"]  # what `verify` compares with
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(
            f"this is not a bundle: {error}",
            where=str(folder),
            expected="a folder written by `tilewright compile --bundle`",
        ) from error
    for name in {**dict.fromkeys(BUNDLE_FILES), **hashes}:
        file = folder / name
        if not file.is_file():
            raise ArtifactError("a file of the bundle is missing", where=str(file))
        if sha256_of(file) != hashes.get(name):
            raise ArtifactError(
                "a file of the bundle was changed",
                where=str(file),
                expected=f"SHA-256 {hashes.get(name)}",
                hint="copy the bundle again, or compile it again",
            )
    return manifest


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as .npz, whole or not at all."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
