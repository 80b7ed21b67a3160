"""Import timm without torchvision.

timm imports torchvision for image transforms and data sets, which no model here uses; a real
one would have to match torch's build exactly. Its modules are replaced by hollow ones.
"""

from __future__ import annotations

import enum
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# timm keys tables by the members of this one when it is imported, so a hollow class will not do.
_INTERPOLATION_MODE = enum.Enum(
    "InterpolationMode",
    ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS"),
)


class _HollowModule(ModuleType):
    """A module in which every name is an empty class."""

    __version__ = "0.0"

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        value = _INTERPOLATION_MODE if name == "InterpolationMode" else type(name, (), {})
        setattr(self, name, value)
        return value


class _HollowTorchvision(MetaPathFinder, Loader):
    """Finds torchvision and everything below it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for torchvision's modules, None for all others."""
        if fullname.partition(".")[0] != "torchvision":
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A hollow module."""
        return _HollowModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run in it."""


def import_timm() -> ModuleType:
    """Import timm, with the real torchvision where there is one."""
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(_HollowTorchvision())
    return importlib.import_module("timm")
