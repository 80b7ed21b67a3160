from __future__ import annotations

import dataclasses
import json
import math

import pytest

from tests.ops.examples import ATTENTION, EXAMPLES
from tilewright import ops
from tilewright.ops.spec import check_sizes

IDS = [type(spec).__name__ for spec in EXAMPLES]


def test_every_spec_has_an_example():
    classes = {name for name in ops.__all__ if name.endswith("Spec") and name != "Spec"}
    assert set(IDS) == classes


def test_infinity_is_a_text_in_json():
    shown = dataclasses.replace(ATTENTION, fill=-math.inf).to_dict()
    assert shown["fill"] == "-Infinity"
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


@pytest.mark.parametrize("spec", EXAMPLES, ids=IDS)
def test_is_frozen_hashable_and_json(spec):
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.dtype = "float16"
    assert hash(spec) == hash(dataclasses.replace(spec))
    shown = spec.to_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert list(shown)[:2] == ["kind", "dtype"] and shown["kind"] + "Spec" == type(spec).__name__


@pytest.mark.parametrize("spec", EXAMPLES, ids=IDS)
def test_equal_specs_have_equal_keys_and_others_not(spec):
    assert spec.key() == dataclasses.replace(spec).key()
    assert spec.key() != dataclasses.replace(spec, dtype="float16").key()


def test_keys_of_different_kinds_differ():
    assert len({spec.key() for spec in EXAMPLES}) == len(EXAMPLES)


def test_sizes_are_checked():
    check_sizes(EXAMPLES[0], a=0, b=("n", 3))
    with pytest.raises(ValueError, match=r"x is \(2, -1\)"):
        check_sizes(EXAMPLES[0], x=(2, -1))
