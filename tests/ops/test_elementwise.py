from __future__ import annotations

import dataclasses

import pytest

from tests.ops.examples import ACTIVATION, SOFTMAX


@pytest.mark.parametrize("spec", [ACTIVATION, SOFTMAX], ids=lambda spec: spec.kind)
def test_checks_its_sizes(spec):
    with pytest.raises(ValueError, match=f"{spec.kind}: x is"):
        dataclasses.replace(spec, x=(2, -5))
