"""Targets: hardware as rows of facts, and what this machine is."""

from tilewright.targets.catalog import CATALOG
from tilewright.targets.parse import resolve
from tilewright.targets.target import Target

__all__ = ["CATALOG", "Target", "resolve"]
