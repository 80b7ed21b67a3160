from __future__ import annotations

import json

import pytest

from tilewright import errors
from tilewright.errors import CheckFailed, ModelError, TilewrightError

KINDS = [k for k in errors._all_kinds(TilewrightError) if k is not TilewrightError]


def test_says_what_where_expected_and_next():
    error = ModelError("it broke", where="node a", expected="b", hint="try c")
    assert str(error) == "it broke\n  where: node a\n  expected: b\n  hint: try c"
    assert str(ModelError("it broke", hint="try c")) == "it broke\n  hint: try c"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_goes_through_json_with_its_class(kind):
    error = kind("what", where="w", hint="h")
    again = TilewrightError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is kind and str(again) == str(error)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_only_a_failed_check_is_exit_code_1(kind):
    assert kind.exit_code == (1 if kind is CheckFailed else 2)
    assert kind.__doc__
