from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import GEMM


@pytest.mark.parametrize("field", ["m", "n", "k"])
def test_checks_its_sizes(field):
    assert dataclasses.replace(GEMM, **{field: "open"}).to_dict()[field] == "open"
    with pytest.raises(ValueError, match=f"Gemm: {field} is -1"):
        dataclasses.replace(GEMM, **{field: -1})
