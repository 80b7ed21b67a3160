from __future__ import annotations

from tests.command_line import refused
from tilewright.compiler.steps import OPTIONAL_STEPS
from tilewright.errors import OptionError


def test_names_are_what_users_type(nothing_left):
    assert all(name.isidentifier() and name.islower() for name in OPTIONAL_STEPS)
    refused(OptionError, "compile", "m.onnx", "--disable", "x", says=OPTIONAL_STEPS)
