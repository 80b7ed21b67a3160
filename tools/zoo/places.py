"""Where the zoo keeps its files.

`models` is what the benchmarks read. `downloads` and `packages` may be deleted once the models
are made; `fetch` fills them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tools.zoo.catalog import Package
from tools.zoo.errors import ZooError

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Zoo:
    """A folder with the development models in it."""

    root: Path

    def model(self, name: str) -> Path:
        """The ONNX file of one model."""
        return self.root / "models" / f"{name}.onnx"

    def downloads(self, package: Package) -> Path:
        """The folder that receives the wheel of one package."""
        return self.root / "downloads" / f"{package.name}-{package.version}"

    def unpacked(self, package: Package) -> Path:
        """The folder in which one package lies unpacked."""
        return self.root / "packages" / f"{package.name}-{package.version}"

    def weights(self, package: Package, member: str) -> Path:
        """A file or folder of an unpacked package, which has to be there already."""
        path = self.unpacked(package) / member
        if not path.exists():
            raise ZooError(
                f"{package.requirement}: {path} does not exist",
                hint=f"run `python -m tools.zoo fetch --to {self.root}` first",
            )
        return path
