from __future__ import annotations

import subprocess
import sys

from tests.command_line import ROOT


def test_the_module_is_the_command_line():
    command = [sys.executable, "-m", "tilewright", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Usage: python -m tilewright" in done.stdout
