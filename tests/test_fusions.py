"""The module that users import; what its names do is tested where they are defined."""

from __future__ import annotations

import re

import tilewright
from tests.command_line import ROOT
from tilewright import fusions


def test_has_every_word_of_the_page():
    page = (ROOT / "docs" / "adding-a-fusion.md").read_text()
    table = re.findall(r"^\| `(\w+)\(", page, re.MULTILINE)
    assert len(table) > 8 and set(table) <= set(fusions.__all__)
    assert "tilewright.passes" not in page.split("## Make it a default one")[0]


def test_the_default_list_is_the_one_of_the_front_door():
    assert fusions.DEFAULT_FUSIONS is tilewright.DEFAULT_FUSIONS
