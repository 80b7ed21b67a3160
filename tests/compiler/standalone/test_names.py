from __future__ import annotations

import pytest

from tilewright.compiler.standalone.names import check_prefix
from tilewright.errors import OptionError


def test_a_prefix_is_a_name_in_c():
    assert check_prefix("resnet50_v2") == "resnet50_v2"
    for wrong in ("", "2nd", "a-b", "größe", "a.b"):
        with pytest.raises(OptionError, match="cannot be called"):
            check_prefix(wrong)
